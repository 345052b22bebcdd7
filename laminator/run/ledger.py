"""The user's own list of runs: JSON lines, one when a number is spent and one when a run ends.

    {"event": "started", "ticket": …, "run": HEX, "number": N, "time": RFC 3339, "card": PATH}
    {"event": "ended", "ticket": …, "run": HEX, "number": N, "time": …, "outcome": WORD,
     "status": N, "id": HEX | null}

It helps its owner to account for spent numbers; nobody else believes it. The last `ended` line
of a run counts. Lines that are not readable are skipped.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from laminator.errors import MachineError
from laminator.run.outcome import Outcome

_MAX_LINE = 64 * 1024


class Entry(NamedTuple):
    """One line; `outcome`, `status` and `id` belong to the end of a run."""

    event: str
    ticket: str
    run: str
    number: int
    card: str
    outcome: str = ""
    status: int = 0
    id: str = ""


def default_path() -> Path:
    """Return the ledger's place: runs.jsonl under the user's state folder (XDG)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "laminator" / "runs.jsonl"


class RunRecord:
    """One run's lines: opened before the number is spent, so that a spent number is logged."""

    def __init__(self, path: str | None, *, ticket: str, card: str) -> None:
        """Open the ledger at `path`, made where it is missing. Raises MachineError."""
        self._descriptor = None if path is None else _open(Path(path))
        self._entry = Entry("started", ticket, "", 0, card)

    @property
    def number(self) -> int:
        """The number that this run spent, 0 before it is."""
        return self._entry.number

    def started(self, run: bytes, number: int) -> None:
        """Log that `number` is spent for the run id `run`. Raises MachineError."""
        self._entry = self._entry._replace(run=run.hex(), number=number)
        self._append(self._entry)

    def ended(self, outcome: Outcome) -> None:
        """Log how the run ended, if it had started. Raises MachineError."""
        if self.number:
            self._append(_ended(self._entry, outcome))

    def close(self) -> None:
        """Close the ledger."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, entry: Entry) -> None:
        if self._descriptor is not None:
            append(self._descriptor, entry)


def complete(path: Path, ticket: str, outcome: Outcome) -> Entry | None:
    """Return the last line of the run that carries `ticket`, after its attester has ended.

    Where the attester died without a word, the end is logged as `outcome` first. None where no
    number was spent. Raises MachineError.
    """
    found = entries(path, ticket)
    if not found or found[-1].event == "ended":
        return found[-1] if found else None
    last = _ended(found[-1], outcome)
    descriptor = _open(path)
    try:
        append(descriptor, last)
    finally:
        os.close(descriptor)
    return last


def _ended(entry: Entry, outcome: Outcome) -> Entry:
    word, status, _, card_id = outcome
    return entry._replace(event="ended", outcome=word, status=status, id=card_id.hex())


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot write the ledger of runs {path}: {error.strerror}; set XDG_STATE_HOME"
        raise MachineError("ledger.open", message) from error


def append(descriptor: int, entry: Entry) -> None:
    """Append one line, in one write. Raises MachineError."""
    now = datetime.now(tz=UTC).isoformat(timespec="seconds")
    line = json.dumps({**entry._asdict(), "time": now}) + "\n"
    try:
        os.write(descriptor, line.encode())
    except OSError as error:
        message = f"cannot write the ledger of runs: {error.strerror}"
        raise MachineError("ledger.write", message) from error


def entries(path: Path, ticket: str) -> tuple[Entry, ...]:
    """Return the lines of the run that carries `ticket`, in order."""
    return tuple(entry for entry in _lines(path) if entry.ticket == ticket)


def _lines(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(_MAX_LINE):
            try:
                plain = json.loads(line)
                yield Entry(**{name: plain[name] for name in Entry._fields})
            except (ValueError, KeyError, TypeError):
                continue
