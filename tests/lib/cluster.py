"""A cluster for the tests that break things: three brokers and a ZooKeeper, each on a host of its own, with writers, readers and the judge (lib/history.py).

    cluster = clusters()                        brokers 1, 2, 3 on the hosts a, b, c; ZooKeeper on d
    cluster.make_topic("t")                     one partition, a replica on each
    writer = cluster.write("t", "w1")           acks=all, idempotent; goes on until the end
    cluster.read("t")                           a consumer, and one that reads each replica by itself
    leader = cluster.leader("t")                "a"; what is done to it is done by cluster.agent[leader] and cluster.hosts
    cluster.goes_on()                           lines are acknowledged, of every writer
    cluster.judge()                             all is healed, everybody catches up and is stopped; what was said is held against what the replicas have

Hosts are reached from the test whatever is cut between them, so clients see the side that has lost touch, too.
"""

import base64
import contextlib
import json
import signal
import socket
import struct
import tempfile
import threading
import time
import uuid
from pathlib import Path

import confluent_kafka
import pytest

from lib import batches, lines
from lib.agents import Agent
from lib.history import ACKED, UNKNOWN, History
from lib.hosts import Hosts
from lib.mounting import wait_until
from lib.raw import FETCH, request, text
from lib.zookeeper import ZooKeeper

BROKERS = {"a": 1, "b": 2, "c": 3}
NAMES = {number: name for name, number in BROKERS.items()}
KEEPER = "d"
PATIENCE_S = 90
OPTIONS = ("zookeeper.session.timeout.ms=3000", "replica.lag.time.max.ms=3000", "replica.socket.timeout.ms=3000", "replica.fetch.backoff.ms=200", "controller.socket.timeout.ms=3000",
           "controlled.shutdown.retry.backoff.ms=200", "offsets.topic.num.partitions=1", "unclean.recovery.timeout.ms=60000")
CLIENT = {"socket.timeout.ms": 4000, "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 500, "log_level": 0}


class Writer:
    """One producer, one sequence of numbers, to partition 0: what became of each."""

    def __init__(self, cluster: "Cluster", topic: str, name: str, size: int, pause_s: float, **settings):
        self.topic, self.name, self.size, self.pause_s = topic, name, size, pause_s
        self.outcome: dict[int, str] = {}
        self.errors: list[str] = []
        self.acknowledged = 0
        self.settings = CLIENT | {"bootstrap.servers": cluster.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 1, "message.timeout.ms": 240000, "request.timeout.ms": 4000} | settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _delivered(self, number, error):
        self.outcome[number] = UNKNOWN if error else ACKED
        if error:
            self.errors.append(f"{number}: {error}")
        else:
            self.acknowledged += 1

    def _run(self):
        producer = confluent_kafka.Producer(self.settings)
        number = 0
        while not self._stop.is_set():
            line = lines.make_line(self.name, number, self.size)[:-1]
            try:
                producer.produce(self.topic, line, partition=0, on_delivery=lambda error, message, number=number: self._delivered(number, error))
                number += 1
            except BufferError:
                pass
            producer.poll(self.pause_s)
        producer.flush(PATIENCE_S)
        for n in range(number):
            self.outcome.setdefault(n, UNKNOWN)

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE_S + 30)
        assert not self._thread.is_alive(), f"writer {self.name} does not end"

    def tell(self, history):
        for number in sorted(self.outcome):
            history.wrote(f"{self.topic}/0", self.name, number, self.outcome[number])


class Consumer:
    """librdkafka's, from the start on; it asks the leader, wherever that is."""

    def __init__(self, cluster: "Cluster", topic: str):
        self.topic = topic
        self.got: list[tuple[int, bytes]] = []
        self.errors: list[str] = []
        self.settings = CLIENT | {"bootstrap.servers": cluster.bootstrap, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 200}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        consumer = confluent_kafka.Consumer(self.settings)
        consumer.assign([confluent_kafka.TopicPartition(self.topic, 0, 0)])
        while not self._stop.is_set():
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    self.got.append((message.offset(), message.value()))
                elif not message.error().retriable():
                    self.errors.append(str(message.error()))
        consumer.close()

    def next_offset(self):
        return self.got[-1][0] + 1 if self.got else 0

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def tell(self, history):
        for offset, value in self.got:
            history.fetched(f"{self.topic}/0", "test", "consumer", offset, value)


class ReplicaReader:
    """Asks one broker, be it leader or follower, and goes on at the same offset when that broker is back."""

    def __init__(self, cluster: "Cluster", topic: str, name: str):
        self.topic, self.name, self.agent = topic, name, cluster.agent[name]
        self.got: list[tuple[int, bytes]] = []
        self.told: list[tuple[int, int]] = []  # (start of the process, high watermark)
        self.next = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next_offset(self):
        return self.next

    def _request(self):
        partition = struct.pack(">iiqqi", 0, -1, self.next, -1, 1 << 20)
        return request(FETCH, 11, struct.pack(">iiiibiii", -1, 100, 1, 1 << 20, 0, 0, -1, 1) + text(self.topic) + struct.pack(">i", 1) + partition + struct.pack(">i", 0) + text(""))

    def _run(self):
        while not self._stop.is_set():
            start = self.agent.starts  # looked at before: what another process says is not counted as this one's
            with contextlib.suppress(OSError, struct.error), socket.create_connection((self.agent.address, self.agent.port), 2) as connection:
                connection.settimeout(3)
                while not self._stop.is_set() and self.agent.starts == start:
                    connection.sendall(self._request())
                    if not self._take(self._receive(connection), start):
                        break
            self._stop.wait(0.1)

    @staticmethod
    def _receive(connection) -> bytes:
        def exactly(n):
            got = b""
            while len(got) < n:
                more = connection.recv(n - len(got))
                if not more:
                    raise ConnectionError("closed")
                got += more
            return got
        return exactly(struct.unpack(">i", exactly(4))[0])

    def _take(self, answer: bytes, start: int) -> bool:
        at = 4 + 4 + 2 + 4 + 4 + 2 + len(self.topic) + 4
        _, error, high_watermark, _, _, aborted = struct.unpack_from(">ihqqqi", answer, at)
        at += 34 + 16 * max(aborted, 0)
        _, length = struct.unpack_from(">ii", answer, at)
        if error:
            return False
        self.told.append((start, high_watermark))
        for offset, value in whole_records(answer[at + 8:at + 8 + max(length, 0)]):
            if offset >= self.next:
                self.got.append((offset, value))
                self.next = offset + 1
        return True

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def tell(self, history):
        for offset, value in self.got:
            history.fetched(f"{self.topic}/0", self.name, "replica", offset, value)
        for start, high_watermark in self.told:
            history.high_watermark(f"{self.topic}/0", f"{self.name}, start {start}", high_watermark)


def whole_batches(data: bytes) -> list[tuple[int, bytes]]:
    """(base offset, the batch); one that is cut off at the end is left out."""
    found, at = [], 0
    while at + 12 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        found.append((base, data[at:at + 12 + length]))
        at += 12 + length
    return found


def whole_records(data: bytes) -> list[tuple[int, bytes]]:
    return [(offset, value) for _, batch in whole_batches(data) for offset, _, value in batches.records_of(batch)]


class Cluster:
    def __init__(self, stack: contextlib.ExitStack, place: Path, program: Path, talks, options=(), **how):
        """how: data={"a": path}, faults: whether the brokers have the fault hook."""
        self.place = place
        self.hosts = stack.enter_context(Hosts(4))
        self.zookeeper = stack.enter_context(ZooKeeper(place, host=self.hosts[KEEPER]))
        self.talk = talks(self.zookeeper.connect, timeout=60000)
        self.history = History()
        self.writers: list[Writer] = []
        self.readers: list[Consumer | ReplicaReader] = []
        self.topics: list[str] = []
        self.agent: dict[str, Agent] = {}
        data = how.pop("data", {})
        for name, number in BROKERS.items():
            (place / name).mkdir()
            agent = Agent(program, place / name, f"broker.id={number}", f"zookeeper.connect={self.zookeeper.connect}", *OPTIONS, *options, host=self.hosts[name], data=data.get(name), **how)
            agent.expect("spoolfs: warning: ")  # trouble is what these tests make
            if agent.faults:
                agent.rules = ("sync note path=*/*.log",)  # what is on disk: see synced()
            self.agent[name] = agent.start()
        self.bootstrap = ",".join(agent.bootstrap for agent in self.agent.values())
        wait_until(lambda: self.look("/controller"), PATIENCE_S, "a controller")

    # what ZooKeeper has

    def look(self, path):
        answer = self.talk("get", path=path)
        return json.loads(answer["data"]) if answer["code"] == "ok" else None

    def state(self, topic):
        return self.look(f"/brokers/topics/{topic}/partitions/0/state")

    def leader(self, topic) -> str:
        """Waits until somebody leads."""
        return wait_until(lambda: NAMES.get((self.state(topic) or {}).get("leader")), PATIENCE_S, f"a leader of {topic}")

    def other_leader(self, topic, before: str) -> str:
        return wait_until(lambda: (name := NAMES.get(self.state(topic)["leader"])) != before and name, PATIENCE_S, f"another leader of {topic} than {before}")

    def controller(self) -> str:
        return wait_until(lambda: (node := self.look("/controller")) and NAMES[node["brokerid"]], PATIENCE_S, "a controller")

    def isr(self, topic) -> list[str]:
        return sorted(NAMES[number] for number in self.state(topic)["isr"])

    def in_sync(self, topic, *names):
        names = sorted(names or BROKERS)
        try:
            wait_until(lambda: self.isr(topic) == names, PATIENCE_S, f"the ISR of {topic} is {names}")
        except AssertionError as late:
            raise AssertionError(f"{late}; {self.state(topic)}{self.what_was_said()}") from None

    def followers(self, topic) -> list[str]:
        leader = self.leader(topic)
        return [name for name in BROKERS if name != leader]

    def make_topic(self, topic, first="a"):
        """Led by `first` as a start."""
        replicas = [BROKERS[first]] + [number for name, number in BROKERS.items() if name != first]
        node = {"version": 3, "topic_id": base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="), "partitions": {"0": replicas}, "adding_replicas": {}, "removing_replicas": {}}
        assert self.talk("create", path=f"/brokers/topics/{topic}", data=json.dumps(node))["code"] == "ok"
        wait_until(lambda: self.state(topic), PATIENCE_S, "a state")
        self.topics.append(topic)

    # clients

    def write(self, topic, name, size=60, pause_s=0.004, **settings) -> Writer:
        self.writers.append(Writer(self, topic, name, size, pause_s, **settings))
        return self.writers[-1]

    def read(self, topic) -> None:
        self.readers += [Consumer(self, topic), *(ReplicaReader(self, topic, name) for name in BROKERS)]

    def goes_on(self, lines=20, seconds=PATIENCE_S) -> None:
        """So many more lines of each writer are acknowledged."""
        wanted = {writer: writer.acknowledged + lines for writer in self.writers}
        try:
            wait_until(lambda: all(writer.acknowledged >= n for writer, n in wanted.items()), seconds, "lines are acknowledged")
        except AssertionError as late:
            raise AssertionError(f"{late}; {[(w.name, w.acknowledged, w.errors[-3:]) for w in self.writers]}, {self.state(self.topics[0])}{self.what_was_said()}") from None

    @staticmethod
    def lasts(seconds) -> None:
        """Trouble that nobody need notice."""
        time.sleep(seconds)

    # what is done to it

    def signal(self, name, number) -> None:
        self.agent[name].daemon.signal(number)

    def kill(self, name) -> None:
        if self.agent[name].daemon:
            self.agent[name].stop(signal.SIGKILL, status=None)

    def cut_between(self, one, other) -> None:
        self.hosts.cut(one, other)
        self.hosts.cut(other, one)

    def synced(self, name, log: Path) -> int:
        """How many bytes of a log file would be there after a power cut: what an fsync was about."""
        return max((size for _, size, path in self.agent[name].faults.notes() if path == str(log)), default=0)

    # the end

    def heal(self) -> None:
        self.hosts.heal()
        server = self.zookeeper.server[0]
        if server.process:
            server.signal(signal.SIGCONT)
        else:
            server.start()
        for agent in self.agent.values():
            if agent.daemon:
                agent.daemon.signal(signal.SIGCONT)
        for agent in self.agent.values():
            if not agent.daemon:
                agent.start()
        for topic in self.topics:
            self.in_sync(topic)

    def judge(self) -> None:
        self.heal()
        if self.writers:
            self.goes_on(5)
        for writer in self.writers:
            writer.stop()
        for topic in self.topics:
            self._catch_up(topic)
        for reader in self.readers:
            reader.stop()
        self.talk.close()
        for agent in self.agent.values():
            agent.stop()
        for client in (*self.writers, *self.readers):
            client.tell(self.history)
        faults = [fault for topic in self.topics for fault in self._replicas(topic)] + self.history.faults()
        faults += [f"consumer of {reader.topic}: {error}" for reader in self.readers if isinstance(reader, Consumer) for error in reader.errors]
        assert not faults, "\n".join(faults) + self.what_was_said()

    def _catch_up(self, topic) -> None:
        end = self.end(topic)
        readers = [reader for reader in self.readers if reader.topic == topic]
        wait_until(lambda: all(reader.next_offset() >= end for reader in readers), PATIENCE_S,
                   f"everybody has read up to {end} of {topic}; {[(type(r).__name__, getattr(r, 'name', ''), r.next_offset()) for r in readers]}")

    def end(self, topic) -> int:
        consumer = confluent_kafka.Consumer(CLIENT | {"bootstrap.servers": self.bootstrap, "group.id": "unused"})
        try:
            return consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=PATIENCE_S)[1]
        finally:
            consumer.close()

    def _replicas(self, topic):
        """What lies on the disks, byte for byte; the judge is told of the rest."""
        held = {}
        for name, agent in self.agent.items():
            data = b"".join(path.read_bytes() for path in sorted((agent.data / f"{topic}-0").glob("*.log")))
            held[name] = dict(whole_batches(data))
            if sum(map(len, held[name].values())) != len(data):
                yield f"{name}: the log of {topic} ends within a batch"
            values = [(offset, value) for batch in held[name].values() for offset, _, value in batches.records_of(batch)]
            self.history.offsets(f"{topic}/0", name, values)
            self.history.ended(f"{topic}/0", name, 0, b"".join(value + b"\n" for _, value in values))
        for name in held:
            differing = [base for base in held["a"].keys() | held[name].keys() if held["a"].get(base) != held[name].get(base)]
            if differing:
                yield f"{topic}: the batches of a and {name} at {sorted(differing)[:5]} differ"

    def what_was_said(self) -> str:
        said = {name: [line for line in agent.messages().splitlines() if "__consumer_offsets" not in line] for name, agent in self.agent.items()}
        return "".join("\n".join(["", f"--- {name}:", *some[-40:]]) for name, some in said.items())

    def clean_up(self) -> list[str]:
        for client in (*self.writers, *self.readers):
            client._stop.set()
        with contextlib.suppress(Exception):
            self.hosts.heal()
        wrong = []
        for name, agent in self.agent.items():
            if agent.daemon:  # the test has failed: it is not this that is to be told
                agent.daemon.signal(signal.SIGCONT)
                agent.stop(signal.SIGKILL, status=None)
            wrong += [f"{name}: {line}" for line in agent.clean_up()]
        return wrong


@pytest.fixture
def clusters(spoolfs, talks):
    """clusters("min.insync.replicas=2", faults=True) -> a Cluster, started."""
    made = []
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spoolfs-cluster.")))

        def make(*options, **how):
            (place / str(len(made))).mkdir()
            made.append(Cluster(stack, place / str(len(made)), spoolfs, talks, options, **how))
            return made[-1]
        yield make
        wrong = [line for cluster in made for line in cluster.clean_up()]
    assert not wrong, "\n".join(wrong)
