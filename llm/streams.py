"""A streamed answer, piece by piece. Source: https://platform.openai.com/docs/api-reference/chat-streaming."""

from collections.abc import AsyncIterator
from typing import Any

from openai import AsyncOpenAI

from llm.answers import Answer, read_answer, read_json, split_lines
from llm.calls import Ask, cut
from llm.rate_headers import read_rates
from llm.separation import AnswerSplitter
from llm.translation import provider_errors


async def stream(api: AsyncOpenAI, ask: Ask) -> AsyncIterator[Answer]:
    """The answer in pieces: each `Answer.text` is new text; usage and finish_reason come with any of them.

    Reads the event lines itself: the SDK's objects cost twice the CPU per piece. Ends when the provider
    closes, with or without `[DONE]`, or at `ask.max_characters` with finish_reason "length"; a caller that saw no
    `finish_reason` must not call it complete.
    """
    # Any: no type of the SDK covers both kinds of completions.
    create: Any = (api.chat.completions if ask.messages else api.completions).with_streaming_response.create
    extra = {"stream": True, "stream_options": {"include_usage": True}}
    room, splitter = ask.max_characters, AnswerSplitter(opens_inside=ask.opens_inside)
    with provider_errors():
        async with create(**ask.parameters(), **extra) as response:
            yield Answer("", "", rates=read_rates(response.headers))
            async for line in split_lines(response.iter_bytes()):
                if not line.startswith(b"data:") or (data := line[5:].strip()) == b"[DONE]":
                    continue
                piece = splitter.take(read_answer(read_json(data)))
                room = ask.max_characters if piece.begins_anew else room
                yield cut(piece, room=room)
                room -= len(piece.text)
                if room < 0:
                    return
                if splitter.is_endless:
                    yield Answer("", "length")
                    return
            if (last := splitter.finish()) != Answer("", ""):
                yield cut(last, room=ask.max_characters if last.begins_anew else room)
