"""`laminator show`, `policy`, `trust` and the dispatcher."""

import json
import sys
from pathlib import Path

import forge
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from verifying import world

from enclave_sim.adversary import forged_pki as pki
from laminator.cli import main as cli
from laminator.cli.main import VERBS, Verb, main
from laminator.errors import UsageError
from laminator.report.card_text import NOT_VERIFIED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with x.card and an anchor, root.pem; the user's store is in data/."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.card").write_bytes(forge.card_bytes(world()))
    root = forge.machine().root.certificate
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_show_says_first_that_nothing_was_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "x.card"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == NOT_VERIFIED


@pytest.mark.usefixtures("folder")
def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "x.card", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document)[:2] == ["verified", "note"]
    assert document["verified"] is False
    (card,) = document["cards"]
    assert card["claims"]["kind"] == "evaluation"
    assert card["evidence"][0]["media-type"] == "application/vnd.laminator.tpm+cbor"
    assert card["claims"]["inputs"]["model"]["digest"].startswith("sha-256:")


def test_show_what_is_no_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "y.card").write_bytes(b"\x1b]0;owned\x07")
    assert main(["show", "y.card"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "not a card" in printed.err
    assert "\x1b" not in printed.err
    assert main(["show", "missing.card"]) == 2


def test_show_a_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (folder / "x.card").read_bytes()
    (folder / "all.cards").write_bytes(card * 2)
    assert main(["show", "all.cards"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(NOT_VERIFIED)
    assert "all.cards[1]" in printed


def test_policy_explain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.toml").write_text('version = 1\nroots = ["simulated"]', encoding="utf-8")
    assert main(["policy", "explain", "policy.toml"]) == 0
    assert "The hardware root is one of: simulated." in capsys.readouterr().out
    assert main(["policy", "explain"]) == 0
    assert "tpm, cloud-vtpm" in capsys.readouterr().out


def test_policy_that_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.toml").write_text("version = 1\nrots = []", encoding="utf-8")
    assert main(["policy", "explain", "policy.toml"]) == 2
    assert "rots" in capsys.readouterr().err


def test_trust_add_and_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "list"]) == 0
    assert "no store" in capsys.readouterr().err
    assert main(["trust", "add", "--kind", "tpm", "root.pem"]) == 0
    fingerprint = str(forge.machine().trust.anchors[0].fingerprint)
    assert f"pinned tpm {fingerprint}" in capsys.readouterr().out
    assert list((folder / "data/laminator/trust/tpm").iterdir())
    crls = folder / "data/laminator/trust/crls"
    crls.mkdir()
    crl = forge.machine().trust.crls[0]
    (crls / "root.crl").write_bytes(crl.public_bytes(Encoding.DER))
    assert main(["trust", "list"]) == 0
    printed = capsys.readouterr().out
    assert ["tpm", fingerprint] in [line.split()[:2] for line in printed.splitlines()]
    assert f"issued {crl.last_update_utc.date()}" in printed


def test_trust_add_is_simulated_unless_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "--trust", "own", "add", "root.pem"]) == 0
    assert list((folder / "own/simulated").iterdir())
    assert main(["trust", "--trust", "own", "add", "--kind", "tpm", "root.pem"]) == 2
    assert "keep one" in capsys.readouterr().err


def test_trust_add_refuses_what_is_no_authority(folder: Path) -> None:
    leaf = folder / "leaf.der"
    leaf.write_bytes(forge.machine().certificates[0])
    assert main(["trust", "add", "leaf.der"]) == 2
    assert main(["trust", "add", "x.card"]) == 2


def test_hostile_subject_is_escaped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = pki.root("root\x1b[2J")
    (folder / "h.der").write_bytes(hostile.der)
    assert main(["trust", "add", "h.der"]) == 0
    assert main(["trust", "list"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {verb} " in printed for verb in VERBS)
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ver\x1bify"]) == 2
    assert "unknown command ver\\x1bify" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("laminator ")


class _FailingVerb:
    """Stands for a verb's module whose own status for failures is 125."""

    HELP = "fails"
    FAILURE_STATUS = 125

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def configure(self, parser: object) -> None:
        """Add nothing."""

    def run(self, _: object) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x.y", "wrong\x1b"), 125),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_of_a_verb(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "failing_verb", _FailingVerb(error))
    monkeypatch.setitem(VERBS, "fail", Verb("failing_verb", "fails"))
    assert main(["fail"]) == status
    assert "\x1b" not in capsys.readouterr().err


def test_verb_decides_the_status_of_its_usage_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "failing_verb", _FailingVerb(KeyboardInterrupt()))
    monkeypatch.setitem(VERBS, "fail", Verb("failing_verb", "fails"))
    with pytest.raises(SystemExit) as caught:
        main(["fail", "--unknown"])
    assert caught.value.code == 125


def test_broken_pipe_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    silenced: list[bool] = []
    monkeypatch.setattr(cli, "_silence_stdout", lambda: silenced.append(True))
    monkeypatch.setitem(sys.modules, "failing_verb", _FailingVerb(BrokenPipeError()))
    monkeypatch.setitem(VERBS, "fail", Verb("failing_verb", "fails"))
    assert main(["fail"]) == 141
    assert silenced == [True]
