"""Finds the hero's name in a story by a heuristic; there may be none.

A candidate is a surname followed by one or two signs that can stand in a name. It counts how often it occurs, and more
if it is introduced (名叫…, 在下…). The three-sign form wins over its two-sign beginning when it is nearly as frequent.
Without a candidate that is introduced or occurs twice there is no name, and so no slot.
"""

from __future__ import annotations

import re


def _words(text: str) -> list[str]:
    return text.split()


_SINGLE = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏窦章云苏潘葛奚范彭郎鲁韦昌马苗凤方俞任袁柳"
    "史唐费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐于时傅卞齐康伍余元卜顾孟黄穆萧尹姚邵汪祁毛禹狄贝明臧计成戴宋庞熊纪舒屈项祝董"
    "梁杜阮蓝闵席季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万柯管卢莫房裘缪解应宗丁宣邓郁单洪包左石崔龚"
    "程邢裴陆荣翁荀曲封储靳段巫乌焦巴牧隗山谷车侯全班仰秋仲伊宫宁仇栾甘厉祖武符刘景詹束龙叶幸司黎薄白蒲赖卓蔺屠蒙池乔"
    "温庄晏柴瞿阎连习艾鱼容向古易慎戈廖庾终衡步都耿满弘匡文寇广阙东欧沃利蔚越隆师巩聂楚"
)
_DOUBLE = tuple(_words("欧阳 司马 诸葛 上官 慕容 夏侯 司徒 令狐 公孙 尉迟 长孙 宇文 皇甫 独孤 南宫 东方"))
# Signs that follow a surname-like sign in ordinary words far more often than in names: never part of a name, or not
# unless the name is introduced or occurs three times.
_NEVER = set(
    "的了是在不有和就都而及与着或个没我他她它这那们也又还要会能可把被从对向以为于其之么得过让"
    "兽怪战斗胜败朝代，。！？；：、“”‘’（）《》—…\n"
)
_SELDOM = set(
    "上下里外前后来去到边头光天地人多少几何给说道看见听问想走出进回起身手脚心眼声力气火水土面路口门车楼城街市桥时候年日夜点"
    "分间处方法样种些件位名只条张片块两三四五六七八九十百千万英雄"
)
_WORDS = set(
    _words(
        "周围 许多 许久 温暖 温柔 白昼 高楼 高空 高兴 黄昏 黄沙 金色 金属 成功 成为 安静 安全 安稳 平安 明亮 明白 "
        "全部 全城 单车 广场 广播 包子 古装 古怪 古井 石像 石洞 石阶 林立 雷雨 雷电 乌云 云层 云端 龙卷 解开 解释 "
        "计时 满是 都市 左右 终于 常常 应声 向往 连连 连忙 马路 马蹄 于是 文字 强大 毛衣 封锁 封印 东西 都记 任务 "
        "任何 方才 方向 管理"
    )
)
_HAN = "[\u4e00-\u9fff]"
_CANDIDATE = re.compile(rf"(?=((?:{'|'.join(_DOUBLE)}|[{_SINGLE}])({_HAN}{{1,2}})))")
_INTRODUCED = re.compile(r"(?:名叫|名字叫|名字是|叫做|姓名|名为|在下|自称|唤作|(?<!喊)叫)$")


def is_surname(sign: str) -> bool:
    """Whether a sign can begin a name."""
    return sign in _SINGLE


def surname_of(name: str) -> str:
    """The part of `name` that is the family's."""
    return name[:2] if name[:2] in _DOUBLE else name[:1]


def find_name(text: str) -> str | None:
    """The hero's name in `text`, or None."""
    counts, introduced = candidates(text)
    likely = {name: count + 2 * (name in introduced) for name, count in counts.items()}
    likely = {
        name: score
        for name, score in likely.items()
        if score >= 2 and (score >= 3 or not _given(name) & _SELDOM)
    }
    if not likely:
        return None
    best = max(likely, key=lambda name: (likely[name], -text.index(name)))
    longer = [name for name in counts if name.startswith(best) and len(name) == len(best) + 1]
    return next((name for name in longer if counts[name] >= 0.8 * counts[best]), best)


def candidates(text: str) -> tuple[dict[str, int], set[str]]:
    """(what could be a name, with how often it occurs; those of them that are introduced as names)."""
    counts: dict[str, int] = {}
    introduced: set[str] = set()
    for match in _CANDIDATE.finditer(text):
        forms = (match[1], match[1][:-1]) if len(match[2]) == 2 else (match[1],)
        for name in forms:
            if _could_be_name(name):
                counts[name] = counts.get(name, 0) + 1
                if _INTRODUCED.search(text[max(0, match.start() - 4) : match.start()]):
                    introduced.add(name)
    return counts, introduced


def _given(name: str) -> set[str]:
    return set(name[len(surname_of(name)) :])


def _could_be_name(name: str) -> bool:
    return bool(_given(name)) and not _given(name) & _NEVER and name[:2] not in _WORDS
