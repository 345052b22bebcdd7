"""Evaluation data: the strict readers, and the roles of columns."""

import contextlib
import io
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from laminator.errors import LaminatorError, MalformedError, UsageError
from laminator.measure import csv_table, dataset, npy
from laminator.measure.columns import ELEMENTS, Column, ImageColumn, NumberColumn, TextColumn
from laminator.measure.csv_table import parse_csv
from laminator.measure.dataset import Roles, class_order, load_columns, load_labels, split
from laminator.measure.npy import parse_npy, parse_npz

PLAIN_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


def _numbers(column: Column) -> tuple[float, ...]:
    assert isinstance(column, NumberColumn)
    return column.numbers()


def _code(action: Callable[[], object]) -> str:
    with pytest.raises(LaminatorError) as caught:
        action()
    return caught.value.code


def _npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_csv_kinds() -> None:
    text = 'whole,float,gaps,text,dates\n1,1.5,,a,2020-01-01\n-2,-.5e1,3, "b, c",2020-01-02\n'
    whole, floats, gaps, texts, dates = parse_csv(text.encode())
    assert whole == NumberColumn(name="whole", element="<i8", data=struct.pack("<2q", 1, -2))
    assert floats == NumberColumn(name="float", element="<f8", data=struct.pack("<2d", 1.5, -5))
    assert gaps.categories() == ("", "3")
    assert texts == TextColumn(name="text", values=("a", "b, c"))
    assert dates.categories() == ("2020-01-01", "2020-01-02")


@pytest.mark.parametrize(
    "cell", ["nan", "inf", "0x10", "1_000", "1 ", "\u0661", "1e", ".", "-", "+", "1,5"]
)
def test_csv_text_that_python_might_take_for_a_number(cell: str) -> None:
    (column,) = parse_csv(f'x\n1\n"{cell}"\n'.encode())
    assert isinstance(column, TextColumn)


def test_csv_numbers_too_large_for_integers_are_floats() -> None:
    (column,) = parse_csv(b"x\n9223372036854775808\n1\n")
    assert isinstance(column, NumberColumn)
    assert column.element == "<f8"
    (column,) = parse_csv(b"x\n9223372036854775807\n-9223372036854775808\n")
    assert _numbers(column) == (2**63 - 1, -(2**63))


def test_csv_without_a_header_row() -> None:
    age, job = parse_csv(b"39, State-gov\n50, Private\n\n", ("age", "job"))
    assert _numbers(age) == (39, 50)
    assert job.categories() == ("State-gov", "Private")


def test_csv_empty_column_is_text() -> None:
    assert isinstance(parse_csv(b"x,y\n,1\n,2\n")[0], TextColumn)


def test_csv_byte_order_mark_and_line_ends() -> None:
    assert [column.name for column in parse_csv(b"\xef\xbb\xbfa,b\r\n1,2\r\n")] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "dataset.columns"),
        (b"\n", "dataset.columns"),
        (b",a\n1,2\n", "dataset.column-name"),
        (b"a,a\n1,2\n", "dataset.column-name"),
        (b"a" * 257 + b"\n1\n", "dataset.column-name"),
        (b"a,b\n1\n", "csv.row"),
        (b"a,b\n1,2,3\n", "csv.row"),
        (b"a,b\n1,2\n\n1,2\n", "csv.row"),
        (b"a\n\xff\n", "csv.text"),
        (b"a\n\0\n", "csv.text"),
        (b'a\n"b\n', "csv.syntax"),
        (b'a\n"b"c\n', "csv.syntax"),
        (b"a\n" + b"x" * 200_000, "csv.syntax"),
        (b"a\n1e999\n", "csv.number"),
    ],
)
def test_csv_refuses(data: bytes, code: str) -> None:
    assert _code(lambda: parse_csv(data)) == code


def test_csv_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "MAX_ROWS", 1)
    assert _code(lambda: parse_csv(b"a\n1\n2\n")) == "csv.rows"
    monkeypatch.setattr(csv_table, "MAX_COLUMNS", 1)
    assert _code(lambda: parse_csv(b"a,b\n1,2\n")) == "dataset.columns"


@given(st.binary(max_size=200))
def test_csv_raises_only_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        parse_csv(data)


@given(
    npst.arrays(
        st.sampled_from([np.dtype(name) for name in ELEMENTS]),
        npst.array_shapes(min_dims=1, max_dims=3, max_side=4),
    )
)
def test_npy_reads_what_numpy_writes(array: Any) -> None:
    column = parse_npy(_npy(np.ascontiguousarray(array)), "x")
    assert isinstance(column, NumberColumn)
    assert len(column) == len(array)
    assert column.shape == array.shape[1:]
    assert column.take(range(len(array))) == array.tobytes()
    assert np.array_equal(np.array(column.numbers()), array.ravel().astype(float), equal_nan=True)


def test_npy_text() -> None:
    column = parse_npy(_npy(np.array(["a", "日本", ""])), "x")
    assert column == TextColumn(name="x", values=("a", "日本", ""))


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.array([{}]), "npy.element"),
        (np.array([1.0], dtype=">f8"), "npy.element"),
        (np.array([1 + 1j]), "npy.element"),
        (np.array([b"a"]), "npy.element"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), "npy.header"),
        (np.asfortranarray(np.zeros((2, 2))), "npy.header"),
        (np.array(1.0), "npy.header"),
        (np.zeros((1,) * 9), "npy.header"),
        (np.zeros((2, 0)), "npy.shape"),
        (np.array([["a"]]), "npy.size"),
    ],
)
def test_npy_refuses_arrays(array: Any, code: str) -> None:
    assert _code(lambda: parse_npy(_npy(array), "x")) == code


def _with_header(header: str, body: bytes = bytes(8)) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "npy.magic"),
        (b"\x93NUMPY\x03\x00", "npy.magic"),
        (b"\x93NUMPY\x02\x00\x00", "npy.header"),
        (b"\x93NUMPY\x01\x00\xff\xff", "npy.header"),
        (_with_header("{}"), "npy.header"),
        (_with_header(PLAIN_HEADER + " " * 4096), "npy.header"),
        (_with_header("__import__('os')"), "npy.header"),
        (_with_header("(" * 400), "npy.header"),
        (_with_header("é" * 4), "npy.header"),
        (_with_header(PLAIN_HEADER.replace("1,", "-1,")), "npy.header"),
        (_with_header(PLAIN_HEADER.replace("1,", "True,")), "npy.header"),
        (_with_header(PLAIN_HEADER.replace("1,", "10**9,")), "npy.header"),
        (_with_header(PLAIN_HEADER.replace("1,", "99999999,")), "npy.rows"),
        (_with_header(PLAIN_HEADER.replace("1,", f"1, 0x{'f' * 3900},")), "npy.header"),
        (_with_header(f"0x{'f' * 3900}"), "npy.header"),
        (_with_header(PLAIN_HEADER, bytes(7)), "npy.size"),
        (_with_header(PLAIN_HEADER, bytes(9)), "npy.size"),
        (_with_header(PLAIN_HEADER.replace("<f8", "<U99999"), bytes(4 * 99999)), "npy.size"),
        (_with_header(PLAIN_HEADER.replace("<f8", "<U1"), b"\x00\xd8\x00\x00"), "npy.text"),
    ],
)
def test_npy_refuses_bytes(data: bytes, code: str) -> None:
    assert _code(lambda: parse_npy(data, "x")) == code


def test_npy_plain_header_is_read() -> None:
    assert _numbers(parse_npy(_with_header(PLAIN_HEADER), "x")) == (0,)


@given(st.binary(max_size=64), st.integers(0, 60))
def test_npy_raises_only_malformed(noise: bytes, position: int) -> None:
    data = _with_header(PLAIN_HEADER)
    with contextlib.suppress(MalformedError):
        parse_npy(data[:position] + noise, "x")
    with contextlib.suppress(MalformedError):
        parse_npz(noise)


def test_npz_reads_what_numpy_writes(tmp_path: Path) -> None:
    images, labels = np.arange(24, dtype="f4").reshape(3, 2, 4), np.array([0, 1, 0])
    np.savez_compressed(tmp_path / "data.npz", x=images, y=labels)
    x, y = load_columns(tmp_path / "data.npz", ".npz")
    assert (x.name, y.name) == ("x", "y")
    assert isinstance(x, NumberColumn)
    assert x.take([2, 0]) == images[[2, 0]].tobytes()
    assert y.categories() == ("0", "1", "0")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PK\x05\x06", "npz.syntax"),
        (b"", "npz.syntax"),
        (_zip({}), "dataset.columns"),
        (_zip({"x.txt": b""}), "npz.member"),
        (_zip({".npy": b""}), "dataset.column-name"),
        (_zip({"x.npy": b""}), "npy.magic"),
        (_zip({"x.npy": _npy(np.zeros(3))}, zipfile.ZIP_LZMA), "npz.compression"),
        (_zip({"x.npy": _npy(np.zeros(3))}, zipfile.ZIP_BZIP2), "npz.compression"),
        (_zip({"x.npy": _npy(np.array([{}]))}), "npy.element"),
        (_zip({"x.npy": _npy(np.zeros(3))}).replace(b"\x93NUMPY", b"\x93NUMPZ", 1), "npz.syntax"),
    ],
)
def test_npz_refuses(data: bytes, code: str) -> None:
    assert _code(lambda: parse_npz(data)) == code


def test_npz_refuses_encryption() -> None:
    data = bytearray(_zip({"x.npy": _npy(np.zeros(3))}))
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert _code(lambda: parse_npz(bytes(data))) == "npz.syntax"


NPZ = _zip({"x.npy": _npy(np.zeros(3)), "y.npy": _npy(np.zeros(3))}, zipfile.ZIP_DEFLATED)


@given(st.integers(0, len(NPZ) - 1), st.integers(1, 255), st.integers(0, len(NPZ)))
def test_npz_with_a_changed_byte_raises_only_malformed(place: int, flip: int, end: int) -> None:
    changed = bytearray(NPZ)
    changed[place] ^= flip
    for data in (bytes(changed), NPZ[:end]):
        with contextlib.suppress(MalformedError):
            parse_npz(data)


def test_npz_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "MAX_BYTES", 100)
    assert _code(lambda: parse_npz(_zip({"x.npy": bytes(101)}))) == "npz.size"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images in two classes."""
    for path, content in (("cat/1.png", b"c1"), ("cat/2.JPG", b"c2"), ("dog/1.png", b"d")):
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / path).write_bytes(content)
    return tmp_path / "images"


def test_images(images: Path) -> None:
    column, classes = load_columns(images, "")
    assert isinstance(column, ImageColumn)
    assert column.take([2, 0, 1]) == [b"d", b"c1", b"c2"]
    assert column.largest_row == 2
    assert classes == TextColumn(name="class", values=("cat", "cat", "dog"))


@pytest.mark.parametrize("path", ["stray.png", "cat/notes.txt", "cat/deeper/1.png"])
def test_images_refuse_other_layouts(images: Path, path: str) -> None:
    (images / path).parent.mkdir(exist_ok=True)
    (images / path).write_bytes(b"x")
    assert _code(lambda: load_columns(images, "")) in {"images.layout", "images.file"}


def test_images_bound(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS", 2)
    assert _code(lambda: load_columns(images, "")) == "images.rows"


def test_images_refuse_links_and_size(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_IMAGE_BYTES", 1)
    assert _code(lambda: load_columns(images, "")) == "images.size"
    monkeypatch.undo()
    (images / "cat" / "3.png").symlink_to(images / "cat" / "1.png")
    assert _code(lambda: load_columns(images, "")) == "images.file"
    (images / "more").symlink_to(images / "dog")
    (images / "cat" / "3.png").unlink()
    assert _code(lambda: load_columns(images, "")) == "images.layout"


def test_load_columns_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"1, a\n")
    assert len(load_columns(path, ".data", ("x", "y"))) == 2
    assert _code(lambda: load_columns(path, ".data")) == "dataset.form"
    path.write_bytes(_npy(np.zeros((2, 3))))
    (column,) = load_columns(path, ".npy")
    assert (column.name, len(column)) == ("x", 2)
    path.write_bytes(_zip({"x.npy": _npy(np.zeros(2)), "y.npy": _npy(np.zeros(3))}))
    assert _code(lambda: load_columns(path, ".npz")) == "dataset.rows"
    monkeypatch.setattr(dataset, "MAX_BYTES", 10)
    assert _code(lambda: load_columns(path, ".npz")) == "dataset.size"


def test_label_files(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    for suffix, content in (
        (".txt", b"a\nb\n"),
        (".csv", b"label\na\nb\n"),
        (".npy", _npy(np.array(["a", "b"]))),
    ):
        path.write_bytes(content)
        assert load_labels(path, suffix) == ("a", "b")
    path.write_bytes(b"\xff")
    assert _code(lambda: load_labels(path, ".txt")) == "labels.text"
    path.write_bytes(b"a,b\n1,2\n")
    assert _code(lambda: load_labels(path, ".csv")) == "labels.columns"


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "01"], ("01", "10", "9")),
        (["b", "a", "b"], ("a", "b")),
        (["1", "-"], ("-", "1")),
    ],
)
def test_class_order(labels: list[str], order: tuple[str, ...]) -> None:
    assert class_order(labels) == order


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (NumberColumn(name="x", element="<f8", data=struct.pack("<2d", 1, math.nan)), ("1", "")),
        (NumberColumn(name="x", element="|b1", data=b"\x00\x01"), ("0", "1")),
    ],
)
def test_categories(column: Column, expected: tuple[str, ...]) -> None:
    assert column.categories() == expected


@pytest.mark.parametrize(
    "column",
    [
        NumberColumn(name="x", element="<f8", data=struct.pack("<d", 0.5)),
        NumberColumn(name="x", element="<f8", data=struct.pack("<d", math.inf)),
        NumberColumn(name="x", element="|u1", shape=(2,), data=b"ab"),
        ImageColumn(name="x", files=()),
    ],
)
def test_no_categories(column: Column) -> None:
    assert _code(column.categories) == "dataset.categories"


def _columns(rows: int = 4, **more: list[Any]) -> tuple[Column, ...]:
    plain: dict[str, list[Any]] = {
        "age": [30 + 7 * i % 5 for i in range(rows)],
        "sex": ["f", "m"] * (rows // 2),
    }
    plain |= more or {"label": [i // 2 % 2 for i in range(rows)]}
    return tuple(csv_table.column(name, tuple(map(str, cells))) for name, cells in plain.items())


def _names(examples: dataset.Examples) -> list[str]:
    return [column.name for column in examples.features]


def test_split_keeps_labels_and_sensitive_columns_from_the_model() -> None:
    examples = split(_columns(), Roles("label", sensitive=("sex",)))
    assert _names(examples) == ["age"]
    assert examples.labels == ("0", "0", "1", "1")
    assert examples.groups == {"sex": ("f", "m", "f", "m")}


def test_split_gives_a_sensitive_feature_to_both() -> None:
    examples = split(_columns(), Roles("label", sensitive=("sex",), features=("sex",)))
    assert _names(examples) == ["age", "sex"]
    assert set(examples.groups) == {"sex"}


def test_split_holds_back() -> None:
    assert _names(split(_columns(), Roles("label", held_back=("sex",)))) == ["age"]


def test_split_takes_labels_from_a_file() -> None:
    examples = split(_columns(), Roles(None), ("a", "b", "a", "b"))
    assert _names(examples) == ["age", "sex", "label"]
    assert examples.labels == ("a", "b", "a", "b")


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        (Roles("none"), "data.column"),
        (Roles("label", sensitive=("none",)), "data.column"),
        (Roles("label", held_back=("age", "sex")), "data.features"),
        (Roles("label", sensitive=("label",)), "data.labels"),
        (Roles("label", features=("label",)), "data.labels"),
    ],
)
def test_split_refuses_roles(roles: Roles, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        split(_columns(), roles)
    assert caught.value.code == code


def test_split_refuses_labels() -> None:
    assert _code(lambda: split(_columns(), Roles(None), ("a",))) == "labels.rows"
    assert _code(lambda: split(_columns(), Roles(None), ("a", "", "b", "c"))) == "labels.missing"
    assert _code(lambda: split(_columns(0), Roles("label"))) == "dataset.empty"


def test_split_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_GROUPS", 1)
    assert _code(lambda: split(_columns(), Roles("label", sensitive=("sex",)))) == "data.groups"
    monkeypatch.setattr(dataset, "MAX_CLASSES", 1)
    assert _code(lambda: split(_columns(), Roles("label"))) == "labels.classes"


LABELS = [i // 2 % 2 for i in range(dataset.LEAK_ROWS)]


@pytest.mark.parametrize(
    ("column", "leaks"),
    [
        (LABELS, True),
        ([1 - label for label in LABELS], True),
        ([label / 4 for label in LABELS], True),
        (["yes" if label else "no" for label in LABELS], True),
        (list(range(dataset.LEAK_ROWS)), True),
        (list(range(dataset.LEAK_ROWS, 0, -1)), True),
        ([1 - LABELS[0], *LABELS[1:]], False),
        ([7] * dataset.LEAK_ROWS, False),
        ([0, *range(dataset.LEAK_ROWS - 1)], False),
        (["same"] * dataset.LEAK_ROWS, False),
    ],
)
def test_split_refuses_a_column_that_gives_labels_or_order_away(
    column: list[Any], leaks: bool
) -> None:
    columns = _columns(dataset.LEAK_ROWS, label=LABELS, other=column)
    if leaks:
        assert _code(lambda: split(columns, Roles("label"))) == "data.leak"
    else:
        split(columns, Roles("label"))
    split(columns, Roles("label", held_back=("other",)))
