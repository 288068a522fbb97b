"""Real ZooKeeper servers for the tests: Debian's `zookeeper`, on loopback addresses.

    with ZooKeeper(directory) as zk:                one server
    with ZooKeeper(directory, servers=3) as zk:     an ensemble, on 127.0.0.1, .2 and .3
    with ZooKeeper(directory, host=hosts["d"]) as zk:   one on a host of lib/hosts.py
        zk.connect                                  host:port,...
        zk.server[0].kill(); zk.server[0].start()
        zk.server[0].ask("dump")                    a four-letter word: here sessions and ephemeral nodes

A tick is 200 ms, so sessions may be as short as 400 ms.
"""

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lib import kafka
from lib.hosts import Host

JAR = "/usr/share/java/zookeeper.jar"       # names in its manifest what else it needs
START_S = 40


class Server:
    def __init__(self, directory: Path, number: int, address: str, port: int, settings: dict, host: Host | None = None):
        self.directory = directory
        self.number = number
        self.address = address
        self.port = port
        self.settings = settings
        self.prefix = host.prefix() if host else ["setpriv", "--pdeathsig", "KILL"]
        self.output = directory / "server.out"
        self.process: subprocess.Popen | None = None

    @property
    def connect(self) -> str:
        return f"{self.address}:{self.port}"

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "data").mkdir(exist_ok=True)
        (self.directory / "data/myid").write_text(f"{self.number}\n")
        (self.directory / "log4j.properties").write_text(
            "log4j.rootLogger=INFO,out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\nlog4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=%d %p %m%n\n")
        settings = {"dataDir": self.directory / "data", "clientPort": self.port, "clientPortAddress": self.address, "tickTime": 200, "minSessionTimeout": 400,
                    "maxSessionTimeout": 60000, "initLimit": 50, "syncLimit": 10, "maxClientCnxns": 0, "admin.enableServer": "false", "4lw.commands.whitelist": "*"} | self.settings
        (self.directory / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [*self.prefix, "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Dzookeeper.forceSync=no",
                 "-Dzookeeper.extendedTypesEnabled=true", "-cp", f"{self.directory}:{JAR}", "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.directory / "zoo.cfg"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while "Mode: " not in self.ask("srvr"):
            assert self.process.poll() is None, f"ZooKeeper ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"ZooKeeper is not ready:\n{self.said()}"
            time.sleep(0.05)

    def start(self) -> None:
        self.launch()
        self.wait()

    def ask(self, word: str) -> str:
        """What it answers to a four-letter word; "" if it does not."""
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=5) as connection:
            connection.sendall(word.encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        return ""

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def said(self) -> str:
        return self.output.read_text(errors="replace")[-4000:]


class ZooKeeper:
    def __init__(self, directory, servers: int = 1, host: Host | None = None, **settings):
        """settings: lines of zoo.cfg, with _ for the dots in their names."""
        settings = {name.replace("_", "."): value for name, value in settings.items()}
        addresses = [host.address] if host else [f"127.0.0.{n}" for n in range(1, servers + 1)]
        ports = kafka.free_ports(3 * servers)
        if servers > 1:
            settings |= {f"server.{n + 1}": f"{addresses[n]}:{ports[3 * n + 1]}:{ports[3 * n + 2]}" for n in range(servers)}
        self.server = [Server(Path(directory) / f"zookeeper{n + 1}", n + 1, addresses[n], ports[3 * n], settings, host) for n in range(servers)]

    @property
    def connect(self) -> str:
        return ",".join(server.connect for server in self.server)

    def mode(self, server: Server) -> str:
        return next((line.split()[1] for line in server.ask("srvr").splitlines() if line.startswith("Mode: ")), "")

    def __enter__(self) -> "ZooKeeper":
        try:
            for server in self.server:
                server.launch()
            for server in self.server:
                server.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for server in self.server:
            if server.process:
                server.process.send_signal(signal.SIGCONT)
            server.kill()


@pytest.fixture(scope="session")
def shared_zookeeper(tmp_path_factory):
    """One server for every test that does not harm it: each takes a chroot of its own."""
    with ZooKeeper(tmp_path_factory.mktemp("zookeeper")) as zk:
        yield zk


@pytest.fixture
def zookeepers(tmp_path):
    """zookeepers(servers=3) -> a ZooKeeper of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda servers=1, **settings: stack.enter_context(ZooKeeper(tmp_path, servers, **settings))
