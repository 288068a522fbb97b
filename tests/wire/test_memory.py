"""Memory that a load took is given back when it is over."""

import struct

from lib import raw
from lib.mounting import wait_until

AT_REST_KIB = 64 << 10


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def ask_of_all(bootstrap, connections, rounds, request):
    """The same of many connections at once: all answers are made at a time."""
    host, port = bootstrap.split(":")
    asking = [raw.Raw((host, int(port))) for _ in range(connections)]
    try:
        for _ in range(rounds):
            for one in asking:
                one.send(request)
            for one in asking:
                assert len(one.receive()) > 40_000
    finally:
        for one in asking:
            one.close()


def test_what_large_answers_took_goes_back_to_the_system(agent, build):
    topics = [f"wide-{i}" for i in range(20)]
    for topic in topics:
        agent.topic("create", topic, "--partitions", "100")
    fetch = struct.pack(">iiiib", -1, 0, 0, 1 << 20, 0) + raw.array([raw.text(t) + raw.array(struct.pack(">iqi", p, 0, 65536) for p in range(100)) for t in topics])
    ends = struct.pack(">i", -1) + raw.array([raw.text(t) + raw.array(struct.pack(">iq", p, -1) for p in range(100)) for t in topics])
    for key, version, body in ((raw.FETCH, 4, fetch), (2, 1, ends)) * 2:
        ask_of_all(agent.bootstrap, 300, 3, raw.request(key, version, body))
    if build == "plain":    # the sanitizers keep what is freed
        wait_until(lambda: resident_kib(agent.daemon.pid) < AT_REST_KIB, 30, "what the answers took is given back")
