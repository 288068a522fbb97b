"""What the file of a partition is: the model that the property tests hold the mount against.

A file is a run of lines; the first `start` bytes of it are deleted. Writers keep unfinished lines, readers a place. The
model says what each operation must give; where more than one answer is right it says so."""

import errno

STALE = "ESTALE"


class File:
    def __init__(self):
        self.content = b""
        self.start = 0

    @property
    def left(self) -> bytes:
        return self.content[self.start:]

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def start_offset(self) -> int:
        return self.content[:self.start].count(b"\n")

    def append(self, text: bytes) -> None:
        assert text.endswith(b"\n") or not text
        self.content += text

    def delete_head(self, length: int) -> None:
        """What ends at or before `length` goes."""
        end = self.content.rfind(b"\n", 0, min(length, self.size)) + 1
        self.start = max(self.start, end)

    def is_boundary(self, position: int) -> bool:
        return position == 0 or self.content[position - 1:position] == b"\n"


class Writer:
    """An open handle: complete lines are appended at once, the rest waits."""

    def __init__(self, file: File):
        self.file = file
        self.pending = b""

    def write(self, text: bytes) -> None:
        whole = text.rfind(b"\n") + 1
        if whole:
            self.file.append(self.pending + text[:whole])
            self.pending = b""
        self.pending += text[whole:]

    def close(self) -> None:
        if self.pending:
            self.file.append(self.pending + b"\n")
        self.pending = b""


class Reader:
    """An open handle. base: of @earliest, the position that is its 0."""

    def __init__(self, file: File, base: int | None = None):
        self.file = file
        self.begun = base is not None
        self.shift = base or 0
        self.moved = False
        self.furthest = 0

    def size(self) -> int:
        return self.file.size - (self.shift if not self.moved else 0)

    def read(self, at: int, n: int) -> list:
        """The answers that are right: bytes, or STALE."""
        if not self.begun:
            self.begun = True
            if at == 0 and self.file.start:
                self.moved, self.shift = True, self.file.start
        if self.moved and at > self.furthest:
            return [STALE]
        position = at + self.shift
        there = self.file.content[position:position + n]
        # what was read ahead may still be given
        return [STALE, there] if position < self.file.start else [there]

    def was_given(self, at: int, answer) -> None:
        if answer != STALE:
            self.furthest = max(self.furthest, at + len(answer))


def answer(call, *arguments):
    """What the mount gives, in the words of Reader.read."""
    try:
        return call(*arguments)
    except OSError as failure:
        if failure.errno == errno.ESTALE:
            return STALE
        raise
