"""What a datasheet measures: its options in a run request, and the measurer's orders."""

from typing import NamedTuple, cast

from laminator.cbor import Encodable, Value, decode, encode
from laminator.digest import Digest, parse_digest
from laminator.errors import UsageError
from laminator.fields import Fields, array, finite, name, named, text
from laminator.records.schema import Schema, parse_schema

MAX_ORDERS_BYTES = 4 * 1024 * 1024
PAIR, SUM = 2, 3


class Datasheet(NamedTuple):
    """What to measure over the inputs, each given by its name.

    `records` are digested; `sums` are (A, B, C) with A + B = C. `schema` is the caller's, or None
    where it is inferred.
    """

    records: tuple[str, ...]
    disjoint: tuple[tuple[str, str], ...] = ()
    near: tuple[tuple[str, str], ...] = ()
    sums: tuple[tuple[str, str, str], ...] = ()
    threshold: float = 0.8
    schema: Schema | None = None

    @property
    def compared(self) -> tuple[tuple[str, ...], ...]:
        """The groups of inputs that are compared, and so need one schema."""
        return (*self.disjoint, *self.near, *self.sums)


class Given(NamedTuple):
    """A data set: where it lies, its file's real name, and its digest in the claims."""

    path: str
    name: str
    digest: Digest


class RecordOrders(NamedTuple):
    """The measurer's orders."""

    datasheet: Datasheet
    given: dict[str, Given]


def plain_datasheet(sheet: Datasheet) -> dict[str, Value]:
    """Return the datasheet as a run request's options."""
    plain = sheet._replace(schema=None)._asdict()
    if sheet.schema is not None:
        plain["schema"] = tuple(map(tuple, cast("list[list[Value]]", sheet.schema.plain())))
    return cast("dict[str, Value]", plain)


def parse_datasheet(value: Value, path: str = "options") -> Datasheet:
    """Parse what `plain_datasheet` returns. Raises MalformedError, UsageError."""
    fields = Fields(value, path)
    pairs = array(array(name, least=PAIR, most=PAIR))
    sheet = Datasheet(
        records=fields.take("records", array(name)),
        disjoint=cast("tuple[tuple[str, str], ...]", fields.take("disjoint", pairs)),
        near=cast("tuple[tuple[str, str], ...]", fields.take("near", pairs)),
        sums=cast(
            "tuple[tuple[str, str, str], ...]",
            fields.take("sums", array(array(name, least=SUM, most=SUM))),
        ),
        threshold=fields.take("threshold", finite),
        schema=fields.take("schema", _schema_or_none),
    )
    fields.close()
    return sheet


def check_named(sheet: Datasheet, inputs: set[str]) -> None:
    """Check that what is measured are inputs, each named once. Raises UsageError."""
    for group in (sheet.records, *sheet.compared):
        unknown = sorted(set(group) - inputs)
        if unknown:
            raise UsageError("records.name", f"no data is named {unknown[0]}; give it with --data")
        if len(set(group)) < len(group):
            raise UsageError("records.name", f"{','.join(group)}: name each data set once")


def encode_orders(orders: RecordOrders) -> bytes:
    """Return what `parse_orders` reads."""
    given: dict[str, Encodable] = {
        key: [item.path, item.name, str(item.digest)] for key, item in orders.given.items()
    }
    sheet = cast("Encodable", plain_datasheet(orders.datasheet))
    return encode({"datasheet": sheet, "given": given})


def parse_orders(data: bytes) -> RecordOrders:
    """Parse the attester's orders. Raises MalformedError, UsageError."""
    fields = Fields(decode(data, max_bytes=MAX_ORDERS_BYTES), "orders")
    orders = RecordOrders(
        fields.take("datasheet", parse_datasheet), dict(fields.take("given", named(_given)))
    )
    fields.close()
    return orders


def _given(value: Value, path: str) -> Given:
    where, real, digest = array(text, least=3, most=3)(value, path)
    return Given(where, real, parse_digest(digest))


def _schema_or_none(value: Value, path: str) -> Schema | None:
    return None if value is None else parse_schema(value, path)
