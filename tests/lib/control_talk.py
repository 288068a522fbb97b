"""Brokers that are nothing but a controller and a memory of what they are told (tests/cluster/control_talk.c).

    one = brokers(1); two = brokers(2)      registered, one after the other: the first is the controller
    one.controller(1)                       it has heard who is
    one("create", topic="t", partitions=1, factor=2)["error"]
    two.told(topic="t", leader=1)           waits until it is told so
"""

import signal
import uuid

import pytest

from lib.zk_talk import Talk


class Broker(Talk):
    def told(self, **members):
        return self.event("told", **members)

    def controller(self, number):
        return self.event("controller", **{"is": number})

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def chroot(shared_zookeeper):
    return f"{shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def brokers(build, tmp_path, chroot):
    program = __import__("conftest").ROOT / "build" / build / "cluster-tests" / "control_talk"
    assert program.exists(), f"there is no {program}: make BUILD={build} binaries"
    made = []

    def make(number, timeout=4000, unclean=False, connect=None):
        made.append(Broker(program, tmp_path, len(made), connect or chroot, str(number), str(timeout), *["unclean"] * unclean))
        made[-1].event("registered")
        return made[-1]
    yield make
    for broker in made:
        if broker.process.poll() is None:
            broker.go_on()
    wrong = [why for broker in made for why in broker.end()]
    assert not wrong, "\n".join(wrong)
