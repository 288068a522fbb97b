"""Switches faults of a running spoolfs-faults on and off, and shifts its clock; fault_hook.c has the rules, and reads the shared file."""

import mmap
import struct
from pathlib import Path

CONTROL_BYTES = 64 << 10
CLOCK_AT, TEXT_AT = 32, 64


class Faults:
    """faults.set("write ENOSPC path=*/t-0/*.log", ...) · faults.clear() · faults.fired, faults.seen

    The counts are of the rules that were set last: a test that expects a fault checks that it came about."""

    def __init__(self, path: Path):
        self.path = path
        path.write_bytes(bytes(CONTROL_BYTES))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), CONTROL_BYTES)
        self._generation = 0

    @property
    def environment(self) -> dict[str, str]:
        return {"SPOOLFS_FAULTS": str(self.path)}

    def set(self, *rules: str) -> None:
        text = "\n".join(rules).encode() + b"\0"
        assert len(text) <= CONTROL_BYTES - TEXT_AT
        struct.pack_into("=Q", self._map, 0, 0)
        self._map[TEXT_AT:TEXT_AT + len(text)] = text
        self._generation += 1
        struct.pack_into("=Q", self._map, 0, self._generation)

    def clear(self) -> None:
        self.set("* pass count=0")

    def shift_clock(self, ms: int) -> None:
        """The wall clock alone: what waits for a time that passes does not notice, as with ntpd."""
        struct.pack_into("=q", self._map, CLOCK_AT, ms)

    def _count(self, at: int) -> int:
        in_force, = struct.unpack_from("=Q", self._map, 8)
        return struct.unpack_from("=Q", self._map, at)[0] if in_force == self._generation else 0

    @property
    def seen(self) -> int:
        return self._count(16)

    @property
    def fired(self) -> int:
        return self._count(24)

    def notes(self) -> list[tuple[str, int, str]]:
        """What the rules "... note" have noted: call, size of the file at that moment, path."""
        lines = Path(f"{self.path}.notes").read_text().splitlines()
        return [(call, int(size), path) for call, size, path in (line.split(" ", 2) for line in lines)]
