"""Separate a workload from its attester, with bubblewrap.

The workload gets user, mount, pid, ipc, uts and, without `--network`, net namespaces of its own,
no capability, no_new_privs, a session of its own, and a root that is built from an allow-list
(`laminator.run.filesystem`). Where namespaces are forbidden and we are root, it runs as another
user through setpriv; where that fails too, it is not separated, and the claims say so.

An attester that itself runs in a user namespace can only make another one if its user id there
is not 0 (Linux refuses to map id 0 of a parent namespace without CAP_SETFCAP, since 5.12).

Decision record: docs/adr/0003-isolation.md.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from laminator.claims import Confinement, Isolation
from laminator.errors import MachineError, UsageError, shown
from laminator.programs import SEARCH_PATH, find_program
from laminator.run.dumpable import is_dumpable
from laminator.run.filesystem import Bind, Filesystem, folder_binds, merged, system_filesystem
from laminator.run.limits import NO_LIMITS, Limits
from laminator.run.pinned import pin_code
from laminator.run.seccomp import filter_files, is_available

NAMESPACES, UID, NONE = "namespaces", "uid", "none"
OTHER_USER = 65534
"""The user id (nobody) that a workload gets where namespaces are forbidden."""

_UNSHARED = ("user", "pid", "ipc", "uts")
_NO_NESTING = "--disable-userns"
_PROBE_SECONDS, _GROUP_SECONDS = 20.0, 2.0
_SIGNAL_BASE = 128
_STATUS_BYTES = 1 << 12


class Sandbox(NamedTuple):
    """What this machine allows: a separation, the command that runs bubblewrap, and why not more.

    `bwrap` is a list of words, so that a copied linker can run a copied bubblewrap; it ends with
    the option that forbids the workload user namespaces of its own, where bubblewrap knows it
    (0.8 and later).
    """

    separation: str
    bwrap: tuple[str, ...]
    reason: str


class ExitStatus(NamedTuple):
    """How a workload ended: its exit code as a shell shows it, and the signal that killed it.

    In namespaces a code above 128 is read as a signal: a program that exits with 137 looks like
    a killed one. SIGKILL that nobody sent is the kernel's out-of-memory killer.
    """

    code: int
    signal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command with what it inherits: `pass_fds` keep their numbers; stdio as in subprocess.

    `strict` work starts no process and has Unix sockets only; `start` adds the seccomp `filters`.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()
    network: bool = False
    strict: bool = False
    filters: tuple[int, ...] = ()
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@dataclass(slots=True, kw_only=True)
class Process:
    """A started workload. The thread that started it must live: its end kills the workload.

    In namespaces `popen` is bubblewrap, `group` the namespace's first process and the process
    group of the workload, `first` a pidfd of it, `status_fd` where bubblewrap reports.
    """

    popen: subprocess.Popen[bytes]
    sandbox: Sandbox
    group: int
    first: int | None = None
    status_fd: int | None = None
    set_up: bool = False

    def wait(self, timeout: float | None = None) -> ExitStatus:
        """Wait for the end of the workload, then end all its processes.

        Without namespaces that is only its process group. Raises subprocess.TimeoutExpired, and
        MachineError if the sandbox could not be set up.
        """
        code = self.popen.wait(timeout)
        self._end()
        if code < 0:
            return ExitStatus(_SIGNAL_BASE - code, -code)
        if self.sandbox.separation != NAMESPACES:
            return ExitStatus(code, None)
        if not self.set_up:
            raise _setup_failure(self.popen)
        return ExitStatus(code, code - _SIGNAL_BASE if code > _SIGNAL_BASE else None)

    def poll(self) -> bool:
        """Say whether the workload has ended."""
        return self.popen.poll() is not None

    def send_signal(self, number: int) -> None:
        """Send a signal to the workload's process group; nothing happens after its end.

        Right after the start this waits until the workload's own process is there: the first
        process of a pid namespace ignores signals.
        """
        deadline = time.monotonic() + _GROUP_SECONDS
        while not self.poll() and not self._is_running() and time.monotonic() < deadline:
            time.sleep(0.002)
        if not self.poll():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, number)

    def _is_running(self) -> bool:
        """Say whether the first process of the namespace has a child that is not bubblewrap."""
        if self.sandbox.separation != NAMESPACES:
            return True
        first = Path(f"/proc/{self.group}")
        try:
            children = (first / "task" / first.name / "children").read_text().split()
            commands = [(Path("/proc") / child / "cmdline").read_bytes() for child in children]
            return any(command != (first / "cmdline").read_bytes() for command in commands)
        except OSError:
            return False

    def terminate(self) -> None:
        """Ask the workload to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the workload and all its processes (see `wait`) and wait for that."""
        self.popen.kill()
        if self.first is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.first, signal.SIGKILL)
        self.popen.wait()
        self._end()

    def _end(self) -> None:
        """Wait for the pid namespace, or kill the process group, and close what is ours."""
        if self.sandbox.separation != NAMESPACES:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
        if self.first is not None:
            gone = select.poll()
            gone.register(self.first, select.POLLIN)
            gone.poll()
            os.close(self.first)
            self.first = None
        if self.status_fd is not None:
            with os.fdopen(self.status_fd, "rb") as file:
                self.set_up = b"exit-code" in file.read(_STATUS_BYTES)
            self.status_fd = None


def probe(bwrap: Sequence[str] = ("bwrap",), *, force: str | None = None) -> Sandbox:
    """Find the strongest separation by trying it; `force` asks for one and no other.

    Raises MachineError if the forced one does not work here.
    """
    if force not in (None, NAMESPACES, UID, NONE):
        raise UsageError("sandbox.separation", f"no separation {shown(force)}")
    plain = tuple(bwrap)
    wanted = [(NAMESPACES, (*plain, _NO_NESTING)), (NAMESPACES, plain), (UID, plain), (NONE, plain)]
    reasons: dict[str, str] = {}
    for separation, words in wanted:
        if force in (None, separation):
            told = "; ".join(
                f"{name}: {why}" for name, why in reasons.items() if name != separation
            )
            sandbox = Sandbox(separation, words, told)
            reason = _try(sandbox)
            if reason is None:
                return sandbox
            reasons[separation] = reason
    message = "; ".join(f"{name}: {why}" for name, why in reasons.items())
    raise MachineError("sandbox.separation", message)


def isolation(sandbox: Sandbox, *, network: bool, limits: Limits = NO_LIMITS) -> Isolation:
    """Return what is in force, `limits` too; the attester must be undumpable already."""
    separated = sandbox.separation == NAMESPACES
    names = (*_UNSHARED, "mount", *(() if network else ("net",)))
    return Isolation(
        separation=sandbox.separation,
        namespaces=tuple(sorted(names)) if separated else (),
        no_new_privs=separated or find_program("setpriv") is not None,
        attester_dumpable=is_dumpable(),
        network=network or not separated,
        confinement=Confinement(0, is_available(), dict(limits)) if separated else None,
    )


def start(
    job: Job, filesystem: Filesystem, sandbox: Sandbox, prepare: Callable[[int], None] | None = None
) -> Process:
    """Start `job`; only namespaces make `filesystem` its root, elsewhere it has no meaning.

    In namespaces `prepare` is called with their first process, once they are there and before the
    command is executed; what it raises ends the sandbox. Raises MachineError if the program that
    separates is not there.
    """
    if sandbox.separation == NAMESPACES:
        with filter_files(strict=job.strict) as filters:
            filtered = replace(job, filters=filters, pass_fds=(*job.pass_fds, *filters))
            if prepare is None:
                return _start_in_namespaces(filtered, filesystem, sandbox, ())
            return _start_prepared(filtered, filesystem, sandbox, prepare)
    popen = _popen([*_setpriv(sandbox.separation), *job.command], job, job.pass_fds, cwd=job.cwd)
    return Process(popen=popen, sandbox=sandbox, group=popen.pid)


def ask(
    command: Sequence[str], folders: Sequence[Path], sandbox: Sandbox, copies: Sequence[Bind] = ()
) -> bytes:
    """Run a short command where only the system and `folders` are visible; return its output.

    `copies` are bound over them and pinned, so that it is the measured copy of a program that runs.
    Raises MachineError if it fails or takes longer than 20 seconds.
    """
    copied = Filesystem(read_only=tuple(copies))
    filesystem = merged(system_filesystem(), folder_binds(folders), copied)
    filesystem = pin_code(filesystem, [copy.target for copy in copies])
    job = Job(
        command=command,
        env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},
        cwd=Path("/"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process = start(job, filesystem, sandbox)
    with process.popen:
        try:
            output, errors = process.popen.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise MachineError("sandbox.time", f"{shown(command[0])} does not answer") from error
        finally:
            process.kill()
    if process.popen.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        raise MachineError("sandbox.command", f"{shown(command[0])} failed: {shown(lines[-1])}")
    return output


def check_other_user_reads(paths: Sequence[Path]) -> None:
    """Check that the other user can read `paths`. Raises MachineError naming the first it can't."""
    script = 'for path; do test -r "$path" || { echo "$path"; exit 1; }; done'
    words = [*_setpriv(UID), "sh", "-c", script, "sh", *map(str, paths)]
    done = subprocess.run(words, check=False, capture_output=True)
    if done.returncode != 0:
        path = done.stdout.decode(errors="replace").strip()
        raise MachineError(
            "sandbox.uid",
            f"namespaces are forbidden here, and user {OTHER_USER} cannot read {shown(path)}:"
            " allow user namespaces, or make it and the folders above it readable to all",
        )


def _start_prepared(
    job: Job, filesystem: Filesystem, sandbox: Sandbox, prepare: Callable[[int], None]
) -> Process:
    """Start `job` with bubblewrap waiting, just before it executes the command, for `prepare`."""
    block, release = os.pipe2(os.O_CLOEXEC)
    try:
        process = _start_in_namespaces(job, filesystem, sandbox, (block,))
        try:
            prepare(process.group)
            os.write(release, b"go")
        except BaseException:
            process.kill()
            for pipe in filter(None, (process.popen.stdout, process.popen.stderr)):
                pipe.close()
            raise
    finally:
        os.close(block)
        os.close(release)
    return process


def _start_in_namespaces(
    job: Job, filesystem: Filesystem, sandbox: Sandbox, block: tuple[int, ...]
) -> Process:
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    options_fd = _options_descriptor(job, filesystem, status_write, block)
    first = find_program(sandbox.bwrap[0]) or sandbox.bwrap[0]
    words = [first, *sandbox.bwrap[1:], "--args", str(options_fd), "--", *job.command]
    try:
        popen = _popen(words, job, (*job.pass_fds, *block, status_write, options_fd), cwd=None)
    except BaseException:
        os.close(status_read)
        raise
    finally:
        os.close(status_write)
        os.close(options_fd)
    status = _read_line(status_read)
    if b"child-pid" not in status:
        os.close(status_read)
        raise _setup_failure(popen)
    group = json.loads(status)["child-pid"]
    process = Process(popen=popen, sandbox=sandbox, group=group, status_fd=status_read)
    with contextlib.suppress(ProcessLookupError):
        process.first = os.pidfd_open(group)
    return process


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line


def _setup_failure(popen: subprocess.Popen[bytes]) -> MachineError:
    _, errors = popen.communicate()
    lines = (errors or b"").decode(errors="replace").splitlines() or ["its message is above"]
    return MachineError("sandbox.start", f"the sandbox could not be set up: {shown(lines[-1])}")


def _options_descriptor(
    job: Job, filesystem: Filesystem, status_fd: int, block: tuple[int, ...]
) -> int:
    options = [f"--unshare-{name}" for name in _UNSHARED]
    options += [] if job.network else ["--unshare-net"]
    options += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    options += [word for descriptor in block for word in ("--block-fd", str(descriptor))]
    options += [word for descriptor in job.filters for word in ("--seccomp", str(descriptor))]
    options += ["--json-status-fd", str(status_fd), *filesystem.options(), "--chdir", str(job.cwd)]
    descriptor = os.memfd_create("bwrap-options", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _popen(
    words: Sequence[str], job: Job, pass_fds: Sequence[int], *, cwd: Path | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            env=dict(job.env),
            cwd=cwd,
            pass_fds=pass_fds,
            stdin=job.stdin,
            stdout=job.stdout,
            stderr=job.stderr,
            start_new_session=True,
        )
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        raise MachineError("sandbox.start", f"cannot start {shown(words[0])}: {reason}") from error


def _setpriv(separation: str) -> list[str]:
    program = find_program("setpriv")
    if program is None:
        if separation == UID:
            raise MachineError("sandbox.setpriv", "no setpriv: install util-linux")
        return []
    words = [program, "--no-new-privs", "--pdeathsig", "KILL"]
    if separation == UID:
        user = str(OTHER_USER)
        words += ["--reuid", user, "--regid", user, "--clear-groups"]
        words += ["--inh-caps=-all", "--bounding-set=-all"]
    return words


def _try(sandbox: Sandbox) -> str | None:
    """Return None if the separation works, else why not."""
    if sandbox.separation == UID and os.geteuid() != 0:
        return "needs root"
    try:
        ask(["/bin/sh", "-c", ":"], (), sandbox)
    except MachineError as error:
        return error.message
    return None
