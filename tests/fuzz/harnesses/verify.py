"""The whole verifier: bytes in, a result out, and nothing accepted but the golden cards."""

import datetime as dt
from functools import cache

from harnesses.harness import VECTORS, Harness, check_json, golden_cards
from harnesses.mutation import mutate_as_cbor
from laminator.appraise.policy import BUILT_IN, Policy, load_policy
from laminator.appraise.trust import TrustStore, load_trust
from laminator.appraise.verify import Given, verify
from laminator.card import parse_card
from laminator.report.result_text import result_text

MAX_TEXT = 1_000_000


def check(data: bytes) -> bool:
    """Whatever the card, there is a result, it can be shown, and an accepted card is a real one."""
    training = golden_cards()[0]
    result = verify(data, _policy(), **_given(training))
    assert result.verdict in {"accepted", "rejected"}
    if result.accepted:
        card, real = parse_card(data), parse_card(golden_cards()[1])
        assert card.claims_bytes == real.claims_bytes
        assert card.log == real.log
        assert not result.failures()
    check_json({"results": [result.to_json()]}, "verification-result.schema.json")
    text = result_text(result, "fuzz.card")
    assert len(text) < MAX_TEXT
    assert all(line.isprintable() for line in text.split("\n"))
    if result.card is not None:
        _check_elsewhere(data)
    return result.accepted


def _check_elsewhere(data: bytes) -> None:
    """Check the card under the built-in policy, and beside a good card."""
    training, evaluation = golden_cards()
    assert not verify(data, BUILT_IN, **_given()).accepted
    beside = verify(evaluation, _policy(), **_given(training, data))
    assert beside.accepted or {check.id for check in beside.failures()} == {"lineage.given"}


def seeds() -> list[bytes]:
    """Return the golden card that its policy accepts."""
    return [golden_cards()[1]]


@cache
def _policy() -> Policy:
    return load_policy(str(VECTORS / "policy.toml"))


def _given(*others: bytes) -> Given:
    now = dt.datetime(2026, 11, 25, 0, 5, 22, tzinfo=dt.UTC)
    return {"trust": _trust(), "now": now, "other_cards": others}


@cache
def _trust() -> TrustStore:
    return load_trust(str(VECTORS / "trust"))


HARNESS = Harness(check, seeds, mutate_as_cbor)
