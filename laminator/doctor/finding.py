"""What a look at the machine says: findings, and the next command that they lead to."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

State = Literal["present", "missing", "warning"]
Way = Literal["tpm", "simulated"]

PRESENT: State = "present"
MISSING: State = "missing"
WARNING: State = "warning"
WAYS: tuple[Way, ...] = ("tpm", "simulated")


class Finding(NamedTuple):
    """One thing that was looked for.

    `advice` says what to do, a command wherever there is one. `blocks` names the ways of making
    a card (on the TPM, on a simulated machine) that are shut until then.
    """

    area: str
    name: str
    state: State
    detail: str
    advice: str = ""
    blocks: tuple[Way, ...] = ()


class Diagnosis(NamedTuple):
    """All findings, which ways are open, and the next command."""

    findings: tuple[Finding, ...]
    ready: tuple[Way, ...]
    following: str


class Host(NamedTuple):
    """Where the machine's files are looked for: `root` is / but in tests."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Return where ``/name`` lies."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        return self.path(name).exists()

    def may_use(self, name: str) -> bool:
        """Say whether this user may read and write it."""
        return os.access(self.path(name), os.R_OK | os.W_OK)

    def text(self, name: str) -> str | None:
        """Return the text of a small file, None where it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None


RUN_COMMANDS = {
    "tpm": "laminator run -- python train.py",
    "simulated": "laminator run --simulated -- python train.py",
}


def diagnose(findings: Sequence[Finding], run_on_tpm: str = RUN_COMMANDS["tpm"]) -> Diagnosis:
    """Return what the findings lead to; `run_on_tpm` is the command of a machine that is ready.

    A machine with a TPM is led to use it, any other one to the simulation.
    """
    blockers = {way: [item for item in findings if way in item.blocks] for way in WAYS}
    ready = tuple(way for way in WAYS if not blockers[way])
    has_tpm = any(item.name == "device" and item.state != MISSING for item in findings)
    if "tpm" in ready:
        following = run_on_tpm
    elif has_tpm:
        following = blockers["tpm"][0].advice
    elif "simulated" in ready:
        following = RUN_COMMANDS["simulated"]
    else:
        following = blockers["simulated"][0].advice
    return Diagnosis(tuple(findings), ready, following)
