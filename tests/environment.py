"""The environment of the suite: made before Django loads, the same for every process a test starts.

Nothing of the caller's environment reaches a test: no key, no address, no `.env`, no `var/`. A PostgreSQL
pass names its cluster in TEST_DATABASE_URL. Redis gets a free port here and is started by a fixture, so that
its address never changes while the suite runs; until then every connection is refused, as if Redis were down.
"""

import atexit
import os
import random
import shutil
import socket
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
PORTS = range(10_000, 20_000)  # below those of outgoing connections, and of the copies that tests start
OURS = [
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
    "TRUSTED_PROXIES",
    "DATA_DIR",
    "DATABASE_URL",
    "SQLITE_TIMEOUT",
    "REDIS_URL",
    "FINE_TUNE_BASE_MODEL",
    "DAILY_SPEND_LIMIT_USD",
    "MODEL_SERVER_URL",
    "READER_STORIES_PER_DAY",
    "READER_STREAMS",
    "ADDRESS_STORIES_PER_DAY",
    "ADDRESS_SOCKETS",
    "SITE_STORIES_PER_DAY",
    "MODERATION",
    "MODERATION_FAIL_OPEN",
    "QUALITY_SHORTEST",
    "QUALITY_LONGEST",
    "QUALITY_CHINESE_PERCENT",
    "QUALITY_REPEATED_LENGTH",
    "QUALITY_DUPLICATE_SCORE",
    "PORT",
    "SEED",
]


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection borrows before its server takes it."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {PORTS} is free")


def clean_environment() -> dict[str, str]:
    """The caller's environment without any variable of the site."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in OURS and not name.startswith(("OPENAI_", "LLM_", "DJANGO_"))
    }


def _isolate() -> Path:
    """Replaces the site's variables in this process; the new DATA_DIR, deleted at exit."""
    folder = Path(tempfile.mkdtemp(prefix="ultraman-tests-"))
    (folder / "static").mkdir()  # WhiteNoise warns of a STATIC_ROOT that is not there
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings_module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    kept = clean_environment()
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(
        READ_ENV_FILES="0",
        SECRET_KEY="only for the tests, long enough and not secret at all " * 2,
        DATA_DIR=str(folder),
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
    )
    if settings_module:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    if os.environ.get("TEST_DATABASE_URL"):
        os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    return folder


DATA_DIR = _isolate()
