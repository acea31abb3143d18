"""Batches: many requests in one file, answered in a child process (store, runner, worker)."""
