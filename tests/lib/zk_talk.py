"""A client of cluster/zk for a test (tests/cluster/zk_talk.c), and a proxy in front of ZooKeeper that loses connections.

    talk = talks(zk.connect + "/chroot")       connected
    talk("create", path="/a", data="x")        -> {"code": "ok", ...}
    talk.event("expired")                      waits until a listener has heard that
"""

import json
import os
import queue
import socket
import subprocess
import threading
import time
from contextlib import suppress

import pytest

WAIT_S = 60


class Talk:
    def __init__(self, program, place, number, *arguments):
        self.reports = place / f"sanitizer{number}"
        self.messages = place / f"messages{number}"
        environment = os.environ | {name: f"{os.environ.get(name, '')}:log_path={self.reports}".lstrip(":") for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")}
        with open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True, env=environment)
        self.lines = []                 # all that it has printed
        self.arrived = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.taken = set()
        self.ids = 0

    def _read(self):
        for line in self.process.stdout:
            with self.arrived:
                self.lines.append(json.loads(line))
                self.arrived.notify_all()

    def tell(self, do, **words):
        self.process.stdin.write(json.dumps({"do": do} | words) + "\n")
        self.process.stdin.flush()

    def take(self, wanted, what, timeout_s=WAIT_S):
        """The first line not taken yet that is wanted."""
        deadline = time.monotonic() + timeout_s
        with self.arrived:
            while True:
                for number, line in enumerate(self.lines):
                    if number not in self.taken and wanted(line):
                        self.taken.add(number)
                        return line
                left = deadline - time.monotonic()
                assert left > 0 and (self.process.poll() is None or self.arrived.wait(0.2)), f"no {what} among {self.lines}\n{self.said()}"
                self.arrived.wait(min(left, 0.2))

    def event(self, name, **members):
        return self.take(lambda line: line.get("event") == name and all(line.get(key) == value for key, value in members.items()), f"{name} {members}")

    def events(self):
        return [line["event"] for line in self.lines if "event" in line]

    def send(self, do, **words):
        """A request whose answer is taken later."""
        self.ids += 1
        self.tell(do, id=self.ids, **words)
        return self.ids

    def answer(self, number):
        return self.take(lambda line: line.get("id") == number, f"answer {number}")

    def __call__(self, do, **words):
        return self.answer(self.send(do, **words))

    def ask(self, do, member, **words):
        self.tell(do, **words)
        return self.take(lambda line: member in line or "failed" in line, member)

    def open(self, connect, timeout=4000, **options):
        self.tell("open", connect=connect, timeout=timeout, **options)
        return self

    def ready(self, ms=30000):
        line = self.ask("wait", "ready", ms=ms)
        assert "failed" not in line, line
        return self

    def close(self):
        return self.ask("close", "closed")

    def said(self):
        return self.messages.read_text(errors="replace")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Ends it, if a test has not killed it: what went wrong."""
        wrong = []
        if self.process.poll() is None:
            self.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            if self.process.poll() is None:
                self.process.kill()
                wrong.append("it does not end")
            elif self.process.returncode:
                wrong.append(f"it ended with {self.process.returncode}")
        self.process.wait()
        self.reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()
        wrong += [report.read_text(errors="replace") for report in self.reports.parent.glob(f"{self.reports.name}.*")]
        return [f"{why}\n{self.said()[-3000:]}" for why in wrong]


class Cut:
    """Of a connection whose next answer is lost: to which request, and whether the server has given it."""

    def __init__(self):
        self.xid = None
        self.answered = threading.Event()


class Proxy:
    """Between clients and one server. Tells packets of ZooKeeper apart, so that a connection can be cut before or behind the one that is wanted.

        proxy.cut(PASS, MULTI)      the next multi goes to the server, its answer is lost with the connection
        proxy.cut(DROP, CREATE)     the next create is lost with the connection
        proxy.refuse = True         nobody is let in
    """

    CREATE, DELETE, SET, CREATE2, MULTI = 1, 2, 5, 15, 14
    BEAT_BYTES = 39             # of the multi that a session makes for its lease alone: it is let through

    def __init__(self, server: str):
        host, port = server.rsplit(":", 1)
        self.server = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connect = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.refuse = False
        self.plan = None            # (pass it on, operations)
        self.hits = 0
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, passing, *operations):
        self.plan = (passing, operations)

    def cut_now(self):
        for pair in self.pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.refuse:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self.server, timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                cut = Cut()
                self.pairs.append((client, server))
                threading.Thread(target=self._up, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server, cut), daemon=True).start()

    @staticmethod
    def _packet(end):
        def exactly(n):
            got = b""
            while len(got) < n:
                more = end.recv(n - len(got))
                if not more:
                    raise OSError("closed")
                got += more
            return got
        head = exactly(4)
        return head + exactly(int.from_bytes(head, "big", signed=True))

    def _up(self, client, server, cut):
        with suppress(OSError):
            server.sendall(self._packet(client))        # the connect request
            while True:
                packet = self._packet(client)
                operation = int.from_bytes(packet[8:12], "big", signed=True)
                plan = self.plan
                if plan and operation in plan[1] and (operation, len(packet)) != (self.MULTI, self.BEAT_BYTES):
                    self.plan = None
                    if plan[0]:
                        cut.xid = packet[4:8]           # answers go nowhere from here on
                        server.sendall(packet)
                        cut.answered.wait(5)
                    self.hits += 1
                    break
                server.sendall(packet)
        self._end(client, server)

    def _down(self, client, server, cut):
        with suppress(OSError):
            while True:
                packet = self._packet(server)
                if cut.xid is None:
                    client.sendall(packet)
                elif packet[4:8] == cut.xid:
                    cut.answered.set()
        if cut.xid is None:
            self._end(client, server)

    @staticmethod
    def _end(*ends):
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def stop(self):
        self.listener.close()
        self.cut_now()


@pytest.fixture
def talks(build, tmp_path):
    """talks(connect, timeout=2000) -> a Talk whose session is connected; talks() -> one that has opened nothing."""
    program = __import__("conftest").ROOT / "build" / build / "cluster-tests" / "zk_talk"
    assert program.exists(), f"there is no {program}: make BUILD={build} binaries"
    made = []

    def make(connect=None, **options):
        made.append(Talk(program, tmp_path, len(made)))
        return made[-1].open(connect, **options).ready() if connect else made[-1]
    yield make
    wrong = [why for talk in made for why in talk.end()]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def proxies():
    made = []

    def make(server):
        made.append(Proxy(server))
        return made[-1]
    yield make
    for proxy in made:
        proxy.stop()
