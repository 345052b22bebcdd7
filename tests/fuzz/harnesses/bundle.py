"""Several cards at once: a bundle in a file, whose cards may refer to each other."""

import datetime as dt
import tempfile
from functools import cache

from harnesses.harness import VECTORS, Harness, check_json, golden_cards
from harnesses.mutation import mutate_as_sequence
from laminator.appraise.policy import Policy, load_policy
from laminator.appraise.trust import TrustStore, load_trust
from laminator.appraise.verify import verify_all
from laminator.card import parse_card
from laminator.cli.card_files import MAX_BUNDLE_CARDS, read_cards

NOW = dt.datetime(2026, 11, 25, 0, 5, 22, tzinfo=dt.UTC)


def check(data: bytes) -> bool:
    """There is a result for each card in the file, and only golden cards are accepted."""
    with tempfile.NamedTemporaryFile(suffix=".cards") as file:
        file.write(data)
        file.flush()
        cards = [each.data for each in read_cards(file.name)]
    assert b"".join(cards) == data
    assert 1 <= len(cards) <= MAX_BUNDLE_CARDS
    results = verify_all(cards, _policy(), trust=_trust(), now=NOW)
    assert len(results) == len(cards)
    check_json(
        {"results": [result.to_json() for result in results]}, "verification-result.schema.json"
    )
    accepted = [card for card, result in zip(cards, results, strict=True) if result.accepted]
    real = {parse_card(card).claims_bytes for card in golden_cards()}
    assert all(parse_card(card).claims_bytes in real for card in accepted)
    return bool(accepted)


def seeds() -> list[bytes]:
    """Return the golden cards in both orders, one of them twice."""
    training, evaluation = golden_cards()
    return [training + evaluation, evaluation + training, evaluation + training + training]


@cache
def _policy() -> Policy:
    return load_policy(str(VECTORS / "policy.toml"))


@cache
def _trust() -> TrustStore:
    return load_trust(str(VECTORS / "trust"))


HARNESS = Harness(check, seeds, mutate_as_sequence)
