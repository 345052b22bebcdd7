"""A measured run from its number to its card, as steps that every verb uses.

    with begin_run(setup, request, record) as started:   # number, start quote, code, inputs, begin
        ...                                              # the verb's own work
        sealed = finish_run(started, properties, outputs)  # log, claims, binding, end quote
        write_card(started, sealed)

Each step's value is frozen and feeds the next. What the verb adds between is its business; what
the card says of code, inputs and isolation is settled before the work begins.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from laminator.attest.tpm import SignedAttest
from laminator.card import MAX_CARD, Card, ConceptualMessage, binding, encode_card, parse_card
from laminator.claims import (
    Artifact,
    Claims,
    CodeSummary,
    EvidenceRef,
    Isolation,
    LogSummary,
    Property,
    Seed,
    Workload,
)
from laminator.claims_codec import encode_claims
from laminator.errors import LaminatorError, MachineError, MalformedError, UsageError, shown
from laminator.eventlog import (
    artifact_records,
    begin_record,
    count_code,
    end_record,
    expected_records,
    isolation_record,
    property_record,
    replay,
    without_code,
)
from laminator.evidence.tpm_format import TPM_KIND
from laminator.failure import FailureRecord
from laminator.run.atomic import File, write_together
from laminator.run.attestation import (
    Attestation,
    SpentNumber,
    check_machine,
    open_attestation,
    open_log,
    quote_log,
    spend_number,
    tpm_message,
)
from laminator.run.bubblewrap import bubblewrap
from laminator.run.check_request import check_request
from laminator.run.code import MeasuredCode, measure_code
from laminator.run.disclosure import PRIVATE_SUFFIX, private_file
from laminator.run.failure import sign_failure, write_failure
from laminator.run.in_place import InPlace, measure_in_place
from laminator.run.limits import NO_LIMITS, Limits, with_inherited
from laminator.run.log import RunLog
from laminator.run.outcome import ENDINGS, outcome_of
from laminator.run.planned import Planned, read_planned
from laminator.run.private_copy import copy_measured, private_place
from laminator.run.progress import size_text, tell
from laminator.run.request import RunRequest
from laminator.run.run_list import RunRecord
from laminator.run.sandbox import Sandbox, isolation, probe
from laminator.run.setup import Setup
from laminator.run.signals import held_back, stop_listening
from laminator.seed import seed_bytes

_DECLARER = "provider"
_ON_DISK = 1 << 60
"""Nobody knows how large outputs will be: they never lie in memory."""

_CARD_MODE, _PRIVATE_MODE = 0o644, 0o600


class Input(NamedTuple):
    """A measured input: where the caller said it is, and the private copy that is handed over.

    One that is read in place has no copy: `copy` is `given` then.
    """

    given: Path
    copy: Path
    artifact: Artifact
    in_place: InPlace | None = None


class Opened(NamedTuple):
    """A run whose number is spent and whose log has its first records.

    `endorsements` are the plan that it follows and the plan's time-stamp.
    """

    request: RunRequest
    attestation: Attestation
    spent: SpentNumber
    log: RunLog
    quote: SignedAttest
    record: RunRecord
    endorsements: tuple[ConceptualMessage, ...] = ()


class StartedRun(NamedTuple):
    """A run whose code and inputs are measured: the work may begin.

    `place` is a private folder for the run's own files, `outputs` one on disk for what the work
    writes (`place` itself where there are no outputs); both are removed at the end.
    """

    opened: Opened
    place: Path
    code: MeasuredCode
    sandbox: Sandbox
    isolation: Isolation
    inputs: Mapping[str, Input]
    declared: tuple[Property, ...]
    cards: Mapping[str, bytes]
    outputs: Path

    @property
    def request(self) -> RunRequest:
        """What the caller asked for."""
        return self.opened.request

    @property
    def rule(self) -> Seed | None:
        """The rule of the run's seed, None where it has none."""
        return self.opened.spent.run.seed

    @property
    def seed(self) -> bytes | None:
        """The run's seed, 32 bytes, None where it has none."""
        return None if self.rule is None else seed_bytes(self.rule, self.request.nonce)


class SealedCard(NamedTuple):
    """A finished card that nobody has written yet; `private` opens its commitments, or is None."""

    content: bytes
    id: bytes
    private: bytes | None


@contextmanager
def begin_run(
    setup: Setup,
    request: RunRequest,
    record: RunRecord,
    types: Mapping[str, str] = MappingProxyType({}),
    limits: Limits = NO_LIMITS,
) -> Iterator[StartedRun]:
    """Spend a number, measure code and inputs, and write the log up to `begin`.

    `types` gives the artifact type of inputs by name (default: `artifact_type`), `limits` what the
    claims say that the work is held to beside what it inherits. Private files and the TPM's
    connection live until the block is left. Raises UsageError for a request that cannot be met,
    before a number is spent where that can be seen, and MachineError.
    """
    check_request(request)
    sandbox = probe(bubblewrap())
    cards = {name: _card_id(Path(path)) for name, path in request.cards.items()}
    kinds = {name: types.get(name) or artifact_type("input", name) for name in request.inputs}
    planned = read_planned(request, kinds)
    with ExitStack() as stack:
        place = stack.enter_context(private_place(_place_size(request)))
        outputs = stack.enter_context(private_place(_ON_DISK)) if request.outputs else place
        attestation = stack.enter_context(open_attestation(setup, request.key, request.label))
        with held_back():
            opened = _open_run(request, attestation, planned, record)
            stack.enter_context(_recording_failures(opened))
        size, log = _place_size(request), opened.log
        tell(f"run number {record.number}: measuring the code and {size_text(size)} of inputs")
        code = measure_code(request, place, log, sandbox)
        in_force = isolation(sandbox, network=request.network, limits=with_inherited(limits))
        log.append(isolation_record(in_force))
        inputs = _measure_inputs(request, place, kinds)
        log.append(*artifact_records("input", {name: inputs[name].artifact for name in inputs}))
        declared = declared_properties(request)
        log.append(*map(property_record, declared), begin_record())
        tell("measured; the work begins")
        yield StartedRun(opened, place, code, sandbox, in_force, inputs, declared, cards, outputs)


def finish_run(
    started: StartedRun, properties: Sequence[Property], outputs: Mapping[str, Artifact]
) -> SealedCard:
    """Log what the work said and made, state the claims and have them quoted.

    Without isolation nothing is `measured`: such properties become `reported`. Raises
    MachineError, MalformedError for statements that claims cannot hold.
    """
    log = started.opened.log
    stated = tuple(_believable(item, started.isolation) for item in properties)
    log.append(*map(property_record, stated), end_record(), *artifact_records("output", outputs))
    claims = _claims(started, stated, outputs)
    claims_bytes = encode_claims(claims)
    counter = started.opened.spent.counter
    decided, expected = without_code(log.records), expected_records(claims, counter.attest)
    if decided != expected or log.head != replay(log.records):
        raise MachineError("log.claims", "the log is not the one that these claims need")
    card_id = binding(claims_bytes)
    attestation, spent = started.opened.attestation, started.opened.spent
    end = quote_log(attestation, log, card_id)
    message = tpm_message(attestation, spent, started.opened.quote, end)
    endorsements = started.opened.endorsements
    content = encode_card(Card(claims_bytes, claims, log.records, (message,), endorsements))
    disclosed = started.code.disclosed
    private = None if disclosed.is_public else private_file(disclosed, card_id)
    return SealedCard(content, card_id, private)


def write_card(started: StartedRun, sealed: SealedCard) -> None:
    """Write the card and its private file, complete or not at all. Raises MachineError.

    No signal ends the run from here on, so that it has either a card or a failure record.
    """
    stop_listening()
    path = Path(started.request.card)
    private = path.with_name(path.name + PRIVATE_SUFFIX)
    card = File(path, sealed.content, _CARD_MODE)
    if sealed.private is None:
        write_together([card])
    else:
        write_together([File(private, sealed.private, _PRIVATE_MODE), card])
    started.opened.record.card_id = sealed.id
    if sealed.private is None:
        private.unlink(missing_ok=True)


def artifact_type(event: str, name: str) -> str:
    """Return the type of the input or output `name`: a model is one that is called so."""
    if name == "model" or name.startswith(("model-", "model_", "model.", "model/")):
        return "model"
    return "dataset" if event == "input" else "file"


def declared_properties(request: RunRequest) -> tuple[Property, ...]:
    """Return what the caller declares, in its own word."""
    return tuple(
        Property(name, value, "declared", _DECLARER) for name, value in request.declares.items()
    )


def _open_run(
    request: RunRequest, attestation: Attestation, planned: Planned, record: RunRecord
) -> Opened:
    """Spend a number and write the log's first records.

    Raises UsageError for a number that the plan does not have, MachineError.
    """
    if planned.machine is not None:
        check_machine(attestation, planned.machine, planned.runs)
    spent = spend_number(attestation, request.nonce, planned)
    record.started(spent.run.id, spent.run.number, attestation.key)
    log, quote = open_log(attestation, spent, request.nonce)
    return Opened(request, attestation, spent, log, quote, record, planned.endorsements)


@contextmanager
def _recording_failures(opened: Opened) -> Iterator[None]:
    """Have the failure of a run that ends without a card signed and written down.

    What hinders that is noted, and never hides what the run ended with.
    """
    try:
        yield
    except ENDINGS as ending:
        record = opened.record
        if record.failures is not None and not record.card_id:
            try:
                signed = _sign_failure(opened, outcome_of(ending).word)
                record.failure = write_failure(signed, record.failures)
            except (LaminatorError, OSError) as error:
                record.unrecorded = outcome_of(error).message
        raise


def _sign_failure(opened: Opened, outcome: str) -> FailureRecord:
    attestation, spent, start = opened.attestation, opened.spent, opened.quote
    return sign_failure(attestation, spent, start, nonce=opened.request.nonce, outcome=outcome)


def _claims(
    started: StartedRun, stated: tuple[Property, ...], outputs: Mapping[str, Artifact]
) -> Claims:
    opened = started.opened
    return Claims(
        kind=opened.request.kind,
        iat=int(time.time()),
        run=opened.spent.run,
        workload=_workload(started),
        log=LogSummary(opened.log.head, len(opened.log.records)),
        evidence=(EvidenceRef(TPM_KIND, opened.attestation.key),),
        isolation=started.isolation,
        inputs={name: item.artifact for name, item in started.inputs.items()},
        outputs=outputs,
        properties=(*started.declared, *stated),
        nonce=opened.request.nonce,
        cards=started.cards or None,
    )


def _workload(started: StartedRun) -> Workload:
    """Return what ran, with how its code was measured."""
    counts = count_code(started.opened.log.records)
    return started.code.workload._replace(code=CodeSummary("import-hook", "listed", counts))


def _believable(item: Property, isolation: Isolation) -> Property:
    if item.source == "measured" and isolation.separation == "none":
        return item._replace(source="reported")
    return item


def _measure_inputs(request: RunRequest, place: Path, types: Mapping[str, str]) -> dict[str, Input]:
    folder = place / "inputs"
    folder.mkdir()
    inputs = {}
    for number, (name, path) in enumerate(sorted(request.inputs.items())):
        if name in request.in_place:
            leaves = folder / f"{number}.leaves"
            artifact, kept = measure_in_place(Path(path), types[name], leaves)
            inputs[name] = Input(Path(path), Path(path), artifact, kept)
            continue
        copy = copy_measured(Path(path), folder / str(number))
        artifact = Artifact(
            types[name], copy.measured.digest, copy.measured.size, copy.measured.files
        )
        inputs[name] = Input(Path(path), copy.path, artifact)
    return inputs


def _place_size(request: RunRequest) -> int:
    """Return how many bytes the private copies of the inputs take, as far as can be seen."""
    copied = request.inputs.keys() - set(request.in_place)
    return sum(_size(Path(request.inputs[name])) for name in copied)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size


def _card_id(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CARD + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        message = f"cannot read the card {shown(str(path))}: {reason}"
        raise UsageError("request.card-in", message) from error
    try:
        return parse_card(content).id
    except MalformedError as error:
        message = f"{shown(str(path))} is not a card: {error.message}"
        raise UsageError("request.card-in", message) from error
