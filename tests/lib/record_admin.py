#!/usr/bin/env python3
"""Records tests/data/wire/admin.jsonl: what a real Kafka answers to lib/admin_cases.py. A line is the request, the next the answer."""

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from lib import kafka
from lib.admin_cases import answers
from lib.ask import Ask

RECORD = ROOT / "tests/data/wire/admin.jsonl"


def asked_of_kafka(directory):
    with kafka.Broker(directory) as broker, Ask(broker.bootstrap) as ask:
        return list(answers(ask, settle_s=0.3))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        RECORD.write_text("".join(json.dumps(line) + "\n" for pair in asked_of_kafka(directory) for line in pair))
