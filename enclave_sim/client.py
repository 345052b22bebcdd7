"""`laminator ... --simulated`: a machine on demand, made and started where it is needed."""

import os
import sys
from pathlib import Path

from enclave_sim.folder import Folder, open_folder
from enclave_sim.machine import Machine, create, is_running, start
from laminator.errors import UsageError
from laminator.report.text import safe

__all__ = ["default_folder", "ensure", "ensure_made"]


def default_folder() -> Path:
    """Return the user's own machine: laminator/machine in the XDG state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "laminator" / "machine"


def ensure(path: Path | None) -> Machine:
    """Return a hold on the machine in `path` (default: the user's), made and started on demand.

    Says in one line on stderr what it made or started. The machine ends with the last hold on it,
    unless somebody had started it to stay. Two at once share one machine; what a crash left is
    cleared away. Raises UsageError where `path` holds something else, MachineError.
    """
    place = default_folder() if path is None else path
    deeds = []
    if not Folder(place.absolute()).is_complete:
        _make(place)
        deeds.append("made")
    if not is_running(Folder(place.resolve())):
        deeds.append("started")
    machine = start(place)
    if deeds:
        _say(" and ".join(deeds), place)
    return machine


def ensure_made(path: Path | None) -> Folder:
    """Return the machine in `path` (default: the user's), made on demand and left off.

    Says so in one line on stderr. Raises as `ensure`.
    """
    place = default_folder() if path is None else path
    if not Folder(place.absolute()).is_complete:
        _make(place)
        _say("made", place)
    return open_folder(place)


def _make(place: Path) -> None:
    try:
        create(place)
    except UsageError:
        if not Folder(place.absolute()).is_complete:  # else another process was faster
            raise


def _say(deeds: str, place: Path) -> None:
    print(f"laminator: {deeds} the simulated machine in {safe(str(place))}", file=sys.stderr)  # noqa: T201
