"""Brokers of one cluster on this machine, agents and mounts, and ZooKeeper as another client of it sees it.

    one = member(1)                              an Agent, registered
    two = mounted(2)                             a Mount that is broker 2, with .bootstrap
    topic_id = put_topic("t", [[1, 2], [2]], {"retention.ms": "5000"})       as the controller finds it in ZooKeeper
    look("/brokers/topics/t")                    a node's JSON; None: it is not there
    look.talk("set", path=..., data=..., version=-1)
"""

import base64
import json
import uuid

import pytest

from lib import kafka
from lib.mounting import wait_until

OPTIONS = ("zookeeper.session.timeout.ms=4000", "controlled.shutdown.retry.backoff.ms=100")


@pytest.fixture
def chroot(shared_zookeeper):
    return f"{shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def look(talks, chroot):
    talk = talks(chroot)

    def get(path):
        answer = talk("get", path=path)
        return json.loads(answer["data"]) if answer["code"] == "ok" else None
    get.talk = talk
    return get


@pytest.fixture
def member(agents, chroot):
    def make(number, *options, start=True, **how):
        agent = agents(f"broker.id={number}", f"zookeeper.connect={chroot}", *OPTIONS, *options, start=False, **how)
        agent.id = number
        agent.expect("no controller could be asked")       # when all of them stop
        return agent.start() if start else agent
    return make


@pytest.fixture
def mounted(mounts, chroot):
    def make(number, *options, **how):
        port = kafka.free_ports(1)[0]
        made = mounts(f"listeners=PLAINTEXT://127.0.0.1:{port}", f"broker.id={number}", f"zookeeper.connect={chroot}", *OPTIONS, *options, **how)
        made.bootstrap = f"127.0.0.1:{port}"
        made.id, made.port = number, port
        made.expect("no controller could be asked")
        return made
    return make


def state(look, topic, partition=0):
    return look(f"/brokers/topics/{topic}/partitions/{partition}/state")


def controller(look):
    return (look("/controller") or {"brokerid": None})["brokerid"]


@pytest.fixture
def put_topic(look):
    def put(name, replicas, config=None):
        topic_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if config:
            assert look.talk("create", path=f"/config/topics/{name}", data=json.dumps({"version": 1, "config": config}))["code"] == "ok"
        node = {"version": 3, "topic_id": topic_id, "partitions": {str(n): ids for n, ids in enumerate(replicas)}, "adding_replicas": {}, "removing_replicas": {}}
        assert look.talk("create", path=f"/brokers/topics/{name}", data=json.dumps(node))["code"] == "ok"
        for n in range(len(replicas)):
            wait_until(lambda n=n: state(look, name, n), what="a state")
        return topic_id
    return put
