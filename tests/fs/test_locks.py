"""flock(1) and fcntl locks exclude across processes, although every writer's file is another nodeid to the kernel."""

import fcntl
import os
import platform
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lib.mounting import wait_until

LOCK_CALLS = {"x86_64": ("72", "73"), "aarch64": ("25", "32")}[platform.machine()]  # fcntl, flock

HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
{lock}
print("locked", flush=True)
sys.stdin.readline()
os.write(fd, b"holder\\n")
os.close(fd)
"""


@pytest.fixture
def hold(spawn):
    """A process that holds a lock until release(holder): then it writes a line and ends."""
    def start(path, lock):
        holder = spawn(
            [sys.executable, "-c", HOLD.format(lock=lock), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout.readline() == b"locked\n"
        return holder
    return start


def release(holder):
    holder.stdin.write(b"\n")
    holder.stdin.close()
    assert holder.wait(60) == 0
    holder.stdin = None


def writers(path, n=3):
    """Open writers: while there are some, each lookup of the name gives a new nodeid."""
    return [os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(n)]


def test_flock_in_a_shell(topic, sh, hold):
    others = writers(topic / "0")
    holder = hold(topic / "0", "fcntl.flock(fd, fcntl.LOCK_EX)")
    sh("flock -n 0 true", topic, status=1)
    sh("flock -n -s 0 true", topic, status=1)
    release(holder)
    sh("flock -n 0 true", topic)
    for fd in others:
        os.close(fd)


def test_flock_waits(topic, spawn, hold):
    holder = hold(topic / "0", "fcntl.flock(fd, fcntl.LOCK_EX)")
    waiting = [spawn(["flock", topic / "0", "sh", "-c", f"echo {i} >> {topic / '0'}"]) for i in range(3)]
    release(holder)
    assert [process.wait(60) for process in waiting] == [0, 0, 0]
    written = (topic / "0").read_text().split()
    assert written[0] == "holder" and sorted(written[1:]) == ["0", "1", "2"]


def test_flock_guards_a_read_and_a_write(topic, sh):
    """A counter that many processes count up: each value once."""
    sh("echo 0 >> 0; seq 60 | xargs -P 8 -n 1 flock 0 sh -c 'echo $(($(tail -n 1 0) + 1)) >> 0'", topic)
    assert sh("cat 0", topic) == b"".join(b"%d\n" % i for i in range(61))


def test_shared_flocks(topic, sh, hold):
    first, second = (hold(topic / "0", "fcntl.flock(fd, fcntl.LOCK_SH)") for _ in range(2))
    sh("flock -n -s 0 true", topic)
    sh("flock -n 0 true", topic, status=1)
    release(first)
    sh("flock -n 0 true", topic, status=1)
    release(second)
    sh("flock -n 0 true", topic)


def test_record_locks(topic, hold):
    others = writers(topic / "0")
    holder = hold(topic / "0", "fcntl.lockf(fd, fcntl.LOCK_EX, 10, 100)")
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    for start, length, free in (
        (0, 100, True),
        (100, 10, False),
        (109, 1, False),
        (0, 0, False),
        (110, 0, True),
        (50, 51, False),
    ):
        if free:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            fcntl.lockf(fd, fcntl.LOCK_UN, length, start)
        else:
            with pytest.raises(BlockingIOError):
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            with pytest.raises(BlockingIOError):
                fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
    release(holder)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    for other in others:
        os.close(other)


def test_a_record_lock_says_who_has_it(topic, hold):
    holder = hold(topic / "0", "fcntl.lockf(fd, fcntl.LOCK_EX, 10, 100)")
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    flock = "hhxxxxqqixxxx"  # struct flock of 64 bit Linux
    asked = struct.pack(flock, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, start, length, pid = struct.unpack(flock, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    assert (kind, start, length, pid) == (fcntl.F_WRLCK, 100, 10, holder.pid)
    release(holder)
    os.close(fd)


def test_record_locks_wait_and_go_with_the_process(topic, hold, spawn):
    holder = hold(topic / "0", "fcntl.lockf(fd, fcntl.LOCK_EX)")
    waiting = spawn(
        [sys.executable, "-c", HOLD.format(lock="fcntl.lockf(fd, fcntl.LOCK_EX)"), topic / "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    with pytest.raises(BlockingIOError):
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    holder.kill()
    assert waiting.stdout.readline() == b"locked\n"
    with pytest.raises(BlockingIOError):
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    release(waiting)
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(fd)


def test_closing_any_descriptor_drops_a_process_record_locks(topic, hold):
    """As POSIX has it, and as programs have to know."""
    holder = hold(
        topic / "0", "fcntl.lockf(fd, fcntl.LOCK_EX); os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND))"
    )
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    release(holder)


def test_who_waits_for_a_lock_can_be_interrupted(topic, hold, spawn):
    for lock in ("fcntl.flock(fd, fcntl.LOCK_EX)", "fcntl.lockf(fd, fcntl.LOCK_EX)"):
        holder = hold(topic / "0", lock)
        waiting = spawn(
            [sys.executable, "-c", f"print('go', flush=True)\n{HOLD.format(lock=lock)}", topic / "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert waiting.stdout.readline() == b"go\n"
        wait_until(lambda: Path(f"/proc/{waiting.pid}/syscall").read_text().split()[0] in LOCK_CALLS)
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(60) == -signal.SIGTERM
        release(holder)


def test_locks_of_two_partitions_have_nothing_to_do_with_each_other(topic, sh, hold):
    sh("touch 1", topic)
    holder = hold(topic / "0", "fcntl.flock(fd, fcntl.LOCK_EX); fcntl.lockf(fd, fcntl.LOCK_EX)")
    sh("flock -n 1 true", topic)
    release(holder)


def test_a_stop_ends_those_who_wait(mount, topic, hold, spawn):
    holder = hold(topic / "0", "fcntl.flock(fd, fcntl.LOCK_EX)")
    waiting = spawn(["flock", topic / "0", "true"], stderr=subprocess.DEVNULL)
    mount.daemon.signal(signal.SIGTERM)
    mount.ended()
    assert waiting.wait(60) != 0
    holder.kill()
    mount.start()
