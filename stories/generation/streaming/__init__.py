"""Writes readers' stories as they stream: one loop per worker process, and nothing shown that isn't committed.

`write()` hands a story to the stream engine of its process (`engine.py`), which claims it and opens a session for it
(`session.py`). The engine streams all its stories on one event loop, commits every 100 ms what has arrived
(`commits.py`, `sql.py`), and only then tells the viewers.
"""

from stories.generation.stop import request_stop
from stories.generation.streaming.engine import write

__all__ = ["request_stop", "write"]
