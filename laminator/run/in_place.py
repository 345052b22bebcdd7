"""Inputs that are read where they lie: measured once, not copied, and bound read-only.

What the claims say of such an input rests on the attester's one pass before the work. The pass
leaves a file of leaves in the attester's private place, by which `laminator.data` checks every
chunk that it reads. A script that opens the path itself reads unchecked; the card's artifact has a
tree, and a verdict says so. When the work has ended, the attester looks whether the files are those
that it opened and unchanged by their times: that finds accidents, and no host that sets clocks.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from laminator.claims import Artifact
from laminator.errors import MachineError, UsageError, shown
from laminator.measure.files import open_source
from laminator.measure.tree import FileState, encode_leaves, find_states, measure_tree_descriptor
from laminator.run.filesystem import Bind, Filesystem

if TYPE_CHECKING:
    from laminator.run.session import Input

_SEEN = Path("/laminator/leaves")
_MODE, _PASSAGE = 0o444, 0o711


class InPlace(NamedTuple):
    """What is kept of an input that is read in place: its file of leaves, its files' states."""

    leaves: Path
    states: Mapping[str, FileState]


def measure_in_place(path: Path, kind: str, leaves: Path) -> tuple[Artifact, InPlace]:
    """Measure the file or folder at `path` and write its leaves to the new file `leaves`.

    Raises UsageError for what cannot be measured, MachineError.
    """
    descriptor = open_source(path)
    try:
        found = measure_tree_descriptor(descriptor)
    finally:
        os.close(descriptor)
    try:
        with leaves.open("xb") as file:
            file.writelines(encode_leaves(found.files))
        leaves.chmod(_MODE)
        leaves.parent.chmod(_PASSAGE)
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        message = f"cannot keep the leaves of {shown(str(path))}: {reason}"
        raise MachineError("disk.write", message) from error
    measured = found.measured
    artifact = Artifact(kind, measured.digest, measured.size, measured.files, found.tree)
    return artifact, InPlace(leaves, found.states)


def check_unchanged(inputs: Mapping[str, "Input"]) -> None:
    """Raise UsageError where an input that was read in place is not as it was when measured."""
    for name, item in inputs.items():
        if item.in_place is None:
            continue
        descriptor = open_source(item.given)
        try:
            found = find_states(descriptor)
        finally:
            os.close(descriptor)
        changed = sorted(dict(found.items() ^ item.in_place.states.items()))
        if changed:
            where = shown(str(item.given / changed[0]))
            message = f"the input {name} was changed while the work read it: {where}"
            raise UsageError("input.changed", f"{message}; leave it alone and run again")


def leaf_files(inputs: Mapping[str, "Input"]) -> Filesystem:
    """Show the leaves of the inputs that are read in place, in namespaces."""
    kept = [item.in_place.leaves for item in inputs.values() if item.in_place is not None]
    return Filesystem(read_only=tuple(Bind(leaves, _SEEN / leaves.name) for leaves in kept))


def leaf_names(inputs: Mapping[str, "Input"], *, bound: bool) -> dict[str, tuple[str, str]]:
    """Return where the workload finds the leaves of each such input, and their tree."""
    return {
        name: (str(_SEEN / kept.leaves.name if bound else kept.leaves), str(item.artifact.tree))
        for name, item in inputs.items()
        if (kept := item.in_place) is not None
    }
