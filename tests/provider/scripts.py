"""Answers byte by byte: how servers of the world frame, end and break what they say.

provider.script = lambda call: [*events(chunk("从前"), chunk("", finish="eos")), OPEN]
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

OPEN = object()
"""The connection stays open until the client leaves."""
BREAK = object()
"""The connection is reset."""
DONE = b"data: [DONE]\n\n"
Script = Callable[[Any], Iterable[Any]]
"""Takes the `Call`; brings bytes, `OPEN` and `BREAK`."""


def media_type(call: Any) -> str:
    return "text/event-stream" if call.body.get("stream") else "application/json"


def chunk(
    content: Any = None, *, finish: Any = None, usage: Any = None, choice: Any = None, **delta: Any
) -> dict[str, Any]:
    """An event of a chat stream; `choice` holds more of its choice."""
    said = delta if content is None else {"content": content, **delta}
    first = {"index": 0, "delta": said, "finish_reason": finish, **(choice or {})}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [first], "usage": usage}


def whole(
    content: Any, *, finish: Any = "stop", usage: Any = None, choice: Any = None, **message: Any
) -> dict[str, Any]:
    """A whole chat answer; `choice` holds more of its choice."""
    said = {"role": "assistant", "content": content, **message}
    first = {"index": 0, "message": said, "finish_reason": finish, **(choice or {})}
    return {"id": "c", "object": "chat.completion", "choices": [first], "usage": usage}


def counts(prompt: Any = 100, completion: Any = 20, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def event(said: Any) -> bytes:
    """Bytes as they are, anything else as JSON with its characters raw."""
    return b"data: " + raw(said) + b"\n\n"


def events(*said: Any) -> list[bytes]:
    return [event(one) for one in said]


def raw(said: Any) -> bytes:
    return said if isinstance(said, bytes) else json.dumps(said, ensure_ascii=False).encode()
