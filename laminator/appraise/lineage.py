"""Cards that refer to each other by id: a DAG, since an id is a digest of what refers."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from laminator.appraise.result import Check, VerificationResult, failed, not_checked, passed
from laminator.card import Card, parse_card
from laminator.claims import Claims
from laminator.digest import Digest
from laminator.errors import MalformedError

MAX_LINEAGE_DEPTH = 32
"""Cards on the way from the judged card to the oldest that it builds on."""

Judge = Callable[[Card], VerificationResult]


def index_cards(cards: Iterable[bytes]) -> dict[bytes, tuple[Card, ...]]:
    """Return the parsable cards by id; an id covers the claims, so several cards may share it.

    What cannot be parsed is left out: no card refers to it.
    """
    index: dict[bytes, tuple[Card, ...]] = {}
    for data in cards:
        try:
            card = parse_card(data)
        except MalformedError:
            continue
        index[card.id] = (*index.get(card.id, ()), card)
    return index


def check_lineage(
    claims: Claims, index: Mapping[bytes, tuple[Card, ...]], judge: Judge
) -> Iterator[Check]:
    """`lineage.<name>`: the card that made input <name> is accepted and has that very artifact."""
    for name, id_ in (claims.cards or {}).items():
        check_id = f"lineage.{name}"
        candidates = index.get(id_, ())
        if candidates:
            yield _check_parent(check_id, claims.inputs[name].digest, candidates, judge)
        else:
            yield not_checked(check_id, f"card {id_.hex()} was not given")


def _check_parent(id_: str, digest: Digest, candidates: tuple[Card, ...], judge: Judge) -> Check:
    if digest not in offered(candidates[0].claims):
        return failed(id_, f"the card given does not vouch for {digest}")
    results = [judge(card) for card in candidates]
    if any(result.accepted for result in results):
        return passed(id_, f"an accepted {candidates[0].claims.kind} card vouches for {digest}")
    failures = ", ".join(dict.fromkeys(check.id for check in results[0].failures()))
    return failed(id_, f"the card that vouches for {digest} is rejected: {failures}")


def offered(claims: Claims) -> frozenset[Digest]:
    """Return the digests that a card vouches for: its outputs, and a datasheet's inputs."""
    artifacts = [*claims.outputs.values()]
    if claims.kind == "datasheet":
        artifacts += claims.inputs.values()
    return frozenset(artifact.digest for artifact in artifacts)
