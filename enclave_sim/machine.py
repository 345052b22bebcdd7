"""A simulated machine from outside: make it, start it, launch attesters on it.

create(path)
with start(path) as machine:
    status = machine.launch(request_fd)
    machine.reset()
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from enclave_sim import wire
from enclave_sim.folder import Folder, open_folder
from enclave_sim.wire import KEPT_ENVIRONMENT, OWNED, READY
from laminator.errors import MachineError
from laminator.measure.attester_code import ENTRY, Installation, own_installation
from laminator.run.setup import Setup, parse_setup

__all__ = ["Launching", "Machine", "create", "is_running", "start", "stop"]

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_PAUSE_SECONDS = 0.01
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A daemon that finds this code where we found it, and nothing in its working folder.
_BOOT = """
import os, sys
if os.fork():
    os._exit(0)
sys.path.append(sys.argv.pop(1))
from enclave_sim.owner import run
raise SystemExit(run(sys.argv[1:]))
"""


class Launching(NamedTuple):
    """An installation's attester to launch; only tests have another `entry`."""

    installation: Installation
    entry: str = ENTRY
    arguments: tuple[str, ...] = ("attester",)


class Machine:
    """A started machine; an owner that was started for it ends with its last `Machine`."""

    def __init__(self, folder: Folder, connection: socket.socket) -> None:
        self.folder = folder
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the machine, and wait for its end where nobody else uses it."""
        last = False
        with contextlib.suppress(OSError, MachineError):
            status = self.status()
            last = status["transient"] and status["users"] == 1
        self._connection.close()
        if last:
            _wait_for_end(self.folder)

    @property
    def trust_dir(self) -> Path:
        """The machine's anchors and CRLs, for ``laminator verify --trust``."""
        return self.folder.trust

    @property
    def policy_path(self) -> Path:
        """The policy that accepts what this machine has launched."""
        return self.folder.policy

    def status(self) -> dict[str, Any]:
        """Return the owner's pid, the number of users, and whether it is transient and busy."""
        return self._ask("status")

    def reset(self) -> None:
        """Reboot: resetCount grows, PCRs start anew. Raises MachineError while an attester runs."""
        self._ask("reset")

    def power_cycle(self) -> None:
        """Turn the machine off in order and on again. Raises MachineError as `reset`."""
        self._ask("power-cycle")

    def keep(self) -> None:
        """Keep the owner until it is stopped, whoever started it."""
        self._ask("keep")

    def launch(
        self,
        request_fd: int,
        stdio: tuple[int, int, int] = (0, 1, 2),
        what: Launching | None = None,
        waiting: Callable[[], None] = lambda: None,
    ) -> int:
        """Launch an attester, wait for its end, and return its exit status.

        `request_fd` is handed to it unread; `waiting` is called if another attester runs.
        SIGINT, SIGTERM and SIGHUP are passed on when this is called in the main thread. Raises
        MachineError.
        """
        with _connected(self.folder) as connection:
            message = _launch_message(what or Launching(own_installation()))
            wire.send(connection, message, (request_fd, *stdio))
            with _forwarding(connection):
                while True:
                    answer = _answer(connection)
                    if "ended" in answer:
                        return int(answer["ended"])
                    if "waiting" in answer:
                        waiting()

    @contextlib.contextmanager
    def seat(self) -> Iterator[Setup]:
        """Take an attester's seat with no code measured: what any program on the host could do.

        PCR 17 then holds no launch. The descriptors in the setup are closed by who uses them.
        """
        with _connected(self.folder) as connection:
            wire.send(connection, {"op": "seat"})
            packet = wire.receive(connection)
            while packet is not None and "waiting" in packet.message:
                packet = wire.receive(connection)
            if packet is None or "setup" not in packet.message:
                raise MachineError("machine.seat", "the machine's owner lends no seat")
            plain = json.loads(bytes.fromhex(packet.message["setup"]))
            plain["tpm"]["fd"], plain["enrol_fd"] = packet.descriptors
            yield parse_setup(json.dumps(plain).encode())
            wire.send(connection, {"op": "status"})
            _answer(connection)

    def _ask(self, operation: str) -> dict[str, Any]:
        wire.send(self._connection, {"op": operation})
        return _answer(self._connection)


def create(path: Path) -> Folder:
    """Make a machine in the new or empty folder `path` (mode 0700).

    Where another process makes one there at the same time, one of the two is there in the end.
    Raises UsageError where there is something already, MachineError.
    """
    from enclave_sim.manufacture import make_machine

    return make_machine(path)


def start(path: Path, *, keep: bool = False) -> Machine:
    """Return a hold on the machine in the folder `path`, started where it is off.

    An owner started here ends with its last hold, unless `keep`. Raises UsageError where there is
    no machine, MachineError.
    """
    folder = open_folder(path)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        machine = _held(folder, keep=keep)
        if machine is not None:
            return machine
        if time.monotonic() > deadline:
            raise MachineError("machine.owner", f"the owner does not answer; see {folder.log}")
        _start_owner(folder, keep=keep)


def stop(path: Path) -> bool:
    """Stop the machine's owner, whoever uses it; return whether there was one."""
    folder = open_folder(path)
    try:
        with _connected(folder) as connection:
            wire.send(connection, {"op": "stop"})
            _answer(connection)
    except (OSError, MachineError):
        return False
    _wait_for_end(folder)
    return True


def is_running(folder: Folder) -> bool:
    """Say whether the machine has an owner that answers."""
    try:
        with _connected(folder):
            return True
    except OSError:
        return False


def _held(folder: Folder, *, keep: bool) -> Machine | None:
    """Return a hold on a machine whose owner answers; None where there is none, or it is ending."""
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(wire.connect(folder))
            machine = Machine(folder, connection)
            machine.status()
            if keep:
                machine.keep()
        except (OSError, MachineError):
            return None
        stack.pop_all()
        return machine


def _start_owner(folder: Folder, *, keep: bool) -> None:
    """Start an owner and wait until it is ready or another one is. Raises MachineError."""
    packages = str(Path(__file__).absolute().parents[1])
    reader, writer = os.pipe2(os.O_CLOEXEC)
    mode = "keep" if keep else "transient"
    arguments = [packages, str(folder.root), str(writer), mode]
    with os.fdopen(reader, "rb") as answers, folder.log.open("ab") as log:
        with os.fdopen(writer, "wb"):
            subprocess.run(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                check=True,
                cwd="/",
                pass_fds=(writer,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        answer = answers.read()
    if answer == OWNED:
        time.sleep(_PAUSE_SECONDS)
    elif answer != READY:
        reason = answer.decode(errors="replace") or f"see {folder.log}"
        raise MachineError("machine.owner", f"the machine cannot be started: {reason}")


def _wait_for_end(folder: Folder) -> None:
    """Wait until no owner holds the machine. Raises MachineError."""
    deadline = time.monotonic() + _STOP_SECONDS
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"the owner does not end; see {folder.log}"
                    raise MachineError("machine.owner", message) from None
                time.sleep(_PAUSE_SECONDS)
            else:
                return
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _connected(folder: Folder) -> Iterator[socket.socket]:
    with wire.connect(folder) as connection:
        yield connection


def _answer(connection: socket.socket) -> dict[str, Any]:
    packet = wire.receive(connection)
    if packet is None:
        raise MachineError("machine.owner", "the machine's owner hung up")
    if "error" in packet.message:
        error = packet.message["error"]
        raise MachineError(error["code"], error["message"])
    return packet.message


def _launch_message(what: Launching) -> wire.Message:
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "op": "launch",
        "python": str(what.installation.python),
        "packages": str(what.installation.packages),
        "entry": what.entry,
        "arguments": list(what.arguments),
        "environment": {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
        "umask": umask,
    }


@contextlib.contextmanager
def _forwarding(connection: socket.socket) -> Iterator[None]:
    """Pass signals that reach this process on to the attester."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            wire.send(connection, {"op": "signal", "signal": number})

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
