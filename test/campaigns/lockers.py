"""Two independent programs on a pool file, nothing of ours.

usage: lockers.py fcntl|flock POOL PREFIX SECONDS SEED

fcntl  takes POSIX record locks over the whole file as the vendor's daemon does: reads all, then appends, changes in place,
       or writes all anew, all under one lock
flock  takes flock(2) alone and appends, as cloud-init does

Each owns the keys that begin with its prefix, looks at all of them each time it has the lock, and prints one line of JSON in the
end: how much it did, what it missed, what it leaves.
"""
import fcntl
import json
import os
import random
import sys
import time

RECORD, KEY = 2560, 512
mode, path, prefix, seconds, seed = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
dice = random.Random(seed)
own = {}
faults = []
done = 0
slowest = 0.0


def records_of(content):
    found = []
    for at in range(0, len(content) - len(content) % RECORD, RECORD):
        key = content[at : at + KEY].split(b"\0")[0].decode()
        value = content[at + KEY : at + RECORD].split(b"\0")[0].decode()
        found.append((key, value))
    return found


def record(key, value):
    return key.encode().ljust(KEY, b"\0") + value.encode().ljust(RECORD - KEY, b"\0")


def look(fd):
    content = os.pread(fd, os.fstat(fd).st_size, 0)
    if len(content) % RECORD:
        faults.append("torn under the lock: %d bytes" % len(content))
    found = records_of(content)
    mine = {key: value for key, value in found if key.startswith(prefix)}
    if mine != own:
        wrong = [key for key in own if mine.get(key) != own[key]] or [key for key in mine if key not in own]
        faults.append("%s: %d wrong, %r is %r" % (mode, len(wrong), wrong[0], mine.get(wrong[0])))
        own.clear()
        own.update(mine)
    return found


def write_all(fd, content):
    os.ftruncate(fd, 0)
    first = len(content) - len(content) % 4096
    for at, part in ((0, content[:first]), (first, content[first:])):
        if part:
            os.pwrite(fd, part, at)


def one_fcntl(fd):
    found = look(fd)
    key = "%s%d" % (prefix, dice.randrange(12))
    value = "%s=%d;" % (key, done) * dice.randrange(1, 60)
    value = value[:1022]
    at = [index for index, (name, _) in enumerate(found) if name == key]
    if not at:
        os.pwrite(fd, record(key, value), len(found) * RECORD)
    elif dice.random() < 0.5:
        os.pwrite(fd, record(key, value), at[0] * RECORD)
    elif dice.random() < 0.5:
        found = [(name, value if name == key else old) for name, old in found]
        write_all(fd, b"".join(record(*pair) for pair in found))
    else:
        del found[at[0]]
        write_all(fd, b"".join(record(*pair) for pair in found))
        del own[key]
        return
    own[key] = value


def one_flock(fd):
    if dice.random() < 0.2:
        look(fd)
    with open(path, "ab") as file:
        for _ in range(dice.randrange(1, 3)):
            key = "%s%d" % (prefix, len(own))
            value = ("%s=%d;" % (key, done) * dice.randrange(1, 60))[:1022]
            file.write(record(key, value))
            own[key] = value


fd = os.open(path, os.O_RDWR)
lock = fcntl.lockf if mode == "fcntl" else fcntl.flock
end = time.monotonic() + seconds
while time.monotonic() < end:
    began = time.monotonic()
    lock(fd, fcntl.LOCK_EX)
    (one_fcntl if mode == "fcntl" else one_flock)(fd)
    lock(fd, fcntl.LOCK_UN)
    slowest = max(slowest, time.monotonic() - began)
    done += 1
    time.sleep(dice.random() * (0.004 if mode == "fcntl" else 0.04))
print(json.dumps({"actions": done, "faults": faults, "own": own, "slowest": [mode, slowest * 1000]}))
