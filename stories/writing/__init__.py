"""Writes readers' stories as they stream: one loop per worker process, and nothing shown that isn't committed.

`write()` claims a story and hands a `Pen` to the process's `Desk`; the desk streams all its stories on one
event loop, commits every 100 ms what has arrived (`commits.py`), and only then tells the viewers.
"""

from stories.writing.desk import write
from stories.writing.stopping import request_stop

__all__ = ["request_stop", "write"]
