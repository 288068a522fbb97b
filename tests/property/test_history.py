"""The judge is judged: it finds nothing wrong with a history that can have been, and each thing that cannot."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import lines
from lib.history import ACKED, REFUSED, UNKNOWN, History

HOSTS = ("a", "b", "c")


class Run:
    """A good run of some writers, handles and replicas, which can be spoilt before it is told."""

    def __init__(self, seed, deleted=False):
        rng = random.Random(seed)
        self.written = []        # (writer, number, outcome)
        self.log = []            # (writer, number), in the log's order
        numbers = dict.fromkeys(("x", "y", "z"), 0)
        for _ in range(rng.randint(8, 60)):
            writer = rng.choice(list(numbers))
            outcome = rng.choice((ACKED, ACKED, ACKED, REFUSED, UNKNOWN))
            who = writer, numbers[writer]
            if rng.random() < 0.9 or outcome != REFUSED:
                numbers[writer] += 1
            self.written.append((*who, outcome))
            if outcome == ACKED or (outcome == UNKNOWN and rng.random() < 0.5):
                self.log.append(who)
        self.written += [("x", numbers["x"], ACKED), ("y", numbers["y"], ACKED)]
        self.log += [("x", numbers["x"]), ("y", numbers["y"])]
        self.lines = [lines.make_line(*who, rng.randint(0, 60)) for who in self.log]
        self.starts = dict.fromkeys(HOSTS, 0)
        if deleted:
            for host in HOSTS:
                self.starts[host] = len(b"".join(self.lines[:rng.randrange(len(self.lines) // 2)]))
        self.rng = rng
        self.finals = {host: b"".join(self.lines)[self.starts[host]:] for host in HOSTS}
        self.offsets = {host: {i: line[:-1] for i, line in enumerate(self.lines) if len(b"".join(self.lines[:i])) >= self.starts[host]} for host in HOSTS}
        self.reads = []
        for host in HOSTS:
            for handle in ("tail", "cat"):
                at = 0
                for _ in range(rng.randint(1, 5)):
                    n = rng.randint(0, len(b"".join(self.lines)) - at)
                    self.reads.append([host, handle, at, b"".join(self.lines)[at:at + n]])
                    at += n
        acknowledged = [(writer, number) for writer, number, outcome in self.written if outcome == ACKED]
        self.ends = [["a", len(b"".join(self.lines)), acknowledged]]
        self.fetches = [["b", "consumer", i, line[:-1]] for i, line in enumerate(self.lines)]
        self.high_watermarks = [[process, i] for i in range(len(self.lines)) for process in ("b, 1st start", "b, 2nd start")]

    def told(self):
        h = History()
        for write in self.written:
            h.wrote("t/0", *write)
        for read in self.reads:
            h.read("t/0", *read)
        for host in HOSTS:
            h.ended("t/0", host, self.starts[host], self.finals[host])
            if host in self.offsets:
                h.offsets("t/0", host, self.offsets[host].items())
        for end in self.ends:
            h.saw_end("t/0", *end)
        for fetch in self.fetches:
            h.fetched("t/0", *fetch)
        for told in self.high_watermarks:
            h.high_watermark("t/0", *told)
        return h

    def rewrite(self, change):
        """All replicas hold something else, and all agree in it: nobody has read anything."""
        held = list(self.lines)
        change(held)
        self.reads, self.ends, self.fetches, self.offsets = [], [], [], {host: {} for host in HOSTS}
        for host in HOSTS:
            self.finals[host] = b"".join(held)
            self.offsets[host] = {i: line[:-1] for i, line in enumerate(held)}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_a_good_history_is_good(seed, deleted):
    assert Run(seed, deleted).told().faults() == []


def place_of(run, outcome):
    return next(i for i, who in enumerate(run.log) if (*who, outcome) in run.written)


def lost(run):
    run.rewrite(lambda held: held.pop(place_of(run, ACKED)))


def doubled(run):
    run.rewrite(lambda held: held.append(held[run.rng.randrange(len(held))]))


def never_written(run):
    run.rewrite(lambda held: held.insert(1, lines.make_line("x", 100000)))


def refused_is_there(run):
    number = 1 + max(number for writer, number, _ in run.written if writer == "x")
    run.written.append(("x", number, REFUSED))
    run.rewrite(lambda held: held.append(lines.make_line("x", number)))


def out_of_order(run):
    def swap(held):
        mine = [i for i, who in enumerate(run.log) if who[0] == run.log[-1][0]]
        run.written.append((run.log[-1][0], 90000, ACKED))
        held.insert(mine[0], lines.make_line(run.log[-1][0], 90000))
    run.rewrite(swap)


def torn(run):
    def tear(held):
        i = run.rng.randrange(len(held) - 1)
        held[i] = held[i][:len(held[i]) // 2] + b"\n"
    run.rewrite(tear)


def torn_end(run):
    run.rewrite(lambda held: held.append(b"x 7"))


def mixed(run):
    def mix(held):
        held[0] = held[0][:-3] + held[1][:3] + held[0][-3:]
    run.rewrite(mix)


def a_replica_lacks_the_end(run):
    run.finals["b"] = b"".join(run.lines[:-1])
    run.offsets = {}


def a_replica_differs(run):
    at = run.rng.randrange(len(run.finals["c"]) - 1)
    run.finals["c"] = run.finals["c"][:at] + bytes([run.finals["c"][at] ^ 1]) + run.finals["c"][at + 1:]
    run.offsets = {}


def a_replica_is_moved(run):
    """The same bytes, at other positions."""
    run.starts["c"] += 1
    run.offsets = {}


def offsets_are_moved(run):
    run.offsets["b"] = {offset + 1: value for offset, value in run.offsets["b"].items()}


def an_offset_is_another_value(run):
    run.offsets["b"][len(run.lines) - 1] = b"x"


def file_and_records_differ(run):
    for host in HOSTS:
        del run.offsets[host][max(run.offsets[host])]


def read_what_was_lost(run):
    end = len(b"".join(run.lines))
    run.reads.append(["b", "late", end, lines.make_line("x", 50)])


def read_something_else(run):
    run.reads.append(["b", "other", 0, b"#" + run.lines[0][1:]])


def read_with_a_gap(run):
    run.reads += [["b", "gap", 0, run.lines[0]], ["b", "gap", len(run.lines[0]) + len(run.lines[1]), run.lines[2]]]


def read_twice(run):
    run.reads += [["b", "again", 0, run.lines[0]], ["b", "again", 0, run.lines[0]]]


def end_before_what_was_acknowledged(run):
    run.ends.append(["a", len(b"".join(run.lines)) - 1, [run.log[-1]]])


def fetched_what_was_lost(run):
    run.fetches.append(["b", "consumer", len(run.lines), lines.make_line("x", 50)[:-1]])


def fetched_something_else(run):
    run.fetches[-1][3] = b"#"


def fetched_with_a_gap(run):
    del run.fetches[run.rng.randrange(1, len(run.fetches) - 1)]


def fetched_twice(run):
    run.fetches.append(run.fetches[-1])


def a_high_watermark_went_back(run):
    run.high_watermarks.append(["b, 1st start", len(run.lines) - 2])


BAD = [lost, doubled, never_written, refused_is_there, out_of_order, torn, torn_end, mixed, a_replica_lacks_the_end, a_replica_differs, a_replica_is_moved, offsets_are_moved,
       an_offset_is_another_value, file_and_records_differ, read_what_was_lost, read_something_else, read_with_a_gap, read_twice, end_before_what_was_acknowledged,
       fetched_what_was_lost, fetched_something_else, fetched_with_a_gap, fetched_twice, a_high_watermark_went_back]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_history_that_cannot_have_been_is_found_out(spoil):
    for seed in range(40):
        run = Run(seed)
        spoil(run)
        assert run.told().faults(), seed


def test_a_partition_that_nobody_looked_at_is_a_fault():
    h = History()
    h.wrote("t/0", "x", 0, ACKED)
    assert h.faults()


def test_an_acknowledged_line_is_missed_behind_what_retention_had():
    """The head may be gone; what was written behind a line that is there may not."""
    run = Run(5)
    cut = len(run.lines[0])
    mine = [i for i, who in enumerate(run.log) if who[0] == "x" and i]
    held = [line for i, line in enumerate(run.lines) if i != mine[-1]]
    run.reads, run.ends, run.fetches, run.offsets = [], [], [], {}
    for host in HOSTS:
        run.starts[host], run.finals[host] = cut, b"".join(held[1:])
    assert any("acknowledged and is not there" in fault for fault in run.told().faults())
