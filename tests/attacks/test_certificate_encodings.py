"""Certificates that no careful authority writes, signed by one that is trusted all the same.

What cryptography lets pass is pinned here, so that an upgrade that loosens it shows.
"""

import warnings
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_sim.adversary import deviations, forged_der
from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_der import Edit, content, elements, tlv
from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import World, claims, failures, judge, world
from laminator import cbor
from laminator.evidence import tpm_structures as structures
from laminator.evidence.ak_extension import AK_EXTENSION_OID

SPKI = 6
EC_KEY = bytes.fromhex("06072a8648ce3d0201")


def honest() -> World:
    made = world(claims=claims())
    assert judge(made).accepted
    return made


def signed_again(which: str, edit: Edit) -> World:
    """Return the honest world with the leaf's or the authority's certificate edited and signed."""
    made = honest()
    leaf, authority = made.machine.certificates
    signers = {"leaf": made.machine.authority.key, "authority": made.machine.root.key}
    key = signers[which]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old = leaf if which == "leaf" else authority
    lie = forged_der.edited(x509.load_der_x509_certificate(old), key, edit)
    assert lie != old
    carried = (lie, authority) if which == "leaf" else (leaf, lie)
    return deviations.other_certificates(made, *carried)


def found_in(which: str, edit: Edit) -> set[str]:
    lie = signed_again(which, edit)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = failures(judge(lie))
    assert warned == []
    return found


WHICH = ["leaf", "authority"]


@pytest.mark.parametrize("which", WHICH)
def test_signing_again_is_no_deviation_by_itself(which: str) -> None:
    assert found_in(which, lambda fields: fields) == set()


# Serial numbers (RFC 5280, 4.1.2.2).


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize(
    "number",
    [b"\0", b"\x80", b"\xff", b"\xff" * 20, b"\0\1", b""],
    ids=["zero", "negative", "-1", "negative, long", "padded", "empty"],
)
def test_a_serial_number_that_is_none(which: str, number: bytes) -> None:
    assert found_in(which, forged_der.with_serial(number)) == {"ak.certificate"}


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("size", [22, 40, 200])
def test_a_serial_number_without_measure(which: str, size: int) -> None:
    assert found_in(which, forged_der.with_serial(b"\1" * size)) == {"ak.chain"}


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", [b"\x7f" * 20, b"\0" + b"\x80" * 20, b"\1" * 21])
def test_a_serial_number_of_21_octets_is_let_pass(which: str, number: bytes) -> None:
    """Its authority broke a rule and nobody gains: lists name such numbers too."""
    assert found_in(which, forged_der.with_serial(number)) == set()


# Extensions.


@pytest.mark.parametrize(
    ("which", "place"),
    [*(("leaf", place) for place in range(6)), *(("authority", place) for place in range(4))],
)
def test_an_extension_twice(which: str, place: int) -> None:
    carried = machine().certificates[WHICH.index(which)]
    extensions = list(x509.load_der_x509_certificate(carried).extensions)
    assert place < len(extensions)
    assert found_in(which, forged_der.with_extension_twice(place)) == {"ak.certificate"}


def with_critical(flag: bytes) -> Edit:
    """Return an edit that writes the first extension's critical flag as `flag`."""

    def edit(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        (sequence,) = elements(content(fields[-1]))
        first, *others = elements(content(sequence))
        oid, value = elements(content(first))
        marked = tlv(0x30, oid + tlv(0x01, flag) + value)
        return (*fields[:-1], tlv(0xA3, tlv(0x30, marked + b"".join(others))))

    return edit


@pytest.mark.parametrize("flag", [b"\0", b"\1", b""], ids=["no", "one", "empty"])
def test_a_critical_flag_that_der_does_not_write(flag: bytes) -> None:
    assert found_in("leaf", with_critical(flag)) == {"ak.certificate"}


def named(counter: bytes, anchor: str = "simulated") -> bytes:
    return cbor.encode({"anchor": anchor, "counter": counter})


COUNTER = structures.name(machine().counter)


@pytest.mark.parametrize(
    "value",
    [
        named(COUNTER) + b"\0",
        named(COUNTER[:-1]),
        named(COUNTER + bytes(17)),
        named(COUNTER, "certified"),
        named(COUNTER, "none"),
        cbor.encode({"counter": COUNTER}),
        cbor.encode({"anchor": "simulated"}),
        cbor.encode({"anchor": "simulated", "counter": COUNTER, "coverage": "attester"}),
        b"\xb8\x02" + named(COUNTER)[1:],
        b"\xbf" + named(COUNTER)[1:] + b"\xff",
        b"",
    ],
    ids=[
        *("trailing", "short Name", "long Name", "unknown kind", "no kind", "without a kind"),
        *("without a counter", "more than is asked", "longer head", "indefinite", "empty"),
    ],
)
def test_the_counters_extension_in_another_form(value: bytes) -> None:
    oid = x509.ObjectIdentifier(AK_EXTENSION_OID)
    extra = (x509.UnrecognizedExtension(oid, value), False)
    lie = deviations.helped_by_the_authority(honest(), extras=(extra,))
    assert failures(judge(lie)) == {"ak.extension"}


# The certificate as a whole.


@pytest.mark.parametrize("which", WHICH)
def test_a_certificate_of_version_1(which: str) -> None:
    assert "ak.chain" in found_in(which, lambda fields: fields[1:-1])


@pytest.mark.parametrize("which", WHICH)
def test_extensions_in_a_certificate_of_version_1(which: str) -> None:
    assert found_in(which, lambda fields: fields[1:]) == {"ak.chain"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda der: der + b"\0",
        lambda der: der + der,
        lambda der: b"\x30\x83\0" + der[2:],
        lambda der: b"\x30\x80" + der[4:] + b"\0\0",
        lambda der: der[:-1],
    ],
    ids=["trailing", "two", "long length", "indefinite", "cut"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_bytes_that_are_not_one_certificate(place: int, wrap: Callable[[bytes], bytes]) -> None:
    made = honest()
    carried = list(made.machine.certificates)
    carried[place] = wrap(carried[place])
    assert failures(judge(deviations.other_certificates(made, *carried))) == {"ak.certificate"}


# Keys in certificates.


def with_spki(algorithm: bytes, point: bytes) -> Edit:
    new = tlv(0x30, tlv(0x30, EC_KEY + algorithm) + tlv(0x03, b"\0" + point))
    return lambda fields: (*fields[:SPKI], new, *fields[SPKI + 1 :])


def point_of(key: pki.PrivateKey) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    numbers = key.public_key().public_numbers()
    return b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def explicit(generator: bytes) -> bytes:
    """Return P-256 in full (SEC 1, C.2) with a generator of choice."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    a = (prime - 3).to_bytes(32, "big")
    b = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
    field = tlv(0x30, bytes.fromhex("06072a8648ce3d0101") + tlv(2, b"\0" + prime.to_bytes(32)))
    order = tlv(2, b"\0" + forged_der.P256_ORDER.to_bytes(32, "big"))
    curve = tlv(0x30, tlv(4, a) + tlv(4, b))
    return tlv(0x30, tlv(2, b"\1") + field + curve + tlv(4, generator) + order + tlv(2, b"\1"))


P256 = bytes.fromhex("06082a8648ce3d030107")
P224 = bytes.fromhex("06052b81040021")
BRAINPOOL_P256 = bytes.fromhex("06092b2403030208010107")


@pytest.mark.parametrize(
    ("which", "curve"),
    [("leaf", P224), ("leaf", BRAINPOOL_P256), ("authority", P224)],
)
def test_a_point_that_is_not_on_the_named_curve(which: str, curve: bytes) -> None:
    key = machine().key if which == "leaf" else machine().authority.key
    assert found_in(which, with_spki(curve, point_of(key))) == {"ak.certificate"}


@pytest.mark.parametrize("which", WHICH)
def test_a_point_off_the_curve(which: str) -> None:
    key = machine().key if which == "leaf" else machine().authority.key
    point = bytearray(point_of(key))
    point[-1] ^= 1
    assert found_in(which, with_spki(P256, bytes(point))) == {"ak.certificate"}


@pytest.mark.parametrize("which", WHICH)
def test_a_curve_whose_generator_is_the_key(which: str) -> None:
    """With a generator of choice anybody knows the private key of a given point: it is 1."""
    key = machine().key if which == "leaf" else machine().authority.key
    point = point_of(key)
    found = found_in(which, with_spki(explicit(point), point))
    assert found == {"ak.certificate"}


def test_an_authority_whose_curve_is_written_in_full() -> None:
    generator = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    edit = with_spki(explicit(generator), point_of(machine().authority.key))
    assert found_in("authority", edit) == {"ak.chain"}


@pytest.mark.parametrize("exponent", [b"\1", b"\1\0\2", b"\2"], ids=["1", "65538", "2"])
def test_an_rsa_key_that_is_no_permutation(exponent: bytes) -> None:
    """cryptography reads no such key; `ak.algorithm` would refuse it, should it begin to."""
    made = world(machine("rsassa"), claims())
    assert judge(made).accepted
    leaf, authority = made.machine.certificates
    signer = made.machine.authority.key
    assert isinstance(signer, ec.EllipticCurvePrivateKey)

    def edit(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        algorithm, bits = elements(content(fields[SPKI]))
        (numbers,) = elements(content(bits)[1:])
        modulus, old = elements(content(numbers))
        assert old == tlv(0x02, b"\1\0\1")
        key = tlv(0x03, b"\0" + tlv(0x30, modulus + tlv(0x02, exponent)))
        return (*fields[:SPKI], tlv(0x30, algorithm + key), *fields[SPKI + 1 :])

    lie = forged_der.edited(x509.load_der_x509_certificate(leaf), signer, edit)
    found = failures(judge(deviations.other_certificates(made, lie, authority)))
    assert found == {"ak.certificate"}


def certified_under(authority: str, root: str) -> World:
    top = pki.root(f"root {root}", root)
    issuer = pki.authority(top, f"authority {authority}", authority)
    made = machine()
    spec = pki.ak_spec(made.key.public_key(), structures.name(made.counter))
    leaf = pki.sign(spec, issuer, issuer.key)
    trust = pki.store(top, pki.crl(top), pki.crl(issuer))
    lie = made._replace(certificates=(pki.der(leaf), issuer.der), trust=trust)
    return world(lie, claims())


@pytest.mark.parametrize(
    ("authority", "root", "id_"),
    [
        ("rsa2048e3", "p384", "ak.algorithm"),
        ("p256", "rsa2048e3", "ak.algorithm"),
        ("rsa2047", "p384", "ak.algorithm"),
        ("rsa1024", "p384", "ak.chain"),
        ("p256", "rsa1024", "ak.chain"),
        ("k256", "p384", "ak.chain"),
        ("p256", "k256", "ak.chain"),
        ("ed25519", "p384", "ak.chain"),
        ("p256", "ed25519", "ak.chain"),
    ],
)
def test_an_authority_with_a_weak_or_odd_key(authority: str, root: str, id_: str) -> None:
    assert failures(judge(certified_under(authority, root))) == {id_}


@pytest.mark.parametrize(("authority", "root"), [("p521", "p384"), ("rsa2048", "rsa3072")])
def test_an_authority_with_a_strong_key(authority: str, root: str) -> None:
    assert judge(certified_under(authority, root)).accepted
