"""Agents that are one cluster: registration, the election of a controller, clean stops and others."""

import base64
import json
import signal
import uuid

import confluent_kafka
import pytest

from lib import batches
from lib.ask import Ask
from lib.mounting import has_stopped, wait_until


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
    """member(1) -> an Agent that is broker 1 of the cluster, registered."""
    def make(number, *options, start=True, **how):
        agent = agents(f"broker.id={number}", f"zookeeper.connect={chroot}", "zookeeper.session.timeout.ms=4000", "controlled.shutdown.retry.backoff.ms=100", *options, start=False, **how)
        return agent.start() if start else agent
    return make


def controller(look):
    return (look("/controller") or {"brokerid": None})["brokerid"]


def refused(agent):
    """What an agent says that cannot be started."""
    agent.expect("spoolfs agent: ")
    with pytest.raises(AssertionError):
        agent.start()
    agent.daemon = None
    return agent.messages()


def test_an_agent_registers_where_others_reach_it(member, look):
    one = member(1, "broker.rack=r1")
    node = look("/brokers/ids/1")
    assert (node["host"], node["port"], node["rack"]) == ("127.0.0.1", one.port, "r1")
    assert node["spoolfs"]["data_id"] == (one.data / "spoolfs.data-id").read_text().strip()
    wait_until(lambda: controller(look) == 1, what="a controller")
    assert f"cluster.id={look('/cluster/id')['id']}\n" in (one.data / "meta.properties").read_text()
    assert (one.data / "spoolfs.session").stat().st_mode & 0o777 == 0o600
    two = member(2)
    assert look("/brokers/ids/2")["port"] == two.port
    assert (two.data / "meta.properties").read_text().split("cluster.id=")[1] == (one.data / "meta.properties").read_text().split("cluster.id=")[1]


def test_a_clean_stop_deregisters_at_once_and_another_becomes_the_controller(member, look):
    one, two = member(1, "zookeeper.session.timeout.ms=60000"), member(2)
    wait_until(lambda: controller(look) == 1, what="a controller")
    one.stop()
    assert look("/brokers/ids/1") is None and not (one.data / "spoolfs.session").exists()
    wait_until(lambda: controller(look) == 2, what="the other one")
    one.start()
    assert look("/brokers/ids/1") is not None and controller(look) == 2
    assert two.daemon.running


def test_the_controller_moves_when_it_is_killed(member, look):
    one, _, _ = member(1), member(2), member(3)
    wait_until(lambda: controller(look) == 1, what="a controller")
    epoch = look("/controller_epoch")
    one.stop(signal.SIGKILL, status=None)
    wait_until(lambda: controller(look) in (2, 3), 60, "another controller")
    assert look("/controller_epoch") == epoch + 1
    one.start()         # its old session is taken over, and closed
    assert look("/brokers/ids/1")["port"] == one.port


def test_an_id_that_is_taken_is_refused(member, look):
    one = member(1)
    said = refused(member(1, start=False))
    assert f"broker.id=1 is taken by another broker, at 127.0.0.1:{one.port}" in said
    assert look("/brokers/ids/1")["port"] == one.port and one.daemon.running


def test_a_broker_keeps_its_id(member):
    one = member(1)
    one.stop()
    one.options[0] = "broker.id=2"
    assert "is that of broker 1, and broker.id=2" in refused(one)


def test_log_directories_of_one_cluster_are_not_taken_into_another(member, agents, shared_zookeeper):
    one = member(1)
    one.stop()
    one.options[1] = f"zookeeper.connect={shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}"
    other = agents("broker.id=2", one.options[1])
    assert "belong to the cluster" in refused(one)
    assert other.daemon.running


def test_without_zookeeper_it_says_so(agents):
    said = refused(agents("zookeeper.connect=127.0.0.1:1", "zookeeper.connection.timeout.ms=500", start=False))
    assert "no ZooKeeper of 127.0.0.1:1 has answered within 500 ms" in said


def test_a_broker_that_was_given_up_registers_anew(member, look):
    """The controller's word in its ledger: as when something between them has refused connections."""
    one, two = member(1), member(2)
    wait_until(lambda: controller(look) == 1, what="a controller")
    two.expect("has given it up")
    before = look.talk("get", path="/brokers/ids/2")["stat"]["czxid"]
    ledger = json.dumps({"version": 1, "settled_epoch": -1, "fenced_epoch": before, "unclean": False})
    one.expect("somebody else has written it")
    wait_until(lambda: look("/spoolfs/brokers/2"), what="a ledger")
    assert look.talk("set", path="/spoolfs/brokers/2", data=ledger, version=-1)["code"] == "ok"
    wait_until(lambda: (now := look.talk("get", path="/brokers/ids/2"))["code"] == "ok" and now["stat"]["czxid"] > before, what="another registration")
    assert one.daemon.running and two.daemon.running


# ---- what the controller says ----


@pytest.fixture
def make_topic(look):
    """make_topic("t", [[1, 2], [2, 1]]) -> its id, once the controller has made the states of its partitions."""
    def make(name, *replicas):
        topic_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        node = {"version": 3, "topic_id": topic_id, "partitions": {str(n): ids for n, ids in enumerate(replicas)}, "adding_replicas": {}, "removing_replicas": {}}
        assert look.talk("create", path=f"/brokers/topics/{name}", data=json.dumps(node))["code"] == "ok"
        for n in range(len(replicas)):
            wait_until(lambda: state(look, name, n), what="a state")
        return topic_id
    return make


def state(look, topic, partition=0):
    return look(f"/brokers/topics/{topic}/partitions/{partition}/state")


def has(agent, topic_id, *names):
    return all((agent.data / name / "partition.metadata").exists() and f"topic_id: {topic_id}" in (agent.data / name / "partition.metadata").read_text() for name in names)


def produce(agent, topic, acks, text="x", seconds=60):
    """The offset, once it is acknowledged."""
    delivered = []
    producer = confluent_kafka.Producer({"bootstrap.servers": agent.bootstrap, "acks": acks, "message.timeout.ms": seconds * 1000})
    producer.produce(topic, text, partition=0, on_delivery=lambda error, message: delivered.append((error, message.offset())))
    assert producer.flush(seconds) == 0 and delivered[0][0] is None, delivered
    return delivered[0][1]


def test_replicas_are_made_where_they_belong_and_their_leader_serves(member, look, make_topic):
    one, two, three = member(1), member(2), member(3)
    topic_id = make_topic("t", [2, 1], [3], [1, 2, 3])
    wait_until(lambda: has(one, topic_id, "t-0", "t-2") and has(two, topic_id, "t-0", "t-2") and has(three, topic_id, "t-1", "t-2"), what="the replicas")
    assert not (one.data / "t-1").exists() and not (two.data / "t-1").exists() and not (three.data / "t-0").exists()
    assert produce(two, "t", 1) == 0 and produce(two, "t", 1) == 1
    two.restart()
    assert has(two, topic_id, "t-0", "t-2") and not (two.data / "t-1").exists()


def test_a_follower_that_does_not_keep_up_leaves_the_isr_and_comes_back(member, look, make_topic):
    """AlterPartition, by the leader, of a controller that is another broker."""
    member(1)
    wait_until(lambda: controller(look) == 1, what="a controller")
    two, three = member(2, "replica.lag.time.max.ms=1000"), member(3, "zookeeper.session.timeout.ms=30000")
    make_topic("t", [2, 3])
    assert produce(two, "t", "all") == 0 and sorted(state(look, "t")["isr"]) == [2, 3]
    three.daemon.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: has_stopped(three.daemon.pid), what="it has stopped")
        assert produce(two, "t", "all") == 1
        assert state(look, "t")["isr"] == [2], "acknowledged without it: it has left"
    finally:
        three.daemon.signal(signal.SIGCONT)
    wait_until(lambda: sorted(state(look, "t")["isr"]) == [2, 3], 60, "it is back")
    assert state(look, "t")["leader_epoch"] == 0


def log_of(agent, name):
    return b"".join(path.read_bytes() for path in sorted((agent.data / name).glob("*.log")))


@pytest.mark.long
def test_nothing_acknowledged_is_lost_when_leaders_are_killed(member, look, make_topic):
    """acks=all, and each leader in turn is killed; in the end all have the same bytes."""
    agents = {number: member(number) for number in (1, 2, 3)}
    make_topic("t", [1, 2, 3])
    sent = 0
    for _ in range(3):
        leader = state(look, "t")["leader"]
        for _ in range(5):
            assert produce(agents[leader], "t", "all", f"message {sent}") == sent
            sent += 1
        agents[leader].stop(signal.SIGKILL, status=None)
        wait_until(lambda: state(look, "t")["leader"] not in (leader, -1), 60, "another leader")
        agents[leader].start()
        wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 2, 3], 60, "it is back in sync")
    leader = state(look, "t")["leader"]
    assert produce(agents[leader], "t", "all", f"message {sent}") == sent
    logs = {log_of(agent, "t-0") for agent in agents.values()}
    assert len(logs) == 1
    content = logs.pop()
    assert all(b"message %d" % n in content for n in range(sent + 1))


def test_a_clean_stop_gives_leaderships_away_first(member, look, make_topic):
    one, two = member(1, "zookeeper.session.timeout.ms=60000"), member(2)
    make_topic("t", [1, 2])
    make_topic("u", [1])
    wait_until(lambda: (two.data / "t-0").exists(), what="the replica")
    one.stop()
    now = state(look, "t")
    assert (now["leader"], now["isr"], now["leader_epoch"]) == (2, [2], 1)
    assert produce(two, "t", 1) == 0


def test_another_leads_when_the_leader_is_killed(member, look, make_topic):
    one, two = member(1), member(2)
    make_topic("t", [1, 2])
    wait_until(lambda: (two.data / "t-0").exists(), what="the replica")
    one.stop(signal.SIGKILL, status=None)
    wait_until(lambda: state(look, "t")["leader"] == 2, 60, "the other one")
    assert produce(two, "t", 1) == 0


def test_a_deleted_topic_goes_everywhere(member, look, make_topic):
    one, two = member(1), member(2)
    make_topic("t", [1, 2], [2])
    wait_until(lambda: (two.data / "t-1").exists() and (one.data / "t-0").exists(), what="the replicas")
    assert look.talk("create", path="/admin/delete_topics/t")["code"] == "ok"
    wait_until(lambda: look("/brokers/topics/t") is None, what="it is gone")
    assert not any((agent.data / name).exists() for agent in (one, two) for name in ("t-0", "t-1"))


def test_a_replica_that_is_not_wanted_any_more_is_deleted(member, look, make_topic):
    """A move that goes back, whether it was quicker or not. What is deleted is one partition of a topic; what stays keeps the topic's properties."""
    one, two = member(1), member(2)
    topic_id = make_topic("t", [1], [2])
    wait_until(lambda: has(one, topic_id, "t-0") and has(two, topic_id, "t-1"), what="the replicas")
    assert (two.data / "t-1/topic.properties").exists()
    with Ask(one.bootstrap) as ask:
        wait_until(lambda: controller(look) == 1, what="a controller")

        def move(replicas):
            return ask("AlterPartitionReassignments", timeout_ms=10000, topics=[{"name": "t", "partitions": [{"partition_index": 0, "replicas": replicas}]}])
        assert move([2, 1])["responses"][0]["partitions"][0]["error_code"] == 0
        wait_until(lambda: has(two, topic_id, "t-0"), what="the new replica")
        if (error := move(None)["responses"][0]["partitions"][0]["error_code"]) == 85:      # NO_REASSIGNMENT_IN_PROGRESS: it has ended
            error = move([1])["responses"][0]["partitions"][0]["error_code"]
        assert error == 0
    wait_until(lambda: not (two.data / "t-0").exists(), what="it is gone")
    assert has(two, topic_id, "t-1") and (two.data / "t-1/topic.properties").exists()
    with Ask(two.bootstrap) as ask:
        assert ask("AlterPartitionReassignments", timeout_ms=10000, topics=[])["error_code"] == 41      # NOT_CONTROLLER
    two.restart()
    assert produce(one, "t", 1) == 0


def test_what_brokers_say_to_each_other_is_not_offered_to_clients(member, agents):
    def apis(agent):
        with Ask(agent.bootstrap) as ask:
            return {api["api_key"] for api in ask("ApiVersions", client_software_name="a", client_software_version="1")["api_keys"]}
    assert apis(member(1)) - apis(agents()) == {43, 45, 46}       # ElectLeaders and reassignments
    assert not apis(member(2)) & {4, 5, 6, 7, 56}


def test_what_the_cluster_does_not_know_is_left_alone(agents, member, look, make_topic):
    alone = agents("broker.id=1")
    alone.topic("create", "old")
    before = alone.data / "old-0"
    alone.stop()
    alone.options = list(member(1, start=False).options)
    alone.expect("old-0 is here, but the cluster knows of no such replica")
    alone.start()
    wait_until(lambda: "knows of no such replica" in alone.messages(), what="a warning")
    assert before.exists()
    alone.expect("there is another of its name")
    topic_id = make_topic("old", [1])
    wait_until(lambda: has(alone, topic_id, "old-0"), what="the new one")
    assert len(list(alone.data.glob("old-0.*-stray"))) == 1


def test_a_broker_says_whether_everything_is_there(member, look):
    one = member(1)
    clean = lambda: look("/brokers/ids/1")["spoolfs"]["clean"]
    assert clean() is False         # nobody knows of anything yet
    wait_until(lambda: (one.data / "spoolfs.intact").exists(), what="its first LeaderAndIsr")
    one.restart()
    assert clean() is True
    one.stop(signal.SIGKILL, status=None)
    one.start()
    assert clean() is True          # what was written is in the page cache
    wait_until(lambda: controller(look) == 1, what="a controller")
    one.stop(signal.SIGKILL, status=None)
    (one.data / "spoolfs.intact").write_text("another boot\n")
    one.start()
    assert clean() is False
    wait_until(lambda: "another" not in (one.data / "spoolfs.intact").read_text() if (one.data / "spoolfs.intact").exists() else False, what="it is settled")
    one.stop()
    (one.data / "spoolfs.intact").write_text("another boot\n")
    one.start()
    assert clean() is True          # the stop was clean


# ---- what clients are told ----


def metadata(agent, *topics):
    with Ask(agent.bootstrap) as ask:
        return ask("Metadata", topics=[{"name": name} for name in topics] if topics else None, allow_auto_topic_creation=False)


def test_every_broker_tells_of_all_brokers_and_topics(member, look, make_topic):
    agents_ = [member(1, "broker.rack=a"), member(2), member(3)]
    topic_id = make_topic("t", [2, 1], [3])
    for agent in agents_:
        def told():
            answer = metadata(agent, "t")
            topic = answer["topics"][0]
            return (len(answer["brokers"]) == 3 and topic["error_code"] == 0 and answer["controller_id"] == controller(look)
                    and [(p["leader_id"], p["replica_nodes"], sorted(p["isr_nodes"])) for p in topic["partitions"]] == [(2, [2, 1], [1, 2]), (3, [3], [3])] and answer)
        answer = wait_until(told, what="metadata")
        assert {(b["node_id"], b["port"]) for b in answer["brokers"]} == {(n + 1, a.port) for n, a in enumerate(agents_)}
        assert {b["node_id"]: b["rack"] for b in answer["brokers"]} == {1: "a", 2: None, 3: None}
    assert produce(agents_[0], "t", 1) == 0       # any broker shows the way to the leader
    agents_[2].stop(signal.SIGKILL, status=None)
    wait_until(lambda: len((now := metadata(agents_[0], "t"))["brokers"]) == 2 and now["topics"][0]["partitions"][1]["offline_replicas"] == [3], 60, "it is known to be away")
    assert look.talk("create", path="/admin/delete_topics/t")["code"] == "ok"
    wait_until(lambda: all(metadata(agent, "t")["topics"][0]["error_code"] == 3 for agent in agents_[:2]), what="nobody knows it any more")
    assert topic_id


def test_no_two_brokers_give_the_same_producer_id(member, look, make_topic):
    """The one's records would be taken for what the other has written already."""
    agents = [member(number) for number in (1, 2, 3)]

    def new_id(agent):
        with Ask(agent.bootstrap) as ask:
            return wait_until(lambda: (answer := ask("InitProducerId", transactional_id=None, transaction_timeout_ms=1000, producer_id=-1, producer_epoch=-1))["error_code"] == 0 and (answer["producer_id"], ), what="a producer id")[0]
    given = [new_id(agent) for _ in range(3) for agent in agents]
    assert len(set(given)) == 9, given
    assert len({n // 1000 for n in given}) == 3, "one block each, though they see each other's ids"
    assert look("/latest_producer_id_block")["block_end"] == "2999"
    make_topic("t", [1, 2, 3])
    producers = [confluent_kafka.Producer({"bootstrap.servers": agent.bootstrap, "enable.idempotence": True}) for agent in agents]
    for n, producer in enumerate(producers):
        producer.produce("t", f"of {n}", partition=0)
        assert producer.flush(60) == 0
    assert [value for _, _, value in batches.records(agents[0].data / "t-0")] == [b"of 0", b"of 1", b"of 2"]
    agents[1].restart()
    given.append(new_id(agents[1]))
    assert len(set(given)) == 10, given
