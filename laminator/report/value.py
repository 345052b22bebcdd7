"""A property's value as one safe line."""

from collections.abc import Mapping
from itertools import islice

from laminator.claims import Interval
from laminator.report.text import ELLIPSIS, quoted, word

VALUE_LIMIT = 200
DIMENSIONLESS = "1"


def value_text(value: object, unit: str | None = None, interval: Interval | None = None) -> str:
    """Return a value with its unit and interval; nested values in brackets, bytes as hex.

    Text stands in quotation marks, so that it cannot pass for a number or for another statement.
    """
    plain = _plain(value)
    cut = plain[: VALUE_LIMIT - len(ELLIPSIS)] + ELLIPSIS
    parts = [plain if len(plain) <= VALUE_LIMIT else cut]
    if unit not in (None, DIMENSIONLESS):
        parts.append(quoted(unit))
    if interval is not None:
        level = f"{100 * interval.confidence:g} %"
        spread = f"{interval.low:.6g} to {interval.high:.6g}"
        parts.append(f"({spread}, {level}, {word(interval.method)})")
    return " ".join(parts)


def _plain(value: object) -> str:
    match value:
        case str():
            return quoted(value)
        case bytes():
            return value.hex()
        case bool() | None:
            return str(value).lower()
        case float():
            return f"{value:.6g}"
        case Mapping():
            items = islice(value.items(), VALUE_LIMIT)
            return "{" + ", ".join(f"{word(str(key))}: {_plain(item)}" for key, item in items) + "}"
        case tuple() | list():
            return "[" + ", ".join(map(_plain, islice(value, VALUE_LIMIT))) + "]"
        case _:
            return str(value)
