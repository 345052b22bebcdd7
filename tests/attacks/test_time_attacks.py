"""What a lying prover tries with time-stamps: each token proves nothing, and one check says why.

A token is never a reason to refuse a card, so the attacked card is accepted as of now, as without
a token, and has no verdict as of then.
"""

import datetime as dt
import hashlib
from types import MappingProxyType

import forge
import pytest
import stamping
import tsa_pki
import verifying
from cryptography import x509
from stamping import judge, lacking, stamped, with_replies
from tsa_pki import HOUR, TIME

from enclave_sim.adversary import forged_der
from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.card_time import MAX_TOKENS
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import Anchor, TrustStore, parse_crl
from laminator.card import MAX_ENDORSEMENTS, ConceptualMessage, parse_card, timestamp_message
from laminator.claims import Artifact, Property
from laminator.digest import sha256
from laminator.endorsements import TIMESTAMP_MEDIA_TYPE, endorsements_of
from laminator.errors import MalformedError
from laminator.evidence.timestamp_reply import MAX_REPLY, parse_timestamp_reply

NOW, DAY, YEAR = pki.NOW, pki.DAY, pki.YEAR
SUPERSEDED = x509.ReasonFlags.superseded
COMPROMISED = x509.ReasonFlags.key_compromise
AS_OF_TOKEN = verifying.POLICY._replace(judged_as_of="token")


def test_an_honest_token_gives_two_verdicts() -> None:
    result = judge(stamped(stamping.card()))
    assert result.accepted
    assert result.as_of is not None
    assert (result.as_of.now, result.as_of.then, result.as_of.decides) == (
        "accepted",
        "accepted",
        "now",
    )
    assert result.as_of.time == TIME
    assert result.as_of.anchor == str(stamping.trust().anchors[1].fingerprint)
    assert not result.as_of.simulated
    assert verifying.verdict_of(result, "time.token") == "pass"


# What the token is over.


def test_a_token_for_another_card() -> None:
    other = stamping.card(verifying.world(iat=verifying.IAT - 1))
    reply = tsa_pki.reply(tsa_pki.authority(), timestamp_message(other))
    assert judge(with_replies(other, reply)).as_of is not None
    assert lacking(judge(with_replies(stamping.card(), reply))) == {"time.imprint"}


def test_a_token_for_the_same_claims_with_other_evidence() -> None:
    first, second = stamping.card(), stamping.card()
    assert first.id == second.id
    assert first.evidence != second.evidence
    reply = tsa_pki.reply(tsa_pki.authority(), timestamp_message(first))
    assert judge(with_replies(first, reply)).as_of is not None
    assert lacking(judge(with_replies(second, reply))) == {"time.imprint"}


def test_an_imprint_by_sha1() -> None:
    made = stamping.card()
    data = stamped(made, imprint_hash="sha1")
    (reply,) = endorsements_of(parse_card(data)).timestamps
    weak = hashlib.sha1(timestamp_message(made), usedforsecurity=False).digest()
    assert parse_timestamp_reply(reply).info.imprint == weak
    assert lacking(judge(data)) == {"time.imprint"}


# Whose word it is.


def test_a_response_that_brings_its_own_root() -> None:
    own = tsa_pki.authority("a prover's own TSA")
    certificates = (own.signer.der, own.issuer.der, own.root.der)
    data = stamped(stamping.card(), own, certificates=certificates)
    assert judge(data, trust=stamping.trust(own)).as_of is not None
    assert lacking(judge(data)) == {"time.chain", "time.algorithm", *_NO_PATH}


_NO_PATH = {"time.validity", "time.revocation"}


def _under_the_machines_root() -> tsa_pki.Tsa:
    """Return an authority whose certificates chain to the root of attestation keys."""
    root = forge.machine().root
    issuer = pki.authority(root, "a TSA below the machine's root", path_length=0)
    key = pki.key("signer below the machine's root")
    certificate = pki.sign(tsa_pki.signer_spec(key), issuer, issuer.key)
    return tsa_pki.Tsa(root, issuer, pki.Authority(key, certificate))


def test_an_anchor_of_attestation_keys_vouches_for_no_token() -> None:
    tsa, machine = _under_the_machines_root(), forge.machine()
    data = stamped(stamping.card(), tsa)
    crls = (*machine.trust.crls, pki.crl(tsa.issuer))
    as_tsa = TrustStore((Anchor("tsa", machine.root.certificate),), crls)
    found = judge(data, trust=as_tsa)
    assert verifying.verdict_of(found, "time.token") == "pass"
    for kind in ("simulated", "cloud-vtpm", "tpm"):
        trust = TrustStore((Anchor(kind, machine.root.certificate),), crls)
        found = judge(data, trust=trust)
        assert verifying.verdict_of(found, "ak.chain") == "pass"
        assert verifying.verdict_of(found, "time.chain") == "not-checked"
        assert found.as_of is None


@pytest.mark.parametrize("kind", ["tsa", "tsa-simulated"])
def test_an_anchor_of_time_stamping_authorities_vouches_for_no_attestation_key(kind: str) -> None:
    machine = forge.machine()
    world = verifying.world()
    assert verifying.judge(world).accepted
    trust = TrustStore((Anchor(kind, machine.root.certificate),), machine.trust.crls)
    result = verifying.judge(world, trust=trust)
    assert verifying.verdict_of(result, "ak.chain") == "fail"
    assert not result.accepted


def test_a_signer_that_is_pinned_itself_is_no_anchor() -> None:
    tsa = tsa_pki.authority()
    anchors = (*forge.machine().trust.anchors, Anchor("tsa", tsa.signer.certificate))
    trust = TrustStore(anchors, stamping.trust().crls)
    assert "time.chain" in lacking(judge(stamped(stamping.card()), trust=trust))


def test_a_key_that_is_pinned_as_simulated_too_is_simulated() -> None:
    tsa = tsa_pki.authority()
    again = pki.root("TSA root", not_after=NOW + 2 * YEAR)
    assert again.key == tsa.root.key
    trust = stamping.trust()
    trust = trust._replace(anchors=(*trust.anchors, Anchor("tsa-simulated", again.certificate)))
    result = judge(stamped(stamping.card()), trust=trust)
    assert result.as_of is not None
    assert result.as_of.simulated


def test_a_simulated_authority_under_a_policy_without_simulated_roots() -> None:
    data, trust = stamped(stamping.card()), stamping.trust(kind="tsa-simulated")
    found = judge(data, trust=trust)
    assert found.as_of is not None
    assert "time.simulated" in {caveat.code for caveat in found.caveats}
    hardware = verifying.POLICY._replace(roots=("tpm",))
    real = judge(data, hardware)
    assert verifying.verdict_of(real, "time.authority") == "pass"
    assert real.as_of is not None
    strict = judge(data, hardware, trust=trust)
    assert strict.as_of is None
    assert verifying.verdict_of(strict, "time.authority") == "not-checked"
    others = [check for check in strict.checks if check.id.startswith("time.")]
    assert {check.id for check in others if check.verdict != "pass"} == {
        "time.token",
        "time.authority",
    }


# The signer's certificate.


@pytest.mark.parametrize(
    "extras",
    [
        (),
        (tsa_pki.eku(tsa_pki.TIME_STAMPING, critical=False),),
        (tsa_pki.eku(tsa_pki.TIME_STAMPING, tsa_pki.CODE_SIGNING),),
        (tsa_pki.eku(tsa_pki.CODE_SIGNING),),
    ],
    ids=["none", "not critical", "another beside it", "another"],
)
def test_a_signer_for_other_purposes(extras: tuple[pki.Extra, ...]) -> None:
    tsa = tsa_pki.authority().certified(extras=extras)
    assert lacking(judge(stamped(stamping.card(), tsa))) == {"time.eku"}


@pytest.mark.parametrize(
    ("ca", "usage"),
    [
        (True, pki.SIGN),
        (True, pki.SIGN | pki.ISSUE),
        (False, pki.SIGN | {"key_cert_sign"}),
        (False, pki.SIGN | {"crl_sign"}),
        (False, pki.SIGN | {"key_encipherment"}),
        (False, pki.SIGN | {"data_encipherment"}),
        (False, pki.SIGN | {"key_agreement"}),
        (False, frozenset({"key_encipherment"})),
        (False, None),
    ],
)
def test_a_signer_that_is_no_plain_signer(ca: bool, usage: frozenset[str] | None) -> None:
    tsa = tsa_pki.authority().certified(ca=ca, usage=usage)
    found = lacking(judge(stamped(stamping.card(), tsa)))
    assert found == {"time.chain", "time.algorithm", *_NO_PATH}


def test_an_issuer_for_other_purposes() -> None:
    tsa = tsa_pki.authority()
    issuer = pki.authority(tsa.root, "TSA authority", path_length=0, eku=(pki.AK_EKU,))
    assert issuer.key == tsa.issuer.key
    tsa = tsa._replace(issuer=issuer)
    assert "time.chain" in lacking(judge(stamped(stamping.card(), tsa)))


@pytest.mark.parametrize(
    "changes", [{"not_after": TIME - HOUR}, {"not_before": TIME + HOUR / 2}], ids=["end", "start"]
)
def test_a_signer_that_was_not_valid_at_the_tokens_time(changes: dict[str, object]) -> None:
    tsa = tsa_pki.authority().certified(**changes)
    assert lacking(judge(stamped(stamping.card(), tsa))) == {"time.validity"}


def test_a_signer_that_expired_since() -> None:
    tsa = tsa_pki.authority().certified(not_after=TIME + HOUR / 2)
    assert judge(stamped(stamping.card(), tsa)).as_of is not None


def test_a_weak_key() -> None:
    tsa = tsa_pki.authority("a weak TSA", "rsa1024")
    trust = stamping.trust(tsa)
    assert lacking(judge(stamped(stamping.card(), tsa), trust=trust)) == {"time.algorithm"}


# Revocation.


@pytest.mark.parametrize("reason", [None, COMPROMISED, x509.ReasonFlags.ca_compromise])
@pytest.mark.parametrize("date", [TIME - DAY, TIME + HOUR / 2])
def test_a_signer_that_was_compromised_at_any_time(
    reason: x509.ReasonFlags | None, date: dt.datetime
) -> None:
    tsa = tsa_pki.authority()
    entry = pki.Revoked(0, date, reason)
    crl = stamping.revoking(tsa.issuer, tsa.signer.certificate, entry)
    trust = stamping.trust().with_crls((crl,))
    assert judge(stamped(stamping.card())).as_of is not None
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


def test_a_signer_that_was_superseded_before_the_token() -> None:
    assert lacking(_with_superseded_signer(TIME - HOUR)) == {"time.revocation"}


def test_a_signer_that_was_superseded_after_the_token() -> None:
    assert _with_superseded_signer(TIME + HOUR / 2).as_of is not None


def test_a_signer_that_was_invalid_before_its_revocation() -> None:
    """RFC 5280 section 5.3.2: the invalidity date may be earlier than the revocation."""
    late, early = TIME + HOUR / 2, TIME - HOUR
    assert lacking(_with_superseded_signer(late, invalid_since=early)) == {"time.revocation"}
    assert _with_superseded_signer(late, invalid_since=late).as_of is not None


def _with_superseded_signer(
    date: dt.datetime, invalid_since: dt.datetime | None = None
) -> VerificationResult:
    tsa = tsa_pki.authority()
    entry = pki.Revoked(0, date, SUPERSEDED, _invalid_since(invalid_since))
    crl = stamping.revoking(tsa.issuer, tsa.signer.certificate, entry)
    return judge(stamped(stamping.card()), trust=stamping.trust().with_crls((crl,)))


def _invalid_since(date: dt.datetime | None) -> tuple[pki.Extra, ...]:
    """Return what an entry says that was invalid before its revocation."""
    return () if date is None else ((x509.InvalidityDate(date.replace(tzinfo=None)), False),)


def test_a_revoked_issuer_of_signers() -> None:
    tsa = tsa_pki.authority()
    crl = stamping.revoking(tsa.root, tsa.issuer.certificate, pki.Revoked(0))
    trust = stamping.trust().with_crls((crl,))
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


def test_no_revocation_list_is_no_pass() -> None:
    tsa = tsa_pki.authority()
    trust = stamping.trust(tsa, pki.crl(tsa.root))
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


def test_the_revocation_list_of_another_issuer() -> None:
    tsa, other = tsa_pki.authority(), tsa_pki.authority("another TSA")
    named = pki.CrlSpec(issuer="TSA authority")
    foreign = pki.crl(other.issuer, named)
    assert foreign.issuer == tsa.issuer.certificate.subject
    trust = stamping.trust(tsa, pki.crl(tsa.root), foreign)
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


def test_a_revocation_list_that_had_expired_by_the_token() -> None:
    tsa = tsa_pki.authority()
    old = pki.crl(tsa.issuer, pki.CrlSpec(issued=TIME - 9 * DAY, expires=TIME - HOUR))
    trust = stamping.trust(tsa, pki.crl(tsa.root), old)
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


def test_a_revocation_list_without_an_end() -> None:
    tsa = tsa_pki.authority()
    good, key = pki.crl(tsa.issuer), tsa.issuer.key
    endless = parse_crl(forged_der.edited(good, key, forged_der.without_next_update))  # type: ignore[arg-type]
    assert endless.next_update_utc is None
    assert endless.is_signature_valid(key.public_key())
    trust = stamping.trust(tsa, pki.crl(tsa.root), endless)
    assert lacking(judge(stamped(stamping.card()), trust=trust)) == {"time.revocation"}


# What the signer signed.


def _signer() -> x509.Certificate:
    return tsa_pki.authority().signer.certificate


def _issuer() -> x509.Certificate:
    return tsa_pki.authority().issuer.certificate


def test_another_certificate_of_the_same_key() -> None:
    """RFC 5816: the signed identifier stops a second certificate of the key."""
    tsa = tsa_pki.authority()
    twin = tsa.certified(serial=_signer().serial_number, not_after=NOW + 2 * YEAR)
    assert twin.signer.certificate != _signer()
    certificates = (twin.signer.der, tsa.issuer.der)
    data = stamped(stamping.card(), tsa, certificates=certificates)
    assert judge(stamped(stamping.card(), twin)).as_of is not None
    assert lacking(judge(data)) == {"time.signer"}


@pytest.mark.parametrize(
    "ess",
    [
        (),
        (tsa_pki.ess_v2(_issuer()),),
        (tsa_pki.ess_v1(_issuer()),),
        (tsa_pki.ess_v2(_signer()), tsa_pki.ess_v1(_issuer())),
        (tsa_pki.ess_v2(_issuer(), "sha512"),),
        (tsa_pki.ess_v2(_signer(), serial=tsa_pki.issuer_serial(_signer().issuer, 1)),),
        (
            tsa_pki.ess_v2(
                _signer(),
                serial=tsa_pki.issuer_serial(_issuer().issuer, _signer().serial_number),
            ),
        ),
    ],
    ids=["none", "v2", "v1", "one of two", "sha512", "serial", "issuer"],
)
def test_an_identifier_of_another_certificate(ess: tuple[bytes, ...]) -> None:
    assert lacking(judge(stamped(stamping.card(), ess=ess))) == {"time.signer"}


def test_a_response_without_its_signers_certificate() -> None:
    certificates = (tsa_pki.authority().issuer.der,)
    found = lacking(judge(stamped(stamping.card(), certificates=certificates)))
    assert found == {
        *("time.signer", "time.signature", "time.eku", "time.chain"),
        *("time.algorithm", *_NO_PATH),
    }


def test_a_flipped_signature() -> None:
    made = stamping.card()
    good = tsa_pki.reply(tsa_pki.authority(), timestamp_message(made))
    signature = parse_timestamp_reply(good).signer.signature
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    assert lacking(judge(with_replies(made, good.replace(signature, flipped)))) == {
        "time.signature"
    }


def test_the_signature_of_another_key() -> None:
    data = stamped(stamping.card(), key=pki.key("somebody else"))
    assert lacking(judge(data)) == {"time.signature"}


def test_another_content_below_the_signature() -> None:
    """The signed digest is that of an honest token, and the time beside it is the prover's."""
    made = stamping.card()
    honest = tsa_pki.tst_info(tsa_pki.Stamp(timestamp_message(made)))
    data = stamped(made, time=TIME + HOUR / 2, signed_content=honest)
    assert lacking(judge(data)) == {"time.signature"}


@pytest.mark.parametrize(
    "changes",
    [
        {"digest_hash": "sha1"},
        {"signature_hash": "sha1"},
        {"signature_oid": tsa_pki.RSA_ENCRYPTION},
        {"signature_oid": "1.3.101.112"},
    ],
)
def test_an_algorithm_that_does_not_count(changes: dict[str, object]) -> None:
    assert lacking(judge(stamped(stamping.card(), None, **changes))) == {"time.signature"}


@pytest.mark.parametrize(
    "changes",
    [
        {"signature_oid": "1.2.840.10045.4.3.2"},
        {"signature_oid": "1.2.840.113549.1.1.10"},
        {"signature_hash": "sha1"},
    ],
    ids=["ECDSA", "PSS", "SHA-1"],
)
def test_an_algorithm_that_is_not_that_of_an_rsa_key(changes: dict[str, object]) -> None:
    tsa = tsa_pki.authority("an RSA TSA", "rsa2048")
    trust, made = stamping.trust(tsa), stamping.card()
    assert judge(stamped(made, tsa), trust=trust).as_of is not None
    assert lacking(judge(stamped(made, tsa, **changes), trust=trust)) == {"time.signature"}


def test_two_signers() -> None:
    assert lacking(judge(stamped(stamping.card(), signers=2))) == {"time.parse"}


# Times.


def test_a_token_from_the_future() -> None:
    data = stamped(stamping.card(), time=NOW + dt.timedelta(seconds=301))
    assert lacking(judge(data)) == {"time.future"}
    data = stamped(stamping.card(), time=NOW + dt.timedelta(seconds=300))
    assert judge(data).as_of is not None


def test_a_token_that_is_older_than_the_declared_time() -> None:
    declared = dt.datetime.fromtimestamp(verifying.IAT, dt.UTC)
    data = stamped(stamping.card(), time=declared - dt.timedelta(seconds=301))
    assert lacking(judge(data)) == {"time.declared"}
    data = stamped(stamping.card(), time=declared - dt.timedelta(seconds=300))
    assert judge(data).as_of is not None


def test_a_token_whose_accuracy_reaches_into_the_future() -> None:
    """The latest time that a token allows is what it proves."""
    accuracy = tsa_pki.sequence(tsa_pki.integer(60))
    data = stamped(stamping.card(), time=NOW + dt.timedelta(seconds=241), accuracy=accuracy)
    assert lacking(judge(data)) == {"time.future"}


# Endorsements that are no tokens, or not there.


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"\x30\x80\x00\x00", tsa_pki.sequence(tsa_pki.sequence(tsa_pki.integer(2)))],
    ids=["a letter", "indefinite length", "a refusal"],
)
def test_garbage(garbage: bytes) -> None:
    assert lacking(judge(with_replies(stamping.card(), garbage))) == {"time.parse"}


def test_a_response_that_is_too_large() -> None:
    padding = tsa_pki.tlv(0xA1, tsa_pki.octets(bytes(MAX_REPLY)))
    made = stamping.card()
    reply = tsa_pki.reply(tsa_pki.authority(), timestamp_message(made), unsigned=padding)
    assert len(reply) > MAX_REPLY
    assert lacking(judge(with_replies(made, reply))) == {"time.parse"}


def test_a_removed_token_leaves_the_card_as_without() -> None:
    made = stamping.card()
    bare = with_replies(made)
    assert parse_card(stamped(made)).id == parse_card(bare).id
    result = judge(bare)
    assert result.accepted
    assert result.as_of is None
    assert not any(check.id.startswith("time.") for check in result.checks)


def test_a_policy_can_ask_for_a_token() -> None:
    policy = verifying.POLICY._replace(require=("ak.revocation", "time.token"))
    made = stamping.card()
    assert judge(stamped(made), policy).accepted
    missing = {"time.token", "policy.require.time.token"}
    assert verifying.obstacles(judge(with_replies(made), policy)) == missing
    wrong = stamped(made, imprint_hash="sha1")
    assert verifying.obstacles(judge(wrong, policy)) == missing


def test_more_endorsements_than_a_card_may_have() -> None:
    made = stamping.card()
    good = tsa_pki.reply(tsa_pki.authority(), timestamp_message(made))
    data = with_replies(made, *[good] * MAX_ENDORSEMENTS)
    assert judge(data).as_of is not None
    message = ConceptualMessage(TIMESTAMP_MEDIA_TYPE, good)
    with pytest.raises(MalformedError) as error:
        with_replies(made._replace(endorsements=(message,)), *[good] * MAX_ENDORSEMENTS)
    assert "256" in error.value.message


def test_a_good_token_behind_many_bad_ones_is_not_looked_for() -> None:
    made = stamping.card()
    good = tsa_pki.reply(tsa_pki.authority(), timestamp_message(made))
    bad = [bytes([number]) for number in range(MAX_TOKENS)]
    assert judge(with_replies(made, *bad[1:], good)).as_of is not None
    assert judge(with_replies(made, *bad[1:] * 9, good)).as_of is not None
    assert judge(with_replies(made, *bad, good)).as_of is None


def test_the_earliest_of_several_tokens_counts() -> None:
    made = stamping.card()
    replies = [
        tsa_pki.reply(tsa_pki.authority(), timestamp_message(made), time=TIME + number * HOUR / 9)
        for number in (2, 0, 1)
    ]
    foreign = tsa_pki.reply(
        tsa_pki.authority("nobody's"), timestamp_message(made), time=TIME - HOUR / 20
    )
    result = judge(with_replies(made, foreign, *replies))
    assert result.as_of is not None
    assert result.as_of.time == TIME


# As of then.

MADE = NOW - 30 * DAY
STAMPED = MADE + DAY


def _old_world(machine: forge.Machine | None = None, **changes: object) -> forge.World:
    """Return a card from thirty days ago."""
    claims = verifying.claims(iat=int(MADE.timestamp()), **changes)
    return forge.world(machine or forge.machine(), claims)


def _old_lists(machine: forge.Machine) -> tuple[x509.CertificateRevocationList, ...]:
    """Return the lists that were current when the old card was stamped."""
    spec = pki.CrlSpec(issued=MADE - DAY, expires=STAMPED + DAY)
    return (pki.crl(machine.root, spec), pki.crl(machine.authority, spec))


def test_a_certificate_that_expired_since() -> None:
    machine = forge.certified(forge.machine(), not_after=NOW - 10 * DAY)
    data = stamped(stamping.card(_old_world(machine)), time=STAMPED)
    trust = stamping.trust(machine=machine).with_crls(_old_lists(machine))
    now, then = judge(data, trust=trust), judge(data, AS_OF_TOKEN, trust=trust)
    assert verifying.obstacles(now) >= {"ak.validity"}
    assert then.accepted
    for result in (now, then):
        assert result.as_of is not None
        assert (result.as_of.now, result.as_of.then) == ("rejected", "accepted")
    assert now.judged_at == NOW
    assert then.judged_at == STAMPED
    assert now.as_of is not None
    assert then.as_of is not None
    assert now.as_of.other_failures == ()
    assert "ak.validity" in then.as_of.other_failures
    assert now.statements == ()
    assert then.statements
    assert "time.judged-then" in {caveat.code for caveat in then.caveats}
    assert "time.judged-then" not in {caveat.code for caveat in now.caveats}


def test_an_expired_certificate_without_a_token_is_judged_now() -> None:
    machine = forge.certified(forge.machine(), not_after=NOW - 10 * DAY)
    data = with_replies(stamping.card(_old_world(machine)))
    trust = stamping.trust(machine=machine).with_crls(_old_lists(machine))
    result = judge(data, AS_OF_TOKEN, trust=trust)
    assert not result.accepted
    assert result.as_of is None
    assert result.judged_at == NOW


def test_a_certificate_that_had_expired_by_the_token() -> None:
    machine = forge.certified(forge.machine(), not_after=STAMPED - HOUR)
    data = stamped(stamping.card(_old_world(machine)), time=STAMPED)
    trust = stamping.trust(machine=machine).with_crls(_old_lists(machine))
    result = judge(data, AS_OF_TOKEN, trust=trust)
    assert verifying.verdict_of(result, "ak.validity") == "fail"
    assert result.as_of is not None
    assert (result.as_of.now, result.as_of.then) == ("rejected", "rejected")


def _revoked(
    date: dt.datetime,
    reason: x509.ReasonFlags | None,
    invalid_since: dt.datetime | None = None,
) -> tuple[str, str]:
    """Return both verdicts on an old card whose AK was revoked."""
    machine = forge.machine()
    leaf = x509.load_der_x509_certificate(machine.certificates[0])
    entry = pki.Revoked(0, date, reason, _invalid_since(invalid_since))
    crl = stamping.revoking(machine.authority, leaf, entry)
    data = stamped(stamping.card(_old_world()), time=STAMPED)
    result = judge(data, trust=stamping.trust().with_crls((crl,)))
    assert result.as_of is not None
    return result.as_of.now, result.as_of.then


@pytest.mark.parametrize("date", [STAMPED - HOUR, STAMPED + DAY])
@pytest.mark.parametrize("reason", [None, COMPROMISED])
def test_a_key_that_was_compromised_at_any_time(
    date: dt.datetime, reason: x509.ReasonFlags | None
) -> None:
    assert _revoked(date, reason) == ("rejected", "rejected")


def test_a_key_that_was_superseded_after_the_token() -> None:
    assert _revoked(STAMPED + DAY, SUPERSEDED) == ("rejected", "accepted")


def test_a_key_that_was_superseded_before_the_token() -> None:
    assert _revoked(STAMPED - HOUR, SUPERSEDED) == ("rejected", "rejected")


def test_a_key_that_was_invalid_before_its_revocation() -> None:
    late = STAMPED + DAY
    assert _revoked(late, SUPERSEDED, STAMPED - HOUR) == ("rejected", "rejected")
    assert _revoked(late, SUPERSEDED, late) == ("rejected", "accepted")
    assert _revoked(late, SUPERSEDED, late + DAY) == ("rejected", "accepted")


@pytest.mark.parametrize("first", ["simulated", "real"])
def test_a_simulated_time_comes_not_before_a_real_one(first: str) -> None:
    """The key was superseded before the real time-stamp: the simulated one would hide that."""
    machine, simulated = forge.machine(), tsa_pki.authority("a simulated TSA")
    leaf = x509.load_der_x509_certificate(machine.certificates[0])
    entry = pki.Revoked(0, STAMPED + HOUR, SUPERSEDED)
    more = simulated.trust(kind="tsa-simulated")
    trust = stamping.trust().with_crls(
        (*more.crls, stamping.revoking(machine.authority, leaf, entry))
    )
    trust = trust._replace(anchors=(*trust.anchors, *more.anchors))
    made = stamping.card(_old_world())
    message = timestamp_message(made)
    early = tsa_pki.reply(simulated, message, time=STAMPED)
    real = tsa_pki.reply(tsa_pki.authority(), message, time=STAMPED + DAY)
    alone = judge(with_replies(made, early), AS_OF_TOKEN, trust=trust)
    assert alone.accepted
    assert alone.as_of is not None
    assert alone.as_of.simulated
    both = (early, real) if first == "simulated" else (real, early)
    result = judge(with_replies(made, *both), AS_OF_TOKEN, trust=trust)
    assert verifying.obstacles(result) >= {"ak.revocation"}
    assert result.as_of is not None
    assert (result.as_of.time, result.as_of.simulated) == (STAMPED + DAY, False)


def test_a_token_does_not_make_a_card_younger() -> None:
    data = stamped(stamping.card(_old_world()), time=STAMPED)
    policy = AS_OF_TOKEN._replace(maximum_age=7 * 86_400)
    result = judge(data, policy)
    assert result.judged_at == STAMPED
    assert verifying.obstacles(result) == {"policy.age"}


# Then, with the cards that one builds on.


def _old_training(machine: forge.Machine) -> forge.World:
    outputs = MappingProxyType({"weights": Artifact("model", sha256(b"model"), 5, 1)})
    reported = (Property("loss", 0.1, "reported", "train.py"),)
    return _old_world(machine, kind="training", outputs=outputs, properties=reported)


def test_a_card_that_it_builds_on_is_judged_as_of_its_own_token() -> None:
    machine = forge.certified(forge.machine(), not_after=NOW - 10 * DAY)
    trust = stamping.trust(machine=machine).with_crls(_old_lists(machine))
    parent = stamping.card(_old_training(machine))
    child = with_replies(
        stamping.card(verifying.world(cards=MappingProxyType({"model": parent.id})))
    )
    honest, bare = stamped(parent, time=STAMPED), with_replies(parent)
    result = judge(child, AS_OF_TOKEN, trust=trust, other_cards=[honest])
    assert result.accepted, result.failures()
    assert result.judged_at == NOW
    assert result.as_of is not None
    assert (result.as_of.now, result.as_of.then) == ("rejected", "accepted")
    assert result.as_of.time is None
    assert result.as_of.other_failures == ("lineage.model",)
    of_parent = [caveat.code for caveat in result.caveats if caveat.card is not None]
    assert "time.judged-then" in of_parent
    without = judge(child, AS_OF_TOKEN, trust=trust, other_cards=[bare])
    assert verifying.obstacles(without) == {"lineage.model"}
    assert without.as_of is None


def test_the_time_of_a_card_is_not_that_of_what_it_builds_on() -> None:
    """The child's token says nothing about when its parent existed."""
    machine = forge.certified(forge.machine(), not_after=NOW - 10 * DAY)
    trust = stamping.trust(machine=machine).with_crls(_old_lists(machine))
    parent = stamping.card(_old_training(machine))
    claims = verifying.claims(cards=MappingProxyType({"model": parent.id}))
    child = stamping.card(forge.world(forge.machine(), claims))
    result = judge(stamped(child), AS_OF_TOKEN, trust=trust, other_cards=[with_replies(parent)])
    assert verifying.obstacles(result) == {"lineage.model"}
