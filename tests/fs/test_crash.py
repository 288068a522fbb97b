"""kill -9 of the daemon under load: what was acknowledged is there after the next mount, once, in order, whole."""

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import wait_until

WRITER = Path(lines.__file__)


class Load:
    """Writers on some partitions, until the daemon is gone, and what they were acknowledged."""

    def __init__(self, spawn, topic, partitions, *how, name="w"):
        self.writers = {}
        for partition in range(partitions):
            for i in range(2):
                writer = f"{name}{partition}.{i}"
                self.writers[writer] = (
                    partition,
                    spawn(
                        [sys.executable, WRITER, topic / str(partition), writer, 0, 60, *how],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                    ),
                )
        self.topic = topic

    def acknowledged(self):
        """Once the daemon is gone. Also the last line that was not: it may be there or not, but not torn."""
        counts = {}
        for name, (partition, process) in self.writers.items():
            words = process.communicate(timeout=60)[0].split()
            assert process.returncode != 0
            counts[name] = (partition, int(words[-1]) if words else 0)
        return counts

    def check(self, acknowledged, unfinished=1, earlier=None):
        """earlier: what a file begins with that is not of this load, by partition."""
        found = {}
        for partition in {partition for partition, _ in acknowledged.values()}:
            content = (self.topic / str(partition)).read_bytes()
            there = lines.check(content)
            found[partition] = content
            for name, (of, count) in acknowledged.items():
                if of == partition:
                    assert count <= there.get(name, 0) <= count + unfinished, \
                        f"{name}: {count} were acknowledged, {there.get(name, 0)} are there"
        return found


HOWS = {"a line a write": [], "batches": ["batch=100"], "pieces": ["chunk=25"], "fsync": ["fsync"]}


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.replace(" ", "-"))
def test_every_acknowledged_line_is_there(mounts, spawn, how):
    mount = mounts("log.segment.bytes=65536", "num.partitions=2")
    topic = mount.dir / "t"
    topic.mkdir()
    for round_ in range(3):
        load = Load(spawn, topic, 2, *HOWS[how], name=f"r{round_}.")
        size = [os.stat(topic / str(i)).st_size for i in range(2)]
        wait_until(
            lambda: all(
                os.stat(topic / str(i)).st_size > size[i] + (3000 if how == "fsync" else 30_000) for i in range(2)
            )
        )
        mount.kill()
        acknowledged = load.acknowledged()
        mount.start()
        load.check(acknowledged, unfinished=100 if how == "batches" else 1)
    mount.umount()
    verified = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("acks", ["all", "1"])
def test_with_acks_and_codecs(mounts, spawn, acks):
    mount = mounts(f"acks={acks}", "compression.type=lz4", "log.segment.bytes=20000")
    topic = mount.dir / "t"
    topic.mkdir()
    load = Load(spawn, topic, 1, "batch=20")
    wait_until(lambda: os.stat(topic / "0").st_size > 50_000)
    mount.kill()
    acknowledged = load.acknowledged()
    mount.start()
    load.check(acknowledged, unfinished=20)


def test_kill_while_retention_and_checkpoints_run(mounts, spawn):
    """What is left begins where the log starts; nothing is missing from there on, and positions have not moved."""
    quiet = ["log.segment.bytes=16384"]
    busy = quiet + [
        "log.retention.bytes=60000",
        "log.retention.check.interval.ms=3",
        "log.flush.offset.checkpoint.interval.ms=100",
        "log.segment.delete.delay.ms=5",
    ]
    mount = mounts(*busy)
    topic = mount.dir / "t"
    topic.mkdir()
    path = topic / "0"
    known = {}
    for round_ in range(4):
        load = Load(spawn, topic, 1, name=f"r{round_}.")
        size = os.stat(path).st_size
        wait_until(lambda: os.stat(path).st_size > size + 150_000 and int(os.getxattr(path, "user.spoolfs.log_start_position")) > 0)
        fd = os.open(path, os.O_RDONLY)
        end = os.fstat(fd).st_size
        for at in range(end - 20_000, end, 1000):
            with contextlib.suppress(OSError):  # retention may have been quicker
                known[at] = os.pread(fd, 100, at)
        os.close(fd)
        mount.kill()
        acknowledged = load.acknowledged()
        mount.options = quiet
        mount.start()
        start = int(os.getxattr(path, "user.spoolfs.log_start_position"))
        assert 0 < start <= os.stat(path).st_size
        content = path.with_name("0@earliest").read_bytes()
        first = {}
        for line in content.split(b"\n")[:-1]:
            writer, number = lines.parse(line)
            first.setdefault(writer, number)
        there = lines.check(content, first)
        for name, (_, count) in acknowledged.items():
            assert there.get(name, 0) in (count, count + 1)
        for at, piece in known.items():
            if at >= start:
                assert content[at - start:at - start + 100] == piece, "a position has moved"
        mount.remount(*busy)


def append_or_fail(path, text):
    """Whether the append was acknowledged."""
    fd = -1
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, text)
        return True
    except OSError:
        return False
    finally:
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def test_kill_in_the_middle_of_each_call(mounts):
    """At the first write, sync, truncate, rename, ... after an append began, the second, and so on: the line is
    there or not, and it is there if it was acknowledged."""
    mount = mounts("log.segment.bytes=16384", faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    (topic / ".config").open("a").write("acks=all\n")
    expected = lines.make_line("first", 0, 9000)
    assert append_or_fail(topic / "0", expected)
    killed = set()
    for call in ("write", "sync", "open", "truncate", "rename"):
        for after in range(40):
            mount.faults.set(f"{call} kill after={after}")
            text = lines.make_line(call, after, 9000)  # each one begins a segment
            if append_or_fail(topic / "0", text):
                expected += text
                break
            killed.add((call, after))
            mount.ended(None)  # the kernel tells us before the process has ended
            mount.faults.clear()
            mount.start()
            content = (topic / "0").read_bytes()
            assert content in (expected, expected + text)
            expected = content
            assert os.stat(topic / "0").st_size == len(expected)
            mount.remount()  # with nothing left to sync of what was before
        else:
            pytest.fail(f"an append makes so many calls of {call}?")
        mount.faults.clear()
    assert {("write", 0), ("sync", 0), ("open", 0)} <= killed
    mount.umount()
    verified = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout


STARTS = ["open", "write", "sync", "rename", "unlink", "truncate"]


def test_kill_in_the_middle_of_each_call_of_a_start(mounts):
    """A start that is killed itself, at any of its calls, does no harm: the next one finds everything."""
    mount = mounts("log.segment.bytes=16384", "log.retention.check.interval.ms=5", faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    text = b"".join(lines.make_line("w", i, 100) for i in range(600))
    for at in range(0, len(text), 6000):
        with open(topic / "0", "ab", buffering=0) as file:
            lines.write_all(file.fileno(), text[at:at + 6000])
    subprocess.run(["fallocate", "-p", "-o", "0", "-l", "20000", topic / "0"], check=True)
    left = (topic / "0").read_bytes()
    mount.kill()
    log = sorted(mount.data.glob("t-0/*.log"))[-1]
    for call in STARTS:
        for after in range(100):
            with open(log, "ab") as file:
                file.write(b"torn")
            mount.expect("t-0")
            mount.faults.set(f"{call} kill after={after}")
            with subprocess.Popen(mount.command("-f"), env=mount.environment(), stderr=subprocess.DEVNULL) as start:
                wait_until(lambda: start.poll() is not None or mount.pid() == start.pid)
                mount.faults.clear()
                killed = start.poll() is not None
                if not killed:
                    start.kill()
            if not killed:
                break
        mount.start()
        assert (topic / "0").read_bytes() == left
        assert os.stat(topic / "0").st_size == len(text)
        mount.kill()


def test_a_power_cut_takes_nothing_that_was_synced(mounts, spawn):
    """The log files are cut to what fsync had been asked for, as a power cut may do; acks=all lines are there."""
    mount = mounts("log.segment.bytes=16384", "acks=all", faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    mount.faults.set("sync note")
    load = Load(spawn, topic, 1)
    wait_until(lambda: os.stat(topic / "0").st_size > 60_000)
    mount.kill()
    acknowledged = load.acknowledged()
    synced = {path: size for call, size, path in mount.faults.notes() if call == "sync"}
    cut = 0
    for log in mount.data.glob("t-0/*.log"):
        cut += log.stat().st_size - synced.get(str(log), 0)
        os.truncate(log, synced.get(str(log), 0))
    mount.expect("t-0")
    mount.faults.clear()
    mount.start()
    load.check(acknowledged)


def test_a_power_cut_takes_a_run_of_the_newest_lines_and_no_more(mounts, spawn):
    """acks=1: what was not synced may go, from the end; fsync is the border."""
    mount = mounts(faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    mount.faults.set("sync note")
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    rng = random.Random(1)
    for i in range(100):
        os.write(fd, lines.make_line("w", i, rng.randint(0, 500)))
        if i == 60:
            os.fsync(fd)
    mount.kill()
    with pytest.raises(OSError):
        os.close(fd)
    synced = {path: size for call, size, path in mount.faults.notes() if call == "sync"}
    log, = mount.data.glob("t-0/*.log")
    whole = log.read_bytes()
    mount.expect("t-0")
    mount.faults.clear()
    for size in sorted({synced[str(log)], len(whole)} | set(rng.sample(range(synced[str(log)], len(whole)), 8))):
        log.write_bytes(whole[:size])
        mount.start()
        there = lines.check((topic / "0").read_bytes())
        assert 61 <= there["w"] <= 100
        with open(topic / "0", "ab") as file:
            file.write(lines.make_line("w", there["w"]))
        assert lines.check((topic / "0").read_bytes()) == {"w": there["w"] + 1}
        mount.kill()


def test_unfinished_lines_are_lost_with_the_daemon_and_nothing_else(mount, topic):
    """Nobody was told that they are messages."""
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"whole\nhalf")
    mount.kill()
    with pytest.raises(OSError):
        os.close(fd)
    mount.start()
    assert (topic / "0").read_bytes() == b"whole\n"


def test_topics_and_their_properties_survive(mount, sh):
    sh(
        "mkdir a b c; touch a/1; echo retention.ms=5000000 >> b/.config; chmod 700 c; rmdir a 2>&-; "
        "rm -r b; mkdir b; echo x >> b/0",
        mount.dir,
    )
    mount.crash()
    assert sorted(os.listdir(mount.dir)) == ["b", "c"]
    assert sh("cat b/0; stat -c %a c; grep -c '^#retention.ms' b/.config", mount.dir) == b"x\n700\n1\n"
