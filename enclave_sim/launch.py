"""Measured launch: copy the attester's code, measure the copy into PCR 17, start the copy."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from enclave_sim import commands, confinement, enrolment, relay
from enclave_sim.folder import Folder, Secrets, note_launch
from enclave_sim.swtpm import Swtpm
from enclave_sim.wire import KEPT_ENVIRONMENT
from laminator.attest.auths import HierarchyAuths
from laminator.claims import Launch
from laminator.errors import MachineError
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX
from laminator.measure.attester_code import CodeCopy, Installation, collect, copy_code
from laminator.programs import SEARCH_PATH
from laminator.run.attester import REQUEST_VARIABLE, SETUP_VARIABLE
from laminator.run.private_copy import DISK_NAME, remove
from laminator.run.setup import Setup, encode_setup

MEASURED, UNMEASURED = "drtm-simulated", "none"

_CLOSED = b"laminator: no attester runs on this simulated machine"
_SIGNAL_BASE = 128
_READY_SECONDS = 2.0
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """What to launch and for whom; the descriptors are the caller's request and stdio."""

    installation: Installation
    entry: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    umask: int
    request_fd: int
    stdio: tuple[int, int, int]


class Seat(NamedTuple):
    """An attester's ends of its channels, and the setup that names them."""

    setup: Setup
    relay: socket.socket
    enrol: socket.socket


class Attester(NamedTuple):
    """A started attester. The thread that started it must live: its end kills the attester."""

    process: subprocess.Popen[bytes]
    group: int
    first: int
    launch: Launch

    def send_signal(self, number: int) -> None:
        """Send a signal to the attester's process group.

        Right after the start this waits, for two seconds at most, until the attester catches
        SIGTERM: before, the signal would meet bubblewrap alone, or cut the attester short.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if any(map(_catches, _with_children(self.group))):
                break
            time.sleep(_PAUSE_SECONDS)
        self._signal(number)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, number)

    def wait(self, seconds: float | None = None) -> int:
        """Return the exit status as a shell shows it. Raises subprocess.TimeoutExpired."""
        code = self.process.wait(seconds)
        return code if code >= 0 else _SIGNAL_BASE - code

    def kill(self) -> None:
        """End the attester and all that it started."""
        self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.first, signal.SIGKILL)  # of a pid namespace: ends it all
        self._signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def launched(
    request: LaunchRequest, folder: Folder, tpm: Swtpm, secrets: Secrets
) -> Iterator[Attester]:
    """Launch an attester; at the end of the block it is dead and the machine is as before.

    Raises MachineError.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_hidden_place(folder))
        copy = copy_code(
            collect(request.installation), place / confinement.CODE_NAME, request.entry
        )
        (place / DISK_NAME).mkdir()
        confined = confinement.is_possible(folder, place)
        launch = _measure(copy, folder, tpm) if confined else Launch(UNMEASURED, None)
        stack.callback(close_launch, tpm)
        seat = stack.enter_context(taken_seat(launch, folder, tpm, secrets))
        attester = stack.enter_context(_started(request, copy, folder, seat))
        seat.relay.close()
        seat.enrol.close()
        yield attester


@contextlib.contextmanager
def taken_seat(launch: Launch, folder: Folder, tpm: Swtpm, secrets: Secrets) -> Iterator[Seat]:
    """Serve relay and enrolment to whoever gets the seat's ends, until the block is left."""
    with contextlib.ExitStack() as stack:
        stack.callback(commands.flush_all, tpm.exchange)
        ends = [
            stack.enter_context(_served(lambda end: relay.serve(end, tpm))),
            stack.enter_context(_served(lambda end: enrolment.serve(end, folder))),
        ]
        setup = Setup(
            tpm=ends[0].fileno(),
            auths=HierarchyAuths(
                endorsement=secrets.endorsement, owner=secrets.owner, counter=secrets.counter
            ),
            counter_index=RUN_COUNTER_INDEX,
            launch=launch,
            enrol_fd=ends[1].fileno(),
            certificates=None,
            simulated=True,
        )
        yield Seat(setup, *ends)


def close_launch(tpm: Swtpm) -> None:
    """Replace the launch in PCR 17, so that no later program quotes a launch that was not its."""
    tpm.launch(_CLOSED)


def _measure(copy: CodeCopy, folder: Folder, tpm: Swtpm) -> Launch:
    found = tpm.launch(copy.preimage)
    if found != hashlib.sha256(bytes(32) + copy.digest.value).digest():
        raise MachineError("machine.launch", "PCR 17 is not what the launch should have made it")
    note_launch(folder, copy.digest)
    return Launch(MEASURED, copy.digest)


@contextlib.contextmanager
def _started(
    request: LaunchRequest, copy: CodeCopy, folder: Folder, seat: Seat
) -> Iterator[Attester]:
    confined = seat.setup.launch.type == MEASURED
    with contextlib.ExitStack() as stack:
        setup_fd = _readable(encode_setup(seat.setup))
        status_read, status_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, status_read)
        seen = confinement.seen_at(folder) if confined else copy.root
        prefix = confinement.words(folder, copy.root.parent, status_write) if confined else []
        kept = [request.request_fd, setup_fd, seat.relay.fileno(), seat.enrol.fileno()]
        try:
            process = subprocess.Popen(
                [*prefix, *copy.command(request.arguments, seen)],
                env=_environment(request, setup_fd),
                cwd="/",
                pass_fds=(*kept, status_write) if confined else kept,
                stdin=request.stdio[0],
                stdout=request.stdio[1],
                stderr=request.stdio[2],
                umask=request.umask,
                start_new_session=True,
            )
        except OSError as error:
            message = f"the attester cannot be started: {error.strerror}"
            raise MachineError("machine.start", message) from error
        finally:
            os.close(setup_fd)
            os.close(status_write)
        group = _confined_group(status_read, process) if confined else process.pid
        first = os.pidfd_open(group)
        stack.callback(os.close, first)
        attester = Attester(process, group, first, seat.setup.launch)
        stack.callback(attester.kill)
        yield attester


def _environment(request: LaunchRequest, setup_fd: int) -> dict[str, str]:
    given = request.environment
    return {
        **{name: given[name] for name in KEPT_ENVIRONMENT if name in given},
        "PATH": SEARCH_PATH,
        "OPENSSL_CONF": os.devnull,
        SETUP_VARIABLE: str(setup_fd),
        REQUEST_VARIABLE: str(request.request_fd),
    }


def _confined_group(status_fd: int, process: subprocess.Popen[bytes]) -> int:
    """Read bubblewrap's first line: the id of the process group that it made."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(status_fd, 1)):
        line += byte
    try:
        return int(json.loads(line)["child-pid"])
    except (ValueError, KeyError) as error:
        process.kill()
        process.wait()
        raise MachineError("machine.confinement", "the attester cannot be confined") from error


def _with_children(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return [process]
    return [process, *map(int, children)]


def _catches(process: int) -> bool:
    """Say whether a process has a handler for SIGTERM: an attester that is ready for signals."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _readable(content: bytes) -> int:
    """Return the read end of a pipe that holds `content`, which fits into one."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.write(writer, content)
    os.close(writer)
    return reader


@contextlib.contextmanager
def _hidden_place(folder: Folder) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir=folder.hidden))
    try:
        yield place
    finally:
        remove(place)


@contextlib.contextmanager
def _served(serve: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Serve one end of a socket pair in a thread; yield the other end."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(ours,), daemon=True)
    thread.start()
    try:
        with theirs:
            yield theirs
    finally:
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        thread.join()
        ours.close()
