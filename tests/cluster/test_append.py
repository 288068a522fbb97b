"""Writing through the mount of any host, whoever leads: every line that write(2) has taken is there, once, whole, in its handle's order; what was refused is not."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.ask import Ask
from lib.history import ACKED, REFUSED, UNKNOWN, History
from lib.joined import state
from lib.lines import make_line
from lib.mounting import wait_until
from test_read import content, hosts, seen, three  # noqa: F401: fixtures

EXCUSES = ("waits: ", "is written here for broker", "an append", "a write was answered with EIO", "cannot append to", "gathered lines wait", "controller", "fetching from", "it was cut", "were torn and are cut")


def excuse(*some):
    """Leaders are killed: what hosts say of that is no fault."""
    for host in some:
        for text in EXCUSES:
            host.expect(text)


def append(host, text, topic="t", partition=0):
    fd = os.open(host.dir / topic / str(partition), os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, text) == len(text)
    finally:
        os.close(fd)


def leads(look, number, topic="t", partition=0):
    return wait_until(lambda: (now := state(look, topic, partition)) and now["leader"] == number, 90, f"{number} leads")


class Writer(threading.Thread):
    """One handle that writes numbered lines, and what write(2) said of each."""

    def __init__(self, host, name, history, topic="t", partition=0, count=None, size=100):
        super().__init__(daemon=True)
        self.path, self.name, self.history, self.topic, self.size = host.dir / topic / str(partition), name, history, f"{topic}/{partition}", size
        self.count, self.number, self.ended, self.failure = count, 0, threading.Event(), None
        self.outcomes = {ACKED: 0, REFUSED: 0, UNKNOWN: 0}

    def run(self):
        fd = None
        try:
            while not self.ended.is_set() and (self.count is None or self.number < self.count):
                if fd is None:
                    fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
                line = make_line(self.name, self.number, self.size)
                try:
                    assert os.write(fd, line) == len(line)
                    outcome = ACKED
                except OSError as error:
                    assert error.errno in (errno.EIO, errno.EROFS, errno.EINTR), error
                    outcome = UNKNOWN if error.errno == errno.EIO else REFUSED
                    os.close(fd)
                    fd = None
                self.history.wrote(self.topic, self.name, self.number, outcome)
                self.outcomes[outcome] += 1
                self.number += 1 if outcome != REFUSED else 0
        except BaseException as failure:
            self.failure = failure
        finally:
            if fd is not None:
                os.close(fd)

    def end(self):
        self.ended.set()
        self.join(90)
        assert not self.is_alive() and not self.failure, (self.name, self.failure)


def judge(history, some, topic="t", partitions=1):
    """Once all have the same."""
    for partition in range(partitions):
        files = [host.dir / topic / str(partition) for host in some]
        wait_until(lambda: len({file.stat().st_size for file in files}) == 1, 90, "one size")
        for host, file in zip(some, files):
            history.ended(f"{topic}/{partition}", f"host-{host.id}", 0, file.read_bytes())
    assert not history.faults()


def test_echo_appends_on_every_host_whoever_leads(three, look, put_topic, sh):
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    for host in three.values():
        assert sh(f"echo from {host.id} >> 0; tail -n 1 0", host.dir / "t") == b"from %d\n" % host.id
    for host in three.values():
        wait_until(lambda: content(host) == b"from 1\nfrom 2\nfrom 3\n", 60, f"all of it on {host.id}")


@pytest.mark.parametrize("acks", ["1", "all"])
def test_a_leader_that_is_killed_costs_no_line(hosts, look, put_topic, acks):
    """Writers on a host that follows and on one that has no replica."""
    some = {number: hosts(number, f"acks={acks}") for number in (1, 2, 3)}
    excuse(*some.values())
    put_topic("t", [[3, 1]])
    for host in some.values():
        seen(host)
    history = History()
    writers = [Writer(some[n], f"h{n}-{k}", history) for n in (1, 2) for k in (0, 1)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.outcomes[ACKED] > 20 for writer in writers), 60, "lines")
    some[3].kill()
    leads(look, 1)
    before = [writer.outcomes[ACKED] for writer in writers]
    wait_until(lambda: all(writer.outcomes[ACKED] > was + 20 for writer, was in zip(writers, before)), 60, "more lines")
    some[3].start()
    for writer in writers:
        writer.end()
    assert all(writer.outcomes[UNKNOWN] == writer.outcomes[REFUSED] == 0 for writer in writers), [writer.outcomes for writer in writers]
    if acks == "1":     # what its leader alone had is lost with it; but nothing is there twice, torn, or out of order
        for key in history.partitions["t/0"].writes:
            history.partitions["t/0"].writes[key] = UNKNOWN
    judge(history, list(some.values()))


def test_lines_go_on_through_a_controlled_stop(hosts, look, put_topic):
    some = {number: hosts(number, "acks=all") for number in (1, 2, 3)}
    excuse(*some.values())
    put_topic("t", [[3, 1, 2]])
    for host in some.values():
        seen(host)
    history = History()
    writers = [Writer(some[n], f"h{n}-{k}", history) for n in (1, 2) for k in (0, 1)]
    for writer in writers:
        writer.start()
    for leader in (3, 3):
        wait_until(lambda: all(writer.outcomes[ACKED] > 20 for writer in writers), 60, "lines")
        some[leader].umount()
        leads(look, 1)
        before = [writer.outcomes[ACKED] for writer in writers]
        wait_until(lambda: all(writer.outcomes[ACKED] > was + 20 for writer, was in zip(writers, before)), 60, "more lines")
        some[leader].start()
        wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 2, 3], 60, "all in sync")
    for writer in writers:
        writer.end()
    assert all(writer.outcomes[UNKNOWN] == writer.outcomes[REFUSED] == 0 for writer in writers), [writer.outcomes for writer in writers]
    judge(history, list(some.values()))


def test_a_leader_that_stops_without_dying_is_waited_out(hosts, look, put_topic):
    """SIGSTOP for longer than its session: its connections stay, and when it goes on it leads no more."""
    some = {number: hosts(number, "acks=all") for number in (1, 2, 3)}
    excuse(*some.values())
    some[3].expect("ZooKeeper")
    put_topic("t", [[3, 1]])
    for host in some.values():
        seen(host)
    history = History()
    writers = [Writer(some[n], f"h{n}", history) for n in (1, 2)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.outcomes[ACKED] > 20 for writer in writers), 60, "lines")
    some[3].daemon.signal(signal.SIGSTOP)
    try:
        leads(look, 1)
        before = [writer.outcomes[ACKED] for writer in writers]
        wait_until(lambda: all(writer.outcomes[ACKED] > was + 20 for writer, was in zip(writers, before)), 60, "more lines")
    finally:
        some[3].daemon.signal(signal.SIGCONT)
    for writer in writers:
        writer.end()
    assert all(writer.outcomes[UNKNOWN] == writer.outcomes[REFUSED] == 0 for writer in writers), [writer.outcomes for writer in writers]
    judge(history, list(some.values()))


def test_with_too_few_in_sync_a_write_is_refused_and_leaves_nothing(hosts, look, put_topic):
    some = {number: hosts(number, "acks=all", "min.insync.replicas=2") for number in (1, 2, 3)}
    excuse(*some.values())
    put_topic("t", [[3, 1]])
    for host in some.values():
        seen(host)
    append(some[2], b"both\n")
    some[1].kill()
    wait_until(lambda: state(look, "t")["isr"] == [3], 60, "one in sync")

    def refused(host):
        """EIO: the leader was not told yet, and has it in its log."""
        try:
            append(host, b"no\n")
        except OSError as error:
            return error.errno
    for host in (some[2], some[3]):
        wait_until(lambda: refused(host) == errno.EROFS, 60, f"EROFS on host {host.id}")
    before = content(some[3])
    for host in (some[2], some[3]):
        assert refused(host) == errno.EROFS
    assert content(some[3]) == content(some[2]) == before
    some[1].start()
    wait_until(lambda: sorted(state(look, "t")["isr"]) == [1, 3], 60, "both in sync")
    append(some[2], b"again\n")
    assert content(some[2]).endswith(b"both\nagain\n") or b"no\n" in content(some[2])


def waiting(spawn, host, text):
    """A process that is in the middle of write(2) of that."""
    script = "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\nprint('open', flush=True)\nos.write(fd, sys.argv[2].encode())\nprint('written', flush=True)\n"
    process = spawn([sys.executable, "-c", script, host.dir / "t" / "0", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"open\n"
    time.sleep(0.3)     # whenever the signal comes, it must do; mostly in write(2)
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_writer_that_nobody_leads_can_be_killed(hosts, look, put_topic, spawn, how):
    """It waits; killed, it has written nothing. Another one goes on as soon as somebody leads."""
    some = {number: hosts(number, "delivery.timeout.ms=120000") for number in (1, 2)}
    excuse(*some.values())
    put_topic("t", [[2]])
    for host in some.values():
        seen(host)
    append(some[1], b"first\n")
    some[2].kill()
    wait_until(lambda: os.getxattr(some[1].dir / "t" / "0", "user.spoolfs.leader") == b"-1", 60, "the host knows that nobody leads")  # what it sends before that it cannot take back
    killed, stays = waiting(spawn, some[1], "killed\n"), waiting(spawn, some[1], "stays\n")
    assert killed.poll() is None and stays.poll() is None
    killed.send_signal(how)
    assert killed.wait(30) == -how or how == signal.SIGINT
    some[2].start()
    assert stays.wait(60) == 0
    wait_until(lambda: content(some[1]) == b"first\nstays\n", 60, "what stays")


def test_a_writer_that_nobody_leads_is_told_in_time_that_nothing_was_written(hosts, look, put_topic):
    some = {number: hosts(number, "delivery.timeout.ms=3000") for number in (1, 2)}
    excuse(*some.values())
    put_topic("t", [[2]])
    for host in some.values():
        seen(host)
    append(some[1], b"first\n")
    some[2].kill()
    wait_until(lambda: state(look, "t")["leader"] == -1, 60, "nobody leads")
    with pytest.raises(OSError) as refused:
        append(some[1], b"never\n")
    assert refused.value.errno == errno.EROFS
    some[2].start()
    wait_until(lambda: state(look, "t")["leader"] == 2, 60, "a leader")
    append(some[1], b"second\n")
    wait_until(lambda: content(some[1]) == b"first\nsecond\n", 60, "what was written")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_writers_while_leaders_are_killed_in_turn(hosts, look, put_topic):
    some = {number: hosts(number, "acks=all", "min.insync.replicas=2", "delivery.timeout.ms=60000") for number in (1, 2, 3)}
    excuse(*some.values())
    put_topic("t", [[1, 2, 3], [2, 3, 1]])
    for host in some.values():
        seen(host, partitions=2)
    history = History()
    writers = [Writer(host, f"h{host.id}-{k}", history, partition=k % 2, size=50 + 400 * k) for host in some.values() for k in range(6)]
    for turn in range(3):
        for writer in writers:
            if not writer.is_alive() and writer.ident is None:
                writer.start()
        time.sleep(2)
        victim = (state(look, "t", turn % 2) or {})["leader"]
        if victim < 1:
            continue
        mine = [writer for writer in writers if writer.path.is_relative_to(some[victim].dir)]
        for writer in mine:
            writer.end()
        writers = [writer for writer in writers if writer not in mine]
        some[victim].kill()
        wait_until(lambda: (state(look, "t", turn % 2) or {})["leader"] not in (-1, victim), 90, "another leader")
        some[victim].start()
        wait_until(lambda: len(state(look, "t", 0)["isr"]) == len(state(look, "t", 1)["isr"]) == 3, 90, "all in sync")
        writers += [Writer(some[victim], f"h{victim}-{k}-{turn}", history, partition=k % 2, size=50 + 400 * k) for k in range(6)]
    for writer in writers:
        if writer.ident is not None:
            writer.end()
    judge(history, list(some.values()), partitions=2)


def test_messages_are_deleted_and_made_safe_where_another_leads(three, look, put_topic, sh):
    """fsync, fallocate -p and rm, on a host that follows and on one that has no replica."""
    put_topic("t", [[1, 2]])
    for host in three.values():
        seen(host)
    for host in three.values():
        fd = os.open(host.dir / "t" / "0", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"from %d\n" % host.id)
        os.fsync(fd)
        os.close(fd)
    t2, t3 = three[2].dir / "t", three[3].dir / "t"
    start = lambda host: int(os.getxattr(host.dir / "t" / "0", "user.spoolfs.log_start_position"))
    sh("fallocate -p -o 0 -l 7 0", t2)
    wait_until(lambda: start(three[1]) == 7, 60, "the first one is gone")
    assert sh("cat 0", three[1].dir / "t") == b"from 2\nfrom 3\n"
    sh("fallocate -p -o 0 -l 14 0", t3)
    wait_until(lambda: start(three[1]) == 14, 60, "the second one is gone")
    sh("rm 0", t3)
    wait_until(lambda: start(three[1]) == 21, 60, "all are gone")
    sh("echo more >> 0", t3)
    wait_until(lambda: content(three[1]) == b"more\n", 60, "what came since")


def test_producer_ids_are_unique_in_a_cluster(three, look):
    """Blocks come from ZooKeeper: each is one broker's alone, also where all want one at once, and after a restart."""
    def take(host, count, ids):
        with Ask(host.bootstrap) as ask:
            for _ in range(count):
                answer = wait_until(lambda: (a := ask("InitProducerId", transactional_id=None, transaction_timeout_ms=0))["error_code"] == 0 and a, what="an id")
                ids.append(answer["producer_id"])
    ids = []
    for turn in range(2):
        threads = [threading.Thread(target=take, args=(host, 1100, ids)) for host in three.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        three[2].umount()
        three[2].start()
    assert len(set(ids)) == len(ids) == 6600
    block = look("/latest_producer_id_block")
    assert int(block["block_end"]) >= max(ids) and int(block["block_end"]) - int(block["block_start"]) == 999
