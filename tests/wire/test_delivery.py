"""The examples of delivery do what they say, also when they are killed between the work and the commit."""

import signal
import sys
from pathlib import Path

from lib.mounting import wait_until
from lib.serving import make_topic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = ["one", "two", "three", "four", "five"]
DIE = '[ "$line" != three ] || [ -e died ] || { touch died; kill -9 $PPID; sleep 1; exit; }'
WORK = "echo $line >> done"
CASES = {   # example, when it is killed: what is worked on in the end
    ("at_least_once.py", "after"): ["one", "two", "three", "three", "four", "five"],
    ("at_least_once.py", "before"): ["one", "two", "three", "four", "five"],
    ("at_most_once.py", "after"): ["one", "two", "three", "four", "five"],
    ("at_most_once.py", "before"): ["one", "two", "four", "five"],
}


def test_delivery(server, spawn, tmp_path):
    make_topic(server, "t")
    with open(server.dir / "t" / "0", "a") as file:
        file.writelines(f"{line}\n" for line in LINES)
    running = []
    for (example, killed), expected in CASES.items():
        place = tmp_path / f"{example}-{killed}"
        place.mkdir()
        steps = [WORK, DIE] if killed == "after" else [DIE, WORK]
        work = "; ".join(["read -r line || true", *steps, ":"])
        command = [sys.executable, EXAMPLES / example, server.bootstrap, place.name, "t", "sh", "-c", work]
        running.append((place, command, expected, spawn(command, cwd=place)))
    for place, command, expected, process in running:
        assert process.wait(60) == -signal.SIGKILL
    for place, command, expected, process in [(place, command, expected, spawn(command, cwd=place)) for place, command, expected, _ in running]:
        wait_until(lambda: (place / "done").read_text().split() == expected, 90, f"{place.name}: {expected}")
        process.terminate()
        assert process.wait(60) == 0
