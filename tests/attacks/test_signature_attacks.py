"""Signatures that were changed after they were made, and keys that are hardly keys.

What cryptography and OpenSSL let pass is pinned here, so that an upgrade that loosens it shows.
"""

from collections.abc import Callable
from types import MappingProxyType

import pytest
from cryptography import x509

from enclave_sim.adversary import deviations, forged_der
from enclave_sim.adversary.deviations import Which
from enclave_sim.adversary.forged_der import P256_ORDER, Signed
from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import (
    World,
    card,
    card_bytes,
    claims,
    failures,
    judge,
    verdict_of,
    world,
)
from laminator.card import encode_card, timestamp_message
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_structures import (
    EccPublic,
    EcdsaSignature,
    RsaSignature,
    Signature,
)

P256_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
WHICH: list[Which] = ["counter", "start", "end"]
Point = Callable[[EccPublic], dict[str, object]]


def honest(algorithm: str = "ecdsa-p256") -> World:
    made = world(machine(algorithm), claims())
    assert judge(made).accepted
    return made


def ecdsa(edit: Callable[[int, int], tuple[bytes, bytes]]) -> Callable[[Signature], Signature]:
    def edited(signature: Signature) -> Signature:
        assert isinstance(signature, EcdsaSignature)
        r, s = edit(int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
        assert (r, s) != (signature.r, signature.s)
        return signature._replace(r=r, s=s)

    return edited


def octets(number: int, size: int = 32) -> bytes:
    return number.to_bytes(size, "big")


# Of (r, s) anybody can make (r, n - s).


@pytest.mark.parametrize("which", WHICH)
def test_the_other_signature_of_the_pair_is_as_good_and_changes_no_id(which: Which) -> None:
    made = honest()
    other = deviations.other_signature(
        made, which, ecdsa(lambda r, s: (octets(r), octets(P256_ORDER - s)))
    )
    assert card_bytes(other) != card_bytes(made)
    assert judge(other).accepted
    assert card(other).id == card(made).id
    assert card(other).claims_bytes == card(made).claims_bytes
    assert card(other).log == card(made).log


@pytest.mark.parametrize("which", WHICH)
def test_a_time_stamp_covers_one_signature_of_the_pair_alone(which: Which) -> None:
    made = honest()
    other = deviations.other_signature(
        made, which, ecdsa(lambda r, s: (octets(r), octets(P256_ORDER - s)))
    )
    assert timestamp_message(card(other)) != timestamp_message(card(made))


def test_a_card_and_its_copy_with_the_other_signature_are_one_parent() -> None:
    parent = world(
        claims=claims(
            kind="training", inputs=MappingProxyType({}), outputs=claims().inputs, properties=()
        )
    )
    copy = deviations.other_signature(
        parent, "end", ecdsa(lambda r, s: (octets(r), octets(P256_ORDER - s)))
    )
    child = world(claims=claims(cards=MappingProxyType({"model": card(parent).id})))
    for held in ([card_bytes(parent)], [card_bytes(copy)], [card_bytes(copy), card_bytes(parent)]):
        result = judge(child, other_cards=held)
        assert result.accepted, result.failures()
        assert verdict_of(result, "lineage.model") == "pass"


def test_the_other_signature_of_a_certificate_changes_neither_verdict_nor_anchor() -> None:
    made = honest()
    leaf, authority = made.machine.certificates
    signed = forged_der.parts(x509.load_der_x509_certificate(leaf))
    other = signed._replace(signature=forged_der.complement(signed.signature)).der
    assert other != leaf
    result = judge(deviations.other_certificates(made, other, authority))
    assert result.accepted
    assert (result.trust, result.card) == (judge(made).trust, judge(made).card)


# Numbers that are no signature, or not the one way to write it.


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize(
    "edit",
    [
        lambda _, s: (octets(0), octets(s)),
        lambda r, _: (octets(r), octets(0)),
        lambda _, __: (octets(0), octets(0)),
        lambda _, __: (b"", b""),
        lambda _, s: (octets(P256_ORDER), octets(s)),
        lambda r, _: (octets(r), octets(P256_ORDER)),
        lambda r, s: (octets(r), octets(s + P256_ORDER, 33)),
        lambda r, s: (octets(r + P256_ORDER, 33), octets(s)),
        lambda r, s: (octets(r, 33), octets(s)),
        lambda r, s: (octets(r), octets(s, 66)),
        lambda r, s: (octets(s), octets(r)),
    ],
    ids=[
        *("r = 0", "s = 0", "both 0", "empty", "r = n", "s = n", "s + n", "r + n"),
        *("padded", "padded to the limit", "swapped"),
    ],
)
def test_numbers_that_are_no_ecdsa_signature(
    which: Which, edit: Callable[[int, int], tuple[bytes, bytes]]
) -> None:
    lie = deviations.other_signature(honest(), which, ecdsa(edit))
    assert failures(judge(lie)) == {"tpm.signature"}


@pytest.mark.parametrize("algorithm", ["rsassa", "rsapss"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda number, _: octets(number, 257),
        lambda number, modulus: octets(number + modulus, 257),
        lambda _, modulus: octets(modulus, 256),
        lambda _, modulus: octets(modulus - 1, 256),
        lambda _, __: octets(0, 256),
        lambda _, __: octets(1, 256),
        lambda number, _: octets(number >> 8, 255),
        lambda _, __: b"",
    ],
    ids=["padded", "s + n", "n", "n - 1", "0", "1", "cut", "empty"],
)
def test_numbers_that_are_no_rsa_signature(
    algorithm: str, edit: Callable[[int, int], bytes]
) -> None:
    made = honest(algorithm)
    modulus = made.machine.key.public_key().public_numbers().n  # type: ignore[union-attr]

    def edited(signature: Signature) -> Signature:
        assert isinstance(signature, RsaSignature)
        lie = edit(int.from_bytes(signature.signature, "big"), modulus)
        assert lie != signature.signature
        return signature._replace(signature=lie)

    assert failures(judge(deviations.other_signature(made, "end", edited))) == {"tpm.signature"}


def long_length(signature: bytes) -> bytes:
    """Write the sequence's length in two octets where one would do."""
    body = forged_der.content(signature)
    return bytes([forged_der.SEQUENCE, 0x81, len(body)]) + body


def negative(signature: bytes) -> bytes:
    """Write r without the octet that says that it is positive."""
    _, s = forged_der.elements(forged_der.content(signature))
    return forged_der.tlv(forged_der.SEQUENCE, forged_der.tlv(2, b"\xff" * 32) + s)


def numbers(r: int, s: int) -> Callable[[bytes], bytes]:
    both = forged_der.tlv(2, octets(r, 33).lstrip(b"\0") or b"\0")
    both += forged_der.tlv(2, octets(s, 33).lstrip(b"\0") or b"\0")
    return lambda _: forged_der.tlv(forged_der.SEQUENCE, both)


@pytest.mark.parametrize(
    "edit",
    [
        forged_der.padded,
        long_length,
        negative,
        numbers(0, 1),
        numbers(1, 0),
        lambda signature: signature + b"\0",
        lambda _: b"\x30\x00",
    ],
    ids=["padded", "long length", "negative", "r = 0", "s = 0", "trailing", "empty"],
)
def test_certificates_signed_in_no_der(edit: Callable[[bytes], bytes]) -> None:
    made = honest()
    leaf, authority = made.machine.certificates
    for number, certificate in enumerate((leaf, authority)):
        signed = forged_der.parts(x509.load_der_x509_certificate(certificate))
        lie = signed._replace(signature=edit(signed.signature))
        assert lie.signature != signed.signature
        carried = (lie.der, authority) if number == 0 else (leaf, lie.der)
        result = judge(deviations.other_certificates(made, *carried))
        assert failures(result) == {"ak.chain"}


ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
ECDSA_SHA256_NULL = bytes.fromhex("300c06082a8648ce3d0403020500")


@pytest.mark.parametrize(
    ("algorithm", "id_"),
    [(ECDSA_SHA384, "ak.chain"), (ECDSA_SHA256_NULL, "ak.certificate")],
    ids=["another outside than inside", "with parameters"],
)
def test_a_certificate_whose_algorithm_is_put_otherwise(algorithm: bytes, id_: str) -> None:
    made = honest()
    leaf, authority = made.machine.certificates
    signed = forged_der.parts(x509.load_der_x509_certificate(leaf))
    assert signed.algorithm != algorithm
    lie = Signed(signed.body, algorithm, signed.signature).der
    assert failures(judge(deviations.other_certificates(made, lie, authority))) == {id_}


# Keys that are hardly keys.


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"y": octets(1)},
        lambda _: {"x": octets(0), "y": octets(0)},
        lambda _: {"x": b"", "y": b""},
        lambda ak: {"parameters": ak.parameters._replace(curve=wire.ECC_NIST_P384)},
        lambda ak: {"parameters": ak.parameters._replace(curve=0x0001)},
        lambda ak: {"parameters": ak.parameters._replace(curve=0x0010)},
        lambda ak: {"parameters": ak.parameters._replace(curve=0x0020)},
    ],
    ids=["off the curve", "infinity", "empty", "on another curve", "P-192", "BN P-256", "SM2"],
)
def test_a_point_that_is_no_key(change: Point) -> None:
    made = honest()
    assert isinstance(made.machine.ak, EccPublic)
    lie = deviations.other_key(made, **change(made.machine.ak))
    assert failures(judge(lie)) == {"tpm.parse"}


@pytest.mark.parametrize(
    "change",
    [
        lambda ak: {"x": b"\0" + ak.x},
        lambda ak: {"x": octets(int.from_bytes(ak.x, "big") + P256_FIELD, 33)},
        lambda _: {"auth_policy": bytes(32)},
        lambda _: {"name_alg": wire.ALG_SHA384},
    ],
    ids=["padded", "beyond the field", "with a policy", "with another Name"],
)
def test_the_same_key_in_another_public_area(change: Point) -> None:
    """cryptography takes a coordinate modulo the field; the Name in each attestation does not."""
    made = honest()
    assert isinstance(made.machine.ak, EccPublic)
    lie = deviations.other_key(made, **change(made.machine.ak))
    assert failures(judge(lie)) == {"tpm.signer"}


def test_the_key_with_the_point_on_the_other_side() -> None:
    made = honest()
    assert isinstance(made.machine.ak, EccPublic)
    mirrored = octets(P256_FIELD - int.from_bytes(made.machine.ak.y, "big"))
    lie = deviations.other_key(made, y=mirrored)
    assert failures(judge(lie)) == {"ak.certificate", "tpm.key", "tpm.signature", "tpm.signer"}


def test_a_changed_card_is_the_one_encoding_of_its_content() -> None:
    made = honest()
    other = deviations.other_signature(
        made, "end", ecdsa(lambda r, s: (octets(r), octets(P256_ORDER - s)))
    )
    assert encode_card(card(other)) == card_bytes(other)
