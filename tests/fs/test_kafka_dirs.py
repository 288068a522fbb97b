"""Log directories that a real Kafka left behind, mounted: every committed record is there, nothing changes by looking,
and what is appended then is a Kafka log still."""

import collections
import hashlib

import pytest

from lib import kafka
from lib.mounting import wait_until

STOPPED = ("kafka-3.9", "kafka-4.1")
ALL = STOPPED + ("kafka-4.1-killed",)
# Cleaned by Kafka: the dump tool finds fault with Kafka's own files there.
COMPACTED = ["compacted"]


def views(recording):
    """What each partition's file must hold: the values of its committed records, a line each; null values add none."""
    files = collections.defaultdict(bytes)
    for record in sorted(recording.expected(), key=lambda r: (r.topic, r.partition, r.offset)):
        files[record.topic, record.partition] += b"" if record.value is None else record.value + b"\n"
    return files


def sums(log_dir):
    return {str(f.relative_to(log_dir)): hashlib.sha256(f.read_bytes()).hexdigest() for f in log_dir.rglob("*.log")}


@pytest.fixture(params=ALL)
def recording(request, tmp_path):
    return kafka.Recording(request.param, tmp_path / "recorded")


def test_every_committed_record_is_there(recording, mounts):
    mount = mounts(data=recording.log_dir)
    for (topic, partition), want in views(recording).items():
        path = mount.dir / topic / str(partition)
        assert path.read_bytes() == want, path
        assert path.stat().st_size == len(want), path


def test_text_reads_as_the_console_consumer_printed_it(recording, mounts):
    mount = mounts(data=recording.log_dir)
    printed = recording.console()
    assert printed
    for name, text in printed.items():
        topic, partition = name.removesuffix(".txt").rsplit("-", 1)
        lines = (mount.dir / topic / partition).read_bytes().split(b"\n")
        assert lines == [line for line in text.split(b"\n") if line != b"null"], name


def test_internal_topics_are_not_listed(recording, mounts):
    mount = mounts(data=recording.log_dir)
    assert not [p.name for p in mount.dir.iterdir() if p.name.startswith("__")]


def test_looking_changes_no_log(recording, mounts):
    before = sums(recording.log_dir)
    mount = mounts(data=recording.log_dir)
    for _ in range(2):
        for path in mount.dir.glob("*/*"):
            path.read_bytes()
        mount.remount()
    mount.umount()
    assert sums(recording.log_dir) == before


def test_nothing_is_deleted_until_retention_is_configured(recording, mounts):
    """However old the records are: the broker's defaults do not touch what Kafka wrote, the topic's own setting does."""
    want = views(recording)
    topic = "segments" if ("segments", 0) in want else "small"
    mount = mounts("log.retention.check.interval.ms=20", "log.segment.delete.delay.ms=0", data=recording.log_dir)
    path = mount.dir / topic / "0"
    with open(mount.dir / topic / ".config", "ab") as config:
        config.write(b"segment.ms=1\n")  # something is configured, but not retention
    for _ in range(100):
        assert path.read_bytes() == want[topic, 0]
    with open(mount.dir / topic / ".config", "ab") as config:
        config.write(b"retention.ms=1\n")
    wait_until(lambda: path.read_bytes() == b"", what="retention has deleted all of it")
    assert path.stat().st_size == len(want[topic, 0]), "positions are not given again"


@pytest.mark.parametrize("name", STOPPED)
def test_appended_to_it_stays_a_kafka_log(name, tmp_path, mounts):
    """With the transactions that were left open ended as they were decided: committed, or else aborted, before the first append."""
    recording = kafka.Recording(name, tmp_path / "recorded")
    want = views(recording)
    ended = collections.defaultdict(bytes)
    for record in sorted(recording.completed(), key=lambda r: (r.topic, r.partition, r.offset)):
        ended[record.topic, record.partition] += record.value + b"\n"
    assert {topic for topic, _ in ended} == {"txn-decided", "txn-open"}
    want |= ended
    mount = mounts(data=recording.log_dir)
    for topic, partition in want:
        with open(mount.dir / topic / str(partition), "ab") as f:
            f.write(b"appended\n")
    for restarted in (False, True):
        for (topic, partition), lines in want.items():
            assert (mount.dir / topic / str(partition)).read_bytes() == lines + b"appended\n", (topic, partition, restarted)
        mount.remount()
    mount.umount()
    kafka.assert_kafka_accepts(recording.log_dir, compacted=COMPACTED)


def test_kafka_accepts_all_that_is_written(mounts, sh):
    """Every codec, lines of all sizes, several segments, a deleted head, and what recovery leaves after a kill."""
    mount = mounts("log.segment.delete.delay.ms=0")
    for codec in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
        topic = mount.dir / codec
        topic.mkdir()
        with open(topic / ".config", "ab") as config:
            config.write(f"compression.type={codec}\nsegment.bytes=65536\n".encode())
        sh("seq 20000 >> 0; for i in $(seq 300); do echo line $i >> 0; done; head -c 300000 /dev/urandom | base64 -w 500 >> 0", topic)
    sh("fallocate -p -o 0 -l 100000 0", mount.dir / "lz4")
    sizes = {codec.name: (codec / "0").stat().st_size for codec in mount.dir.iterdir()}
    mount.crash()
    for name, size in sizes.items():
        assert (mount.dir / name / "0").stat().st_size == size
        sh("echo after >> 0", mount.dir / name)
    mount.umount()
    kafka.assert_kafka_accepts(mount.data)
