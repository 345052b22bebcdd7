"""The ledger of a simulated machine's runs: each ending, then the list, the export, the verdict."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pycddl
import pytest
from cddl import CDDL

from enclave_sim.machine import Machine
from laminator.failure import parse_failure
from laminator.ledger import parse_ledger

LAMINATOR = [sys.executable, "-m", "laminator"]
WAIT = "import time\nprint('up', flush=True)\ntime.sleep(60)\n"


class Shop:
    """A folder from which a simulated machine's runs are made, with a list of its own."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}

    def laminator(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAMINATOR, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run_words(self, name: str, script: str, *options: str) -> list[str]:
        (self.folder / f"{name}.py").write_text(script)
        machine = f"--simulated={self.machine.folder.root}"
        return ["run", machine, *options, "--", sys.executable, f"{name}.py"]

    def run(self, name: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.laminator(*self.run_words(name, script, *options))

    def interrupted(self, name: str, number: int, *, attester: bool = False) -> int:
        """Start a run that waits, then send a signal to it, or to its attester."""
        words = [*LAMINATOR, *self.run_words(name, WAIT)]
        with subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            (row,) = (row for row in self.rows() if row["state"] == "running")
            assert not row["kept"]
            victims = attesters(self.machine.status()["pid"]) if attester else [process.pid]
            for victim in victims:
                os.kill(victim, number)
            process.communicate(timeout=60)
        return process.returncode

    def rows(self) -> list[dict[str, Any]]:
        listed = json.loads(self.laminator("ledger", "--json").stdout)
        return [row for each in listed["machines"] for row in each["runs"]]

    def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        options = [
            "--trust",
            str(self.machine.trust_dir),
            "--policy",
            str(self.machine.policy_path),
        ]
        ran = self.laminator("verify", "--ledger", *words, *options, "--json")
        return ran.returncode, json.loads(ran.stdout)


def attesters(owner: int) -> list[int]:
    """Return the attester's processes below a machine's owner."""
    found = []
    for process in descendants(owner):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"\0attester\0" in command + b"\0":
            found.append(process)
    return found


def descendants(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


@pytest.fixture
def shop(machine: Machine, tmp_path: Path) -> Shop:
    return Shop(machine, tmp_path)


def fitting(path: Path, rule: str) -> None:
    """Raise pycddl.ValidationError where the file does not fit its rule."""
    schema = pycddl.Schema(f"start = {rule}\n{CDDL.read_text()}")
    schema.validate_cbor(path.read_bytes())


def states(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str | None, bool]]:
    return [(row["state"], row["outcome"], row["kept"]) for row in rows]


def test_every_ending_is_accounted_for(shop: Shop) -> None:
    assert shop.run("good", "print('done')").returncode == 0
    failing = shop.run("failing", "raise SystemExit(3)")
    assert failing.returncode == 3
    assert "its failure record: " in failing.stderr
    refused = shop.run("refused", "print('nothing')", "--output=model=model.bin")
    assert refused.returncode == 125
    assert shop.interrupted("stopped", signal.SIGINT) == 130
    assert shop.run("better", "print('done')").returncode == 0

    rows = shop.rows()
    assert states(rows) == [
        ("card", "card", True),
        ("failed", "workload-failed", True),
        ("failed", "refused", True),
        ("failed", "interrupted", True),
        ("card", "card", True),
    ]
    first, last = rows[0]["number"], rows[-1]["number"]
    assert [row["number"] for row in rows] == list(range(first, last + 1))
    for row in rows[1:4]:
        path = Path(row["failure"])
        assert path.parent == shop.folder / "state" / "laminator" / "failures"
        assert path.stat().st_mode & 0o777 == 0o600
        fitting(path, "failure")
        record = parse_failure(path.read_bytes())
        assert (record.claims.run.number, record.claims.outcome) == (row["number"], row["outcome"])
    assert shop.laminator("ledger", "export", "--out", "all.ledger").returncode == 0
    fitting(shop.folder / "all.ledger", "ledger")
    status, result = shop.verify("all.ledger")
    assert (status, result["verdict"], result["coverage"]) == (0, "accepted", "launch")
    assert [each["entry"] for each in result["numbers"]] == [
        *("card", "failure", "failure", "failure", "card")
    ]


def test_a_killed_attester_is_a_gap(shop: Shop) -> None:
    assert shop.interrupted("killed", signal.SIGKILL, attester=True) == 137
    assert shop.run("after", "print('done')").returncode == 0
    killed, after = shop.rows()
    assert (killed["state"], killed["kept"], after["state"]) == ("aborted", False, "card")
    first, last = str(killed["number"]), str(after["number"])
    exported = shop.laminator("ledger", "export", "--from", first, "--to", last, "--out=gap.ledger")
    assert exported.returncode == 1
    assert f"missing {first}: its attester ended without a word" in exported.stdout
    status, result = shop.verify("gap.ledger")
    assert (status, result["failures"]) == (1, ["ledger.gaps"])
    assert result["numbers"][0] == {"number": killed["number"], "entry": "gap"}


def test_a_hidden_number_is_found_and_a_part_may_be_shown(shop: Shop) -> None:
    shop.run("one", "print('done')")
    shop.run("two", "raise SystemExit(1)")
    one, two = shop.rows()
    span = ("--from", str(one["number"]), "--to", str(two["number"]))
    assert shop.laminator("ledger", "export", *span, "--out", "two.ledger").returncode == 0
    assert shop.verify("two.ledger")[0] == 0
    assert len(parse_ledger((shop.folder / "two.ledger").read_bytes()).entries) == 2
    Path(two["failure"]).unlink()
    exported = shop.laminator("ledger", "export", *span, "--out", "less.ledger")
    assert exported.returncode == 1
    assert shop.verify("less.ledger")[0] == 1


def test_a_record_that_cannot_be_written_hides_nothing(shop: Shop) -> None:
    failures = shop.folder / "state" / "laminator" / "failures"
    failures.parent.mkdir(parents=True)
    failures.write_text("in the way")
    ran = shop.run("fails", "raise SystemExit(4)")
    assert ran.returncode == 4
    assert "exit status 4" in ran.stderr
    assert "without a failure record" in ran.stderr
    (last,) = shop.rows()
    assert (last["state"], last["outcome"], last["kept"]) == ("failed", "workload-failed", False)
