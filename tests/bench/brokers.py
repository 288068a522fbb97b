"""The two that wire.py compares, as processes, and what it asks of them itself.

    with Spoolfs(bench, {"log.flush.acks.all": "never"}) as server, Kafka(bench) as kafka: ...

Each has a directory and a port of its own; all that is started is ended by its pid, whatever happens. `Wire` is a bare connection that speaks the oldest
versions that both know.
"""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import time

from lib import kafka
from lib.raw import array, batch, data, frame, header, text

TICK = os.sysconf("SC_CLK_TCK")
PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS = 0, 1, 2, 3, 10, 11, 14, 18, 19, 20


_prctl = ctypes.CDLL(None).prctl


def dies_with_us():
    """For preexec_fn: a server is killed when this program ends, however it does."""
    _prctl(1, signal.SIGKILL)


class Reader:
    def __init__(self, of):
        self.of, self.at = of, 0

    def get(self, what):
        found = struct.unpack_from(">" + what, self.of, self.at)
        self.at += struct.calcsize(">" + what)
        return found[0] if len(found) == 1 else found

    def text(self):
        n = self.get("h")
        self.at += max(n, 0)
        return self.of[self.at - n:self.at].decode() if n >= 0 else None

    def data(self):
        n = max(self.get("i"), 0)
        self.at += n
        return self.of[self.at - n:self.at]

    def array(self, one):
        return [one() for _ in range(self.get("i"))]


class Wire:
    def __init__(self, address, timeout_s=60):
        self.socket = socket.create_connection(address, timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _read(self, n):
        got = bytearray()
        while len(got) < n:
            some = self.socket.recv(min(n - len(got), 1 << 20))
            if not some:
                raise ConnectionError("the broker closed the connection")
            got += some
        return bytes(got)

    def send(self, key, version, body):
        self.socket.sendall(frame(header(key, version) + body))

    def receive(self):
        r = Reader(self._read(struct.unpack(">i", self._read(4))[0]))
        r.get("i")
        return r

    def ask(self, key, version, body=b""):
        self.send(key, version, body)
        return self.receive()

    def brokers(self):
        """How many there are by Metadata."""
        r = self.ask(METADATA, 4, array([]) + b"\0")
        r.get("i")
        return r.get("i")

    def create(self, topics, partitions, properties=None):
        settings = array(text(name) + text(value) for name, value in (properties or {}).items())
        r = self.ask(CREATE_TOPICS, 2, array(text(t) + struct.pack(">ihi", partitions, 1, 0) + settings for t in topics) + struct.pack(">ib", 240000, 0))
        r.get("i")
        bad = [answer for answer in r.array(lambda: (r.text(), r.get("h"), r.text())) if answer[1]]
        assert not bad, f"topics were not created: {bad[:3]}"
        for topic in topics:
            self.wait_served(topic, partitions)

    def delete(self, topic):
        self.ask(DELETE_TOPICS, 1, array([text(topic)]) + struct.pack(">i", 60000))

    def ends(self, topic, partitions):
        """Where each partition ends; None: some do not say yet."""
        r = self.ask(LIST_OFFSETS, 1, struct.pack(">i", -1) + array([text(topic) + array(struct.pack(">iq", p, -1) for p in range(partitions))]))
        [(_, found)] = r.array(lambda: (r.text(), r.array(lambda: r.get("ihqq"))))
        return None if any(error for _, error, _, _ in found) else {p: offset for p, _, _, offset in found}

    def wait_served(self, topic, partitions, deadline_s=120):
        """Metadata names leaders before they serve: so their ends are asked for."""
        end = time.monotonic() + deadline_s
        while not self.ends(topic, partitions):
            assert time.monotonic() < end, f"{topic} is not served"
            time.sleep(0.005)

    @staticmethod
    def fetch_body(topic, offsets, wait_ms, max_bytes=65536):
        return struct.pack(">iiiib", -1, wait_ms, 1, 1 << 20, 0) + array([text(topic) + array(struct.pack(">iqi", p, o, max_bytes) for p, o in offsets.items())])

    def fetched(self, topic, partition, offset):
        """How many bytes of records a Fetch has from there."""
        r = self.ask(FETCH, 4, self.fetch_body(topic, {partition: offset}, 1000))
        r.get("i")

        def one():
            _, error, _, _ = r.get("ihqq")
            r.array(lambda: r.get("qq"))
            return 0 if error else len(r.data())
        return sum(sum(found) for _, found in r.array(lambda: (r.text(), r.array(one))))

    def produce_one_each(self, topic, partitions, deadline_s=120):
        todo, records, end = range(partitions), batch([b"x" * 40]), time.monotonic() + deadline_s
        while todo:
            r = self.ask(PRODUCE, 3, struct.pack(">hhi", -1, 1, 30000) + array([text(topic) + array(struct.pack(">i", p) + data(records) for p in todo)]))
            [(_, found)] = r.array(lambda: (r.text(), r.array(lambda: r.get("ihqq"))))
            todo = [p for p, error, _, _ in found if error]
            assert not todo or time.monotonic() < end, f"{topic}: {found[:3]}"
            time.sleep(0.02 if todo else 0)


def cpu_s(pid):
    """Of all its threads, so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mb(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what + ":")) / 1024


class Server:
    """One of the two. Started with nothing there; start() again finds what it left."""

    name, serial = "", 0

    def __init__(self, bench, properties=None):
        Server.serial += 1
        self.bench, self.properties = bench, properties or {}
        self.dir = bench.work / f"{self.name}-{Server.serial}"
        self.dir.mkdir()
        self.data = self.dir / "data"
        self.port, self.second_port = kafka.free_ports(2)
        self.address, self.bootstrap = ("127.0.0.1", self.port), f"127.0.0.1:{self.port}"
        self.process, self.topics = None, 0
        self.prepare()

    def prepare(self):
        pass

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGKILL)
        self.bench.remove(self.dir)

    @property
    def pid(self):
        return self.process.pid

    def start(self, topics=(), partitions=0, deadline_s=300):
        """Seconds from its start until Metadata names a broker, and until all partitions of the topics say where they end."""
        begun, pending, first = time.monotonic(), list(topics), None
        with open(self.dir / "messages", "ab") as messages:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True, preexec_fn=dies_with_us)
        while time.monotonic() - begun < deadline_s:
            assert self.process.poll() is None, f"{self.name} ended:\n{(self.dir / 'messages').read_text(errors='replace')[-3000:]}"
            try:
                with Wire(self.address) as wire:
                    while not first or pending:
                        if not first and wire.brokers():
                            first = time.monotonic() - begun
                        while first and pending and wire.ends(pending[-1], partitions):
                            pending.pop()
                        if not first or pending:
                            time.sleep(0.002 if not first else 0.01)
                return first, time.monotonic() - begun
            except OSError:
                time.sleep(0.001)
        raise TimeoutError(f"{self.name} was not ready after {deadline_s} s")

    def stop(self, how=signal.SIGTERM):
        process, self.process = self.process, None
        if not process:
            return
        process.send_signal(how)
        try:
            process.wait(120)
        finally:
            process.kill()

    def topic(self, partitions, **properties):
        self.topics += 1
        name = f"bench-{self.topics}"
        with Wire(self.address) as wire:
            wire.create([name], partitions, {k.replace("_", "."): v for k, v in properties.items()})
        return name

    def drop(self, topic):
        with Wire(self.address) as wire:
            wire.delete(topic)

    def stored(self, topic, partitions):
        with Wire(self.address) as wire:
            return sum(wire.ends(topic, partitions).values())

    def bytes_of(self, topic):
        return sum(f.stat().st_size for f in self.data.glob(f"{topic}-*/*.log"))

    def cpu(self):
        return cpu_s(self.pid)

    def rss(self):
        return memory_mb(self.pid)


class Spoolfs(Server):
    name = "spoolfs"

    def command(self):
        options = {"group.initial.rebalance.delay.ms": 0, "log.segment.delete.delay.ms": 1000} | self.properties
        return [str(self.bench.spoolfs), "agent", "-f", "-d", str(self.data), "--listen", self.bootstrap, *(w for k, v in options.items() for w in ("-o", f"{k}={v}"))]


class Kafka(Server):
    """A single KRaft node, broker and controller, with the flags of Java that kafka-server-start.sh has, and its heap."""

    name = "kafka"

    def prepare(self):
        quorum = f"127.0.0.1:{self.second_port}"
        properties = {
            "process.roles": "broker,controller", "node.id": 1, "controller.quorum.voters": f"1@{quorum}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{quorum}", "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER", "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", "log.dirs": self.data,
            "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0, "log.segment.delete.delay.ms": 1000,
        } | self.properties
        self.config = self.dir / "server.properties"
        self.config.write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        done = subprocess.run(kafka.java(kafka.LATEST, "kafka.tools.StorageTool", "format", "-t", kafka.Broker.CLUSTER_ID, "-c", str(self.config)),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self):
        return ["java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
                "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{kafka.jars()}/*", "kafka.Kafka", str(self.config)]
