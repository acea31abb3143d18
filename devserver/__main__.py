"""`python -m devserver`: what `make run` starts."""

import argparse
import os
import sys

from devserver.console import Console
from devserver.disk import NO_ROOM, PRIVATE_UMASK, tighten
from devserver.lock import only_one, write_holder
from devserver.plan import CannotStart, make_data_dir, make_plan, write_run_env
from devserver.processes import Reaper
from devserver.supervisor import Supervisor


def main() -> int:
    """Exit code 0 after Ctrl-C or SIGTERM; 1, with one line that says why, when the site cannot run."""
    parser = argparse.ArgumentParser(prog="python -m devserver", description=__doc__)
    parser.add_argument(
        "--end-with-parent", action="store_true", help="end when the process that started this one is gone"
    )
    given = parser.parse_args()
    parent = os.getppid() if given.end_with_parent else None
    os.umask(PRIVATE_UMASK)  # every child inherits it
    try:
        data_dir = make_data_dir()
        with only_one(data_dir) as lock:
            plan = make_plan(data_dir)
            tighten(data_dir)
            write_holder(lock, url=plan.url)
            write_run_env(plan)
            with Console(data_dir / "logs") as console:
                return Supervisor(plan, console, reaper=Reaper(lock), parent=parent).run()
    except CannotStart as reason:
        print(f"make run: {reason}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(
            "make run: 磁盘已满 · the disk is full: make room, then start again", file=sys.stderr, flush=True
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
