"""`spoolfs agent` for a test, and `spoolfs topic`.

    agent = agents("num.partitions=2")          # serves clients at agent.bootstrap, in the foreground
    agent.stop(); agent.start()
    agents(host=hosts["a"], faults=True)        # on a host of lib/hosts.py; with the fault hook in it (lib/faults.py)
    topic = agent.topic("describe", "t")        # what `spoolfs topic --json` printed
"""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from lib import kafka
from lib.faults import Faults
from lib.hosts import Host
from lib.mounting import LOUD, START_S, STOP_S, Daemon, wait_until


def topic(program, bootstrap, *words, status=0):
    """(what it printed, what it said of errors) of `spoolfs topic WORDS --json`."""
    done = subprocess.run([program, "topic", *map(str, words), "--json", "-b", bootstrap], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout else None, done.stderr


class Agent:
    def __init__(self, program: Path, place: Path, *options: str, data: Path | None = None, host: Host | None = None, faults=False):
        self.program = program.with_name("spoolfs-faults") if faults else program
        self.data = data or place / "data"
        self.host = host
        self.faults = Faults(place / "faults") if faults else None
        self.port = kafka.free_ports(1)[0]
        self.address = host.address if host else "127.0.0.1"
        self.bootstrap = f"{self.address}:{self.port}"
        self.options = list(options)
        self.messages_file = place / "messages"
        self.reports = place / "sanitizer"
        self.daemon: Daemon | None = None
        self.starts = 0
        self.rules: tuple[str, ...] = ()    # of lib/faults.py, for each start anew: what one process has taken the next does not
        self._before = 0
        self._expected: list[str] = []

    def environment(self):
        return os.environ | (self.faults.environment if self.faults else {}) | {name: f"{os.environ.get(name, '')}:log_path={self.reports}".lstrip(":") for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")}

    def command(self, *more: str) -> list[str]:
        options = [word for option in self.options for word in ("-o", option)]
        return [str(self.program), "agent", "-d", str(self.data), *options, "--listen", self.bootstrap, *more]

    def start(self) -> "Agent":
        self.starts += 1
        if self.rules:
            self.faults.set(*self.rules)
        with open(self.messages_file, "ab") as messages:
            ahead = self.host.prefix() if self.host else ["setpriv", "--pdeathsig", "SIGTERM"]
            process = subprocess.Popen([*ahead, *self.command("-f")], stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
                                       env=self.environment(), start_new_session=True)
        self.daemon = Daemon(process.pid, process)
        wait_until(lambda: f"{self.data} is served" in self.said() or not self.daemon.running, START_S, "the agent is ready")
        assert self.daemon.running, self.messages()
        return self

    def messages(self) -> str:
        return self.messages_file.read_text(errors="replace") if self.messages_file.exists() else ""

    def expect(self, text: str) -> None:
        """An error or warning with this in it is what the test is about."""
        self._expected.append(text)

    def said(self) -> str:
        return self.messages()[self._before:]

    def stop(self, how=signal.SIGTERM, status=0) -> None:
        self.daemon.signal(how)
        assert self.daemon.wait(STOP_S), f"the agent does not end\n{self.messages()}"
        process, self.daemon = self.daemon.process, None
        self._before = len(self.messages())
        assert status is None or process.returncode == status, f"it ended with {process.returncode}\n{self.messages()}"

    def restart(self) -> None:
        self.stop()
        self.start()

    def topic(self, *words, status=0):
        return topic(self.program, self.bootstrap, *words, status=status)[0]

    def clean_up(self) -> list[str]:
        wrong = []
        if self.daemon:
            try:
                self.stop()
            except AssertionError as failure:
                wrong.append(str(failure))
        wrong += [line for line in self.messages().splitlines()
                  if (LOUD.search(line) or line.startswith("spoolfs agent: ")) and not any(text in line for text in self._expected)]
        wrong += [report.read_text(errors="replace") for report in self.reports.parent.glob(f"{self.reports.name}.*")]
        return wrong


@pytest.fixture
def agents(spoolfs):
    """agents("broker.id=1") -> an Agent, started."""
    made = []
    with tempfile.TemporaryDirectory(prefix="spoolfs-agent.") as place:
        def make(*options, start=True, **how):
            here = Path(place) / str(len(made))
            here.mkdir()
            made.append(Agent(spoolfs, here, *options, **how))
            return made[-1].start() if start else made[-1]
        yield make
        wrong = [line for agent in made for line in agent.clean_up()]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def agent(agents):
    """One with nothing set."""
    return agents()
