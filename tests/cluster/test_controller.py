"""The controller over a real ZooKeeper: elections of one, its writes, what brokers are told, fencing; with brokers that have no logs."""

import json

import pytest

from lib.mounting import wait_until


@pytest.fixture
def look(talks, chroot):
    """Nodes, as another client of ZooKeeper sees them."""
    talk = talks(chroot)

    def get(path):
        answer = talk("get", path=path)
        return json.loads(answer["data"]) if answer["code"] == "ok" else None
    get.talk = talk
    return get


def three(brokers, **options):
    first = brokers(1, **options)
    first.controller(1)
    others = [brokers(2, **options), brokers(3, **options)]
    for broker in others:
        broker.controller(1)
    for broker in [first, *others]:
        broker.event("brokers", alive=[1, 2, 3], error=0)
    return [first, *others]


def test_a_topic_is_made_and_everybody_is_told(brokers, look):
    one, two, three_ = three(brokers)
    assert one("create", topic="t", partitions=3, factor=3)["error"] == "NONE"
    for broker in (one, two, three_):
        for partition in range(3):
            broker.told(topic="t", partition=partition, leader_epoch=0, controller_epoch=1)
    topic = look("/brokers/topics/t")
    assert topic["version"] == 3 and sorted(topic["partitions"]) == ["0", "1", "2"]
    assert {topic["partitions"][p][0] for p in topic["partitions"]} == {1, 2, 3}
    state = look("/brokers/topics/t/partitions/0/state")
    assert state["leader"] == topic["partitions"]["0"][0] and sorted(state["isr"]) == [1, 2, 3] and state["controller_epoch"] == 1
    assert look("/config/topics/t")["config"] == {"retention.ms": "1000"}
    assert one("create", topic="t", partitions=1, factor=1)["error"] == "TOPIC_ALREADY_EXISTS"
    assert one("grow", topic="t", partitions=5)["error"] == "NONE"
    assert two("create", topic="u", partitions=1, factor=1)["error"] == "NOT_CONTROLLER"
    one.told(topic="t", partition=4)


def test_a_broker_whose_host_refuses_connections_is_replaced_long_before_its_session_ends(brokers, look):
    one, two, _ = three(brokers, timeout=40000)
    one("create", topic="t", partitions=6, factor=3)
    epoch = next(line["epoch"] for line in two.lines if line.get("event") == "registered")
    two.kill()
    wait_until(lambda: all(look(f"/brokers/topics/t/partitions/{p}/state")["leader"] in (1, 3) and 2 not in look(f"/brokers/topics/t/partitions/{p}/state")["isr"] for p in range(6)),
               what="broker 2 leads and follows nothing")
    assert look("/brokers/ids/2") is not None       # its session is still there
    assert look("/spoolfs/brokers/2")["fenced_epoch"] == epoch


def test_a_broker_that_hangs_is_replaced_when_its_session_ends(brokers, look):
    one, two, _ = three(brokers, timeout=2000)
    one("create", topic="t", partitions=3, factor=3)
    two.stop()
    wait_until(lambda: all(look(f"/brokers/topics/t/partitions/{p}/state")["leader"] in (1, 3) for p in range(3)), what="broker 2 leads nothing")
    two.go_on()
    two.event("expired")
    two.event("registered")
    two.event("states", type=2)     # all that it has, from the beginning


def test_the_next_controller_goes_on_where_the_last_one_ended(brokers, look):
    one, two, _ = three(brokers)
    one("create", topic="t", partitions=4, factor=3)
    one.kill()
    wait_until(lambda: (look("/controller") or {"brokerid": 1})["brokerid"] in (2, 3), what="another controller")
    wait_until(lambda: all(look(f"/brokers/topics/t/partitions/{p}/state")["leader"] in (2, 3) for p in range(4)), what="broker 1 leads nothing")
    assert look("/controller_epoch") == 2
    two.told(topic="t", controller_epoch=2)


def test_a_controller_that_was_stopped_is_fenced_and_writes_nothing(brokers, look):
    """Its session lives, but another one has been elected meanwhile: what it still has to write is refused, and what it still says to brokers is not heard."""
    one, two, three_ = three(brokers, timeout=40000)
    one("create", topic="t", partitions=1, factor=3)
    one.stop()
    question = one.send("create", topic="u", partitions=2, factor=2)
    assert look.talk("delete", path="/controller", version=-1)["code"] == "ok"
    wait_until(lambda: (look("/controller") or {"brokerid": 1})["brokerid"] in (2, 3), what="another controller")
    two.event("brokers", alive=[1, 2, 3], error=0)
    one.go_on()
    assert one.answer(question)["error"] == "NOT_CONTROLLER"
    assert look("/brokers/topics/u") is None
    next_one = two if look("/controller")["brokerid"] == 2 else three_
    wait_until(lambda: next_one("create", topic="u", partitions=2, factor=3)["error"] == "NONE", what="a controller that has read everything")
    one.told(topic="u", controller_epoch=2)


def test_a_topic_is_deleted_and_made_again_at_once(brokers, look):
    one, two, three_ = three(brokers)
    one("create", topic="t", partitions=2, factor=3)
    before = look("/brokers/topics/t")["topic_id"]
    assert one("delete", topic="t")["error"] == "NONE"
    assert look("/brokers/topics/t") is None and look("/admin/delete_topics/t") is None and look("/config/topics/t") is None
    assert one("create", topic="t", partitions=1, factor=2)["error"] == "NONE"
    assert look("/brokers/topics/t")["topic_id"] != before
    for broker in (one, two, three_):
        broker.event("stop", topic="t", partition=0, deletes=True)


def test_a_deletion_that_somebody_else_has_marked_is_done_and_a_mark_of_nothing_goes(brokers, look):
    one, *_ = three(brokers)
    one("create", topic="t", partitions=2, factor=3)
    for topic in ("t", "nothing"):
        assert look.talk("create", path=f"/admin/delete_topics/{topic}", data="")["code"] == "ok"
    wait_until(lambda: look("/brokers/topics/t") is None and not look.talk("children", path="/admin/delete_topics").get("children"), what="the end of topic and marks")


def test_a_topic_that_somebody_else_has_made_gets_leaders(brokers, look):
    one, *_ = three(brokers)
    node = {"version": 1, "partitions": {"0": [2, 3]}}
    assert look.talk("create", path="/brokers/topics/t", data=json.dumps(node))["code"] == "ok"
    one.event("brokers", alive=[1, 2, 3], error=0)
    wait_until(lambda: (look("/brokers/topics/t/partitions/0/state") or {"leader": -1})["leader"] == 2, what="its leader")
    wait_until(lambda: look("/brokers/topics/t")["version"] == 3, what="its id")


def test_a_topics_word_on_unclean_elections_is_heard_when_it_changes(brokers, look):
    one, two, three_ = three(brokers)
    look.talk("create", path="/brokers/topics/t", data=json.dumps({"version": 1, "partitions": {"0": [2, 3]}}))
    three_.told(topic="t", leader=2)
    assert one("shutdown", broker=3)["error"] == "NONE"     # out of the ISR
    three_.kill()
    wait_until(lambda: look("/brokers/ids/3") is None, what="the end of its session")
    brokers(3).told(topic="t", leader=2, isr=[2])
    two.kill()
    state = "/brokers/topics/t/partitions/0/state"
    wait_until(lambda: look(state)["leader"] == -1, what="no leader")
    look.talk("create", path="/config/topics/t", data=json.dumps({"version": 1, "config": {"unclean.leader.election.enable": "true"}}))
    look.talk("create", path="/config/changes/config_change_", flags="s", data=json.dumps({"version": 2, "entity_path": "topics/t"}))
    wait_until(lambda: look(state)["leader"] == 3, what="an unclean leader")
    assert look(state)["leader_recovery_state"] == 1


def test_leaders_are_moved_before_a_clean_stop(brokers, look):
    one, two, three_ = three(brokers)
    one("create", topic="t", partitions=6, factor=3)
    assert one("shutdown", broker=2)["remaining"] == 0
    for partition in range(6):
        state = look(f"/brokers/topics/t/partitions/{partition}/state")
        assert state["leader"] != 2 and 2 not in state["isr"]
    two.event("stop", deletes=False)


def test_an_isr_changes_and_a_reassignment_ends_with_it(brokers, look):
    one, two, three_ = three(brokers)
    one("create", topic="t", partitions=3, factor=2)
    topic = look("/brokers/topics/t")
    mine = next(int(p) for p in topic["partitions"] if topic["partitions"][p][0] == 1)
    other = topic["partitions"][str(mine)][1]
    new = 5 - other
    assert one("reassign", topic="t", partition=mine, replicas=[1, new])["error"] == "NONE"
    assert look("/brokers/topics/t")["adding_replicas"] == {str(mine): [new]}
    one.told(topic="t", partition=mine, leader_epoch=1)
    assert one("alter", topic="t", partition=mine, isr=[1, other, new])["error"] == "NONE"
    wait_until(lambda: look("/brokers/topics/t")["partitions"][str(mine)] == [1, new], what="the end of the reassignment")
    assert sorted(look(f"/brokers/topics/t/partitions/{mine}/state")["isr"]) == sorted([1, new])
    {2: two, 3: three_}[other].event("stop", topic="t", partition=mine, deletes=True)


def test_five_thousand_partitions_get_leaders_and_other_leaders(brokers, look):
    one, two, three_ = three(brokers, timeout=30000)
    for broker in (one, two, three_):
        broker.tell("quiet")
    assert one("create", topic="t", partitions=5000, factor=3)["error"] == "NONE"
    assert one("shutdown", broker=2)["remaining"] == 0
    assert {look(f"/brokers/topics/t/partitions/{p}/state")["leader"] for p in range(0, 5000, 97)} == {1, 3}
    assert one("delete", topic="t")["error"] == "NONE"
    assert look("/brokers/topics/t") is None


def test_a_broker_from_an_unclean_stop_leaves_isrs_before_it_hears_of_them(brokers, look):
    one, two, three_ = three(brokers, timeout=2000)
    one("create", topic="t", partitions=3, factor=3)
    three_.kill()
    wait_until(lambda: look("/brokers/ids/3") is None, what="the end of its session")
    again = brokers(3, unclean=True)
    again.event("states", type=2)
    assert all(3 not in line["isr"] for line in again.lines if line.get("event") == "told")
    wait_until(lambda: look("/spoolfs/brokers/3")["settled_epoch"] == next(line["epoch"] for line in again.lines if line.get("event") == "registered"), what="its settlement")
