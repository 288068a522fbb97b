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


def keys() -> list[str]:
    """The API keys of our own table."""
    table = (ROOT / "cluster" / "wire" / "api.h").read_text().split("enum api_key {")[1].split("}")[0]
    return re.findall(r"= (\d+)", table)


def main() -> None:
    for what in ["messages", "refused", "utf8", "errors", "apis"]:
        arguments = keys() if what in ("messages", "refused", "apis") else []
        said = subprocess.run(kafka.java(kafka.LATEST, str(DATA / "Wire.java"), what, *arguments),
                              check=True, stdout=subprocess.PIPE)
        (DATA / f"{what}.txt").write_bytes(said.stdout)


if __name__ == "__main__":
    main()
