"""Several pieces of evidence: the weakest decides."""

import datetime as dt
import sys
from types import ModuleType

import forge
import pytest
from verifying import world

from laminator.appraise import evidence
from laminator.appraise.evidence import Findings, Setting, appraise_evidence
from laminator.card import Card, ConceptualMessage
from laminator.claims import EvidenceRef
from laminator.digest import Digest, sha256
from laminator.eventlog import Record, replay
from laminator.evidence import tpm_format

NOW = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
ONE, OTHER = sha256(b"one"), sha256(b"other")

Pieces = list[tuple[str, Digest | None, Digest | None]]


def _findings(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """Judge a card whose evidence number i is of a made-up kind that finds `pieces[i]`."""

    def appraise(_: Card, index: int, __: Setting) -> Findings:
        root, anchor, launch = pieces[index]
        return Findings((), ("made.up",), root, anchor, launch, b"counter")

    module = ModuleType("made_up")
    vars(module).update(KIND="made-up", appraise=appraise)
    monkeypatch.setitem(sys.modules, "made_up", module)
    monkeypatch.setattr(evidence, "MODULES", {"application/x-made-up": "made_up"})
    drafted = forge.card(world())
    refs = tuple(EvidenceRef("made-up", bytes(32)) for _ in pieces)
    card = drafted._replace(
        claims=drafted.claims._replace(evidence=refs),
        evidence=tuple(ConceptualMessage("application/x-made-up", b"x") for _ in pieces),
    )
    return appraise_evidence(card, Setting(forge.machine().trust, NOW, {}))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([("tpm", ONE, ONE)], ("tpm", ONE, ONE)),
        ([("tpm", ONE, ONE), ("tpm", ONE, ONE)], ("tpm", ONE, ONE)),
        ([("tpm", ONE, ONE), ("tpm", OTHER, None)], ("tpm", None, None)),
        ([("tpm", ONE, ONE), ("simulated", ONE, ONE)], ("simulated", ONE, ONE)),
        ([("tpm", ONE, ONE), ("sgx", ONE, ONE)], ("none", ONE, ONE)),
        ([("none", None, None), ("simulated", ONE, ONE)], ("none", None, None)),
    ],
)
def test_weakest_piece_decides(
    pieces: Pieces,
    expected: tuple[str, Digest | None, Digest | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _findings(pieces, monkeypatch)
    assert (found.root, found.anchor, found.launch) == expected
    assert found.required == ("evidence.set", "made.up")
    assert found.counter_attest == b"counter"


def test_a_long_log_is_replayed_once_for_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = []

    def counting(records: tuple[Record, ...]) -> bytes:
        replayed.append(len(records))
        return replay(records)

    for module in (evidence, tpm_format):
        monkeypatch.setattr(module, "replay", counting)
    one = forge.card(world())
    claims = one.claims._replace(evidence=one.claims.evidence * 4)
    card = one._replace(claims=claims, evidence=one.evidence * 4)
    appraise_evidence(card, Setting(forge.machine().trust, NOW, {}))
    assert replayed.count(len(card.log)) == 1
