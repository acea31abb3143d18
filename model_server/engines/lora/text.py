"""From tokens to text as they come: a character that is spread over several tokens waits for its last one."""

from __future__ import annotations

from typing import Any

_CONTEXT = 5  # tokens of the prompt that decide about a leading space
_LONGEST_WAIT = (
    64  # tokens without text, after which what there is goes out: else each would cost more than the last
)
_BROKEN = "\ufffd"


class Decoder:
    """The growing text of one answer."""

    def __init__(self, tokenizer: Any, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = prompt[-_CONTEXT:]
        self._from, self._read = 0, len(self._ids)

    def feed(self, token: int) -> str:
        """What text this token completes."""
        self._ids.append(token)
        before, now = self._decode(self._read), self._decode(len(self._ids))
        if len(self._ids) - self._from < _LONGEST_WAIT and (len(now) <= len(before) or now.endswith(_BROKEN)):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def rest(self) -> str:
        """What never became a whole character."""
        before, now = self._decode(self._read), self._decode(len(self._ids))
        return now[len(before) :].rstrip(_BROKEN)

    def _decode(self, end: int) -> str:
        text: str = self._tokenizer.decode(
            self._ids[self._from : end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
