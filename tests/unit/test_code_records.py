"""Where a log may have its records of code."""

import pytest

from laminator.eventlog import NOTHING, Record, code_in_place, count_code, without_code


def _log(*events: str) -> tuple[Record, ...]:
    return tuple(Record(event, "", NOTHING) for event in events)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("counter", "start", "end"), True),
        (("counter", "start", "source", "native", "end", "output"), True),
        (("counter", "source", "start", "end"), False),
        (("counter", "start", "end", "source"), False),
        (("counter", "start", "source"), False),
        (("counter", "source", "end"), False),
    ],
)
def test_code_stands_between_start_and_end(events: tuple[str, ...], expected: bool) -> None:
    assert code_in_place(_log(*events)) is expected


def test_code_is_counted_and_left_out() -> None:
    log = _log("start", "source", "exec", "source", "end")
    assert count_code(log) == {"source": 2, "exec": 1}
    assert without_code(log) == _log("start", "end")
