"""The run request: what the caller asks of the attester, as one deterministic CBOR map.

The driver writes it, the machine's owner hands it on unread, and the attester parses it from
LAMINATOR_REQUEST_FD. Nothing in it is believed: whatever matters is measured or declared again.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.errors import MalformedError, shown

MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 4096
MAX_NONCE_BYTES = 64
VERBS = ("run", "evaluate")
KEYS = ("ecc", "rsa")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_Item = TypeVar("_Item")


class RunRequest(NamedTuple):
    """One request; every path is absolute.

    `argv[0]` is the interpreter's path and `script` the index of the entry script in `argv`;
    `environment` holds the values that the caller passes on; `ticket` is the caller's own mark,
    by which it finds this run in the ledger; `options` belong to the verb.
    """

    verb: str
    argv: tuple[str, ...]
    script: int
    cwd: str
    kind: str
    card: str
    inputs: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {}
    cards: Mapping[str, str] = {}
    nonce: bytes | None = None
    plan: str | None = None
    declares: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    environment_public: bool = False
    network: bool = False
    key: str = "ecc"
    ledger: str | None = None
    ticket: str = ""
    options: Mapping[str, Value] = {}


def encode_request(request: RunRequest) -> bytes:
    """Return the request's bytes. Raises MalformedError for text that is not UTF-8."""
    return encode(cast("dict[Key, Encodable]", request._asdict()))


def parse_request(data: bytes) -> RunRequest:
    """Parse what `encode_request` wrote, strictly. Raises MalformedError."""
    value = decode(data, max_bytes=MAX_BYTES)
    if not isinstance(value, dict) or set(value) != set(_FIELDS):
        raise MalformedError("request.fields", f"expected a map of {sorted(_FIELDS)}")
    fields: dict[str, Any] = {
        str(name): read(value[name], str(name)) for name, read in _FIELDS.items()
    }
    request = RunRequest(**fields)
    if not 0 < request.script < len(request.argv):
        raise MalformedError("request.script", "points outside argv")
    return request


def _text(value: Value, path: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise MalformedError("request.text", f"expected text, got {shown(value)}", path=path)
    return value


def _path(value: Value, path: str) -> str:
    text = _text(value, path)
    if not text.startswith("/"):
        message = f"expected an absolute path, got {shown(text)}"
        raise MalformedError("request.path", message, path=path)
    return text


def _name(value: Value, path: str) -> str:
    text = _text(value, path)
    if not NAME.fullmatch(text):
        raise MalformedError("request.name", f"expected a plain name, got {shown(text)}", path=path)
    return text


def _flag(value: Value, path: str) -> bool:
    if not isinstance(value, bool):
        raise MalformedError("request.flag", f"expected a boolean, got {shown(value)}", path=path)
    return value


def _index(value: Value, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedError("request.index", f"expected a number, got {shown(value)}", path=path)
    return value


def _nonce(value: Value, path: str) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, bytes) or not 0 < len(value) <= MAX_NONCE_BYTES:
        raise MalformedError("request.nonce", f"expected 1 to {MAX_NONCE_BYTES} bytes", path=path)
    return value


def _texts(value: Value, path: str) -> tuple[str, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_ENTRIES:
        raise MalformedError("request.list", f"expected a list, got {shown(value)}", path=path)
    return tuple(_text(item, path) for item in value)


def _options(value: Value, path: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise MalformedError("request.options", "expected a map", path=path)
    return {_text(key, path): item for key, item in value.items()}


def _one_of(choices: tuple[str, ...]) -> Callable[[Value, str], str]:
    def read(value: Value, path: str) -> str:
        if value not in choices:
            message = f"expected one of {choices}, got {shown(value)}"
            raise MalformedError("request.choice", message, path=path)
        return str(value)

    return read


def _optional(read: Callable[[Value, str], _Item]) -> Callable[[Value, str], _Item | None]:
    return lambda value, path: None if value is None else read(value, path)


def _map(
    key: Callable[[Value, str], str], read: Callable[[Value, str], _Item]
) -> Callable[[Value, str], dict[str, _Item]]:
    def read_map(value: Value, path: str) -> dict[str, _Item]:
        if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
            raise MalformedError("request.map", f"expected a map, got {shown(value)}", path=path)
        return {key(name, path): read(item, f"{path}.{name}") for name, item in value.items()}

    return read_map


_FIELDS: dict[str, Callable[[Value, str], object]] = {
    "verb": _one_of(VERBS),
    "argv": _texts,
    "script": _index,
    "cwd": _path,
    "kind": _name,
    "card": _path,
    "inputs": _map(_name, _path),
    "outputs": _map(_name, _path),
    "cards": _map(_name, _path),
    "nonce": _nonce,
    "plan": _optional(_path),
    "declares": _map(_name, _text),
    "environment": _map(_text, _text),
    "environment_public": _flag,
    "network": _flag,
    "key": _one_of(KEYS),
    "ledger": _optional(_path),
    "ticket": _text,
    "options": _options,
}
