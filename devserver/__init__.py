"""The supervisor of `make run`: starts every process the site needs, watches them, ends them all.

plan.py       what to start and where, from the environment and `.env`; writes `run.env`
lock.py       one supervisor per DATA_DIR
services.py   the command lines of the processes
processes.py  one child process, its output, its end
warden.py     ends the children if the supervisor itself is killed
console.py    one readable log, on the terminal and in DATA_DIR/logs
disk.py       for nobody else to read; whether there is room
logfile.py    the log on disk: bounded, rotated, lines counted that a full disk does not take
terminal.py   our standard output, for which nobody waits
answers.py    whether pages, socket, workers and beat answer
supervisor.py the order of it all
"""
