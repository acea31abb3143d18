"""Writes readers' stories as they stream: one loop per worker process, and nothing shown that isn't committed.

`write()` claims a story and hands a `Pen` to the process's `Desk`; the desk streams all its stories on one
event loop, commits every 100 ms what has arrived (`commits.py`), and only then tells the viewers.
"""

from stories.generation.stop import request_stop
from stories.generation.streaming.engine import write

__all__ = ["request_stop", "write"]
