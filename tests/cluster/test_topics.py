"""Topics of a cluster: made, grown and deleted by clients, by the command, and in mounts of any host."""

import signal
import subprocess
import time

import confluent_kafka
import confluent_kafka.admin
import pytest

from lib import kafka
from lib.ask import Ask
from lib.joined import controller
from lib.mounting import wait_until

NOT_CONTROLLER = 41


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
    assert [t["error_code"] for t in create(chief, {"name": "t", "num_partitions": 1, "replication_factor": 1}, {"name": "a.b"}).values()] == [0, 0]
    answers = create(chief, {"name": "t"}, {"name": "a_b"}, {"name": "many", "replication_factor": 4}, {"name": "none", "replication_factor": 0}, {"name": "zero", "num_partitions": 0}, {"name": "no/slash"},
                     {"name": "odd", "configs": [{"name": "no.such", "value": "1"}]}, {"name": "fine"},
                     {"name": "absent", "assignments": [{"partition_index": 0, "broker_ids": [1, 9]}]},
                     {"name": "twice", "assignments": [{"partition_index": 0, "broker_ids": [1, 1]}]},
                     {"name": "uneven", "assignments": [{"partition_index": 0, "broker_ids": [1, 2]}, {"partition_index": 1, "broker_ids": [1]}]},
                     {"name": "empty", "assignments": [{"partition_index": 0, "broker_ids": []}]})
    said = {name: (t["error_code"], t["error_message"]) for name, t in answers.items()}
    assert said.pop("no/slash")[0] == 17
    assert said == {
        "t": (36, "Topic 't' already exists."),
        "a_b": (17, "Topic 'a_b' collides with existing topic: a.b"),
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


def test_a_topic_is_made_in_any_mount(member, mounted, look, sh):
    one, two, mount = member(1), member(2), mounted(3, "default.replication.factor=3", "num.partitions=2")
    settle(look, one, two, mount)
    assert controller(look) == 1
    sh("mkdir t; ls t; touch t/2; ls t", mount.dir)
    assert sh("ls t", mount.dir) == b"0\n1\n2\n"
    assert {len(ids) for ids in assignment(look, "t").values()} == {3}
    for broker in (one, two):
        wait_until(lambda: len(told(broker, "t")[1]) == 3, what="all know it")


def test_a_topic_that_holds_messages_is_not_removed(member, mounted, look, sh):
    """Whoever leads its partitions says so, wherever the mount is."""
    one, two, mount = member(1), member(2), mounted(3)
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


# ---- made by themselves ----


def test_kcat_and_librdkafka_have_topics_made_by_asking_for_them(three, look):
    chief, others = boss(look, three)
    subprocess.run(["kcat", "-b", others[0].bootstrap, "-P", "-t", "kcat"], input=b"one\ntwo\n", check=True, capture_output=True, timeout=120)
    read = subprocess.run(["kcat", "-b", others[1].bootstrap, "-C", "-t", "kcat", "-e", "-q", "-o", "beginning"], check=True, capture_output=True, timeout=120)
    assert sorted(read.stdout.split()) == [b"one", b"two"]
    assert produce(others[1], "librdkafka", 0) == 0
    assert [len(ids) for ids in assignment(look, "kcat").values()] == [2], "default.replication.factor of the broker that was asked"


def test_what_nobody_may_have_made_is_not_made(member, look):
    one = member(1, "auto.create.topics.enable=false")
    two = member(2, "default.replication.factor=3")
    settle(look, one, two)
    with Ask(one.bootstrap) as ask:
        assert ask("Metadata", topics=[{"name": "t"}], allow_auto_topic_creation=True)["topics"][0]["error_code"] == 3
    with Ask(two.bootstrap) as ask:
        assert ask("Metadata", topics=[{"name": "t"}], allow_auto_topic_creation=False)["topics"][0]["error_code"] == 3
        assert ask("Metadata", topics=[{"name": "u"}], allow_auto_topic_creation=True)["topics"][0]["error_code"] == 3
    wait_until(lambda: "topic u, that somebody asked for, cannot be made: Unable to replicate the partition 3 time(s)" in two.messages(), what="it says why")
    assert look("/brokers/topics/t") is None and look("/brokers/topics/u") is None


# ---- by the command and by real clients ----


def test_the_command_works_with_any_broker(three, look):
    chief, others = boss(look, three)
    made, = others[0].topic("create", "t", "--partitions", 2, "--replication-factor", 3)
    assert (made["created"], made["partitions"], made["replication_factor"]) == (True, 2, 3)
    for broker in three:
        described = wait_until(lambda: next((t for t in broker.topic("list") if t["topic"] == "t"), None), what="all know it")
        assert described
        topic, = broker.topic("describe", "t")
        assert [(p["leader"], sorted(p["replicas"]), sorted(p["isr"])) for p in topic["partitions"]] == [(assignment(look, "t")[n][0], [1, 2, 3], [1, 2, 3]) for n in range(2)]
    assert others[1].topic("alter", "t", "--partitions", 3)[0]["altered"]
    refused, = others[1].topic("create", "u", "--replication-factor", 4, status=1)
    assert "cannot be reached because only 3 broker(s) are registered (INVALID_REPLICATION_FACTOR)" in refused["error"]
    assert others[1].topic("delete", "t")[0]["deleted"] and look("/brokers/topics/t") is None


def test_kafka_python_and_librdkafka_make_grow_and_delete(three, look):
    from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
    _, others = boss(look, three)
    admin = KafkaAdminClient(bootstrap_servers=others[0].bootstrap)
    admin.create_topics([NewTopic("p", 2, 3)])
    admin.create_partitions({"p": NewPartitions(3)})
    assert len(assignment(look, "p")) == 3
    admin.delete_topics(["p"])
    assert look("/brokers/topics/p") is None
    admin.create_topics([NewTopic("p", 1, 2)])
    admin.close()
    assert len(assignment(look, "p")) == 1
    librdkafka = confluent_kafka.admin.AdminClient({"bootstrap.servers": others[1].bootstrap})
    librdkafka.create_topics([confluent_kafka.admin.NewTopic("r", 2, 2)])["r"].result(60)
    librdkafka.create_partitions([confluent_kafka.admin.NewPartitions("r", 4)])["r"].result(60)
    assert len(assignment(look, "r")) == 4
    librdkafka.delete_topics(["r"])["r"].result(60)
    assert look("/brokers/topics/r") is None


# ---- trouble ----


def test_a_topic_is_deleted_and_made_anew_with_a_broker_away(three, look):
    chief, others = boss(look, three)
    away = others[0]
    assert create(chief, {"name": "t", "num_partitions": 3, "replication_factor": 3})["t"]["error_code"] == 0
    for broker in three:
        wait_until(lambda: (broker.data / "t-2").exists(), what="the replicas")
    old = look("/brokers/topics/t")["topic_id"]
    assert produce(chief, "t", 0, "old") == 0
    away.expect("there is another of its name")
    away.expect("cluster knows of no such replica")
    away.stop(signal.SIGKILL, status=None)
    wait_until(lambda: look(f"/brokers/ids/{three.index(away) + 1}") is None, 60, "it is known to be away")
    assert delete(chief, "t") == {"t": 0}
    assert create(chief, {"name": "t", "num_partitions": 1, "assignments": [], "replication_factor": 2})["t"]["error_code"] == 0
    assert look("/brokers/topics/t")["topic_id"] != old
    assert produce(chief, "t", 0, "new") == 0
    away.start()
    wait_until(lambda: len(list(away.data.glob("t-*-stray"))) == 3, what="strays")
    wait_until(lambda: told(away, "t")[0] == 0 and not (away.data / "t-2").exists(), what="the new one is known")
    assert delete(boss(look, three)[0], "t") == {"t": 0}
    assert not any(list(broker.data.glob("t-?")) for broker in three)


def test_the_controller_is_killed_while_topics_are_made(three, mounted, look, sh):
    """Each mkdir goes on with the next controller; a topic that was half made is finished, and not made twice."""
    mount = mounted(4, "default.replication.factor=2", "num.partitions=3")
    settle(look, *three, mount)
    assert controller(look) == 1
    making = subprocess.Popen(["bash", "-c", 'for n in $(seq 40); do mkdir "$0/t$n" && echo $n; done', str(mount.dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: look("/brokers/topics/t5"), 60, "some are made")
    three[0].stop(signal.SIGKILL, status=None)
    made, errors = making.communicate(timeout=200)
    assert len(made.split()) == 40, errors
    for n in range(1, 41):
        assert len(assignment(look, f"t{n}")) == 3
        assert sh(f"ls t{n}", mount.dir) == b"0\n1\n2\n"
    wait_until(lambda: all(told(b, f"t{n}")[0] == 0 for b in three[1:] for n in range(1, 41)), 60, "all know them")


@pytest.mark.parametrize("other", ["empty", "not empty"])
def test_nothing_is_acknowledged_while_rmdir_looks(member, mounted, look, other, build):
    """One leader has said that its partition is empty, another hangs: what comes to the first one must wait for what becomes of the topic."""
    one, two, three = member(1), member(2), member(3, "zookeeper.session.timeout.ms=60000")
    mount = mounted(4)
    settle(look, one, two, three, mount)
    assert controller(look) == 1
    assert create(one, {"name": "t", "assignments": [{"partition_index": 0, "broker_ids": [2]}, {"partition_index": 1, "broker_ids": [3]}]})["t"]["error_code"] == 0
    wait_until(lambda: (mount.dir / "t").exists(), what="it is heard of")
    acknowledged = []
    producer = confluent_kafka.Producer({"bootstrap.servers": two.bootstrap, "acks": 1, "message.timeout.ms": 30000, "allow.auto.create.topics": False, "retry.backoff.ms": 50, "topic.metadata.propagation.max.ms": 500})
    wait_until(lambda: producer.list_topics("t", 30).topics["t"].error is None, what="it is heard of")
    if other == "not empty":
        produce(three, "t", 1)
    three.daemon.signal(signal.SIGSTOP)
    try:
        removing = subprocess.Popen(["rmdir", mount.dir / "t"], stderr=subprocess.PIPE, text=True)
        time.sleep(2 if build == "plain" else 6)       # there is nothing to be seen of a seal
        producer.produce("t", b"x", partition=0, on_delivery=lambda error, message: acknowledged.append(error is None))
        producer.poll(1)
        assert not acknowledged and removing.poll() is None
    finally:
        three.daemon.signal(signal.SIGCONT)
    said = removing.communicate(timeout=120)[1]
    producer.flush(60)
    if other == "empty":
        assert (removing.returncode, acknowledged) == (0, [False]) and look("/brokers/topics/t") is None
    else:
        assert "not empty" in said and acknowledged == [True] and look("/brokers/topics/t")


def test_a_stray_is_not_to_be_seen(agents, mounted, member, look, sh):
    """What was made without a cluster."""
    alone = agents("broker.id=1")
    alone.topic("create", "old")
    alone.stop()
    alone.options = list(member(1, start=False).options)
    alone.expect("cluster knows of no such replica")
    alone.start()
    two, mount = member(2), mounted(3, "default.replication.factor=3")
    settle(look, alone, two, mount)
    wait_until(lambda: told(alone, "old")[0] == 3, what="nobody knows it")
    assert "old" not in [t["topic"] for t in alone.topic("list")] and (alone.data / "old-0").exists()
    alone.expect("there is another of its name")
    sh("mkdir old; ls old", mount.dir)
    wait_until(lambda: list(alone.data.glob("old-0.*-stray")) and (alone.data / "old-0").exists(), what="it is set aside for the new one")
    wait_until(lambda: told(alone, "old")[0] == 0, what="it is known there")


def test_a_replica_that_was_moved_while_its_broker_was_away_is_set_aside(three, look):
    chief, others = boss(look, three)
    away = others[0]
    number = three.index(away) + 1
    stay = next(n for n in (1, 2, 3) if n != number)
    assert create(chief, {"name": "t", "assignments": [{"partition_index": 0, "broker_ids": [stay, number]}]})["t"]["error_code"] == 0
    wait_until(lambda: (away.data / "t-0").exists(), what="the replica")
    away.expect("cluster knows of no such replica")
    away.expect("is no replica of the cluster any more")
    away.stop()
    with Ask(chief.bootstrap) as ask:
        answer = ask("AlterPartitionReassignments", timeout_ms=20000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "replicas": [stay]}]}])
        assert answer["responses"][0]["partitions"][0]["error_code"] == 0
    wait_until(lambda: assignment(look, "t") == {0: [stay]}, 60, "it is moved")
    away.start()
    wait_until(lambda: list(away.data.glob("t-0.*-stray")), what="it is set aside")
    assert told(away, "t") == (0, [[stay]]) and not (away.data / "t-0").exists()


def test_deletions_are_answered_as_kafka_does_in_all_versions(three, look):
    chief, others = boss(look, three)
    for version in range(1, 7):
        name = f"v{version}"
        made = create(chief, {"name": name, "num_partitions": 1})[name]
        one = {"topics": [{"name": name}]} if version == 6 else {"topic_names": [name]}
        with Ask(others[0].bootstrap) as ask:
            assert [t["error_code"] for t in ask("DeleteTopics", version, timeout_ms=20000, **one)["responses"]] == [NOT_CONTROLLER]
        with Ask(chief.bootstrap) as ask:
            assert [t["error_code"] for t in ask("DeleteTopics", version, timeout_ms=20000, **one)["responses"]] == [0]
            assert [t["error_code"] for t in ask("DeleteTopics", version, timeout_ms=20000, **one)["responses"]] == [3]
        assert made["error_code"] == 0 and look(f"/brokers/topics/{name}") is None
    made = create(chief, {"name": "id"}, {"name": "two"})
    with Ask(chief.bootstrap) as ask:
        answer = ask("DeleteTopics", timeout_ms=20000, topics=[{"name": None, "topic_id": made["id"]["topic_id"]}, {"name": "two"}, {"name": "two"}, {"name": "none"}])["responses"]
        assert [(t["name"], t["error_code"]) for t in answer] == [("id", 0), ("two", 42), ("none", 3)]
        assert ask("DeleteTopics", timeout_ms=20000, topics=[{"name": None, "topic_id": made["id"]["topic_id"]}])["responses"][0]["error_code"] == 100
        assert ask("DeleteTopics", timeout_ms=0, topics=[{"name": "two"}])["responses"][0]["error_code"] == 7
    assert delete(chief, "two") == {"two": 0}


def test_owner_and_modes_go_with_a_topic(member, mounted, look, sh):
    one, here, there = member(1), mounted(2), mounted(3)
    settle(look, one, here, there)
    sh("umask 027; mkdir t; chown 12:34 t || true; mkdir -m 750 u; stat -c '%a' u", here.dir)
    wait_until(lambda: sh("stat -c '%a' u || true", there.dir) == b"750\n", what="the same modes")


def test_what_cannot_be_done_ends_in_time_and_can_be_done_later(zookeepers, mounts, sh):
    zk, port = zookeepers(), kafka.free_ports(1)[0]
    mount = mounts(f"listeners=PLAINTEXT://127.0.0.1:{port}", "broker.id=1", f"zookeeper.connect={zk.connect}", "request.timeout.ms=2000", "zookeeper.session.timeout.ms=4000")
    sh("mkdir t", mount.dir)
    mount.expect("ZooKeeper")
    mount.expect("cannot make a topic")
    mount.expect("controller")
    zk.server[0].kill()
    sh("mkdir u", mount.dir, status=1, stderr="Input/output error")
    sh("touch t/1", mount.dir, status=1, stderr="Input/output error")
    assert sh("ls", mount.dir) == b"t\n"
    zk.server[0].start()
    wait_until(lambda: sh("mkdir v && ls v || true", mount.dir) == b"0\n", 60, "it goes on")
    sh("ls u || mkdir u; ls u; rmdir u v", mount.dir)


def test_a_stray_is_not_in_its_own_mount(mounts, mounted, look, sh):
    alone = mounts("broker.id=1")
    sh("mkdir old; echo hello >> old/0", alone.dir)
    alone.umount()
    alone.options = mounted(1, start=False).options
    alone.expect("knows of no such replica")
    alone.start()
    wait_until(lambda: sh("ls", alone.dir) == b"", what="it is not shown")
    sh("cat old/0", alone.dir, status=1, stderr="No such file")
    alone.expect("there is another of its name")
    sh("mkdir old; ls old; test ! -s old/0", alone.dir)
    assert len(list(alone.data.glob("old-0.*-stray"))) == 1


def test_the_offsets_of_groups_wait_for_enough_brokers(member, look):
    def coordinator(broker):
        with Ask(broker.bootstrap) as ask:
            return ask("FindCoordinator", 3, key="g", key_type=0)
    options = ("offsets.topic.num.partitions=5", "num.partitions=2")
    one, two = member(1, *options), member(2, *options)
    settle(look, one, two)
    assert coordinator(one)["error_code"] == 15
    with Ask(two.bootstrap) as ask:
        assert ask("Metadata", topics=[{"name": "__consumer_offsets"}], allow_auto_topic_creation=True)["topics"][0]["error_code"] == 3
    wait_until(lambda: "cannot be made: Unable to replicate" in one.messages(), what="it says why")
    assert look("/brokers/topics/__consumer_offsets") is None
    three = member(3, *options)
    found = wait_until(lambda: (answer := coordinator(two))["error_code"] == 0 and answer, 60, "a coordinator")
    assert {len(ids) for ids in assignment(look, "__consumer_offsets").values()} == {3} and len(assignment(look, "__consumer_offsets")) == 5
    assert look("/config/topics/__consumer_offsets")["config"]["cleanup.policy"] == "compact"
    assert found["node_id"] in (1, 2, 3) and three.daemon.running
