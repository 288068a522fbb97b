"""What is asked of Apache Kafka and of us about topics and properties, one request after the other, and must be answered alike: error codes, sentences, sources, synonyms.

    answers(ask)        asks all of it: [(case, answer without what cannot be alike)]

Broker 1, with nothing but Kafka's defaults set. Left out is what we have chosen to have otherwise: fewer properties; no empty cleanup.policy; a least segment.bytes and
message.max.bytes of our own; values kept in their plainest form ("TRUE" is "true"), and "" the same as nothing; no properties of the broker that only somebody else may know; and where Kafka answers by accident (a -1, or nothing at all).
"""

import json
import time

TOPIC, BROKER, LOGGER = 2, 4, 8
SET, DELETE, APPEND, SUBTRACT = range(4)
ME = "1"

COMMON = """cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms
    follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms
    message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio min.compaction.lag.ms retention.bytes retention.ms segment.bytes segment.index.bytes segment.ms
    unclean.leader.election.enable log.retention.ms log.retention.minutes log.retention.hours log.retention.bytes message.max.bytes num.partitions log.segment.bytes log.roll.ms
    log.roll.hours log.flush.interval.ms log.cleanup.policy log.index.interval.bytes producer.id.expiration.ms auto.create.topics.enable delete.topic.enable fetch.max.bytes
    log.message.timestamp.type connections.max.idle.ms queued.max.request.bytes""".split()
CHANGES = {"CreateTopics", "DeleteTopics", "CreatePartitions", "AlterConfigs", "IncrementalAlterConfigs"}


def topic(name, partitions=-1, replicas=-1, assignments=(), **configs):
    return {"name": name, "num_partitions": partitions, "replication_factor": replicas,
            "assignments": [{"partition_index": i, "broker_ids": ids} for i, ids in assignments],
            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]}


def creation():
    def create(*topics, version=7, timeout_ms=30000, **more):
        return "CreateTopics", version, {"topics": list(topics), "timeout_ms": timeout_ms} | more
    long = "x" * 250
    yield create(topic("t"))
    yield create(topic("t"))
    yield create(topic("t", 0, 5, no_such="y"))
    yield create(topic("t"), validate_only=True)
    yield create(topic("u", 3, 1), validate_only=True)
    yield create(topic("u", 3, 1))
    for version in range(2, 7):
        yield create(topic(f"v{version}", 2, 1, retention_ms="1000"), version=version)
        yield create(topic(f"v{version}"), version=version)
    yield create(topic("n4"), version=4)
    yield create(topic("n3"), version=3)
    yield create(topic("n2"), version=2)
    for partitions, replicas in ((0, 1), (-2, 1), (1, 0), (1, -2), (1, 2), (0, 2), (0, 0), (2, 32767)):
        yield create(topic("no", partitions, replicas))
    for assignments in ([(0, [1]), (2, [1])], [(1, [1])], [(0, [77])], [(0, [1, 1])], [(0, [])], [(0, [-1])], [(0, [1]), (0, [1])], [(0, [1]), (1, [1, 77])], [(-1, [1])],
                        [(0, [77, 1, 1])]):
        yield create(topic("no", -1, -1, assignments))
    yield create(topic("no", 2, -1, [(0, [1]), (1, [1])]))
    yield create(topic("no", -1, 1, [(0, [1]), (1, [1])]))
    yield create(topic("no", 2, 1, [(0, [1]), (1, [1])]))
    yield create(topic("a", -1, -1, [(1, [1]), (0, [1])]))
    for configs in ({"no_such": "1"}, {"retention_ms": "abc"}, {"retention_ms": "-2"}, {"retention_ms": None}, {"retention_ms": ""}, {"retention_ms": "1.5"},
                    {"retention_ms": "9223372036854775808"}, {"segment_bytes": "2147483648"}, {"cleanup_policy": "foo"}, {"cleanup_policy": "delete,foo"},
                    {"unclean_leader_election_enable": "maybe"}, {"retention_ms": "x", "no_such": None}, {"retention_ms": None, "segment_ms": None}, {"min_cleanable_dirty_ratio": "x"}, {"message_timestamp_type": "x"}):
        yield create(topic("no", 1, 1, **configs))
    yield create(topic("c1", 1, 1, retention_ms="60000", cleanup_policy="delete,compact", unclean_leader_election_enable="true"))
    yield create(topic("c2", 1, 1, leader_replication_throttled_replicas="*", min_cleanable_dirty_ratio="0.25"))
    yield create(topic("c3", 1, 1, leader_replication_throttled_replicas="0:1,1:2", follower_replication_throttled_replicas="1:1"))
    for name in (".", "..", "", "a/b", "ä", long, "x y"):
        yield create(topic(name))
    yield create(topic("y" * 249))
    yield create(topic("dot.ted_"))
    yield create(topic("dot_ted_"))
    yield create(topic("dot_ted.", 0, 5, foo="bar"), topic("dot.ted"), validate_only=True)
    yield create(topic("twice"), topic("twice"))
    yield create(topic("twice", 1, 1), topic("once", 1, 1), topic("twice", 2, 1))
    yield create(topic("__cluster_metadata", 1, 1))
    yield create(topic("__transaction_state", 1, 1))
    yield create(topic("many", 10001, 1), validate_only=True)
    yield create(topic("many", 5001, 1), topic("more", 5000, 1), validate_only=True)
    yield create(topic("p1", 10, 1), topic("p2", 0, 1), topic("a/b"))
    yield create()
    yield create(topic("late", 1, 1), timeout_ms=0)
    yield create(topic("late", 1, 1), topic("later", 1, 1), timeout_ms=-1)
    yield "Metadata", 12, {"topics": None}


def growth():
    def grow(*topics, version=3, timeout_ms=30000, **more):
        return "CreatePartitions", version, {"topics": [{"name": name, "count": count, "assignments": None if ids is None else [{"broker_ids": i} for i in ids]}
                                                        for name, count, ids in topics], "timeout_ms": timeout_ms} | more
    yield grow(("t", 3, None))
    for version in range(3):
        yield grow(("t", 4 + version, None), version=version)
        yield grow(("nosuch", 4 + version, None), version=version)
    for count in (6, 1, 0, -1):
        yield grow(("t", count, None))
    yield grow(("t", 9, None), validate_only=True)
    yield grow(("t", 6, None), ("nosuch", 5, None), ("u", 4, None))
    yield grow(("t", 9, None), ("t", 10, None))
    yield grow(("t", 7, [[1]]))
    for ids in ([[1], [1]], [[77]], [[1, 77]], [[1, 1]], [[]], []):
        yield grow(("t", 8, ids))
    yield grow(("t", 9, [[1]]))
    for name in ("", "a/b", "nosuch"):
        yield grow((name, 5, None))
    yield grow(("t", 9, None), timeout_ms=0)
    yield grow()
    yield "Metadata", 12, {"topics": [{"name": "t"}, {"name": "u"}]}


def records():
    def delete(*topics, version=2):
        return "DeleteRecords", version, {"topics": [{"name": name, "partitions": [{"partition_index": p, "offset": o} for p, o in places]} for name, places in topics],
                                          "timeout_ms": 30000}
    for version in range(3):
        yield delete(("nosuch", [(0, 0)]), version=version)
        yield delete(("t", [(0, 0), (1, -1), (77, 0)]), version=version)
    yield delete(("t", [(0, 5), (1, -2), (2, -1)]))
    yield delete(("__transaction_state", [(0, 0)]))
    yield delete(("c4", [(0, -1)]))
    yield delete()


def description():
    def describe(*resources, version=4, **more):
        return "DescribeConfigs", version, {"resources": [{"resource_type": kind, "resource_name": name, "configuration_keys": keys} for kind, name, keys in resources]} | more
    for version in range(1, 5):
        yield describe((TOPIC, "c1", None), version=version, include_synonyms=True)
    yield describe((TOPIC, "t", None), include_synonyms=True)
    yield describe((TOPIC, "c1", []))
    yield describe((TOPIC, "c1", ["retention.ms", "foo", "retention.ms"]))
    for name in ("nosuch", "a/b", ""):
        yield describe((TOPIC, name, None))
    yield describe((TOPIC, "c1", ["retention.ms"]), (TOPIC, "nosuch", None), (TOPIC, "c1", ["segment.ms"]))
    yield describe((BROKER, ME, ["log.retention.ms", "log.retention.minutes", "log.retention.hours", "message.max.bytes", "num.partitions", "log.segment.bytes", "log.roll.ms",
                                 "log.flush.interval.ms", "log.cleanup.policy", "producer.id.expiration.ms", "fetch.max.bytes", "connections.max.idle.ms", "foo",
                                 "queued.max.request.bytes", "auto.create.topics.enable", "delete.topic.enable"]), include_synonyms=True)
    for name in ("77", "x", "-1", "1x"):
        yield describe((BROKER, name, None))
        yield describe((LOGGER, name, None))
    yield describe()


def change():
    def alter(*resources, version=1, **more):
        return "IncrementalAlterConfigs", version, {"resources": [
            {"resource_type": kind, "resource_name": name, "configs": [{"name": key, "config_operation": how, "value": value} for key, how, value in configs]}
            for kind, name, configs in resources]} | more

    def seen(*keys, name="c4", kind=TOPIC):
        return "DescribeConfigs", 4, {"resources": [{"resource_type": kind, "resource_name": name, "configuration_keys": list(keys)}], "include_synonyms": True}

    def set_(*configs, **more):
        return alter((TOPIC, "c4", configs), **more)
    both = ("retention.ms", "cleanup.policy")
    yield "CreateTopics", 7, {"topics": [topic("c4", 1, 1)], "timeout_ms": 30000}
    yield set_(("retention.ms", SET, "1000"), version=0)
    yield seen(*both)
    yield set_(("cleanup.policy", APPEND, "compact"))
    yield seen(*both)
    yield set_(("cleanup.policy", APPEND, "compact"))
    yield seen(*both)
    yield set_(("cleanup.policy", SUBTRACT, "delete"))
    yield seen(*both)
    yield "DeleteRecords", 2, {"topics": [{"name": "c4", "partitions": [{"partition_index": 0, "offset": -1}]}], "timeout_ms": 30000}
    yield set_(("cleanup.policy", SUBTRACT, "delete"))
    for configs in ([("retention.ms", APPEND, "1")], [("retention.ms", SUBTRACT, "1")], [("foo", APPEND, "1")], [("cleanup.policy", APPEND, None)], [("retention.ms", SET, None)],
                    [("retention.ms", SET, "")], [("retention.ms", SET, "x")], [("foo", SET, "x")], [("foo", DELETE, None)], [("cleanup.policy", APPEND, "foo")],
                    [("retention.ms", SET, "1"), ("retention.ms", SET, "2")], [("retention.ms", DELETE, None), ("retention.ms", SET, "2")], [], [("retention.ms", SET, "7777"), ("foo", SET, "1")],
                    [("retention.ms", SET, None), ("segment.ms", SET, None)]):
        yield set_(*configs)
    yield seen(*both)
    yield set_(("retention.ms", DELETE, None))
    yield set_(("retention.ms", DELETE, "5"))
    yield seen(*both)
    yield set_(("retention.ms", SET, "7777"), validate_only=True)
    yield set_(("retention.ms", SET, "-7"), validate_only=True)
    yield seen(*both)
    yield alter((TOPIC, "c4", [("retention.ms", SET, "1")]), (TOPIC, "c4", [("retention.ms", SET, "2")]))
    yield alter((TOPIC, "c4", [("retention.ms", SET, "1")]), (TOPIC, "nosuch", [("retention.ms", SET, "1")]), (TOPIC, "a/b", [("retention.ms", SET, "1")]), (TOPIC, "", []))
    yield seen(*both)
    # the broker's
    dynamic = ("log.retention.ms", "message.max.bytes", "log.cleanup.policy")
    yield alter((BROKER, "", [("log.retention.ms", SET, "200000"), ("message.max.bytes", SET, "2000000")]))
    yield alter((BROKER, ME, [("log.retention.ms", SET, "100000")]))
    yield seen(*dynamic, name=ME, kind=BROKER)
    yield seen(*dynamic, name="", kind=BROKER)
    yield seen("retention.ms", "max.message.bytes", name="t")
    yield "CreateTopics", 7, {"topics": [topic("c5", 1, 1)], "timeout_ms": 30000}
    for configs in ([("num.partitions", SET, "7")], [("log.retention.hours", SET, "7")], [("num.partitions", DELETE, None)], [("foo", DELETE, None)], [("log.retention.ms", SET, "x")],
                    [("log.retention.ms", SET, None)], [("log.retention.ms", APPEND, "1")], [("log.retention.ms", SUBTRACT, "1")], [("log.cleanup.policy", APPEND, "compact")], [("log.cleanup.policy", DELETE, None)], [("log.cleanup.policy", SET, "foo")]):
        yield alter((BROKER, ME, configs))
    yield alter((BROKER, "", [("num.partitions", SET, "7")]))
    yield alter((BROKER, ME, [("log.retention.ms", SET, "7")]), validate_only=True)
    yield alter((BROKER, "77", [("log.retention.ms", SET, "7")]), (BROKER, "x", [("log.retention.ms", SET, "7")]))
    yield alter((LOGGER, "77", [("foo", SET, "INFO")]), (LOGGER, ME, [("foo", SET, "INFO")]), (LOGGER, "x", [("foo", SET, "INFO")]))
    yield alter((1, "x", [("foo", SET, "7")]), (77, "x", [("foo", SET, "7")]))
    yield alter((BROKER, ME, [("log.retention.ms", DELETE, None)]))
    yield seen(*dynamic, name=ME, kind=BROKER)
    yield seen("retention.ms", name="t")
    yield alter((BROKER, "", [("log.retention.ms", DELETE, None), ("message.max.bytes", DELETE, None)]))
    yield seen("retention.ms", "max.message.bytes", name="t")

    def replace(*resources, version=2, **more):
        return "AlterConfigs", version, {"resources": [{"resource_type": kind, "resource_name": name, "configs": [{"name": key, "value": value} for key, value in configs]}
                                                       for kind, name, configs in resources]} | more
    for version in range(3):
        yield replace((TOPIC, "c4", [("retention.ms", str(4000 + version)), ("segment.bytes", "2000000")]), version=version)
    yield replace((TOPIC, "c4", [("retention.ms", "5000")]))
    yield seen("retention.ms", "segment.bytes", "cleanup.policy")
    yield replace((TOPIC, "c4", [("retention.ms", "6000")]), validate_only=True)
    for configs in ([("retention.ms", None)], [("foo", "x")], [("retention.ms", "x")], [("retention.ms", "1"), ("retention.ms", "2")]):
        yield replace((TOPIC, "c4", configs))
    yield replace((TOPIC, "nosuch", [("retention.ms", "1")]))
    yield replace((1, "nosuch", [("retention.ms", "1")]))
    yield replace((BROKER, ME, [("log.retention.ms", "1000000")]))
    yield seen(*dynamic, name=ME, kind=BROKER)
    yield replace((BROKER, ME, []))
    yield seen(*dynamic, name=ME, kind=BROKER)
    yield replace((BROKER, ME, [("num.partitions", "7")]))
    yield replace((BROKER, "77", [("log.retention.ms", "7")]))
    yield replace((LOGGER, ME, [("foo", "INFO")]))
    yield replace((TOPIC, "c4", []))
    yield seen("retention.ms", "segment.bytes", "cleanup.policy")


def directories():
    for topics in ([{"topic": "t", "partitions": [0, 5, 77]}, {"topic": "nosuch", "partitions": [0]}], [{"topic": "t", "partitions": []}], []):
        for version in range(1, 5):
            yield "DescribeLogDirs", version, {"topics": topics}


def deletion(ids):
    def delete(*topics, timeout_ms=30000):
        return "DeleteTopics", 6, {"topics": [{"name": name, "topic_id": ids.get(of, of)} for name, of in topics], "timeout_ms": timeout_ms}
    unknown = "AAAAAAAAAAAAAAAAAAAAAQ"
    for version in range(1, 6):
        yield "DeleteTopics", version, {"topic_names": ["nosuch", f"v{version + 1}"], "timeout_ms": 30000}
    yield "DeleteTopics", 5, {"topic_names": ["c1", "nosuch", "c1"], "timeout_ms": 30000}
    yield delete(("c1", None), ("nosuch", None), ("c1", None))
    yield delete((None, "c1"), (None, unknown))
    yield delete(("c2", "c2"))
    yield delete((None, None))
    yield delete(("c2", None), (None, "c2"))
    yield delete((None, unknown), (None, unknown))
    yield delete((None, "c2"), (None, "c2"))
    yield delete(("a/b", None), ("", None))
    yield delete(("c2", None), timeout_ms=0)
    yield delete(("c2", None), ("c3", None))
    yield delete(("__transaction_state", None))
    yield delete()
    yield "Metadata", 12, {"topics": None}


def alike(value, key=None):
    """Without what no two brokers have in common, and in an order."""
    if isinstance(value, dict):
        return {k: alike(v, k) for k, v in value.items() if k not in ("documentation", "brokers", "cluster_id", "controller_id", "total_bytes", "usable_bytes", "log_dir",
                                                                      "leader_epoch", "topic_authorized_operations", "cluster_authorized_operations")}
    if isinstance(value, list):
        items = [alike(v) for v in value if key != "configs" or v["name"] in COMMON]
        return items if key == "synonyms" else sorted(items, key=lambda v: json.dumps(v))
    return "ID" if key == "topic_id" and value else value


def answers(ask, settle_s=0.0):
    """settle_s: how long a broker may take until what it has changed is seen everywhere."""
    def run(cases):
        for api, version, request in cases:
            answer = ask(api, version, **request)
            if api in CHANGES:
                time.sleep(settle_s)
            yield {"api": api, "version": version, "request": request}, alike(answer)
    for cases in (creation, growth, change, records, description, directories):
        yield from run(cases())
    ids = {t["name"]: t["topic_id"] for t in ask("Metadata", 12, topics=None)["topics"]}
    for case, answer in run(deletion(ids)):
        for t in case["request"].get("topics") or []:
            if t.get("topic_id") in ids.values():
                t["topic_id"] = "ID"
        yield case, answer
