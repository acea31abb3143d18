"""Sentences for people that rows keep: made where something happens, read in the language of whoever looks later.

A row keeps the key of the message catalogue and the parameters; the words are put together on display. What is only
shown at once, in one request, is plain gettext.

    from sentences import sentence as _

    raise OverBudget(_("今天的花费会超过每日上限 %(limit)s。") % {"limit": show(limit)})
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, Union

from django.utils.translation import gettext

Value: TypeAlias = Union["Sentence", str, int, float, None]
Words: TypeAlias = Union["Sentence", str]
"""What a column of sentences holds: a `Sentence`, or a plain text (a provider's own words, a row of old, "")."""
KEY, PARAMETERS = "sentence", "parameters"  # as a row has them, in JSON


@dataclass(frozen=True)
class Sentence:
    """A message of the catalogue with its parameters; `str()` says it in the active language."""

    key: str
    parameters: tuple[tuple[str, Value], ...] = ()

    def __mod__(self, parameters: Mapping[str, object]) -> "Sentence":
        """The sentence with these parameters: numbers, texts, sentences and errors as they are, all else as text."""
        return Sentence(self.key, tuple((name, _value(value)) for name, value in parameters.items()))

    def __str__(self) -> str:
        words = gettext(self.key)
        return words % {name: str(value) for name, value in self.parameters} if self.parameters else words

    def map(self, change: Callable[[str], str]) -> "Sentence":
        """The sentence with each text among its parameters changed, also those of the sentences inside it."""

        def changed(value: Value) -> Value:
            if isinstance(value, Sentence):
                return value.map(change)
            return change(value) if isinstance(value, str) else value

        return Sentence(self.key, tuple((name, changed(value)) for name, value in self.parameters))


sentence = Sentence
"""`_` of a module whose sentences are kept: takes a message that the catalogue has."""


def sentence_of(said: BaseException | Words) -> Words:
    """What an error of ours says, to be kept; a foreign error's text; a sentence or text as it is."""
    if not isinstance(said, BaseException):
        return said
    first = said.args[0] if said.args else ""
    return first if isinstance(first, Sentence) else str(said)


def add_line(before: Words, after: Words) -> Words:
    """`after` on a line of its own below `before`, if that says anything."""
    return Sentence("%(before)s\n%(after)s") % {"before": before, "after": after} if before else after


def _value(value: object) -> Value:
    if isinstance(value, BaseException):
        return sentence_of(value)
    return value if isinstance(value, Sentence | str | int | float | None) else str(value)


def dump(words: Words) -> str:
    """As a row keeps it."""
    return json.dumps(_as_object(words), ensure_ascii=False) if isinstance(words, Sentence) else words


def _as_object(value: Value) -> object:
    if not isinstance(value, Sentence):
        return value
    parameters = {name: _as_object(parameter) for name, parameter in value.parameters}
    return {KEY: value.key, PARAMETERS: parameters}


def load(text: str) -> Words:
    """What a row keeps; a text that is no sentence of ours stays what it is."""
    if not text.startswith(f'{{"{KEY}": '):
        return text
    try:
        found = _from_object(json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return text
    return found if isinstance(found, Sentence) else text


def _from_object(value: object) -> Value:
    if not isinstance(value, dict):
        return _value(value)
    parameters = tuple((name, _from_object(parameter)) for name, parameter in value[PARAMETERS].items())
    return Sentence(str(value[KEY]), parameters)
