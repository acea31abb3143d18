"""The application: routes under /v1, the access control in front of them, and the runners of jobs and batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from .batches.runner import BatchRunner
from .batches.store import BatchStore
from .engines.registry import Registry
from .errors import ApiError, on_api_error, on_crash, on_http_exception
from .limits import AccessControl
from .routes import batches, chat, completions, files, jobs, models, moderations
from .settings import Settings
from .streaming import StreamCounter
from .training.runner import TrainingRunner


async def health(request: Request) -> JSONResponse:
    """GET /health: the status, the number of open streams, and the number of jobs that have not ended."""
    unfinished = request.app.state.store.unfinished_jobs()
    return JSONResponse({"status": "ok", "streams": request.app.state.streams.open, "jobs": len(unfinished)})


def create_app(settings: Settings) -> Starlette:
    """The server for `settings`; makes its folders and tables."""
    for folder in (settings.data, settings.files, settings.models):
        folder.mkdir(parents=True, exist_ok=True)
    store = BatchStore(settings.database)
    store.create()
    runner, batch_runner = TrainingRunner(store, settings), BatchRunner(store, settings)
    registry = Registry(store, settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        registry.start()
        try:
            async with runner.running(), batch_runner.running():
                yield
        finally:
            registry.stop()

    v1 = [
        route
        for module in (batches, chat, completions, files, jobs, models, moderations)
        for route in module.routes
    ]
    app = Starlette(
        routes=[Route("/health", health), Mount("/v1", routes=v1)],
        middleware=[
            Middleware(
                AccessControl, api_keys=settings.api_keys, requests_per_minute=settings.requests_per_minute
            )
        ],
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_exception, Exception: on_crash},
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.store = store
    app.state.runner = runner
    app.state.batch_runner = batch_runner
    app.state.registry = registry
    app.state.streams = StreamCounter()
    return app
