"""The TPM's own structures: TPMS_ATTEST, TPMT_PUBLIC, TPMT_SIGNATURE, TPMS_NV_PUBLIC."""

from collections.abc import Callable
from functools import cache
from typing import Any

from harnesses.harness import Harness, golden_cards, parsed
from laminator import cbor
from laminator.card import parse_card
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import public_key, signature_holds, spki
from laminator.evidence.tpm_structures import (
    Attest,
    EccPublic,
    EcdsaSignature,
    NvPublic,
    Public,
    Quote,
    RsaPublic,
    RsaSignature,
    Signature,
)

_PAIRS: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...] = (
    (structures.parse_attest, structures.marshal_attest),
    (structures.parse_public, structures.marshal_public),
    (structures.parse_signature, structures.marshal_signature),
    (structures.parse_nv_public, structures.marshal_nv_public),
)


def check(data: bytes) -> bool:
    """What any of the four parsers takes marshals to the same bytes, and can be used."""
    found = [(parsed(parse, data), marshal) for parse, marshal in _PAIRS]
    for value, marshal in found:
        if value is not None:
            assert marshal(value) == data
            _use(value)
    return any(value is not None for value, _ in found)


def seeds() -> list[bytes]:
    """Return every structure in the evidence of the golden cards."""
    found = []
    for carried in _carried():
        found += [carried["ak"], carried["counter"]["nv-public"]]
        for name in ("start", "end", "counter"):
            found += [carried[name]["attest"], carried[name]["signature"]]
    return found


def _use(value: Attest | Public | Signature | NvPublic) -> None:
    match value:
        case Attest(attested=Quote() as quote):
            for selection in quote.selections:
                assert len(selection.pcrs) <= 8 * len(selection.bitmap)
        case RsaPublic() | EccPublic():
            assert 34 <= len(structures.name(value)) <= 66
            assert len(structures.qualified_name(value)) == len(structures.name(value))
            parsed(lambda _: (public_key(value), spki(value)), b"")
        case NvPublic():
            assert 34 <= len(structures.name(value)) <= 66
        case RsaSignature() | EcdsaSignature():
            assert not any(signature_holds(key, value, b"message") for key in _keys())


@cache
def _carried() -> tuple[dict[str, Any], ...]:
    cards = map(parse_card, golden_cards())
    return tuple(cbor.decode(card.evidence[0].value) for card in cards)  # type: ignore[misc]


@cache
def _keys() -> tuple[Any, ...]:
    return tuple(public_key(structures.parse_public(carried["ak"])) for carried in _carried())


HARNESS = Harness(check, seeds)
