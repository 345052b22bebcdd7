"""What others build upon, held to docs/public-names.txt: a change there is a decision."""

import difflib
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import laminator
from laminator import data, workload
from laminator.appraise.claim_rules import REQUIRED
from laminator.appraise.tpm_evidence import REQUIRED as REQUIRED_OF_TPM

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/public-names.txt"


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/make-public-names"))


def _section(title: str) -> list[str]:
    text = PAGE.read_text("utf-8")
    return text.partition(f"[{title}]\n")[2].partition("\n\n")[0].splitlines()


def test_public_names_are_the_pages(tool: dict[str, Any]) -> None:
    held, found = PAGE.read_text("utf-8").splitlines(), tool["page"]().splitlines()
    changes = [line for line in difflib.ndiff(held, found) if line[0] in "+-?"]
    assert changes == [], "\n".join(["scripts/make-public-names writes the page anew:", *changes])


def test_the_page_holds_every_name_that_a_module_offers() -> None:
    for module, title in (
        (laminator, "laminator"),
        (data, "laminator.data"),
        (workload, "laminator.workload"),
    ):
        names = {re.split(r"[:(.]", line)[0] for line in _section(f"python: {title}")}
        assert names == set(module.__all__)


def test_the_page_holds_the_checks_that_no_policy_can_waive() -> None:
    assert set(_section("checks")) >= {*REQUIRED, *REQUIRED_OF_TPM}


def test_no_check_and_no_caveat_stands_there_twice() -> None:
    for title in ("checks", "caveats", "commands"):
        lines = _section(title)
        assert lines
        assert len(set(lines)) == len(lines)
