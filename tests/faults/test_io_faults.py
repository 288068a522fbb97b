"""Every disk call of the daemon fails in turn: who asked is told, nothing acknowledged is lost, the rest goes on."""

import contextlib
import errno
import os
import subprocess
import threading

import pytest

from lib import lines
from lib.mounting import MountFailed, wait_until


def refused(error, call, *arguments):
    with pytest.raises(OSError) as failure:
        call(*arguments)
    errors = error if isinstance(error, tuple) else (error,)
    assert failure.value.errno in errors, failure.value


def append(path, text):
    with open(path, "ab", buffering=0) as file:
        lines.write_all(file.fileno(), text)


class Script:
    """A day in the life of a mount in some operations, each of which may fail, and what must hold afterwards.

    The model of partition 0: the lines that were acknowledged, and after each of them those that may be there as well,
    because their writer was told EIO: outcome unknown."""

    def __init__(self, mount):
        self.mount = mount
        self.topic = mount.dir / "t"
        self.number = 0
        self.acknowledged = []
        self.maybe = []
        self.errors = []
        self.deleted_to = 0       # lines whose deletion was acknowledged
        self.maybe_deleted_to = 0

    def _try(self, call, *arguments):
        """Whether it worked."""
        try:
            call(*arguments)
        except OSError as failure:
            self.errors.append(failure.errno)
            return failure.errno
        return 0

    def append(self, size=300, then=None):
        """then: os.fsync."""
        line = lines.make_line("w", self.number, size)
        fd = -1
        try:
            fd = os.open(self.topic / "0", os.O_WRONLY | os.O_APPEND)
            assert os.write(fd, line) == len(line)
            if then:
                then(fd)
        except OSError as failure:
            self.errors.append(failure.errno)
            # an fsync or a write that failed with EIO says nothing of whether the line is there
            if failure.errno != errno.ENOSPC or then:
                self.maybe.append((len(self.acknowledged), line))
        else:
            self.acknowledged.append(line)
        finally:
            self.number += 1
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def read(self):
        with contextlib.suppress(OSError):
            self.check_content((self.topic / "0").read_bytes())

    def run(self):
        for i in range(6):
            self.append()
        self.append(then=os.fsync)
        for i in range(4):
            self.append(9000)  # a new segment for each
            self.append(then=os.fsync)
            self.read()
        self._try(os.mkdir, self.mount.dir / "u")
        self._try(self._touch, "1")
        self._try(self._configure, "retention.ms=12345678\n")
        self.append()
        with contextlib.suppress(OSError):
            before = len(self.acknowledged)
            length = os.stat(self.topic / "0").st_size // 3
            self.maybe_deleted_to = max(self.maybe_deleted_to, before)
            subprocess.run(
                ["fallocate", "-p", "-o", "0", "-l", str(length), self.topic / "0"], stderr=subprocess.DEVNULL
            )
        self.append(9000)
        self.append(then=os.fsync)
        self._try(os.rmdir, self.mount.dir / "u")

    def _touch(self, name):
        os.close(os.open(self.topic / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    def _configure(self, text):
        fd = os.open(self.topic / ".config", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def check_content(self, content, deleted=False):
        """Whole lines, in order: every acknowledged one, and of the others only those that may be there."""
        there = content.split(b"\n")
        assert there.pop() == b"", "the last line is torn"
        maybe = {line for _, line in self.maybe}
        expected = iter(self.acknowledged)
        numbers = []
        skipping = deleted
        for line in there:
            numbers.append(lines.parse(line)[1])
            if line + b"\n" in maybe:
                continue
            for wanted in expected:
                if wanted == line + b"\n":
                    break
                assert skipping, f"line {lines.parse(wanted)[1]} was acknowledged and is missing"
            else:
                raise AssertionError(f"line {numbers[-1]} was refused, and is there")
            skipping = False
        assert numbers == sorted(set(numbers)), "out of order, or twice"
        if not deleted:
            assert next(expected, None) is None, "what was acknowledged last is missing"

    def check_after(self):
        """Without faults, after a new mount."""
        content = (self.topic / "0").read_bytes()
        self.check_content(content, deleted=True)
        if self.acknowledged:
            last = self.acknowledged[-1]
            assert last in content or self.maybe_deleted_to >= len(
                self.acknowledged
            ), "what was acknowledged last is missing"
        assert (self.topic / "0@earliest").read_bytes() == content
        before = len(self.acknowledged)
        self.maybe_deleted_to = 0
        self.append(then=os.fsync)
        assert len(self.acknowledged) == before + 1
        assert (self.topic / "0").read_bytes() == content + self.acknowledged[-1]


def verify(mount):
    """Nothing is wrong with the files either, but for what was torn or left over."""
    done = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
    assert done.stdout.endswith(": 0 faults\n"), done.stdout


def start_script(mounts, *options):
    mount = mounts("log.segment.bytes=16384", *options, faults=True)
    (mount.dir / "t").mkdir()
    mount.expect("")
    return mount, Script(mount)


# What the script makes the daemon do; truncate and rmdir have tests of their own.
CALLS = ["write", "sync", "open", "rename", "unlink", "mkdir", "stat", "mmap", "list", "read"]


def each_in_turn(mounts, rule, calls, most, stop):
    """Runs the script with the first, the second, ... call failing; at most so many of them, spread."""
    fired = 0
    for call in calls:
        mount, script = start_script(mounts)
        mount.faults.set(f"{call} pass path={mount.data}*")
        script.run()
        count = mount.faults.seen
        mount.umount()
        for after in sorted(
            {round(i * max(count - 1, 0) / most) for i in range(most + 1)} if count > most else range(count)
        ):
            subprocess.run(["rm", "-r", mount.data], check=True)
            mount.start()
            (mount.dir / "t").mkdir()
            script = Script(mount)
            mount.faults.set(f"{call} {rule} path={mount.data}* after={after}")
            script.run()
            fired += mount.faults.fired > 0
            mount.faults.clear()
            assert mount.daemon.running, f"{call} {rule} after={after}: the daemon is gone"
            stop(mount)
            try:
                mount.start()
                script.check_after()
                mount.umount()
                verify(mount)
            except AssertionError as failure:
                raise AssertionError(f"{call} {rule} after={after}: {failure}") from failure
        assert fired
    return fired


def stop_by_kill(mount):
    mount.kill()


def stop_by_signal(mount):
    mount.daemon.signal(15)
    mount.ended(None)  # after an I/O error its status says so


@pytest.mark.parametrize("stop", [stop_by_kill, stop_by_signal], ids=["kill", "stop"])
@pytest.mark.parametrize(
    "rule", ["EIO count=1", "ENOSPC count=1", "EIO", "ENOSPC"], ids=lambda rule: rule.replace(" count=1", "-once")
)
@pytest.mark.parametrize("call", ["write", "sync", "open"])
def test_a_failing_call(mounts, call, rule, stop):
    each_in_turn(mounts, rule, [call], 5, stop)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("stop", [stop_by_kill, stop_by_signal], ids=["kill", "stop"])
@pytest.mark.parametrize(
    "rule",
    ["EIO count=1", "ENOSPC count=1", "EIO", "ENOSPC", "EMFILE count=3", "EROFS"],
    ids=lambda rule: rule.replace(" ", "-"),
)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_fails_in_turn(mounts, call, rule, stop):
    each_in_turn(mounts, rule, [call], 1000, stop)


@pytest.mark.parametrize(
    "call, most", [("rename", 4), ("unlink", 3), ("stat", 3), ("mmap", 3), ("read", 3), ("mkdir", 2)]
)
def test_a_failing_call_of_the_rarer_kinds(mounts, call, most):
    each_in_turn(mounts, "EIO count=1", [call], most, stop_by_kill)


# Short writes

@pytest.mark.parametrize("written", [0, 1, 11, 12, 60, 61, 62, 200, 330])
def test_a_short_write_fails_that_append_alone(mounts, written):
    mount, script = start_script(mounts)
    script.append()
    log = mount.data / "t-0" / f"{0:020}.log"
    before = log.read_bytes()
    mount.faults.set(f"write short={written} count=1 path=*/t-0/*.log")
    refused(errno.ENOSPC, append, mount.dir / "t" / "0", b"x" * 400 + b"\n")
    assert mount.faults.fired == 1
    assert log.read_bytes() == before, "what was written of it is cut"
    script.append()
    assert (mount.dir / "t" / "0").read_bytes() == b"".join(script.acknowledged)
    for stop in (mount.remount, mount.crash):
        stop()
        assert (mount.dir / "t" / "0").read_bytes() == b"".join(script.acknowledged)
    mount.umount()
    verify(mount)


def test_a_short_write_of_many_batches(mounts):
    """A large WRITE is several batches: all of it fails, at once."""
    mount, script = start_script(mounts, "log.segment.bytes=1000000")
    topic = mount.dir / "t"
    (topic / ".config").open("a").write("max.message.bytes=2000\n")
    script.append()
    text = b"".join(lines.make_line("x", i, 500) for i in range(100))
    for written in (1, 3000, 20000, 49000):
        mount.faults.set(f"write short={written} count=1 path=*/t-0/*.log")
        refused(errno.ENOSPC, append, topic / "0", text)
        assert mount.faults.fired == 1
        assert (topic / "0").read_bytes() == b"".join(script.acknowledged)
    with open(topic / "0", "ab", buffering=0) as file:
        lines.write_all(file.fileno(), text)
    assert (topic / "0").read_bytes() == b"".join(script.acknowledged) + text


def test_torn_bytes_that_cannot_be_cut(mounts):
    """The truncate fails too: the directory is out of service, and the next start cuts them."""
    mount, script = start_script(mounts)
    script.append()
    mount.faults.set("write short=100 count=1 path=*/t-0/*.log", "truncate EIO path=*/t-0/*.log")
    refused((errno.EIO, errno.ENOSPC), append, mount.dir / "t" / "0", b"x" * 400 + b"\n")
    refused(errno.EIO, open, mount.dir / "t" / "0", "ab")
    assert "out of service" in mount.messages()
    mount.faults.clear()
    mount.kill()
    mount.start()
    assert (mount.dir / "t" / "0").read_bytes() == b"".join(script.acknowledged)
    script.append()
    assert (mount.dir / "t" / "0").read_bytes() == b"".join(script.acknowledged)


def test_a_deleted_topic_that_cannot_be_removed(mounts):
    """Its name is free all the same, and what is left goes later."""
    mount = mounts("log.segment.delete.delay.ms=0", faults=True)
    mount.faults.set(f"rmdir EIO path={mount.data}*")
    (mount.dir / "t").mkdir()
    (mount.dir / "t").rmdir()
    wait_until(lambda: mount.faults.fired, what="it is tried")
    (mount.dir / "t").mkdir()
    append(mount.dir / "t" / "0", b"new\n")
    assert [path for path in mount.data.glob("*-delete")]
    mount.faults.clear()
    mount.remount()
    wait_until(lambda: not [path for path in mount.data.glob("*-delete")], what="it is gone")
    assert (mount.dir / "t" / "0").read_text() == "new\n"


# EIO takes a log directory, not the process

@pytest.fixture
def two(mounts):
    """Two log directories; t/0 is in the first, t/1 in the second."""
    mount = mounts("num.partitions=2", start=False, faults=True)
    mount.options.append(f"log.dirs={mount.place}/more")
    mount.start()
    (mount.dir / "t").mkdir()
    assert (mount.data / "t-0").exists() and (mount.place / "more" / "t-1").exists()
    for partition in "01":
        (mount.dir / "t" / partition).open("a").write(f"before {partition}\n")
    return mount


@pytest.mark.parametrize("how", ["write", "fsync", "acks=all"])
def test_eio_takes_its_log_directory_out_of_service_and_no_other(two, how):
    first, second = (two.dir / "t" / name for name in "01")
    mount = two
    if how == "acks=all":
        (mount.dir / "t" / ".config").open("a").write("acks=all\n")
    reader = os.open(first, os.O_RDONLY)
    fd = os.open(first, os.O_WRONLY | os.O_APPEND)
    mount.expect(str(mount.data))
    mount.expect("t/0")
    mount.faults.set(f"{'write' if how == 'write' else 'sync'} EIO path={mount.data}/t-0/*.log")
    if how == "fsync":
        os.write(fd, b"not on disk\n")
        refused(errno.EIO, os.fsync, fd)
    else:
        refused(errno.EIO, os.write, fd, b"not on disk\n")
    assert mount.faults.fired
    mount.faults.clear()
    # never again, although the disk is well now: what fsync could not write is gone from the page cache's debts
    refused(errno.EIO, os.write, fd, b"more\n")
    refused(errno.EIO, os.fsync, fd)
    refused(errno.EIO, os.open, first, os.O_WRONLY | os.O_APPEND)
    refused(errno.EIO, os.pread, reader, 10, 0)
    with contextlib.suppress(OSError):
        os.close(fd)
    os.close(reader)
    assert "out of service" in mount.messages() and str(mount.data) in mount.messages()
    with open(second, "a") as file:
        file.write("goes on\n")
        file.flush()
        os.fsync(file.fileno())
    assert second.read_text() == "before 1\ngoes on\n"
    os.mkdir(mount.dir / "u")
    (mount.dir / "u" / "0").open("a").write("new ones are made elsewhere\n")
    assert (mount.dir / "u" / "0").read_text() == "new ones are made elsewhere\n"
    assert sorted(os.listdir(mount.dir)) == ["t", "u"]
    stop_by_signal(mount)
    mount.start()
    assert first.read_text() in ("before 0\n", "before 0\nnot on disk\n")
    assert second.read_text() == "before 1\ngoes on\n"
    first.open("a").write("well again\n")
    assert first.read_text().endswith("well again\n")


def test_waiting_writers_of_a_failed_directory_are_all_told(two, spawn):
    (two.dir / "t" / ".config").open("a").write("acks=all\n")
    two.expect(str(two.data))
    two.expect("t/0")
    failed = []

    def write(i):
        fd = os.open(two.dir / "t" / "0", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, b"%d\n" % i)
        except OSError as failure:
            failed.append(failure.errno)
        with contextlib.suppress(OSError):
            os.close(fd)
    two.faults.set(f"sync hold path={two.data}/t-0/*.log")
    threads = [threading.Thread(target=write, args=(i,)) for i in range(5)]
    size = os.stat(two.dir / "t" / "0").st_size
    for i, thread in enumerate(threads):
        thread.start()
        wait_until(lambda: two.faults.fired and os.stat(two.dir / "t" / "0").st_size == size + 2 * (i + 1))
    two.faults.set(f"sync,write EIO path={two.data}/t-0/*.log")
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == [errno.EIO] * 4, "the fsync that was held was the first one's, and went through"
    stop_by_signal(two)
    two.start()


def test_eio_of_a_read_is_the_readers_alone(mounts):
    """It does not take the directory: a bad sector must not stop the writers."""
    mount = mounts(faults=True)
    (mount.dir / "t").mkdir()
    path = mount.dir / "t" / "0"
    text = b"".join(lines.make_line("w", i, 500) for i in range(1000))
    with open(path, "ab", buffering=0) as file:
        lines.write_all(file.fileno(), text)
    mount.expect("t/0")
    mount.faults.set("read EIO path=*/t-0/*.log")
    refused(errno.EIO, path.read_bytes)
    assert mount.faults.fired
    path.open("a").write("more\n")
    mount.faults.clear()
    assert path.read_bytes() == text + b"more\n"


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_a_lack_that_passes(mounts, error):
    """No descriptors, no memory: an error to who asked, and nothing is broken for good."""
    mount, script = start_script(mounts)
    for _ in range(5):
        script.append(9000)
    mount.remount()
    mount.faults.set(f"open,mmap {error} path={mount.data}*")
    for _ in range(3):
        script.append(9000)
        script.read()
    assert mount.faults.fired
    mount.faults.clear()
    # one that failed may be there or not, as with any unknown outcome
    script.check_content((mount.dir / "t" / "0").read_bytes())
    script.append(9000)
    script.check_content((mount.dir / "t" / "0").read_bytes())
    mount.remount()
    script.check_content((mount.dir / "t" / "0").read_bytes())


def test_a_disk_that_becomes_read_only(mounts):
    """As ext4 does after an error: writers are told, readers go on or are told."""
    mount, script = start_script(mounts)
    for _ in range(5):
        script.append()
    mount.faults.set(f"write,truncate,rename,unlink,mkdir EROFS path={mount.data}*")
    refused((errno.EROFS, errno.EIO), append, mount.dir / "t" / "0", b"x\n")
    script.read()
    refused((errno.EROFS, errno.EIO), os.mkdir, mount.dir / "u")
    mount.faults.clear()
    stop_by_signal(mount)
    mount.start()
    script.check_after()


# A disk that hangs

def test_a_write_that_takes_too_long_is_told_so(mounts):
    mount = mounts("delivery.timeout.ms=300", faults=True)
    (mount.dir / "t").mkdir()
    path = mount.dir / "t" / "0"
    path.open("a").write("before\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    (mount.dir / "t" / ".config").open("a").write("acks=all\n")
    mount.faults.set("sync hold path=*/t-0/*.log")
    refused(errno.EIO, os.write, fd, b"slow\n")
    mount.wait_for_message("delivery.timeout.ms")
    mount.faults.clear()
    os.write(fd, b"after\n")
    os.close(fd)
    assert path.read_bytes() in (b"before\nslow\nafter\n", b"before\nafter\n")


def test_other_partitions_go_on_while_one_waits_for_its_disk(mounts):
    mount = mounts("num.partitions=2", faults=True)
    (mount.dir / "t").mkdir()
    for name in "01":
        (mount.dir / "t" / name).open("a").write("before\n")
    mount.faults.set("write,sync hold path=*/t-0/*.log")
    thread = threading.Thread(target=lambda: (mount.dir / "t" / "0").open("a").write("held\n"))
    thread.start()
    wait_until(lambda: mount.faults.fired)
    for i in range(20):
        with open(mount.dir / "t" / "1", "a") as file:
            file.write(f"{i}\n")
            file.flush()
            os.fsync(file.fileno())
    os.mkdir(mount.dir / "u")
    assert (mount.dir / "t" / "0").read_text() == "before\n"
    assert (mount.dir / "t" / "1").read_text().count("\n") == 21
    mount.faults.clear()
    thread.join()
    assert (mount.dir / "t" / "0").read_text() == "before\nheld\n"


# Starting

@pytest.mark.parametrize("call", ["open", "read", "write", "sync", "list", "stat", "mmap", "rename", "unlink"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EACCES"])
def test_a_start_that_meets_a_fault(mounts, call, error):
    """It says so and ends, or goes on with what it can; without the fault everything is there."""
    mount, script = start_script(mounts)
    script.run()
    deleted = len(script.errors)
    assert not deleted
    content = (mount.dir / "t" / "0").read_bytes()
    mount.kill()
    met = 0
    for after in [0, 1, 2, 3, 5, 8, 13, 21, 34]:
        mount.faults.set(f"{call} {error} count=1 path={mount.data}* after={after}")
        try:
            mount.start()
        except MountFailed as failure:
            assert "spoolfs mount: " in str(failure)
            assert os.strerror(getattr(errno, error)) in str(failure) or str(mount.data) in str(failure)
        else:
            with contextlib.suppress(OSError):
                there = (mount.dir / "t" / "0").read_bytes()
                assert there == content or (content.endswith(there) and not there), "all or an error"
            mount.kill()
        met += mount.faults.fired > 0
        mount.faults.clear()
        mount.start()
        assert (mount.dir / "t" / "0").read_bytes() == content
        mount.kill()
    assert met, "the start makes no such call"
