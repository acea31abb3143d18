"""From chats and training lines to token ids, by the model's own chat template.

Serving and training share this file, so that a model is asked exactly as it was trained: the prompt and the completion
are rendered as text and tokenized apart. A model without a template gets PLAIN_TEMPLATE.
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
class Encoded:
    """Token ids of a prompt and of what follows it; the loss is on `completion` only. `line`: where it stood."""

    prompt: list[int]
    completion: list[int]
    line: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


class Language:
    """A base model's tokenizer, template, end tokens and context; safe in several threads."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.context = context_of(folder)
        self.ends = end_tokens(folder, self.tokenizer)
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
        self.end_of_turn = self._end_of_turn()
        self.ends |= {token for token in self.end_of_turn[:1] if token in self._special()}

    def ids(self, text: str) -> list[int]:
        """Tokens of a text in the middle of others."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return found

    def start_ids(self, text: str) -> list[int]:
        """Tokens of a bare prompt, with whatever this tokenizer begins a text with."""
        found: list[int] = self.tokenizer.encode(text)
        while len(found) > 1 and found[-1] in self.ends:
            found.pop()
        return found

    def prompt_ids(self, messages: Turns) -> list[int]:
        """A chat up to where the answer begins, or, if its last turn is the assistant's, up to its end.

        An assistant's turn followed by 接着写 counts as the last: that is how a story is continued.
        """
        turns = _continued(messages)
        if turns and turns[-1][0] == "assistant" and turns[-1][1]:
            return self.ids(self._prompt(turns[:-1])) + self.ids(turns[-1][1])
        return self.ids(self._prompt(turns))

    def encode(self, example: Example) -> Encoded:
        """A training line; a preference line's better answer."""
        return self._encode(example, example.answer)

    def encode_rejected(self, example: Example) -> Encoded:
        """A preference line's worse answer."""
        return self._encode(example, example.rejected or "")

    def _encode(self, example: Example, answer: str) -> Encoded:
        if example.legacy:
            end = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
            return Encoded(self.start_ids(example.prompt), self.ids(answer) + end, example.line)
        prompt = self._prompt(example.messages)
        return Encoded(self.ids(prompt), [*self.ids(answer), *self.end_of_turn], example.line)

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
        # enable_thinking: templates of models that think aloud leave an empty thought, others do not know the word.
        text: str = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=False, enable_thinking=False
        )
        return text

    def _end_of_turn(self) -> list[int]:
        """What the template puts behind an answer, up to and with its first special token; else the tokenizer's end."""
        mark = "〖answer〗"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
        tail = self._render(turns, add_generation_prompt=False).rpartition(mark)[2]
        found, special = self.ids(tail), self._special()
        at = next((at for at, token in enumerate(found) if token in special), None)
        if at is not None:
            return found[: at + 1]
        return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]

    def _special(self) -> set[int]:
        added = self.tokenizer.added_tokens_decoder
        return (
            self.ends | set(self.tokenizer.all_special_ids) | {id for id, one in added.items() if one.special}
        )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system's words at the head of the first user message, for templates that know no system."""
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [dict(turn) for turn in turns if turn["role"] != "system"]
    first = next((turn for turn in others if turn["role"] == "user"), None)
    if system and first:
        first["content"] = f"{system}\n\n{first['content']}"
    return others


def _continued(messages: Turns) -> list[tuple[str, str]]:
    """The chat with 接着写 taken away behind an answer, and the pieces of that answer joined to one turn."""
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
