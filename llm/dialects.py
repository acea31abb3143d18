"""How a model wants to be asked: what "OpenAI-compatible" servers call things, and what they refuse (pure).

A dialect is kept as a JSON object with the names of `Dialect`'s fields; what it does not name is as OpenAI's older chat
models take it. `FAMILIES` says what was known of a model by its name in November 2026; `lessons.py` learns the rest.
Sources: the API references of OpenAI, 百炼, 智谱, DeepSeek and Moonshot; the chat templates of Gemma.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sentences import Words
from sentences import sentence as _

LENGTH_NAMES = ("max_tokens", "max_completion_tokens", "")
"""What the limit of an answer's length is called; "": none is sent."""
OPTIONAL = ("temperature", "top_p", "stop", "stream_options", "seed")
"""Parameters that an answer can do without."""
SYSTEM, DEVELOPER, USER, NONE = "system", "developer", "user", "none"
SYSTEM_ROLES = (SYSTEM, DEVELOPER, USER, NONE)
"""Where the system message goes: into a role, in front of the user's message, or nowhere."""
OURS = {"model", "messages", "prompt", "stream", *LENGTH_NAMES, *OPTIONAL}
MAX_TOKENS = 1_000_000
MAX_EXTRA = 2_000  # characters
THINKING_ALLOWANCE = 8_000  # tokens; the pages of OpenAI and DeepSeek call a few thousands usual


class BadDialect(ValueError):
    """A dialect that cannot be; the sentence says why."""

    def __init__(self, sentence: Words) -> None:
        super().__init__(sentence)


@dataclass(frozen=True)
class Dialect:
    """`max_length`: the highest limit of length that the endpoint takes, None if that is not known. `allowance`: tokens
    of thinking that the limit of length pays for on top of the story. `omits`: those of `OPTIONAL` that are not sent.
    `extra`: what is sent besides, as in `{"enable_thinking": false}`.
    """

    length_name: str = "max_tokens"
    max_length: int | None = None
    allowance: int = 0
    omits: frozenset[str] = frozenset()
    system: str = SYSTEM
    # Any: the values of a JSON object.
    extra: Mapping[str, Any] = field(default_factory=dict)

    def room(self, story_tokens: int) -> int:
        """The limit of length for an answer whose story may take so many tokens."""
        wanted = story_tokens + self.allowance
        return wanted if self.max_length is None else min(wanted, self.max_length)

    def length(self, tokens: int, *, is_chat: bool) -> dict[str, int]:
        """The parameter that limits an answer; legacy completions know one name only."""
        name = self.length_name if is_chat else self.length_name and "max_tokens"
        return {name: tokens} if name else {}

    def messages(self, messages: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        """The messages, with the system's where this dialect has it."""
        spoken = [dict(message) for message in messages]
        if self.system == SYSTEM or not spoken or spoken[0]["role"] != SYSTEM:
            return spoken
        if self.system == DEVELOPER:
            return [spoken[0] | {"role": DEVELOPER}, *spoken[1:]]
        if self.system == USER and len(spoken) > 1:
            spoken[1]["content"] = f"{spoken[0]['content']}\n\n{spoken[1]['content']}"
        return spoken[1:]

    def as_json(self) -> dict[str, object]:
        """What differs from the usual, in the order of the fields."""
        usual = Dialect()
        values = {name: getattr(self, name) for name in FIELDS}
        values["omits"] = [name for name in OPTIONAL if name in self.omits]
        return {name: value for name, value in values.items() if value != _plain(usual, name)}


FIELDS = ("length_name", "max_length", "allowance", "omits", "system", "extra")


def _plain(dialect: Dialect, name: str) -> object:
    return [] if name == "omits" else getattr(dialect, name)


def read_dialect(value: object) -> Dialect:
    """The dialect that a JSON object describes. Raises `BadDialect`."""
    if not isinstance(value, dict):
        raise BadDialect(_("接口方言要是一个 JSON 对象。"))
    for name in value:
        if name not in FIELDS:
            raise BadDialect(_("接口方言里没有「%(name)s」这一项。") % {"name": str(name)[:40]})
    dialect = Dialect(
        length_name=_one_of(value, "length_name", LENGTH_NAMES),
        max_length=_tokens(value, "max_length", least=1),
        allowance=_tokens(value, "allowance", least=0) or 0,
        omits=frozenset(_names(value.get("omits", []))),
        system=_one_of(value, "system", SYSTEM_ROLES),
        extra=_extra(value.get("extra", {})),
    )
    if dialect.max_length is not None and dialect.allowance >= dialect.max_length:
        raise BadDialect(_("思考余量要小于长度上限，不然没有地方写故事。"))
    return dialect


# Any: the values of a JSON object.
def _one_of(value: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    said = value.get(name, getattr(Dialect, name))
    if said not in allowed:
        words = {"name": name, "allowed": "、".join(word or '""' for word in allowed)}
        raise BadDialect(_("「%(name)s」要是 %(allowed)s 之一。") % words)
    return str(said)


# Any: the values of a JSON object.
def _tokens(value: dict[str, Any], name: str, *, least: int) -> int | None:
    said = value.get(name)
    if said is None:
        return None
    if type(said) is not int or not least <= said <= MAX_TOKENS:
        words = {"name": name, "least": least, "most": MAX_TOKENS}
        raise BadDialect(_("「%(name)s」要是 %(least)s 到 %(most)s 之间的整数。") % words)
    return said


def _names(said: object) -> list[str]:
    if not isinstance(said, list) or not all(name in OPTIONAL for name in said):
        raise BadDialect(_("「omits」要是一个列表，里面只能有 %(names)s。") % {"names": "、".join(OPTIONAL)})
    return said


def _extra(said: object) -> dict[str, object]:
    if not isinstance(said, dict):
        raise BadDialect(_('另外要发的内容要是一个 JSON 对象，如 {"enable_thinking": false}。'))
    if taken := sorted(OURS & set(said)):
        raise BadDialect(_("「%(name)s」由本站自己来发，不能写在另外要发的内容里。") % {"name": taken[0]})
    if len(str(said)) > MAX_EXTRA:
        raise BadDialect(_("另外要发的内容最多 %(most)s 个字符。") % {"most": MAX_EXTRA})
    return said


@dataclass(frozen=True)
class Family:
    """Models whose name, and whose endpoint's address where `place` is set, are matched by a pattern."""

    title: str
    name: str
    dialect: Dialect
    place: str = ""


FAMILIES = (
    Family(
        "OpenAI o, gpt-5",
        r"^(ft:)?(o\d|gpt-([5-9]|\d\d))(?!.*chat)",
        Dialect(
            length_name="max_completion_tokens",
            allowance=THINKING_ALLOWANCE,
            omits=frozenset({"temperature", "top_p", "stop"}),
            system=DEVELOPER,
        ),
    ),
    Family(
        "Qwen3 · 百炼",
        r"qwen(3(?!.*(thinking|instruct))|-(plus|turbo|flash))",
        Dialect(extra={"enable_thinking": False}),
        place=r"dashscope",
    ),
    Family(
        "GLM · 智谱",
        r"glm-(4\.[5-9]|[5-9])",
        Dialect(extra={"thinking": {"type": "disabled"}}),
        place=r"bigmodel\.cn|//[\w.]*\bz\.ai",
    ),
    Family(
        "thinking models",
        r"deepseek-(r1|reasoner)|\bqwq|qvq|qwen3.*thinking|kimi.*thinking|magistral|gpt-oss|minimax-m\d",
        Dialect(allowance=THINKING_ALLOWANCE),
    ),
    Family("Gemma 1, 2", r"gemma-((1\.1|2)-)?\d+b", Dialect(system=USER)),
)


def family_of(name: str, base_url: str) -> Family | None:
    """The family of a model, by its name and its endpoint's address; None for one that is asked as usual."""
    for family in FAMILIES:
        if re.search(family.name, name.lower()) and re.search(family.place, base_url.lower()):
            return family
    return None
