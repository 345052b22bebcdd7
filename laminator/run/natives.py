"""Native code of a workload: measured copies are executable, and nothing else is.

`load` finds a file's closure in the workload's own root, copies and hashes each file in one pass,
logs it, and only then has the mount agent put the copy over the file. A file that was not loaded
lies on a noexec mount: the kernel maps and executes nothing of it. What anonymous memory holds is
not a file, and not covered. Decision record: docs/adr/0009-native-libraries.md.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from laminator.errors import MachineError, UsageError, shown
from laminator.eventlog import Record
from laminator.measure.files import Write, hash_descriptor
from laminator.measure.native_closure import Closure, Native
from laminator.run.mount_agent import bind, start_agent

MAX_BYTES = 16 << 30
"""All copies of one run together."""

_MODE = 0o555
_SETUP_SECONDS = 10.0
_PAUSE_SECONDS = 0.001


class Natives:
    """The native code of one running workload.

    `folder` is a private place of the attester's that the workload's root shows at
    `mount_agent.COPIES`; `log` takes each record before its file becomes executable, `name` gives
    files their names there, `sites` are the folders of installed packages.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[Record], None],
        name: Callable[[str], str],
        sites: Sequence[str] = (),
    ) -> None:
        self._folder, self._log, self._name = folder, log, name
        self._sites = tuple(sites)
        self._agent: socket.socket | None = None
        self._root = self._pid = -1
        self._copies: set[tuple[int, int]] = set()
        self._records: set[Record] = set()
        self._bytes = self._count = 0

    def enforce(self, first: int) -> None:
        """Make everything noexec in the namespaces of process `first`. Raises MachineError.

        Nothing of the workload's may have been executed before.
        """
        deadline = time.monotonic() + _SETUP_SECONDS
        try:
            while self._agent is None:
                try:
                    self._agent, self._root, self._pid = start_agent(first)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_PAUSE_SECONDS)
        except OSError as error:
            reason = (error.strerror or "refused").lower()
            message = f"cannot forbid execution: {reason} (Linux 5.12 or later is needed)"
            raise MachineError("natives.enforce", message) from error

    def load(self, path: str) -> None:
        """Measure, log and make executable the file at `path` and all that it brings in.

        Does nothing where that is so already. Raises UsageError for a path that is not there or
        too much in all, MalformedError where it is no ELF file, MachineError.
        """
        self.load_all([path])

    def load_all(self, paths: Iterable[str]) -> None:
        """Do what `load` does for several files, in one pass over all cores."""
        closure = Closure(self._root, self._sites)
        try:
            for path in paths:
                closure.add(path)
            self._take([one for one in closure.files if not self._is_copy(one)])
        finally:
            closure.close()

    def close(self) -> None:
        """End the agent; the workload has ended before."""
        if self._agent is not None:
            self._agent.close()
            os.close(self._root)
            os.waitpid(self._pid, 0)
            self._agent = None

    def _is_copy(self, native: Native) -> bool:
        status = os.fstat(native.descriptor)
        return (status.st_dev, status.st_ino) in self._copies

    def _take(self, files: list[Native]) -> None:
        self._bytes += sum(os.fstat(one.descriptor).st_size for one in files)
        if self._bytes > MAX_BYTES:
            raise UsageError("native.size", f"more than {MAX_BYTES} bytes of native code")
        names = [str(number) for number in range(self._count, self._count + len(files))]
        self._count += len(files)
        largest = sorted(
            zip(files, names, strict=True), key=lambda item: -os.fstat(item[0].descriptor).st_size
        )
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            digests = dict(pool.map(self._copy, largest))
        for native, name in zip(files, names, strict=True):
            record = Record("native", self._name(native.path), digests[name])
            if record not in self._records:
                self._records.add(record)
                self._log(record)
            self._bind(native, name)

    def _copy(self, item: tuple[Native, str]) -> tuple[str, bytes]:
        native, name = item
        limit = os.fstat(native.descriptor).st_size
        with self._created(name, limit) as write:
            _, digest = hash_descriptor(native.descriptor, write)
        return name, digest

    @contextmanager
    def _created(self, name: str, limit: int) -> Iterator[Write]:
        """Open a new copy; more than `limit` bytes are refused: the file grew while it was read."""
        path = self._folder / name
        left = limit
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise _failure(error) from error

        def write(chunk: memoryview) -> None:
            nonlocal left
            left -= len(chunk)
            if left < 0:
                raise UsageError("native.changed", "a native file grew while it was measured")
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]

        try:
            yield write
            status = os.fstat(descriptor)
            self._copies.add((status.st_dev, status.st_ino))
        except OSError as error:
            raise _failure(error) from error
        finally:
            os.close(descriptor)

    def _bind(self, native: Native, name: str) -> None:
        if self._agent is None:
            return
        try:
            bind(self._agent, name, native.descriptor)
        except OSError as error:
            reason = (error.strerror or "refused").lower()
            message = f"cannot put the measured copy over {shown(native.path)}: {reason}"
            raise MachineError("natives.bind", message) from error


def _failure(error: OSError) -> MachineError:
    reason = (error.strerror or "failed").lower()
    return MachineError("natives.copy", f"cannot copy native code: {reason}; make room, run again")
