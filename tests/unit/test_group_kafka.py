"""What the group coordinator writes to __consumer_offsets, as Apache Kafka understands it: its dump tool, and a broker that goes on with it."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT
from lib import kafka


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The log directories that the unit test leaves behind when it is asked to."""
    directory = tmp_path_factory.mktemp("kept")
    program = ROOT / "build" / "plain" / "unit" / "test_group_offsets"
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "SPOOLFS_TEST_KEEP": str(directory)}, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return directory


def test_the_offsets_decoder_reads_it(kept):
    kafka.assert_kafka_accepts(kept / "everything")
    logs = sorted(kept.glob("everything/__consumer_offsets-*/*.log"))
    text = kafka.dump_log_segments(logs, "--offsets-decoder")
    records = re.findall(r"key: (\{.*?\}) payload: (.*)$", text, re.MULTILINE)
    found = "\n".join(f"{key} {payload}" for key, payload in records)
    assert '"group":"simple","topic":"orders","partition":3' in found and '"offset":41' in found
    assert '"metadata":"for a day"' in found and '"expireTimestamp":' in found
    assert '"metadata":"grüße"' in found and '"leaderEpoch":6' in found and '"topicId":"AQIDBAUGBwgJCgsMDQ4PEA"' in found
    assert '"protocolType":"test","generation":1,"protocol":"range","leader":"static-' in found
    assert '"groupInstanceId":"static","clientId":"client","clientHost":"/127.0.0.1","rebalanceTimeout":60000,"sessionTimeout":10000' in found
    assert '"protocol":null,"leader":null' in found
    assert re.search(r'"group":"gone".*\} <DELETE>', found) or re.search(r'"group":"gone"\}\} (null|<DELETE>)', found), found


@pytest.mark.parametrize("name, release", [("kafka-3.9", "3.9"), ("kafka-4.1", "4.1")])
def test_kafka_goes_on_with_it(kept, tmp_path, name, release):
    """A directory of Kafka's own, whose groups were ours for a while: loaded without complaint, with our offsets, without what we deleted."""
    shutil.copytree(kept / name, tmp_path / "kafka" / "data")
    with kafka.Broker(tmp_path / "kafka", release, standalone=release != "3.9") as broker:
        command = ["--bootstrap-server", broker.bootstrap, "--all-groups", "--describe"]
        tool = kafka.java(release, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *command, "--offsets")
        text = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True).stdout
        states = kafka.java(release, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *command, "--state")
        text_of_states = subprocess.run(states, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True).stdout
    rows = {tuple(line.split()[:3]): line.split()[3] for line in text.splitlines() if len(line.split()) >= 6}
    assert rows[("readers-classic", "spread", "1")] == "4", text
    assert rows[("readers-classic", "spread", "2")] == "20"
    assert rows[("readers-classic", "codec-none", "0")] == "7"
    assert rows[("ours", "spread", "0")] == "3"
    assert rows[("left", "spread", "2")] == "9"
    assert not [row for row in rows if row[0] in ("copiers", "readers-consumer")], text
    assert re.search(r"^readers-classic .*Stable +1$", text_of_states, re.MULTILINE), text_of_states
    assert re.search(r"^waiting .*Stable +1$", text_of_states, re.MULTILINE), text_of_states
    assert re.search(r"^left .*Empty +0$", text_of_states, re.MULTILINE), text_of_states
