"""The stream engine: one event loop per worker process that writes all readers' stories of the process.

A Celery thread hands a story over and waits, holding no connection. One thread does everything that the engine wants
of the database, so that the stories of a process never wait for each other's locks. It claims a story and writes its
attempt, one story at a time; between two claims it commits what has arrived.

The event loop itself touches no database. Each call's pieces go into its session, and one flusher commits the pending
text of all sessions in one transaction: the first text of a call and its end at once, all else every `WINDOW` seconds.
What is committed is then sent to the viewers in one message. That message may be lost; the row is the truth.
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
from llm.errors import LLMError
from llm.rate_limit import Permit, TooSoon, acquire, observe, observe_error, release
from llm.thinking import without_thinking
from stories.errors import OverBudget, UnknownModel
from stories.generation import outcomes, states
from stories.generation.attempts import open_attempt
from stories.generation.connections import AWAY, release_connection
from stories.generation.prompts import ask_for
from stories.generation.streaming import commits
from stories.generation.streaming.session import Session
from stories.language_models import check_endpoint
from stories.live.broker import Publisher
from stories.live.publications import row_changed, text_committed
from stories.models import Story

logger = logging.getLogger(__name__)
WINDOW = 0.1  # seconds between commits
GROUPING = 0.005  # seconds that urgent text waits for that of other stories, to be committed together
MAX_ENDINGS = 20  # in one commit
STOP_CHECK = 0.5  # seconds between two checks for stories to stop
RENEWAL = 5.0  # seconds between renewals of the leases
DEADLINE = 600.0  # seconds that one call may take
STREAMS = 1000  # connections to one endpoint
TURN_SECONDS = 8.0  # that a reader's story waits for the rate limiter; after them it is snoozed
MAX_TOKENS = (
    2600  # that one call may use; the rate limiter counts them until the provider names its own count
)


def write(story: Story) -> None:
    """Waits for the rate limiter, claims the story, streams it and returns when its end is committed.

    Returns at once if there is nothing to claim. Readers' stories come before those of runs.
    """
    if not states.is_due(story) or (permit := _acquire(story)) is None:
        return
    session = None
    try:
        session = engine().write(story)
    finally:
        _observe(permit, session)


def _acquire(story: Story) -> Permit | None:
    release_connection()
    model = story.model
    try:
        return acquire(
            model.base_url,
            model.name,
            tokens=MAX_TOKENS + model.dialect.allowance,
            seconds=TURN_SECONDS,
            urgent=True,
        )
    except TooSoon as error:
        states.snooze(story, seconds=error.seconds)
        return None


def _observe(permit: Permit, session: Session | None) -> None:
    """Tells the limiter what a stream showed: the limits that the provider named, or a 429."""
    if session is None:
        release(permit)
    elif session.error is not None:
        observe_error(permit, session.error)
    else:
        # The provider said at the stream's beginning how much of a limit was left. Seconds later that is outdated.
        observe(permit, rates=replace(session.rates, requests_left=None, tokens_left=None))


def _open(story: Story) -> Session | None:
    """Claims the story and writes the attempt of its call; None if there is nothing (more) to write."""
    if not states.claim(story, lease=commits.LEASE):
        return None
    try:
        check_endpoint(story.model)
        so_far = without_thinking(story.text)
        ask = ask_for(story.model, story.combo, template=story.template, text_so_far=so_far)
        return Session(story=story, attempt=open_attempt(story, ask), ask=ask)
    except (OverBudget, UnknownModel) as error:
        states.conclude(story, outcomes.of_unmade_call(error, for_reader=True), length=story.length)
    except AWAY:
        raise
    except Exception as error:
        logger.exception("story %s cannot be asked for", story.pk)
        states.conclude(story, outcomes.of_internal_error(error), length=story.length)
    return None


@cache
def engine() -> "StreamEngine":
    """The stream engine of this process, started on first use."""
    return StreamEngine()


class StreamEngine:
    """Streams and commits the stories of one process. `write` may be called from any thread."""

    def __init__(self) -> None:
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._clients: dict[Endpoint, clients.AsyncOpenAI] = {}
        self._loop = asyncio.new_event_loop()
        self._work_arrived = asyncio.Event()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="stream-engine-database")
        self._claiming = asyncio.Lock()
        self._publisher = Publisher()
        threading.Thread(target=self._run, name="stream-engine", daemon=True).start()

    def write(self, story: Story) -> Session | None:
        """Claims and streams the story; blocks the calling thread until its end is committed.

        None if there was nothing to write.
        """
        return asyncio.run_coroutine_threadsafe(self._write(story), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
        except Exception:
            # A worker without its flusher would claim stories and never write them, so it must be restarted.
            logger.exception("the stream engine ended, so this worker ends")
            os._exit(1)

    async def _work(self) -> None:
        await asyncio.gather(self._flush_forever(), self._watch_forever(), self._publisher.send_for_ever())

    async def _write(self, story: Story) -> Session | None:
        async with self._claiming:
            session: Session | None = await self._in_database(_open, story)
        self._publisher.publish(row_changed(story.pk))
        if session is not None:
            self._sessions[session] = asyncio.create_task(self._stream(session))
            await session.done.wait()
        return session

    async def _stream(self, session: Session) -> None:
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                client = self._client(session.attempt.language_model.endpoint)
                async for piece in streams.stream(client, session.ask, learn=session.lessons.append):
                    session.receive(piece)
                    if session.has_pending and session.is_urgent:
                        self._work_arrived.set()
        except (LLMError, TimeoutError, asyncio.CancelledError) as error:
            failure = error
        except Exception as error:
            logger.exception("story %s could not be streamed", session.story.pk)
            failure = error
        self._finish(session, failure)
        self._work_arrived.set()

    def _finish(self, session: Session, failure: BaseException | None) -> None:
        try:
            session.finish(failure)
        except Exception as error:
            # Without an outcome the story would be "writing" for as long as this process lives.
            logger.exception("what came of story %s cannot be read", session.story.pk)
            session.outcome = outcomes.of_error(error, for_reader=True, has_text=session.has_text)

    def _client(self, alias: str) -> clients.AsyncOpenAI:
        place = clients.endpoint(alias)
        if place not in self._clients:
            self._clients[place] = clients.async_client(alias, limit=STREAMS)
        return self._clients[place]

    # Any: whatever the function takes and returns.
    async def _in_database(self, function: Any, *arguments: object) -> Any:
        return await self._loop.run_in_executor(self._database, _on_usable_connection, function, *arguments)

    async def _flush_forever(self) -> None:
        due = self._loop.time()  # The next commit of all pending text is due then.
        while True:
            if not self._sessions:
                await self._work_arrived.wait()
            is_due = self._loop.time() >= due
            if is_due:
                due = self._loop.time() + WINDOW
            self._work_arrived.clear()
            pending = [session for session in self._sessions if session.has_pending]
            await self._flush([session for session in pending if is_due or session.is_urgent])
            try:
                async with asyncio.timeout_at(due):
                    await self._work_arrived.wait()
                    await asyncio.sleep(GROUPING)
            except TimeoutError:
                continue

    async def _flush(self, sessions: Sequence[Session]) -> None:
        chunks = [session.pending_chunk() for session in sessions]
        ending = [chunk for chunk in chunks if chunk.outcome]
        for chunk in ending[MAX_ENDINGS:]:
            # Each end takes several statements, so many at once would delay the text of all other stories.
            chunks[chunks.index(chunk)] = replace(chunk, outcome=None)
            self._work_arrived.set()
        if chunks:
            self._apply(await self._in_database(commits.commit, chunks))

    def _apply(self, committed: Sequence[commits.Committed]) -> None:
        for done in committed:
            session = done.chunk.session
            if session.lost:
                continue  # Its lease could not be renewed, while this commit was under way.
            if done.lost:
                self._abandon(session)
                continue
            session.note_committed(done.chunk, offset=done.offset, text=done.text)
            if done.text:
                self._publisher.publish(text_committed(session.story, offset=done.offset, text=done.text))
            if done.chunk.outcome or done.chunk.thought or done.chunk.anew:
                self._publisher.publish(row_changed(session.story.pk))
            if done.chunk.outcome:
                self._sessions.pop(session, None)
                session.done.set()

    def _abandon(self, session: Session) -> None:
        logger.warning("story %s is no longer this worker's; its call is closed", session.story.pk)
        session.lost = True
        self._sessions.pop(session).cancel()
        self._publisher.publish(row_changed(session.story.pk))
        self._loop.create_task(self._settle_lost(session))

    async def _settle_lost(self, session: Session) -> None:
        try:
            await self._in_database(commits.settle_lost, session)
        except Exception as error:
            logger.warning("the call of story %s is left to the sweeper: %s", session.story.pk, error)
        finally:
            session.done.set()

    async def _watch_forever(self) -> None:
        """Stops the stories that people asked to stop, and renews the leases."""
        renewed_at = self._loop.time()
        while True:
            await asyncio.sleep(STOP_CHECK)
            sessions = list(self._sessions)
            if not sessions:
                continue
            try:
                await self._stop_asked(sessions)
                if self._loop.time() - renewed_at >= RENEWAL:
                    renewed_at = self._loop.time()
                    await self._renew(sessions)
            except DatabaseProblem as error:
                logger.warning("leases and stops wait for the database: %s", error)

    async def _stop_asked(self, sessions: Sequence[Session]) -> None:
        stops = await self._in_database(commits.stops_requested)
        for session in sessions:
            if session.story.pk in stops and session in self._sessions:
                self._sessions[session].cancel()

    async def _renew(self, sessions: Sequence[Session]) -> None:
        for session in await self._in_database(commits.renew_leases, sessions):
            if session in self._sessions:
                self._abandon(session)


# Any: whatever the function takes and returns.
def _on_usable_connection(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs on the database thread, which keeps its connection until it breaks."""
    try:
        return function(*arguments)
    except DatabaseProblem:
        connection.close()
        raise
