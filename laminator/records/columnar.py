"""Records of columnar files: `.npy`, `.npz`, safetensors and folders of images by class.

A record is one row: the same position of every array's first dimension; or one image file with the
name of its folder. An array of one dimension is a column of numbers, one of more is a tensor.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from laminator.errors import MalformedError, shown
from laminator.measure.columns import ELEMENTS, Column, ImageColumn, NumberColumn
from laminator.measure.csv_table import check_names
from laminator.measure.dataset import check_same_rows, load_columns
from laminator.records.json_lines import parse_json
from laminator.records.schema import MAX_DIMENSIONS, Field, Schema, make_schema

MAX_BYTES = 2 * 1024**3
MAX_HEADER = 16 * 1024**2
_LENGTH_BYTES = 8
_SIGNED, _UNSIGNED = ("<i8", "<i4", "<i2", "|i1"), ("<u8", "<u4", "<u2", "|u1")
_SCALARS = {
    **dict.fromkeys(_SIGNED, "int64"),
    **dict.fromkeys(_UNSIGNED, "uint64"),
    "<f8": "float64",
    "<f4": "float32",
    "<f2": "float32",
    "|b1": "bool",
}
_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BOOL": "|b1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
}


def load_arrays(path: Path, form: str) -> tuple[Column, ...]:
    """Read all columns of one file or image folder. Raises MalformedError."""
    if form != "safetensors":
        suffix = "" if form == "images" else f".{form}"
        return load_columns(path, suffix)
    if path.stat().st_size > MAX_BYTES:
        raise MalformedError("dataset.size", f"beyond {MAX_BYTES} bytes")
    columns = tuple(_tensors(path.read_bytes()))
    check_same_rows(columns)
    return columns


def infer_arrays(columns: Sequence[Column]) -> Schema:
    """Return the schema that these columns have. Raises MalformedError."""
    return make_schema([_field(column) for column in columns])


def array_records(columns: Sequence[Column], schema: Schema) -> Iterator[dict[str, object]]:
    """Yield each row's values by name. Raises MalformedError."""
    fields = {item.name: item for item in schema.fields}
    if sorted(column.name for column in columns) != sorted(fields):
        raise MalformedError("record.columns", "the arrays have other names than the schema")
    values = [_values(column, fields[column.name]) for column in columns]
    names = [column.name for column in columns]
    for row in zip(*values, strict=True):
        yield dict(zip(names, row, strict=True))


def _field(column: Column) -> Field:
    if isinstance(column, ImageColumn):
        return Field(column.name, "image")
    if not isinstance(column, NumberColumn):
        return Field(column.name, "text")
    if column.shape:
        return Field(column.name, "tensor", element=column.element, shape=column.shape)
    return Field(column.name, _SCALARS[column.element])


def _values(column: Column, field: Field) -> Iterator[object]:
    if isinstance(column, ImageColumn):
        return (column.take([row])[0] for row in range(len(column)))
    if not isinstance(column, NumberColumn):
        return iter(column.values)
    if field.type == "tensor":
        if (column.element, column.shape) != (field.element, field.shape):
            raise MalformedError("record.tensor", f"{shown(column.name)} has another form")
        return column.rows()
    if column.shape:
        raise MalformedError("record.tensor", f"{shown(column.name)} holds several numbers a row")
    letter = "<" + ELEMENTS[column.element]
    return (numbers[0] for numbers in struct.iter_unpack(letter, column.data))


def _tensors(data: bytes) -> Iterator[NumberColumn]:
    """Format: huggingface/safetensors README, "Format"."""
    size = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or size > min(MAX_HEADER, len(data) - _LENGTH_BYTES):
        raise MalformedError("safetensors.header", "a header beyond the file or its limit")
    header = parse_json(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
    if not isinstance(header, dict):
        raise MalformedError("safetensors.header", "the header is no object")
    body = memoryview(data)[_LENGTH_BYTES + size :]
    entries = {name: item for name, item in header.items() if name != "__metadata__"}
    check_names(list(entries))
    position = 0
    for name, item in sorted(entries.items(), key=_start):
        column, start, end = _tensor(name, item, body)
        if start != position:
            raise MalformedError("safetensors.offsets", "tensors overlap or leave a gap")
        position = end
        yield column
    if position != len(body):
        raise MalformedError("safetensors.offsets", "bytes that no tensor has")


def _start(entry: tuple[str, object]) -> int:
    match entry[1]:
        case {"data_offsets": (int(start), int())}:
            return start
        case _:
            raise MalformedError("safetensors.tensor", f"no offsets for {shown(entry[0])}")


def _tensor(name: str, item: object, body: memoryview) -> tuple[NumberColumn, int, int]:
    match item:
        case {
            "dtype": str(kind),
            "shape": tuple(shape),
            "data_offsets": (int(start), int(end)),
            **rest,
        } if not rest:
            whole = all(type(size) is int and 0 < size <= MAX_BYTES for size in shape)
            element = _SAFETENSORS.get(kind)
        case _:
            raise MalformedError("safetensors.tensor", f"no tensor: {shown(item)}")
    if element is None or not whole or not 1 <= len(shape) <= MAX_DIMENSIONS:
        message = f"tensor {shown(name)} of type {shown(kind)} and shape {shown(shape)}"
        raise MalformedError("safetensors.tensor", message)
    size = math.prod(shape) * struct.calcsize(ELEMENTS[element])
    if not 0 <= start <= end <= len(body) or end - start != size:
        raise MalformedError("safetensors.offsets", f"{shown(name)} has other bytes than its shape")
    data = bytes(body[start:end])
    return NumberColumn(name=name, element=element, shape=shape[1:], data=data), start, end
