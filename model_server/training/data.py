"""Reads and checks training files: chat lines and legacy prompt/completion lines, one clear sentence per fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engines.base import Example

MIN_LINES, MAX_LINES = 10, 50_000
MAX_LINE_LENGTH = 200_000  # code points


class BadFile(ValueError):
    """A training or validation file that cannot be used; the message names the line."""


def read_examples(path: Path, *, minimum: int = MIN_LINES, method: str = "supervised") -> list[Example]:
    """The examples of a JSON lines file. Raises BadFile; blank lines are skipped but counted.

    `method` "dpo" wants preference lines, "supervised" the others.
    """
    examples = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    examples.append(_example(line, number, method))
                if len(examples) > MAX_LINES:
                    raise BadFile(f"The file has more than {MAX_LINES:,} lines.")
    except UnicodeDecodeError:
        raise BadFile(f"Line {len(examples) + 1} or a later one is not UTF-8 text.") from None
    except FileNotFoundError:
        raise BadFile("The file was deleted before it could be read.") from None
    if len(examples) < minimum:
        raise BadFile(f"The file has {len(examples)} examples, but at least {minimum} are needed.")
    return examples


def _example(line: str, number: int, method: str) -> Example:
    if len(line) > MAX_LINE_LENGTH:
        raise BadFile(f"Line {number} is longer than {MAX_LINE_LENGTH:,} characters.")
    try:
        row = json.loads(line)
        line.encode()
    except (ValueError, RecursionError):
        raise BadFile(f"Line {number} is not valid JSON.") from None
    if not isinstance(row, dict):
        raise BadFile(f"Line {number} must be a JSON object.")
    if method == "dpo":
        return _preference(row, number)
    if "preferred_output" in row:
        raise BadFile(f"Line {number} is a preference line: train on it with the method 'dpo'.")
    if "messages" in row:
        return _chat(row["messages"], number)
    if "prompt" in row or "completion" in row:
        return _legacy(row, number)
    raise BadFile(f"Line {number} has neither 'messages' nor 'prompt' and 'completion'.")


def _chat(messages: Any, number: int) -> Example:
    said = _messages(messages, number)
    asked = [content for role, content in said if role == "user"]
    if not asked or said[-1][0] != "assistant":
        raise BadFile(f"Line {number}: a user message is needed, and the last one must be the assistant's.")
    return Example(prompt=asked[-1], answer=said[-1][1], messages=tuple(said[:-1]), line=number)


def _preference(row: dict[str, Any], number: int) -> Example:
    """`{"input": {"messages": […]}, "preferred_output": [{assistant}], "non_preferred_output": [{assistant}]}`."""
    if not isinstance(row.get("input"), dict):
        raise BadFile(f"Line {number} is no preference line: it needs 'input' with 'messages'.")
    said = _messages(row["input"].get("messages"), number)
    asked = [content for role, content in said if role == "user"]
    if not asked or said[-1][0] == "assistant":
        raise BadFile(
            f"Line {number}: the messages of 'input' must end with what the assistant is to answer."
        )
    answers = []
    for name in ("preferred_output", "non_preferred_output"):
        output = _messages(row.get(name), number, name)
        if len(output) != 1 or output[0][0] != "assistant":
            raise BadFile(f"Line {number}: {name!r} must be one message of the assistant.")
        answers.append(output[0][1])
    if answers[0] == answers[1]:
        raise BadFile(f"Line {number}: the preferred and the other output are the same.")
    return Example(asked[-1], answers[0], messages=tuple(said), rejected=answers[1], line=number)


def _messages(messages: Any, number: int, name: str = "messages") -> list[tuple[str, str]]:
    """(role, content) of each. Raises BadFile."""
    if not isinstance(messages, list) or not messages:
        raise BadFile(f"Line {number}: {name!r} must be a non-empty list.")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise BadFile(f"Line {number}: every message needs a role of system, user or assistant.")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise BadFile(f"Line {number}: every message needs a non-empty 'content' text.")
    return [(message["role"], _whole(message["content"], number)) for message in messages]


def _legacy(row: dict[str, Any], number: int) -> Example:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str) or not completion.strip():
        raise BadFile(f"Line {number}: 'prompt' and a non-empty 'completion' must both be text.")
    return Example(_whole(prompt, number), _whole(completion, number), legacy=True, line=number)


def _whole(text: str, number: int) -> str:
    """`text`. Raises BadFile if it holds half a surrogate pair, which cannot be encoded."""
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise BadFile(f"Line {number} holds half of a surrogate pair, which is not a character.")
    return text


def count_tokens(examples: Sequence[Example]) -> int:
    """Tokens of prompts and answers; a token is one code point."""
    return sum(len(example.prompt) + len(example.answer) for example in examples)
