"""The machine's own TPM as attester: a child process without a measured launch.

Its attestation key must have been enrolled before: certificates (PEM or DER) lie in
$XDG_DATA_HOME/laminator/ak/, those of a labelled key below in labels/LABEL/, and ak/counter.auth
holds the run counter's secret in hex, if it has one.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from laminator.attest.tpm import HierarchyAuths
from laminator.claims import Launch
from laminator.enroll.places import ak_folder, certificate_folder
from laminator.errors import MachineError, MalformedError, shown
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX
from laminator.run.attester import REQUEST_VARIABLE, SETUP_VARIABLE
from laminator.run.back_end import Ended, Verification
from laminator.run.setup import Setup, encode_setup

_MAX_CERTIFICATE_BYTES = 64 * 1024


class LocalTpm:
    """The attester that reaches a TPM through `tcti`, a TCTI string of tpm2-tss."""

    def __init__(self, tcti: str, label: str | None = None) -> None:
        self._tcti = tcti
        self._label = label

    def run(self, request: bytes) -> Ended:
        """Run the attester's process to its end. Raises MachineError where it is not enrolled."""
        folder = ak_folder()
        setup = Setup(
            tpm=self._tcti,
            auths=HierarchyAuths(counter=_counter_secret(folder)),
            counter_index=RUN_COUNTER_INDEX,
            launch=Launch("none"),
            enrol_fd=None,
            certificates=load_certificates(certificate_folder(self._label)),
            simulated=False,
        )
        return Ended(_run_attester(encode_setup(setup), request), Verification())


def load_certificates(folder: Path) -> tuple[bytes, ...]:
    """Return all certificates in `folder` as DER. Raises MachineError where there is none."""
    from laminator.enroll.certificate_files import split_pem

    found: list[bytes] = []
    for path in sorted(folder.glob("*.pem")) + sorted(folder.glob("*.crt")):
        try:
            found += split_pem(path.read_bytes()[:_MAX_CERTIFICATE_BYTES])
        except MalformedError as error:
            message = f"{shown(str(path))} holds no PEM certificate"
            raise MalformedError("ak.certificate", message) from error
    found += [path.read_bytes()[:_MAX_CERTIFICATE_BYTES] for path in sorted(folder.glob("*.der"))]
    if not found:
        message = (
            f"this TPM's attestation key is not enrolled: no certificate in {folder}; enrol it: "
            "laminator enroll request; to try Laminator without one, write --simulated"
        )
        raise MachineError("ak.enrolment", message)
    return tuple(found)


def _counter_secret(folder: Path) -> bytes:
    path = folder / "counter.auth"
    if not path.exists():
        return b""
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError as error:
        raise MalformedError("ak.counter", f"{shown(str(path))} is no hex") from error


def _run_attester(setup: bytes, request: bytes) -> int:
    descriptors = [_readable(content) for content in (setup, request)]
    environment = os.environ | {
        name: str(descriptor)
        for name, descriptor in zip((SETUP_VARIABLE, REQUEST_VARIABLE), descriptors, strict=True)
    }
    command = [sys.executable, "-I", "-m", "laminator.run.entry", "attester"]
    try:
        child = subprocess.Popen(command, env=environment, pass_fds=descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return _wait(child)


def _readable(content: bytes) -> int:
    descriptor = os.memfd_create("laminator-setup", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the attester; SIGINT reaches it from the terminal, SIGTERM is passed on."""

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
    }
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status
