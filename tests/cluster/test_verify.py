"""spoolfs verify --cluster: replicas that hold the same, and what is found where they do not."""

import signal
import struct
import subprocess

import confluent_kafka
import pytest

from lib.batches import crc32c
from lib.joined import state
from lib.mounting import wait_until


def verify(agent, *topics, status=0):
    done = subprocess.run([agent.program, "verify", "--cluster", "-b", agent.bootstrap, "-t", "20", *topics], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.splitlines()


def fill(agent, topic, partitions, count=3000, **settings):
    producer = confluent_kafka.Producer({"bootstrap.servers": agent.bootstrap, "acks": "all", "linger.ms": 2, "batch.size": 8000} | settings)
    wait_until(lambda: len(producer.list_topics(topic, 10).topics[topic].partitions) == partitions, what="the broker knows of all partitions")
    for n in range(count):
        producer.produce(topic, b"line %07d of the text that all replicas have" % n, partition=n % partitions)
        producer.poll(0)
    assert producer.flush(60) == 0


def batches(log):
    """[(first offset, next offset, position, bytes)] of a .log file."""
    data, at, found = log.read_bytes(), 0, []
    while at < len(data):
        base, length = struct.unpack_from(">qi", data, at)
        found.append((base, base + struct.unpack_from(">i", data, at + 23)[0] + 1, at, 12 + length))
        at += 12 + length
    return found


def alter(log, batch):
    """Another byte in the batch's last record, and its crc made right: nothing but a comparison can tell."""
    _, _, at, size = batch
    data = bytearray(log.read_bytes())
    data[at + size - 5] ^= 1
    struct.pack_into(">I", data, at + 17, crc32c(bytes(data[at + 21:at + size])))
    log.write_bytes(data)


def segments(agent, partition):
    return sorted((agent.data / partition).glob("*.log"))


@pytest.fixture
def three(member):
    return [member(n, "log.segment.bytes=40000", "replica.lag.time.max.ms=2000") for n in (1, 2, 3)]


@pytest.fixture
def filled(three, put_topic, look):
    put_topic("t", [[1, 2, 3], [2, 3]])
    wait_until(lambda: all((agent.data / "t-0").exists() for agent in three) and (three[2].data / "t-1").exists(), what="the replicas")
    fill(three[0], "t", 2)
    return three


def test_replicas_that_hold_the_same(filled):
    whole = sum(size for partition in ("t-0", "t-1") for log in segments(filled[1], partition) for _, _, _, size in batches(log))
    wait_until(lambda: verify(filled[1]) == [f"2 partitions, 5 replicas, {whole} bytes compared with what others have: 0 differences"], what="all know that it is committed")
    assert verify(filled[0], "t") == verify(filled[2], "t")


def test_what_was_altered_is_found(filled):
    """In a follower's log, while it was stopped: two batches behind one another, and one in another partition."""
    three = filled
    three[2].stop()
    log = segments(three[2], "t-0")[1]
    at = batches(log)
    alter(log, at[1])
    alter(log, at[2])
    other = segments(three[2], "t-1")[0]
    first = batches(other)[0]
    alter(other, first)
    three[2].start()
    wait_until(lambda: sum("differs" in line for line in verify_quietly(three[0])) == 2, 60, "it is there again, and knows what is committed")
    assert verify(three[0], status=1)[:2] == [f"t/0: offsets {at[1][0]} to {at[2][1] - 1}: broker 3 differs from broker 1 (leader)",
                                              f"t/1: offsets {first[0]} to {first[1] - 1}: broker 3 differs from broker 2 (leader)"]
    assert verify(three[0], status=1)[2].endswith(": 2 differences")


def verify_quietly(agent):
    return subprocess.run([agent.program, "verify", "--cluster", "-b", agent.bootstrap], capture_output=True, text=True, timeout=120).stdout.splitlines()


def test_positions_that_are_not_the_same_are_found(filled, look):
    three = filled
    three[2].stop()
    topic_id = look("/brokers/topics/t")["topic_id"]
    text = f"version 1\nt 0 {topic_id} 0 100\n"
    (three[2].data / "view-start-checkpoint").write_text(text + f"crc {crc32c(text.encode()):08x}\n")
    for name in ("partition-state-checkpoint", ".kafka_cleanshutdown"):
        (three[2].data / name).unlink(missing_ok=True)
    for view in (three[2].data / "t-0").glob("*.view"):
        view.unlink()
    three[2].expect("")
    three[2].start()
    found = wait_until(lambda: [line for line in verify_quietly(three[0]) if "position" in line], 30, "a difference")
    assert len(found) == 1 and found[0].startswith("t/0: offset 0: position 100 at broker 3, 0 at broker 1 (leader)")


def test_one_that_is_away_is_not_compared(filled, look):
    three = filled
    three[2].expect("")
    three[2].stop(signal.SIGKILL, status=None)
    wait_until(lambda: state(look, "t")["isr"] == [1, 2], 60, "it is out of the ISR")
    said = verify(three[0], status=2)
    assert "t/0: broker 3 is not compared: broker 3 is not there" in said and said[-1].endswith("0 differences; 2 replicas could not be compared")


def test_one_that_is_behind_is_compared_as_far_as_it_is_committed(filled, look):
    """Stopped, while more is written: what it has is compared when it is back, though it catches up meanwhile."""
    three = filled
    three[2].stop()
    fill(three[0], "t", 2, 1000)
    three[2].start()
    wait_until(lambda: not any("not compared" in line for line in verify_quietly(three[0])), 60, "it is there")
    for _ in range(3):
        assert verify(three[0], "t")[-1].endswith(": 0 differences")
    wait_until(lambda: 3 in state(look, "t")["isr"], 60, "it is in sync")
    assert verify(three[0], "t")[-1].endswith(": 0 differences")


def test_compacted_topics_are_left_out(three, put_topic):
    put_topic("c", [[1, 2]], {"cleanup.policy": "compact"})
    wait_until(lambda: (three[1].data / "c-0").exists() and (three[0].data / "c-0").exists(), what="the replicas")
    wait_until(lambda: not any("not compared:" in line for line in verify_quietly(three[0])), what="they have their roles")
    said = verify(three[0], "c")
    assert said[0].startswith("c/0: note: the topic is compacted") and said[-1].endswith("0 differences")


def test_a_broker_by_itself_has_nothing_to_compare(agent):
    agent.topic("create", "t")
    assert verify(agent) == ["1 partition, 1 replica, 0 bytes compared with what others have: 0 differences"]


def test_wrong_usage(agent):
    for words, said in ((["--cluster", "nothing", "-b", agent.bootstrap], "there is no topic nothing"), (["-b", agent.bootstrap], "go with --cluster"), (["--cluster", "-b", "127.0.0.1:1"], "127.0.0.1:1"),
                        (["--cluster", "-t", "0"], "not a number of seconds")):
        done = subprocess.run([agent.program, "verify", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode in (2, 64) and said in done.stderr, (words, done)
