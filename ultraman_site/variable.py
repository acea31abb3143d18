"""What a row of the table of variables is (`variables.py`)."""

from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """What a value is, and by which method of `environment.Values` it is read."""

    TEXT = auto()
    SECRET = auto()  # as TEXT, and never quoted in a message
    NAMES = auto()  # comma-separated
    FLAG = auto()  # 1 or 0
    COUNT = auto()  # a whole number above 0; without a default it may be unset
    USD = auto()


class Section(Enum):
    """A part of `.env.example`, by its headings in Chinese and English."""

    SITE = ("站点", "the site")
    MODELS = ("模型与花费", "models and money")
    READERS = ("读者的限额", "limits of readers")
    QUALITY = (
        "检查来稿：标记只用来排序，不作决定",
        "the look at new stories: flags sort the queue and decide nothing",
    )
    RUN = ("启动", "starting")
    INTERNAL = ("", "")  # set by our own programs for each other; in no table


@dataclass(frozen=True)
class Variable:
    """`default` is written as in the environment, "" for none.

    `zh` and `en` say what it does. `unset_zh` and `unset_en` say what holds without it where `default` does not tell.
    `example` is what `.env.example` shows instead of the default; it may name the variable, for a name with a pattern.
    """

    name: str
    kind: Kind
    section: Section
    zh: str
    en: str
    default: str = ""
    unset_zh: str = "无"
    unset_en: str = "none"
    example: str = ""
