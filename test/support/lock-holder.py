"""Holds a lock on a file as other programs do, until its standard input ends.

usage: lock-holder.py FILE record|flock shared|exclusive [SECONDS [TIMES PAUSE]]
Says "held" when it has it. With SECONDS it lets go after so long; with TIMES it takes it again, as often, with pauses between.
"""
import fcntl
import sys
import time

path, family, mode = sys.argv[1:4]
seconds, times, pause = (sys.argv[4:] + ["0", "1", "0"][len(sys.argv) - 4:])[:3]
file = open(path, "r+b" if mode == "exclusive" else "rb")
take = fcntl.lockf if family == "record" else fcntl.flock
for turn in range(int(times)):
    take(file, fcntl.LOCK_EX if mode == "exclusive" else fcntl.LOCK_SH)
    if turn == 0:
        print("held", flush=True)
    if float(seconds) > 0:
        time.sleep(float(seconds))
    else:
        sys.stdin.read()
    take(file, fcntl.LOCK_UN)
    if float(pause) > 0:
        time.sleep(float(pause))
