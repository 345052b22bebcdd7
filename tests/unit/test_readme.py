"""What the documents tell people to type exists, and the printed help is the real one."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from laminator.appraise.policy import parse_policy
from laminator.cli.main import VERBS, build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def _blocks(text: str) -> list[str]:
    """Return the indented blocks of a Markdown text, without the indent."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, flags=re.MULTILINE)
    return ["\n".join(line[4:] for line in block.splitlines()).strip() for block in found]


def _commands(text: str) -> list[list[str]]:
    """Return the `laminator VERB …` commands of a text's indented blocks, as words."""
    joined = [block.replace("\\\n", " ") for block in _blocks(text)]
    lines = [line.strip() for block in joined for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("laminator ")]


def _parse(words: list[str]) -> None:
    """Parse a `laminator VERB …` command as the command line does."""
    prepare = getattr(importlib.import_module(VERBS[words[1]].module), "prepare", list)
    build_parser(words[1]).parse_args(prepare(words[2:]))


README_COMMANDS = _commands(README)


def test_readme_shows_the_first_commands() -> None:
    assert {"run", "evaluate", "verify", "show", "policy"} <= {
        words[1] for words in README_COMMANDS
    }
    assert README.index("scripts/quickstart") < README.index("scripts/test") < 1000


@pytest.mark.parametrize("words", README_COMMANDS, ids=" ".join)
def test_readme_command_parses(words: list[str]) -> None:
    _parse(words)


def _first_lines() -> list[list[str]]:
    return [
        shlex.split(command.replace("\\\n", " "))
        for path in EXAMPLES
        for command in re.findall(
            r"^    (laminator (?:.*\\\n)*.*)", path.read_text("utf-8"), flags=re.MULTILINE
        )
    ]


@pytest.mark.parametrize("words", _first_lines(), ids=" ".join)
def test_example_command_parses(words: list[str]) -> None:
    _parse(words)


def test_readme_policy_is_a_policy() -> None:
    (text,) = (block for block in _blocks(README) if block.startswith("version = 1"))
    policy = parse_policy(text.replace("sha-256:…", f"sha-256:{'0' * 64}").encode(), name="README")
    assert policy.properties
    assert tomllib.loads(text)["coverage"] == "launch"


def test_readme_python_compiles() -> None:
    snippets = [block for block in _blocks(README) if block.startswith("from ")]
    assert snippets
    for snippet in snippets:
        compile(snippet, "README.md", "exec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    scripts = set(re.findall(r"scripts/[a-z][a-z-]*", text))
    assert missing + [name for name in scripts if not (ROOT / name).exists()] == []


def test_readme_anchor_exists() -> None:
    headings = {
        re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_documented_help_is_the_real_help(verb: str) -> None:
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    shown = page.split(f"## laminator {verb}\n\n```\n")[1].split("```\n")[0]
    assert shown == build_parser(verb).format_help()
