"""Topics of a cluster: made, grown and deleted by clients, by the command, and in mounts of any host."""

import json
import os
import signal
import subprocess
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest

from lib.ask import Ask
from lib.mounting import wait_until

NOT_CONTROLLER = 41


@pytest.fixture
def chroot(shared_zookeeper):
    return f"{shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def look(talks, chroot):
    """Nodes, as another client of ZooKeeper sees them."""
    talk = talks(chroot)

    def get(path):
        answer = talk("get", path=path)
        return json.loads(answer["data"]) if answer["code"] == "ok" else None
    get.talk = talk
    return get


@pytest.fixture
def options(chroot):
    return (f"zookeeper.connect={chroot}", "zookeeper.session.timeout.ms=4000", "controlled.shutdown.retry.backoff.ms=100")


@pytest.fixture
def member(agents, options, look):
    """member(1) -> an Agent that is broker 1 of the cluster."""
    def make(number, *more, **how):
        return agents(f"broker.id={number}", *options, *more, **how)
    return make


@pytest.fixture
def host(serve, options, look):
    """host(3) -> a mount that is broker 3."""
    return lambda number, *more: serve(f"broker.id={number}", *options, *more)


def controller(look):
    return (look("/controller") or {"brokerid": None})["brokerid"]


def assignment(look, topic):
    node = look(f"/brokers/topics/{topic}")
    return node and {int(number): replicas for number, replicas in node["partitions"].items()}


def settle(look, *brokers):
    """They all know each other, and have a controller."""
    def known():
        if controller(look) is None:
            return False
        for broker in brokers:
            with Ask(broker.bootstrap) as ask:
                answer = ask("Metadata", topics=[])
                if answer["controller_id"] != controller(look) or len(answer["brokers"]) != len(brokers):
                    return False
        return True
    wait_until(known, 60, "a cluster")


def boss(look, brokers):
    """Its controller; the others."""
    number = controller(look)
    return brokers[number - 1], [b for b in brokers if b is not brokers[number - 1]]


@pytest.fixture
def three(member, look):
    brokers = [member(1, "default.replication.factor=2"), member(2, "default.replication.factor=2"), member(3, "default.replication.factor=2")]
    settle(look, *brokers)
    return brokers


def create(broker, *topics, version=None, timeout_ms=20000, **more):
    with Ask(broker.bootstrap) as ask:
        answer = ask("CreateTopics", version, timeout_ms=timeout_ms, topics=[{"num_partitions": -1, "replication_factor": -1, "assignments": [], "configs": []} | t for t in topics], **more)
        return {t["name"]: t for t in answer["topics"]}


def delete(broker, *names, timeout_ms=20000):
    with Ask(broker.bootstrap) as ask:
        return {t["name"]: t["error_code"] for t in ask("DeleteTopics", timeout_ms=timeout_ms, topics=[{"name": n} for n in names])["responses"]}


def grow(broker, name, count, assignments=None, **more):
    with Ask(broker.bootstrap) as ask:
        wanted = {"name": name, "count": count, "assignments": assignments and [{"broker_ids": ids} for ids in assignments]}
        result, = ask("CreatePartitions", timeout_ms=20000, topics=[wanted], **more)["results"]
        return result["error_code"], result["error_message"]


def told(broker, name):
    """(error, partitions' replicas) as that broker tells clients."""
    with Ask(broker.bootstrap) as ask:
        topic, = ask("Metadata", topics=[{"name": name}], allow_auto_topic_creation=False)["topics"]
        return topic["error_code"], [p["replica_nodes"] for p in topic["partitions"]]


# ---- by clients ----


def test_the_controller_makes_topics_for_clients_and_others_say_who_it_is(three, look):
    chief, others = boss(look, three)
    assert create(others[0], {"name": "t"})["t"]["error_code"] == NOT_CONTROLLER
    made = create(chief, {"name": "t", "num_partitions": 3, "configs": [{"name": "retention.ms", "value": "60000"}]})["t"]
    assert (made["error_code"], made["num_partitions"], made["replication_factor"]) == (0, 3, 2)
    assert {c["name"]: c["value"] for c in made["configs"]}["retention.ms"] == "60000"
    assert told(chief, "t")[0] == 0, "who was answered finds it at once"
    replicas = assignment(look, "t")
    assert len(replicas) == 3 and all(len(set(ids)) == 2 for ids in replicas.values())
    assert look("/config/topics/t")["config"] == {"retention.ms": "60000"}
    assert all(look(f"/brokers/topics/t/partitions/{n}/state")["leader"] == replicas[n][0] for n in replicas)
    for broker in others:
        wait_until(lambda: told(broker, "t") == (0, [replicas[n] for n in range(3)]), what="all know it")


def test_what_is_asked_of_the_controller_is_judged_as_kafka_does(three, look):
    chief, _ = boss(look, three)
    assert create(chief, {"name": "t", "num_partitions": 1, "replication_factor": 1})["t"]["error_code"] == 0
    answers = create(chief, {"name": "t"}, {"name": "many", "replication_factor": 4}, {"name": "none", "replication_factor": 0}, {"name": "zero", "num_partitions": 0}, {"name": "no/slash"},
                     {"name": "odd", "configs": [{"name": "no.such", "value": "1"}]}, {"name": "fine"},
                     {"name": "absent", "assignments": [{"partition_index": 0, "broker_ids": [1, 9]}]},
                     {"name": "twice", "assignments": [{"partition_index": 0, "broker_ids": [1, 1]}]},
                     {"name": "uneven", "assignments": [{"partition_index": 0, "broker_ids": [1, 2]}, {"partition_index": 1, "broker_ids": [1]}]},
                     {"name": "empty", "assignments": [{"partition_index": 0, "broker_ids": []}]})
    said = {name: (t["error_code"], t["error_message"]) for name, t in answers.items()}
    assert said.pop("no/slash")[0] == 17
    assert said == {
        "t": (36, "Topic 't' already exists."),
        "many": (38, "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because only 3 broker(s) are registered."),
        "none": (38, "Replication factor must be larger than 0, or -1 to use the default value."),
        "zero": (37, "Number of partitions was set to an invalid non-positive value."),
        "odd": (40, "Unknown topic config name: no.such"),
        "fine": (0, None),
        "absent": (39, "The manual partition assignment includes broker 9, but no such broker is registered."),
        "twice": (39, "The manual partition assignment includes the broker 1 more than once."),
        "uneven": (39, "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with previous partitions, which have 2 replica(s)."),
        "empty": (39, "The manual partition assignment includes an empty replica list."),
    }
    assert all(answers[name]["topic_id"] == answers["many"]["topic_id"] for name in said if said[name][0])
    assert create(chief, {"name": "only"}, validate_only=True)["only"]["error_code"] == 0 and look("/brokers/topics/only") is None
    assert create(chief, {"name": "placed", "assignments": [{"partition_index": 1, "broker_ids": [3, 1]}, {"partition_index": 0, "broker_ids": [2, 3]}]})["placed"]["error_code"] == 0
    assert assignment(look, "placed") == {0: [2, 3], 1: [3, 1]}
    for version in range(2, 8):
        assert create(chief, {"name": f"v{version}", "num_partitions": 1, "replication_factor": 3}, version=version)[f"v{version}"]["error_code"] == 0


def test_partitions_are_added_by_the_controller(three, look):
    chief, others = boss(look, three)
    assert create(chief, {"name": "t", "num_partitions": 1})["t"]["error_code"] == 0
    assert grow(others[0], "t", 2)[0] == NOT_CONTROLLER
    assert grow(chief, "t", 3) == (0, None) and len(told(chief, "t")[1]) == 3
    assert grow(chief, "t", 3) == (37, "Topic already has 3 partition(s).")
    assert grow(chief, "t", 2) == (37, "The topic t currently has 3 partition(s); 2 would not be an increase.")
    assert grow(chief, "u", 2) == (3, None)
    assert grow(chief, "t", 5, [[1, 2]]) == (39, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.")
    assert grow(chief, "t", 4, [[1, 9]]) == (39, "The manual partition assignment includes broker 9, but no such broker is registered.")
    assert grow(chief, "t", 4, [[3, 1]], validate_only=True) == (0, None)
    assert grow(chief, "t", 4, [[3, 1]]) == (0, None)
    assert len(assignment(look, "t")) == 4 and assignment(look, "t")[3] == [3, 1]


# ---- in mounts ----


def test_a_topic_is_made_in_any_mount(member, host, look, sh):
    one, two, mount = member(1), member(2), host(3, "default.replication.factor=3", "num.partitions=2")
    settle(look, one, two, mount)
    assert controller(look) == 1
    sh("mkdir t; ls t; touch t/2; ls t", mount.dir)
    assert sh("ls t", mount.dir) == b"0\n1\n2\n"
    assert {len(ids) for ids in assignment(look, "t").values()} == {3}
    for broker in (one, two):
        wait_until(lambda: len(told(broker, "t")[1]) == 3, what="all know it")


def test_a_topic_that_holds_messages_is_not_removed(member, host, look, sh):
    """Whoever leads its partitions says so, wherever the mount is."""
    one, two, mount = member(1), member(2), host(3)
    settle(look, one, two, mount)
    chief, _ = boss(look, (one, two, mount))
    assert create(chief, {"name": "t", "assignments": [{"partition_index": 0, "broker_ids": [1, 2]}, {"partition_index": 1, "broker_ids": [2, 3]}]})["t"]["error_code"] == 0
    wait_until(lambda: (mount.dir / "t/1").exists(), what="it is heard of")
    produce(one, "t", 0)
    sh("rmdir t", mount.dir, status=1, stderr="Directory not empty")
    produce(one, "t", 1)
    produce(one, "t", 0)
    assert look("/admin/delete_topics/t") is None and len(told(one, "t")[1]) == 2
    with Ask(one.bootstrap) as ask:
        records = ask("DeleteRecords", timeout_ms=20000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "offset": -1}]}])
        assert records["topics"][0]["partitions"][0]["error_code"] == 0
    sh("rmdir t", mount.dir, status=1, stderr="Directory not empty")
    with Ask(two.bootstrap) as ask:
        wait_until(lambda: ask("DeleteRecords", timeout_ms=20000, topics=[{"name": "t", "partitions": [{"partition_index": 1, "offset": -1}]}])["topics"][0]["partitions"][0]["low_watermark"] == 1,
                   what="all is deleted")
    sh("rmdir t; ! ls t", mount.dir)
    assert look("/brokers/topics/t") is None and told(one, "t")[0] == 3
    assert not any((broker.data / name).exists() for broker in (one, two, mount) for name in ("t-0", "t-1"))
    sh("mkdir t; ls t; rmdir t; mkdir t; ls t", mount.dir)


def produce(broker, topic, partition, text="x", acks="all", seconds=60):
    """The offset, once it is acknowledged."""
    delivered = []
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "acks": acks, "message.timeout.ms": seconds * 1000})
    producer.produce(topic, text, partition=partition, on_delivery=lambda error, message: delivered.append((error, message.offset())))
    assert producer.flush(seconds) == 0 and delivered[0][0] is None, delivered
    return delivered[0][1]
