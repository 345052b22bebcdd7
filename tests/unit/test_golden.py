"""Golden cards: every card of a released format verifies for ever, at its stated time."""

import shlex
from pathlib import Path

import pytest
from cddl import fitting_card

from laminator.card import encode_card
from laminator.cli.main import main

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT / "tests/vectors/cards").glob("v*"))


def _cards() -> list[Path]:
    return [card for folder in FOLDERS for card in sorted(folder.glob("*.card"))]


def test_there_are_golden_cards() -> None:
    assert [folder.name for folder in FOLDERS] == ["v1"]
    assert len(_cards()) >= 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_golden_cards_verify(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = shlex.split((folder / "verify.txt").read_text(encoding="utf-8"))
    assert "--at" in arguments
    assert main(["verify", *arguments]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("card", _cards(), ids=lambda card: card.name)
def test_golden_card_has_one_encoding(card: Path) -> None:
    data = card.read_bytes()
    assert encode_card(fitting_card(data)) == data
