"""What an evaluation measures: its options in a run request, and the measurer's orders.

Both are maps of deterministic CBOR. The options come from the caller; the orders are the
attester's and add where the measured bytes lie.
"""

from typing import NamedTuple, cast

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.claims import Seed
from laminator.claims_codec import parse_seed
from laminator.digest import Digest, parse_digest
from laminator.errors import UsageError, shown
from laminator.fields import Fields, array, name, octets, text, uint
from laminator.measure.dataset import Roles
from laminator.properties import MEASURERS
from laminator.seed import SEED_BYTES

MAX_ORDERS_BYTES = 4 * 1024 * 1024
MAX_PROPERTIES = 100


class Measurement(NamedTuple):
    """What to measure and how to read the data.

    `data_suffix` and `labels_suffix` are those of the files' real names; `labels` names a column,
    or is None where the labels come from a file. `header` names the columns of a CSV file
    without a header row; `sample` is how many rows are drawn, None for all; the other fields are
    as in `Roles`.
    """

    properties: tuple[str, ...]
    data_suffix: str
    labels: str | None
    labels_suffix: str = ""
    header: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    sample: int | None = None

    @property
    def roles(self) -> Roles:
        """What each column is for."""
        return Roles(self.labels, self.sensitive, self.features, self.held_back)


class Copied(NamedTuple):
    """A private copy that the measurer reads, and the digest that the claims have for it."""

    path: str
    digest: Digest


class Orders(NamedTuple):
    """The measurer's orders: where data and labels lie, and the inputs' names in the claims.

    `seed` is what a sample is drawn with, `rule` the rule that it follows.
    """

    measurement: Measurement
    data: Copied
    labels: Copied | None
    on: tuple[str, ...]
    rule: Seed | None = None
    seed: bytes | None = None


def plain_measurement(measurement: Measurement) -> dict[Key, Value]:
    """Return the measurement as a map."""
    return cast("dict[Key, Value]", measurement._asdict())


def chosen_parameters(what: Measurement) -> dict[str, Value]:
    """Return the parameters of a measured property that the caller chose."""
    lists = {"sensitive": what.sensitive, "held-back": what.held_back, "columns": what.header}
    parameters: dict[str, Value] = {"labels": _label_source(what)}
    parameters.update({name: value for name, value in lists.items() if value})
    given = tuple(name for name in what.features if name in what.sensitive)
    if given:
        parameters["sensitive-features"] = given
    if what.sample is not None:
        parameters["sample"] = what.sample
    return parameters


def encode_orders(orders: Orders) -> bytes:
    """Return what `parse_orders` reads."""
    plain: dict[Key, Encodable] = {
        "measurement": plain_measurement(orders.measurement),
        "data": _plain_copied(orders.data),
        "labels": None if orders.labels is None else _plain_copied(orders.labels),
        "on": orders.on,
        "rule": orders.rule,
        "seed": orders.seed,
    }
    return encode(plain)


def parse_orders(data: bytes) -> Orders:
    """Parse the attester's orders. Raises MalformedError, UsageError."""
    fields = Fields(decode(data, max_bytes=MAX_ORDERS_BYTES), "orders")
    orders = Orders(
        measurement=fields.take("measurement", parse_measurement),
        data=fields.take("data", _copied),
        labels=fields.take("labels", _copied_or_none),
        on=fields.take("on", array(name)),
        rule=fields.take("rule", _seed_or_none),
        seed=fields.take("seed", _octets_or_none),
    )
    fields.close()
    return orders


def check_known(names: tuple[str, ...]) -> None:
    """Check that every property named can be measured. Raises UsageError."""
    for item in names:
        if item not in MEASURERS:
            known = ", ".join(sorted(MEASURERS))
            raise UsageError("property.unknown", f"no property {shown(item)} (known: {known})")
    if len(set(names)) < len(names) or not names:
        raise UsageError("property.twice", "name each property once, and one at least")


def parse_measurement(value: Value, path: str) -> Measurement:
    """Parse what `plain_measurement` returns. Raises MalformedError, UsageError."""
    fields = Fields(value, path)
    texts = array(text)
    measurement = Measurement(
        properties=fields.take("properties", array(name, least=1, most=MAX_PROPERTIES)),
        data_suffix=fields.take("data_suffix", text),
        labels=fields.take("labels", _text_or_none),
        labels_suffix=fields.take("labels_suffix", text),
        header=fields.take("header", texts),
        sensitive=fields.take("sensitive", texts),
        features=fields.take("features", texts),
        held_back=fields.take("held_back", texts),
        sample=fields.take("sample", _uint_or_none),
    )
    fields.close()
    check_known(measurement.properties)
    return measurement


def _plain_copied(copied: Copied) -> list[Encodable]:
    return [copied.path, str(copied.digest)]


def _copied(value: Value, path: str) -> Copied:
    where, digest = array(text, least=2, most=2)(value, path)
    return Copied(where, parse_digest(digest))


def _copied_or_none(value: Value, path: str) -> Copied | None:
    return None if value is None else _copied(value, path)


def _seed_or_none(value: Value, path: str) -> Seed | None:
    return None if value is None else parse_seed(value, path)


def _octets_or_none(value: Value, path: str) -> bytes | None:
    return None if value is None else octets(SEED_BYTES, SEED_BYTES)(value, path)


def _uint_or_none(value: Value, path: str) -> int | None:
    return None if value is None else uint(value, path)


def _text_or_none(value: Value, path: str) -> str | None:
    return None if value is None else text(value, path)


def _label_source(what: Measurement) -> str:
    """Return where the labels are, so that nobody gives another column the labels' name.

    Where the caller named the columns, it is the column's number, from 1; 0 for none of them.
    """
    if what.labels is None:
        return "file"
    if what.header:
        number = what.header.index(what.labels) + 1 if what.labels in what.header else 0
        return f"column-number:{number}"
    return f"column:{what.labels}"
