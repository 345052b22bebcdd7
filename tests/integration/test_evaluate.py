"""`laminator evaluate` from end to end: the command, the attester, a real software TPM."""

import datetime as dt
import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import evaluating
import pytest
from local_run import PYTHON, Attester, Ran, Workshop
from model_process import CONSTANT, save_onnx, table
from sklearn.metrics import accuracy_score

from enclave_sim.machine import create
from laminator import load_policy, load_trust, verify
from laminator.claims import Property
from laminator.digest import sha256
from laminator.errors import MachineError, MalformedError, UsageError
from laminator.properties.interval import wilson
from laminator.run.evaluation import measure_model, parse_evaluation
from laminator.run.outcome import FAILURE_STATUS
from laminator.run.sandbox import NAMESPACES, NONE, UID

ROWS = 60
X = [(7 * i) % 30 for i in range(ROWS)]
LABELS = ["yes" if x % 3 else "no" for x in X]
GUESS = """
import numpy as np
CLASSES = ["no", "yes"]

def load(path):
    print("the model's own words")
    return int(open(path).read())

def predict(model, batch):
    return np.stack([batch["x"] < model, batch["x"] >= model], 1)
"""
START = [PYTHON, "-c", "import sys; from laminator.cli.main import main; sys.exit(main())"]


class Lab(Workshop):
    """A folder with a model, its code and labelled data."""

    def __init__(self, attester: Attester, folder: Path) -> None:
        super().__init__(attester, folder)
        self.write("model.bin", "11")
        self.write("code.py", GUESS)
        groups = [f"group <{x % 2}>" for x in X]
        self.write("test.csv", table({"x": X, "group": groups, "label": LABELS}))

    def words(self, *words: str, labels: str = "label", where: str = "") -> list[str]:
        """Return the command that evaluates with these further words."""
        attester = where or f"--attester=tpm:{self.attester.tcti}"
        plain = [attester, "--model-code=code.py", "--data=test=test.csv", "--card=out.card"]
        return [*START, "evaluate", "model.bin", *plain, "--labels", labels, *words]

    def evaluate(self, *words: str, labels: str = "label", where: str = "") -> Ran:
        """Evaluate with these further words."""
        command = self.words(*words, labels=labels, where=where)
        return self.attester.ran(command, self.folder, timeout=100)

    def measured(self) -> Property:
        """Return the card's measured property."""
        claims = self.card("out.card").claims
        (found,) = (item for item in claims.properties if item.source != "declared")
        return found

    @property
    def has_card(self) -> bool:
        return (self.folder / "out.card").exists()


@pytest.fixture
def lab(attester: Attester, tmp_path: Path) -> Lab:
    """A lab of the test's own."""
    return Lab(attester, tmp_path)


def test_an_evaluation_becomes_a_card(lab: Lab) -> None:
    ran = lab.evaluate("--hold-back=group", "--declare=license=MIT", "--nonce", "ab" * 16)
    assert ran.status == 0, ran.stderr
    assert ran.stdout == "the model's own words\n"
    claims = lab.card("out.card").claims
    assert claims.kind == "evaluation"
    assert {name: item.type for name, item in claims.inputs.items()} == {
        "model": "model",
        "test": "dataset",
    }
    assert claims.inputs["test"].digest == sha256((lab.folder / "test.csv").read_bytes())
    assert claims.workload.entry.digest == sha256(GUESS.encode())
    assert claims.workload.entry.label == "code.py"
    assert claims.isolation.confinement is not None
    limits = claims.isolation.confinement.limits
    assert set(limits) == {"core", "data", "fsize", "nofile", "nproc"}
    assert limits["core"] == 0
    assert claims.outputs == {}
    found = lab.measured()
    guesses = ["yes" if x >= 11 else "no" for x in X]
    correct = int(accuracy_score(LABELS, guesses, normalize=False))
    assert (found.name, found.source, found.on) == ("accuracy", "measured", ("model", "test"))
    assert found.value == accuracy_score(LABELS, guesses)
    assert found.interval == wilson(correct, ROWS)
    assert (found.parameters["n"], found.parameters["correct"]) == (ROWS, correct)
    assert found.parameters["held-back"] == ("group",)
    result = lab.verify("out.card", nonce=bytes.fromhex("ab" * 16))
    assert result.accepted, result.failures()


def test_sensitive_groups_and_a_file_of_labels(lab: Lab) -> None:
    lab.write("truth.txt", "\n".join(LABELS))
    lab.write("test.csv", lab.read("test.csv").replace("label", "hint").replace("yes", "no"))
    ran = lab.evaluate("--sensitive=group", labels="truth.txt")
    assert ran.status == 0, ran.stderr
    found = lab.measured()
    assert found.on == ("model", "test", "labels")
    assert lab.card("out.card").claims.inputs["labels"].type == "dataset"
    slices = found.parameters["slices"]
    assert isinstance(slices, tuple)
    assert [item["group"] for item in slices if isinstance(item, Mapping)] == [
        "group <0>",
        "group <1>",
    ]
    assert lab.verify("out.card").accepted


def test_folders_of_a_model_and_of_images(lab: Lab) -> None:
    for name, content in (("no/1.png", "a"), ("no/2.png", "b"), ("yes/1.png", "c")):
        lab.write(f"images/{name}", content)
    lab.write("model.bin.d/weights", "c")
    code = """
def load(path):
    import os
    return open(os.path.join(path, "weights"), "rb").read()

def predict(model, batch):
    return [float(image == model) for image in batch["image"]]
"""
    lab.write("code.py", code)
    (lab.folder / "model.bin").unlink()
    (lab.folder / "model.bin.d").rename(lab.folder / "model.bin")
    ran = lab.evaluate("--data=test=images", labels="class")
    assert ran.status == 0, ran.stderr
    inputs = lab.card("out.card").claims.inputs
    assert (inputs["test"].files, inputs["model"].files) == (3, 1)
    assert lab.measured().value == 1


def test_lineage_from_training_to_evaluation(lab: Lab) -> None:
    script = "from laminator import workload\nopen(workload.output('model'), 'w').write('11')"
    assert lab.run(script, "--output=model=model.bin").status == 0
    ran = lab.evaluate("--card-in=model=train.card")
    assert ran.status == 0, ran.stderr
    claims, training = lab.card("out.card").claims, lab.card()
    assert claims.cards == {"model": training.id}
    assert claims.inputs["model"].digest == training.claims.outputs["model"].digest
    lineage = [(lab.folder / "train.card").read_bytes()]
    assert lab.verify("out.card", other_cards=lineage).accepted


@pytest.mark.parametrize(
    ("change", "words", "said", "outcome"),
    [
        ({"code.py": "raise SystemExit(3)"}, (), "ended with exit status 3", "workload-failed"),
        (
            {"code.py": GUESS.replace("< model", "< 'x'")},
            (),
            "ended with exit status 1",
            "workload-failed",
        ),
        ({"code.py": CONSTANT.replace("1.0", "float('nan')")}, (), "must be finite", "failed"),
        ({"code.py": GUESS.replace('"no", ', "")}, (), "CLASSES must hold", "failed"),
        ({"test.csv": "x,label\n1\n"}, (), "row 1 has 1 cells", "failed"),
        ({"test.csv": "x,label\n"}, (), "no rows", "failed"),
        ({}, ("--labels=nothing",), "no column 'nothing'", "refused"),
        ({}, ("--sensitive=label",), "the labels' column", "refused"),
    ],
)
def test_failures_leave_no_card(
    lab: Lab, change: dict[str, str], words: tuple[str, ...], said: str, outcome: str
) -> None:
    for path, content in change.items():
        lab.write(path, content)
    ran = lab.evaluate(*words)
    assert ran.status == FAILURE_STATUS
    assert said in ran.stderr
    assert "is spent" in ran.stderr
    assert not lab.has_card
    assert lab.ledger()[-1]["outcome"] == outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--property=magic",), "no property 'magic' (known: accuracy)"),
        (("--property=accuracy", "--property=accuracy"), "each property once"),
        (("--data=model=test.csv",), "choose another name"),
        (("--data=test=none.csv",), "there is no"),
        (("--data=test=code.py",), "a folder of images or a file of"),
        (("--data=test=x.data",), "give --columns"),
        (("--labels=x.data",), "--labels: a column, or a file of"),
        (("--input=a=test.csv",), "in place of --input"),
        (("--output=a=b",), "has no --output"),
        (("--model-code=",), "give --model-code"),
        (("--timeout=0s",), "--timeout"),
        (("--timeout=90",), "one of s, m, h, d, w"),
        (("--timeout=22d",), "at most 21d"),
    ],
)
def test_usage_errors_cost_no_number(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    """They are found before an attester is started."""
    monkeypatch.chdir(lab.folder)
    lab.write("x.data", "1,2\n")
    plain = ("model.bin", "--model-code=code.py", "--data=test=test.csv", "--labels=label")
    with pytest.raises(UsageError) as caught:
        evaluating.request(*plain, *words)
    assert said in caught.value.message


def test_a_timeout_in_the_request(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line to the attester, which takes no other than a whole number in bounds."""
    monkeypatch.chdir(lab.folder)
    plain = ("model.bin", "--model-code=code.py", "--data=test=test.csv", "--labels=label")
    assert parse_evaluation(evaluating.request(*plain).options).seconds == 24 * 3600
    options = evaluating.request(*plain, "--timeout=90m").options
    assert parse_evaluation(options).seconds == 5400
    assert parse_evaluation({**options, "seconds": 21 * 24 * 3600}).seconds == 21 * 24 * 3600
    for wrong in (0, 21 * 24 * 3600 + 1, -1, 1.5, True, "90m", None):
        with pytest.raises(MalformedError):
            parse_evaluation({**options, "seconds": wrong})
    with pytest.raises(MalformedError):
        parse_evaluation({name: options[name] for name in options if name != "seconds"})


def test_labels_are_needed_for_tables(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)
    with pytest.raises(UsageError) as caught:
        evaluating.request("model.bin", "--model-code=code.py", "--data=test=test.csv")
    assert caught.value.code == "evaluate.labels"


def test_images_need_no_labels_option(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)
    lab.write("images/no/1.png", "x")
    asked = evaluating.request("model.bin", "--model-code=code.py", "--data=test=images")
    assert parse_evaluation(asked.options).measurement.labels == "class"


def test_an_unknown_property_is_a_usage_error_of_the_command(lab: Lab) -> None:
    ran = lab.evaluate("--property=magic")
    assert ran.status == FAILURE_STATUS
    assert "no property 'magic' (known: accuracy)" in ran.stderr
    assert "is spent" not in ran.stderr
    assert not lab.has_card


def test_a_signal_ends_both_processes(lab: Lab) -> None:
    lab.write("code.py", "import time\nprint('started', flush=True)\ntime.sleep(600)")
    with subprocess.Popen(
        lab.words(),
        cwd=lab.folder,
        env=lab.attester.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "no card is written" in said
    assert not lab.has_card
    assert lab.ledger()[-1]["outcome"] == "interrupted"
    lab.write("code.py", GUESS)
    assert lab.evaluate().status == 0  # the TPM is usable


@pytest.mark.parametrize("separation", [NAMESPACES, UID, NONE])
@pytest.mark.parametrize("has_code", [True, False])
def test_with_less_separation_everything_is_reported(
    lab: Lab, separation: str, has_code: bool
) -> None:
    """The same evaluation works, and claims less."""
    model = lab.folder / ("model.bin" if has_code else "model.onnx")
    save_onnx(lab.folder / "model.onnx", [[-1.0, 1.0]])
    code = ("--model-code", lab.folder / "code.py") if has_code else ()
    data = f"test={lab.folder / 'test.csv'}"
    words = (model, *code, "--data", data, "--labels=column:label", "--hold-back=group")
    try:
        asked = evaluating.request(*words)
        with evaluating.started_run(asked, separation) as started:
            (found,) = measure_model(started, parse_evaluation(asked.options))
    except MachineError as error:
        pytest.skip(error.message)
    source = "measured" if separation == NAMESPACES else "reported"
    assert (found.source, found.parameters["n"]) == (source, ROWS)


def test_on_a_simulated_machine(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The measurer runs from the attester's measured copy; the machine's policy accepts it."""
    machine = tmp_path_factory.mktemp("m") / "machine"
    create(machine)
    ran = lab.evaluate(where=f"--simulated={machine}")
    assert ran.status == 0, ran.stderr
    assert lab.measured().source == "measured"
    result = verify(
        (lab.folder / "out.card").read_bytes(),
        load_policy(str(machine / "policy.toml")),
        trust=load_trust(str(machine / "trust")),
        now=dt.datetime.now(tz=dt.UTC),
    )
    assert result.accepted, result.failures()
    assert result.trust.coverage == "launch"
    opened = json.loads((lab.folder / "out.card.private").read_text())
    assert opened["arguments"][0]["value"] == str(lab.folder / "code.py")
