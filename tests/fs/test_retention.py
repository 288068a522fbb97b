"""After the head is gone: which tools see exactly the retained lines, which need t/0@earliest, and who gets ESTALE."""

import contextlib
import errno
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import wait_until

WRITER = Path(lines.__file__)
OFTEN = "log.retention.check.interval.ms=10"


def start_of(partition):
    """(offset, position) of the log start."""
    return tuple(int(os.getxattr(partition, f"user.spoolfs.{name}")) for name in ("log_start", "log_start_position"))


def append(partition, text, piece=4000):
    with open(partition, "ab", buffering=0) as file:
        for at in range(0, len(text), piece):
            lines.write_all(file.fileno(), text[at:at + piece])


KEEP = 60_000


def segments(stored):
    """Sizes of the segments, in order, while some may be going."""
    sizes = []
    for file in sorted(stored.glob("*.log")):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes


def is_retained(stored):
    """Without one more segment less than retention.bytes would be left."""
    return sum(segments(stored)[1:]) < KEEP


def by_size(mounts, keep=KEEP):
    mount = mounts(OFTEN, "log.segment.bytes=16384", f"log.retention.bytes={keep}")
    (mount.dir / "t").mkdir()
    return mount


class Cut:
    """A partition whose head retention has taken."""

    def __init__(self, mount, text, tmp_path):
        self.mount, self.text, self.path = mount, text, mount.dir / "t" / "0"
        append(self.path, text)
        wait_until(lambda: is_retained(mount.data / "t-0"))
        self.offset, self.position = start_of(self.path)
        self.left = text[self.position:]
        assert (
            self.offset > 0
            and text[: self.position].count(b"\n") == self.offset
            and text[self.position - 1 : self.position] == b"\n"
        )
        (tmp_path / "left").write_bytes(self.left)


@pytest.fixture
def cut(mounts, tmp_path):
    text = b"".join(lines.make_line("w", i, random.Random(i).randint(0, 300)) for i in range(1500))
    return Cut(by_size(mounts), text, tmp_path)


# Tools

AT_THE_START = [
    "cat",
    "sort",
    "wc -l",
    "head -n 10",
    "tail -n 5",
    "tail -n 100",
    "tail -n +1",
    "tail -n +10",
    "grep -c 7",
    "grep 77",
    "grep -c ^",
    "grep -v 7",
    "awk '{n += length} END {print NR, n}'",
    "sed -n 3p",
    "uniq -c",
    "md5sum",
    "cut -c1-20",
    "nl",
    "od -c",
    "tr a b",
    "head -c 1000",
    "wc -w",
    "dd bs=1000 status=none",
    "dd bs=1M status=none",
    "split -l 100 --filter='md5sum' -",
    "paste - -",
    'while read -r a; do echo "$a"; done',
    "cat | tail -c 50",
]


@pytest.mark.parametrize("tool", AT_THE_START)
def test_tools_that_read_from_the_start_see_what_is_left(cut, sh, tmp_path, tool):
    assert sh(f"{tool} < 0", cut.path.parent) == sh(f"{tool} < {tmp_path}/left")


@pytest.mark.parametrize(
    "tool",
    [
        "cat",
        "sort",
        "grep -c 7",
        "tail -n 5",
        "tail -n 100",
        "head -n 3",
        "awk 'END {print NR}'",
        "cat -",
        "wc -l <",
        "sha1sum <",
        "python3 -c 'import sys; sys.stdout.write(open(sys.argv[1]).read())'",
        "perl -ne print",
        "strings",
        "base64",
    ],
)
def test_tools_that_open_the_file_see_what_is_left(cut, sh, tmp_path, tool):
    tool = tool.replace("cat -", "cat")
    assert sh(f"{tool} 0", cut.path.parent) == sh(f"{tool} {tmp_path}/left")


def test_copies_have_exactly_what_is_left(cut, sh, tmp_path):
    sh(
        f"cp 0 {tmp_path}/a; cmp {tmp_path}/a {tmp_path}/left; cat 0 > {tmp_path}/b; cmp {tmp_path}/b {tmp_path}/left",
        cut.path.parent,
    )
    sh(
        f"cp --sparse=always 0 {tmp_path}/c; cmp {tmp_path}/c {tmp_path}/left; ! grep -q -P '\\0' {tmp_path}/a",
        cut.path.parent,
    )
    sh(f"cp -r . {tmp_path}/tree; cmp {tmp_path}/tree/0 {tmp_path}/left", cut.path.parent)


def test_grep_does_not_call_it_binary(cut, sh):
    assert b"binary" not in sh("grep -n 7 0 | head -n 5; grep -c w 0", cut.path.parent).lower()


@pytest.mark.parametrize("cut", (5, 3000, 8191, 8192, 8193, 10000, 13880, 13893))
def test_tail_shows_what_is_left_however_little(mount, topic, sh, cut):
    """It reads blocks from the end backwards, past the log start: it must show the retained lines all the same."""
    sh(f"seq 3000 >> 0; fallocate -p -o 0 -l {cut} 0", topic)
    for more in ("", "more", "and more"):
        if more:
            sh(f"echo {more} >> 0", topic)
        for n in (0, 1, 2, 3, 10, 1000, 5000):
            assert sh(f"tail -n {n} 0", topic) == sh(f"tail -n {n} < <(cat 0)", topic), (more, n)


def test_tail_follows_where_little_is_left(mount, topic, spawn, sh):
    sh("seq 10000 >> 0; rm 0; seq 3 >> 0", topic)
    tail = spawn(["tail", "-n", "2", "-f", "-s", "0.05", topic / "0"], stdout=subprocess.PIPE)
    assert tail.stdout.readline() + tail.stdout.readline() == b"2\n3\n"
    for line in (b"four\n", b"five\n"):
        sh(f"echo {line.decode().strip()} >> 0", topic)
        assert tail.stdout.readline() == line


def test_tail_wherever_the_log_starts(topic, sh):
    """The last N lines, or all that are left, whatever lies in the blocks that tail reads backwards."""
    rng = random.Random(5)
    text = b"".join(b"%d %s\n" % (i, b"." * rng.choice([0, 3, 40, 300])) for i in range(900)) + b"\n\n\nlast\n"
    append(topic / "0", text)
    block = 8192
    around = {n * block + k for n in range(1, len(text) // block + 1) for k in (-1, 0, 1)}
    for length in sorted({rng.randrange(len(text)) for _ in range(15)} | around):
        subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(length), topic / "0"], check=True)
        left = text[text.rfind(b"\n", 0, length) + 1:]
        for n in (1, 5, 30, 2000):
            expected = b"".join(left.splitlines(keepends=True)[-n:])
            for file in ("0", "< 0"):
                given = sh(f"tail -n {n} {file}", topic)
                assert given == expected, f"tail -n {n} {file}, start {len(text) - len(left)} of {len(text)}"


def test_no_other_program_gets_bytes_of_another_position(cut):
    """What is done for tail is for tail alone: the same read by anybody else fails."""
    size = os.stat(cut.path).st_size
    start = size - len(cut.left)
    with open(cut.path, "rb", buffering=0) as file:
        file.seek(start - 100)
        with pytest.raises(OSError, match="Stale"):
            file.read(size - start + 100)


def test_python_sees_what_is_left(cut):
    with open(cut.path, "rb") as file:
        assert file.readlines() == cut.left.splitlines(keepends=True)
    for buffering in (0, 512, 1 << 20):
        with open(cut.path, "rb", buffering=buffering) as file:
            assert b"".join(iter(lambda: file.read(1000), b"")) == cut.left


def test_the_size_still_counts_what_is_gone_and_the_blocks_do_not(cut):
    status = os.stat(cut.path)
    stored = sum(file.stat().st_size for file in cut.mount.data.glob("t-0/*.log"))
    assert status.st_size == len(cut.text) and status.st_blocks == (stored + 511) // 512


def test_positions_that_are_left_have_not_moved(cut):
    fd = os.open(cut.path, os.O_RDONLY)
    rng = random.Random(1)
    for _ in range(300):
        at = rng.randrange(cut.position, len(cut.text))
        assert os.pread(fd, 100, at) == cut.text[at:at + 100]
    os.close(fd)


def test_a_position_that_is_gone_is_estale(cut):
    fd = os.open(cut.path, os.O_RDONLY)
    for at in (1, cut.position // 2, cut.position - 1):
        with pytest.raises(OSError) as failure:
            os.pread(fd, 10, at)
        assert failure.value.errno == errno.ESTALE
    assert os.pread(fd, 10, cut.position) == cut.left[:10]
    os.close(fd)
    assert "0@earliest" in cut.mount.messages(), "the log says what to do"


def test_a_moved_reader_gets_nothing_beyond_what_it_has_read(cut):
    """It began at 0 and was given the log's start: its positions are not the file's."""
    fd = os.open(cut.path, os.O_RDONLY)
    assert os.read(fd, 1000) == cut.left[:1000]
    assert os.pread(fd, 100, 500) == cut.left[500:600]
    assert os.pread(fd, 1000, 1000) == cut.left[1000:2000], "going on is what it may"
    assert os.pread(fd, 1000, 0) == cut.left[:1000]
    for at in (len(cut.text) - 100, cut.position, 5000):
        with pytest.raises(OSError) as failure:
            os.pread(fd, 100, at)
        assert failure.value.errno == errno.ESTALE
    assert os.pread(fd, 10, 2000) == cut.left[2000:2010]
    os.close(fd)


# @earliest


@pytest.mark.parametrize(
    "tool",
    [
        "cat",
        "tac",
        "wc -c",
        "wc",
        "tail -c 1000",
        "tail -c +1000",
        "head -c -1000",
        "tail -n 3",
        "tail -n 100000",
        "head -n -20",
        "dd bs=100 skip=7 count=9 status=none if=",
        "grep -c 7",
        "sort",
        "stat -c %s",
        "cmp 0 -i 0 ",
    ],
)
def test_at_earliest_serves_the_tools_that_trust_the_size(cut, sh, tmp_path, tool):
    if tool.startswith("cmp"):
        sh(f"cmp 0@earliest {tmp_path}/left", cut.path.parent)
        return
    name, left = ("0@earliest", f"{tmp_path}/left") if tool.endswith("=") else (" 0@earliest", f" {tmp_path}/left")
    assert sh(f"{tool}{name} | sed s,0@earliest,{tmp_path}/left,", cut.path.parent) == sh(f"{tool}{left}")


def test_tar_and_rsync_of_at_earliest(cut, sh, tmp_path):
    sh(f"tar cf - 0@earliest | tar xf - -C {tmp_path}; cmp {tmp_path}/0@earliest {tmp_path}/left", cut.path.parent)
    sh(f"rsync -a 0@earliest {tmp_path}/synced; cmp {tmp_path}/synced {tmp_path}/left", cut.path.parent)
    sh(f"rsync -a --append 0@earliest {tmp_path}/synced; cmp {tmp_path}/synced {tmp_path}/left", cut.path.parent)


def test_at_earliest_is_read_only(cut, sh):
    sh("echo x >> 0@earliest", cut.path.parent, status=1)
    with pytest.raises(OSError) as failure:
        os.open(cut.path.with_name("0@earliest"), os.O_WRONLY | os.O_APPEND)
    assert failure.value.errno in (errno.EPERM, errno.EACCES)
    assert os.listdir(cut.path.parent) == ["0"], "it is not listed"
    for name in ("1@earliest", "0@latest", "0@earlies", "@earliest"):
        assert not cut.path.with_name(name).exists()


def test_at_earliest_grows_and_its_positions_stay(cut, sh):
    earliest = cut.path.with_name("0@earliest")
    fd = os.open(earliest, os.O_RDONLY)
    assert os.fstat(fd).st_size == len(cut.left)
    text = lines.make_line("w", 1500, 200)
    append(cut.path, text)
    assert os.fstat(fd).st_size == len(cut.left) + len(text)
    assert os.pread(fd, 1000, len(cut.left)) == text
    position = cut.position
    append(cut.path, b"".join(lines.make_line("w", 1501 + i, 200) for i in range(1000)))
    wait_until(lambda: start_of(cut.path)[1] > position and is_retained(cut.mount.data / "t-0"))
    with pytest.raises(OSError) as failure:
        os.pread(fd, 10, 0)
    assert failure.value.errno == errno.ESTALE, "its 0 is gone, and it has no other"
    os.close(fd)
    offset, position = start_of(cut.path)
    with open(earliest, "rb") as file:
        assert file.read(10) == lines.make_line("w", offset, 200)[:10]
    assert os.stat(earliest).st_size == os.stat(cut.path).st_size - start_of(cut.path)[1]


# After stops

def test_all_of_it_holds_after_a_stop(cut, sh, tmp_path):
    for stop in (cut.mount.remount, cut.mount.crash):
        stop()
        assert start_of(cut.path) == (cut.offset, cut.position) and os.stat(cut.path).st_size == len(cut.text)
        sh(f"cmp 0@earliest {tmp_path}/left; cat 0 | cmp - {tmp_path}/left; tail -n 3 0", cut.path.parent)


# By time

def test_retention_by_time(mounts, sh, tmp_path):
    mount = mounts(OFTEN, "log.segment.bytes=16384")
    topic = mount.dir / "t"
    topic.mkdir()
    text = b"".join(lines.make_line("w", i, 100) for i in range(1000))
    append(topic / "0", text)
    sh("echo retention.ms=1 >> .config", topic)
    wait_until(lambda: start_of(topic / "0")[0] == 1000)
    assert sh("cat 0; stat -c %s 0; wc -l < 0; tail -n 5 0; grep -c x 0 || true", topic) == b"%d\n0\n0\n" % len(text)
    sh("echo retention.ms=-1 >> .config; echo more >> 0", topic)
    assert sh("cat 0; tail -n +1 0; cat 0@earliest", topic) == b"more\n" * 3
    mount.remount()
    assert sh("cat 0; stat -c %s 0", topic) == b"more\n%d\n" % (len(text) + 5)


def test_what_is_young_enough_stays(mounts, sh):
    mount = mounts(OFTEN)
    topic = mount.dir / "t"
    topic.mkdir()
    sh("seq 1000 >> 0; echo retention.ms=600000 >> .config", topic)
    sh("mkdir u; seq 1000 >> u/0; echo retention.ms=1 >> u/.config", mount.dir)
    wait_until(lambda: start_of(mount.dir / "u" / "0")[0] == 1000, what="retention has looked at everything")
    assert sh("cat 0", topic) == sh("seq 1000")


def test_a_segment_below_the_start_goes_when_the_next_is_begun(mount, topic, sh):
    """Its messages were deleted while it was the newest."""
    sh("echo segment.bytes=16384 >> .config; seq 1000 >> 0; rm 0; for i in 1 2 3 4; do seq 2000 >> 0; done", topic)
    assert start_of(topic / "0")[0] == 1000

    def bases():
        return sorted(int(file.stem) for file in mount.data.glob("t-0/*.log"))
    wait_until(lambda: bases()[0] >= 1000)
    assert len(bases()) >= 3
    assert sh("cat 0", topic) == sh("for i in 1 2 3 4; do seq 2000; done")


def test_the_files_of_deleted_segments_go_after_their_delay(mounts):
    mount = by_size(mounts, 20_000)
    stored = mount.data / "t-0"
    topic = mount.dir / "t"
    append(topic / "0", b"".join(lines.make_line("w", i, 200) for i in range(1000)))
    wait_until(lambda: list(stored.glob("*.deleted")))
    (topic / ".config").open("a").write("file.delete.delay.ms=1\n")
    append(topic / "0", b"".join(lines.make_line("w", i, 200) for i in range(1000, 1200)))
    before = start_of(topic / "0")
    wait_until(lambda: sum(segments(stored)) < 40_000)
    mount.umount()
    assert len(list(stored.glob("*.log"))) <= 4
    mount.start()
    assert start_of(topic / "0") >= before


# While it happens

def test_tail_follows_across_retention(mounts, spawn):
    """A follower that keeps up sees every line."""
    mount = by_size(mounts)
    path = mount.dir / "t" / "0"
    append(path, lines.make_line("w", 0, 50))
    tail = spawn(["tail", "-n", "+1", "-f", "-s", "0.05", path], stdout=subprocess.PIPE)
    got = b""
    for start in range(1, 4001, 200):
        more = b"".join(lines.make_line("w", i, 150) for i in range(start, start + 200))
        append(path, more)
        while got.count(b"\n") < start + 200:
            piece = os.read(tail.stdout.fileno(), 1 << 16)
            assert piece, "tail has ended"
            got += piece
    assert start_of(path)[0] > 100
    assert lines.check(got) == {"w": 4001}


def test_readers_from_the_start_never_see_a_nul_or_a_torn_line(mounts, spawn):
    """Whatever retention and writers do meanwhile: a run of whole lines, without a gap."""
    mount = by_size(mounts, 100_000)
    path = mount.dir / "t" / "0"
    append(path, lines.make_line("w", 0, 100))
    writer = spawn([sys.executable, WRITER, path, "w", 12000, 150, "batch=20", "first=1"], stdout=subprocess.DEVNULL)
    runs = 0
    while writer.poll() is None or not runs:
        with open(path, "rb", buffering=0) as file:
            content = file.read(4096)  # wherever the log starts by now, this is not too late
            with contextlib.suppress(OSError):  # while this may be overtaken
                while more := file.read(1 << 16):
                    content += more
        content = content[:content.rfind(b"\n") + 1]
        _, first = lines.parse(content[:content.index(b"\n")])
        lines.check(content, {"w": first})
        runs += 1
    assert writer.wait() == 0 and runs
    wait_until(lambda: start_of(path)[0] > 5000)


def test_a_reader_that_fell_behind_gets_estale(mounts):
    """Never other bytes than those it asked for."""
    mount = by_size(mounts, 30_000)
    path = mount.dir / "t" / "0"
    first = b"".join(lines.make_line("w", i, 100) for i in range(200))
    append(path, first)
    fd = os.open(path, os.O_RDONLY)
    assert os.read(fd, 500) == first[:500]
    append(path, b"".join(lines.make_line("w", i, 100) for i in range(200, 1200)))
    wait_until(lambda: start_of(path)[1] > len(first))
    with pytest.raises(OSError) as failure:
        for _ in range(100):
            got = os.read(fd, 500)
            at = os.lseek(fd, 0, os.SEEK_CUR) - len(got)
            assert got == first[at:at + len(got)] and got
    assert failure.value.errno == errno.ESTALE
    os.close(fd)
    assert "deleted" in mount.messages()


def test_sizes_never_go_back(mounts, spawn):
    """Under writers, retention, deletes and configuration changes, as several observers see it."""
    mount = by_size(mounts)
    path = mount.dir / "t" / "0"
    stop, wrong = threading.Event(), []

    def observe(look):
        last = 0
        while not stop.is_set():
            size = look()
            if size < last:
                wrong.append((last, size))
            last = size
    fd = os.open(path, os.O_RDONLY)
    observers = [threading.Thread(target=observe, args=(look,)) for look in
                 (lambda: os.stat(path).st_size, lambda: os.fstat(fd).st_size, lambda: os.lseek(fd, 0, os.SEEK_END))]
    for observer in observers:
        observer.start()
    try:
        writers = [
            spawn([sys.executable, WRITER, path, f"w{i}", 1500, 100, "batch=3"], stdout=subprocess.DEVNULL)
            for i in range(2)
        ]
        for i in range(1000):
            if all(writer.poll() is not None for writer in writers):
                break
            subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(os.stat(path).st_size // 2 + 1), path], check=True)
            with open(path.parent / ".config", "a") as config:
                config.write(f"segment.bytes={16384 + i % 7 * 1000}\n")
        for writer in writers:
            assert writer.wait(60) == 0
    finally:
        stop.set()
        for observer in observers:
            observer.join()
    os.close(fd)
    assert not wrong


def test_idle_partitions_are_retained_too(mounts, sh):
    """Those that nobody has opened since the mount."""
    mount = mounts(OFTEN, "log.segment.bytes=16384")
    topic = mount.dir / "t"
    sh("mkdir t; seq 20000 >> t/0", mount.dir)
    size = os.stat(topic / "0").st_size
    mount.remount(OFTEN, "log.segment.bytes=16384", "log.retention.ms=1")
    wait_until(lambda: start_of(topic / "0")[0] == 20000)
    assert sh("cat 0; stat -c %s 0", topic) == b"%d\n" % size
