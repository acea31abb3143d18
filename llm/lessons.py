"""Learns from a refusal how a model wants to be asked (pure).

A 400 or 422 that names a parameter was not billed. What it teaches, and what is asked next:

    its words                                          the next question
    "max_tokens" is refused                            under the other name, then without a limit
    a highest number is named for the limit            at most that number
    temperature, top_p, stop, stream_options, seed     without it
    the role "system" or "developer" is refused        in the other role, then in front of the user's message
    a name from `Dialect.extra`                        without it

A refusal that names nothing that was sent teaches nothing, and neither does one that only quotes the question. Servers
name a parameter in `param`, in quotes or in the path of a validator ("body -> stream_options").
Sources: OpenAI's error codes, vLLM's and pydantic's wordings; /docs/services.md says what was tried.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llm.dialects import DEVELOPER, NONE, OPTIONAL, SYSTEM, THINKING_ALLOWANCE, USER, Dialect
from llm.errors import Refusal

STATUSES = (400, 422)
LENGTH = ("max_completion_tokens", "max_tokens")
REFUSES = re.compile(
    r"unsupported|not support|n't support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|not accept"
    r"|extra[ _](inputs|fields|forbidden)|invalid[ _](param|arg|value|field)|only the default|must be the default"
    r"|no such (param|arg)|instead|deprecated|不支持|不允许|无法识别|未知参数|非法参数",
    re.IGNORECASE,
)
CAP = re.compile(
    r"(?:at most|less than or equal to|<=|≤|maximum(?: value)?(?: is| of|:)?|up to|max(?:imum)? is|不能?(?:大于|超过)"
    r"|最大(?:值)?(?:为|是)?|between \d+ and|range of \[\d+,|\[\d+,)\s*(\d{2,7})",
    re.IGNORECASE,
)
CONTEXT = re.compile(
    r"maximum context length is (\d{2,8}).{0,80}?requested (\d{2,8})", re.IGNORECASE | re.DOTALL
)
SYSTEM_WORDS = re.compile(
    r"(system|developer)['\"`]?[ _-]?(role|messages?|prompts?|instructions?)|role[s]?\W{1,4}(system|developer)"
    r"|messages\[\d+\]\.role|roles must alternate|系统(角色|消息|提示)",
    re.IGNORECASE,
)
MIN_CAP = 64
MARGIN = 32  # tokens by which a model's own count of the question may differ


@dataclass(frozen=True)
class Lesson:
    """`dialect` is what the model is asked in from now on; `named` is what the refusal named, `words` said it."""

    dialect: Dialect
    named: str
    words: str


def lesson_of(
    refusal: Refusal | None,
    dialect: Dialect,
    *,
    sent: frozenset[str],
    tokens: int,
    tried: Sequence[Dialect] = (),
) -> Lesson | None:
    """What a refusal teaches about a question in `dialect`; None if it teaches nothing new.

    `sent`: the names of the parameters of that question. `tokens`: its limit of length. `tried`: the dialects in which
    the same was asked before, and refused.
    """
    if refusal is None or refusal.status not in STATUSES:
        return None
    for named, learnt in _readings(refusal, dialect, sent, tokens):
        # Both names of the limit were refused, so none is sent.
        wanted = replace(learnt, length_name="") if learnt in tried else learnt
        if wanted != dialect and wanted not in tried:
            return Lesson(wanted, named, refusal.words)
    return None


def _readings(
    refusal: Refusal, dialect: Dialect, sent: frozenset[str], tokens: int
) -> Iterator[tuple[str, Dialect]]:
    said = f"{refusal.param} {refusal.code} {refusal.words}"
    named = [name for name in (*LENGTH, *OPTIONAL, *dialect.extra) if _names(refusal, name)]
    if (cap := _read_cap(refusal, named, tokens)) is not None:
        yield (
            LENGTH[1],
            replace(dialect, max_length=cap, allowance=min(dialect.allowance, max(0, cap - MIN_CAP))),
        )
    if not REFUSES.search(said):
        return
    for name in named:
        if name in LENGTH and name in sent:
            yield name, _rename_length(dialect, name)
        elif name in OPTIONAL and name in sent:
            yield name, replace(dialect, omits=dialect.omits | {name})
        elif name in dialect.extra:
            yield (
                name,
                replace(dialect, extra={key: dialect.extra[key] for key in dialect.extra if key != name}),
            )
    if "system" in sent and SYSTEM_WORDS.search(said):
        yield "system", replace(dialect, system=_next_role(dialect.system, said))


def _names(refusal: Refusal, name: str) -> bool:
    """Whether a refusal names a parameter: as `param`, or in words that are no part of a longer name."""
    if refusal.param:
        return refusal.param.split(".")[-1] == name or refusal.param == name
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", refusal.words) is not None


def _read_cap(refusal: Refusal, named: list[str], tokens: int) -> int | None:
    """The highest limit of length that the words allow, if it is lower than what was asked."""
    if found := CONTEXT.search(refusal.words):
        cap = tokens - (int(found[2]) - int(found[1])) - MARGIN
    elif set(named) & set(LENGTH) and (found := CAP.search(refusal.words)):
        cap = int(found[1])
    else:
        return None
    return cap if MIN_CAP <= cap < tokens else None


def _rename_length(dialect: Dialect, refused: str) -> Dialect:
    """The other name. A model whose limit pays for its thinking, too, gets room for that."""
    other = LENGTH[1 - LENGTH.index(refused)]
    counts_thinking = other == "max_completion_tokens"
    allowance = dialect.allowance or (THINKING_ALLOWANCE if counts_thinking else 0)
    return replace(dialect, length_name=other, allowance=allowance)


def _next_role(role: str, said: str) -> str:
    if role == SYSTEM and re.search(r"developer", said, re.IGNORECASE):
        return DEVELOPER
    return {SYSTEM: USER, DEVELOPER: SYSTEM if "system" in said.lower() else USER, USER: NONE}.get(role, role)
