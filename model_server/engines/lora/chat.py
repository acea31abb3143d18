"""Turns chats and training lines into token ids by the model's own chat template.

Serving and training share this module, so that a model is asked exactly as it was trained: prompt and completion are
rendered as text and tokenized separately. A model without a template gets PLAIN_TEMPLATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ..base import Example
from ..prompts import is_go_on
from .loading import context_of, end_tokens, load_tokenizer

PLAIN_TEMPLATE = (
    "{% for message in messages %}### {{ message.role }}\n{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token or '' }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant\n{% endif %}"
)
Turns = Sequence[tuple[str, str]]


class BadChat(ValueError):
    """A chat that this model's template cannot render; the message is the template's own."""


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of a prompt and of its completion; the loss is on the latter. `line` is the number in the file."""

    prompt: list[int]
    completion: list[int]
    line: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


class ChatTokenizer:
    """A base model's tokenizer with its chat template, end tokens and context (in tokens); thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.inner = load_tokenizer(folder)
        self.context = context_of(folder)
        self.end_tokens = end_tokens(folder, self.inner)
        if not self.inner.chat_template:
            self.inner.chat_template = PLAIN_TEMPLATE
        self.end_of_turn = self._end_of_turn()
        self.end_tokens |= {token for token in self.end_of_turn[:1] if token in self._special()}

    def ids(self, text: str) -> list[int]:
        """Tokens of a text that stands between others, without the tokenizer's start and end tokens."""
        found: list[int] = self.inner.encode(text, add_special_tokens=False)
        return found

    def start_ids(self, text: str) -> list[int]:
        """Tokens of a bare prompt, with the tokenizer's start tokens and without its end tokens."""
        found: list[int] = self.inner.encode(text)
        while len(found) > 1 and found[-1] in self.end_tokens:
            found.pop()
        return found

    def prompt_ids(self, messages: Turns) -> list[int]:
        """A chat up to the beginning of the answer; if its last turn is the assistant's, up to the end of that turn.

        An assistant's turn followed by 接着写 counts as the last one: the model continues that text.
        """
        turns = _continued(messages)
        if turns and turns[-1][0] == "assistant" and turns[-1][1]:
            return self.ids(self._prompt(turns[:-1])) + self.ids(turns[-1][1])
        return self.ids(self._prompt(turns))

    def encode(self, example: Example) -> TokenizedExample:
        """A training line, with the better answer of a preference line."""
        return self._encode(example, example.answer)

    def encode_rejected(self, example: Example) -> TokenizedExample:
        """A preference line with its worse answer."""
        return self._encode(example, example.rejected or "")

    def _encode(self, example: Example, answer: str) -> TokenizedExample:
        if example.legacy:
            end = [self.inner.eos_token_id] if self.inner.eos_token_id is not None else []
            return TokenizedExample(self.start_ids(example.prompt), self.ids(answer) + end, example.line)
        prompt = self._prompt(example.messages)
        return TokenizedExample(self.ids(prompt), [*self.ids(answer), *self.end_of_turn], example.line)

    def _prompt(self, messages: Turns) -> str:
        turns = [{"role": _role(role), "content": content} for role, content in messages]
        try:
            return self._render(turns, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            folded = _without_system(turns)
            if folded == turns:
                raise BadChat(f"The model's chat template refuses these messages: {error}") from None
        try:
            return self._render(folded, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise BadChat(f"The model's chat template refuses these messages: {error}") from None

    def _render(self, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        # enable_thinking: reasoning models' templates then write an empty thought; other templates ignore it.
        text: str = self.inner.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=False, enable_thinking=False
        )
        return text

    def _end_of_turn(self) -> list[int]:
        """What the template adds to an answer, up to its first special token; else the tokenizer's end token."""
        mark = "〖answer〗"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
        tail = self._render(turns, add_generation_prompt=False).rpartition(mark)[2]
        found, special = self.ids(tail), self._special()
        at = next((at for at, token in enumerate(found) if token in special), None)
        if at is not None:
            return found[: at + 1]
        return [] if self.inner.eos_token_id is None else [self.inner.eos_token_id]

    def _special(self) -> set[int]:
        added = self.inner.added_tokens_decoder
        return (
            self.end_tokens
            | set(self.inner.all_special_ids)
            | {id for id, one in added.items() if one.special}
        )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Moves system messages to the head of the first user message, for templates without a system role."""
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [dict(turn) for turn in turns if turn["role"] != "system"]
    first = next((turn for turn in others if turn["role"] == "user"), None)
    if system and first:
        first["content"] = f"{system}\n\n{first['content']}"
    return others


def _continued(messages: Turns) -> list[tuple[str, str]]:
    """Removes trailing requests to continue (接着写), and joins the answers before them to one assistant's turn."""
    turns = list(messages)
    pieces: list[str] = []
    while turns:
        if turns[-1][0] == "assistant":
            pieces.append(turns.pop()[1])
        elif (
            len(turns) > 1
            and turns[-1][0] == "user"
            and is_go_on(turns[-1][1])
            and turns[-2][0] == "assistant"
        ):
            turns.pop()
        else:
            break
    return [*turns, ("assistant", "".join(reversed(pieces)))] if pieces else turns
