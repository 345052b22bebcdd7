"""The measurer of records: its process reads data sets and says what they have in common.

It runs from the attester's own measured code, in a sandbox of its own that has the data alone,
and answers on one socket as `laminator.run.measurer` does. It is the entry of a datasheet's card
too: no other program runs.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import MappingProxyType

from laminator.cbor import Encodable, Key, Value, encode
from laminator.claims import Property
from laminator.claims_codec import plain_property
from laminator.errors import LaminatorError, UsageError
from laminator.fields import MAX_TEXT
from laminator.measure.columns import changed
from laminator.measure.files import measure_path
from laminator.records.compare import count_shared, record_digests
from laminator.records.formats import (
    MEANING,
    UNMEASURED,
    Source,
    canonical_records,
    find_source,
    hash_source,
    infer_schema,
    read_records,
)
from laminator.records.minhash import count_near, make_method, signer
from laminator.records.schema import Schema, join
from laminator.run.dumpable import make_undumpable
from laminator.run.frames import receive_frame, send_frame
from laminator.run.record_orders import (
    MAX_ORDERS_BYTES,
    Datasheet,
    RecordOrders,
    check_named,
    parse_orders,
)

ATTESTER = "the attester"
MEASURER = "laminator.run.record_measurer"


class Tables:
    """The data sets by name, each with its schema; what they are compared under is one schema."""

    def __init__(self, orders: RecordOrders) -> None:
        self.sources = {
            key: find_source(Path(item.path), item.name) for key, item in orders.given.items()
        }
        self.schemas = _schemas(orders.datasheet, self.sources)

    def records(self, key: str) -> Iterator[bytes]:
        """Yield a data set's canonical records. Raises MalformedError, UsageError."""
        return canonical_records(self.sources[key], self.schemas[key])

    def statement(
        self, name: str, value: Value, on: tuple[str, ...], more: Mapping[str, Value]
    ) -> Property:
        """Return a property over these data sets, with what their records are.

        A reader that is not the attester's own code could change whatever this process says, so
        all is `reported` where one is needed.
        """
        forms = [self.sources[key].form for key in on]
        parameters: dict[str, Value] = {
            "schema": tuple(map(tuple, self.schemas[on[0]].plain())),  # type: ignore[arg-type]
            "schema-digest": self.schemas[on[0]].digest.hex(),
            "format": tuple(forms),
            "record": tuple(MEANING[form] for form in forms),
            **more,
        }
        read = {item.form for item in self.sources.values()}
        source = "reported" if UNMEASURED & read else "measured"
        measurer = f"{MEASURER}.{name}/1"
        return Property(name, value, source, measurer, on, MappingProxyType(parameters))


def main(arguments: Sequence[str]) -> int:
    """Measure: `arguments` is the descriptor of the attester's socket."""
    make_undumpable()
    (descriptor,) = arguments
    with socket.socket(fileno=int(descriptor)) as attester:
        orders = receive_frame(attester, MAX_ORDERS_BYTES, ATTESTER)
        send_frame(attester, encode(obey(orders)), ATTESTER)
    return 0


def obey(orders: bytes) -> dict[Key, Encodable]:
    """Return the result of the attester's orders: the properties, or the error."""
    try:
        properties = measure(parse_orders(orders))
    except LaminatorError as error:
        words = [error.code, error.message[:MAX_TEXT]]
        return {"error": words, "usage": isinstance(error, UsageError)}
    return {"properties": list(map(plain_property, properties))}


def measure(orders: RecordOrders) -> tuple[Property, ...]:
    """Return every property that the orders ask for.

    When all is read, the bytes are held against the digests in the orders: whoever changed a
    private copy meanwhile gets no measurement. Raises MalformedError, UsageError.
    """
    sheet = orders.datasheet
    check_named(sheet, set(orders.given))
    tables = Tables(orders)
    asked: list[tuple[str, tuple[str, ...]]] = [("records", (key,)) for key in sheet.records]
    asked += [("disjoint", pair) for pair in sheet.disjoint]
    asked += [("near-duplicates", pair) for pair in sheet.near]
    asked += [("union", three) for three in sheet.sums]
    found = tuple(RECORD_MEASURERS[name](tables, on, sheet) for name, on in asked)
    for item in orders.given.values():
        if measure_path(item.path).digest != item.digest:
            raise changed(Path(item.path))
    return found


def _records(tables: Tables, on: tuple[str, ...], _: Datasheet) -> Property:
    found = hash_source(tables.sources[on[0]], tables.schemas[on[0]])
    more: dict[str, Value] = {"n": found.number, "hash": "lthash16-1024-shake256"}
    more["state"] = found.state.hex()
    return tables.statement("records", found.digest.hex(), on, more)


def _disjoint(tables: Tables, on: tuple[str, ...], _: Datasheet) -> Property:
    one, other = (record_digests(tables.records(key)) for key in on)
    shared = count_shared(one, other)
    more: dict[str, Value] = {"shared": shared, "method": "sha-256", "holds": shared == 0}
    return tables.statement("disjoint", shared == 0, on, more)


def _near(tables: Tables, on: tuple[str, ...], sheet: Datasheet) -> Property:
    method = make_method(sheet.threshold)
    schema = tables.schemas[on[0]]
    sign = signer(method, schema)
    one, other = (map(sign, read_records(tables.sources[key], schema)) for key in on)
    return tables.statement("near-duplicates", count_near(one, other, method), on, method.plain())


def _union(tables: Tables, on: tuple[str, ...], _: Datasheet) -> Property:
    one, other, whole = (hash_source(tables.sources[key], tables.schemas[key]) for key in on)
    counts = (one.number, other.number, whole.number)
    more: dict[str, Value] = {"n": counts, "hash": "lthash16-1024-shake256"}
    more["holds"] = one + other == whole
    return tables.statement("union", more["holds"], on, more)


RecordMeasurer = Callable[[Tables, tuple[str, ...], Datasheet], Property]
RECORD_MEASURERS: Mapping[str, RecordMeasurer] = MappingProxyType(
    {"records": _records, "disjoint": _disjoint, "near-duplicates": _near, "union": _union}
)


def _schemas(sheet: Datasheet, sources: Mapping[str, Source]) -> dict[str, Schema]:
    """Return each data set's schema: the caller's, or one that all that are compared share."""
    if sheet.schema is not None:
        return dict.fromkeys(sources, sheet.schema)
    schemas = {key: infer_schema(source) for key, source in sources.items()}
    groups = {key: {key} for key in sources}
    for compared in sheet.compared:
        joined = set[str]().union(*(groups[key] for key in compared))
        groups.update(dict.fromkeys(joined, joined))
    return {key: reduce(join, (schemas[item] for item in sorted(groups[key]))) for key in sources}
