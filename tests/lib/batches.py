"""Record batches (Kafka's format v2) and partition directories made of them, for tests that want records with keys.

    write_partition(data / "t-0", [[(b"key", b"value"), (b"gone", None)], ...])     a batch each, a segment each `per_segment`
    records(data / "t-0")                                                          [(offset, key, value)] of what is in the .log files, uncompressed ones
"""

import contextlib
import os
import struct
from pathlib import Path

_TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ 0x82F63B78 * (n & 1)
    _TABLE.append(n)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _bytes(data) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def batch(base: int, pairs, time_ms: int) -> bytes:
    area = b""
    for delta, (key, value) in enumerate(pairs):
        body = b"\0" + varint(0) + varint(delta) + _bytes(key) + _bytes(value) + varint(0)
        area += varint(len(body)) + body
    tail = struct.pack(">hiqqqhii", 0, len(pairs) - 1, time_ms, time_ms, -1, -1, -1, len(pairs)) + area
    return struct.pack(">qiibI", base, len(tail) + 9, 0, 2, crc32c(tail)) + tail


def write_partition(directory: Path, batches, per_segment: int = 10, time_ms: int = 1_700_000_000_000) -> None:
    """As a Kafka would leave it that was stopped; but for the indexes, which are made anew when they are missed."""
    directory.mkdir(parents=True)
    offset = 0
    for at in range(0, len(batches), per_segment):
        with open(directory / f"{offset:020}.log", "wb") as log:
            for pairs in batches[at:at + per_segment]:
                log.write(batch(offset, pairs, time_ms))
                offset += len(pairs)
    (directory / "partition.metadata").write_text("version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw\n")
    (directory / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")


class _Cursor:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)

    def bytes(self):
        length = self.varint()
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at]


def _segments(directory: Path):
    return sorted((entry.name, entry.inode()) for entry in os.scandir(directory) if entry.name.endswith((".log", ".log.swap")))


def records(directory: Path):
    """(offset, key, value) of each record. While a compacted segment takes the place of others neither it nor they are to be seen: then it is looked again."""
    while True:
        before, found = _segments(directory), []
        with contextlib.suppress(FileNotFoundError):
            for name, _ in before:
                found += records_of((directory / name).read_bytes())
            if not any(name.endswith(".swap") for name, _ in before) and _segments(directory) == before:
                return found


def records_of(data: bytes):
    """The same, of whole batches."""
    found, at = [], 0
    while at < len(data):
        base, length = struct.unpack_from(">qi", data, at)
        count = struct.unpack_from(">i", data, at + 57)[0]
        cursor = _Cursor(data[at + 61:at + 12 + length])
        for _ in range(count):
            end = cursor.varint() + cursor.at
            cursor.at += 1
            cursor.varint()
            delta = cursor.varint()
            found.append((base + delta, cursor.bytes(), cursor.bytes()))
            cursor.at = end
        at += 12 + length
    return found
