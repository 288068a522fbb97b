"""Names under the mount: topics and partitions come and go, permissions, and everything that is refused."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from lib.mounting import wait_until

NOBODY = 65534
OTHER = 12345


def refused(error, call, *arguments, **named):
    with pytest.raises(OSError) as failure:
        call(*arguments, **named)
    assert failure.value.errno == error, failure.value


def as_user(user, script, cwd, status=0):
    """Runs Python as another user without any privilege; returns what it printed."""
    done = subprocess.run(
        [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            sys.executable,
            "-c",
            f"import os\n{script}",
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


# Topics

def test_mkdir_makes_a_topic(mount, sh):
    assert sh("mkdir orders; ls; ls orders", mount.dir) == b"orders\n0\n"
    assert (mount.data / "orders-0").is_dir()


def test_a_new_topic_has_num_partitions(mounts, sh):
    mount = mounts("num.partitions=3")
    assert sh("mkdir t; ls t; cat t/*", mount.dir) == b"0\n1\n2\n"


@pytest.mark.parametrize("name", ["a b", "ä", "a:b", "a,b", "a*b", "a\nb", "#", "~x", "a\\b", "a'"])
def test_a_name_that_kafka_refuses_is_einval(mount, name):
    refused(errno.EINVAL, os.mkdir, mount.dir / name)
    assert os.listdir(mount.dir) == [] and [path for path in mount.data.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "-", "_x", "__x", "x" * 249, "a-0", "..."])
def test_a_name_that_kafka_takes(mount, sh, name):
    os.mkdir(mount.dir / name)
    (mount.dir / name / "0").open("a").write("there\n")
    mount.remount()
    assert os.listdir(mount.dir) == [name] and (mount.dir / name / "0").read_text() == "there\n"


def test_a_name_that_is_too_long(mount):
    refused(errno.ENAMETOOLONG, os.mkdir, mount.dir / ("x" * 250))
    refused(errno.ENAMETOOLONG, os.mkdir, mount.dir / ("x" * 300))
    refused(errno.ENOENT, os.stat, mount.dir / ("x" * 249))


def test_a_name_that_is_there(mount, topic):
    refused(errno.EEXIST, os.mkdir, topic)


def test_names_that_kafka_takes_for_the_same(mount):
    """Its metric names make '.' and '_' one."""
    os.mkdir(mount.dir / "a.b")
    with pytest.raises(OSError) as failure:
        os.mkdir(mount.dir / "a_b")
    assert failure.value.errno in (errno.EEXIST, errno.EINVAL)
    os.mkdir(mount.dir / "a-b")


@pytest.mark.parametrize("name", [".groups", ".cluster", ".metrics", "__consumer_offsets", "__transaction_state"])
def test_names_that_the_mount_keeps_for_itself(mount, name):
    refused(errno.EEXIST if name == ".cluster" else errno.EPERM, os.mkdir, mount.dir / name)


def test_rmdir_deletes_an_empty_topic_only(mount, topic, sh):
    sh("echo x >> t/0", mount.dir)
    sh("rmdir t", mount.dir, status=1, stderr="Directory not empty")
    assert (topic / "0").read_text() == "x\n"
    sh("rm t/0; rmdir t", mount.dir)
    assert os.listdir(mount.dir) == []
    refused(errno.ENOENT, os.stat, topic)
    refused(errno.ENOENT, os.rmdir, topic)
    assert [
        path.name for path in mount.data.iterdir() if path.name.startswith("t-") and not path.name.endswith("-delete")
    ] == []
    mount.remount()
    assert os.listdir(mount.dir) == []


def test_rmdir_is_refused_for_a_message_in_any_partition(mount, sh):
    sh("mkdir t; touch t/1 t/2; echo x >> t/2", mount.dir)
    refused(errno.ENOTEMPTY, os.rmdir, mount.dir / "t")


def test_a_name_is_free_at_once(mount, sh):
    for i in range(5):
        assert sh(f"mkdir t; echo {i} >> t/0; cat t/0; rm -r t; ls", mount.dir) == b"%d\n" % i


def test_a_deleted_topic_is_removed_from_the_disk_in_the_end(mounts, sh):
    mount = mounts("log.segment.delete.delay.ms=1")
    sh("mkdir t; echo x >> t/0; rm -r t", mount.dir)
    wait_until(lambda: not [path for path in mount.data.iterdir() if path.is_dir()])


def test_rm_r_does_what_it_says(mount, sh):
    sh("mkdir a b; touch a/1 a/2; for p in a/0 a/1 a/2 b/0; do seq 100 >> $p; done; rm -r a", mount.dir)
    assert sh("ls; wc -l < b/0", mount.dir) == b"b\n100\n"


def test_open_files_of_a_deleted_topic_say_so(mount, topic, sh):
    sh("seq 100000 >> 0", topic)
    reader = os.open(topic / "0", os.O_RDONLY)
    writer = os.open(topic / "0", os.O_WRONLY | os.O_APPEND)
    os.write(writer, b"last\n")
    assert os.read(reader, 10) == b"1\n2\n3\n4\n5\n"
    sh("rm -r t; mkdir t; echo new >> t/0", mount.dir)
    refused(errno.ESTALE, os.write, writer, b"too late\n")
    refused(errno.ESTALE, os.pread, reader, 10, 200_000)
    os.close(reader)
    os.close(writer)
    assert (topic / "0").read_text() == "new\n"


def test_many_topics_are_listed(mount):
    names = {f"topic-{i:03}" for i in range(300)}
    for name in names:
        os.mkdir(mount.dir / name)
    assert set(os.listdir(mount.dir)) == names and os.listdir(mount.dir) == sorted(names)
    mount.remount()
    assert set(os.listdir(mount.dir)) == names


def test_topics_that_come_and_go_while_they_are_listed(mount):
    """What is there from beginning to end is listed once."""
    stay = {f"stay-{i}" for i in range(150)}
    for name in stay:
        os.mkdir(mount.dir / name)
    with os.scandir(mount.dir) as entries:
        seen = [next(entries).name]
        for i in range(20):
            os.mkdir(mount.dir / f"come-{i}")
        seen += [entry.name for entry in entries]
    assert set(seen) >= stay and len(seen) == len(set(seen))


# Partitions

def test_touch_adds_the_next_partition(mount, topic, sh):
    assert sh("touch 1; touch 2; echo b >> 1; ls; cat 0 1 2", topic) == b"0\n1\n2\nb\n"
    mount.remount()
    assert sh("ls; cat 0 1 2", topic) == b"0\n1\n2\nb\n"


def test_touch_of_one_that_is_there_changes_nothing(topic, sh):
    assert sh("echo x >> 0; touch 0; ls; cat 0", topic) == b"0\nx\n"


@pytest.mark.parametrize("name", ["2", "7", "01", "-1", "x", "1x", ".hidden", "4294967297"])
def test_no_other_file_can_be_made(topic, sh, name):
    refused(errno.EINVAL, os.open, topic / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sh(f"touch -- {name}", topic, status=1, stderr="Invalid argument")
    assert os.listdir(topic) == ["0"]


def test_appending_to_the_next_partition_makes_it(topic, sh):
    assert sh("echo x >> 1; cat 1; ls", topic) == b"x\n0\n1\n"


def test_overwriting_tools_make_no_partition(topic, sh):
    sh("echo x > 1", topic, status=1, stderr="Operation not permitted")
    sh("cp /etc/hostname 1", topic, status=1, stderr="Operation not permitted")
    refused(errno.EPERM, os.open, topic / "1", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert os.listdir(topic) == ["0"]


def test_exclusive_creation(topic):
    os.close(os.open(topic / "1", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND))
    refused(errno.EEXIST, os.open, topic / "1", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)


def test_nothing_else_can_be_made(mount, topic, sh):
    refused(errno.EPERM, os.mkdir, topic / "1")
    refused(errno.EPERM, os.mkfifo, topic / "1")
    refused(errno.EPERM, os.symlink, "0", topic / "1")
    refused(errno.EPERM, os.symlink, "t", mount.dir / "u")
    sh("touch file", mount.dir, status=1, stderr="Operation not permitted")
    sh("echo x >> file", mount.dir, status=1)
    assert os.listdir(topic) == ["0"] and os.listdir(mount.dir) == ["t"]


def test_moving_and_linking_are_refused(mount, topic, sh, tmp_path):
    sh("touch 1; echo x >> 0", topic)
    sh("ln 0 2", topic, status=1, stderr="Operation not permitted")
    sh("mv 0 2", topic, status=1, stderr="Operation not permitted")
    sh("mv t u", mount.dir, status=1, stderr="Operation not permitted")
    refused(errno.EPERM, os.rename, topic / "0", topic / "1")
    assert sh("ls; cat 0", topic) == b"0\n1\nx\n"


def test_rm_deletes_the_messages_and_the_partition_stays(mount, topic, sh):
    assert sh("seq 5 >> 0; rm 0; ls; cat 0; wc -l < 0", topic) == b"0\n0\n"
    assert sh("echo new >> 0; cat 0; grep -c . 0; tail -n 1 0", topic) == b"new\n1\nnew\n"
    mount.remount()
    assert sh("cat 0; cat 0@earliest; stat -c %s 0 0@earliest", topic) == b"new\nnew\n14\n4\n"
    refused(errno.ENOENT, os.unlink, topic / "7")
    refused(errno.EPERM, os.unlink, topic / ".config")


@pytest.mark.parametrize("how", ["rm 0", "fallocate -p -o 0 -l 100000000 0"])
def test_rm_gives_the_space_back(mount, topic, sh, how):
    """Also that of the segment that is being written to."""
    sh("echo file.delete.delay.ms=0 >> .config; seq 100000 >> 0", topic)
    assert os.stat(topic / "0").st_blocks * 512 > 500_000
    sh(how, topic)
    assert os.stat(topic / "0").st_blocks * 512 < 100_000
    wait_until(lambda: sum(file.stat().st_size for file in mount.data.glob("t-0/*.log*")) < 100_000)
    assert sh("echo more >> 0; cat 0; stat -c %s 0", topic) == b"more\n588900\n"
    mount.remount()
    assert sh("cat 0; stat -c %s 0", topic) == b"more\n588900\n"


def test_a_reader_of_what_rm_deleted_gets_estale(topic, sh):
    sh("seq 100000 >> 0", topic)
    with open(topic / "0", "rb", buffering=0) as reader:
        assert reader.read(4) == b"1\n2\n"
        sh("rm 0", topic)
        refused(errno.ESTALE, os.pread, reader.fileno(), 100, 300_000)


# Permissions

def test_owner_and_mode_are_kept(mount, topic, sh):
    sh(f"touch 1; chmod 640 0; chmod 750 .; chown {OTHER}:{NOBODY} .", topic)
    for _ in range(2):
        for name, mode in ((".", 0o750), ("0", 0o640), ("1", 0o640)):
            status = os.stat(topic / name)
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, OTHER, NOBODY), name
        mount.remount()


def test_chown_through_a_partition_is_the_topics(topic, sh):
    os.stat(topic)  # so that the kernel has its attributes
    sh(f"chown {OTHER} 0", topic)
    assert os.stat(topic).st_uid == OTHER and os.stat(topic / "0").st_uid == OTHER


@pytest.fixture
def shared(mounts):
    """A mount whose root anyone may write to, as /tmp."""
    mount = mounts(start=False)
    mount.dir.mkdir()
    mount.dir.chmod(0o1777)
    mount.place.chmod(0o755)
    return mount.start()


def test_a_topic_belongs_to_who_made_it(shared):
    as_user(OTHER, "os.umask(0o027); os.mkdir('t')", shared.dir)
    status = os.stat(shared.dir / "t")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (OTHER, OTHER, 0o750)
    assert stat.S_IMODE(os.stat(shared.dir / "t" / "0").st_mode) == 0o640
    as_user(OTHER, "open('t/0', 'a').write('mine\\n')", shared.dir)
    assert (shared.dir / "t" / "0").read_text() == "mine\n"


def test_permissions_are_enforced(shared):
    topic = shared.dir / "t"
    topic.mkdir()
    (topic / "0").open("a").write("root's\n")
    assert as_user(OTHER, "print(open('t/0').read(), end='')", shared.dir) == "root's\n"
    denied = "PermissionError: [Errno 13]"
    for script in ("open('t/0', 'a')", "open('t/1', 'a')", "open('t/.config', 'a')", "os.unlink('t/0')"):
        assert denied in as_user(OTHER, script, shared.dir, status=1), script
    for script in ("os.chmod('t', 0o777)", "os.chown('t/0', %d, -1)" % OTHER, "os.rmdir('t')"):
        assert "PermissionError" in as_user(OTHER, script, shared.dir, status=1), script
    os.chmod(topic / "0", 0o666)
    as_user(OTHER, "open('t/0', 'a').write('other\\n')", shared.dir)
    assert denied in as_user(
        OTHER, "open('t/1', 'a')", shared.dir, status=1
    ), "a new partition is the directory's to allow"
    os.chmod(topic, 0o700)
    assert denied in as_user(OTHER, "open('t/0')", shared.dir, status=1)
    assert (topic / "0").read_text() == "root's\nother\n"


def test_a_file_that_may_be_read_but_not_written(shared):
    topic = shared.dir / "t"
    topic.mkdir()
    os.chown(topic, OTHER, OTHER)
    os.chmod(topic / "0", 0o444)
    assert "PermissionError" in as_user(OTHER, "open('t/0', 'a')", shared.dir, status=1)
    assert as_user(OTHER, "print(open('t/0').read(), end='')", shared.dir) == ""
    os.chmod(topic / "0", 0o200)
    as_user(OTHER, "open('t/0', 'a').write('x\\n')", shared.dir)
    assert "PermissionError" in as_user(OTHER, "open('t/0')", shared.dir, status=1)


def test_the_messages_in_data_are_for_their_owner_alone(shared):
    (shared.dir / "t").mkdir()
    assert "PermissionError" in as_user(OTHER, f"os.listdir({str(shared.data)!r})", "/", status=1)


# fallocate

def test_fallocate_deletes_the_head(mount, topic, sh):
    sh("seq 10 99 >> 0; fallocate -p -o 0 -l 30 0", topic)
    assert sh("cat 0; stat -c %s 0", topic) == sh("seq 20 99; echo 270")
    assert sh("cat 0@earliest; stat -c %s 0@earliest", topic) == sh("seq 20 99; echo 240")
    assert os.getxattr(topic / "0", "user.spoolfs.log_start") == b"10"
    sh("fallocate -p -o 0 -l 31 0; fallocate -p -o 0 -l 32 0", topic)
    assert sh("cat 0", topic) == sh("seq 20 99"), "a message goes when all of it is in the range"
    sh("fallocate -p -o 0 -l 33 0", topic)
    assert sh("cat 0", topic) == sh("seq 21 99")
    sh("fallocate -p -o 0 -l 10 0", topic)
    assert sh("cat 0", topic) == sh("seq 21 99"), "what is deleted already"
    mount.remount()
    assert sh("cat 0", topic) == sh("seq 21 99")
    mount.crash()
    assert sh("cat 0", topic) == sh("seq 21 99")
    sh("fallocate -p -o 0 -l 1000000 0", topic)
    assert sh("cat 0; stat -c %s 0; echo next >> 0; cat 0", topic) == b"270\nnext\n"


@pytest.mark.parametrize(
    "options", ["-l 10", "-n -l 10", "-p -o 10 -l 10", "-z -o 0 -l 10", "-c -o 0 -l 4096", "-i -o 0 -l 4096", "-d"]
)
def test_no_other_fallocate(topic, sh, options):
    """Where glibc would emulate it by writing, too."""
    sh("seq 10 99 >> 0", topic)
    sh(f"fallocate {options} 0", topic, status=0 if options == "-d" else 1)
    refused(errno.EPERM, os.posix_fallocate, os.open(topic / "0", os.O_RDWR | os.O_APPEND), 0, 10000)
    assert sh("cat 0", topic) == sh("seq 10 99")


def test_a_read_only_handle_cannot_delete(topic, sh):
    sh("seq 10 99 >> 0", topic)
    fd = os.open(topic / "0", os.O_RDONLY)
    refused(errno.EBADF, os.posix_fallocate, fd, 0, 10)
    os.close(fd)
