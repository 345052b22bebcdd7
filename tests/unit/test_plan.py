"""Plans: read strictly, explained in sentences."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.digest import parse_digest
from laminator.errors import MalformedError
from laminator.plan import MAX_PLAN_BYTES, Plan, PlannedMachine, explain_plan, parse_plan

A, B, C = (f"sha-256:{digit * 64}" for digit in "abc")
LEAST = f'version = 1\nruns = 1\nseed = "none"\nmetric = ["accuracy"]\n[data]\ntest = "{A}"\n'
FULL = f"""\
version = 1
runs = 3
seed = "nonce"
metric = ["accuracy", "f1"]
model = "{B}"
entry = "{C}"

[data]
test = "{A}"
labels = "{B}"

[parameters]
labels = "column:label"
sample = 500
sensitive = ["sex"]

[machine]
key = "{C}"
first-run = 7
"""


def _refusal(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse_plan(text.encode())
    return caught.value


def test_a_full_plan() -> None:
    plan = parse_plan(FULL.encode())
    assert plan == Plan(
        runs=3,
        seed="nonce",
        metric=("accuracy", "f1"),
        data={"test": parse_digest(A), "labels": parse_digest(B)},
        model=parse_digest(B),
        parameters={"labels": "column:label", "sample": 500, "sensitive": ("sex",)},
        machine=PlannedMachine(parse_digest(C), 7),
        entry=parse_digest(C),
    )
    assert plan.last_run == 9


def test_a_least_plan() -> None:
    plan = parse_plan(LEAST.encode())
    assert (plan.seed, plan.model, plan.machine, plan.last_run) == (None, None, None, None)
    assert plan.parameters == {}
    assert parse_plan(LEAST.replace('"none"', "0").encode()).seed == 0
    more = "[parameters]\nthreshold = 0.5\n"
    assert parse_plan((LEAST + more).encode()).parameters == {"threshold": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("version = 1\n", "", "plan"),
        ("version = 1", "version = 2", "plan.version"),
        ("version = 1", "version = true", "plan.version"),
        ("runs = 3\n", "", "plan"),
        ("runs = 3", "runs = 0", "plan.runs"),
        ("runs = 3", "runs = true", "plan.runs"),
        ("runs = 3", "runs = 1000001", "plan.runs"),
        ("runs = 3", "run = 3\nruns = 3", "plan"),
        ('seed = "nonce"\n', "", "plan"),
        ('seed = "nonce"', 'seed = "Nonce"', "plan.seed"),
        ('seed = "nonce"', "seed = -1", "plan.seed"),
        ('seed = "nonce"', "seed = true", "plan.seed"),
        ('seed = "nonce"', "seed = 0.5", "plan.seed"),
        ('seed = "nonce"', "seed = 9007199254740992", "plan.seed"),
        ('seed = "nonce"', 'seed = "none"', "plan.parameters.sample"),
        ('metric = ["accuracy", "f1"]', "metric = []", "plan.metric"),
        ('metric = ["accuracy", "f1"]', 'metric = "accuracy"', "plan.metric"),
        ('metric = ["accuracy", "f1"]', 'metric = ["f1", "f1"]', "plan.metric"),
        ('metric = ["accuracy", "f1"]', 'metrics = ["accuracy"]\nmetric = ["f1"]', "plan"),
        (f'model = "{B}"', f'models = "{B}"', "plan"),
        (f'model = "{B}"', 'model = "model.pt"', "plan.model"),
        (f'model = "{B}"', "model = 1", "plan.model"),
        (f'test = "{A}"\nlabels = "{B}"', "", "plan.data"),
        (f'test = "{A}"', f'model = "{A}"', "plan.data.model"),
        (f'test = "{A}"', f'"-x" = "{A}"', "plan.data"),
        (f'test = "{A}"', f'test = "{A.upper()}"', "plan.data.test"),
        ("sample = 500", "sample = [[1]]", "plan.parameters.sample[0]"),
        ("sample = 500", "sample = nan", "plan.parameters.sample"),
        ("sample = 500", "n = 500", "plan.parameters.n"),
        ("sample = 500", "seed = 500", "plan.parameters.seed"),
        ('labels = "column:label"\nsample = 500\nsensitive = ["sex"]', "", "plan.parameters"),
        ("first-run = 7", "first-run = 0", "plan.machine.first-run"),
        ("first-run = 7", "first_run = 7", "plan.machine"),
        (f'key = "{C}"', f'key = "sha-384:{"c" * 96}"', "plan.machine.key"),
        (f'key = "{C}"', "", "plan.machine"),
        ("[machine]", "[machines]", "plan"),
    ],
)
def test_what_is_wrong_has_a_place(old: str, new: str, path: str) -> None:
    assert old in FULL
    assert _refusal(FULL.replace(old, new)).path == path


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("#" * (MAX_PLAN_BYTES + 1), "toml.size"),
        (LEAST + "[parameters]\na" + ".a" * 20 + " = 1", "toml.depth"),
        (LEAST + "[parameters]\na = " + "[" * 5000, "toml.syntax"),
        (LEAST + LEAST, "toml.syntax"),
    ],
)
def test_bombs(text: str, code: str) -> None:
    assert _refusal(text).code == code


@given(st.text(max_size=300))
def test_wild_text_is_read_or_refused(text: str) -> None:
    with suppress(MalformedError):
        assert parse_plan((LEAST + text).encode()).runs == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, "At most 3 wrapped run(s)"),
        (FULL, f"numbers 7 to 9 of the machine whose key is {C}"),
        (FULL, "follow the verifier's nonce"),
        (FULL, "exactly accuracy, f1"),
        (FULL, f"The data set test is {A}."),
        (FULL, f"The model is {B}."),
        (FULL, "The parameter sensitive is ('sex',)."),
        (FULL, "No other parameter is chosen."),
        (LEAST, "cannot show that there were no other runs"),
        (LEAST, "nobody can check what was drawn"),
        (LEAST, "Which model is measured is left open."),
        (FULL, f"The script that runs, such as a model's code, is {C}."),
        (LEAST, "Which script runs, such as a model's code, is left open."),
        (LEAST, "which column holds the labels, is left open"),
        (LEAST.replace('"none"', "7"), "follow the number 7, which the plan's author chose"),
    ],
)
def test_a_plan_in_sentences(text: str, expected: str) -> None:
    assert expected in "\n".join(explain_plan(parse_plan(text.encode())))


def test_the_documented_plan_is_one() -> None:
    document = Path(__file__).parents[2] / "docs/plan.md"
    lines = document.read_text(encoding="utf-8").split("```toml\n")[1].partition("```")[0]
    plan = parse_plan(lines.replace("sha-256:…", A).encode())
    assert (plan.runs, plan.seed, plan.machine is not None) == (3, "nonce", True)
