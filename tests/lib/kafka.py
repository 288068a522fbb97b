"""Real Apache Kafka for the tests: its jars, its dump tool and a broker.

spoolfs promises that its log directory is a Kafka log directory. The only judge of that promise is Kafka, so the tests
fetch it (with Maven, into a cache that is kept between runs) and ask it:

    assert_kafka_accepts(partition_dir, ...)        Kafka's dump tool reads every file and finds nothing wrong
    dump_log_segments(files, "--deep-iteration")    what that tool prints
    with Broker(directory) as broker:               a single KRaft node on broker.bootstrap
    Recording("kafka-4.1", directory)               what such a node left, and what its consumers read

Java 17 and Maven must be on the PATH (Debian: openjdk-17-jre-headless, maven).
"""

import base64
import contextlib
import fcntl
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

RELEASES = {"3.9": "3.9.2", "4.1": "4.1.2"}     # the lines we record and test against, and their latest patch
LATEST = "4.1"

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>spoolfs</groupId> <artifactId>tests</artifactId> <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId> <artifactId>kafka_2.13</artifactId> <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId> <artifactId>kafka-tools</artifactId> <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId> <artifactId>slf4j-simple</artifactId> <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


# The jars

def cache_dir() -> Path:
    return Path(os.environ.get("SPOOLFS_TEST_CACHE") or "~/.cache/spoolfs-tests").expanduser()


def jars(release: str = LATEST) -> Path:
    """The directory with the jars of a release ("3.9", "4.1"), fetched if it is not in the cache yet.

    The directory appears by rename, so it is complete if it is there. A lock makes parallel test runs fetch it once,
    and one after another: Maven's own cache is not made for more.
    """
    version = RELEASES[release]
    home = cache_dir() / f"kafka-{version}"
    if home.is_dir():
        return home
    cache_dir().mkdir(parents=True, exist_ok=True)
    with open(cache_dir() / "kafka.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            _fetch(version, home)
    return home


def _fetch(version: str, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"kafka-{version}.") as work:
        Path(work, "pom.xml").write_text(_POM.format(version=version))
        mvn = subprocess.run(["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
                              "-DoutputDirectory=jars", "-DincludeScope=runtime",
                              "-DexcludeArtifactIds=slf4j-reload4j"],   # one binding of slf4j: slf4j-simple
                             cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if mvn.returncode != 0:
            raise RuntimeError(f"mvn could not fetch Apache Kafka {version}:\n{mvn.stdout}{mvn.stderr}")
        Path(work, "jars").rename(home)


def java(release: str, *arguments: str, heap: str = "256m") -> list[str]:
    """The command line that runs `arguments` (a class or a .java file, and what follows) against Kafka's jars."""
    return ["java", f"-Xmx{heap}", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            "-Dfile.encoding=UTF-8", "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", f"{jars(release)}/*", *arguments]


# The dump tool

class KafkaRejects(AssertionError):
    """Kafka's dump tool, or our own look at what it passes over, found something wrong in a log directory."""

    SHOWN = 30

    def __init__(self, complaints: list[str]):
        more = len(complaints) - self.SHOWN
        super().__init__("\n".join(["Kafka does not accept this:", *complaints[:self.SHOWN]]
                                   + [f"... and {more} more lines"] * (more > 0)))
        self.complaints = complaints


def dump_log_segments(files, *flags: str, release: str = LATEST, compacted=()) -> str:
    """What kafka.tools.DumpLogSegments prints about `files` (any of .log .index .timeindex .txnindex .snapshot).

    The tool exits with 0 whatever it finds, and says so here and there among its output: that is read for it here, and
    anything it complains about raises KafkaRejects. What compaction leaves is a complaint too (gaps between offsets,
    time index entries of batches that are empty now), except in the topics `compacted` and in Kafka's own.
    """
    runs = [_dump(some, flags, release, compacted) for some in _argument_lists(files)]
    _raise_if([complaint for _, complaints in runs for complaint in complaints])
    return "".join(output for output, _ in runs)


def assert_kafka_accepts(*directories, release: str = LATEST, compacted=()) -> None:
    """Kafka's dump tool finds nothing wrong in these partition directories, or in all partitions of a log directory.

    It decodes every record, compares every index entry with the log, and reads every .txnindex and .snapshot; what it
    passes over is looked at here. A JVM takes its time to start, so everything is given to two of them, side by side.
    """
    files = [file for directory in directories for partition in _partitions(Path(directory))
             for file in sorted(partition.iterdir()) if file.suffix in _OVERLOOKED]
    files.sort(key=lambda file: file.suffix != ".log")      # the tool stops at what it cannot read: the logs go first
    if not any(file.suffix == ".log" for file in files):
        raise KafkaRejects([f"there is no .log file in {', '.join(map(str, directories))}"])
    indexes = [file for file in files if file.suffix in (".index", ".timeindex")]
    complaints = [f"{file}: {complaint}" for file in files for complaint in _OVERLOOKED[file.suffix](file)]
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(_dump, some, flags, release, compacted, keep=False)
                for of, flags in ((files, ("--deep-iteration", "--verify-index-only")),
                                  (indexes, ("--index-sanity-check",)))
                for some in _argument_lists(of)]
        for run in runs:
            complaints += run.result()[1]
    _raise_if(complaints)


def _raise_if(complaints: list[str]) -> None:
    if complaints:
        raise KafkaRejects(complaints)


def _partitions(directory: Path) -> list[Path]:
    """The directory itself, or those in it that are partitions: a name in -<n>, so not one that waits for deletion."""
    if any(directory.glob("*.log")):
        return [directory]
    return sorted(child for child in directory.iterdir() if child.is_dir() and re.search(r"-\d+$", child.name))


def _argument_lists(files, limit: int = 100_000):
    """`files` in groups whose names, with commas between, fit into one argument (the kernel allows 128 KiB)."""
    group, length = [], 0
    for file in map(str, files):
        if group and length + len(file) + 1 > limit:
            yield group
            group, length = [], 0
        group.append(file)
        length += len(file) + 1
    if group:
        yield group


# What the tool says on the way, about the file it is at, and what it says at its end, with indented details. Standard
# error is read together with standard output, because a bad .snapshot is reported there without its name.
_AT_FILE = re.compile(r"baseOffset: .* isvalid: false$|Found \d+ invalid bytes|Ignoring unknown file"
                      r"|Snapshot (is corrupt|failed schema|contained an unknown)|Exception in thread|Caused by")
_AT_END = re.compile(r"(?:Mismatches in :|Found (?:timestamp mismatch|out of order timestamp) in :"
                     r"|Non-consecutive offsets in )(?P<file>.*)|The following indexed offsets are not found")
_DETAIL = re.compile(r"  Index |Indexed offset: |  -?\d+ is followed by ")
_BY_CLEANER = re.compile(r"  Index timestamp: \d+, log timestamp: -1$|  \d+ is followed by ")


def _dump(files: list[str], flags, release: str, compacted, keep: bool = True) -> tuple[str, list[str]]:
    """Run the tool once: its output (unless it is only judged: it prints a line a record), and its complaints."""
    output, complaints = [], []
    at, heading, cleaned = "", "", False
    command = java(release, "kafka.tools.DumpLogSegments", *flags, "--files", ",".join(files))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tool:
        for line in tool.stdout:
            line = line.decode(errors="replace")
            if keep:
                output.append(line)
            line = line.rstrip("\n")
            if line.startswith("Dumping "):
                at = line.removeprefix("Dumping ")
            elif _AT_FILE.match(line):
                complaints.append(f"{at}: {line}")
            elif end := _AT_END.match(line):
                heading = line
                topic = Path(end["file"] or "").parent.name.rpartition("-")[0]
                cleaned = topic in compacted or topic in ("__consumer_offsets", "__transaction_state")
            elif _DETAIL.match(line) and not (cleaned and _BY_CLEANER.match(line)):
                complaints += [heading, line] if heading else [line]
                heading = ""
    if tool.returncode != 0 and not complaints:
        complaints = [f"{at}: the dump tool ended with {tool.returncode}"]
    return "".join(output), complaints


# What the tool passes over: it stops at the first zero entry of an index, ignores a last entry that is cut, and is
# never asked about a file that is not there.

def _look_at_log(log: Path):
    return [f"has no {suffix}" for suffix in (".index", ".timeindex") if not log.with_suffix(suffix).exists()]


def _look_at_index(index: Path):
    return _look_at_entries(index, struct.Struct(">II"), "offset, position")


def _look_at_timeindex(timeindex: Path):
    return _look_at_entries(timeindex, struct.Struct(">qI"), "timestamp, offset")


def _look_at_txnindex(txnindex: Path):
    whole = struct.Struct(">hqqqq")
    entries, complaints = _entries(txnindex, whole)
    base = int(txnindex.stem)
    lasts = [last for _, _, _, last, _ in entries]
    if any(version != 0 for version, *_ in entries):
        complaints.append("an entry's version is not 0")
    if any(last < base for last in lasts) or any(b <= a for a, b in zip(lasts, lasts[1:])):
        complaints.append(f"the last offsets {lasts} do not ascend from {base}")
    return complaints


def _look_at_entries(file: Path, layout: struct.Struct, what: str):
    """An index is sorted by both of its columns. A relative offset of 0 is legal in the first entry only."""
    entries, complaints = _entries(file, layout)
    for number, (a, b) in enumerate(zip(entries, entries[1:]), 1):
        if b[0] <= a[0] or b[1] <= a[1]:
            zeros = ", zeros from there on" if not any(any(entry) for entry in entries[number:]) else ""
            complaints.append(f"entry {number} ({what}) {b} after {a}{zeros}")
            break
    return complaints


def _entries(file: Path, layout: struct.Struct):
    content = file.read_bytes()
    cut = len(content) % layout.size
    return (list(layout.iter_unpack(content[:len(content) - cut])),
            [f"{cut} bytes behind its last whole entry"] if cut else [])


_OVERLOOKED = {".log": _look_at_log, ".index": _look_at_index, ".timeindex": _look_at_timeindex,
               ".txnindex": _look_at_txnindex, ".snapshot": lambda _: []}


# What a broker left

class Record(NamedTuple):
    """One record as Kafka's own consumer returned it."""
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    value: bytes | None


class Recording:
    """The archive tests/data/<name>.tar.xz, unpacked into `directory`. The README there tells what is in it."""

    def __init__(self, name: str, directory):
        self.directory = Path(directory)
        self.log_dir = self.directory / "log"
        with tarfile.open(Path(__file__).resolve().parent.parent / "data" / f"{name}.tar.xz") as archive:
            archive.extractall(self.directory)

    def expected(self) -> list[Record]:
        """What a read_committed consumer reads from the beginning, by topic, partition and offset."""
        return self._records("expected.jsonl")

    def uncommitted(self) -> list[Record]:
        """The same, for the topics with undecided transactions, of a read_uncommitted consumer."""
        return self._records("uncommitted.jsonl")

    def completed(self) -> list[Record]:
        """Of those topics: what is read once Kafka has completed what was decided, and aborted the rest."""
        return self._records("completed.jsonl")

    def console(self) -> dict[str, bytes]:
        """What kafka-console-consumer prints (read_committed), by partition directory; textual topics only."""
        return {file.stem: file.read_bytes() for file in sorted((self.directory / "console").iterdir())}

    def _records(self, file: str) -> list[Record]:
        def decoded(text):
            return None if text is None else base64.b64decode(text)
        with open(self.directory / file) as lines:
            return [Record(**fields | {"key": decoded(fields["key"]), "value": decoded(fields["value"]),
                                       "headers": [(name, decoded(value)) for name, value in fields["headers"]]})
                    for fields in map(json.loads, lines)]


# A broker

def free_ports(count: int) -> list[int]:
    """Loopback ports below the range that the kernel gives to outgoing connections, so that they stay free."""
    with contextlib.ExitStack() as held:
        ports = []
        for port in random.sample(range(16384, 32768), 1000):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("no free port")


class Broker:
    """One Kafka node (KRaft, broker and controller in one process) in `directory`: its log directory is `.log_dir`.

    As a context manager it is started, ready when the body begins, and gone when the body ends, whatever happens:
    stopped cleanly (SIGTERM) unless the body killed it, killed when the body failed. A directory that has been
    formatted before is started again as it is.
    """

    CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"

    def __init__(self, directory, release: str = LATEST, properties: dict | None = None, standalone: bool = False):
        """`standalone`: the quorum of the controllers is kept in the metadata log (KIP-853), not in the properties."""
        self.directory = Path(directory)
        self.log_dir = self.directory / "data"
        self.output = self.directory / "broker.out"
        self.release = release
        self.properties = dict(properties or {})
        self.standalone = standalone
        self.port, self.controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, timeout_s: float = 60) -> "Broker":
        self._configure()
        if not (self.log_dir / "meta.properties").exists():
            self._format()
        orphans_die = ["setpriv", "--pdeathsig", "KILL"]       # if the test run itself is killed
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                orphans_die + java(self.release, "kafka.Kafka", self._config, heap="512m"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            self._wait_until_ready(timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 60) -> None:
        """A clean stop: indexes are trimmed, .snapshot files and the clean-shutdown marker are written."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL: what the broker has written so far stays as it is."""
        self._end(signal.SIGKILL, 10)

    def __enter__(self) -> "Broker":
        return self.start()

    def __exit__(self, failure, *_) -> None:
        if failure:
            self.kill()
        else:
            self.stop()

    @property
    def _config(self) -> str:
        return str(self.directory / "server.properties")

    def _configure(self) -> None:
        quorum = f"127.0.0.1:{self.controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            **({"controller.quorum.bootstrap.servers": quorum} if self.standalone else
               {"controller.quorum.voters": f"1@{quorum}"}),
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{quorum}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.log_dir,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            **self.properties,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        Path(self._config).write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _format(self) -> None:
        command = java(self.release, "kafka.tools.StorageTool", "format", "-t", self.CLUSTER_ID, "-c", self._config)
        tool = subprocess.run(command + ["--standalone"] * self.standalone, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if tool.returncode != 0:
            raise RuntimeError(f"Kafka could not format {self.log_dir}:\n{tool.stdout}{tool.stderr}")

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not _serves_metadata(self.bootstrap):
            if self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended with {self._process.returncode} at start:\n{self._last_output()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka was not ready after {timeout_s} s:\n{self._last_output()}")
            time.sleep(0.1)

    def _last_output(self) -> str:
        return self.output.read_text(errors="replace")[-4000:]

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(f"Kafka did not stop within {timeout_s} s:\n{self._last_output()}") from None


def _serves_metadata(bootstrap: str) -> bool:
    """Whether a broker answers a Metadata request (version 1) with itself: it does so once it is unfenced."""
    host, port = bootstrap.rsplit(":", 1)
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)        # key, version, correlation, no client id, no topics
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as reply:
            head = reply.read(12)                           # size, correlation, how many brokers
            return len(head) == 12 and struct.unpack(">iii", head)[2] > 0
    return False
