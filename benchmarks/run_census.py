"""`laminator run` of the CENSUS workload (S, one thread), against the plain run.

The training loop's time is taken inside the script; what surrounds it is the start-up cost:
the rest of the process's time, measured with the machine already switched on.
The data is UCI Adult at LAMINATOR_ADULT, or ../shared/data/adult.data.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.golden import ROOT
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show

ADULT = Path(os.environ.get("LAMINATOR_ADULT", ROOT / "../shared/data/adult.data")).resolve()
PLAIN = "plain run"
MEASURED = "laminator run"


class Bench(NamedTuple):
    """A working folder with the training data and a simulated machine."""

    folder: Path

    def script(self) -> list[str]:
        """Return the command that trains the model."""
        return [
            sys.executable,
            str(ROOT / "examples/train_census.py"),
            str(self.folder / "train.csv"),
            str(self.folder / "census.safetensors"),
        ]

    def wrapped(self) -> list[str]:
        """Return the same command under `laminator run`."""
        return [
            str(Path(sys.executable).with_name("laminator")),
            "run",
            f"--simulated={self.folder / 'machine'}",
            *("--input", f"train={self.folder / 'train.csv'}"),
            *("--output", f"model={self.folder / 'census.safetensors'}"),
            *("--card", str(self.folder / "census.card"), "--"),
            *self.script(),
        ]


def measure(rounds: int) -> Report:
    """Train `rounds` times both ways."""
    loops: dict[str, list[float]] = {PLAIN: [], MEASURED: []}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        _prepare(bench)
        try:
            seconds = interleave(
                {
                    PLAIN: lambda: loops[PLAIN].append(_loop_seconds(bench.script())),
                    MEASURED: lambda: loops[MEASURED].append(_loop_seconds(bench.wrapped())),
                },
                rounds,
            )
        finally:
            _machine("stop", bench)
    loops = {name: values[1:] for name, values in loops.items()}  # less the warm-up
    whole = medians(seconds, "s")
    loop = medians(loops, "s")
    overhead = {
        name: [total - own for total, own in zip(seconds[name], loops[name], strict=True)]
        for name in loops
    }
    around = medians(overhead, "s")
    return Report(
        name="run_census",
        unit="s",
        rounds=rounds,
        medians={f"{key}, whole": value for key, value in whole.items()}
        | {f"{key}, training loop": value for key, value in loop.items()},
        results={
            "training loop ratio": paired_ratio(loops, MEASURED, PLAIN),
            "start-up cost in s": around[MEASURED] - around[PLAIN],
        },
        targets={"training loop ratio": 1.02, "start-up cost in s": 2.0},
    )


def _prepare(bench: Bench) -> None:
    datasets = [sys.executable, str(ROOT / "examples/datasets.py"), "census", str(bench.folder)]
    subprocess.run([*datasets, "--adult", str(ADULT)], check=True)
    _machine("create", bench)
    _machine("start", bench)


def _machine(verb: str, bench: Bench) -> None:
    command = [sys.executable, "-m", "enclave_sim", verb, str(bench.folder / "machine")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _loop_seconds(command: list[str]) -> float:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\nexit status {done.returncode}\n{done.stderr}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return float(json.loads(line)["loop-seconds"])


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=7)
    if not ADULT.is_file():
        sys.exit(f"no UCI Adult data at {ADULT}; name adult.data in LAMINATOR_ADULT")
    show(measure(options.rounds), as_json=options.json)
