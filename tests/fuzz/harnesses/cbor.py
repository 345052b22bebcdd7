"""Deterministic CBOR: one encoding a value, bounded before anything is allocated."""

from enclave_sim.adversary import forged_claims as samples
from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import encode_card
from laminator.cbor import decode, encode, split_sequence

_NAN = b"\xf9\x7e\x00"


def check(data: bytes) -> bool:
    """What decodes encodes to the same bytes; a sequence's items are its bytes."""
    items = parsed(split_sequence, data)
    if items is not None:
        assert b"".join(items) == data
    value = parsed(lambda given: (decode(given),), data)
    if value is None:
        return False
    assert encode(value[0]) == data
    assert items == (data,)
    if _NAN not in data:
        assert decode(encode(value[0])) == value[0]
    return True


def seeds() -> list[bytes]:
    """Return one value of each type, deep and wide ones, and whole cards."""
    values = (0, -1, 2**64 - 1, -(2**64), 1.5, 1e300, float("nan"), "é", b"\xff", True, None, ())
    nested: object = 1
    for _ in range(15):
        nested = (nested,)
    return [
        *map(encode, values),
        encode(nested),  # type: ignore[arg-type]
        encode({"a": {1: 2, -1: (b"", "")}, 7: [{}] * 9}),
        encode_card(samples.card()),
        *golden_cards(),
    ]


HARNESS = Harness(check, seeds, mutate_as_cbor)
