"""How a mount begins and ends: every way to stop it cleanly, who waits for whom, and what is refused."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import lines
from lib.mounting import Daemon, has_ended, is_mounted, wait_until

WRITER = Path(lines.__file__)
CLEAN = ".kafka_cleanshutdown"


def refused(error, call, *arguments):
    with pytest.raises(OSError) as failure:
        call(*arguments)
    assert failure.value.errno == error, failure.value


# Stopping

def stop_by_umount(mount):
    subprocess.run(["umount", mount.dir], check=True)


def stop_by_fusermount(mount):
    subprocess.run(["fusermount3", "-u", mount.dir], check=True)


def stop_by_spoolfs_umount(mount):
    subprocess.run([mount.program, "umount", mount.dir], check=True)


def stop_by_signal(number):
    def stop(mount):
        mount.daemon.signal(number)
    stop.__name__ = f"stop_by_{number.name}"
    return stop


STOPS = [
    stop_by_umount,
    stop_by_fusermount,
    stop_by_spoolfs_umount,
    stop_by_signal(signal.SIGTERM),
    stop_by_signal(signal.SIGINT),
    stop_by_signal(signal.SIGHUP),
]


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
def test_every_stop_is_clean(mounts, sh, stop, background):
    mount = mounts(background=background)
    sh("mkdir t; seq 1000 >> t/0; echo compression.type=zstd >> t/.config; seq 1000 >> t/0", mount.dir)
    stop(mount)
    mount.ended()
    assert not is_mounted(mount.dir) and os.listdir(mount.dir) == []
    assert (mount.data / CLEAN).exists()
    assert sh(f"{mount.program} verify {mount.data}").endswith(b": 0 faults\n")
    mount.start()
    assert not (mount.data / CLEAN).exists(), "while it is in use it is not clean"
    assert sh("cat t/0", mount.dir) == sh("seq 1000; seq 1000")


def test_spoolfs_umount_returns_when_all_is_done(mounts, sh):
    mount = mounts(background=True)
    for i in range(5):
        sh(f"mkdir -p t; seq {i} 10000 >> t/0", mount.dir)
        pid = mount.pid()
        stop_by_spoolfs_umount(mount)
        assert has_ended(pid) and (mount.data / CLEAN).exists()
        mount.daemon.close()
        mount.daemon = None
        mount.start()


def test_umount_is_refused_while_it_is_in_use(mount, topic, sh):
    with open(topic / "0", "a") as file:
        file.write("pending\n")
        file.flush()
        sh(f"umount {mount.dir}", status=32, stderr="busy")
        file.write("still here\n")
    assert (topic / "0").read_text() == "pending\nstill here\n"


def test_a_signal_under_load_loses_nothing_that_was_acknowledged(mount, topic, spawn):
    writers = [
        spawn(
            [sys.executable, WRITER, topic / "0", f"w{i}", 0, 80, "batch=5"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for i in range(3)
    ]
    wait_until(lambda: os.stat(topic / "0").st_size > 200_000)
    wait_until(lambda: len(lines.check((topic / "0").read_bytes())) == len(writers))
    mount.daemon.signal(signal.SIGTERM)
    mount.ended()
    acknowledged = [int(writer.communicate(timeout=60)[0].split()[-1]) for writer in writers]
    mount.start()
    there = lines.check((topic / "0").read_bytes())
    for i, count in enumerate(acknowledged):
        assert there[f"w{i}"] >= count


def test_a_signal_ends_it_although_files_are_open(mount, topic):
    """Half a line is no message then: whoever is writing it has not closed the file, and goes on to an error."""
    fd = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"whole\nhalf")
    mount.daemon.signal(signal.SIGTERM)
    mount.ended()
    refused(errno.ENOTCONN, os.write, fd, b" of a line\n")
    with pytest.raises(OSError):
        os.close(fd)
    assert "is dropped" in mount.messages()
    mount.start()
    assert (topic / "0").read_bytes() == b"whole\n"


def test_signals_during_the_stop_do_not_spoil_it(mounts, sh):
    """As systemd sends them: the unmount first, then SIGTERM; or a second Ctrl-C."""
    mount = mounts(faults=True)
    sh("mkdir t; seq 1000 >> t/0", mount.dir)
    mount.faults.set("sync hold")
    stop_by_umount(mount)
    wait_until(lambda: mount.faults.fired)
    status = Path(f"/proc/{mount.daemon.pid}/status")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        mount.daemon.signal(number)
        wait_until(lambda: has_ended(mount.daemon.pid) or re.search(r"^ShdPnd:\s+0+$", status.read_text(), re.M))
    mount.faults.clear()
    mount.ended()
    assert (mount.data / CLEAN).exists()


def test_a_lazy_unmount_serves_those_who_have_files_open(mount, topic):
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    subprocess.run(["umount", "--lazy", mount.dir], check=True)
    os.write(fd, b"still served\n")
    assert os.pread(fd, 100, 0) == b"still served\n"
    os.close(fd)
    mount.ended()
    mount.start()
    assert (topic / "0").read_bytes() == b"still served\n"


# Starting again

def test_a_mount_right_after_umount_waits_for_the_holder(mounts, sh):
    """umount(8) returns before the daemon has written everything."""
    mount = mounts(faults=True)
    other = mounts(start=False, data=mount.data)
    sh("mkdir t; seq 1000 >> t/0", mount.dir)
    mount.faults.set("sync hold")
    stop_by_umount(mount)
    wait_until(lambda: mount.faults.fired)
    waiting = subprocess.Popen(other.command("-f"), stderr=subprocess.PIPE, env=other.environment())
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        assert not is_mounted(other.dir) and mount.daemon.running
        mount.faults.clear()
        mount.ended()
        wait_until(lambda: other.pid() == waiting.pid)
        assert sh("cat t/0", other.dir) == sh("seq 1000")
    finally:
        waiting.terminate()
        _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, errors


def test_umount_and_mount_again_and_again(mounts, sh):
    mount = mounts(background=True)
    sh("mkdir t", mount.dir)
    for i in range(8):
        sh(f"echo {i} >> t/0", mount.dir)
        stop_by_umount(mount)
        mount.daemon.close()
        mount.daemon = None
        mount.start()
    assert sh("cat t/0", mount.dir) == sh("seq 0 7")


def test_data_is_for_one_daemon(mounts, sh):
    first = mounts()
    second = mounts(start=False, data=first.data)
    text = second.refused()
    assert str(first.daemon.pid) in text and str(first.dir) in text
    second.options = [f"log.dirs={first.data}"]
    second.data = second.place / "elsewhere"
    assert str(first.daemon.pid) in second.refused(), "any of its log directories"
    sh("mkdir t; echo x >> t/0", first.dir)


def test_after_kill_the_holder_is_not_waited_for(mounts):
    mount = mounts()
    mount.kill()
    mount.start()
    mount.crash()


# The mount point

def test_a_mount_point_that_is_made(mounts):
    mount = mounts(start=False)
    assert not mount.dir.exists()
    mount.start()
    mount.umount()
    assert mount.dir.is_dir()


def test_a_stopped_daemon_hangs_nobody(mounts):
    """It is alive: its directory is refused to others, and what would have to ask it says so."""
    first = mounts()
    (first.dir / "t").mkdir()
    second = mounts(data=first.data, start=False)
    first.daemon.signal(signal.SIGSTOP)
    try:
        assert str(first.daemon.pid) in second.refused()
        for command in ("umount", "-t", "1"), ("mount", "-d", first.place / "other"):
            asked = subprocess.run([first.program, *command, first.dir], stderr=subprocess.PIPE, text=True, timeout=60)
            assert asked.returncode == 1 and "does not answer" in asked.stderr
    finally:
        first.daemon.signal(signal.SIGCONT)
    assert (first.dir / "t").is_dir()


def test_mount_points_that_are_refused(mounts, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("precious")
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, said in (
        ("full", "not empty"),
        ("file", "not a directory"),
        ("no/parent/here", "no/parent"),
        ("dangling", "dangling"),
    ):
        mount = mounts(start=False, dir=tmp_path / name)
        text = mount.refused()
        assert said in text and str(tmp_path / name) in text and text.count("\n") == 1
        assert not mount.data.exists(), "nothing is touched"
    assert (tmp_path / "full" / "something").read_text() == "precious"


def test_a_mount_point_with_blanks_and_commas(mounts, sh):
    mount = mounts(start=False)
    mount.dir = mount.place / "a b,c\\d\te"
    mount.data = mount.place / "data, too\\"
    mount.start()
    (mount.dir / "t").mkdir()
    (mount.dir / "t" / "0").open("a").write("x\n")
    mount.umount()
    mount.start()
    assert (mount.dir / "t" / "0").read_text() == "x\n"
    mount.crash()
    assert (mount.dir / "t" / "0").read_text() == "x\n"


def test_a_mount_point_through_a_symbolic_link(mounts, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mount = mounts(start=False, dir=tmp_path / "link")
    mount.start()
    (tmp_path / "real" / "t").mkdir()
    mount.crash()
    assert os.listdir(tmp_path / "link") == ["t"]


def test_a_dead_mount_is_taken_over(mount, topic):
    """ENOTCONN is what a killed daemon leaves, to whoever looks."""
    fd = os.open(topic / "0", os.O_RDWR | os.O_APPEND)
    os.write(fd, b"kept\n")
    mount.kill()
    refused(errno.ENOTCONN, os.listdir, mount.dir)
    refused(errno.ENOTCONN, os.write, fd, b"lost\n")
    mount.start()
    assert (topic / "0").read_bytes() == b"kept\n"
    refused(errno.ENOTCONN, os.write, fd, b"lost\n")
    with pytest.raises(OSError):
        os.close(fd)
    assert len([line for line in open("/proc/self/mountinfo") if f" {mount.dir} " in line]) == 1


def test_a_dead_mount_is_taken_over_at_once(mount):
    """Before the kernel has forgotten what it knew of the root."""
    for _ in range(5):
        os.stat(mount.dir)
        mount.crash()


def test_the_mount_of_another_filesystem_is_left_alone(mounts, tmp_path):
    (tmp_path / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "other"], check=True)
    try:
        (tmp_path / "other" / "file").touch()
        mount = mounts(start=False, dir=tmp_path / "other")
        done = subprocess.run(mount.command(), capture_output=True, text=True)
        assert done.returncode == 1 and "not empty" in done.stderr
        assert (tmp_path / "other" / "file").exists()
    finally:
        subprocess.run(["umount", tmp_path / "other"], check=True)


# DATA

def test_a_new_data_directory_is_its_owners_alone(mount):
    assert mount.data.stat().st_mode & 0o777 == 0o700


def test_several_log_directories(mounts, sh):
    mount = mounts(start=False)
    more = [mount.place / "more1", mount.place / "more2"]
    mount.options = ["num.partitions=6", f'log.dirs="{more[0]},{more[1]}"']
    mount.start()
    sh("mkdir t; for i in 0 1 2 3 4 5; do seq $i >> t/$i; done", mount.dir)
    for directory in (mount.data, *more):
        assert len(list(directory.glob("t-?"))) == 2, "new partitions go where there are fewest"
    for stop in (mount.remount, mount.crash):
        stop()
        for i in range(6):
            assert sh(f"cat t/{i}", mount.dir) == sh(f"seq {i}")
    sh("rm -r t", mount.dir)
    mount.remount()
    assert os.listdir(mount.dir) == []


def test_a_log_directory_that_is_left_out(mounts, sh):
    """Its partitions are not there, and nothing of the others is harmed; they are back with it."""
    mount = mounts(start=False)
    with_both = ["num.partitions=2", f"log.dirs={mount.place}/more"]
    mount.options = with_both
    mount.start()
    sh("mkdir t; echo a >> t/0; echo b >> t/1", mount.dir)
    here = int(next(mount.data.glob("t-?")).name[2:])
    mount.expect("t")
    mount.remount("num.partitions=2")
    assert (mount.dir / "t" / str(here)).read_text() == "ab"[here] + "\n"
    with pytest.raises(OSError) as failure:
        (mount.dir / "t" / str(1 - here)).open()
    assert failure.value.errno in (errno.EIO, errno.ENOENT)
    mount.remount(*with_both)
    assert sh("cat t/0 t/1", mount.dir) == b"a\nb\n"


@pytest.mark.parametrize("which", ["more", "data"])
@pytest.mark.parametrize("how", ["away", "empty"])
def test_a_log_directory_whose_disk_is_not_mounted(mounts, sh, how, which):
    """To make it anew would hide what is in it, and later what was written in its place."""
    mount = mounts(start=False)
    more = mount.place / "more"
    mount.options = [f"log.dirs={more}"]
    mount.start()
    assert f"{more} is a new one" in mount.messages()
    sh("mkdir a b; echo a >> a/0; echo b >> b/0", mount.dir)
    mount.remount()
    assert mount.messages().count("is a new one") == 1
    mount.umount()
    gone = {"more": more, "data": mount.data}[which]
    gone.rename(mount.place / "disk")
    if how == "empty":
        gone.mkdir()
        (gone / "lost+found").mkdir()
    said = mount.refused()
    assert f"log directory {gone} is " in said and "not mounted" in said and "spoolfs.dirs" in said
    if gone.exists():
        assert set(os.listdir(gone)) <= {"lost+found"}
        shutil.rmtree(gone)
    (mount.place / "disk").rename(gone)
    mount.start()
    assert sh("cat a/0 b/0", mount.dir) == b"a\nb\n"
    mount.umount()
    # given up: as the sentence says
    shutil.rmtree(gone)
    ({more, mount.data} - {gone}).pop().joinpath("spoolfs.dirs").unlink()
    mount.expect("")
    mount.start()
    assert (gone / "meta.properties").exists()


def test_properties_from_a_file(mounts):
    mount = mounts(start=False)
    properties = mount.place / "spoolfs.properties"
    properties.write_text("# what we want\nnum.partitions=2\n\nlog.retention.hours = 5\n")
    mount.start("-c", str(properties))
    (mount.dir / "t").mkdir()
    assert sorted(os.listdir(mount.dir / "t")) == ["0", "1"]
    assert "#retention.ms=18000000" in (mount.dir / "t" / ".config").read_text()


def test_the_daemon_of_a_background_mount_has_no_terminal_and_no_open_files_of_the_shell(mounts):
    mount = mounts(background=True)
    links = {os.readlink(path) for path in Path(f"/proc/{mount.daemon.pid}/fd").iterdir()}
    assert not [link for link in links if "/dev/pts" in link or link.startswith("pipe:")], links
    assert Path(f"/proc/{mount.daemon.pid}/cwd").resolve() == Path("/")
    session = int(Path(f"/proc/{mount.daemon.pid}/stat").read_text().rsplit(") ", 1)[1].split()[3])
    assert session == mount.daemon.pid


def test_the_daemon_keeps_nothing_of_what_the_shell_had_open(mounts, tmp_path):
    """A mount under a lock: it is free when whoever took it has ended."""
    mount = mounts(start=False, background=True)
    with open(tmp_path / "lock", "w") as lock, open(tmp_path / "lock") as high:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.dup2(lock.fileno(), 200)
        try:
            done = subprocess.run(mount.command(), pass_fds=[lock.fileno(), 200], capture_output=True, timeout=60)
        finally:
            os.close(200)
        assert done.returncode == 0
        mount.daemon = Daemon(mount.pid())
        open_files = [os.readlink(path) for path in Path(f"/proc/{mount.daemon.pid}/fd").iterdir()]
        assert not any(str(tmp_path) in path for path in open_files), open_files
        lock.close()
        fcntl.flock(high, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_refused_mount_point_leaves_no_topic(mounts):
    mount = mounts()
    inner = mounts(start=False, dir=mount.dir / "foo")
    assert "topic" in inner.refused() and os.listdir(mount.dir) == []


def test_umount_of_a_mount_that_is_bound_elsewhere(mounts, sh, tmp_path):
    """It would be gone from its place, and its daemon would live on for the other: nothing is changed."""
    mount = mounts()
    other = tmp_path / "other"
    other.mkdir()
    sh("mkdir t; echo a >> t/0", mount.dir)
    for what in (mount.dir, mount.dir / "t"):
        subprocess.run(["mount", "--bind", what, other], check=True)
        try:
            for path in (mount.dir, other):
                done = subprocess.run([mount.program, "umount", path], capture_output=True, text=True, timeout=20)
                assert done.returncode == 1 and str(other) in done.stderr and str(mount.dir) in done.stderr, done.stderr
            assert sh("cat t/0", mount.dir) == b"a\n"
        finally:
            subprocess.run(["umount", other], check=True)
    mount.umount()


def test_umount_although_the_kernel_has_copied_the_mount(mounts, sh, tmp_path):
    """To a peer of where it was made: that copy goes with it."""
    place, peer = tmp_path / "place", tmp_path / "peer"
    place.mkdir()
    peer.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        subprocess.run(["mount", "--make-shared", place], check=True)
        subprocess.run(["mount", "--bind", place, peer], check=True)
        mount = mounts(dir=place / "mnt")
        assert (peer / "mnt").is_mount()
        mount.umount()
        assert not (peer / "mnt").is_mount()
    finally:
        subprocess.run(["umount", "-l", peer], check=True)
        subprocess.run(["umount", "-l", place], check=True)


def test_a_remount_is_refused_with_a_sentence(mount, spoolfs, tmp_path):
    helper = tmp_path / "mount.fuse.spoolfs"
    helper.symlink_to(spoolfs)
    done = subprocess.run([helper, mount.data, mount.dir, "-o", "remount,ro"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 32 and "spoolfs umount" in done.stderr, done.stderr
    (mount.dir / "t").mkdir()


def test_mount_8_and_fstab(mounts, spoolfs, sh):
    """The type fuse.spoolfs, in a mount namespace of its own with /sbin/mount.fuse.spoolfs and /etc/fstab in place."""
    place = mounts.place
    (place / "mnt").mkdir()
    shutil.copytree("/usr/sbin", place / "sbin", symlinks=True)
    (place / "sbin" / "mount.fuse.spoolfs").unlink(missing_ok=True)
    (place / "sbin" / "mount.fuse.spoolfs").symlink_to(spoolfs)
    (place / "fstab").write_text(f"{place}/data {place}/mnt fuse.spoolfs noauto,nofail,num.partitions=2 0 0\n")
    script = f"""
        mount --make-rprivate / || exit 1
        mount --bind {place}/sbin /usr/sbin || exit 2
        touch /etc/fstab; mount --bind {place}/fstab /etc/fstab || exit 3
        mount {place}/mnt || exit 4
        mkdir {place}/mnt/t && echo hello >> {place}/mnt/t/1 && ls {place}/mnt/t && cat {place}/mnt/t/1 || exit 5
        pid=$(getfattr --only-values -n user.spoolfs.pid {place}/mnt)
        umount {place}/mnt || exit 6
        while kill -0 $pid 2>&-; do sleep 0.01; done
    """
    assert sh(f"unshare -m bash -c '{script}'") == b"0\n1\nhello\n"
    assert (place / "data" / CLEAN).exists()


def test_times_of_directories_follow_what_happens(mount, sh):
    before = os.stat(mount.dir).st_mtime
    time.sleep(0.02)
    sh("mkdir t", mount.dir)
    wait_until(lambda: os.stat(mount.dir).st_mtime > before)


def test_a_read_only_mount(mounts, sh):
    mount = mounts()
    sh("mkdir t; echo x >> t/0", mount.dir)
    mount.remount("ro")
    assert sh("cat t/0", mount.dir) == b"x\n"
    for script in (
        "echo y >> t/0",
        "mkdir u",
        "rm t/0",
        "touch t/1",
        "chmod 600 t/0",
        "echo retention.ms=5 >> t/.config",
        "fallocate -p -o 0 -l 2 t/0",
    ):
        sh(script, mount.dir, status=1, stderr="Read-only file system")
    mount.remount("rw")
    assert sh("echo y >> t/0; cat t/0", mount.dir) == b"x\ny\n"


def test_a_read_only_mount_deletes_nothing(mounts, sh):
    mount = mounts("log.segment.bytes=16384")
    sh("mkdir t gone; seq 10000 >> t/0; echo x >> gone/0; rm -r gone; fallocate -p -o 0 -l 40000 t/0", mount.dir)
    everything = (mount.dir / "t" / "0").read_bytes()
    deleted = sorted(mount.data.glob("*-delete"))
    assert deleted and list(mount.data.glob("t-0/*.deleted"))
    swift = ("log.retention.ms=1", "log.retention.check.interval.ms=20", "log.segment.delete.delay.ms=0")
    for stop in (mount.umount, mount.kill):
        stop()
        mount.options = ["ro", *swift]
        files = {path.name for path in mount.data.rglob("*") if path.suffix in (".log", ".deleted")}
        mount.start()
        time.sleep(0.3)  # nothing tells that nothing happens
        assert (mount.dir / "t" / "0").read_bytes() == everything
    mount.umount()
    assert sorted(mount.data.glob("*-delete")) == deleted
    assert files == {path.name for path in mount.data.rglob("*") if path.suffix in (".log", ".deleted")}
    mount.options = ["rw", *swift]
    mount.start()
    wait_until(lambda: (mount.dir / "t" / "0").read_bytes() == b"" and not list(mount.data.glob("*-delete")))


def test_messages_in_the_background_are_in_a_file(mounts):
    """Where there is no syslog; with one they are there."""
    mount = mounts(background=True)
    (mount.dir / "t").mkdir()
    (mount.dir / "t" / ".config").open("a").write("retention.ms=7\n")
    with pytest.raises(OSError):
        with open(mount.dir / "t" / ".config", "a") as config:
            config.write("segment.bytes=1\n")
    if not Path("/dev/log").exists():
        wait_until(lambda: "segment.bytes" in (mount.data / "spoolfs.log").read_text())


def calls_on_logs(mount):
    """How many of them the mount makes while it starts: opening or reading a .log."""
    mount.faults.set(f"open,read,mmap pass path={mount.data}/*.log")
    mount.start()
    return mount.faults.seen


def test_a_start_after_a_clean_stop_opens_no_log(mounts, sh):
    """However many there are: it reads checkpoints."""
    mount = mounts("num.partitions=300", faults=True)
    sh("mkdir t; for i in $(seq 0 7 299); do seq $i >> t/$i; done", mount.dir)
    mount.umount()
    assert calls_on_logs(mount) == 0
    assert sum(os.stat(path).st_size for path in (mount.dir / "t").iterdir()) == sum(
        len(sh(f"seq {i}")) for i in range(0, 300, 7)
    )
    assert mount.faults.seen == 0, "and a stat needs none either"
    assert sh("cat t/294", mount.dir) == sh("seq 294")
    assert mount.faults.seen > 0


def test_a_start_after_kill_opens_only_what_was_written_since_the_last_checkpoint(mounts, sh):
    mount = mounts("num.partitions=100", faults=True)
    sh("mkdir t; for i in $(seq 0 99); do seq $i >> t/$i; done", mount.dir)
    mount.remount()
    sh("echo more >> t/5; echo more >> t/50", mount.dir)
    mount.kill()
    mount.faults.set(
        f"open pass path={mount.data}/t-[0-46-9]/*.log", f"open pass path={mount.data}/t-[1-46-9][0-9]/*.log"
    )
    mount.start()
    assert mount.faults.seen == 0
    assert sh("tail -n 1 t/5 t/50 t/99", mount.dir) == b"==> t/5 <==\nmore\n\n==> t/50 <==\nmore\n\n==> t/99 <==\n99\n"


def test_few_descriptors_for_many_partitions(mounts, sh):
    mount = mounts("num.partitions=400", "log.open.segments.max=16")
    idle = len(os.listdir(f"/proc/{mount.daemon.pid}/fd"))
    sh("mkdir t; for i in $(seq 0 399); do echo $i >> t/$i; done", mount.dir)
    assert sh("cat t/*  | wc -l", mount.dir) == b"400\n"
    assert len(os.listdir(f"/proc/{mount.daemon.pid}/fd")) <= idle + 16 * 4
    fds = [os.open(mount.dir / "t" / str(i), os.O_RDWR | os.O_APPEND) for i in range(100)]
    for i, fd in enumerate(fds):
        os.write(fd, b"more\n")
        assert os.pread(fd, 100, 0) == b"%d\nmore\n" % i
    for fd in fds:
        os.close(fd)


def test_a_daemon_without_a_parent_lives_on(mounts):
    """The shell that mounted it may be gone."""
    mount = mounts(background=True)
    status = Path(f"/proc/{mount.daemon.pid}/status").read_text()
    assert re.search(r"^PPid:\s+(\d+)$", status, re.M).group(1) != str(os.getpid())
