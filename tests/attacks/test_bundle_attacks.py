"""Cards that refer to each other, very many of them, or in circles: bounded, and judged once."""

from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

import forge
import pytest
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from laminator import cbor
from laminator.appraise.evidence import Findings, Setting, appraise_evidence
from laminator.appraise.lineage import MAX_LINEAGE_DEPTH
from laminator.appraise.verify import verify_all
from laminator.card import MAX_CARD, Card, binding, encode_card, parse_card
from laminator.claims import Artifact
from laminator.claims_codec import encode_claims
from laminator.cli.card_files import MAX_BUNDLE_CARDS, read_cards
from laminator.cli.main import main

DEEP = 3_000
MODEL = Artifact("model", claims().inputs["model"].digest, 5, 1)
HOLE = b"\xa5" * 32


def training(*parents: bytes, **changes: object) -> bytes:
    """Return a training's card that makes the model from the cards with these ids."""
    inputs = {f"model-{number}": MODEL for number in range(len(parents))}
    cards = {f"model-{number}": id_ for number, id_ in enumerate(parents)}
    made = world(
        kind="training",
        inputs=MappingProxyType(inputs),
        outputs=MappingProxyType({"weights": MODEL}),
        properties=(),
        cards=MappingProxyType(cards) if cards else None,
        **changes,
    )
    return forge.card_bytes(made)


def id_of(card: bytes) -> bytes:
    return parse_card(card).id


def chain(length: int) -> list[bytes]:
    """Return cards each of which names the one before; only the ids in their claims differ.

    They are made by exchanging 32 bytes, and are evidence of nothing.
    """
    card = parse_card(training(HOLE))
    assert card.claims_bytes.count(HOLE) == 1
    fields = cbor.decode(encode_card(card))
    assert isinstance(fields, dict)
    made, below = [training()], id_of(training())
    for _ in range(length - 1):
        claims_bytes = card.claims_bytes.replace(HOLE, below)
        made.append(cbor.encode({**fields, "claims": claims_bytes}))
        below = binding(claims_bytes)
    return made


# Circles.


def test_a_card_cannot_name_itself() -> None:
    """Its id is a digest of the claims that would hold it: each guess makes another card."""
    guess = bytes(32)
    for _ in range(5):
        card = training(guess)
        assert (parse_card(card).claims.cards or {})["model-0"] == guess
        assert id_of(card) != guess
        result = judge(card, other_cards=[card])
        assert verdict_of(result, "lineage.model-0") == "not-checked"
        assert obstacles(judge(card, POLICY._replace(require=("lineage.model-0",)))) == {
            "lineage.model-0",
            "policy.require.lineage.model-0",
        }
        guess = id_of(card)


def test_two_cards_cannot_name_each_other() -> None:
    """Of a circle one side is forged, and it names a card that is not given."""
    first = training(bytes(32))
    second = training(id_of(first))
    closed = training(id_of(second))
    assert id_of(closed) != id_of(first)
    results = verify_all(
        [closed, second], POLICY, trust=forge.machine().trust, now=forge.NOW, other_cards=[first]
    )
    assert all(result.accepted for result in results)
    assert [verdict_of(result, "lineage.model-0") for result in results] == ["pass", "pass"]
    (caveat,) = (each for each in results[0].caveats if each.code == "lineage.not-checked")
    assert caveat.card == f"sha-256:{id_of(first).hex()}"


def test_a_card_whose_claims_are_exchanged_for_a_circle() -> None:
    """Bytes of claims that name the card itself have another id than it had."""
    draft = world(
        inputs=MappingProxyType({**claims().inputs, "model": MODEL}),
        cards=MappingProxyType({"model": HOLE}),
    )
    card = forge.card(draft)
    circle = card.claims_bytes.replace(HOLE, card.id)
    assert (circle != card.claims_bytes, binding(circle) != card.id) == (True, True)
    fields = cbor.decode(encode_card(card))
    assert isinstance(fields, dict)
    forged = cbor.encode({**fields, "claims": circle})
    result = judge(forged, other_cards=[encode_card(card)])
    assert {"tpm.binding", "log.claims"} & obstacles(result)
    assert "lineage.model" in obstacles(result)


# Depth.


@pytest.fixture(scope="module")
def deep() -> list[bytes]:
    return chain(DEEP)


def test_a_very_deep_chain_is_not_followed(
    deep: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One card is judged, and its lineage is refused without a look at the others' evidence."""
    judged = count_judged(monkeypatch)
    top = training(id_of(deep[-1]))
    result = judge(top, other_cards=deep)
    assert obstacles(result) == {"lineage.model-0"}
    assert len(judged) == 1


def test_the_deepest_chain_that_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [training()]
    for _ in range(MAX_LINEAGE_DEPTH):
        cards.append(training(id_of(cards[-1])))
    judged = count_judged(monkeypatch)
    assert judge(cards[-1], other_cards=cards[:-1]).accepted
    assert len(judged) == len(cards)
    too_deep = training(id_of(cards[-1]))
    assert obstacles(judge(too_deep, other_cards=cards)) == {"lineage.model-0"}


def count_judged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    judged: list[bytes] = []

    def counting(card: Card, setting: Setting) -> Findings:
        judged.append(card.id)
        return appraise_evidence(card, setting)

    monkeypatch.setattr("laminator.appraise.verify.appraise_evidence", counting)
    return judged


# Width.


def layers(number: int, width: int) -> list[list[bytes]]:
    """Return layers of cards, each of which builds on every card of the layer before."""
    made = [[training(iat=claims().iat - place) for place in range(width)]]
    while len(made) < number:
        below = [id_of(card) for card in made[-1]]
        made.append([training(*below, iat=claims().iat - place) for place in range(width)])
    return made


def test_a_wide_dag_has_no_more_judgements_than_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two to the power of thirty ways lead down; each card is judged once."""
    made = [card for layer in layers(30, 2) for card in layer]
    assert len(set(made)) == 60
    judged = count_judged(monkeypatch)
    result = judge(made[-1], other_cards=made[:-2])
    assert result.accepted, result.failures()
    assert len(judged) == len(made) - 1
    assert len(result.caveats) < 100


def test_copies_of_a_card_do_not_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    made = layers(20, 1)
    copies = [card for (card,) in made[:-1] for _ in range(3)]
    judged = count_judged(monkeypatch)
    assert judge(made[-1][0], other_cards=copies).accepted
    assert len(judged) == len(copies) + 1


def test_a_card_twice_is_judged_twice_and_alike() -> None:
    card = training()
    given = {"trust": forge.machine().trust, "now": forge.NOW}
    first, second = verify_all([card, card], POLICY, **given)  # type: ignore[arg-type]
    assert first == second
    assert first.accepted


# Number.


def bundle(place: Path, cards: Iterable[bytes]) -> str:
    path = place / "many.cards"
    path.write_bytes(b"".join(cards))
    return str(path)


@pytest.mark.parametrize("item", [b"\x00", b"\xf6", b"\x40", b"\xa0"])
def test_a_bundle_of_a_million_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], item: bytes
) -> None:
    path = bundle(tmp_path, [item * 1_000_000])
    assert len(read_cards(path)) == 1
    assert main(["show", path]) == 1
    assert "not a card" in capsys.readouterr().err


def test_a_bundle_of_one_card_too_many(tmp_path: Path) -> None:
    card = cbor.encode({"profile": "x"})
    assert len(read_cards(bundle(tmp_path, [card] * MAX_BUNDLE_CARDS))) == MAX_BUNDLE_CARDS
    (whole,) = read_cards(bundle(tmp_path, [card] * (MAX_BUNDLE_CARDS + 1)))
    assert obstacles(judge(whole.data)) >= {"card.parse"}


@pytest.mark.parametrize(
    "content",
    [b"\x9f" * 1000, b"\x9b" + b"\xff" * 8, b"\x5b" + b"\xff" * 8, b"\x81" * 100_000, b"\xff"],
    ids=["open arrays", "endless array", "endless bytes", "deep", "break"],
)
def test_a_bundle_that_is_no_sequence(tmp_path: Path, content: bytes) -> None:
    (whole,) = read_cards(bundle(tmp_path, [content]))
    assert whole.data == content
    assert [check.id for check in judge(whole.data).checks] == ["card.parse"]


def test_a_bundle_of_no_cards(tmp_path: Path) -> None:
    (nothing,) = read_cards(bundle(tmp_path, []))
    assert obstacles(judge(nothing.data)) >= {"card.parse"}


def test_one_bad_card_does_not_hide_in_a_bundle(tmp_path: Path) -> None:
    good = training()
    bad = bytearray(good)
    bad[good.index(parse_card(good).claims.run.id)] ^= 1
    files = read_cards(bundle(tmp_path, [good, bytes(bad), good]))
    given = {"trust": forge.machine().trust, "now": forge.NOW}
    results = verify_all([file.data for file in files], POLICY, **given)  # type: ignore[arg-type]
    assert [result.accepted for result in results] == [True, False, True]
    assert [file.name[-3:] for file in files] == ["[0]", "[1]", "[2]"]


def test_a_file_beyond_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.card"
    with path.open("wb") as file:
        file.truncate(MAX_CARD * 4)  # a hole, no disk
    (card,) = read_cards(str(path))
    assert len(card.data) == MAX_CARD + 1
    assert obstacles(judge(card.data)) >= {"card.parse"}


# Missing cards.


def test_a_card_in_the_middle_that_is_missing() -> None:
    """What it built on is given but not reached: the verifier is told that it is a stray."""
    oldest = training()
    middle = training(id_of(oldest))
    top = training(id_of(middle))
    assert judge(top, other_cards=[middle, oldest]).accepted
    result = judge(top, other_cards=[oldest])
    assert verdict_of(result, "lineage.model-0") == "not-checked"
    assert obstacles(result) == {"lineage.given"}


def test_a_card_at_the_end_that_is_missing_is_a_caveat_of_all_above() -> None:
    middle = training(id_of(training()))
    top = training(id_of(middle))
    result = judge(top, other_cards=[middle])
    assert result.accepted
    assert {each.card for each in result.caveats if each.code == "lineage.not-checked"} == {
        f"sha-256:{id_of(middle).hex()}"
    }


def test_claims_that_name_a_card_for_each_of_very_many_inputs() -> None:
    """A thousand at most, and each of them once in the result."""
    inputs = {f"model-{number}": MODEL for number in range(1000)}
    cards = {name: number.to_bytes(32, "big") for number, name in enumerate(inputs)}
    many = world(
        inputs=MappingProxyType(inputs), cards=MappingProxyType(cards), properties=(), outputs={}
    )
    result = judge(many)
    assert sum(check.id.startswith("lineage.") for check in result.checks) == 1000
    plain = cbor.decode(encode_claims(many.claims))
    assert isinstance(plain, dict)
    assert isinstance(plain["cards"], dict)
    plain["cards"]["model-x"] = bytes(32)
    fields = cbor.decode(forge.card_bytes(many))
    assert isinstance(fields, dict)
    forged = cbor.encode({**fields, "claims": cbor.encode(plain)})
    assert obstacles(judge(forged)) >= {"card.parse"}
