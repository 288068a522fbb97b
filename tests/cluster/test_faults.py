"""Three brokers, and what befalls them: writers and readers go on, and in the end every replica has what was acknowledged, once and in order (lib/cluster.py, lib/history.py).

What is done stands in lib/trouble.py: once each here, and in any order and at the same time by a schedule of chance, which `make soak MINUTES=n` has go on for as long as wanted. A schedule that has found something is
repeated with SPOOLFS_SEED.
"""

import os
import random
import time

import pytest

from lib import trouble
from lib.disk import Disk
from lib.trouble import SHORT, TROUBLE

pytestmark = pytest.mark.timeout(600)
SOAK_MINUTES = float(os.environ.get("MINUTES", 0))


@pytest.fixture
def busy(clusters):
    """A cluster with a topic that is written and read."""
    def make(*options, **how):
        cluster = clusters(*options, faults=True, **how)
        cluster.make_topic("t")
        cluster.write("t", "w1")
        cluster.write("t", "w2", size=300)
        cluster.read("t")
        cluster.goes_on()
        cluster.in_sync("t")
        return cluster
    return make


@pytest.mark.parametrize("what", [pytest.param(what, id=what.__name__, marks=() if what in SHORT else pytest.mark.long) for what in TROUBLE])
def test_nothing_acknowledged_is_lost_when(what, busy):
    cluster = busy()
    what(cluster, random.Random(1))
    cluster.judge()


@pytest.mark.long
@pytest.mark.parametrize("whose", ["a follower's", "the leader's"])
def test_nothing_acknowledged_is_lost_when_a_disk_is_full(whose, busy, tmp_path):
    disk = Disk(tmp_path, "24m")
    try:
        cluster = busy("log.segment.bytes=1048576", data={"a": disk.path / "data"})
        cluster.agent["a"].expect("No space left on device")
        if whose == "a follower's":
            cluster.kill("a")
            cluster.other_leader("t", "a")
            cluster.agent["a"].start()
            cluster.in_sync("t")
        disk.fill()
        if whose == "the leader's":
            cluster.lasts(5)
        else:
            cluster.in_sync("t", "b", "c")
            cluster.goes_on()
        disk.free()
        cluster.judge()
    finally:
        disk.close()


@pytest.mark.long
@pytest.mark.timeout(SOAK_MINUTES * 60 + 900)
def test_nothing_acknowledged_is_lost_whatever_happens(busy):
    seed = int(os.environ.get("SPOOLFS_SEED", time.time_ns() % 1000000))
    print(f"SPOOLFS_SEED={seed}")
    cluster = busy()
    trouble.much(cluster, random.Random(seed), seconds=SOAK_MINUTES * 60 or 60)
    cluster.judge()
