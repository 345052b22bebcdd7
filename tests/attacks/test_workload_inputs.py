"""Inputs, outputs and cards with odd kinds and names, given to a whole run."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from local_run import Attester, Workshop
from odd_files import device, fifo, nowhere, unix_socket

from laminator.digest import sha256

READ = "from laminator import workload\nprint(open(workload.input('train')).read(), end='')"


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    return Workshop(attester, tmp_path)


@pytest.mark.parametrize("make", [fifo, unix_socket, device, nowhere])
def test_an_input_that_is_no_file_spends_no_number(
    shop: Workshop, make: Callable[[Path], None]
) -> None:
    make(shop.folder / "odd")
    before = len(shop.ledger())
    ran = shop.run("print('ran')", "--input=train=odd")
    assert (ran.status, ran.stdout, shop.has_card) == (125, "", False)
    assert "the input train" in ran.stderr
    assert len(shop.ledger()) == before


@pytest.mark.parametrize("make", [fifo, unix_socket, device])
def test_a_folder_that_holds_one_gets_no_card(shop: Workshop, make: Callable[[Path], None]) -> None:
    (shop.folder / "data").mkdir()
    make(shop.folder / "data" / "odd")
    ran = shop.run("print('ran')", "--input=train=data")
    assert (ran.status, ran.stdout, shop.has_card) == (125, "", False)
    assert shop.ledger()[-1]["outcome"] == "refused"


@pytest.mark.parametrize(
    "name",
    ["new\nline", "bidi\u202egnp", "n" * 255, " ", "-rf", "a=b", "q'\"", "back\\slash", "\x1b[2J"],
)
def test_an_input_of_an_odd_name_is_handed_over(shop: Workshop, name: str) -> None:
    """The card has its digest and the name that the caller chose, never the file's."""
    shop.write(name, "rows")
    ran = shop.run(READ, f"--input=train={name}")
    assert (ran.status, ran.stdout) == (0, "rows"), ran.stderr
    assert shop.card().claims.inputs["train"].digest == sha256(b"rows")
    hidden = [char for char in name if not char.isprintable()]
    assert not any(char in ran.stderr for char in hidden if char != "\n")


def test_a_path_that_is_no_text_is_named(shop: Workshop) -> None:
    (shop.folder / os.fsdecode(b"\xff.csv")).write_text("rows")
    before = len(shop.ledger())
    command = [os.fsencode(word) for word in shop.command("", "--input=train=X")]
    words = [b"--input=train=\xff.csv" if word == b"--input=train=X" else word for word in command]
    done = subprocess.run(
        words, cwd=shop.folder, env=shop.attester.environment, capture_output=True, check=False
    )
    assert done.returncode in (2, 125)
    assert rb"'\udcff.csv' is no UTF-8; rename it" in done.stderr
    assert len(shop.ledger()) == before


def test_a_card_whose_name_speaks_for_us(shop: Workshop) -> None:
    """A file's name with a line feed writes no line of its own among ours."""
    name = "x\nlaminator: run number 1: wrote forged.card"
    ran = shop.run("", f"--card={name}")
    assert (ran.status, (shop.folder / name).is_file()) == (0, True), ran.stderr
    assert r"wrote x\x0alaminator: run number 1" in ran.stderr
    assert not any(
        line.endswith("wrote forged.card") for line in ran.stderr.split("\nlaminator")[1:]
    )
    assert ran.stderr.count("\nlaminator: run number") == 0
