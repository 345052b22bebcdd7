"""The runs of the user's own list, each with what is left of it: a card, a failure record, nothing.

The list only says where to look. What counts is what lies there: a card or record of that very run.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from laminator.card import MAX_CARD, parse_card
from laminator.digest import sha256
from laminator.errors import MalformedError
from laminator.failure import MAX_FAILURE, OUTCOMES, parse_failure
from laminator.run.run_list import Entry, all_entries, lives

State = Literal["card", "failed", "aborted", "running"]
MAX_SPAN = 100_000
"""Numbers further than this behind a machine's first one are not looked for."""


class LoggedRun(NamedTuple):
    """One run: its last line, and the bytes of its card or failure record where they are there.

    `key` is the digest of its attestation key in hex, empty where nothing says it.
    """

    entry: Entry
    state: State
    key: str
    evidence: bytes | None

    @property
    def number(self) -> int:
        """The run's number."""
        return self.entry.number

    @property
    def lack(self) -> str:
        """Why there is neither card nor failure record, empty where there is one."""
        entry = self.entry
        if self.evidence is not None:
            return ""
        if self.state == "running":
            return "the run has not ended yet"
        if self.state == "aborted":
            return "its attester ended without a word"
        if self.state == "card":
            return f"its card is not at {entry.card} any more"
        if entry.failure:
            return f"its failure record is not at {entry.failure} any more"
        return "it ended without a failure record"


class MachineRuns(NamedTuple):
    """The runs of one attestation key by number, and the numbers between that are not listed."""

    key: str
    runs: tuple[LoggedRun, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers between the first and the last that this list does not have."""
        there = {run.number for run in self.runs}
        return tuple(n for n in _between(there) if n not in there)


def machines(path: Path) -> tuple[MachineRuns, ...]:
    """Return the runs of the list at `path` by attestation key. Raises MachineError."""
    groups: dict[str, list[LoggedRun]] = {}
    for entry in _last_entries(path):
        run = _logged(path, entry)
        groups.setdefault(run.key, []).append(run)
    return tuple(
        MachineRuns(key, tuple(sorted(groups[key], key=lambda run: run.number)))
        for key in sorted(groups)
    )


def _last_entries(path: Path) -> Iterable[Entry]:
    """Return the last line of each run; numbers of 0 were never spent."""
    last: dict[str, Entry] = {}
    for entry in all_entries(path):
        if entry.number:
            last[entry.run] = entry
    return last.values()


def _logged(path: Path, entry: Entry) -> LoggedRun:
    found = next(_evidence(entry), None)
    if found is not None:
        state, content, key = found
        return LoggedRun(entry, state, key, content)
    return LoggedRun(entry, _state(path, entry), entry.key, None)


def _state(path: Path, entry: Entry) -> State:
    if entry.event != "ended":
        return "running" if lives(path, entry.run) else "aborted"
    if entry.outcome == "card":
        return "card"
    return "failed" if entry.outcome in OUTCOMES else "aborted"


def _evidence(entry: Entry) -> Iterator[tuple[State, bytes, str]]:
    """Yield the run's card and failure record, as far as they are where the line says."""
    content = _read(entry.card, MAX_CARD)
    if content is not None:
        try:
            card = parse_card(content)
        except MalformedError:
            card = None
        if card is not None and card.claims.run.id.hex() == entry.run:
            yield "card", content, card.claims.evidence[0].key.hex()
    content = _read(entry.failure, MAX_FAILURE) if entry.failure else None
    if content is not None and sha256(content).value.hex() == entry.failure_digest:
        try:
            key = parse_failure(content).claims.evidence.key
        except MalformedError:
            return
        yield "failed", content, key.hex()


def _read(path: str, limit: int) -> bytes | None:
    """Return a file's bytes; None for one that is not there, is no file or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        try:
            return file.read(limit)
        except OSError:
            return None


def _between(numbers: set[int]) -> range:
    first, last = min(numbers), max(numbers)
    return range(first, min(last, first + MAX_SPAN) + 1)
