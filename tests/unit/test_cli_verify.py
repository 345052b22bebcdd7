"""The verifier's commands: what they print, where, and how they exit."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import forge
import jsonschema
import planning
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from verifying import LAUNCH_DIGEST, world

from laminator.appraise.check import failed
from laminator.appraise.policy import BUILT_IN
from laminator.appraise.result import VerificationResult
from laminator.appraise.verify import verify
from laminator.card import parse_card
from laminator.claims import Artifact, Property
from laminator.cli.card_files import CardFile, read_cards
from laminator.cli.main import main
from laminator.cli.nonce_option import parse_nonce
from laminator.cli.verify import advice, parse_time
from laminator.digest import sha256
from laminator.errors import UsageError

SCHEMA = Path(__file__).parents[2] / "docs/verification-result.schema.json"
POLICY = f"""\
version = 1
roots = ["simulated"]
coverage = "launch"
data-chosen-by = "provider"
[reference]
launch = ["{LAUNCH_DIGEST}"]
"""
AT = ("--at", forge.NOW.isoformat())

Command = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with x.card, policy.toml, trust/ and no store of the user."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    _write_trust(tmp_path / "trust")
    (tmp_path / "x.card").write_bytes(forge.card_bytes(world()))
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    return tmp_path


def _write_trust(folder: Path, *, crls: bool = True) -> None:
    (folder / "crls").mkdir(parents=True)
    trust = forge.machine().trust
    (anchor,) = trust.anchors
    (folder / "root.pem").write_bytes(anchor.certificate.public_bytes(Encoding.PEM))
    for number, crl in enumerate(trust.crls if crls else ()):
        (folder / "crls" / f"{number}.crl").write_bytes(crl.public_bytes(Encoding.DER))


def _verify(*words: str) -> int:
    return main(["verify", *words, "--trust", "trust", "--policy", "policy.toml", *AT])


@pytest.mark.usefixtures("folder")
def test_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify("x.card") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("x.card: ACCEPTED under policy policy.toml\n")
    assert printed.err == ""


@pytest.mark.usefixtures("folder")
def test_rejected_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "x.card", "--trust", "trust", *AT]) == 1
    printed = capsys.readouterr()
    assert "REJECTED under policy built-in: policy.root" in printed.out
    assert "laminator reference launch" in printed.err


def test_advice_for_failures_without_a_hint() -> None:
    result = verify(b"", trust=forge.machine().trust, now=forge.NOW)
    assert "ask its provider" in advice([result])
    chain = result._replace(checks=(failed("ak.chain", ""),))
    assert "--trust" in advice([chain, result])


def test_changed_card(folder: Path) -> None:
    data = bytearray((folder / "x.card").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "y.card").write_bytes(data)
    assert _verify("y.card") == 1


def test_file_that_is_no_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "y.card").write_bytes(b"\x1b[2Jnothing")
    assert _verify("y.card") == 1
    printed = capsys.readouterr()
    assert "card.parse" in printed.out
    assert "\x1b" not in printed.out + printed.err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "words",
    [
        ["missing.card"],
        ["x.card", "--policy", "missing.toml"],
        ["x.card", "--trust", "missing"],
        ["x.card", "--collateral", "missing"],
        ["x.card", "--lineage", "missing.card"],
        ["x.card", "--artifact", "model=missing"],
        ["x.card", "--artifact", "model"],
        ["x.card", "--artifact", "=x.card"],
        ["x.card", "--artifact", "model=x.card", "--artifact", "model=policy.toml"],
        ["x.card", "--at", "0001-01-01T00:00:00+23:59"],
        ["x.card", "--nonce", "xyz"],
        ["x.card", "--nonce", "00"],
        ["x.card", "--at", "yesterday"],
        ["x.card", "--at", "2026-W40-4T00:00:00Z"],
        ["x.card", "--at", "20261001T000000Z"],
        ["x.card", "--at", "2026-10-01T00:00:00+00:00:30"],
        ["x.card", "--at", "2026-10-01T00:00Z"],
        ["x.card", "--at", "2026-01-01T00:00:00"],
    ],
)
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--trust", "trust", "--policy", "policy.toml", *AT]
    assert main(["verify", *options, *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("laminator verify: ")


@pytest.mark.parametrize(
    "words", [["--ledger"], ["x.card", "--unknown"], ["x.card", "--nonc", "00"]]
)
def test_argument_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["verify", *words])
    assert caught.value.code == 2
    assert "usage: laminator verify" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_no_store_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "x.card"]) == 2
    assert "laminator trust add" in capsys.readouterr().err


def test_store_of_the_user_is_the_default(folder: Path) -> None:
    _write_trust(folder / "data/laminator/trust")
    assert main(["verify", "x.card", "--policy", "policy.toml", *AT]) == 0


def test_trust_in_one_file_with_collateral(folder: Path) -> None:
    _write_trust(folder / "bare", crls=False)
    words = ["verify", "x.card", "--policy", "policy.toml", *AT, "--trust", "bare/root.pem"]
    assert main(words) == 1
    assert main([*words, "--collateral", "trust/crls"]) == 0
    one_by_one = ["--collateral", "trust/crls/0.crl", "--collateral", "trust/crls/1.crl"]
    assert main([*words, *one_by_one]) == 0


def test_artifact(folder: Path) -> None:
    (folder / "model").write_bytes(b"model")
    (folder / "other").write_bytes(b"other")
    assert _verify("x.card", "--artifact", "model=model") == 0
    assert _verify("x.card", "--artifact", "model=other") == 1


@pytest.mark.usefixtures("folder")
def test_nonce() -> None:
    assert _verify("x.card", "--nonce", (b"n" * 32).hex()) == 0
    assert _verify("x.card", "--nonce", (b"m" * 32).hex()) == 1


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "y.card").write_bytes(b"nothing")
    assert _verify("x.card", "y.card", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json.loads(SCHEMA.read_text("utf-8")))
    assert [result["verdict"] for result in document["results"]] == ["accepted", "rejected"]
    assert [result["file"] for result in document["results"]] == ["x.card", "y.card"]
    assert document["results"][0]["caveats"]


def _lineage(folder: Path) -> tuple[bytes, bytes]:
    outputs = MappingProxyType({"weights": Artifact("model", sha256(b"model"), 5, 1)})
    reported = (Property("loss", 0.1, "reported", "train.py"),)
    training = forge.card_bytes(world(kind="training", outputs=outputs, properties=reported))
    cards = MappingProxyType({"model": parse_card(training).id})
    evaluation = forge.card_bytes(world(cards=cards))
    (folder / "training.card").write_bytes(training)
    (folder / "evaluation.card").write_bytes(evaluation)
    (folder / "policy.toml").write_text(
        POLICY.replace("[ref", 'require = ["lineage.model"]\n[ref'), encoding="utf-8"
    )
    return training, evaluation


def test_lineage(folder: Path) -> None:
    _lineage(folder)
    assert _verify("evaluation.card") == 1
    assert _verify("evaluation.card", "--lineage", "training.card") == 0


def test_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training, evaluation = _lineage(folder)
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    (folder / "all.cards").write_bytes(training + evaluation)
    assert _verify("all.cards") == 0
    printed = capsys.readouterr().out
    assert "all.cards[0]: ACCEPTED" in printed
    assert "\nin short\n" in printed
    assert "lineage.model" in printed


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x58"])
def test_bundle_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "all.cards").write_bytes(content)
    assert _verify("all.cards") == 1


def test_two_cards_in_a_card_file_are_no_card(folder: Path) -> None:
    card = (folder / "x.card").read_bytes()
    (folder / "y.card").write_bytes(card + card)
    assert _verify("y.card") == 1


def test_the_time_of_judging_is_rfc_3339_in_json() -> None:
    odd = dt.timezone(dt.timedelta(hours=1, seconds=30))
    result = verify(b"", trust=forge.machine().trust, now=forge.NOW.astimezone(odd))
    assert result.to_json()["judged-at"] == "2026-10-01T00:00:00+00:00"


def test_a_bundle_of_a_million_items_is_one_unreadable_card(folder: Path) -> None:
    data = b"\xf6" * 1_000_000
    (folder / "many.cards").write_bytes(data)
    assert read_cards("many.cards") == [CardFile("many.cards[0]", data)]
    assert _verify("many.cards") == 1


def test_parse_time() -> None:
    expected = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert parse_time("2026-01-31T12:00:00Z") == expected
    assert parse_time("2026-01-31T13:00:00+01:00") == expected
    assert parse_time(None).tzinfo is dt.UTC


def test_parse_nonce() -> None:
    assert parse_nonce(None) is None
    assert parse_nonce("00" * 8) == bytes(8)
    with pytest.raises(UsageError):
        parse_nonce("00" * 65)


def test_built_in_policy_is_the_default() -> None:
    assert BUILT_IN.name == "built-in"


def test_documented_call_runs(folder: Path) -> None:
    (folder / "trust").rename(folder / "anchors")
    (folder / "x.card").rename(folder / "evaluation.card")
    (folder / "model.safetensors").write_bytes(b"model")
    lines = (SCHEMA.parent / "verdicts.md").read_text("utf-8").splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    names: dict[str, object] = {}
    exec(compile(code, "verdicts.md", "exec"), names)  # noqa: S102 - it is what the page shows
    result = names["result"]
    assert isinstance(result, VerificationResult)
    assert {check.id for check in result.checks} >= {"artifact.model", "tpm.binding"}


def test_a_plan_of_the_verifiers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planning.PLAN
    (folder / "plan.toml").write_bytes(plan)
    kept = planning.planned()._replace(endorsements=())
    (folder / "kept.card").write_bytes(forge.card_bytes(kept))
    assert _verify("kept.card", "--plan", "plan.toml") == 0
    assert "plan.metric" in capsys.readouterr().out
    (folder / "plan.toml").write_bytes(plan + b"#")
    assert _verify("kept.card", "--plan", "plan.toml") == 1
    assert "plan.digest" in capsys.readouterr().out
    (folder / "plan.toml").write_bytes(plan.replace(b"runs", b"run"))
    assert _verify("kept.card", "--plan", "plan.toml") == 2
    assert "no field 'runs'" in capsys.readouterr().err
    assert _verify("kept.card", "--plan", "nowhere.toml") == 2
