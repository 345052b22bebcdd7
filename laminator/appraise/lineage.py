"""Cards that refer to each other by id: a DAG, since an id is a digest of what refers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from laminator.appraise.check import Check, failed, not_checked, passed
from laminator.appraise.result import VerificationResult
from laminator.card import Card
from laminator.claims import Artifact, Claims

MAX_LINEAGE_DEPTH = 32
"""Cards on the longest way from a card that another one refers to down to the oldest."""

Judge = Callable[[Card], VerificationResult]


class Given(NamedTuple):
    """The cards given: by id, which several cards may share since it covers the claims alone.

    `depths` are the numbers of cards on the longest way down, by id.
    """

    cards: Mapping[bytes, tuple[Card, ...]]
    depths: Mapping[bytes, int]


def index_cards(cards: Iterable[Card]) -> Given:
    """Return the cards with their ids and depths."""
    lists: dict[bytes, list[Card]] = {}
    for card in cards:
        lists.setdefault(card.id, []).append(card)
    index = {id_: tuple(same) for id_, same in lists.items()}
    return Given(index, _depths(index))


def check_lineage(claims: Claims, given: Given, judge: Judge) -> Iterator[Check]:
    """`lineage.<name>`: the card that made input <name> is accepted and has that very artifact.

    A model has to be the output of a training, a data set that of any card or what a datasheet
    describes, a file that of any card; the types have to agree.
    """
    for name, id_ in (claims.cards or {}).items():
        check_id = f"lineage.{name}"
        candidates = given.cards.get(id_, ())
        if given.depths.get(id_, 0) > MAX_LINEAGE_DEPTH:
            yield failed(check_id, f"more than {MAX_LINEAGE_DEPTH} cards deep")
        elif candidates:
            yield _check_parent(check_id, claims.inputs[name], candidates, judge)
        else:
            yield not_checked(check_id, f"card {id_.hex()} was not given")


def check_given(judged: Iterable[Card], given: Given, unparsable: int) -> Iterator[Check]:
    """`lineage.given`: every other card given is a card, and one that a judged card builds on."""
    judged = tuple(judged)
    strays = given.cards.keys() - _reached(judged, given)
    problems = [f"{unparsable} of the other cards given cannot be read"] if unparsable else []
    if strays:
        problems.append(
            f"no judged card builds on {', '.join(sorted(id_.hex() for id_ in strays))}"
        )
    if problems:
        yield failed("lineage.given", "; ".join(problems))
    elif given.cards.keys() - {card.id for card in judged}:
        yield passed("lineage.given", "a judged card builds on every other card given")


def _reached(judged: Iterable[Card], given: Given) -> set[bytes]:
    """Return the ids of the judged cards and of all that they build on."""
    reached: set[bytes] = set()
    pending = [card.id for card in judged]
    while pending:
        id_ = pending.pop()
        if id_ in given.cards and id_ not in reached:
            reached.add(id_)
            pending += (given.cards[id_][0].claims.cards or {}).values()
    return reached


def _check_parent(
    id_: str, artifact: Artifact, candidates: tuple[Card, ...], judge: Judge
) -> Check:
    parent, digest = candidates[0].claims, artifact.digest
    if not vouches(parent, artifact):
        return failed(id_, f"the {parent.kind} card given did not make {artifact.type} {digest}")
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


def vouches(parent: Claims, artifact: Artifact) -> bool:
    """Tell whether a card with these claims can say where `artifact` came from."""
    offered: list[Artifact] = []
    if artifact.type != "model" or parent.kind == "training":
        offered += parent.outputs.values()
    if artifact.type == "dataset" and parent.kind == "datasheet":
        offered += parent.inputs.values()
    return any((item.type, item.digest) == (artifact.type, artifact.digest) for item in offered)
