"""The judge is judged: Kafka's dump tool, as lib/kafka.py uses it, must accept what Kafka wrote and refuse damage."""

import shutil
import struct
from pathlib import Path

import pytest

from lib import kafka


@pytest.fixture(scope="module", params=["3.9", "4.1"])
def recording(request, tmp_path_factory):
    recording = kafka.Recording(f"kafka-{request.param}", tmp_path_factory.mktemp("recording"))
    recording.release = request.param
    return recording


@pytest.fixture(scope="module")
def latest(tmp_path_factory):
    return kafka.Recording(f"kafka-{kafka.LATEST}", tmp_path_factory.mktemp("recording"))


@pytest.fixture
def partition(latest, tmp_path):
    """A copy, to be damaged, of a partition with several segments: partition("txn-0")."""
    def copy(name):
        return Path(shutil.copytree(latest.log_dir / name, tmp_path / name))
    return copy


def test_accepts_what_kafka_wrote(recording):
    kafka.assert_kafka_accepts(recording.log_dir, release=recording.release, compacted=["compacted"])


def test_accepts_a_single_partition(recording):
    kafka.assert_kafka_accepts(recording.log_dir / "segments-0", recording.log_dir / "txn-0",
                               release=recording.release)


def test_what_compaction_leaves_is_accepted_only_where_expected(recording):
    with pytest.raises(kafka.KafkaRejects) as rejected:
        kafka.assert_kafka_accepts(recording.log_dir / "compacted-0", release=recording.release)
    assert "Non-consecutive offsets in" in str(rejected.value)


def test_refuses_a_directory_without_a_log(tmp_path):
    with pytest.raises(kafka.KafkaRejects, match="no .log file"):
        kafka.assert_kafka_accepts(tmp_path)


def test_refuses_preallocated_indexes(tmp_path):
    killed = kafka.Recording("kafka-4.1-killed", tmp_path)
    with pytest.raises(kafka.KafkaRejects) as rejected:
        kafka.assert_kafka_accepts(killed.log_dir / "small-0")
    index, timeindex = rejected.value.complaints[:2]
    assert "00040.index: entry 3" in index and "zeros from there on" in index
    assert "00040.timeindex: entry 3" in timeindex and "zeros from there on" in timeindex


def flip(at):
    """Damage: the lowest bit of the byte at `at`."""
    def damage(content):
        content[at] ^= 1
        return content
    return damage


def cut(length):
    return lambda content: content[:-length]


def zeros(length):
    return lambda content: content + bytes(length)


def put(layout, at, *values):
    """Damage: other values at `at`."""
    def damage(content):
        struct.pack_into(layout, content, at, *values)
        return content
    return damage


def swap(size):
    """Damage: the first two entries in the wrong order."""
    return lambda content: content[size:2 * size] + content[:size] + content[2 * size:]


NAMELESS = "The following indexed offsets are not found"      # the tool does not say in which file

DAMAGES = {
    "flipped bit in a record": ("segments-0/*.log", flip(61 + 40), "isvalid: false"),
    "length too small": ("segments-0/*.log", put(">i", 8, 3), "Exception in thread"),
    "torn tail": ("segments-0/*.log", cut(1), "invalid bytes at the end"),
    "zeros behind the log": ("segments-0/*.log", zeros(100), "Exception in thread"),
    "index entry of another offset": ("segments-0/*.index", flip(8 + 3), "Mismatches in"),
    "index entry within a batch": ("segments-0/*.index", flip(8 + 7), "Exception in thread"),
    "index entry behind the end": ("segments-0/*.index", put(">i", 8 + 4, 10**9), "Exception in thread"),
    "zero index entry": ("segments-0/*.index", zeros(8), "zeros from there on"),
    "preallocated index": ("segments-0/*.index", zeros(8 * 1000), "zeros from there on"),
    "cut index": ("segments-0/*.index", cut(3), "5 bytes behind its last whole entry"),
    "unsorted index": ("segments-0/*.index", swap(8), "entry 1 (offset, position)"),
    "time index entry of another time": ("segments-0/*.timeindex", flip(12 + 7), "Found timestamp mismatch in"),
    "time index entry of another offset": ("segments-0/*.timeindex", flip(12 + 11), NAMELESS),
    "zero time index entry": ("segments-0/*.timeindex", zeros(12), "CorruptIndexException"),
    "unsorted time index": ("segments-0/*.timeindex", swap(12), "Found out of order timestamp in"),
    "cut time index": ("segments-0/*.timeindex", cut(1), "11 bytes behind its last whole entry"),
    "cut snapshot": ("txn-0/*.snapshot", cut(4), "Snapshot failed schema validation"),
    "flipped bit in a snapshot": ("txn-0/*.snapshot", flip(20), "Snapshot is corrupt"),
    "snapshot of another version": ("txn-0/*.snapshot", put(">h", 0, 2), "Snapshot contained an unknown file version"),
    "cut transaction index": ("txn-0/*.txnindex", cut(4), "30 bytes behind its last whole entry"),
    "transaction index of another version": ("txn-0/*.txnindex", put(">h", 0, 1), "version is not 0"),
    "unsorted transaction index": ("txn-0/*.txnindex", swap(34), "do not ascend"),
}


# Each is a start of Kafka's tool.
ALWAYS = {"flipped bit in a record", "preallocated index", "cut snapshot", "unsorted transaction index"}


@pytest.mark.parametrize("file, damage, complaint", [pytest.param(*how, id=name, marks=() if name in ALWAYS else pytest.mark.long) for name, how in DAMAGES.items()])
def test_refuses(partition, file, damage, complaint):
    name, pattern = file.split("/")
    damaged = sorted(partition(name).glob(pattern))[1]
    damaged.write_bytes(damage(bytearray(damaged.read_bytes())))
    with pytest.raises(kafka.KafkaRejects) as rejected:
        kafka.assert_kafka_accepts(damaged.parent)
    assert complaint in str(rejected.value)
    assert complaint == NAMELESS or damaged.stem in str(rejected.value)


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_refuses_a_missing_index(partition, suffix):
    directory = partition("segments-0")
    next(directory.glob(f"*{suffix}")).unlink()
    with pytest.raises(kafka.KafkaRejects, match=f"has no {suffix}"):
        kafka.assert_kafka_accepts(directory)


def test_the_dump_is_returned(latest):
    log = min((latest.log_dir / "binary-0").glob("*.log"))
    assert "compresscodec: lz4" in kafka.dump_log_segments([log])
    assert "payload: last\n" in kafka.dump_log_segments([log], "--print-data-log")


def test_recorded_console_and_records_agree(recording):
    values = {}
    for record in recording.expected():
        values.setdefault(f"{record.topic}-{record.partition}", []).append(record.value)
    console = recording.console()
    assert len(console) == 13
    for name, printed in console.items():
        assert printed == b"".join(value + b"\n" for value in values[name])


def test_recorded_transactions_end_as_decided(recording):
    completed = b"".join(record.value for record in recording.completed())
    assert b"decided: to be committed" in completed and b"committed behind an open transaction" in completed
    assert b"decided: to be aborted" not in completed and b"of an open transaction" not in completed
    assert b"decided: to be aborted" in b"".join(record.value for record in recording.uncommitted())


@pytest.mark.long
def test_a_broker_runs_on_what_another_left(recording, tmp_path):
    log_dir = Path(shutil.copytree(recording.log_dir, tmp_path / "kafka" / "data"))
    with kafka.Broker(tmp_path / "kafka", recording.release, standalone=recording.release != "3.9") as broker:
        pid = broker.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert (log_dir / ".kafka_cleanshutdown").exists()
    kafka.assert_kafka_accepts(log_dir, release=recording.release, compacted=["compacted"])


@pytest.mark.long
def test_a_broker_is_gone_when_the_test_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), kafka.Broker(tmp_path) as broker:
        pid = broker.pid
        1 / 0
    assert not Path(f"/proc/{pid}").exists()
    assert not (broker.log_dir / ".kafka_cleanshutdown").exists()
