"""DATA that is damaged, incomplete, foreign, newer or read-only: a clear error or all of it; nothing is lost."""

import contextlib
import errno
import hashlib
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import MountFailed, is_mounted, wait_until

WRITER = Path(lines.__file__)


def refused(error, call, *arguments):
    with pytest.raises(OSError) as failure:
        call(*arguments)
    assert failure.value.errno == error, failure.value


def digest(path):
    return hashlib.sha256(path.read_bytes()).digest()


class Filled:
    """Topic t in several segments and codecs, its head deleted; topic u beside it."""

    def __init__(self, mount, cut=True):
        self.mount, self.path = mount, mount.dir / "t" / "0"
        self.stored = mount.data / "t-0"
        (mount.dir / "t").mkdir()
        (mount.dir / "u").mkdir()
        self._say(".config", b"segment.bytes=16384\n")
        self.text = b""
        self.number = 0
        for codec in ("uncompressed", "gzip", "uncompressed", "zstd"):
            self._say(".config", b"compression.type=%s\n" % codec.encode())
            for _ in range(6):
                self.append(b"".join(self.lines(25)))
        self._say(".config", b"compression.type=uncompressed\n")
        while len(self.last_segment()) < 4:
            self.append(b"".join(self.lines(8)))
        self.start = 0
        if cut:
            self.start = self.text.index(b"\n", len(self.text) // 3) + 1
            subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(self.start), self.path], check=True)
        self.other = b"beside\n" * 1000
        (mount.dir / "u" / "0").open("ab").write(self.other)
        assert len(list(self.stored.glob("*.log"))) >= 4

    def last_segment(self):
        """Its batches."""
        return list(batches(sorted(self.stored.glob("*.log"))[-1]))

    def lines(self, n):
        rng = random.Random(self.number)
        self.number += n
        # hard to compress, so that every codec fills segments
        return [
            b"%d %s\n" % (self.number - n + i, rng.randbytes(rng.randint(20, 150)).hex().encode()) for i in range(n)
        ]

    def _say(self, name, text):
        with open(self.path.with_name(name), "ab") as file:
            file.write(text)

    def append(self, text):
        with open(self.path, "ab", buffering=0) as file:
            lines.write_all(file.fileno(), text)
        self.text += text

    def check(self):
        """All of it, in every way to look."""
        left = self.text[self.start:]
        assert self.path.read_bytes() == left
        assert os.stat(self.path).st_size == len(self.text)
        assert self.path.with_name("0@earliest").read_bytes() == left
        fd = os.open(self.path, os.O_RDONLY)
        rng = random.Random(7)
        for at in [self.start, len(self.text) - 1] + [rng.randrange(self.start, len(self.text)) for _ in range(60)]:
            assert os.pread(fd, 1000, at) == self.text[at:at + 1000]
        os.close(fd)
        assert (self.mount.dir / "u" / "0").read_bytes() == self.other

    def start_may_be_the_segments(self):
        """Where the exact start is lost, the first segment's is as good: deleted messages are back, none is lost."""
        start = int(os.getxattr(self.path, "user.spoolfs.log_start_position"))
        assert self.text[:start].endswith(b"\n") and start <= self.start
        self.start = start

    def check_still_works(self):
        self.check()
        self.append(b"".join(self.lines(20)))
        self.check()


@pytest.fixture
def filled(mounts):
    return Filled(mounts())


# Files that can be made anew, or are not needed

def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])


def lose_a_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def garbage(path):
    path.write_bytes(random.Random(path.name).randbytes(max(path.stat().st_size, 40)))


def zeros(path):
    path.write_bytes(bytes(max(path.stat().st_size, 40)))


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def junk_behind(path):
    with open(path, "ab") as file:
        file.write(b"junk\x80\xff" * 7)


DAMAGES = [remove, empty, halve, lose_a_byte, garbage, zeros, flip, junk_behind]

BESIDE_THE_LOG = [
    "t-0/*.index",
    "t-0/*.timeindex",
    "t-0/*.view",
    "t-0/*.snapshot",
    "t-0/leader-epoch-checkpoint",
    "t-0/partition.metadata",
    "t-0/topic.properties",
]
AT_THE_TOP = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "view-start-checkpoint",
    "partition-state-checkpoint",
    ".kafka_cleanshutdown",
    "meta.properties",
]


@pytest.mark.parametrize("stop", ["clean", "kill"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("files", BESIDE_THE_LOG + AT_THE_TOP, ids=lambda name: name.replace("/", ":"))
def test_a_damaged_file_beside_the_log_costs_nothing(filled, files, damage, stop):
    """It is made anew or done without; or the mount is refused with a sentence that names it, until it is back."""
    mount = filled.mount
    mount.umount() if stop == "clean" else mount.kill()
    paths = sorted(mount.data.glob(files))
    if not paths:
        assert stop == "kill" and files in AT_THE_TOP, f"there is no {files}"
        return
    mount.expect("")  # it may say what it likes of the damage
    logs = {path: digest(path) for path in mount.data.glob("*/*.log")}
    originals = {path: path.read_bytes() for path in paths}
    for path in paths:
        damage(path)
    try:
        mount.start()
    except MountFailed as failure:
        assert any(path.name in str(failure) for path in paths), failure
        assert files in AT_THE_TOP, "one topic's trouble is not the others'"
        for path, content in originals.items():
            path.write_bytes(content)
        mount.start()
    assert {path: digest(path) for path in logs} == logs, "no byte of a log is touched"
    if files == "view-start-checkpoint" and stop == "kill":
        filled.start_may_be_the_segments()  # the checkpoints that know it as well are written later
    filled.check_still_works()
    mount.remount()
    filled.check_still_works()
    mount.umount()
    verified = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
    faults = [line for line in verified.stdout.splitlines()[:-1] if not line.startswith("note: ")]
    assert all(
        line.startswith(tuple(map(str, paths))) for line in faults
    ), "only what was damaged, and nobody needed since"


@pytest.mark.parametrize("files", [".index", ".timeindex", ".view"])
def test_a_file_that_is_cut_while_it_is_mapped_costs_nothing(filled, files):
    """Reading it would be SIGBUS, as it is where the disk cannot give its pages."""
    filled.mount.expect("")
    filled.check()  # it is open now
    for path in filled.stored.glob(f"*{files}"):
        os.truncate(path, 0)
    filled.check()
    filled.check_still_works()
    assert filled.mount.daemon.running
    filled.mount.remount()
    filled.check_still_works()


def test_where_the_log_starts_is_kept_twice(filled):
    """The pair (offset, position) is in view-start-checkpoint and in the first .view; with both lost nobody can know
    it: no wrong positions, but EIO."""
    mount = filled.mount
    for lost in ("checkpoint", "views", "both"):
        mount.umount()
        kept = {
            path: path.read_bytes() for path in [mount.data / "view-start-checkpoint", *filled.stored.glob("*.view")]
        }
        mount.expect("")
        for path in kept:
            if lost == "both" or (path.suffix == ".view") == (lost == "views"):
                garbage(path)
        # a state checkpoint knows it as well
        (mount.data / "partition-state-checkpoint").unlink()
        mount.start()
        if lost != "both":
            filled.check()
            continue
        refused(errno.EIO, filled.path.read_bytes)
        assert (mount.dir / "u" / "0").read_bytes() == filled.other
        mount.umount()
        for path, content in kept.items():
            path.write_bytes(content)
        mount.start()
        filled.check_still_works()


# What is set for a topic

def one_letter(path):
    path.write_bytes(path.read_bytes().replace(b"retention", b"retentjon"))


def a_directory(path):
    path.unlink()
    path.mkdir()


def by_hand_and_wrong(path):
    path.write_text("retention.ms=-1\nretentyon.bytes=-1\n")


SWIFT = ("log.retention.ms=300", "log.retention.check.interval.ms=50", "log.segment.delete.delay.ms=0")


def wait_for_retention(mount):
    """Until what is old enough is gone from another topic."""
    (mount.dir / "other").mkdir(exist_ok=True)
    other = mount.dir / "other" / "0"
    with open(other, "ab") as file:
        file.write(b"old\n")
    wait_until(lambda: other.read_bytes() == b"", what="retention has come by")


@pytest.mark.parametrize("damage", [remove, empty, halve, lose_a_byte, garbage, zeros, one_letter, junk_behind, a_directory, by_hand_and_wrong], ids=lambda damage: damage.__name__)
def test_lost_properties_cost_no_message_and_open_nothing(mounts, sh, damage):
    """Nothing is deleted by defaults and nobody is let in by defaults where it is not known what had been set."""
    mount = mounts(*SWIFT)
    topic = mount.dir / "keep"
    sh("mkdir keep; echo retention.ms=-1 >> keep/.config; chmod 700 keep; seq 1000 >> keep/0; touch keep/1; seq 1000 >> keep/1", mount.dir)
    everything = (topic / "0").read_bytes()
    mount.umount()
    file = mount.data / "keep-0" / "topic.properties"
    damage(file)
    there = file.exists()
    left = file.read_bytes() if file.is_file() else None
    verified = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
    assert verified.returncode == 1 and f"{file}" in verified.stdout, verified.stdout
    mount.expect(f"topic keep: {file}")
    mount.start()
    assert str(file) in mount.messages() and ".config" in mount.messages()
    wait_for_retention(mount)
    assert stat.S_IMODE(topic.stat().st_mode) == 0o700 and topic.stat().st_uid == os.geteuid()
    assert (topic / "0").read_bytes() == (topic / "1").read_bytes() == everything
    assert "damaged or missing" in (topic / ".config").read_text()
    assert (file.read_bytes() if file.is_file() else None) == left, "looking changes nothing"
    # one property is set: it holds, and still nothing is deleted
    sh("echo segment.bytes=16384 >> .config", topic)
    if there:
        kept = file.with_name("topic.properties.damaged")
        assert left is None or kept.read_bytes() == left
    mount.remount()
    assert "segment.bytes=16384" in (topic / ".config").read_text()
    assert "retention.ms or retention.bytes is set here" in (topic / ".config").read_text()
    wait_for_retention(mount)
    assert stat.S_IMODE(topic.stat().st_mode) == 0o700
    assert (topic / "0").read_bytes() == (topic / "1").read_bytes() == everything
    # normal life
    sh("chmod 750 .; echo retention.ms=100 >> .config", topic)
    assert "retention.bytes is set here" not in (topic / ".config").read_text()
    wait_until(lambda: (topic / "0").read_bytes() == (topic / "1").read_bytes() == b"")
    mount.remount()
    assert stat.S_IMODE(topic.stat().st_mode) == 0o750
    mount.umount()
    if damage is a_directory:
        kept.rmdir()
    assert subprocess.run([mount.program, "verify", mount.data], capture_output=True).returncode == 0


def test_a_damaged_file_of_properties_can_be_put_back(mounts, sh):
    mount = mounts()
    sh("mkdir t; echo retention.ms=-1 >> t/.config; chmod 711 t; echo a >> t/0", mount.dir)
    mount.umount()
    file = mount.data / "t-0" / "topic.properties"
    good = file.read_bytes()
    mount.expect(str(file))
    flip(file)
    mount.start()
    mount.umount()
    file.write_bytes(good)
    mount.start()
    assert "retention.ms=-1" in (mount.dir / "t" / ".config").read_text().splitlines()
    assert "#" not in (mount.dir / "t" / ".config").read_text().splitlines()[0]
    assert stat.S_IMODE((mount.dir / "t").stat().st_mode) == 0o711


def test_properties_edited_by_hand_hold(mounts, sh):
    mount = mounts()
    sh("mkdir t; echo a >> t/0", mount.dir)
    mount.umount()
    (mount.data / "t-0" / "topic.properties").write_text("retention.ms = 7\n")
    mount.start()
    assert "retention.ms=7" in (mount.dir / "t" / ".config").read_text().splitlines()


def test_the_properties_go_with_their_partition(mounts, sh):
    """Without partition 0 nobody knows what was set for the others."""
    mount = mounts(*SWIFT, "num.partitions=2")
    sh("mkdir t; echo retention.ms=-1 >> t/.config; seq 100 >> t/1", mount.dir)
    mount.umount()
    shutil.rmtree(mount.data / "t-0")
    mount.expect("topic t: partition 0")
    mount.start()
    wait_for_retention(mount)
    assert stat.S_IMODE((mount.dir / "t").stat().st_mode) == 0o700
    assert (mount.dir / "t" / "1").read_bytes().count(b"\n") == 100
    mount.expect("its properties cannot be kept")
    refused(errno.EIO, lambda: os.write(os.open(mount.dir / "t" / ".config", os.O_WRONLY | os.O_APPEND), b"retention.ms=1\n"))


# The log itself

def batches(log):
    """(position, size) of each batch."""
    content, at = log.read_bytes(), 0
    while at + 12 <= len(content):
        size = struct.unpack_from(">i", content, at + 8)[0] + 12
        yield at, size
        at += size


def logs_of(filled):
    return sorted(filled.stored.glob("*.log"))


def readable(path, size):
    """What can be read, as {position: bytes}; where a read fails with EIO the next one is tried further on."""
    fd, got, failed, at = os.open(path, os.O_RDONLY), {}, [], 0
    while at < size:
        try:
            piece = os.pread(fd, 512, at)
            assert piece, f"an end at {at} of {size}"
            got[at] = piece
            at += len(piece)
        except OSError as failure:
            assert failure.errno == errno.EIO
            failed.append(at)
            at += 64
    os.close(fd)
    return got, failed


@pytest.mark.parametrize("where", ["head", "middle", "tail"])
@pytest.mark.parametrize("byte", ["length", "magic", "crc", "record"])
def test_a_flipped_bit_costs_its_batch_alone(mounts, where, byte):
    filled = Filled(mounts(), cut=False)
    mount = filled.mount
    mount.umount()
    log = {"head": logs_of(filled)[0], "middle": logs_of(filled)[2], "tail": logs_of(filled)[-1]}[where]
    all_batches = list(batches(log))
    at, size = {"head": all_batches[0], "middle": all_batches[len(all_batches) // 2], "tail": all_batches[-1]}[where]
    flip(log, at + {"length": 10, "magic": 16, "crc": 18, "record": size - 2}[byte])
    damaged = digest(log)
    mount.expect("t/0")
    mount.expect("t-0")
    mount.start()
    assert os.stat(filled.path).st_size == len(filled.text)
    got, failed = readable(filled.path, len(filled.text))
    assert failed, "a damaged batch is an error, never other bytes"
    for position, piece in got.items():
        assert piece == filled.text[position:position + len(piece)]
    lost = max(failed) + 64 - min(failed)
    assert lost < 10_000, f"{lost} bytes cannot be read: more than a batch"
    refused(errno.EIO, filled.path.read_bytes)
    assert (mount.dir / "u" / "0").read_bytes() == filled.other
    if (where, byte) != ("tail", "length"):
        filled.append(b"goes on\n")
        fd = os.open(filled.path, os.O_RDONLY)
        assert os.pread(fd, 100, len(filled.text) - 8) == b"goes on\n"
        os.close(fd)
    mount.umount()
    assert where == "tail" or digest(log) == damaged, "nothing is mended behind the user's back"


@pytest.mark.parametrize("byte", ["length", "crc", "record"])
def test_a_flipped_bit_costs_no_message_of_another_batch(mounts, byte):
    """Of many small batches, each readable at its own position: also those that no .view entry points at, to the log's end."""
    mount = mounts()
    (mount.dir / "t").mkdir()
    path = mount.dir / "t" / "0"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    messages = [b"%03d %s\n" % (number, b"x" * 87) for number in range(400)]
    for message in messages:
        os.write(fd, message)
    os.close(fd)
    log, = (mount.data / "t-0").glob("*.log")
    all_batches = list(batches(log))
    assert len(all_batches) == 400
    mount.expect("t/0")
    mount.expect("t-0")
    for broken in (0, 200, 390, 399):
        mount.umount()
        at, size = all_batches[broken]
        place = at + {"length": 10, "crc": 18, "record": size - 2}[byte]
        flip(log, place)
        mount.start()
        fd = os.open(path, os.O_RDONLY)
        for number, message in enumerate(messages):
            if number == broken:
                for inside in (0, 50, 91):
                    refused(errno.EIO, os.pread, fd, 10, 92 * number + inside)
            else:
                assert os.pread(fd, 92, 92 * number) == message
        os.close(fd)
        flip(log, place)


def crash_with(mounts, change, cut=False):
    """The daemon is killed, the log directory changed, the daemon started again."""
    filled = Filled(mounts(), cut)
    filled.mount.kill()
    change(filled)
    return filled


def test_a_clean_stop_does_not_vouch_for_what_it_did_not_flush(mounts):
    """Killed, mounted and stopped, but not opened in between: what a power cut takes then is a torn tail."""
    filled = Filled(mounts("log.flush.offset.checkpoint.interval.ms=100"), cut=False)
    mount = filled.mount
    mount.expect("t-0")
    state = mount.data / "partition-state-checkpoint"
    wait_until(lambda: state.exists() and b" %d " % len(filled.text) in state.read_bytes())
    mount.kill()
    mount.start()
    mount.umount()
    log = logs_of(filled)[-1]
    at, size = list(batches(log))[-1]
    log.write_bytes(log.read_bytes()[:at] + bytes(size))
    body = re.sub(rb"boot \S+", b"boot another", state.read_bytes().rsplit(b"crc ", 1)[0])
    state.write_bytes(body + b"crc %08x\n" % crc32c(body))
    marker = mount.data / ".kafka_cleanshutdown"
    marker.write_text(re.sub(r'"spoolfsState":\d+', f'"spoolfsState":{crc32c(state.read_bytes())}', marker.read_text()))
    mount.start()
    there = filled.path.read_bytes()
    assert filled.text.startswith(there) and there.endswith(b"\n") and len(there) < len(filled.text)
    filled.text = there
    filled.check_still_works()


def torn_by(lost):
    def tear(content, at, size):
        return content[:-lost]
    return tear


def flipped_at(byte):
    """As where the disk wrote one sector of it and not the other: its length is right."""
    def tear(content, at, size):
        place = at + byte if byte >= 0 else at + size + byte
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1:]
    return tear


def zeroed_from(byte):
    def tear(content, at, size):
        return content[:at + byte] + bytes(size - byte)
    return tear


@pytest.mark.parametrize(
    "tear",
    [torn_by(n) for n in (1, 5, 60, 61, 200)]
    + [flipped_at(n) for n in (9, 16, 18, 22, 62, -1)]
    + [zeroed_from(n) for n in (0, 61, 200)],
)
def test_a_torn_tail_is_cut(mounts, tear):
    """As after a power cut in the middle of a write: what is whole is there, and the torn bytes are kept aside."""
    filled = crash_with(mounts, lambda filled: None)
    log = logs_of(filled)[-1]
    at, size = list(batches(log))[-1]
    content = log.read_bytes()
    torn = tear(content, at, size)
    log.write_bytes(torn)
    filled.mount.expect("t-0")
    filled.mount.start()
    there = filled.path.read_bytes()
    assert filled.text.startswith(there) and there.endswith(b"\n") and len(there) < len(filled.text)
    assert log.stat().st_size == at
    cut, = filled.stored.glob("*.cut")
    assert cut.read_bytes() == torn[at:]
    filled.text = there
    filled.check_still_works()
    filled.mount.remount()
    filled.check_still_works()


@pytest.mark.parametrize(
    "behind",
    [b"\0" * 100, b"\0" * 70000, b"x" * 13, random.Random(1).randbytes(3000)],
    ids=["zeros", "many-zeros", "letters", "garbage"],
)
def test_bytes_behind_the_last_batch_are_cut(mounts, behind):
    filled = crash_with(mounts, lambda filled: None)
    with open(logs_of(filled)[-1], "ab") as log:
        log.write(behind)
    filled.mount.expect("t-0")
    filled.mount.start()
    filled.check_still_works()


@pytest.mark.parametrize("where", [0, 1, -2])
def test_damage_with_valid_batches_behind_is_never_cut(mounts, where):
    """The partition is offline with a report, the others go on; with the damage mended all of it is there."""
    filled = crash_with(mounts, lambda filled: None)
    mount = filled.mount
    log = logs_of(filled)[-1]
    at, size = filled.last_segment()[where]
    before = log.read_bytes()
    flip(log, at + size - 2)
    mount.expect("t-0")
    mount.expect("t/0")
    mount.start()
    refused(errno.EIO, filled.path.read_bytes)
    refused(errno.EIO, os.open, filled.path, os.O_WRONLY | os.O_APPEND)
    assert "t-0" in mount.messages() and log.name in mount.messages()
    assert (mount.dir / "u" / "0").read_bytes() == filled.other
    mount.umount()
    assert log.stat().st_size == len(before)
    log.write_bytes(before)
    mount.start()
    filled.check_still_works()


@pytest.mark.parametrize(
    "which, stop", [("first", "clean"), ("first", "kill"), ("middle", "clean"), ("middle", "kill"), ("last", "clean")]
)
def test_a_missing_segment_is_an_error_and_not_skipped(mounts, which, stop):
    """But for the last one after a kill, of which nothing else knew."""
    filled = Filled(mounts(), cut=False)
    mount = filled.mount
    mount.umount() if stop == "clean" else mount.kill()
    log = logs_of(filled)[{"first": 0, "middle": 2, "last": -1}[which]]
    away = mount.place / "away"
    away.mkdir()
    for path in filled.stored.glob(f"{log.stem}.*"):
        shutil.move(path, away / path.name)
    mount.expect("t-0")
    mount.expect("t/0")
    mount.start()
    try:
        there = filled.path.read_bytes()
    except OSError as failure:
        assert failure.errno == errno.EIO
    else:
        pytest.fail(f"{len(there)} of {len(filled.text)} bytes are read, as if nothing were missing")
    assert (mount.dir / "u" / "0").read_bytes() == filled.other
    assert "t-0" in mount.messages() or "t/0" in mount.messages()
    mount.umount()
    for path in away.iterdir():
        shutil.move(path, filled.stored / path.name)
    mount.start()
    filled.check_still_works()


def move_segment(log, to):
    to.mkdir(exist_ok=True)
    for path in log.parent.glob(f"{log.stem}.*"):
        shutil.move(path, to / path.name)


@pytest.mark.parametrize("which", ["first", "middle", "sealed-short"])
def test_what_is_missing_after_a_clean_stop_is_told_at_once(mounts, which):
    """The mount goes on, but not without a word."""
    filled = Filled(mounts(), cut=False)
    mount = filled.mount
    mount.umount()
    log = logs_of(filled)[{"first": 0, "middle": 2, "sealed-short": 1}[which]]
    if which == "sealed-short":
        os.truncate(log, log.stat().st_size - 7)
        (filled.stored / "a file that was made").touch()
    else:
        move_segment(log, mount.place / "away")
    mount.expect("t-0: its segments have ")
    mount.start()
    assert "t-0: its segments have " in mount.messages()


@pytest.mark.parametrize("which", ["first", "middle", "tail", "tail-clean"])
def test_a_log_goes_on_without_what_is_lost_where_the_user_says_so(mounts, sh, which):
    """The sentence says how."""
    filled = Filled(mounts(), cut=False)
    mount, path = filled.mount, filled.path
    log = logs_of(filled)[{"first": 0, "middle": 2}.get(which, -1)]
    begins = {}
    for number in range(len(logs_of(filled))):
        view = logs_of(filled)[number].with_suffix(".view").read_bytes()
        begins[number] = struct.unpack_from(">q", view, 16)[0]
    mount.umount() if which == "tail-clean" else (time.sleep(1.5), mount.kill())
    if which.startswith("tail"):
        mount.expect("t-0")
        mount.start()
        filled.check()  # opened, it is flushed at the stop
        mount.umount()
        if which == "tail":
            (mount.data / ".kafka_cleanshutdown").unlink()
        os.truncate(log, log.stat().st_size - 7)
    else:
        move_segment(log, mount.place / "away")
    mount.expect("t-0")
    mount.expect("t/0")
    mount.start()
    refused(errno.EIO, path.read_bytes)
    said = mount.messages()
    assert "accept-loss" in said and str(filled.stored) in said
    mount.umount()
    (filled.stored / "accept-loss").touch()
    for again in range(3):
        mount.start()
        end = os.stat(path).st_size
        if which == "first":
            assert path.read_bytes() == filled.text[begins[1]:]
            assert int(os.getxattr(path, "user.spoolfs.log_start_position")) == begins[1]
        elif which == "middle":
            fd = os.open(path, os.O_RDONLY)
            assert os.pread(fd, begins[2], 0) == filled.text[:begins[2]]
            refused(errno.EIO, os.pread, fd, 10, begins[2])
            refused(errno.EIO, os.pread, fd, 10, begins[3] - 1)
            assert os.pread(fd, 1 << 20, begins[3]) == filled.text[begins[3]:]
            os.close(fd)
        else:
            if again == 0:
                filled.text = filled.text[:end]
            assert path.read_bytes() == filled.text and filled.text.endswith(b"\n")
        assert end == len(filled.text)
        filled.append(b"".join(filled.lines(20)))
        if again == 1:
            wait_until(lambda: not (filled.stored / "accept-loss").exists() or (filled.stored / "accept-loss").stat().st_size)
        if again == 2:
            mount.umount()
        else:
            mount.kill()
    assert (filled.stored / "accept-loss").exists() == (which == "middle")


# What does not belong there

def test_foreign_files_are_left_alone(filled):
    mount = filled.mount
    mount.umount()
    (mount.data / "lost+found").mkdir()
    (mount.data / "notes.txt").write_text("mine")
    (mount.data / "t-0.old").mkdir()
    (mount.data / "t-0.old" / "file").write_text("mine")
    (mount.data / "no-number").mkdir()
    (mount.data / "t-01").mkdir()
    (mount.data / "a b-0").mkdir()
    (mount.data / "link-0").symlink_to("/etc")
    (mount.data / "file-0").write_text("no directory")
    (mount.data / "gone-0.0123456789abcdef0123456789abcdef-stray").mkdir()
    (filled.stored / "README").write_text("mine")
    (filled.stored / "00000000000000000000.log.bak").write_text("mine")
    (filled.stored / "sub").mkdir()

    def foreign():
        return sorted(
            str(path)
            for path in mount.data.rglob("*")
            if path.suffix not in (".log", ".index", ".timeindex", ".view", ".snapshot")
            and "checkpoint" not in path.name
            and not path.name.startswith(".")
        )
    before = foreign()
    for start in (mount.start, mount.crash, mount.remount):
        start()
        filled.check_still_works()
        assert sorted(os.listdir(mount.dir)) == ["t", "u"]
    assert set(before) <= set(foreign())


def test_deleting_a_topic_whose_directory_holds_more(filled, sh):
    """What is not ours does not go with it."""
    mount = filled.mount
    (filled.stored / "sub").mkdir()
    (filled.stored / "sub" / "precious").write_text("mine")
    sh("echo file.delete.delay.ms=0 >> t/.config; rm -r t", mount.dir)
    mount.umount()
    mount.start()
    assert os.listdir(mount.dir) == ["u"]
    assert [path.read_text() for path in mount.data.glob("t-0*/sub/precious")] == ["mine"]


# Newer versions

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def newer_meta(filled):
    path = filled.mount.data / "meta.properties"
    path.write_text(path.read_text().replace("version=0", "version=2"))
    return path


def newer_checkpoint(name):
    def change(filled):
        path = filled.mount.data / name
        content = path.read_bytes().split(b"crc ")[0].split(b"\n", 1)
        assert content[0] == b"version 1"
        body = b"version 2\n" + content[1]
        path.write_bytes(body + b"crc %08x\n" % crc32c(body))
        return path
    change.__name__ = name
    return change


@pytest.mark.parametrize(
    "change",
    [newer_meta, newer_checkpoint("view-start-checkpoint"), newer_checkpoint("partition-state-checkpoint")],
    ids=lambda change: change.__name__,
)
def test_data_of_a_newer_version_is_refused_and_not_touched(filled, change):
    mount = filled.mount
    mount.umount()
    path = change(filled)
    before = {
        path: (path.stat().st_mtime_ns, digest(path))
        for path in mount.data.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    text = mount.refused()
    assert path.name in text and "newer" in text
    assert {path: (path.stat().st_mtime_ns, digest(path)) for path in before} == before


def test_a_view_of_a_newer_version(filled):
    mount = filled.mount
    mount.umount()
    views = sorted(filled.stored.glob("*.view"))
    kept = {path: path.read_bytes() for path in views}
    for path in views:
        content = bytearray(path.read_bytes())
        struct.pack_into(">H", content, 4, 2)
        struct.pack_into(">I", content, 24, crc32c(bytes(content[:24])))
        path.write_bytes(content)
    mount.expect("t-0")
    mount.expect("t/0")
    try:
        mount.start()
    except MountFailed as failure:
        assert "newer" in str(failure)
    else:
        try:
            filled.check()  # made anew: it is all derived but for the first position, which the checkpoint has
        except OSError as failure:
            assert failure.errno == errno.EIO
        mount.umount()
    for path, content in kept.items():
        path.write_bytes(content)
    mount.start()
    filled.check_still_works()


# Permissions

def test_a_read_only_data_is_refused_and_not_touched(filled, sh):
    mount = filled.mount
    mount.umount()
    before = {path: (path.stat().st_mtime_ns, digest(path)) for path in mount.data.rglob("*") if path.is_file()}
    subprocess.run(["mount", "--bind", mount.data, mount.data], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount.data], check=True)
        text = mount.refused()
        assert "read-only" in text.lower() and str(mount.data) in text
        assert sh(f"{mount.program} dump --records {mount.data}/u-0 | wc -l") == b"1000\n", "it can be looked at"
    finally:
        subprocess.run(["umount", mount.data], check=True)
    assert {path: (path.stat().st_mtime_ns, digest(path)) for path in before} == before
    mount.start()
    filled.check_still_works()


@contextlib.contextmanager
def read_only(directory):
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_read_only_data_can_be_looked_at(filled):
    """After a clean stop nothing has to be made anew."""
    mount = filled.mount
    mount.umount()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in mount.data.rglob("*") if path.is_file()}
    mount.options = ["ro", "log.retention.ms=1", "log.retention.check.interval.ms=10"]
    with read_only(mount.data):
        for _ in range(2):
            mount.start()
            filled.check()
            mount.umount()
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in mount.data.rglob("*") if path.is_file()} == before
    mount.options = []
    mount.start()
    filled.check_still_works()


def test_a_read_only_data_after_an_unclean_stop_is_refused(filled):
    mount = filled.mount
    mount.kill()
    mount.options = ["ro"]
    with read_only(mount.data):
        assert "stopped cleanly" in mount.refused()
    mount.start()
    filled.check()


def test_a_read_only_data_is_not_read_while_it_is_written(mounts, filled):
    """Its files are those of another mount, which has them for writing."""
    mount = filled.mount
    window = mount.place / "window"
    window.mkdir()
    subprocess.run(["mount", "--bind", mount.data, window], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", window], check=True)
    try:
        assert f"process {mount.daemon.pid}" in mounts("ro", data=window, start=False).refused()
        mount.umount()
        reader = mounts("ro", data=window)
        assert f"process {reader.daemon.pid}" in mount.refused()
        reader.umount()
    finally:
        subprocess.run(["umount", window], check=True)
    mount.start()
    filled.check_still_works()


def test_a_user_without_permission_for_data(mounts, spoolfs):
    mount = mounts()
    mount.umount()
    place = mount.place
    place.chmod(0o755)
    (place / "other").mkdir()
    os.chown(place / "other", 12345, 12345)
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=12345",
            "--regid=12345",
            "--clear-groups",
            spoolfs,
            "mount",
            "-d",
            mount.data,
            place / "other",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and str(mount.data) in done.stderr and "ermission denied" in done.stderr
    assert not is_mounted(place / "other")


USER = """
import os, subprocess, sys
program, data, mnt = sys.argv[1:]
def run(*words):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done)
run("mount", "-d", data, mnt)
for topic in "tu":
    os.mkdir(mnt + "/" + topic)
    open(mnt + "/" + topic + "/0", "a").write(topic + " is here\\n")
run("umount", mnt)
log = data + "/t-0/00000000000000000000.log"
os.chmod(log, 0)
run("mount", "-d", data, mnt)
try:
    open(mnt + "/t/0").read()
    raise SystemExit("it was read")
except OSError as failure:
    assert failure.errno in (5, 13), failure
assert open(mnt + "/u/0").read() == "u is here\\n"
subprocess.run(["fusermount3", "-u", mnt], check=True)
os.chmod(log, 0o600)
run("mount", "-d", data, mnt)
assert open(mnt + "/t/0").read() == "t is here\\n"
pid = int(os.getxattr(mnt, "user.spoolfs.pid"))
os.kill(pid, 9)
while True:
    try:
        os.statvfs(mnt)
    except OSError as failure:
        assert failure.errno in (103, 107), failure
        break
run("mount", "-d", data, mnt)
assert open(mnt + "/u/0").read() == "u is here\\n"
run("umount", mnt)
"""


def test_a_user_mounts_and_a_segment_may_not_be_read(mounts, spoolfs, sh):
    """All that root need not care for: fusermount3 mounts, unmounts and detaches, and files may be forbidden. In a
    mount namespace with a /dev/fuse for all, as desktops have it, and the /etc/mtab that fusermount3 wants and the boot makes."""
    place = mounts.place
    place.chmod(0o755)
    for name in ("data", "mnt"):
        (place / name).mkdir()
        os.chown(place / name, 65534, 65534)
    (place / "user.py").write_text(USER)
    sh(f"""unshare -m bash -e -c '
        mount --make-rprivate /
        mknod {place}/fuse c 10 229 && chmod 666 {place}/fuse && mount --bind {place}/fuse /dev/fuse
        if [ ! -e /etc/mtab ]; then
            cp -a /etc {place}/etc && ln -s /proc/self/mounts {place}/etc/mtab && mount --bind {place}/etc /etc
        fi
        setpriv --reuid=65534 --regid=65534 --clear-groups \
            {sys.executable} {place}/user.py {spoolfs} {place}/data {place}/mnt'
    """)
