"""Tells a provider that declines what is asked from one that refuses the call (pure).

Providers have no common code for it. Sources: the error pages of OpenAI, Azure, 百炼, 智谱, MiniMax and DeepSeek.
"""

CODES = (
    *("contentfilter", "contentpolicy", "datainspection", "responsibleai", "moderationblocked", "sensitive"),
    *("invalidprompt", "promptblocked", "safetyviolation"),
)
"""Parts of a code or type, in small letters and without underscores."""
NUMBERS = ("1301", "1026", "1027")
"""Codes of 智谱 and MiniMax for what may be unsafe in what was asked or written."""
WORDS = ("content exists risk", "inappropriate content", "content management policy", "敏感内容", "违规内容")
"""What the message says where the code says nothing, in small letters."""


def is_declined(code: str, words: str) -> bool:
    """Whether an error declines the content. `code`: its code and type, parted by a space; `words`: its message."""
    known = code.lower().replace("_", "").replace("-", "")
    if any(part in known for part in CODES) or any(number in known.split() for number in NUMBERS):
        return True
    said = words.lower()
    return any(phrase in said for phrase in WORDS)
