"""`laminator verify` with reference values and approved files: what it reads and refuses."""

import json
from collections.abc import Sequence
from pathlib import Path

import forge
import pytest
import verifier_desk

from enclave_sim.adversary.forged_code import ENTRY, RECORDS, TORCH, ran, references
from laminator.cli.main import main
from laminator.digest import sha256
from laminator.reference import encode_reference

KNOWN = ("--reference", "known.ref", "--allow-code", str(ENTRY.digest))


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """Return the options for a folder with x.card, changed.card and known.ref."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    changed = TORCH._replace(digest=bytes(32))
    (tmp_path / "x.card").write_bytes(forge.card_bytes(ran(*RECORDS)))
    (tmp_path / "changed.card").write_bytes(forge.card_bytes(ran(*RECORDS, changed)))
    (tmp_path / "known.ref").write_bytes(encode_reference(references()))
    return verifier_desk.lay_out(tmp_path)


def test_known_code_is_accepted(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "x.card", *options, *KNOWN]) == 0
    printed = capsys.readouterr()
    assert "torch 2.13.0 (wheel): 2 of 2 files" in printed.out
    assert printed.err == ""


def test_unknown_code_is_refused_and_says_what_to_do(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "x.card", *options]) == 1
    printed = capsys.readouterr()
    assert "REJECTED under policy" in printed.out
    assert "policy.unknown-code" in printed.out
    assert "laminator reference from-wheels" in printed.err
    assert "--allow-code FILE" in printed.err


def test_changed_code_is_refused_and_named(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "changed.card", *options, *KNOWN, "--json"]) == 1
    printed = capsys.readouterr()
    (result,) = json.loads(printed.out)["results"]
    assert result["failures"] == ["policy.code.modified"]
    (modified,) = (each for each in result["code"]["files"] if each["status"] == "modified")
    assert modified["expected"] == f"sha-256:{TORCH.digest.hex()}"
    assert "versions that ran" in printed.err


def test_a_file_is_approved_by_its_bytes(options: list[str], tmp_path: Path) -> None:
    known = ["--reference", "known.ref"]
    (tmp_path / "mine.py").write_bytes(b"code")
    assert sha256(b"code") == ENTRY.digest
    assert main(["verify", "x.card", *options, *known, "--allow-code", "mine.py"]) == 0
    (tmp_path / "mine.py").write_bytes(b"other code")
    assert main(["verify", "x.card", *options, *known, "--allow-code", "mine.py"]) == 1


def test_several_references_add_up(options: list[str], tmp_path: Path) -> None:
    words = []
    for package in references().packages:
        part = references()._replace(packages=(package,))
        (tmp_path / f"{package.name}.ref").write_bytes(encode_reference(part))
        words += ["--reference", f"{package.name}.ref"]
    allowed = ["--allow-code", str(ENTRY.digest)]
    assert main(["verify", "x.card", *options, *words, *allowed]) == 0
    assert main(["verify", "x.card", *options, *words[2:], *allowed]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reference", "missing.ref"], "cannot read 'missing.ref'"),
        (["--reference", "x.card"], "make it with `laminator reference`"),
        (["--allow-code", "missing.py"], "cannot read 'missing.py'"),
        (["--allow-code", "."], "laminator reference from-directory"),
        (["--allow-code", "sha-256:abc"], "expected sha-256:<64 hex digits>"),
        (["--allow-code", f"sha-384:{'a' * 96}"], "measured by SHA-256"),
    ],
)
def test_wrong_usage(
    options: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "x.card", *options, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--reference", "known.ref"], ["--allow-code", "x"]])
def test_a_ledger_is_not_judged_by_code(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--ledger", "x.ledger", *options, *words]) == 2
    assert words[0] in capsys.readouterr().err
