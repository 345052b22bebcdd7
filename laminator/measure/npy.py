"""NumPy's `.npy` and `.npz` files, strictly and without NumPy.

Read are arrays in C order, little-endian, of floats, integers and booleans, and of fixed-width
text (`<U`) in one dimension. Objects (pickles), Fortran order, big-endian and structured arrays
are refused. An array is one column; its first dimension counts the rows.
Format: numpy.lib.format, versions 1.0 and 2.0.
"""

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from typing import NamedTuple

from laminator.errors import MalformedError, shown
from laminator.measure.columns import ELEMENTS, Column, NumberColumn, TextColumn
from laminator.measure.csv_table import MAX_COLUMNS, MAX_ROWS, check_names

MAX_BYTES = 2 * 1024**3
MAX_HEADER = 4096
MAX_DIMENSIONS = 8
MAX_TEXT_WIDTH = 65_536
_MAGIC = b"\x93NUMPY"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SIZE_FORMS = {b"\x01\x00": "<H", b"\x02\x00": "<I"}
_TEXT = re.compile(r"<U([1-9][0-9]{0,5})")


class _Header(NamedTuple):
    element: str
    shape: tuple[int, ...]
    end: int


def parse_npy(data: bytes, name: str) -> Column:
    """Parse one array as the column `name`. Raises MalformedError."""
    header = _parse_header(data)
    body = data[header.end :]
    text = _TEXT.fullmatch(header.element)
    if text:
        return _texts(name, header.shape, int(text[1]), body)
    if header.element not in ELEMENTS:
        raise MalformedError("npy.element", f"elements of type {shown(header.element)}")
    size = struct.calcsize(ELEMENTS[header.element])
    if len(body) != math.prod(header.shape) * size:
        raise MalformedError("npy.size", f"{len(body)} bytes for shape {header.shape}")
    if math.prod(header.shape[1:]) == 0:
        raise MalformedError("npy.shape", f"rows without elements: shape {header.shape}")
    return NumberColumn(name=name, element=header.element, shape=header.shape[1:], data=body)


def parse_npz(data: bytes) -> tuple[Column, ...]:
    """Parse an archive of arrays, one column each, in the archive's order.

    Raises MalformedError.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _parse_members(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise MalformedError("npz.syntax", f"not a readable archive: {error}") from error
    except (RuntimeError, ValueError, struct.error) as error:
        raise MalformedError("npz.syntax", "not a plain zip archive") from error


def _parse_members(archive: zipfile.ZipFile) -> tuple[Column, ...]:
    members = archive.infolist()
    if len(members) > MAX_COLUMNS or sum(member.file_size for member in members) > MAX_BYTES:
        raise MalformedError("npz.size", f"more than {MAX_COLUMNS} arrays or {MAX_BYTES} bytes")
    if not all(member.filename.endswith(".npy") for member in members):
        raise MalformedError("npz.member", "a member that is not a .npy array")
    if not all(member.compress_type in _COMPRESSIONS for member in members):
        raise MalformedError("npz.compression", "an array that is neither stored nor deflated")
    check_names([member.filename.removesuffix(".npy") for member in members])
    columns = []
    for member in members:
        with archive.open(member) as file:
            content = file.read(member.file_size + 1)
        columns.append(parse_npy(content, member.filename.removesuffix(".npy")))
    return tuple(columns)


def _parse_header(data: bytes) -> _Header:
    form = _SIZE_FORMS.get(data[6:8]) if data.startswith(_MAGIC) else None
    if form is None:
        raise MalformedError("npy.magic", "not a .npy array of version 1 or 2")
    start = 8 + struct.calcsize(form)
    if len(data) < start:
        raise MalformedError("npy.header", "ends inside its header")
    end = start + struct.unpack(form, data[8:start])[0]
    if end > min(len(data), MAX_HEADER):
        raise MalformedError("npy.header", f"a header beyond {MAX_HEADER} bytes or the end")
    try:
        fields = ast.literal_eval(data[start:end].decode("ascii").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise MalformedError("npy.header", "not a literal") from error
    return _checked_header(fields, end)


def _checked_header(fields: object, end: int) -> _Header:
    match fields:
        case {"descr": str(element), "fortran_order": False, "shape": tuple(shape), **rest}:
            whole = all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape)
            if rest or not whole or not 1 <= len(shape) <= MAX_DIMENSIONS:
                raise MalformedError("npy.header", f"header {shown(fields)}")
        case _:
            message = f"expected a plain array in C order, got {shown(fields)}"
            raise MalformedError("npy.header", message)
    if shape[0] > MAX_ROWS:
        raise MalformedError("npy.rows", f"more than {MAX_ROWS} rows")
    return _Header(element, shape, end)


def _texts(name: str, shape: tuple[int, ...], width: int, body: bytes) -> TextColumn:
    size = 4 * width
    if len(shape) != 1 or width > MAX_TEXT_WIDTH or len(body) != shape[0] * size:
        raise MalformedError("npy.size", f"{len(body)} bytes for text of shape {shape}")
    try:
        values = tuple(
            body[start : start + size].decode("utf-32-le").rstrip("\0")
            for start in range(0, len(body), size)
        )
    except UnicodeDecodeError as error:
        raise MalformedError("npy.text", "not UTF-32 text") from error
    return TextColumn(name=name, values=values)
