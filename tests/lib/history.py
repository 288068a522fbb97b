"""What was done to the partitions of a cluster, and whether that can have been: the judge of the tests that break things.

    h = History()
    h.wrote("t/0", "w1", 17, ACKED)            # one writer a sequence of numbers; REFUSED: not written; UNKNOWN: it may be
    h.read("t/0", "host-b", "tail", 0, b"...") # bytes that a handle got, at a position; in the order in which it got them
    h.ended("t/0", "host-a", start, b"...")    # in the end, once all is healed: a replica's file from its log start on
    h.offsets("t/0", "host-a", [(0, b"..."), ...])   # the same as a client reads it there: offset and value
    h.fetched("t/0", "host-b", "consumer", 7, b"...")   # a record that a client was given, in the order in which it was given them
    h.high_watermark("t/0", "host-b, its 2nd start", 8) # what that process has told, in the order in which it did
    assert not h.faults()

The lines are those of lib/lines.py: they tell whose they are, and whether they are whole. Writers write their numbers in order, one after the other; a number is written again
only after REFUSED. What must hold of each partition:

 1. In the end every replica has the same bytes at the same positions and the same values at the same offsets, up to where the shorter one starts.
 2. Every line in it is whole, and was written by somebody; none is there twice.
 3. Every acknowledged line is there; a refused one is not. (Below the log start nothing can be said: retention had it.)
 4. A writer's lines are in its order.
 5. What was read, by whatever handle at whatever host, is what is there in the end, byte for byte: nothing was seen that was lost later, and nothing in two places.
 6. What one handle read follows on without a gap: no line missing, doubled or moved.
 7. A line that was acknowledged before a read of the end began is in what that read saw, at the host where it was acknowledged (`saw_end`).
 8. What a client fetched at an offset is what is there in the end, and its offsets go on without a gap.
 9. A high watermark that a process has told it does not take back.
"""

from dataclasses import dataclass, field

from lib import lines

ACKED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"
SHOWN = 20  # faults of a kind that are told


@dataclass
class Final:
    host: str
    start: int
    content: bytes

    @property
    def end(self):
        return self.start + len(self.content)


@dataclass
class Partition:
    writes: dict = field(default_factory=dict)   # (writer, number) -> outcome
    order: dict = field(default_factory=dict)    # writer -> [numbers as they were begun]
    reads: list = field(default_factory=list)    # (host, handle, position, bytes)
    finals: list = field(default_factory=list)
    offsets: dict = field(default_factory=dict)  # host -> {offset: value}
    ends: list = field(default_factory=list)     # (host, the position that was the end, lines acknowledged by then)
    fetched: list = field(default_factory=list)  # (host, client, offset, value)
    told: list = field(default_factory=list)     # (process, high watermark)


class History:
    def __init__(self):
        self.partitions: dict[str, Partition] = {}

    def _of(self, partition) -> Partition:
        return self.partitions.setdefault(partition, Partition())

    def wrote(self, partition, writer, number, outcome):
        p = self._of(partition)
        before = p.writes.get((writer, number), REFUSED)
        assert before == REFUSED, f"{writer} wrote {number} again after it was {before}: the test is wrong"
        if (writer, number) not in p.writes:
            p.order.setdefault(writer, []).append(number)
        p.writes[writer, number] = outcome

    def read(self, partition, host, handle, position, content):
        self._of(partition).reads.append((host, handle, position, content))

    def saw_end(self, partition, host, position, acknowledged):
        """At `host` the end was at `position`, looked at after these (writer, number) were acknowledged there."""
        self._of(partition).ends.append((host, position, list(acknowledged)))

    def ended(self, partition, host, start, content):
        self._of(partition).finals.append(Final(host, start, content))

    def offsets(self, partition, host, values):
        self._of(partition).offsets[host] = dict(values)

    def fetched(self, partition, host, client, offset, value):
        self._of(partition).fetched.append((host, client, offset, value))

    def high_watermark(self, partition, process, offset):
        self._of(partition).told.append((process, offset))

    def faults(self) -> list[str]:
        found = []
        for name, p in sorted(self.partitions.items()):
            found += [f"{name}: {fault}" for fault in _faults(p)]
        return found


def _few(faults):
    """All of a kind may be thousands."""
    faults = list(faults)
    return faults if len(faults) <= SHOWN else faults[:SHOWN] + [f"... and {len(faults) - SHOWN} more like that"]


def _faults(p: Partition) -> list[str]:
    if not p.finals:
        return ["nobody looked at it in the end"]
    longest = max(p.finals, key=lambda final: (final.end, -final.start))
    return [
        *_few(_replicas(p, longest)),
        *_few(_offsets(p)),
        *_few(_lines(p, longest)),
        *_few(_reads(p, longest)),
        *_few(_handles(p)),
        *_few(_ends(p, longest)),
        *_few(_fetches(p)),
        *_few(_high_watermarks(p)),
    ]


def _difference(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _replicas(p, longest):
    for final in p.finals:
        if final is longest:
            continue
        start = max(final.start, longest.start)
        mine, theirs = final.content[start - final.start:], longest.content[start - longest.start:]
        if mine != theirs:
            yield f"{final.host} and {longest.host} differ from position {start + _difference(mine, theirs)} on; they end at {final.end} and {longest.end}"


def _offsets(p):
    hosts = sorted(p.offsets)
    for host in hosts[1:]:
        mine, theirs = p.offsets[host], p.offsets[hosts[0]]
        start = max(min(mine, default=0), min(theirs, default=0))
        for offset in sorted(x for x in mine.keys() | theirs.keys() if x >= start):
            if mine.get(offset) != theirs.get(offset):
                yield f"offset {offset} is {mine.get(offset)!r} at {host} and {theirs.get(offset)!r} at {hosts[0]}"
    for host in hosts:
        values = b"".join(value + b"\n" for _, value in sorted(p.offsets[host].items()))
        for final in p.finals:
            if final.host == host and values != final.content:
                yield f"{host}: its file is not the values of its records, from position {final.start + _difference(final.content, values)} on"


def _lines(p, longest):
    if longest.content and not longest.content.endswith(b"\n"):
        yield f"{longest.host}: the last line is torn: {longest.content[-100:]!r}"
    there, last = {}, {}
    at = longest.start
    for line in longest.content.split(b"\n")[:-1]:
        position, at = at, at + len(line) + 1
        try:
            who = lines.parse(line)
        except (AssertionError, ValueError) as wrong:
            yield f"position {position}: {wrong}"
            continue
        if who not in p.writes:
            yield f"position {position}: {who} was never written"
        elif p.writes[who] == REFUSED:
            yield f"position {position}: {who} was refused"
        if who in there:
            yield f"{who} is there twice, at positions {there[who]} and {position}"
        elif last.get(who[0], -1) > who[1]:
            yield f"position {position}: {who} stands behind number {last[who[0]]}"
        there.setdefault(who, position)
        last[who[0]] = max(last.get(who[0], -1), who[1])
    if longest.start:  # what retention had: of each writer, what was begun before its first line that is left
        first = {writer: min(number for w, number in there if w == writer) for writer, _ in there}
    for writer, numbers in p.order.items():
        gone = longest.start > 0
        for number in numbers:
            gone = gone and number < first.get(writer, numbers[-1] + 1)
            if p.writes[writer, number] == ACKED and (writer, number) not in there and not gone:
                yield f"{(writer, number)} was acknowledged and is not there"


def _reads(p, longest):
    for host, handle, position, content in p.reads:
        start = max(position, longest.start)
        seen = content[start - position:]
        kept = longest.content[start - longest.start:start - longest.start + len(seen)]
        if seen != kept:
            yield f"{host}, {handle}: what it read at position {start + _difference(seen, kept)} is not what is there"


def _handles(p):
    following = {}
    for host, handle, position, content in p.reads:
        expected = following.get((host, handle), position)
        if position != expected:
            yield f"{host}, {handle}: it read at position {position} where {expected} was to come"
        following[host, handle] = position + len(content)


def _ends(p, longest):
    position, where = longest.start, {}
    for line in longest.content.split(b"\n")[:-1]:
        position += len(line) + 1
        try:
            where[lines.parse(line)] = position
        except (AssertionError, ValueError):
            pass  # told of above
    for host, end, acknowledged in p.ends:
        for who in acknowledged:
            if where.get(who, 0) > end:
                yield f"{host}: the end was at {end}, though {who}, which ends at {where[who]}, was acknowledged there before"


def _fetches(p):
    there, following = {}, {}
    for values in p.offsets.values():
        there |= values
    start = min(there, default=0)
    for host, client, offset, value in p.fetched:
        if offset >= start and there.get(offset) != value:
            yield f"{host}, {client}: it fetched {value[:60]!r} at offset {offset}, where {there.get(offset, b'nothing')[:60]!r} is"
        expected = following.get((host, client), offset)
        if offset != expected:
            yield f"{host}, {client}: it was given offset {offset} where {expected} was to come"
        following[host, client] = offset + 1


def _high_watermarks(p):
    highest = {}
    for process, offset in p.told:
        if offset < highest.get(process, offset):
            yield f"{process}: its high watermark went back from {highest[process]} to {offset}"
        highest[process] = max(highest.get(process, offset), offset)
