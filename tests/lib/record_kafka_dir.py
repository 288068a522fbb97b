#!/usr/bin/env python3
"""Records the log directories of real Kafka brokers that tests/data keeps: see the README there.

    python3 tests/lib/record_kafka_dir.py [kafka-3.9 | kafka-4.1 | kafka-4.1-killed]...

Traffic.java fills a fresh broker and tells what Kafka's consumer reads from it; the console consumer tells the same of
the textual topics. Then the broker is stopped (or killed), and what it left is packed, byte for byte as it left it.
Needs what kafka.py needs, a Java that can compile (the JDK's compiler module is part of Debian's headless JRE), GNU tar
and xz.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import kafka

DATA = Path(__file__).resolve().parent.parent / "data"
TRAFFIC = Path(__file__).resolve().with_name("Traffic.java")

TOPICS = ["codec-none", "codec-gzip", "codec-snappy", "codec-lz4", "codec-zstd", "binary", "spread", "segments",
          "restarted", "deleted-head", "retained", "configured", "compacted", "empty", "txn", "txn-decided", "txn-open"]
TEXTUAL = ["spread", "segments", "restarted", "deleted-head", "retained", "configured", "txn", "txn-decided",
           "txn-open"]
UNDECIDED = ["txn-decided", "txn-open"]

PROPERTIES = {
    "log.index.interval.bytes": 1024,
    "log.retention.ms": -1,                         # the records' timestamps are old: only what says so is deleted
    "log.retention.check.interval.ms": 500,
    "log.initial.task.delay.ms": 500,
    "log.cleaner.backoff.ms": 300,
    "log.cleaner.dedupe.buffer.size": 4_000_000,
}
VARIANTS = {
    # The quorum is static, segments are short because they may be.
    "3.9": dict(standalone=False, properties={"log.segment.bytes": 16384}),
    # The quorum is in the metadata log. A segment has 1 MiB at least, but ends early if its index is full. One metadata
    # snapshot is taken on the way, so what counts is partly in it, partly in the log behind it.
    "4.1": dict(standalone=True, properties={"log.index.size.max.bytes": 120,
                                             "metadata.log.max.record.bytes.between.snapshots": 8000}),
}


def main(names: list[str]) -> None:
    for name in names or ["kafka-3.9", "kafka-4.1", "kafka-4.1-killed"]:
        with tempfile.TemporaryDirectory() as work:
            release = name.split("-")[1]
            if name.endswith("-killed"):
                record_killed(release, Path(work))
            else:
                record(release, Path(work))
            pack(Path(work), DATA / f"{name}.tar.xz")


def record(release: str, work: Path) -> None:
    variant = VARIANTS[release]
    with Door() as door:
        broker = kafka.Broker(work / "broker", release, PROPERTIES | variant["properties"], variant["standalone"])
        give_inner_address(broker, door)
        with broker:
            run(traffic(broker, "begin"))
        with broker:
            fill(broker, door)
            await_cleaner(broker.log_dir, "compacted")
            expected = expect(broker, "read_committed", work / "expected.jsonl", TOPICS)
            expect(broker, "read_uncommitted", work / "uncommitted.jsonl", UNDECIDED)
            console(broker, expected, work / "console")
            run(traffic(broker, "reconfigure"))
    broker.log_dir.rename(work / "log")
    shutil.copytree(work / "log", broker.log_dir)
    complete(broker, work / "completed.jsonl")


def record_killed(release: str, work: Path) -> None:
    broker = kafka.Broker(work / "broker", release, standalone=VARIANTS[release]["standalone"])
    with broker:
        run(traffic(broker, "fill-small"))
        expected = expect(broker, "read_committed", work / "expected.jsonl", ["small"])
        console(broker, expected, work / "console")
        broker.kill()
    broker.log_dir.rename(work / "log")


# Steps

def fill(broker: kafka.Broker, door: "Door") -> None:
    """Make the traffic; before it decides its last transactions, shut the door between the broker and itself."""
    protocols = ["classic"] if broker.release == "3.9" else ["classic", "consumer"]
    with subprocess.Popen(traffic(broker, "fill", *protocols), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            if process.stdout.readline() == "cut\n":
                door.shut()
                process.stdin.write("\n")
                process.stdin.close()
            if process.wait() != 0:
                raise RuntimeError("the traffic stopped")
        finally:
            process.kill()


def await_cleaner(log_dir: Path, topic: str, timeout_s: float = 60) -> None:
    """Until all but the active segment is clean: only then will what consumers read stay as it is."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        active = max(int(log.stem) for log in (log_dir / f"{topic}-0").glob("*.log"))
        if f"{topic} 0 {active}" in (log_dir / "cleaner-offset-checkpoint").read_text().splitlines():
            return
        time.sleep(0.2)
    raise TimeoutError(f"the cleaner has not cleaned {topic}")


def expect(broker: kafka.Broker, isolation: str, file: Path, topics: list[str]) -> list[dict]:
    run(traffic(broker, "expect", isolation, str(file), *topics))
    return [json.loads(line) for line in file.read_text().splitlines()]


def console(broker: kafka.Broker, expected: list[dict], directory: Path) -> None:
    """What kafka-console-consumer prints of each partition of a textual topic. The count only tells it when to end."""
    directory.mkdir()
    counts = Counter((record["topic"], record["partition"]) for record in expected)
    for (topic, partition), count in counts.items():
        if topic in [*TEXTUAL, "small"]:
            with open(directory / f"{topic}-{partition}.txt", "wb") as output:
                run(kafka.java(broker.release, "org.apache.kafka.tools.consumer.ConsoleConsumer",
                               "--bootstrap-server", broker.bootstrap, "--isolation-level", "read_committed",
                               "--topic", topic, "--partition", str(partition), "--offset", "earliest",
                               "--max-messages", str(count)), stdout=output)


def complete(broker: kafka.Broker, file: Path) -> None:
    """What is read once Kafka itself, started again, has written the missing markers and aborted what was open."""
    for name in ("listeners", "advertised.listeners", "listener.security.protocol.map", "inter.broker.listener.name"):
        del broker.properties[name]
    with broker:
        run(traffic(broker, "complete"))
        expect(broker, "read_committed", file, UNDECIDED)


def pack(work: Path, archive: Path) -> None:
    """Nothing in the archive tells when or by whom it was packed. Preallocated indexes are sparse, there too."""
    members = sorted(path.name for path in work.iterdir() if path.name != "broker")
    archive.parent.mkdir(exist_ok=True)
    archive.unlink(missing_ok=True)
    run(["tar", "--create", "--file", archive, "--use-compress-program=xz -9e", "--directory", work, "--format=gnu",
         "--sparse", "--sort=name", "--mtime=@1750000000", "--owner=0", "--group=0", "--numeric-owner", *members])
    print(f"{archive.name}: {archive.stat().st_size} bytes")


def traffic(broker: kafka.Broker, *arguments: str) -> list[str]:
    return kafka.java(broker.release, str(TRAFFIC), broker.bootstrap, *arguments)


def run(command: list, stdout=None) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[-8:]} ended with {done.returncode}:\n{done.stderr}")


# The way from the broker to itself

class Door:
    """A port whose connections are passed on to another one, until it is shut.

    The broker writes the markers of a transaction by a request to each leader, itself here, at its inner address. With
    this door as that address we can have transactions which are decided, and known to be by the coordinator, but whose
    markers are not in the partitions: what a broker that dies at the wrong moment leaves.
    """

    def __enter__(self) -> "Door":
        self.port, self.inner_port = kafka.free_ports(2)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shut()

    def shut(self) -> None:
        for end in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                outside, _ = self._listener.accept()
                inside = socket.create_connection(("127.0.0.1", self.inner_port))
                self._open += [outside, inside]
                for ends in ((outside, inside), (inside, outside)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                sink.sendall(some)
        sink.close()


def give_inner_address(broker: kafka.Broker, door: Door) -> None:
    broker.properties |= {
        "listeners": f"PLAINTEXT://{broker.bootstrap},INNER://127.0.0.1:{door.inner_port},"
                     f"CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.bootstrap},INNER://127.0.0.1:{door.port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INNER:PLAINTEXT",
        "inter.broker.listener.name": "INNER",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
