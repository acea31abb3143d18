"""Finds in a prompt what the story is to be about, and the text that is to be continued.

Sources, most explicit first: a line `唐,隐形,轻松`; labelled lines `朝代：唐`; phrases such as 一位…的英雄 and
一场…的战斗; quoted words; known words anywhere. Each ingredient is looked for on its own, so a prompt may mix the ways.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace


def _words(text: str) -> list[str]:
    return text.split()


DYNASTIES = _words(
    "南北朝 五代十国 春秋战国 五代 六朝 三国 战国 春秋 北宋 南宋 东汉 西汉 东晋 西晋 "
    "唐 宋 元 明 清 汉 魏 晋 秦 隋 商 周 夏 辽 金"
)
POWERS = _words(
    "瞬间移动 不死之身 流星火雨 冰冻大海 发射激光 读心术 龙卷风 透视眼 时间停止 控制雷电 隔空取物 隐身 隐形 飞行 "
    "喷火 变身 分身 预知 透视 念力 治愈 变大 缩小"
)
TYPES = _words("轻松 努力 艰难 勇敢 辛苦 惊险 激烈 机智 顽强 悲壮 漫长 短暂 温柔 团结")
MAX_INGREDIENT = 32

_ERA_WORDS = {"五代", "六朝", "三代", "古代", "当代", "近代", "现代", "后代", "历代"}
_LABELS = {
    "dynasty": r"朝代|时代|年代|dynasty|era",
    "power": r"超能力|能力|本领|异能|super[_ ]?power|power",
    "story_type": r"战斗类型|战斗过程|战斗方式|故事类型|战斗|类型|风格|过程|story[_ ]?type|type",
}
_PHRASES = {
    "dynasty": (
        r"一[位个名]来?自?([^，。；,;\n]{1,32}?)的(?:英雄|人物|侠客|勇士|主角)",
        r"来自([^，。；,;\n的]{1,16})的",
    ),
    "power": (),
    "story_type": (r"一[场番次]([^，。；,;\n]{1,32}?)的(?:战斗|较量|搏斗|大战|对决|恶战|激战|决战)",),
}
_NEAR = {
    "dynasty": ("的英雄", "人物", "朝代", "时代", "英雄"),
    "power": ("超能力", "能力", "本领", "力量", "法术", "异能"),
    "story_type": ("的战斗", "战斗", "较量", "方式", "类型", "风格"),
}
_QUOTED = re.compile(r"[「『“‘《\"]([^「」『』“”‘’《》\"\n]{1,32})[」』”’》\"]")
_SEPARATOR = re.compile(r"\s*(?:->|→|\n\n###\n\n|\n\n===\n\n)")
_NOT_AN_INGREDIENT = re.compile(r"写|故事|请|一[个位篇]|[。？！：:=“”「」]")
_GO_ON = re.compile(
    r"\s*(?:请?(?:接着|继续)(?:往下)?(?:写|讲|说)?(?:下去|完)?|continue|go on)[。.！!]?\s*", re.I
)
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ue000-\uf8ff\ufeff]")


@dataclass(frozen=True)
class Ingredients:
    """What a prompt asked for; None where it did not say. `dynasty` is the bare word: 唐, 南北朝, 三国."""

    dynasty: str | None = None
    power: str | None = None
    story_type: str | None = None

    def missing(self) -> list[str]:
        """The names of the parts that the prompt did not give."""
        return [name for name in ("dynasty", "power", "story_type") if getattr(self, name) is None]


def era(dynasty: str) -> str:
    """The dynasty as it stands in a sentence: 唐朝, but 南北朝, 五代, 三国, 北宋."""
    return dynasty + "朝" if len(dynasty) == 1 else dynasty


def bare_dynasty(text: str) -> str:
    """唐朝, 唐代 and 大唐 are all 唐; 南北朝 and 五代 stay."""
    if len(text) == 2 and text not in _ERA_WORDS:
        if text[1] in "朝代":
            return text[0]
        if text[0] == "大" and text[1] in DYNASTIES:
            return text[1]
    return text


def conversation(messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(prompt, text so far) of chat messages given as (role, content).

    A continuation is a last assistant message, or an assistant message followed by a user's 接着写; several of them in
    turn are pieces of one text.
    """
    users = [text for role, text in messages if role == "user"]
    asking = [text for text in users if not _GO_ON.fullmatch(text)]
    prompt = asking[-1] if asking else ""
    if find_ingredients(prompt).missing():
        others = [text for role, text in messages if role != "assistant" and text != prompt]
        prompt = "\n".join([prompt, *others])
    written: list[str] = []
    for role, text in reversed(messages):
        if role == "assistant":
            written.append(text)
        elif role != "user" or not _GO_ON.fullmatch(text):
            break
    return prompt, "".join(reversed(written))


def is_go_on(text: str) -> bool:
    """Whether a user's message only asks to go on: 接着写."""
    return _GO_ON.fullmatch(text) is not None


def split_completion_prompt(text: str) -> tuple[str, str]:
    """(prompt, text so far) of a completion prompt: what follows the first ` ->` has been written already."""
    found = _SEPARATOR.search(text)
    if not found:
        return text, ""
    return text[: found.start()], text[found.end() :].removeprefix(" ")


def find_ingredients(text: str) -> Ingredients:
    """The ingredients that `text` names."""
    found: dict[str, str] = {}
    for finder in (_triple, _labelled, _phrased, _quoted, _known):
        for name, value in finder(text).items():
            cleaned = clean(value)
            if cleaned and name not in found:
                found[name] = cleaned
    result = Ingredients(**found)
    return replace(result, dynasty=bare_dynasty(result.dynasty)) if result.dynasty else result


def clean(value: str) -> str:
    """A value without quotes, controls and overlength."""
    return _UNWANTED.sub("", value).strip(" 　\"'“”‘’「」『』《》。，,：:；;")[:MAX_INGREDIENT]


def _triple(text: str) -> dict[str, str]:
    lines = [_SEPARATOR.split(line)[0].strip() for line in text.strip().splitlines()]
    longest = MAX_INGREDIENT if len(lines) == 1 else 12
    for line in reversed(lines):
        parts = [part.strip() for part in re.split(r"[,，、]", line)]
        if len(parts) == 3 and all(_could_be_ingredient(part, longest) for part in parts):
            return dict(zip(("dynasty", "power", "story_type"), parts, strict=True))
    known = rf"({'|'.join(DYNASTIES)})朝?\s*[,，、]\s*([^,，、。\n]{{1,12}}?)\s*[,，、]\s*({'|'.join(TYPES)})"
    inside = re.search(known, text)
    return dict(zip(("dynasty", "power", "story_type"), inside.groups(), strict=True)) if inside else {}


def _could_be_ingredient(part: str, longest: int) -> bool:
    return 1 <= len(part) <= longest and not _NOT_AN_INGREDIENT.search(part)


def _labelled(text: str) -> dict[str, str]:
    found = {}
    for name, labels in _LABELS.items():
        match = re.search(rf"(?:{labels})\s*[:：=]\s*([^\n,，;；。、]{{1,40}})", text, re.IGNORECASE)
        if match:
            found[name] = match[1]
    return found


def _phrased(text: str) -> dict[str, str]:
    found = {}
    for name, patterns in _PHRASES.items():
        for pattern in patterns:
            match = re.search(pattern, text)
            if match and name not in found:
                found[name] = match[1]
    return found


def _quoted(text: str) -> dict[str, str]:
    """Quoted words: known ones first, then by the words around them, then in the order of a combo's power and type."""
    found: dict[str, str] = {}
    open_ones = []
    for match in _QUOTED.finditer(text):
        word = match[1]
        if bare_dynasty(word) in DYNASTIES:
            found.setdefault("dynasty", word)
        elif word in TYPES:
            found.setdefault("story_type", word)
        elif word in POWERS:
            found.setdefault("power", word)
        else:
            open_ones.append(
                (word, text[max(0, match.start() - 8) : match.start()], text[match.end() : match.end() + 5])
            )
    for word, before, after in open_ones:
        name = _by_neighbours(before, after, found)
        if name:
            found[name] = word
    return found


def _by_neighbours(before: str, after: str, found: dict[str, str]) -> str | None:
    free = [name for name in ("power", "dynasty", "story_type") if name not in found]
    for side in (after, before):
        for name in free:
            if any(word in side for word in _NEAR[name]):
                return name
    return None


def _known(text: str) -> dict[str, str]:
    found = {}
    long_ones = [name for name in DYNASTIES if len(name) > 1 and name in text]
    spoken = re.search(rf"大?({'|'.join(name for name in DYNASTIES if len(name) == 1)})[朝代]", text)
    if long_ones or spoken:
        found["dynasty"] = long_ones[0] if long_ones else spoken[1] if spoken else ""
    for name, words in (("power", POWERS), ("story_type", TYPES)):
        inside = [word for word in words if word in text]
        if inside:
            found[name] = min(inside, key=text.index)
    return found
