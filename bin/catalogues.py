#!/usr/bin/env python3
"""The message catalogues, without GNU gettext. Chinese stands in the code; locale/en has the English.

bin/catalogues.py extract    bring locale/en up to date with the code; new messages are left empty
bin/catalogues.py check      exit 1 unless every message has its English, and nothing is left over
bin/catalogues.py compile    write the .mo files that Django reads
"""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract, extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

BASE_DIR = Path(__file__).resolve().parent.parent
CATALOGUE = BASE_DIR / "locale" / "en" / "LC_MESSAGES" / "django.po"
PYTHON = ("stories", "finetuning", "llm", "ultraman_site")
TEMPLATES = ("templates",)
KEYWORDS: dict[str, Any] = dict.fromkeys(("_", "sentence", "gettext", "gettext_lazy", "gettext_noop"))
KEYWORDS |= {"ngettext": (1, 2), "ngettext_lazy": (1, 2)}
KEYWORDS |= {"pgettext": ((1, "c"), 2), "pgettext_lazy": ((1, "c"), 2), "npgettext": ((1, "c"), 2, 3)}
HEADER = r"""# English for the Chinese of the code and the templates; see bin/catalogues.py.
msgid ""
msgstr ""
"Language: en\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=utf-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

"""
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


def find_messages() -> Catalog:
    """Every message of the code and the templates, without translations."""
    catalogue = Catalog(locale="en", project="ultraman-stories", charset="utf-8")
    for path, source, method in _sources():
        place = str(path.relative_to(BASE_DIR))
        for _line, messages, _comments, context in extract(method, io.BytesIO(source), KEYWORDS):
            # Without line numbers: they would change the file with every edit of the code.
            catalogue.add(messages, locations=[(place, None)], context=context)  # type: ignore[list-item]
    return catalogue


def _sources() -> Iterator[tuple[Path, bytes, Any]]:
    for folder in PYTHON:
        for path in sorted((BASE_DIR / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path, path.read_bytes(), "python"
    for folder in TEMPLATES:
        for path in sorted((BASE_DIR / folder).rglob("*.*")):
            if path.suffix in (".html", ".txt"):
                yield path, templatize(path.read_text("utf-8"), origin=str(path)).encode(), _extract_template


def _extract_template(source: Any, keywords: Any, tags: Any, options: Any) -> Any:
    """templatize() leaves calls between words, which are Python tokens once the indentation is gone."""
    flat = b"\n".join(line.strip() for line in source.read().split(b"\n"))
    return extract_python(io.BytesIO(flat), keywords, tags, options)


def read_catalogue() -> Catalog:
    if not CATALOGUE.exists():
        return Catalog(locale="en", charset="utf-8")
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="en")


def merge() -> Catalog:
    """The messages of the code with the English we have; a message that is gone goes."""
    known = read_catalogue()
    merged = find_messages()
    for message in merged:
        old = known.get(message.id, message.context) if message.id else None
        if old is not None:
            message.string = old.string
    return merged


def write_catalogue(catalogue: Catalog) -> None:
    """In the order of the messages and without a date, so that a change of the file is a change of words."""
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    with CATALOGUE.open("wb") as file:
        file.write(HEADER.encode())
        write_po(file, catalogue, width=110, sort_output=True, omit_header=True, ignore_obsolete=True)


def problems() -> list[str]:
    """What keeps the catalogue from being complete, a sentence each."""
    wanted, known = find_messages(), read_catalogue()
    found = [
        f"not in the catalogue (run extract): {m.id!r}"
        for m in wanted
        if m.id and not known.get(m.id, m.context)
    ]
    for message in known:
        if not message.id:
            continue
        if not wanted.get(message.id, message.context):
            found.append(f"no longer in the code (run extract): {message.id!r}")
        elif message.fuzzy or not all(_strings(message)):
            found.append(f"no English: {message.id!r}")
        else:
            found += _wrong_placeholders(message)
    return found


def _strings(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, (tuple, list)) else [str(message.string)]


def _wrong_placeholders(message: Message) -> list[str]:
    ids = list(message.id) if isinstance(message.id, (tuple, list)) else [message.id]
    asked = set(PLACEHOLDER.findall(ids[-1]))
    return [
        f"other placeholders than the Chinese: {string!r}"
        for string in _strings(message)
        if set(PLACEHOLDER.findall(string)) != asked
    ]


def compile_catalogue() -> None:
    with CATALOGUE.with_suffix(".mo").open("wb") as file:
        write_mo(file, read_catalogue())


def main(arguments: list[str]) -> int:
    settings.configure(USE_I18N=False, TEMPLATES=[])
    django.setup()
    match arguments:
        case ["extract"]:
            write_catalogue(merge())
        case ["compile"]:
            compile_catalogue()
        case ["check"]:
            found = problems()
            print("\n".join(found))
            return bool(found)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
