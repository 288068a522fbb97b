"""What idempotent producers leave in a log directory, batches and producer snapshots, is what Kafka's own tools read."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import ROOT
from lib import kafka


@pytest.fixture
def place():
    """Of a short name: the unit tests' fixture has little room for it."""
    with tempfile.TemporaryDirectory(prefix="spoolfs-test.") as name:
        yield Path(name)


def test_kafka_reads_logs_and_snapshots(place):
    program = ROOT / "build" / "plain" / "unit" / "test_idempotence"
    assert program.exists(), f"there is no {program}: make check-units"
    subprocess.run([program, "write", place], check=True, timeout=240)
    data = place / "data"
    kafka.assert_kafka_accepts(data)
    snapshots = sorted(data.glob("*-0/*.snapshot"))
    assert len(snapshots) > 4
    for topic in ["plain", "zstd"]:
        newest = max((data / f"{topic}-0").glob("*.snapshot"))
        text = kafka.dump_log_segments([newest])
        known = {int(id): (int(epoch), int(last)) for id, epoch, last in
                 re.findall(r"producerId: (\d+) producerEpoch: (\d+) .*?lastSequence: (\d+)", text)}
        assert known == {100 + i: (i, 10 * ((299 - i) // 7) + 9) for i in range(7)}
