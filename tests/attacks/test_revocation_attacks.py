"""A revoked key whose prover would rather that nobody noticed.

Lists are the verifier's: a list that is missing, old, endless, foreign or partial never clears a
key, and none that its authority signed is overlooked.
"""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary import deviations, forged_der
from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import (
    POLICY,
    World,
    claims,
    failures,
    judge,
    obstacles,
    verdict_of,
    world,
)
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import parse_crl
from laminator.card import ConceptualMessage

NOW, DAY = pki.NOW, pki.DAY
LENIENT = POLICY._replace(require=())
List = x509.CertificateRevocationList


def honest() -> World:
    return world(claims=claims())


def judged_with(*lists: List) -> VerificationResult:
    """Judge the honest card with the root's good list and these."""
    root_list, _ = machine().trust.crls
    return judge(deviations.other_lists(honest(), root_list, *lists))


def clears_nothing(*lists: List) -> None:
    result = judged_with(*lists)
    assert verdict_of(result, "ak.revocation") == "not-checked"
    assert obstacles(result) == {"ak.revocation", "policy.require.ak.revocation"}


def signing_key() -> pki.PrivateKey:
    return machine().authority.key


def test_the_honest_list_clears_and_the_revoking_one_condemns() -> None:
    _, good = machine().trust.crls
    assert judged_with(good).accepted
    assert failures(judged_with(deviations.revoking(honest()))) == {"ak.revocation"}


def test_no_list() -> None:
    clears_nothing()


def test_a_list_of_another_authority_of_the_same_name() -> None:
    name = "machine AK authority"
    key = pki.key("an impostor's key")
    root = pki.root("an impostor's root")
    certificate = pki.sign(pki.Spec(name, key.public_key()), root, root.key)
    impostor = pki.Authority(key, certificate)
    foreign = pki.crl(impostor, pki.CrlSpec(issued=NOW))
    assert foreign.issuer == machine().authority.certificate.subject
    assert not foreign.is_signature_valid(machine().authority.key.public_key())
    clears_nothing(foreign)
    assert failures(judged_with(foreign, deviations.revoking(honest()))) == {"ak.revocation"}


def test_a_list_that_the_attestation_key_signed() -> None:
    made = machine()
    own = pki.crl(made.authority, pki.CrlSpec(issued=NOW, key_id_of=signing_key()), key=made.key)
    assert own.is_signature_valid(made.key.public_key())
    clears_nothing(own)


def test_a_list_of_the_authority_above() -> None:
    made = machine()
    above = pki.crl(made.root, pki.CrlSpec(issued=NOW, issuer="machine AK authority"))
    clears_nothing(above)


def test_a_list_from_before_the_revocation() -> None:
    old = pki.crl(machine().authority, pki.CrlSpec(issued=NOW - 9 * DAY))
    new = deviations.revoking(honest())
    for lists in ((old, new), (new, old)):
        assert failures(judged_with(*lists)) == {"ak.revocation"}


def test_a_list_that_has_run_out() -> None:
    clears_nothing(pki.crl(machine().authority, pki.CrlSpec(NOW - 9 * DAY, NOW - DAY)))


def test_a_list_without_an_end() -> None:
    _, good = machine().trust.crls
    key = signing_key()
    endless = parse_crl(forged_der.edited(good, key, forged_der.without_next_update))  # type: ignore[arg-type]
    assert endless.next_update_utc is None
    assert endless.is_signature_valid(key.public_key())
    clears_nothing(endless)


def test_a_list_whose_signature_is_not_der() -> None:
    _, good = machine().trust.crls
    signed = forged_der.parts(good)
    lie = parse_crl(signed._replace(signature=forged_der.padded(signed.signature)).der)
    assert lie.signature != good.signature
    clears_nothing(lie)


def indirect() -> pki.Extra:
    point = x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=True,
        only_contains_attribute_certs=False,
    )
    return point, True


PARTIAL = [indirect(), (x509.DeltaCRLIndicator(1), True), (x509.DeltaCRLIndicator(1), False)]


@pytest.mark.parametrize("extra", PARTIAL, ids=["indirect", "delta", "uncritical delta"])
def test_a_partial_list_that_does_not_name_the_key(extra: pki.Extra) -> None:
    spec = pki.CrlSpec(issued=NOW, extras=(extra,))
    partial = pki.crl(machine().authority, spec)
    clears_nothing(partial)
    assert failures(judged_with(partial, deviations.revoking(honest()))) == {"ak.revocation"}


@pytest.mark.parametrize("extra", PARTIAL, ids=["indirect", "delta", "uncritical delta"])
def test_a_partial_list_that_names_the_key(extra: pki.Extra) -> None:
    _, good = machine().trust.crls
    spec = pki.CrlSpec(issued=NOW, extras=(extra,))
    assert failures(judged_with(good, deviations.revoking(honest(), spec))) == {"ak.revocation"}


def test_a_certificate_of_the_authority_that_its_lists_do_not_fit() -> None:
    """Of two certificates for one authority's key, the prover carries the one it likes better."""
    made, revoking = machine(), deviations.revoking(honest())
    without = pki.authority(
        made.root, "machine AK authority", path_length=0, usage=frozenset({"key_cert_sign"})
    )
    assert without.key is made.authority.key
    lie = deviations.other_certificates(honest(), made.certificates[0], without.der)
    held = deviations.other_lists(lie, made.trust.crls[0], revoking)
    assert failures(judge(held, LENIENT)) == {"ak.revocation"}


@pytest.mark.parametrize("serial", [b"\x7f" * 20, b"\0" + b"\x80" * 20], ids=["20", "21"])
def test_a_long_serial_number_hides_from_no_list(serial: bytes) -> None:
    made = machine()
    key = made.authority.key
    edit = forged_der.with_serial(serial)
    leaf = x509.load_der_x509_certificate(made.certificates[0])
    long = forged_der.edited(leaf, key, edit)  # type: ignore[arg-type]
    lie = deviations.other_certificates(honest(), long, made.authority.der)
    assert judge(lie).accepted
    entry = pki.Revoked(1)
    one = pki.crl(made.authority, pki.CrlSpec(issued=NOW, revoked=(entry,)))

    def renumber(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        number = forged_der.tlv(forged_der.INTEGER, serial)
        short = forged_der.tlv(forged_der.INTEGER, b"\1")
        revoked = forged_der.content(forged_der.content(fields[5]))
        assert revoked.startswith(short)
        entry = forged_der.tlv(forged_der.SEQUENCE, number + revoked[len(short) :])
        return (*fields[:5], forged_der.tlv(forged_der.SEQUENCE, entry), *fields[6:])

    revoking = parse_crl(forged_der.edited(one, key, renumber))  # type: ignore[arg-type]
    (named,) = revoking
    assert named.serial_number == int.from_bytes(serial, "big")
    held = deviations.other_lists(lie, made.trust.crls[0], revoking)
    assert failures(judge(held)) == {"ak.revocation"}


def test_a_list_that_the_card_brings_counts_for_nothing() -> None:
    _, good = machine().trust.crls
    message = ConceptualMessage("application/pkix-crl", good.public_bytes(Encoding.DER))
    brought = deviations.endorsed(honest(), message)
    held = deviations.other_lists(brought, machine().trust.crls[0])
    assert verdict_of(judge(held), "ak.revocation") == "not-checked"
    assert "policy.require.ak.revocation" in obstacles(judge(held))
