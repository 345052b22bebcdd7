"""Runs on a simulated machine that wait at a chosen step, and the processes of such a run."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from enclave_sim.machine import Machine

STEPS = {
    "before the number": ("laminator.run.session", "spend_number"),
    "after the number": ("laminator.run.session", "open_log"),
    "measuring": ("laminator.run.session", "measure_code"),
    "outputs": ("laminator.run.workload_run", "collect_outputs"),
    "before the end quote": ("laminator.run.session", "quote_log"),
    "before the card": ("laminator.run.session", "write_together"),
    "while the card is written": ("laminator.run.atomic", "_write"),
    "before the card has its name": ("pathlib", "Path.replace"),
}
"""Where the attester waits: before this function is called, for the last time where it is twice."""

_LAST_CALL = {"_write": 2, "Path.replace": 2}
_SECONDS = 60.0
_PAUSE = 0.01

# Runs in the attester's place: waits at one step until a file is there.
_ENTRY = """\
import sys

sys.path.insert(0, __file__.rpartition("/")[0] + "/site")

import importlib
import os
import time

MODULE, NAME, CALL, GO = {step!r}

def wait():
    os.write(1, b"at the step\\n")
    deadline = time.monotonic() + {seconds}
    while not os.path.exists(GO) and time.monotonic() < deadline:
        time.sleep({pause})

def arm():
    *classes, name = NAME.split(".")
    place = importlib.import_module(MODULE)
    for inner in classes:
        place = getattr(place, inner)
    act, calls = getattr(place, name), []
    def first_wait(*arguments, **options):
        calls.append(name)
        if len(calls) == CALL:
            wait()
        return act(*arguments, **options)
    setattr(place, name, first_wait)

if MODULE:
    import laminator.run.workload_run
    arm()

from laminator.run.entry import main

raise SystemExit(main(sys.argv[1:]))
"""
_DRIVER = """
import sys
from enclave_sim import machine
launching, entry = machine.Launching, sys.argv.pop(1)
machine.Launching = lambda installation: launching(installation, entry)
from laminator.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def stopped_run(
    machine: Path, folder: Path, words: Sequence[str], step: str | None
) -> Iterator["subprocess.Popen[str]"]:
    """Run `laminator` with `words` up to `step`, or until the work itself says that it is there.

    When the block is left the run goes on, if it can; the work sees the file signals/go then.
    """
    go = folder / "signals" / "go"
    go.parent.mkdir()
    module, name = STEPS[step] if step is not None else ("", "")
    entry = _ENTRY.format(
        step=(module, name, _LAST_CALL.get(name, 1), str(go)), seconds=_SECONDS, pause=_PAUSE
    )
    verb, *others = words
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, entry, verb, f"--simulated={machine}", *others],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            while "at the step" not in (line := process.stdout.readline()):
                said.append(line)
                assert line, "".join(said)
            yield process
        finally:
            go.touch()
            process.communicate(timeout=_SECONDS)


def children(process: int) -> list[int]:
    """Return the processes that `process` started and that are there."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def descendants(process: int) -> list[int]:
    """Return the processes below `process`, nearer ones first."""
    found = children(process)
    for child in found:
        found += children(child)
    return found


def is_gone(process: int) -> bool:
    """Say whether a process has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def find(machine: Machine, who: str) -> int:
    """Return a process of the run that `machine` does."""
    owner = machine.status()["pid"]
    if who == "owner":
        return int(owner)
    chosen = [one for one in descendants(owner) if _WHO[who](_words(one), _is_bubblewrap(one))]
    assert chosen, (who, [_words(one)[:3] for one in descendants(owner)])
    return chosen[0]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, for a minute at most."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(_PAUSE)


_WHO: dict[str, Callable[[list[str], bool], bool]] = {
    "swtpm": lambda words, _: any(word.endswith("swtpm") for word in words[:1]),
    "confinement": lambda words, wraps: wraps and words[-1:] == ["attester"],
    "attester": lambda words, wraps: not wraps and words[-1:] == ["attester"],
    "bwrap": lambda words, wraps: wraps and any(w.endswith("work.py") for w in words),
    "workload": lambda words, wraps: not wraps and any(w.endswith("work.py") for w in words),
    "measurer": lambda words, wraps: not wraps and "measurer" in words,
    "model": lambda words, wraps: not wraps and any(w.endswith("model_host.py") for w in words),
}


def _words(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    except OSError:
        return []


def _is_bubblewrap(process: int) -> bool:
    return any(word.rpartition("/")[2] == "bwrap" for word in _words(process)[:4])
