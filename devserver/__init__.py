"""The supervisor of `make run`: starts every process the site needs, watches them, ends them all.

plan.py       what to start and where, from the environment and `.env`; writes `run.env`
lock.py       one supervisor per DATA_DIR
services.py   the command lines of the processes
processes.py  one child process, its output, its end
reaper.py     ends the children if the supervisor itself is killed
console.py    one readable log, on the terminal and in DATA_DIR/logs
disk.py       the permissions of the folder, and whether there is room
logfile.py    the log on disk: bounded and rotated; it counts the lines that a full disk does not take
terminal.py   our standard output, written by a thread of its own
readiness.py  whether pages, socket, workers and beat answer
supervisor.py the order of it all
"""
