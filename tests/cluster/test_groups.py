"""Consumer groups of a cluster: who coordinates them, and what is left of them when that broker goes."""

import json
import signal
import threading
import time

import confluent_kafka
import pytest

from lib.ask import Ask
from lib.clients import Member
from lib.joined import controller, state
from lib.mounting import wait_until

OFFSETS = "__consumer_offsets"
QUICK = ("group.min.session.timeout.ms=100", "group.initial.rebalance.delay.ms=100", "replica.lag.time.max.ms=3000", "replica.socket.timeout.ms=3000", "replica.fetch.backoff.ms=200",
         "controller.socket.timeout.ms=3000")
NOT_AVAILABLE, NOT_COORDINATOR, LOADING = 15, 16, 14


@pytest.fixture
def three(member, look):
    """three("offsets.topic.num.partitions=1") -> {1: an agent, ...}, with a controller."""
    def make(*options):
        agents = {number: member(number, *QUICK, *options) for number in (1, 2, 3)}
        wait_until(lambda: controller(look) is not None and all(brokers(agent) == 3 for agent in agents.values()), what="three brokers know each other")
        return agents
    return make


def brokers(agent):
    with Ask(agent.bootstrap) as ask:
        return len(ask("Metadata", topics=[], allow_auto_topic_creation=False)["brokers"])


def find(agent, *groups):
    """What that broker says of each: (error, id, host, port)."""
    with Ask(agent.bootstrap) as ask:
        found = ask("FindCoordinator", key_type=0, coordinator_keys=list(groups))["coordinators"]
        return [(c["error_code"], c["node_id"], c["host"], c["port"]) for c in found]


def java_hash(text):
    h = 0
    for c in text:
        h = (31 * h + ord(c)) & 0xffffffff
    return 0 if h == 0x80000000 else abs(h - (1 << 32) if h & 0x80000000 else h)


def need_offsets_topic(agents, look, partitions):
    """It is made by whoever is asked first."""
    wait_until(lambda: all(find(agent, "any")[0][0] == 0 for agent in agents.values()), 60, "a coordinator")
    assert len(look(f"/brokers/topics/{OFFSETS}")["partitions"]) == partitions


def test_every_broker_names_the_leader_as_the_coordinator(three, look):
    agents = three("offsets.topic.num.partitions=4", "offsets.topic.replication.factor=2")
    assert find(agents[1], "g")[0][0] == NOT_AVAILABLE       # it is being made, and nobody was kept waiting for that
    need_offsets_topic(agents, look, 4)
    groups = [f"group-{n}" for n in range(20)]
    leaders = [state(look, OFFSETS, java_hash(group) % 4)["leader"] for group in groups]
    assert len(set(leaders)) > 1
    for agent in agents.values():
        assert find(agent, *groups) == [(0, leader, "127.0.0.1", agents[leader].port) for leader in leaders]
    with Ask(agents[2].bootstrap) as ask:
        one = ask("FindCoordinator", 2, key_type=0, key=groups[0])
        assert (one["error_code"], one["node_id"], one["port"]) == (0, leaders[0], agents[leaders[0]].port)
    # the others answer for nothing of it
    for number, agent in agents.items():
        with Ask(agent.bootstrap) as ask:
            for group, leader in zip(groups, leaders):
                wait_until(lambda: describe(ask, group)["error_code"] != LOADING, what="it is loaded")
                assert describe(ask, group)["error_code"] == (69 if leader == number else NOT_COORDINATOR)
                assert ask("OffsetFetch", 8, groups=[{"group_id": group, "topics": None}], require_stable=False)["groups"][0]["error_code"] == (0 if leader == number else NOT_COORDINATOR)
                assert ask("Heartbeat", group_id=group, generation_id=1, member_id="m")["error_code"] == (25 if leader == number else NOT_COORDINATOR)
                assert ask("DeleteGroups", groups_names=[group])["results"][0]["error_code"] == (69 if leader == number else NOT_COORDINATOR)


def describe(ask, group):
    return ask("DescribeGroups", groups=[group], include_authorized_operations=False)["groups"][0]


# ---- a coordinator goes ----


class Watch:
    """Asks again and again what a group has committed: no partition's offset ever goes back."""

    def __init__(self, bootstrap, group, topic, partitions):
        self.consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0, "socket.timeout.ms": 4000})
        self.asked = [confluent_kafka.TopicPartition(topic, n) for n in range(partitions)]
        self.committed = [-1] * partitions
        self.back = []
        self.answers = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._end.wait(0.05):
            try:
                now = self.consumer.committed(self.asked, 5)
            except confluent_kafka.KafkaException:
                continue
            if any(p.error for p in now):
                continue
            self.answers += 1
            for n, p in enumerate(now):
                offset = max(p.offset, -1)
                if offset < self.committed[n]:
                    self.back.append((n, self.committed[n], offset))
                self.committed[n] = max(offset, self.committed[n])

    def end(self):
        self._end.set()
        self._thread.join(60)
        self.consumer.close()
        assert not self.back, self.back
        assert self.answers


class Produced:
    """Goes on writing numbers to the partitions of a topic until the end."""

    def __init__(self, bootstrap, topic, partitions):
        self.sent = [0] * partitions
        self.failed = []
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120000, "log_level": 0,
                                                   "topic.metadata.refresh.interval.ms": 500, "socket.timeout.ms": 4000})
        self._topic = topic
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        n = 0
        while not self._end.wait(0.02):
            partition = n % len(self.sent)
            self._producer.produce(self._topic, b"%d" % self.sent[partition], partition=partition, on_delivery=lambda error, _: error and self.failed.append(str(error)))
            self.sent[partition] += 1
            n += 1
            self._producer.poll(0)

    def end(self):
        self._end.set()
        self._thread.join(60)
        assert self._producer.flush(120) == 0 and not self.failed, self.failed[:3]


def killed(agent):
    agent.stop(signal.SIGKILL, status=None)
    return agent.start


def stopped(agent):
    agent.stop()
    return agent.start


def frozen(agent):
    agent.expect("controller: writing failed")      # it may be the controller, too, and wake up in the middle of a write
    agent.daemon.signal(signal.SIGSTOP)
    return lambda: agent.daemon.signal(signal.SIGCONT)


def read_by(member_):
    """[{offset: value} a partition]"""
    found = {}
    for event in list(member_.events):
        if "offset" in event:
            found.setdefault(event["partition"], set()).add(event["offset"])
    return found


def coordinator_goes(agents, look, members, put_topic, start, ways):
    """Members of groups, each of one library, read what is written while their coordinator goes in each of the ways, and comes back."""
    partitions = 3
    put_topic("t", [[1, 2, 3], [2, 3, 1], [3, 1, 2]])
    need_offsets_topic(agents, look, 1)
    bootstrap = ",".join(agent.bootstrap for agent in agents.values())
    produced = Produced(bootstrap, "t", partitions)
    groups = {}
    for library in start:
        groups[library] = start[library](bootstrap, f"group-{library}", "t")
        members.append(groups[library])
    watches = {library: Watch(bootstrap, f"group-{library}", "t", partitions) for library in groups}
    for one in groups.values():
        one.wait_owned(partitions)
    for way in ways:
        leader = state(look, OFFSETS)["leader"]
        before = {library: len(one.values()) for library, one in groups.items()}
        comes_back = way(agents[leader])
        try:
            wait_until(lambda: state(look, OFFSETS)["leader"] not in (leader, -1), 60, "another coordinator")
            committed = {library: list(watch.committed) for library, watch in watches.items()}
            for library, one in groups.items():
                wait_until(lambda: len(one.values()) > before[library] + 30 or one.process.poll() is not None, 150, f"{library} reads on after it was {way.__name__}")
                assert one.process.poll() is None, one.errors()
                wait_until(lambda: sum(watches[library].committed) > sum(committed[library]), 150, f"{library} commits on after it was {way.__name__}, from {committed[library]}")
        finally:
            comes_back()
        wait_until(lambda: all(sorted(state(look, topic, n)["isr"]) == [1, 2, 3] for topic, n in [(OFFSETS, 0)] + [("t", n) for n in range(partitions)]), 90, "all are in sync again")
    produced.end()
    for library, one in groups.items():
        wait_until(lambda: one.process.poll() is not None or all(len(read_by(one).get(n, ())) >= produced.sent[n] for n in range(partitions)), 90, f"{library} has read all")
        assert one.process.poll() is None, one.errors()
        assert all(read_by(one)[n] == set(range(produced.sent[n])) for n in range(partitions)), library
        assert not one.told("error"), (library, one.told("error"))
        assert not one.told("lost"), (library, one.told("lost"))
    wait_until(lambda: all(watch.committed == produced.sent for watch in watches.values()), 60, "all is committed")
    for watch in watches.values():
        watch.end()
    for one in groups.values():
        one.close()


# A broker that is frozen takes connections and answers nothing: how soon a client looks elsewhere is its own timeout.
PROPERTIES = {"session_timeout_ms": "30000"}
CONFLUENT = PROPERTIES | {"socket_timeout_ms": "4000"}
JAVA = PROPERTIES | {"request_timeout_ms": "4000", "default_api_timeout_ms": "60000"}
PYTHON = PROPERTIES | {"request_timeout_ms": "31000"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [killed, stopped, frozen])
def test_members_and_offsets_survive_their_coordinator(three, look, members, put_topic, way):
    agents = three("offsets.topic.num.partitions=1")
    coordinator_goes(agents, look, members, put_topic, {"confluent": lambda *where: Member.python("confluent", *where, **CONFLUENT)}, [way])
    # what an old coordinator had written, and nobody fetched, is in no log
    wait_until(lambda: len({log_of(agent) for agent in agents.values()}) == 1, 30, "all replicas have the same")


def log_of(agent):
    return b"".join(path.read_bytes() for path in sorted((agent.data / f"{OFFSETS}-0").glob("*.log")))


def is_compacted(agent):
    done = agent.data / "cleaner-offset-checkpoint"
    return done.exists() and any(line.startswith(f"{OFFSETS} 0 ") for line in done.read_text().splitlines())


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_members_of_every_client_survive_their_coordinators(three, look, members, put_topic, java):
    """Every replica compacts its log meanwhile, and each coordinator begins with what that has left."""
    agents = three("offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=16384", "log.cleaner.backoff.ms=300")
    client = java()
    start = {
        "confluent": lambda *where: Member.python("confluent", *where, **CONFLUENT),
        "kafka-python": lambda *where: Member.python("kafka-python", *where, **PYTHON),
        "java": lambda *where: Member.java(client, *where, **JAVA),
    }
    coordinator_goes(agents, look, members, put_topic, start, [killed, stopped, frozen, killed])
    wait_until(lambda: all(is_compacted(agent) for agent in agents.values()), 60, "every replica is compacted")


# ---- the mirror in ZooKeeper ----


def tree(look, path):
    """{path: text} of all below."""
    answer = look.talk("children", path=path)
    if answer["code"] != "ok":
        return {}
    found = {}
    for name in answer.get("children", []):
        below = f"{path}/{name}"
        node = look.talk("get", path=below)
        if node["code"] == "ok":
            found |= {below: node.get("data") or ""} | tree(look, below)
    return found


def owner(look, path):
    return look.talk("get", path=path)["stat"]["owner"]


def commit(agents, group, topic, offsets):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": ",".join(agent.bootstrap for agent in agents), "group.id": group, "enable.auto.commit": False, "log_level": 0})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, n, offset) for n, offset in offsets.items()], asynchronous=False)
    consumer.close()


def test_groups_are_mirrored_in_zookeeper(three, look, members, put_topic):
    agents = three("offsets.topic.num.partitions=1")
    put_topic("t", [[1, 2, 3], [2, 3, 1]])
    need_offsets_topic(agents, look, 1)
    bootstrap = ",".join(agent.bootstrap for agent in agents.values())
    commit(agents.values(), "g", "t", {0: 0, 1: 0})
    offsets = "/consumers/g/offsets/t"
    wait_until(lambda: {path: text for path, text in tree(look, "/consumers/g").items() if path.startswith(offsets + "/")} == {f"{offsets}/0": "0", f"{offsets}/1": "0"}, what="the offsets")

    def join():
        members.append(Member.python("confluent", bootstrap, "g", "t", **CONFLUENT))
        return members[-1]

    def ids():
        return {path.rsplit("/", 1)[1]: json.loads(text) for path, text in tree(look, "/consumers/g/ids").items()}

    def owners():
        return {path.rsplit("/", 1)[1]: text for path, text in tree(look, "/consumers/g/owners/t").items()}

    def owned_by(count):
        """By so many members, each registered."""
        return len(ids()) == count and set(owners()) == {"0", "1"} and set(owners().values()) == set(ids())
    one, two = join(), join()
    one.wait_owned(1), two.wait_owned(1)
    wait_until(lambda: owned_by(2), what="two members")
    assert all((node["version"], node["subscription"], node["pattern"]) == (1, {"t": 1}, "static") and int(node["timestamp"]) > 1500000000000 for node in ids().values())
    leader = state(look, OFFSETS)["leader"]
    session = owner(look, f"/brokers/ids/{leader}")
    nodes = [path for path in tree(look, "/consumers/g") if "/ids/" in path or path.endswith(("t/0", "t/1"))]
    assert {path: owner(look, path) for path in nodes} == {path: 0 if "/offsets/" in path else session for path in nodes}
    # the next coordinator makes them its own, while those of the one before are still there
    agents[leader].daemon.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: state(look, OFFSETS)["leader"] not in (leader, -1), 60, "another coordinator")
        now = owner(look, f"/brokers/ids/{state(look, OFFSETS)['leader']}")
        wait_until(lambda: owned_by(2) and all(owner(look, f"/consumers/g/ids/{name}") == now for name in ids()), 60, "they are the new coordinator's")
    finally:
        agents[leader].daemon.signal(signal.SIGCONT)
    wait_until(lambda: state(look, OFFSETS)["isr"] and len(state(look, OFFSETS)["isr"]) == 3, 60, "it is back")
    # members go
    two.close()
    wait_until(lambda: owned_by(1), 60, "one member has both")
    one.close()
    wait_until(lambda: not ids() and not owners(), 60, "nobody is left")
    commit(agents.values(), "g", "t", {0: 7})
    wait_until(lambda: tree(look, offsets) == {f"{offsets}/0": "7", f"{offsets}/1": "0"}, what="the newest offset")
    # offsets, and the group, are deleted
    coordinator = agents[state(look, OFFSETS)["leader"]]
    with Ask(coordinator.bootstrap) as ask:
        assert ask("OffsetDelete", group_id="g", topics=[{"name": "t", "partitions": [{"partition_index": 1}]}])["error_code"] == 0
        wait_until(lambda: tree(look, offsets) == {f"{offsets}/0": "7"}, what="one offset less")
        assert ask("DeleteGroups", groups_names=["g"])["results"][0]["error_code"] == 0
    wait_until(lambda: look.talk("children", path="/consumers").get("children", []) == [], what="the group is gone")


def test_the_mirror_begins_anew_with_a_session_and_can_be_left_out(member, look, put_topic):
    one = member(1, *QUICK, "offsets.topic.num.partitions=1", "offsets.topic.replication.factor=1")
    put_topic("t", [[1]])
    need_offsets_topic({1: one}, look, 1)
    with Ask(one.bootstrap) as ask:
        def join(name=""):
            return ask("JoinGroup", 5, group_id="g", session_timeout_ms=1800000, rebalance_timeout_ms=1000, member_id=name, group_instance_id=None, protocol_type="consumer",
                       protocols=[{"name": "range", "metadata": ""}])
        joined = join(join()["member_id"])
        assert joined["error_code"] == 0
        assert ask("SyncGroup", 3, group_id="g", generation_id=1, member_id=joined["member_id"], group_instance_id=None, assignments=[])["error_code"] == 0
        ids = lambda: look.talk("children", path="/consumers/g/ids").get("children")
        wait_until(ids, what="the member")
        before = owner(look, f"/consumers/g/ids/{ids()[0]}")
        one.daemon.signal(signal.SIGSTOP)
        wait_until(lambda: look("/brokers/ids/1") is None, 60, "its session has ended")
        assert not ids()
        one.daemon.signal(signal.SIGCONT)
        wait_until(lambda: ids() and owner(look, f"/consumers/g/ids/{ids()[0]}") not in (0, before), 60, "it is there in the next session")
    one.options.append("zookeeper.consumers.mirror=false")
    one.restart()
    commit([one], "quiet", "t", {0: 5})
    time.sleep(2.5)     # two turns of the mirror
    assert "quiet" not in look.talk("children", path="/consumers").get("children", [])


def committed(agents, group, topic, partition=0):
    """What any broker's clients find: -1 where there is nothing."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": ",".join(agent.bootstrap for agent in agents), "group.id": group, "log_level": 0})
    try:
        found = consumer.committed([confluent_kafka.TopicPartition(topic, partition)], 30)[0]
        assert not found.error
        return max(found.offset, -1)
    finally:
        consumer.close()


def test_the_topic_of_offsets_is_deleted_and_made_anew(three, look, put_topic):
    """Its leader epochs begin again with 0, below those that the coordinators have known."""
    agents = three("offsets.topic.num.partitions=1", "offsets.topic.replication.factor=3")
    put_topic("t", [[1, 2, 3]])
    need_offsets_topic(agents, look, 1)
    for _ in range(2):
        leader = state(look, OFFSETS)["leader"]
        agents[leader].restart()
        wait_until(lambda: sorted(state(look, OFFSETS)["isr"]) == [1, 2, 3] and state(look, OFFSETS)["leader"] != leader, 60, "all are in sync again")
    assert state(look, OFFSETS)["leader_epoch"] >= 2
    commit(agents.values(), "g", "t", {0: 5})
    assert committed(agents.values(), "g", "t") == 5
    first = look(f"/brokers/topics/{OFFSETS}")["topic_id"]
    with Ask(agents[controller(look)].bootstrap) as ask:
        assert ask("DeleteTopics", topics=[{"name": OFFSETS}], timeout_ms=30000)["responses"][0]["error_code"] == 0
    wait_until(lambda: (look(f"/brokers/topics/{OFFSETS}") or {"topic_id": first})["topic_id"] != first or find(agents[1], "g")[0][0] == NOT_AVAILABLE, 60, "it is gone")
    need_offsets_topic(agents, look, 1)
    assert look(f"/brokers/topics/{OFFSETS}")["topic_id"] != first
    assert committed(agents.values(), "g", "t") == -1
    commit(agents.values(), "g", "t", {0: 6})
    assert committed(agents.values(), "g", "t") == 6
