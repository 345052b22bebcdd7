"""Data sets that are measured: CSV, NumPy arrays, and archives of them."""

import io
import math

import numpy as np

from harnesses.harness import Harness, parsed
from laminator.measure.columns import Column, NumberColumn, TextColumn
from laminator.measure.csv_table import parse_csv
from laminator.measure.npy import parse_npy, parse_npz

WORDS = (
    "\x93NUMPY",
    "'descr'",
    "'<f8'",
    "'fortran_order'",
    "'shape'",
    "PK\x03\x04",
    '""',
    "1e999",
    "0xffff",
)


def check(data: bytes) -> bool:
    """What parses has columns of one length, whose rows are their bytes."""
    array = parsed(lambda given: parse_npy(given, "x"), data)
    if array is not None:
        _check_columns((array,))
    archive = parsed(parse_npz, data)
    if archive is not None:
        for column in archive:
            _check_columns((column,))
    table = parsed(parse_csv, data)
    if table is not None:
        _check_columns(table)
    return any(found is not None for found in (array, archive, table))


def seeds() -> list[bytes]:
    """Return tables, arrays and archives of every kind of column."""
    table = 'a,b,c,label\n1,.5,"x ""y""\n",no\n-2,,é,yes\n'
    arrays = [
        np.array([1.5, 2]),
        np.array([[1], [2]], "<i4"),
        np.array(["no", "yes"]),
        np.array([True]),
    ]
    files = []
    for array in arrays:
        np.save(file := io.BytesIO(), array)
        files.append(file.getvalue())
    np.savez(archive := io.BytesIO(), x=arrays[0], y=arrays[2])
    np.savez_compressed(packed := io.BytesIO(), x=arrays[1])
    return [table.encode(), b"\xef\xbb\xbfx\n", *files, archive.getvalue(), packed.getvalue()]


def _check_columns(columns: tuple[Column, ...]) -> None:
    assert len({len(column) for column in columns}) <= 1
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        rows = range(len(column))
        match column:
            case NumberColumn():
                assert math.prod(column.shape) > 0
                assert column.take(rows) == column.data
            case TextColumn():
                assert tuple(column.take(rows)) == column.values
        if len(column) and not getattr(column, "shape", ()):
            parsed(lambda _, column=column: column.categories(), b"")  # type: ignore[misc]


HARNESS = Harness(check, seeds, words=WORDS)
