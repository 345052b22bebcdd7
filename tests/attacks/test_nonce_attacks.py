"""What a prover tries with a verifier's nonce: late, again, or for several cards at once."""

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import forge
import pytest
import verifier_desk
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from laminator.appraise.nonce_rules import IssuedNonce
from laminator.appraise.result import VerificationResult
from laminator.appraise.verify import verify_all
from laminator.card import parse_card
from laminator.digest import Digest
from laminator.errors import MachineError, UsageError
from laminator.nonce import store as nonce_store
from laminator.nonce.use import judge_with_nonce

NONCE = b"n" * 32
DAY = dt.timedelta(days=1)
CLOCK = dt.datetime(2026, 10, 5, 12, tzinfo=dt.UTC)
ISSUED = IssuedNonce(expires=CLOCK + DAY, clock=CLOCK)


def _card(number: int = 7) -> bytes:
    """Return a whole card with the nonce, another one for each run number."""
    return forge.card_bytes(world(run=claims().run._replace(number=number)))


def _id(card: bytes) -> Digest:
    return Digest("sha-256", parse_card(card).id)


def test_one_card_in_time() -> None:
    result = judge(_card(), nonce=NONCE, issued=ISSUED)
    assert result.accepted, result.failures()
    assert verdict_of(result, "nonce.expiry") == verdict_of(result, "nonce.use") == "pass"


def test_a_nonce_that_another_card_used() -> None:
    first, second = _card(7), _card(8)
    assert _id(first) != _id(second)
    used = ISSUED._replace(used_by=_id(first))
    assert judge(second, nonce=NONCE, issued=ISSUED).accepted
    assert obstacles(judge(second, nonce=NONCE, issued=used)) == {"nonce.use"}


def test_a_card_is_verified_as_often_as_one_likes() -> None:
    used = ISSUED._replace(used_by=_id(_card()), clock=CLOCK + 400 * DAY)
    assert judge(_card(), nonce=NONCE, issued=used).accepted


@pytest.mark.parametrize("late", [dt.timedelta(0), dt.timedelta(seconds=1), 30 * DAY])
def test_an_expired_nonce(late: dt.timedelta) -> None:
    expired = ISSUED._replace(clock=ISSUED.expires + late)
    result = judge(_card(), nonce=NONCE, issued=expired)
    assert obstacles(result) == {"nonce.expiry"}


def test_judging_as_of_an_earlier_time_revives_no_nonce() -> None:
    expired = ISSUED._replace(expires=forge.NOW + DAY, clock=forge.NOW + 2 * DAY)
    assert obstacles(judge(_card(), nonce=NONCE, issued=expired, now=forge.NOW)) == {"nonce.expiry"}


def test_a_card_cannot_have_the_nonce_only_in_the_verifiers_records() -> None:
    card = forge.card_bytes(world(nonce=None))
    assert obstacles(judge(card, nonce=NONCE, issued=ISSUED)) == {"claims.nonce"}


def _judge_all(cards: list[bytes], issued: IssuedNonce | None) -> tuple[VerificationResult, ...]:
    trust = forge.machine().trust
    given: dict[str, Any] = {"trust": trust, "now": forge.NOW, "nonce": NONCE, "issued": issued}
    return verify_all(cards, POLICY, **given)


def test_several_cards_at_once_with_one_nonce() -> None:
    results = _judge_all([_card(7), _card(8)], ISSUED)
    assert [obstacles(result) for result in results] == [{"nonce.use"}] * 2


def test_the_same_card_twice_at_once() -> None:
    assert all(result.accepted for result in _judge_all([_card(), _card()], ISSUED))


def test_a_nonce_that_nobody_recorded_is_said_to_be_untracked() -> None:
    result = judge(_card(), nonce=NONCE)
    assert result.accepted
    verdicts = [verdict_of(result, id_) for id_ in ("nonce.expiry", "nonce.use")]
    assert verdicts == ["not-applicable", "not-applicable"]
    strict = POLICY._replace(require=("nonce.use",))
    assert "policy.require.nonce.use" in obstacles(judge(_card(), strict, nonce=NONCE))
    assert judge(_card(), strict, nonce=NONCE, issued=ISSUED).accepted


@pytest.mark.parametrize(
    "given",
    [
        {"issued": ISSUED},
        {"nonce": NONCE, "issued": ISSUED._replace(clock=CLOCK.replace(tzinfo=None))},
        {"nonce": NONCE, "issued": ISSUED._replace(expires=CLOCK.replace(tzinfo=None))},
    ],
)
def test_records_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        judge(_card(), **given)
    assert caught.value.code == "verify.issued"


# The verifier's store, and two verifications that race for it.


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return nonce_store.default_store()


def _issue(store: str) -> bytes:
    now = dt.datetime.now(dt.UTC)
    return nonce_store.add_issued(store, now, now + DAY)


def test_of_cards_that_are_verified_at_once_one_wins(store: str, tmp_path: Path) -> None:
    nonce = _issue(store)
    options = [*verifier_desk.lay_out(tmp_path), "--nonce", nonce.hex(), "--json"]
    started = []
    for number in range(7, 11):
        card = tmp_path / f"{number}.card"
        card.write_bytes(verifier_desk.card_with(nonce, number))
        started.append(verifier_desk.start("verify", str(card), *options, data=tmp_path))
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert sorted(process.returncode for process in started) == [0, 1, 1, 1]
    results = [json.loads(text)["results"][0] for text in printed]
    (winner,) = (each["card"] for each in results if each["verdict"] == "accepted")
    losers = [each["failures"] for each in results if each["verdict"] == "rejected"]
    assert losers == [["nonce.use"]] * 3
    entry = nonce_store.find(store, nonce)
    assert entry is not None
    assert entry.use is not None
    assert str(entry.use.card) == winner


def test_the_loser_of_a_race_is_judged_again(store: str) -> None:
    nonce = _issue(store)
    card = forge.card_bytes(world(nonce=nonce))
    other = Digest("sha-256", bytes(32))
    asked: list[IssuedNonce | None] = []

    def judge_slowly(issued: IssuedNonce | None) -> list[VerificationResult]:
        asked.append(issued)
        result = judge(card, nonce=nonce, issued=issued)
        nonce_store.mark_used(store, nonce, other, dt.datetime.now(dt.UTC))
        return [result]

    (result,) = judge_with_nonce(nonce, judge_slowly)
    assert obstacles(result) == {"nonce.use"}
    assert [issued and issued.used_by for issued in asked] == [None, other]


def test_a_rejected_card_uses_no_nonce(store: str) -> None:
    nonce = _issue(store)
    card = forge.card_bytes(world(nonce=nonce))
    strict = POLICY._replace(coverage="attester")
    (result,) = judge_with_nonce(nonce, lambda i: [judge(card, strict, nonce=nonce, issued=i)])
    assert not result.accepted
    entry = nonce_store.find(store, nonce)
    assert entry is not None
    assert entry.use is None


@pytest.mark.parametrize("kind", ["loop", "file"])
def test_a_store_out_of_reach_is_no_store_without_the_nonce(store: str, kind: str) -> None:
    """What cannot be looked at may hold the mark of another card: there is no verdict."""
    nonce = _issue(store)
    nonce_store.mark_used(store, nonce, Digest("sha-256", bytes(32)), dt.datetime.now(dt.UTC))
    card = forge.card_bytes(world(nonce=nonce))
    above = Path(store).parent
    above.rename(above.with_name("moved"))
    if kind == "loop":
        above.symlink_to(above)
    else:
        above.write_bytes(b"")
    assert not Path(store).exists()
    with pytest.raises(MachineError) as caught:
        judge_with_nonce(nonce, lambda i: [judge(card, nonce=nonce, issued=i)])
    assert caught.value.code == "nonce.store"
    with pytest.raises(MachineError):
        nonce_store.entries(store)


@pytest.mark.parametrize("suffix", ["issued", "used"])
@pytest.mark.parametrize("kind", ["link", "dangling", "other", "folder", "pipe", "huge", "text"])
def test_a_tampered_entry_of_the_store(store: str, suffix: str, kind: str) -> None:
    nonce, other = _issue(store), _issue(store)
    card = Digest("sha-256", bytes(32))
    now = dt.datetime.now(dt.UTC)
    for each in (nonce, other):
        nonce_store.mark_used(store, each, card, now)
    path = Path(store, f"{nonce.hex()}.{suffix}")
    foreign = Path(store, f"{other.hex()}.{suffix}")
    own = path.read_bytes()
    path.unlink()
    _tamper(path, kind, foreign=foreign, own=own)
    with pytest.raises(MachineError) as caught:
        nonce_store.find(store, nonce)
    assert caught.value.code == "nonce.store"
    with pytest.raises(MachineError):
        nonce_store.entries(store)
    if suffix == "used":
        with pytest.raises(MachineError):
            nonce_store.mark_used(store, nonce, card, now)


def _tamper(path: Path, kind: str, *, foreign: Path, own: bytes) -> None:
    if kind == "link":
        kept = path.with_name("kept")
        kept.write_bytes(own)
        path.symlink_to(kept)
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "other":
        os.link(foreign, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(own * 1000 if kind == "huge" else b"used\n")
