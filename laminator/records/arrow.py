"""Records of Parquet files and Arrow files and streams, by pyarrow, batch by batch.

A record is one row. Columns are integers, floats, bool, text and bytes; dictionaries of those are
read as their values; nested, temporal, decimal and extension types are refused. pyarrow is no part
of the attester's measured copy: what rests on it is `reported`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laminator.errors import MalformedError, UsageError, shown
from laminator.records.schema import Field, Schema, make_schema

_ROWS = 4096
_TYPES = {
    **dict.fromkeys(("int8", "int16", "int32", "int64"), "int64"),
    **dict.fromkeys(("uint8", "uint16", "uint32", "uint64"), "uint64"),
    "halffloat": "float32",
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    **dict.fromkeys(("string", "large_string", "string_view"), "text"),
    **dict.fromkeys(("binary", "large_binary", "binary_view"), "bytes"),
}


def infer_arrow(path: Path, form: str) -> Schema:
    """Return the schema that the file states. Raises MalformedError, UsageError."""
    pyarrow = _pyarrow()
    try:
        with _opened(path, form) as reader:
            found = reader.schema_arrow if form == "parquet" else reader.schema
            return _schema(found)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(error) from error


def read_arrow(path: Path, form: str) -> Iterator[dict[str, object]]:
    """Yield each row's values by name. Raises MalformedError, UsageError."""
    pyarrow = _pyarrow()
    infer_arrow(path, form)
    try:
        with _opened(path, form) as reader:
            for batch in _batches(reader, form):
                batch.validate(full=True)
                for start in range(0, batch.num_rows, _ROWS):
                    yield from batch.slice(start, _ROWS).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def _batches(reader: Any, form: str) -> Iterator[Any]:  # noqa: ANN401
    if form == "parquet":
        return iter(reader.iter_batches(batch_size=_ROWS))
    if hasattr(reader, "num_record_batches"):
        return map(reader.get_batch, range(reader.num_record_batches))
    return iter(reader)


def _opened(path: Path, form: str) -> Any:  # noqa: ANN401
    import pyarrow.ipc
    import pyarrow.parquet

    if form == "parquet":
        return pyarrow.parquet.ParquetFile(path)
    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    source = pyarrow.memory_map(str(path))
    return pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)


def _schema(found: Any) -> Schema:  # noqa: ANN401
    return make_schema([_field(item) for item in found])


def _field(item: Any) -> Field:  # noqa: ANN401
    kind = item.type
    if kind.__class__.__name__ == "DictionaryType":
        kind = kind.value_type
    name = _TYPES.get(str(kind))
    if name is None or str(item.metadata or "").count("ARROW:extension"):
        message = f"column {shown(item.name)} is of type {shown(str(kind))}; it has no record form"
        raise MalformedError("arrow.type", message)
    return Field(item.name, name)


def _unreadable(error: Exception) -> MalformedError:
    return MalformedError("arrow.syntax", f"not readable: {shown(str(error))}")


def check_pyarrow() -> None:
    """Raise UsageError where the code that runs here has no pyarrow."""
    _pyarrow()


def _pyarrow() -> Any:  # noqa: ANN401
    try:
        import pyarrow as pa
    except ImportError as error:
        message = (
            "Parquet and Arrow need pyarrow, which the attester that runs here does not have: "
            "install laminator[data], or convert the data to CSV, JSON lines or npz"
        )
        raise UsageError("records.pyarrow", message) from error
    return pa
