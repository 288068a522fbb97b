#!/usr/bin/python3
"""Measures spoolfs against the smallest possible FUSE filesystem (floor.c, `-o direct,flush`) and prints the README's table.

    bench.py SPOOLFS [--dir DIR] [--rounds N] [--size-mib N] [--only NAME,...] [--json FILE]
    bench.py SPOOLFS --wire ...         beside Apache Kafka instead: wire.py

DIR (default /var/tmp) holds both backing directories, so both pay for the same disk. Targets run A B A B; a ratio is the median of
the rounds' own ratios. Daemons and clients are pinned to one CPU where the table says so: placement decides such figures otherwise.
Needs root (page cache, mounts), cc and libfuse3-dev; --wire needs librdkafka-dev, Java 17 and Maven.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wire

HERE = Path(__file__).resolve().parent
ECHO = "f=$1; n=$2; a=${EPOCHREALTIME/./}; for ((i=0;i<n;i++)); do echo x >> \"$f\"; done; b=${EPOCHREALTIME/./}; echo $((b-a))"


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, **more)


def mounted(path):
    return any(line.split()[1] == str(path) for line in open("/proc/mounts"))


def rss_kib(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


class Target:
    """A mount of one of the two, on its own backing directory."""

    def __init__(self, bench, name, cpu=None):
        self.bench, self.name, self.cpu, self.serial = bench, name, cpu, 0
        self.dir = bench.work / f"{name}.mnt"
        self.data = bench.work / f"{name}.data"

    def start(self, *options):
        self.dir.mkdir(exist_ok=True)
        pin = ["taskset", "-c", str(self.cpu)] if self.cpu is not None else []
        if self.name == "floor":
            self.data.mkdir(exist_ok=True)
            run(*pin, self.bench.work / "floor", "-o", f"backing={self.data},direct,flush", self.dir)
        else:
            more = [word for option in options for word in ("-o", option)]
            run(*pin, self.bench.spoolfs, "mount", "-d", self.data, *more, self.dir)
        while not mounted(self.dir):
            time.sleep(0.001)

    def stop(self):
        if self.name == "floor":
            run("fusermount3", "-u", self.dir)
        elif mounted(self.dir):
            run(self.bench.spoolfs, "umount", self.dir)

    def pid(self):
        return int(os.getxattr(self.dir, "user.spoolfs.pid"))

    def topic(self, partitions=1):
        self.serial += 1
        path = self.dir / f"bench-{self.serial}"
        path.mkdir()
        for p in range(partitions):
            os.close(os.open(path / str(p), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
        return path

    def remove(self, topic):
        run("rm", "-r", topic)

    def wipe(self):
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)


class Bench:
    def __init__(self, args):
        self.args = args
        self.spoolfs = Path(args.spoolfs).resolve()
        self.work = Path(tempfile.mkdtemp(prefix="spoolfs-bench-", dir=args.dir))
        cflags = subprocess.check_output(["sh", "-c", "pkg-config --cflags --libs fuse3 2>/dev/null || echo -I/usr/include/fuse3 -lfuse3"], text=True).split()
        run("cc", "-O2", "-std=gnu11", "-o", self.work / "floor", HERE / "floor.c", *cflags, "-lpthread")
        run("cc", "-O2", "-o", self.work / "fsio", HERE / "fsio.c")
        self.rows = []
        self.big = self.work / "big"

    def io(self, *argv, cpu=None):
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        return int(run(*pin, self.work / "fsio", *argv, stdout=subprocess.PIPE, text=True).stdout or 0)

    def clock(self, *argv, out=None, source=None):
        with open(out or os.devnull, "ab") as sink, open(source or os.devnull, "rb") as src:
            t0 = time.perf_counter()
            run(*argv, stdin=src, stdout=sink)
            return time.perf_counter() - t0

    def need_big(self):
        if not self.big.exists():
            self.io("gen", self.big, self.args.size_mib << 20)
        return os.path.getsize(self.big)

    def row(self, what, figure, bound, good):
        self.rows.append({"what": what, "figure": figure, "bound": bound, "holds": good})
        print(f"| {what} | {figure} | {bound} | {'' if good else 'missed'} |", flush=True)

    def against_floor(self, what, measure, unit, better, limit, cpu=None, options=(), rounds=None, other=None):
        """measure(target) once a round on each; the ratio is spoolfs' to the floor's, as the bound is written."""
        targets = [Target(self, "floor", cpu), Target(self, "spoolfs", cpu)]
        got = {t.name: [] for t in targets}
        for t in targets:
            t.start(*options)
        try:
            for _ in range(rounds or self.args.rounds):
                for t in targets:
                    got[t.name].append((other or measure)(t) if t.name == "floor" else measure(t))
        finally:
            for t in targets:
                t.wipe()
        ratio = statistics.median(s / f for s, f in zip(got["spoolfs"], got["floor"]))
        good = ratio <= limit if better == "low" else ratio >= limit
        mid = {name: statistics.median(v) for name, v in got.items()}
        self.row(what, f"{ratio:.2f} ({mid['spoolfs']:.4g} against {mid['floor']:.4g} {unit})",
                 f"{'at most' if better == 'low' else 'at least'} {limit}", good)

    # ---- the rows ----

    def echo(self):
        def measure(t):
            topic, n = t.topic(), 2000
            us = int(run("taskset", "-c", 0, "bash", "-c", ECHO, "_", topic / "0", n, stdout=subprocess.PIPE).stdout)
            t.remove(topic)
            return us / n
        self.against_floor("`echo x >> FILE`, pinned", measure, "us", "low", 1.5, cpu=0)

    def write(self):
        def measure(t):
            topic, n = t.topic(), 200000
            us = self.io("writes", topic / "0", 100, n, cpu=0) / 1000
            t.remove(topic)
            return us / n
        self.against_floor("write(2) of a 100 B line, pinned", measure, "us", "low", 1.3, cpu=0)

    def writers(self):
        def measure(t):
            topic, n = t.topic(), 25000
            us = self.io("cwrites", 100, n, 1, *[topic / "0"] * 4) / 1000
            self.io("check", topic / "0", 100, 4, n)
            t.remove(topic)
            return 4 * n / us * 1000
        self.against_floor("four writers to one file, a line a write", measure, "k lines/s", "high", 1.0)

    def group_commit(self):
        t, ratios = Target(self, "spoolfs"), []
        t.start()
        try:
            for _ in range(self.args.rounds):
                topic, n = t.topic(2), 500
                one = n / self.io("cwrites", 100, n, 0, topic / "0")
                four = 4 * n / self.io("cwrites", 100, n, 0, *[topic / "1"] * 4)
                ratios.append(four / one)
                t.remove(topic)
        finally:
            t.wipe()
        ratio = statistics.median(ratios)
        self.row("the same with fsync after each line, against one such writer", f"{ratio:.2f}", "at least 2.5", ratio >= 2.5)

    def bulk(self):
        size = self.need_big()

        def measure(*argv, source=None):
            def one(t):
                topic = t.topic()
                s = self.clock(*argv, out=topic / "0", source=source)
                assert os.path.getsize(topic / "0") == size
                t.remove(topic)
                shutil.rmtree(t.data / "gone", ignore_errors=True)
                return size / s / 1e6
            return one
        fast = ("log.segment.delete.delay.ms=0",)
        self.against_floor("`cat BIG >> FILE`", measure("cat", self.big), "MB/s", "high", 0.85, options=fast)
        self.against_floor("`dd bs=1M >> FILE`", measure("dd", "bs=1M", "status=none", source=self.big), "MB/s", "high", 0.85, options=fast)

    def read(self):
        size = self.need_big()
        filled = {}

        def fill(t):
            if t.name not in filled:
                filled[t.name] = t.topic()
                self.clock("cat", self.big, out=filled[t.name] / "0")
            return filled[t.name] / "0"

        def cat(t):
            return size / self.clock("cat", fill(t)) / 1e6

        def preads(t):
            n = 50000
            return n / self.io("preads", fill(t), n) * 1e6

        def tail(t):
            return statistics.median(self.clock("tail", "-n", "10", fill(t)) for _ in range(9)) * 1000
        for what, measure, unit, better, limit, options in (
                ("`cat FILE`, uncompressed", cat, "MB/s", "high", 0.8, ()),
                ("`cat FILE`, lz4", cat, "MB/s", "high", 0.5, ("compression.type=lz4",)),
                ("4 KiB reads at random positions", preads, "k/s", "high", 0.7, ()),
                ("`tail -n 10`", tail, "ms", "low", 1.3, ())):
            filled.clear()
            self.against_floor(what, measure, unit, better, limit, options=options)

    def lists(self):
        t = Target(self, "spoolfs")
        t.start()
        try:
            topics = [t.topic(1000) for _ in range(10)]
            ls = statistics.median(self.clock("ls", "-l", topics[0]) for _ in range(9)) * 1000
            find = statistics.median(self.clock("find", *topics, "-size", "+0") for _ in range(5)) * 1000
        finally:
            t.wipe()
        self.row("`ls -l` of 1,000 partitions", f"{ls:.1f} ms", "25 ms", ls <= 25)
        self.row("`find -size +0` of 10,000 files", f"{find:.0f} ms", "300 ms", find <= 300)

    def first_append(self):
        t, times = Target(self, "spoolfs"), []
        for _ in range(self.args.rounds):
            t0 = time.perf_counter()
            t.start()
            (t.dir / "t").mkdir()
            with open(t.dir / "t" / "0", "ab") as f:
                f.write(b"first\n")
            times.append((time.perf_counter() - t0) * 1000)
            rss = rss_kib(t.pid()) / 1024
            t.wipe()
        ms = statistics.median(times)
        self.row("mount to first append, nothing there before", f"{ms:.1f} ms", "50 ms", ms <= 50)
        self.row("RSS then", f"{rss:.1f} MB", "8 MB", rss <= 8)

    def many(self):
        for n, limit_s, limit_mb in ((1000, 0.1, 16), (10000, 0.5, 64)):
            t = Target(self, "spoolfs")
            t.start()
            for k in range(n // 100):
                topic = t.topic(100)
                for p in range(0, 100, 10):
                    with open(topic / str(p), "ab") as f:
                        f.write(b"x\n" * 100)
            times = []
            for _ in range(3):
                t.stop()
                t0 = time.perf_counter()
                t.start()
                assert len(os.listdir(t.dir)) == n // 100
                times.append(time.perf_counter() - t0)
                rss = rss_kib(t.pid()) / 1024
            t.wipe()
            s = statistics.median(times)
            self.row(f"mount with {n:,} partitions", f"{s * 1000:.0f} ms", f"{limit_s} s", s <= limit_s)
            self.row("RSS then", f"{rss:.1f} MB", f"{limit_mb} MB", rss <= limit_mb)

    def recovery(self):
        t = Target(self, "spoolfs")
        size = self.need_big()
        t.start(f"log.segment.bytes={1 << 30}", "log.flush.offset.checkpoint.interval.ms=3600000")
        topic = t.topic()
        for _ in range(max(1, (4 << 30) // size)):
            self.clock("cat", self.big, out=topic / "0")
        want = os.path.getsize(topic / "0")
        os.kill(t.pid(), 9)
        while mounted(t.dir):
            subprocess.run(["fusermount3", "-uz", str(t.dir)], stderr=subprocess.DEVNULL)
        (t.data / "recovery-point-offset-checkpoint").write_text("0\n0\n")
        files = sorted(t.data.glob("bench-1-0/*.log"))
        self.clock("cat", *files)
        cat = statistics.median(self.clock("cat", *files) for _ in range(3))
        t0 = time.perf_counter()
        t.start()
        assert os.path.getsize(topic / "0") == want
        s = time.perf_counter() - t0
        t.wipe()
        rate = cat / s
        self.row(f"recovery of {want / 1e9:.1f} GB after kill -9, {len(files)} segments, cache warm", f"{rate:.2f} of cat's rate ({s * 1000:.0f} ms)",
                 "at least 0.5", rate >= 0.5)

    def lookup(self):
        t = Target(self, "spoolfs")
        size = self.need_big()
        t.start()
        topic, medians = t.topic(), []
        chunk = self.work / "small"
        with open(self.big, "rb") as f:
            chunk.write_bytes(f.read(10 << 20))
        self.clock("cat", chunk, out=topic / "0")
        grow = max(1, (10 << 30) // size)
        for step in range(2):
            end, fd, ns = os.path.getsize(topic / "0"), os.open(topic / "0", os.O_RDONLY), []
            random.seed(1)
            for i in range(6000):
                at = random.randrange(end - 100)
                t0 = time.perf_counter_ns()
                os.pread(fd, 100, at)
                ns.append(time.perf_counter_ns() - t0)
            os.close(fd)
            medians.append(statistics.median(ns[1000:]) / 1000)
            for _ in range(grow if step == 0 else 0):
                self.clock("cat", self.big, out=topic / "0")
        t.wipe()
        ratio = medians[1] / medians[0]
        self.row("a read at a position: 10 GB against 10 MB", f"{ratio:.2f} ({medians[1]:.1f} against {medians[0]:.1f} us)", "flat (at most 1.5)", ratio <= 1.5)

    ALL = ("echo", "write", "writers", "group_commit", "bulk", "read", "lists", "first_append", "many", "recovery", "lookup")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("spoolfs")
    p.add_argument("--dir", default="/var/tmp")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--size-mib", type=int, default=1024)
    p.add_argument("--only", help="rows, by name")
    p.add_argument("--json")
    p.add_argument("--wire", action="store_true", help="what Kafka's clients see, beside Apache Kafka")
    wire.add_arguments(p)
    args = p.parse_args()
    if args.wire:
        return wire.main(args)
    bench = Bench(args)
    print("| measure | spoolfs | bound | |\n|---|---|---|---|", flush=True)
    try:
        for name in (args.only or ",".join(Bench.ALL)).split(","):
            getattr(bench, name)()
    finally:
        for name in ("floor", "spoolfs"):
            if mounted(bench.work / f"{name}.mnt"):
                subprocess.run(["fusermount3", "-uz", str(bench.work / f"{name}.mnt")])
        shutil.rmtree(bench.work, ignore_errors=True)
    if args.json:
        Path(args.json).write_text(json.dumps(bench.rows, indent=1) + "\n")
    return 0 if all(r["holds"] for r in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
