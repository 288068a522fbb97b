"""Kafka's clients write and read, each what the others wrote; and its command-line tools."""

import json
import subprocess
import time

import pytest

from lib import clients, kafka
from lib.clients import CODECS, Record

START_MS = 1_750_000_000_000


def records():
    """What can be in a record: every kind of key, value and headers; and so many that there are several batches."""
    odd = [
        Record(b"key", b"value"),
        Record(None, b"no key"),
        Record(b"tombstone", None),
        Record(b"", b""),
        Record(bytes(range(256)), bytes(range(256)) * 20),
        Record("ключ".encode(), "значение\n".encode()),
        Record(b"large", b"compressible " * 8000),
        Record(b"one header", b"x", [("name", b"value")]),
        Record(b"headers", b"x", [("a", b"1"), ("a", b"2"), ("b", b""), ("null", None), ("ü", "ß".encode())]), # kafka-python writes no null header
        Record(b"headers", b"x", [("a", b"1"), ("a", b"2"), ("b", b""), ("ü", "ß".encode())]),
    ]
    many = [Record(b"%d" % (i % 7), b"message %d" % i) for i in range(3000)]
    return [r._replace(timestamp=START_MS + 10 * i) for i, r in enumerate(odd + many)]


def without_times(found):
    return [r._replace(timestamp=None) for r in found]


def assert_same(found, expected, what):
    """Quick where they are the same, and telling where not."""
    if found != expected:
        at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
        raise AssertionError(f"{what}: {len(found)} of {len(expected)}; the first that differs is {at}: {found[at:at + 1]}, not {expected[at:at + 1]}")


def test_every_client_reads_what_every_client_wrote_with_every_codec(server):
    check_all_with_all(server, [clients.Confluent(), clients.KafkaPython()])


@pytest.mark.long
def test_so_do_those_in_other_languages(server, java, franz_go):
    check_all_with_all(server, [clients.Confluent(), java("3.9"), java("4.1"), franz_go])


def check_all_with_all(server, writers):
    kcat = clients.Kcat()
    topics = {client.name: {f"{client.name.replace(' ', '-')}.{codec}": codec for codec in CODECS} for client in writers + [kcat]}
    expected = records()
    with_null_header = expected.pop(8)
    for client in writers:
        client.produce(server.bootstrap, topics[client.name], expected)
    kcat.produce(server.bootstrap, topics["kcat"], kcat.records())
    for client in writers:
        if client.name != "kafka-python":
            client.produce(server.bootstrap, {f"nulls-{client.name.replace(' ', '-')}": "none"}, [with_null_header])
    everything = [topic for client in writers for topic in topics[client.name]]
    for reader in writers + [kcat]:
        for topic, found in reader.consume(server.bootstrap, everything, len(expected)).items():
            assert_same(found, expected, f"{topic} read by {reader.name}")
        nulls = [f"nulls-{client.name.replace(' ', '-')}" for client in writers if client.name != "kafka-python"]
        for topic, found in reader.consume(server.bootstrap, nulls, 1).items():
            assert_same(found, [with_null_header], f"{topic} read by {reader.name}")
        of_kcat = reader.consume(server.bootstrap, list(topics["kcat"]), len(kcat.records()))
        for topic, found in of_kcat.items():
            assert_same(without_times(found), kcat.records(), f"{topic} read by {reader.name}")
    server.umount()
    kafka.assert_kafka_accepts(server.data)


def test_seek_by_time(server):
    from confluent_kafka import Consumer, TopicPartition
    from kafka import KafkaConsumer
    from kafka import TopicPartition as OfKafkaPython
    clients.Confluent().produce(server.bootstrap, {"t": "lz4"}, records())
    librdkafka = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g"})
    python = KafkaConsumer(bootstrap_servers=server.bootstrap)
    last = len(records()) - 1
    for at, expected in ((0, 0), (START_MS, 0), (START_MS + 1, 1), (START_MS + 20000, 2000), (START_MS + 10 * last, last)):
        assert librdkafka.offsets_for_times([TopicPartition("t", 0, at)], 30)[0].offset == expected
        assert python.offsets_for_times({OfKafkaPython("t", 0): at})[OfKafkaPython("t", 0)].offset == expected
        text = clients.run(["kcat", "-b", server.bootstrap, "-Q", "-t", f"t:0:{at}"])
        assert text.split() == ["t", "[0]", "offset", str(expected)]
    assert librdkafka.offsets_for_times([TopicPartition("t", 0, START_MS + 10 * last + 1)], 30)[0].offset == -1, "the end"
    assert python.offsets_for_times({OfKafkaPython("t", 0): START_MS + 10 * last + 1})[OfKafkaPython("t", 0)] is None
    assert librdkafka.get_watermark_offsets(TopicPartition("t", 0), 30) == (0, last + 1)
    librdkafka.close()
    python.close()


def test_the_broker_compresses_anew_and_gives_its_own_time_where_the_topic_says_so(server):
    (server.dir / "t").mkdir()
    with open(server.dir / "t" / ".config", "a") as config:
        config.write("compression.type=zstd\nmessage.timestamp.type=LogAppendTime\n")
    before = int(time.time() * 1000)
    for codec in CODECS:
        clients.Confluent().produce(server.bootstrap, {"t": codec}, records())
    after = int(time.time() * 1000)
    for reader in (clients.Confluent(), clients.KafkaPython()):
        found = reader.consume(server.bootstrap, ["t"], 5 * len(records()))["t"]
        assert_same(without_times(found), without_times(records()) * 5, reader.name)
        assert all(before <= r.timestamp <= after for r in found)
    server.umount()
    dump = kafka.dump_log_segments([server.data / "t-0" / f"{0:020}.log"])
    codecs = [line.split("compresscodec: ")[1].split()[0] for line in dump.splitlines() if line.startswith("baseOffset:")]
    assert codecs and set(codecs) == {"zstd"}


def test_messages_that_are_too_large_are_refused_and_the_next_is_taken(serve):
    from confluent_kafka import Producer
    server = serve("message.max.bytes=100000")
    outcome = []
    producer = Producer({"bootstrap.servers": server.bootstrap, "message.max.bytes": 1_000_000})
    for size in (1000, 200_000, 2000):
        producer.produce("t", b"x" * size, partition=0, on_delivery=lambda error, m: outcome.append((len(m.value()), error and error.name())))
        producer.flush(30)
    assert outcome == [(1000, None), (200_000, "MSG_SIZE_TOO_LARGE"), (2000, None)]


def tool(server, java, name, *arguments, stdin=None, status=0):
    done = subprocess.run(kafka.java(kafka.LATEST, name, *map(str, arguments)), input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{name}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_kafkas_own_tools(server, java):
    """The console clients, GetOffsetShell, the verifiable producer and consumer, consumer groups."""
    at = ["--bootstrap-server", server.bootstrap]
    tool(server, java, "org.apache.kafka.tools.ConsoleProducer", *at, "--topic", "t", "--property", "parse.key=true", "--property", "key.separator=:",
         stdin="a:1\nb:2\nc:3\n")
    out = tool(server, java, "org.apache.kafka.tools.consumer.ConsoleConsumer", *at, "--topic", "t", "--from-beginning", "--max-messages", 3,
               "--property", "print.key=true", "--property", "key.separator=:", "--group", "console")
    assert out.splitlines()[-3:] == ["a:1", "b:2", "c:3"]
    assert (server.dir / "t" / "0").read_text() == "1\n2\n3\n"
    assert "t:0:3" in tool(server, java, "org.apache.kafka.tools.GetOffsetShell", *at, "--topic", "t").split()
    assert "t:0:0" in tool(server, java, "org.apache.kafka.tools.GetOffsetShell", *at, "--topic", "t", "--time", "earliest").split()
    out = tool(server, java, "org.apache.kafka.tools.VerifiableProducer", *at, "--topic", "v", "--max-messages", 1000)
    assert sum(json.loads(line)["name"] == "producer_send_success" for line in out.splitlines() if line.startswith("{")) == 1000
    out = tool(server, java, "org.apache.kafka.tools.VerifiableConsumer", *at, "--topic", "v", "--group-id", "verifiable", "--max-messages", 1000)
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert sum(event["count"] for event in events if event["name"] == "records_consumed") == 1000
    groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    assert set(tool(server, java, groups, *at, "--list").split()) == {"console", "verifiable"}
    rows = [line.split() for line in tool(server, java, groups, *at, "--describe", "--group", "verifiable").splitlines()]
    assert ["verifiable", "v", "0", "1000", "1000", "0"] in [row[:6] for row in rows]
    tool(server, java, groups, *at, "--reset-offsets", "--group", "verifiable", "--topic", "v", "--to-offset", 400, "--execute")
    rows = [line.split() for line in tool(server, java, groups, *at, "--describe", "--group", "verifiable").splitlines()]
    assert ["verifiable", "v", "0", "400", "1000", "600"] in [row[:6] for row in rows]
    tool(server, java, groups, *at, "--delete-offsets", "--group", "verifiable", "--topic", "v")
    tool(server, java, groups, *at, "--delete", "--group", "verifiable")
    assert set(tool(server, java, groups, *at, "--list").split()) == {"console"}
