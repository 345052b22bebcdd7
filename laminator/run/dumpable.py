"""Whether other processes of this user may read this one's memory (prctl(2), PR_SET_DUMPABLE)."""

import ctypes

from laminator.errors import MachineError

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


def make_undumpable() -> None:
    """Forbid other processes of this user to read this one's memory (prctl PR_SET_DUMPABLE).

    Raises MachineError.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise MachineError("sandbox.dumpable", "prctl(PR_SET_DUMPABLE, 0) is refused")


def is_dumpable() -> bool:
    """Say whether this process is dumpable (prctl PR_GET_DUMPABLE)."""
    return bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
