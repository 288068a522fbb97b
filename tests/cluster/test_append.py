"""Writing through the mount of any host, whoever leads: every line that write(2) has taken is there, once, whole, in its handle's order; what was refused is not."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.history import ACKED, REFUSED, UNKNOWN, History
from lib.lines import make_line
from lib.mounting import wait_until
from test_join import chroot, look, make_topic, state  # noqa: F401: fixtures
from test_read import content, hosts, seen, three  # noqa: F401: fixtures

EXCUSES = ("waits: ", "is written here for broker", "an append", "a write was answered with EIO", "cannot append to", "gathered lines wait", "controller", "fetching from", "it was cut", "were torn and are cut")


def excuse(*some):
    """Leaders are killed: what hosts say of that is no fault."""
    for host in some:
        for text in EXCUSES:
            host.expect(text)


def append(host, text, topic="t", partition=0):
    fd = os.open(host.dir / topic / str(partition), os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, text) == len(text)
    finally:
        os.close(fd)


def leads(look, number, topic="t", partition=0):  # noqa: F811
    return wait_until(lambda: (now := state(look, topic, partition)) and now["leader"] == number, 90, f"{number} leads")


class Writer(threading.Thread):
    """One handle that writes numbered lines, and what write(2) said of each."""

    def __init__(self, host, name, history, topic="t", partition=0, count=None, size=100):
        super().__init__(daemon=True)
        self.path, self.name, self.history, self.topic, self.size = host.dir / topic / str(partition), name, history, f"{topic}/{partition}", size
        self.count, self.number, self.ended, self.failure = count, 0, threading.Event(), None
        self.outcomes = {ACKED: 0, REFUSED: 0, UNKNOWN: 0}

    def run(self):
        fd = None
        try:
            while not self.ended.is_set() and (self.count is None or self.number < self.count):
                if fd is None:
                    fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
                line = make_line(self.name, self.number, self.size)
                try:
                    assert os.write(fd, line) == len(line)
                    outcome = ACKED
                except OSError as error:
                    assert error.errno in (errno.EIO, errno.EROFS, errno.EINTR), error
                    outcome = UNKNOWN if error.errno == errno.EIO else REFUSED
                    os.close(fd)
                    fd = None
                self.history.wrote(self.topic, self.name, self.number, outcome)
                self.outcomes[outcome] += 1
                self.number += 1 if outcome != REFUSED else 0
        except BaseException as failure:
            self.failure = failure
        finally:
            if fd is not None:
                os.close(fd)

    def end(self):
        self.ended.set()
        self.join(90)
        assert not self.is_alive() and not self.failure, (self.name, self.failure)


def judge(history, some, topic="t", partition=0):
    """Once all have the same."""
    files = [host.dir / topic / str(partition) for host in some]
    wait_until(lambda: len({file.stat().st_size for file in files}) == 1, 90, "one size")
    for host, file in zip(some, files):
        history.ended(f"{topic}/{partition}", f"host-{host.number}", 0, file.read_bytes())
    assert not history.faults()


def test_echo_appends_on_every_host_whoever_leads(three, look, make_topic, sh):  # noqa: F811
    make_topic("t", [1, 2])
    for host in three.values():
        seen(host)
    for host in three.values():
        assert sh(f"echo from {host.number} >> 0; tail -n 1 0", host.dir / "t") == b"from %d\n" % host.number
    for host in three.values():
        wait_until(lambda: content(host) == b"from 1\nfrom 2\nfrom 3\n", 60, f"all of it on {host.number}")


@pytest.mark.parametrize("acks", ["1", "all"])
def test_a_leader_that_is_killed_costs_no_line(hosts, look, make_topic, acks):  # noqa: F811
    """Writers on a host that follows and on one that has no replica."""
    some = {number: hosts(number, f"acks={acks}") for number in (1, 2, 3)}
    excuse(*some.values())
    make_topic("t", [3, 1])
    for host in some.values():
        seen(host)
    history = History()
    writers = [Writer(some[n], f"h{n}-{k}", history) for n in (1, 2) for k in (0, 1)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.outcomes[ACKED] > 20 for writer in writers), 60, "lines")
    if acks == "1":     # what its leader alone has is lost with it: then it is told of no loss
        some[3].umount()
    else:
        some[3].kill()
    leads(look, 1)
    before = [writer.outcomes[ACKED] for writer in writers]
    wait_until(lambda: all(writer.outcomes[ACKED] > was + 20 for writer, was in zip(writers, before)), 60, "more lines")
    some[3].start()
    for writer in writers:
        writer.end()
    assert all(writer.outcomes[UNKNOWN] == writer.outcomes[REFUSED] == 0 for writer in writers), [writer.outcomes for writer in writers]
    judge(history, list(some.values()))
