"""The quickstart and the examples, as a new user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cddl import fitting_card

ROOT = Path(__file__).parents[2]
ADULT = ROOT.parent / "shared/data/adult.data"


def _run(command: list[str], folder: Path, **variables: str) -> str:
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state")} | variables
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    variables = {"LAMINATOR_QUICKSTART": str(tmp_path), "LAMINATOR_ADULT": ""}
    printed = _run(["scripts/quickstart"], tmp_path, **variables)
    verdicts = [line for line in printed.splitlines() if " under policy " in line]
    words = [line.split(": ")[1].split()[0] for line in verdicts]
    assert words == ["ACCEPTED", "ACCEPTED", "REJECTED"]
    assert "tpm.binding" in verdicts[-1]


@pytest.fixture
def machine(tmp_path: Path) -> str:
    _run([sys.executable, "-m", "enclave_sim", "create", str(tmp_path / "machine")], tmp_path)
    return f"--simulated={tmp_path / 'machine'}"


def _laminator(folder: Path, verb: str, *words: str) -> None:
    _run([str(Path(sys.executable).with_name("laminator")), verb, *words], folder)


def _train(machine: str, folder: Path, script: str, model: str) -> None:
    train, output = str(folder / "train.csv"), str(folder / model)
    card = ("--card", str(folder / "training.card"))
    files = ("--input", f"train={train}", "--output", f"model={output}")
    command = (sys.executable, f"examples/{script}", train, output)
    _laminator(folder, "run", machine, *files, *card, "--", *command)


def test_diabetes_example(machine: str, tmp_path: Path) -> None:
    _run([sys.executable, "examples/datasets.py", "diabetes", str(tmp_path)], tmp_path)
    _train(machine, tmp_path, "train_diabetes.py", "model.pt2")
    card = tmp_path / "evaluation.card"
    words = ("--data", f"test={tmp_path / 'test.csv'}", "--labels", "high", "--sensitive", "sex")
    _laminator(
        tmp_path, "evaluate", str(tmp_path / "model.pt2"), machine, *words, "--card", str(card)
    )
    (accuracy,) = fitting_card(card.read_bytes()).claims.properties
    assert accuracy.source == "measured"
    assert isinstance(accuracy.value, float)
    assert accuracy.value > 0.65


@pytest.mark.skipif(not ADULT.is_file(), reason="no ../shared/data/adult.data beside this checkout")
def test_census_example(machine: str, tmp_path: Path) -> None:
    datasets = [sys.executable, "examples/datasets.py", "census", str(tmp_path)]
    _run([*datasets, "--adult", str(ADULT)], tmp_path)
    _train(machine, tmp_path, "train_census.py", "model.safetensors")
    card = tmp_path / "evaluation.card"
    code = ("--model-code", "examples/census_model.py", "--labels", "income")
    words = ("--data", f"test={tmp_path / 'test.csv'}", "--sensitive", "race", "--sensitive", "sex")
    model = str(tmp_path / "model.safetensors")
    _laminator(tmp_path, "evaluate", model, machine, *code, *words, "--card", str(card))
    (accuracy,) = fitting_card(card.read_bytes()).claims.properties
    assert isinstance(accuracy.value, float)
    assert 0.75 < accuracy.value < 0.85
