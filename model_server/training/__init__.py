"""Fine-tune jobs: runner.py watches in the server, worker.py trains in a child process."""
