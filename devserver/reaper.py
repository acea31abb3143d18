"""Ends the children if the supervisor dies without having done so (kill -9, out of memory).

A small process of its own, started by path. It reads process group numbers from a pipe: `123` for a start,
`-123` for an end. Only the supervisor holds the other end: when that closes, the groups still listed are
ended. It needs nothing but a pipe and process groups, so it works on Linux and macOS alike. It holds the
lock of DATA_DIR too, so that the next start waits until it is done.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 3.0


def watch() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    end(groups)


def end(groups: set[int]) -> None:
    """SIGTERM to all, SIGKILL to those that are left after the grace."""
    left = {group for group in groups if send(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {group for group in left if send(group, 0)}
    for group in left:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Whether the group still had a process to send to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        return False
    return True


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watch()
