"""Evaluation data sets: from the measured bytes to columns, and each column's role.

Read are CSV, NumPy's arrays (`.npy`, `.npz`) and a folder of images with one subfolder for each
class (columns `image` and `class`). It all runs in the measurer's process with the standard
library alone, bounds what it reads and raises MalformedError for bytes, UsageError for roles.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.digest import Digest, sha256
from laminator.errors import MalformedError, UsageError, shown
from laminator.measure.columns import (
    MAX_IMAGE_BYTES,
    Column,
    ImageColumn,
    NumberColumn,
    TextColumn,
    changed,
)
from laminator.measure.csv_table import MAX_ROWS, parse_csv
from laminator.measure.files import ManifestEntry, measure_manifest
from laminator.measure.npy import parse_npy, parse_npz

MAX_BYTES = 2 * 1024**3
MAX_CLASSES = 10_000
MAX_GROUPS = 100
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGE_COLUMN = "image"
CLASS_COLUMN = "class"
# With fewer rows, a column that repeats the labels or numbers the rows may well be chance.
LEAK_ROWS = 16


class Roles(NamedTuple):
    """What each column is for.

    `labels` names the label column, or is None where the labels come from a file. Every other
    column is a feature, except the `sensitive` ones that `features` does not name, and those
    `held_back`.
    """

    labels: str | None
    sensitive: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()


class Examples(NamedTuple):
    """A data set split by roles: labels and groups stay here, features may reach a model."""

    labels: tuple[str, ...]
    features: tuple[Column, ...]
    groups: dict[str, tuple[str, ...]]


def load_columns(
    path: Path, suffix: str, header: Sequence[str] = (), expected: Digest | None = None
) -> tuple[Column, ...]:
    """Read the data set at `path`; `suffix` is that of the file's real name.

    A folder is one of images. Raises MalformedError, also where the bytes that are read, or the
    folder's manifest over them, have another digest than `expected`.
    """
    if path.is_dir():
        return _load_images(path, expected)
    data = _read(path, expected)
    if suffix == ".csv" or (suffix == ".data" and header):
        columns = parse_csv(data, header)
    elif suffix == ".npy":
        columns = (parse_npy(data, "x"),)
    elif suffix == ".npz":
        columns = parse_npz(data)
    else:
        message = f"no reader for {shown(suffix)}: give .csv, .npz, .npy or a folder of images"
        raise MalformedError("dataset.form", message)
    check_same_rows(columns)
    return columns


def load_labels(path: Path, suffix: str, expected: Digest | None = None) -> tuple[str, ...]:
    """Read a file of labels: `.csv` or `.npy` with one column, or `.txt` with one a line.

    Raises MalformedError, as `load_columns`.
    """
    if suffix == ".txt":
        try:
            return tuple(_read(path, expected).decode().splitlines())
        except UnicodeDecodeError as error:
            raise MalformedError("labels.text", "not UTF-8") from error
    columns = load_columns(path, suffix, expected=expected)
    if len(columns) != 1:
        message = f"expected one column of labels, found {len(columns)}"
        raise MalformedError("labels.columns", message)
    return columns[0].categories()


def split(columns: Sequence[Column], roles: Roles, labels: tuple[str, ...] = ()) -> Examples:
    """Split the columns by `roles`; `labels` are those of a file, where no column has them.

    Raises UsageError for roles that the columns do not have, or that give the labels or the
    rows' order away; MalformedError for labels that cannot be used.
    """
    named = {column.name: column for column in columns}
    for name in (roles.labels, *roles.sensitive, *roles.features, *roles.held_back):
        if name is not None and name not in named:
            known = ", ".join(shown(column) for column in list(named)[:20])
            raise UsageError("data.column", f"no column {shown(name)} (there is: {known})")
    if roles.labels is not None:
        labels = named[roles.labels].categories()
    rows = len(columns[0])
    _check_labels(labels, rows)
    withheld = {roles.labels, *roles.held_back, *(set(roles.sensitive) - set(roles.features))}
    features = tuple(column for column in columns if column.name not in withheld)
    _check_features(features, roles, labels)
    groups = {name: named[name].categories() for name in roles.sensitive}
    for name, values in groups.items():
        if len(set(values)) > MAX_GROUPS:
            message = f"sensitive column {shown(name)} has more than {MAX_GROUPS} groups"
            raise UsageError("data.groups", message)
    return Examples(labels, features, groups)


def class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct labels sorted: as numbers where all are whole numbers, else as text."""
    distinct = set(labels)
    if all(_is_whole(label) for label in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def check_same_rows(columns: Sequence[Column]) -> None:
    """Check that all columns have one number of rows. Raises MalformedError."""
    counts = {len(column) for column in columns}
    if len(counts) > 1:
        raise MalformedError("dataset.rows", f"columns of different lengths: {sorted(counts)}")


def _is_whole(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(label)) == label


def _check_labels(labels: Sequence[str], rows: int) -> None:
    if rows == 0:
        raise MalformedError("dataset.empty", "the data set has no rows")
    if len(labels) != rows:
        raise MalformedError("labels.rows", f"{len(labels)} labels for {rows} rows")
    if not all(labels):
        row = list(labels).index("") + 1
        raise MalformedError("labels.missing", f"row {row} has no label")
    if len(set(labels)) > MAX_CLASSES:
        raise MalformedError("labels.classes", f"more than {MAX_CLASSES} distinct labels")


def _check_features(features: Sequence[Column], roles: Roles, labels: Sequence[str]) -> None:
    if not features:
        raise UsageError("data.features", "no column is left for the model")
    if roles.labels is not None and roles.labels in (*roles.features, *roles.sensitive):
        raise UsageError("data.labels", f"{shown(roles.labels)} is the labels' column")
    if len(labels) < LEAK_ROWS:
        return
    for column in features:
        if _repeats(column, labels):
            reason = "repeats the labels"
        elif _numbers_rows(column):
            reason = "numbers the rows"
        else:
            continue
        message = f"column {shown(column.name)} {reason}: hold it back with --hold-back"
        raise UsageError("data.leak", message)


def _repeats(column: Column, labels: Sequence[str]) -> bool:
    """Whether each value of the column stands for one label and each label for one value."""
    if isinstance(column, ImageColumn):
        return False
    values: Iterable[object] = column.values if isinstance(column, TextColumn) else column.rows()
    of_label: dict[str, object] = {}
    of_value: dict[object, str] = {}
    for label, value in zip(labels, values, strict=True):
        if of_label.setdefault(label, value) != value or of_value.setdefault(value, label) != label:
            return False
    return len(of_label) > 1


def _numbers_rows(column: Column) -> bool:
    """Whether the column counts the rows up or down by one, in the file's order."""
    if not isinstance(column, NumberColumn) or column.shape:
        return False
    numbers = column.numbers()
    step = numbers[1] - numbers[0]
    return step in (1, -1) and all(
        number - numbers[0] == step * position for position, number in enumerate(numbers)
    )


def _load_images(root: Path, expected: Digest | None) -> tuple[Column, ...]:
    files: list[Path] = []
    classes: list[str] = []
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.is_symlink():
            message = f"{shown(folder.name)} is no folder: expected one for each class"
            raise MalformedError("images.layout", message)
        for file in sorted(folder.iterdir()):
            _check_image(file)
            files.append(file)
            classes.append(folder.name)
    if len(files) > MAX_ROWS:
        raise MalformedError("images.rows", f"more than {MAX_ROWS} images")
    digests = () if expected is None else _measured(root, files, expected)
    return (
        ImageColumn(name=IMAGE_COLUMN, files=tuple(files), digests=digests),
        TextColumn(name=CLASS_COLUMN, values=tuple(classes)),
    )


def _measured(root: Path, files: Sequence[Path], expected: Digest) -> tuple[bytes, ...]:
    """Return the files' SHA-256, if the folder's digest over them is the expected one."""
    entries = []
    for file in files:
        content = file.read_bytes()
        digest = hashlib.sha256(content).digest()
        entries.append(ManifestEntry(str(file.relative_to(root)), len(content), digest))
    if measure_manifest(entries).digest != expected:
        raise changed(root)
    return tuple(entry.digest for entry in entries)


def _check_image(file: Path) -> None:
    if file.is_symlink() or not file.is_file() or file.suffix.lower() not in IMAGE_SUFFIXES:
        message = f"{shown(file.name)} is not an image ({', '.join(IMAGE_SUFFIXES)})"
        raise MalformedError("images.file", message)
    if file.stat().st_size > MAX_IMAGE_BYTES:
        raise MalformedError("images.size", f"{shown(file.name)} is beyond {MAX_IMAGE_BYTES} bytes")


def _read(path: Path, expected: Digest | None = None) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise MalformedError("dataset.size", f"beyond {MAX_BYTES} bytes")
        data = file.read(MAX_BYTES + 1)
    if expected is not None and sha256(data) != expected:
        raise changed(path)
    return data
