"""Finds the flaws of one text by itself: pure, no database.

Each rule takes a `CheckedText` and gives the evidence of one kind of flag, or None. A rule says nothing unless it can
show why; thresholds are settings.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from django.conf import settings

from llm.thinking import TAG, find_thinking, holds_tag
from stories.models import EndReason, Flag
from stories.review.quality.ingredients import names_ingredient
from stories.review.quality.passages import Passage, normalise, paragraphs, sentences
from stories.values.combos import AXES, Combo

Evidence = dict[str, object]
HEROES = ("奥特曼", "奥特战士", "ultraman")
MONSTERS = ("怪兽", "怪物", "巨兽", "异兽", "凶兽", "魔兽", "monster")
ENDS = "。！？!?…”’」』）)》~～—.♪"
HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
FOREIGN = re.compile(r"[A-Za-z\u3040-\u30ff\uac00-\ud7af\u0400-\u04ff][^\u3400-\u9fff\r\n]*")
MAX_FOREIGN = 40
LOOP = re.compile(r"([^\r\n]{2,30}?)\1{3,}")
SHARED_WITH_PROMPT = 14
LEFTOVERS = re.compile(
    r"""^[ ]{0,3}(?:\#{1,6}\s|[-*+]\s|>\s|\d{1,2}[.)、]\s?|```).*$   # headings, lists, quotes, fences
    |\*\*[^*\n]+\*\*|__[^_\n]+__|`[^`\n]+`                          # bold, code
    |^[ \t　]*[（(【\[]?(?:全文)?(?:完|故事完|剧终|the\ end)[】\])）]?[ \t　]*$  # 完
    |^[ \t　]*(?:标题|题目|正文|朝代|超能力|战斗|战斗类型|字数|提示词?)\s*[:：].*$
    |^[ \t　]*《[^》\n]{1,30}》[ \t　]*$
    |[（(【]\s*(?:全文|共|约|字数)[^）)】\n]{0,12}字[^）)】\n]{0,4}[）)】]
    |^[ \t　]*(?:(?:好的?|当然(?:可以)?|没问题)[，,！!。]\s?(?:以下|下面|这[是里篇]|我[来为]|[为给][你您])
        |(?:以下|下面)是|这是一篇|希望[你您]喜欢|作为一[个名位]?(?:ai|人工智能|语言模型)).*$
    |\{(?:dynasty|super_power|story_type)\}|<\|?/?\w+\|?>|\[/?INST\]|^[ \t　]*(?:assistant|user|system)\s*:
    |\s->\s?$""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class CheckedText:
    """What a rule is given. `prompt`: what the model was asked in words; `end_reason` of a text cut short."""

    text: str
    combo: Combo
    prompt: str = ""
    end_reason: str = EndReason.STOP
    plain: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", normalise(self.text))


def find_flaws(checked: CheckedText) -> dict[str, Evidence]:
    """Evidence by kind of flag; near-duplicates are not among them, they need the other stories."""
    found = {kind: rule(checked) for kind, rule in RULES.items()}
    return {kind.value: evidence for kind, evidence in found.items() if evidence}


def wrong_length(checked: CheckedText) -> Evidence | None:
    least, most = settings.QUALITY_SHORTEST, settings.QUALITY_LONGEST
    length = sum(not char.isspace() for char in checked.text)
    return None if least <= length <= most else {"number": length, "range": [least, most]}


def missing_ingredients(checked: CheckedText) -> Evidence | None:
    missing = [
        getattr(checked.combo, axis)
        for axis in AXES
        if not names_ingredient(checked.text, checked.plain, getattr(checked.combo, axis), axis=axis)
    ]
    return {"missing": missing} if missing else None


def missing_cast(checked: CheckedText) -> Evidence | None:
    casts = (HEROES, MONSTERS)
    missing = [names[0] for names in casts if not any(name in checked.plain for name in names)]
    return {"missing": missing} if missing else None


def repeated_passages(checked: CheckedText) -> Evidence | None:
    """Paragraphs or long sentences that stand there twice, or words that go round in a loop."""
    again = list(_repeats(paragraphs(checked.text)))
    covered = [(passage.start, passage.end) for passage in again]
    for passage in _repeats(sentences(checked.text)):
        if not any(start <= passage.start and passage.end <= end for start, end in covered):
            again.append(passage)
    again += [
        Passage(loop.start(), loop.end(), loop[0])
        for loop in LOOP.finditer(checked.text)
        if len(normalise(loop[0])) >= settings.QUALITY_REPEATED_LENGTH
    ]
    return _shown(again)


def _repeats(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Every later passage that an earlier one equals, but for punctuation; short ones may be a refrain."""
    seen: set[str] = set()
    for passage in passages:
        plain = normalise(passage.text)
        if len(plain) < settings.QUALITY_REPEATED_LENGTH:
            continue
        if plain in seen:
            yield passage
        seen.add(plain)


def unfinished_ending(checked: CheckedText) -> Evidence | None:
    text = checked.text.rstrip()
    if not text or text[-1] in ENDS:
        return None
    last = list(sentences(text))[-1:]
    return _shown(last) or {"passages": []}


def not_chinese(checked: CheckedText) -> Evidence | None:
    """Too small a share of Chinese among the letters, or one long run of another script."""
    letters = sum(char.isalpha() for char in checked.plain)
    share = len(HAN.findall(checked.plain)) / letters if letters else 0.0
    runs = [
        Passage(run.start(), run.end(), run[0])
        for run in FOREIGN.finditer(checked.text)
        if sum(char.isalpha() for char in run[0]) >= MAX_FOREIGN
    ]
    if share >= settings.QUALITY_CHINESE_SHARE and not runs:
        return None
    return {"number": round(100 * share), "range": [round(100 * settings.QUALITY_CHINESE_SHARE), 100]} | (
        _shown(runs) or {}
    )


def thinking(checked: CheckedText) -> Evidence | None:
    """What a model thought before it wrote, and single tags of such thinking."""
    if not holds_tag(checked.text):
        return None
    blocks = find_thinking(checked.text)
    tags = [tag.span() for tag in TAG.finditer(checked.text) if not _is_inside(tag.start(), blocks)]
    return _shown([Passage(start, end, checked.text[start:end]) for start, end in blocks + tags])


def _is_inside(place: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in spans)


def leftovers(checked: CheckedText) -> Evidence | None:
    """Markdown, chat around the story, or words of the prompt itself; outside of the model's thinking."""
    found = [
        Passage(part.start(), part.end(), part[0])
        for part in LEFTOVERS.finditer(checked.text)
        if part[0].strip()
    ]
    asked = normalise(checked.prompt)
    for passage in sentences(checked.text):
        plain = normalise(passage.text)
        if len(plain) >= SHARED_WITH_PROMPT and _shares(plain, asked):
            found.append(passage)
    blocks = find_thinking(checked.text)
    return _shown([passage for passage in found if not _is_inside(passage.start, blocks)])


def _shares(plain: str, asked: str) -> bool:
    """Whether `SHARED_WITH_PROMPT` signs in a row of `plain` stand in what was asked."""
    last = len(plain) - SHARED_WITH_PROMPT
    return any(plain[start : start + SHARED_WITH_PROMPT] in asked for start in range(last + 1))


def cut_short(checked: CheckedText) -> Evidence | None:
    """The provider, a stop or a lost connection ended the text; `reason` says which."""
    if checked.end_reason in ("", EndReason.STOP):
        return None
    return {"reason": checked.end_reason, "number": len(checked.text)} | (
        _shown(list(sentences(checked.text))[-1:]) or {}
    )


def _shown(passages: list[Passage]) -> Evidence | None:
    ordered = sorted(set(passages))
    return {"passages": [passage.as_evidence() for passage in ordered[:20]]} if ordered else None


RULES: dict[Flag.Kind, Callable[[CheckedText], Evidence | None]] = {
    Flag.Kind.LENGTH: wrong_length,
    Flag.Kind.INGREDIENT: missing_ingredients,
    Flag.Kind.CAST: missing_cast,
    Flag.Kind.REPEATED: repeated_passages,
    Flag.Kind.UNFINISHED: unfinished_ending,
    Flag.Kind.NOT_CHINESE: not_chinese,
    Flag.Kind.LEFTOVER: leftovers,
    Flag.Kind.THINKING: thinking,
    Flag.Kind.TRUNCATED: cut_short,
}
