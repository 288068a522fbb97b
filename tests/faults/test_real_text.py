"""A gigabyte of real text, appended in several ways and read back byte for byte, by a daemon that stays small."""

import filecmp
import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]

WANTED_BYTES = {"plain": (1 << 30) + 12345, "asan": 100 << 20, "tsan": 100 << 20}
LONGEST_LINE = 1_000_000      # the default max.message.bytes allows a little more
MOST_MEMORY = 160 << 20       # of the daemon: read ahead of a few readers, batches under way

# What every Debian has, and more of it where more is installed.
PLACES = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/include",
    "/usr/share/perl",
    "/usr/share/info",
    "/usr/lib",
    "/usr/share",
]
SUFFIXES = {
    ".py",
    ".h",
    ".txt",
    ".html",
    ".gz",
    ".md",
    ".rst",
    ".pm",
    ".pl",
    ".c",
    ".js",
    ".css",
    ".xml",
    ".json",
    ".po",
    ".conf",
    "",
    ".1",
    ".3",
    ".8",
}


def pieces():
    """The contents of text files; each file once."""
    seen = set()
    for place in PLACES:
        for directory, subdirectories, names in os.walk(place):
            subdirectories.sort()
            for name in sorted(names):
                path = Path(directory, name)
                if path.suffix not in SUFFIXES or path.is_symlink() or not path.is_file() or path.stat().st_ino in seen:
                    continue
                seen.add(path.stat().st_ino)
                try:
                    content = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
                except (OSError, EOFError):
                    continue
                if b"\0" not in content[:4096]:
                    yield content


def in_lines(content):
    """With the last line ended, and no line too long."""
    if not content.endswith(b"\n"):
        content += b"\n"
    return re.sub(rb"([^\n]{%d})(?!\n)" % LONGEST_LINE, rb"\1\n", content)


@pytest.fixture(scope="module")
def text(build, tmp_path_factory):
    """The path of the text."""
    path = tmp_path_factory.mktemp("text") / "text"
    left = WANTED_BYTES[build]
    with open(path, "wb") as file:
        while left > 0:
            before = left
            for content in pieces():
                if content and left > 0:
                    left -= file.write(in_lines(content))
            assert left < before, "this machine has no text"
    yield path
    path.unlink()


def check(mount, text, build, sh):
    """In every way to read all of it."""
    file = mount.dir / "t" / "0"
    assert os.stat(file).st_size == os.stat(text).st_size
    assert filecmp.cmp(file, text, shallow=False)
    sh(f"cat {file} | cmp - {text}; dd if={file} bs=333333 status=none | cmp - {text}")
    assert sh(f"wc -lwc < {file}") == sh(f"wc -lwc < {text}")
    assert sh(f"grep -c include {file}") == sh(f"grep -c include {text}")
    assert sh(f"tail -n 10000 {file} | md5sum") == sh(f"tail -n 10000 {text} | md5sum")
    with open(file, "rb") as ours, open(text, "rb") as theirs:
        size = os.stat(text).st_size
        for at in range(0, size, size // 1000 + 7):
            assert os.pread(ours.fileno(), 5000, at) == os.pread(theirs.fileno(), 5000, at)
    if build == "plain":
        status = Path(f"/proc/{mount.daemon.pid}/status").read_text()
        most = int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M).group(1)) << 10
        assert most < MOST_MEMORY, f"the daemon has taken {most >> 20} MiB"


HOW = {
    "cat": "cat {text} >> {file}",
    "dd-odd": "dd if={text} of={file} oflag=append conv=notrunc bs=77773 status=none",
    "dd-large": "dd if={text} of={file} oflag=append conv=notrunc bs=9M status=none",
    "tee": "tee -a {file} < {text} > /dev/null",
    "shell": "split -C 30M --filter='cat >> {file}' {text}",
    "python": """python3 -c '
import sys, shutil
with open(sys.argv[1], "rb") as a, open(sys.argv[2], "ab") as b:
    for line in a:
        b.write(line)' {text} {file}""",
}


@pytest.mark.parametrize(
    "how, compression", [*((how, "uncompressed") for how in HOW), ("cat", "lz4"), ("dd-odd", "lz4")]
)
def test_a_gigabyte_of_text(mounts, build, text, sh, how, compression):
    mount = mounts(f"compression.type={compression}", "log.segment.bytes=268435456")
    (mount.dir / "t").mkdir()
    sh(HOW[how].format(text=text, file=mount.dir / "t" / "0"))
    check(mount, text, build, sh)
    for stop in (mount.remount, mount.crash):
        stop()
        sh(f"cmp {mount.dir}/t/0 {text}")
    if how == "cat":
        mount.umount()
        done = subprocess.run([mount.program, "verify", mount.data], capture_output=True, text=True)
        assert done.stdout.endswith(": 0 faults\n"), done.stdout


@pytest.mark.parametrize("compression", ["gzip", "snappy", "zstd"])
def test_with_the_other_codecs(mounts, build, text, sh, compression):
    mount = mounts(f"compression.type={compression}")
    (mount.dir / "t").mkdir()
    sh(f"cat {text} >> {mount.dir}/t/0")
    check(mount, text, build, sh)


def test_in_parallel_into_one_partition(mounts, build, text, sh, tmp_path):
    """Every line is there as often as in the text, and the parts' lines in their order."""
    mount = mounts()
    (mount.dir / "t").mkdir()
    sh(
        f"split -n l/4 {text} {tmp_path}/part.; rm -f {tmp_path}/*.marked; "
        f"for p in {tmp_path}/part.*; do sed s,^,${{p##*.}}:, $p > $p.marked; rm $p; done"
    )
    sh(f"for p in {tmp_path}/part.*.marked; do cat $p >> {mount.dir}/t/0 & done; wait", LC_ALL="C")
    for stop in (lambda: None, mount.remount):
        stop()
        sh(f"for m in aa ab ac ad; do grep -a ^$m: {mount.dir}/t/0 | cmp - {tmp_path}/part.$m.marked || exit 1; done")
