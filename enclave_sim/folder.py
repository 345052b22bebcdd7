"""A machine's folder: what lies where, and the secrets that its owner keeps there.

machine.json   what the manufacturer wrote down; there when the machine is complete
secrets.json   auths of owner, endorsement, lockout and run counter (mode 0600)
tpm/           swtpm's state
pki/           keys and certificates of the manufacturer and of the AK authority
trust/         for verifiers: anchors in simulated/ and tsa-simulated/, CRLs in crls/
policy.toml    for verifiers: accepts this machine's cards
tsa/           keys and certificates of the time-stamping authority
ak/            certificates of attestation keys, by the key's Name
owner.sock     the owner's socket; owner.lock is locked while it lives; owner.log its words
hidden/        copies of the attester's code, each for the time of one launch
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from laminator.digest import Digest, parse_digest
from laminator.errors import LaminatorError, MachineError, UsageError, shown

FORMAT = 1
_POLICY_HEAD = """\
# Accepts cards of this simulated machine, which prove nothing about hardware.
version = 1
roots = ["simulated"]
coverage = "launch"
data-chosen-by = "provider"
unknown-code = "allow"

[reference]
# Every launch that this machine has made.
"""


class Folder(NamedTuple):
    """The paths inside the machine's folder `root`, which is absolute and has no links."""

    root: Path

    @property
    def trust(self) -> Path:
        """Anchors and CRLs, in the form that ``--trust`` takes."""
        return self.root / "trust"

    @property
    def policy(self) -> Path:
        """The policy that accepts this machine's cards."""
        return self.root / "policy.toml"

    @property
    def pki(self) -> Path:
        """Keys and certificates of the manufacturer and the AK authority."""
        return self.root / "pki"

    @property
    def tpm_state(self) -> Path:
        """The state of swtpm."""
        return self.root / "tpm"

    @property
    def hidden(self) -> Path:
        """Copies of the attester's code, each for the time of one launch."""
        return self.root / "hidden"

    @property
    def log(self) -> Path:
        """What owner and swtpm have to say."""
        return self.root / "owner.log"

    @property
    def lock(self) -> Path:
        """Locked by the owner while it lives."""
        return self.root / "owner.lock"

    @property
    def is_complete(self) -> bool:
        """Whether a machine was made here."""
        return (self.root / "machine.json").is_file()


class Secrets(NamedTuple):
    """Authorisation values that live as long as the machine."""

    owner: bytes
    endorsement: bytes
    lockout: bytes
    counter: bytes


class Manufactured(NamedTuple):
    """What the manufacturer wrote down: the run counter's TPMS_NV_PUBLIC, the machine's serial."""

    counter_public: bytes
    serial: str


def open_folder(path: Path) -> Folder:
    """Return the folder of an existing machine. Raises UsageError, MachineError."""
    folder = Folder(path.resolve())
    if not folder.is_complete:
        where = shown(str(path))
        raise UsageError(
            "machine.missing", f"no machine in {where}; make one: python -m enclave_sim create DIR"
        )
    status = folder.root.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        where = shown(str(path))
        raise MachineError(
            "machine.mode", f"{where} must belong to this user and be closed to others: chmod 700"
        )
    return folder


def write_secrets(folder: Folder, secrets: Secrets) -> None:
    """Keep the secrets, readable by the owner alone."""
    plain = {name: value.hex() for name, value in secrets._asdict().items()}
    _write(folder.root / "secrets.json", json.dumps(plain), mode=0o600)


def read_secrets(folder: Folder) -> Secrets:
    """Return what `write_secrets` kept. Raises MachineError."""
    plain = _read(folder.root / "secrets.json")
    return Secrets(**{name: bytes.fromhex(plain[name]) for name in Secrets._fields})


def write_manufactured(folder: Folder, made: Manufactured) -> None:
    """Write the machine's papers, which completes it."""
    plain = {"format": FORMAT, "counter": made.counter_public.hex(), "serial": made.serial}
    _write(folder.root / "machine.json", json.dumps(plain), mode=0o600)


def read_manufactured(folder: Folder) -> Manufactured:
    """Return what `write_manufactured` wrote. Raises MachineError."""
    plain = _read(folder.root / "machine.json")
    if plain.get("format") != FORMAT:
        raise MachineError("machine.format", "made by another version: create a new machine")
    return Manufactured(bytes.fromhex(plain["counter"]), plain["serial"])


def note_launch(folder: Folder, launch: Digest) -> None:
    """Add a launch digest to the policy's reference values; the caller is the only writer."""
    known = read_launches(folder)
    if launch not in known:
        write_policy(folder, (*known, launch))


def read_launches(folder: Folder) -> tuple[Digest, ...]:
    """Return the launch digests in the policy. Raises MachineError."""
    import tomllib

    try:
        table = tomllib.loads(folder.policy.read_text())
        return tuple(parse_digest(text) for text in table["reference"]["launch"])
    except (OSError, ValueError, KeyError, TypeError, LaminatorError) as error:
        raise MachineError("machine.policy", f"policy.toml cannot be read: {error}") from error


def write_policy(folder: Folder, launches: Iterable[Digest]) -> None:
    """Write the policy that accepts this machine's cards."""
    lines = "".join(f'    "{launch}",\n' for launch in launches)
    _write(folder.policy, f"{_POLICY_HEAD}launch = [\n{lines}]\n", mode=0o644)


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that it is complete or not there."""
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _write(path: Path, text: str, *, mode: int) -> None:
    write_file(path, text.encode(), mode=mode)


def _read(path: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        name = shown(str(path))
        raise MachineError("machine.damaged", f"{name} cannot be read: {error}") from error
    return plain
