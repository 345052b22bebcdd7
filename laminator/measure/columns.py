"""The columns of an evaluation data set: numbers, texts or encoded images.

A column gives rows in any order (`take`), so that whoever holds it can shuffle what a model
sees, and category values (`categories`) where its values are used as labels or groups.
"""

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from laminator.errors import MalformedError, shown

MAX_IMAGE_BYTES = 32 * 1024**2

# struct's letters for the element types that a column of numbers may have, by NumPy's name.
ELEMENTS = {
    "<f8": "d",
    "<f4": "f",
    "<f2": "e",
    "<i8": "q",
    "<i4": "i",
    "<i2": "h",
    "|i1": "b",
    "<u8": "Q",
    "<u4": "I",
    "<u2": "H",
    "|u1": "B",
    "|b1": "?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberColumn:
    """Numbers: each row is a little-endian array of `shape`, with elements as NumPy names them."""

    name: str
    element: str
    shape: tuple[int, ...] = ()
    data: bytes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.data) // self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * struct.calcsize(ELEMENTS[self.element])

    @property
    def largest_row(self) -> int:
        """Bytes of the largest row."""
        return self.row_bytes

    def take(self, rows: Sequence[int]) -> bytes:
        """Return the bytes of these rows, in this order."""
        size = self.row_bytes
        return b"".join([self.data[row * size : row * size + size] for row in rows])

    def rows(self) -> Iterator[bytes]:
        """Yield the bytes of each row."""
        size = self.row_bytes
        return (self.data[start : start + size] for start in range(0, len(self.data), size))

    def numbers(self) -> tuple[float, ...]:
        """Return every number, row after row."""
        letter = ELEMENTS[self.element]
        count = len(self.data) // struct.calcsize(letter)
        return struct.unpack(f"<{count}{letter}", self.data)

    def categories(self) -> tuple[str, ...]:
        """Return each row's number as decimal text; a missing number is the empty text.

        Raises MalformedError where a number is not whole, or a row holds several.
        """
        if self.shape:
            raise MalformedError(
                "dataset.categories", f"rows of {shown(self.name)} hold several numbers"
            )
        return tuple(self._category(number) for number in self.numbers())

    def _category(self, number: float) -> str:
        if math.isnan(number):
            return ""
        if not math.isfinite(number) or number != int(number):
            message = f"{shown(self.name)} holds {number}; labels and groups are text or whole"
            raise MalformedError("dataset.categories", f"{message} numbers")
        return str(int(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """Texts, one for each row."""

    name: str
    values: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    @property
    def largest_row(self) -> int:
        """Bytes of the largest row, at four for a character."""
        return 4 * max(map(len, self.values), default=0)

    def take(self, rows: Sequence[int]) -> list[str]:
        """Return the texts of these rows, in this order."""
        return [self.values[row] for row in rows]

    def categories(self) -> tuple[str, ...]:
        """Return each row's text."""
        return self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageColumn:
    """Encoded images, one file for each row; read when they are taken.

    `digests` holds each file's SHA-256, where they are known: other bytes are refused.
    """

    name: str
    files: tuple[Path, ...]
    digests: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.files)

    @property
    def largest_row(self) -> int:
        """Bytes of the largest row."""
        return max((file.stat().st_size for file in self.files), default=0)

    def take(self, rows: Sequence[int]) -> list[bytes]:
        """Return the encoded images of these rows, in this order. Raises MalformedError."""
        return [self._image(row) for row in rows]

    def _image(self, row: int) -> bytes:
        content = self.files[row].read_bytes()
        if self.digests and hashlib.sha256(content).digest() != self.digests[row]:
            raise changed(self.files[row])
        return content

    def categories(self) -> tuple[str, ...]:
        """Images are no labels. Raises MalformedError."""
        raise MalformedError("dataset.categories", f"{shown(self.name)} holds images")


def changed(path: Path) -> MalformedError:
    """Return the error for bytes at `path` that are not those that were measured."""
    message = f"the private copy {shown(path.name)} is not what was measured: something changed it"
    return MalformedError("dataset.changed", message)


Column: TypeAlias = NumberColumn | TextColumn | ImageColumn
