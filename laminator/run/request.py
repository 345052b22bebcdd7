"""The run request: what the caller asks of the attester, as one deterministic CBOR map.

The driver writes it, the machine's owner hands it on unread, and the attester parses it from
LAMINATOR_REQUEST_FD. Nothing in it is believed: whatever matters is measured or declared again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.claims import KINDS, Seed
from laminator.claims_codec import MAX_NONCE_BYTES, MIN_NONCE_BYTES, parse_seed
from laminator.errors import MalformedError, shown
from laminator.fields import array, choice, flag, name, octets, uint

MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 4096
VERBS = ("run", "evaluate", "datasheet")
KEYS = ("ecc", "rsa")

_Item = TypeVar("_Item")


class RunRequest(NamedTuple):
    """One request; every path is absolute.

    `argv[0]` is the interpreter's path and `script` the index of the entry script in `argv`;
    `label` names one of the TPM's attestation keys of that kind (`laminator.enroll.ak_label`);
    `plan_token` is a time-stamp over the plan, `tsa_anchors` (kind and DER) and `tsa_crls` are what
    it is verified against; `seed` is the rule that the caller asks for (`laminator.seed`);
    `in_place` names the inputs that are read where they lie, and not copied;
    `environment` holds the values that the caller passes on; `ticket` is the caller's own mark,
    by which it finds this run in the list of runs; `options` belong to the verb.
    """

    verb: str
    argv: tuple[str, ...]
    script: int
    cwd: str
    kind: str
    card: str
    inputs: Mapping[str, str] = {}
    in_place: tuple[str, ...] = ()
    outputs: Mapping[str, str] = {}
    cards: Mapping[str, str] = {}
    nonce: bytes | None = None
    plan: str | None = None
    plan_token: str | None = None
    tsa_anchors: tuple[tuple[str, bytes], ...] = ()
    tsa_crls: tuple[bytes, ...] = ()
    seed: Seed | None = None
    declares: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    environment_public: bool = False
    network: bool = False
    key: str = "ecc"
    label: str | None = None
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
    fields: dict[str, Any] = {key: read(value[key], key) for key, read in _FIELDS.items()}
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


def _texts(value: Value, path: str) -> tuple[str, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_ENTRIES:
        raise MalformedError("request.list", f"expected a list, got {shown(value)}", path=path)
    return tuple(_text(item, path) for item in value)


def _anchor(value: Value, path: str) -> tuple[str, bytes]:
    match value:
        case (kind, der):
            return name(kind, path), octets(1, MAX_BYTES)(der, path)
        case _:
            message = f"expected [kind of authority, certificate], got {shown(value)}"
            raise MalformedError("request.anchor", message, path=path)


def _options(value: Value, path: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise MalformedError("request.options", "expected a map", path=path)
    return {_text(key, path): item for key, item in value.items()}


def _optional(read: Callable[[Value, str], _Item]) -> Callable[[Value, str], _Item | None]:
    return lambda value, path: None if value is None else read(value, path)


def _map(
    key: Callable[[Value, str], str], read: Callable[[Value, str], _Item]
) -> Callable[[Value, str], dict[str, _Item]]:
    def read_map(value: Value, path: str) -> dict[str, _Item]:
        if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
            raise MalformedError("request.map", f"expected a map, got {shown(value)}", path=path)
        return {
            key(entry, path): read(item, f"{path}.{shown(entry)}") for entry, item in value.items()
        }

    return read_map


_FIELDS: dict[str, Callable[[Value, str], object]] = {
    "verb": choice(*VERBS),
    "argv": _texts,
    "script": uint,
    "cwd": _path,
    "kind": choice(*KINDS),
    "card": _path,
    "inputs": _map(name, _path),
    "in_place": array(name, most=MAX_ENTRIES),
    "outputs": _map(name, _path),
    "cards": _map(name, _path),
    "nonce": _optional(octets(MIN_NONCE_BYTES, MAX_NONCE_BYTES)),
    "plan": _optional(_path),
    "plan_token": _optional(_path),
    "tsa_anchors": array(_anchor, most=MAX_ENTRIES),
    "tsa_crls": array(octets(1, MAX_BYTES), most=MAX_ENTRIES),
    "seed": _optional(parse_seed),
    "declares": _map(name, _text),
    "environment": _map(_text, _text),
    "environment_public": flag,
    "network": flag,
    "key": choice(*KEYS),
    "label": _optional(_text),
    "ledger": _optional(_path),
    "ticket": _text,
    "options": _options,
}
