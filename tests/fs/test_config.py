"""t/.config: what `cat` shows, `echo >>` sets, what is refused and why, and that it is in force."""

import errno
import json
import os
import re

import pytest

from lib import lines
from lib.mounting import wait_until


def refused(error, call, *arguments):
    with pytest.raises(OSError) as failure:
        call(*arguments)
    assert failure.value.errno == error, failure.value


def config(topic):
    return (topic / ".config").read_text()


def of(topic, name):
    """The value in force, and whether it is set for the topic."""
    match = re.search(rf"^(#?){re.escape(name)}=(.*)$", config(topic), re.M)
    return match.group(2), not match.group(1)


def test_config_shows_every_property_of_a_topic(mount, topic, sh):
    text = config(topic)
    assert all(line.startswith("#") for line in text.splitlines()), "nothing is set"
    shown = set(re.findall(r"^#([a-z0-9.]+)=", text, re.M))
    listed = json.loads(sh(f"{mount.program} config --json"))
    assert shown == {row["name"] for row in listed if "topic" in row["scope"]}
    assert "spoolfs." not in text


def test_config_is_not_listed_but_there(topic, sh):
    assert sh("ls -A; stat -c %F .config", topic) == b"0\nregular file\n"
    assert os.stat(topic / ".config").st_size == len(config(topic))


def test_a_property_is_set_and_taken_back(mount, topic, sh):
    sh("echo retention.ms=3600000 >> .config", topic)
    assert of(topic, "retention.ms") == ("3600000", True)
    assert config(topic).splitlines()[0] == "retention.ms=3600000"
    mount.remount()
    assert of(topic, "retention.ms") == ("3600000", True)
    mount.crash()
    assert of(topic, "retention.ms") == ("3600000", True)
    sh("echo retention.ms= >> .config", topic)
    assert of(topic, "retention.ms") == ("604800000", False)
    mount.remount()
    assert of(topic, "retention.ms") == ("604800000", False)


def test_broker_values_are_the_topics_defaults(mounts):
    mount = mounts("log.segment.bytes=1048576", "log.retention.hours=1", "compression.type=zstd")
    (mount.dir / "t").mkdir()
    assert of(mount.dir / "t", "segment.bytes") == ("1048576", False)
    assert of(mount.dir / "t", "retention.ms") == ("3600000", False)
    assert of(mount.dir / "t", "compression.type") == ("zstd", False)


def test_several_properties_in_one_write_are_all_set_or_none(topic, sh):
    sh("cat >> .config", topic, stdin=b"retention.ms=1000000\nsegment.bytes=20000\n")
    assert of(topic, "retention.ms")[0] == "1000000" and of(topic, "segment.bytes")[0] == "20000"
    sh("cat >> .config", topic, stdin=b"retention.ms=2000000\nsegment.bytes=1\n", status=1)
    assert of(topic, "retention.ms")[0] == "1000000" and of(topic, "segment.bytes")[0] == "20000"


@pytest.mark.parametrize("line, why", [
    ("retention.msec=5", "retention.ms"),                 # unknown: the nearest name
    ("segment.bytes=1", "16384"),                         # out of range: the range
    ("segment.bytes=99999999999", "2147483647"),
    ("retention.ms=soon", "number"),
    ("acks=2", "1,all"),
    ("compression.type=rar", "lz4"),
    ("log.segment.bytes=1000000", "segment.bytes"),       # the broker's name
    ("cleanup.policy=shrink", "any of compact,delete"),
    ("=5", None),
    ("nonsense", None),
    ("spoolfs.uid=0", "chown"),
])
def test_what_is_wrong_is_refused_with_the_reason(mount, topic, sh, line, why):
    before = config(topic)
    sh(f"echo '{line}' >> .config", topic, status=1, stderr="Invalid argument")
    text = config(topic)
    assert text.startswith(before) and text.splitlines()[-1].startswith("# refused: ")
    assert (why or line) in text.splitlines()[-1]
    assert (why or line) in mount.messages(), "the log has it too"
    sh("echo retention.ms=77777 >> .config", topic)
    assert "# refused" not in config(topic), "until a change succeeds"


def test_a_line_may_come_in_pieces_and_without_its_newline(topic):
    fd = os.open(topic / ".config", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"retention.")
    os.write(fd, b"ms=1234567\nflush.messages=")
    assert of(topic, "retention.ms")[0] == "1234567"
    os.write(fd, b"99")
    os.close(fd)
    assert of(topic, "flush.messages")[0] == "99"


def test_the_error_of_an_unfinished_line_comes_with_close(topic):
    fd = os.open(topic / ".config", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"segment.bytes=7")
    refused(errno.EINVAL, os.close, fd)
    assert "# refused" in config(topic)


def test_comments_and_its_own_output_are_accepted(topic, sh):
    sh("echo retention.ms=500000 >> .config", topic)
    text = config(topic)
    sh("cat >> .config", topic, stdin=text.encode())
    assert config(topic) == text, "what cat shows can be put back"


def test_config_cannot_be_overwritten_or_removed(topic, sh):
    sh("echo retention.ms=1 > .config", topic, status=1, stderr="Operation not permitted")
    sh("rm .config", topic, status=1, stderr="Operation not permitted")
    sh("mv .config x", topic, status=1)
    sh("truncate -s 0 .config", topic, status=1, stderr="Operation not permitted")
    assert "retention.ms" in config(topic)


def test_an_open_config_is_as_it_was_at_the_open(topic, sh):
    with open(topic / ".config") as file:
        first = file.read(10)
        sh("echo retention.ms=999999 >> .config", topic)
        assert "retention.ms=999999" not in first + file.read()
    assert "retention.ms=999999" in config(topic)


# In force

def test_changes_are_in_force_for_open_files(mount, topic, sh):
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x" * 5000 + b"\n")
    sh("echo max.message.bytes=1000 >> .config", topic)
    refused(errno.EMSGSIZE, os.write, fd, b"x" * 5000 + b"\n")
    sh("echo max.message.bytes= >> .config", topic)
    assert os.write(fd, b"x" * 5000 + b"\n") == 5001
    sh("echo compression.type=gzip >> .config", topic)
    os.write(fd, b"x" * 5000 + b"\n")
    os.close(fd)
    assert "codec=gzip" in sh(f"{mount.program} dump {mount.data}/t-0/*.log").decode()
    assert (topic / "0").read_bytes() == (b"x" * 5000 + b"\n") * 3


def test_small_segments(mount, topic, sh):
    sh(
        "echo segment.bytes=16384 >> .config; for i in $(seq 30); do head -c 5000 /dev/zero | tr '\\0' a >> 0; done",
        topic,
    )
    files = sorted(mount.data.glob("t-0/*.log"))
    assert len(files) >= 9 and all(file.stat().st_size <= 16384 for file in files)


def test_segments_by_age(mount, topic, sh):
    sh("echo segment.ms=1 >> .config; for i in 1 2 3 4 5; do echo $i >> 0; sleep 0.01; done", topic)
    assert len(list(mount.data.glob("t-0/*.log"))) == 5
    assert sh("cat 0", topic) == b"1\n2\n3\n4\n5\n"


def test_segments_by_their_index(mount, topic, sh):
    sh(
        "printf 'segment.index.bytes=256\\nindex.interval.bytes=0\\n' >> .config; "
        "for i in $(seq 100); do echo $i >> 0; done",
        topic,
    )
    files = list(mount.data.glob("t-0/*.index"))
    assert len(files) >= 3 and all(file.stat().st_size <= 256 for file in files)
    assert sh("cat 0", topic) == sh("seq 100")


def test_log_append_time(mount, topic, sh):
    sh("echo message.timestamp.type=LogAppendTime >> .config; echo x >> 0", topic)
    assert "flags=log-append-time" in sh(f"{mount.program} dump {mount.data}/t-0/*.log").decode()


# acks and fsync: what is promised is on the disk

def synced(mount):
    """By file: how much of it was there when it was last given to fsync."""
    sizes = {}
    for call, size, path in mount.faults.notes():
        if call == "sync":
            sizes[path] = size
    return sum(size for path, size in sizes.items() if "/t-0/" in path and path.endswith(".log"))


def stored(mount):
    return sum(file.stat().st_size for file in mount.data.glob("t-0/*.log"))


@pytest.fixture
def watched(mounts):
    """A mount whose fsyncs are noted."""
    mount = mounts(faults=True)
    (mount.dir / "t").mkdir()
    mount.faults.set("sync note")
    return mount


def test_fsync_is_the_durability_point(watched):
    topic = watched.dir / "t"
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"not yet\n")
    assert synced(watched) < stored(watched), "acks=1 does not wait for the disk"
    os.fsync(fd)
    assert synced(watched) == stored(watched) > 0
    os.write(fd, b"again\n")
    os.fdatasync(fd)
    assert synced(watched) == stored(watched)
    os.close(fd)


def test_fsync_through_a_handle_that_only_reads(watched):
    topic = watched.dir / "t"
    (topic / "0").open("a").write("x\n")
    fd = os.open(topic / "0", os.O_RDONLY)
    os.fsync(fd)
    assert synced(watched) == stored(watched) > 0
    os.close(fd)


def test_acks_all_is_on_disk_when_write_returns(watched, sh):
    topic = watched.dir / "t"
    sh("echo acks=all >> .config", topic)
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    for i in range(20):
        os.write(fd, lines.make_line("w", i))
        assert synced(watched) == stored(watched) > 0
    os.write(fd, b"unfinished")
    os.close(fd)
    assert synced(watched) == stored(watched)


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_o_sync(watched, flag):
    fd = os.open(watched.dir / "t" / "0", os.O_WRONLY | os.O_APPEND | flag)
    for i in range(5):
        os.write(fd, lines.make_line("w", i))
        assert synced(watched) == stored(watched) > 0
    os.close(fd)


def test_sync_of_one_file_by_the_shell(watched, sh):
    sh("echo x >> 0; sync 0", watched.dir / "t")
    assert synced(watched) == stored(watched) > 0


def test_acks_all_as_a_mount_option(mounts):
    mount = mounts("acks=all", faults=True)
    (mount.dir / "t").mkdir()
    mount.faults.set("sync note")
    with open(mount.dir / "t" / "0", "ab", buffering=0) as file:
        file.write(b"x\n")
        assert synced(mount) == stored(mount) > 0


def test_flush_messages_and_flush_ms(watched, sh):
    topic = watched.dir / "t"
    sh("echo flush.messages=10 >> .config; seq 25 >> 0", topic)
    wait_until(lambda: synced(watched) == stored(watched) > 0)
    sh("printf 'flush.messages=\\nflush.ms=5\\n' >> .config; echo x >> 0", topic)
    wait_until(lambda: synced(watched) == stored(watched))
