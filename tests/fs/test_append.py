"""Appending: what a shell and programs write becomes messages, whole, in order, and nothing else can be written."""

import errno
import fcntl
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import wait_until

WRITER = Path(lines.__file__)


def refused(error, call, *arguments):
    with pytest.raises(OSError) as failure:
        call(*arguments)
    assert failure.value.errno == error, failure.value


def appender(path):
    return os.open(path, os.O_WRONLY | os.O_APPEND)


# What a user types

def test_echo_appends_a_message(sh, topic):
    assert sh("echo hello >> 0; cat 0", topic) == b"hello\n"
    assert sh("echo world >> 0; cat 0", topic) == b"hello\nworld\n"


def test_an_append_is_seen_at_once_by_whoever_looks(sh, topic):
    assert sh("for i in $(seq 50); do echo $i >> 0; tail -n 1 0; done", topic) == b"".join(
        b"%d\n" % i for i in range(1, 51)
    )
    assert sh("for i in $(seq 50); do echo $i >> 0; stat -c %s 0; done | sort -n -c", topic) == b""


def test_tee_appends(sh, topic):
    assert sh("seq 3 | tee -a 0 | wc -l; cat 0", topic) == b"3\n1\n2\n3\n"


def test_cat_appends_a_file(sh, topic, tmp_path):
    text = b"".join(lines.make_line("w", i, random.Random(i).randint(0, 3000)) for i in range(2000))
    (tmp_path / "text").write_bytes(text)
    sh(f"cat {tmp_path}/text >> 0; cmp 0 {tmp_path}/text", topic)


@pytest.mark.parametrize("block", ["1", "7", "4095", "65537", "1M", "3M"])
def test_dd_appends_in_any_block_size(sh, topic, tmp_path, block):
    text = b"".join(
        lines.make_line("w", i, random.Random(i).randint(0, 300)) for i in range(40 if block == "1" else 2000)
    )
    (tmp_path / "text").write_bytes(text)
    sh(f"dd if={tmp_path}/text of=0 oflag=append conv=notrunc bs={block} status=none; cmp 0 {tmp_path}/text", topic)


def test_a_shell_loop_over_an_open_descriptor(sh, topic):
    assert sh("exec 3>> 0; for i in 1 2 3; do echo $i >&3; done; exec 3>&-; cat 0", topic) == b"1\n2\n3\n"
    assert sh("for i in 4 5; do echo $i; done >> 0; cat 0", topic) == b"1\n2\n3\n4\n5\n"


def test_split_and_sort_write_into_partitions(sh, topic):
    assert sh("seq 10 | split -l 5 --filter='cat >> 0'; sort -rn 0 | head -n 2", topic) == b"10\n9\n"


def test_python_appends(topic):
    with open(topic / "0", "a") as file:
        print("one", file=file)
        file.write("two\nthree")
    assert (topic / "0").read_bytes() == b"one\ntwo\nthree\n"
    with open(topic / "0", "a+b") as file:
        file.write(b"four\n")
        file.flush()
        file.seek(0)
        assert file.read() == b"one\ntwo\nthree\nfour\n"


def test_writev_is_one_append(topic):
    fd = appender(topic / "0")
    assert os.writev(fd, [b"a", b"b\nc", b"\nd\n", b"e"]) == 8
    assert (topic / "0").read_bytes() == b"ab\nc\nd\n"
    os.close(fd)
    assert (topic / "0").read_bytes() == b"ab\nc\nd\ne\n"


# What is refused

def test_overwriting_is_refused_and_changes_nothing(sh, topic):
    sh("seq 5 >> 0", topic)
    sh("echo x > 0", topic, status=1, stderr="Operation not permitted")
    sh("cp /etc/passwd 0", topic, status=1, stderr="Operation not permitted")
    sh("truncate -s 0 0", topic, status=1, stderr="Operation not permitted")
    sh("truncate -s 100 0", topic, status=1, stderr="Operation not permitted")
    sh("echo x | dd of=0 conv=notrunc status=none", topic, status=1, stderr="Operation not permitted")
    sh("echo x | dd of=0 conv=notrunc seek=1 status=none", topic, status=1)
    sh("sort -o 0 0", topic, status=2, stderr="Operation not permitted")
    assert sh("cat 0", topic) == b"1\n2\n3\n4\n5\n"


def test_a_write_that_is_no_append_is_refused(topic):
    fd = os.open(topic / "0", os.O_WRONLY)
    refused(errno.EPERM, os.write, fd, b"x\n")
    refused(errno.EPERM, os.pwrite, fd, b"x\n", 0)
    refused(errno.EPERM, os.ftruncate, fd, 1)
    os.ftruncate(fd, 0)  # the size it has
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.write(fd, b"now\n")
    os.close(fd)
    assert (topic / "0").read_bytes() == b"now\n"


def test_the_position_of_a_write_does_not_count(topic):
    fd = appender(topic / "0")
    os.write(fd, b"first\n")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"second\n")
    os.pwrite(fd, b"third\n", 2)
    os.close(fd)
    assert (topic / "0").read_bytes() == b"first\nsecond\nthird\n"


def test_an_empty_file_may_be_opened_with_truncation(sh, topic):
    """As `> file` does before there is anything to lose; the write itself needs O_APPEND."""
    sh(": > 0", topic)
    fd = os.open(topic / "0", os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.write(fd, b"x\n")
    os.close(fd)
    refused(errno.EPERM, os.open, topic / "0", os.O_WRONLY | os.O_TRUNC | os.O_APPEND)


def test_a_failed_redirection_is_what_the_user_sees(sh, topic):
    sh("echo 1 >> 0", topic)
    sh("echo x > 0", topic, status=1, stderr="0: Operation not permitted")


# Lines

def test_a_line_may_come_in_any_pieces(topic):
    rng = random.Random(1)
    text = b"".join(lines.make_line("w", i, rng.choice([0, 10, 100, 5000])) for i in range(300))
    fd, written = appender(topic / "0"), 0
    while written < len(text):
        written += os.write(fd, text[written:written + rng.choice([1, 2, 3, 50, 700, 20000])])
        whole = text.rfind(b"\n", 0, written) + 1
        assert os.stat(topic / "0").st_size == whole, "a line counts once its newline is written, and not before"
    os.close(fd)
    assert (topic / "0").read_bytes() == text


def test_a_line_may_come_byte_by_byte(topic):
    text = b"ab\n\nc\n" * 10
    fd = appender(topic / "0")
    for i in range(len(text)):
        assert os.write(fd, text[i:i + 1]) == 1
    assert (topic / "0").read_bytes() == text
    os.close(fd)


def test_an_unfinished_line_becomes_a_message_at_close(sh, topic):
    assert sh("printf abc >> 0; cat 0", topic) == b"abc\n"
    assert (
        sh("exec 3>> 0; printf de >&3; printf f >&3; exec 3>&-; cat 0", topic) == b"abc\nde\nf\n"
    ), "each >&3 is a close"


def test_an_unfinished_line_becomes_a_message_when_its_writer_is_killed(topic, spawn):
    writer = spawn([sys.executable, "-c", f"import os,time; fd=os.open({str(topic / '0')!r}, os.O_WRONLY|os.O_APPEND);"
                    "os.write(fd, b'half a'); print('ready', flush=True); time.sleep(100)"], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"ready\n"
    assert os.stat(topic / "0").st_size == 0
    writer.kill()
    writer.wait()
    wait_until(lambda: (topic / "0").read_bytes() == b"half a\n")


def test_unfinished_lines_of_several_handles_do_not_meet(topic):
    fds = [appender(topic / "0") for _ in range(5)]
    for i, fd in enumerate(fds):
        os.write(fd, b"%d begins " % i)
    for i, fd in reversed(list(enumerate(fds))):
        os.write(fd, b"and %d ends\n" % i)
    for fd in fds:
        os.close(fd)
    assert (topic / "0").read_bytes() == b"".join(b"%d begins and %d ends\n" % (i, i) for i in (4, 3, 2, 1, 0))


def test_processes_that_share_an_open_file_do_not_mix_within_a_line(sh, topic):
    assert sh("{ printf abc; sh -c 'echo other'; printf 'def\\n'; } >> 0; cat 0", topic) == b"other\nabcdef\n"


def test_a_child_that_shares_the_file_does_not_end_the_line_of_its_parent(topic):
    """The FLUSH that a child's exit sends is the child's."""
    fd = appender(topic / "0")
    os.write(fd, b"abc")
    os.set_inheritable(fd, True)
    subprocess.run(["bash", "-c", f"echo other >&{fd}"], close_fds=False, check=True)
    subprocess.run(["true"], close_fds=False, check=True)
    os.write(fd, b"def\n")
    os.close(fd)
    assert (topic / "0").read_bytes() == b"other\nabcdef\n"


def test_any_bytes_but_newline(topic):
    rng = random.Random(2)
    text = b"".join(
        bytes(rng.choice([0, 9, 13, 27, 128, 255, rng.randrange(256)]) for _ in range(rng.randrange(200))).replace(
            b"\n", b""
        )
        + b"\n"
        for _ in range(300)
    )
    fd = appender(topic / "0")
    lines.write_all(fd, text)
    os.close(fd)
    assert (topic / "0").read_bytes() == text


def test_invalid_utf8_and_nul_alone(sh, topic):
    assert sh(r"printf '\xff\xfe\n\0\n\0\0x\n' >> 0; cat 0", topic) == b"\xff\xfe\n\0\n\0\0x\n"


def test_empty_lines_are_messages(sh, topic):
    assert sh("echo >> 0; echo >> 0; printf '\\n\\nx\\n\\n' >> 0; wc -l < 0; cat 0", topic) == b"6\n\n\n\n\nx\n\n"


def test_a_write_of_nothing(topic):
    fd = appender(topic / "0")
    assert os.write(fd, b"") == 0
    os.close(fd)
    assert (topic / "0").read_bytes() == b""


# Lines that are too long

LIMIT = 1024


@pytest.fixture
def narrow(sh, topic):
    sh(f"echo max.message.bytes={LIMIT} >> .config", topic)
    return topic / "0"


def test_a_line_over_the_limit_is_refused_and_those_before_it_are_kept(narrow):
    fd = appender(narrow)
    text = b"one\ntwo\n" + b"x" * 5000 + b"\nthree\n"
    assert os.write(fd, text) == 8, "a short write: what came before"
    refused(errno.EMSGSIZE, os.write, fd, text[8:])
    os.write(fd, b"four\n")
    os.close(fd)
    assert narrow.read_bytes() == b"one\ntwo\nfour\n"


def test_a_line_that_grows_over_the_limit_in_pieces_is_refused_whole(narrow):
    fd = appender(narrow)
    os.write(fd, b"good\n")
    with pytest.raises(OSError) as failure:
        for _ in range(100):
            os.write(fd, b"y" * 100)
    assert failure.value.errno == errno.EMSGSIZE
    for more in (b"y" * 100, b"y", b"the end of it\nand the beginning of", b" another\n"):
        refused(errno.EMSGSIZE, os.write, fd, more)
    assert os.write(fd, b"next\n") == 5
    refused(errno.EMSGSIZE, os.fsync, fd)
    assert os.write(fd, b"last\n") == 5
    refused(errno.EMSGSIZE, os.close, fd)
    assert narrow.read_bytes() == b"good\nnext\nlast\n", "no torn line"


def test_a_line_whose_beginning_was_taken_and_whose_end_was_refused_is_told_of(topic):
    """The kernel cuts a write(2) of more than its limit into two, and tells nobody that the second failed."""
    fd = appender(topic / "0")
    assert 1 << 19 < os.write(fd, b"q" * (1 << 20) + b"\n") < 1 << 20
    assert os.write(fd, b"next line\n") == 10
    refused(errno.EMSGSIZE, os.fsync, fd)
    refused(errno.EMSGSIZE, os.close, fd)
    assert (topic / "0").read_bytes() == b"next line\n"


def test_the_user_is_told_of_a_line_that_is_too_long(sh, narrow):
    sh(
        "{ echo a; head -c 3000 /dev/zero | tr '\\0' z; echo; } | cat >> 0",
        narrow.parent,
        status=1,
        stderr="Message too long",
    )
    assert narrow.read_bytes() == b"a\n"


def test_lines_of_every_length_around_the_limit(topic, sh):
    """Either it comes back whole or it is refused; the border is one."""
    sh("echo max.message.bytes=256 >> .config", topic)
    fits = []
    for n in range(100, 300):
        fd = appender(topic / "0")
        try:
            assert os.write(fd, b"k" * n + b"\n") == n + 1
            fits.append(n)
        except OSError as failure:
            assert failure.errno == errno.EMSGSIZE
        os.close(fd)
    assert fits == list(range(100, fits[-1] + 1)) and 150 < fits[-1] < 256
    assert (topic / "0").read_bytes() == b"".join(b"k" * n + b"\n" for n in fits)


def test_a_message_of_the_default_limit(topic):
    """1048588 bytes with the batch's header, as in Kafka: a mebibyte of text less that."""
    line = b"m" * 1048500 + b"\n"
    fd = appender(topic / "0")
    lines.write_all(fd, line)
    lines.write_all(fd, b"after\n")
    os.close(fd)
    assert (topic / "0").read_bytes() == line + b"after\n"


# Many at once

def read_all(processes, seconds=120):
    for process in processes:
        output, errors = process.communicate(timeout=seconds)
        assert process.returncode == 0, errors


@pytest.mark.parametrize(
    "how", [[], ["chunk=40"], ["batch=200"], ["chunk=3000", "batch=50"]], ids=lambda how: "-".join(how) or "lines"
)
def test_many_writers_on_one_partition(topic, spawn, how):
    """No line torn, lost or doubled, and each writer's lines in its order."""
    count = 500
    writers = [
        spawn(
            [sys.executable, WRITER, topic / "0", f"w{i}", count, 90, *how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(6)
    ]
    read_all(writers)
    assert lines.check((topic / "0").read_bytes()) == {f"w{i}": count for i in range(6)}


def test_many_writers_that_sync(topic, spawn):
    writers = [
        spawn(
            [sys.executable, WRITER, topic / "0", f"w{i}", 60, 50, "fsync"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(4)
    ]
    read_all(writers)
    assert lines.check((topic / "0").read_bytes()) == {f"w{i}": 60 for i in range(4)}


def test_xargs_in_parallel_appends_whole_lines(sh, topic):
    assert (
        sh('seq 400 | xargs -P 8 -n 1 sh -c \'printf "%s-" $0; printf "%s\\n" $0\' >> 0; wc -l < 0', topic) == b"400\n"
    )
    assert sh("sort -n 0", topic) == b"".join(b"%d-%d\n" % (i, i) for i in range(1, 401))


def test_threads_that_share_a_descriptor(topic):
    """They are one owner: their lines are whole because each is one write."""
    import threading
    fd = appender(topic / "0")

    def write(name):
        for i in range(200):
            os.write(fd, lines.make_line(name, i))
    threads = [threading.Thread(target=write, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    assert lines.check((topic / "0").read_bytes()) == {f"t{i}": 200 for i in range(4)}


ATOMIC = (1 << 20) - 4096

BLOCKS = """
import os, sys
path, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
for number in range(count):
    line = b"%s-%d\\n" % (name.encode(), number)
    block = line * (size // len(line))
    assert os.write(fd, block) == len(block)
"""


def test_large_writes_stand_together(topic, spawn):
    """1 MiB - 4 KiB in one write: at no moment a reader sees a part of it, and nothing stands inside it."""
    count = 8
    writers = [
        spawn([sys.executable, "-c", BLOCKS, topic / "0", f"w{i}", count, ATOMIC], stderr=subprocess.PIPE)
        for i in range(3)
    ]
    ends = {len(name) * (ATOMIC // len(name)) for name in [b"w0-0\n"]}
    assert len(ends) == 1
    block = ends.pop()
    sizes, seen = set(), b""
    with open(topic / "0", "rb", buffering=0) as reader:
        while any(writer.poll() is None for writer in writers):
            sizes.add(os.stat(topic / "0").st_size)
            while more := reader.read(1 << 20):
                seen += more
        read_all(writers)
        while more := reader.read(1 << 20):
            seen += more
    assert {size % block for size in sizes} == {0}, "a size in the middle of a write was seen"
    content = (topic / "0").read_bytes()
    assert content == seen and len(content) == 3 * count * block
    numbers = {f"w{i}": 0 for i in range(3)}
    for at in range(0, len(content), block):
        line = content[at:content.index(b"\n", at) + 1]
        assert content[at:at + block] == line * (block // len(line))
        writer, number = line.decode().split("-")
        assert int(number) == numbers[writer]
        numbers[writer] += 1


def test_readers_see_whole_lines_while_writers_write(topic, spawn):
    """Every moment's content is a beginning of what it becomes, and ends with a line's end."""
    writers = [
        spawn(
            [sys.executable, WRITER, topic / "0", f"w{i}", 800, 60, "chunk=30"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(3)
    ]
    moments = []
    while any(writer.poll() is None for writer in writers):
        moments.append((topic / "0").read_bytes())
    read_all(writers)
    content = (topic / "0").read_bytes()
    lines.check(content)
    assert all(content.startswith(moment) for moment in moments)
    assert all(moment.endswith(b"\n") for moment in moments if moment)


def test_a_size_seen_after_a_write_covers_it(topic, spawn):
    """Through another handle, another process, at once."""
    other = appender(topic / "0")
    fd = appender(topic / "0")
    reader = os.open(topic / "0", os.O_RDONLY)
    size = 0
    for i in range(300):
        text = b"n%d\n" % i
        os.write(other if i % 3 == 0 else fd, text)
        size += len(text)
        assert os.fstat(reader).st_size == size
        assert os.stat(topic / "0").st_size == size
        assert os.pread(reader, 100, size - len(text)) == text
        assert os.lseek(reader, 0, os.SEEK_END) == size
    seen = subprocess.run(["stat", "-c", "%s", topic / "0"], capture_output=True, check=True)
    assert int(seen.stdout) == size
    for open_file in (other, fd, reader):
        os.close(open_file)


# linger.ms

def test_lines_that_gather_are_there_after_fsync_and_close(sh, topic):
    sh("echo linger.ms=60000 >> .config", topic)
    fd = appender(topic / "0")
    os.write(fd, b"one\n")
    os.write(fd, b"two\n")
    os.fsync(fd)
    assert (topic / "0").read_bytes() == b"one\ntwo\n"
    os.write(fd, b"three\nfo")
    os.close(fd)
    assert (topic / "0").read_bytes() == b"one\ntwo\nthree\nfo\n"


def test_lines_that_gather_come_when_their_time_is_over(sh, topic):
    sh("echo linger.ms=20 >> .config", topic)
    fd = appender(topic / "0")
    os.write(fd, b"soon\n")
    wait_until(lambda: (topic / "0").read_bytes() == b"soon\n")
    os.close(fd)


def test_gathered_lines_of_many_writers(topic, spawn, sh):
    sh("echo linger.ms=5 >> .config", topic)
    writers = [
        spawn(
            [sys.executable, WRITER, topic / "0", f"w{i}", 400, 70, "chunk=50"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(4)
    ]
    read_all(writers)
    wait_until(lambda: lines.check((topic / "0").read_bytes()) == {f"w{i}": 400 for i in range(4)})


# Interrupts

def test_a_writer_can_be_killed_while_its_write_waits(mounts, spawn):
    """A disk that hangs must not make a process that cannot be killed; of what it was not told nobody knows."""
    mount = mounts(faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    (topic / "0").open("a").write("before\n")
    mount.faults.set("write hold path=*/t-0/*.log")
    first, second = (
        spawn([sys.executable, WRITER, topic / "0", f"w{i}", 1, 20], stdout=subprocess.PIPE) for i in range(2)
    )
    wait_until(lambda: mount.faults.fired == 1)
    second.kill()
    mount.faults.clear()
    second.wait(60)
    assert first.wait(60) == 0
    content = (topic / "0").read_bytes()
    assert content.startswith(b"before\n")
    counts = lines.check(content.removeprefix(b"before\n"))
    assert counts.pop("w0") == 1 and counts in ({}, {"w1": 1})


def test_an_interrupted_write_is_taken_back_or_stands(mounts, spawn):
    """Writers in a queue behind a disk that hangs; a signal takes back those that wait. Each knows."""
    mount = mounts(faults=True)
    topic = mount.dir / "t"
    topic.mkdir()
    (topic / "0").open("a").write("before\n")
    mount.faults.set("write hold path=*/t-0/*.log")
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from lib import lines
signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError()))
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
try:
    print("ready", flush=True)
    os.write(fd, lines.make_line(sys.argv[2], 0))
except InterruptedError:
    print("interrupted", flush=True)
else:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    print("written", flush=True)
"""
    tests = Path(lines.__file__).parents[1]
    writers = [
        spawn([sys.executable, "-c", script, topic / "0", f"w{i}", tests], stdout=subprocess.PIPE) for i in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    wait_until(lambda: mount.faults.fired == 1)
    for writer in writers[1:]:
        writer.send_signal(10)
    mount.faults.clear()
    said = {f"w{i}": writer.communicate(timeout=60)[0].strip() for i, writer in enumerate(writers)}
    there = lines.check((topic / "0").read_bytes().removeprefix(b"before\n"))
    for name, what in said.items():
        if what == b"written":
            assert there.get(name) == 1
    assert set(said.values()) <= {b"written", b"interrupted"} and said["w0"] in (b"written", b"interrupted")


def test_the_log_says_why_a_line_was_refused(mount, narrow):
    fd = appender(narrow)
    refused(errno.EMSGSIZE, os.write, fd, b"x" * 9999 + b"\n")
    os.close(fd)
    assert re.search(r"t/0: .*max\.message\.bytes", mount.messages())
