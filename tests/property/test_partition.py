"""Anything a user may do with a partition, in any order, against a model of the file."""

import errno
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lib import model, mounting
from lib.mounting import Mounts

PARTITIONS = 2
HANDLES = 4
LIMIT = 4000

# Mostly ordinary text; sometimes what is special: NUL, 0xff, nothing, what does not compress, what looks like a batch.
line_bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"\0", b"\0" * 70, b"\xff\xfe", b"word " * 30, b"x" * 1500, b"\0\0\0\0\0\0\0\0\0\0\0\x38\0\0\0\0\x02"]
    ),
    st.integers(0, 3000).map(lambda n: bytes((n * i * 2654435761 >> 13) & 0xFF for i in range(n))),
).map(lambda body: body.replace(b"\n", b""))
texts = st.lists(line_bodies, min_size=1, max_size=8).map(b"\n".join)
partitions = st.integers(0, PARTITIONS - 1)
handles = st.integers(0, HANDLES - 1)
sizes = st.sampled_from([1, 2, 10, 100, 512, 4096, 5000, 65536, 1 << 20])
places = st.floats(0, 1)


class Partitions(RuleBasedStateMachine):
    program = None  # set by the test
    seconds = 200

    def __init__(self):
        super().__init__()
        place = Path(tempfile.mkdtemp(prefix="spoolfs-test."))
        self.mounts = Mounts(self.program, place, self.seconds)
        self.mount = self.mounts(
            "log.segment.bytes=16384",
            f"num.partitions={PARTITIONS}",
            "log.retention.check.interval.ms=5",
            "log.segment.delete.delay.ms=20",
            "log.retention.ms=-1",
            "log.index.interval.bytes=512",
        )
        self.topic = self.mount.dir / "t"
        self.topic.mkdir()
        self.files = [model.File() for _ in range(PARTITIONS)]
        self.writers = {}
        self.readers = {}

    def teardown(self):
        self.forget_handles()
        wrong = self.mounts.clean_up()
        assert not wrong, "\n".join(wrong)

    def path(self, partition):
        return self.topic / str(partition)

    def forget_handles(self):
        """Closes them without a look at what that says."""
        for fd, _ in list(self.writers.values()) + list(self.readers.values()):
            try:
                os.close(fd)
            except OSError:
                pass
        self.writers.clear()
        self.readers.clear()

    def close_writers(self):
        for fd, writer in self.writers.values():
            os.close(fd)
            writer.close()
        self.writers.clear()

    # writing

    @rule(handle=handles, partition=partitions, flags=st.sampled_from([0, 0, 0, os.O_SYNC]))
    def open_writer(self, handle, partition, flags):
        self.close_writer(handle)
        self.writers[handle] = (
            os.open(self.path(partition), os.O_WRONLY | os.O_APPEND | flags),
            model.Writer(self.files[partition]),
        )

    @rule(handle=handles, text=texts, newline=st.booleans(), chunk=st.sampled_from([0, 0, 1, 3, 50, 1000]))
    def write(self, handle, text, newline, chunk):
        if handle not in self.writers:
            self.open_writer(handle, handle % PARTITIONS, 0)
        fd, writer = self.writers[handle]
        text = text + b"\n" if newline else text
        if chunk == 1:
            text = text[-300:]
        pieces = [text[at:at + chunk] for at in range(0, len(text), chunk)] if chunk else [text]
        for piece in pieces:
            longest = max(map(len, (writer.pending + piece).split(b"\n")))
            if longest > LIMIT - 100:
                self.close_writer(handle)
                return
            assert os.write(fd, piece) == len(piece)
            writer.write(piece)
            assert os.fstat(fd).st_size == writer.file.size

    @rule(partition=partitions, lines=st.lists(line_bodies, min_size=1, max_size=100), times=st.integers(1, 10))
    def write_much(self, partition, lines, times):
        text = b"".join(line + b"\n" for line in lines) * times
        with open(self.path(partition), "ab", buffering=0) as file:
            assert file.write(text) == len(text)
        self.files[partition].append(text)

    @rule(partition=partitions, first=texts, size=st.integers(LIMIT, 3 * LIMIT), last=texts)
    def write_a_line_that_is_too_long(self, partition, first, size, last):
        """What is before it is kept, and nothing of it."""
        fd = os.open(self.path(partition), os.O_WRONLY | os.O_APPEND)
        before = first + b"\n"
        assert os.write(fd, before + b"L" * size + b"\n" + last) == len(before)
        self.files[partition].append(before)
        with pytest.raises(OSError) as failure:
            os.write(fd, b"L" * size + b"\n" + last)
        assert failure.value.errno == errno.EMSGSIZE
        os.close(fd)

    @rule(handle=handles)
    def close_writer(self, handle):
        if handle in self.writers:
            fd, writer = self.writers.pop(handle)
            os.close(fd)
            writer.close()

    @rule(handle=handles)
    def fsync(self, handle):
        if handle in self.writers:
            os.fsync(self.writers[handle][0])

    @rule(partition=partitions, lines=st.lists(line_bodies, min_size=1, max_size=20))
    def write_with_linger(self, partition, lines):
        """Lines that gather are there when fsync returns."""
        self.configure("linger.ms=60000")
        fd = os.open(self.path(partition), os.O_WRONLY | os.O_APPEND)
        for line in lines:
            os.write(fd, line + b"\n")
        os.fsync(fd)
        self.files[partition].append(b"".join(line + b"\n" for line in lines))
        assert os.fstat(fd).st_size == self.files[partition].size
        os.close(fd)
        self.configure("linger.ms=")

    # reading

    @rule(handle=handles, partition=partitions, earliest=st.booleans())
    def open_reader(self, handle, partition, earliest):
        if handle in self.readers:
            os.close(self.readers.pop(handle)[0])
        file = self.files[partition]
        name = f"{partition}@earliest" if earliest else str(partition)
        self.readers[handle] = (
            os.open(self.topic / name, os.O_RDONLY),
            model.Reader(file, file.start if earliest else None),
        )

    def check_read(self, fd, reader, at, n):
        expected = reader.read(at, n)
        given = model.answer(os.pread, fd, n, at)
        assert given in expected, f"{n} bytes at {at}: {brief(given)} instead of {' or '.join(map(brief, expected))}"
        reader.was_given(at, given)
        return given

    @precondition(lambda self: self.readers)
    @rule(handle=handles, place=places, n=sizes)
    def read_at(self, handle, place, n):
        if handle in self.readers:
            fd, reader = self.readers[handle]
            self.check_read(fd, reader, int(place * (reader.size() + 2)), n)

    @precondition(lambda self: self.readers)
    @rule(handle=handles, n=sizes, most=st.integers(1, 30))
    def read_on(self, handle, n, most):
        """From where the handle is, as read(2) does."""
        if handle in self.readers:
            fd, reader = self.readers[handle]
            at = os.lseek(fd, 0, os.SEEK_CUR)
            for _ in range(most):
                given = self.check_read(fd, reader, at, n)
                if given in (b"", model.STALE):
                    break
                at += len(given)
            os.lseek(fd, at, os.SEEK_SET)

    @rule(partition=partitions)
    def look_at_all_of_it(self, partition):
        file = self.files[partition]
        assert brief(self.path(partition).read_bytes()) == brief(file.left)
        assert self.path(partition).read_bytes() == file.left
        earliest = self.topic / f"{partition}@earliest"
        assert earliest.read_bytes() == file.left and os.stat(earliest).st_size == len(file.left)

    @rule(partition=partitions, place=places)
    def seek(self, partition, place):
        file = self.files[partition]
        fd = os.open(self.path(partition), os.O_RDONLY)
        try:
            assert os.lseek(fd, 0, os.SEEK_END) == file.size
            at = int(place * file.size)
            if at < file.size:
                assert os.lseek(fd, at, os.SEEK_DATA) == at and os.lseek(fd, at, os.SEEK_HOLE) == file.size
        finally:
            os.close(fd)

    # deleting

    @rule(partition=partitions, place=places)
    def delete_head(self, partition, place):
        file = self.files[partition]
        length = int(place * file.size) + 1
        subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(length), self.path(partition)], check=True)
        file.delete_head(length)

    @rule(partition=partitions)
    def remove(self, partition):
        os.unlink(self.path(partition))
        self.files[partition].start = self.files[partition].size

    @rule()
    def retention_by_time(self):
        self.configure("retention.ms=1")
        for partition, file in enumerate(self.files):
            wait_until(lambda: self.start_of(partition) == (file.start_offset + file.left.count(b"\n"), file.size))
            file.start = file.size
        self.configure("retention.ms=")

    @rule(keep=st.integers(0, 60_000))
    def retention_by_size(self, keep):
        self.configure(f"retention.bytes={keep}")
        wait_until(lambda: all(sum(self.segments(partition)[1:]) < max(keep, 1) for partition in range(PARTITIONS)))
        self.configure("retention.bytes=")
        for partition, file in enumerate(self.files):
            _, position = self.start_of(partition)
            assert position >= file.start and file.is_boundary(position)
            file.start = position

    def segments(self, partition):
        while True:
            try:
                return [file.stat().st_size for file in sorted((self.mount.data / f"t-{partition}").glob("*.log"))]
            except FileNotFoundError:
                continue

    # configuration

    def configure(self, text):
        with open(self.topic / ".config", "ab", buffering=0) as config:
            config.write(text.encode() + b"\n")

    @initialize()
    def limit(self):
        self.configure(f"max.message.bytes={LIMIT}")

    @rule(
        text=st.sampled_from(
            [
                "compression.type=gzip",
                "compression.type=snappy",
                "compression.type=lz4",
                "compression.type=zstd",
                "compression.type=",
                "acks=all",
                "acks=",
                "segment.bytes=20000",
                "segment.bytes=100000",
                "segment.bytes=",
                "segment.ms=1",
                "segment.ms=",
                "index.interval.bytes=0",
                "index.interval.bytes=",
                "flush.messages=3",
                "flush.messages=",
                "flush.ms=1",
                "flush.ms=",
                "message.timestamp.type=LogAppendTime",
                "message.timestamp.type=",
                "segment.index.bytes=256",
                "segment.index.bytes=",
            ]
        )
    )
    def change_configuration(self, text):
        self.configure(text)

    # stopping

    @rule()
    def restart(self):
        self.close_writers()
        self.forget_handles()
        self.mount.remount()

    @rule()
    def restart_by_signal(self):
        """Files are still open: their unfinished lines are no messages."""
        self.mount.daemon.signal(15)
        self.mount.ended()
        self.forget_handles()
        self.mount.start()

    @rule()
    def kill(self):
        """All that was written is there; unfinished lines are lost."""
        self.mount.kill()
        self.forget_handles()
        self.mount.start()

    # always

    def start_of(self, partition):
        return tuple(
            int(os.getxattr(self.path(partition), f"user.spoolfs.{name}"))
            for name in ("log_start", "log_start_position")
        )

    @invariant()
    def sizes_and_starts_are_exact(self):
        for partition, file in enumerate(self.files):
            assert os.stat(self.path(partition)).st_size == file.size
            assert self.start_of(partition) == (file.start_offset, file.start)


def wait_until(condition):
    mounting.wait_until(condition, 10)


def brief(answer):
    return repr(answer) if len(answer) < 60 else f"{len(answer)} bytes {answer[:25]!r}...{answer[-25:]!r}"


def run(spoolfs, **how):
    class Machine(Partitions):
        program = spoolfs
        seconds = how.pop("seconds")
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            deadline=None,
            database=None,
            derandomize=how.pop("derandomize", False),
            print_blob=True,
            suppress_health_check=quiet,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            **how,
        ),
    )


@pytest.mark.timeout(900)  # where it fails, the example is made smaller
def test_a_partition_is_its_model(spoolfs, build):
    # the same examples each time: `make check` must not depend on luck; the long test looks for new ones
    run(spoolfs, seconds=200, derandomize=True, max_examples=100 if build == "plain" else 30, stateful_step_count=40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_partition_is_its_model_for_long(spoolfs, build):
    run(spoolfs, seconds=900, max_examples=500 if build == "plain" else 100, stateful_step_count=100)
