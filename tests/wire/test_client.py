"""Our client against a real Kafka: every message, in every version."""

import re
import subprocess

import pytest

from conftest import ROOT
from lib import kafka

pytestmark = pytest.mark.long

KNOWN = dict(re.findall(r"^\d+ (\w+) (\d+ \d+)", (ROOT / "tests/data/wire/apis.txt").read_text(), re.M))


def test_kafka_understands_every_version_of_every_request_and_we_its_responses(tmp_path, build):
    with kafka.Broker(tmp_path / "kafka") as broker:
        talk = subprocess.run([ROOT / "build" / build / "wire" / "talk", broker.bootstrap],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    print(talk.stdout)
    assert talk.returncode == 0, talk.stdout
    ranges = dict(re.findall(r"^(\w+) has (\d+ to \d+)$", talk.stdout, re.M))
    assert ranges == {name: versions.replace(" ", " to ") for name, versions in KNOWN.items()}
    asked = [line for line in talk.stdout.splitlines() if " has " not in line]
    assert [line for line in asked if not re.fullmatch(r"\w+ \d+", line)] == [], "an error code where none is expected"
    for name, versions in KNOWN.items():
        low, high = map(int, versions.split())
        expected = set(range(3 if name == "Produce" else low, high + 1))
        assert {int(line.split()[1]) for line in asked if line.split()[0] == name} == expected, name
