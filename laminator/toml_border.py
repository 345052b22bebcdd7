"""From TOML that a person wrote to plain values, bounded before and while it is read."""

import re

from laminator.cbor import Value
from laminator.errors import MalformedError, shown
from laminator.fields import malformed

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
# tomllib takes time that grows with the square of a dotted key's parts.
MAX_DOTS_IN_LINE = 200

Scalar = str | int | float

_INT_END = 1 << 63
# Editors show what follows a line separator as a line of its own, where TOML reads on in a comment,
# and bidirectional controls show it in another order.
_DECEIVING = re.compile("[\x85\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


def read_toml(data: bytes, root: str) -> Value:
    """Return the document's table in the types that `Fields` reads; paths begin with `root`.

    Raises MalformedError: `toml.size`, `toml.syntax`, `toml.hidden` for text that an editor shows
    otherwise, or another code for values of other types.
    """
    import tomllib

    if len(data) > MAX_BYTES:
        raise MalformedError("toml.size", f"more than {MAX_BYTES} bytes")
    if any(line.count(b".") > MAX_DOTS_IN_LINE for line in data.split(b"\n")):
        detail = f"a line with more than {MAX_DOTS_IN_LINE} dots; break it into several"
        raise MalformedError("toml.size", detail)
    try:
        text = data.decode()
        if found := _DECEIVING.search(text):
            detail = f"the character {shown(found[0])}, which makes a text look like another"
            raise MalformedError("toml.hidden", detail)
        return _plain(tomllib.loads(text), root, 0)
    except (ValueError, RecursionError) as error:
        raise MalformedError("toml.syntax", f"not TOML: {shown(str(error))}") from error


def scalar(value: Value, path: str) -> Scalar:
    """Parse text, a number or a boolean. Raises MalformedError."""
    if not isinstance(value, str | int | float):
        raise malformed(path, "text, a number, true or false", value)
    return value


def same(found: Value, wanted: Value) -> bool:
    """Compare values; a truth value is not the number that Python takes it for."""
    if isinstance(found, tuple) and isinstance(wanted, tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted


def _plain(value: object, path: str, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise MalformedError("toml.depth", f"nested deeper than {MAX_DEPTH}", path=path)
    match value:
        case dict():
            return {
                key: _plain(item, f"{path}.{_shown_key(key)}", depth + 1)
                for key, item in value.items()
            }
        case list():
            return tuple(_plain(item, f"{path}[]", depth + 1) for item in value)
        case int() if not -_INT_END <= value < _INT_END:
            raise MalformedError("toml.integer", "an integer beyond 64 bits", path=path)
        case bool() | int() | float() | str():
            return value
        case _:
            raise malformed(path, "text, a number, true, false, an array or a table", value)


def _shown_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else shown(key)
