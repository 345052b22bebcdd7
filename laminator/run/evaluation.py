"""`laminator evaluate` inside the attester: a model's properties, measured on labelled data.

Two processes, each in a sandbox of its own, share nothing but one socket:

- the measurer runs the attester's own code and has the private copies of data and labels;
- the model's process runs `laminator.run.model_host` in the user's Python environment and has
  the private copies of model and code, and no data but the features that the measurer sends.

Without namespaces the data's own path may be readable to the model's process, so everything is
`reported` then.
"""

import hashlib
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from laminator.cbor import Key, Value
from laminator.claims import Property
from laminator.errors import MalformedError, UsageError
from laminator.eventlog import Record
from laminator.fields import Fields, flag, malformed, name, uint
from laminator.run import model_host
from laminator.run.bootstrapped import BOOTSTRAP, Script, bootstrapped
from laminator.run.bubblewrap import attester_copy
from laminator.run.code_channel import code_channel
from laminator.run.filesystem import HOME, Bind, Filesystem, merged
from laminator.run.frames import receive_frame, send_frame
from laminator.run.limits import model_limits
from laminator.run.measurement import (
    Copied,
    Measurement,
    Orders,
    encode_orders,
    parse_measurement,
    plain_measurement,
)
from laminator.run.measurer import MAX_RESULT_BYTES, parse_result
from laminator.run.outcome import ModelFailedError, Outcome, card_written, ending
from laminator.run.own_code import own_code
from laminator.run.pinned import pin_code
from laminator.run.places import (
    Handed,
    Request,
    code_copies,
    plain_places,
    workload_filesystem,
)
from laminator.run.request import RunRequest
from laminator.run.run_list import RunRecord
from laminator.run.sandbox import (
    NAMESPACES,
    NONE,
    OTHER_USER,
    UID,
    Job,
    Process,
    check_other_user_reads,
    start,
)
from laminator.run.session import Input, StartedRun, begin_run, finish_run, write_card
from laminator.run.setup import Setup

MODEL, LABELS = "model", "labels"
MEASURER = "the measurer"
_ROOT = Path("/laminator")
_HOST = _ROOT / "model_host.py"
_HOST_DIGEST = hashlib.sha256(Path(model_host.__file__).read_bytes()).digest()
_GRACE_SECONDS = 3.0
MAX_SECONDS = 21 * 24 * 3600
"""How long an evaluation can be told to wait: poll(2) takes 2^31 - 1 milliseconds, 24.8 days."""


class Evaluation(NamedTuple):
    """What the caller asks.

    `data` names the data's input; `has_code` says that the entry script is the model's code, and
    not the host itself; work that takes longer than `seconds`, from the model's start to the
    measurer's result, is ended.
    """

    measurement: Measurement
    data: str
    has_code: bool
    seconds: int


class ModelPaths(NamedTuple):
    """The model's process: its root, and where it finds host, model and code (or None)."""

    filesystem: Filesystem
    host: Path
    model: Path
    code: Path | None
    home: Path


def plain_evaluation(evaluation: Evaluation) -> dict[str, Value]:
    """Return the evaluation as a run request's options."""
    return {
        "measurement": plain_measurement(evaluation.measurement),
        "data": evaluation.data,
        "has_code": evaluation.has_code,
        "seconds": evaluation.seconds,
    }


def parse_evaluation(options: Mapping[str, Value]) -> Evaluation:
    """Parse a run request's options. Raises MalformedError, UsageError."""
    fields = Fields(cast("dict[Key, Value]", options), "options")
    evaluation = Evaluation(
        fields.take("measurement", parse_measurement),
        fields.take("data", name),
        fields.take("has_code", flag),
        fields.take("seconds", _seconds),
    )
    fields.close()
    return evaluation


def _seconds(value: Value, path: str) -> int:
    seconds = uint(value, path)
    if not 1 <= seconds <= MAX_SECONDS:
        raise malformed(path, f"1 to {MAX_SECONDS} seconds", value)
    return seconds


def work(setup: Setup, request: RunRequest, record: RunRecord) -> Outcome:
    """Measure the model and write the card. Raises ENDINGS; no card is written then."""
    evaluation = parse_evaluation(request.options)
    _check_inputs(request, evaluation)
    types = {MODEL: "model", evaluation.data: "dataset", LABELS: "dataset"}
    with begin_run(setup, request, record, types, model_limits()) as started:
        properties = measure_model(started, evaluation)
        sealed = finish_run(started, properties, {})
        write_card(started, sealed)
    return card_written(sealed.id)


def measure_model(started: StartedRun, evaluation: Evaluation) -> tuple[Property, ...]:
    """Run the model's process and the measurer; return what it measured.

    Raises what the measurer raised, MachineError where a process cannot be started, and
    ModelFailedError where the model's process failed.
    """
    attester_end, control = socket.socketpair()
    measurer_end, model_end = socket.socketpair()
    with (
        code_channel(started.opened.log) as code,
        attester_end,
        control,
        measurer_end,
        model_end,
        _started(_start_model(started, evaluation, model_end.fileno(), code.fileno())) as model,
        _started(_start_measurer(started, control.fileno(), measurer_end.fileno())),
    ):
        for theirs in (control, measurer_end, model_end, code):
            theirs.close()
        send_frame(attester_end, encode_orders(_orders(started, evaluation)), MEASURER)
        properties = _properties(_result(attester_end, evaluation.seconds), model)
    if started.sandbox.separation != NAMESPACES:
        return tuple(item._replace(source="reported") for item in properties)
    return properties


def _check_inputs(request: RunRequest, evaluation: Evaluation) -> None:
    wanted = {MODEL, evaluation.data}
    wanted |= {LABELS} if evaluation.measurement.labels is None else set()
    if set(request.inputs) != wanted or request.outputs or len(wanted) == 1:
        message = f"an evaluation has the inputs {', '.join(sorted(wanted))} and no outputs"
        raise UsageError("evaluation.inputs", message)


def _orders(started: StartedRun, evaluation: Evaluation) -> Orders:
    labels = started.inputs.get(LABELS)
    return Orders(
        measurement=evaluation.measurement,
        data=_copied(started.inputs[evaluation.data]),
        labels=None if labels is None else _copied(labels),
        on=(MODEL, evaluation.data, *(() if labels is None else (LABELS,))),
        rule=started.rule,
        seed=started.seed,
    )


def _copied(item: Input) -> Copied:
    return Copied(str(item.copy), item.artifact.digest)


def _start_measurer(started: StartedRun, control: int, model: int) -> Process:
    """Start the measurer: it sees the attester's code and the copies of data and labels."""
    code = own_code()
    copies = [item.copy for key, item in started.inputs.items() if key != MODEL]
    data = Filesystem(read_only=tuple(Bind(copy, copy) for copy in copies))
    job = Job(
        command=(*code.words, "measurer", str(control), str(model)),
        env={"LC_ALL": "C.UTF-8"},
        cwd=Path("/"),
        pass_fds=(control, model),
        stdin=subprocess.DEVNULL,
    )
    sandbox = started.sandbox
    if sandbox.separation != NAMESPACES:
        sandbox = sandbox._replace(separation=NONE)
    return start(job, merged(code.filesystem, data), sandbox)


def _start_model(started: StartedRun, evaluation: Evaluation, channel: int, log: int) -> Process:
    """Start the model's process: it sees neither data nor labels nor the folders they lie in.

    `channel` is its end of the measurer's socket, `log` where its records of code go.
    """
    paths, code = _model_paths(started, evaluation), started.code
    words = [str(channel), _limits(started), str(paths.model)]
    words += [] if paths.code is None else [str(paths.code)]
    script = Script(started.request.argv[0], ("-P",), str(paths.host), words)
    at = BOOTSTRAP if started.sandbox.separation == NAMESPACES else code.start.bootstrap
    roots = code.roots if paths.code is None else code.roots.script_at(paths.code.parent)
    started.opened.log.append(Record("bootstrap", roots.name(str(paths.host)), _HOST_DIGEST))
    job = Job(
        command=bootstrapped(script, roots, log, at, list(code.environment)),
        env={**code.environment, "HOME": str(paths.home)},
        cwd=paths.home,
        pass_fds=(channel, log),
        network=started.request.network,
        strict=not started.request.network,
        stdin=subprocess.DEVNULL,
    )
    return start(job, paths.filesystem, started.sandbox)


def _limits(started: StartedRun) -> str:
    """Return the limits for the model's process: those in the claims, where they say any."""
    stated = started.isolation.confinement
    limits = model_limits() if stated is None else stated.limits
    return ",".join(f"{name}={limit}" for name, limit in limits.items())


def _model_paths(started: StartedRun, evaluation: Evaluation) -> ModelPaths:
    code, model = started.code, started.inputs[MODEL]
    script = _ROOT / "code" / code.script_path.name if evaluation.has_code else _HOST
    paths = Request(
        script=Handed(script, code.script),
        cwd=HOME,
        home=Path.home(),
        interpreter=code.interpreter,
        interpreter_copy=code.executable,
        links=code.links,
        settings=code.settings,
        inputs={MODEL: Handed(_ROOT / "model" / model.given.name, model.copy)},
        outputs={},
        hidden=tuple(_hidden(started)),
        network=started.request.network,
    )
    places = started.place / "model-process"
    places.mkdir()
    if started.sandbox.separation != NAMESPACES:
        return _plain_paths(started, evaluation, paths, places)
    plan = workload_filesystem(paths, places)
    copies = Filesystem(read_only=code.start.copies)
    host = Filesystem(read_only=(Bind(Path(model_host.__file__), _HOST),))
    filesystem = merged(plan.filesystem, copies, *((host,) if evaluation.has_code else ()))
    filesystem = pin_code(filesystem, code_copies(paths), paths.links)
    seen = script if evaluation.has_code else None
    return ModelPaths(filesystem, _HOST, plan.inputs[MODEL], seen, plan.home)


def _hidden(started: StartedRun) -> Iterator[Path]:
    """Yield what the model's process may not see, wherever it lies."""
    yield started.place
    yield from (item.given for key, item in started.inputs.items() if key != MODEL)
    copy = attester_copy()
    if copy is not None:
        yield copy


def _plain_paths(
    started: StartedRun, evaluation: Evaluation, paths: Request, places: Path
) -> ModelPaths:
    """Without namespaces the model's process finds everything where it lies.

    Raises MachineError where another user stands in and cannot read that.
    """
    owner = OTHER_USER if started.sandbox.separation == UID else None
    if owner is not None:
        started.place.chmod(0o711)
    plan = plain_places(paths, places, owner=owner)
    model = places / started.inputs[MODEL].given.name
    model.symlink_to(plan.inputs[MODEL])
    host, script = places / _HOST.name, started.code.script
    host.write_bytes(Path(model_host.__file__).read_bytes())
    if owner is not None:
        own = started.code.start.bootstrap
        check_other_user_reads([script, started.code.interpreter.given, model, host, own])
    if not evaluation.has_code:
        return ModelPaths(plan.filesystem, script, model, None, plan.home)
    return ModelPaths(plan.filesystem, host, model, script, plan.home)


def _result(attester_end: socket.socket, seconds: int) -> bytes:
    """Return the measurer's result. Raises ModelFailedError where none comes in time."""
    attester_end.settimeout(seconds)
    try:
        return receive_frame(attester_end, MAX_RESULT_BYTES, MEASURER)
    except TimeoutError as error:
        message = f"the model had not answered everything after {seconds} seconds (--timeout)"
        raise ModelFailedError("model.time", f"{message}; no card is written") from error


def _properties(result: bytes, model: Process) -> tuple[Property, ...]:
    """Return what was measured; where the model's process failed, say how it ended."""
    try:
        return parse_result(result)
    except MalformedError as error:
        if error.code != "frame.ended":
            raise
        try:
            status = model.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise error from None
        message = f"the model's process {ending(status.code)} before it had answered"
        raise ModelFailedError("model.failed", f"{message}; no card is written") from error


@contextmanager
def _started(process: Process) -> Iterator[Process]:
    """Have a process ended, with all that it started, when the block is left."""
    try:
        yield process
    finally:
        process.kill()
        process.popen.wait()
