"""The lease of a child; whole children are in routes/test_jobs.py and routes/test_batches.py."""

import errno
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from model_server.child_processes import Lease, LeaseLost, run_child
from model_server.disk import EXIT_DISK_FULL


def test_a_lease_is_lost_when_the_row_is_in_other_hands() -> None:
    lease = Lease(check_seconds=60)
    lease.check(lambda: True)
    with pytest.raises(LeaseLost):
        lease.check(lambda: False)


def test_a_lease_is_lost_when_the_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(check_seconds=60)
    monkeypatch.setattr("os.getppid", lambda: 1_000_000)
    with pytest.raises(LeaseLost):
        lease.check(lambda: True)


def test_a_check_is_due_at_first_and_then_once_in_its_time() -> None:
    lease = Lease(check_seconds=60)
    assert [lease.is_due() for _ in range(3)] == [True, False, False]


@pytest.fixture
def sigint() -> Iterator[None]:
    """Restores the handler that `run_child` changes."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
def test_only_a_full_disk_has_an_exit_code_of_its_own() -> None:
    def fail(told: dict[str, Any]) -> None:
        raise OSError(told["errno"], "x")

    with pytest.raises(SystemExit) as caught:
        run_child([json.dumps({"errno": errno.ENOSPC})], fail)
    assert caught.value.code == EXIT_DISK_FULL
    with pytest.raises(PermissionError):
        run_child([json.dumps({"errno": errno.EACCES})], fail)
