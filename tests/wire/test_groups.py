"""Consumer groups: members come, go and are killed; what was committed is found again; `spoolfs group`, and Kafka's view of the same."""

import json
import subprocess

import pytest

from lib import clients, kafka
from lib.clients import Member
from lib.mounting import wait_until
from lib.serving import make_topic

PARTITIONS = 6
QUICK = "group.min.session.timeout.ms=100"


def produce(server, topic, first, count, partitions=PARTITIONS):
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 5})
    for n in range(first, first + count):
        producer.produce(topic, b"%d" % n, partition=n % partitions)
    assert producer.flush(60) == 0


def values(members):
    return [int(value) for member in members for value in member.values()]


def wait_shared(members, count=PARTITIONS, seconds=90):
    """Until every partition has exactly one owner, and every member has its share."""
    def shared():
        for member in members:
            assert member.process.poll() is None, member.errors()
        owned = [p for member in members for p in member.owned]
        return sorted(owned) == list(range(count)) and max(len(m.owned) for m in members) - min(len(m.owned) for m in members) <= 1
    wait_until(shared, seconds, f"{count} partitions shared: {[m.owned for m in members]}")


def wait_read(members, expected, seconds=90):
    wait_until(lambda: set(values(members)) >= set(expected), seconds, "every message is read")


def group(server, *words, status=0):
    done = subprocess.run([server.program, "group", *map(str, words), "-b", server.bootstrap], capture_output=True, text=True, timeout=60,
                          env=server.environment())
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def group_json(server, *words):
    return json.loads(group(server, *words, "--json").stdout)


@pytest.mark.parametrize("library", ["confluent", "kafka-python"])
def test_members_come_go_and_are_killed(serve, members, library):
    """Everything is read; twice only what a killed member had not committed."""
    server = serve(QUICK)
    make_topic(server, "t", PARTITIONS)

    def join():
        members.append(Member.python(library, server.bootstrap, "g", "t", session_timeout_ms=2000))
        return members[-1]
    first = join()
    first.wait_owned(PARTITIONS)
    produce(server, "t", 0, 60)
    wait_read(members, range(60))
    second, third = join(), join()
    wait_shared([first, second, third])
    produce(server, "t", 60, 60)
    wait_read(members, range(120))
    second.close()
    wait_shared([first, third])
    third.kill()
    first.wait_owned(PARTITIONS)
    produce(server, "t", 120, 60)
    wait_read(members, range(180))
    first.close()
    read = values(members)
    assert set(read) == set(range(180))
    assert len(read) - 180 <= 60, "at most what the killed one had not committed, in any case not everything"


@pytest.mark.long
def test_members_written_in_three_languages_share_a_group(serve, members, java):
    server = serve(QUICK)
    make_topic(server, "t", PARTITIONS)
    members += [Member.java(java(), server.bootstrap, "g", "t", session_timeout_ms=6000, heartbeat_interval_ms=300),
                Member.java(java("3.9"), server.bootstrap, "g", "t", session_timeout_ms=6000, heartbeat_interval_ms=300),
                Member.python("confluent", server.bootstrap, "g", "t")]
    wait_shared(members)
    produce(server, "t", 0, 300)
    wait_read(members, range(300))
    assert sorted(values(members)) == list(range(300))
    about = group_json(server, "describe", "g")[0]
    assert (about["state"], about["protocol"], len(about["members"])) == ("Stable", "range", 3)
    assert sorted(p["partition"] for m in about["members"] for p in m["partitions"]) == list(range(PARTITIONS))
    members[0].kill()
    wait_shared(members[1:])
    produce(server, "t", 300, 60)
    wait_read(members, range(360))


def test_one_that_does_nothing_is_out_when_its_session_is_over_and_learns_it(serve, members):
    server = serve(QUICK)
    make_topic(server, "t", PARTITIONS)
    members += [Member.python("confluent", server.bootstrap, "g", "t", session_timeout_ms=1000) for _ in range(2)]
    wait_shared(members)
    members[0].stop()
    members[1].wait_owned(PARTITIONS)
    members[0].go_on()
    wait_shared(members)


def test_static_members_come_back_without_a_rebalance_and_a_second_one_fences_the_first(serve, members):
    server = serve()
    make_topic(server, "t", PARTITIONS)

    def join(instance):
        members.append(Member.python("confluent", server.bootstrap, "g", "t", group_instance_id=instance, session_timeout_ms=30000))
        return members[-1]
    a, b = join("a"), join("b")
    wait_shared([a, b])
    before, seen = set(b.owned), len(a.events)
    b.kill()
    b = join("b")
    wait_until(lambda: b.owned == before, 60, "its partitions are its own again")
    assert len(a.events) == seen, "nobody else noticed"
    assert {m["instance"] for m in group_json(server, "describe", "g")[0]["members"]} == {"a", "b"}
    twin = join("b")
    wait_until(lambda: twin.owned == before, 60)
    wait_until(lambda: b.told("error"), 60)
    assert set(b.told("error")) <= {"_FATAL", "FENCED_INSTANCE_ID"}
    assert len(a.events) == seen


def test_cooperative_members_keep_what_they_have(serve, members):
    server = serve(QUICK)
    make_topic(server, "t", PARTITIONS)

    def join():
        members.append(Member.python("confluent", server.bootstrap, "g", "t", **{"partition.assignment.strategy": "cooperative-sticky"}))
        return members[-1]
    first = join()
    first.wait_owned(PARTITIONS)
    second = join()
    wait_shared([first, second])
    assert sum(len(p) for p in first.told("revoked")) == PARTITIONS // 2, "only what the other was given"
    third = join()
    wait_shared([first, second, third])
    assert all(len(p) <= 1 for p in first.told("revoked")[1:] + second.told("revoked"))
    second.close()
    wait_shared([first, third])
    assert group_json(server, "describe", "g")[0]["protocol"] == "cooperative-sticky"


@pytest.mark.parametrize("end", ["umount", "kill"])
def test_what_was_committed_is_found_after_a_restart(server, end):
    from confluent_kafka import Consumer, TopicPartition
    make_topic(server, "t", 3)
    produce(server, "t", 0, 30, 3)
    settings = {"bootstrap.servers": server.bootstrap, "group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.commit(offsets=[TopicPartition("t", p, p + 4, f"with ünicode {p}") for p in range(3)], asynchronous=False)
    consumer.close()
    getattr(server, end)()
    server.start()
    consumer = Consumer(settings)
    found = consumer.committed([TopicPartition("t", p) for p in range(3)], timeout=30)
    assert [(p.partition, p.offset, p.metadata) for p in found] == [(p, p + 4, f"with ünicode {p}") for p in range(3)]
    consumer.subscribe(["t"])
    read = {p: [] for p in range(3)}
    while sum(map(len, read.values())) < 30 - 4 - 5 - 6:
        message = consumer.poll(30)
        assert message and not message.error(), message and message.error()
        read[message.partition()].append(message.offset())
    assert read == {p: list(range(p + 4, 10)) for p in range(3)}
    consumer.close()


@pytest.mark.parametrize("end", ["umount", "kill"])
def test_members_go_on_after_a_restart_of_the_server(serve, members, end):
    """The group is loaded with its members: nobody has to join again, and nothing is lost."""
    server = serve(QUICK)
    make_topic(server, "t", PARTITIONS)
    members += [Member.python("confluent", server.bootstrap, "g", "t", session_timeout_ms=10000) for _ in range(2)]
    wait_shared(members)
    produce(server, "t", 0, 60)
    wait_read(members, range(60))
    getattr(server, end)()
    server.start()
    produce(server, "t", 60, 60)
    wait_read(members, range(120))
    wait_shared(members)
    about = group_json(server, "describe", "g")[0]
    assert about["state"] == "Stable" and len(about["members"]) == 2


def test_a_topic_that_is_deleted_takes_its_offsets_along(server):
    from confluent_kafka import Consumer, TopicPartition
    for name in ("gone", "stays"):
        make_topic(server, name)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g"})
    places = [TopicPartition("gone", 0, 0), TopicPartition("stays", 0, 0)]
    consumer.commit(offsets=places, asynchronous=False)
    (server.dir / "gone").rmdir()
    make_topic(server, "gone")
    assert [p.offset for p in consumer.committed(places, timeout=30)] == [-1001, 0]
    consumer.close()
    server.crash()
    assert [p["topic"] for p in group_json(server, "describe", "g")[0]["partitions"]] == ["stays"]


def test_spoolfs_group_list_and_describe(serve, members):
    server = serve(QUICK)
    make_topic(server, "t", 2)
    make_topic(server, "other")
    produce(server, "t", 0, 10, 2)
    assert group(server, "list").stdout.split() == ["GROUP", "STATE", "TYPE", "PROTOCOL", "TYPE"]
    assert group_json(server, "list") == []
    members.append(Member.python("confluent", server.bootstrap, "with member", "t", client_id="me"))
    members[0].wait_owned(2)
    wait_read(members, range(10))
    group(server, "reset-offsets", "simple", "--topic", "other", "--to-latest")
    wait_until(lambda: [p["lag"] for p in group_json(server, "describe", "with member")[0]["partitions"]] == [0, 0], 30)
    assert group_json(server, "list") == [
        {"group": "simple", "state": "Empty", "type": "classic", "protocol_type": ""},
        {"group": "with member", "state": "Stable", "type": "classic", "protocol_type": "consumer"}]
    assert [g["group"] for g in group_json(server, "list", "--state", "stable")] == ["with member"]
    assert [g["group"] for g in group_json(server, "list", "--state", "Empty", "--state", "Dead")] == ["simple"]
    about = group_json(server, "describe", "with member")[0]
    member = about["members"][0]
    assert (about["state"], about["protocol_type"], about["protocol"], about["coordinator"]) == ("Stable", "consumer", "range", 0)
    assert (member["client"], member["host"], member["instance"]) == ("me", "/127.0.0.1", None)
    assert member["partitions"] == [{"topic": "t", "partition": 0}, {"topic": "t", "partition": 1}]
    assert about["partitions"] == [{"topic": "t", "partition": p, "offset": 5, "end": 5, "lag": 0, "metadata": "", "member": member["member"]} for p in (0, 1)]
    text = group(server, "describe", "with member").stdout.splitlines()
    assert text[0] == f"group with member: Stable, classic, consumer, range, coordinator 0 at {server.bootstrap}"
    assert text[-1].split() == ["t", "1", "5", "5", "0", member["member"]]
    members[0].close()
    produce(server, "t", 10, 4, 2)
    assert [p["lag"] for p in group_json(server, "describe", "with member")[0]["partitions"]] == [2, 2]
    both = group(server, "describe", "simple", "not there", "with member", status=1)
    assert both.stdout.count("group ") == 2 and "group not there: there is no such group" in both.stderr


def test_spoolfs_group_reset_offsets(server):
    from confluent_kafka import Producer
    make_topic(server, "t", 2)
    make_topic(server, "u")
    producer = Producer({"bootstrap.servers": server.bootstrap})
    for n in range(20):
        producer.produce("t", b"x", partition=n % 2, timestamp=1_750_000_000_000 + 1000 * n)
        producer.produce("u", b"x", partition=0)
    assert producer.flush(30) == 0

    def reset(*words, topic="t"):
        return [(row["partition"], row["before"], row["offset"]) for row in group_json(server, "reset-offsets", "g", "--topic", topic, *words)]
    assert reset("--to-latest", "--dry-run") == [(0, None, 10), (1, None, 10)]
    assert group_json(server, "list") == []
    assert reset("--to-latest") == [(0, None, 10), (1, None, 10)]
    assert reset("--to-offset", 3) == [(0, 10, 3), (1, 10, 3)]
    assert reset("--shift-by", -1) == [(0, 3, 2), (1, 3, 2)]
    assert reset("--shift-by=100", topic="t:1") == [(1, 2, 10)]
    assert reset("--to-earliest") == [(0, 2, 0), (1, 10, 0)]
    assert reset("--to-datetime", "2025-06-15T15:06:46.500") == [(0, 0, 4), (1, 0, 3)]
    assert reset("--to-datetime", "2025-06-15T17:06:46.500+02:00", topic="t:0") == [(0, 4, 4)]
    assert reset("--to-datetime", "2100-01-01", topic="t:0") == [(0, 4, 10)]
    assert reset("--by-duration", "P1D", topic="u") == [(0, None, 0)]
    assert reset("--by-duration", "PT0S", topic="t:0,1") == [(0, 10, 10), (1, 3, 10)]
    assert [(p["topic"], p["partition"], p["offset"]) for p in group_json(server, "describe", "g")[0]["partitions"]] == [("t", 0, 10), ("t", 1, 10), ("u", 0, 0)]
    clamped = group(server, "reset-offsets", "g", "--topic", "t:0", "--to-offset", 99)
    assert "99 becomes 10" in clamped.stderr and clamped.stdout.splitlines()[-1].split() == ["t", "0", "10", "10"]
    for words, message in ((["--topic", "none", "--to-latest"], "no topic none"), (["--topic", "t:2", "--to-latest"], "no partition 2"),
                           (["--topic", "t", "--topic", "u", "--shift-by", "1"], None)):
        done = group(server, "reset-offsets", "g", *words, status=1 if message else 0)
        assert (message or "") in done.stderr
    assert "no offset" in group(server, "reset-offsets", "new", "--topic", "t", "--shift-by", 1, status=1).stderr


def test_spoolfs_group_refuses_what_cannot_be(serve, members):
    server = serve(QUICK)
    make_topic(server, "t", 2)
    members.append(Member.python("confluent", server.bootstrap, "g", "t"))
    members[0].wait_owned(2)
    assert "while it has no members" in group(server, "reset-offsets", "g", "--topic", "t", "--to-latest", status=1).stderr
    assert group_json(server, "reset-offsets", "g", "--topic", "t", "--to-latest", "--dry-run")
    assert "NON_EMPTY_GROUP" in group(server, "delete", "g", status=1).stderr
    members[0].close()
    assert json.loads(group(server, "delete", "g", "nobody", "--json", status=1).stdout) == [
        {"group": "g", "deleted": True, "error": None},
        {"group": "nobody", "deleted": False, "error": "there is no such group: GROUP_ID_NOT_FOUND"}]
    assert group_json(server, "list") == []
    for words in (["list", "x"], ["describe"], ["delete"], ["turn"], ["list", "--state"], ["reset-offsets", "g", "--to-latest"], ["reset-offsets", "g", "--topic", "t"],
                  ["reset-offsets", "g", "--topic", "t", "--to-latest", "--to-earliest"], ["reset-offsets", "g", "--topic", "t:", "--to-latest"],
                  ["reset-offsets", "g", "--topic", "t:a", "--to-latest"], ["reset-offsets", "g", "--topic", "t", "--to-datetime", "2025-02-30"],
                  ["reset-offsets", "g", "--topic", "t", "--by-duration", "1D"], ["reset-offsets", "g", "--topic", "t", "--to-offset", "-1"],
                  ["reset-offsets", "g", "h", "--topic", "t", "--to-latest"], ["describe", "g", "--dry-run"], ["list", "--timeout", "0"]):
        group(server, *words, status=2)
    server.umount()
    assert "refused" in group(server, "list", status=1).stderr


@pytest.mark.long
def test_spoolfs_group_of_a_real_kafka(spoolfs, members, java, tmp_path):
    """The same commands say the same of Apache Kafka; groups of its newer protocol have offsets, and a note."""
    with kafka.Broker(tmp_path / "kafka", properties={"group.min.session.timeout.ms": 100}) as broker:
        broker.program, broker.environment = spoolfs, lambda: None
        clients.run(kafka.java(kafka.LATEST, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", broker.bootstrap, "--create", "--topic", "t",
                               "--partitions", "2"))
        produce(broker, "t", 0, 10, 2)
        members.append(Member.python("confluent", broker.bootstrap, "classic", "t"))
        members.append(Member.java(java(), broker.bootstrap, "new", "t", group_protocol="consumer"))
        for member in members:
            member.wait_owned(2)
        wait_until(lambda: len(values(members)) == 20, 60)
        assert {(g["group"], g["type"]) for g in group_json(broker, "list")} == {("classic", "classic"), ("new", "consumer")}
        about = group_json(broker, "describe", "classic")[0]
        assert (about["state"], about["protocol"], len(about["members"])) == ("Stable", "range", 1)
        wait_until(lambda: [p["lag"] for p in group_json(broker, "describe", "classic")[0]["partitions"]] == [0, 0], 30)
        newer = group(broker, "describe", "new")
        assert "members are not shown" in newer.stderr and "Stable" in newer.stdout
        assert "while it has no members" in group(broker, "reset-offsets", "classic", "--topic", "t", "--to-latest", status=1).stderr
        for member in members:
            member.close()
        for name in ("classic", "new"):
            wait_until(lambda: [g for g in group_json(broker, "list", "--state", "empty") if g["group"] == name], 30)
            rows = group_json(broker, "reset-offsets", name, "--topic", "t", "--to-earliest")
            assert [(row["before"], row["offset"]) for row in rows] == [(5, 0), (5, 0)]
            assert [p["lag"] for p in group_json(broker, "describe", name)[0]["partitions"]] == [5, 5]
        group(broker, "delete", "classic", "new")
        assert group_json(broker, "list") == []
