"""The commands, as a user types them: what they print, how they end, on good input and bad."""

import base64
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from lib import kafka

MANUAL = Path(__file__).resolve().parents[2] / "fs" / "man"
COMMANDS = ["mount", "agent", "umount", "topic", "group", "dump", "verify", "config"]


@pytest.fixture
def run(spoolfs):
    """run("config", "--json") -> CompletedProcess with text; status= says how it must end (None: any way)."""
    def call(*arguments, status=0, **options):
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        done = subprocess.run([spoolfs, *map(str, arguments)], **options)
        if status is not None:
            assert done.returncode == status, f"{arguments}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done
    return call


@pytest.fixture(scope="module", params=["3.9", "4.1"])
def recording(request, tmp_path_factory):
    return kafka.Recording(f"kafka-{request.param}", tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module")
def latest(tmp_path_factory):
    return kafka.Recording(f"kafka-{kafka.LATEST}", tmp_path_factory.mktemp("recording"))


@pytest.fixture
def data(latest, tmp_path):
    """A copy of Kafka's log directory, to be damaged: data("txn-0") has that partition and the checkpoints."""
    def copy(*partitions):
        to = tmp_path / "data"
        to.mkdir()
        for file in latest.log_dir.iterdir():
            if file.is_file() or file.name in partitions:
                (shutil.copy if file.is_file() else shutil.copytree)(file, to / file.name)
        return to
    return copy


def change(path, at, to):
    content = bytearray(path.read_bytes())
    content[at:at + len(to)] = to
    path.write_bytes(content)


def flip(path, at):
    change(path, at, bytes([path.read_bytes()[at] ^ 1]))


def logs(directory):
    return sorted(directory.glob("*.log"))


def value_of(text):
    """A key or value as --records prints it, as bytes."""
    if isinstance(text, dict):
        return base64.b64decode(text["base64"])
    return None if text is None else text.encode()


# The program

def test_version(run):
    assert re.fullmatch(r"spoolfs \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run("mount", "--version").stdout == run("--version").stdout


def test_help_names_every_command_and_each_has_its_own(run):
    text = run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in text
        own = run(command, "--help").stdout
        assert own.startswith(f"Usage: spoolfs {command} ")
        assert f"spoolfs-{command}(1)" in own or command == "umount" or command == "config"


@pytest.mark.parametrize("arguments", [[], ["mout", "x"], ["mount"], ["mount", "a", "b"], ["mount", "--nonsense", "a"], ["umount"], ["umount", "a", "b"],
                                       ["umount", "--timeout", "x", "a"], ["dump"], ["verify"], ["config", "--nonsense"]])
def test_wrong_usage_is_2(run, arguments):
    done = run(*arguments, status=2)
    assert done.stdout == "" and "spoolfs" in done.stderr


def test_an_unknown_command_is_told_what_there_is(run):
    text = run("mout", "/tmp", status=2).stderr
    assert "'mout'" in text
    assert all(command in text for command in COMMANDS)


def test_output_that_cannot_be_written_is_an_error(run):
    with open("/dev/full", "w") as full:
        done = run("config", status=1, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert "No space left" in done.stderr


# The manual

def pages():
    return sorted(MANUAL.glob("*.1"), key=lambda page: page.stem)


def test_every_command_has_a_page():
    assert [page.stem for page in pages()] == sorted(["spoolfs"] + [f"spoolfs-{command}" for command in COMMANDS])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_the_pages_are_well_formed(page):
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def test_the_page_of_the_properties_is_well_formed_and_complete(run, tmp_path):
    page = tmp_path / "spoolfs.properties.5"
    page.write_text(run("config", "--man").stdout)
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout
    text = subprocess.run(["mandoc", "-T", "ascii", page], capture_output=True, text=True, check=True).stdout
    text = re.sub(".\b", "", text)
    for row in json.loads(run("config", "--json").stdout):
        assert row["name"] in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_name_every_option(run, command):
    options = set(re.findall(r"--([a-z]+)", run(command, "--help").stdout)) - {"help", "usage", "version"}
    page = (MANUAL / f"spoolfs-{command}.1").read_text().replace("\\-", "-")
    assert not [option for option in options if f"--{option}" not in page]


# config

def test_config_lists_every_property(run):
    rows = json.loads(run("config", "--json").stdout)
    names = [row["name"] for row in rows]
    assert {"log.segment.bytes", "segment.bytes", "retention.ms", "acks", "num.partitions"} <= set(names)
    assert not [name for name in names if name.startswith("spoolfs.")], "what is hidden stays hidden"
    text = run("config").stdout
    assert text.index("BROKER") < text.index("\nTOPIC")
    for row in rows:
        assert re.search(rf"^{re.escape(row['name'])} ", text, re.M), row["name"]
        assert row["help"] and row["type"] and row["scope"]


def test_config_of_some(run):
    done = run("config", "segment.bytes", "log.segment.bytes")
    assert re.findall(r"^(\S+)  ", done.stdout, re.M) == ["NAME", "log.segment.bytes", "NAME", "segment.bytes"]
    assert [row["name"] for row in json.loads(run("config", "--json", "acks").stdout)] == ["acks"]


def test_config_of_an_unknown_name_gives_the_nearest(run):
    done = run("config", "segment.byte", status=2)
    assert done.stdout == "" and "segment.byte" in done.stderr and "segment.bytes" in done.stderr


# dump

def test_dump_gives_every_record(run, recording):
    partitions = {}
    for record in recording.expected():
        partitions.setdefault(f"{record.topic}-{record.partition}", []).append(record)
    for name, expected in partitions.items():
        lines = run("dump", "--records", recording.log_dir / name).stdout.splitlines()
        found = {row["offset"]: row for row in map(json.loads, lines)}
        assert sorted(found) == [json.loads(line)["offset"] for line in lines]
        for record in expected:
            row = found[record.offset]
            assert row["timestamp"] == record.timestamp
            assert value_of(row["key"]) == record.key and value_of(row["value"]) == record.value
            assert [(header["key"], value_of(header["value"])) for header in row["headers"]] == [tuple(header) for header in record.headers]


def test_dump_gives_every_batch(run, recording):
    text = run("dump", recording.log_dir / "txn-0").stdout
    assert "damaged" not in text
    for log in logs(recording.log_dir / "txn-0"):
        content, at = log.read_bytes(), 0
        lines = [line for line in run("dump", log).stdout.splitlines()]
        for line in lines:
            base, length = struct.unpack_from(">qi", content, at)
            assert line.startswith(f"base={base} ") and f" position={at} size={length + 12} " in line and line.endswith(" crc=ok")
            at += length + 12
        assert at == len(content)


def test_dump_shows_control_records(run, latest):
    rows = [json.loads(line) for line in run("dump", "-r", latest.log_dir / "txn-0").stdout.splitlines()]
    control = [row for row in rows if "control" in row]
    assert {row["control"] for row in control} == {"commit", "abort"}
    assert all(row["producer"] >= 0 and row["coordinator_epoch"] >= 0 for row in control)
    metadata = run("dump", "-r", latest.log_dir / "__cluster_metadata-0").stdout
    assert '"control":"leader-change"' in metadata


def test_dump_gives_the_entries_of_all_other_files(run, latest):
    directory = latest.log_dir / "txn-0"
    for file in sorted(directory.glob("*.index")):
        expected = [f"last={int(file.stem) + offset} position={position}" for offset, position in struct.iter_unpack(">ii", file.read_bytes())]
        assert run("dump", file).stdout.splitlines() == expected
    for file in sorted(directory.glob("*.timeindex")):
        offsets = [int(file.stem) + offset for _, offset in struct.iter_unpack(">qi", file.read_bytes())]
        assert [int(line.split("last=")[1]) for line in run("dump", file).stdout.splitlines()] == offsets
    for file in sorted(directory.glob("*.txnindex")):
        expected = [f"producer={producer} first={first} last={last} last_stable={stable}"
                    for _, producer, first, last, stable in struct.iter_unpack(">hqqqq", file.read_bytes())]
        assert expected and run("dump", file).stdout.splitlines() == expected
    snapshots = sorted(directory.glob("*.snapshot"))
    assert snapshots and all(run("dump", file) for file in snapshots)
    assert run("dump", directory / "leader-epoch-checkpoint").stdout == "epoch=0 start=0\n"
    assert re.search(r"^txn-0 offset=\d+$", run("dump", latest.log_dir / "recovery-point-offset-checkpoint").stdout, re.M)
    assert run("dump", latest.log_dir / "meta.properties").stdout == (latest.log_dir / "meta.properties").read_text()
    everything = run("dump", directory).stdout
    assert all(f"== {file}\n" in everything for file in directory.iterdir())


def test_dump_goes_on_behind_damage(run, data):
    log = logs(data("codec-none-0") / "codec-none-0")[0]
    whole = run("dump", "-r", log).stdout.splitlines()
    batches = run("dump", log).stdout.splitlines()
    position, size = map(int, re.search(r"position=(\d+) size=(\d+)", batches[1]).groups())
    lost = range(*(int(number) for number in re.match(r"base=(\d+) last=(\d+)", batches[1]).groups()))
    for at in (0, 8, 16, 17, 30, 61, size - 1):  # offset, length, magic, crc, attributes, records
        original = log.read_bytes()
        flip(log, position + at)
        if at:
            done = run("dump", log, status=1)
            assert f"damaged position={position} size={size}: " in done.stdout
            rows = [json.loads(line) for line in run("dump", "-r", log, status=1).stdout.splitlines()]
            assert [row["damaged"]["position"] for row in rows if "damaged" in row] == [position]
            kept = [row["offset"] for row in rows if "damaged" not in row]
            assert kept == [json.loads(line)["offset"] for line in whole if json.loads(line)["offset"] not in (*lost, lost.stop)]
        log.write_bytes(original)


def test_dump_says_where_a_log_is_torn(run, data):
    log = logs(data("codec-none-0") / "codec-none-0")[0]
    batches = run("dump", log).stdout.splitlines()
    log.write_bytes(log.read_bytes()[:-1])
    position = int(re.search(r"position=(\d+)", batches[-1]).group(1))
    lines = run("dump", log, status=1).stdout.splitlines()
    assert lines[:-1] == batches[:-1] and lines[-1].startswith(f"damaged position={position} ")


def test_dump_reports_damage_in_other_files(run, data):
    directory = data("txn-0") / "txn-0"
    for pattern, at in (("*.snapshot", 7), ("*.txnindex", 0)):
        file = sorted(directory.glob(pattern))[0]
        flip(file, at)
        assert run("dump", file, status=1).stdout.startswith("damaged")
    index = max(directory.glob("*.index"), key=lambda file: file.stat().st_size)
    index.write_bytes(index.read_bytes()[:-1])
    assert run("dump", index, status=1).stdout.startswith("damaged")
    assert "damaged" in run("dump", directory, status=1).stdout


@pytest.mark.parametrize("what", ["missing.log", "unknown.txt", "empty-directory"])
def test_dump_of_what_is_no_log_is_2(run, tmp_path, what):
    path = tmp_path / what
    if what.startswith("empty"):
        path.mkdir()
    elif what.startswith("unknown"):
        path.write_text("x")
    done = run("dump", path, status=2)
    assert done.stdout == "" and str(path) in done.stderr


def test_dump_survives_any_bytes(run, data, build):
    log = logs(data("codec-zstd-0") / "codec-zstd-0")[0]
    original = log.read_bytes()
    for seed in range(40 if build == "plain" else 15):
        content = bytearray(original)
        for step in range(seed + 1):
            at = hash((seed, step, 1)) % len(content)
            content[at] = hash((seed, step, 2)) % 256
        log.write_bytes(content)
        for records in ([], ["--records"]):
            done = run("dump", *records, log, status=None, text=False)
            assert done.returncode in (0, 1) and done.stderr == b""


# verify

def test_verify_accepts_what_kafka_wrote(run, recording):
    done = run("verify", recording.log_dir)
    assert re.fullmatch(r"(note: .*\n)*\d+ partitions, \d+ segments, \d+ bytes: 0 faults\n", done.stdout)
    assert done.stderr == "", "no bar where there is no terminal"


def test_verify_finds_what_a_killed_kafka_leaves(run, tmp_path):
    killed = kafka.Recording("kafka-4.1-killed", tmp_path)
    text = run("verify", killed.log_dir, status=1).stdout
    assert "00040.index" in text and "00040.timeindex" in text and ".log" not in text


def faults(run, data):
    return [line for line in run("verify", data, status=1).stdout.splitlines()[:-1] if not line.startswith("note: ")]


def damage_log(directory):
    flip(logs(directory)[0], 100)
    return ["00000.log: position 0: "]


def damage_tail(directory):
    log = logs(directory)[-1]
    log.write_bytes(log.read_bytes()[:-5])
    return [f"{log.name}: position ", "up to the end of the file"]


def lose_segment(directory):
    name = logs(directory)[1].stem
    for file in directory.glob(f"{name}.*"):
        file.unlink()
    return [f"offsets {int(name)} to "]


def lose_first_batch(directory):
    log = logs(directory)[1]
    content = log.read_bytes()
    log.write_bytes(content[struct.unpack_from(">i", content, 8)[0] + 12:])
    for file in (log.with_suffix(".index"), log.with_suffix(".timeindex")):
        file.write_bytes(b"")
    return [f"{log.name}: position 0: offsets {int(log.stem)} to "]


def lose_index(directory):
    logs(directory)[0].with_suffix(".index").unlink()
    return ["00000.index: "]


def zeros_in_index(directory):
    index = logs(directory)[0].with_suffix(".index")
    index.write_bytes(index.read_bytes() + bytes(8))
    return ["00000.index: entry "]


def wrong_index(directory):
    flip(logs(directory)[0].with_suffix(".index"), 3)
    return ["00000.index: entry 0: "]


def wrong_times(directory):
    times = max(directory.glob("*.timeindex"), key=lambda file: file.stat().st_size)
    flip(times, 7)
    return [f"{times.name}: entry 0: timestamp "]


def lose_abort(directory):
    sorted(directory.glob("*.txnindex"))[0].unlink()
    return ["is in no .txnindex"]


def wrong_abort(directory):
    flip(sorted(directory.glob("*.txnindex"))[0], 25)
    return [": there is no such marker in the log"]


def wrong_snapshot(directory):
    flip(sorted(directory.glob("*.snapshot"))[0], 10)
    return [".snapshot"]


def wrong_epochs(directory):
    (directory / "leader-epoch-checkpoint").write_text("0\n1\n7 0\n")
    return [" has leader epoch 0, leader-epoch-checkpoint says 7"]


def broken_epochs(directory):
    (directory / "leader-epoch-checkpoint").write_text("nonsense")
    return ["leader-epoch-checkpoint"]


def broken_metadata(directory):
    (directory / "partition.metadata").write_text("nonsense")
    return ["partition.metadata"]


def broken_checkpoint(directory):
    (directory.parent / "recovery-point-offset-checkpoint").write_text("0\n2\ntxn 0 1\n")
    return ["recovery-point-offset-checkpoint"]


def recovery_point_past_the_end(directory):
    (directory.parent / "recovery-point-offset-checkpoint").write_text(f"0\n1\n{directory.name.replace('-', ' ')} 1000000\n")
    return ["offsets up to 1000000 were on disk"]


@pytest.mark.parametrize("damage", [damage_log, damage_tail, lose_segment, lose_first_batch, lose_index, zeros_in_index, wrong_index, wrong_times, lose_abort, wrong_abort,
                                    wrong_snapshot, wrong_epochs, broken_epochs, broken_metadata, broken_checkpoint, recovery_point_past_the_end],
                         ids=lambda damage: damage.__name__)
def test_verify_finds(run, data, damage):
    to = data("txn-0")
    run("verify", to)
    expected = damage(to / "txn-0")
    lines = faults(run, to)
    assert any(all(text in line for text in expected) for line in lines), lines
    assert all(line.startswith(str(to)) for line in lines)


def test_verify_bounds_what_it_says_of_one_file(run, data):
    to = data("txn-0")
    index = logs(to / "txn-0")[0].with_suffix(".index")
    index.write_bytes(struct.pack(">ii", 5, 1) * 1000)
    lines = run("verify", to, status=1).stdout.splitlines()
    assert len(lines) < 10 and "entries are not checked" in lines[-2]
    log = logs(to / "txn-0")[0]
    content = log.read_bytes()
    log.write_bytes(content[:struct.unpack_from(">i", content, 8)[0] + 12] * 200)
    lines = run("verify", to, status=1).stdout.splitlines()
    assert 50 < len(lines) < 70 and any(re.search("and [0-9]+ more faults$", line) for line in lines)


def test_verify_names_foreign_files_but_does_not_count_them(run, data):
    to = data("txn-0")
    (to / "lost+found").mkdir()
    (to / "txn-0" / "README").write_text("x")
    text = run("verify", to).stdout
    assert f"note: {to}/lost+found: " in text and f"note: {to}/txn-0/README: " in text


def test_verify_refuses_what_is_in_use(run, data):
    to = data("txn-0")
    with open(to / ".lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        done = run("verify", to, status=2)
    assert done.stdout == "" and f"process {os.getpid()}" in done.stderr


def test_verify_of_what_is_not_there_is_2(run, tmp_path):
    assert str(tmp_path / "no") in run("verify", tmp_path / "no", status=2).stderr


def test_verify_changes_nothing(run, recording):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in recording.log_dir.rglob("*")}
    before = state()
    run("verify", recording.log_dir)
    assert state() == before


# mount and umount


def pid_of(directory):
    return int(os.getxattr(directory, "user.spoolfs.pid"))


def mounted(directory):
    return any(line.split()[4] == str(directory) for line in open("/proc/self/mountinfo"))


def ended(pid, seconds=30):
    """Whether the process is gone, or becomes so; one that nobody has waited for is, with its last thread."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1:
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def place(tmp_path):
    """Where a test mounts: place / "mnt" of the messages in place / "data". What is left mounted is taken away."""
    yield tmp_path
    left = [Path(line.split()[4]) for line in open("/proc/self/mountinfo") if f" {tmp_path}/" in line]
    pids = []
    for directory in left:
        try:
            pids.append(pid_of(directory))
        except OSError:
            pass
        subprocess.run(["umount", "--lazy", directory], check=True)
    for pid in pids:
        if not ended(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def mount(run, place):
    """mount("-o", "ro") mounts place / "data" at place / "mnt" and returns that."""
    def call(*options, **how):
        run("mount", "-d", place / "data", *options, place / "mnt", **how)
        return place / "mnt"
    return call


def test_mount_append_umount(run, mount, place):
    mnt = mount()
    (mnt / "t").mkdir()
    with open(mnt / "t" / "0", "a") as file:
        file.write("hello\n")
    pid = pid_of(mnt)
    done = run("umount", mnt)
    assert done.stdout == "" and done.stderr == ""
    assert ended(pid, 0.5) and not mounted(mnt)
    assert run("dump", "-r", place / "data" / "t-0").stdout.startswith('{"offset":0,')
    assert run("verify", place / "data").stdout.endswith(": 0 faults\n")
    assert (mount() / "t" / "0").read_text() == "hello\n"


def test_mount_returns_although_someone_reads_its_output(mount):
    """As in $(spoolfs mount DIR): the daemon must not keep the pipe open."""
    start = time.monotonic()
    mount()
    assert time.monotonic() - start < 20


def test_closed_standard_files_do_no_harm(spoolfs, run, place):
    """A message must not end up in a file that happens to be opened as descriptor 2."""
    subprocess.run(f"exec {spoolfs} mount -d {place}/data {place}/mnt <&- >&- 2>&-", shell=True, check=True, timeout=60)
    (place / "mnt" / "t").mkdir()
    (place / "mnt" / "t" / "0").open("a").write("x\n")
    daemon = pid_of(place / "mnt")
    assert [os.readlink(f"/proc/{daemon}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    run("umount", place / "mnt")
    run("verify", place / "data")


def test_the_daemon_keeps_no_directory_busy(run, mount, place):
    mnt = mount(cwd=place)
    assert os.readlink(f"/proc/{pid_of(mnt)}/cwd") == "/"


def test_paths_may_be_relative(run, place):
    run("mount", "-d", "data", "mnt", cwd=place)
    (place / "mnt" / "t").mkdir()
    assert (place / "data" / "t-0").is_dir()
    run("umount", "mnt", cwd=place)


@pytest.mark.parametrize("home", ["xdg", "home"])
def test_the_default_of_a_user_is_in_the_home_directory(spoolfs, place, home):
    """The directory is made before the mount is tried, which needs no permission to mount."""
    os.chmod(place, 0o777)
    (place / "mnt").mkdir()
    (place / "home").mkdir()
    for directory in ("mnt", "home"):
        os.chown(place / directory, 65534, 65534)
    environment = {"PATH": os.environ["PATH"], "HOME": str(place / "home")}
    expected = place / "home" / ".local" / "share" / "spoolfs"
    if home == "xdg":
        environment["XDG_DATA_HOME"] = str(place / "home" / "xdg")
        expected = place / "home" / "xdg" / "spoolfs"
    parents = [parent for parent in place.parents if not parent.stat().st_mode & 0o001]
    for parent in parents:
        os.chmod(parent, parent.stat().st_mode | 0o001)
    subprocess.run([spoolfs, "mount", place / "mnt"], env=environment, user=65534, group=65534, extra_groups=[], capture_output=True, timeout=60)
    assert expected.is_dir() and expected.stat().st_mode & 0o777 == 0o700


def refused(run, place, *arguments, status=1):
    done = run("mount", *arguments, status=status)
    assert done.stdout == "" and not mounted(arguments[-1])
    assert done.stderr.startswith("spoolfs mount: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("option, expected", [
    ("segment.byts=1", "segment.byts"),
    ("log.segment.bytes=1", "allowed is"),
    ("log.segment.bytes=many", "a plain number"),
    ("segment.bytes=1000000", "log.segment.bytes"),
    ("acks=2", "1,all"),
    ("allow_othr", "allow_othr"),
    ('log.dirs="/a', "quote"),
    ("config=/nonexistent", "/nonexistent"),
])
def test_a_bad_option_is_named_before_anything_is_touched(run, place, option, expected):
    text = refused(run, place, "-d", place / "data", "-o", option, place / "mnt")
    assert expected in text
    assert list(place.iterdir()) == []


def test_a_bad_properties_file_is_named_with_its_line(run, place):
    file = place / "spoolfs.properties"
    file.write_text("# all is well\nlog.segment.bytes=1048576\nlog.segment.byts=1\n")
    text = refused(run, place, "-d", place / "data", "-c", file, place / "mnt")
    assert f"{file}, line 3" in text and "log.segment.bytes" in text
    assert "no.such" in refused(run, place, "-c", place / "no.such", place / "mnt")


def test_options_win_over_files_and_may_be_joined(mount, place):
    file = place / "spoolfs.properties"
    file.write_text("num.partitions=3\nlog.segment.bytes=1048576\n")
    mnt = mount("-o", "num.partitions=2,nofail,x-systemd.automount,comment=why", "-c", file)
    (mnt / "t").mkdir()
    assert sorted(os.listdir(mnt / "t")) == ["0", "1"]
    assert "1048576" in (mnt / "t" / ".config").read_text()


def test_a_comma_between_quotes_belongs_to_the_value(mount, place):
    mnt = mount("-o", f'log.dirs="{place}/data,{place}/more",num.partitions=2')
    (mnt / "t").mkdir()
    assert sorted(path.name for directory in ("data", "more") for path in (place / directory).glob("t-*")) == ["t-0", "t-1"]


def test_a_read_only_mount_cannot_be_written(run, mount):
    mnt = mount()
    (mnt / "t").mkdir()
    (mnt / "t" / "0").open("a").write("x\n")
    run("umount", mnt)
    mount("-o", "ro")
    assert (mnt / "t" / "0").read_text() == "x\n"
    with pytest.raises(OSError) as failure:
        (mnt / "t" / "0").open("a")
    assert failure.value.errno == 30  # EROFS


def test_a_mount_point_is_made_but_not_its_parents(run, mount, place):
    assert mount().is_dir()
    assert "no/such" in refused(run, place, "-d", place / "data2", place / "no" / "such" / "mnt")


def test_a_mount_point_that_holds_files_is_refused(run, place):
    (place / "mnt").mkdir()
    (place / "mnt" / "file").touch()
    assert str(place / "mnt") in refused(run, place, "-d", place / "data", place / "mnt")
    assert not (place / "data").exists()
    assert "file" in refused(run, place, "-d", place / "data", place / "mnt" / "file")


def test_the_mount_point_and_the_messages_may_not_lie_in_each_other(run, place):
    for data, mnt in (("mnt", "mnt"), ("mnt/data", "mnt"), ("data", "data/mnt")):
        (place / "data").mkdir(exist_ok=True)
        assert "must not lie in each other" in refused(run, place, "-d", place / data, place / mnt)


def test_the_messages_need_a_directory(run, place):
    (place / "file").touch()
    assert "not a directory" in refused(run, place, "-d", place / "file", place / "mnt").lower()
    assert f"{place}/no/data" in refused(run, place, "-d", place / "no" / "data", place / "mnt")


def test_a_second_mount_is_refused_with_the_pid_of_the_first(run, mount, place):
    mnt = mount()
    text = run("mount", "-d", place / "data", place / "mnt2", status=1).stderr
    assert str(pid_of(mnt)) in text and str(mnt) in text
    assert not mounted(place / "mnt2")
    assert str(mnt) in run("mount", "-d", place / "data2", mnt, status=1).stderr


def test_verify_and_a_mount_exclude_each_other(run, mount, place):
    mnt = mount()
    assert str(pid_of(mnt)) in run("verify", place / "data", status=2).stderr


def test_in_the_foreground_a_signal_ends_it_cleanly(spoolfs, run, place):
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        daemon = subprocess.Popen([spoolfs, "mount", "-f", "-d", place / "data", place / "mnt"], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not mounted(place / "mnt") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pid_of(place / "mnt") == daemon.pid
        (place / "mnt" / f"t{how.value}").mkdir()
        daemon.send_signal(how)
        _, errors = daemon.communicate(timeout=30)
        assert daemon.returncode == 0, errors
        assert f"{place}/data is mounted at {place}/mnt" in errors.decode()
        assert not mounted(place / "mnt")
    assert run("verify", place / "data").stdout.startswith("3 partitions")


def test_umount_of_a_mount_in_use_names_who_uses_it(run, mount, place):
    mnt = mount()
    (mnt / "t").mkdir()
    user = subprocess.Popen(["sleep", "100"], cwd=mnt / "t")
    try:
        text = run("umount", mnt, status=1).stderr
        assert f"process {user.pid} (sleep)" in text and str(mnt) in text
        assert mounted(mnt)
    finally:
        user.kill()
        user.wait()
    with open(mnt / "t" / "0", "a"):
        assert f"process {os.getpid()} (" in run("umount", mnt, status=1).stderr
    run("umount", mnt)


def test_umount_of_what_is_no_spoolfs_mount(run, mount, place):
    assert "not a spoolfs mount" in run("umount", place, status=1).stderr
    assert "cannot find" in run("umount", place / "no", status=1).stderr
    mnt = mount()
    (mnt / "t").mkdir()
    assert str(mnt) in run("umount", mnt / "t", status=1).stderr
    assert mounted(mnt)


def test_umount_detaches_a_dead_mount(run, mount):
    mnt = mount()
    pid = pid_of(mnt)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert "detached" in run("umount", mnt).stdout
    assert not mounted(mnt)


def test_mount_takes_the_place_of_a_dead_mount(run, mount):
    mnt = mount()
    (mnt / "t").mkdir()
    (mnt / "t" / "0").open("a").write("kept\n")
    pid = pid_of(mnt)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    mount()
    assert (mnt / "t" / "0").read_text() == "kept\n"


def test_umount_tells_when_the_daemon_does_not_end_in_time(run, mount):
    mnt = mount()
    pid = pid_of(mnt)
    # a stopped daemon still answers while it is not stopped: it is stopped by a thread that waits for the unmount
    stopper = subprocess.Popen(["sh", "-c", f"while mountpoint -q {mnt}; do :; done; kill -STOP {pid}"])
    done = run("umount", "--timeout", "1", mnt, status=None)
    stopper.wait()
    if Path(f"/proc/{pid}").exists():
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 0 or (done.returncode == 1 and f"process {pid}" in done.stderr)
    assert ended(pid)


# verify of what spoolfs wrote

def crc32c(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def rewrite(checkpoint, change):
    """Changes the rows of a checkpoint of spoolfs and gives it the checksum that belongs to them."""
    rows = checkpoint.read_text().splitlines(keepends=True)[:-1]
    text = "".join(change(row) for row in rows)
    checkpoint.write_text(f"{text}crc {crc32c(text.encode()):08x}\n")


@pytest.fixture
def written(run, mount, place):
    """Messages in several segments, the head deleted, and not mounted any more."""
    mnt = mount("-o", "log.segment.bytes=16384")
    for topic, codec in (("plain", "uncompressed"), ("packed", "lz4")):
        (mnt / topic).mkdir()
        (mnt / topic / ".config").open("a").write(f"compression.type={codec}\n")
        for part in range(8):
            with open(mnt / topic / "0", "ab", buffering=0) as file:
                for number in range(5):
                    file.write(b"".join(b"%d %d %d\n" % (part, number, line) for line in range(300)))
    subprocess.run(["fallocate", "-p", "-o", "0", "-l", "20000", mnt / "plain" / "0"], check=True)
    run("umount", mnt)
    assert len(logs(place / "data" / "plain-0")) > 3
    assert run("verify", place / "data").stdout.endswith(": 0 faults\n")
    return place / "data"


def views(directory):
    return sorted(file for file in directory.glob("*.view") if file.stat().st_size > 32)


def flip_in_view(at):
    def damage(data):
        view = views(data / "plain-0")[1]
        flip(view, at)
        return [view.name]
    return damage


def torn_view(data):
    view = views(data / "plain-0")[1]
    view.write_bytes(view.read_bytes()[:-3])
    return [view.name]


def entries_of_another_view(data):
    first, second = views(data / "plain-0")[:2]
    second.write_bytes(second.read_bytes()[:32] + first.read_bytes()[32:])
    return [second.name]


def another_first_position(data):
    view = views(data / "plain-0")[1]
    header = bytearray(view.read_bytes()[:24])
    struct.pack_into(">q", header, 16, struct.unpack_from(">q", header, 16)[0] + 7)
    change(view, 0, header + struct.pack(">I", crc32c(header)))
    return [view.name, "its first position is ", "the segments before"]


def another_view_position(data):
    view = views(data / "packed-0")[0]
    base, = struct.unpack_from(">q", view.read_bytes(), 8)
    entry = bytearray(view.read_bytes()[32 + 24:32 + 48])
    struct.pack_into(">q", entry, 0, struct.unpack_from(">q", entry, 0)[0] + 1)
    struct.pack_into(">I", entry, 20, crc32c(struct.pack(">qI", base, 1) + entry[:20]))
    change(view, 32 + 24, entry)
    return [view.name, "entry 1: offset ", "but by the log"]


def another_start_position(data):
    def shifted(row):
        return re.sub(r"\d+$", lambda number: str(int(number.group()) + 3), row, flags=re.M) if row.startswith("plain ") else row
    rewrite(data / "view-start-checkpoint", shifted)
    return [".view: its first position is ", "by view-start-checkpoint"]


def broken_start(data):
    flip(data / "view-start-checkpoint", 3)
    return ["view-start-checkpoint"]


def broken_state(data):
    flip(data / "partition-state-checkpoint", 30)
    return ["partition-state-checkpoint"]


def another_size(data):
    def shifted(row):
        words = row.split()
        return " ".join(words[:-3] + [str(int(words[-3]) + 1)] + words[-2:]) + "\n" if len(words) > 10 else row
    rewrite(data / "partition-state-checkpoint", shifted)
    return ["says that its file has"]


def without_its_first_segment(topic, marker):
    """The log's start is known from the row of view-start-checkpoint; without a row, from there being none."""
    def damage(data):
        first, second = logs(data / f"{topic}-0")[:2]
        first.unlink()
        if not marker:
            (data / ".kafka_cleanshutdown").unlink()
        return [f"{topic}-0: the log starts at offset ", f"but its first segment begins with {int(second.stem)}"]
    return damage


def without_properties(data):
    (data / "plain-0" / "topic.properties").unlink()
    return ["plain-0/topic.properties is missing"]


def other_properties(data):
    file = data / "plain-0" / "topic.properties"
    file.write_bytes(file.read_bytes().replace(b"uncompressed", b"compressed"))
    return ["plain-0/topic.properties: ", "checksum"]


@pytest.mark.parametrize("damage", [without_its_first_segment("plain", True), without_its_first_segment("plain", False), without_its_first_segment("packed", True),
                                    without_its_first_segment("packed", False), without_properties, other_properties, flip_in_view(20), flip_in_view(40), flip_in_view(31), torn_view, entries_of_another_view, another_first_position, another_view_position,
                                    another_start_position, broken_start, broken_state, another_size], ids=lambda damage: damage.__name__)
def test_verify_finds_in_what_spoolfs_wrote(run, written, damage):
    expected = damage(written)
    lines = faults(run, written)
    assert any(all(text in line for text in expected) for line in lines), lines


def test_verify_finds_a_partition_that_is_there_twice(run, written, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(written / "plain-0", other / "plain-0")
    lines = run("verify", written, other, status=1).stdout.splitlines()
    assert any(line.startswith(f"{other}/plain-0: ") and str(written / "plain-0") in line for line in lines)


def test_dump_of_what_spoolfs_wrote(run, written):
    for directory in ("plain-0", "packed-0", ""):
        text = run("dump", written / directory).stdout
        assert "damaged" not in text and "crc=BAD" not in text
    view = views(written / "plain-0")[1]
    first, *entries = run("dump", view).stdout.splitlines()
    base, position = map(int, re.fullmatch(r"base=(\d+) first_position=(\d+)", first).groups())
    assert base == int(view.stem) and len(entries) == (view.stat().st_size - 32) // 24
    assert entries[0] == f"view_position={position} offset={base} position=0 byte=0"
    assert re.search(r"^plain-0 id=\S{22} offset=\d+ view_position=\d+$", run("dump", written / "view-start-checkpoint").stdout, re.M)
    assert re.search(r"^plain-0 id=\S{22} epoch=0 active_base=\d+ ", run("dump", written / "partition-state-checkpoint").stdout, re.M)


def test_a_view_that_is_missing_is_no_fault(run, written):
    for view in views(written / "plain-0"):
        view.unlink()
    run("verify", written)


@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".view", ".snapshot"])
def test_an_index_that_is_wrong_inside_is_made_anew_once_it_is_removed(run, mount, written, suffix):
    """As spoolfs-verify(1) says: until then reads are right, and verify goes on finding it."""
    file = max((written / "plain-0").glob(f"*{suffix}"), key=lambda path: path.stat().st_size)
    flip(file, file.stat().st_size // 2)
    left = None
    for status in (1, 0):
        mnt = mount()
        now = (mnt / "plain" / "0").read_bytes()
        run("umount", mnt)
        run("verify", written, status=status)
        assert left in (None, now) and now.count(b"\n") > 8000
        left = now
        file.unlink(missing_ok=True)


def test_verify_accepts_what_a_killed_daemon_leaves(run, mount, place):
    mnt = mount("-o", "log.segment.bytes=16384")
    (mnt / "t").mkdir()
    with open(mnt / "t" / "0", "a") as file:
        for number in range(20000):
            file.write(f"{number}\n")
    pid = pid_of(mnt)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    run("verify", place / "data")


def test_verify_shows_a_bar_on_a_terminal(spoolfs, latest, tmp_path):
    """Links to one partition make a log directory of a gigabyte, and the process is held for longer than the bar waits."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(latest.log_dir / "meta.properties", data)
    for number in range(2000):
        (data / f"t-{number}").mkdir()
        for file in (latest.log_dir / "codec-none-0").iterdir():
            os.link(file, data / f"t-{number}" / file.name)
    main, terminal = os.openpty()
    verify = subprocess.Popen([spoolfs, "verify", data], stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    time.sleep(0.05)
    verify.send_signal(signal.SIGSTOP)
    time.sleep(0.6)
    verify.send_signal(signal.SIGCONT)
    drawn = b""
    try:
        while piece := os.read(main, 1000):
            drawn += piece
    except OSError:  # as a pseudo terminal says that nobody has it open any more
        pass
    os.close(main)
    assert verify.communicate()[0].endswith(b": 0 faults\n")
    bars = re.findall(rb"\rverifying \[[#.]+\] +(\d+)%\x1b\[K", drawn)
    assert bars and sorted(map(int, bars)) == [int(bar) for bar in bars]
    assert drawn.endswith(b"\r\x1b[K"), "it is taken away in the end"


# mount(8)

@pytest.fixture
def helper(spoolfs, place):
    link = place / "mount.fuse.spoolfs"
    link.symlink_to(spoolfs)

    def call(*arguments, status=0):
        done = subprocess.run([link, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done
    return call


def test_the_helper_of_mount(helper, run, place):
    mnt = place / "mnt"
    mnt.mkdir()
    helper(place / "data", mnt, "-o", "rw,nofail,num.partitions=2", "-t", "fuse.spoolfs")
    (mnt / "t").mkdir()
    assert sorted(os.listdir(mnt / "t")) == ["0", "1"] and (place / "data" / "t-0").exists()
    run("umount", mnt)


def test_the_helper_tells_failures_as_mount_wants_them(helper, place):
    mnt = place / "mnt"
    assert "nonsense" in helper(place / "data", mnt, "-o", "nonsense", status=32).stderr
    assert helper(place / "data", status=1).stderr
    helper(place / "data", mnt, "-f")
    assert not mnt.exists() and not (place / "data").exists(), "-f only looks"


def test_the_helper_can_be_sloppy(helper, run, place):
    helper(place / "data", place / "mnt", "-s", "-o", "nonsense,no.such=1")
    run("umount", place / "mnt")


def test_libfuses_own_helper_finds_us_too(spoolfs, run, place):
    """mount.fuse calls `spoolfs SOURCE DIR -o ...`, with the subtype as the program's name."""
    subprocess.run([spoolfs, place / "data", place / "mnt", "-o", "rw,dev,suid"], check=True, timeout=60)
    assert mounted(place / "mnt")
    run("umount", place / "mnt")
