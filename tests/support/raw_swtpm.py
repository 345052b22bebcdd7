"""A software TPM on Unix sockets, with a new state and nobody between it and the test."""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_START_SECONDS = 10


class RawSwtpm(NamedTuple):
    """A running swtpm; its command socket serves one connection at a time."""

    socket_path: Path

    @property
    def tcti(self) -> str:
        """The TCTI string for tpm2-pytss and tpm2-tools."""
        return f"swtpm:path={self.socket_path}"

    def connect(self) -> int:
        """Return a descriptor connected to the command socket; the caller owns it."""
        return _connected(self.socket_path).detach()


@contextlib.contextmanager
def running_swtpm(*, manufactured: bool = False) -> Iterator[RawSwtpm]:
    """Start swtpm in a folder of its own and stop it afterwards.

    `manufactured` has swtpm_setup write EK certificates of its local authority into NV first.
    """
    with tempfile.TemporaryDirectory(prefix="swtpm-", dir="/tmp") as folder:
        state = Path(folder, "state")
        state.mkdir()
        if manufactured:
            _manufacture(Path(folder), state)
        path = Path(folder, "s")
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"]
        command += ["--server", f"type=unixio,path={path}"]
        command += ["--ctrl", f"type=unixio,path={path}.ctrl"]
        command += ["--flags", "not-need-init,startup-clear"]
        process = subprocess.Popen(command)
        try:
            _wait_for(path, process)
            yield RawSwtpm(path)
        finally:
            process.terminate()
            process.wait()


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def _listens(path: Path) -> bool:
    try:
        _connected(path).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until both sockets listen: a socket's path is there a moment before."""
    deadline = time.monotonic() + _START_SECONDS
    while not (_listens(path) and _listens(Path(f"{path}.ctrl"))):
        if process.poll() is not None or time.monotonic() > deadline:
            message = f"swtpm did not start: exit status {process.returncode}"
            raise RuntimeError(message)
        time.sleep(0.005)


def _manufacture(folder: Path, state: Path) -> None:
    """Run swtpm_setup with a local authority that lives in `folder`."""
    authority = folder / "ca"
    authority.mkdir()
    (folder / "localca.conf").write_text(
        f"statedir = {authority}\n"
        f"signingkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\n"
        f"certserial = {authority}/certserial\n"
    )
    (folder / "localca.options").write_text(
        "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n"
    )
    (folder / "setup.conf").write_text(
        "create_certs_tool = swtpm_localca\n"
        f"create_certs_tool_config = {folder}/localca.conf\n"
        f"create_certs_tool_options = {folder}/localca.options\n"
    )
    command = ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert"]
    command += ["--config", str(folder / "setup.conf"), "--overwrite"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
