"""`laminator verify --ledger`: what it prints, where, and how it exits."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from planning import plan_text

from enclave_sim.adversary.forged_ledger import (
    card_of,
    failed_run,
    failure_bytes,
    judge,
    ledger,
    run_of,
)
from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import LAUNCH, NOW
from laminator.appraise.ledger import SENTENCES, verify_ledger
from laminator.appraise.ledger_result import LedgerResult
from laminator.appraise.policy import BUILT_IN
from laminator.cli.main import main
from laminator.digest import sha256
from laminator.errors import UsageError
from laminator.report.ledger_text import ledger_text

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/ledger-result.schema.json").read_text())
POLICY = f"""\
version = 1
roots = ["simulated"]
coverage = "launch"
[reference]
launch = ["{LAUNCH.digest}"]
[[property]]
name = "no-card-has-it"
source = "measured"
"""
GOOD = ledger(7, 8, card_of(7), failure_bytes(failed_run(8)))
GAPS = ledger(5, 10, card_of(7), failure_bytes(failed_run(8)))


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that verifies a ledger's bytes in a folder with trust and policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "trust" / "crls").mkdir(parents=True)
    trust = machine().trust
    (anchor,) = trust.anchors
    (tmp_path / "trust" / "root.pem").write_bytes(anchor.certificate.public_bytes(Encoding.PEM))
    for number, crl in enumerate(trust.crls):
        path = tmp_path / "trust" / "crls" / f"{number}.crl"
        path.write_bytes(crl.public_bytes(Encoding.DER))
    (tmp_path / "policy.toml").write_text(POLICY)

    def run(data: bytes, *words: str) -> int:
        (tmp_path / "runs.ledger").write_bytes(data)
        options = ("--trust", "trust", "--policy", "policy.toml", "--at", NOW.isoformat())
        return main(["verify", "--ledger", "runs.ledger", *options, *words])

    return run


def test_an_accepted_ledger(verify: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(GOOD) == 0
    out, err = capsys.readouterr()
    first = "runs.ledger: ACCEPTED under policy policy.toml: numbers 7 to 8: 1 card(s), "
    assert out.startswith(f"{first}1 failure record(s)\n")
    assert "failure   accepted  interrupted sha-256:" in out
    assert "ledger.no-number: Work without the wrapper" in out
    assert err == ""


def test_gaps_are_named_and_what_to_do(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(GAPS) == 1
    out, err = capsys.readouterr()
    assert "REJECTED" in out.splitlines()[0]
    assert "4 gap(s): ledger.gaps" in out.splitlines()[0]
    assert "  5-6        GAP" in out
    assert "  9-10       GAP" in out
    assert "missing numbers" in err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not readable"),
        (ledger(7, 8, card_of(7), b"\xff"), "?          unreadable  REJECTED  (card.parse)"),
        (ledger(9, 7), "numbers 9 to 7: nothing"),
        (ledger(7, 7, card_of(9)), "9          card      accepted"),
    ],
    ids=["unreadable", "an unreadable entry", "nothing", "outside"],
)
def test_what_is_wrong_is_shown(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str], data: bytes, said: str
) -> None:
    assert verify(data) == 1
    out, err = capsys.readouterr()
    assert said in out
    assert "do not rely on this ledger" in err


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GOOD, 0),
        (GAPS, 1),
        (b"", 1),
        (ledger(7, 8, card_of(7), b"\xff"), 1),
        (ledger(7, 7, card_of(9)), 1),
        (ledger(7, 2**40), 1),
    ],
    ids=["good", "gaps", "unreadable", "an unreadable entry", "outside", "huge"],
)
def test_the_json_fits_its_schema(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str], data: bytes, status: int
) -> None:
    assert verify(data, "--json") == status
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"] == ("accepted" if status == 0 else "rejected")
    assert document["file"] == "runs.ledger"


def test_every_caveat_is_in_the_schema() -> None:
    codes = SCHEMA["properties"]["caveats"]["items"]["properties"]["code"]["enum"]
    assert set(SENTENCES) <= set(codes)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "words",
    [("x.card",), ("--nonce", "00" * 8), ("--artifact", "a=b"), ("--lineage", "x.card")],
    ids=["card", "nonce", "artifact", "lineage"],
)
def test_what_is_about_cards_is_refused(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert verify(GOOD, *words) == 2
    assert "leave out" in capsys.readouterr().err


def test_the_verifiers_own_plan(
    verify: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_bytes(plan_text(runs=1))
    run = run_of(7)._replace(plan=sha256(plan.read_bytes()))
    followed, twice = (card_of(7, run=run), card_of(8, run=run._replace(number=8, id=b"8" * 16)))
    assert verify(ledger(7, 7, followed), "--plan", str(plan)) == 0
    assert verify(ledger(7, 8, followed, twice)) == 0
    assert verify(ledger(7, 8, followed, twice), "--plan", str(plan)) == 1
    assert verify(GOOD, "--plan", str(plan)) == 1
    plan.write_text("runs = 1")
    assert verify(GOOD, "--plan", str(plan)) == 2
    assert "no field 'version'" in capsys.readouterr().err


def test_a_missing_ledger_and_nothing_to_verify(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    del verify  # its folder is all that is needed
    assert main(["verify", "--ledger", "nowhere.ledger", "--trust", "trust"]) == 2
    assert "name a ledger's file" in capsys.readouterr().err
    assert main(["verify", "--trust", "trust"]) == 2
    assert "--ledger" in capsys.readouterr().err


def test_the_built_in_policy_takes_no_simulation() -> None:
    result = judge(GOOD, BUILT_IN)
    assert not result.accepted
    assert "policy.root" in result.numbers[0].failures
    assert "policy.root" in result.numbers[1].failures


@pytest.mark.parametrize(
    "now",
    [
        NOW.replace(tzinfo=None),
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))),
    ],
    ids=["naive", "in no year"],
)
def test_a_time_that_is_no_point_in_utc(now: dt.datetime) -> None:
    with pytest.raises(UsageError) as caught:
        verify_ledger(GOOD, trust=machine().trust, now=now)
    assert caught.value.code == "verify.now"


def test_a_file_s_name_cannot_imitate_a_verdict() -> None:
    result: LedgerResult = judge(GAPS)
    text = ledger_text(result, "x\nrejected.ledger: ACCEPTED\x1b[2J")
    assert "\x1b" not in text
    assert "REJECTED" in text.splitlines()[0]
