"""What data sets have in common, as the measurer of records says it."""

from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.cbor import encode
from laminator.claims import Property
from laminator.errors import MalformedError, UsageError
from laminator.measure.files import measure_path
from laminator.measure.lthash import parse_state
from laminator.records import compare, minhash
from laminator.records.compare import count_shared, record_digests
from laminator.records.minhash import count_near, make_method, signer
from laminator.records.schema import Field, make_schema
from laminator.run.measurer import parse_result
from laminator.run.record_measurer import measure, obey
from laminator.run.record_orders import (
    Datasheet,
    Given,
    RecordOrders,
    encode_orders,
    parse_datasheet,
    parse_orders,
    plain_datasheet,
)

LINES = [f'{number},"the text number {number} with words of its own"\n' for number in range(40)]


def orders(folder: Path, sheet: Datasheet, **tables: list[str]) -> RecordOrders:
    """Write each table as CSV and return orders to measure them."""
    given = {}
    for name, lines in tables.items():
        path = folder / f"{name}.csv"
        path.write_text("n,text\n" + "".join(lines))
        given[name] = Given(str(path), path.name, measure_path(path).digest)
    return RecordOrders(sheet, given)


def measured(folder: Path, sheet: Datasheet, **tables: list[str]) -> Property:
    """Return the one property that the measurer says."""
    result = obey(encode_orders(orders(folder, sheet, **tables)))
    (found,) = parse_result(encode(result))
    return found


@given(st.lists(st.binary(max_size=1)), st.lists(st.binary(max_size=1)))
def test_shared_records_are_those_of_both_sets(one: list[bytes], other: list[bytes]) -> None:
    expected = len(set(one) & set(other))
    with patch.object(compare, "_RUN", 3):
        assert count_shared(record_digests(one), record_digests(other)) == expected


def test_disjoint_is_exact(tmp_path: Path) -> None:
    sheet = Datasheet((), disjoint=(("train", "test"),))
    apart = measured(tmp_path, sheet, train=LINES[:30], test=LINES[30:])
    assert (apart.value, apart.parameters["shared"], apart.source) == (True, 0, "measured")
    leak = measured(tmp_path, sheet, train=LINES[:30], test=[*LINES[30:], LINES[0], LINES[0]])
    assert (leak.value, leak.parameters["shared"], leak.parameters["holds"]) == (False, 1, False)


def test_the_same_records_typed_otherwise_are_still_shared(tmp_path: Path) -> None:
    sheet = Datasheet((), disjoint=(("train", "test"),))
    leak = measured(tmp_path, sheet, train=["1,a\n", "2.5,b\n"], test=["1,a\n"])
    assert leak.value is False


def test_a_whole_is_its_parts(tmp_path: Path) -> None:
    sheet = Datasheet((), sums=(("train", "test", "all"),))
    parts = {"train": LINES[:30], "test": LINES[30:]}
    assert measured(tmp_path, sheet, **parts, all=LINES[::-1]).value is True
    short = measured(tmp_path, sheet, **parts, all=LINES[1:])
    assert (short.value, short.parameters["holds"]) == (False, False)
    assert measured(tmp_path, sheet, **parts, all=[*LINES[1:], LINES[1]]).value is False


def test_the_state_adds_up_across_cards(tmp_path: Path) -> None:
    def state(lines: list[str]) -> object:
        found = measured(tmp_path, Datasheet(("a",)), a=lines)
        number, text = found.parameters["n"], found.parameters["state"]
        assert isinstance(number, int)
        assert isinstance(text, str)
        made = parse_state(number, bytes.fromhex(text))
        assert found.value == made.digest.hex()
        return made

    whole = state(LINES)
    assert state(LINES[:7]) + state(LINES[7:]) == whole  # type: ignore[operator]


def test_near_duplicates_are_found_and_others_not(tmp_path: Path) -> None:
    text = "a long text about nothing in particular that goes on for quite a while"
    near = [f"1,{text} indeed\n", "1,another text altogether which is like nothing else\n"]
    sheet = Datasheet((), near=(("a", "b"),), threshold=0.7)
    found = measured(tmp_path, sheet, a=[f"1,{text}\n"], b=near)
    assert (found.value, found.parameters["threshold"]) == (1, 0.7)


def test_equal_records_are_near_at_every_threshold() -> None:
    schema = make_schema([Field("a", "text"), Field("b", "int64")])
    method = make_method(1.0)
    sign = signer(method, schema)
    one, other = sign({"a": "x", "b": 1}), sign({"a": "x", "b": 2})
    assert count_near([one], [one, other], method) == 1


def test_too_many_records_for_near_duplicates_are_refused() -> None:
    with (
        patch.object(minhash, "MAX_RECORDS", 1),
        pytest.raises(UsageError, match="1 distinct records at most"),
    ):
        count_near([(1,) * 128, (2,) * 128], [], make_method(0.8))


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_a_strange_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="above 0, at most 1"):
        make_method(threshold)


def test_a_changed_copy_is_not_measured(tmp_path: Path) -> None:
    asked = orders(tmp_path, Datasheet(("a",)), a=LINES)
    (tmp_path / "a.csv").write_text("n,text\n1,other\n")
    with pytest.raises(MalformedError, match=r"changed|digest|another"):
        measure(asked)


def test_orders_are_read_back(tmp_path: Path) -> None:
    schema = make_schema([Field("n", "int64"), Field("text", "text", nullable=False)])
    sheet = Datasheet(("a",), (("a", "b"),), (("b", "a"),), (("a", "b", "c"),), 0.5, schema)
    assert parse_datasheet(plain_datasheet(sheet)) == sheet  # type: ignore[arg-type]
    asked = orders(tmp_path, sheet, a=LINES)
    assert parse_orders(encode_orders(asked)) == asked


@pytest.mark.parametrize("names", [("a", "missing"), ("a", "a")])
def test_unknown_and_repeated_names_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=r"no data is named|each data set once"):
        measured(tmp_path, Datasheet((), disjoint=(names,)), a=LINES)
