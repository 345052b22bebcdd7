"""SIGKILL of each process of a run at each step: no card, or a good one, and the next run works."""

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stopped_run import STEPS, find, is_gone, stopped_run, wait_until

from enclave_sim.client import ensure
from enclave_sim.machine import Machine, create, start, stop
from laminator import load_policy, load_trust, verify
from laminator.run.run_list import all_entries

WORK = """
import os, sys, time
open("model.bin", "w").write("model")
if "wait" in sys.argv:
    print("at the step", flush=True)
while "wait" in sys.argv and not os.path.exists("signals/go"):
    time.sleep(0.01)
"""
MODEL = """
import os, sys, time
CLASSES = ["no", "yes"]

def load(path):
    return open(path).read()

def predict(model, batch):
    print("at the step", file=sys.stderr, flush=True)
    time.sleep(5)
    return [1.0 for _ in batch["x"]]
"""
RUN = ("run", "--output=model=model.bin", "--", sys.executable, "work.py")
EVALUATE = (
    *("evaluate", "model.txt", "--model-code", "model.py", "--data", "test=test.csv"),
    *("--labels", "label"),
)
OF_THE_MACHINE = ("driver", "owner", "swtpm", "attester")
TABLE = [
    *((process, step) for step in STEPS for process in OF_THE_MACHINE),
    *((process, "the work") for process in (*OF_THE_MACHINE, "bwrap", "workload")),
    *((process, "the evaluation") for process in ("attester", "measurer", "model")),
    *(("confinement", step) for step in ("after the number", "the work", "before the card")),
]
SEALED = ("before the card", "while the card is written", "before the card has its name")
"""The card is quoted: an attester whose TPM or owner ends may write it before it ends itself."""
AGAIN = ("after the number", "the work", "the evaluation", SEALED[-1])
"""Where the next run is done to its end at once; elsewhere the next row of the table is it."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine that is kept on, and started again where it was killed."""
    folder = tmp_path_factory.mktemp("machines") / "machine"
    create(folder)
    yield folder
    stop(folder)


@pytest.fixture
def held(machine: Path) -> Iterator[Machine]:
    with start(machine, keep=True) as started:
        yield started


def judged(card: Path, machine: Machine) -> bool:
    now = dt.datetime.now(tz=dt.UTC)
    policy = load_policy(str(machine.policy_path))._replace(data_chosen_by="provider")
    trust = load_trust(str(machine.trust_dir))
    return verify(card.read_bytes(), policy, trust=trust, now=now).accepted


def next_run(machine: Path, folder: Path) -> None:
    """Do a run from the command line, to its good end."""
    verb, *others = RUN
    subprocess.run(
        [sys.executable, "-m", "laminator", verb, f"--simulated={machine}", *others],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        check=True,
    )


@pytest.mark.parametrize(("victim", "step"), TABLE)
def test_killed(machine: Path, held: Machine, tmp_path: Path, victim: str, step: str) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "test.csv").write_text("x,label\n" + "1,yes\n1,no\n0,no\n" * 10)
    (tmp_path / "model.txt").write_text("weights")
    card = tmp_path / ("evaluation.card" if step == "the evaluation" else "work.card")
    card.write_text("an older card")
    words = EVALUATE if step == "the evaluation" else RUN
    words = (*words, "--card", str(card)) if step == "the evaluation" else words
    words = (*words, "wait") if step == "the work" else words
    with stopped_run(machine, tmp_path, words, step if step in STEPS else None) as process:
        target = process.pid if victim == "driver" else find(held, victim)
        os.kill(target, signal.SIGKILL)
        wait_until(lambda: is_gone(target))
    assert process.returncode != 0
    with contextlib.closing(ensure(machine)) as again:
        wait_until(lambda: not again.status()["busy"])
        if card.read_bytes() != b"an older card":
            assert victim == "driver" or (victim in ("swtpm", "owner") and step in SEALED)
            assert judged(card, again)
        spent = {entry.number for entry in all_entries(tmp_path / "state/laminator/runs.jsonl")}
        assert len(spent) == (step != "before the number") or victim == "driver"
        assert len(spent) <= 1
        if step in AGAIN:
            next_run(machine, tmp_path)
            assert judged(tmp_path / "work.card", again)
