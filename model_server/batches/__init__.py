"""Batches: many requests in one file; runner.py runs in the server, worker.py answers in a child process."""
