"""The seam between a card and the kinds of evidence that it may carry.

Each kind is one module that holds

    KIND: str                                    what claims call it
    appraise(card, index, setting) -> Findings   judges the card's evidence number `index`

and is imported when a card carries its media type. Nothing else here knows the kinds.
"""

import datetime as dt
import importlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from laminator.appraise.check import Check, failed, not_checked, passed
from laminator.appraise.trust import TrustStore
from laminator.card import Card
from laminator.digest import Digest
from laminator.errors import shown
from laminator.eventlog import replay

MODULES: Mapping[str, str] = MappingProxyType(
    {"application/vnd.laminator.tpm+cbor": "laminator.appraise.tpm_evidence"}
)


class Setting(NamedTuple):
    """The verifier's own: its anchors with their CRLs, and the time at which it judges.

    `known` holds what a kind found out about certificates, by their bytes, for one call: cards of
    one machine share them. `log_head` is the replay of the judged card's log, made once for all
    pieces of evidence: a log may be long, and they may be many.
    """

    trust: TrustStore
    now: dt.datetime
    known: dict[tuple[bytes, ...], object]
    log_head: bytes | None = None

    def at(self, time: dt.datetime) -> "Setting":
        """Return the same anchors and CRLs at another time, with nothing known yet."""
        return self._replace(now=time, known={})


class Findings(NamedTuple):
    """What one piece of evidence gave.

    `required` are the checks that this kind cannot do without. `root`, `anchor` (the anchor
    certificate's digest) and `launch` (the digest of a launch that the evidence proves) are
    "none" and None where the checks that they rest on did not all pass. `counter_attest` is the
    carried counter certification, the only part of the log that the claims do not fix.
    """

    checks: tuple[Check, ...]
    required: tuple[str, ...]
    root: str = "none"
    anchor: Digest | None = None
    launch: Digest | None = None
    counter_attest: bytes | None = None


class EvidenceKind(NamedTuple):
    """What a module of one kind of evidence offers; `appraise` raises nothing."""

    name: str
    appraise: Callable[[Card, int, Setting], Findings]


def appraise_evidence(card: Card, setting: Setting) -> Findings:
    """Judge every piece of `card`'s evidence; the weakest piece decides what is left."""
    kinds = tuple(map(_kind, (message.media_type for message in card.evidence)))
    checks = [check_evidence_set(card, kinds)]
    if checks[0].verdict != "pass":
        return Findings(tuple(checks), ("evidence.set",))
    setting = setting._replace(log_head=replay(card.log))
    found = [
        kind.appraise(card, index, setting) for index, kind in enumerate(kinds) if kind is not None
    ]
    return Findings(
        checks=(*checks, *check_vouchers(card), *(one for each in found for one in each.checks)),
        required=("evidence.set", *dict.fromkeys(id_ for each in found for id_ in each.required)),
        root=_weakest_root({each.root for each in found}),
        anchor=_agreed(each.anchor for each in found),
        launch=_agreed(each.launch for each in found),
        counter_attest=found[0].counter_attest,
    )


def check_evidence_set(card: Card, kinds: tuple[EvidenceKind | None, ...]) -> Check:
    """`evidence.set`: the card carries the pieces that its claims list, in their order, no other.

    That each piece is signed by the listed key is the kind's own check.
    """
    for message, kind in zip(card.evidence, kinds, strict=True):
        if kind is None:
            media_type = shown(message.media_type)
            return failed("evidence.set", f"evidence of the unknown media type {media_type}")
    listed = tuple(ref.kind for ref in card.claims.evidence)
    carried = tuple(kind.name for kind in kinds if kind is not None)
    if listed != carried:
        detail = f"the claims list {shown(listed)}, the card carries {shown(carried)}"
        return failed("evidence.set", detail)
    return passed("evidence.set", f"{len(carried)} piece(s) of evidence, as the claims list them")


def check_vouchers(card: Card) -> tuple[Check, ...]:
    """`evidence.vouchers`: no kind can vouch for another yet; a claim that one does is unproven."""
    if all(ref.vouched_by is None for ref in card.claims.evidence):
        return ()
    detail = "the claims say that one piece of evidence vouches for another; that is not judged"
    return (not_checked("evidence.vouchers", detail),)


def _kind(media_type: str) -> EvidenceKind | None:
    name = MODULES.get(media_type)
    if name is None:
        return None
    module = importlib.import_module(name)
    return EvidenceKind(module.KIND, module.appraise)


def _weakest_root(roots: set[str]) -> str:
    if len(roots) == 1:
        return next(iter(roots))
    return "simulated" if "simulated" in roots and "none" not in roots else "none"


def _agreed(digests: Iterable[Digest | None]) -> Digest | None:
    distinct = set(digests)
    return distinct.pop() if len(distinct) == 1 else None
