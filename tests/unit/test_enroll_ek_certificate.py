"""Each rule for an EK certificate, broken alone."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from enclave_sim.adversary import forged_der
from enclave_sim.adversary.forged_manufacturer import (
    DAY,
    NOW,
    Profile,
    ca,
    ca_profile,
    crl,
    ek_profile,
    issue_ek,
    manufacturer,
    sign,
    software_ek,
    tpm_names,
    usage,
)
from laminator.enroll.ak_certificate import Authority, AuthorityKey
from laminator.enroll.ek_certificate import (
    EkAnchor,
    EkTrust,
    certificate_key,
    check_profile,
    check_signature_hash,
    parse_certificate,
    verify_ek_certificate,
)
from laminator.enroll.key_templates import EK_TEMPLATES, EkTemplate
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import MalformedError, UsageError

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "recorded" / "ek"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="no ../shared/vectors here")


def profile() -> Profile:
    return ek_profile(software_ek().private.public_key())


def refusal(
    certificate: x509.Certificate,
    *,
    chain: list[x509.Certificate] | None = None,
    trust: EkTrust | None = None,
    at: dt.datetime = NOW,
) -> str:
    maker = manufacturer()
    with pytest.raises(EnrolmentRefusedError) as caught:
        verify_ek_certificate(
            certificate, maker.chain if chain is None else chain, trust or maker.trust, at
        )
    return caught.value.code


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_a_certificate_after_the_profile_is_accepted(template: EkTemplate) -> None:
    certificate = issue_ek(ek_profile(software_ek(template).private.public_key()))
    maker = manufacturer()
    verified = verify_ek_certificate(certificate, maker.chain, maker.trust, NOW)
    assert verified.anchor_kind == "simulated"
    assert verified.digest == certificate.fingerprint(hashes.SHA256())


PROFILE_FAULTS: dict[str, tuple[Callable[[Profile], Profile], str]] = {
    "an authority's": (
        lambda p: p.having(x509.BasicConstraints(ca=True, path_length=None), critical=True),
        "ek.constraints",
    ),
    "no basic constraints": (lambda p: p.without(x509.BasicConstraints), "ek.extension"),
    "no key usage": (lambda p: p.without(x509.KeyUsage), "ek.extension"),
    "usage of another kind of key": (
        lambda p: p.having(usage("key_encipherment"), critical=True),
        "ek.key-usage",
    ),
    "usage to sign too": (
        lambda p: p.having(usage("key_agreement", "digital_signature"), critical=True),
        "ek.key-usage",
    ),
    "no purpose": (lambda p: p.without(x509.ExtendedKeyUsage), "ek.extension"),
    "the purpose of an AK": (
        lambda p: p.having(x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.3")])),
        "ek.purpose",
    ),
    "no alternative name": (lambda p: p.without(x509.SubjectAlternativeName), "ek.extension"),
    "an alternative name not critical": (lambda p: p.having(tpm_names()), "ek.subject"),
    "an alternative name without model": (
        lambda p: p.having(tpm_names(["2.23.133.2.1", "2.23.133.2.3"]), critical=True),
        "ek.subject",
    ),
    "an alternative name of another kind": (
        lambda p: p.having(x509.SubjectAlternativeName([x509.DNSName("tpm")]), critical=True),
        "ek.subject",
    ),
    "expired": (lambda p: dataclasses.replace(p, not_after=NOW - DAY), "ek.validity"),
    "not yet valid": (lambda p: dataclasses.replace(p, not_before=NOW + DAY), "ek.validity"),
    "an unknown critical extension": (
        lambda p: p.having(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), critical=True
        ),
        "ek.chain",
    ),
}


@pytest.mark.parametrize("fault", PROFILE_FAULTS)
def test_a_certificate_outside_the_profile_is_refused(fault: str) -> None:
    change, code = PROFILE_FAULTS[fault]
    assert refusal(issue_ek(change(profile()))) == code


def test_a_named_subject_may_have_an_alternative_name_that_is_not_critical() -> None:
    named = dataclasses.replace(profile().having(tpm_names()), subject="A TPM")
    check_profile(issue_ek(named))


def test_an_rsa_key_needs_encipherment() -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    certificate = issue_ek(ek_profile(rsa_key).having(usage("key_agreement"), critical=True))
    assert refusal(certificate) == "ek.key-usage"


def test_an_unknown_root_is_refused() -> None:
    other = ca("Root")
    crls = (crl(other), crl(manufacturer().intermediate))
    trust = EkTrust((EkAnchor(other.certificate, "tpm"),), crls)
    assert refusal(issue_ek(profile()), trust=trust) == "ek.chain"


def test_a_root_in_the_request_is_no_anchor() -> None:
    maker = manufacturer()
    trust = EkTrust((), maker.trust.crls)
    chain = [*maker.chain, maker.root.certificate]
    assert refusal(issue_ek(profile()), chain=chain, trust=trust) == "ek.chain"


def test_an_intermediate_is_no_anchor() -> None:
    maker = manufacturer()
    trust = EkTrust((EkAnchor(maker.intermediate.certificate, "tpm"),), maker.trust.crls)
    assert refusal(issue_ek(profile()), trust=trust) == "ek.chain"


def test_a_root_of_two_kinds_is_refused() -> None:
    maker = manufacturer()
    anchors = tuple(EkAnchor(maker.root.certificate, kind) for kind in ("tpm", "simulated"))
    assert refusal(issue_ek(profile()), trust=EkTrust(anchors, maker.trust.crls)) == "ek.anchor"


def test_a_missing_intermediate_is_refused() -> None:
    assert refusal(issue_ek(profile()), chain=[]) == "ek.chain"


@pytest.mark.parametrize("missing", [0, 1])
def test_each_level_needs_a_crl(missing: int) -> None:
    maker = manufacturer()
    crls = tuple(each for index, each in enumerate(maker.trust.crls) if index != missing)
    assert refusal(issue_ek(profile()), trust=EkTrust(maker.trust.anchors, crls)) == "ek.crl"


@pytest.mark.parametrize(
    ("age", "lifetime"), [(40 * DAY, 30 * DAY), (-DAY, 30 * DAY)], ids=["old", "of the future"]
)
def test_a_crl_of_another_time_is_refused(age: dt.timedelta, lifetime: dt.timedelta) -> None:
    maker = manufacturer()
    crls = (crl(maker.root), crl(maker.intermediate, age=age, lifetime=lifetime))
    assert refusal(issue_ek(profile()), trust=EkTrust(maker.trust.anchors, crls)) == "ek.crl"


def test_a_crl_by_another_key_is_refused() -> None:
    maker = manufacturer()
    crls = (crl(maker.root), crl(ca("EK CA", maker.root)))
    assert refusal(issue_ek(profile()), trust=EkTrust(maker.trust.anchors, crls)) == "ek.crl"


def test_the_newest_crl_decides() -> None:
    maker = manufacturer()
    certificate = issue_ek(profile())
    older = crl(maker.intermediate, age=2 * DAY)
    newer = crl(maker.intermediate, certificate.serial_number)
    for crls in ((older, newer), (newer, older)):
        trust = EkTrust(maker.trust.anchors, (crl(maker.root), *crls))
        assert refusal(certificate, trust=trust) == "ek.revoked"


def test_a_revoked_authority_is_refused() -> None:
    maker = manufacturer()
    crls = (crl(maker.root, 2), crl(maker.intermediate))
    assert refusal(issue_ek(profile()), trust=EkTrust(maker.trust.anchors, crls)) == "ek.revoked"


def test_the_time_is_the_callers() -> None:
    certificate = issue_ek(profile())
    maker = manufacturer()
    crls = tuple(
        crl(authority, lifetime=500 * DAY) for authority in (maker.root, maker.intermediate)
    )
    trust = EkTrust(maker.trust.anchors, crls)
    assert verify_ek_certificate(certificate, maker.chain, trust, NOW + 50 * DAY)
    assert refusal(certificate, trust=trust, at=NOW + 365 * DAY) == "ek.validity"
    with pytest.raises(UsageError) as caught:
        verify_ek_certificate(certificate, [], manufacturer().trust, NOW.replace(tzinfo=None))
    assert caught.value.code == "ek.time"


def intermediate(change: Callable[[Profile], Profile]) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    shaped = change(dataclasses.replace(ca_profile(key.public_key(), "EK CA"), serial=3))
    return Authority(sign(shaped, "Root", manufacturer().root.key), key)


CA_FAULTS: dict[str, Callable[[Profile], Profile]] = {
    "no basic constraints": lambda p: p.without(x509.BasicConstraints),
    "no authority": lambda p: p.having(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    ),
    "no key usage": lambda p: p.without(x509.KeyUsage),
    "usage without certificates": lambda p: p.having(usage("crl_sign"), critical=True),
}


@pytest.mark.parametrize("fault", CA_FAULTS)
def test_an_intermediate_that_is_no_authority_is_refused(fault: str) -> None:
    maker = manufacturer()
    authority = intermediate(CA_FAULTS[fault])
    trust = EkTrust(maker.trust.anchors, (crl(maker.root), crl(authority)))
    certificate = sign(profile(), "EK CA", authority.key)
    code = refusal(certificate, chain=[authority.certificate], trust=trust)
    assert code in {"ek.chain", "ek.extension"}


def test_a_path_length_is_kept() -> None:
    maker = manufacturer()
    short = intermediate(
        lambda p: p.having(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    below = ca("Below", Authority(short.certificate, short.key))
    crls = (crl(maker.root), crl(short), crl(below))
    certificate = sign(profile(), "Below", below.key)
    chain = [below.certificate, short.certificate]
    code = refusal(certificate, chain=chain, trust=EkTrust(maker.trust.anchors, crls))
    assert code == "ek.chain"


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505
        lambda: rsa.generate_private_key(public_exponent=3, key_size=2048),
        lambda: ec.generate_private_key(ec.SECP224R1()),
    ],
    ids=["short", "exponent 3", "odd curve"],
)
def test_a_weak_authority_is_refused(make: Callable[[], AuthorityKey]) -> None:
    maker, key = manufacturer(), make()
    shaped = dataclasses.replace(ca_profile(key.public_key(), "EK CA"), serial=4)
    authority = Authority(sign(shaped, "Root", maker.root.key), key)
    trust = EkTrust(maker.trust.anchors, (crl(maker.root), crl(authority)))
    certificate = sign(profile(), "EK CA", authority.key)
    assert refusal(certificate, chain=[authority.certificate], trust=trust) == "ek.chain"


SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
SHA1_WITH_RSA = bytes.fromhex("2a864886f70d010105")


def signed_by_rsa() -> bytes:
    """Return an EK certificate whose signature algorithm is sha256WithRSAEncryption, in DER."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return sign(profile(), "EK CA", key).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("oid", [SHA1_WITH_RSA, SHA1_WITH_RSA[:-1] + b"\x63"], ids=["SHA-1", "?"])
def test_a_weak_or_unknown_signature_hash_is_refused(oid: bytes) -> None:
    check_signature_hash(parse_certificate(signed_by_rsa()))
    weak = parse_certificate(signed_by_rsa().replace(SHA256_WITH_RSA, oid))
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_signature_hash(weak)
    assert caught.value.code == "ek.signature"


def test_a_key_for_oaep_alone_is_malformed() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    data = issue_ek(ek_profile(key)).public_bytes(serialization.Encoding.DER)
    rsa_encryption, rsaes_oaep = (bytes.fromhex(f"2a864886f70d0101{n:02x}") for n in (1, 7))
    assert rsa_encryption in data
    with pytest.raises(MalformedError) as caught:
        certificate_key(parse_certificate(data.replace(rsa_encryption, rsaes_oaep)))
    assert caught.value.code == "certificate.key"


def test_too_many_intermediates_are_malformed() -> None:
    maker = manufacturer()
    with pytest.raises(MalformedError) as caught:
        verify_ek_certificate(issue_ek(profile()), maker.chain * 9, maker.trust, NOW)
    assert caught.value.code == "ek.chain"


def test_a_key_of_another_kind_is_malformed() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(manufacturer().root.key, hashes.SHA256())
    )
    with pytest.raises(MalformedError) as caught:
        certificate_key(certificate)
    assert caught.value.code == "certificate.key"


def der() -> bytes:
    return issue_ek(profile()).public_bytes(serialization.Encoding.DER)


def test_parsing_gives_the_certificate() -> None:
    data = der()
    assert parse_certificate(data).public_bytes(serialization.Encoding.DER) == data


@pytest.mark.parametrize("data", [b"", b"0", der()[:-1], der() + b"\xff"])
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_certificate(data)
    assert caught.value.code == "certificate.der"


@pytest.mark.parametrize("place", [3, 5], ids=["issuer", "subject"])
@pytest.mark.parametrize(
    "name",
    [b"\x30\x02\x31\x00", b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x03\x02\x00\x01"],
    ids=["nothing in it", "bits as common name"],
)
def test_a_name_that_cannot_be_read_is_malformed(place: int, name: bytes) -> None:
    """cryptography reads names only when they are asked for."""

    def edit(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (*fields[:place], name, *fields[place + 1 :])

    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(MalformedError) as caught:
        parse_certificate(forged_der.edited(issue_ek(profile()), key, edit))
    assert caught.value.code == "certificate.der"


def test_a_serial_number_that_is_not_positive_is_malformed() -> None:
    data = der()
    serial = bytes([2, 1, 7])
    with pytest.raises(MalformedError) as caught:
        parse_certificate(data.replace(serial, bytes([2, 1, 0]), 1))
    assert caught.value.code == "certificate.serial"


def test_a_huge_certificate_is_malformed() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_certificate(bytes(20_000))
    assert caught.value.code == "certificate.size"


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_flipped_byte_raises_nothing_else(position: int, change: int) -> None:
    data = bytearray(der())
    data[position % len(data)] ^= change
    try:
        certificate = parse_certificate(bytes(data))
        verify_ek_certificate(certificate, manufacturer().chain, manufacturer().trust, NOW)
    except (EnrolmentRefusedError, MalformedError):
        return
    # ECDSA signatures may be malleable; nothing that they cover is.
    assert certificate.tbs_certificate_bytes == parse_certificate(der()).tbs_certificate_bytes


@needs_vectors
@pytest.mark.parametrize("name", ["gce_uca_tpm_rsa_enc_cert.pem", "gce_uca_tpm_ecc_enc_cert.pem"])
def test_google_certificates_have_the_profile(name: str) -> None:
    check_profile(x509.load_pem_x509_certificate((VECTORS / name).read_bytes()))


@needs_vectors
def test_a_recorded_certificate_without_a_purpose_is_refused() -> None:
    data = (VECTORS / "gce_pca_tpm_rsa_enc_cert.pem").read_bytes()
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_profile(x509.load_pem_x509_certificate(data))
    assert caught.value.code == "ek.extension"


@needs_vectors
def test_a_certificate_that_cannot_be_read_is_malformed() -> None:
    with pytest.raises(MalformedError):
        parse_certificate((VECTORS / "nuvoton_root_ca_2110_bad_set_order.der").read_bytes())
