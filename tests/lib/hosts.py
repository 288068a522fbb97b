"""Several hosts on one machine: network namespaces, each with its own address, on a network that can be cut.

    with Hosts(3) as hosts:                     hosts a, b, c, and the test itself as "test"
        hosts["a"].address                      "10.x.y.1": reached from each of them, and from the test
        hosts["a"].popen(["spoolfs", ...])      runs there; ended with the hosts, if nobody did before
        hosts.cut("a", "b")                     nothing from a reaches b any more; what b sends still reaches a
        hosts.cut_off("a")                      nothing to a or from it, but for the test
        hosts.slow("a", "b", 20, loss=0.1)      20 ms later, and every tenth packet lost
        hosts.heal()

The packets go through tun devices and a program (lib/switch.py), so nothing of the machine's own network is touched, and no kernel module is needed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SWITCH = Path(__file__).parent / "switch.py"
TEST = "test"


def _remove_left_over() -> None:
    """Of a test that was killed."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in (line.split()[0] for line in names if line):
        words = name.split("-")
        if words[0] == "spoolfs" and len(words) == 3 and words[1].isdigit() and not Path(f"/proc/{words[1]}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False)


class Host:
    def __init__(self, name: str, namespace: str, address: str):
        self.name = name
        self.namespace = namespace
        self.address = address
        self.processes: list[subprocess.Popen] = []

    def prefix(self) -> list[str]:
        """To be put before a command that is to run there. The process that comes of it is the command's own."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "setpriv", "--pdeathsig", "KILL"] if self.namespace else []

    def popen(self, command, **more) -> subprocess.Popen:
        process = subprocess.Popen([*self.prefix(), *map(str, command)], **{"stdin": subprocess.DEVNULL, "start_new_session": True} | more)
        self.processes.append(process)
        return process

    def run(self, command, **more) -> subprocess.CompletedProcess:
        return subprocess.run([*self.prefix(), *map(str, command)], **{"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60} | more)


class Hosts:
    _made = 0

    def __init__(self, count: int):
        Hosts._made += 1
        self.number = (os.getpid() * 7 + Hosts._made) % (64 * 250)
        names = [chr(ord("a") + i) for i in range(count)]
        net = f"10.{64 + self.number // 250}.{self.number % 250 + 1}"
        self.host = {name: Host(name, f"spoolfs-{os.getpid()}-{name}{Hosts._made}", f"{net}.{i + 1}") for i, name in enumerate(names)}
        self.host[TEST] = Host(TEST, "", f"{net}.250")
        self.switch: subprocess.Popen | None = None

    def __getitem__(self, name: str) -> Host:
        return self.host[name]

    @property
    def names(self) -> list[str]:
        return [name for name in self.host if name != TEST]

    def __enter__(self) -> "Hosts":
        _remove_left_over()
        try:
            for host in self.host.values():
                if host.namespace:
                    subprocess.run(["ip", "netns", "add", host.namespace], check=True)
                    subprocess.run(["ip", "-n", host.namespace, "link", "set", "lo", "up"], check=True)
            words = [f"{host.name}={host.namespace}={host.address}" for host in self.host.values()]
            self.switch = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", sys.executable, SWITCH, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self.switch.stdout.readline() == "ready\n", "the switch does not run"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for host in self.host.values():
            for process in host.processes:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                process.wait()
        if self.switch:
            self.switch.stdin.close()
            self.switch.wait()
            self.switch.stdout.close()
        for host in self.host.values():
            if host.namespace:
                subprocess.run(["ip", "netns", "del", host.namespace], check=False, stderr=subprocess.DEVNULL)

    def _link(self, source: str, target: str, delay_ms: float, loss: float) -> None:
        self.switch.stdin.write(f"link {source} {target} {delay_ms} {loss}\n")
        self.switch.stdin.flush()
        assert self.switch.stdout.readline() == "done\n", "the switch is gone"

    def cut(self, source: str, target: str) -> None:
        self._link(source, target, 0, 1)

    def cut_off(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def slow(self, source: str, target: str, delay_ms: float, loss: float = 0) -> None:
        self._link(source, target, delay_ms, loss)

    def heal(self) -> None:
        for source in self.host:
            for target in self.host:
                self._link(source, target, 0, 0)


@pytest.fixture
def hosts():
    """hosts(3): made, and removed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(Hosts(count))
