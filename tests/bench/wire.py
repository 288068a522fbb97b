"""The wire part of bench.py: spoolfs beside Apache Kafka 4.1 on the same machine, with the same clients and settings, in turns.

    bench.py SPOOLFS --wire [--dir DIR] [--rounds N] [--messages N] [--only NAME,...] [--json FILE]

README.md of this directory says what each name measures. A ratio is the median of the rounds' own ratios. `~` stands before a row in which others took more
than an eighth of a processor: it is worth another run.
"""

import json
import os
import random
import selectors
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from brokers import FETCH, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, TICK, Kafka, Spoolfs, Wire, dies_with_us, memory_mb  # noqa: E402
from lib import kafka  # noqa: E402
from lib.raw import array, data, frame, header, text  # noqa: E402

PARTITIONS = 4
NEVER = {"log.flush.acks.all": "never"}     # as Kafka does it: acks=all does not wait for the disk
DISTURBED = 0.125                           # of a processor


def median(values):
    return statistics.median(values)


def machine_s():
    """CPU seconds of the machine so far, without those of niced processes."""
    with open("/proc/stat") as f:
        user, _, system, _, _, irq, softirq, steal = [int(x) / TICK for x in f.readline().split()[1:9]]
    return user + system + irq + softirq + steal


class WireBench:
    def __init__(self, args):
        self.args = args
        self.spoolfs = Path(args.spoolfs).resolve()
        self.work = Path(tempfile.mkdtemp(prefix="spoolfs-bench-", dir=args.dir))
        for name, libraries in (("kperf", ["-lrdkafka"]), ("limit", ["-lpthread"]), ("echo_broker", [])):
            self.sh("cc", "-O2", "-o", self.work / name, HERE / f"{name}.c", *libraries)
        self.rows, self.others = [], []
        self.json_lines = self.work / "lines"
        self.json_lines.write_text(lines_like_logs())
        kafka.jars()

    def close(self):
        self.remove(self.work)

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)

    def sh(self, *argv):
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def java(self, tool, *argv):
        return self.sh("java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{kafka.jars()}/*", f"org.apache.kafka.tools.{tool}", *argv)

    def row(self, what, ours, theirs, ratio, bound, good):
        disturbed = bool(self.others) and median(self.others) > DISTURBED
        self.others = []
        self.rows.append({"what": what, "spoolfs": ours, "kafka": theirs, "ratio": ratio, "bound": bound, "holds": good, "disturbed": disturbed})
        print(f"| {'~ ' if disturbed else ''}{what} | {ours} | {theirs} | {ratio} | {bound} | {'' if good else 'missed' if good is False else '-'} |", flush=True)

    def settle(self):
        os.sync()
        time.sleep(1)

    def metered(self, server, run):
        """(what run() returns, CPU seconds of the server meanwhile), and what others took is noted."""
        c = os.times()
        mine, theirs, machine, begun = c.children_user + c.children_system, server.cpu(), machine_s(), time.monotonic()
        result = run()
        c, used, wall = os.times(), server.cpu() - theirs, time.monotonic() - begun
        self.others.append((machine_s() - machine - used - (c.children_user + c.children_system - mine)) / wall)
        return result, used

    def pair(self, measure, rounds=None, servers=None):
        """measure(server) in turns on each: {name: [result, ...]}."""
        got = {s.name: [] for s in servers}
        for _ in range(rounds or self.args.rounds):
            for s in servers:
                got[s.name].append(measure(s))
        return got

    # ---- clients ----

    def kperf(self, what, server, topic, *argv):
        return float(self.sh(self.work / "kperf", what, server.bootstrap, topic, *argv).split()[0])

    def rdk_produce(self, *properties, payload="100"):
        return lambda server, topic, n: self.kperf("produce", server, topic, n, payload, *properties)

    def java_produce(self, *properties, payload=None):
        def run(server, topic, n):
            source = ["--payload-file", payload] if payload else ["--record-size", 100]
            out = self.java("ProducerPerformance", "--topic", topic, "--num-records", n, "--throughput", -1, *source,
                            "--producer-props", f"bootstrap.servers={server.bootstrap}", "linger.ms=5", *properties)
            last = [line for line in out.splitlines() if "records/sec" in line][-1]
            return float(last.split("records sent, ")[1].split()[0])
        return run

    def java_consume(self, server, topic, n):
        """Of what was fetched: joining the group is not in it."""
        out = self.java("ConsumerPerformance", "--bootstrap-server", server.bootstrap, "--topic", topic, "--messages", n, "--hide-header",
                        "--group", f"g{time.time_ns()}", "--timeout", 60000)
        return float(out.strip().splitlines()[-1].split(",")[9])

    # ---- rates and CPU ----

    def produce_row(self, what, run, servers, properties=None):
        n = self.args.messages
        limits = []

        def one(server):
            topic = server.topic(PARTITIONS, **(properties or {}))
            self.settle()
            rate, used = self.metered(server, lambda: run(server, topic, n))
            assert server.stored(topic, PARTITIONS) == n, f"{what}: {server.name} has {server.stored(topic, PARTITIONS)} messages of {n}"
            if server.name == "spoolfs":
                limits.append(float(self.sh(self.work / "limit", "receive", self.work / "limit.out", server.bytes_of(topic))) / n * 1e6)
            server.drop(topic)
            time.sleep(1)
            return rate, used / n * 1e6
        got = self.pair(one, servers=servers)
        self.report_rate(what, got, "")
        ours, theirs = ([cpu for _, cpu in got[name]] for name in ("spoolfs", "kafka"))
        ratio = median(a / b for a, b in zip(ours, theirs))
        self.row(f"... CPU a million (limit {median(limits):.3f} s)", f"{median(ours):.3f} s", f"{median(theirs):.3f} s", f"{ratio:.2f}", "at most 0.5", ratio <= 0.5)

    def report_rate(self, what, got, note):
        ours, theirs = ([rate for rate, _ in got[name]] for name in ("spoolfs", "kafka"))
        ratio, others = median(a / b for a, b in zip(ours, theirs)), self.others
        self.row(what, f"{median(ours) / 1e6:.2f} M/s{note}", f"{median(theirs) / 1e6:.2f} M/s", f"{ratio:.2f}", "at least 1", ratio >= 1)
        self.others = others

    def warmed(self, properties):
        """Both, after a load that has Kafka's hot paths compiled."""
        servers = [Spoolfs(self, properties), Kafka(self)]
        try:
            for s in servers:
                s.start()
            n = min(self.args.messages, 5_000_000)
            for run in (self.rdk_produce("acks=1"), self.java_produce("acks=1"), self.rdk_produce("acks=all")):
                for s in servers:
                    topic = s.topic(PARTITIONS)
                    run(s, topic, n)
                    self.kperf("consume", s, topic, n, PARTITIONS)
                    s.drop(topic)
            self.others = []
            return servers
        except BaseException:
            self.end(servers)
            raise

    @staticmethod
    def end(servers):
        for s in servers:
            s.__exit__()

    def produce(self):
        servers = self.warmed(NEVER)
        try:
            for what, run in (("librdkafka, acks=1", self.rdk_produce("acks=1")), ("librdkafka, acks=all", self.rdk_produce("acks=all")),
                              ("librdkafka, idempotent", self.rdk_produce("enable.idempotence=true")),
                              ("librdkafka, JSON, lz4", self.rdk_produce("acks=1", "compression.type=lz4", payload=f"@{self.json_lines}")),
                              ("librdkafka, JSON, zstd", self.rdk_produce("acks=1", "compression.type=zstd", payload=f"@{self.json_lines}")),
                              ("Java, acks=1", self.java_produce("acks=1")), ("Java, acks=all", self.java_produce("acks=all")),
                              ("Java, acks=all, batches of 256 KiB", self.java_produce("acks=all", "batch.size=262144"))):
                self.produce_row(f"produce: {what}", run, servers)
            self.after_load(servers)
        finally:
            self.end(servers)

    def durable(self):
        """acks=all that waits for the disk: spoolfs as it is by itself, Kafka with flush.messages=1."""
        servers = self.warmed(None)
        try:
            for what, run in (("librdkafka", self.rdk_produce("acks=all")), ("Java", self.java_produce("acks=all", "batch.size=262144"))):
                self.produce_row(f"produce: {what}, acks=all on disk", lambda s, t, n, run=run: run(s, t, n), [OnDisk(s) for s in servers])
        finally:
            self.end(servers)

    def after_load(self, servers):
        time.sleep(5)
        ours, theirs = (s.rss() for s in servers)
        self.row(f"RSS 5 s after that load (at most {memory_mb(servers[0].pid, 'VmHWM'):.0f} MB meanwhile)", f"{ours:.1f} MB", f"{theirs:.0f} MB", "", "64 MB", ours <= 64)

    def consume(self):
        servers, n = self.warmed(NEVER), self.args.messages
        try:
            filled = {}
            for s in servers:
                filled[s.name] = s.topic(PARTITIONS)
                self.kperf("produce", s, filled[s.name], n, 100, "acks=1")
            log = max((f for f in servers[0].data.glob(f"{filled['spoolfs']}-*/*.log")), key=lambda f: f.stat().st_size)
            size = servers[0].bytes_of(filled["spoolfs"])
            for what, run in (("librdkafka, assigned", lambda s, t: self.kperf("consume", s, t, n, PARTITIONS)),
                              ("librdkafka, in a group", lambda s, t: self.kperf("group", s, t, n, f"g{time.time_ns()}")),
                              ("Java, in a group", lambda s, t: self.java_consume(s, t, n))):
                limits = []

                def one(server):
                    topic = filled[server.name]
                    self.settle()
                    rate, used = self.metered(server, lambda: run(server, topic))
                    if server.name == "spoolfs":
                        limits.append(float(self.sh(self.work / "limit", "send", log, size)) / n * 1e6)
                    return rate, used / n * 1e6
                for s in servers:
                    run(s, filled[s.name])
                self.others = []
                got = self.pair(one, servers=servers)
                self.report_rate(f"consume: {what}", got, "")
                ours, theirs = ([cpu for _, cpu in got[name]] for name in ("spoolfs", "kafka"))
                mid = median(ours)
                bound = max(0.7 * median(theirs), 1.3 * median(limits))
                self.row(f"... CPU a million (sendfile {median(limits):.3f} s)", f"{mid:.3f} s", f"{median(theirs):.3f} s",
                         f"{median(a / b for a, b in zip(ours, theirs)):.2f}", f"{bound:.3f} s", mid <= bound)
            self.after_load(servers)
        finally:
            self.end(servers)

    def recompress(self):
        servers = self.warmed(NEVER)
        try:
            run = self.rdk_produce("acks=1", "compression.type=lz4", payload=f"@{self.json_lines}")
            n = self.args.messages

            def one(server):
                topic = server.topic(PARTITIONS, compression_type="zstd")
                self.settle()
                rate, used = self.metered(server, lambda: run(server, topic, n))
                size = server.bytes_of(topic)
                server.drop(topic)
                return rate, used / n * 1e6, size
            one(servers[1])
            self.others = []
            got = self.pair(one, servers=servers)
            ours, theirs = got["spoolfs"], got["kafka"]
            self.report_rate("recompression lz4 to zstd", {k: [x[:2] for x in v] for k, v in got.items()},
                             f" ({median(x[2] for x in ours) / median(x[2] for x in theirs):.2f} of Kafka's bytes)")
            ratio = median(a[1] / b[1] for a, b in zip(ours, theirs))
            self.row("... CPU a million", f"{median(x[1] for x in ours):.3f} s", f"{median(x[1] for x in theirs):.3f} s", f"{ratio:.2f}", "at most 1", ratio <= 1)
        finally:
            self.end(servers)

    # ---- one message in flight ----

    def latency(self):
        servers = self.warmed(NEVER)
        try:
            for acks in ("1", "all"):
                self.latency_rows(f"one in flight, acks={acks}", acks, servers, True)
        finally:
            self.end(servers)

    def durable_latency(self):
        servers = self.warmed(None)
        try:
            self.latency_rows("one in flight, acks=all on disk", "all", [OnDisk(s) for s in servers], False)
        finally:
            self.end(servers)

    def echoed(self, acks, n):
        port = kafka.free_ports(1)[0]
        echo = subprocess.Popen([self.work / "echo_broker", str(port), "echo"], preexec_fn=dies_with_us)
        try:
            return self.pingpong(f"127.0.0.1:{port}", "echo", acks, n)
        finally:
            echo.kill()
            echo.wait()

    def pingpong(self, bootstrap, topic, acks, n):
        return [int(x) for x in self.sh(self.work / "kperf", "pingpong", bootstrap, topic, n, 100, f"acks={acks}").split()]

    def latency_rows(self, what, acks, servers, bounded):
        n, cpu = self.args.pings, {"spoolfs": [], "kafka": []}
        got = {"spoolfs": [], "kafka": [], "echo": []}
        for r in range(-1, self.args.rounds):
            for s in servers:
                topic = s.topic(1)
                self.settle()
                result, used = self.metered(s, lambda: self.pingpong(s.bootstrap, topic, acks, n))
                s.drop(topic)
                if r >= 0:
                    got[s.name].append(result)
                    cpu[s.name].append(used / n * 1e6)
            result = self.echoed(acks, n)
            if r >= 0:
                got["echo"].append(result)
        others = self.others
        for k, name in enumerate(("p50", "p99", "p99.9")):
            ours, theirs, least = (median(x[k] for x in got[of]) for of in ("spoolfs", "kafka", "echo"))
            bound = max(0.65 * theirs, least + 30) if k < 2 else theirs / 3
            self.others = others
            self.row(f"{what}: {name} (echo {least:.0f} us)", f"{ours:.0f} us", f"{theirs:.0f} us", f"{ours / theirs:.2f}",
                     f"{bound:.0f} us" if bounded else "-", ours <= bound if bounded else None)
        self.row("... CPU of the broker for one", f"{median(cpu['spoolfs']):.0f} us", f"{median(cpu['kafka']):.0f} us",
                 f"{median(cpu['spoolfs']) / median(cpu['kafka']):.2f}", "-", None)

    # ---- starting, and doing nothing ----

    def start(self):
        first, again = {"spoolfs": [], "kafka": []}, {"spoolfs": [], "kafka": []}
        for _ in range(self.args.rounds):
            for kind in (Spoolfs, Kafka):
                server = kind(self)
                try:
                    self.settle()
                    first[kind.name].append(server.start()[0])
                    server.stop()
                    again[kind.name].append(server.start()[0])
                finally:
                    self.end([server])
        for what, times in (("start, nothing there, to the first reply", first), ("restart", again)):
            ours, theirs = median(times["spoolfs"]), median(times["kafka"])
            self.row(what, f"{ours * 1000:.1f} ms", f"{theirs * 1000:.0f} ms", f"{ours / theirs:.3f}", "30 ms", ours <= 0.030)

    def idle(self):
        servers = [Spoolfs(self), Kafka(self)]
        try:
            for s in servers:
                s.start()
            time.sleep(10)
            rss, cpu = [s.rss() for s in servers], [s.cpu() for s in servers]
            time.sleep(60)
            used = [s.cpu() - before for s, before in zip(servers, cpu)]
        finally:
            self.end(servers)
        self.row("RSS idle", f"{rss[0]:.1f} MB", f"{rss[1]:.0f} MB", "", "10 MB", rss[0] <= 10)
        self.row("CPU of an idle minute", f"{used[0]:.2f} s", f"{used[1]:.2f} s", "", "0.1 s", used[0] <= 0.1)

    # ---- many partitions, much to recover ----

    def partitions(self):
        topics, each, got = [f"many-{i}" for i in range(50)], 100, {}
        for kind in (Spoolfs, Kafka):
            server, rounds = kind(self), []
            try:
                server.start()
                with Wire(server.address, 300) as wire:
                    begun = time.monotonic()
                    wire.create(topics, each)
                    for t in topics:
                        wire.produce_one_each(t, each)
                    made = time.monotonic() - begun
                time.sleep(5)
                rss = server.rss()
                for _ in range(self.args.rounds if kind is Spoolfs else 1):
                    server.stop()
                    self.settle()
                    clean = server.start(topics, each)[1]
                    with Wire(server.address, 300) as wire:
                        for t in topics:
                            wire.produce_one_each(t, each)
                    self.settle()
                    server.stop(signal.SIGKILL)
                    rounds.append((clean, server.start(topics, each)[1]))
                got[kind.name] = rss, median(r[0] for r in rounds), median(r[1] for r in rounds), made
                with Wire(server.address, 300) as wire:
                    stored = sum(sum(wire.ends(t, each).values()) for t in topics)
                assert stored == len(topics) * each * (1 + len(rounds)), f"{kind.name}: {stored} messages"
            finally:
                self.end([server])
        (rss, clean, crash, made), (k_rss, k_clean, k_crash, k_made) = got["spoolfs"], got["kafka"]
        self.row("5,000 partitions with a message each: made in", f"{made:.2f} s", f"{k_made:.1f} s", "", "-", None)
        self.row("... RSS", f"{rss:.1f} MB", f"{k_rss:.0f} MB", "", "60 MB", rss <= 60)
        self.row("... all serve after a clean start", f"{clean:.3f} s", f"{k_clean:.1f} s", "", "0.3 s", clean <= 0.3)
        self.row("... after kill -9", f"{crash:.3f} s", f"{k_crash:.1f} s", "", "1 s", crash <= 1)

    def recovery(self):
        got, n = {}, self.args.recovery_mb * 1000
        for kind in (Spoolfs, Kafka):
            times = []
            for _ in range(self.args.rounds if kind is Spoolfs else 1):
                server = kind(self, NEVER if kind is Spoolfs else None)
                try:
                    server.start()
                    topic = server.topic(PARTITIONS)
                    self.kperf("produce", server, topic, n, 1000, "acks=all")
                    server.stop(signal.SIGKILL)
                    begun = time.monotonic()
                    server.start([topic], PARTITIONS)
                    with Wire(server.address) as wire:
                        ends = wire.ends(topic, PARTITIONS)
                        assert sum(ends.values()) == n, f"{kind.name}: {sum(ends.values())} messages of {n}"
                        while not all(wire.fetched(topic, p, end - 1) for p, end in ends.items()):
                            time.sleep(0.01)
                    times.append(time.monotonic() - begun)
                finally:
                    self.end([server])
            got[kind.name] = median(times)
        self.row(f"{n / 1e6:g} GB unflushed, kill -9, to the last message of each partition", f"{got['spoolfs']:.3f} s", f"{got['kafka']:.1f} s", "", "1 s", got["spoolfs"] <= 1)

    # ---- connections and groups ----

    def connections(self):
        for mode, what in (("idle", "2,000 connections, idle: memory of each"), ("fetch", "... with a parked Fetch")):
            each = {}
            for kind in (Spoolfs, Kafka):
                server = kind(self)
                try:
                    server.start()
                    topic = server.topic(1)
                    time.sleep(5)
                    each[kind.name] = self.hold(server, topic, mode, 2000)
                finally:
                    self.end([server])
            self.row(what, f"{each['spoolfs']:.2f} KiB", f"{each['kafka']:.2f} KiB", "", "8 KiB", each["spoolfs"] <= 8)

    @staticmethod
    def hold(server, topic, mode, count):
        before, wires = server.rss(), []
        try:
            for _ in range(count):
                wires.append(Wire(server.address))
                wires[-1].brokers()
            with selectors.DefaultSelector() as ready:
                for w in wires if mode == "fetch" else ():
                    w.send(FETCH, 4, w.fetch_body(topic, {0: 0}, 5000))
                    ready.register(w.socket, selectors.EVENT_READ, w)
                end = time.monotonic() + 12
                while time.monotonic() < end:
                    for key, _ in ready.select(0.2):
                        key.data.receive()
                        key.data.send(FETCH, 4, key.data.fetch_body(topic, {0: 0}, 5000))
            return (server.rss() - before) * 1024 / count
        finally:
            for w in wires:
                w.socket.close()

    def rebalance(self):
        servers = [Spoolfs(self), Kafka(self)]
        groups = {}
        try:
            for s in servers:
                s.start()
                groups[s.name] = Members(s, 100)
            self.pair(lambda s: groups[s.name].rebalance(), 20, servers)
            got = self.pair(lambda s: groups[s.name].rebalance(), 10 * self.args.rounds, servers)
        finally:
            for g in groups.values():
                g.close()
            self.end(servers)
        ours, theirs = (median(got[name]) * 1000 for name in ("spoolfs", "kafka"))
        ratio = median(a / b for a, b in zip(got["spoolfs"], got["kafka"]))
        self.row("rebalance of a group of 100 members", f"{ours:.1f} ms", f"{theirs:.1f} ms", f"{ratio:.2f}", "at most 1", ratio <= 1)

    ALL = ("start", "idle", "produce", "consume", "durable", "latency", "durable_latency", "partitions", "recovery", "connections", "rebalance", "recompress")


class OnDisk:
    """A server whose topics are flushed before acks=all is answered: Kafka does so with flush.messages=1, spoolfs by itself."""

    def __init__(self, server):
        self.server = server

    def __getattr__(self, name):
        return getattr(self.server, name)

    def topic(self, partitions, **properties):
        return self.server.topic(partitions, **properties, **({"flush_messages": "1"} if self.server.name == "kafka" else {}))


class Members:
    """A group of members, each a connection, that all join again at once: the leader with other metadata, so that it is a rebalance."""

    def __init__(self, server, count):
        self.wires = [Wire(server.address) for _ in range(count)]
        self.ids, self.leader, self.serial = [""] * count, 0, 0
        self.group = "rebalanced"
        self.wait_for_coordinator()
        self.rebalance()

    def wait_for_coordinator(self, deadline_s=120):
        """Until it lets the first member in."""
        end = time.monotonic() + deadline_s
        while True:
            self.wires[0].ask(FIND_COORDINATOR, 0, text(self.group))
            self.join(0)
            r = self.wires[0].receive()
            r.get("i")
            error = r.get("h")
            if not error:
                _, _, _, self.ids[0] = r.get("i"), r.text(), r.text(), r.text()
                return
            assert time.monotonic() < end, f"JoinGroup: {error}"
            time.sleep(0.1)

    def close(self):
        for w in self.wires:
            w.socket.close()

    def join(self, i):
        metadata = struct.pack(">i", self.serial) + b"m" * 100
        self.wires[i].send(JOIN_GROUP, 3, text(self.group) + struct.pack(">ii", 60000, 60000) + text(self.ids[i]) + text("bench") + array([text("range") + data(metadata)]))

    def rebalance(self):
        """Seconds from the first JoinGroup to the last answer to a SyncGroup."""
        self.serial += 1
        n, waits = len(self.wires), {}
        with selectors.DefaultSelector() as ready:
            for i, w in enumerate(self.wires):
                ready.register(w.socket, selectors.EVENT_READ, i)
                waits[i] = "join"
            begun = time.monotonic()
            for i in [self.leader] + [i for i in range(n) if i != self.leader]:
                self.join(i)
            while waits:
                for key, _ in ready.select(30):
                    self.answered(key.data, waits)
        return time.monotonic() - begun

    def answered(self, i, waits):
        r = self.wires[i].receive()
        r.get("i")
        error = r.get("h")
        if waits[i] == "join" and error == 27:                      # another's rebalance was faster
            self.join(i)
        elif waits[i] == "join":
            assert not error, f"JoinGroup: {error}"
            generation, _, leader, self.ids[i] = r.get("i"), r.text(), r.text(), r.text()
            members = r.array(lambda: (r.text(), r.data()))
            if leader == self.ids[i]:
                self.leader = i
            assignments = array(text(member) + data(b"a" * 100) for member, _ in members)
            waits[i] = "sync"
            self.wires[i].send(SYNC_GROUP, 2, text(self.group) + struct.pack(">i", generation) + text(self.ids[i]) + assignments)
        elif error == 27:
            waits[i] = "join"
            self.join(i)
        else:
            assert not error, f"SyncGroup: {error}"
            del waits[i]


def lines_like_logs(count=20000):
    """Lines of 100 bytes that compress about as logs do."""
    r, lines = random.Random(1), []
    for i in range(count):
        line = '{"ts":%d,"user":"%08x","path":"/api/v1/item/%05d","ms":%d,"ok":%s,"host":"web-%02d",' % (
            1_700_000_000_000 + i * 37, r.getrandbits(32), r.randrange(99999), r.randrange(2000), r.choice(["true", "false"]), r.randrange(40))
        lines.append((line + '"p":"' + "p" * 100)[:98] + '"}')
    return "\n".join(lines) + "\n"


def add_arguments(p):
    p.add_argument("--messages", type=int, default=5_000_000, help="of each run that measures a rate (--wire)")
    p.add_argument("--pings", type=int, default=20000, help="messages, one in flight at a time (--wire)")
    p.add_argument("--recovery-mb", type=int, default=4000, help="that are not flushed when the server is killed (--wire)")


def main(args):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # as with ^C: what was started is ended, what was written removed
    os.environ.pop("JAVA_TOOL_OPTIONS", None)
    bench = WireBench(args)
    print("| measure | spoolfs | Apache Kafka | ratio | bound | |\n|---|---|---|---|---|---|", flush=True)
    try:
        for name in (args.only or ",".join(WireBench.ALL)).split(","):
            if name not in WireBench.ALL:
                raise SystemExit(f"there is no {name}; there are {', '.join(WireBench.ALL)}")
            getattr(bench, name)()
    finally:
        bench.close()
    if args.json:
        Path(args.json).write_text(json.dumps(bench.rows, indent=1) + "\n")
    return 0 if all(r["holds"] is not False for r in bench.rows) else 1
