"""Every harness keeps its promises with what hypothesis makes up, which shrinks what fails."""

import harnesses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminator import cbor

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=12) | st.integers(-300, 300), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def _spliced(draw: st.DrawFn, name: str) -> bytes:
    """Return a seed with some bytes in the place of others."""
    seed = draw(st.sampled_from(harnesses.load(name).seeds()))
    start = draw(st.integers(0, len(seed)))
    end = draw(st.integers(start, min(start + 40, len(seed))))
    return seed[:start] + draw(st.binary(max_size=40)) + seed[end:]


@pytest.mark.parametrize("name", harnesses.NAMES)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_arbitrary_bytes(name: str, data: st.DataObject) -> None:
    harnesses.load(name).check(data.draw(st.binary(max_size=300) | _spliced(name)))


@pytest.mark.parametrize("name", harnesses.NAMES)
@settings(deadline=None, max_examples=60)
@given(value=_values)
def test_arbitrary_values(name: str, value: cbor.Encodable) -> None:
    """Values that are no card, request or message, in the one encoding that all of those have."""
    encoded = cbor.encode(value)
    harness = harnesses.load(name)
    harness.check(encoded)
    harness.check(len(encoded).to_bytes(4, "big") + encoded)
