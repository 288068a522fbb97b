"""The unit tests in C: each program is one test here for each build it runs in."""

import subprocess
from pathlib import Path

from conftest import ROOT, builds_of

UNITS = Path(__file__).parent

# What threads share: these run under the thread sanitizer too.
CONCURRENT = {
    "broker_conf",
    "clean",
    "counters",
    "delayed",
    "deliver",
    "diag",
    "entries",
    "fetcher",
    "group_model",
    "group_roles",
    "idempotence",
    "log",
    "net",
    "net_limits",
    "partition",
    "partition_fetch",
    "partition_role",
    "pool",
    "producer_ids",
    "queue",
    "remote",
    "role_histories",
    "role_load",
    "role_wire",
    "segment",
    "task",
    "timer",
}

TIMEOUT_S = 240


def pytest_generate_tests(metafunc):
    asked = builds_of(metafunc.config)
    units = []
    for source in sorted(UNITS.glob("test_*.c")):
        module = source.stem.removeprefix("test_")
        wanted = {"plain", "asan", *asked} | ({"tsan"} if module in CONCURRENT else set())
        units += [(module, build) for build in ("plain", "asan", "tsan") if build in wanted]
    metafunc.parametrize("module, unit_build", units)


def test_unit(module, unit_build):
    program = ROOT / "build" / unit_build / "unit" / ("test_" + module)
    assert program.exists(), f"there is no {program}: make BUILD={unit_build} check-units"
    try:
        run = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"not done after {TIMEOUT_S} s:\n{(late.output or b'').decode(errors='replace')}") from None
    if run.returncode:
        raise AssertionError(f"{program.name} gave {run.returncode}:\n{run.stdout.decode(errors='replace')}")
