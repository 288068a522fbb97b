"""One log, two faces: what comes by the mount is in a consumer at once, what comes by the wire is in the file at once."""

import os
import subprocess
import threading
import time

import pytest

from lib import clients
from lib.clients import Record
from lib.mounting import wait_until
from lib.serving import make_topic

AT_ONCE_S = 10      # no expectation: a bound that is far below any time limit of a client (a Fetch that waits would end after its 30)


def consumer(server, topic, **properties):
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
    made = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "unused", "fetch.wait.max.ms": 30000, "socket.timeout.ms": 60000,
                     "topic.metadata.refresh.interval.ms": 500} | properties)
    made.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    return made


def test_a_line_is_in_a_waiting_consumer_at_once(server):
    make_topic(server, "t")
    reader = consumer(server, "t")
    assert reader.poll(1) is None, "it waits at the end"
    for n in range(5):
        with open(server.dir / "t" / "0", "ab") as file:
            file.write(b"line %d\n" % n)
        message = reader.poll(AT_ONCE_S)
        assert (message.value(), message.key(), message.offset()) == (b"line %d" % n, None, n)
    reader.close()


def test_a_message_is_in_the_file_at_once(server):
    from confluent_kafka import Producer
    make_topic(server, "t")
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 0})
    with open(server.dir / "t" / "0", "rb") as file:
        for n in range(5):
            producer.produce("t", b"message %d" % n, partition=0)
            assert producer.flush(30) == 0
            assert file.read() == b"message %d\n" % n
            assert os.stat(server.dir / "t" / "0").st_size == file.tell()


def test_tail_follows_the_wire_and_kcat_the_file(server, spawn):
    make_topic(server, "t")
    tail = spawn(["tail", "-n", "0", "-f", "-s", "0.05", server.dir / "t" / "0"], stdout=subprocess.PIPE)
    kcat = spawn(["kcat", "-b", server.bootstrap, "-C", "-q", "-u", "-t", "t", "-o", "beginning"], stdout=subprocess.PIPE)
    for n in range(3):
        clients.run(["kcat", "-b", server.bootstrap, "-P", "-t", "t", "-p", 0], f"wire {n}\n")
        assert tail.stdout.readline() == b"wire %d\n" % n
        subprocess.run(f"echo file {n} >> {server.dir}/t/0", shell=True, check=True)
        assert kcat.stdout.readline() == b"wire %d\n" % n
        assert kcat.stdout.readline() == b"file %d\n" % n
        assert tail.stdout.readline() == b"file %d\n" % n


def test_a_topic_made_either_way_is_seen_by_both(serve):
    server = serve("num.partitions=3")
    (server.dir / "made-here").mkdir()
    from confluent_kafka import Consumer
    client = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g", "allow.auto.create.topics": True})
    assert sorted(client.list_topics(timeout=30).topics["made-here"].partitions) == [0, 1, 2]
    clients.Confluent().produce(server.bootstrap, {"made-there": "none"}, [Record(None, b"x")])
    assert sorted(path.name for path in (server.dir / "made-there").iterdir()) == ["0", "1", "2"]
    (server.dir / "made-here" / "3").touch()
    assert sorted(client.list_topics(timeout=30).topics["made-here"].partitions) == [0, 1, 2, 3]
    (server.dir / "made-here").rmdir()
    assert "made-here" not in client.list_topics(timeout=30).topics
    client.close()


@pytest.mark.parametrize("codec", clients.CODECS)
def test_positions_go_on_over_batches_of_any_codec(server, codec):
    """Lines between batches: each stands where the file says, null values add nothing, and it is so after a restart, too."""
    make_topic(server, "t")
    file = server.dir / "t" / "0"
    expected = b""
    records = [Record(b"k", b"value %d" % i if i % 10 else None, [], 1_750_000_000_000) for i in range(500)]
    batch = b"".join(r.value + b"\n" for r in records if r.value is not None)
    for n in range(3):
        with open(file, "ab") as out:
            out.write(b"line %d\n" % n)
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": server.bootstrap, "compression.type": codec, "linger.ms": 50})
        for r in records:
            producer.produce("t", r.value, r.key, partition=0)
        assert producer.flush(30) == 0
        expected += b"line %d\n" % n + batch
        assert file.read_bytes() == expected
    server.remount()
    assert file.read_bytes() == expected
    with open(file, "rb") as f:
        at = expected.index(b"line 2\n")
        f.seek(at)
        assert f.read() == expected[at:]


def test_lines_and_messages_written_at_the_same_time_are_one_order(server):
    from confluent_kafka import Producer
    make_topic(server, "t")
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 1})

    def write_lines():
        with open(server.dir / "t" / "0", "ab", buffering=0) as file:
            for n in range(2000):
                file.write(b"line %d\n" % n)
    writer = threading.Thread(target=write_lines)
    writer.start()
    for n in range(2000):
        producer.produce("t", b"message %d" % n, partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0
    writer.join()
    lines = (server.dir / "t" / "0").read_bytes().splitlines()
    for kind in (b"line", b"message"):
        assert [line for line in lines if line.startswith(kind)] == [b"%s %d" % (kind, n) for n in range(2000)]
    found = clients.Confluent().consume(server.bootstrap, ["t"], 4000)["t"]
    assert [r.value for r in found] == lines


def test_the_mount_goes_on_while_clients_come_and_go_and_a_stop_is_clean_with_clients_connected(server):
    make_topic(server, "t")
    readers = [consumer(server, "t") for _ in range(5)]
    for reader in readers:
        assert reader.poll(0.2) is None
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"line\n")
    for reader in readers:
        assert reader.poll(AT_ONCE_S).value() == b"line"
    server.umount()
    server.start()
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"after\n")

    def next_value(reader):
        message = reader.poll(1)
        return message and not message.error() and message.value() == b"after"
    for reader in readers:
        wait_until(lambda: next_value(reader), 60, "they find the server again")
        reader.close()


def test_a_message_deleted_in_the_file_is_out_of_range_on_the_wire(server):
    from confluent_kafka import Consumer, TopicPartition
    make_topic(server, "t")
    with open(server.dir / "t" / "0", "ab") as file:
        file.write(b"one\ntwo\nthree\n")
    subprocess.run(["fallocate", "-p", "-o", "0", "-l", "4", server.dir / "t" / "0"], check=True)
    reader = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
    assert reader.get_watermark_offsets(TopicPartition("t", 0), 30) == (1, 3)
    reader.assign([TopicPartition("t", 0, 0)])
    deadline = time.monotonic() + 30
    values = []
    while len(values) < 2 and time.monotonic() < deadline:
        message = reader.poll(1)
        if message and not message.error():
            values.append(message.value())
    assert values == [b"two", b"three"]
    reader.close()
