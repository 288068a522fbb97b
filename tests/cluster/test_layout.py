"""Kafka's nodes: what Kafka 3.9 wrote (tests/data/zookeeper) is read and written again as it was, Kafka's own code reads ours, and what is no such node is refused."""

import json
import subprocess

import pytest

from conftest import ROOT
from lib import kafka

DATA = ROOT / "tests/data/zookeeper"


@pytest.fixture
def echo(build):
    def run(lines):
        program = ROOT / "build" / build / "cluster-tests" / "layout_echo"
        done = subprocess.run([program], input="".join(line + "\n" for line in lines), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    return run


def recorded():
    lines = (DATA / "written.txt").read_text().splitlines() + (DATA / "encoded.txt").read_text().splitlines()
    return [line for line in lines if line.startswith("/") and not line.startswith("/feature\t")]


def facts(kind):
    return [line.split("\t")[1:] for line in (DATA / "encoded.txt").read_text().splitlines() if line.startswith(kind + "\t")]


def in_fixed_order(line):
    """Kafka writes members of objects with names of their own, as partitions have, in the order of a hash: those are sorted."""
    path, data = line.split("\t", 1)
    if not data.startswith("{"):
        return line
    node = json.loads(data)
    for member in ("partitions", "adding_replicas", "removing_replicas", "config"):
        if isinstance(node.get(member), dict):
            node[member] = dict(sorted(node[member].items()))
    return path + "\t" + json.dumps(node, separators=(",", ":"), ensure_ascii=False)


def test_what_kafka_wrote_is_written_again_byte_for_byte(echo):
    lines = recorded()
    again = echo(lines)
    differing = [(was, now) for was, now in zip(lines, again, strict=True) if in_fixed_order(was) != in_fixed_order(now)]
    assert not differing
    assert {was.split("\t")[0] for was, now in zip(lines, again) if was != now} <= {"/brokers/topics/twelve"}       # twelve partitions; Kafka keeps the order of up to four


def kafka_reads(lines):
    done = subprocess.run(kafka.java("3.9", str(DATA / "Layout.java"), "decode"), input="".join(line + "\n" for line in lines), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_kafka_reads_in_ours_what_it_reads_in_its_own(echo):
    lines = recorded()
    with_ours = '/brokers/ids/7\t{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":["PLAINTEXT://a:1"],"jmx_port":-1,"port":1,"host":"a","version":5,' \
                '"timestamp":"1","spoolfs":{"clean":true,"boot_id":"b","data_id":"d","session_timeout_ms":9}}'
    assert echo([with_ours]) == [with_ours]
    said = kafka_reads(lines + echo(lines) + [with_ours])
    assert said[:len(lines)] == said[len(lines):-1]
    assert "?" not in {line.split("\t")[1] for line in said}
    assert "BrokerInfo(7 : (EndPoint(a,1,ListenerName(PLAINTEXT),PLAINTEXT)" in said[-1]


def test_acls_paths_and_names_are_kafkas(echo, build):
    meaning = {"31:world:anyone": "open", "31:auth: 1:world:anyone": "readable", "31:auth:": "private"}
    acls = facts("acl")
    assert echo(f"acl\t{path}" for path, _ in acls) == [f"acl\t{meaning[acl]}" for _, acl in acls]
    names = facts("escaped")
    assert echo(f"name\t{name}" for name, _ in names) == [f"name\t{escaped}" for _, escaped in names]
    assert echo(["name\t<default>"]) == ["name\t<default>"]
    paths = subprocess.run([ROOT / "build" / build / "cluster-tests" / "layout_echo", "--paths"], capture_output=True, text=True, timeout=20).stdout.split()
    assert paths == facts("paths")[0][0].removeprefix("List(").removesuffix(")").split(", ")


TOPIC = "/brokers/topics/t\t"
STATE = "/brokers/topics/t/partitions/0/state\t"
ID = '"topic_id":"KyKGW5MhT0O2X6tcwTnjEg"'


BAD = [
    (TOPIC, "no JSON"), (TOPIC + "[]", "object is expected"), (TOPIC + "{", "no JSON"), (TOPIC + '{"version":3,"version":3}', "no JSON"),
    (TOPIC + '{"version":4,' + ID + ',"partitions":{}}', "its version is 4, and 3 is the newest"), (TOPIC + '{"version":"3"}', '"version" should be'),
    (TOPIC + '{"version":3,"topic_id":"short","partitions":{"0":[1]}}', '"topic_id" should be 22'), (TOPIC + '{"version":3,"topic_id":"KyKGW5MhT0O2X6tcwTnjE!","partitions":{}}', '"topic_id"'),
    (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[1],"2":[1]}}', "none left out"), (TOPIC + '{"version":3,' + ID + ',"partitions":{"00":[1]}}', "none left out"),
    (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[]}}', "at least one broker"), (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[1,1]}}', "each of them once"),
    (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[-1]}}', "a number from 0"), (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[2147483648]}}', "a number from 0"),
    (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[1.0]}}', "a number from 0"), (TOPIC + '{"version":3,' + ID + ',"partitions":[[1]]}', "an object"),
    (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[1]},"adding_replicas":{"0":[2]}}', "some of the partition's replicas"), (TOPIC + '{"version":3,' + ID + ',"partitions":{"0":[1]},"adding_replicas":{"1":[1]}}', "none left out"),
    (STATE + '{"controller_epoch":1,"leader":-2,"version":1,"leader_epoch":0,"isr":[1]}', '"leader"'), (STATE + '{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":1}', '"isr"'),
    (STATE + '{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1,1]}', '"isr"'), (STATE + '{"controller_epoch":1,"leader":1,"version":2,"leader_epoch":0,"isr":[1]}', "version"),
    (STATE + '{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1],"leader_recovery_state":2}', "recovery"),
    ("/brokers/ids/1\t" + '{"version":5,"host":"a","port":1,"endpoints":["PLAINTEXT://a"],"timestamp":"1"}', "NAME://host:port"), ("/brokers/ids/1\t" + '{"version":5,"host":"a","port":1,"endpoints":[7],"timestamp":"1"}', "NAME://"),
    ("/brokers/ids/1\t" + '{"version":5,"host":"a","port":70000,"endpoints":[],"timestamp":"1"}', '"port"'), ("/brokers/ids/1\t" + '{"version":6,"host":"a","port":1}', "version"),
    ("/brokers/ids/1\t" + '{"version":5,"host":"a","port":1,"endpoints":["A://a:1"],"listener_security_protocol_map":{},"timestamp":"1"}', '"A" should be text'),
    ("/brokers/ids/1\t" + '{"version":5,"host":"a","port":1,"endpoints":["A://a:1"],"timestamp":"1","spoolfs":{"clean":1}}', '"clean"'),
    ("/controller\t" + '{"version":2,"brokerid":"1","timestamp":"1"}', '"brokerid"'), ("/controller\t" + '{"version":2,"brokerid":1,"timestamp":1}', "in quotes"),
    ("/controller_epoch\t", "a number"), ("/controller_epoch\t-1", "a number"), ("/controller_epoch\t2147483648", "a number"), ("/controller_epoch\t1 ", "a number"), ("/controller_epoch\t99999999999999999999999999", "a number"),
    ("/cluster/id\t" + '{"version":"1","id":""}', '"id"'), ("/cluster/id\t" + '{"version":"1","id":"a/b"}', '"id"'), ("/latest_producer_id_block\t" + '{"version":1,"broker":1,"block_start":"5","block_end":"4"}', '"block_end"'),
    ("/latest_producer_id_block\t" + '{"version":1,"broker":1,"block_start":"5","block_end":"9223372036854775808"}', '"block_end"'),
    ("/config/topics/t\t" + '{"version":1,"config":{"a":1}}', '"a" should be text'), ("/config/topics/t\t" + '{"version":1}', '"config"'), ("/config/changes/config_change_0000000001\t" + '{"version":2}', '"entity_path"'),
    ("/admin/reassign_partitions\t" + '{"version":1,"partitions":[1]}', "objects"), ("/admin/preferred_replica_election\t" + '{"version":1,"partitions":[{"topic":"../x","partition":0}]}', "name of a topic"), ("/admin/reassign_partitions\t" + '{"version":1,"partitions":[{"topic":"t","partition":0}]}', '"replicas"'),
    ("/log_dir_event_notification/log_dir_event_0000000001\t" + '{"version":1,"broker":1,"event":2}', '"event"'), ("/consumers/g/offsets/t/0\tx", "a number"),
    (TOPIC + "[" * 5000, "no JSON"), (TOPIC + '{"version":3,"a":"\\u0000"}', "no JSON")]


@pytest.mark.parametrize("line, says", BAD, ids=range(len(BAD)))
def test_what_is_no_such_node_is_refused_with_its_path(echo, line, says):
    [said] = echo([line])
    assert said.startswith(("!\tcorrupt: ", "!\tnewer version: ")) and says in said and line.split("\t")[0] in said, said


def test_members_that_are_not_known_are_kept(echo):
    lines = [TOPIC + '{"partitions":{"0":[1]},' + ID + ',"adding_replicas":{},"removing_replicas":{},"version":3,"later":{"x":[1,null]}}',
             STATE + '{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1],"later":true}', "/config/topics/t\t" + '{"version":1,"config":{},"later":1}']
    assert echo(lines) == lines


def test_older_versions_are_read(echo):
    assert echo([TOPIC + '{"version":1,"partitions":{"0":[1]}}']) == [TOPIC + '{"partitions":{"0":[1]},"adding_replicas":{},"removing_replicas":{},"version":2}']
    assert '"endpoints":["PLAINTEXT://h:9"]' in echo(["/brokers/ids/1\t" + '{"version":1,"host":"h","port":9,"jmx_port":-1,"timestamp":"1"}'])[0]
    assert echo(["/config/changes/config_change_0000000001\t" + '{"version":1,"entity_type":"topics","entity_name":"t"}'])[0].endswith('{"version":2,"entity_path":"topics/t"}')
    assert echo(["/config/topics/t\t"]) == ["/config/topics/t\t" + '{"version":1,"config":{}}']


def test_names_that_no_path_can_have_are_refused(echo):
    assert all(said.startswith("!") for said in echo(["name\t", "name\t" + "é" * 300, "name\t" + "x" * 2000]))
