"""Produce, where a client's library would not let us see it."""

import struct

from lib import raw

UNKNOWN_TOPIC_OR_PARTITION, REQUEST_TIMED_OUT = 3, 7


def produce(topic, partitions, acks, timeout_ms, *values):
    records = raw.batch(values)
    body = struct.pack(">hhi", -1, acks, timeout_ms) + raw.array([raw.text(topic) + raw.array(struct.pack(">i", p) + raw.data(records) for p in partitions)])
    return raw.request(raw.PRODUCE, 3, body)


def answered(peer):
    """[(partition, error, base offset)]"""
    response = peer.receive()
    at = 4 + 4 + 2 + struct.unpack_from(">h", response, 8)[0]
    n, = struct.unpack_from(">i", response, at)
    return [struct.unpack_from(">ihq", response, at + 4 + i * 22) for i in range(n)]


def test_a_produce_does_not_wait_longer_than_it_says(serve):
    """acks=all waits for the disk: up to the request's timeout_ms. What it is answered then is not lost, and others are not held up."""
    server = serve(faults=True)
    (server.dir / "t").mkdir()
    with raw.Raw(server.address) as peer, raw.Raw(server.address) as patient:
        server.faults.set(f"sync hold path={server.data}/t-0/*.log")
        peer.send(produce("t", [0, 9], -1, 300, b"a\n"))
        assert answered(peer) == [(0, REQUEST_TIMED_OUT, 0), (9, UNKNOWN_TOPIC_OR_PARTITION, -1)]
        patient.send(produce("t", [0], -1, 600_000, b"b\n"))
        peer.send(produce("t", [0], 1, 300, b"c\n"))
        assert answered(peer)[0][1] == 0
        peer.send(produce("t", [0], -1, 0, b"d\n"))
        assert answered(peer)[0][1] == REQUEST_TIMED_OUT
        server.faults.clear()
        assert answered(patient)[0][1] == 0
        peer.send(produce("t", [0], -1, 600_000, b"e\n"))
        assert answered(peer) == [(0, 0, 4)]
