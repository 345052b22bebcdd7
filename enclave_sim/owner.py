"""A machine's owner: the process that holds the TPM, launches attesters and enrols their keys.

It answers on a socket in the machine's folder (`enclave_sim.wire`), one thread a connection:

    {"op": "status"}                 -> {"pid", "transient", "busy", "users"}
    {"op": "launch", …} + 4 fds      -> {"waiting": true}?, {"started": …}, {"ended": STATUS}
        {"op": "signal", "signal": N} meanwhile; hanging up ends the attester
    {"op": "seat"}                   -> {"setup": HEX} + 2 fds: the channels of an attester that
                                        nobody measured, until the connection ends
    {"op": "reset" | "power-cycle" | "keep" | "stop"} -> {"done": true}

Any answer may be {"error": {"code", "message"}}. One attester runs at a time; others wait. A
transient owner ends with its last connection.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from enclave_sim import wire
from enclave_sim.folder import Folder, open_folder, read_secrets
from enclave_sim.launch import (
    UNMEASURED,
    Attester,
    LaunchRequest,
    close_launch,
    launched,
    taken_seat,
)
from enclave_sim.power import act_as_firmware, power_on
from enclave_sim.swtpm import Swtpm
from laminator.claims import Launch
from laminator.errors import LaminatorError, MachineError, MalformedError, UsageError
from laminator.measure.attester_code import Installation
from laminator.run.private_copy import remove
from laminator.run.setup import encode_setup

_LAUNCH_DESCRIPTORS = 4
_GRACE_SECONDS = 5.0
_TURN_SECONDS = 0.05


class Owner:
    """The owner's state: the TPM, who uses the machine, whether it is to end."""

    def __init__(self, folder: Folder, tpm: Swtpm, *, transient: bool) -> None:
        self._folder = folder
        self._tpm = tpm
        self._secrets = read_secrets(folder)
        self._transient = transient
        self._seat = threading.Lock()
        self._count = threading.Lock()
        self._connections = 0
        self._ending = os.eventfd(0, os.EFD_CLOEXEC)

    def end(self) -> None:
        """Let everything end; may be called from a signal handler."""
        os.eventfd_write(self._ending, 1)

    def serve(self, listener: socket.socket) -> None:
        """Answer connections until the end, then turn the TPM off."""
        threads: list[threading.Thread] = []
        while self._has_news(listener):
            connection, _ = listener.accept()
            with self._count:
                self._connections += 1
            thread = threading.Thread(target=self._converse, args=(connection,))
            thread.start()
            threads = [*(old for old in threads if old.is_alive()), thread]
        listener.close()
        for thread in threads:
            thread.join()
        try:
            self._tpm.power_off()
        except MachineError as error:
            sys.stderr.write(f"{error.message}\n")  # the owner's log

    def _has_news(self, channel: socket.socket) -> bool:
        """Wait until something comes through `channel` (true) or the owner is to end (false)."""
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            selector.register(self._ending, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select()}
        return self._ending not in ready

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            try:
                while self._has_news(connection) and (packet := wire.receive(connection)):
                    try:
                        wire.send(connection, self._answer(connection, packet))
                    except LaminatorError as error:
                        wire.send(connection, wire.error_message(error))
                    finally:
                        for descriptor in packet.descriptors:
                            os.close(descriptor)
            except (OSError, MalformedError):
                pass  # the client is gone, or never spoke this language
        with self._count:
            self._connections -= 1
            if self._transient and self._connections == 0:
                self.end()

    def _answer(self, connection: socket.socket, packet: wire.Packet) -> wire.Message:
        match packet.message.get("op"):
            case "status":
                busy = self._seat.locked()
                users = self._connections
                return {
                    "pid": os.getpid(),
                    "transient": self._transient,
                    "busy": busy,
                    "users": users,
                }
            case "launch":
                return self._launch(connection, packet)
            case "seat":
                return self._lend_seat(connection)
            case "reset":
                return self._restart(self._reset)
            case "power-cycle":
                return self._restart(self._power_cycle)
            case "keep":
                self._transient = False
            case "stop":
                self.end()
            case _:
                raise UsageError("machine.op", "the machine's owner knows no such request")
        return {"done": True}

    def _launch(self, connection: socket.socket, packet: wire.Packet) -> wire.Message:
        request = _launch_request(packet)
        with (
            self._only_seat(connection),
            launched(request, self._folder, self._tpm, self._secrets) as attester,
        ):
            wire.send(connection, {"started": _described(attester.launch)})
            status = self._attend(connection, attester)
        return {"ended": status}

    def _attend(self, connection: socket.socket, attester: Attester) -> int:
        """Pass signals on until the attester ends; end it if the client hangs up."""
        pidfd = os.pidfd_open(attester.process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                for each in (pidfd, connection, self._ending):
                    selector.register(each, selectors.EVENT_READ)
                while True:
                    ready = {key.fileobj for key, _ in selector.select()}
                    if pidfd in ready:
                        return attester.wait()
                    number = _signal(connection) if connection in ready else None
                    if number is None:
                        return _ended(attester)
                    attester.send_signal(number)
        finally:
            os.close(pidfd)

    def _lend_seat(self, connection: socket.socket) -> wire.Message:
        launch = Launch(UNMEASURED, None)
        with (
            self._only_seat(connection),
            taken_seat(launch, self._folder, self._tpm, self._secrets) as seat,
        ):
            close_launch(self._tpm)
            ends = (seat.relay.fileno(), seat.enrol.fileno())
            wire.send(connection, {"setup": encode_setup(seat.setup).hex()}, ends)
            seat.relay.close()
            seat.enrol.close()
            if self._has_news(connection):
                wire.receive(connection)
        return {"done": True}

    def _restart(self, restart: Callable[[], None]) -> wire.Message:
        if not self._seat.acquire(blocking=False):
            raise MachineError("machine.busy", "an attester runs; wait for its end")
        try:
            restart()
        finally:
            self._seat.release()
        return {"done": True}

    def _reset(self) -> None:
        self._tpm.reset()
        act_as_firmware(self._tpm)

    def _power_cycle(self) -> None:
        self._tpm.power_off()
        self._tpm = power_on(self._folder)

    @contextlib.contextmanager
    def _only_seat(self, connection: socket.socket) -> Iterator[None]:
        """Wait for the seat, as long as the client does. Raises MachineError."""
        if not self._seat.acquire(blocking=False):
            wire.send(connection, {"waiting": True})
            while not self._seat.acquire(timeout=_TURN_SECONDS):
                if _is_over(connection) or _is_set(self._ending):
                    raise MachineError("machine.ended", "the machine is being stopped")
        try:
            self._revive()
            yield
        finally:
            self._seat.release()

    def _revive(self) -> None:
        """Turn a TPM on again whose process somebody ended: for it, power was cut."""
        if self._tpm.has_ended:
            self._tpm.cut_power()
            self._tpm = power_on(self._folder)


def main(folder: Folder, *, transient: bool, ready: int) -> int:
    """Own the machine until it is stopped; says READY or OWNED to descriptor `ready`."""
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(ready, wire.OWNED)
        return 0
    for left in folder.hidden.iterdir():
        remove(left)
    owner = Owner(folder, power_on(folder), transient=transient)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: owner.end())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = wire.listen(folder)
    os.write(ready, wire.READY)
    os.close(ready)
    owner.serve(listener)
    (folder.root / wire.SOCKET_NAME).unlink(missing_ok=True)
    return 0


def _launch_request(packet: wire.Packet) -> LaunchRequest:
    message = packet.message
    if len(packet.descriptors) != _LAUNCH_DESCRIPTORS:
        raise MalformedError("machine.launch", "a launch comes with four descriptors")
    request_fd, *stdio = packet.descriptors
    try:
        return LaunchRequest(
            installation=Installation(Path(message["python"]), Path(message["packages"])),
            entry=message["entry"],
            arguments=tuple(message["arguments"]),
            environment=message["environment"],
            umask=int(message["umask"]),
            request_fd=request_fd,
            stdio=(stdio[0], stdio[1], stdio[2]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError("machine.launch", "a launch request is incomplete") from error


def _described(launch: Launch) -> wire.Message:
    return {"type": launch.type, "digest": None if launch.digest is None else str(launch.digest)}


def _signal(connection: socket.socket) -> int | None:
    """Return the signal that the client passes on; None where it has hung up."""
    packet = wire.receive(connection)
    if packet is None or packet.message.get("op") != "signal":
        return None
    number = packet.message.get("signal")
    return number if isinstance(number, int) and number in signal.valid_signals() else None


def _ended(attester: Attester) -> int:
    """Ask the attester to end, and end it where it does not."""
    attester.send_signal(signal.SIGTERM)
    try:
        return attester.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        attester.kill()
        return attester.wait()


def _is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _is_set(event: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(event, selectors.EVENT_READ)
        return bool(selector.select(0))


def run(arguments: list[str]) -> int:
    """Run with the arguments FOLDER READY_FD keep|transient, started by `enclave_sim.machine`."""
    folder, ready, mode = arguments
    try:
        return main(open_folder(Path(folder)), transient=mode == "transient", ready=int(ready))
    except LaminatorError as error:
        os.write(int(ready), error.message.encode())
        return 1
