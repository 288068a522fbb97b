"""Fetch, where a client's library would not let us see it."""

import os
import struct

from lib import raw
from lib.mounting import wait_until


def fetch(topic, partition, offset, wait_ms):
    body = struct.pack(">iiiib", -1, wait_ms, 1, 1 << 20, 0) + raw.array([raw.text(topic) + raw.array([struct.pack(">iqi", partition, offset, 65536)])])
    return raw.request(raw.FETCH, 4, body)


def produce(topic, partition, *values):
    records = raw.batch(values)
    return struct.pack(">hhi", -1, -1, 30000) + raw.array([raw.text(topic) + raw.array([struct.pack(">i", partition) + raw.data(records)])])


def has_open(pid, part):
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return any(part in name for name in names)


def test_a_fetch_that_opens_the_log_waits_for_what_it_wants(agent):
    """It was answered at once, and empty, where the log had not been open: every consumer's first after a restart."""
    agent.topic("create", "t", "--partitions", "2")
    address = ("127.0.0.1", agent.port)
    with raw.Raw(address) as peer:
        for partition in range(2):
            peer.call(raw.PRODUCE, 3, produce("t", partition, b"first"))
    agent.restart()
    pid = agent.daemon.pid
    assert not has_open(pid, "/t-0/")
    with raw.Raw(address) as waits, raw.Raw(address) as parked, raw.Raw(address) as peer:
        waits.send(fetch("t", 0, 1, 60000))
        wait_until(lambda: has_open(pid, "/t-0/"), 30, "the log is opened")
        peer.call(raw.PRODUCE, 3, produce("t", 0, b"second"))
        assert b"second" in waits.receive()
        parked.send(fetch("t", 1, 1, 600000))
        wait_until(lambda: has_open(pid, "/t-1/"), 30, "the log is opened")
        agent.stop()    # and one that waits is in nobody's way
