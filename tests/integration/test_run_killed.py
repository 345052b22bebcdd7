"""Runs whose machine is killed under them: the number is named, the ledger completed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stopped_run import children, descendants, is_gone

from enclave_sim.machine import Machine, create, start

LAMINATOR = [sys.executable, "-m", "laminator"]
SCRIPT = "import time\nprint('up', flush=True)\ntime.sleep(5)\n"
GONE_SECONDS = 10.0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    create(tmp_path / "machine")
    with start(tmp_path / "machine") as machine:
        yield machine


def running(machine: Machine, folder: Path) -> subprocess.Popen[str]:
    """Start a run and return it when its workload is at work."""
    (folder / "wait.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [*LAMINATOR, "run", f"--simulated={machine.folder.root}", "--", sys.executable, "wait.py"],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while left := [process for process in processes if not is_gone(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["owner", "swtpm"])
def test_a_killed_machine_is_named_with_the_number(
    machine: Machine, tmp_path: Path, victim: str
) -> None:
    owner = machine.status()["pid"]
    below = children(owner)
    (tpm,) = [one for one in below if "swtpm" in Path(f"/proc/{one}/cmdline").read_text()]
    with running(machine, tmp_path) as process:
        everything = descendants(owner)
        os.kill(owner if victim == "owner" else tpm, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 125
    assert "run number 2 is spent" in said
    assert "Traceback" not in said
    assert not (tmp_path / "wait.card").exists()
    lines = (tmp_path / "state/laminator/runs.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert (last["event"], last["number"]) == ("ended", 2)
    if victim == "owner":
        wait_until_gone(everything)


def test_a_killed_client_leaves_no_process(machine: Machine, tmp_path: Path) -> None:
    owner = machine.status()["pid"]
    before = descendants(owner)
    with running(machine, tmp_path) as process:
        started = [one for one in descendants(owner) if one not in before]
        assert started
        process.kill()
        process.communicate(timeout=60)
        wait_until_gone(started)
