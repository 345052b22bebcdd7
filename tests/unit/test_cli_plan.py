"""`laminator plan`, and the options of a run that follows one."""

import argparse
import json
from pathlib import Path

import pytest

from laminator.cli.main import main
from laminator.cli.plan_options import add_plan_options, plan_fields
from laminator.digest import sha256
from laminator.errors import UsageError
from laminator.measure.files import measure_path
from laminator.plan import parse_plan

A = f"sha-256:{'a' * 64}"
PLAN = f'version = 1\nruns = 2\nseed = 3\nmetric = ["accuracy"]\n[data]\ntest = "{A}"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "test.csv").write_text("x,label\n1,yes\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_bytes(b"png")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_checking_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "check", "plan.toml"]) == 0
    said = capsys.readouterr().out
    assert "At most 2 wrapped run(s) follow this plan." in said
    assert f"The data set test is {A}." in said
    assert str(sha256(PLAN.encode())) in said
    assert main(["plan", "check", "plan.toml", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["plan"] == str(sha256(PLAN.encode()))
    assert all(sentence in said for sentence in facts["says"])


@pytest.mark.usefixtures("folder")
def test_checking_what_is_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text(PLAN.replace("runs", "run"))
    assert main(["plan", "check", "bad.toml", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["refused"]["code"] == "field.missing"
    assert "runs" in printed.err
    assert main(["plan", "check", "nowhere.toml"]) == 2


@pytest.mark.usefixtures("folder")
def test_a_new_plan_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--metric=accuracy", "--data=test=test.csv", "--data=v1.2/x=images", "--runs=4"]
    more = ["--parameter=labels=column:a = b", "--parameter=sample=20", "--parameter=held=['id']"]
    machine = ["--key", A, "--first-run=9", "--model=images", "--entry=test.csv"]
    more += ["--seed=17"]
    assert main(["plan", "new", *words, *more, *machine]) == 0
    text = capsys.readouterr().out
    plan = parse_plan(text.encode())
    images = measure_path("images").digest
    assert plan.data == {"test": measure_path("test.csv").digest, "v1.2/x": images}
    assert plan.parameters == {"labels": "column:a = b", "sample": 20, "held": ("id",)}
    assert (plan.runs, plan.seed, plan.model, plan.last_run) == (4, 17, images, 12)
    assert plan.entry == plan.data["test"]
    assert main(["plan", "new", *words, *more, *machine, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["toml"], facts["plan"]) == (text, str(sha256(text.encode())))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--runs=0",), "plan.runs"),
        (("--seed=Nonce",), "plan.seed"),
        (("--first-run=3",), "plan.machine.key"),
        (("--key", A), "plan.machine.first-run"),
        (("--parameter=n=5",), "plan.parameters.n"),
        (("--data=test=images",), "given twice"),
    ],
)
def test_words_that_make_no_plan(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["plan", "new", "--metric=accuracy", "--data=test=test.csv"]
    assert main([*plain, *words]) == 2
    assert said in capsys.readouterr().err


# --- a run's options


def _fields(*words: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_plan_options(parser)
    parser.add_argument("--simulated")
    return plan_fields(parser.parse_args(words))


def test_a_plan_without_a_time_stamp(folder: Path) -> None:
    assert _fields("--plan=plan.toml") == {"plan": str(folder / "plan.toml"), "seed": None}
    assert _fields() == {"seed": None}


@pytest.mark.parametrize(("word", "seed"), [("nonce", "nonce"), ("0", 0), ("007", 7)])
def test_a_seed(word: str, seed: object) -> None:
    assert _fields("--seed", word) == {"seed": seed}


@pytest.mark.parametrize("word", ["-1", "none", "1.5", "٣", "9007199254740992", "1" * 5000, ""])
def test_words_that_are_no_seed(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        _fields(f"--seed={word}")
    assert caught.value.code == "option.seed"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", ["--plan-token=plan.tsr", "--plan-trust=trust"])
def test_an_option_of_a_plan_that_is_not_named(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        _fields(option)
    assert caught.value.code == "option.plan"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("content", [None, b"", b"\x30\x00", b"x" * 100_000])
def test_a_time_stamp_that_cannot_be_read(content: bytes | None) -> None:
    if content is not None:
        Path("own.tsr").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        _fields("--plan=plan.toml", "--plan-token=own.tsr")
    assert caught.value.code == ("file.read" if content is None else "plan.token")
