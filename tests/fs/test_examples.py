"""The examples run as they are."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.sh"))


def test_every_example_has_a_test():
    assert EXAMPLES == ["play.sh", "three-hosts.sh"]


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


@pytest.mark.parametrize("where", ["namespaces", "loopback"])
def test_three_hosts(spoolfs, tmp_path, where):
    """Nothing is missing, and nothing is left."""
    process = subprocess.Popen([ROOT / "examples" / "three-hosts.sh", *([where] if where == "loopback" else [])], env=os.environ | {"SPOOLFS": str(spoolfs), "TMPDIR": str(tmp_path)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, errors = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # which cleans up
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, f"{output}\n{errors}"
    assert output.endswith("# nothing is missing\n") and output.count("each once, in order") == 2
    sums = {line.split()[0] for line in output.splitlines() if line.endswith("/orders/0") and len(line.split()[0]) == 32}
    assert len(sums) == 1, output
    assert not list(tmp_path.iterdir()) and str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert f"spoolfs-{process.pid}-" not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
