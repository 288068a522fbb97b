"""What the tests of clusters stand on: hosts of their own, on a network that can be cut."""

import socket
import subprocess
import sys

import pytest

ECHO = """
import socket, sys, threading
def serve(c):
    while data := c.recv(1 << 20):
        c.sendall(data)
s = socket.create_server((sys.argv[1], 7))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
ASK = """
import socket, sys
c = socket.create_connection((sys.argv[1], 7), float(sys.argv[2]))
c.sendall(b"x")
sys.exit(c.recv(1) != b"x")
"""
RECEIVE = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind((sys.argv[1], 9))
s.settimeout(5)
print("ready", flush=True)
print(s.recv(100).decode(), flush=True)
"""
SEND = """
import socket, sys
socket.socket(type=socket.SOCK_DGRAM).sendto(b"one way", (sys.argv[1], 9))
"""
ROUND = """
import socket, sys, time
c = socket.create_connection((sys.argv[1], 7), 9)
begun = time.monotonic()
c.sendall(b"x")
c.recv(1)
print(time.monotonic() - begun)
"""
MUCH = """
import socket, sys, threading
c = socket.create_connection((sys.argv[1], 7), 9)
data, got = bytes(range(256)) * 4096, b""
threading.Thread(target=c.sendall, args=(data,)).start()
while len(got) < len(data):
    got += c.recv(1 << 20)
sys.exit(got != data)
"""


@pytest.fixture
def three(hosts):
    three = hosts(3)
    for name in three.names:
        server = three[name].popen([sys.executable, "-c", ECHO, three[name].address], stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
    return three


def reaches(three, source, target, seconds=3):
    return three[source].run([sys.executable, "-c", ASK, three[target].address, seconds]).returncode == 0


def test_each_reaches_each(three):
    for source in three.host:
        for target in three.names:
            assert reaches(three, source, target), (source, target)


def test_a_cut_is_for_one_way(three):
    connection = socket.create_connection((three["b"].address, 7), 5)
    three.cut("a", "b")
    assert not reaches(three, "a", "b", 1) and not reaches(three, "b", "a", 1), "an answer needs both ways"
    assert reaches(three, "a", "c") and reaches(three, "c", "b")
    connection.sendall(b"x")
    assert connection.recv(1) == b"x", "who is not cut off goes on"
    connection.close()
    receiver = three["a"].popen([sys.executable, "-c", RECEIVE, three["a"].address], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout.readline() == "ready\n"
    three["b"].run([sys.executable, "-c", SEND, three["a"].address])
    assert receiver.stdout.readline() == "one way\n"
    three.heal()
    assert reaches(three, "a", "b")


def test_a_host_is_cut_off_but_for_the_test(three):
    three.cut_off("b")
    assert not reaches(three, "a", "b", 1) and not reaches(three, "b", "c", 1)
    assert reaches(three, "test", "b") and reaches(three, "a", "c")


def test_a_slow_link_is_slow(three):
    three.slow("a", "b", 150)
    took = float(three["a"].run([sys.executable, "-c", ROUND, three["b"].address]).stdout)
    assert took >= 0.15


def test_much_goes_through_a_lossy_link(three):
    three.slow("a", "b", 1, loss=0.02)
    assert three["a"].run([sys.executable, "-c", MUCH, three["b"].address]).returncode == 0


def test_nothing_is_left(hosts):
    made = hosts(2)
    names = [host.namespace for host in made.host.values() if host.namespace]
    process = made["a"].popen(["sleep", "1000"])
    made.__exit__()
    assert process.returncode is not None
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in names if name in left]
