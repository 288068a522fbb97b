"""The examples run as they are."""

import os
import subprocess

import pytest

from conftest import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.sh"))


def test_every_example_has_a_test():
    assert EXAMPLES == ["play.sh"]


@pytest.fixture
def home(mounts):
    """A home directory; what is mounted in it is unmounted in the end."""
    (mounts.place / "home").mkdir()
    return mounts.place / "home"


def test_play(spoolfs, home):
    def play(*arguments):
        done = subprocess.run(
            [ROOT / "examples" / "play.sh", *arguments],
            env=os.environ | {"HOME": str(home), "SPOOLFS": str(spoolfs)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
    output = play()
    assert "book 12\npen 1\npen 2\npen 3\n" in output and "stays mounted" in output
    assert (home / "spool" / "orders" / "0").read_text().count("\n") == 4
    play()
    assert (home / "spool" / "orders" / "0").read_text().count("\n") == 8, "it can be run again"
    subprocess.run([spoolfs, "umount", home / "spool"], check=True, timeout=60)
    assert "book 12" in play(home / "elsewhere")
    subprocess.run([spoolfs, "umount", home / "elsewhere"], check=True, timeout=60)
