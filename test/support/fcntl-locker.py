"""An independent writer of a pool file: POSIX record locks by fcntl.lockf, nothing of ours.

usage: fcntl-locker.py POOL PREFIX COUNT
Adds COUNT records one by one, each under a write lock over the whole file, and rewrites every third in place.
"""
import fcntl
import os
import struct
import sys

path, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_RDWR)
for i in range(count):
    fcntl.lockf(fd, fcntl.LOCK_EX)
    size = os.fstat(fd).st_size
    if size % 2560:
        sys.exit("torn file under the lock: %d" % size)
    key = b"%s%d" % (prefix.encode(), i)
    os.pwrite(fd, struct.pack("512s2048s", key, b"first"), size)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    if i % 3 == 0:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        for at in range(0, os.fstat(fd).st_size, 2560):
            if os.pread(fd, 512, at).split(b"\0")[0] == key:
                os.pwrite(fd, struct.pack("2048s", b"second"), at + 512)
                break
        else:
            sys.exit("lost update of %r" % key)
        fcntl.lockf(fd, fcntl.LOCK_UN)
