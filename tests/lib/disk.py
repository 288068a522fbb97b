"""A filesystem of some megabytes, which can be filled and emptied; unmounted with what else is mounted in its place, or by close()."""

import errno
import os
import subprocess


class Disk:
    """A filesystem of its own, of some megabytes, with a filler file that can be taken away."""

    def __init__(self, place, size="6m"):
        self.path = place / "disk"
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.path], check=True)

    def fill(self, but=0):
        """Takes all the space but so many bytes."""
        with open(self.path / "filler", "ab", buffering=0) as filler:
            for piece in (1 << 16, 1 << 12, 1 << 9, 1):
                try:
                    while os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize >= but + piece:
                        filler.write(b"f" * piece)
                except OSError as failure:
                    assert failure.errno == errno.ENOSPC

    def free(self):
        (self.path / "filler").unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)
