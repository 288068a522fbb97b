"""Topics and their properties over the wire: as Kafka has it, by Kafka's own tools and clients, and of one mind with the mount."""

import json
import os
import struct
import subprocess
import time

import pytest

from lib import clients, kafka
from lib.admin_cases import BROKER, DELETE, ME, SET, TOPIC, answers
from lib.agents import topic as run_topic
from lib.ask import Ask
from lib.mounting import wait_until
from lib.raw import Raw, array, frame, header, text
from lib.record_admin import RECORD, asked_of_kafka
from lib.serving import make_topic


@pytest.fixture
def ask(agent, build):
    with Ask(agent.bootstrap, build) as asking:
        yield asking


def create(ask, *names, partitions=1, **configs):
    answer = ask("CreateTopics", 7, topics=[{"name": name, "num_partitions": partitions, "replication_factor": -1, "assignments": [], "configs": [
        {"name": key.replace("_", "."), "value": value} for key, value in configs.items()]} for name in names], timeout_ms=30000)
    assert [t["error_code"] for t in answer["topics"]] == [0] * len(names), answer


def change(ask, kind, name, *configs):
    """configs: (name, value), None takes it back. Kafka's code and sentence."""
    answer = ask("IncrementalAlterConfigs", 1, resources=[{"resource_type": kind, "resource_name": name, "configs": [
        {"name": key, "value": value, "config_operation": DELETE if value is None else SET} for key, value in configs]}])["responses"][0]
    return answer["error_code"], answer["error_message"]


def described(ask, kind, name):
    """{property: (value, source)}"""
    answer = ask("DescribeConfigs", 4, resources=[{"resource_type": kind, "resource_name": name, "configuration_keys": None}], include_synonyms=True,
                 include_documentation=True)["results"][0]
    assert answer["error_code"] == 0
    assert all(c["documentation"].endswith(".") for c in answer["configs"])
    return {c["name"]: (c["value"], c["config_source"]) for c in answer["configs"]}


def delete_records(ask, name, offset, partition=0):
    answer = ask("DeleteRecords", 2, topics=[{"name": name, "partitions": [{"partition_index": partition, "offset": offset}]}], timeout_ms=30000)
    return tuple(answer["topics"][0]["partitions"][0][key] for key in ("error_code", "low_watermark"))


# As Kafka answers

def recorded():
    lines = [json.loads(line) for line in RECORD.read_text().splitlines()]
    return list(zip(lines[::2], lines[1::2]))


def compare(found, expected):
    assert len(found) == len(expected)
    for (case, answer), (kafkas_case, kafkas) in zip(found, expected):
        assert (case, answer) == (kafkas_case, kafkas)


def test_answers_are_kafkas(agents, build):
    with Ask(agents("broker.id=1").bootstrap, build) as ask:
        compare(list(answers(ask)), recorded())


@pytest.mark.long
def test_what_is_recorded_is_what_kafka_answers(tmp_path):
    compare(asked_of_kafka(tmp_path), recorded())


# Topics

def test_a_topic_of_the_wire_is_a_directory_and_stays(server, build):
    with Ask(server.bootstrap, build) as ask:
        create(ask, "orders", partitions=3, retention_ms="60000", compression_type="zstd")
        directory = server.dir / "orders"
        assert sorted(os.listdir(directory)) == ["0", "1", "2"]
        assert {"retention.ms=60000", "compression.type=zstd"} <= set((directory / ".config").read_text().splitlines())
        subprocess.run(f"echo line >> {directory}/2", shell=True, check=True)
        id_before = ask("Metadata", 12, topics=[{"name": "orders"}])["topics"][0]["topic_id"]
    server.remount()
    assert sorted(os.listdir(server.dir / "orders")) == ["0", "1", "2"]
    assert (server.dir / "orders" / "2").read_text() == "line\n"
    with Ask(server.bootstrap, build) as ask:
        topic = ask("Metadata", 12, topics=[{"name": "orders"}])["topics"][0]
        assert topic["topic_id"] == id_before and len(topic["partitions"]) == 3
        assert described(ask, TOPIC, "orders")["retention.ms"] == ("60000", 1)


def test_a_property_set_either_way_is_seen_by_both_at_once(server, build):
    make_topic(server, "t")
    with Ask(server.bootstrap, build) as ask:
        subprocess.run(f"echo retention.ms=3600000 >> {server.dir}/t/.config", shell=True, check=True)
        assert described(ask, TOPIC, "t")["retention.ms"] == ("3600000", 1)
        assert change(ask, TOPIC, "t", ("retention.ms", "7000"), ("max.message.bytes", "200")) == (0, None)
        assert {"retention.ms=7000", "max.message.bytes=200"} <= set((server.dir / "t" / ".config").read_text().splitlines())
        with pytest.raises(OSError):
            with open(server.dir / "t" / "0", "ab", buffering=0) as file:
                file.write(b"x" * 500 + b"\n")
        assert change(ask, TOPIC, "t", ("max.message.bytes", None)) == (0, None)
        with open(server.dir / "t" / "0", "ab", buffering=0) as file:
            file.write(b"x" * 500 + b"\n")


def test_what_chown_and_chmod_set_is_no_property_of_the_wire(server, build):
    directory = make_topic(server, "t")
    os.chown(directory, 12, 34)
    os.chmod(directory, 0o750)
    with Ask(server.bootstrap, build) as ask:
        assert not [name for name in described(ask, TOPIC, "t") if name.startswith("spoolfs.")]
        assert change(ask, TOPIC, "t", ("spoolfs.uid", "0")) == (40, "Unknown topic config name: spoolfs.uid")
        answer = ask("AlterConfigs", 2, resources=[{"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": "retention.ms", "value": "1000"}]}])
        assert answer["responses"][0]["error_code"] == 0
    server.remount()
    status = os.stat(server.dir / "t")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12, 34, 0o750)


def test_partitions_added_either_way(server, build):
    directory = make_topic(server, "t")
    with Ask(server.bootstrap, build) as ask:
        answer = ask("CreatePartitions", 3, topics=[{"name": "t", "count": 4, "assignments": None}], timeout_ms=30000)
        assert answer["results"][0]["error_code"] == 0
        assert sorted(os.listdir(directory)) == ["0", "1", "2", "3"]
        (directory / "4").touch()
        assert len(ask("Metadata", 12, topics=[{"name": "t"}])["topics"][0]["partitions"]) == 5
        answer = ask("CreatePartitions", 3, topics=[{"name": "t", "count": 5, "assignments": None}], timeout_ms=30000)
        assert (answer["results"][0]["error_code"], answer["results"][0]["error_message"]) == (37, "Topic already has 5 partition(s).")


def test_a_topic_deleted_by_a_client_is_gone_and_its_name_is_free(server, build):
    directory = make_topic(server, "t")
    subprocess.run(f"echo old >> {directory}/0", shell=True, check=True)
    with Ask(server.bootstrap, build) as ask, open(directory / "0", "ab", buffering=0) as file:
        answer = ask("DeleteTopics", 6, topics=[{"name": "t"}], timeout_ms=30000)
        assert answer["responses"][0]["error_code"] == 0
        with pytest.raises(OSError):
            file.write(b"too late\n")
        wait_until(lambda: "t" not in os.listdir(server.dir))
        create(ask, "t")
        wait_until(lambda: (server.dir / "t" / "0").exists())
        assert (server.dir / "t" / "0").read_bytes() == b""


def test_deletion_can_be_disabled(agents, build):
    with Ask(agents("delete.topic.enable=false").bootstrap, build) as ask:
        create(ask, "t")
        for version, code in ((1, 42), (2, 42), (3, 73), (6, 73)):
            topics = {"topics": [{"name": "t"}]} if version == 6 else {"topic_names": ["t"]}
            assert ask("DeleteTopics", version, timeout_ms=30000, **topics)["responses"][0]["error_code"] == code


def topic_dirs(agent):
    return [entry for entry in os.listdir(agent.data) if entry.startswith("many-")]


@pytest.mark.long
def test_one_metadata_request_makes_no_more_than_kafka_would(agents, build):
    with Ask(agents("num.partitions=5001").bootstrap, build) as ask:
        answer = ask("Metadata", 4, topics=[{"name": "t"}, {"name": "later"}], allow_auto_topic_creation=True)
        assert [t["error_code"] for t in answer["topics"]] == [0, 3]


@pytest.mark.parametrize("api", ["Metadata", "CreateTopics"])
def test_a_stop_does_not_wait_for_all_the_topics_of_a_request(agent, api):
    names = [text(f"many-{n}") for n in range(10000)]
    bodies = {"Metadata": header(3, 4) + array(names) + b"\1",
              "CreateTopics": header(19, 4) + array(name + struct.pack(">ihii", 1, 1, 0, 0) for name in names) + struct.pack(">i?", 60000, False)}
    host, port = agent.bootstrap.split(":")
    with Raw((host, int(port))) as raw:
        raw.send(frame(bodies[api]))
        wait_until(lambda: topic_dirs(agent))
        agent.stop()
        assert 0 < len(topic_dirs(agent)) < 10000


def test_groups_forget_what_was_deleted(agent, ask):
    create(ask, "t")

    def commit():
        return ask("OffsetCommit", 8, group_id="g", generation_id_or_member_epoch=-1, member_id="", topics=[
            {"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 5, "committed_metadata": ""}]}])["topics"][0]["partitions"][0]["error_code"]

    def find():
        return ask("FindCoordinator", 4, key_type=0, coordinator_keys=["g"])["coordinators"][0]["error_code"] == 0

    def committed():
        return ask("OffsetFetch", 7, group_id="g", topics=[{"name": "t", "partition_indexes": [0]}])["topics"][0]["partitions"][0]["committed_offset"]
    wait_until(find)
    wait_until(lambda: commit() == 0)
    assert committed() == 5
    assert ask("DeleteTopics", 6, topics=[{"name": "__consumer_offsets"}], timeout_ms=30000)["responses"][0]["error_code"] == 0
    assert commit() == 16, "NOT_COORDINATOR, until somebody asks for one"
    wait_until(find)
    wait_until(lambda: commit() == 0)
    assert ask("DeleteTopics", 6, topics=[{"name": "__consumer_offsets"}], timeout_ms=30000)["responses"][0]["error_code"] == 0
    wait_until(find)
    wait_until(lambda: committed() == -1)


def test_many_names_at_once_cost_no_more_than_many(ask):
    names = [f"unknown-{i % 50000}" for i in range(100000)]
    started = time.monotonic()
    answer = ask("DeleteTopics", 5, topic_names=names, timeout_ms=30000)
    assert len(answer["responses"]) == 50000 and {r["error_message"] for r in answer["responses"]} == {"Duplicate topic name."}
    answer = ask("DeleteTopics", 5, topic_names=names[:50000], timeout_ms=30000)
    assert {r["error_code"] for r in answer["responses"]} == {3}
    assert time.monotonic() - started < 60, "quadratic would be hours"


@pytest.mark.long
def test_a_small_request_for_a_huge_answer_is_refused(agents, build):
    agent = agents("num.network.threads=1")
    with Ask(agent.bootstrap, build) as ask:
        create(ask, "t")
        with pytest.raises(AssertionError, match="closed the connection"):
            ask("DescribeConfigs", 4, resources=[{"resource_type": TOPIC, "resource_name": "t", "configuration_keys": None}] * 300_000)
    agent.expect("the connection is closed: DescribeConfigs")
    with Ask(agent.bootstrap, build) as ask:
        assert described(ask, TOPIC, "t")
    status = dict(line.split(":", 1) for line in open(f"/proc/{agent.daemon.pid}/status"))
    assert build != "plain" or int(status["VmHWM"].split()[0]) < 800 << 10


# Records

def test_records_are_deleted_up_to_an_offset_in_both_faces(server, build):
    directory = make_topic(server, "t")
    clients.run(["kcat", "-b", server.bootstrap, "-P", "-t", "t", "-p", 0], "".join(f"line {i}\n" for i in range(10)))
    with Ask(server.bootstrap, build) as ask:
        assert delete_records(ask, "t", 4) == (0, 4)
        assert (directory / "0").read_text() == "".join(f"line {i}\n" for i in range(4, 10))
        assert delete_records(ask, "t", 2) == (0, 4), "nothing happens below the log start"
        assert delete_records(ask, "t", 11) == (1, -1)
        assert delete_records(ask, "t", -2) == (1, -1)
        assert clients.run(["kcat", "-b", server.bootstrap, "-C", "-q", "-e", "-t", "t", "-o", "beginning", "-f", "%o "]).split() == [str(i) for i in range(4, 10)]
        assert delete_records(ask, "t", -1) == (0, 10)
        assert (directory / "0").read_text() == ""
        assert delete_records(ask, "t", 10) == (0, 10)
    server.remount()
    with Ask(server.bootstrap, build) as ask:
        assert delete_records(ask, "t", 0) == (0, 10), "durable"


# The broker's properties

def test_the_brokers_properties_change_at_run_time_and_for_good(agent, build):
    def kcat(size, status=0):
        done = subprocess.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", "0", "-X", "message.max.bytes=10000000"], input=b"x" * size, capture_output=True, timeout=60)
        assert (b"Message size too large" in done.stderr) == bool(status), done.stderr
    with Ask(agent.bootstrap, build) as ask:
        create(ask, "t", "own", max_message_bytes="5000000")
        assert change(ask, TOPIC, "t", ("max.message.bytes", None)) == (0, None)
        kcat(2_000_000, 1)
        assert change(ask, BROKER, "", ("message.max.bytes", "3000000")) == (0, None)
        kcat(2_000_000)
        assert change(ask, BROKER, "0", ("message.max.bytes", "1000000"), ("log.retention.ms", "99999")) == (0, None)
        kcat(2_000_000, 1)
        assert described(ask, TOPIC, "own")["max.message.bytes"] == ("5000000", 1)
    agent.restart()
    with Ask(agent.bootstrap, build) as ask:
        found = described(ask, BROKER, "0")
        assert (found["message.max.bytes"], found["log.retention.ms"]) == (("1000000", 2), ("99999", 2))
        assert described(ask, BROKER, "") == {"message.max.bytes": ("3000000", 3)}
        assert described(ask, TOPIC, "t")["retention.ms"] == ("99999", 2)
        kcat(2_000_000, 1)
        assert change(ask, BROKER, "0", ("message.max.bytes", None)) == (0, None)
        kcat(2_000_000)
        create(ask, "new")
        assert described(ask, TOPIC, "new")["max.message.bytes"] == ("3000000", 3)


def test_a_policy_for_all_topics_is_followed_by_those_that_are_there(server, build):
    directory = make_topic(server, "t")
    subprocess.run(f"echo one >> {directory}/0; echo two >> {directory}/0", shell=True, check=True)
    with Ask(server.bootstrap, build) as ask:
        assert os.stat(directory / "0").st_size == 8
        assert change(ask, BROKER, "", ("log.cleanup.policy", "compact")) == (0, None)
        wait_until(lambda: os.stat(directory / "0").st_size == 0, what="a compacted topic has no positions")
        assert delete_records(ask, "t", 1) == (44, -1)
        assert change(ask, BROKER, "", ("log.cleanup.policy", None)) == (0, None)
        wait_until(lambda: os.stat(directory / "0").st_size == 8)


def test_what_the_broker_was_started_with_is_described(agents, build):
    agent = agents("num.partitions=3", "log.retention.hours=5", "broker.id=7")
    with Ask(agent.bootstrap, build) as ask:
        found = described(ask, BROKER, "7")
        assert found["num.partitions"] == ("3", 4) and found["broker.id"] == ("7", 4)
        assert found["log.dirs"] == (str(agent.data), 4) and found["listeners"] == (agent.bootstrap, 4)
        assert found["log.retention.ms"] == (None, 5) and found["log.retention.hours"] == ("5", 4)
        create(ask, "t", partitions=-1)
        assert described(ask, TOPIC, "t")["retention.ms"] == ("18000000", 5)
        assert len(ask("Metadata", 12, topics=[{"name": "t"}])["topics"][0]["partitions"]) == 3


def test_log_directories(agents, build, tmp_path):
    agent = agents(f"log.dirs={tmp_path}/second")
    with Ask(agent.bootstrap, build) as ask:
        create(ask, "t", partitions=4)
        clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 1], "x" * 1000 + "\n")
        found = {d["log_dir"]: d for d in ask("DescribeLogDirs", 4, topics=None)["results"]}
        assert set(found) == {str(agent.data), f"{tmp_path}/second"}
        sizes = {}
        for of in found.values():
            assert of["error_code"] == 0 and of["total_bytes"] >= of["usable_bytes"] > 0
            assert [t["name"] for t in of["topics"]] == ["t"] and len(of["topics"][0]["partitions"]) == 2
            sizes |= {p["partition_index"]: p["partition_size"] for p in of["topics"][0]["partitions"]}
            assert {p["offset_lag"] for p in of["topics"][0]["partitions"]} == {0}
        assert sizes[0] == 0 and sizes[1] == sum(os.stat(path).st_size for path in [*agent.data.glob("t-1/*.log"), *tmp_path.glob("second/t-1/*.log")])


# Kafka's own tools

def tool(name, agent, *words, status=0):
    done = subprocess.run(kafka.java(kafka.LATEST, name, "--bootstrap-server", agent.bootstrap, *words), capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


TOPICS, CONFIGS = "org.apache.kafka.tools.TopicCommand", "kafka.admin.ConfigCommand"


def test_kafka_topics(agent):
    assert "Created topic t." in tool(TOPICS, agent, "--create", "--topic", "t", "--partitions", "2", "--config", "retention.ms=1234")
    assert "already exists" in tool(TOPICS, agent, "--create", "--topic", "t", status=1)
    shown = tool(TOPICS, agent, "--describe", "--topic", "t")
    assert "PartitionCount: 2" in shown and "retention.ms=1234" in shown and "Leader: 0" in shown


@pytest.mark.long
def test_kafkas_command_line(agent, tmp_path):
    tool(TOPICS, agent, "--create", "--topic", "t", "--partitions", "2", "--replication-factor", "1")
    tool(TOPICS, agent, "--alter", "--topic", "t", "--partitions", "4")
    assert tool(TOPICS, agent, "--list").split() == ["t"]
    assert tool(TOPICS, agent, "--describe", "--topic", "t").count("Partition: ") == 4
    tool(CONFIGS, agent, "--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", "retention.ms=5000,cleanup.policy=[compact,delete]")
    shown = tool(CONFIGS, agent, "--describe", "--entity-type", "topics", "--entity-name", "t")
    assert "retention.ms=5000" in shown and "cleanup.policy=compact,delete" in shown and "DYNAMIC_TOPIC_CONFIG:retention.ms=5000" in shown
    tool(CONFIGS, agent, "--alter", "--entity-type", "topics", "--entity-name", "t", "--delete-config", "retention.ms")
    assert "retention.ms" not in tool(CONFIGS, agent, "--describe", "--entity-type", "topics", "--entity-name", "t")
    assert "DEFAULT_CONFIG" in tool(CONFIGS, agent, "--describe", "--entity-type", "topics", "--entity-name", "t", "--all")
    tool(CONFIGS, agent, "--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "log.retention.ms=77777")
    tool(CONFIGS, agent, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=2000000")
    assert "log.retention.ms=77777" in tool(CONFIGS, agent, "--describe", "--entity-type", "brokers", "--entity-name", "0")
    assert "message.max.bytes=2000000" in tool(CONFIGS, agent, "--describe", "--entity-type", "brokers", "--entity-default")
    assert "Cannot update these configs dynamically" in tool(CONFIGS, agent, "--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "num.partitions=3",
                                                             status=1)
    tool(CONFIGS, agent, "--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", "cleanup.policy=delete")
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 0], "a\nb\nc\n")
    offsets = tmp_path / "offsets.json"
    offsets.write_text(json.dumps({"partitions": [{"topic": "t", "partition": 0, "offset": 2}], "version": 1}))
    assert "low_watermark: 2" in tool("org.apache.kafka.tools.DeleteRecordsCommand", agent, "--offset-json-file", str(offsets))
    shown = tool("org.apache.kafka.tools.LogDirsCommand", agent, "--describe", "--topic-list", "t")
    found = json.loads(next(line for line in shown.splitlines() if line.startswith("{")))
    assert [len(d["partitions"]) for b in found["brokers"] for d in b["logDirs"]] == [4]
    tool(TOPICS, agent, "--delete", "--topic", "t")
    assert tool(TOPICS, agent, "--list").split() == []


# Clients of others

def test_confluents_admin_client(agent):
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition  # noqa: F401
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType
    admin = AdminClient({"bootstrap.servers": agent.bootstrap})
    for done in admin.create_topics([NewTopic("t", 2, 1, config={"retention.ms": "1000"}), NewTopic("u")]).values():
        done.result(30)
    with pytest.raises(Exception, match="already exists"):
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
    with pytest.raises(Exception, match="Unknown topic config name: foo"):
        admin.create_topics([NewTopic("v", 1, 1, config={"foo": "1"})])["v"].result(30)
    admin.create_partitions([NewPartitions("t", 3)])["t"].result(30)
    assert len(admin.list_topics(timeout=30).topics["t"].partitions) == 3
    resource = ConfigResource(ResourceType.TOPIC, "t", incremental_configs=[ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)])
    admin.incremental_alter_configs([resource])[resource].result(30)
    wanted = ConfigResource(ResourceType.TOPIC, "t")
    found = admin.describe_configs([wanted])[wanted].result(30)
    assert (found["cleanup.policy"].value, found["retention.ms"].value, found["segment.bytes"].is_default) == ("delete,compact", "1000", True)
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "u", "-p", 0], "a\nb\nc\n")
    assert admin.delete_records([TopicPartition("u", 0, 2)])[TopicPartition("u", 0)].result(30).low_watermark == 2
    admin.delete_topics(["t"])["t"].result(30)
    with pytest.raises(Exception, match="UNKNOWN_TOPIC|Unknown topic|does not host"):
        admin.delete_topics(["t"])["t"].result(30)


def test_kafka_pythons_admin_client(agent):
    from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
    admin = KafkaAdminClient(bootstrap_servers=agent.bootstrap)
    admin.create_topics([NewTopic("t", 2, 1, topic_configs={"retention.ms": "1000"})])
    with pytest.raises(Exception, match="TopicAlreadyExists"):
        admin.create_topics([NewTopic("t", 1, 1)])
    admin.create_partitions({"t": NewPartitions(3)})
    assert admin.list_topics() == ["t"]
    assert len(admin.describe_topics(["t"])[0]["partitions"]) == 3
    admin.delete_topics(["t"])
    assert admin.list_topics() == []
    admin.close()


# The command of our own

def exercise(run):
    """`spoolfs topic`, on a broker without topics of these names."""
    assert run("create", "t", "--partitions", 2, "-o", "retention.ms=60000", "-o", "cleanup.policy=compact,delete")[0][0]["created"]
    created = run("create", "u", "--replication-factor", 1)[0][0]
    assert (created["partitions"], created["replication_factor"], created["error"]) == (1, 1, None) and len(created["id"]) == 22
    printed, said = run("create", "t", status=1)
    assert printed[0]["error"] == "Topic 't' already exists (TOPIC_ALREADY_EXISTS)" and "spoolfs topic: topic t is not created: Topic 't' already exists" in said
    assert "INVALID_TOPIC_EXCEPTION" in run("create", "a/b", status=1)[1]
    assert "Unknown topic config name: foo (INVALID_CONFIG)" in run("create", "x", "-o", "foo=bar", status=1)[1]
    assert "INVALID_REPLICATION_FACTOR" in run("create", "x", "--replication-factor", 3, status=1)[1]
    listed = {t["topic"]: t for t in run("list")[0]}
    assert {"t", "u"} <= set(listed) and listed["u"]["id"] == created["id"] and listed["t"]["partitions"] == 2 and not any(t["internal"] for t in listed.values())
    found = run("describe", "t")[0][0]
    assert found["configs"] == {"retention.ms": "60000", "cleanup.policy": "compact,delete"}
    leader = found["partitions"][0]["leader"]
    assert [(p["partition"], p["leader"], p["replicas"], p["isr"], p["offline"], p["start"], p["end"], p["error"]) for p in found["partitions"]] == [
        (i, leader, [leader], [leader], [], 0, 0, None) for i in range(2)]
    printed, said = run("describe", "nosuch", "u", status=1)
    assert [t["topic"] for t in printed] == ["u"] and "there is no topic nosuch" in said
    assert run("alter", "t", "--partitions", 5, "-o", "retention.ms=", "-o", "segment.bytes=2000000")[0][0]["altered"]
    found = run("describe", "t")[0][0]
    assert len(found["partitions"]) == 5 and found["configs"] == {"segment.bytes": "2000000", "cleanup.policy": "compact,delete"}
    assert "2 would not be an increase (INVALID_PARTITIONS)" in run("alter", "t", "--partitions", 2, status=1)[1]
    assert "topic t is not altered, but for its properties: " in run("alter", "t", "--partitions", 2, "-o", "segment.bytes=", status=1)[1]
    assert "Not a number of type LONG" in run("alter", "t", "-o", "retention.ms=x", status=1)[1]
    assert "The topic 'nosuch' does not exist" in run("alter", "nosuch", "-o", "retention.ms=1", status=1)[1]
    printed, said = run("delete", "t", "nosuch", "u", status=1)
    assert [(t["topic"], t["deleted"]) for t in printed] == [("t", True), ("nosuch", False), ("u", True)] and "topic nosuch is not deleted: there is no such topic" in said
    assert not {"t", "u"} & {t["topic"] for t in run("list", "--all")[0]}


def test_spoolfs_topic(agent):
    exercise(lambda *words, status=0: run_topic(agent.program, agent.bootstrap, *words, status=status))


@pytest.mark.long
def test_spoolfs_topic_on_a_real_kafka(spoolfs, tmp_path):
    with kafka.Broker(tmp_path / "kafka") as broker:
        exercise(lambda *words, status=0: run_topic(spoolfs, broker.bootstrap, *words, status=status))


def test_spoolfs_topic_tells_offsets_and_prints_for_people(agent, sh):
    agent.topic("create", "t", "--partitions", 2, "-o", "retention.ms=60000")
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 1], "a\nb\nc\n")
    with Ask(agent.bootstrap) as ask:
        delete_records(ask, "t", 1, partition=1)
    found = agent.topic("describe", "t")[0]
    assert [(p["start"], p["end"]) for p in found["partitions"]] == [(0, 0), (1, 3)]
    lines = sh(f"{agent.program} topic describe t -b {agent.bootstrap}").decode().splitlines()
    assert lines == [f"TOPIC t  2 partitions  id {found['id']}", "retention.ms=60000", "PARTITION  LEADER  REPLICAS  ISR  OFFLINE  START  END",
                     "0          0       0         0    -        0      0", "1          0       0         0    -        1      3"]
    assert sh(f"{agent.program} topic list -b {agent.bootstrap}").decode().splitlines() == ["TOPIC  PARTITIONS  REPLICAS  UNDER-REPLICATED  UNAVAILABLE", "t      2           1         0                 0"]


@pytest.mark.parametrize("words, said", [
    ("frob", "there is no 'frob'"),
    ("create", "which topic?"),
    ("create a b", "one topic at a time"),
    ("create a -o foo=", "a property needs a value"),
    ("create a -o foo", "not NAME=VALUE"),
    ("create a --partitions 0", "not a number of partitions"),
    ("list a", "it takes no argument"),
    ("alter a", "what is to be altered?"),
    ("alter a --replication-factor 2", "goes with create"),
    ("delete", "which topic?"),
    ("delete a --partitions 3", "go with create and alter"),
    ("create a --unavailable", "go with list and describe"),
    ("describe a --all", "either --all, or some topics"),
    ("list -b [::1", "[::1"),
])
def test_spoolfs_topic_says_how_it_is_called(spoolfs, sh, words, said):
    sh(f"{spoolfs} topic {words} -t 5", status=2, stderr=said)


def test_spoolfs_topic_without_a_broker(spoolfs, sh):
    port = kafka.free_ports(1)[0]
    sh(f"{spoolfs} topic list -b 127.0.0.1:{port}", status=1, stderr=f"spoolfs topic: 127.0.0.1:{port}: Connection refused")


@pytest.mark.parametrize("others", [0, 100])
def test_list_offsets_refuses_what_is_asked_twice(ask, others):
    """Each such partition once, and the others are answered, however many topics there are."""
    create(ask, "twice", partitions=3)
    topics = [{"name": f"none{i}", "partitions": [{"partition_index": 0, "timestamp": -1}]} for i in range(others)]
    topics.append({"name": "twice", "partitions": [{"partition_index": i, "timestamp": -1} for i in (0, 1, 0)]})
    topics.append({"name": "twice", "partitions": [{"partition_index": i, "timestamp": -1} for i in (2, 1)]})
    answer = ask("ListOffsets", 7, topics=topics)
    found = [(p["partition_index"], p["error_code"]) for t in answer["topics"] if t["name"] == "twice" for p in t["partitions"]]
    assert sorted(found) == [(0, 42), (1, 42), (2, 0)]
