"""What anybody may add to a finished card: it never makes the card worse than without it."""

from functools import cache

import planning
import tsa_pki

from enclave_sim.adversary import forged_tpm, forged_world
from harnesses.der_mutation import mutate_as_cbor_of_der
from harnesses.harness import Harness, check_json, parsed
from laminator.appraise.trust import TrustStore
from laminator.card import (
    MAX_ENDORSEMENTS,
    Card,
    ConceptualMessage,
    encode_card,
    parse_card,
    timestamp_message,
)
from laminator.cbor import Value, decode, encode
from laminator.endorsements import (
    PLAN_MEDIA_TYPE,
    PLAN_TIMESTAMP_MEDIA_TYPE,
    TIMESTAMP_MEDIA_TYPE,
    endorsements_of,
)
from laminator.errors import MalformedError
from laminator.fields import array, octets, text
from laminator.report.result_text import result_text


def check(data: bytes) -> bool:
    """The card keeps its verdict; a time is the authority's, a kept plan is the very plan."""
    messages = parsed(_messages, data)
    if not messages:
        return False
    card = encode_card(_card()._replace(endorsements=messages))
    assert parse_card(card).id == _card().id
    given = {"trust": _trust(), "nonce": planning.NONCE}
    result = forged_world.judge(card, forged_world.POLICY, **given)
    assert result.accepted, [each.id for each in result.failures()]
    if result.as_of is not None:
        assert result.as_of.now == "accepted"
        assert result.as_of.time in (None, tsa_pki.TIME)
    check_json({"results": [result.to_json()]}, "verification-result.schema.json")
    assert all(line.isprintable() for line in result_text(result, "fuzz.card").split("\n"))
    kept = forged_world.judge(card, planning.KEPT, **given)
    found = endorsements_of(parse_card(card))
    assert not kept.accepted or set(_plan_of(_card())) <= {*found.plans, *found.plan_timestamps}
    return kept.accepted and result.as_of is not None


@cache
def seeds() -> list[bytes]:
    """Return the plan with its time-stamp and the card's own, and the same beside others."""
    reply = tsa_pki.reply(tsa_pki.authority(), timestamp_message(_card()))
    plan, plan_reply = _plan_of(_card())
    whole = (
        ConceptualMessage(PLAN_MEDIA_TYPE, plan),
        ConceptualMessage(PLAN_TIMESTAMP_MEDIA_TYPE, plan_reply),
        ConceptualMessage(TIMESTAMP_MEDIA_TYPE, reply),
    )
    foreign = ConceptualMessage(TIMESTAMP_MEDIA_TYPE, plan_reply)
    other = ConceptualMessage(PLAN_MEDIA_TYPE, plan + b"\n")
    return [encode(whole), encode((foreign, other, ConceptualMessage("text/plain", b"x"), *whole))]


def _messages(data: bytes) -> tuple[ConceptualMessage, ...]:
    return array(_message, most=MAX_ENDORSEMENTS)(decode(data), "endorsements")


def _message(value: Value, path: str) -> ConceptualMessage:
    match value:
        case (media_type, message):
            return ConceptualMessage(text(media_type, path), octets(1, 1 << 16)(message, path))
        case _:
            raise MalformedError("fuzz.message", "not an endorsement")


@cache
def _card() -> Card:
    """Return a card whose run kept its plan, with the plan and its time-stamp."""
    return forged_world.card(planning.planned())


def _plan_of(card: Card) -> tuple[bytes, bytes]:
    found = endorsements_of(card)
    return found.plans[0], found.plan_timestamps[0]


@cache
def _trust() -> TrustStore:
    own, tsa = forged_tpm.machine().trust, tsa_pki.authority().trust()
    return TrustStore(own.anchors + tsa.anchors, own.crls + tsa.crls)


HARNESS = Harness(check, seeds, mutate_as_cbor_of_der, (TIMESTAMP_MEDIA_TYPE, PLAN_MEDIA_TYPE))
