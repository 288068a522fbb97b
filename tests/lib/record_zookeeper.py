#!/usr/bin/env python3
"""Records tests/data/zookeeper: what brokers of Apache Kafka 3.9 in ZooKeeper mode write there. See the README there.

Three brokers serve what Layout.java asks of them. Every node's data is read from ZooKeeper's transaction log, so nodes that live for a moment only are among them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from lib import kafka
from lib.zookeeper import ZooKeeper

RELEASE = "3.9"
DATA = ROOT / "tests/data/zookeeper"


class ZkBroker(kafka.Broker):
    """A broker in ZooKeeper mode."""

    def __init__(self, directory, connect, number, **properties):
        super().__init__(directory, RELEASE, properties)
        self.connect = connect
        self.number = number

    def _configure(self):
        properties = {"broker.id": self.number, "zookeeper.connect": self.connect, "log.dirs": self.log_dir, "listeners": f"PLAINTEXT://{self.bootstrap}", "auto.leader.rebalance.enable": "false",
                      "replica.lag.time.max.ms": 2000, "password.encoder.secret": "secret", **self.properties}
        self.directory.mkdir(parents=True, exist_ok=True)
        Path(self._config).write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _format(self):
        pass


def layout(*arguments, **how):
    done = subprocess.run(kafka.java(RELEASE, str(DATA / "Layout.java"), *arguments), capture_output=True, text=True, timeout=240, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


CREATE, CREATE2, CREATE_TTL, CREATE_CONTAINER, SET, MULTI = 1, 15, 21, 19, 5, 14


class Jute:
    """ZooKeeper's own serialization, as far as its transactions go."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def integer(self, n=4):
        return int.from_bytes(self.take(n), "big", signed=True)

    def buffer(self):
        return self.take(max(self.integer(), 0))


def writes(kind, body):
    if kind == MULTI:
        for _ in range(body.integer()):
            inner = body.integer()
            yield from writes(inner, Jute(body.buffer()))
    elif kind in (CREATE, CREATE2, CREATE_TTL, CREATE_CONTAINER, SET):
        yield body.buffer().decode(), body.buffer().decode()


def written(server):
    """(path, data) of each create and set in the transaction log, in order."""
    for log in sorted((server.directory / "data/version-2").glob("log.*")):
        file = Jute(log.read_bytes())
        file.take(16)                               # magic, version, database
        while file.integer(8):                      # checksum; zeros are space allocated in advance
            body = Jute(file.buffer())
            file.take(1)                            # the mark behind it
            body.take(8 + 4 + 8 + 8)                # session, xid, zxid, time
            kind = body.integer()
            yield from writes(kind, body)


def record():
    with tempfile.TemporaryDirectory() as directory, ZooKeeper(directory) as zk:
        place = Path(directory)
        extra = kafka.free_ports(1)[0]
        with ZkBroker(place / "1", zk.connect, 1, **{"broker.rack": "r 1", "reserved.broker.max.id": 5000}) as one, ZkBroker(place / "2", zk.connect, 2, **{"broker.rack": "r2", "zookeeper.set.acl": "false"}):
            third = ZkBroker(place / "3", zk.connect, 3)
            third.properties = {"listeners": f"INNER://[::1]:{extra},PLAINTEXT://{third.bootstrap}", "inter.broker.listener.name": "PLAINTEXT", "broker.rack": "r3", "listener.security.protocol.map": "INNER:PLAINTEXT,PLAINTEXT:PLAINTEXT"}
            with third:
                layout("traffic", one.bootstrap)
                with ZkBroker(place / "4", zk.connect, 4):     # where a broker has no rack, Kafka places nothing by itself
                    pass
        server = zk.server[0]
        server.kill()
        lines = dict.fromkeys(f"{path}\t{data}" for path, data in written(server) if data)
        (DATA / "written.txt").write_text("".join(line + "\n" for line in lines))
    (DATA / "encoded.txt").write_text(layout("encode"))


if __name__ == "__main__":
    record()
