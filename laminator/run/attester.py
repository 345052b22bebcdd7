"""The attester's process: reads what it is told, makes the run, says how it ended.

LAMINATOR_SETUP_FD has the owner's setup, LAMINATOR_REQUEST_FD the caller's request; both are read
to their ends after this process has been made non-dumpable. The exit status is the workload's
own, 125 for a failure of ours, 128 + N for a signal.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import cast

from laminator.errors import LaminatorError, MalformedError
from laminator.report.text import safe_message
from laminator.run import request as request_format
from laminator.run import setup as setup_format
from laminator.run.entry import SIGNALS
from laminator.run.ledger import RunRecord
from laminator.run.outcome import (
    FAILURE_STATUS,
    InterruptedRunError,
    Outcome,
    failed,
    interrupted,
)
from laminator.run.request import RunRequest, parse_request
from laminator.run.sandbox import make_undumpable
from laminator.run.setup import Setup, parse_setup

SETUP_VARIABLE = "LAMINATOR_SETUP_FD"
REQUEST_VARIABLE = "LAMINATOR_REQUEST_FD"

Work = Callable[[Setup, RunRequest, RunRecord], Outcome]
VERBS = {
    "run": "laminator.run.workload_run",
    "evaluate": "laminator.run.evaluation",
}
"""Each verb's module has a function `work` of type Work."""


def main() -> int:
    """Make the run; return the exit status."""
    sys.excepthook = _crash
    make_undumpable()
    try:
        for number in SIGNALS:
            signal.signal(number, _interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        setup = parse_setup(_read(SETUP_VARIABLE, setup_format.MAX_BYTES))
        request = parse_request(_read(REQUEST_VARIABLE, request_format.MAX_BYTES))
        record = RunRecord(request.ledger, ticket=request.ticket, card=request.card)
    except InterruptedRunError as error:
        return _said(interrupted(error.signal), 0)
    except LaminatorError as error:
        return _said(failed(error.message), 0)
    outcome = attest(setup, request, record)
    return _said(outcome, record.number)


def attest(setup: Setup, request: RunRequest, record: RunRecord) -> Outcome:
    """Do the request's work and log how it ended."""
    try:
        outcome = _work(request.verb)(setup, request, record)
    except InterruptedRunError as error:
        outcome = interrupted(error.signal)
    except LaminatorError as error:
        outcome = failed(error.message)
    except OSError as error:
        outcome = failed(f"the system refused: {error.strerror} {error.filename or ''}".strip())
    try:
        record.ended(outcome)
    except LaminatorError as error:
        outcome = outcome._replace(message=f"{outcome.message}\n{error.message}".strip())
    record.close()
    return outcome


def _work(verb: str) -> Work:
    return cast("Work", importlib.import_module(VERBS[verb]).work)


def _said(outcome: Outcome, number: int) -> int:
    if outcome.message:
        spent = f" (run number {number} is spent)" if number else ""
        sys.stderr.write(f"laminator: {safe_message(outcome.message)}{spent}\n")
        sys.stderr.flush()
    return outcome.status


def _read(variable: str, limit: int) -> bytes:
    text = os.environ.pop(variable, "")
    if not text.isdigit():
        raise MalformedError("attester.start", f"{variable} is not set: use `laminator run`")
    with os.fdopen(int(text), "rb") as file:
        return file.read(limit + 1)


def _crash(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """End with our own status: 1 would read as the workload's."""
    sys.__excepthook__(kind, error, traceback)
    sys.stderr.flush()
    os._exit(FAILURE_STATUS)


def _interrupt(number: int, _: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # once: what follows is cleaning up
    raise InterruptedRunError(number)
