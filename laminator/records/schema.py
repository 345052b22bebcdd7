"""The typed schema of a data set's records, and the canonical bytes of one record.

A schema is a list of columns sorted by name, so that no file's order of columns matters. Its
digest is SHA-256 over its deterministic CBOR. A record is the deterministic CBOR array of its
values in that order (RFC 8949 section 4.2.1): null, integer, float (shortest form; -0.0 is 0.0,
every NaN is one NaN), bool, text as written (no Unicode normalisation), and bytes for bytes,
encoded images and tensors (little-endian, C order, bit for bit).
"""

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import cbor2

from laminator.cbor import Encodable, Value, encode
from laminator.errors import MalformedError, shown
from laminator.fields import Fields, array, flag, text, uint
from laminator.measure.columns import ELEMENTS
from laminator.measure.csv_table import MAX_COLUMNS, check_names

PROFILE = "tag:laminator,2026:record-schema-v1"
TYPES = ("int64", "uint64", "float64", "float32", "bool", "text", "bytes", "image", "tensor")
MAX_DIMENSIONS = 8
MAX_VALUE_BYTES = 32 * 1024**2
_RANGES = {"int64": (-(1 << 63), (1 << 63) - 1), "uint64": (0, (1 << 64) - 1)}
_WIDENED = {("int64", "float64"), ("float32", "float64")}


class Field(NamedTuple):
    """A column: `element` (as NumPy names it) and `shape` are a tensor's."""

    name: str
    type: str
    nullable: bool = True
    element: str = ""
    shape: tuple[int, ...] = ()


class Schema(NamedTuple):
    """The columns, sorted by name."""

    fields: tuple[Field, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the schema's encoding, 32 bytes."""
        return hashlib.sha256(encode({"profile": PROFILE, "columns": self.plain()})).digest()

    def plain(self) -> list[Encodable]:
        """Return the columns as they stand in claims."""
        return [list(item if item.element else item[:3]) for item in self.fields]


def make_schema(fields: Sequence[Field]) -> Schema:
    """Return the schema of these columns. Raises MalformedError for those that make none."""
    check_names([item.name for item in fields])
    for item in fields:
        tensor = item.type == "tensor"
        if item.type not in TYPES or tensor != bool(item.element) or (item.shape and not tensor):
            raise MalformedError("schema.type", f"column {shown(item.name)}: no type {item.type}")
        if tensor and (item.element not in ELEMENTS or len(item.shape) > MAX_DIMENSIONS):
            raise MalformedError("schema.tensor", f"column {shown(item.name)}: {item.element}")
        if tensor and _tensor_bytes(item) > MAX_VALUE_BYTES:
            raise MalformedError("schema.tensor", f"column {shown(item.name)} is too large")
    return Schema(tuple(sorted(fields)))


def parse_schema(value: Value, path: str = "schema") -> Schema:
    """Parse columns as `Schema.plain` returns them. Raises MalformedError."""
    columns = array(_parse_field, least=1, most=MAX_COLUMNS)(value, path)
    return make_schema(columns)


def read_schema(value: Value) -> Schema:
    """Parse a schema file's JSON: {"columns": [{"name", "type", "nullable", "element", "shape"}]}.

    Raises MalformedError.
    """
    fields = Fields(value, "schema")
    columns = fields.take("columns", array(_parse_column, least=1, most=MAX_COLUMNS))
    fields.close()
    return make_schema(columns)


def join(left: Schema, right: Schema) -> Schema:
    """Return the schema that holds both tables' records. Raises MalformedError where none does."""
    if [item.name for item in left.fields] != [item.name for item in right.fields]:
        raise MalformedError("schema.join", "the tables have different columns")
    pairs = zip(left.fields, right.fields, strict=True)
    return make_schema([_join_fields(one, other) for one, other in pairs])


def canonical(schema: Schema) -> Callable[[Mapping[str, object]], bytes]:
    """Return the function that makes a record's canonical bytes from its values by name.

    It raises MalformedError for values that the schema does not have.
    """
    columns = [(item, _READERS[item.type]) for item in schema.fields]
    names = {item.name for item in schema.fields}

    def encode_record(values: Mapping[str, object]) -> bytes:
        if values.keys() - names:
            raise MalformedError("record.columns", f"unknown {shown(min(values.keys() - names))}")
        record = [_value(item, read, values.get(item.name)) for item, read in columns]
        return cbor2.dumps(record, canonical=True)

    return encode_record


def _value(item: Field, read: Callable[[Field, object], object], value: object) -> object:
    if value is None:
        if not item.nullable:
            raise MalformedError("record.null", f"column {shown(item.name)} has a null")
        return None
    return read(item, value)


def refuse(item: Field, value: object) -> MalformedError:
    """Return the error for a value that its column's type does not have."""
    message = f"column {shown(item.name)}: expected {item.type}, got {shown(value)}"
    return MalformedError("record.value", message)


def _integer(item: Field, value: object) -> object:
    low, high = _RANGES[item.type]
    if type(value) is not int or not low <= value <= high:
        raise refuse(item, value)
    return value


def _float64(item: Field, value: object) -> object:
    if type(value) is int and abs(value) <= 1 << 53:
        value = float(value)
    if type(value) is not float:
        raise refuse(item, value)
    return value + 0.0 if not math.isnan(value) else math.nan


def _float32(item: Field, value: object) -> object:
    """Round to the nearest float of 32 bits, as decimal numbers are."""
    number = cast("float", _float64(item, value))
    try:
        return cast("float", struct.unpack("<f", struct.pack("<f", number))[0]) + 0.0
    except OverflowError as error:
        raise refuse(item, value) from error


def _exact(kind: type) -> Callable[[Field, object], object]:
    def read(item: Field, value: object) -> object:
        if type(value) is not kind:
            raise refuse(item, value)
        if isinstance(value, str | bytes) and len(value) > MAX_VALUE_BYTES:
            raise MalformedError("record.size", f"a value of {shown(item.name)} is too large")
        return value

    return read


def _text(item: Field, value: object) -> object:
    found = _exact(str)(item, value)
    try:
        str(found).encode()
    except UnicodeEncodeError as error:
        raise refuse(item, value) from error
    return found


def _tensor(item: Field, value: object) -> object:
    if type(value) is not bytes or len(value) != _tensor_bytes(item):
        raise refuse(item, value)
    return value


def _tensor_bytes(item: Field) -> int:
    return math.prod(item.shape) * struct.calcsize(ELEMENTS[item.element])


_READERS: dict[str, Callable[[Field, object], object]] = {
    "int64": _integer,
    "uint64": _integer,
    "float64": _float64,
    "float32": _float32,
    "bool": _exact(bool),
    "text": _text,
    "bytes": _exact(bytes),
    "image": _exact(bytes),
    "tensor": _tensor,
}


def _join_fields(one: Field, other: Field) -> Field:
    nullable = one.nullable or other.nullable
    if one._replace(nullable=nullable) == other._replace(nullable=nullable):
        return one._replace(nullable=nullable)
    for narrow, wide in ((one, other), (other, one)):
        if (narrow.type, wide.type) in _WIDENED:
            return wide._replace(nullable=nullable)
    message = f"column {shown(one.name)} is {one.type} here and {other.type} there"
    raise MalformedError("schema.join", f"{message}; give --schema")


def _parse_field(value: Value, path: str) -> Field:
    match value:
        case (str(name), str(kind), bool(nullable)):
            return Field(name, kind, nullable)
        case (str(name), str(kind), bool(nullable), str(element), tuple(shape)):
            return Field(name, kind, nullable, element, array(uint)(shape, path))
        case _:
            raise MalformedError("schema.column", f"no column: {shown(value)}", path=path)


def _parse_column(value: Value, path: str) -> Field:
    fields = Fields(value, path)
    nullable = fields.optional("nullable", flag)
    field = Field(
        name=fields.take("name", text),
        type=fields.take("type", text),
        nullable=True if nullable is None else nullable,
        element=fields.optional("element", text) or "",
        shape=fields.optional("shape", array(uint)) or (),
    )
    fields.close()
    return field
