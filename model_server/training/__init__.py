"""Fine-tuning jobs: runner.py runs in the server, worker.py trains in a child process."""
