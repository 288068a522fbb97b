"""Any bytes on the socket: a clear error of Kafka's, or a closed connection; memory is bounded, and nobody else is disturbed."""

import random
import re
import resource
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import clients, raw
from lib.mounting import wait_until
from lib.raw import Raw, array, batch, data, frame, request, text
from lib.serving import make_topic

UNSUPPORTED_VERSION, UNKNOWN_TOPIC, INVALID_TOPIC = 35, 3, 17
RECORDED = raw.recorded()


@pytest.fixture
def server(server):
    server.expect("connection of 127.0.0.1:")       # closed, and why: told now and then
    server.expect(": the connection is closed: ")
    return server


def works(server):
    """Somebody else is served, on a connection of its own."""
    with Raw(server.address) as other:
        answer = other.call(raw.API_VERSIONS, 0)
        assert struct.unpack(">h", answer[:2]) == (0,)


def rss_kb(server):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.daemon.pid}/status").read_text())[1])


def grown_kb(server, before):
    """A sanitizer keeps much beside each byte: there only what has no bound is found."""
    return (rss_kb(server) - before) // (1 if server.program.parent.name == "plain" else 10)


def metadata(*topics):
    return array(text(topic) for topic in topics)


# One request, wrong in one way

@pytest.mark.parametrize("what", [
    b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    struct.pack(">i", 104857601), frame(b"\0"), frame(b"\0\x12\0\0\0\0\0"), frame(struct.pack(">hhih", 18, 0, 1, 30000)),
    request(99, 0), request(-1, 0), request(0x7fff, 0), request(raw.METADATA, 99), request(raw.METADATA, -1), request(raw.PRODUCE, 2), request(raw.FETCH, 0),
    request(raw.METADATA, 1, struct.pack(">i", 2**31 - 1)), request(raw.METADATA, 1, struct.pack(">i", 1000) + text("t")),
    request(raw.METADATA, 1, struct.pack(">ih", 1, -1)), request(raw.METADATA, 9, b"\xff\xff\xff\xff\x0f", flexible=True),
    request(raw.METADATA, 9, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", flexible=True), request(raw.METADATA, 9, b"\x02\x05ab", flexible=True),
    request(raw.JOIN_GROUP, 0, b""), request(raw.OFFSET_COMMIT, 2, text("g")), request(raw.FETCH, 4, b"\0" * 8),
    frame(raw.header(raw.METADATA, 9) + b"\xff\xff\xff\xff\x0f"),
], ids=lambda what: what[:24].hex())
def test_what_makes_no_sense_closes_the_connection(server, what):
    with Raw(server.address) as peer:
        peer.send(what)
        assert peer.is_closed()
    works(server)


def test_a_version_of_apiversions_that_is_not_known_is_answered_with_those_that_are(server):
    for version in (5, 99, -1, 0x7fff):
        with Raw(server.address) as peer:
            peer.send(request(raw.API_VERSIONS, version, flexible=version >= 3))
            answer = peer.receive()[4:]
            code, count = struct.unpack(">hi", answer[:6])
            assert code == UNSUPPORTED_VERSION and count >= 1
            assert struct.unpack(">h", peer.call(raw.API_VERSIONS, 0)[:2]) == (0,), "the connection goes on"


def test_names_that_cannot_be_are_refused(server):
    with Raw(server.address) as peer:
        for name in (b"", b"..", b"a/b", b"a\0b", b"\xff\xfe\xfd", "ü".encode(), b"x" * 250, b"\xed\xa0\x80"):
            answer = peer.call(raw.METADATA, 1, metadata(name))
            topics = answer[answer.index(b"127.0.0.1") + 9 + 4 + 2 + 4:]
            assert struct.unpack(">ih", topics[:6]) == (1, INVALID_TOPIC), name
    assert list(server.dir.iterdir()) == []


def produce(topic, records, partition=0, acks=1):
    return struct.pack(">hhi", -1, acks, 5000) + array([text(topic) + array([struct.pack(">i", partition) + data(records)])])


def error_of_produce(answer):
    count, n = struct.unpack(">ih", answer[:6])
    return struct.unpack(">iihq", answer[6 + n:6 + n + 18])[2:]


def test_batches_that_are_damaged_are_refused_and_nothing_of_them_is_in_the_log(server):
    make_topic(server, "t")
    good = batch([b"x" * 100])
    with Raw(server.address) as peer:
        assert error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", good))) == (0, 0)
        for at in range(len(good)):
            if at < 8 or 12 <= at < 16:
                continue    # the base offset and the leader epoch are the broker's, and not in the checksum
            damaged = bytearray(good)
            damaged[at] ^= 0x40
            code, offset = error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", bytes(damaged))))
            assert code != 0 and offset == -1, f"byte {at}"
        for cut in (0, 1, 11, 60, 61, len(good) - 1):
            assert error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", good[:cut])))[0] != 0
        assert error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", good, partition=1)))[0] == UNKNOWN_TOPIC
        assert error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", good, partition=-1)))[0] == UNKNOWN_TOPIC
        assert error_of_produce(peer.call(raw.PRODUCE, 3, produce("t", good))) == (0, 1)
    assert (server.dir / "t" / "0").read_bytes() == (b"x" * 100 + b"\n") * 2


# Peers that are slow, or gone, or silent

def test_one_byte_at_a_time_is_answered(server):
    with Raw(server.address) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(raw.METADATA, 1, metadata("t")) + request(raw.API_VERSIONS, 0):
            peer.send(bytes([byte]))
        assert b"t" in peer.receive() and peer.receive()


def test_many_requests_in_one_packet_are_answered_in_their_order(server):
    with Raw(server.address) as peer:
        peer.send(b"".join(request(raw.API_VERSIONS if n % 2 else raw.METADATA, 0, b"" if n % 2 else array([]), correlation=n) for n in range(500)))
        assert [struct.unpack(">i", peer.receive()[:4])[0] for _ in range(500)] == list(range(500))


def test_who_sends_no_more_is_still_answered(server):
    with Raw(server.address) as peer:
        peer.send(request(raw.API_VERSIONS, 0))
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.receive() and peer.is_closed()


@pytest.mark.parametrize("end", ["close", "reset"])
def test_who_goes_in_the_middle_leaves_nothing(server, end):
    make_topic(server, "t")
    whole = request(raw.PRODUCE, 3, produce("t", batch([b"x" * 100])))
    for cut in (1, 3, 4, 5, 20, len(whole) - 1):
        peer = Raw(server.address)
        peer.send(whole[:cut])
        getattr(peer, end)()
    works(server)
    assert (server.dir / "t" / "0").read_bytes() == b""


def fetch(topic, offset=0, wait_ms=0, most=1 << 30):
    return struct.pack(">iiiib", -1, wait_ms, 1, most, 0) + array([text(topic) + array([struct.pack(">iqi", 0, offset, most)])])


@pytest.mark.parametrize("end", ["close", "reset"])
def test_who_goes_while_a_fetch_or_a_join_is_parked_leaves_nothing(server, end):
    make_topic(server, "t")
    join = text("g") + struct.pack(">i", 6000) + text("") + text("consumer") + array([text("range") + data(b"")])
    for _ in range(20):
        waiting = [Raw(server.address) for _ in range(3)]
        for peer, what in zip(waiting, (request(raw.FETCH, 4, fetch("t", wait_ms=60000)), request(raw.JOIN_GROUP, 0, join), request(raw.JOIN_GROUP, 0, join))):
            peer.send(what)
        for peer in waiting:
            getattr(peer, end)()
    works(server)
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"line\n")
    assert clients.Confluent().consume(server.bootstrap, ["t"], 1)["t"][0].value == b"line"


def fill(server, topic, megabytes):
    make_topic(server, topic)
    with open(server.dir / topic / "0", "ab") as file:
        for _ in range(megabytes):
            file.write((b"x" * 1023 + b"\n") * 1024)


def test_who_never_reads_costs_bounded_memory_and_disturbs_nobody(server):
    fill(server, "t", 64)
    works(server)
    before = rss_kb(server)
    lazy = [Raw(server.address, receive_buffer=4096) for _ in range(20)]
    for peer in lazy:
        peer.socket.setblocking(False)
        asked = b"".join(request(raw.FETCH, 4, fetch("t")) + request(raw.METADATA, 1, metadata(*["t"] * 1000)) for _ in range(50))
        while asked and select.select([], [peer.socket], [], 0.2)[1]:
            asked = asked[peer.socket.send(asked):]
    for _ in range(20):
        works(server)
    assert len(clients.Confluent().consume(server.bootstrap, ["t"], 64 * 1024)["t"]) == 64 * 1024
    assert grown_kb(server, before) < len(lazy) * 16 << 10, "16 MB for each, of 3 GB that it asked for"
    for peer in lazy:
        peer.close()
    works(server)


def test_frames_that_never_end_cost_bounded_memory(server):
    """The most that is allowed is announced, and a part of it sent, by many."""
    works(server)
    before = rss_kb(server)
    peers = [Raw(server.address) for _ in range(100)]
    for peer in peers:
        peer.send(struct.pack(">i", 104857600) + raw.header(raw.PRODUCE, 3))
    works(server)
    assert grown_kb(server, before) < 60 << 10, "memory is taken for what has come, not for what is announced"
    for peer in peers:
        peer.close()
    works(server)


def test_counts_that_are_large_and_true_cost_bounded_memory(server):
    works(server)
    before = rss_kb(server)
    names = array([text("")] * 2_000_000)
    with Raw(server.address, timeout_s=60) as peer:
        peer.send(request(raw.DESCRIBE_GROUPS, 0, names))
        peer.receive()
    with Raw(server.address, timeout_s=60) as peer:
        peer.send(request(raw.METADATA, 4, array([text("no such topic")] * 500_000) + b"\0"))
        peer.receive()
    works(server)
    wait_until(lambda: grown_kb(server, before) < 200 << 10, 10, "it is given back")


def open_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 1000)), hard))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_connections(serve, count):
    open_files(count)
    server = serve("socket.listen.backlog.size=10000")    # who does not fit into the queue is asked by its kernel to come again in a second
    make_topic(server, "t")
    with Raw(server.address) as peer:
        peer.call(raw.FETCH, 4, fetch("t"))     # the log is open now, which is not counted
    before = rss_kb(server)
    peers = []
    for n in range(count):
        peers.append(Raw(server.address, timeout_s=60))
        if n % 2:
            peers[-1].send(request(raw.FETCH, 4, fetch("t", wait_ms=3_000_000)))
    for peer in peers[::2]:
        assert peer.call(raw.API_VERSIONS, 0)
    assert grown_kb(server, before) / count < 32, "KiB for each"
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"line\n")
    for peer in peers[1::2]:
        assert b"line" in peer.receive()
    for peer in peers:
        peer.close()
    works(server)


# Noise

def deaf(server, what):
    """Sends it, and hears what comes until it ends or a moment is over: nothing but whole frames."""
    with Raw(server.address, timeout_s=0.05) as peer:
        try:
            peer.send(what)
            peer.socket.shutdown(socket.SHUT_WR)
            while peer.receive() is not None:
                pass
        except (TimeoutError, ConnectionError, BrokenPipeError, OSError):
            pass


def mutate(body, choose):
    body = bytearray(body)
    for _ in range(choose.randrange(1, 4)):
        kind = choose.randrange(5)
        at = choose.randrange(len(body) + 1)
        if kind == 0 and body:
            body[at % len(body)] = choose.randrange(256)
        elif kind == 1:
            body[at:at + 4] = choose.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\0\x0f\xff\xff"])
        elif kind == 2:
            del body[at:]
        elif kind == 3:
            body[at:at] = choose.randbytes(choose.randrange(1, 20))
        else:
            del body[at:at + choose.randrange(1, 20)]
    return bytes(body)


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_requests_of_every_api_and_version_as_they_are_and_damaged(server, rounds):
    """What a real client could send, in every version, with bytes changed, cut and added. Nothing is asked of the answer but that the server lives."""
    make_topic(server, "t")
    choose = random.Random(4)
    for turn in range(rounds):
        for name, key, version, of_header, body in RECORDED:
            deaf(server, request(key, version, mutate(body, choose) if turn else body, flexible=of_header == 2))
    works(server)
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"line\n")
    assert clients.Confluent().consume(server.bootstrap, ["t"], 1)["t"][0].value == b"line"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from(RECORDED))
def test_noise(server, noise, of):
    name, key, version, of_header, body = of
    deaf(server, b"".join(noise))
    deaf(server, b"".join(frame(part) for part in noise))
    deaf(server, b"".join(request(key, version, part, flexible=of_header == 2) for part in noise))
    works(server)


def test_others_go_on_while_one_sends_noise(server):
    make_topic(server, "t")
    choose = random.Random(5)
    over = time.monotonic() + 3
    failed = []

    def attack():
        while time.monotonic() < over:
            name, key, version, of_header, body = choose.choice(RECORDED)
            deaf(server, request(key, version, mutate(body, choose), flexible=of_header == 2))

    def write(n):
        try:
            records = [clients.Record(b"%d" % n, b"%d %d" % (n, i)) for i in range(500)]
            while time.monotonic() < over:
                clients.Confluent().produce(server.bootstrap, {"t": "lz4"}, records)
        except Exception as e:    # told below, in the test's own thread
            failed.append(e)
    threads = [threading.Thread(target=attack) for _ in range(4)] + [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    lines = (server.dir / "t" / "0").read_bytes().splitlines()
    for n in range(2):
        mine = [int(line.split()[1]) for line in lines if line.startswith(b"%d " % n)]
        assert mine and mine == list(range(500)) * (len(mine) // 500)
