"""Tokens as a verifier judges them, with two other programs' verdicts beside ours."""

import datetime as dt
import subprocess
from pathlib import Path

import pytest
import tsa_pki
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
from tsa_pki import TIME

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.timestamp_authority import TimestampAuthority
from laminator.appraise.timestamps import TokenAppraisal, appraise_token
from laminator.appraise.trust import Anchor, TrustStore

MESSAGE = b"what is stamped"
NOW = pki.NOW
IDS = {
    *("time.parse", "time.imprint", "time.future", "time.signer", "time.signature"),
    *("time.eku", "time.chain", "time.algorithm", "time.validity", "time.revocation"),
}


def _appraise(tsa: tsa_pki.Tsa, **changes: object) -> TokenAppraisal:
    reply = tsa_pki.reply(tsa, MESSAGE, **changes)
    return appraise_token(reply, MESSAGE, tsa.trust(), NOW)


def test_every_check_passes_for_an_honest_token() -> None:
    tsa = tsa_pki.authority()
    found = _appraise(tsa)
    assert {check.id: check.verdict for check in found.checks} == dict.fromkeys(IDS, "pass")
    assert found.verified is not None
    assert found.verified.time == TIME
    assert found.verified.anchor == tsa.trust().anchors[0].fingerprint
    assert found.verified.authority == "CN=time-stamping signer"
    assert not found.verified.simulated


def test_an_anchor_that_is_simulated() -> None:
    tsa = tsa_pki.authority()
    reply = tsa_pki.reply(tsa, MESSAGE)
    found = appraise_token(reply, MESSAGE, tsa.trust(kind="tsa-simulated"), NOW)
    assert found.verified is not None
    assert found.verified.simulated


def test_the_latest_time_that_the_accuracy_allows() -> None:
    accuracy = tsa_pki.sequence(tsa_pki.integer(1), tsa_pki.tlv(0x80, b"\x05"))
    found = _appraise(tsa_pki.authority(), accuracy=accuracy)
    assert found.verified is not None
    assert found.verified.time == TIME + dt.timedelta(seconds=1, milliseconds=5)


@pytest.mark.parametrize("imprint", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("hash_", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_algorithms_that_count(kind: str, hash_: str, imprint: str) -> None:
    tsa = tsa_pki.authority(f"TSA {kind}", kind)
    found = _appraise(tsa, imprint_hash=imprint, digest_hash=hash_, signature_hash=hash_)
    assert found.verified is not None


@pytest.mark.parametrize("hash_", ["sha256", "sha384", "sha512"])
def test_an_rsa_signature_that_leaves_its_hash_to_the_digest(hash_: str) -> None:
    tsa = tsa_pki.authority("TSA rsa2048", "rsa2048")
    oid = tsa_pki.RSA_ENCRYPTION
    found = _appraise(tsa, digest_hash=hash_, signature_hash=hash_, signature_oid=oid)
    assert found.verified is not None


def test_identifiers_that_say_everything() -> None:
    tsa = tsa_pki.authority()
    certificate = tsa.signer.certificate
    serial = tsa_pki.issuer_serial(certificate.issuer, certificate.serial_number)
    for ess in (
        (tsa_pki.ess_v1(certificate),),
        (tsa_pki.ess_v1(certificate, serial), tsa_pki.ess_v2(certificate, "sha512", serial)),
    ):
        assert _appraise(tsa, ess=ess).verified is not None


def test_an_identifier_by_a_hash_that_is_not_known() -> None:
    tsa = tsa_pki.authority()
    digest = tsa.signer.certificate.fingerprint(SHA256())
    identifier = tsa_pki.sequence(tsa_pki.algorithm("1.2.3"), tsa_pki.octets(digest))
    ess = tsa_pki.attribute(tsa_pki.ESS_V2, tsa_pki.sequence(tsa_pki.sequence(identifier)))
    found = _appraise(tsa, ess=(ess,))
    assert {check.id for check in found.checks if check.verdict != "pass"} == {"time.signer"}


def test_a_signer_named_by_its_key() -> None:
    tsa = tsa_pki.authority()
    extension = tsa.signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    found = _appraise(tsa, signer_id=tsa_pki.tlv(0x80, extension.value.digest))
    assert found.verified is not None
    other = _appraise(tsa, signer_id=tsa_pki.tlv(0x80, bytes(20)))
    assert other.verified is None


def test_a_certificate_without_a_key_identifier_is_not_named_by_one() -> None:
    tsa = tsa_pki.authority()
    bare = _without_key_identifier(tsa)
    certificates = (bare, tsa.issuer.der)
    found = _appraise(tsa, signer_id=tsa_pki.tlv(0x80, bytes(20)), certificates=certificates)
    assert {check.id for check in found.checks if check.verdict == "fail"} == {"time.signer"}


def _without_key_identifier(tsa: tsa_pki.Tsa) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(pki.name("bare"))
        .issuer_name(tsa.issuer.certificate.subject)
        .public_key(tsa.signer.key.public_key())
        .serial_number(5)
        .not_valid_before(NOW - pki.YEAR)
        .not_valid_after(NOW + pki.YEAR)
    )
    return pki.der(builder.sign(tsa.issuer.key, SHA256()))


@pytest.mark.parametrize("usage", [{"content_commitment"}, {"digital_signature"}])
def test_key_usages_of_a_signer(usage: set[str]) -> None:
    both = frozenset(usage | {"content_commitment"})
    tsa = tsa_pki.authority()
    for each in (frozenset(usage), both):
        assert _appraise(tsa.certified(usage=each)).verified is not None


def test_a_signer_whose_key_is_for_nothing() -> None:
    nothing = _appraise(tsa_pki.authority().certified(usage=frozenset()))
    assert nothing.verified is None
    assert {check.id for check in nothing.checks if check.verdict == "fail"} == {"time.chain"}


def test_of_two_certificates_of_one_name_the_identified_one_is_the_signer() -> None:
    tsa = tsa_pki.authority()
    serial = tsa.signer.certificate.serial_number
    twins = [tsa.certified(serial=serial, not_after=NOW + days * pki.DAY) for days in range(5, 9)]
    certificates = (*(twin.signer.der for twin in twins), tsa.issuer.der)
    for twin in twins:
        assert _appraise(twin, certificates=certificates).verified is not None


def test_a_token_that_is_judged_by_a_clock_of_another_zone() -> None:
    tsa = tsa_pki.authority()
    now = NOW.astimezone(dt.timezone(dt.timedelta(hours=14)))
    assert appraise_token(tsa_pki.reply(tsa, MESSAGE), MESSAGE, tsa.trust(), now).verified
    last = dt.datetime.max.replace(tzinfo=dt.UTC)
    assert appraise_token(tsa_pki.reply(tsa, MESSAGE), MESSAGE, tsa.trust(), last).verified


def test_no_anchor_at_all() -> None:
    found = appraise_token(tsa_pki.reply(tsa_pki.authority(), MESSAGE), MESSAGE, TrustStore(), NOW)
    (chain,) = [check for check in found.checks if check.id == "time.chain"]
    assert "time-stamping" in chain.detail


def test_a_carried_certificate_that_cannot_be_read() -> None:
    tsa = tsa_pki.authority()
    certificates = (tsa.signer.der, tsa_pki.sequence(tsa_pki.integer(1)))
    found = _appraise(tsa, certificates=certificates)
    assert [(check.id, check.verdict) for check in found.checks] == [("time.parse", "fail")]


# The authority that `openssl ts` plays.


def test_the_simulated_authority_is_believed(tmp_path: Path) -> None:
    authority = TimestampAuthority.create(tmp_path / "tsa")
    (tmp_path / "message").write_bytes(MESSAGE)
    query = ("openssl", "ts", "-query", "-data", "message", "-sha512", "-cert", "-out", "request")
    subprocess.run(query, cwd=tmp_path, check=True, capture_output=True)
    reply = authority.reply((tmp_path / "request").read_bytes())
    trust = TrustStore((Anchor("tsa-simulated", authority.root),), (authority.crl,))
    found = appraise_token(reply, MESSAGE, trust, dt.datetime.now(dt.UTC))
    assert found.verified is not None, found.checks
    assert found.verified.simulated


# What others say. openssl and rfc3161-client are stricter in nothing that counts.


def _openssl_accepts(folder: Path, reply: bytes, root: pki.Authority) -> bool:
    (folder / "reply").write_bytes(reply)
    (folder / "message").write_bytes(MESSAGE)
    (folder / "root").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    words = ["openssl", "ts", "-verify", "-in", "reply", "-data", "message", "-CAfile", "root"]
    words += ["-attime", str(int(TIME.timestamp()))]
    ended = subprocess.run(words, cwd=folder, check=False, capture_output=True)
    return ended.returncode == 0


def _client_accepts(reply: bytes, roots: list[x509.Certificate]) -> bool:
    verifier = VerifierBuilder(roots=roots).build()
    try:
        return verifier.verify_message(decode_timestamp_response(reply), MESSAGE)
    except (VerificationError, ValueError):
        return False


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_others_accept_an_honest_token(kind: str, tmp_path: Path) -> None:
    tsa = tsa_pki.authority(f"TSA {kind}", kind)
    reply = tsa_pki.reply(tsa, MESSAGE)
    assert _openssl_accepts(tmp_path, reply, tsa.root)
    assert _client_accepts(reply, [tsa.root.certificate])
    assert appraise_token(reply, MESSAGE, tsa.trust(), NOW).verified is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"signed_content": b"another"},
        {"signature": b"no signature"},
        {"key": pki.key("somebody else")},
        {"signers": 2},
        {"message": b"something else"},
        {"status": tsa_pki.sequence(tsa_pki.integer(2))},
    ],
    ids=["content", "signature", "key", "signers", "message", "status"],
)
def test_everybody_refuses(changes: dict[str, object], tmp_path: Path) -> None:
    tsa = tsa_pki.authority()
    reply = tsa_pki.reply(tsa, **{"message": MESSAGE, **changes})  # type: ignore[arg-type]
    assert not _openssl_accepts(tmp_path, reply, tsa.root)
    assert not _client_accepts(reply, [tsa.root.certificate])
    assert appraise_token(reply, MESSAGE, tsa.trust(), NOW).verified is None


def test_what_rfc3161_client_alone_would_let_through() -> None:
    """The reasons of docs/adr/0007: when one of these changes, read it again."""
    tsa, weak = tsa_pki.authority(), tsa_pki.authority("a weak TSA", "rsa1024")
    roots = [tsa.root.certificate]
    let_through = {
        "identifier of another certificate": tsa_pki.reply(
            tsa, MESSAGE, ess=(tsa_pki.ess_v2(tsa.issuer.certificate),)
        ),
        "no identifier": tsa_pki.reply(tsa, MESSAGE, ess=()),
        "SHA-1": tsa_pki.reply(tsa, MESSAGE, digest_hash="sha1", signature_hash="sha1"),
    }
    for name, reply in let_through.items():
        assert _client_accepts(reply, roots), name
        assert appraise_token(reply, MESSAGE, tsa.trust(), NOW).verified is None, name
    reply = tsa_pki.reply(weak, MESSAGE)
    assert _client_accepts(reply, [weak.root.certificate])
    assert appraise_token(reply, MESSAGE, weak.trust(), NOW).verified is None


def test_rfc3161_client_takes_a_given_intermediate_for_an_anchor() -> None:
    tsa, foreign = tsa_pki.authority(), pki.root("foreign")
    response = decode_timestamp_response(tsa_pki.reply(tsa, MESSAGE))
    builder = VerifierBuilder(roots=[foreign.certificate])
    verifier = builder.add_intermediate_certificate(tsa.root.certificate).build()
    assert verifier.verify_message(response, MESSAGE)


def test_nobody_takes_a_carried_root_for_an_anchor(tmp_path: Path) -> None:
    tsa, foreign = tsa_pki.authority(), pki.root("foreign")
    certificates = (tsa.signer.der, tsa.issuer.der, tsa.root.der)
    reply = tsa_pki.reply(tsa, MESSAGE, certificates=certificates)
    assert _client_accepts(reply, [tsa.root.certificate])
    assert not _client_accepts(reply, [foreign.certificate])
    assert not _openssl_accepts(tmp_path, reply, foreign)
    trust = TrustStore((Anchor("tsa", foreign.certificate),), tsa.trust().crls)
    assert appraise_token(reply, MESSAGE, trust, NOW).verified is None
