"""The run's event log and its replay.

Each record is an array [event, name, digest]. The log's head is the hash chain that a PCR of the
SHA-256 bank holds when it starts from zero and is extended with each record's digest (TPM 2.0
Library Part 1, "PCR Extend"), so one replay gives both.

Without its records of code, the log of a run is a function of its claims and of the counter's
certification: whoever knows those knows every record, and `expected_records` says which. Records
of code (`CODE_EVENTS`) stand where the code was about to run, between the records `start` and
`end`; the claims hold their number by event.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from laminator import cbor
from laminator.cbor import Encodable, Value
from laminator.claims import (
    CODE_EVENTS,
    Artifact,
    Claims,
    Isolation,
    Property,
    Run,
    Workload,
)
from laminator.claims_codec import plain_artifact, plain_property, plain_run
from laminator.fields import array, malformed, octets, text
from laminator.workload_codec import plain_isolation

MAX_RECORDS = 400_000
START_QUOTE_RECORDS = 2
EMPTY_HEAD = bytes(32)
NOTHING = bytes(32)

_START_DOMAIN = b"laminator-start-v1\x00"
_START_QUOTE_DOMAIN = b"laminator-start-quote-v1\x00"


class Record(NamedTuple):
    """One event: `digest` is 32 bytes, NOTHING for an event without content."""

    event: str
    name: str
    digest: bytes


def parse_log(data: bytes) -> tuple[Record, ...]:
    """Parse a log's one encoding, an array of records. Raises MalformedError."""
    return array(_record, most=MAX_RECORDS)(cbor.decode(data), "log")


def encode_log(records: Iterable[Record]) -> bytes:
    """Return the log's one encoding."""
    return cbor.encode(tuple(records))


def record_digest(record: Record) -> bytes:
    """Return what the PCR is extended with for `record`, 32 bytes."""
    return hashlib.sha256(cbor.encode(record)).digest()


def extend(head: bytes, record: Record) -> bytes:
    """Return the head after `record`: SHA-256(head || record's digest)."""
    return hashlib.sha256(head + record_digest(record)).digest()


def replay(records: Iterable[Record]) -> bytes:
    """Return the head of `records`, 32 bytes: PCR 23 after a reset and these extends."""
    head = EMPTY_HEAD
    for record in records:
        head = extend(head, record)
    return head


def start_binding(run: Run, nonce: bytes | None) -> bytes:
    """Return the counter certification's qualifying data: over nonce, plan and run id."""
    started = cbor.encode((nonce, run.plan, run.id))
    return hashlib.sha256(_START_DOMAIN + started).digest()


def start_quote_binding(head: bytes) -> bytes:
    """Return the start quote's qualifying data: over the head after the first records."""
    return hashlib.sha256(_START_QUOTE_DOMAIN + head).digest()


def counter_record(counter_attest: bytes) -> Record:
    """Return the record of the run counter's certification, a TPMS_ATTEST."""
    return Record("counter", "", hashlib.sha256(counter_attest).digest())


def start_record(run: Run, nonce: bytes | None) -> Record:
    """Return the record of the run's start."""
    return Record("start", "", _digest((plain_run(run), nonce)))


def workload_records(workload: Workload) -> tuple[Record, ...]:
    """Return the records of the workload's code, arguments and environment."""
    installed = workload.distributions
    return (
        Record("entry", workload.entry.label, workload.entry.digest.value),
        Record("interpreter", workload.interpreter.label, workload.interpreter.digest.value),
        Record("arguments", "", _digest(workload.arguments)),
        Record("environment", "", _digest(workload.environment)),
        Record("distributions", str(installed.number), installed.digest.value),
    )


def isolation_record(isolation: Isolation) -> Record:
    """Return the record of what separates the workload from the attester."""
    return Record("isolation", "", _digest(plain_isolation(isolation)))


def artifact_records(event: str, artifacts: Mapping[str, Artifact]) -> tuple[Record, ...]:
    """Return the records of `artifacts`, sorted by name; `event` is input or output."""
    return tuple(
        Record(event, name, _digest(plain_artifact(artifacts[name]))) for name in sorted(artifacts)
    )


def property_record(item: Property) -> Record:
    """Return the record of one property."""
    return Record("property", item.name, _digest(plain_property(item)))


def begin_record() -> Record:
    """Return the record written when everything is measured and the workload starts."""
    return Record("begin", "", NOTHING)


def end_record() -> Record:
    """Return the record written when the workload has ended with exit status 0."""
    return Record("end", "", NOTHING)


def expected_records(claims: Claims, counter_attest: bytes) -> tuple[Record, ...]:
    """Return the whole log that a run with these claims and this counter has."""
    return tuple(_expected(claims, counter_attest))


def code_records(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the records of code, in their order."""
    return tuple(record for record in records if record.event in CODE_EVENTS)


def without_code(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the records that claims and counter decide, in their order."""
    return tuple(record for record in records if record.event not in CODE_EVENTS)


def count_code(records: Iterable[Record]) -> dict[str, int]:
    """Return the number of records of code by event, for the events that there are."""
    return dict(Counter(record.event for record in code_records(records)))


def code_in_place(records: Sequence[Record]) -> bool:
    """Tell whether all records of code stand between the records `start` and `end`."""
    events = [record.event for record in records]
    places = [place for place, event in enumerate(events) if event in CODE_EVENTS]
    if not places:
        return True
    if "start" not in events or "end" not in events:
        return False
    return events.index("start") < places[0] and places[-1] < events.index("end")


def _expected(claims: Claims, counter_attest: bytes) -> Iterator[Record]:
    declared = [item for item in claims.properties if item.source == "declared"]
    others = [item for item in claims.properties if item.source != "declared"]
    yield counter_record(counter_attest)
    yield start_record(claims.run, claims.nonce)
    yield from workload_records(claims.workload)
    yield isolation_record(claims.isolation)
    yield from artifact_records("input", claims.inputs)
    yield from map(property_record, declared)
    yield begin_record()
    yield from map(property_record, others)
    yield end_record()
    yield from artifact_records("output", claims.outputs)


def _digest(value: Encodable) -> bytes:
    return hashlib.sha256(cbor.encode(value)).digest()


def _record(value: Value, path: str) -> Record:
    match value:
        case (event, name, digest):
            return Record(text(event, path), text(name, path), octets(32, 32)(digest, path))
        case _:
            raise malformed(path, "[event, name, digest]", value)
