import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laminator.errors import MachineError, UsageError
from laminator.run import sandbox as module
from laminator.run.dumpable import is_dumpable
from laminator.run.filesystem import Bind, Filesystem, merged, system_filesystem
from laminator.run.sandbox import (
    NAMESPACES,
    NONE,
    UID,
    Job,
    Process,
    Sandbox,
    ask,
    check_other_user_reads,
    isolation,
    probe,
    start,
)

DRIVER = Path(__file__).parents[1] / "support" / "workload_driver.py"
REPOSITORY = Path(__file__).parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
OUTER = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
OUTER += ["--proc", "/proc", "--cap-drop", "ALL", "--die-with-parent"]

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
needs_namespaces = pytest.mark.skipif(
    probe().separation != NAMESPACES, reason="namespaces are forbidden here"
)
MODES = [
    pytest.param(NAMESPACES, marks=needs_namespaces),
    pytest.param(UID, marks=needs_root),
    NONE,
]


@pytest.fixture(params=MODES)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return probe(force=request.param)


def shell(script: str, sandbox: Sandbox, **more: Any) -> Process:
    job = Job(command=["/bin/sh", "-c", script], env={"PATH": os.defpath}, cwd=Path("/"), **more)
    return start(job, system_filesystem(network=job.network), sandbox)


def output_of(script: str, sandbox: Sandbox, **more: Any) -> str:
    process = shell(script, sandbox, stdout=subprocess.PIPE, **more)
    with process.popen:
        text, _ = process.popen.communicate()
    process.wait()
    return bytes(text).decode()


def alive(marker: str) -> list[str]:
    """Return the processes whose command line holds `marker`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if marker.encode() in words:
            found.append(entry.parent.name)
    return found


def wait_until_dead(marker: str) -> None:
    deadline = time.monotonic() + 10
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive(marker) == []


# --- the whole of it, by an attester of its own ---


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder where everybody can pass."""
    path = Path(tempfile.mkdtemp(prefix="laminator-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def drive(
    folder: Path, python: Path, prefix: list[str], bwrap: list[str] | None = None
) -> dict[str, Any]:
    site = next(path for path in sys.path if path.endswith("site-packages"))
    driver = SYSTEM_PYTHON if "--reuid" in prefix else Path(sys.executable)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "base" / "home")}
    if driver == SYSTEM_PYTHON:
        env["PYTHONPATH"] = f"{REPOSITORY}:{site}"
    words = [*prefix, str(driver), "-B", str(DRIVER), str(python), *(bwrap or [])]
    done = subprocess.run(words, env=env, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check_what_was_seen(result: dict[str, Any], project: Path) -> None:
    seen = result["seen"]
    acts = [
        "replace input",
        *(f"write {what}" for what in ("input", "script", "cwd", "root", "usr", "sysctl", "sysrq")),
    ]
    for name in acts:
        assert seen[name] in ("OSError", "PermissionError", "FileNotFoundError"), name
    expected = {
        "input": "measured",
        "folder": ["records.csv"],
        "home": [],
        "write home": "None",
        "secret": "FileNotFoundError",
        "siblings": ["project"],
        "old output": False,
        "attester": [],
        "interfaces": ["lo"],
        "tcp": "ConnectionRefusedError",
        "abstract": "ConnectionRefusedError",
        "shm": [],
        "tmp": "None",
        "capabilities": ["0" * 16],
        "no_new_privs": "1",
        "descriptors": [0, 1, 2],
        "helper": 42,
        "configfs": False,
        "file": str(project / "train.py"),
        "cwd": str(project),
        "marker": "measured",
    }
    assert {name: seen[name] for name in expected} == expected
    assert seen["hidden"] in ("PermissionError", "[]")
    assert seen["shadow"] == "PermissionError"
    assert seen["processes"] <= 3
    assert not [name for name in seen["devices"] if re.match("tpm|kvm|vsock|mem|kmsg|vda", name)]


@needs_namespaces
@pytest.mark.parametrize("prefix", [[], [*OUTER, *(["--uid", "1000"] if IS_ROOT else [])]])
def test_a_workload_sees_what_it_needs_and_nothing_else(folder: Path, prefix: list[str]) -> None:
    result = drive(folder, Path(sys.executable), prefix)
    assert result["sandbox"][0] == NAMESPACES
    assert result["status"] == [0, None]
    assert result["stored"] is not None
    check_what_was_seen(result, folder / "base" / "home" / "project")
    assert result["seen"]["executable"] == sys.executable
    assert result["seen"]["prefix"] == sys.prefix
    assert result["isolation"]["attester_dumpable"] is False
    assert result["distributions"] > 3
    assert result["left"] == ["home"]


def can_drive_as_nobody() -> bool:
    if not IS_ROOT or not SYSTEM_PYTHON.exists():
        return False
    site = next(path for path in sys.path if path.endswith("site-packages"))
    words = [*NOBODY, str(SYSTEM_PYTHON), "-B", "-c", "import cbor2, laminator.run.places"]
    env = {"PYTHONPATH": f"{REPOSITORY}:{site}"}
    done = subprocess.run(words, env=env, check=False, capture_output=True)
    return done.returncode == 0


@needs_namespaces
@pytest.mark.parametrize("outer", [[], OUTER])
def test_a_user_without_rights_gets_the_same(folder: Path, outer: list[str]) -> None:
    if not can_drive_as_nobody():
        pytest.skip("needs root, and a system Python that another user can run laminator with")
    os.chown(folder, 65534, 65534)
    shutil.copytree(REPOSITORY / "laminator", folder / "lib" / "laminator")
    venv = folder / "venv"
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", venv], check=True)
    [packages] = venv.glob("lib/python3*/site-packages")
    site = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "laminator.pth").write_text(f"{folder / 'lib'}\n")
    result = drive(folder, venv / "bin" / "python", [*NOBODY, *outer])
    assert result["sandbox"][0] == NAMESPACES, result["sandbox"]
    assert result["status"] == [0, None]
    check_what_was_seen(result, folder / "base" / "home" / "project")
    assert site not in result["seen"]["prefix"]


@needs_namespaces
@needs_root
def test_root_without_capabilities_cannot_nest(folder: Path) -> None:
    """Why the outer sandbox gives root another user id (Linux 5.12 and later)."""
    result = drive(folder, Path(sys.executable), OUTER)
    assert result["sandbox"][0] == NONE
    assert "uid map" in result["sandbox"][2]


@needs_namespaces
def test_a_copied_bubblewrap_under_a_copied_linker_works(folder: Path) -> None:
    program = shutil.which("bwrap")
    assert program is not None
    listed = subprocess.check_output(["ldd", program], text=True)
    copies = folder / "so"
    copies.mkdir()
    for path in re.findall(r"(/\S+)", listed):
        shutil.copy(path, copies)
    shutil.copy(program, folder / "bwrap")
    linker = next(copies.glob("ld-*"))
    words = [str(linker), "--library-path", str(copies), str(folder / "bwrap")]
    result = drive(folder, Path(sys.executable), [], words)
    assert result["sandbox"][:2] == [NAMESPACES, [*words, "--disable-userns"]]
    assert result["status"] == [0, None]


# --- what separates ---


def test_probing_finds_the_strongest_that_works() -> None:
    found = probe()
    assert found.separation in (NAMESPACES, UID, NONE)
    assert (found.reason == "") == (found.separation == NAMESPACES)


def test_without_bubblewrap_the_reason_is_given() -> None:
    found = probe(("/nonexistent/bwrap",))
    assert found.separation == (UID if IS_ROOT else NONE)
    assert found.reason.startswith("namespaces: cannot start '/nonexistent/bwrap'")
    with pytest.raises(MachineError, match="cannot start"):
        probe(("/nonexistent/bwrap",), force=NAMESPACES)


@needs_namespaces
def test_a_workload_changes_no_setting_of_the_machine() -> None:
    """Root's user id alone could write them, without any capability."""
    found = output_of("find /proc /sys -writable -not -path '/proc/[0-9]*' -type f", probe())
    assert found == ""


@needs_namespaces
def test_a_workload_makes_no_user_namespace_of_its_own() -> None:
    assert output_of("unshare -U true && echo made", probe()) == ""


@needs_namespaces
def test_an_older_bubblewrap_serves_too(tmp_path: Path) -> None:
    older = tmp_path / "bwrap"
    older.write_text('#!/bin/sh\n[ "$1" = --disable-userns ] && exit 1\nexec bwrap "$@"\n')
    older.chmod(0o755)
    found = probe((str(older),))
    assert found == Sandbox(NAMESPACES, (str(older),), "")
    assert shell("exit 3", found).wait() == (3, None)


def test_a_bubblewrap_that_fails_is_noticed() -> None:
    with pytest.raises(MachineError, match=r"could not be set up|no message"):
        probe(("/bin/false",), force=NAMESPACES)


def test_only_known_separations_can_be_forced() -> None:
    with pytest.raises(UsageError, match="no separation 'jail'"):
        probe(force="jail")


def test_another_user_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="uid: needs root"):
        probe(force=UID)


def test_another_user_needs_setpriv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laminator.run.sandbox.find_program", lambda _name: None)
    with pytest.raises(MachineError, match="install util-linux"):
        module._setpriv(UID)
    assert module._setpriv(NONE) == []


@pytest.mark.parametrize("network", [False, True])
def test_the_claims_say_what_is_in_force(network: bool) -> None:
    names = ("ipc", "mount", "net", "pid", "user", "uts")
    found = isolation(Sandbox(NAMESPACES, ("bwrap",), ""), network=network)
    assert found.namespaces == tuple(name for name in names if name != "net" or not network)
    assert (found.no_new_privs, found.network) == (True, network)
    for separation in (UID, NONE):
        found = isolation(Sandbox(separation, ("bwrap",), ""), network=network)
        assert (found.separation, found.namespaces, found.network) == (separation, (), True)


@needs_root
def test_another_user_has_nothing_of_root() -> None:
    found = probe(force=UID)
    text = output_of("id -u; id -G; grep -E '^(Cap|NoNew)' /proc/self/status", found)
    assert text.split()[:2] == ["65534", "65534"]
    assert set(re.findall(r"Cap\w+:\s+(\w+)", text)) == {"0" * 16}
    assert "NoNewPrivs:\t1" in text
    assert output_of("cat /etc/shadow; ls /root", found) == ""


@needs_root
def test_what_another_user_cannot_read_is_named(tmp_path: Path) -> None:
    check_other_user_reads([Path("/etc/passwd"), Path("/usr/bin")])
    (tmp_path / "script").write_text("")
    with pytest.raises(MachineError, match=r"user 65534 cannot read '.*script'") as caught:
        check_other_user_reads([Path("/etc/passwd"), tmp_path / "script"])
    assert caught.value.code == "sandbox.uid"


@needs_namespaces
def test_the_network_is_there_only_on_request() -> None:
    found = probe(force=NAMESPACES)
    links = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '"
    host = subprocess.check_output(["sh", "-c", links], text=True)
    assert output_of(links, found).split() == ["lo"]
    assert output_of(links, found, network=True) == host


NON_DUMPABLE = """
import os, sys
from laminator.run.dumpable import is_dumpable, make_undumpable
if sys.argv[1] == "yes":
    make_undumpable()
assert is_dumpable() == (sys.argv[1] != "yes")
child = os.fork()
if child == 0:
    try:
        open(f"/proc/{os.getppid()}/mem", "rb").close()
    except PermissionError:
        os._exit(1)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(("undumpable", "printed"), [("no", "0"), ("yes", "1")])
def test_nobody_reads_the_memory_of_an_undumpable_process(undumpable: str, printed: str) -> None:
    if IS_ROOT and not can_drive_as_nobody():
        pytest.skip("needs a user without rights")
    assert is_dumpable()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    prefix = [*NOBODY, str(SYSTEM_PYTHON)] if IS_ROOT else [sys.executable]
    words = [*prefix, "-B", "-c", NON_DUMPABLE, undumpable]
    env = {"PYTHONPATH": f"{REPOSITORY}:{site}"}
    done = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == printed


# --- how it ends ---


@pytest.mark.parametrize("code", [0, 1, 3, 125])
def test_an_exit_code_is_passed_on(sandbox: Sandbox, code: int) -> None:
    assert shell(f"exit {code}", sandbox).wait() == (code, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killing_signal_is_seen(sandbox: Sandbox, number: signal.Signals) -> None:
    assert shell(f"kill -{number} $$", sandbox).wait() == (128 + number, number)


def test_an_interrupt_reaches_the_workload(sandbox: Sandbox) -> None:
    script = "trap 'exit 7' INT; echo ready; while :; do sleep 0.02; done"
    process = shell(script, sandbox, stdout=subprocess.PIPE)
    with process.popen:
        assert process.popen.stdout is not None
        assert process.popen.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == (7, None)
    process.send_signal(signal.SIGINT)


def test_a_termination_reaches_the_workload_and_its_children(sandbox: Sandbox) -> None:
    inner = "trap 'echo inner; exit' TERM; echo ready; while :; do sleep 0.02; done"
    script = f"trap 'wait; exit 7' TERM; sh -c \"{inner}\" & wait"
    process = shell(script, sandbox, stdout=subprocess.PIPE)
    with process.popen:
        assert process.popen.stdout is not None
        assert process.popen.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(10) == (7, None)
        assert process.popen.stdout.read() == b"inner\n"


def test_a_signal_right_after_the_start_arrives(sandbox: Sandbox) -> None:
    process = shell("sleep 1000", sandbox)
    process.terminate()
    assert process.wait(10) == (143, signal.SIGTERM)


def test_a_timeout_leaves_the_workload_running(sandbox: Sandbox) -> None:
    process = shell("sleep 1000", sandbox)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert not process.poll()
    process.kill()
    assert process.poll()
    process.kill()


def test_nothing_outlives_the_workload(sandbox: Sandbox) -> None:
    marker = f"1{os.getpid()}0001"
    assert shell(f"sleep {marker} & exit 0", sandbox).wait() == (0, None)
    if sandbox.separation != NAMESPACES:
        wait_until_dead(marker)
    assert alive(marker) == []


@needs_namespaces
def test_a_workload_that_leaves_its_session_does_not_outlive_it() -> None:
    marker = f"1{os.getpid()}0002"
    found = probe(force=NAMESPACES)
    script = f"setsid sleep {marker} & setsid setsid sleep {marker} & exit 0"
    assert shell(script, found).wait() == (0, None)
    assert alive(marker) == []


def test_killing_ends_all_its_processes(sandbox: Sandbox) -> None:
    marker = f"1{os.getpid()}0003"
    process = shell(f"sleep {marker} & echo ready; wait", sandbox, stdout=subprocess.PIPE)
    with process.popen:
        assert process.popen.stdout is not None
        process.popen.stdout.readline()
        assert alive(marker) != []
        process.kill()
        wait_until_dead(marker)
        assert process.wait() == (137, signal.SIGKILL)


ATTESTER = """
import os, sys
from pathlib import Path
from laminator.run.filesystem import system_filesystem
from laminator.run.sandbox import Job, probe, start
script = f"echo ready; exec sleep {sys.argv[2]}"
job = Job(command=["/bin/sh", "-c", script], env={}, cwd=Path("/"))
start(job, system_filesystem(), probe(force=sys.argv[1])).wait()
"""


def test_a_workload_dies_with_its_attester(sandbox: Sandbox) -> None:
    marker = f"1{os.getpid()}0004"
    words = [sys.executable, "-c", ATTESTER, sandbox.separation, marker]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as attester:
        assert attester.stdout is not None
        attester.stdout.readline()
        attester.kill()
    wait_until_dead(marker)


# --- what it inherits ---


def test_it_inherits_what_is_passed_and_nothing_else(sandbox: Sandbox) -> None:
    ours, theirs = os.pipe()
    other = os.open("/", os.O_RDONLY)
    os.set_inheritable(other, True)
    text = output_of(
        f"bash -c 'echo hello >&{theirs}'; ls /proc/self/fd", sandbox, pass_fds=(theirs,)
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        assert pipe.read() == b"hello\n"
    os.close(other)
    # ls opens the folder itself as the lowest free number, and pass_fds are above 2
    assert {0, 1, 2, theirs} <= {int(name) for name in text.split()}
    assert len(text.split()) == 5


def test_no_descriptor_of_ours_is_left_open(sandbox: Sandbox) -> None:
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    shell("exit 0", sandbox).wait()
    process = shell("sleep 100", sandbox)
    process.kill()
    with pytest.raises(MachineError):
        start(
            Job(command=["/bin/true"], env={}, cwd=Path("/")),
            Filesystem(),
            sandbox._replace(separation=NAMESPACES, bwrap=("/nonexistent",)),
        )
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before


@needs_namespaces
def test_a_place_that_cannot_be_bound_is_an_error() -> None:
    gone = Filesystem(read_only=(Bind(Path("/nonexistent"), Path("/data")),))
    job = Job(command=["/bin/true"], env={}, cwd=Path("/"), stderr=subprocess.PIPE)
    process = start(job, merged(system_filesystem(), gone), probe(force=NAMESPACES))
    with process.popen, pytest.raises(MachineError, match="nonexistent"):
        process.wait()


def test_asking_returns_the_output(sandbox: Sandbox) -> None:
    assert ask(["/bin/echo", "hello"], (), sandbox) == b"hello\n"
    with pytest.raises(MachineError, match="'/bin/sh' failed: 'wrong'"):
        ask(["/bin/sh", "-c", "echo wrong >&2; exit 1"], (), sandbox)
    with pytest.raises(MachineError, match="'no message'"):
        ask(["/bin/false"], (), sandbox)


def test_asking_does_not_wait_for_ever(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBE_SECONDS", 0.2)
    with pytest.raises(MachineError, match="'/bin/sleep' does not answer"):
        ask(["/bin/sleep", "1000"], (), sandbox)


@needs_namespaces
def test_asking_runs_the_copy_that_was_measured(tmp_path: Path) -> None:
    shutil.copy("/bin/echo", tmp_path / "copy")
    shutil.copy("/bin/false", tmp_path / "program")
    copies = (Bind(tmp_path / "copy", tmp_path / "program"),)
    words = [str(tmp_path / "program"), "copy"]
    assert ask(words, (tmp_path,), probe(force=NAMESPACES), copies) == b"copy\n"
