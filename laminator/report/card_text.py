"""An unverified card as plain text. Nothing here says that anything in it is true."""

from collections.abc import Iterable, Iterator, Mapping

from laminator.card import Card
from laminator.claims import Artifact, Claims, Commitment, Property
from laminator.eventlog import Record, code_records, without_code
from laminator.report.text import ELLIPSIS, quoted, safe, safe_message, word
from laminator.report.value import value_text

NOT_VERIFIED = "NOT VERIFIED: this is what the card says, and nothing in it was checked."

_MAX_ROWS = 200
_MAX_ROW = 1000


def card_text(card: Card) -> str:
    """Return what an unverified card says; the caller prints NOT_VERIFIED first."""
    claims = card.claims
    return "\n".join(
        (
            *_rows("card", _about(card)),
            *_rows("code", _code(claims)),
            *_rows("inputs", _artifacts(claims.inputs)),
            *_rows("outputs", _artifacts(claims.outputs)),
            *_rows("builds on cards", ((n, i.hex()) for n, i in (claims.cards or {}).items())),
            *_rows("properties", map(_property, claims.properties)),
            *_rows("log", map(_record, without_code(card.log))),
            *_rows("code that ran", map(_record, code_records(card.log))),
        )
    )


def _rows(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = [(safe(name), _cell(value)) for name, value in rows]
    if not listed:
        return
    width = max(len(name) for name, _ in listed)
    yield from ("", title)
    for name, value in listed[:_MAX_ROWS]:
        yield f"  {name:<{width}}  {value}"
    if len(listed) > _MAX_ROWS:
        yield f"  and {len(listed) - _MAX_ROWS} more; --json shows all"


def _cell(value: str) -> str:
    """Return `value`, whose parts are safe or quoted already, as one line of bounded length."""
    line = safe_message(value).replace("\n", r"\x0a")
    return line if len(line) <= _MAX_ROW else line[: _MAX_ROW - len(ELLIPSIS)] + ELLIPSIS


def _about(card: Card) -> Iterator[tuple[str, str]]:
    import datetime as dt

    claims = card.claims
    yield "id", f"sha-256:{card.id.hex()}"
    yield "kind", claims.kind
    try:
        declared = dt.datetime.fromtimestamp(claims.iat, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        declared = f"{claims.iat} seconds after 1970"
    yield "declared time", declared
    yield "nonce", claims.nonce.hex() if claims.nonce else "none"
    yield "run", f"number {claims.run.number}, id {claims.run.id.hex()}"
    yield "launch", f"{word(claims.run.launch.type)} {claims.run.launch.digest or ''}".rstrip()
    if claims.run.plan is not None:
        yield "plan", str(claims.run.plan)
        yield "plan's time-stamp", str(claims.run.plan_token or "none")
    if claims.run.seed is not None:
        yield "seed", str(claims.run.seed)
    yield "isolation", value_text(claims.isolation._asdict())
    yield "evidence", ", ".join(f"{word(ref.kind)} key {ref.key.hex()}" for ref in claims.evidence)
    if card.endorsements:
        yield "endorsements", ", ".join(quoted(message.media_type) for message in card.endorsements)


def _code(claims: Claims) -> Iterator[tuple[str, str]]:
    workload = claims.workload
    yield "entry", f"{quoted(workload.entry.label)} {workload.entry.digest}"
    yield "interpreter", f"{quoted(workload.interpreter.label)} {workload.interpreter.digest}"
    if workload.code is not None:
        counts = ", ".join(f"{number:,} {event}" for event, number in workload.code.counts.items())
        methods = f"modules: {workload.code.modules}, natives: {workload.code.natives}"
        yield "measured", f"{methods}, records: {counts or 'none'}"
    yield "distributions", f"{workload.distributions.number}, {workload.distributions.digest}"
    yield "arguments", " ".join(map(_commitment, workload.arguments)) or "none"
    for name, value in workload.environment.items():
        yield f"environment {name}", _commitment(value)


def _commitment(value: Commitment) -> str:
    return quoted(value) if isinstance(value, str) else f"<committed {value.hex()[:16]}>"


def _artifacts(artifacts: Mapping[str, Artifact]) -> Iterator[tuple[str, str]]:
    for name, item in artifacts.items():
        yield name, f"{word(item.type)}, {item.size} bytes in {item.files} file(s), {item.digest}"


def _property(item: Property) -> tuple[str, str]:
    about = f" on {', '.join(item.on)}" if item.on else ""
    value = value_text(item.value, item.unit, item.interval)
    parameters = f" with {value_text(item.parameters)}" if item.parameters else ""
    return f"{item.name}{about}", f"[{item.source} by {word(item.measurer)}] {value}{parameters}"


def _record(record: Record) -> tuple[str, str]:
    return record.event, f"{record.digest.hex()} {safe(record.name)}".rstrip()
