"""Cards that refer to each other by id: a DAG, since an id is a digest of what refers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from laminator.appraise.result import Check, VerificationResult, failed, not_checked, passed
from laminator.card import Card
from laminator.claims import Claims
from laminator.digest import Digest

MAX_LINEAGE_DEPTH = 32
"""Cards on the longest way from a card that another one refers to down to the oldest."""

Judge = Callable[[Card], VerificationResult]


class Given(NamedTuple):
    """The cards given: by id, which several cards may share since it covers the claims alone.

    `depths` are the numbers of cards on the longest way down, by id.
    """

    cards: Mapping[bytes, tuple[Card, ...]]
    depths: Mapping[bytes, int]

    @property
    def names(self) -> frozenset[str]:
        """The names of all inputs and outputs."""
        claims = [candidates[0].claims for candidates in self.cards.values()]
        return frozenset(name for each in claims for name in (*each.inputs, *each.outputs))


def index_cards(cards: Iterable[Card]) -> Given:
    """Return the cards with their ids and depths."""
    index: dict[bytes, tuple[Card, ...]] = {}
    for card in cards:
        index[card.id] = (*index.get(card.id, ()), card)
    return Given(index, _depths(index))


def check_lineage(claims: Claims, given: Given, judge: Judge) -> Iterator[Check]:
    """`lineage.<name>`: the card that made input <name> is accepted and has that very artifact."""
    for name, id_ in (claims.cards or {}).items():
        check_id = f"lineage.{name}"
        candidates = given.cards.get(id_, ())
        if given.depths.get(id_, 0) > MAX_LINEAGE_DEPTH:
            yield failed(check_id, f"more than {MAX_LINEAGE_DEPTH} cards deep")
        elif candidates:
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


def _depths(index: Mapping[bytes, tuple[Card, ...]]) -> dict[bytes, int]:
    """Return each card's depth. Every way ends: a card's id is a digest over those it names."""
    depths: dict[bytes, int] = {}
    pending = list(index)
    while pending:
        named = (index[pending[-1]][0].claims.cards or {}).values()
        below = [id_ for id_ in named if id_ in index]
        unknown = [id_ for id_ in below if id_ not in depths]
        if unknown:
            pending += unknown
        else:
            depths[pending.pop()] = 1 + max((depths[id_] for id_ in below), default=0)
    return depths


def offered(claims: Claims) -> frozenset[Digest]:
    """Return the digests that a card vouches for: its outputs, and a datasheet's inputs."""
    artifacts = [*claims.outputs.values()]
    if claims.kind == "datasheet":
        artifacts += claims.inputs.values()
    return frozenset(artifact.digest for artifact in artifacts)
