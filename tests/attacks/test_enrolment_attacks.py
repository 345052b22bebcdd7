"""What a lying machine, or somebody with its stick, tries on an authority; the code that stops it.

Each attack changes one thing of an enrolment that would succeed, and that thing is asserted to
be there. The rules about single public areas and certificates are attacked in
tests/unit/test_enroll_authority.py and test_enroll_ek_certificate.py.
"""

import dataclasses
import datetime as dt
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from authority_desk import COUNTER, Desk, Machine, judge, machine, new_ak, open_desk
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary.forged_der import complement, edited, parts, without_next_update
from enclave_sim.adversary.forged_endorsement_key import IntegrityError
from enclave_sim.adversary.forged_manufacturer import (
    DAY,
    NOW,
    SoftwareEk,
    ca,
    ek_profile,
    issue_ek,
    manufacturer,
    sign,
    usage,
    with_point,
)
from laminator.enroll.authority import CHALLENGE_LIFETIME
from laminator.enroll.authority_key import RootTerms, generate_key, make_root
from laminator.enroll.exchange import (
    EnrolmentGrant,
    EnrolmentRequest,
    EnrolmentResponse,
    digest,
    parse_challenge,
)
from laminator.enroll.issuance import ek_identity, revoke_certificate, revoke_ek
from laminator.enroll.key_templates import EK_ECC_P256, EK_RSA_2048
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.enroll.response import check_grant
from laminator.errors import LaminatorError
from laminator.evidence.ak_extension import parse_ak_extension
from laminator.evidence.tpm_key import spki
from laminator.evidence.tpm_structures import (
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN_ENCRYPT,
    USER_WITH_AUTH,
    X509_SIGN,
    EccPublic,
    Public,
    RsaPublic,
    Scheme,
    marshal_nv_public,
    marshal_public,
    name,
    parse_public,
)
from laminator.evidence.tpm_wire import ALG_ECDSA, ALG_SHA1, ECC_NIST_P384, ECC_NIST_P521


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path)
    yield opened
    opened.store.close()


def stopped(attack: Callable[[], object]) -> str:
    with pytest.raises(LaminatorError) as caught:
        attack()
    return caught.value.code


def test_the_enrolment_that_the_attacks_change_succeeds(desk: Desk) -> None:
    assert desk.enrol(machine()).revoked is None


# --- the attestation key


def attributes(change: Callable[[int], int]) -> Callable[[Any], Public]:
    return lambda public: public._replace(attributes=change(public.attributes))


def parameters(**fields: Any) -> Callable[[Any], Public]:
    return lambda public: public._replace(parameters=public.parameters._replace(**fields))


AK_LIES: dict[str, tuple[Callable[[Any], Public], str]] = {
    "a key that can leave the TPM": (attributes(lambda bits: bits & ~FIXED_TPM), "ak.attributes"),
    "a key with a movable parent": (attributes(lambda bits: bits & ~FIXED_PARENT), "ak.attributes"),
    "a key made outside": (
        attributes(lambda bits: bits & ~SENSITIVE_DATA_ORIGIN),
        "ak.attributes",
    ),
    "a key that signs anything": (attributes(lambda bits: bits & ~RESTRICTED), "ak.attributes"),
    "a key that does not sign": (attributes(lambda bits: bits & ~SIGN_ENCRYPT), "ak.attributes"),
    "a key without its own authorisation": (
        attributes(lambda bits: bits & ~USER_WITH_AUTH),
        "ak.attributes",
    ),
    "a key that decrypts": (attributes(lambda bits: bits | DECRYPT), "ak.attributes"),
    "a key that signs certificates": (attributes(lambda bits: bits | X509_SIGN), "ak.attributes"),
    "a key whose Name is SHA-1": (
        lambda public: public._replace(name_alg=ALG_SHA1),
        "tpm.structure",
    ),
    "a key that leaves the scheme open": (parameters(scheme=None), "ak.scheme"),
    "a key that signs SHA-1": (parameters(scheme=Scheme(ALG_ECDSA, ALG_SHA1)), "ak.scheme"),
    "a key that names another curve": (parameters(curve=ECC_NIST_P384), "ak.scheme"),
    "a key on P-521": (parameters(curve=ECC_NIST_P521), "ak.scheme"),
    "a point off the curve": (lambda public: public._replace(y=bytes(32)), "tpm.key"),
}


@pytest.mark.parametrize("lie", AK_LIES)
def test_no_challenge_for(desk: Desk, lie: str) -> None:
    one = machine()
    change, code = AK_LIES[lie]
    assert change(one.ak) != one.ak
    request = one.request()._replace(ak=marshal_public(change(one.ak)))
    assert stopped(lambda: desk.pose(request)) == code
    assert desk.store.open_challenges(0) == 0


# --- the endorsement key and its certificate


def with_certificates(one: Machine, *certificates: x509.Certificate) -> EnrolmentRequest:
    ders = tuple(each.public_bytes(Encoding.DER) for each in certificates)
    return one.request()._replace(ek_certificates=ders)


def forged(one: Machine, **fields: Any) -> EnrolmentRequest:
    """A request with an EK certificate whose profile differs in `fields`."""
    profile = dataclasses.replace(ek_profile(one.ek.private.public_key()), **fields)
    return with_certificates(one, issue_ek(profile), *manufacturer().chain)


def having(one: Machine, value: x509.ExtensionType) -> EnrolmentRequest:
    profile = ek_profile(one.ek.private.public_key()).having(value, critical=True)
    return with_certificates(one, issue_ek(profile), *manufacturer().chain)


def an_authority_of_ones_own(one: Machine) -> EnrolmentRequest:
    own = ca("EK CA")
    certificate = sign(ek_profile(one.ek.private.public_key()), "EK CA", own.key)
    return with_certificates(one, certificate, own.certificate)


def an_ek_certificate_as_authority(one: Machine) -> EnrolmentRequest:
    """The machine's own (real) EK certificate vouches for another key of the attacker's."""
    private = one.ek.private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    profile = ek_profile(one.ek.private.public_key())
    leaf = dataclasses.replace(profile, subject="EK", serial=9)
    issuer = issue_ek(leaf)
    fake = sign(profile, "EK", private)
    return with_certificates(one, fake, issuer, *manufacturer().chain)


def a_key_of_ones_own_as_endorsement_key(one: Machine) -> EnrolmentRequest:
    """The certificate is a real EK's, the public area a key whose private half is in a file."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = with_point(EK_ECC_P256.public, private.public_key())
    assert public != one.ek.public
    return one.request()._replace(ek=marshal_public(public))


def a_signing_endorsement_key(one: Machine) -> EnrolmentRequest:
    public = one.ek.public._replace(attributes=one.ek.public.attributes | SIGN_ENCRYPT)
    return one.request()._replace(ek=marshal_public(public))


def a_point_off_the_curve(one: Machine) -> EnrolmentRequest:
    public = one.ek.public
    assert isinstance(public, EccPublic)
    return one.request()._replace(ek=marshal_public(public._replace(y=bytes(32))))


def an_exponent_of_three(one: Machine) -> EnrolmentRequest:
    public = EK_RSA_2048.public
    assert isinstance(public, RsaPublic)
    changed = public._replace(
        modulus=b"\xff" * 256, parameters=public.parameters._replace(exponent=3)
    )
    return one.request()._replace(ek=marshal_public(changed))


EK_LIES: dict[str, tuple[Callable[[Machine], EnrolmentRequest], str]] = {
    "an authority of one's own": (an_authority_of_ones_own, "ek.chain"),
    "an EK certificate as an authority": (an_ek_certificate_as_authority, "ek.chain"),
    "an EK in software": (a_key_of_ones_own_as_endorsement_key, "ek.key"),
    "an EK that signs": (a_signing_endorsement_key, "ek.template"),
    "an EK that is no point of its curve": (a_point_off_the_curve, "tpm.key"),
    "an RSA exponent of three": (an_exponent_of_three, "ek.template"),
    "a certificate for attestation": (
        lambda one: having(one, x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.3")])),
        "ek.purpose",
    ),
    "a certificate of an authority": (
        lambda one: having(one, x509.BasicConstraints(ca=True, path_length=None)),
        "ek.constraints",
    ),
    "a certificate for signatures": (
        lambda one: having(one, usage("digital_signature", "key_agreement")),
        "ek.key-usage",
    ),
    "a certificate that has ended": (
        lambda one: forged(one, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        "ek.validity",
    ),
    "a certificate of tomorrow": (lambda one: forged(one, not_before=NOW + DAY), "ek.validity"),
    "no intermediate": (lambda one: with_certificates(one, one.certificate), "ek.chain"),
}


@pytest.mark.parametrize("lie", EK_LIES)
def test_no_challenge_with(desk: Desk, lie: str) -> None:
    one = machine()
    lying, code = EK_LIES[lie]
    assert lying(one) != one.request()
    assert stopped(lambda: desk.pose(lying(one))) == code
    assert desk.store.open_challenges(0) == 0


def test_a_root_in_the_request_is_not_trusted(desk: Desk) -> None:
    one, own = machine(), ca("Another root")
    middle = ca("EK CA", own, serial=2)
    certificate = sign(ek_profile(one.ek.private.public_key()), "EK CA", middle.key)
    request = with_certificates(one, certificate, middle.certificate, own.certificate)
    assert request.ek_certificates[-1] == own.certificate.public_bytes(Encoding.DER)
    assert stopped(lambda: desk.pose(request)) == "ek.chain"


def test_a_root_with_a_trusted_name_is_not_trusted(desk: Desk) -> None:
    """OpenSSL finds the pinned root by its name, and that one's lists do not fit the chain."""
    one, own = machine(), ca("Root")
    middle = ca("EK CA", own, serial=2)
    certificate = sign(ek_profile(one.ek.private.public_key()), "EK CA", middle.key)
    request = with_certificates(one, certificate, middle.certificate, own.certificate)
    assert own.certificate.subject == manufacturer().root.certificate.subject
    assert stopped(lambda: desk.pose(request)) == "ek.crl"


def test_a_key_that_its_manufacturer_revoked_gets_no_challenge(desk: Desk) -> None:
    one = machine()
    assert one.certificate.serial_number == 7
    assert stopped(lambda: desk.pose(one.request(), judge(NOW, 7))) == "ek.revoked"


def test_old_revocation_lists_clear_nobody(desk: Desk) -> None:
    judged = judge(NOW, lists_of=NOW - 60 * DAY)
    assert all(crl.next_update_utc < NOW for crl in judged.trust.crls if crl.next_update_utc)
    assert stopped(lambda: desk.pose(machine().request(), judged)) == "ek.crl"


def test_a_revocation_list_without_an_end_clears_nobody(desk: Desk) -> None:
    judged, key = judge(NOW), manufacturer().intermediate.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    *others, good = judged.trust.crls
    endless = x509.load_der_x509_crl(edited(good, key, without_next_update))
    assert endless.next_update_utc is None
    assert endless.is_signature_valid(key.public_key())
    held = judged._replace(trust=judged.trust._replace(crls=(*others, endless)))
    assert stopped(lambda: desk.pose(machine().request(), held)) == "ek.crl"
    both = judged._replace(trust=judged.trust._replace(crls=(*others, endless, good)))
    assert desk.pose(machine().request(), both)


# --- the run counter


@pytest.mark.parametrize(
    "counter",
    [
        COUNTER._replace(nv_index=COUNTER.nv_index + 1),
        COUNTER._replace(attributes=COUNTER.attributes & ~0x10),
        COUNTER._replace(attributes=COUNTER.attributes | 1 << 1),
    ],
    ids=["another index", "an ordinary index", "an index that the owner writes"],
)
def test_no_certificate_names_another_counter(desk: Desk, counter: Any) -> None:
    assert counter != COUNTER
    request = machine().request()._replace(counter=marshal_nv_public(counter))
    assert stopped(lambda: desk.pose(request)) == "counter.public"


def test_the_certificate_names_the_requests_counter_and_anchor(desk: Desk) -> None:
    issued = x509.load_der_x509_certificate(desk.enrol(machine()).der)
    (found,) = (
        each.value
        for each in issued.extensions
        if isinstance(each.value, x509.UnrecognizedExtension)
    )
    extension = parse_ak_extension(found.value)
    assert extension == ("simulated", name(COUNTER))


# --- challenge and response


def test_another_key_of_the_tpm_does_not_open_the_challenge(desk: Desk) -> None:
    one = machine()
    challenge = desk.pose(one.request())
    with pytest.raises(IntegrityError):
        one._replace(ak=new_ak()).answer(challenge)


def test_another_machine_does_not_open_the_challenge(desk: Desk) -> None:
    one = machine()
    challenge = desk.pose(one.request())
    private = ec.generate_private_key(ec.SECP256R1())
    other = SoftwareEk(with_point(one.ek.public, private.public_key()), private)
    with pytest.raises(IntegrityError):
        one._replace(ek=other).answer(challenge)


def test_a_real_endorsement_key_does_not_vouch_for_a_key_in_a_file(desk: Desk) -> None:
    """The AK's public area looks right, but the TPM does not hold the key: nobody opens it."""
    one = machine()
    held, in_a_file = new_ak(), new_ak()
    challenge = desk.pose(one._replace(ak=in_a_file).request())
    with pytest.raises(IntegrityError):
        one._replace(ak=held).answer(challenge)
    guessed = EnrolmentResponse(digest(challenge), bytes(32))
    assert stopped(lambda: desk.issue(guessed)) == "response.secret"


def test_a_secret_of_another_challenge_is_refused(desk: Desk) -> None:
    one, other = machine(), machine()
    first, second = desk.pose(one.request()), desk.pose(other.request())
    swapped = EnrolmentResponse(digest(second), one.answer(first).secret)
    assert stopped(lambda: desk.issue(swapped)) == "response.secret"
    assert desk.issue(one.answer(first)).revoked is None


def test_two_challenges_for_one_request_have_two_secrets(desk: Desk) -> None:
    one = machine()
    first, second = (one.answer(desk.pose(one.request())) for _ in range(2))
    assert first.secret != second.secret
    assert stopped(lambda: desk.issue(first._replace(secret=second.secret))) == "response.secret"


def test_an_answer_is_accepted_once(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    desk.issue(response)
    assert stopped(lambda: desk.issue(response)) == "response.used"
    assert len(desk.store.certificates()) == 1


def test_a_secret_cannot_be_guessed_a_second_time(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    wrong = response._replace(secret=bytes(32))
    assert stopped(lambda: desk.issue(wrong)) == "response.secret"
    assert stopped(lambda: desk.issue(response)) == "response.used"


def test_secrets_are_compared_in_constant_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("laminator.enroll.authority.hmac", SimpleNamespace(compare_digest=compare))
    assert desk.enrol(machine()).revoked is None
    ((one, other),) = compared
    assert one == other


def test_an_answer_to_another_authority_is_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = open_desk(tmp_path / "other")
    one = machine()
    response = one.answer(other.pose(one.request()))
    assert stopped(lambda: desk.issue(response)) == "response.unknown"
    assert other.issue(response).revoked is None
    other.store.close()


def test_a_late_answer_is_refused(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    late = NOW + CHALLENGE_LIFETIME + dt.timedelta(seconds=1)
    assert stopped(lambda: desk.issue(response, judge(late))) == "response.expired"


def test_a_changed_challenge_is_another_ones(desk: Desk) -> None:
    """Somebody with the stick prolongs the challenge: its answer is to no challenge of ours."""
    from laminator.enroll.exchange import encode_challenge

    one = machine()
    challenge = parse_challenge(desk.pose(one.request()))
    longer = encode_challenge(challenge._replace(expires=challenge.expires + 10**6))
    assert stopped(lambda: desk.issue(one.answer(longer))) == "response.unknown"


# --- revocation


def test_a_revoked_key_comes_back_with_another_attestation_key(desk: Desk) -> None:
    one = machine()
    desk.enrol(one)
    revoke_ek(desk.store, ek_identity(one.certificate), NOW, "key-compromise")
    again = one._replace(ak=new_ak()).request()
    assert again.ek_certificates == one.request().ek_certificates
    assert stopped(lambda: desk.pose(again)) == "ek.revoked-by-authority"


def test_a_revoked_key_comes_back_with_another_certificate(desk: Desk) -> None:
    one, again = machine(), machine(serial=8)
    desk.enrol(one)
    revoke_ek(desk.store, ek_identity(one.certificate), NOW, "key-compromise")
    assert again.certificate != one.certificate
    assert stopped(lambda: desk.pose(again.request())) == "ek.revoked-by-authority"


def test_a_revoked_key_comes_back_with_its_certificates_other_signature(desk: Desk) -> None:
    """Of (r, s) anybody can make (r, n - s): the same certificate, with another digest."""
    one = machine()
    desk.enrol(one)
    revoke_ek(desk.store, ek_identity(one.certificate), NOW, "key-compromise")
    signed = parts(one.certificate)
    other = signed._replace(signature=complement(signed.signature)).der
    again = one._replace(certificate=x509.load_der_x509_certificate(other))
    assert again.certificate.fingerprint(SHA256()) != one.certificate.fingerprint(SHA256())
    assert again.certificate.tbs_certificate_bytes == one.certificate.tbs_certificate_bytes
    assert stopped(lambda: desk.pose(again.request())) == "ek.revoked-by-authority"


def test_a_revoked_attestation_key_asks_again(desk: Desk) -> None:
    one = machine()
    revoke_certificate(desk.store, desk.enrol(one).serial, NOW, "key-compromise")
    assert stopped(lambda: desk.pose(one.request())) == "ak.revoked-by-authority"


def test_a_challenge_from_before_the_revocation_earns_nothing(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    revoke_ek(desk.store, ek_identity(one.certificate), NOW, "unspecified")
    assert stopped(lambda: desk.issue(response)) == "ek.revoked-by-authority"


# --- what a machine is handed


def grant(desk: Desk, one: Machine) -> EnrolmentGrant:
    own = desk.authority.certificate.public_bytes(Encoding.DER)
    return EnrolmentGrant((desk.enrol(one).der, own))


def key_of(one: Machine) -> bytes:
    return spki(parse_public(marshal_public(one.ak)))


def test_a_certificate_for_another_key_is_not_installed(desk: Desk) -> None:
    one, other = machine(), machine()
    granted = grant(desk, one)
    assert check_grant(granted, key_of(one), NOW).counter_name == name(COUNTER)
    assert stopped(lambda: check_grant(granted, key_of(other), NOW)) == "grant.certificate"


def test_a_certificate_of_another_authority_is_not_installed(desk: Desk) -> None:
    one = machine()
    granted = grant(desk, one)
    other = make_root(generate_key("p256"), RootTerms("Desk", NOW - DAY, NOW + 900 * DAY))
    assert other.subject == desk.authority.certificate.subject
    swapped = EnrolmentGrant((granted.certificates[0], other.public_bytes(Encoding.DER)))
    with pytest.raises(EnrolmentRefusedError, match=r"ak\.chain"):
        check_grant(swapped, key_of(one), NOW)


def test_a_certificate_alone_is_not_installed(desk: Desk) -> None:
    one = machine()
    alone = EnrolmentGrant(grant(desk, one).certificates[:1])
    assert stopped(lambda: check_grant(alone, key_of(one), NOW)) == "grant.certificate"


def test_a_certificate_that_has_ended_is_not_installed(desk: Desk) -> None:
    one = machine()
    granted = grant(desk, one)
    with pytest.raises(EnrolmentRefusedError, match=r"ak\.validity"):
        check_grant(granted, key_of(one), NOW + 400 * DAY)


def test_an_ek_certificate_is_no_attestation_keys() -> None:
    """The EK's own certificate handed back as the AK's: another purpose, and no run counter."""
    one = machine()
    ek_key = spki(parse_public(marshal_public(one.ek.public)))
    maker = manufacturer()
    ders = (one.certificate, maker.intermediate.certificate, maker.root.certificate)
    granted = EnrolmentGrant(tuple(each.public_bytes(Encoding.DER) for each in ders))
    assert stopped(lambda: check_grant(granted, ek_key, NOW)) == "grant.certificate"
