"""The authority's rules, each broken alone, and the way from a request to a certificate."""

import dataclasses
import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from enclave_sim.adversary.forged_endorsement_key import IntegrityError, activate
from enclave_sim.adversary.forged_manufacturer import (
    DAY,
    NOW,
    SoftwareEk,
    ca,
    ca_profile,
    ek_profile,
    issue_ek,
    manufacturer,
    sign,
    software_ek,
    usage,
    with_point,
)
from laminator.enroll.ak_certificate import (
    Authority,
    CertificateTerms,
    sign_ak_certificate,
    signing_hash,
)
from laminator.enroll.authority import (
    CHALLENGE_LIFETIME,
    CheckedAk,
    PendingChallenge,
    VerifiedAk,
    VerifiedEk,
    accept_response,
    certify,
    challenge,
    check_ak,
    check_counter,
    check_ek,
    verify_endorsement,
)
from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import (
    AK_ECDSA_P256,
    AK_RSASSA_2048,
    EK_ECC_P256,
    EK_RSA_2048,
    EK_TEMPLATES,
    EkTemplate,
)
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import LaminatorError, MalformedError, UsageError
from laminator.evidence.ak_extension import AK_EXTENSION_OID, AkExtension, parse_ak_extension
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    PLATFORMCREATE,
    RESTRICTED,
    RUN_COUNTER_INDEX,
    SENSITIVE_DATA_ORIGIN,
    SIGN_ENCRYPT,
    WRITTEN,
    X509_SIGN,
    EccPublic,
    NvPublic,
    Public,
    RsaPublic,
    Scheme,
    Symmetric,
    marshal_nv_public,
    marshal_public,
    name,
)
from laminator.evidence.tpm_wire import (
    ALG_ECDSA,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SHA1,
    ALG_SHA256,
    ALG_SHA384,
    ECC_NIST_P384,
    ECC_NIST_P521,
)

COUNTER = NvPublic(RUN_COUNTER_INDEX, ALG_SHA256, COUNTER_ATTRIBUTES, b"", 8)
TERMS = CertificateTerms(NOW, NOW + 30 * DAY, 99)


def ecc_ak(curve: ec.EllipticCurve | None = None) -> EccPublic:
    key = ec.generate_private_key(curve or ec.SECP256R1()).public_key()
    public = with_point(AK_ECDSA_P256.public, key)
    assert isinstance(public, EccPublic)
    return public


def rsa_ak(bits: int = 2048, exponent: int = 65537) -> RsaPublic:
    key = rsa.generate_private_key(public_exponent=exponent, key_size=bits).public_key()
    public = AK_RSASSA_2048.public
    assert isinstance(public, RsaPublic)
    parameters = public.parameters._replace(
        key_bits=bits, exponent=0 if exponent == 65537 else exponent
    )
    modulus = key.public_numbers().n.to_bytes(bits // 8, "big")
    return public._replace(modulus=modulus, parameters=parameters)


def ak_refusal(public: Public) -> str:
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_ak(marshal_public(public))
    return caught.value.code


# --- attestation keys


@pytest.mark.parametrize("public", [ecc_ak(), rsa_ak()], ids=["ecc", "rsa"])
def test_our_attestation_keys_are_accepted(public: Public) -> None:
    checked = check_ak(marshal_public(public))
    assert checked.name == name(public)
    assert checked.public == public


def test_p384_and_pss_are_accepted() -> None:
    p384 = ecc_ak(ec.SECP384R1())
    scheme = Scheme(ALG_ECDSA, ALG_SHA384)
    p384 = p384._replace(parameters=p384.parameters._replace(curve=ECC_NIST_P384, scheme=scheme))
    pss = rsa_ak()
    pss = pss._replace(parameters=pss.parameters._replace(scheme=Scheme(ALG_RSAPSS, ALG_SHA256)))
    for public in (p384, pss):
        assert check_ak(marshal_public(public)).public == public


@pytest.mark.parametrize(
    "bit", [FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, RESTRICTED, SIGN_ENCRYPT]
)
def test_an_attribute_that_is_clear_is_refused(bit: int) -> None:
    public = ecc_ak()
    assert ak_refusal(public._replace(attributes=public.attributes & ~bit)) == "ak.attributes"


@pytest.mark.parametrize("bit", [DECRYPT, X509_SIGN])
def test_an_attribute_that_is_set_is_refused(bit: int) -> None:
    public = ecc_ak()
    assert ak_refusal(public._replace(attributes=public.attributes | bit)) == "ak.attributes"


ECC_FAULTS: dict[str, dict[str, object]] = {
    "no scheme": {"scheme": None},
    "SHA-1": {"scheme": Scheme(ALG_ECDSA, ALG_SHA1)},
    "another curve": {"curve": ECC_NIST_P521},
    "SHA-256 with P-384": {"curve": ECC_NIST_P384},
    "a symmetric scheme": {"symmetric": Symmetric(6, 128, 0x43)},
    "a derivation scheme": {"kdf": Scheme(0x20, ALG_SHA256)},
}


@pytest.mark.parametrize("fault", ECC_FAULTS)
def test_an_ecc_key_of_another_scheme_is_refused(fault: str) -> None:
    public = ecc_ak()
    fields = public.parameters._asdict() | ECC_FAULTS[fault]
    parameters = type(public.parameters)(**fields)
    assert ak_refusal(public._replace(parameters=parameters)) == "ak.scheme"


RSA_FAULTS: dict[str, dict[str, object]] = {
    "no scheme": {"scheme": None},
    "SHA-1": {"scheme": Scheme(ALG_RSASSA, ALG_SHA1)},
    "1024 bits": {"key_bits": 1024},
    "the exponent 3": {"exponent": 3},
    "a symmetric scheme": {"symmetric": Symmetric(6, 128, 0x43)},
}


@pytest.mark.parametrize("fault", RSA_FAULTS)
def test_an_rsa_key_of_another_scheme_is_refused(fault: str) -> None:
    public = rsa_ak()
    fields = public.parameters._asdict() | RSA_FAULTS[fault]
    parameters = type(public.parameters)(**fields)
    assert ak_refusal(public._replace(parameters=parameters)) == "ak.scheme"


def test_a_name_of_sha1_is_malformed() -> None:
    with pytest.raises(MalformedError):
        check_ak(marshal_public(ecc_ak()._replace(name_alg=ALG_SHA1)))


def test_a_point_off_the_curve_is_malformed() -> None:
    public = ecc_ak()
    with pytest.raises(MalformedError):
        check_ak(marshal_public(public._replace(y=bytes(32))))


@given(st.binary(max_size=200))
def test_other_bytes_raise_our_errors_alone(data: bytes) -> None:
    for check in (check_ak, check_ek, check_counter):
        with pytest.raises(LaminatorError):
            check(data)


# --- endorsement keys


def chain(certificate: x509.Certificate) -> tuple[bytes, ...]:
    return tuple(
        each.public_bytes(serialization.Encoding.DER)
        for each in (certificate, *manufacturer().chain)
    )


def ek_certificates(ek: SoftwareEk) -> tuple[bytes, ...]:
    return chain(issue_ek(ek_profile(ek.private.public_key())))


def verified_ek(ek: SoftwareEk) -> VerifiedEk:
    checked = check_ek(marshal_public(ek.public))
    return verify_endorsement(checked, ek_certificates(ek), manufacturer().trust, NOW)


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_an_endorsed_key_is_verified(template: EkTemplate) -> None:
    ek = software_ek(template)
    verified = verified_ek(ek)
    assert verified.public == ek.public
    assert verified.anchor_kind == "simulated"
    assert verified.certificate_digest == verified.certificate.fingerprint(hashes.SHA256())


@pytest.mark.parametrize(
    "change",
    [
        lambda public: public._replace(attributes=public.attributes | SIGN_ENCRYPT),
        lambda public: public._replace(auth_policy=bytes(32)),
        lambda public: public._replace(name_alg=ALG_SHA384),
        lambda public: public._replace(
            parameters=public.parameters._replace(symmetric=Symmetric(6, 256, 0x43))
        ),
    ],
    ids=["attributes", "policy", "name", "symmetric"],
)
def test_a_public_area_of_no_template_is_refused(change: Callable[[Public], Public]) -> None:
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_ek(marshal_public(change(software_ek().public)))
    assert caught.value.code == "ek.template"


def test_an_rsa_exponent_of_its_own_is_refused() -> None:
    public = software_ek(EK_RSA_2048).public
    assert isinstance(public, RsaPublic)
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_ek(
            marshal_public(public._replace(parameters=public.parameters._replace(exponent=65539)))
        )
    assert caught.value.code == "ek.template"


def test_a_certificate_of_another_key_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    checked = check_ek(marshal_public(software_ek().public))
    with pytest.raises(EnrolmentRefusedError) as caught:
        verify_endorsement(checked, chain(issue_ek(ek_profile(other))), manufacturer().trust, NOW)
    assert caught.value.code == "ek.key"


def test_no_certificate_is_refused() -> None:
    checked = check_ek(marshal_public(software_ek().public))
    with pytest.raises(EnrolmentRefusedError) as caught:
        verify_endorsement(checked, (), manufacturer().trust, NOW)
    assert caught.value.code == "ek.certificate"


# --- the run counter


def test_the_counters_name_has_written_set() -> None:
    fresh = COUNTER._replace(attributes=COUNTER_ATTRIBUTES & ~WRITTEN)
    assert check_counter(marshal_nv_public(fresh)) == name(COUNTER)
    assert check_counter(marshal_nv_public(COUNTER)) == name(COUNTER)


def test_a_platforms_counter_is_accepted() -> None:
    platform = COUNTER._replace(attributes=COUNTER_ATTRIBUTES | PLATFORMCREATE)
    assert check_counter(marshal_nv_public(platform)) == name(platform)


@pytest.mark.parametrize(
    "public",
    [
        COUNTER._replace(nv_index=RUN_COUNTER_INDEX + 1),
        COUNTER._replace(attributes=COUNTER_ATTRIBUTES & ~0x10),
        COUNTER._replace(attributes=COUNTER_ATTRIBUTES | 1 << 1),
        COUNTER._replace(data_size=16),
        COUNTER._replace(auth_policy=bytes(32)),
        COUNTER._replace(name_alg=ALG_SHA384),
    ],
    ids=["index", "ordinary", "owner writes", "size", "policy", "name"],
)
def test_another_index_is_refused(public: NvPublic) -> None:
    with pytest.raises(EnrolmentRefusedError) as caught:
        check_counter(marshal_nv_public(public))
    assert caught.value.code == "counter.public"


# --- challenge and response


def posed(ek: SoftwareEk | None = None) -> tuple[CheckedAk, Credential, PendingChallenge]:
    ak = check_ak(marshal_public(ecc_ak()))
    credential, pending = challenge(ak, verified_ek(ek or software_ek()), name(COUNTER), NOW)
    return ak, credential, pending


def response_refusal(pending: PendingChallenge, secret: bytes, at: dt.datetime = NOW) -> str:
    with pytest.raises(EnrolmentRefusedError) as caught:
        accept_response(pending, secret, at)
    return caught.value.code


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_the_secret_verifies_the_key(template: EkTemplate) -> None:
    ek = software_ek(template)
    ak, credential, pending = posed(ek)
    verified = accept_response(pending, activate(ek, ak.name, credential), NOW)
    assert verified.ak == ak
    assert verified.extension == AkExtension("simulated", name(COUNTER))
    assert verified.ek_certificate_digest == pending.ek_certificate_digest


def test_another_key_in_the_tpm_cannot_open_it() -> None:
    _, credential, _ = posed()
    with pytest.raises(IntegrityError):
        activate(software_ek(), name(ecc_ak()), credential)


def test_another_secret_is_refused() -> None:
    _, _, pending = posed()
    assert response_refusal(pending, bytes(32)) == "response.secret"
    assert response_refusal(pending, b"") == "response.secret"


@pytest.mark.parametrize(
    "change",
    [
        lambda pending: pending._replace(ak=marshal_public(ecc_ak())),
        lambda pending: pending._replace(ek_certificate_digest=bytes(32)),
    ],
    ids=["AK", "EK certificate"],
)
def test_a_response_for_another_pair_is_refused(
    change: Callable[[PendingChallenge], PendingChallenge],
) -> None:
    ak, credential, pending = posed()
    secret = activate(software_ek(), ak.name, credential)
    assert response_refusal(change(pending), secret) == "response.secret"


def test_a_late_response_is_refused() -> None:
    ak, credential, pending = posed()
    secret = activate(software_ek(), ak.name, credential)
    assert accept_response(pending, secret, NOW + CHALLENGE_LIFETIME).ak == ak
    late = NOW + CHALLENGE_LIFETIME + dt.timedelta(seconds=1)
    assert response_refusal(pending, secret, late) == "response.expired"


def test_what_is_kept_does_not_hold_the_secret() -> None:
    ak, credential, pending = posed()
    assert activate(software_ek(), ak.name, credential) not in pending


def test_a_verified_key_cannot_be_made_by_hand() -> None:
    ak = check_ak(marshal_public(ecc_ak()))
    with pytest.raises(UsageError) as caught:
        VerifiedAk(
            ak=ak,
            extension=AkExtension("tpm", name(COUNTER)),
            ek_certificate_digest=bytes(32),
            seal=object(),
        )
    assert caught.value.code == "response.unverified"


# --- the certificate


def verified_ak() -> VerifiedAk:
    ak, credential, pending = posed()
    return accept_response(pending, activate(software_ek(EK_ECC_P256), ak.name, credential), NOW)


def ak_authority() -> Authority:
    return ca("AK authority", manufacturer().root, serial=5)


def test_the_certificate_is_after_the_profile() -> None:
    verified, authority = verified_ak(), ak_authority()
    certificate = certify(verified, authority, TERMS)
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.public_key() == verified.ak.key
    assert certificate.serial_number == TERMS.serial
    assert certificate.not_valid_before_utc == TERMS.not_before
    assert certificate.not_valid_after_utc == TERMS.not_after
    found = {each.oid.dotted_string: each for each in certificate.extensions}
    private = found.pop(AK_EXTENSION_OID)
    assert isinstance(private.value, x509.UnrecognizedExtension)
    assert not private.critical
    assert parse_ak_extension(private.value.value) == verified.extension
    ski = x509.SubjectKeyIdentifier.from_public_key(verified.ak.key)
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value)
    assert {(each.value, each.critical) for each in found.values()} == {
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.3")]), False),
        (ski, False),
        (aki, False),
    }


def test_the_hash_fits_the_authoritys_key() -> None:
    assert signing_hash(ec.generate_private_key(ec.SECP384R1())).name == "sha384"
    assert signing_hash(ec.generate_private_key(ec.SECP256R1())).name == "sha256"


def test_an_rsa_authority_signs() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    root = manufacturer().root
    authority = Authority(sign(ca_profile(key.public_key(), "RSA"), "Root", root.key), key)
    certificate = certify(verified_ak(), authority, TERMS)
    algorithm = certificate.signature_hash_algorithm
    assert isinstance(algorithm, hashes.SHA256)
    key.public_key().verify(
        certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), algorithm
    )


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (TERMS._replace(not_before=NOW - 2000 * DAY), "terms.validity"),
        (TERMS._replace(not_after=NOW + 2000 * DAY), "terms.validity"),
        (TERMS._replace(not_after=NOW), "terms.validity"),
        (TERMS._replace(not_after=TERMS.not_after.replace(tzinfo=None)), "terms.time"),
    ],
    ids=["early", "late", "empty", "naive"],
)
def test_impossible_terms_are_misuse(terms: CertificateTerms, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        certify(verified_ak(), ak_authority(), terms)
    assert caught.value.code == code


def test_a_key_that_is_not_the_authoritys_is_misuse() -> None:
    authority = ak_authority()._replace(key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(UsageError) as caught:
        certify(verified_ak(), authority, TERMS)
    assert caught.value.code == "authority.key"


@pytest.mark.parametrize(
    "missing", [x509.BasicConstraints, x509.KeyUsage, x509.SubjectKeyIdentifier]
)
def test_a_certificate_that_may_not_issue_is_misuse(missing: type[x509.ExtensionType]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    profile = dataclasses.replace(ca_profile(key.public_key(), "AK"), serial=6).without(missing)
    authority = Authority(sign(profile, "Root", manufacturer().root.key), key)
    with pytest.raises(UsageError) as caught:
        sign_ak_certificate(key.public_key(), authority, TERMS, AkExtension("tpm", name(COUNTER)))
    assert caught.value.code == "authority.certificate"
