"""How a run ends: the word for the ledger, the exit status, the sentence for people."""

import signal
from typing import NamedTuple

from laminator.errors import LaminatorError, UsageError
from laminator.run.signals import InterruptedRunError

FAILURE_STATUS = 125
_SIGNAL_BASE = 128


class Outcome(NamedTuple):
    """`word` is card, one of `laminator.failure.OUTCOMES`, or died; `id` the card's, if any."""

    word: str
    status: int
    message: str = ""
    id: bytes = b""


class WorkloadFailedError(Exception):
    """The workload ended with another status than 0; `status` is 128 + N for a signal N."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ModelFailedError(LaminatorError):
    """A model's process ended before it had answered: the workload of an evaluation failed."""


ENDINGS = (InterruptedRunError, WorkloadFailedError, LaminatorError, OSError)
"""What a run without a card ends with."""


def outcome_of(ending: Exception) -> Outcome:
    """Return the outcome of a run that one of ENDINGS ended."""
    match ending:
        case InterruptedRunError():
            return interrupted(ending.signal)
        case WorkloadFailedError():
            return workload_failed(ending.status)
        case ModelFailedError():
            return Outcome("workload-failed", FAILURE_STATUS, ending.message)
        case UsageError():
            return Outcome("refused", FAILURE_STATUS, ending.message)
        case LaminatorError():
            return failed(ending.message)
        case OSError():
            about = f"{ending.strerror} {ending.filename or ''}".strip()
            return failed(f"the system refused: {about}")
        case _:
            raise ending


def card_written(card_id: bytes) -> Outcome:
    """Return the outcome of a run whose card is written."""
    return Outcome("card", 0, id=card_id)


def workload_failed(status: int) -> Outcome:
    """Return the outcome for a workload that ended with `status` (128 + N for a signal N)."""
    return Outcome("workload-failed", status, f"the workload {ending(status)}; no card is written")


def failed(message: str) -> Outcome:
    """Return the outcome of a failure of ours."""
    return Outcome("failed", FAILURE_STATUS, message)


def interrupted(number: int) -> Outcome:
    """Return the outcome of a run stopped by the signal `number`."""
    message = f"stopped by {_signal_name(number)}; no card is written"
    return Outcome("interrupted", _SIGNAL_BASE + number, message)


def ending(status: int) -> str:
    """Return how a process with this exit status ended, in words."""
    number = status - _SIGNAL_BASE
    if status <= _SIGNAL_BASE or number not in signal.valid_signals():
        return f"ended with exit status {status}"
    text = f"was ended by {_signal_name(number)}"
    if number == signal.SIGKILL:
        text += " (which is how a system out of memory ends a process)"
    return text


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
