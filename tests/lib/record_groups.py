#!/usr/bin/env python3
"""Records tests/data/wire/groups.jsonl: what a real Kafka answers to lib/group_cases.py. A line is the request, the next the answer."""

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from lib import kafka
from lib.ask import Ask
from lib.group_cases import answers

RECORD = ROOT / "tests/data/wire/groups.jsonl"


def asked_of_kafka(directory):
    with kafka.Broker(directory) as broker, Ask(broker.bootstrap) as ask:
        return answers(ask)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        RECORD.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for pair in asked_of_kafka(directory) for line in pair))
