"""What mounts show of a cluster: DIR/.cluster, and the attributes of partitions, the same on every host."""

import os
import signal
import stat

import pytest

from lib.agents import topic
from lib.joined import controller, state
from lib.mounting import wait_until


def lines(mount, name):
    return [line.split("\t") for line in (mount.dir / ".cluster" / name).read_text().splitlines()]


def xattr(path, name):
    return os.getxattr(path, f"user.spoolfs.{name}").decode()


@pytest.fixture
def three(mounted):
    return [mounted(n, f"broker.rack=r{n}", "replica.lag.time.max.ms=2000") for n in (1, 2, 3)]


def test_the_cluster_as_files(three, look, put_topic):
    put_topic("t", [[1, 2, 3], [2, 3]])
    put_topic("u", [[3]])
    for m in three:
        wait_until(lambda: len(lines(m, "brokers")) == 3 and (m.dir / "u/0").exists() and (m.dir / "t/1").exists(), what="all is known")
        now = controller(look)
        assert lines(m, "brokers") == [[str(o.id), o.bootstrap, f"r{o.id}", "controller" if o.id == now else "alive"] for o in three]
        assert lines(m, "controller") == [[str(now), three[now - 1].bootstrap]]
        assert lines(m, "offline") == lines(m, "under-replicated") == []
        assert ".cluster" not in os.listdir(m.dir)
        assert sorted(os.listdir(m.dir / ".cluster")) == ["brokers", "controller", "offline", "under-replicated"]
        found = (m.dir / ".cluster/brokers").stat()
        assert found.st_size == len((m.dir / ".cluster/brokers").read_text()) and stat.S_ISREG(found.st_mode) and not found.st_mode & 0o222
    three[2].kill()
    three[2].expect("")
    m = three[0]
    wait_until(lambda: lines(m, "brokers")[2] == ["3", "-", "-", "away"], 60, "its death")
    wait_until(lambda: lines(m, "offline") == [["u/0", "-", "3", "3", "3"]], what="what nobody leads")
    wait_until(lambda: lines(m, "under-replicated") == [["t/0", "1", "1,2,3", "1,2", "3"], ["t/1", "2", "2,3", "2", "3"]], what="smaller ISRs")
    three[2].start()
    wait_until(lambda: not lines(m, "offline") and not lines(m, "under-replicated"), 60, "all is well again")


def test_nobody_writes_there(three):
    where = three[0].dir / ".cluster"
    for attempt in (lambda: open(where / "brokers", "a"), lambda: open(where / "brokers", "w"), lambda: open(where / "more", "w"), lambda: os.mkdir(where / "d"), lambda: os.unlink(where / "brokers"),
                    lambda: os.rmdir(where), lambda: os.chmod(where, 0o777), lambda: os.rename(where / "brokers", where / "b")):
        with pytest.raises(PermissionError):
            attempt()
    with pytest.raises(FileNotFoundError):
        open(where / "nothing")


def test_a_broker_by_itself_is_a_cluster_of_one(server, sh):
    (server.dir / "t").mkdir()
    assert lines(server, "brokers") == [["0", server.bootstrap, "-", "controller"]]
    assert lines(server, "controller") == [["0", server.bootstrap]]
    assert lines(server, "offline") == lines(server, "under-replicated") == []
    assert (xattr(server.dir / "t/0", "role"), xattr(server.dir / "t/0", "leader"), xattr(server.dir / "t/0", "isr"), xattr(server.dir / "t/0", "replicas")) == ("leader", "0", "0", "0")
    assert sh("ls .cluster | wc -l; cat .cluster/*", server.dir).startswith(b"4\n0\t")


def test_a_mount_without_listeners_has_no_address(mount):
    assert lines(mount, "brokers") == [["0", "-", "-", "controller"]]


def test_attributes_are_the_same_on_every_host(three, look, put_topic):
    put_topic("t", [[2, 1]])
    wait_until(lambda: all((m.dir / "t/0").exists() for m in three), what="the topic")
    with open(three[1].dir / "t/0", "ab", buffering=0) as f:
        for n in range(10):
            f.write(b"line %d\n" % n)
    for m, role in zip(three, ("follower", "leader", "none")):
        path = m.dir / "t/0"
        wait_until(lambda: path.stat().st_size == 70, what="all of it")
        told = {name: xattr(path, name) for name in ("role", "leader", "isr", "replicas", "leader_epoch", "offline_replicas", "log_start", "log_start_position", "visible_end", "visible_end_position")}
        now = state(look, "t")
        assert told == {"role": role, "leader": "2", "isr": "2,1", "replicas": "2,1", "leader_epoch": str(now["leader_epoch"]), "offline_replicas": "", "log_start": "0", "log_start_position": "0",
                        "visible_end": "10", "visible_end_position": "70"}
        names = [name.removeprefix("user.spoolfs.") for name in os.listxattr(path)]
        assert ("high_watermark" in names) == (role != "none")
        if role == "none":
            with pytest.raises(OSError):
                xattr(path, "high_watermark")
        else:
            wait_until(lambda: xattr(path, "high_watermark") == "10" and xattr(path, "log_end_offset") == "10", what="the high watermark")
    three[1].daemon.signal(signal.SIGSTOP)
    wait_until(lambda: xattr(three[0].dir / "t/0", "leader") == "1" and xattr(three[2].dir / "t/0", "leader") == "1", 60, "another leader")
    assert xattr(three[0].dir / "t/0", "role") == "leader" and xattr(three[2].dir / "t/0", "offline_replicas") == "2"
    three[1].expect("")
    three[1].daemon.signal(signal.SIGCONT)
    wait_until(lambda: xattr(three[2].dir / "t/0", "isr") in ("1,2", "2,1") and xattr(three[2].dir / "t/0", "offline_replicas") == "", 60, "it is back")


def test_spoolfs_topic_tells_what_is_not_well(member, spoolfs, put_topic):
    agents = [member(n, "replica.lag.time.max.ms=2000") for n in (1, 2, 3)]
    put_topic("t", [[1, 2, 3], [2, 1], [3]])
    put_topic("u", [[1]])

    def told(*words):
        return topic(spoolfs, agents[0].bootstrap, *words)[0]
    wait_until(lambda: [(t["topic"], t["partitions"]) for t in told("list")] == [("t", 3), ("u", 1)], what="all is known")
    assert told("list", "--under-replicated") == told("list", "--unavailable") == told("describe", "--under-replicated", "--unavailable") == []
    agents[2].expect("")
    agents[2].stop(signal.SIGKILL, status=None)

    def unwell(*words):
        return {t["topic"]: [(p["partition"], p["leader"], p["isr"], p["offline"]) for p in t["partitions"]] for t in told("describe", *words)}
    wait_until(lambda: unwell("--under-replicated", "t") == {"t": [(0, 1, [1, 2], [3])]}, 60, "what has fewer in sync")
    assert unwell("--unavailable") == {"t": [(2, None, [3], [3])]}
    assert unwell("--unavailable", "--under-replicated") == {"t": [(0, 1, [1, 2], [3]), (2, None, [3], [3])]}
    assert [(t["topic"], t["under_replicated"], t["unavailable"]) for t in told("list", "--unavailable")] == [("t", 1, 1)]
    assert [(t["topic"], t["under_replicated"], t["unavailable"]) for t in told("list")] == [("t", 1, 1), ("u", 0, 0)]
