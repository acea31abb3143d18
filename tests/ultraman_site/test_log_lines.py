"""An event in the log of the site is one line, bounded, whatever stands in it."""

import logging
import logging.config
import subprocess
import sys

import pytest
from django.conf import settings

from tests.environment import BASE_DIR, clean_environment
from ultraman_site.log_lines import MAX_CHARACTERS, MAX_TRACE_LINES, TRACE_MARK, LineFormatter

FAKE = "no\n2026-01-01 00:00:00,000 INFO django: all is well"


def format(message: str, *, error: Exception | None = None) -> list[str]:
    given = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("stories", logging.WARNING, __file__, 1, "%s", (message,), given)
    return LineFormatter(settings.LOGGING["formatters"]["plain"]["format"]).format(record).split("\n")


def test_a_message_cannot_make_up_an_event() -> None:
    (line,) = format(FAKE)
    assert line.endswith("WARNING stories: no\\n2026-01-01 00:00:00,000 INFO django: all is well")


def test_a_giant_message_is_cut() -> None:
    (line,) = format("x" * 1_000_000)
    assert len(line) < MAX_CHARACTERS + 100
    assert line.endswith("more characters cut]")


def test_a_traceback_is_marked_and_bounded() -> None:
    def deep(levels: int) -> None:
        if levels:
            return deep(levels - 1) if levels % 2 else _other(levels)
        raise ValueError(FAKE + "y" * 1_000_000)

    def _other(levels: int) -> None:
        deep(levels - 1)

    with pytest.raises(ValueError, match="all is well") as caught:
        deep(100)
    lines = format("failed", error=caught.value)
    assert len(lines) <= MAX_TRACE_LINES + 2
    assert all(line.startswith(TRACE_MARK) for line in lines[1:])
    assert max(map(len, lines)) < MAX_CHARACTERS + 100
    assert any("all is well" in line for line in lines)


@pytest.mark.parametrize(
    "name", ["stories", "django.request", "uvicorn.error", "celery.worker", "py.warnings"]
)
def test_every_logger_of_the_site_writes_so(name: str) -> None:
    """As uvicorn does it: its own configuration first, then the site's settings."""
    code = (
        "import logging, logging.config, uvicorn.config, django\n"
        "logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)\n"
        "django.setup()\n"
        f"logging.getLogger({name!r}).error({FAKE!r})"
    )
    env = clean_environment() | {
        "READ_ENV_FILES": "0",
        "SECRET_KEY": "x",
        "DJANGO_SETTINGS_MODULE": "ultraman_site.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "all is well" in line]
    assert line.endswith(f"ERROR {name}: no\\n2026-01-01 00:00:00,000 INFO django: all is well")
