"""`laminator reference`: files of reference values, and what changed between two."""

import json
import sys
from pathlib import Path

import forge
import packages
import pytest

from enclave_sim.adversary.forged_code import RECORDS, ran
from laminator.cli.main import main
from laminator.reference import parse_reference

REMARK = "trust on first use"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a wheel, its lock, a .deb, sources and a card."""
    monkeypatch.chdir(tmp_path)
    content = packages.wheel_bytes()
    (tmp_path / "wheels").mkdir()
    packages.write_wheel(tmp_path / "wheels", content)
    (tmp_path / "lock.txt").write_text(packages.requirement(content))
    (tmp_path / "x.deb").write_bytes(packages.deb_bytes([packages.member("./usr/x", b"x")]))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("print()\n")
    (tmp_path / "x.card").write_bytes(forge.card_bytes(ran(*RECORDS)))
    return tmp_path


def made(*words: str) -> dict[str, object]:
    assert main(["reference", *words, "--out", "x.ref"]) == 0
    values = parse_reference(Path("x.ref").read_bytes())
    return {package.name: package.kind for package in values.packages}


WHEELS = ("from-wheels", "--lock", "lock.txt", "--wheels", "wheels")


def test_each_source_writes_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert made(*WHEELS) == {"demo-pkg": "wheel"}
    assert made("from-deb", "x.deb") == {"libdemo1": "deb"}
    assert made("from-directory", "src") == {"src": "directory"}
    assert REMARK not in capsys.readouterr().out
    assert made("from-files", "/bin/sh", "--python", sys.executable) == {"files": "environment"}
    assert set(made("from-card", "x.card").values()) == {"card"}
    assert made("from-interpreter", "--python", sys.executable) == {"cpython": "interpreter"}
    assert capsys.readouterr().out.count(REMARK) == 3


def test_the_same_inputs_give_the_same_bytes() -> None:
    for name in ("a", "b"):
        assert main(["reference", *WHEELS, "--title", "mine", "--out", name]) == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()
    assert parse_reference(Path("a").read_bytes()).label == "mine"


def test_facts_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", *WHEELS, "--out", "a.ref", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (package,) = facts["packages"]
    assert (package["name"], package["files"]) == ("demo-pkg", len(packages.FILES))
    assert facts["next"] == "laminator verify --reference a.ref CARD"


def test_a_lie_is_refused_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    packages.write_wheel(Path("wheels"), packages.wheel_bytes(record=b""))
    assert main(["reference", *WHEELS, "--out", "a.ref", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["refused"]["code"] == "lock.hash"
    assert packages.FILENAME in printed.err
    assert not Path("a.ref").exists()


def test_locked_packages_without_a_wheel_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("lock.txt").open("a") as lock:
        lock.write("other==1 --hash=sha256:" + "0" * 64 + "\n")
    assert main(["reference", *WHEELS, "--out", "a.ref"]) == 0
    assert "the lock's other has no wheel here" in capsys.readouterr().out


def test_merged_files_hold_all_packages() -> None:
    for name, words in (("a", WHEELS), ("b", ("from-deb", "x.deb"))):
        assert main(["reference", *words, "--out", name]) == 0
    assert main(["reference", "merge", "a", "b", "a", "--out", "c"]) == 0
    kinds = [package.kind for package in parse_reference(Path("c").read_bytes()).packages]
    assert sorted(kinds) == ["deb", "wheel"]


def test_diff_says_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    made("from-directory", "src")
    Path("x.ref").rename("old.ref")
    assert main(["reference", "diff", "old.ref", "old.ref"]) == 0
    Path("src/train.py").write_text("print(1)\n")
    for number in range(30):
        Path(f"src/{number}.py").write_text("")
    made("from-directory", "src")
    capsys.readouterr()
    assert main(["reference", "diff", "old.ref", "x.ref"]) == 1
    out = capsys.readouterr().out
    assert "changed src\n" in out
    assert "  ~ script/train.py" in out
    assert "  + and 10 more" in out
    assert main(["reference", "diff", "old.ref", "x.ref", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["equal"] is False
    assert len(facts["packages"][0]["added"]) == 30


def test_diff_of_packages_and_of_cards(capsys: pytest.CaptureFixture[str]) -> None:
    made(*WHEELS)
    assert main(["reference", "diff", "x.card", "x.card"]) == 0
    capsys.readouterr()
    assert main(["reference", "diff", "x.card", "x.ref"]) == 1
    out = capsys.readouterr().out
    assert "added demo-pkg 1.2: 4 files" in out
    assert "removed torch: " in out


def test_what_is_no_reference_values_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    made(*WHEELS)
    assert main(["reference", "diff", "x.ref", "lock.txt"]) == 2
    assert "lock.txt" in capsys.readouterr().err


def test_launch_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "launch"]) == 0
    text = capsys.readouterr().out.strip()
    assert main(["reference", "launch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"launch": text}


@pytest.mark.parametrize("edited", [b"AAAA.bin", b"d\nta.bin", b"d\x01ta.bin"])
def test_an_edited_file_of_values_is_refused(edited: bytes) -> None:
    made(*WHEELS)
    data = Path("x.ref").read_bytes()
    Path("edited.ref").write_bytes(data.replace(b"data.bin", edited))
    assert main(["reference", "diff", "x.ref", "edited.ref"]) == 2
    assert main(["reference", "merge", "edited.ref", "--out", "y.ref"]) == 2
    assert not Path("y.ref").exists()
