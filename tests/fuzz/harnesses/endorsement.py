"""Signed endorsements of measurers: wild bytes count for nothing, and never fail a card."""

from cryptography.hazmat.primitives.asymmetric import ed25519

from harnesses.harness import Harness, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.appraise.check import FAIL
from laminator.appraise.endorsement_rules import Subject, judge_endorsements
from laminator.appraise.policy import Policy
from laminator.appraise.policy_endorsers import Endorser
from laminator.cose import parse_sign1, spki_of, verify_sign1
from laminator.cose_signing import sign1
from laminator.digest import sha256
from laminator.endorsement import (
    ENDORSEMENT_TYPE,
    REVOCATIONS_TYPE,
    Endorsement,
    Revocations,
    encode_endorsement,
    encode_revocations,
    parse_endorsement,
    parse_revocations,
)

_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
_POLICY = Policy(endorsers=(Endorser("a", sha256(spki_of(_KEY.public_key()))),))
_ENDORSEMENT = Endorsement(b"\x05" * 16, ("accuracy",), "entry", sha256(b"x"), 0, 9)
_SUBJECT = Subject(5, None, sha256(b"x"))


def check(data: bytes) -> bool:
    """A payload that parses has one encoding; what counts was signed by the named key."""
    if (found := parsed(parse_endorsement, data)) is not None:
        assert encode_endorsement(found) == data
    if (listed := parsed(parse_revocations, data)) is not None:
        assert encode_revocations(listed) == data
    for message in (data, b"\xd2" + data):
        checks, counting = judge_endorsements((message,), _POLICY, _SUBJECT)
        assert all(each.verdict != FAIL for each in checks)
        if counting:
            verified = verify_sign1(parse_sign1(message))
            assert verified is not None
            assert verified.key == _POLICY.endorsers[0].key
            assert counting == (parse_endorsement(verified.payload),)
    return (
        found is not None or listed is not None or parsed(parse_sign1, b"\xd2" + data) is not None
    )


def seeds() -> list[bytes]:
    """Return both payloads, and both signed, without the tag, which is no part of the format."""
    endorsement = encode_endorsement(_ENDORSEMENT)
    revocations = encode_revocations(Revocations(0, 9, {b"\x05" * 16: "wrong"}))
    signed = sign1(_KEY, ENDORSEMENT_TYPE, endorsement)[1:]
    listed = sign1(_KEY, REVOCATIONS_TYPE, revocations)[1:]
    return [endorsement, revocations, signed, listed]


HARNESS = Harness(check, seeds, mutate_as_cbor, (ENDORSEMENT_TYPE, REVOCATIONS_TYPE))
