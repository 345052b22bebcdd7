"""The commands of docs/enrolment.md are real, and its codes are those of the code."""

import re
import shlex
from pathlib import Path

import pytest

from laminator.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/enrolment.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (laminator .*)$", PAGE, flags=re.MULTILINE)
CODES = sorted(set(re.findall(r"`((?:ak|ek|counter|response|grant)\.[a-z-]+)`", PAGE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command: str) -> None:
    _, verb, *words = shlex.split(command)
    build_parser(verb).parse_args(words)


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_one(code: str) -> None:
    sources = (ROOT / "laminator/enroll").glob("*.py")
    assert any(f'"{code}"' in path.read_text(encoding="utf-8") for path in sources)


def test_every_code_of_the_rules_is_told() -> None:
    text = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "laminator/enroll").glob("*.py")
    )
    raised = re.findall(r'EnrolmentRefusedError\(\s*"([a-z.-]+)"', text)
    assert set(raised) <= set(CODES)
