#!/usr/bin/env python3
"""Records what Kafka's own classes say of the wire protocol into tests/data/wire: see the README there.

    python3 tests/lib/record_wire.py

Wire.java fills every message in every version, encodes it and tells the values; the C unit test_wire_corpus decodes and encodes the same.
Needs what kafka.py needs, and a Java that can compile.
"""

import re
import subprocess
from pathlib import Path

import kafka

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data" / "wire"


BETWEEN_BROKERS = ["4", "5", "6", "7", "56"]    # of a cluster with ZooKeeper: 3.9 is the last that has them


def keys() -> list[str]:
    """The API keys of our own table that clients use."""
    table = (ROOT / "cluster" / "wire" / "api.h").read_text().split("enum api_key {")[1].split("}")[0]
    return [key for key in re.findall(r"= (\d+)", table) if key not in BETWEEN_BROKERS]


def say(release: str, what: str, *arguments: str) -> bytes:
    return subprocess.run(kafka.java(release, str(DATA / "Wire.java"), what, *arguments),
                          check=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    for what, others in [("messages", "others"), ("refused", "others-refused"), ("apis", None)]:
        said = say(kafka.LATEST, what, *keys()) + (say(kafka.LATEST, others) if others else b"")
        (DATA / f"{what}.txt").write_bytes(said + say("3.9", what, *BETWEEN_BROKERS))
    for what in ["utf8", "errors"]:
        (DATA / f"{what}.txt").write_bytes(say(kafka.LATEST, what))


if __name__ == "__main__":
    main()
