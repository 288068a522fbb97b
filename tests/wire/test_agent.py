"""The daemon without a mount: how it begins and ends."""

import os
import signal
import subprocess

import pytest

from lib import clients
from lib.mounting import has_ended, wait_until

CLEAN = ".kafka_cleanshutdown"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda how: how.name)
def test_every_signal_ends_it_cleanly(agent, sh, how):
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 0], "a\nb\n")
    assert not (agent.data / CLEAN).exists()
    agent.stop(how)
    assert (agent.data / CLEAN).exists()
    assert sh(f"{agent.program} verify {agent.data}").endswith(b": 0 faults\n")
    agent.start()
    assert clients.run(["kcat", "-b", agent.bootstrap, "-C", "-q", "-e", "-t", "t", "-o", "beginning"]) == "a\nb\n"


def holder(agent):
    return int((agent.data / ".lock").read_text().splitlines()[0])


def test_it_returns_when_it_is_ready_and_goes_on_in_the_background(agents, sh):
    agent = agents(start=False)
    done = subprocess.run(agent.command(), capture_output=True, text=True, timeout=60, env=agent.environment())
    assert done.returncode == 0, done.stderr
    pid = holder(agent)
    try:
        assert os.readlink(f"/proc/{pid}/cwd") == "/" and os.getsid(pid) == pid != os.getsid(0)
        clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 0], "a\n")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: has_ended(pid), 60)
    assert (agent.data / CLEAN).exists()


def test_a_second_holder_is_refused_with_the_pid_of_the_first(agent, agents, mounts):
    said = f"{agent.data} is in use by process {agent.daemon.pid} (spoolfs agent)"
    second = agents(start=False, data=agent.data)
    done = subprocess.run(second.command("-f"), capture_output=True, text=True, timeout=60, env=agent.environment())
    assert done.returncode == 1 and said in done.stderr
    assert said in mounts(start=False, data=agent.data).refused()
    done = subprocess.run([agent.program, "verify", agent.data], capture_output=True, text=True, timeout=60)
    assert done.returncode and f"{said}; stop it first" in done.stderr


def test_a_mount_keeps_an_agent_out(mount, agents):
    agent = agents(start=False, data=mount.data)
    done = subprocess.run(agent.command("-f"), capture_output=True, text=True, timeout=60, env=agent.environment())
    assert done.returncode == 1 and f"{mount.data} is in use by process {mount.pid()}, mounted at {mount.dir}" in done.stderr


def test_one_that_is_stopping_is_waited_for(agent, agents):
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 0], "a\n" * 10000)
    agent.daemon.signal(signal.SIGTERM)
    second = agents(start=False, data=agent.data)
    wait_until(lambda: not agent.daemon.running or "stopping" in (agent.data / ".lock").read_text())
    second.start()
    agent.stop()
    assert clients.run(["kcat", "-b", second.bootstrap, "-C", "-q", "-e", "-t", "t", "-o", "beginning"]) == "a\n" * 10000


def test_what_an_agent_wrote_a_mount_shows(agents, mounts):
    agent = agents()
    clients.run(["kcat", "-b", agent.bootstrap, "-P", "-t", "t", "-p", 0], "one\ntwo\n")
    agent.topic("alter", "t", "-o", "retention.ms=3600000")
    agent.stop()
    mount = mounts(data=agent.data)
    assert (mount.dir / "t" / "0").read_text() == "one\ntwo\n"
    assert "retention.ms=3600000" in (mount.dir / "t" / ".config").read_text()


@pytest.mark.parametrize("words, said, status", [
    ("", "where are clients to be served? Say --listen for localhost:9092", 1),
    ("--listen localhost:1 -o ro", "ro: an option of mounts, and an agent has none", 1),
    ("--listen nonsense:port", "an agent has no mount point", 2),
    ("--listen localhost:1 /mnt", "an agent has no mount point: /mnt is one too many", 2),
    ("-o listeners=nonsense", "host:port is expected", 1),
    ("--listen localhost:1 -o no.such=1", "no such property", 1),
    ("-c /nonexistent", "/nonexistent", 1),
])
def test_what_it_does_not_take(spoolfs, sh, tmp_path, words, said, status):
    sh(f"{spoolfs} agent -d {tmp_path}/data {words}", status=status, stderr=said)
    assert not (tmp_path / "data").exists()


def test_an_address_that_is_taken(agent, agents):
    other = agents(start=False)
    other.bootstrap = agent.bootstrap
    done = subprocess.run(other.command(), capture_output=True, text=True, timeout=60, env=agent.environment())
    assert done.returncode == 1 and "the address is in use" in done.stderr
    assert (other.data / CLEAN).exists(), "it had opened the log, and closed it"


def test_a_properties_file(agents, tmp_path):
    agent = agents(start=False)
    (tmp_path / "file").write_text(f"listeners=PLAINTEXT://{agent.bootstrap}\nnum.partitions=5\n")
    command = [word for word in agent.command("-c", str(tmp_path / "file"), "-o", "num.partitions=4") if word not in ("--listen", agent.bootstrap)]
    agent.command = lambda *more: [*command, *more]
    agent.start()
    assert agent.topic("create", "t")[0]["partitions"] == 4
