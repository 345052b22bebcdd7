"""`laminator datasheet` inside the attester: the records of data sets, measured in one process.

No workload runs. The card's entry is the measurer's own module, its interpreter the attester's.
The measurer's process has the private copies of the data and no network. Without namespaces
anybody's process may share its user, so everything is `reported` then.
"""

import socket
import subprocess
from pathlib import Path
from typing import cast

from laminator.cbor import Key, Value
from laminator.claims import Property
from laminator.errors import UsageError
from laminator.records.arrow import check_pyarrow
from laminator.records.formats import UNMEASURED, find_source
from laminator.run.filesystem import Bind, Filesystem, merged
from laminator.run.frames import receive_frame, send_frame
from laminator.run.measurer import MAX_RESULT_BYTES, parse_result
from laminator.run.outcome import Outcome, card_written
from laminator.run.own_code import own_code
from laminator.run.record_orders import (
    Datasheet,
    Given,
    RecordOrders,
    check_named,
    encode_orders,
    parse_datasheet,
)
from laminator.run.request import RunRequest
from laminator.run.run_list import RunRecord
from laminator.run.sandbox import NAMESPACES, NONE, Job, Process, start
from laminator.run.session import StartedRun, begin_run, finish_run, write_card
from laminator.run.setup import Setup

MEASURER = "the measurer"


def work(setup: Setup, request: RunRequest, record: RunRecord) -> Outcome:
    """Measure the data and write the card. Raises ENDINGS; no card is written then."""
    sheet = parse_datasheet(cast("dict[Key, Value]", dict(request.options)))
    check_named(sheet, set(request.inputs))
    if request.outputs or not request.inputs:
        raise UsageError("datasheet.inputs", "a datasheet has inputs and no outputs")
    if any(find_source(Path(path), path).form in UNMEASURED for path in request.inputs.values()):
        check_pyarrow()
    with begin_run(setup, request, record, dict.fromkeys(request.inputs, "dataset")) as started:
        properties = measure_records(started, sheet)
        sealed = finish_run(started, properties, {})
        write_card(started, sealed)
    return card_written(sealed.id)


def measure_records(started: StartedRun, sheet: Datasheet) -> tuple[Property, ...]:
    """Run the measurer; return what it measured. Raises what it raised, MachineError."""
    given = {
        key: Given(str(item.copy), item.given.name, item.artifact.digest)
        for key, item in started.inputs.items()
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = _start(started, theirs.fileno())
        try:
            theirs.close()
            send_frame(ours, encode_orders(RecordOrders(sheet, given)), MEASURER)
            properties = parse_result(receive_frame(ours, MAX_RESULT_BYTES, MEASURER))
        finally:
            process.kill()
            process.popen.wait()
    if started.sandbox.separation != NAMESPACES:
        return tuple(item._replace(source="reported") for item in properties)
    return properties


def _start(started: StartedRun, channel: int) -> Process:
    code = own_code()
    copies = [item.copy for item in started.inputs.values()]
    data = Filesystem(read_only=tuple(Bind(copy, copy) for copy in copies))
    job = Job(
        command=(*code.words, "records", str(channel)),
        env={"LC_ALL": "C.UTF-8"},
        cwd=Path("/"),
        pass_fds=(channel,),
        stdin=subprocess.DEVNULL,
    )
    sandbox = started.sandbox
    if sandbox.separation != NAMESPACES:
        sandbox = sandbox._replace(separation=NONE)
    return start(job, merged(code.filesystem, data), sandbox)
