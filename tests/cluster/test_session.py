"""The session with ZooKeeper: requests, watches, lost connections, expiry, the lease, ACLs; against real servers."""


import random
import re
import signal
import subprocess
import uuid

import pytest

from lib.mounting import wait_until
from lib.zk_talk import Proxy
from lib.zookeeper import JAR

PASS, DROP = True, False


@pytest.fixture
def root(shared_zookeeper):
    """host:port/chroot, of a server that others use too."""
    return f"{shared_zookeeper.connect}/{uuid.uuid4().hex[:8]}/spool"


def cli(server, *command):
    """What ZooKeeper's own shell says: another client."""
    return subprocess.run(["java", "-cp", JAR, "org.apache.zookeeper.ZooKeeperMain", "-server", server, *command], capture_output=True, text=True, timeout=60)


def split(connect):
    hosts, _, chroot = connect.partition("/")
    return hosts, "/" + chroot


def session_file(path):
    return dict(re.findall(r"^(session|password)=(.*)$", path.read_text(), re.M))


def end_session(other, talk, zk, file):
    """By another client. As the server moves the session to whoever connects last, that may take more than one attempt."""
    kept = session_file(file)
    wait_until(lambda: other.ask("end_session", "ended", connect=zk.connect, **kept) and "has expired" in talk.said(), 60, "the session is over")


# Requests

def test_what_is_asked_is_done(talks, root):
    talk = talks(root)
    assert talk("create", path="/a", data="one")["code"] == "ok"
    assert talk("create", path="/a")["code"] == "exists"
    assert talk("create", path="/b/c")["code"] == "no node"
    got = talk("get", path="/a")
    assert (got["code"], got["data"], got["stat"]["version"], got["stat"]["ephemeral"]) == ("ok", "one", 0, False)
    assert talk("set", path="/a", data="two", version=0)["stat"]["version"] == 1
    refused = talk("set", path="/a", data="three", version=0)
    assert refused["code"] == "bad version" and "/a: somebody else has written it" in refused["says"]
    assert talk("make_path", path="/x/y/z")["code"] == "ok"
    assert talk("make_path", path="/x/y/z")["code"] == "ok"
    assert sorted(talk("children", path="/")["children"]) == ["a", "x"]
    assert talk("delete", path="/x")["code"] == "not empty"
    assert talk("delete", path="/a", version=1)["code"] == "ok"
    assert talk("exists", path="/a")["code"] == "no node"
    assert talk("sync")["code"] == "ok"
    assert talk("get", path="/x")["code"] == "ok"


def test_sequential_names_and_children_of_ephemerals(talks, root):
    talk = talks(root)
    assert talk("create", path="/n_", flags="es")["path"] == "/n_0000000000"
    assert talk("create", path="/n_", flags="s")["path"] == "/n_0000000001"
    assert talk("create", path="/n_0000000000/x")["code"] == "invalid"
    for bad in ("no-slash", "/a//b", "/a/../b", "/a/", "/\x01", "/" + "x" * 1100):
        assert talk("create", path=bad)["code"] == "invalid", bad


def test_a_multi_is_done_whole_or_not(talks, root):
    talk = talks(root)
    done = talk("multi", parts=[dict(do="create", path="/e", data="1"), dict(do="create", path="/f"), dict(do="set", path="/e", data="2", version=0)])
    assert done["code"] == "ok" and [part["code"] for part in done["parts"]] == ["ok"] * 3 and done["parts"][2]["stat"]["version"] == 1
    refused = talk("multi", parts=[dict(do="check", path="/e", version=1), dict(do="create", path="/g"), dict(do="delete", path="/f", version=7), dict(do="create", path="/h")])
    assert refused["code"] == "bad version" and refused["refused"] == 2
    assert [part["code"] for part in refused["parts"]] == ["rolled back", "rolled back", "bad version", "rolled back"]
    assert "/f" in refused["says"]
    assert talk("exists", path="/g")["code"] == "no node"
    named = talk("multi", parts=[dict(do="check", path="/e", version=1), dict(do="create", path="/s_", flags="s"), dict(do="delete", path="/f")])
    assert re.fullmatch(r"/s_\d{10}", named["parts"][1]["path"])


def test_what_no_server_takes_is_not_sent(talks, root):
    talk = talks(root)
    assert talk("create", path="/a", bytes=1 << 20)["code"] == "too large"
    assert talk("multi", parts=[dict(do="create", path=f"/m{i}", bytes=300_000) for i in range(4)])["code"] == "too large"
    assert talk("create", path="/a", bytes=(1 << 20) - 400)["code"] == "ok"
    chroot = len(split(root)[1])
    most = 0xfffff - 32 - 2 * (64 + chroot + 2)
    assert talk("multi", parts=[dict(do="create", path="/p", bytes=most // 2), dict(do="create", path="/q", bytes=most - most // 2)])["code"] == "ok"
    assert "suspended" not in talk.events()


def test_many_requests_wait_their_turn(talks, root):
    talk = talks(root, in_flight=2)
    numbers = [talk.send("create", path=f"/n{i}") for i in range(300)]
    assert all(talk.answer(number)["code"] == "ok" for number in numbers)


# Watches

def test_watches_fire_once_and_say_what(talks, root):
    one, two = talks(root), talks(root)
    one("exists", path="/w", watch=True)
    two("create", path="/w", data="x")
    one.event("created", path="/w")
    one("get", path="/w", watch=True)
    one("children", path="/w", watch=True)
    two("create", path="/w/c")
    one.event("children", path="/w")
    two("set", path="/w", data="y")
    one.event("changed", path="/w")
    two("set", path="/w", data="z")
    one("get", path="/w", watch=True)
    two("delete", path="/w/c")
    two("delete", path="/w")
    one.event("deleted", path="/w")
    assert one.events() == ["connected", "created", "children", "changed", "deleted"]


def test_a_watch_sees_what_happened_while_the_connection_was_away(talks, proxies, shared_zookeeper, root):
    proxy = proxies(shared_zookeeper.connect)
    one, two = talks(root.replace(shared_zookeeper.connect, proxy.connect)), talks(root)
    two("create", path="/w", data="x")
    one("get", path="/w", watch=True)
    proxy.refuse = True
    proxy.cut_now()
    one.event("suspended")
    two("set", path="/w", data="y")
    proxy.refuse = False
    one.event("changed", path="/w")
    assert one("get", path="/w")["data"] == "y"


def test_watches_that_no_reconnection_could_set_are_refused(talks, root):
    talk = talks(root, in_flight=100)
    name = "x" * 900
    numbers = [talk.send("exists", path=f"/{i:04}{name}", watch=True) for i in range(1300)]
    codes = [talk.answer(number)["code"] for number in numbers]
    assert codes.count("too large") > 10 and codes[0] == "no node"


# A lost connection

@pytest.mark.parametrize("way", [PASS, DROP])
@pytest.mark.parametrize("what, operation", [
    (dict(do="create", path="/n", data="mine"), Proxy.CREATE2), (dict(do="create", path="/n", data="mine", flags="e"), Proxy.CREATE2), (dict(do="create", path="/n"), Proxy.CREATE2),
    (dict(do="set", path="/old", data="new", version=0), Proxy.SET), (dict(do="set", path="/old", data="new"), Proxy.SET), (dict(do="delete", path="/old", version=0), Proxy.DELETE),
    (dict(do="make_path", path="/n/m"), Proxy.CREATE),
    (dict(do="multi", parts=[dict(do="check", path="/epoch", version=0), dict(do="create", path="/n", data="mine"), dict(do="set", path="/old", data="new", version=0)]), Proxy.MULTI),
    (dict(do="multi", parts=[dict(do="create", path="/n", flags="e"), dict(do="set", path="/epoch", data="2", version=0)]), Proxy.MULTI),
    (dict(do="multi", parts=[dict(do="check", path="/epoch", version=0), dict(do="delete", path="/old", version=0)]), Proxy.MULTI)])
def test_a_write_whose_answer_is_lost_is_done_once(talks, proxies, shared_zookeeper, root, what, operation, way):
    proxy = proxies(shared_zookeeper.connect)
    talk = talks(root.replace(shared_zookeeper.connect, proxy.connect))
    for path in ("/old", "/epoch"):
        assert talk("create", path=path, data="1")["code"] == "ok"
    proxy.cut(way, operation)
    done = talk(**what)
    assert proxy.hits == 1 and talk.event("suspended")
    assert done["code"] == "ok", done
    if what["do"] == "set" and "version" in what:
        assert done["stat"]["version"] == 1 == talk("get", path="/old")["stat"]["version"]
    if what["do"] == "create":
        assert done["stat"]["czxid"] == talk("get", path="/n")["stat"]["czxid"]


@pytest.mark.parametrize("what, operation, code, others", [
    (dict(do="create", path="/n", data="mine"), Proxy.CREATE2, "exists", dict(do="create", path="/n", data="theirs")),
    (dict(do="create", path="/n", flags="e"), Proxy.CREATE2, "exists", dict(do="create", path="/n", flags="e")),
    (dict(do="set", path="/old", data="mine", version=0), Proxy.SET, "bad version", dict(do="set", path="/old", data="theirs", version=0)),
    (dict(do="multi", parts=[dict(do="check", path="/epoch", version=0), dict(do="create", path="/n", data="mine")]), Proxy.MULTI, "bad version", dict(do="set", path="/epoch", data="9")),
    (dict(do="multi", parts=[dict(do="create", path="/n", data="mine"), dict(do="create", path="/m", data="mine")]), Proxy.MULTI, "unknown", dict(do="create", path="/n", data="mine")),
    (dict(do="multi", parts=[dict(do="check", path="/epoch", version=0)]), Proxy.MULTI, "bad version", dict(do="set", path="/epoch", data="9"))])
def test_what_others_wrote_meanwhile_is_not_taken_for_ours(talks, proxies, shared_zookeeper, root, what, operation, code, others):
    proxy = proxies(shared_zookeeper.connect)
    talk, other = talks(root.replace(shared_zookeeper.connect, proxy.connect)), talks(root)
    for path in ("/old", "/epoch"):
        other("create", path=path, data="1")
    proxy.cut(DROP, operation)
    proxy.refuse = True
    number = talk.send(**what)
    talk.event("suspended")
    assert other(**others)["code"] == "ok"
    proxy.refuse = False
    assert talk.answer(number)["code"] == code


def test_requests_keep_their_order_over_a_lost_connection(talks, proxies, shared_zookeeper, root):
    proxy = proxies(shared_zookeeper.connect)
    talk = talks(root.replace(shared_zookeeper.connect, proxy.connect), in_flight=4)
    talk("create", path="/n")
    proxy.cut(PASS, Proxy.SET)
    numbers = [talk.send("set", path="/n", data=str(i)) for i in range(100)]
    assert [talk.answer(number)["code"] for number in numbers] == ["ok"] * 100
    assert talk("get", path="/n")["data"] == "99"


# The session's end

def test_an_expired_session_is_told_of_and_a_new_one_begins(talks, shared_zookeeper, root, tmp_path):
    """SIGSTOP for longer than the session."""
    talk, other = talks(root, timeout=1000), talks(root)
    first = talk.event("connected")["session"]
    talk("create", path="/mine", flags="e")
    other("exists", path="/mine", watch=True)
    talk.process.send_signal(signal.SIGSTOP)
    other.event("deleted", path="/mine")
    number = talk.ids + 1
    talk.send("create", path="/late", flags="e")        # read when it goes on: before or after it has heard
    talk.process.send_signal(signal.SIGCONT)
    talk.event("expired")
    assert talk.event("connected")["session"] != first
    assert talk.answer(number)["code"] in ("expired", "ok")
    assert talk("create", path="/mine", flags="e")["code"] == "ok"
    assert [event for event in talk.events() if event != "suspended"] == ["connected", "expired", "connected"]


def test_a_session_that_another_client_closes_is_expired(talks, shared_zookeeper, root, tmp_path):
    talk, other = talks(root, session_file=str(tmp_path / "session")), talks()
    kept = session_file(tmp_path / "session")
    assert (tmp_path / "session").stat().st_mode & 0o777 == 0o600
    first = talk.event("connected")["session"]
    assert kept["session"] == first
    talk("create", path="/mine", flags="e")
    talk("exists", path="/mine", watch=True)
    end_session(other, talk, shared_zookeeper, tmp_path / "session")
    talk.event("expired")
    second = talk.take(lambda line: line.get("event") == "connected" and line["session"] != first, "another session")["session"]
    assert session_file(tmp_path / "session")["session"] == second
    assert talk("exists", path="/mine")["code"] == "no node"


def test_what_is_asked_between_two_sessions_is_refused(talks, shared_zookeeper, root, tmp_path):
    """The caller still believes in the first session when the second is there: nothing of that gets into the second."""
    talk, other = talks(root, session_file=str(tmp_path / "session")), talks(root)
    talk("create", path="/mine", flags="e")
    talk.tell("stall")
    end_session(other, talk, shared_zookeeper, tmp_path / "session")
    wait_until(lambda: len(set(re.findall("connected to .* session (0x[0-9a-f]+)", talk.said()))) == 2, 30, "the second session")
    late = talk.send("create", path="/late", flags="e")
    assert other("exists", path="/late")["code"] == "no node"
    talk.tell("go_on")
    assert talk.answer(late)["code"] == "expired"
    talk.event("expired")
    assert talk("create", path="/late", flags="e")["code"] == "ok"


def test_closing_ends_the_session_at_once(talks, root, tmp_path):
    talk, other = talks(root, timeout=60000, session_file=str(tmp_path / "session")), talks(root)
    talk("create", path="/mine", flags="e")
    other("exists", path="/mine", watch=True)
    talk.close()
    other.event("deleted", path="/mine")
    assert not (tmp_path / "session").exists()


def test_a_restart_ends_the_session_of_the_process_before(talks, root, tmp_path):
    """Killed and back within the timeout, which is a minute."""
    file = str(tmp_path / "session")
    talk, other = talks(root, timeout=60000, session_file=file), talks(root)
    talk("create", path="/mine", flags="e")
    other("exists", path="/mine", watch=True)
    talk.kill()
    talk = talks(root, timeout=60000, session_file=file)
    other.event("deleted", path="/mine")
    assert talk("create", path="/mine", flags="e")["code"] == "ok"


def test_a_session_file_that_is_no_use_is_no_harm(talks, root, tmp_path):
    for text in ("", "session=\npassword=\n", "session=zz\npassword=00\n", "session=0123456789abcdef\npassword=" + "00" * 16 + "\n", "x" * 5000):
        (tmp_path / "session").write_text(text)
        talk = talks(root, session_file=str(tmp_path / "session"))
        assert talk("get", path="/")["code"] == "ok"
        talk.close()


def test_requests_in_flight_are_done_when_the_session_is_closed(talks, proxies, shared_zookeeper, root):
    proxy = proxies(shared_zookeeper.connect)
    talk = talks(root.replace(shared_zookeeper.connect, proxy.connect))
    proxy.refuse = True
    proxy.cut_now()
    talk.event("suspended")
    numbers = [talk.send("create", path=f"/n{i}") for i in range(20)]
    talk.close()
    assert [talk.answer(number)["code"] for number in numbers] == ["closed"] * 20


# Servers

def test_no_server_is_an_error_that_says_so(talks):
    talk = talks().open("127.0.0.1:1,localhost:2", timeout=1000)
    line = talk.ask("wait", "ready", ms=1500)
    assert "no ZooKeeper of 127.0.0.1:1,localhost:2 has answered within 1500 ms" in line["failed"]
    assert talk("get", path="/")["code"] == "expired"
    talk.close()
    nowhere = talks().open("no-such-host.invalid:2181", timeout=1000)
    assert "zookeeper.connect" in nowhere.ask("wait", "ready", ms=1000)["failed"]


def test_a_connect_string_that_is_none_is_refused(talks):
    for text in ("", ",", "host:", "host:0", "host:70000", "a:1,,b:2", "a b:1", "host:1/a//b", "host:1/../x"):
        talk = talks()
        assert talk.ask("open", "failed", connect=text)["error"] == "invalid", text


def test_a_server_that_is_killed_is_left_for_another(talks, zookeepers):
    zk = zookeepers(servers=3)
    talk = talks(zk.connect + "/spool", timeout=6000)
    session = talk.event("connected")["session"]
    talk("create", path="/mine", flags="e")
    for round in range(2):
        port = next(server for server in zk.server if server.process and f"session 0x" and session.lstrip("0") in server.ask("cons"))
        port.kill()
        talk.event("suspended")
        assert talk.event("connected")["session"] == session
        assert talk("get", path="/mine")["stat"]["ephemeral"]
        port.start()
    assert "expired" not in talk.events()


def test_a_lost_quorum_is_survived(talks, zookeepers):
    zk = zookeepers(servers=3)
    talk = talks(zk.connect, timeout=2000)
    session = talk.event("connected")["session"]
    for server in zk.server[1:]:
        server.kill()
    talk.event("suspended")
    number = talk.send("create", path="/n", flags="e")
    wait_until(lambda: talk.ask("lease", "lease")["lease"] <= 0, 20, "the lease has ended")
    for server in zk.server[1:]:
        server.launch()
    assert talk.answer(number)["code"] in ("ok", "expired")
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 30, "there is a lease again")
    assert session


def test_the_timeout_is_what_the_servers_grant(talks, shared_zookeeper, root):
    for asked, granted in ((100, 400), (5000, 5000), (10_000_000, 60000)):
        assert talks(root, timeout=asked).ask("timeout", "timeout")["timeout"] == granted


# The lease

def test_the_lease_holds_while_servers_answer_and_ends_when_they_do_not(talks, proxies, shared_zookeeper, root):
    proxy = proxies(shared_zookeeper.connect)
    talk = talks(root.replace(shared_zookeeper.connect, proxy.connect), timeout=3000)
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 10, "the first answer")
    assert all(0 < talk.ask("lease", "lease")["lease"] <= 2000 for _ in range(50))
    proxy.refuse = True
    proxy.cut_now()
    wait_until(lambda: talk.ask("lease", "lease")["lease"] <= 0, 20, "the lease has ended")
    assert "expired" not in talk.events()
    proxy.refuse = False
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 20, "there is a lease again")


def test_answers_of_a_server_that_has_lost_the_others_give_no_lease(talks, zookeepers):
    """For a minute it does not notice, and answers reads; nobody else hears of our session meanwhile."""
    zk = zookeepers(servers=3, syncLimit=300)
    ours = next(server for server in zk.server if zk.mode(server) == "follower")
    talk = talks(ours.connect, timeout=3000)
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 10, "the first answer")
    for server in zk.server:
        if server is not ours:
            server.signal(signal.SIGSTOP)
    wait_until(lambda: talk.ask("lease", "lease")["lease"] <= 0, 30, "the lease has ended")
    assert zk.mode(ours) == "follower"


def test_a_stopped_process_has_no_lease_when_it_goes_on(talks, root):
    talk, other = talks(root, timeout=1000), talks(root)
    talk("create", path="/mine", flags="e")
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 10, "the first answer")
    other("exists", path="/mine", watch=True)
    talk.process.send_signal(signal.SIGSTOP)
    other.event("deleted", path="/mine")            # so more than the timeout has passed
    talk.tell("lease")
    talk.process.send_signal(signal.SIGCONT)
    talk.event("expired")
    talk.event("connected")
    wait_until(lambda: talk.ask("lease", "lease")["lease"] > 0, 10, "a lease of the new session")


# Who may do what

def test_what_is_ours_others_may_read_and_not_change(talks, shared_zookeeper, root):
    hosts, chroot = split(root)
    talk = talks(root, credentials="broker:secret", set_acl=True)
    for path in ("/brokers", "/config", "/config/users", "/consumers"):
        assert talk("create", path=path, data="x")["code"] == "ok"
    assert talk("multi", parts=[dict(do="create", path="/controller", flags="e"), dict(do="create", path="/config/users/u", data="secret")])["code"] == "ok"
    other = talks(root)
    assert other("get", path="/brokers")["data"] == "x"
    refused = other("set", path="/brokers", data="y")
    assert refused["code"] == "no auth" and "zookeeper.credentials.file" in refused["says"]
    assert other("create", path="/brokers/n")["code"] == "no auth"
    assert other("delete", path="/controller")["code"] == "no auth"
    assert other("get", path="/config/users/u")["code"] == "no auth"
    assert other("set", path="/consumers", data="y")["code"] == "ok"
    friend = talks(root, credentials="broker:secret")
    assert friend("get", path="/config/users/u")["data"] == "secret"
    assert talks(root, credentials="broker:wrong")("set", path="/brokers", data="y")["code"] == "no auth"
    said = cli(hosts, "getAcl", chroot + "/brokers").stdout
    assert "'digest,'broker:" in said and "'world,'anyone\n: r\n" in said and "cdrwa" in said
    assert "insufficient permission" in (lambda run: run.stdout + run.stderr)(cli(hosts, "get", chroot + "/config/users/u")).lower()


def test_rights_are_kept_over_a_lost_connection(talks, proxies, shared_zookeeper, root):
    proxy = proxies(shared_zookeeper.connect)
    talk = talks(root.replace(shared_zookeeper.connect, proxy.connect), credentials="broker:secret", set_acl=True)
    talk("create", path="/n", data="1")
    proxy.cut_now()
    talk.event("suspended")
    assert talk("set", path="/n", data="2")["code"] == "ok"


def test_acls_without_credentials_are_refused(talks, root):
    assert "zookeeper.credentials.file" in talks().ask("open", "failed", connect=root, set_acl=True)["failed"]


def test_two_chroots_do_not_see_each_other(talks, shared_zookeeper, root):
    one, two = talks(root), talks(root + "/below")
    one("create", path="/n", data="one")
    assert two("exists", path="/n")["code"] == "no node"
    two("exists", path="/", watch=True)
    assert two("create", path="/n", data="two")["path"] == "/n"
    assert one("get", path="/below/n")["data"] == "two"
    hosts, chroot = split(root)
    assert "one" in cli(hosts, "get", chroot + "/n").stdout


# All of it at once

def count_through_cuts(talk, other, proxy, rounds, rng):
    """A counter raised by conditional writes, while the connection is cut before or behind any of them: each that is OK has raised it once, each that is refused not at all."""
    assert other("create", path="/counter", data="0")["code"] == "ok"
    version = 0
    for n in range(rounds):
        if rng.random() < 0.3:
            proxy.cut(rng.random() < 0.5, Proxy.SET, Proxy.MULTI, Proxy.CREATE2, Proxy.DELETE)
        if rng.random() < 0.05:
            proxy.cut_now()
        how = rng.randrange(3)      # a set, a multi, a multi that somebody else is ahead of
        if how == 0:
            done = talk("set", path="/counter", data=f"mine {n}", version=version)
        elif how == 1:
            done = talk("multi", parts=[dict(do="create", path=f"/n{n}", data=str(n)), dict(do="set", path="/counter", data=f"mine {n}", version=version)])
        else:
            theirs = other("set", path="/counter", data=f"theirs {n}", version=version)
            assert theirs["code"] == "ok"
            done = talk("multi", parts=[dict(do="set", path="/counter", data=f"mine {n}", version=version), dict(do="create", path=f"/n{n}", data=str(n))])
            assert done["code"] == "bad version", (n, done)
            assert other("exists", path=f"/n{n}")["code"] == "no node"
            version += 1
            continue
        assert done["code"] == "ok", (n, done)
        version += 1
        if how == 1:
            assert talk("delete", path=f"/n{n}", version=0)["code"] == "ok"
    now = other("get", path="/counter")
    assert now["stat"]["version"] == version and proxy.hits
    assert other("children", path="/").get("children") == ["counter"]


@pytest.mark.parametrize("rounds", [60, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_every_write_counts_once_however_often_the_connection_is_lost(talks, proxies, shared_zookeeper, root, rounds):
    rng = random.Random(rounds)
    proxy = proxies(shared_zookeeper.connect)
    count_through_cuts(talks(root.replace(shared_zookeeper.connect, proxy.connect), timeout=20000), talks(root), proxy, rounds, rng)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_sessions_that_begin_and_end_in_any_state(talks, proxies, shared_zookeeper, root, tmp_path):
    """Opened, cut, refused, killed and closed at any moment: each next one works."""
    rng = random.Random(7)
    proxy = proxies(shared_zookeeper.connect)
    connect = root.replace(shared_zookeeper.connect, proxy.connect)
    for n in range(40):
        talk = talks().open(connect, timeout=4000, session_file=str(tmp_path / "session"))
        for _ in range(rng.randrange(4)):
            talk.send("create", path=f"/e{rng.randrange(5)}", flags="e")
            rng.choice([proxy.cut_now, lambda: None, lambda: setattr(proxy, "refuse", not proxy.refuse)])()
        if rng.random() < 0.5:
            talk.kill()
        proxy.refuse = False
    last = talks(connect, session_file=str(tmp_path / "session"))
    wait_until(lambda: all(last("exists", path=f"/e{i}")["code"] == "no node" for i in range(5)), 60, "all leftovers are gone")
