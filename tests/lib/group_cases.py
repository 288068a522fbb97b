"""What is asked of Apache Kafka and of us about groups, one request after the other, and must be answered alike: every version, every error that one connection can meet.

    answers(ask)        asks all of it: [(case, answer)]; ids of members by the order in which they came, places of brokers and sentences left out

The broker has group.initial.rebalance.delay.ms=0.
"""

import time

LATER = {14, 15, 16}     # the coordinator is not ready
LEFT_OUT = {"error_message", "host", "port", "node_id", "throttle_time_ms", "client_host"}
TYPE = "tested"          # a protocol that no coordinator looks into
SORTED = {"topics": "name", "groups": "group_id", "results": "group_id", "partitions": "partition_index"}   # whose order Kafka leaves to chance


def codes(answer):
    if isinstance(answer, dict):
        return [answer[name] for name in ("error_code",) if name in answer] + [code for part in answer.values() for code in codes(part)]
    return [code for part in answer for code in codes(part)] if isinstance(answer, list) else []


class Asking:
    def __init__(self, ask):
        self.ask = ask
        self.rows = []
        self.members = {}

    def plain(self, part):
        if isinstance(part, dict):
            return {name: self.ordered(name, self.plain(value)) for name, value in part.items() if name not in LEFT_OUT}
        if isinstance(part, list):
            return [self.plain(each) for each in part]
        return self.members.get(part, part) if isinstance(part, str) else part

    @staticmethod
    def ordered(name, value):
        by = SORTED.get(name)
        if isinstance(value, list) and by and all(isinstance(each, dict) and by in each for each in value):
            return sorted(value, key=lambda each: each[by])
        return value

    def __call__(self, api, version, **request):
        for _ in range(100):
            answer = self.ask(api, version, **request)
            if api == "FindCoordinator" or not LATER & set(codes(answer)):
                break
            time.sleep(0.1)
        if (member := answer.get("member_id")) and api == "JoinGroup" and member not in self.members:
            self.members[member] = f"member {len(self.members)}"
        self.rows.append(([api, version, self.plain(request)], self.plain(answer)))
        return answer


def join_request(version, group, member="", instance=None, kind=TYPE, protocols=("p",), session=10000):
    return {"group_id": group, "session_timeout_ms": session, "member_id": member, "protocol_type": kind,
            "protocols": [{"name": name, "metadata": f"metadata of {name}"} for name in protocols]} | \
        ({"rebalance_timeout_ms": 10000} if version >= 1 else {}) | ({"group_instance_id": instance} if version >= 5 else {})


def coordinators(ask):
    ask.ask("FindCoordinator", 0, key="g")
    time.sleep(1)       # Kafka makes the topic, and says later that it did
    for version in range(7):
        for key_type, key in ((0, "g"), (0, ""), (2, "g"), (2, "no:such"), (9, "g")):
            if version == 0 and key_type:
                continue
            request = {"key": key} if version < 4 else {"coordinator_keys": [key, "other"] if key_type == 0 else [key]}
            ask("FindCoordinator", version, **request, **({"key_type": key_type} if version else {}))


def nobody(ask):
    """Groups that are not there, and names that cannot be."""
    for group in ("nobody", ""):
        for version in range(10):
            for change in ({}, {"session": 1}, {"session": 1_800_001}, {"member": "unknown"}, {"protocols": ()}, {"kind": ""}):
                if group == "" or change and "kind" not in change and "protocols" not in change:
                    ask("JoinGroup", version, **join_request(version, group, **change))
                elif change:
                    ask("JoinGroup", version, **join_request(version, "nobody else", member="x", **change))
        for version in range(6):
            names = {"protocol_type": TYPE, "protocol_name": "p"} if version >= 5 else {}
            ask("SyncGroup", version, group_id=group, generation_id=1, member_id="m", assignments=[], **names)
            if version >= 5:
                ask("SyncGroup", version, group_id=group, generation_id=1, member_id="m", assignments=[])
        for version in range(5):
            ask("Heartbeat", version, group_id=group, generation_id=1, member_id="m")
        for version in range(6):
            ask("LeaveGroup", version, group_id=group, **({"member_id": "m"} if version < 3 else
                                                           {"members": [{"member_id": "m"}, {"member_id": "", "group_instance_id": "i"}]}))
        for version in range(7):
            ask("DescribeGroups", version, groups=[group, "nobody"], **({"include_authorized_operations": True} if version >= 3 else {}))
        for version in range(3):
            ask("DeleteGroups", version, groups_names=[group, "nobody", "nobody"])
        ask("OffsetDelete", 0, group_id=group, topics=[{"name": "t", "partitions": [{"partition_index": 0}]}])
        offsets(ask, group, fetch_only=True)
        commit_one(ask, group, 3, "m")


def commit_one(ask, group, generation, member):
    for version in range(2, 10):
        ask("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=generation, member_id=member,
            topics=[{"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}]}])


def offsets(ask, group, fetch_only=False, generation=-1, member=""):
    parts = [{"partition_index": p, "committed_offset": 10 + p, "committed_metadata": text} for p, text in ((0, "x"), (1, None), (2, ""), (-1, ""))]
    for version in range(2, 10):
        if fetch_only:
            break
        for topics in ([{"name": "t", "partitions": parts}, {"name": "none", "partitions": parts[:1]}], [{"name": "none", "partitions": parts}], [],
                       [{"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": "x" * 4097},
                                                     {"partition_index": 1, "committed_offset": -1, "committed_metadata": ""}]}]):
            ask("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=generation, member_id=member, topics=topics)
    wanted = [{"name": "t", "partition_indexes": [0, 1, 2]}, {"name": "none", "partition_indexes": [0]}]
    for version in range(1, 10):
        for topics in (wanted, [], None):
            if version < 8 and (topics is not None or version >= 2):
                ask("OffsetFetch", version, group_id=group, topics=topics, **({"require_stable": True} if version == 7 else {}))
            elif version >= 8:
                ask("OffsetFetch", version, groups=[{"group_id": group, "topics": topics}, {"group_id": "nobody", "topics": topics}], require_stable=True)


def simple(ask):
    """Offsets without members."""
    offsets(ask, "simple")
    ask("OffsetDelete", 0, group_id="simple", topics=[{"name": "t", "partitions": [{"partition_index": p} for p in (0, 0, 5)]},
                                                      {"name": "none", "partitions": [{"partition_index": 0}]}])
    ask("OffsetDelete", 0, group_id="simple", topics=[])
    offsets(ask, "simple", fetch_only=True)
    offsets(ask, "")
    listed(ask)
    ask("DescribeGroups", 6, groups=["simple"])
    ask("DeleteGroups", 2, groups_names=["simple", "", "nobody"])
    listed(ask)


def listed(ask):
    for version in range(6):
        ask("ListGroups", version)
    for states in (["Stable"], ["eMpTy"], ["none"], ["Stable", "Empty"]):
        ask("ListGroups", 4, states_filter=states)
        ask("ListGroups", 5, states_filter=states, types_filter=["Classic"])
    for types in (["consumer"], ["none"], ["classic", "consumer"], ["share"]):
        ask("ListGroups", 5, types_filter=types)


def one_member(ask):
    """All that a member can do by itself, in each version of JoinGroup."""
    for version in range(10):
        group = f"group {version}"
        first = ask("JoinGroup", version, **join_request(version, group, protocols=("p", "q")))
        if version >= 4:
            first = ask("JoinGroup", version, **join_request(version, group, first["member_id"], protocols=("p", "q")))
        me, generation = first["member_id"], first["generation_id"]
        ask("JoinGroup", version, **join_request(version, group, me, kind="other"))
        ask("JoinGroup", version, **join_request(version, group, "unknown"))
        ask("JoinGroup", version, **join_request(version, group, me, protocols=("r",), kind="other"))
        ask("Heartbeat", 4, group_id=group, generation_id=generation, member_id=me)
        ask("OffsetCommit", 9, group_id=group, generation_id_or_member_epoch=generation, member_id=me,
            topics=[{"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}]}])
        sync(ask, group, me, generation)
        ask("JoinGroup", version, **join_request(version, group, me, protocols=("p", "q")))     # nothing new: the generation stays
        if version in (0, 9):
            offsets(ask, group, generation=generation, member=me)
        for wrong in ((generation + 1, me), (generation - 1, me), (generation, "unknown"), (generation, ""), (-1, ""), (-1, me), (-1, "unknown")):
            if version in (0, 9):
                commit_one(ask, group, wrong[0], wrong[1])
            ask("Heartbeat", 4, group_id=group, generation_id=wrong[0], member_id=wrong[1])
        ask("OffsetDelete", 0, group_id=group, topics=[{"name": "t", "partitions": [{"partition_index": 0}]}])
        ask("DeleteGroups", 2, groups_names=[group])
        for at in range(7):
            ask("DescribeGroups", at, groups=[group], **({"include_authorized_operations": True} if at >= 3 else {}))
        if version in (0, 9):
            listed(ask)
        leave(ask, version, group, me)
        ask("DescribeGroups", 6, groups=[group])
        ask("Heartbeat", 4, group_id=group, generation_id=generation, member_id=me)
        ask("OffsetCommit", 9, group_id=group, generation_id_or_member_epoch=generation, member_id=me,
            topics=[{"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}]}])
        ask("DeleteGroups", 1, groups_names=[group])


def sync(ask, group, me, generation):
    names = {"protocol_type": TYPE, "protocol_name": "p"}
    assignments = [{"member_id": me, "assignment": "what is mine"}, {"member_id": "unknown", "assignment": "not mine"}]
    ask("SyncGroup", 5, group_id=group, generation_id=generation + 1, member_id=me, assignments=assignments, **names)
    ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id="unknown", assignments=assignments, **names)
    ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=me, assignments=assignments, **names | {"protocol_type": "other"})
    ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=me, assignments=assignments, **names | {"protocol_name": "q"})
    ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=me, assignments=assignments)
    ask("SyncGroup", 4, group_id=group, generation_id=generation, member_id=me, assignments=assignments)
    for version in range(6):
        ask("SyncGroup", version, group_id=group, generation_id=generation, member_id=me, assignments=[], **names if version >= 5 else {})


def leave(ask, version, group, me):
    if version < 3:
        ask("LeaveGroup", version, group_id=group, member_id="unknown")
        ask("LeaveGroup", version, group_id=group, member_id=me)
        ask("LeaveGroup", version, group_id=group, member_id=me)
    else:
        members = [{"member_id": "unknown"}, {"member_id": me}, {"member_id": me}, {"member_id": "", "group_instance_id": "nobody"}]
        ask("LeaveGroup", min(version, 5), group_id=group, members=[])
        ask("LeaveGroup", min(version, 5), group_id=group, members=members)


def static(ask):
    for version in range(5, 10):
        group = f"static {version}"
        first = ask("JoinGroup", version, **join_request(version, group, instance="i"))
        me, generation = first["member_id"], first["generation_id"]
        names = {"protocol_type": TYPE, "protocol_name": "p"}
        ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=me, group_instance_id="i", assignments=[{"member_id": me, "assignment": "a"}], **names)
        again = ask("JoinGroup", version, **join_request(version, group, instance="i"))      # restarted: another id, the same generation
        now = again["member_id"]
        ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=now, group_instance_id="i", assignments=[], **names)
        for member, instance in ((me, "i"), (now, "i"), (now, "j"), (me, None), (now, None)):
            ask("Heartbeat", 4, group_id=group, generation_id=generation, member_id=member, group_instance_id=instance)
            ask("OffsetCommit", 9, group_id=group, generation_id_or_member_epoch=generation, member_id=member, group_instance_id=instance,
                topics=[{"name": "t", "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}]}])
            ask("SyncGroup", 5, group_id=group, generation_id=generation, member_id=member, group_instance_id=instance, assignments=[], **names)
        ask("JoinGroup", version, **join_request(version, group, me, instance="i"))
        ask("DescribeGroups", 6, groups=[group])
        ask("LeaveGroup", 5, group_id=group, members=[{"member_id": me, "group_instance_id": "i"}])
        ask("LeaveGroup", 5, group_id=group, members=[{"member_id": "", "group_instance_id": "i"}])
        ask("DescribeGroups", 6, groups=[group])


def answers(ask):
    asking = Asking(ask)
    ask("CreateTopics", 7, topics=[{"name": "t", "num_partitions": 2, "replication_factor": 1}], timeout_ms=30000)
    for cases in (coordinators, nobody, simple, one_member, static):
        cases(asking)
    return asking.rows
