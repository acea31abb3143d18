"""Whether a text names an ingredient, as a reader would say it.

A dynasty of one character is also a common word (明天, 清晨, 元帅) or a surname (宋): it counts only in a name of
the time. A longer power may be taken apart by the grammar (冰冻了整片大海): half of its pairs of characters do.
"""

import re
from functools import lru_cache

from stories.review.quality.passages import normalise

BEFORE = "大盛初晚中北南东西前后蒙满曹蜀隋唐宋元明清汉魏晋秦周强暴"
AFTER = "朝代时人军兵室廷王皇帝宫宗初末季都土太高世武文国年民官史以"
# Words of today that only look like a dynasty with its neighbour.
COMMON = re.compile(
    r"[文聪透光声证说英黎发精分鲜表失贤清开神启指照注简不]明|明[年文日天白亮]|大明星"
    r"|[公纪单次美状开多]元|元[年帅宵素气首]|大?清[早晨楚醒]|[看听分认弄澄冷凄]清"
    r"|[好老硬醉武]汉|男子汉|彪形大汉|周[年末围身]"
)
WITH_SUFFIX = re.compile(r"([^一二三四五六七八九十前后历])[朝代]")
MAX_KNOWN = 4096


def names_ingredient(text: str, plain: str, ingredient: str, *, axis: str) -> bool:
    """`plain` is the normalised `text`."""
    wanted = normalise(ingredient)
    if axis == "dynasty":
        return _names_dynasty(plain, wanted)
    if not wanted:  # an ingredient of signs alone
        return ingredient in text
    return wanted in plain or (len(wanted) > 2 and _names_most_of(plain, wanted))


def _names_dynasty(plain: str, wanted: str) -> bool:
    if said := WITH_SUFFIX.fullmatch(wanted):  # 唐朝 is 唐; 五代 and 六朝 are names
        wanted = said[1]
    if len(wanted) != 1:
        return wanted in plain
    return bool(_dynasty(wanted).search(COMMON.sub("　", plain)))


@lru_cache(MAX_KNOWN)
def _dynasty(name: str) -> re.Pattern[str]:
    sign = re.escape(name)
    return re.compile(f"[{BEFORE}]{sign}|{sign}[{AFTER}]")


def _names_most_of(plain: str, wanted: str) -> bool:
    pairs = [wanted[start : start + 2] for start in range(len(wanted) - 1)]
    return sum(pair in plain for pair in pairs) * 2 >= len(pairs)
