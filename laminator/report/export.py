"""Statements, and an unverified card, as plain JSON values."""

from collections.abc import Mapping

from laminator.appraise.check import Statement
from laminator.card import Card, ConceptualMessage
from laminator.cbor import Value
from laminator.claims import Interval
from laminator.digest import Digest


def value_to_json(value: object) -> object:
    """Return a card's value as JSON: bytes as ``hex:…``, maps with text keys."""
    match value:
        case bytes():
            return f"hex:{value.hex()}"
        case Mapping():
            return {str(key): value_to_json(item) for key, item in value.items()}
        case Digest():
            return str(value)
        case tuple() if hasattr(value, "_asdict"):
            return {
                key.replace("_", "-"): value_to_json(item) for key, item in value._asdict().items()
            }
        case tuple() | list():
            return [value_to_json(item) for item in value]
        case _:
            return value


def statement_to_json(statement: Statement) -> dict[str, object]:
    """Return a statement of a result after docs/verification-result.schema.json."""
    return {
        "name": statement.name,
        "value": value_to_json(statement.value),
        "source": statement.source,
        "measurer": statement.measurer,
        "on": list(statement.on),
        "parameters": value_to_json(statement.parameters),
        "rests-on": statement.rests_on,
        "data-chosen-by": statement.chosen_by,
        "unit": statement.unit,
        "interval": _interval(statement.interval),
    }


def _interval(interval: Interval | None) -> dict[str, Value] | None:
    return None if interval is None else interval._asdict()


def card_to_json(card: Card) -> dict[str, object]:
    """Return an unverified card; carried evidence as its media types and sizes."""
    return {
        "id": f"sha-256:{card.id.hex()}",
        "claims": value_to_json(card.claims),
        "log": value_to_json(card.log),
        "evidence": [_message(message) for message in card.evidence],
        "endorsements": [_message(message) for message in card.endorsements],
    }


def _message(message: ConceptualMessage) -> dict[str, object]:
    return {"media-type": message.media_type, "bytes": len(message.value)}
