"""Partitions read on every host, whoever has them: the same bytes at the same positions on the leader, on a follower and where there is no replica."""

import os
import signal
import subprocess
import threading
import time

import confluent_kafka
import pytest

from lib.ask import Ask
from lib.joined import state
from lib.mounting import wait_until


@pytest.fixture
def hosts(mounted):
    """hosts(1) -> a Mount that is broker 1 of the cluster."""
    def make(number, *options):
        made = mounted(number, *options, name=str(number))
        made.number = number
        return made
    return make


@pytest.fixture
def three(hosts):
    """Brokers 1, 2, 3."""
    return {number: hosts(number) for number in (1, 2, 3)}


def seen(host, topic="t", partitions=1):
    return wait_until(lambda: (host.dir / topic).exists() and len(os.listdir(host.dir / topic)) == partitions, 60, f"{topic} on host {host.number}")


def produce(host, lines, topic="t", **properties):
    producer = confluent_kafka.Producer({"bootstrap.servers": host.bootstrap, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 60000} | properties)
    failed = []
    for line in lines:
        producer.produce(topic, line, partition=0, on_delivery=lambda error, message: failed.append(error) if error else None)
        producer.poll(0)
    assert producer.flush(90) == 0 and not failed, failed


def content(host, topic="t"):
    return (host.dir / topic / "0").read_bytes()


def size(host, topic="t"):
    return (host.dir / topic / "0").stat().st_size


def test_every_host_has_the_same_file(three, look, put_topic):
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    assert [size(host) for host in three.values()] == [0, 0, 0]
    lines = [b"line %d" % n for n in range(1000)]
    produce(three[3], lines)
    expected = b"".join(line + b"\n" for line in lines)
    assert content(three[1]) == expected and content(three[3]) == expected
    wait_until(lambda: content(three[2]) == expected, what="the follower")
    assert size(three[1]) == size(three[3]) == len(expected)
    with open(three[3].dir / "t/0", "rb") as there:
        for at in list(range(0, 200)) + list(range(len(expected) - 50, len(expected) + 3)):
            assert os.pread(there.fileno(), 37, at) == expected[at:at + 37]
    assert (three[3].dir / "t/0@earliest").read_bytes() == expected


def test_what_is_appended_on_a_host_is_read_there_at_once(three, put_topic, sh):
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    expected = b""
    for n in range(12):
        host = three[n % 3 + 1]
        line = b"line %d\n" % n
        assert sh(f"echo line {n} >> t/0; tail -n 1 t/0", host.dir) == line
        expected += line
    for host in three.values():
        wait_until(lambda: content(host) == expected, what=f"all of it on host {host.number}")


# ---- while leaders are killed ----


class Writer(threading.Thread):
    """Appends numbered lines to t/0 with acks=all until it is stopped; all of them are acknowledged in the end, in order, once."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.producer = confluent_kafka.Producer({"bootstrap.servers": ",".join(host.bootstrap for host in hosts), "acks": "all", "enable.idempotence": True, "linger.ms": 2,
                                                  "message.timeout.ms": 120000, "retry.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 1000})
        self.sent = 0
        self.acknowledged = 0
        self.failed = []
        self.halt = threading.Event()

    def done(self, error, message):
        if error:
            self.failed.append(error)
        else:
            self.acknowledged += 1

    def run(self):
        while not self.halt.is_set():
            self.producer.produce("t", b"line %d %s" % (self.sent, b"x" * (self.sent % 200)), partition=0, on_delivery=self.done)
            self.sent += 1
            self.producer.poll(0)
            time.sleep(0.001)

    def finish(self):
        self.halt.set()
        self.join()
        assert self.producer.flush(120) == 0 and not self.failed, self.failed
        return b"".join(b"line %d %s\n" % (n, b"x" * (n % 200)) for n in range(self.sent))


class Tail:
    """tail -f of t/0 on a host. When the host is killed it is begun anew, where it was."""

    def __init__(self, host, spawn):
        self.host, self.spawn = host, spawn
        self.got = b""
        self.begin()

    def begin(self):
        self.begun = len(self.got)
        self.process = self.spawn(["tail", "-c", f"+{len(self.got) + 1}", "-s", "0.05", "-f", self.host.dir / "t/0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.thread = threading.Thread(target=self.collect, args=(self.process.stdout,), daemon=True)
        self.thread.start()

    def collect(self, pipe):
        while some := os.read(pipe.fileno(), 1 << 16):
            self.got += some

    def end(self):
        self.process.kill()
        self.thread.join()


@pytest.mark.timeout(400)
def test_tails_go_on_on_every_host_while_leaders_are_killed(three, look, put_topic, spawn):
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    writer = Writer(three.values())
    writer.start()
    tails = {number: Tail(host, spawn) for number, host in three.items()}
    sizes, snapshots = {number: 0 for number in three}, []
    for killed in (1, 2):
        wait_until(lambda: state(look, "t")["leader"] == killed and sorted(state(look, "t")["isr"]) == [1, 2], 90, f"broker {killed} leads")
        before = writer.acknowledged
        wait_until(lambda: writer.acknowledged > before + 200, 60, "something is written")
        three[killed].kill()
        tails[killed].end()
        three[killed].expect("Transport endpoint")
        wait_until(lambda: state(look, "t")["leader"] == 3 - killed, 60, "another leader")
        before = writer.acknowledged
        wait_until(lambda: writer.acknowledged > before + 200, 60, "something is written there")
        for number, host in three.items():
            if number != killed:
                sizes[number], had = size(host), sizes[number]
                assert sizes[number] >= had
                snapshots.append((number, content(host)))
                assert len(snapshots[-1][1]) >= sizes[number]
        three[killed].start()
        tails[killed].begin()
    wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 2], 90, "all are in sync")
    expected = writer.finish()
    assert all(expected.startswith(some) for _, some in snapshots)
    for number, tail in tails.items():
        wait_until(lambda: len(tail.got) >= len(expected), 60, f"the tail on host {number} has all: {len(tail.got)} of {len(expected)}")
        tail.end()
        parted = next((i for i, (a, b) in enumerate(zip(tail.got, expected)) if a != b), min(len(tail.got), len(expected)))
        assert tail.got == expected, f"host {number}: from {parted} on {tail.got[parted - 300:parted + 300]} and not {expected[parted - 300:parted + 300]}; begun at {tail.begun}"
        assert content(three[number]) == expected and size(three[number]) == len(expected)


# ---- what is in it ----


@pytest.mark.parametrize("codec", ["zstd", "lz4", "gzip", "snappy", "none"])
def test_a_file_that_is_elsewhere_is_read_at_every_position_whatever_its_batches_are(hosts, look, put_topic, codec):
    one, two = hosts(1), hosts(2)
    put_topic("t", [[1]])
    seen(two)
    lines = [b"%d %s" % (n, b"abc" * (n % 50)) for n in range(3000)] + [b"y" * 300000, b"", b"z" * 1000]
    produce(one, lines, **{"compression.type": codec, "linger.ms": 20})
    expected = b"".join(line + b"\n" for line in lines)
    assert content(one) == expected
    assert size(two) == len(expected) and content(two) == expected
    with open(two.dir / "t/0", "rb") as there:
        for at in range(0, len(expected), 4999):
            assert os.pread(there.fileno(), 7000, at) == expected[at:at + 7000]
    assert subprocess.run(["tail", "-n", "2", two.dir / "t/0"], capture_output=True).stdout == b"\n" + b"z" * 1000 + b"\n"


def test_view_lookup_says_where_every_position_is(hosts, look, put_topic):
    one = hosts(1)
    put_topic("t", [[1]])
    seen(one)
    lines = [b"x" * (n % 7) for n in range(120)]
    produce(one, lines, **{"linger.ms": 50, "compression.type": "zstd"})
    topic_id = None
    with Ask(one.bootstrap) as ask:
        topic_id = ask("Metadata", topics=[{"name": "t"}], allow_auto_topic_creation=False)["topics"][0]["topic_id"]

        def lookup(**what):
            asked = {"partition": 0, "current_leader_epoch": -1, "offset": -1, "position": -1} | what
            return ask("ViewLookup", topics=[{"topic_id": topic_id, "partitions": [asked]}])["topics"][0]["partitions"][0]
        position = 0
        for offset, line in enumerate(lines):
            assert lookup(offset=offset)["position"] == position
            for at in range(position, position + len(line) + 1):
                answer = lookup(position=at)
                assert (answer["error_code"], answer["offset"], answer["position"]) == (0, offset, position)
            position += len(line) + 1
        end = lookup()
        assert (end["end_offset"], end["end_position"], end["start_offset"], end["start_position"]) == (len(lines), position, 0, 0)
        assert end["leads"] and end["settled"] and not end["sequential"] and end["bytes"] > 0 and end["mtime_ms"] > 0
        assert lookup(position=position)["offset"] == len(lines) and lookup(offset=len(lines))["position"] == position
        for wrong in ({"position": position + 1}, {"offset": len(lines) + 1}):
            answer = lookup(**wrong)
            assert answer["error_code"] == 1 and answer["end_position"] == position     # OFFSET_OUT_OF_RANGE, with the ends
        assert lookup(current_leader_epoch=7)["error_code"] == 75                       # UNKNOWN_LEADER_EPOCH
        assert 10000 not in {api["api_key"] for api in ask("ApiVersions", client_software_name="a", client_software_version="1")["api_keys"]}


# ---- the file's ends ----


def test_no_host_shows_less_than_before_when_it_is_started_anew(three, look, put_topic):
    """What a follower knows of the high watermark when it is killed is some seconds old on its disk."""
    put_topic("t", [[1, 2, 3]])
    for host in three.values():
        seen(host)
    lines = [b"%d" % n for n in range(5000)]
    expected = b"".join(line + b"\n" for line in lines)
    produce(three[1], lines)
    for number in (3, 2):
        wait_until(lambda: size(three[number]) == len(expected), what="the follower has all")
        three[number].kill()
        three[number].start()
        assert size(three[number]) == len(expected) and content(three[number]) == expected


def delete_before(host, offset):
    with Ask(host.bootstrap) as ask:
        answer = ask("DeleteRecords", timeout_ms=10000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "offset": offset}]}])
    assert answer["topics"][0]["partitions"][0]["error_code"] == 0


def test_the_head_goes_and_positions_stay(three, look, put_topic, sh):
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    lines = [b"message %06d" % n for n in range(4000)]
    whole = b"".join(line + b"\n" for line in lines)
    each = len(lines[0]) + 1
    produce(three[1], lines)
    behind = {number: open(host.dir / "t/0", "rb") for number, host in three.items()}
    for number, file in behind.items():
        wait_until(lambda: size(three[number]) == len(whole), what="all of it")
        assert os.pread(file.fileno(), each, 5 * each) == whole[5 * each:6 * each]
    delete_before(three[1], 1000)
    for number, host in three.items():
        wait_until(lambda: (host.dir / "t/0@earliest").stat().st_size == 3000 * each, what=f"the head is gone on host {number}")
        assert size(host) == len(whole)
        assert (host.dir / "t/0@earliest").read_bytes() == whole[1000 * each:]
        assert sh("cat t/0 | md5sum; tail -n 2 t/0", host.dir) == sh("cat; tail -n 2", stdin=b"") + sh("md5sum", stdin=whole[1000 * each:]) + whole[-2 * each:]
        with pytest.raises(OSError) as error:
            os.pread(behind[number].fileno(), each, 5 * each)
        assert error.value.errno == 116      # ESTALE
        assert os.pread(behind[number].fileno(), each, 2000 * each) == whole[2000 * each:2001 * each]
        host.expect("the messages before position")
        behind[number].close()


def test_a_new_replica_begins_where_its_leaders_log_starts_with_its_positions(three, look, put_topic):
    put_topic("t", [[1]])
    for host in three.values():
        seen(host)
    lines = [b"message %06d" % n for n in range(4000)]
    whole = b"".join(line + b"\n" for line in lines)
    each = len(lines[0]) + 1
    produce(three[1], lines)
    assert size(three[3]) == len(whole)      # so it was shown there, when its replica is made
    delete_before(three[1], 1500)
    reader = open(three[3].dir / "t/0", "rb")
    assert os.pread(reader.fileno(), each, 3000 * each) == whole[3000 * each:3001 * each]
    boss = wait_until(lambda: look("/controller"), what="a controller")["brokerid"]
    with Ask(three[boss].bootstrap) as ask:
        assert ask("AlterPartitionReassignments", timeout_ms=10000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "replicas": [1, 3]}]}])["responses"][0]["partitions"][0]["error_code"] == 0
    wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 3], 60, "the replica is in sync")
    produce(three[1], [b"message %06d" % 4000])
    whole += b"message 004000\n"
    wait_until(lambda: size(three[3]) == len(whole), what="all of it")
    assert (three[3].dir / "t/0@earliest").read_bytes() == whole[1500 * each:]
    assert os.pread(reader.fileno(), 1 << 20, 3000 * each) == whole[3000 * each:]
    reader.close()
    three[1].expect("Transport endpoint")
    three[1].kill()
    wait_until(lambda: state(look, "t")["leader"] == 3, 60, "it leads")
    assert size(three[3]) == len(whole) and (three[3].dir / "t/0@earliest").read_bytes() == whole[1500 * each:]
    assert size(three[2]) == len(whole) and (three[2].dir / "t/0@earliest").read_bytes() == whole[1500 * each:]


def test_a_topic_without_positions_is_read_in_order_where_it_is_not(hosts, look, put_topic):
    one, two = hosts(1, "log.cleanup.policy=compact"), hosts(2)
    put_topic("t", [[1]])
    seen(two)
    producer = confluent_kafka.Producer({"bootstrap.servers": one.bootstrap, "acks": "all"})
    for n in range(2000):
        producer.produce("t", b"value %d" % n, key=b"%d" % (n % 100), partition=0)
    assert producer.flush(60) == 0
    expected = b"".join(b"value %d\n" % n for n in range(2000))
    assert size(two) == 0 and content(two) == expected == content(one)


def test_who_waits_for_a_broker_that_is_away_can_be_killed_and_goes_on_when_it_is_back(hosts, look, put_topic, spawn, tmp_path):
    one, two = hosts(1), hosts(2)
    put_topic("t", [[1]])
    seen(two)
    lines = [os.urandom(500).hex().encode() for _ in range(3000)]
    produce(one, lines)
    expected = b"".join(line + b"\n" for line in lines)
    assert size(two) == len(expected)
    one.expect("Transport endpoint")
    one.kill()
    two.expect("cannot read t/0")
    assert size(two) == len(expected)        # what was known
    waits, more = (spawn(["dd", f"if={two.dir}/t/0", f"of={tmp_path}/{n}", "bs=1M", "status=none"]) for n in (1, 2))
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(2)
    waits.kill()
    waits.wait(20)
    one.start()
    assert more.wait(60) == 0 and (tmp_path / "2").read_bytes() == expected
