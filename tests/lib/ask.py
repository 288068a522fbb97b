"""Any request, in any version, to any broker: build/<build>/wire/ask, kept open.

    with Ask(bootstrap) as ask:
        ask("DeleteTopics", 6, topics=[{"name": "t"}], timeout_ms=10000)["responses"]
"""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Ask:
    def __init__(self, bootstrap, build="plain"):
        self._process = subprocess.Popen([ROOT / "build" / build / "wire" / "ask", bootstrap], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, api, version=None, **request):
        asked = {"api": api, "request": request} | ({} if version is None else {"version": version})
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{str(asked)[:2000]}: {self._process.stderr.read()}"
        answer = json.loads(line)
        assert "failed" not in answer, f"{str(asked)[:2000]}: {answer['failed']}"
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
