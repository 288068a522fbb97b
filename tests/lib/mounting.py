"""A spoolfs mount for a test: started, stopped, killed, and always cleaned up.

    mount = Mount(program, place, "num.partitions=2")     # DATA is place/data, the mount place/mnt
    (mount.dir / "t").mkdir()
    mount.remount(); mount.kill(); mount.start()
    mount.clean_up()                                      # fails on what the daemon complained of and nobody expected

The daemon runs in the foreground, its messages and a sanitizer's reports kept in place. Errors and warnings among its
messages fail the test, unless it said mount.expect("part of the message"): a test that makes no trouble sees none.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from lib.faults import Faults

START_S = 60    # bounds, not expectations: a sanitizer build on a busy machine is slow
STOP_S = 90
LOUD = re.compile(r"(^|Z )spoolfs: (error|warning): |^spoolfs mount: ")


def wait_until(condition, seconds=30, what=None):
    """Waits until condition() is true and returns what it gave; AssertionError when the time is over."""
    deadline = time.monotonic() + seconds
    pause = 0.0005
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    return result


def mounts_below(place: Path) -> list[Path]:
    """What is mounted in place, innermost first."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in open("/proc/self/mountinfo")]
    return sorted((Path(point) for point in points if f"{point}/".startswith(f"{place}/")), reverse=True)


def is_mounted(directory: Path) -> bool:
    return directory in mounts_below(directory)


def has_ended(pid: int) -> bool:
    """Also of a process that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def has_stopped(pid: int) -> bool:
    """By SIGSTOP: all of its threads. One of them has to run to see the signal; until then the others go on."""
    return all(task.read_text().rsplit(") ", 1)[1][0] == "T" for task in Path(f"/proc/{pid}/task").glob("*/stat"))


class Daemon:
    """A process, held by a descriptor so that its id cannot become another's."""

    def __init__(self, pid: int, process: subprocess.Popen | None = None):
        self.pid = pid
        self.process = process
        self._fd = os.pidfd_open(pid)

    def wait(self, seconds=STOP_S) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
        if ended and self.process:
            self.process.wait()
        return ended

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    @property
    def running(self) -> bool:
        return not self.wait(0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class MountFailed(AssertionError):
    pass


class Mount:
    def __init__(self, program: Path, place: Path, *options: str, data: Path | None = None, dir: Path | None = None,
                 background=False, faults=False, name=""):
        """options: of -o, one each. name: tells several mounts in one place apart."""
        self.program = Path(program)
        self.place = place
        self.dir = dir or place / f"mnt{name}"
        self.data = data or place / f"data{name}"
        self.options = list(options)
        self.background = background
        self.messages_file = place / f"messages{name}"
        self.daemon: Daemon | None = None
        self.killed_by_watchdog = False
        self.faults = Faults(place / f"faults{name}") if faults else None
        self._reports = place / f"sanitizer{name}"
        self._expected: list[str] = []
        self._messages_seen = 0
        self._bad_ends: list[str] = []
        if faults:
            self.program = self.program.with_name("spoolfs-faults")

    # the life of the daemon

    def environment(self) -> dict[str, str]:
        env = dict(os.environ)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            env[name] = f"{env.get(name, '')}:log_path={self._reports}".lstrip(":")
        return env | (self.faults.environment if self.faults else {})

    def command(self, *more: str) -> list[str]:
        options = [word for option in self.options for word in ("-o", option)]
        return [str(self.program), "mount", "-d", str(self.data), *options, *more, str(self.dir)]

    def start(self, *more: str) -> "Mount":
        assert not self.daemon
        if self.background:
            return self._start_in_background(*more)
        with open(self.messages_file, "ab") as messages:
            dies_with_us = ["setpriv", "--pdeathsig", "SIGTERM"]  # so that no mount is left by tests that are killed
            process = subprocess.Popen([*dies_with_us, *self.command("-f", *more)], stdin=subprocess.DEVNULL,
                                       stdout=messages, stderr=messages, env=self.environment(), start_new_session=True)
        daemon = Daemon(process.pid, process)
        try:
            wait_until(lambda: self.pid() == process.pid or not daemon.running, START_S, "the mount is ready")
            if not daemon.running:
                raise MountFailed(f"spoolfs mount ended with {process.returncode}:\n{self.messages()}")
        except BaseException:
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            daemon.close()
            raise
        self.daemon = daemon
        return self

    def _start_in_background(self, *more: str) -> "Mount":
        done = subprocess.run(self.command(*more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=self.environment(), timeout=START_S)
        if done.returncode:
            raise MountFailed(f"spoolfs mount ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        pid = self.pid()
        assert pid, "spoolfs mount has returned, but the mount is not there"
        self.daemon = Daemon(pid)
        return self

    def refused(self, *more: str, status=1) -> str:
        """Tries to mount, which must fail; returns what it said."""
        done = subprocess.run(self.command(*more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=self.environment(), timeout=START_S)
        assert done.returncode == status, f"status {done.returncode}: {done.stderr}"
        assert not is_mounted(self.dir)
        return done.stderr

    def pid(self) -> int | None:
        """Of the daemon that serves the mount, by the mount's own words."""
        try:
            return int(os.getxattr(self.dir, "user.spoolfs.pid"))
        except OSError:
            return None

    def umount(self) -> None:
        """The clean stop, as a user asks for it."""
        done = subprocess.run([self.program, "umount", self.dir], capture_output=True, text=True,
                              env=self.environment(), timeout=STOP_S)
        assert done.returncode == 0, f"spoolfs umount: {done.stderr}\nthe daemon: {self.messages()}"
        self.ended()

    def ended(self, status: int | None = 0) -> None:
        """Waits for the end of the daemon, which was asked for; in the foreground with that exit status (None: any)."""
        assert self.daemon.wait(), f"the daemon does not end\n{self.messages()}"
        process = self.daemon.process
        self.daemon.close()
        self.daemon = None
        if process and status is not None:
            assert process.returncode == status, f"the daemon ended with {process.returncode}:\n{self.messages()}"

    def kill(self) -> None:
        """kill -9. What is left of the mount answers ENOTCONN, until the next start detaches it."""
        self.expect("were torn and are cut")  # a write may have been under way
        self.daemon.signal(signal.SIGKILL)
        self.ended(None)

    def remount(self, *options: str) -> None:
        """Unmounts and mounts again; with options: those instead of the ones before."""
        self.umount()
        if options:
            self.options = list(options)
        self.start()

    def crash(self) -> None:
        self.kill()
        self.start()

    # what it says

    def messages(self) -> str:
        log = self.data / "spoolfs.log"
        files = [self.messages_file] + ([log] if self.background else [])
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def expect(self, text: str) -> None:
        """An error or warning with this in it is what the test is about."""
        self._expected.append(text)

    def wait_for_message(self, text: str) -> None:
        self.expect(text)
        wait_until(lambda: text in self.messages(), what=f"the message {text!r}")

    def complaints(self) -> list[str]:
        found = [line for line in self.messages().splitlines()
                 if LOUD.search(line) and not any(text in line for text in self._expected)]
        for report in sorted(self.place.glob(f"{self._reports.name}.*")):
            found.append(report.read_text(errors="replace"))
        return found

    # the end

    def watchdog(self) -> None:
        """Called when a test takes too long: without its daemon every request that hangs is answered."""
        if self.daemon and self.daemon.running:
            self.killed_by_watchdog = True
            self.daemon.signal(signal.SIGKILL)

    def clean_up(self) -> list[str]:
        """Leaves nothing mounted, no process and no data. Returns what was wrong."""
        wrong = []
        if self.faults:
            self.faults.clear()
        clean = bool(self.daemon) and self.daemon.running
        if clean:
            self.daemon.signal(signal.SIGTERM)  # not umount: what the test opened may still be open
            if not self.daemon.wait():
                wrong.append("the daemon did not end on SIGTERM")
                self.daemon.signal(signal.SIGKILL)
                self.daemon.wait()
            elif self.daemon.process and self.daemon.process.returncode:
                wrong.append(f"the daemon ended with {self.daemon.process.returncode}")
        elif self.daemon and not self.killed_by_watchdog:
            wrong.append("the daemon has ended by itself")
        if self.killed_by_watchdog:
            wrong.append("the test took too long, and the daemon was killed so that it could end")
        if self.daemon:
            self.daemon.wait()
            self.daemon.close()
            self.daemon = None
        for point in mounts_below(self.dir):
            subprocess.run(["umount", "--lazy", point], capture_output=True)
        print(f"--- messages of {self.dir}:\n{self.messages()}")  # pytest shows it where a test fails
        if complaints := self.complaints():
            wrong.append("unexpected messages:\n" + "\n".join(complaints))
        return wrong


class Mounts:
    """Makes the mounts of one test and cleans up after it."""

    def __init__(self, program: Path, place: Path, seconds: float):
        self.program = program
        self.place = place
        self._made: list[Mount] = []
        self._timer = threading.Timer(seconds, self._too_late)
        self._timer.daemon = True
        self._timer.start()

    def _too_late(self) -> None:
        for mount in self._made:
            mount.watchdog()

    def __call__(self, *options: str, start=True, **how) -> Mount:
        name = str(len(self._made)) if self._made else ""
        mount = Mount(self.program, self.place, *options, **({"name": name} | how))
        self._made.append(mount)
        if start:
            mount.start()
        return mount

    def clean_up(self) -> list[str]:
        self._timer.cancel()
        wrong = [line for mount in self._made for line in mount.clean_up()]
        for point in mounts_below(self.place):
            subprocess.run(["umount", "--lazy", point], capture_output=True)
        if not mounts_below(self.place):
            shutil.rmtree(self.place, ignore_errors=True)
        return wrong
