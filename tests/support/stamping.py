"""Cards with time-stamps, and verifiers who trust both the machine and the authority."""

import forge
import tsa_pki
import verifying
from cryptography import x509

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.policy import Policy
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import TrustStore
from laminator.card import Card, ConceptualMessage, encode_card, timestamp_message
from laminator.endorsements import TIMESTAMP_MEDIA_TYPE


def card(world: forge.World | None = None) -> Card:
    """Return a world's card, signed once: another call signs anew, for other evidence."""
    return forge.card(verifying.world() if world is None else world)


def with_replies(made: Card, *replies: bytes) -> bytes:
    """Return the encoded card with `replies` as its time-stamps."""
    messages = (ConceptualMessage(TIMESTAMP_MEDIA_TYPE, reply) for reply in replies)
    return encode_card(made._replace(endorsements=(*made.endorsements, *messages)))


def stamped(made: Card, tsa: tsa_pki.Tsa | None = None, **changes: object) -> bytes:
    """Return the card with a time-stamp of `tsa`, changed in the fields of `tsa_pki.Stamp`."""
    reply = tsa_pki.reply(tsa or tsa_pki.authority(), timestamp_message(made), **changes)
    return with_replies(made, reply)


def trust(
    tsa: tsa_pki.Tsa | None = None,
    *crls: x509.CertificateRevocationList,
    kind: str = "tsa",
    machine: forge.Machine | None = None,
) -> TrustStore:
    """Return the machine's trust with the authority's root as a `kind`, and lists of both."""
    own = (machine or forge.machine()).trust
    more = (tsa or tsa_pki.authority()).trust(*crls, kind=kind)
    return TrustStore(own.anchors + more.anchors, own.crls + more.crls)


def judge(data: bytes, policy: Policy = verifying.POLICY, **given: object) -> VerificationResult:
    """Verify a card at NOW with both anchors."""
    return verifying.judge(data, policy, **{"trust": trust(), **given})


def lacking(result: VerificationResult) -> set[str]:
    """Return the ids of the time checks that hold a token back, of a card that is accepted anyway.

    Asserts what holds for every token that proves nothing: the card is judged as without it.
    """
    assert result.accepted
    assert result.as_of is None
    assert verifying.verdict_of(result, "time.token") == "not-checked"
    assert "time.declared" in {caveat.code for caveat in result.caveats}
    time = [check for check in result.checks if check.id.startswith("time.")]
    assert all(check.verdict in {"pass", "not-checked"} for check in time)
    return {check.id for check in time if check.verdict != "pass"} - {"time.token"}


def revoking(
    issuer: pki.Authority, certificate: x509.Certificate, spec: pki.Revoked
) -> x509.CertificateRevocationList:
    """Return `issuer`'s newest list, which names `certificate` with what `spec` says."""
    entry = spec._replace(serial=certificate.serial_number)
    return pki.crl(issuer, pki.CrlSpec(issued=pki.NOW, revoked=(entry,), number=9))
