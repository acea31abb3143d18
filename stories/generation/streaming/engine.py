"""The desk: one event loop per worker process that writes all its readers' stories.

A Celery thread hands a story over and waits, holding nothing. One thread does all that the desk wants of
the database, so that the stories of a process never wait for each other's locks: it claims a story and
writes its attempt's row, one story at a time, and between two claims it commits what has arrived. The
streaming side touches no database: pieces go into pens, and one flusher commits them in one transaction, a
story's first piece and its end at once, all else every `WINDOW`. What is committed is told to the viewers
in one message; that message is only a hint, the row is the truth.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

from django.db import Error as DatabaseProblem
from django.db import connection

from llm import clients, streams
from llm.endpoints import Endpoint
from llm.errors import LLMError, OutOfMoney, Refused, TryAgainLater
from llm.rate_limit import TooSoon, Turn, take_turn, tell
from llm.retry import TOO_MANY
from stories.errors import OverBudget, UnknownModel
from stories.generation import states
from stories.generation.attempts import open_attempt
from stories.generation.connections import release_connection
from stories.generation.prompts import ask_for
from stories.generation.streaming import commits
from stories.generation.streaming.session import Ending, Pen, Slice, slice_of
from stories.language_models import check_endpoint
from stories.live.broker import Sender, changed, written
from stories.models import Attempt, EndReason, Story

logger = logging.getLogger(__name__)
WINDOW = 0.1  # seconds between commits
GATHER = 0.005  # seconds in which urgent pieces of several stories come together
MOST_ENDINGS = 20  # in one commit
STOP_CHECK = 0.5  # seconds between looks for stories to stop
RENEWAL = 5.0  # seconds between renewals of the leases
DEADLINE = 600.0  # seconds that one call may take
STREAMS = 1000  # connections to one endpoint
TURN_SECONDS = 8.0  # that a reader's story waits for its turn; longer, and it goes back to the queue
LONGEST_WAIT = 60.0  # until a refused story is asked for again, whatever the provider says: a reader waits
MOST_TOKENS = 2600  # of one call, until the provider says what it counts


def write(story: Story) -> None:
    """Waits its turn, claims the story, streams it and returns when its end is committed.

    Nothing to claim: returns at once. A reader's turn comes before those of bulk work.
    """
    if not states.is_due(story) or (turn := _take_turn(story)) is None:
        return
    if pen := desk().write(story):
        _tell(turn, pen)


def _take_turn(story: Story) -> Turn | None:
    assert story.language_model is not None, "an asked story has its model"
    release_connection()
    model = story.language_model
    try:
        return take_turn(model.base_url, model.name, tokens=MOST_TOKENS, seconds=TURN_SECONDS, urgent=True)
    except TooSoon as error:
        states.postpone(story, seconds=error.seconds)
        return None


def _tell(turn: Turn, pen: Pen) -> None:
    """What the limiter learns from a stream: the limits it named at its beginning, or a 429."""
    if isinstance(pen.error, TryAgainLater) and pen.error.status == TOO_MANY:
        tell(turn, limited=True, retry_after=pen.error.retry_after, rates=pen.error.rates)
    elif pen.error is None:
        # By now the stream is seconds old: how much was left at its beginning says nothing any more.
        tell(turn, rates=replace(pen.rates, requests_left=None, tokens_left=None))


def _open(story: Story) -> Pen | None:
    """Claims the story: a pen with the row of its call, None if there is nothing to write (any more)."""
    if not states.claim(story, lease=commits.LEASE):
        return None
    assert story.language_model is not None, "an asked story has its model"
    try:
        check_endpoint(story.language_model)
        ask = ask_for(story.language_model, story.combo, template=story.template, text_so_far=story.text)
        return Pen(story=story, attempt=open_attempt(story, ask), ask=ask)
    except OverBudget as error:
        states.end(story, reason=EndReason.QUOTA, error=str(error), length=story.length)
    except UnknownModel as error:
        states.end(story, reason=EndReason.REFUSED, error=str(error), length=story.length)
    return None


@cache
def desk() -> "Desk":
    """The desk of this process, started on first use."""
    return Desk()


class Desk:
    """Streams, flusher and hints of one process. `write` is called from any thread."""

    def __init__(self) -> None:
        self._pens: dict[Pen, asyncio.Task[None]] = {}
        self._clients: dict[Endpoint, clients.AsyncOpenAI] = {}
        self._loop = asyncio.new_event_loop()
        self._dirty = asyncio.Event()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="desk-database")
        self._claiming = asyncio.Lock()
        self._hints = Sender()
        threading.Thread(target=self._run, name="desk", daemon=True).start()

    def write(self, story: Story) -> Pen | None:
        """Claims and streams the story; blocks the calling thread until its end is committed.

        None if there was nothing to write.
        """
        return asyncio.run_coroutine_threadsafe(self._write(story), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
        except Exception:
            # Without its flusher a worker would take stories and never write them: it is better started anew.
            logger.exception("the desk ended, so this worker ends")
            os._exit(1)

    async def _work(self) -> None:
        await asyncio.gather(self._flush_for_ever(), self._watch_for_ever(), self._hints.send_for_ever())

    async def _write(self, story: Story) -> Pen | None:
        async with self._claiming:
            pen: Pen | None = await self._in_database(_open, story)
        self._hints.put(changed(story.pk))
        if pen is not None:
            self._pens[pen] = asyncio.create_task(self._stream(pen))
            await pen.done.wait()
        return pen

    async def _stream(self, pen: Pen) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                async for piece in streams.stream(self._client(pen.attempt.language_model.endpoint), pen.ask):
                    pen.take_in(piece)
                    if pen.slice and pen.is_urgent:
                        self._dirty.set()
            ending = _finished(pen)
        except (LLMError, TimeoutError) as error:
            pen.error = error if isinstance(error, LLMError) else None
            ending = _failed(pen, error)
        except asyncio.CancelledError:
            ending = Ending(EndReason.STOPPED, attempt_state=Attempt.State.INTERRUPTED)
        except Exception as error:
            logger.exception("story %s could not be streamed", pen.story.pk)
            ending = _failed(pen, error)
        pen.finish()
        pen.ending = ending
        self._dirty.set()

    def _client(self, alias: str) -> clients.AsyncOpenAI:
        place = clients.endpoint(alias)
        if place not in self._clients:
            self._clients[place] = clients.async_client(alias, limit=STREAMS)
        return self._clients[place]

    async def _in_database(self, function: Any, *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._database, _on_usable_connection, function, *arguments)

    async def _flush_for_ever(self) -> None:
        due = self._loop.time()  # when everything is committed next
        while True:
            if not self._pens:
                await self._dirty.wait()
            is_due = self._loop.time() >= due
            if is_due:
                due = self._loop.time() + WINDOW
            self._dirty.clear()
            await self._flush([pen for pen in self._pens if pen.is_dirty and (is_due or pen.is_urgent)])
            try:
                async with asyncio.timeout_at(due):
                    await self._dirty.wait()
                    await asyncio.sleep(GATHER)
            except TimeoutError:
                continue

    async def _flush(self, pens: Sequence[Pen]) -> None:
        slices = [slice_of(pen) for pen in pens]
        ending = [part for part in slices if part.ending]
        for part in ending[MOST_ENDINGS:]:
            # Each end is several statements: many at once would hold up the text of all others.
            slices[slices.index(part)] = Slice(part.pen, part.text, None)
            self._dirty.set()
        if slices:
            self._take(await self._in_database(commits.commit, slices))

    def _take(self, committed: Sequence[commits.Committed]) -> None:
        for part in committed:
            pen = part.slice.pen
            pen.slice = pen.slice[len(part.slice.text) :]
            if part.lost:
                self._lose(pen)
                continue
            pen.story.text = pen.story.text[: part.offset] + part.text
            pen.attempt.state = Attempt.State.STREAMING
            if part.text:
                self._hints.put(written(pen.story, offset=part.offset, text=part.text))
            if part.slice.ending:
                self._hints.put(changed(pen.story.pk))
                self._pens.pop(pen, None)
                pen.done.set()

    def _lose(self, pen: Pen) -> None:
        logger.warning("story %s is no longer this worker's; its call is closed", pen.story.pk)
        pen.lost = True
        self._pens.pop(pen).cancel()
        self._hints.put(changed(pen.story.pk))
        self._loop.create_task(self._settle_lost(pen))

    async def _settle_lost(self, pen: Pen) -> None:
        try:
            await self._in_database(commits.settle_lost, pen)
        except DatabaseProblem as error:
            logger.warning("the call of story %s is left to the sweeper: %s", pen.story.pk, error)
        finally:
            pen.done.set()

    async def _watch_for_ever(self) -> None:
        """Stops what people asked to stop, and keeps the leases."""
        renewed_at = self._loop.time()
        while True:
            await asyncio.sleep(STOP_CHECK)
            pens = list(self._pens)
            if not pens:
                continue
            try:
                await self._stop_asked(pens)
                if self._loop.time() - renewed_at >= RENEWAL:
                    renewed_at = self._loop.time()
                    await self._renew(pens)
            except DatabaseProblem as error:
                logger.warning("leases and stops wait for the database: %s", error)

    async def _stop_asked(self, pens: Sequence[Pen]) -> None:
        stops = await self._in_database(commits.stops_requested)
        for pen in pens:
            if pen.story.pk in stops and pen in self._pens:
                self._pens[pen].cancel()

    async def _renew(self, pens: Sequence[Pen]) -> None:
        for pen in await self._in_database(commits.renew_leases, pens):
            if pen in self._pens:
                self._lose(pen)


def _on_usable_connection(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs on the database thread, which keeps its connection until it breaks."""
    try:
        return function(*arguments)
    except DatabaseProblem:
        connection.close()
        raise


def _finished(pen: Pen) -> Ending:
    reason = states.reason_for(pen.finish_reason)
    complete = reason == EndReason.STOP
    return Ending(reason, attempt_state=Attempt.State.COMPLETE if complete else Attempt.State.INTERRUPTED)


def _failed(pen: Pen, error: Exception) -> Ending:
    """What an error means for the story; a cut after text is kept as text."""
    sentence = str(error) if isinstance(error, LLMError) else _sentence_of(error)
    if isinstance(error, TryAgainLater):
        return _refused_for_now(error)
    if isinstance(error, OutOfMoney):
        return Ending(EndReason.QUOTA, sentence, Attempt.State.REFUSED)
    if isinstance(error, Refused):
        return Ending(EndReason.REFUSED, sentence, Attempt.State.REFUSED)
    if pen.has_text:
        return Ending(EndReason.CUT, sentence, Attempt.State.INTERRUPTED)
    return Ending(EndReason.UNKNOWN, sentence, Attempt.State.UNKNOWN)


def _refused_for_now(error: TryAgainLater) -> Ending:
    """A 429 uses up no try, unless the provider would have us wait for longer than any reader does."""
    asked = 5.0 if error.retry_after is None else error.retry_after
    return Ending(
        EndReason.REFUSED,
        str(error),
        Attempt.State.REFUSED,
        retry_in=min(asked, LONGEST_WAIT),
        use_up_try=error.status != TOO_MANY or asked > LONGEST_WAIT,
    )


def _sentence_of(error: Exception) -> str:
    """What a person reads of an error that is not the provider's."""
    if isinstance(error, TimeoutError):
        return "模型服务写得太久，已停止等待。"
    return "本站内部出错，没有再写下去；原因在日志里。"
