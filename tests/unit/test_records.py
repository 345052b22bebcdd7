"""Records of every format under one schema: equal where the table is, different where not."""

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from laminator.cbor import Value, encode
from laminator.errors import MalformedError
from laminator.measure.lthash import Multiset, hash_records
from laminator.records.formats import find_source, hash_source, infer_schema
from laminator.records.schema import (
    Field,
    Schema,
    canonical,
    join,
    make_schema,
    parse_schema,
    read_schema,
)

Row = tuple[int, float, str, bool]
ROWS: list[Row] = [(1, 0.5, "a", True), (-7, 1e300, 'b,"\n', False), (0, -0.0, "", True)]
NAMES = ("n", "x", "text", "flag")
SCHEMA = make_schema(
    [Field("n", "int64"), Field("x", "float64"), Field("text", "text"), Field("flag", "bool")]
)


def write(folder: Path, form: str, rows: Sequence[Row] = ROWS) -> Path:
    """Write the rows as one file of this format."""
    path = folder / f"data.{form}"
    columns = dict(zip(NAMES, zip(*rows, strict=True), strict=True))
    if form == "csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(NAMES)
            writer.writerows([n, repr(x), t, str(f).lower()] for n, x, t, f in rows)
    elif form == "jsonl":
        lines = [json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows]
        path.write_text("".join(lines))
    elif form == "npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]
    else:
        table = pa.table({name: list(values) for name, values in columns.items()})
        if form == "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=2)
        else:
            make = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
            with make(path, table.schema) as writer:
                writer.write_table(table)
    return path


def digest(path: Path, schema: Schema | None = None) -> Multiset:
    """Return the file's digest under its own schema or this one."""
    source = find_source(path, path.name)
    return hash_source(source, schema or infer_schema(source))


def plain(path: Path, text: str | bytes, schema: Schema | None = None) -> Multiset:
    """Write a file and return its digest."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return digest(path, schema)


@pytest.mark.parametrize("form", ["csv", "jsonl", "npz", "parquet", "arrow", "arrows"])
def test_one_table_has_one_digest_in_every_format(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    assert infer_schema(find_source(path, path.name)) == SCHEMA
    expected = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    assert digest(path) == hash_records(map(canonical(SCHEMA), expected), SCHEMA.digest)


@pytest.mark.parametrize("form", ["csv", "jsonl", "npz", "parquet", "arrow"])
def test_shards_in_any_order_add_up_to_the_whole(tmp_path: Path, form: str) -> None:
    rows = ROWS * 3
    whole = digest(write(tmp_path, form, rows))
    random.Random(1).shuffle(rows)
    for number, part in enumerate((rows[:2], rows[2:])):
        (tmp_path / "shards").mkdir(exist_ok=True)
        written = write(tmp_path, form, part)
        written.rename(tmp_path / "shards" / f"{number}{written.suffix}")
    assert digest(tmp_path / "shards") == whole


@pytest.mark.parametrize(
    "rows",
    [
        [*ROWS[:2], (0, 0.0, "", False)],
        ROWS[:2],
        [*ROWS, ROWS[0]],
        [*ROWS[:2], (0, 0.0, " ", True)],
    ],
    ids=["changed", "dropped", "doubled", "blank"],
)
def test_another_table_has_another_digest(tmp_path: Path, rows: list[Row]) -> None:
    assert digest(write(tmp_path, "csv", rows)) != digest(write(tmp_path, "jsonl"))


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.floats(),
            st.text(),
            st.binary(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_record_is_deterministic_cbor(values: list[object]) -> None:
    kinds = {bool: "bool", int: "int64", float: "float64", str: "text", bytes: "bytes"}
    names = [f"c{index}" for index in range(len(values))]
    fields = [
        Field(name, kinds.get(type(value), "text"))
        for name, value in zip(names, values, strict=True)
    ]
    made = canonical(make_schema(fields))(dict(zip(names, values, strict=True)))
    zeroed = [value + 0.0 if isinstance(value, float) else value for value in values]
    assert made == encode(zeroed)  # type: ignore[arg-type]


def test_a_value_in_another_column_is_another_record(tmp_path: Path) -> None:
    assert plain(tmp_path / "a.csv", "a,b\nx,\n") != plain(tmp_path / "b.csv", "a,b\n,x\n")


def test_columns_in_another_order_are_the_same_table(tmp_path: Path) -> None:
    assert plain(tmp_path / "a.csv", "a,b\nx,1\n") == plain(tmp_path / "b.csv", "b,a\n1,x\n")


def test_a_record_split_in_two_is_another_multiset(tmp_path: Path) -> None:
    one = plain(tmp_path / "a.csv", "a,b\nx,y\n")
    assert one != plain(tmp_path / "b.csv", "a,b\nx,\n,y\n")


def test_text_is_no_number(tmp_path: Path) -> None:
    assert plain(tmp_path / "a.jsonl", '{"a": "1"}\n') != plain(tmp_path / "b.jsonl", '{"a": 1}\n')
    schema = make_schema([Field("a", "int64")])
    with pytest.raises(MalformedError, match="expected int64"):
        plain(tmp_path / "c.jsonl", '{"a": "1"}\n', schema)
    with pytest.raises(MalformedError, match="expected int64"):
        plain(tmp_path / "d.jsonl", '{"a": true}\n', schema)


def test_null_is_not_the_empty_text(tmp_path: Path) -> None:
    schema = make_schema([Field("a", "text")])
    null = plain(tmp_path / "a.jsonl", '{"a": null}\n', schema)
    assert null != plain(tmp_path / "b.jsonl", '{"a": ""}\n', schema)
    assert null == plain(tmp_path / "c.jsonl", "{}\n", schema)
    strict = make_schema([Field("a", "text", nullable=False)])
    with pytest.raises(MalformedError, match="null"):
        plain(tmp_path / "d.jsonl", '{"a": null}\n', strict)


def test_all_nans_and_zeros_are_one(tmp_path: Path) -> None:
    payload = np.array([0x7FF8000000000001, 0x8000000000000000], dtype="<u8").view("<f8")
    np.savez(tmp_path / "a.npz", a=payload)
    schema = make_schema([Field("a", "float64")])
    assert digest(tmp_path / "a.npz") == plain(tmp_path / "b.csv", "a\nnan\n0\n", schema)


def test_leading_zeros_make_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n007,1.5\n7,\n")
    found = infer_schema(find_source(tmp_path / "a.csv", "a.csv"))
    assert found == make_schema([Field("a", "text"), Field("b", "float64")])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"a": 1, "a": 2}\n'),
        ("a.jsonl", '{"a": NaN}\n'),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n'),
        ("a.jsonl", '{"a": [1]}\n'),
        ("a.jsonl", '{"a": 1}\n{"a": "1"}\n'),
        ("a.jsonl", "[1]\n"),
        ("a.jsonl", '{"a": 1e999}\n'),
        ("a.jsonl", '{"a": 99999999999999999999}\n'),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}\n"),
        ("a.jsonl", '{"a": "\\ud800"}\n'),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n"),
        ("a.csv", 'a,b\n"x"y,1\n'),
        ("a.csv", 'a,b\n"x,1\n'),
        ("a.csv", "a,b\n1\n"),
        ("a.csv", "a,a\n1,2\n"),
        ("a.csv", ""),
        ("a.csv", b"a\n\xff\n"),
        ("a.npz", b"PK"),
        ("a.npy", b"\x93NUMPY"),
        ("a.tar", b"x" * 700),
        ("a.safetensors", b"\xff" * 8),
        ("a.safetensors", b"\x02" + bytes(7) + b"{}x"),
        ("a.parquet", b"PAR1PAR1"),
        ("a.arrow", b"ARROW1\0\0"),
        ("a.arrows", b"\xff\xff\xff\xff\x10\0\0\0"),
        ("a.exe", b""),
    ],
)
def test_a_malformed_file_is_one_error(tmp_path: Path, name: str, content: str | bytes) -> None:
    with pytest.raises(MalformedError):
        plain(tmp_path / name, content)


def _tar(*members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content, kind in members:
            item = tarfile.TarInfo(name)
            item.type, item.size = kind, len(content)
            item.linkname = "x" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(item, io.BytesIO(content))
    return out.getvalue()


REG = tarfile.REGTYPE


def test_a_webdataset_record_is_the_files_of_one_key(tmp_path: Path) -> None:
    members = [("0.txt", b"a", REG), ("0.cls", b"1", REG), ("1.txt", b"b", REG)]
    one = plain(tmp_path / "a.tar", _tar(*members))
    other = [("k.txt", b"b", REG), ("d/x.cls", b"1", REG), ("d/x.txt", b"a", REG)]
    assert one == plain(tmp_path / "b.tar", _tar(*other))
    moved = [("0.txt", b"a", REG), ("1.cls", b"1", REG), ("1.txt", b"b", REG)]
    assert one != plain(tmp_path / "c.tar", _tar(*moved))


@pytest.mark.parametrize(
    "members",
    [
        [("0.txt", b"a", REG), ("0.txt", b"b", REG)],
        [("0.txt", b"a", REG), ("1.txt", b"b", REG), ("0.cls", b"1", REG)],
        [("0.txt", b"", tarfile.SYMTYPE)],
        [("0.txt", b"", tarfile.LNKTYPE)],
        [("../0.txt", b"a", REG)],
        [("/0.txt", b"a", REG)],
        [("noext", b"a", REG)],
    ],
)
def test_strange_tar_members_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes, bytes]]
) -> None:
    with pytest.raises(MalformedError, match=r"tar|twice|comes back|plain file|key\.column"):
        plain(tmp_path / "a.tar", _tar(*members))


def test_safetensors_and_npz_of_the_same_arrays_agree(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6, dtype="<f4").reshape(3, 2), "y": np.arange(3)}
    save_file(arrays, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    assert digest(tmp_path / "a.safetensors") == digest(tmp_path / "a.npz")


def test_an_image_folder_is_its_files_with_their_classes(tmp_path: Path) -> None:
    for folder, name in (("cat", "a.png"), ("dog", "b.png")):
        (tmp_path / "one" / folder).mkdir(parents=True)
        (tmp_path / "one" / folder / name).write_bytes(name.encode())
    before = digest(tmp_path / "one")
    (tmp_path / "one/cat/a.png").rename(tmp_path / "one/cat/z.png")
    assert digest(tmp_path / "one") == before
    (tmp_path / "one/cat/z.png").rename(tmp_path / "one/dog/z.png")
    assert digest(tmp_path / "one") != before


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.npy", b"")
    data = bytearray((tmp_path / "a.npz").read_bytes())
    at = data.find(b"PK\1\2")
    data[at + 24 : at + 28] = b"\xff\xff\xff\xfe"
    with pytest.raises(MalformedError, match="more than"):
        plain(tmp_path / "a.npz", bytes(data))


class _Extension(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.int64(), "test.extension")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([1], pa.timestamp("s")),
        pa.ExtensionArray.from_storage(_Extension(), pa.array([1])),
    ],
    ids=["list", "struct", "timestamp", "extension"],
)
def test_arrow_types_without_a_record_form_are_refused(tmp_path: Path, column: pa.Array) -> None:
    table = pa.table({"a": column})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "a.arrow")
    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(MalformedError, match="no record form"):
            digest(tmp_path / name)


def test_a_dictionary_column_is_its_values(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert digest(tmp_path / "a.parquet") == plain(tmp_path / "a.csv", "a\nx\ny\nx\n")


def test_schemas_are_read_joined_and_told_apart() -> None:
    tensor = Field("t", "tensor", element="<f4", shape=(2,))
    schema = make_schema([Field("b", "int64"), tensor, Field("a", "text", nullable=False)])
    assert parse_schema(tuple(map(tuple, schema.plain()))) == schema  # type: ignore[arg-type]
    given: Value = {"columns": ({"name": "a", "type": "text"},)}
    assert read_schema(given) == make_schema([Field("a", "text")])
    wide = make_schema([Field("a", "float64")])
    assert join(make_schema([Field("a", "int64")]), wide) == wide
    with pytest.raises(MalformedError, match="different columns"):
        join(schema, wide)
    with pytest.raises(MalformedError, match="is float64 here and text there"):
        join(wide, make_schema([Field("a", "text")]))
    assert wide.digest != make_schema([Field("a", "float64", nullable=False)]).digest


@pytest.mark.parametrize(
    "field",
    [
        Field("a", "int32"),
        Field("a", "tensor"),
        Field("a", "int64", element="<f4"),
        Field("a", "tensor", element=">f4"),
        Field("a", "tensor", element="<f4", shape=(1 << 40,)),
    ],
)
def test_a_strange_column_is_refused(field: Field) -> None:
    with pytest.raises(MalformedError, match="column 'a'"):
        make_schema([field])
