"""Consumer groups of a cluster: who coordinates them, and what is left of them when that broker goes."""

import json
import signal
import threading
import time

import confluent_kafka
import pytest

from lib.ask import Ask
from lib.clients import Member
from lib.mounting import wait_until
from test_join import chroot, controller, look, make_topic, member, state       # noqa: F401: fixtures

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
    agent.daemon.signal(signal.SIGSTOP)
    return lambda: agent.daemon.signal(signal.SIGCONT)


def read_by(member_):
    """[{offset: value} a partition]"""
    found = {}
    for event in list(member_.events):
        if "offset" in event:
            found.setdefault(event["partition"], set()).add(event["offset"])
    return found


def coordinator_goes(agents, look, members, make_topic, start, ways):
    """Members of groups, each of one library, read what is written while their coordinator goes in each of the ways, and comes back."""
    partitions = 3
    make_topic("t", [1, 2, 3], [2, 3, 1], [3, 1, 2])
    need_offsets_topic(agents, look, 1)
    bootstrap = ",".join(agent.bootstrap for agent in agents.values())
    produced = Produced(bootstrap, "t", partitions)
    groups = {}
    for library in start:
        groups[library] = start[library](bootstrap, f"group-{library}", "t")
        members.append(groups[library])
    watches = [Watch(bootstrap, f"group-{library}", "t", partitions) for library in groups]
    for one in groups.values():
        one.wait_owned(partitions)
    for way in ways:
        leader = state(look, OFFSETS)["leader"]
        before = {library: len(one.values()) for library, one in groups.items()}
        comes_back = way(agents[leader])
        wait_until(lambda: state(look, OFFSETS)["leader"] not in (leader, -1), 60, "another coordinator")
        for library, one in groups.items():
            committed = [list(watch.committed) for watch in watches]
            wait_until(lambda: len(one.values()) > before[library] + 30 or one.process.poll() is not None, 90, f"{library} reads on after {way.__name__}")
            assert one.process.poll() is None, one.errors()
        wait_until(lambda: all(sum(watch.committed) > sum(were) for watch, were in zip(watches, committed)), 90, f"all commit on after {way.__name__}")
        comes_back()
        wait_until(lambda: all(sorted(state(look, topic, n)["isr"]) == [1, 2, 3] for topic, n in [(OFFSETS, 0)] + [("t", n) for n in range(partitions)]), 90, "all are in sync again")
    produced.end()
    for library, one in groups.items():
        wait_until(lambda: one.process.poll() is not None or all(len(read_by(one).get(n, ())) >= produced.sent[n] for n in range(partitions)), 90, f"{library} has read all")
        assert one.process.poll() is None, one.errors()
        assert all(read_by(one)[n] == set(range(produced.sent[n])) for n in range(partitions)), library
        assert not one.told("error"), (library, one.told("error"))
        assert not one.told("lost"), (library, one.told("lost"))
    wait_until(lambda: all(watch.committed == produced.sent for watch in watches), 60, "all is committed")
    for watch in watches:
        watch.end()
    for one in groups.values():
        one.close()


PROPERTIES = {"session_timeout_ms": "20000"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [killed, stopped, frozen])
def test_members_and_offsets_survive_their_coordinator(three, look, members, make_topic, way):
    agents = three("offsets.topic.num.partitions=1")
    coordinator_goes(agents, look, members, make_topic, {"confluent": lambda *where: Member.python("confluent", *where, **PROPERTIES)}, [way])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_members_of_every_client_survive_their_coordinators(three, look, members, make_topic, java):
    agents = three("offsets.topic.num.partitions=1")
    client = java()
    start = {
        "confluent": lambda *where: Member.python("confluent", *where, **PROPERTIES),
        "kafka-python": lambda *where: Member.python("kafka-python", *where, **PROPERTIES),
        "java": lambda *where: Member.java(client, *where, **PROPERTIES),
    }
    coordinator_goes(agents, look, members, make_topic, start, [killed, stopped, frozen, killed])
