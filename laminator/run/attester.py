"""The attester's process: reads what it is told, makes the run, says how it ended.

LAMINATOR_SETUP_FD has the owner's setup, LAMINATOR_REQUEST_FD the caller's request; both are read
to their ends after this process has been made non-dumpable. The exit status is the workload's
own, 125 for a failure of ours, 128 + N for a signal.
"""

import importlib
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import cast

from laminator.errors import LaminatorError, MalformedError
from laminator.report.text import safe_message
from laminator.run import request as request_format
from laminator.run import setup as setup_format
from laminator.run.dumpable import make_undumpable
from laminator.run.limits import forbid_core_files
from laminator.run.outcome import ENDINGS, FAILURE_STATUS, Outcome, card_written, outcome_of
from laminator.run.request import RunRequest, parse_request
from laminator.run.run_list import RunRecord
from laminator.run.setup import Setup, parse_setup
from laminator.run.signals import listen

SETUP_VARIABLE = "LAMINATOR_SETUP_FD"
REQUEST_VARIABLE = "LAMINATOR_REQUEST_FD"

Work = Callable[[Setup, RunRequest, RunRecord], Outcome]
VERBS = {
    "run": "laminator.run.workload_run",
    "evaluate": "laminator.run.evaluation",
    "datasheet": "laminator.run.datasheet",
}
"""Each verb's module has a function `work` of type Work."""


def main() -> int:
    """Make the run; return the exit status."""
    sys.excepthook = _crash
    make_undumpable()
    forbid_core_files()
    try:
        listen()
        setup = parse_setup(_read(SETUP_VARIABLE, setup_format.MAX_BYTES))
        request = parse_request(_read(REQUEST_VARIABLE, request_format.MAX_BYTES))
        record = RunRecord(request.ledger, ticket=request.ticket, card=request.card)
    except ENDINGS as error:
        return _said(outcome_of(error), None)
    outcome = attest(setup, request, record)
    return _said(outcome, record)


def attest(setup: Setup, request: RunRequest, record: RunRecord) -> Outcome:
    """Do the request's work and log how it ended."""
    try:
        outcome = _work(request.verb)(setup, request, record)
    except ENDINGS as error:
        outcome = outcome_of(error)
        if record.card_id:  # it is in its place, whatever the clean-up met
            outcome = card_written(record.card_id)._replace(message=outcome.message)
    try:
        record.ended(outcome)
    except LaminatorError as error:
        outcome = outcome._replace(message=f"{outcome.message}\n{error.message}".strip())
    record.close()
    return outcome


def _work(verb: str) -> Work:
    return cast("Work", importlib.import_module(VERBS[verb]).work)


def _said(outcome: Outcome, record: RunRecord | None) -> int:
    if outcome.message:
        sys.stderr.write(f"laminator: {safe_message(outcome.message + _spent(record))}\n")
        sys.stderr.flush()
    return outcome.status


def _spent(record: RunRecord | None) -> str:
    if record is None or not record.number:
        return ""
    spent = f"run number {record.number} is spent"
    if record.failure is not None:
        return f" ({spent}; its failure record: {record.failure.path})"
    if record.unrecorded:
        return f" ({spent}, without a failure record: {record.unrecorded})"
    return f" ({spent})"


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
