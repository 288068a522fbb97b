"""A server for Kafka's clients, and the clients."""

import sys
from pathlib import Path

import pytest

from lib import clients, kafka

ROOT = Path(__file__).resolve().parents[2]

# `make check` runs in the environment that has the Python clients; who runs another pytest of the same Python gets them from there.
for packages in (ROOT / "build/venv/lib").glob(f"python3.{sys.version_info.minor}/site-packages"):
    sys.path.append(str(packages))


@pytest.fixture
def serve(mounts):
    """serve("num.partitions=4") -> a Mount that serves clients at .bootstrap, also after a restart."""
    def make(*options, **how):
        port = kafka.free_ports(1)[0]
        made = mounts(f"listeners=PLAINTEXT://127.0.0.1:{port}", "group.initial.rebalance.delay.ms=0", *options, **how)
        made.bootstrap = f"127.0.0.1:{port}"
        made.address = ("127.0.0.1", port)
        return made
    return make


@pytest.fixture
def server(serve):
    """One with nothing set."""
    return serve()


@pytest.fixture(scope="session")
def java(tmp_path_factory):
    """java("4.1") -> that release's client, compiled once."""
    made = {}

    def client(release=kafka.LATEST):
        if release not in made:
            made[release] = clients.Java.compile(release, tmp_path_factory.mktemp(f"java-{release}"))
        return made[release]
    return client


@pytest.fixture(scope="session")
def franz_go(tmp_path_factory):
    return clients.FranzGo.build(tmp_path_factory.mktemp("go"))


@pytest.fixture
def members(mounts):
    """members.append(Member(...)): none outlives the test."""
    made = []
    yield made
    for member in made:
        if member.process.poll() is None:
            member.kill()


def make_topic(mount, name, partitions=1):
    (mount.dir / name).mkdir()
    for index in range(len(list((mount.dir / name).iterdir())), partitions):
        (mount.dir / name / str(index)).touch()
    return mount.dir / name
