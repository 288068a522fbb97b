"""What stands between a leader and its followers, with real agents: how far they are, who is told of what, where clients are sent."""

import json
import signal
import uuid

import confluent_kafka
import pytest

from lib.ask import Ask
from lib.mounting import wait_until

NONE, OFFSET_OUT_OF_RANGE, NOT_LEADER, REQUEST_TIMED_OUT, FENCED_EPOCH = 0, 1, 6, 7, 74


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
def member(agents, chroot):
    """member(1) -> an Agent that is broker 1 of the cluster."""
    def make(number, *options, **how):
        agent = agents(f"broker.id={number}", f"zookeeper.connect={chroot}", "zookeeper.session.timeout.ms=6000", "controlled.shutdown.retry.backoff.ms=100", *options, start=False, **how)
        agent.expect("no controller could be asked")       # when all of them stop
        return agent.start()
    return make


@pytest.fixture
def cluster(member, look):
    """cluster(3, "a=b") -> {1: Agent, 2: ..., 3: ...}, all of them known to each other; extra={2: ["c=d"]} are broker 2's alone."""
    def make(count, *options, extra=None):
        agents = {number: member(number, *options, *(extra or {}).get(number, ())) for number in range(1, count + 1)}
        for agent in agents.values():
            with Ask(agent.bootstrap) as ask:
                wait_until(lambda: len(ask("Metadata", topics=[])["brokers"]) == count, what="all brokers")
        return agents
    return make


def state(look, topic, partition=0):
    return look(f"/brokers/topics/{topic}/partitions/{partition}/state")


def make_topic(agents, look, name, *replicas, **configs):
    """make_topic(agents, look, "t", [1, 2], [2, 1]): all of them in sync."""
    new = {"name": name, "num_partitions": -1, "replication_factor": -1, "configs": [{"name": key, "value": value} for key, value in configs.items()],
           "assignments": [{"partition_index": n, "broker_ids": list(ids)} for n, ids in enumerate(replicas)]}

    def made():
        with Ask(agents[look("/controller")["brokerid"]].bootstrap) as ask:
            return ask("CreateTopics", topics=[new], timeout_ms=60000)["topics"][0]["error_code"] == NONE
    wait_until(made, 60, "the topic")
    for n, ids in enumerate(replicas):
        wait_until(lambda: sorted((state(look, name, n) or {"isr": []})["isr"]) == sorted(ids), 60, "all in sync")


def produce(agents, topic, count, acks="all", text="message"):
    """The offsets, once they are acknowledged."""
    delivered = []
    servers = ",".join(agent.bootstrap for agent in agents.values())
    producer = confluent_kafka.Producer({"bootstrap.servers": servers, "acks": acks, "message.timeout.ms": 60000})
    for n in range(count):
        producer.produce(topic, f"{text} {n}", partition=0, on_delivery=lambda error, message: delivered.append((error, message.offset())))
    assert producer.flush(60) == 0 and all(error is None for error, _ in delivered), delivered
    return [offset for _, offset in delivered]


def topic_id(ask, topic):
    return ask("Metadata", topics=[{"name": topic}], allow_auto_topic_creation=False)["topics"][0]["topic_id"]


def fetch(ask, topic, offset, partition=0, version=None, **more):
    """What a consumer is told of one partition."""
    request = {"max_wait_ms": more.pop("max_wait_ms", 0), "min_bytes": 1, "max_bytes": 1 << 20, "isolation_level": 0, "session_id": 0, "session_epoch": -1, "forgotten_topics_data": [],
               "rack_id": more.pop("rack_id", ""),
               "topics": [{"topic_id": topic_id(ask, topic), "partitions": [{"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20,
                                                                            "current_leader_epoch": more.pop("current_leader_epoch", -1)}]}]}
    return ask("Fetch", version=version, **request, **more)


def test_what_is_committed_is_seen_on_followers_at_once(cluster, look):
    """Fetches are held back for longer than this test may take: a follower is told how far all are without that."""
    agents = cluster(3, "replica.fetch.wait.max.ms=25000")
    make_topic(agents, look, "t", [1, 2, 3])
    for n in range(5):
        produce(agents, "t", 1)
        for number in (2, 3):
            with Ask(agents[number].bootstrap) as ask:
                wait_until(lambda: fetch(ask, "t", n + 1)["responses"][0]["partitions"][0]["high_watermark"] == n + 1, 15, "the high watermark")


# ---- where logs start ----


def delete_records(ask, topic, offset, timeout_ms=20000):
    answer = ask("DeleteRecords", topics=[{"name": topic, "partitions": [{"partition_index": 0, "offset": offset}]}], timeout_ms=timeout_ms)["topics"][0]["partitions"][0]
    return answer["error_code"], answer["low_watermark"]


def test_deleted_records_are_gone_everywhere_when_it_is_answered(cluster, look):
    """... or it is told that they are not: of a replica that is alive, and does not say so in time."""
    agents = cluster(3, "replica.fetch.wait.max.ms=25000")
    make_topic(agents, look, "t", [1, 2, 3])
    produce(agents, "t", 10)
    with Ask(agents[1].bootstrap) as ask, Ask(agents[2].bootstrap) as two, Ask(agents[3].bootstrap) as three:
        assert delete_records(ask, "t", 5) == (NONE, 5)
        for other in (two, three):
            assert fetch(other, "t", 10)["responses"][0]["partitions"][0]["log_start_offset"] == 5
        assert delete_records(two, "t", 6) == (NOT_LEADER, -1)
        assert delete_records(ask, "t", 11) == (OFFSET_OUT_OF_RANGE, -1)
        agents[2].daemon.signal(signal.SIGSTOP)
        try:
            assert delete_records(ask, "t", 8, timeout_ms=300) == (REQUEST_TIMED_OUT, 5)
        finally:
            agents[2].daemon.signal(signal.SIGCONT)
        assert delete_records(ask, "t", 8) == (NONE, 8)
        assert delete_records(ask, "t", -1) == (NONE, 10)


# ---- where clients are sent ----


def test_who_asks_the_wrong_broker_is_told_the_right_one(cluster, look):
    agents = cluster(3, "broker.rack=somewhere")
    make_topic(agents, look, "t", [1, 2])
    here = [{"node_id": 1, "host": "127.0.0.1", "port": agents[1].port, "rack": "somewhere"}]
    with Ask(agents[3].bootstrap) as ask:
        answer = fetch(ask, "t", 0)
        partition = answer["responses"][0]["partitions"][0]
        assert (partition["error_code"], partition["current_leader"]) == (NOT_LEADER, {"leader_id": 1, "leader_epoch": 0})
        assert answer["node_endpoints"] == here
        answer = ask("Produce", 11, acks=1, timeout_ms=1000, topic_data=[{"name": "t", "partition_data": [{"index": 0}]}])
        partition = answer["responses"][0]["partition_responses"][0]
        assert (partition["error_code"], partition["current_leader"]) == (NOT_LEADER, {"leader_id": 1, "leader_epoch": 0})
        assert answer["node_endpoints"] == here
    agents[1].stop()
    wait_until(lambda: state(look, "t")["leader"] == 2, what="another leader")
    epoch = state(look, "t")["leader_epoch"]
    with Ask(agents[2].bootstrap) as ask:
        wait_until(lambda: fetch(ask, "t", 0)["responses"][0]["partitions"][0]["error_code"] == NONE, what="it leads")
        answer = fetch(ask, "t", 0, current_leader_epoch=0)
        partition = answer["responses"][0]["partitions"][0]
        assert (partition["error_code"], partition["current_leader"]) == (FENCED_EPOCH, {"leader_id": 2, "leader_epoch": epoch})
        assert [node["node_id"] for node in answer["node_endpoints"]] == [2]


def test_consumers_are_sent_to_a_replica_in_their_rack(cluster, look):
    agents = cluster(3, "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector", "replica.lag.time.max.ms=2000",
                     extra={1: ["broker.rack=a"], 2: ["broker.rack=b"], 3: ["broker.rack=c"]})
    make_topic(agents, look, "t", [1, 2])
    produce(agents, "t", 10)

    def preferred(rack, offset=10):
        with Ask(agents[1].bootstrap) as ask:
            partition = fetch(ask, "t", offset, rack_id=rack)["responses"][0]["partitions"][0]
            return partition["error_code"], partition["preferred_read_replica"]
    assert preferred("b") == (NONE, 2)
    assert preferred("a") == preferred("c") == preferred("d") == preferred("") == (NONE, -1)
    assert preferred("b", 11) == (OFFSET_OUT_OF_RANGE, -1)
    where = set()

    def note(text):
        partition = json.loads(text)["topics"].get("t", {"partitions": {}})["partitions"].get("0")
        if partition and partition["leader"] == 1:
            where.add(partition["broker"])
    consumer = confluent_kafka.Consumer({"bootstrap.servers": agents[1].bootstrap, "group.id": "g", "client.rack": "b", "statistics.interval.ms": 100, "stats_cb": note})
    consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
    seen = []
    while len(seen) < 10:
        seen += [message.value() for message in consumer.consume(100, 1) if not message.error()]
    wait_until(lambda: consumer.poll(0.1) or 2 in where, what="it reads from the follower")
    assert seen == [b"message %d" % n for n in range(10)]
    produce(agents, "t", 1, text="later")
    assert wait_until(lambda: consumer.poll(0.5), what="what came later").value() == b"later 0"
    consumer.close()
    agents[2].daemon.signal(signal.SIGSTOP)
    try:
        produce(agents, "t", 1)
        wait_until(lambda: preferred("b", 12) == (NONE, -1), what="who is not in sync is not chosen")
    finally:
        agents[2].daemon.signal(signal.SIGCONT)


def test_a_replica_selector_that_is_not_known_is_refused(agents):
    agent = agents("replica.selector.class=com.example.Mine", start=False)
    agent.expect("spoolfs agent: ")
    with pytest.raises(AssertionError):
        agent.start()
    agent.daemon = None
    assert "replica.selector.class" in agent.messages() and "RackAwareReplicaSelector" in agent.messages()


# ---- elected without being in sync ----


@pytest.mark.long
def test_a_leader_that_was_not_in_sync_says_that_it_has_recovered(cluster, look):
    """KIP-704: the state says that it is recovering, until its leader says otherwise; it has nobody to take into the ISR here."""
    agents = cluster(3, "replica.lag.time.max.ms=1000")
    make_topic(agents, look, "t", [1, 2], **{"unclean.leader.election.enable": "true"})
    agents[2].stop(signal.SIGKILL, status=None)
    wait_until(lambda: state(look, "t")["isr"] == [1], 60, "the follower is out")
    produce(agents, "t", 3, acks=1)
    agents[1].stop(signal.SIGKILL, status=None)
    wait_until(lambda: state(look, "t")["leader"] == -1, 60, "nobody leads")
    agents[2].start()
    wait_until(lambda: state(look, "t")["leader"] == 2, 60, "an unclean leader")
    wait_until(lambda: state(look, "t").get("leader_recovery_state", 0) == 0, 30, "it has recovered")
    assert state(look, "t")["isr"] == [2]


# ---- throttles ----


@pytest.mark.parametrize("side, broker", [("leader", 1), ("follower", 2)])
def test_a_new_replica_is_copied_no_faster_than_the_throttle_lets_it(cluster, look, side, broker):
    rate, options = f"{side}.replication.throttled.rate", ["replica.fetch.max.bytes=1000", "replica.lag.time.max.ms=2000"]
    agents = cluster(2, *options, extra={broker: [f"{rate}=10"]})
    make_topic(agents, look, "t", [1], **{f"{side}.replication.throttled.replicas": f"0:{broker}"})
    for _ in range(5):
        produce(agents, "t", 1, text="x" * 2000)
    controller = agents[look("/controller")["brokerid"]]
    with Ask(controller.bootstrap) as ask, Ask(agents[broker].bootstrap) as slow:
        moved = ask("AlterPartitionReassignments", timeout_ms=10000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "replicas": [1, 2]}]}])
        assert moved["responses"][0]["partitions"][0]["error_code"] == NONE
        log = agents[2].data / "t-0" / ("0" * 20 + ".log")
        wait_until(lambda: log.exists() and log.stat().st_size > 2000, what="the first batch")
        assert produce(agents, "t", 1) == [5]      # the leader goes on; the replica has a minute to wait
        assert log.stat().st_size < 5000 and state(look, "t")["isr"] == [1]
        change = {"resource_type": 4, "resource_name": str(broker), "configs": [{"name": rate, "config_operation": 0, "value": "100000000"}]}
        assert slow("IncrementalAlterConfigs", resources=[change], validate_only=False)["responses"][0]["error_code"] == NONE
    wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 2], 30, "it is in sync")
