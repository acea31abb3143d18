"""The check of the catalogues finds what it is there to find, on a made-up catalogue."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog

from tests.environment import BASE_DIR

PLURAL = ("还有 %(more)s 段", "还有 %(more)s 段")


@pytest.fixture
def catalogues(monkeypatch, tmp_path) -> ModuleType:
    """bin/catalogues.py over a small project of three messages."""
    spec = importlib.util.spec_from_file_location("catalogues", BASE_DIR / "bin" / "catalogues.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories" / "views.py").write_text('x = _("书架")\ny = gettext("%(n)s 字")\n', "utf-8")
    (tmp_path / "templates").mkdir()
    plural = "{% plural %}".join(["还有 {{ more }} 段"] * 2)
    page = f"<p>\n    {{% blocktranslate count more=n %}}{plural}{{% endblocktranslate %}}\n"
    (tmp_path / "templates" / "page.html").write_text(page, "utf-8")
    monkeypatch.setattr(module, "BASE_DIR", tmp_path)
    monkeypatch.setattr(module, "CATALOGUE", tmp_path / "django.po")
    return module


def write(module: ModuleType, **english: str) -> None:
    catalogue = Catalog(locale="en")
    catalogue.add("书架", english.get("library", "Library"))
    catalogue.add("%(n)s 字", english.get("length", "%(n)s characters"))
    catalogue.add(PLURAL, (english.get("one", "%(more)s more"), "%(more)s more"))
    if "extra" in english:
        catalogue.add(english["extra"], "English")
    module.write_catalogue(catalogue)


def test_it_finds_messages_in_code_and_templates(catalogues):
    assert {message.id for message in catalogues.find_messages() if message.id} == {
        "书架",
        "%(n)s 字",
        PLURAL,
    }


def test_a_complete_catalogue_has_no_problems(catalogues):
    write(catalogues)

    assert catalogues.problems() == []


@pytest.mark.parametrize(
    ("english", "problem"),
    [
        ({"library": ""}, "no English: '书架'"),
        ({"one": ""}, f"no English: {PLURAL!r}"),
        ({"length": "%(m)s characters"}, "other placeholders than the Chinese: '%(m)s characters'"),
        ({"extra": "没有的"}, "no longer in the code (run extract): '没有的'"),
    ],
)
def test_each_problem_is_found(catalogues, english, problem):
    write(catalogues, **english)

    assert catalogues.problems() == [problem]


def test_a_missing_catalogue_is_a_problem_for_each_message(catalogues):
    assert len(catalogues.problems()) == 3


def test_merging_keeps_what_is_translated_and_drops_what_is_gone(catalogues):
    write(catalogues, extra="没有的")
    catalogues.write_catalogue(catalogues.merge())

    assert catalogues.problems() == []


def test_the_sites_own_messages_are_many():
    """A negative control of bin/check: an extractor that finds nothing would also find nothing missing."""
    text = Path(BASE_DIR / "locale" / "en" / "LC_MESSAGES" / "django.po").read_text("utf-8")

    assert text.count("\nmsgid ") > 400
