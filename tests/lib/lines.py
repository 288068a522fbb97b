"""Lines that tell by themselves whether they are whole and whose, and whether one is missing, doubled or misplaced.

    line = make_line("w1", 17, 300)          b"w1 17 <crc> ......\n", 300 bytes
    check(lines)                             {"w1": 18, ...}: how many of each writer; AssertionError if one is wrong

As a program it is a writer, which acknowledges to its stdout what it was acknowledged:

    python lines.py PATH NAME COUNT SIZE [first=N] [chunk=N] [batch=N] [fsync]
"""

import os
import random
import sys
import zlib

_FILLING = bytes(byte for byte in range(33, 127))


def make_line(writer: str, number: int, size: int = 0) -> bytes:
    """At least as long as what it has to say."""
    head = b"%s %d " % (writer.encode(), number)
    size = max(size - len(head) - 10, 0)
    at = number % len(_FILLING)
    body = (_FILLING[at:] + _FILLING * (size // len(_FILLING) + 1))[:size]
    return b"%s%08x %s\n" % (head, zlib.crc32(head + body), body)


def parse(line: bytes) -> tuple[str, int]:
    """A line without its newline."""
    parts = line.split(b" ", 3)
    assert len(parts) == 4, f"not a whole line: {line[:200]!r}"
    writer, number, crc, body = parts
    assert zlib.crc32(b"%s %s " % (writer, number) + body) == int(crc, 16), f"not a whole line: {line[:200]!r}"
    return writer.decode(), int(number)


def check(content: bytes, first: dict[str, int] | None = None) -> dict[str, int]:
    """Whole lines, each writer's numbers in order from 0 (or `first`), none missing and none twice."""
    assert content.endswith(b"\n") or not content, f"the last line is torn: {content[-200:]!r}"
    following = dict(first or {})
    for line in content.split(b"\n")[:-1]:
        writer, number = parse(line)
        expected = following.get(writer, 0)
        assert number == expected, f"writer {writer}: line {number} where {expected} was to come"
        following[writer] = number + 1
    return following


def write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text):]


def _chunks(text: bytes, size: int, rng: random.Random):
    while text:
        n = rng.randint(1, size) if size else len(text)
        yield text[:n]
        text = text[n:]


def main() -> None:
    path, writer, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    options = dict(word.partition("=")[::2] for word in sys.argv[5:])
    batch = int(options.get("batch", 1))
    rng = random.Random(writer)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    number = int(options.get("first", 0))
    end = number + count if count else sys.maxsize
    while number < end:
        n = min(batch, end - number)
        for piece in _chunks(b"".join(make_line(writer, number + i, size) for i in range(n)),
                             int(options.get("chunk", 0)), rng):
            write_all(fd, piece)
        if "fsync" in options:
            os.fsync(fd)
        number += n
        os.write(1, b"%d\n" % number)
    os.close(fd)


if __name__ == "__main__":
    main()
