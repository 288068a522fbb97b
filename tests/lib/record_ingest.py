#!/usr/bin/env python3
"""Records what a Kafka log answers to batches of clients, good and bad, into tests/data/ingest.

    python3 tests/lib/record_ingest.py

Ingest.java there makes them and says what Kafka's own classes do; the C unit test_ingest_corpus does the same. Needs what kafka.py needs, and a Java that
can compile.
"""

import subprocess
from pathlib import Path

import kafka

DATA = Path(__file__).resolve().parent.parent / "data" / "ingest"


def main() -> None:
    for what in ["batches", "sequences"]:
        said = subprocess.run(kafka.java(kafka.LATEST, str(DATA / "Ingest.java"), what), check=True, stdout=subprocess.PIPE)
        (DATA / f"{what}.txt").write_bytes(said.stdout)


if __name__ == "__main__":
    main()
