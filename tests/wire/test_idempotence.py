"""Idempotent producers while the server is killed: what was acknowledged is there, once, and in order."""

import random
import struct
import subprocess
import threading
import time

import confluent_kafka
import pytest
from kafka import KafkaProducer, errors as kafka_errors

from lib import clients, kafka, raw
from lib.clients import Record
from lib.mounting import wait_until
from lib.raw import Raw, array, batch, data, text
from lib.serving import make_topic

PARTITIONS = 3


class Sender:
    """Sends in a thread, which gets `more`: true until the server has been killed often enough. (The server is killed, and started, by the test's own
    thread: it ends with the one that started it.)"""

    def __init__(self, send):
        self.send = send
        self.busy = True
        self.failed = None
        self.thread = threading.Thread(target=self.run)

    def more(self):
        return self.busy

    def run(self):
        try:
            self.send(self.more)
        except BaseException as e:
            self.failed = e

    def while_killing(self, server, times):
        choose = random.Random(times)
        if not self.thread.is_alive():
            self.thread.start()
        for _ in range(times):
            time.sleep(choose.uniform(0.1, 0.6))     # at any moment
            server.crash()
        self.busy = False
        self.thread.join()
        if self.failed:
            raise self.failed


def lines_of(server, topic, partition):
    return (server.dir / topic / str(partition)).read_bytes().splitlines()


def check(server, topic, acknowledged):
    """acknowledged: {partition: numbers in their order}. All that was sent was acknowledged in the end: so that is what is there."""
    for partition, numbers in acknowledged.items():
        found = [int(line.split()[-1]) for line in lines_of(server, topic, partition)]
        assert len(found) == len(set(found)), f"twice: {sorted(n for n in set(found) if found.count(n) > 1)[:10]}"
        assert set(numbers) <= set(found), "what was acknowledged is lost"
        assert found == sorted(found), "out of order"
        assert found == numbers


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_librdkafka_through_kill_9(server, codec):
    from confluent_kafka import Producer
    make_topic(server, "t", PARTITIONS)
    producer = Producer({"bootstrap.servers": server.bootstrap, "enable.idempotence": True, "compression.type": codec, "linger.ms": 2, "batch.num.messages": 50,
                         "message.timeout.ms": 120_000, "retry.backoff.ms": 50, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "log_level": 0})
    acknowledged = {p: [] for p in range(PARTITIONS)}
    errors = []

    def delivered(error, message):
        if error:
            errors.append(str(error))
        else:
            acknowledged[message.partition()].append(int(message.value().split()[-1]))

    def send(more):
        sent = 0
        while more():
            producer.produce("t", b"message %d" % sent, partition=sent % PARTITIONS, on_delivery=delivered)
            sent += 1
            producer.poll(0.0001 if sent % 100 else 0.01)
        assert producer.flush(60) == 0
        assert not errors, errors[:3]
        assert sum(map(len, acknowledged.values())) == sent
    Sender(send).while_killing(server, 6)
    check(server, "t", acknowledged)
    server.umount()
    kafka.assert_kafka_accepts(server.data)


def through_kill_9(server, client, count):
    """A client that sends all it is given, and ends when all of it is acknowledged."""
    make_topic(server, "t")
    records = [Record(b"key", b"%d" % n, [], 1_750_000_000_000 + n) for n in range(count)]
    sender = Sender(lambda more: client.produce(server.bootstrap, {"t": "lz4"}, records))
    sender.thread.start()
    wait_until(lambda: lines_of(server, "t", 0) or not sender.thread.is_alive(), 60, "it has begun")
    sender.while_killing(server, 4)
    check(server, "t", {0: list(range(count))})


@pytest.mark.long
def test_java_through_kill_9(server, java):
    through_kill_9(server, java(), 300_000)


@pytest.mark.long
def test_franz_go_through_kill_9(server, franz_go):
    through_kill_9(server, franz_go, 300_000)


def test_kafka_python_through_kill_9(server):
    from kafka import KafkaProducer
    make_topic(server, "t")
    producer = KafkaProducer(bootstrap_servers=server.bootstrap, enable_idempotence=True, linger_ms=2, batch_size=2000, delivery_timeout_ms=120_000,
                             reconnect_backoff_ms=50, reconnect_backoff_max_ms=200, retry_backoff_ms=50)
    futures = []

    def send(more):
        while more():
            futures.append(producer.send("t", b"%d" % len(futures), partition=0))
            if len(futures) % 50 == 0:
                time.sleep(0.01)
        producer.flush(60)
    Sender(send).while_killing(server, 4)
    assert all(future.succeeded() for future in futures)
    offsets = [future.get(1).offset for future in futures]
    assert offsets == list(range(len(futures))), "each is where its acknowledgement says"
    check(server, "t", {0: list(range(len(futures)))})
    producer.close()


# By hand: a producer's batches, and what is answered

OUT_OF_ORDER, INVALID_EPOCH, NONE = 45, 47, 0


def produce(peer, topic, records):
    """(error, base offset)"""
    answer = peer.call(raw.PRODUCE, 3, struct.pack(">hhi", -1, -1, 30000) + array([text(topic) + array([struct.pack(">i", 0) + data(records)])]))
    at = 6 + len(topic) + 4 + 4
    return struct.unpack(">hq", answer[at:at + 10])


def producer_id(peer):
    error, number, epoch = struct.unpack(">hqh", peer.call(raw.INIT_PRODUCER_ID, 0, struct.pack(">hi", -1, 60000))[4:16])
    assert error == NONE and epoch == 0
    return number


@pytest.mark.parametrize("between", ["nothing", "umount", "kill"])
def test_a_batch_that_comes_again_has_the_offset_of_the_first(server, between):
    """Within the last five, whatever happened to the server meanwhile; what leaves a gap is refused."""
    make_topic(server, "t")
    with Raw(server.address) as peer:
        me = producer_id(peer)
        for n in range(6):
            assert produce(peer, "t", batch([b"%d" % (2 * n), b"%d" % (2 * n + 1)], me, 0, 2 * n)) == (NONE, 2 * n)
    if between != "nothing":
        getattr(server, between)()
        server.start()
    with Raw(server.address) as peer:
        for n in range(1 if between == "nothing" else 5, 6):
            assert produce(peer, "t", batch([b"%d" % (2 * n), b"%d" % (2 * n + 1)], me, 0, 2 * n)) == (NONE, 2 * n)
        assert produce(peer, "t", batch([b"gap"], me, 0, 13))[0] == OUT_OF_ORDER
        assert produce(peer, "t", batch([b"12"], me, 0, 12)) == (NONE, 12)
        assert produce(peer, "t", batch([b"13"], me, 1, 0)) == (NONE, 13)
        assert produce(peer, "t", batch([b"old epoch"], me, 0, 13))[0] == INVALID_EPOCH
    assert lines_of(server, "t", 0) == [b"%d" % n for n in range(14)]


def test_a_producer_id_is_never_given_twice(server):
    given = []
    for turn in range(6):
        with Raw(server.address) as peer:
            given += [producer_id(peer) for _ in range(10)]
        if turn % 2:
            server.remount()
        else:
            server.crash()
    assert len(set(given)) == len(given) == 60
    server.umount()
    verified = subprocess.run([server.program, "verify", server.data], capture_output=True, text=True)
    assert verified.returncode == 0 and "producer-id-checkpoint" not in verified.stdout, verified.stdout


def test_transactional_producers_are_told_that_there_are_no_transactions(server):
    transactional = confluent_kafka.Producer({"bootstrap.servers": server.bootstrap, "transactional.id": "t", "log_level": 0})
    with pytest.raises(confluent_kafka.KafkaException) as failed:
        transactional.init_transactions(3)
    assert failed.value.args[0].code() == confluent_kafka.KafkaError.UNSUPPORTED_VERSION
    transactional = KafkaProducer(bootstrap_servers=server.bootstrap, transactional_id="t")
    with pytest.raises(kafka_errors.KafkaError, match="UnsupportedVersion"):
        transactional.init_transactions()
    transactional.close()


def test_ids_are_above_those_of_a_kafka_whose_log_it_is(serve, tmp_path):
    """The log of a real Kafka has batches of idempotent producers: none of their ids is given again."""
    recording = kafka.Recording("kafka-4.1", tmp_path)
    server = serve("broker.id=1", data=recording.log_dir)
    logs = [file for file in recording.log_dir.glob("*-*/*.log") if not file.parent.name.startswith("__")]
    used = {int(part) for line in kafka.dump_log_segments(logs, compacted=("compacted",)).splitlines() if line.startswith("baseOffset:")
            for part in [line.split("producerId: ")[1].split()[0]]}
    assert max(used) > 0
    with Raw(server.address) as peer:
        assert producer_id(peer) > max(used)
