"""What a story's text may be, wherever it comes from a person: an edit or a file."""

from sentences import sentence as _
from stories.errors import StoryError

MAX_LENGTH = 20_000


class BadText(StoryError):
    """A text that cannot be kept."""


def check_text(text: str) -> None:
    """Raises `BadText` for a text that is empty, over `MAX_LENGTH` code points, or cannot be stored."""
    if not text.strip():
        raise BadText(_("故事正文是空的。"))
    if len(text) > MAX_LENGTH:
        words = {"max": f"{MAX_LENGTH:,}", "length": f"{len(text):,}"}
        raise BadText(_("故事正文最多 %(max)s 个字，这里有 %(length)s 个。") % words)
    if "\0" in text:
        raise BadText(_("故事正文里有 NUL 字符，无法保存。"))
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadText(_("故事正文里有残缺的字符（单独的代理码），无法保存。"))
