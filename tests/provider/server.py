"""The suite's own OpenAI-compatible provider: real HTTP, switches for every fault, a ledger of every call.

    provider.text = "从前……"                         what it writes; `pieces` to choose the pieces of a stream
    provider.next(Fault.RATE_LIMIT, retry_after=1)   the next POST meets this fault (then all is well again)
    provider.always(Fault.HANG, path="/v1/files")    every matching call does
    provider.posts("/v1/chat/completions")           what was asked, and when it was answered
    provider.hold_after = 3                          streams wait after three pieces, until provider.release()
    provider.limit = Bucket(600)                     stories above that many a minute meet a 429
    provider.script = lambda call: [b"data: …"]      stories are these bytes (tests/provider/scripts.py)

It runs in a thread of the test process; the SDK, the workers and the site reach it through `base_url`.
Files and fine-tuning jobs: tests/provider/jobs.py; batches: tests/provider/batches.py.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.provider.batches import BATCHES, Batches
from tests.provider.jobs import Jobs
from tests.provider.limits import Limit
from tests.provider.scripts import BREAK, OPEN, Script, media_type
from tests.servers import wait_until

CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
MODERATIONS = "/v1/moderations"  # costs nothing: neither a fault nor `posts` means it unless it is named
TEXT = (
    "宋朝的铸剑师陆远在铁匠铺里打了个盹，醒来时炉火变成了满街的霓虹。怪兽踩着高架桥走来，他举起右手，一道光从掌心射出。"
    "奥特曼与他并肩，一个从天上，一个从地上，把怪兽逼到了海边。天亮的时候，他把那道光打成了一枚小小的铃铛。"
)


class Fault(StrEnum):
    """What can go wrong with one call. Options in brackets."""

    RATE_LIMIT = "429 (retry_after, retry_after_ms: seconds, milliseconds; neither: no header)"
    QUOTA = "429 insufficient_quota"
    REFUSAL = "any status with any body (status, body)"
    BAD_REQUEST = "400 (message, code)"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403 (message)"
    NOT_FOUND = "404 (message)"
    SERVER_ERROR = "500, nothing done"
    HTML = "200 with a page of HTML, nothing done"
    RESET = "the connection is reset, nothing done; in a stream after (after) pieces"
    HANG = "never answers, nothing done"
    DONE_BUT_500 = "does the work, answers 500"
    DONE_BUT_HTML = "does the work, answers HTML"
    DONE_BUT_RESET = "does the work, resets the connection"
    DONE_BUT_HANG = "does the work, never answers"
    GARBAGE = "a stream: an unreadable line after (after) pieces; else: unreadable JSON"
    ERROR_EVENT = "a stream: an error object after (after) pieces"
    NO_FINISH = "a stream that closes cleanly without finish_reason and [DONE]"
    LENGTH = "finish_reason length"
    CONTENT_FILTER = "finish_reason content_filter"
    STALL = "a stream: silence after (after) pieces, without end"


REFUSALS: dict[Fault, tuple[int, str, str]] = {
    Fault.RATE_LIMIT: (429, "rate_limit_error", "Rate limit reached for requests"),
    Fault.QUOTA: (429, "insufficient_quota", "You exceeded your current quota"),
    Fault.BAD_REQUEST: (400, "invalid_request_error", "Invalid value"),
    Fault.UNAUTHORIZED: (401, "invalid_api_key", "Incorrect API key provided"),
    Fault.FORBIDDEN: (403, "permission_error", "You are not allowed to do this"),
    Fault.NOT_FOUND: (404, "model_not_found", "The model does not exist"),
    Fault.SERVER_ERROR: (500, "server_error", "The server had an error"),
    Fault.DONE_BUT_500: (500, "server_error", "The server had an error"),
}
AFTER_WORK = (Fault.DONE_BUT_500, Fault.DONE_BUT_HTML, Fault.DONE_BUT_RESET, Fault.DONE_BUT_HANG)


@dataclass
class Call:
    """One request as it arrived. Times are `time.monotonic()`; `body` is its JSON or its form fields."""

    method: str
    path: str
    body: Any
    key: str
    at: float
    answered_at: float | None = None
    status: int | None = None
    pieces: int = 0
    closed_early_at: float | None = None


@dataclass
class Plan:
    fault: Fault
    path: str
    method: str
    times: float
    options: dict[str, Any]

    def meets(self, method: str, path: str) -> bool:
        meant = path.startswith(self.path) and (self.path or path != MODERATIONS)
        return bool(self.times > 0 and method == self.method and meant)


@dataclass
class Provider:
    """See the module. Everything may be set between two calls; `reset()` sets it all back."""

    text: str = TEXT
    pieces: list[str] | None = None
    delay: float = 0.0
    answer_after: float = 0.0
    limit: Limit | None = None
    hold_after: int | None = None
    models: set[str] | None = None
    alter: Callable[[Call, dict[str, Any]], Any] | None = None
    """What becomes of each event of a stream and of each whole answer: another object, or bytes as they are."""
    refuse: Callable[[Call], tuple[int, Any] | None] | None = None
    """A status and a body instead of an answer, by what a call asks; None for a call that is answered as usual."""
    script: Script | None = None
    flagged: set[str] | None = field(
        default_factory=set
    )  # words moderation flags; None: there is no such page
    calls: list[Call] = field(default_factory=list)
    jobs: Jobs = field(default_factory=Jobs)
    batches: Batches = field(init=False)
    base_url: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.batches = Batches(self.jobs)
        self._plans: list[Plan] = []
        self._round = 0

    # --- what a test says

    def next(
        self, fault: Fault, *, path: str = "", method: str = "POST", times: int = 1, **options: Any
    ) -> None:
        """The next `times` matching calls meet the fault; several `next` are met in their order."""
        with self._lock:
            self._plans.append(Plan(fault, path, method, times, options))

    def always(self, fault: Fault, *, path: str = "", method: str = "POST", **options: Any) -> None:
        """Every matching call meets the fault, until `well()`."""
        with self._lock:
            self._plans.append(Plan(fault, path, method, float("inf"), options))

    def well(self) -> None:
        """No more faults."""
        with self._lock:
            self._plans.clear()

    def release(self) -> None:
        """Held streams go on."""
        self.hold_after = None

    def reset(self) -> None:
        """As new; calls that hang or are held are let go."""
        self.well()
        self._round += 1
        fresh = Provider()
        switches = ("text", "pieces", "delay", "answer_after", "limit", "hold_after", "models", "flagged")
        for name in (*switches, "alter", "refuse", "script", "calls", "jobs", "batches"):
            setattr(self, name, getattr(fresh, name))

    def posts(self, path: str = "") -> list[Call]:
        """The POSTs to a path that starts so, in the order of their arrival."""
        posts = [call for call in list(self.calls) if call.method == "POST" and call.path.startswith(path)]
        return posts if path else [call for call in posts if call.path != MODERATIONS]

    def gets(self, path: str = "") -> list[Call]:
        return [call for call in list(self.calls) if call.method == "GET" and call.path.startswith(path)]

    # --- how it runs

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves on a free port for the length of the block."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            config = uvicorn.Config(
                self._app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            wait_until(lambda: server.started, every=0.01, what="the provider has started")
            yield
            self.reset()
            server.should_exit = True
            thread.join(10)

    @property
    def _app(self) -> Any:
        methods = ["GET", "POST", "DELETE"]
        routes = [Route("/{path:path}", self._answer, methods=methods)]
        inner = Starlette(routes=routes)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            # uvicorn's cycle owns the connection: the only way to a real reset.
            scope["transport"] = receive.__self__.transport
            await inner(scope, receive, send)

        return app

    async def _answer(self, request: Request) -> Response:
        call = Call(
            request.method,
            request.url.path,
            await _read_body(request),
            request.headers.get("authorization", "").removeprefix("Bearer "),
            time.monotonic(),
        )
        self.calls.append(call)
        plan = self._take_plan(call)
        try:
            response = await self._respond(request, call, plan)
            call.status = response.status_code
            return response
        finally:
            call.answered_at = time.monotonic()

    def _take_plan(self, call: Call) -> Plan | None:
        with self._lock:
            for plan in self._plans:
                if plan.meets(call.method, call.path):
                    plan.times -= 1
                    return plan
        return None

    async def _respond(self, request: Request, call: Call, plan: Plan | None) -> Response:
        if plan and (early := await self._fail(request, plan)):
            return early
        if self.limit and call.path in (CHAT, COMPLETIONS):
            return await self._write_within(self.limit, request, call, plan)
        return await self._work(request, call, plan)

    async def _write_within(self, limit: Limit, request: Request, call: Call, plan: Plan | None) -> Response:
        wait = limit.take()
        headers = limit.describe(wait)
        if wait:
            status, code, _message = REFUSALS[Fault.RATE_LIMIT]
            return error(status, code, limit.words, headers)
        try:
            response = await self._work(request, call, plan)
        finally:
            limit.release()
        response.headers.update(headers)
        return response

    async def _work(self, request: Request, call: Call, plan: Plan | None) -> Response:
        await asyncio.sleep(self.answer_after)
        if call.path == MODERATIONS and self.flagged is not None:
            response = self._moderate(call.body["input"], self.flagged)
        elif call.path in (CHAT, COMPLETIONS):
            response = self._write(request, call, plan)
        elif call.path.startswith(BATCHES):
            response = self.batches.answer(call.method, call.path, call.body)
        elif call.path.startswith(MODELS + "/"):
            response = self._show_model(call.path.removeprefix(MODELS + "/"))
        else:
            response = self.jobs.answer(call.method, call.path, call.body, dict(request.query_params))
        if plan and plan.fault in AFTER_WORK:
            return await self._spoil(request, plan)
        return response

    async def _fail(self, request: Request, plan: Plan) -> Response | None:
        """The answer of a fault that comes before any work; None for the others."""
        streams = isinstance(request.scope.get("body"), dict) and request.scope["body"].get("stream")
        if plan.fault in AFTER_WORK:
            return None
        if plan.fault in REFUSALS:
            return _refusal(plan)
        if plan.fault == Fault.REFUSAL:
            options = plan.options
            return Response(options["body"], options["status"], media_type="application/json")
        if plan.fault == Fault.HTML:
            return HTMLResponse("<html><body>It works!</body></html>")
        if plan.fault == Fault.HANG:
            await self._hang(request)
            return _reset(request)
        if plan.fault == Fault.RESET and not streams:
            return _reset(request)
        if plan.fault == Fault.GARBAGE and not streams:
            return Response("{not json", media_type="application/json")
        return None

    async def _spoil(self, request: Request, plan: Plan) -> Response:
        if plan.fault == Fault.DONE_BUT_500:
            return _refusal(plan)
        if plan.fault == Fault.DONE_BUT_HTML:
            return HTMLResponse("<html><body>Bad gateway</body></html>")
        if plan.fault == Fault.DONE_BUT_HANG:
            await self._hang(request)
        return _reset(request)

    async def _hang(self, request: Request) -> None:
        mine = self._round
        while mine == self._round and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    # --- writing

    def _show_model(self, name: str) -> Response:
        if self.models is not None and name not in self.models:
            return _unknown_model(name)
        return JSONResponse({"id": name, "object": "model", "created": 0, "owned_by": "tests"})

    def _moderate(self, text: str, flagged: set[str]) -> Response:
        found = any(word in text for word in flagged)
        judged = {"flagged": found, "categories": {"violence": found}, "category_scores": {"violence": 0.5}}
        return JSONResponse({"id": "modr-1", "model": "tests", "results": [judged]})

    def _write(self, request: Request, call: Call, plan: Plan | None) -> Response:
        if self.models is not None and call.body.get("model") not in self.models:
            return _unknown_model(call.body.get("model"))
        if self.refuse and (said := self.refuse(call)) is not None:
            return JSONResponse(said[1], status_code=said[0])
        if self.script and (parts := self.script(call)) is not None:
            return StreamingResponse(self._play(request, call, parts), media_type=media_type(call))
        finish = {Fault.LENGTH: "length", Fault.CONTENT_FILTER: "content_filter"}.get(
            plan.fault if plan else Fault.HANG, "stop"
        )
        if call.body.get("stream"):
            events = self._events(request, call, plan, finish)
            return StreamingResponse(events, media_type="text/event-stream")
        chat = call.path == CHAT
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": self.text}} if chat else {"text": self.text}
        body = _frame(call, "chat.completion" if chat else "text_completion")
        whole = self._altered(call, body | {"choices": [choice], "usage": usage(call.body, self.text)})
        return Response(
            whole if isinstance(whole, bytes) else json.dumps(whole), media_type="application/json"
        )

    async def _play(self, request: Request, call: Call, parts: Iterable[Any]) -> AsyncIterator[bytes]:
        """What the script says, each part in a write of its own."""
        try:
            for part in parts:
                if part is OPEN:
                    await self._hang(request)
                    call.closed_early_at = time.monotonic()
                elif part is BREAK:
                    await asyncio.sleep(0.05)  # what was written before must leave first: a reset drops it
                    _reset(request)
                else:
                    yield part
        except (asyncio.CancelledError, GeneratorExit):
            call.closed_early_at = time.monotonic()
            raise

    def _altered(self, call: Call, event: dict[str, Any]) -> Any:
        return self.alter(call, event) if self.alter else event

    async def _events(
        self, request: Request, call: Call, plan: Plan | None, finish: str
    ) -> AsyncIterator[bytes]:
        frame = _frame(call, "chat.completion.chunk" if call.path == CHAT else "text_completion")
        fault, after = (plan.fault, plan.options.get("after", 2)) if plan else (None, -1)
        try:
            if call.path == CHAT:
                yield self._event(frame, call, {"role": "assistant", "content": ""})
            for number, piece in enumerate(self.pieces or split(self.text)):
                if number == after and fault in BROKEN:
                    async for line in self._break(request, fault):
                        yield line
                    return
                await self._pause(request, number)
                yield self._event(frame, call, {"content": piece})
                call.pieces += 1
            if fault != Fault.NO_FINISH:
                yield self._event(frame, call, {}, finish=finish)
                total = usage(call.body, "".join(self.pieces or [self.text]))
                yield self._line(call, frame | {"choices": [], "usage": total})
                yield b"data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            call.closed_early_at = time.monotonic()
            raise

    def _event(
        self, frame: dict[str, Any], call: Call, delta: dict[str, str], *, finish: str | None = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"delta": delta} if call.path == CHAT else {"text": delta.get("content", "")}
        return self._line(call, frame | {"choices": [choice], "usage": None})

    def _line(self, call: Call, event: dict[str, Any]) -> bytes:
        altered = self._altered(call, event)
        return b"data: " + altered + b"\n\n" if isinstance(altered, bytes) else _line(altered)

    async def _break(self, request: Request, fault: Fault | None) -> AsyncIterator[bytes]:
        if fault == Fault.GARBAGE:
            yield b"data: {not json\n\n"
        elif fault == Fault.ERROR_EVENT:
            yield _line({"error": {"message": "The model is overloaded", "type": "server_error"}})
        elif fault == Fault.STALL:
            await self._hang(request)
        else:
            await asyncio.sleep(0.05)  # what was written before must leave first: a reset drops it
            _reset(request)

    async def _pause(self, request: Request, number: int) -> None:
        await asyncio.sleep(self.delay if number else 0)
        mine = self._round
        while self._holds(number) and mine == self._round:  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.01)

    def _holds(self, number: int) -> bool:
        return self.hold_after is not None and number >= self.hold_after


BROKEN = (Fault.GARBAGE, Fault.ERROR_EVENT, Fault.STALL, Fault.RESET)


async def _read_body(request: Request) -> Any:
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form() as form:
            upload: Any = form.get("file")
            body = {name: value for name, value in form.items() if name != "file"}
            return body | {"filename": upload.filename, "bytes": await upload.read()}
    raw = await request.body()
    body = json.loads(raw) if raw else {}
    request.scope["body"] = body
    return body


def split(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def usage(body: dict[str, Any], text: str) -> dict[str, int]:
    """One token per character: a test can count on its fingers."""
    asked = body.get("prompt") or "".join(message["content"] for message in body.get("messages", []))
    numbers = {"prompt_tokens": len(asked), "completion_tokens": len(text)}
    return numbers | {"total_tokens": len(asked) + len(text)}


def error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {"error": {"message": message, "type": code, "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def _unknown_model(name: object) -> Response:
    return error(404, "model_not_found", f"The model `{name}` does not exist")


def _refusal(plan: Plan) -> Response:
    status, code, message = REFUSALS[plan.fault]
    names = {"retry_after": "retry-after", "retry_after_ms": "retry-after-ms"}
    headers = {names[name]: str(value) for name, value in plan.options.items() if name in names}
    return error(status, plan.options.get("code", code), plan.options.get("message", message), headers)


def _reset(request: Request) -> Response:
    """Resets the connection (RST); the returned response goes nowhere."""
    transport = request.scope["transport"]
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return Response(status_code=204)


def _frame(call: Call, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": call.body.get("model")}


def _line(event: Any) -> bytes:
    # ASCII escapes: a lone surrogate of a split pair passes as \ud83d, as some providers send it.
    return b"data: " + json.dumps(event).encode() + b"\n\n"
