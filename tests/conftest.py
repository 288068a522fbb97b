"""What every test may use: the builds, the program, mounts, and the rule that a skipped test is a failed one."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from lib.mounting import Mounts

pytest_plugins = ["lib.hosts", "lib.zookeeper", "lib.agents", "lib.zk_talk", "lib.control_talk", "lib.joined", "lib.serving", "lib.cluster"]

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ("plain", "asan", "tsan")
ADDR_NO_RANDOMIZE = 0x0040000  # sys/personality.h

SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1",
    # libzookeeper forgets what its I/O thread finds while a session is closed on a connection that breaks at that moment.
    "LSAN_OPTIONS": "print_suppressions=0:suppressions=%s" % (Path(__file__).parent / "lib/leaks.txt"),
}

skipped = []


def pytest_addoption(parser):
    parser.addoption(
        "--builds",
        default=os.environ.get("SPOOLFS_TEST_BUILDS", "plain"),
        help="builds of spoolfs under test: some of %s (default: SPOOLFS_TEST_BUILDS, else plain)" % " ".join(BUILDS),
    )


def builds_of(config):
    names = config.getoption("--builds").replace(",", " ").split()
    unknown = [name for name in names if name not in BUILDS]
    if unknown or not names:
        raise pytest.UsageError("--builds takes some of %s, not %s" % (" ".join(BUILDS), " ".join(unknown) or "none"))
    return names


def fix_addresses():
    """Thread sanitizer's memory map has no room for the address randomisation of newer kernels. Children inherit this;
    where it is not permitted the sanitizer itself says what is wrong."""
    libc = ctypes.CDLL(None)
    now = libc.personality(ctypes.c_ulong(0xFFFFFFFF))
    if now != -1:
        libc.personality(ctypes.c_ulong(now | ADDR_NO_RANDOMIZE))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than some seconds; left out by `make check`")
    builds_of(config)
    fix_addresses()
    for name, options in SANITIZERS.items():
        os.environ.setdefault(name, options)


def pytest_generate_tests(metafunc):
    if "build" in metafunc.fixturenames:
        metafunc.parametrize("build", builds_of(metafunc.config), indirect=True, scope="session")


@pytest.fixture(scope="session")
def build(request):
    """The build under test: a test that uses it, or `spoolfs`, runs once for each of --builds."""
    return request.param


@pytest.fixture(scope="session")
def spoolfs(build):
    """The path of the program, of the build under test."""
    program = ROOT / "build" / build / "spoolfs"
    assert program.exists(), "there is no %s: make BUILD=%s" % (program, build)
    return program


# Mounts. lib/mounting.py has what can be done with one; whatever a test does, nothing stays mounted or running.

def time_limit(request):
    """Of a test: its own mark, else pytest.ini's."""
    mark = request.node.get_closest_marker("timeout")
    return float(mark.args[0] if mark else request.config.getini("timeout"))


@pytest.fixture
def mounts(spoolfs, request):
    """mounts("num.partitions=2", background=True) -> a Mount, started; as many as a test wants."""
    made = Mounts(spoolfs, Path(tempfile.mkdtemp(prefix="spoolfs-test.")), time_limit(request) * 0.7)
    yield made
    wrong = made.clean_up()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def mount(mounts):
    """A mount with nothing set."""
    return mounts()


@pytest.fixture
def topic(mount):
    """The directory of a new topic with one partition: topic / "0"."""
    (mount.dir / "t").mkdir()
    return mount.dir / "t"


@pytest.fixture
def sh(request):
    """sh("sort 0 | head -n 1", topic) -> what it printed; status= says how the script must end. It is bash's."""
    limit = time_limit(request) * 0.8

    def run(script, cwd=None, status=0, stdin=None, stderr=None, **environment):
        done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], cwd=cwd, capture_output=True, timeout=limit,
                              env=os.environ | {"LC_ALL": "C"} | environment,
                              **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}))
        assert done.returncode == status, f"{script}: status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr}"
        if stderr is not None:
            assert stderr in done.stderr.decode(), done.stderr
        return done.stdout
    return run


@pytest.fixture
def spawn(mounts):
    """spawn(["tail", "-f", path], stdout=PIPE) -> a Popen that does not outlive the test."""
    processes = []

    def start(command, **options):
        process = subprocess.Popen([str(word) for word in command], **({"stdin": subprocess.DEVNULL} | options))
        processes.append(process)
        return process
    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


# A test that does not run proves nothing, so skipping fails the session; SPOOLFS_ALLOW_SKIP=1 is for machines that
# lack what some test needs.


def note_skip(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        skipped.append(report.nodeid)


def pytest_runtest_logreport(report):
    note_skip(report)


def pytest_collectreport(report):
    note_skip(report)


def skips_count():
    return skipped and os.environ.get("SPOOLFS_ALLOW_SKIP") != "1"


def pytest_sessionfinish(session):
    if skips_count() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if skips_count():
        line = "%d skipped: that counts as failed (SPOOLFS_ALLOW_SKIP=1 lets it pass)" % len(skipped)
        terminalreporter.write_line(line, red=True)
