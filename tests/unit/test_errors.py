"""How values from outside are shown in messages."""

from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import shown

_ANY = st.text() | st.binary() | st.integers() | st.floats() | st.tuples(st.text(), st.integers())


@given(_ANY)
def test_any_value_is_one_short_printable_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= 121
    assert text == ascii(value) or text.endswith("…")


def test_a_number_too_long_to_write_is_named() -> None:
    long = 16**3900
    for value in (long, (1, long), {"shape": -long}):
        assert shown(value).endswith("with a number too long to write")
