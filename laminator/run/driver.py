"""The caller's side of a run: finds an attester, hands it the request, says how it ended.

An attester is a simulated machine, or this machine's own TPM. `auto` never means a simulation.
"""

import sys
from pathlib import Path

from laminator.errors import MachineError, UsageError, shown
from laminator.report.text import safe_message
from laminator.run.back_end import Attester, Verification
from laminator.run.disclosure import PRIVATE_SUFFIX
from laminator.run.outcome import FAILURE_STATUS, Outcome, ending
from laminator.run.request import RunRequest, encode_request
from laminator.run.run_list import Entry, complete

__all__ = ["FAILURE_STATUS", "drive"]

_TPM_DEVICE = "/dev/tpmrm0"


def drive(request: RunRequest, *, attester: str = "auto", simulated: str | None = None) -> int:
    """Run `request` and say how it ended; return the exit status for the command line.

    `simulated` is a machine's folder, empty for the user's own, None for no simulation.
    Raises UsageError, MachineError where no attester can be started.
    """
    chosen = _simulated(simulated) if simulated is not None else _tpm(attester, request.label)
    try:
        ended = chosen.run(encode_request(request))
    except MachineError as error:
        raise _with_number(request, error) from error
    return _conclude(request, *ended)


def verify_command(request: RunRequest, verification: Verification) -> str:
    """Return the command that verifies the request's card."""
    import shlex

    words = ["laminator", "verify", _short(request.card)]
    if verification.trust is not None:
        words += ["--trust", verification.trust]
    if verification.policy is not None:
        words += ["--policy", verification.policy]
    if request.nonce is not None:
        words += ["--nonce", request.nonce.hex()]
    for path in dict.fromkeys(request.cards.values()):
        words += ["--lineage", _short(path)]
    return _one_line(shlex.join(words))


def _conclude(request: RunRequest, status: int, verification: Verification) -> int:
    entry = _last_entry(request, status)
    if entry is None:
        return status
    if entry.outcome == "card" and status == 0:
        _say(f"run number {entry.number}: wrote {_one_line(_short(request.card))}")
        if not request.environment_public:
            private = _one_line(_short(request.card) + PRIVATE_SUFFIX)
            _say(f"its salts and values are in {private}; keep them")
        _say(f"verify it with:\n  {verify_command(request, verification)}")
        return 0
    if entry.outcome == "died":
        _say(
            f"the attester {ending(status)}; run number {entry.number} is spent, no card is written"
        )
    return status or FAILURE_STATUS


def _with_number(request: RunRequest, error: MachineError) -> MachineError:
    """Log the end of a run whose machine failed, and name the number that it spent."""
    entry = _last_entry(request, FAILURE_STATUS)
    if entry is None:
        return error
    card = "its card is written" if entry.outcome == "card" else "no card is written"
    message = f"{error.message}; run number {entry.number} is spent, {card}"
    return MachineError(error.code, message)


def _last_entry(request: RunRequest, status: int) -> Entry | None:
    if request.ledger is None:
        return None
    return complete(Path(request.ledger), request.ticket, Outcome("died", status))


def _simulated(folder: str) -> Attester:
    from laminator.run.simulated import SimulatedMachine

    return SimulatedMachine(folder)


def _tpm(attester: str, label: str | None) -> Attester:
    from laminator.run.local_tpm import LocalTpm

    if attester == "auto":
        if not Path(_TPM_DEVICE).exists():
            message = (
                f"this machine has no TPM at {_TPM_DEVICE}; to try Laminator on a simulated one, "
                "write --simulated"
            )
            raise MachineError("attester.none", message)
        return LocalTpm(f"device:{_TPM_DEVICE}", label)
    kind, colon, tcti = attester.partition(":")
    if kind != "tpm" or not colon or not tcti:
        message = f"--attester {shown(attester)}: expected auto or tpm:TCTI, or use --simulated"
        raise UsageError("attester.kind", message)
    return LocalTpm(tcti, label)


def _short(path: str) -> str:
    """Return `path` relative to where the caller is, where that is shorter and below."""
    target = Path(path)
    here = Path.cwd()
    return str(target.relative_to(here)) if target.is_relative_to(here) else path


def _one_line(path: str) -> str:
    """Return what is quoted from outside without line feeds: it writes no line of ours."""
    return path.replace("\n", r"\x0a")


def _say(text: str) -> None:
    sys.stderr.write(f"laminator: {safe_message(text)}\n")
