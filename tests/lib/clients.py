"""Kafka's clients, each behind the same two calls: what one writes, any other must read.

    client.produce(bootstrap, {"topic": "lz4", ...}, records)      to partition 0 of each topic, all acknowledged
    client.consume(bootstrap, ["topic", ...], count)               {"topic": the first `count` records of partition 0}

Records are Record(key, value, headers, timestamp), bytes or None; the timestamp is None where the client sets it.
`Member` is a consumer group member in a process of its own, to be stopped, killed, and asked what it saw.
"""

import base64
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from lib import kafka
from lib.mounting import wait_until

WIRE = Path(__file__).resolve().parent.parent / "wire"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TIMEOUT_S = 120


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list = []
    timestamp: int | None = None


def _text(data):
    return None if data is None else base64.b64encode(data).decode()


def _data(text):
    return None if text is None else base64.b64decode(text)


def to_json(records) -> str:
    return "".join(json.dumps({"key": _text(r.key), "value": _text(r.value), "timestamp": r.timestamp,
                               "headers": [[name, _text(value)] for name, value in r.headers]}) + "\n" for r in records)


def from_json(lines):
    """{topic: records in the order of their offsets}, and no offset missing or twice."""
    found = {}
    for row in map(json.loads, lines):
        found.setdefault(row["topic"], []).append((row["offset"], Record(
            _data(row["key"]), _data(row["value"]), [(name, _data(value)) for name, value in row["headers"] or []], row["timestamp"])))
    for rows in found.values():
        assert [offset for offset, _ in rows] == list(range(len(rows)))
    return {topic: [record for _, record in rows] for topic, rows in found.items()}


def run(command, stdin=None) -> str:
    done = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


# librdkafka, by confluent-kafka

class Confluent:
    name = "confluent-kafka"

    def produce(self, bootstrap, topics, records):
        from confluent_kafka import Producer
        for topic, codec in topics.items():
            errors = []
            producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 20,
                                 "topic.metadata.refresh.interval.ms": 1000})
            for r in records:
                producer.produce(topic, r.value, r.key, partition=0, timestamp=r.timestamp or 0, headers=list(r.headers),
                                 on_delivery=lambda error, message: error and errors.append(str(error)))
            assert producer.flush(TIMEOUT_S) == 0 and not errors, errors[:3]

    def consume(self, bootstrap, topics, count):
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])
        found, left = {topic: [] for topic in topics}, count * len(topics)
        while left:
            messages = consumer.consume(min(left, 1000), TIMEOUT_S)
            assert messages, "nothing more came"
            for m in messages:
                assert not m.error(), m.error()
                assert m.offset() == len(found[m.topic()])
                found[m.topic()].append(Record(m.key(), m.value(), m.headers() or [], m.timestamp()[1]))
                left -= 1
        consumer.close()
        return found


class KafkaPython:
    """It writes no header without a value."""

    name = "kafka-python"

    def produce(self, bootstrap, topics, records):
        from kafka import KafkaProducer
        for topic, codec in topics.items():
            producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, linger_ms=20)
            sent = [producer.send(topic, r.value, r.key, list(r.headers), 0, r.timestamp) for r in records]
            assert [future.get(TIMEOUT_S).offset for future in sent] == list(range(len(records)))
            producer.close()

    def consume(self, bootstrap, topics, count):
        from kafka import KafkaConsumer, TopicPartition
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
        consumer.assign([TopicPartition(topic, 0) for topic in topics])
        found, left = {topic: [] for topic in topics}, count * len(topics)
        while left:
            batches = consumer.poll(TIMEOUT_S * 1000)
            assert batches, "nothing more came"
            for of, messages in batches.items():
                for m in messages:
                    assert m.offset == len(found[of.topic])
                    found[of.topic].append(Record(m.key, m.value, list(m.headers), m.timestamp))
                    left -= 1
        consumer.close()
        return found


class Kcat:
    """It writes text, and its headers are those of a whole run."""

    name = "kcat"
    headers = [("from", b"kcat"), ("empty", b"")]

    def records(self):
        return [Record(b"key %d" % i if i % 3 else None, b"value %d" % i if i % 5 else None, self.headers) for i in range(1, 100) if i % 15]

    def produce(self, bootstrap, topics, records):
        lines = "".join((r.key.decode() + ":" if r.key else "") + (r.value or b"").decode() + "\n" for r in records)
        for topic, codec in topics.items():
            run(["kcat", "-b", bootstrap, "-P", "-t", topic, "-p", 0, "-z", codec, "-K", ":", "-Z", "-H", "from=kcat", "-H", "empty="], lines)

    def consume(self, bootstrap, topics, count):
        return {topic: self.consume_one(bootstrap, topic, count) for topic in topics}

    def consume_one(self, bootstrap, topic, count):
        done = subprocess.run(["kcat", "-b", bootstrap, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-c", str(count), "-q",
                               "-f", "%o %T %K %S|%k%s|%h\n"], capture_output=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        rest, found = done.stdout, []
        while rest:
            head, rest = rest.split(b"|", 1)
            offset, timestamp, key, value = map(int, head.split())
            assert offset == len(found)
            lengths = max(key, 0), max(value, 0)
            headers, after = rest[sum(lengths) + 1:].split(b"\n", 1)
            found.append(Record(None if key < 0 else rest[:key], None if value < 0 else rest[lengths[0]:sum(lengths)],
                                [self.header(text) for text in headers.split(b",") if text], timestamp))
            rest = after
        return found

    @staticmethod
    def header(text):
        name, value = text.split(b"=", 1)
        return name.decode(), None if value == b"NULL" else value


class Java:
    def __init__(self, release, classes):
        self.name = f"kafka-clients {kafka.RELEASES[release]}"
        self.release = release
        self.classes = classes

    def command(self, *words):
        command = kafka.java(self.release, "Client", *map(str, words))
        at = command.index("-cp") + 1
        command[at] = f"{self.classes}:{command[at]}"
        return command

    @classmethod
    def compile(cls, release, directory):
        jars = ":".join(str(kafka.jars(release) / name) for name in os.listdir(kafka.jars(release)))
        run(["java", "-m", "jdk.compiler/com.sun.tools.javac.Main", "-cp", jars, "-d", directory, WIRE / "java" / "Client.java"])
        return cls(release, directory)

    def produce(self, bootstrap, topics, records):
        run(self.command(bootstrap, "produce", *(f"{topic}={codec}" for topic, codec in topics.items())), to_json(records))

    def consume(self, bootstrap, topics, count):
        return from_json(run(self.command(bootstrap, "consume", count, *topics)).splitlines())


class FranzGo:
    name = "franz-go"

    def __init__(self, program):
        self.program = program

    @classmethod
    def build(cls, directory):
        """Its modules come from the Go proxy, into Go's own cache."""
        go = shutil.which("go") or "/usr/lib/go/bin/go"
        done = subprocess.run([go, "build", "-o", directory / "client", "."], cwd=WIRE / "go", capture_output=True, text=True, timeout=300,
                              env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"})
        assert done.returncode == 0, done.stderr
        return cls(directory / "client")

    def produce(self, bootstrap, topics, records):
        run([self.program, bootstrap, "produce", *(f"{topic}={codec}" for topic, codec in topics.items())], to_json(records))

    def consume(self, bootstrap, topics, count):
        return from_json(run([self.program, bootstrap, "consume", count, *topics]).splitlines())


# Members of a group

class Member:
    """A consumer in a process: what it is assigned, and each record it reads, which it then commits."""

    def __init__(self, command):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.events = []         # in their order: {"assigned": [...]}, {"revoked": [...]}, {"lost": [...]}, records, {"error": ...}
        self.owned = set()
        self._errors = queue.SimpleQueue()
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    @classmethod
    def python(cls, library, bootstrap, group, topic, **properties):
        return cls([sys.executable, WIRE / "member.py", library, bootstrap, group, topic,
                    *(f"{name.replace('_', '.')}={value}" for name, value in properties.items())])

    @classmethod
    def java(cls, client, bootstrap, group, topic, **properties):
        return cls(client.command(bootstrap, "member", group, topic, "--", *(f"{name.replace('_', '.')}={value}" for name, value in properties.items())))

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.owned |= set(event.get("assigned", ()))
            self.owned -= set(event.get("revoked", ())) | set(event.get("lost", ()))
            self.events.append(event)

    def _read_errors(self):
        for line in self.process.stderr:
            self._errors.put(line)

    def errors(self):
        return "".join(self._errors.get() for _ in range(self._errors.qsize()))

    def values(self):
        return [_data(event["value"]) for event in list(self.events) if "value" in event]

    def told(self, what):
        return [event[what] for event in list(self.events) if what in event]

    def wait_owned(self, count, seconds=60):
        wait_until(lambda: len(self.owned) == count or self.process.poll() is not None, seconds, f"{count} partitions, not {self.owned}")
        assert self.process.poll() is None, self.errors()
        return self.owned

    def close(self):
        """As a consumer should: it leaves the group."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(60)
        self._end()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self._end()

    def stop(self):
        """It is there, and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def _end(self):
        for reader in self._readers:
            reader.join(60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
