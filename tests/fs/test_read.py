"""Reading: every tool sees the same bytes, at once, from any position, and sizes are exact."""

import errno
import mmap
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import wait_until

WRITER = Path(lines.__file__)


def text_of(count, size=200, seed=1):
    rng = random.Random(seed)
    return b"".join(lines.make_line("w", i, rng.randint(0, 2 * size)) for i in range(count))


@pytest.fixture
def filled(topic, tmp_path):
    """(partition, what is in it): some hundreds of kilobytes, appended in pieces, so that there are many batches."""
    text = text_of(2500)
    with open(topic / "0", "ab", buffering=0) as file:
        for at in range(0, len(text), 9001):
            lines.write_all(file.fileno(), text[at:at + 9001])
    (tmp_path / "text").write_bytes(text)
    return topic / "0", text


class Follower:
    """tail -f and the like: what they have printed so far."""

    def __init__(self, process):
        self._process = process
        self.output = b""

    def wait_for(self, output, seconds=30):
        deadline = time.monotonic() + seconds
        while len(self.output) < len(output):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._process.stdout], [], [], left)[0], \
                f"{len(self.output)} of {len(output)} bytes came: {self.output[-200:]!r}"
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            assert more, f"it ended: {self._process.wait()}"
            self.output += more
        assert self.output == output


@pytest.fixture
def follow(spawn):
    def start(*command):
        return Follower(spawn(command, stdout=subprocess.PIPE))
    return start


# Tools

def test_coreutils_read_what_was_written(sh, filled, tmp_path):
    partition, text = filled
    for tool in (
        "cat",
        "sort",
        "head -n 100",
        "tail -n 100",
        "head -c 5000",
        "tail -c 5000",
        "tail -n +17",
        "tail -c +123456",
        "tac",
        "wc -l",
        "wc -c",
        "wc",
        "cut -d' ' -f2",
        "uniq -c",
        "md5sum",
        "nl",
        "tr a-y b-z",
        "od -c",
        "dd bs=4k status=none",
        "awk '{n += length} END {print n}'",
        "grep -c 7",
        "grep -n -E ' 1[0-9]{3} '",
        "sed -n '5,20p'",
        "rev",
        "paste - -",
        "fold -w 30",
        "shuf --random-source=/dev/zero",
    ):
        assert sh(f"{tool} < 0", partition.parent) == sh(f"{tool} < {tmp_path}/text"), tool
    for tool in (
        "cat",
        "sort",
        "tail -n 100",
        "tac",
        "wc -c",
        "grep -c 7",
        "grep -c ^w",
        "head -n -5",
        "cmp -s -",
        "diff -",
    ):
        assert sh(f"{tool} 0 < {tmp_path}/text", partition.parent) == sh(
            f"ln -s text {tmp_path}/0; {tool} 0 < text; rm 0", tmp_path
        ), tool


def test_grep_takes_it_for_text(sh, topic):
    sh("seq 100000 >> 0", topic)
    assert sh("grep -c 9 0", topic) == sh("seq 100000 | grep -c 9")
    assert sh("grep -m 1 -b 77777 0", topic) == b"455550:77777\n"


@pytest.mark.parametrize("block", ["1k", "3001", "4k", "1M", "7M"])
def test_dd_reads_in_any_block_size(sh, filled, tmp_path, block):
    sh(f"dd if=0 bs={block} status=none | cmp - {tmp_path}/text", filled[0].parent)


def test_dd_skips(sh, filled):
    partition, text = filled
    assert sh("dd if=0 bs=1000 skip=123 count=3 status=none", partition.parent) == text[123000:126000]
    assert sh("dd if=0 bs=1 skip=4711 count=5 status=none", partition.parent) == text[4711:4716]


def test_cp_and_rsync_copy_it(sh, filled, tmp_path):
    partition, text = filled
    sh(f"cp 0 {tmp_path}/copy && cmp {tmp_path}/copy {tmp_path}/text", partition.parent)
    sh(f"cp -r . {tmp_path}/tree && cmp {tmp_path}/tree/0 {tmp_path}/text && ls -A {tmp_path}/tree", partition.parent)
    sh(f"rsync -a ./ {tmp_path}/synced && cmp {tmp_path}/synced/0 {tmp_path}/text", partition.parent)
    sh(f"echo more >> 0; rsync -a --append-verify ./ {tmp_path}/synced && cmp {tmp_path}/synced/0 0", partition.parent)
    sh(f"tar cf - . | tar xf - -C {tmp_path} && cmp {tmp_path}/0 0", partition.parent)
    assert sorted(os.listdir(tmp_path / "tree")) == ["0"], "what is not listed is not copied"


def test_a_shell_reads_line_by_line(sh, topic):
    sh("seq 500 >> 0", topic)
    assert sh("while read -r m; do echo \"<$m>\"; done < 0", topic) == b"".join(b"<%d>\n" % i for i in range(1, 501))
    assert (
        sh("{ read a; read b; echo $b $a; head -n 1; } < 0", topic) == b"2 1\n3\n"
    ), "bash seeks back to where it read to"
    assert sh("mapfile -t m < 0; echo ${#m[@]} ${m[499]}", topic) == b"500 500\n"


def test_python_reads_in_every_way(filled):
    partition, text = filled
    assert partition.read_bytes() == text
    with open(partition, "rb") as file:
        assert file.readlines() == text.splitlines(keepends=True)
        file.seek(-1000, os.SEEK_END)
        assert file.read() == text[-1000:]
        file.seek(5)
        assert file.read(10) == text[5:15]


def test_a_new_file_is_empty(sh, topic):
    assert sh("cat 0; stat -c %s 0; wc -l < 0; tail -n 5 0; grep -c x 0 || true", topic) == b"0\n0\n0\n"


@pytest.mark.parametrize("compression", ["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"])
def test_every_codec(mount, topic, sh, tmp_path, compression):
    sh(f"echo compression.type={compression} >> .config", topic)
    text = text_of(4000)
    (tmp_path / "text").write_bytes(text)
    sh(f"cat {tmp_path}/text >> 0; tail -c 100 {tmp_path}/text >> 0; head -c -100 0 | cmp - {tmp_path}/text", topic)
    text += text[-100:]
    stored = sum(file.stat().st_size for file in mount.data.glob("t-0/*.log"))
    assert (stored < len(text) * 0.8) == (compression not in ("uncompressed", "producer"))
    dump = sh(f"{mount.program} dump {mount.data}/t-0/*.log").decode()
    assert set(re.findall(r"codec=(\S+)", dump)) == {
        compression if compression not in ("uncompressed", "producer") else "none"
    }
    fd = os.open(topic / "0", os.O_RDONLY)
    rng = random.Random(3)
    for _ in range(200):
        at, n = rng.randrange(len(text)), rng.choice([1, 10, 5000, 100000])
        assert os.pread(fd, n, at) == text[at:at + n]
    os.close(fd)
    mount.remount()
    assert (topic / "0").read_bytes() == text


def test_codecs_may_change_in_one_file(mount, topic, sh):
    expected = b""
    for i, compression in enumerate(["gzip", "uncompressed", "snappy", "zstd", "lz4"] * 2):
        text = text_of(300, seed=i)
        sh(f"echo compression.type={compression} >> .config; cat >> 0", topic, stdin=text)
        expected += text
    assert (topic / "0").read_bytes() == expected
    mount.remount()
    assert (topic / "0").read_bytes() == expected


# Positions

def test_every_read_by_position(filled):
    partition, text = filled
    fd = os.open(partition, os.O_RDONLY)
    rng = random.Random(4)
    for _ in range(2000):
        at, n = rng.randrange(len(text) + 10), rng.choice([1, 7, 300, 4096, 70000, 1 << 20])
        assert os.pread(fd, n, at) == text[at:at + n]
    assert os.pread(fd, 10, len(text)) == b"" and os.pread(fd, 10, 1 << 50) == b""
    os.close(fd)


@pytest.mark.parametrize("size", [1, 17, 512, 4096, 5000, 65536, 200_000, 1 << 20, 3 << 20])
def test_sequential_reads_of_any_size(filled, size):
    partition, text = filled
    fd, got = os.open(partition, os.O_RDONLY), []
    text = text[:20000] if size < 100 else text
    while sum(map(len, got)) < len(text) and (more := os.read(fd, size)):
        got.append(more)
    os.close(fd)
    assert b"".join(got)[:len(text)] == text


def test_reads_at_several_places_at_once(filled):
    """Threads that share a handle, each reading on from its place."""
    partition, text = filled
    fd = os.open(partition, os.O_RDONLY)
    wrong = []

    def read(at, end):
        while at < end:
            got = os.pread(fd, min(16384, end - at), at)
            if not got or got != text[at:at + len(got)]:
                wrong.append(at)
                return
            at += len(got)
    quarter = len(text) // 4
    threads = [threading.Thread(target=read, args=(i * quarter, (i + 1) * quarter)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    assert not wrong


def test_seek_to_data_and_holes(filled):
    """There is no hole, so that grep and cp see text and not NULs."""
    partition, text = filled
    fd = os.open(partition, os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 1234, os.SEEK_DATA) == 1234
    assert os.lseek(fd, 0, os.SEEK_HOLE) == len(text)
    assert os.lseek(fd, 0, os.SEEK_END) == len(text)
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        with pytest.raises(OSError) as failure:
            os.lseek(fd, len(text), whence)
        assert failure.value.errno == errno.ENXIO
    os.close(fd)


def test_a_handle_that_starts_at_the_log_start_has_its_own_end(topic, sh):
    """fallocate -d goes from data to hole, and reads all of the one."""
    sh("seq 10 >> 0; fallocate -p -o 0 -l 4 0", topic)
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    assert os.pread(fd, 100, 0) == b"".join(b"%d\n" % i for i in range(3, 11))
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 17
    with pytest.raises(OSError) as failure:
        os.lseek(fd, 17, os.SEEK_DATA)
    assert failure.value.errno == errno.ENXIO
    os.close(fd)
    sh("timeout 10 fallocate -d 0", topic)


def test_a_shared_mapping_is_refused(filled):
    """The kernel's pages of a file that grows would show NULs."""
    with open(filled[0], "rb") as file:
        with pytest.raises(OSError) as failure:
            mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        assert failure.value.errno == errno.ENODEV


def test_reading_needs_an_open_for_reading(topic):
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    with pytest.raises(OSError) as failure:
        os.read(fd, 10)
    assert failure.value.errno == errno.EBADF
    os.close(fd)


# Growing files

def test_a_reader_at_the_end_goes_on_with_what_comes(topic):
    writer = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    reader = os.open(topic / "0", os.O_RDONLY)
    assert os.read(reader, 100) == b""
    for i in range(100):
        os.write(writer, b"%d\n" % i)
        assert os.read(reader, 100) == b"%d\n" % i
        assert os.read(reader, 100) == b""
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_a_reader_follows_writers(topic, spawn, size):
    """It meets the end all the time, with whatever it reads ahead."""
    writers = [
        spawn([sys.executable, WRITER, topic / "0", f"w{i}", 700, 150, "chunk=400"], stdout=subprocess.PIPE)
        for i in range(2)
    ]
    fd, got = os.open(topic / "0", os.O_RDONLY), []
    while any(writer.poll() is None for writer in writers):
        while more := os.read(fd, size):
            got.append(more)
    while more := os.read(fd, size):
        got.append(more)
    os.close(fd)
    assert lines.check(b"".join(got)) == {"w0": 700, "w1": 700}
    assert b"".join(got) == (topic / "0").read_bytes()


def test_tail_follows(topic, follow):
    with open(topic / "0", "ab", buffering=0) as writer:
        writer.write(b"1\n2\n3\n")
        tail = follow("tail", "-n", "2", "-f", "-s", "0.1", topic / "0")
        tail.wait_for(b"2\n3\n")
        writer.write(b"4\n")
        tail.wait_for(b"2\n3\n4\n")
        text = text_of(3000)
        lines.write_all(writer.fileno(), text)
        tail.wait_for(b"2\n3\n4\n" + text)


def test_tail_follows_an_empty_file_and_by_name(topic, follow):
    from_empty = follow("tail", "-n", "+1", "-f", "-s", "0.1", topic / "0")
    by_name = follow("tail", "-n", "+1", "-F", "-s", "0.1", topic / "0")
    with open(topic / "0", "a") as writer:
        writer.write("first\n")
    from_empty.wait_for(b"first\n")
    by_name.wait_for(b"first\n")
    with open(topic / "0", "a") as writer:
        writer.write("second\n")
    from_empty.wait_for(b"first\nsecond\n")
    by_name.wait_for(b"first\nsecond\n")


def test_tail_follows_into_grep(topic, spawn):
    command = f"tail -n +1 -f -s 0.1 {topic / '0'} | grep --line-buffered error"
    out = Follower(spawn(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, start_new_session=True))
    try:
        with open(topic / "0", "a", buffering=1) as writer:
            for i in range(20):
                writer.write(f"error {i}\nnothing\n")
        out.wait_for(b"".join(b"error %d\n" % i for i in range(20)))
    finally:
        os.killpg(out._process.pid, signal.SIGKILL)


def test_tail_of_several_partitions(sh, topic, follow):
    sh("touch 1; echo a >> 0; echo b >> 1", topic)
    tail = follow("tail", "-q", "-n", "+1", "-f", "-s", "0.1", topic / "0", topic / "1")
    tail.wait_for(b"a\nb\n")
    sh("echo c >> 1", topic)
    tail.wait_for(b"a\nb\nc\n")


# stat

def test_sizes_blocks_and_times(mount, topic, sh):
    empty = os.stat(topic / "0")
    assert empty.st_size == 0 and empty.st_blksize == 1 << 20 and empty.st_nlink == 1
    before = time.time()
    sh("seq 1000 >> 0", topic)
    after = time.time()
    full = os.stat(topic / "0")
    assert full.st_size == len(sh("seq 1000"))
    assert before - 0.1 <= full.st_mtime <= after + 0.1, "the append time of the newest record"
    assert empty.st_mtime <= full.st_mtime
    stored = sum(file.stat().st_size for file in mount.data.glob("t-0/*.log"))
    assert full.st_blocks == (stored + 511) // 512
    time.sleep(0.01)
    assert os.stat(topic / "0").st_mtime_ns == full.st_mtime_ns, "reading does not change it"
    mount.remount()
    again = os.stat(topic / "0")
    assert (again.st_size, again.st_mtime_ns, again.st_blocks) == (full.st_size, full.st_mtime_ns, full.st_blocks)


def test_a_file_keeps_its_inode_number(mount, topic, sh):
    """However many nodeids the kernel is given."""
    fds = [os.open(topic / "0", os.O_WRONLY | os.O_APPEND) for _ in range(3)]
    inodes = {os.fstat(fd).st_ino for fd in fds} | {os.stat(topic / "0").st_ino}
    assert len(inodes) == 1
    sh("touch 1", topic)
    assert os.stat(topic / "1").st_ino not in inodes
    assert {entry.name: entry.inode() for entry in os.scandir(topic)} == {
        name: os.stat(topic / name).st_ino for name in "01"
    }
    for fd in fds:
        os.close(fd)


def test_find_and_test_see_growth(sh, topic):
    assert sh("find . -type f -empty", topic) == b"./0\n"
    assert sh("echo x >> 0; find . -type f -empty; find . -size -2c -type f", topic) == b""
    assert sh("find . -size 2c; [ -s 0 ] && echo yes", topic) == b"./0\nyes\n"
    assert sh("du --apparent-size -b 0", topic) == b"2\t0\n"


def test_the_free_space_is_that_of_the_data(mount):
    ours, disk = os.statvfs(mount.dir), os.statvfs(mount.data)
    assert ours.f_frsize * ours.f_blocks == pytest.approx(disk.f_frsize * disk.f_blocks, rel=0.01)
    assert 0 < ours.f_bavail <= ours.f_blocks and ours.f_namemax == 249
    df = subprocess.run(
        ["df", "--output=fstype,source,target", mount.dir], capture_output=True, text=True, check=True
    ).stdout
    assert df.splitlines()[1].split() == ["fuse.spoolfs", str(mount.data), str(mount.dir)]


# xattrs

def test_extended_attributes(mount, topic, sh):
    sh("seq 5 >> 0", topic)
    got = dict(
        line.split("=", 1)
        for line in sh("getfattr -d -m 'user[.]spoolfs' --absolute-names 0", topic).decode().splitlines()
        if "=" in line
    )
    assert got["user.spoolfs.log_start"] == '"0"' and got["user.spoolfs.high_watermark"] == '"5"'
    assert got["user.spoolfs.leader"] == got["user.spoolfs.isr"] == '"0"'
    assert got["user.spoolfs.visible_end_position"] == '"10"'
    assert len(got["user.spoolfs.topic_id"]) == 24
    assert sorted(os.listxattr(topic)) == ["user.spoolfs.partitions", "user.spoolfs.topic_id"]
    assert os.getxattr(topic, "user.spoolfs.topic_id") == os.getxattr(topic / "0", "user.spoolfs.topic_id")
    assert os.getxattr(mount.dir, "user.spoolfs.data").decode() == str(mount.data)
    assert int(os.getxattr(mount.dir, "user.spoolfs.pid")) == mount.daemon.pid


def test_extended_attributes_cannot_be_set_and_others_are_not_there(topic):
    for name, value in (("user.spoolfs.leader", errno.EPERM), ("user.other", errno.EOPNOTSUPP)):
        with pytest.raises(OSError) as failure:
            os.setxattr(topic / "0", name, b"1")
        assert failure.value.errno == value
    with pytest.raises(OSError) as failure:
        os.getxattr(topic / "0", "user.spoolfs.nonsense")
    assert failure.value.errno == errno.ENODATA


# Large and many

def test_many_readers_at_once(filled, spawn, tmp_path):
    partition, _ = filled
    readers = [spawn(["cmp", partition, tmp_path / "text"]) for _ in range(12)]
    assert [reader.wait(60) for reader in readers] == [0] * 12


def test_a_long_line_in_small_pieces(topic):
    line = bytes(random.Random(5).choices(range(32, 127), k=900_000)) + b"\n"
    with open(topic / "0", "ab", buffering=0) as writer:
        lines.write_all(writer.fileno(), b"before\n" + line + b"after\n")
    fd, got = os.open(topic / "0", os.O_RDONLY), b""
    while more := os.read(fd, 1000):
        got += more
    assert got == b"before\n" + line + b"after\n"
    assert os.pread(fd, 20, len(got) - 10) == got[-10:]
    os.close(fd)


def test_many_small_segments(mounts, sh, tmp_path):
    mount = mounts("log.segment.bytes=16384")
    topic = mount.dir / "t"
    topic.mkdir()
    text = text_of(4000, 100)
    (tmp_path / "text").write_bytes(text)
    sh(f"split -C 3000 --filter='cat >> {topic}/0' {tmp_path}/text; cmp 0 {tmp_path}/text", topic)
    assert len(list(mount.data.glob("t-0/*.log"))) > 20
    fd = os.open(topic / "0", os.O_RDONLY)
    for at in random.Random(6).sample(range(len(text)), 500):
        assert os.pread(fd, 40, at) == text[at:at + 40]
    os.close(fd)
    mount.remount()
    sh(f"cmp 0 {tmp_path}/text", topic)
    mount.crash()
    sh(f"cmp 0 {tmp_path}/text", topic)


def test_reading_goes_on_while_a_writer_holds_the_disk(mounts):
    """What is in the log can be read while an append waits."""
    mount = mounts(faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    (topic / "0").open("a").write("there\n")
    mount.faults.set("write hold path=*/t-0/*.log")

    def append():
        with open(topic / "0", "a") as file:
            file.write("late\n")
    thread = threading.Thread(target=append)
    thread.start()
    wait_until(lambda: mount.faults.fired == 1)
    assert (topic / "0").read_bytes() == b"there\n" and os.stat(topic / "0").st_size == 6
    mount.faults.clear()
    thread.join()
    assert (topic / "0").read_bytes() == b"there\nlate\n"
