"""Decodes tokens to text one by one; a character that consists of several tokens is held back until it is whole."""

from __future__ import annotations

from typing import Any

_CONTEXT = 5  # last tokens of the prompt, on which a leading space depends
_MAX_PENDING_TOKENS = (
    64  # then the text goes out as it is: all pending tokens are decoded again for each new one
)
_BROKEN = "\ufffd"


class Decoder:
    """The growing text of one answer."""

    def __init__(self, tokenizer: Any, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = prompt[-_CONTEXT:]
        self._from, self._read = 0, len(self._ids)

    def feed(self, token: int) -> str:
        """The text that this token completes."""
        self._ids.append(token)
        before, now = self._decode(self._read), self._decode(len(self._ids))
        if len(self._ids) - self._from < _MAX_PENDING_TOKENS and (
            len(now) <= len(before) or now.endswith(_BROKEN)
        ):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def rest(self) -> str:
        """The text of the pending tokens, without characters that never became whole."""
        before, now = self._decode(self._read), self._decode(len(self._ids))
        return now[len(before) :].rstrip(_BROKEN)

    def _decode(self, end: int) -> str:
        text: str = self._tokenizer.decode(
            self._ids[self._from : end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
