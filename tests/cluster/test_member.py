"""The registration of a broker with ZooKeeper."""

import json
import re
import signal
import subprocess
import uuid

import pytest

from lib import kafka
from lib.mounting import wait_until
from lib.zk_talk import Proxy

NODE = "/brokers/ids/1"


@pytest.fixture
def root(shared_zookeeper):
    return f"{shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def brokers(talks, root, tmp_path):
    """brokers("a") -> a Talk whose member has the log directory "a"; it may not be registered yet."""
    def make(data="a", connect=None, timeout=4000, **member):
        (tmp_path / data).mkdir(exist_ok=True)
        return talks().open(connect or root, timeout=timeout, session_file=str(tmp_path / data / "session"), member={"id": 1, "data": str(tmp_path / data)} | member)
    return make


def node(talk, path=NODE):
    return json.loads(talk("get", path=path)["data"])


def test_a_registration_is_kafkas_with_our_own_member(brokers, talks, root, tmp_path):
    broker, other = brokers(rack="r1", host="::1", port=7), talks(root)
    epoch = broker.event("registered")["epoch"]
    cluster = broker.ask("member_wait", "cluster")["cluster"]
    got = other("get", path=NODE)
    assert got["stat"]["ephemeral"] and got["stat"]["czxid"] == epoch == broker.ask("epoch", "epoch_now")["epoch_now"]
    assert re.fullmatch(r'\{"features":\{\},"listener_security_protocol_map":\{"PLAINTEXT":"PLAINTEXT"\},"endpoints":\["PLAINTEXT://\[::1\]:7"\],"rack":"r1","jmx_port":-1,"port":7,"host":"::1","version":5,'
                        r'"timestamp":"\d+","spoolfs":\{"clean":true,"boot_id":"[-0-9a-f]{36}","data_id":"[-_A-Za-z0-9]{22}","session_timeout_ms":4000\}\}', got["data"])
    assert other("get", path="/cluster/id")["data"] == f'{{"version":"1","id":"{cluster}"}}'
    assert (tmp_path / "a/data-id").read_text().strip() == node(other)["spoolfs"]["data_id"]
    for path in ("/brokers/topics", "/config/changes", "/admin/delete_topics", "/isr_change_notification", "/consumers", "/config/users"):
        assert other("exists", path=path)["code"] == "ok"


def test_kafka_reads_our_registration(brokers, shared_zookeeper, root):
    broker = brokers(rack="r1")
    broker.event("registered")
    line = f"{NODE}\t{broker('get', path=NODE)['data']}\n"
    layout = str(__import__("conftest").ROOT / "tests/data/zookeeper/Layout.java")
    said = subprocess.run(kafka.java("3.9", layout, "decode"), input=line, capture_output=True, text=True, timeout=60).stdout
    assert "EndPoint(localhost,9092,ListenerName(PLAINTEXT),PLAINTEXT)" in said and "r1" in said


def test_each_registration_has_a_greater_epoch(brokers):
    broker = brokers()
    first = broker.event("registered")["epoch"]
    broker.close()
    assert brokers().event("registered")["epoch"] > first


def test_an_id_that_is_taken_is_refused(brokers):
    one = brokers("a", host="there", port=4711)
    one.event("registered")
    two = brokers("b")
    says = two.event("failed")
    assert says["error"] == "busy" and "broker.id=1 is taken by another broker, at there:4711" in says["says"]
    assert "broker.id=1" in two.ask("member_wait", "cluster")["failed"]
    assert two.ask("epoch", "epoch_now")["epoch_now"] == -1
    assert two.ask("member_lease", "lease")["lease"] == 0
    brokers("c", id=2).event("registered")
    assert "lost" not in one.events()


def test_two_start_with_one_id_at_once_and_one_gets_it(brokers):
    both = [brokers(data) for data in "ab"]
    ends = [broker.take(lambda line: line.get("event") in ("registered", "failed"), "an end") for broker in both]
    assert sorted(end["event"] for end in ends) == ["failed", "registered"]


def test_log_directories_of_another_cluster_are_refused(brokers, root):
    one = brokers(cluster_id="of-the-data")
    one.event("registered")
    assert one.ask("member_wait", "cluster")["cluster"] == "of-the-data"
    assert "belong to the cluster of-another, and what is at " in brokers("b", id=2, cluster_id="of-another").event("failed")["says"]
    brokers("c", id=3, cluster_id="of-the-data").event("registered")
    brokers("d", id=4).event("registered")


def test_a_kafka_in_the_same_place_is_refused(brokers, talks, root):
    other = talks(root)
    other("make_path", path="/brokers/ids")
    other("create", path="/brokers/ids/7", flags="e", data='{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":["PLAINTEXT://a:1"],"jmx_port":-1,"port":1,"host":"a","version":5,"timestamp":"1"}')
    assert "/brokers/ids/7 at" in (says := brokers().event("failed")["says"]) and "no spoolfs" in says


@pytest.mark.parametrize("path, data, says", [("/cluster/id", "{", "no JSON"), ("/cluster/id", '{"version":"1"}', '"id"'), ("/brokers/ids/7", "noise", "no JSON"), ("/brokers/ids/1", "noise", "no JSON")])
def test_noise_in_zookeeper_is_refused_with_its_path(brokers, talks, root, path, data, says):
    other = talks(root)
    other("make_path", path=path.rpartition("/")[0])
    other("create", path=path, data=data)
    broker = brokers()
    assert path in (said := broker.event("failed")["says"]) and says in said


def test_a_broker_registers_anew_when_its_session_has_expired(brokers, talks, root):
    """SIGSTOP for longer than the session: what it says then comes in order, and a lease is there only while it is registered."""
    broker, other = brokers(timeout=1000), talks(root)
    first = broker.event("registered")["epoch"]
    other("exists", path=NODE, watch=True)
    broker.process.send_signal(signal.SIGSTOP)
    other.event("deleted", path=NODE)
    broker.process.send_signal(signal.SIGCONT)
    broker.event("lost")
    assert broker.event("registered")["epoch"] > first
    assert [event for event in broker.events() if event in ("registered", "lost")] == ["registered", "lost", "registered"]
    wait_until(lambda: broker.ask("member_lease", "lease")["lease"] > 0, 10, "a lease")


def test_a_new_session_gives_no_lease_to_an_epoch_of_the_old_one(brokers, talks, shared_zookeeper, root, tmp_path):
    """The queue stands still, so that the member still has its old epoch when the new session is there."""
    broker, other = brokers(), talks()
    broker.event("registered")
    wait_until(lambda: broker.ask("member_lease", "lease")["lease"] > 0, 10, "a lease")
    broker.tell("stall")
    kept = dict(re.findall(r"^(session|password)=(.*)$", (tmp_path / "a/session").read_text(), re.M))
    wait_until(lambda: other.ask("end_session", "ended", connect=shared_zookeeper.connect, **kept) and "has expired" in broker.said(), 60, "the session is over")
    second = wait_until(lambda: (ids := dict.fromkeys(re.findall("connected to .* session (0x[0-9a-f]+)", broker.said()))) and len(ids) > 1 and list(ids)[1], 30, "the second session")
    line = re.compile(rf"sent=(\d+),sid={second}")
    wait_until(lambda: (sent := line.search(shared_zookeeper.server[0].ask("cons"))) and int(sent[1]) > 4, 30, "it was answered several times")
    assert broker.ask("member_lease", "lease")["lease"] <= 0
    broker.tell("go_on")
    broker.event("lost")
    broker.event("registered")
    wait_until(lambda: broker.ask("member_lease", "lease")["lease"] > 0, 10, "a lease")


def test_a_broker_that_is_killed_comes_back_within_its_timeout(brokers, talks, root):
    broker, other = brokers(timeout=60000), talks(root)
    first = broker.event("registered")["epoch"]
    broker.kill()
    broker = brokers(timeout=60000)
    assert broker.event("registered")["epoch"] > first
    assert "closed" in broker.said() and node(other)["spoolfs"]["clean"]


def test_a_registration_that_cannot_be_closed_is_waited_for(brokers, talks, root, tmp_path):
    """The session's file is lost, and so its password: the registration goes when it expires."""
    broker = brokers(timeout=3000)
    first = broker.event("registered")["epoch"]
    broker.kill()
    (tmp_path / "a/session").unlink()
    broker = brokers(timeout=3000)
    assert broker.event("registered")["epoch"] > first
    assert "goes when its session expires" in broker.said()


def test_a_copy_of_the_log_directories_is_refused_in_the_end(brokers, talks, root, tmp_path):
    one = brokers(timeout=400)
    one.event("registered")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/data-id").write_text((tmp_path / "a/data-id").read_text())
    assert "a copy of these log directories" in brokers("copy", timeout=400).event("failed")["says"]
    assert "lost" not in one.events()


def test_not_clean_stays_so_until_a_controller_has_seen_it(brokers, talks, shared_zookeeper, root, tmp_path):
    broker, other, thief = brokers(clean=False), talks(root), talks()

    def again():
        kept = dict(re.findall(r"^(session|password)=(.*)$", (tmp_path / "a/session").read_text(), re.M))
        before = broker.said().count("has expired")
        wait_until(lambda: thief.ask("end_session", "ended", connect=shared_zookeeper.connect, **kept) and broker.said().count("has expired") > before, 60, "the session is over")
        broker.event("lost")
        broker.event("registered")
        return node(other)["spoolfs"]["clean"]
    broker.event("registered")
    assert node(other)["spoolfs"]["clean"] is False
    assert again() is False
    broker.tell("cleared")
    assert node(other)["spoolfs"]["clean"] is False     # what is said is said
    assert again() is True


@pytest.mark.parametrize("way", [True, False])
def test_an_answer_lost_at_the_registration_is_no_duplicate(brokers, proxies, shared_zookeeper, root, way):
    proxy = proxies(shared_zookeeper.connect)
    proxy.cut(way, Proxy.CREATE2)
    broker = brokers(connect=root.replace(shared_zookeeper.connect, proxy.connect))
    epoch = broker.event("registered")["epoch"]
    assert proxy.hits == 1
    assert broker("get", path=NODE)["stat"]["czxid"] == epoch


def test_a_broker_stays_registered_when_a_server_is_killed(brokers, zookeepers):
    zk = zookeepers(servers=3)
    broker = brokers(connect=zk.connect + "/spool", timeout=8000)
    epoch = broker.event("registered")["epoch"]
    leader = next(server for server in zk.server if zk.mode(server) == "leader")
    leader.kill()
    wait_until(lambda: broker("get", path=NODE)["code"] == "ok", 60, "it is connected again")
    assert broker("get", path=NODE)["stat"]["czxid"] == epoch == broker.ask("epoch", "epoch_now")["epoch_now"]
    assert "lost" not in broker.events()


def test_an_id_of_log_directories_that_is_damaged_is_told(talks, root, tmp_path):
    (tmp_path / "a").mkdir()
    for text in ("", "short\n", "x" * 23, "!" * 22 + "\n"):
        (tmp_path / "a/data-id").write_text(text)
        said = talks().open(root, member={"id": 1, "data": str(tmp_path / "a")}).take(lambda line: "failed" in line, "that")
        assert said["error"] == "corrupt" and "data-id" in said["failed"]
