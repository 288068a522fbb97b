"""Compacted topics through the mount: of each key the newest record is left; the file is read in order, whatever the cleaner does."""

import errno
import os
import random
import re
import shutil
import subprocess
import time

import pytest

from lib import kafka
from lib.batches import records, write_partition
from lib.mounting import wait_until

EAGER = ("log.cleaner.backoff.ms=20", "log.segment.delete.delay.ms=0")
COMPACT = "cleanup.policy=compact\nmin.cleanable.dirty.ratio=0.001\n"


def configure(topic, text):
    with open(topic / ".config", "ab") as config:
        config.write(text.encode())


def keyed(count, keys, seed=1):
    """Batches of 5 records, their values unlike each other."""
    rng = random.Random(seed)
    pairs = [(f"key {rng.randrange(keys)}".encode(), f"value {n} {'x' * rng.randrange(60)}".encode()) for n in range(count)]
    return [pairs[at:at + 5] for at in range(0, count, 5)]


def newest(batches, per_segment):
    """What is left when all but the last segment is clean: (key, value) in order."""
    pairs = [pair for batch in batches for pair in batch]
    tail = 5 * (len(batches) - (len(batches) - 1) // per_segment * per_segment)
    clean, rest = pairs[:-tail], pairs[-tail:]
    last = {key: n for n, (key, _) in enumerate(clean)}
    return [pair for n, pair in enumerate(clean) if last[pair[0]] == n] + rest


def clean_rows(log_dir):
    checkpoint = log_dir / "cleaner-offset-checkpoint"
    return checkpoint.read_text().splitlines() if checkpoint.exists() else []


def text(pairs):
    return b"".join(value + b"\n" for _, value in pairs if value is not None)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "data"


def compacted(mounts, data, batches, *options, per_segment=10, **how):
    write_partition(data / "t-0", batches, per_segment)
    mount = mounts(*EAGER, *options, data=data, **how)
    return mount, mount.dir / "t"


def test_only_the_newest_of_each_key_is_left(mounts, place):
    batches = keyed(2000, 40)
    mount, topic = compacted(mounts, place, batches)
    assert (topic / "0").read_bytes() == text(pair for batch in batches for pair in batch)
    configure(topic, COMPACT)
    want = newest(batches, 10)
    wait_until(lambda: (topic / "0").read_bytes() == text(want), what="it is compacted")
    assert [(key, value) for _, key, value in records(place / "t-0")] == want
    wait_until(lambda: "t 0 1950" in clean_rows(place))
    for restart in (mount.remount, mount.crash):
        restart()
        assert (topic / "0").read_bytes() == text(want)
    mount.umount()
    assert not list((place / "t-0").glob("*.view"))
    assert not [f for f in (place / "t-0").iterdir() if f.suffix in (".cleaned", ".swap", ".deleted")]
    kafka.assert_kafka_accepts(place / "t-0", compacted=["t"])


def test_the_file_has_no_size_and_cannot_seek(mounts, place, sh):
    batches = keyed(500, 20)
    mount, topic = compacted(mounts, place, batches)
    configure(topic, COMPACT)
    path = topic / "0"
    assert path.stat().st_size == 0
    wait_until(lambda: path.read_bytes() == text(newest(batches, 10)))
    with open(path, "rb", buffering=0) as f:
        assert os.fstat(f.fileno()).st_size == 0
        head = f.read(10)
        for call in (lambda: os.lseek(f.fileno(), 0, os.SEEK_SET), lambda: os.lseek(f.fileno(), 0, os.SEEK_END), lambda: os.pread(f.fileno(), 5, 0)):
            with pytest.raises(OSError) as failure:
                call()
            assert failure.value.errno == errno.ESPIPE
        rest = f.read()
    assert head + rest == path.read_bytes() == (topic / "0@earliest").read_bytes()
    for refused in (f"truncate -s 0 {path}", f": > {path}", f"fallocate -p -o 0 -l 8 {path}"):
        assert subprocess.run(["bash", "-c", refused], capture_output=True).returncode
    # what reads files to their end reads these
    want = path.read_bytes()
    assert sh("cat 0; ", topic) == want
    assert int(sh("wc -l < 0", topic)) == want.count(b"\n")
    assert sh("tail -n 3 0", topic) == b"".join(want.splitlines(True)[-3:])
    assert sh("head -n 3 0", topic) == b"".join(want.splitlines(True)[:3])
    assert sh("sort 0", topic) == b"".join(sorted(want.splitlines(True)))
    assert int(sh("grep -c value 0", topic)) == want.count(b"\n")
    sh("cp 0 %s" % (place / "copied"), topic)
    assert (place / "copied").read_bytes() == want
    assert sh("while IFS= read -r line; do echo \"$line\"; done < 0", topic) == want


def test_tail_follows(mounts, place):
    mount, topic = compacted(mounts, place, keyed(300, 20))
    configure(topic, COMPACT)
    want = (topic / "0").read_bytes().splitlines(True)[-2:]
    out = place.parent / "out"
    with open(out, "wb") as output:
        tail = subprocess.Popen(["tail", "-n", "2", "-f", "-s", "0.02", topic / "0"], stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: out.read_bytes() == b"".join(want))
        for n in range(20):
            with open(topic / "0", "ab") as f:
                f.write(b"line %d\n" % n)
            want.append(b"line %d\n" % n)
            wait_until(lambda: out.read_bytes() == b"".join(want), what=f"line {n} is followed")
    finally:
        tail.kill()
        tail.wait()


def test_a_reader_goes_on_while_the_log_is_compacted(mounts, place):
    """It has seen each record once at most, in order, and every one that is left."""
    batches = keyed(6000, 30)
    mount, topic = compacted(mounts, place, batches, "log.open.segments.max=16")
    configure(topic, "cleanup.policy=compact\nmin.cleanable.dirty.ratio=1\n")
    want = newest(batches, 10)
    with open(topic / "0", "rb", buffering=0) as f:
        seen = f.read(30_000)
        configure(topic, COMPACT)
        wait_until(lambda: (topic / "0").read_bytes() == text(want))
        while more := f.read(777):
            seen += more
    numbers = [int(line.split()[1]) for line in seen.splitlines()]
    assert numbers == sorted(set(numbers))
    left = {int(value.split()[1]) for _, value in want}
    assert left <= set(numbers)
    assert len(numbers) < 6000


def test_tombstones_go_in_their_time(mounts, place):
    batches = [[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], [(b"a", None)], [(b"d", b"4")]] + [[(b"e", b"%d" % n)] for n in range(4)]
    mount, topic = compacted(mounts, place, batches, per_segment=1)
    configure(topic, COMPACT + "delete.retention.ms=1500\nsegment.ms=1\n")
    wait_until(lambda: (b"a", b"1") not in {r[1:] for r in records(place / "t-0")})
    assert (b"a", None) in {r[1:] for r in records(place / "t-0")}

    def gone():
        with open(topic / "0", "ab") as f:
            f.write(b"another\n")      # what is clean is looked at again when there is something to clean
        time.sleep(0.05)
        return (b"a", None) not in {r[1:] for r in records(place / "t-0")}
    mount.expect("records without a key")
    wait_until(gone, what="the tombstone goes")
    assert (topic / "0").read_bytes().startswith(b"2\n3\n4\n")


def test_compact_and_delete(mounts, place):
    batches = keyed(1000, 40)
    mount, topic = compacted(mounts, place, batches, "log.retention.check.interval.ms=20")
    configure(topic, "cleanup.policy=compact,delete\nmin.cleanable.dirty.ratio=1\nretention.bytes=20000\n")
    wait_until(lambda: int(os.getxattr(topic / "0", "user.spoolfs.log_start")) > 0)
    left = (topic / "0").read_bytes()
    start = int(os.getxattr(topic / "0", "user.spoolfs.log_start"))
    pairs = [pair for batch in batches for pair in batch]
    assert left == text(pairs[start:])
    configure(topic, COMPACT)
    wait_until(lambda: len((topic / "0").read_bytes()) < len(left))
    configure(topic, "cleanup.policy=delete,compact\nretention.bytes=\nretention.ms=1\n")
    wait_until(lambda: (topic / "0").read_bytes() == b"", what="all of it is too old")


def test_rm_and_rmdir(mounts, place, sh):
    mount, topic = compacted(mounts, place, keyed(300, 20))
    configure(topic, COMPACT)
    assert subprocess.run(["rmdir", topic], capture_output=True).returncode
    sh("rm 0", topic)
    assert (topic / "0").read_bytes() == b""
    os.rmdir(topic)


def test_there_and_back(mounts, place):
    """Made compacted, a file loses its positions: who reads by them gets ESTALE. With delete they are given anew, from where the log starts."""
    batches = keyed(1000, 30)
    mount, topic = compacted(mounts, place, batches)
    path = topic / "0"
    with open(path, "rb", buffering=0) as by_position:
        by_position.read(100)
        configure(topic, COMPACT)
        with pytest.raises(OSError) as failure:
            by_position.read(100)
        assert failure.value.errno == errno.ESTALE
    want = text(newest(batches, 10))
    wait_until(lambda: path.read_bytes() == want)
    with open(path, "rb", buffering=0) as in_order:
        seen = in_order.read(100)
        configure(topic, "cleanup.policy=delete\n")
        assert path.stat().st_size == len(want)
        while more := in_order.read(1 << 20):
            seen += more
    assert seen == want
    with open(path, "rb") as f:
        f.seek(500)
        assert f.read() == want[500:]
    with open(path, "ab") as f:
        f.write(b"one more\n")
    want += b"one more\n"
    for restart in (mount.remount, mount.crash):
        restart()
        assert path.stat().st_size == len(want)
        assert path.read_bytes() == want
    configure(topic, COMPACT)
    assert path.stat().st_size == 0
    mount.umount()
    # switched while the log is closed
    mount.start()
    configure(topic, "cleanup.policy=\n")
    assert path.stat().st_size == len(path.read_bytes()) > 0


def test_properties(mounts, sh):
    mount = mounts("log.cleanup.policy=compact", "log.cleaner.min.cleanable.ratio=0.25", "log.cleaner.threads=3", "log.cleaner.io.max.bytes.per.second=1e6")
    topic = mount.dir / "t"
    topic.mkdir()
    config = (topic / ".config").read_text()
    assert "#cleanup.policy=compact\n" in config
    assert "#min.cleanable.dirty.ratio=0.25\n" in config
    assert (topic / "0").stat().st_size == 0
    for good in ("cleanup.policy=compact, delete", "cleanup.policy=delete,compact", "min.cleanable.dirty.ratio=1", "delete.retention.ms=0", "max.compaction.lag.ms=1"):
        configure(topic, good + "\n")
    for bad in ("cleanup.policy=shrink", "min.cleanable.dirty.ratio=1.5", "min.cleanable.dirty.ratio=half", "max.compaction.lag.ms=0",
                "max.compaction.lag.ms=5\nmin.compaction.lag.ms=6", "delete.retention.ms=-1"):
        with pytest.raises(OSError) as failure:
            configure(topic, bad + "\n")
        assert failure.value.errno == errno.EINVAL, bad


def test_a_rate_is_kept(mounts, place):
    batches = keyed(3000, 30)
    size = sum(len(value) + 30 for batch in batches for _, value in batch)
    mount, topic = compacted(mounts, place, batches, f"log.cleaner.io.max.bytes.per.second={size}")
    began = time.monotonic()
    configure(topic, COMPACT)
    wait_until(lambda: (topic / "0").read_bytes() == text(newest(batches, 10)), 60)
    assert time.monotonic() - began > 1      # it is read twice


def test_a_damaged_batch_stops_its_partition_alone(mounts, place):
    batches = keyed(500, 20)
    write_partition(place / "good-0", batches)
    write_partition(place / "bad-0", batches)
    (place / "bad-0" / "partition.metadata").unlink()
    mount = mounts(*EAGER, data=place)
    mount.umount()
    log = sorted((place / "bad-0").glob("*.log"))[2]
    damaged = bytearray(log.read_bytes())
    damaged[200] ^= 1
    log.write_bytes(damaged)
    mount.start()
    mount.expect("does not match its crc")
    mount.expect("gets a new id")
    mount.expect("partition.metadata")
    for topic in ("bad", "good"):
        configure(mount.dir / topic, COMPACT)
    wait_until(lambda: (mount.dir / "good" / "0").read_bytes() == text(newest(batches, 10)))
    mount.wait_for_message("is not compacted any more")
    time.sleep(0.3)
    assert mount.messages().count("is not compacted any more") == 1


def test_a_full_disk_puts_it_off(mounts, place):
    batches = keyed(1000, 30)
    mount, topic = compacted(mounts, place, batches, faults=True)
    everything = (topic / "0").read_bytes()
    mount.faults.set("write ENOSPC path=*.log.cleaned")
    configure(topic, COMPACT)
    mount.wait_for_message("is compacted later")
    wait_until(lambda: mount.faults.fired > 2, what="it is tried again")
    assert (topic / "0").read_bytes() == everything
    mount.faults.clear()
    wait_until(lambda: (topic / "0").read_bytes() == text(newest(batches, 10)))
    wait_until(lambda: not list((place / "t-0").glob("*.cleaned")))


def test_stopped_or_killed_while_it_is_compacted(mounts, place):
    batches = keyed(3000, 30)
    mount, topic = compacted(mounts, place, batches, "log.cleaner.io.max.bytes.per.second=100000")
    configure(topic, COMPACT)
    for restart in (mount.remount, mount.crash, mount.remount):
        wait_until(lambda: list((place / "t-0").glob("*.log.cleaned")), what="a round is under way")
        restart()
        last = {}
        for line in (topic / "0").read_bytes().splitlines():
            last[int(line.split()[1])] = line
        assert {int(value.split()[1]) for _, value in newest(batches, 10)} <= set(last)
    mount.umount()
    assert not list((place / "t-0").glob("*.cleaned"))


def test_deleted_while_it_is_compacted(mounts, place, sh):
    mount, topic = compacted(mounts, place, keyed(3000, 30), "log.cleaner.io.max.bytes.per.second=100000")
    configure(topic, COMPACT)
    wait_until(lambda: list((place / "t-0").glob("*.log.cleaned")), what="a round is under way")
    sh("rm t/0; rmdir t; mkdir t; echo new >> t/0", mount.dir)
    time.sleep(0.5)
    assert (topic / "0").read_bytes() == b"new\n"
    assert not [f for f in (place / "t-0").iterdir() if f.suffix in (".cleaned", ".swap")]
    assert not [row for row in clean_rows(place) if row.startswith("t ")]


def test_given_up_where_the_policy_changes(mounts, place):
    batches = keyed(3000, 30)
    mount, topic = compacted(mounts, place, batches, "log.cleaner.io.max.bytes.per.second=100000")
    configure(topic, COMPACT)
    wait_until(lambda: list((place / "t-0").glob("*.log.cleaned")), what="a round is under way")
    configure(topic, "cleanup.policy=delete\n")
    wait_until(lambda: not list((place / "t-0").glob("*.log.cleaned")), what="it is given up")
    left = (topic / "0").read_bytes()
    assert (topic / "0").stat().st_size == len(left)
    assert {value.split()[1] for _, value in newest(batches, 10)} <= {line.split()[1] for line in left.splitlines()}


@pytest.mark.parametrize("release", ["3.9", "4.1"])
def test_a_cleaning_that_kafka_was_stopped_at(release, tmp_path, mounts):
    """As it leaves its files when it dies between two renames: the log is what it was, or what it was to be."""
    recording = kafka.Recording(f"kafka-{release}", tmp_path / "recorded")
    partition = recording.log_dir / "compacted-0"
    want = b"".join(r.value + b"\n" for r in recording.expected() if r.topic == "compacted" and r.value is not None)
    first = sorted(partition.glob("*.log"))[0].stem
    parts = [partition / f"{first}{suffix}" for suffix in (".log", ".index", ".timeindex")]
    for part in parts[:2]:      # .cleaned beside the segments, not all written yet
        shutil.copy(part, f"{part}.cleaned")
    mount = mounts(data=recording.log_dir)
    assert (mount.dir / "compacted" / "0").read_bytes() == want
    mount.umount()
    assert not list(partition.glob("*.cleaned"))
    for part in parts:          # .swap, the old ones gone by other names
        shutil.copy(part, f"{part}.deleted")
        part.rename(f"{part}.swap")
    mount.start()
    assert (mount.dir / "compacted" / "0").read_bytes() == want
    configure(mount.dir / "compacted", COMPACT)
    assert (mount.dir / "compacted" / "0").read_bytes() == want
    mount.umount()
    assert not list(partition.glob("*.swap"))
    kafka.assert_kafka_accepts(partition, compacted=["compacted"])


@pytest.mark.parametrize("segment_bytes", [1 << 20, 1 << 14])
def test_verify_finds_nothing_wrong(mounts, place, segment_bytes):
    batches = keyed(4000, 30)
    mount, topic = compacted(mounts, place, batches)
    configure(topic, COMPACT + f"segment.bytes={segment_bytes}\n")
    wait_until(lambda: (topic / "0").read_bytes() == text(newest(batches, 10)))
    mount.umount()
    first = min(int(log.stem) for log in (place / "t-0").glob("*.log"))
    assert first > 0 or segment_bytes > 1 << 14, "of small segments the first have nothing left, and are gone"
    done = subprocess.run([mount.program, "verify", place], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def kafka_tool(broker, tool, *arguments, stdin=b""):
    done = subprocess.run(kafka.java(broker.release, f"org.apache.kafka.tools.{tool}", "--bootstrap-server", broker.bootstrap, *arguments),
                          input=stdin, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def sealed(partition):
    """The .log files but the last, by name. Where nothing is left of a segment Kafka leaves an empty one, and we none."""
    return {log.name: log.read_bytes() for log in sorted(partition.glob("*.log"))[:-1] if log.stat().st_size}


@pytest.mark.long
def test_the_same_as_kafka_leaves(tmp_path, mounts):
    """One log, by idempotent producers, compacted by Kafka's cleaner and by ours: the same segments with the same bytes; recompressed batches hold the same records."""
    rng = random.Random(7)
    codecs = ("none", "lz4", "gzip")
    properties = {"log.cleaner.enable": "false", "log.index.interval.bytes": 1024, "log.cleaner.backoff.ms": 200, "log.cleaner.dedupe.buffer.size": 4_000_000}
    broker = kafka.Broker(tmp_path / "broker", properties=properties)
    with broker:
        for codec in codecs:
            kafka_tool(broker, "TopicCommand", "--create", "--topic", codec, "--config", "cleanup.policy=compact", "--config", "segment.index.bytes=256",
                       "--config", "min.cleanable.dirty.ratio=0.001", "--config", "delete.retention.ms=86400000")
            for _ in range(3):
                lines = b"".join(b"key %d\t%d %s\n" % (rng.randrange(150), n, rng.randbytes(rng.randrange(150)).hex().encode()) for n in range(1500))
                kafka_tool(broker, "ConsoleProducer", "--topic", codec, "--property", "parse.key=true", "--compression-codec", codec,
                           "--batch-size", "2000", stdin=lines)
    data = tmp_path / "data"
    shutil.copytree(broker.log_dir, data)
    actives = {codec: int(sorted((data / f"{codec}-0").glob("*.log"))[-1].stem) for codec in codecs}
    assert all(len(sealed(data / f"{codec}-0")) > 3 for codec in codecs)

    def is_clean(log_dir):
        return all(f"{codec} 0 {active}" in clean_rows(log_dir) for codec, active in actives.items())

    broker.properties["log.cleaner.enable"] = "true"
    with broker:
        wait_until(lambda: is_clean(broker.log_dir), 60)
    mount = mounts(*EAGER, "log.index.interval.bytes=1024", data=data)
    for codec in codecs:
        configure(mount.dir / codec, COMPACT)
    wait_until(lambda: is_clean(data), 60)
    files = {codec: (mount.dir / codec / "0").read_bytes() for codec in codecs}
    mount.umount()
    for codec in codecs:
        kafkas, ours = broker.log_dir / f"{codec}-0", data / f"{codec}-0"
        assert sealed(ours).keys() == sealed(kafkas).keys()
        if codec == "none":
            assert sealed(ours) == sealed(kafkas)
            for suffix in ("index", "timeindex"):
                names = [name.replace(".log", f".{suffix}") for name in sealed(ours)]
                assert [(ours / name).read_bytes() for name in names] == [(kafkas / name).read_bytes() for name in names]
        dumps = [kafka.dump_log_segments([place / name for name in sealed(place)], "--deep-iteration", "--print-data-log", compacted=[codec])
                 for place in (ours, kafkas)]
        dumps = [[line for line in re.sub(r"( size| position| crc|compresscodec): \S+", "", dump).splitlines() if line.startswith(("baseOffset", "| offset"))] for dump in dumps]
        assert dumps[0]
        assert dumps[0] == dumps[1]
    kafka.assert_kafka_accepts(data, compacted=codecs)
    mount = mounts(data=broker.log_dir)
    for _ in range(2):
        assert {codec: (mount.dir / codec / "0").read_bytes() for codec in codecs} == files
        mount.remount()
