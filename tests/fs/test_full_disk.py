"""A full disk: ENOSPC to the writer, nothing torn, reading goes on, and with space again so does writing."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import lines
from lib.disk import Disk
from lib.mounting import MountFailed, wait_until

WRITER = Path(lines.__file__)
NO_SPACE = "No space left on device"


@pytest.fixture
def disk(mounts):
    """Unmounted with what else is mounted in the test's place; with space for the last stop, which writes files."""
    made = Disk(mounts.place)
    yield made
    made.free()


@pytest.fixture
def mount(mounts, disk):
    made = mounts("log.segment.bytes=262144", data=disk.path / "data")
    made.expect(NO_SPACE)
    (made.dir / "t").mkdir()
    return made


def append_until_full(path, size=1000, writer="w", first=0):
    """How many lines were acknowledged."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(first, 1 << 20):
            line = lines.make_line(writer, number, size)
            try:
                assert os.write(fd, line) == len(line)
            except OSError as failure:
                assert failure.errno == errno.ENOSPC
                return number
    finally:
        os.close(fd)
    raise AssertionError("the disk is never full")


@pytest.mark.parametrize("size", [50, 1000, 70_000, 600_000])
def test_the_writer_is_told_and_nothing_is_torn(mount, disk, sh, size):
    path = mount.dir / "t" / "0"
    disk.fill(but=2 << 20)
    count = append_until_full(path, size)
    assert count > 0 and lines.check(path.read_bytes()) == {"w": count}
    for _ in range(3):
        assert append_until_full(path, size, first=count) <= count + 1, "still full; a line may just have fitted"
        count = lines.check(path.read_bytes())["w"]
    disk.free()
    with open(path, "ab", buffering=0) as file:
        for number in range(count, count + 5):
            lines.write_all(file.fileno(), lines.make_line("w", number, size))
    assert lines.check(path.read_bytes()) == {"w": count + 5}
    for stop in (mount.remount, mount.crash):
        stop()
        assert lines.check(path.read_bytes()) == {"w": count + 5}
    mount.umount()
    assert sh(f"{mount.program} verify {mount.data}").endswith(b": 0 faults\n")


def test_an_open_writer_goes_on_when_there_is_space_again(mount, disk):
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, lines.make_line("w", 0))
    disk.fill()
    with pytest.raises(OSError) as failure:
        while True:
            os.write(fd, b"x" * 5000 + b"\n")
    assert failure.value.errno == errno.ENOSPC
    before = os.stat(path).st_size
    disk.free()
    os.write(fd, lines.make_line("w", 1))
    os.fsync(fd)
    os.close(fd)
    assert os.stat(path).st_size == before + len(lines.make_line("w", 1))


def test_many_writers_on_a_full_disk(mount, disk, spawn):
    """Each knows exactly which of its lines are there."""
    path = mount.dir / "t" / "0"
    disk.fill(but=1 << 20)
    writers = {
        f"w{i}": spawn(
            [sys.executable, WRITER, path, f"w{i}", 0, 400, "batch=7"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for i in range(4)
    }
    acknowledged = {}
    for name, writer in writers.items():
        output, errors = writer.communicate(timeout=60)
        assert NO_SPACE.encode() in errors, errors
        acknowledged[name] = int((output.split() or [0])[-1])
    there = lines.check(path.read_bytes())
    for name, count in acknowledged.items():
        assert count <= there.get(name, 0) < count + 7, "of a short write the first lines are there"


def test_the_shell_sees_it(mount, disk, sh):
    disk.fill()
    sh(
        "dd if=/dev/zero bs=100k count=20 status=none | tr '\\0' 'y' | fold -w 99 | cat >> 0",
        mount.dir / "t",
        status=1,
        stderr=NO_SPACE,
    )
    content = (mount.dir / "t" / "0").read_bytes()
    assert not content or content.endswith(b"\n")
    assert set(content) <= set(b"y\n")


def test_reading_goes_on(mount, disk, sh):
    topic = mount.dir / "t"
    sh("seq 20000 >> 0", topic)
    disk.fill()
    assert sh("cat 0; tail -n 1 0; wc -l < 0", topic) == sh("seq 20000; echo 20000; echo 20000")


def test_an_unfinished_line_is_refused_at_close(mount, disk):
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"z" * 200_000)
    disk.fill()
    with pytest.raises(OSError) as failure:
        os.close(fd)
    assert failure.value.errno == errno.ENOSPC
    assert path.read_bytes() == b""


def test_a_line_whose_end_was_refused_is_dropped_at_close(mount, disk):
    """As from stdio, which writes pieces of its buffer's size: the beginning alone was never meant."""
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"whole\nbeginning ")
    disk.fill()
    with pytest.raises(OSError) as failure:
        os.write(fd, b"e" * 200_000 + b"nd\n")
    assert failure.value.errno == errno.ENOSPC
    disk.free()
    with pytest.raises(OSError) as failure:
        os.close(fd)
    assert failure.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"whole\n"


def test_a_line_whose_end_was_refused_goes_on_when_there_is_space(mount, disk):
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"beginning ")
    disk.fill()
    end = b"e" * 200_000 + b"nd\n"
    with pytest.raises(OSError):
        os.write(fd, end)
    disk.free()
    assert os.write(fd, end) == len(end)
    os.close(fd)
    assert path.read_bytes() == b"beginning " + end


def test_topics_partitions_and_properties_on_a_full_disk(mount, disk, sh):
    """Refused, or done whole; afterwards all works."""
    sh("echo x >> t/0", mount.dir)
    disk.fill()
    topics, partitions, set_ = 1, 1, False
    for i in range(3):
        topics += subprocess.run(["mkdir", mount.dir / f"u{i}"], stderr=subprocess.DEVNULL).returncode == 0
        partitions += (
            subprocess.run(["touch", mount.dir / "t" / str(partitions)], stderr=subprocess.DEVNULL).returncode == 0
        )
    set_ = (
        subprocess.run(
            ["bash", "-c", "echo retention.ms=5555555 >> t/.config"], cwd=mount.dir, stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )
    for stop in (lambda: None, disk.free, mount.remount):
        stop()
        assert len(os.listdir(mount.dir)) == topics and len(os.listdir(mount.dir / "t")) == partitions
        assert ("retention.ms=5555555" in (mount.dir / "t" / ".config").read_text().splitlines()) == set_
        assert (mount.dir / "t" / "0").read_text() == "x\n"
    sh(
        f"mkdir u9; touch t/{partitions}; echo retention.ms=777777 >> t/.config; echo y >> t/{partitions}",
        mount.dir,
    )


@pytest.mark.parametrize("how", ["rm 0", "fallocate -p -o 0 -l 99999999 0", "cd ..; rm -r t"])
def test_deleting_messages_makes_space(mount, disk, sh, how):
    """What one does on a full disk."""
    topic = mount.dir / "t"
    sh("echo file.delete.delay.ms=0 >> .config; seq 200000 >> 0", topic)
    disk.fill()
    sh(how, topic)
    wait_until(lambda: os.statvfs(disk.path).f_bavail * os.statvfs(disk.path).f_frsize > 500_000)
    sh("mkdir -p t; echo more >> t/0; cat t/0 | tail -n 1", mount.dir)


def test_a_stop_and_a_start_on_a_full_disk(mount, disk, sh):
    topic = mount.dir / "t"
    sh("seq 20000 >> 0", topic)
    disk.fill()
    subprocess.run([mount.program, "umount", mount.dir], capture_output=True, timeout=60)
    mount.ended(None)
    try:
        mount.start()
    except MountFailed as failure:
        assert NO_SPACE in str(failure)
    else:
        assert sh("cat 0", topic) == sh("seq 20000")
        subprocess.run([mount.program, "umount", mount.dir], capture_output=True, timeout=60)
        mount.ended(None)
    disk.free()
    mount.start()
    assert sh("cat 0; echo more >> 0; tail -n 1 0", topic) == sh("seq 20000; echo more")
    mount.umount()
    assert sh(f"{mount.program} verify {mount.data}").endswith(b": 0 faults\n")


def test_kill_on_a_full_disk(mount, disk, sh):
    topic = mount.dir / "t"
    disk.fill(but=1 << 20)
    count = append_until_full(topic / "0", 500)
    mount.kill()
    try:
        mount.start()
        assert lines.check((topic / "0").read_bytes()) == {"w": count}
        mount.kill()
    except MountFailed as failure:
        assert NO_SPACE in str(failure)
    disk.free()
    mount.start()
    assert lines.check((topic / "0").read_bytes()) == {"w": count}
    sh("echo more >> 0; tail -n 1 0", topic)


def test_retention_makes_space_on_a_full_disk(mounts, disk):
    """Messages get old while nothing can be written: they go, and writing goes on by itself."""
    mount = mounts(
        "log.segment.bytes=262144",
        "log.segment.delete.delay.ms=0",
        "log.retention.check.interval.ms=20",
        "log.retention.ms=2000",
        data=disk.path / "data",
    )
    mount.expect(NO_SPACE)
    (mount.dir / "t").mkdir()
    count = append_until_full(mount.dir / "t" / "0")
    disk.fill()
    wait_until(lambda: os.statvfs(disk.path).f_bavail * os.statvfs(disk.path).f_frsize > 4 << 20)
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    for i in range(3000):
        lines.write_all(fd, lines.make_line("w", count + i, 1000))
    os.close(fd)
    assert os.stat(path).st_size > count * 1000


def test_retention_by_size_keeps_a_small_disk_going(mounts, disk):
    mount = mounts(
        "log.segment.bytes=262144",
        "log.retention.check.interval.ms=10",
        "log.retention.bytes=1000000",
        "log.segment.delete.delay.ms=0",
        data=disk.path / "data",
    )
    (mount.dir / "t").mkdir()
    path = mount.dir / "t" / "0"
    for i in range(0, 20000, 200):
        with open(path, "ab", buffering=0) as file:
            lines.write_all(file.fileno(), b"".join(lines.make_line("w", i + k, 1000) for k in range(200)))
        wait_until(lambda: os.statvfs(disk.path).f_bfree * os.statvfs(disk.path).f_frsize > 2 << 20)
    wait_until(lambda: os.stat(path).st_blocks * 512 < 1_000_000 + 262144)  # nothing more goes, while it is read
    content = path.read_bytes()
    first = lines.parse(content.split(b"\n")[0])[1]
    assert lines.check(content, {"w": first}) == {"w": 20000} and first > 10000
