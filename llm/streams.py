"""A streamed answer, piece by piece. Source: https://platform.openai.com/docs/api-reference/chat-streaming."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from openai import AsyncOpenAI

from llm.answer_stream import AnswerReader
from llm.answers import NOTHING_SAID, Answer
from llm.dialects import Dialect
from llm.errors import LLMError, Refused
from llm.questions import Ask, Learn, ask_again, keep_nothing
from llm.rate_headers import read_rates
from llm.separation import AnswerSplitter
from llm.translation import provider_errors

logger = logging.getLogger(__name__)
MAX_EPILOGUE = 2.0  # seconds after the end of an answer that its usage is waited for
MAX_CLOSING = 0.05  # seconds after `[DONE]` that the connection may take to close in order, and be used again


async def stream(api: AsyncOpenAI, ask: Ask, *, learn: Learn = keep_nothing) -> AsyncIterator[Answer]:
    """The answer in pieces: each `Answer.text` is new text; usage and finish_reason come with any of them.

    Reads the events itself: the SDK's objects cost twice the CPU per piece. Ends when the provider has ended the
    answer, whatever the connection then does, or at `ask.max_characters` with finish_reason "length"; a caller that
    saw no `finish_reason` must not call it complete. A refusal that says how the model wants to be asked is learnt
    from, and the question asked again in that way.
    """
    tried: list[Dialect] = []
    while True:
        try:
            async for piece in _stream(api, ask):
                yield piece
        except Refused as error:
            # Before its first piece: an answer that has begun is never refused.
            ask = ask_again(ask, error, learn, tried=tried, is_streamed=True)
        else:
            return


async def _stream(api: AsyncOpenAI, ask: Ask) -> AsyncIterator[Answer]:
    # Any: no type of the SDK covers both kinds of completions.
    create: Any = (api.chat.completions if ask.messages else api.completions).with_streaming_response.create
    parameters = ask.parameters(is_streamed=True)
    reader = AnswerReader()
    splitter = AnswerSplitter(most=ask.max_characters, opens_inside=ask.opens_inside)
    with provider_errors():
        async with create(**parameters, extra_body=dict(ask.dialect.extra)) as response:
            yield Answer("", rates=read_rates(response.headers))
            chunks = response.iter_bytes()
            async for chunk in chunks:
                for piece in reader.feed(chunk):
                    yield splitter.take(piece)
                    if splitter.is_full:
                        return
                if reader.has_ended:
                    if (last := splitter.finish()) != NOTHING_SAID:
                        yield last
                    for piece in await _read_epilogue(chunks, reader):
                        yield piece
                    return
            for piece in reader.close():
                yield splitter.take(piece)
            yield splitter.finish()


async def _read_epilogue(chunks: AsyncIterator[bytes], reader: AnswerReader) -> list[Answer]:
    """What the provider still says of an answer that it has ended; a break or silence then matters no more."""
    pieces: list[Answer] = []
    try:
        with provider_errors():
            async with asyncio.timeout(MAX_CLOSING if reader.is_done else MAX_EPILOGUE) as limit:
                async for chunk in chunks:
                    pieces += reader.feed(chunk)
                    if reader.is_done:
                        limit.reschedule(asyncio.get_running_loop().time() + MAX_CLOSING)
    except (LLMError, TimeoutError) as error:
        logger.debug("an answer that had ended: %s", error)
    return pieces
