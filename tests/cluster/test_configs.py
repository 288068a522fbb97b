"""Properties of topics and brokers of a cluster: kept in ZooKeeper, as Kafka keeps them; changed at any broker, in force at all."""

import json
import os
import stat
import subprocess
import threading

import confluent_kafka.admin
import kafka.admin as kafka_python
import pytest

from lib import kafka
from lib.agents import topic
from lib.ask import Ask
from lib.joined import controller
from lib.mounting import wait_until

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


def described(agent, kind, name):
    """What is set for it, as that broker says."""
    with Ask(agent.bootstrap) as ask:
        answer = ask("DescribeConfigs", resources=[{"resource_type": kind, "resource_name": name}])["results"][0]
    assert answer["error_code"] == 0, answer
    return {c["name"]: c["value"] for c in answer["configs"] if c["config_source"] in ((1,) if kind == TOPIC else (2, 3))}


def alter(agent, kind, name, *changes, error=0):
    with Ask(agent.bootstrap) as ask:
        configs = [{"name": key, "config_operation": operation, "value": value} for operation, key, value in changes]
        answer = ask("IncrementalAlterConfigs", resources=[{"resource_type": kind, "resource_name": name, "configs": configs}])["responses"][0]
    assert answer["error_code"] == error, answer
    return answer


def cached(agent, partition):
    return {line.split("=")[0]: line.split("=")[1].strip() for line in open(agent.data / partition / "topic.properties") if "=" in line and line[0] != "#"}


def knows(agent, topic):
    with Ask(agent.bootstrap) as ask:
        return ask("Metadata", topics=[{"name": topic}], allow_auto_topic_creation=False)["topics"][0]["error_code"] in (0, 5)


def test_what_is_set_at_one_broker_is_in_force_at_all(member, look, put_topic):
    brokers = [member(1), member(2), member(3)]
    put_topic("t", [[2, 1]])
    wait_until(lambda: all(knows(b, "t") for b in brokers), what="the topic")
    alter(brokers[2], TOPIC, "t", (SET, "retention.ms", "12345"), (SET, "cleanup.policy", "compact"))
    assert look("/config/topics/t") == {"version": 1, "config": {"cleanup.policy": "compact", "retention.ms": "12345"}}
    notice = look("/config/changes/config_change_0000000000")
    assert notice == {"version": 2, "entity_path": "topics/t"}
    for b in brokers:       # at once: who is asked looks
        assert described(b, TOPIC, "t") == {"cleanup.policy": "compact", "retention.ms": "12345"}
    wait_until(lambda: all(cached(b, "t-0") == {"cleanup.policy": "compact", "retention.ms": "12345"} for b in brokers[:2]), what="what is kept for the next start")
    alter(brokers[0], TOPIC, "t", (APPEND, "cleanup.policy", "delete"), (DELETE, "retention.ms", None))
    assert described(brokers[1], TOPIC, "t") == {"cleanup.policy": "compact,delete"}
    answer = alter(brokers[1], TOPIC, "t", (SET, "retention.ms", "soon"), error=40)
    assert "retention.ms" in answer["error_message"]
    alter(brokers[1], TOPIC, "t", (SET, "spoolfs.uid", "0"), error=40)
    with Ask(brokers[1].bootstrap) as ask:      # replaces all that a client can set
        assert ask("AlterConfigs", resources=[{"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": "segment.bytes", "value": "100000"}]}])["responses"][0]["error_code"] == 0
    assert look("/config/topics/t")["config"] == {"segment.bytes": "100000"}
    with Ask(brokers[2].bootstrap) as ask:
        assert ask("IncrementalAlterConfigs", validate_only=True, resources=[{"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": "segment.bytes", "config_operation": DELETE, "value": None}]}])["responses"][0]["error_code"] == 0
    assert look("/config/topics/t")["config"] == {"segment.bytes": "100000"}


def test_a_topic_has_its_properties_from_the_start(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[1]], {"segment.bytes": "123456", "min.insync.replicas": "2", "message.format.version": "3.0"})
    for b in (one, two):
        b.expect("message.format.version")
        wait_until(lambda: knows(b, "t"), what="the topic")
        assert described(b, TOPIC, "t") == {"segment.bytes": "123456", "min.insync.replicas": "2"}
    assert cached(one, "t-0") == {"segment.bytes": "123456", "min.insync.replicas": "2"}
    alter(two, TOPIC, "t", (DELETE, "segment.bytes", None))
    assert look("/config/topics/t")["config"] == {"min.insync.replicas": "2", "message.format.version": "3.0"}      # what others have set, and is not known here, stays


def test_what_has_changed_while_a_broker_was_away_is_in_force_when_it_is_back(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[1, 2]])
    wait_until(lambda: all((b.data / "t-0/topic.properties").exists() and knows(b, "t") for b in (one, two)), what="the topic")
    alter(two, BROKER, "2", (SET, "log.retention.ms", "777777"))
    alter(two, BROKER, "", (SET, "message.max.bytes", "2000000"))
    alter(two, TOPIC, "t", (SET, "retention.ms", "1"))
    two.stop()
    alter(one, TOPIC, "t", (SET, "retention.ms", "99999"))
    alter(one, BROKER, "", (SET, "log.segment.bytes", "1000000"), (DELETE, "message.max.bytes", None))
    assert look("/config/brokers/<default>")["config"] == {"log.segment.bytes": "1000000"}
    two.start()
    wait_until(lambda: cached(two, "t-0") == {"retention.ms": "99999"}, what="what is in force")
    assert described(two, TOPIC, "t") == {"retention.ms": "99999"}
    assert described(two, BROKER, "2") == {"log.retention.ms": "777777", "log.segment.bytes": "1000000"}
    assert described(one, BROKER, "1") == {"log.segment.bytes": "1000000"}
    with Ask(one.bootstrap) as ask:
        assert ask("IncrementalAlterConfigs", resources=[{"resource_type": BROKER, "resource_name": "2", "configs": []}])["responses"][0]["error_code"] == 42


def test_properties_that_are_damaged_here_are_those_of_the_cluster_again(member, look, put_topic):
    one = member(1)
    put_topic("t", [[1]], {"retention.ms": "5000"})
    wait_until(lambda: (one.data / "t-0/topic.properties").exists(), what="the topic")
    one.stop()
    (one.data / "t-0/topic.properties").write_text("# crc32c 00000000\n")
    one.expect("topic t: ")
    one.start()
    wait_until(lambda: cached(one, "t-0") == {"retention.ms": "5000"}, what="the properties")


def test_a_deleted_topic_leaves_no_properties(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[1, 2]])
    wait_until(lambda: knows(two, "t"), what="the topic")
    alter(two, TOPIC, "t", (SET, "retention.ms", "5000"))
    wait_until(lambda: controller(look) is not None, what="a controller")
    assert look.talk("create", path="/admin/delete_topics/t")["code"] == "ok"
    wait_until(lambda: look("/brokers/topics/t") is None, what="it is gone")
    assert look("/config/topics/t") is None
    alter(two, TOPIC, "t", (SET, "retention.ms", "5000"), error=3)
    put_topic("t", [[1]])
    wait_until(lambda: knows(one, "t"), what="the new one")
    assert described(one, TOPIC, "t") == {}


def test_two_brokers_change_the_same_topic_at_once(member, look, put_topic):
    brokers = [member(1), member(2)]
    put_topic("t", [[1]])
    wait_until(lambda: all(knows(b, "t") for b in brokers), what="the topic")
    names = ["retention.ms", "segment.bytes", "flush.ms", "retention.bytes", "delete.retention.ms", "segment.ms", "max.message.bytes", "index.interval.bytes"]
    with Ask(brokers[0].bootstrap) as first, Ask(brokers[1].bootstrap) as second:
        def set_all(ask, mine):
            for value in range(100000, 100020):
                for name in mine:
                    ask("IncrementalAlterConfigs", resources=[{"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": name, "config_operation": SET, "value": str(value)}]}])
        threads = [threading.Thread(target=set_all, args=pair) for pair in ((first, names[:4]), (second, names[4:]))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert look("/config/topics/t")["config"] == {name: "100019" for name in names}
    for b in brokers:
        assert described(b, TOPIC, "t") == {name: "100019" for name in names}


@pytest.mark.long
def test_notices_are_removed_when_they_are_old(member, look, put_topic):
    one = member(1, "config.change.retention.ms=0")
    put_topic("t", [[1]])
    wait_until(lambda: knows(one, "t"), what="the topic")
    for value in range(1, 6):
        alter(one, TOPIC, "t", (SET, "retention.ms", str(value)))
    wait_until(lambda: len(look.talk("children", path="/config/changes").get("children", [])) <= 1, what="they are removed")


def test_a_new_session_reads_all_again(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[2]])
    wait_until(lambda: knows(two, "t") and cached(two, "t-0") == {}, what="the topic")
    two.daemon.signal(19)       # for longer than its session
    wait_until(lambda: look("/brokers/ids/2") is None, 30, "its session has expired")
    alter(one, TOPIC, "t", (SET, "retention.ms", "424242"))
    for name in look.talk("children", path="/config/changes").get("children", []):
        look.talk("delete", path=f"/config/changes/{name}", version=-1)
    two.daemon.signal(18)
    two.expect("")
    wait_until(lambda: cached(two, "t-0") == {"retention.ms": "424242"}, 60, "it has been read")


def test_config_owner_and_modes_of_mounts(mounted, look, put_topic):
    mounts = [mounted(1), mounted(2), mounted(3)]
    put_topic("t", [[1, 2]], {"retention.ms": "5000", "spoolfs.uid": "4321", "spoolfs.gid": "1234", "spoolfs.dir.mode": "0750", "spoolfs.file.mode": "0640"})
    for m in mounts:
        wait_until(lambda: (m.dir / "t").is_dir(), what="the topic")
        found = (m.dir / "t").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 1234, 0o750)
        assert "retention.ms=5000\n" in (m.dir / "t/.config").read_text()
    with open(mounts[2].dir / "t/.config", "a") as config:
        config.write("retention.ms=77\nsegment.bytes=200000\n")
    assert "retention.ms=77\n" in (mounts[2].dir / "t/.config").read_text()
    wait_until(lambda: all("segment.bytes=200000\n" in (m.dir / "t/.config").read_text() for m in mounts), what="all have heard")
    with pytest.raises(OSError), open(mounts[1].dir / "t/.config", "a") as config:
        config.write("retention.ms=soon\n")
    mounts[1].expect("retention.ms")
    os.chown(mounts[1].dir / "t", 99, 98)
    os.chmod(mounts[2].dir / "t", 0o700)
    wait_until(lambda: all(((found := (m.dir / "t").stat()).st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (99, 98, 0o700) for m in mounts), what="all have heard of it")
    assert look("/config/topics/t")["config"] == {"retention.ms": "77", "segment.bytes": "200000", "spoolfs.uid": "99", "spoolfs.gid": "98", "spoolfs.dir.mode": "0700", "spoolfs.file.mode": "0640"}
    assert described(mounts[0], TOPIC, "t") == {"retention.ms": "77", "segment.bytes": "200000"}


def test_clients_of_others(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[1], [2]])
    wait_until(lambda: knows(one, "t") and knows(two, "t"), what="the topic")
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": two.bootstrap})
    resource = confluent_kafka.admin.ConfigResource("topic", "t", incremental_configs=[confluent_kafka.admin.ConfigEntry("retention.ms", "31415", incremental_operation=confluent_kafka.admin.AlterConfigOpType.SET)])
    admin.incremental_alter_configs([resource])[resource].result(30)
    asked = confluent_kafka.admin.ConfigResource("topic", "t")
    other = confluent_kafka.admin.AdminClient({"bootstrap.servers": one.bootstrap})
    assert other.describe_configs([asked])[asked].result(30)["retention.ms"].value == "31415"
    client = kafka_python.KafkaAdminClient(bootstrap_servers=one.bootstrap)
    client.alter_configs([kafka_python.ConfigResource(kafka_python.ConfigResourceType.TOPIC, "t", {"segment.bytes": "300000"})])
    assert look("/config/topics/t")["config"]["segment.bytes"] == "300000"
    client.close()


@pytest.mark.long
def test_kafka_configs(member, look, put_topic):
    one, two = member(1), member(2)
    put_topic("t", [[1, 2]])
    wait_until(lambda: knows(one, "t") and knows(two, "t"), what="the topic")

    def tool(agent, *words):
        done = subprocess.run(kafka.java(kafka.LATEST, "kafka.admin.ConfigCommand", "--bootstrap-server", agent.bootstrap, *words), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    tool(one, "--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", "retention.ms=5000,cleanup.policy=[compact,delete]")
    assert "DYNAMIC_TOPIC_CONFIG:retention.ms=5000" in tool(two, "--describe", "--entity-type", "topics", "--entity-name", "t")
    tool(two, "--alter", "--entity-type", "brokers", "--entity-name", "2", "--add-config", "log.retention.ms=77777")
    tool(one, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=2000000")
    assert "log.retention.ms=77777" in tool(two, "--describe", "--entity-type", "brokers", "--entity-name", "2")
    assert "message.max.bytes=2000000" in tool(two, "--describe", "--entity-type", "brokers", "--entity-default")
    assert look("/config/brokers/2") == {"version": 1, "config": {"log.retention.ms": "77777"}}
    assert json.loads(look.talk("get", path="/config/brokers/<default>")["data"])["config"] == {"message.max.bytes": "2000000"}


def test_what_is_made_has_its_properties_and_its_owner_on_every_host(mounted, spoolfs):
    mounts = [mounted(n) for n in (1, 2, 3)]
    wait_until(lambda: all(len((m.dir / ".cluster/brokers").read_text().splitlines()) == 3 for m in mounts), what="they know each other")
    old = os.umask(0)
    os.mkdir(mounts[2].dir / "made", 0o740)
    os.umask(old)
    topic(spoolfs, mounts[1].bootstrap, "create", "c", "--replication-factor", 2, "-o", "retention.ms=4321", "-o", "compression.type=zstd")
    for m in mounts:
        wait_until(lambda: (m.dir / "made").is_dir() and (m.dir / "c").is_dir(), what="the topics")
        assert stat.S_IMODE((m.dir / "made").stat().st_mode) == 0o740 and (m.dir / "made").stat().st_uid == os.geteuid()
        assert described(m, TOPIC, "c") == {"retention.ms": "4321", "compression.type": "zstd"}
        assert described(m, TOPIC, "made") == {}


def test_a_topic_that_the_cluster_has_not_keeps_its_properties(agents, member, look, put_topic):
    """Strays: nothing of them is served, and nothing deleted, which their properties would do."""
    alone = agents("broker.id=1")
    alone.topic("create", "old", "-o", "retention.ms=86400000")
    alone.stop()
    alone.options = list(member(1, start=False).options)
    alone.expect("old-0 is here, but the cluster knows of no such replica")
    alone.start()
    wait_until(lambda: "knows of no such replica" in alone.messages(), what="a warning")
    put_topic("t", [[1]])
    wait_until(lambda: knows(alone, "t"), what="another topic")
    alter(alone, TOPIC, "t", (SET, "retention.ms", "5"))
    assert cached(alone, "old-0")["retention.ms"] == "86400000"


def test_without_zookeeper_what_is_known_stays_in_force(agents, zookeepers, talks):
    zk = zookeepers()
    one = agents("broker.id=1", f"zookeeper.connect={zk.connect}", "zookeeper.session.timeout.ms=4000", "request.timeout.ms=2000", "controlled.shutdown.retry.backoff.ms=100")
    one.expect("")
    with Ask(one.bootstrap) as ask:
        wait_until(lambda: ask("Metadata", topics=[])["controller_id"] == 1, what="a controller")
    topic(one.program, one.bootstrap, "create", "t", "-o", "retention.ms=5000")
    zk.server[0].kill()
    assert described(one, TOPIC, "t") == {"retention.ms": "5000"}
    alter(one, TOPIC, "t", (SET, "retention.ms", "6000"), error=7)         # REQUEST_TIMED_OUT
    assert described(one, TOPIC, "t") == {"retention.ms": "5000"}
    zk.server[0].start()

    def altered():
        with Ask(one.bootstrap) as ask:
            return ask("IncrementalAlterConfigs", resources=[{"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": "segment.bytes", "config_operation": SET, "value": "100000"}]}])["responses"][0]["error_code"] == 0
    wait_until(altered, 60, "it can be changed again")
    assert described(one, TOPIC, "t") == {"retention.ms": "5000", "segment.bytes": "100000"}
