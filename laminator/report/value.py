"""A property's value as one safe line."""

from collections.abc import Mapping

from laminator.claims import Interval
from laminator.report.text import safe

VALUE_LIMIT = 200
DIMENSIONLESS = "1"


def value_text(value: object, unit: str | None = None, interval: Interval | None = None) -> str:
    """Return a value with its unit and interval; nested values in brackets, bytes as hex."""
    parts = [safe(_plain(value), limit=VALUE_LIMIT)]
    if unit not in (None, DIMENSIONLESS):
        parts.append(safe(unit))
    if interval is not None:
        level = f"{100 * interval.confidence:g} %"
        spread = f"{interval.low:.6g} to {interval.high:.6g}"
        parts.append(f"({spread}, {level}, {safe(interval.method)})")
    return " ".join(parts)


def _plain(value: object) -> str:
    match value:
        case str():
            return value
        case bytes():
            return value.hex()
        case bool() | None:
            return str(value).lower()
        case float():
            return f"{value:.6g}"
        case Mapping():
            return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
        case tuple() | list():
            return "[" + ", ".join(map(_plain, value)) + "]"
        case _:
            return str(value)
