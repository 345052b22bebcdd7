"""`laminator verify` as a whole process, against the bare import of what it stands on.

Both run in a virtual environment like an auditor's: the package copied and compiled as pip does
it, no editable installation's import hook, the dependencies beside it.
"""

import compileall
import os
import shutil
import subprocess
import sysconfig
import tempfile
import venv
from pathlib import Path

from benchmarks.golden import ROOT, verify_arguments
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show

CONSOLE = "from laminator.cli.main import console; console()"
BARE = "import cryptography.x509, cbor2"


def measure(rounds: int) -> Report:
    """Time both processes `rounds` times."""
    with tempfile.TemporaryDirectory() as folder:
        python = _install(Path(folder))
        verify = [python, "-P", "-c", CONSOLE, "verify", *verify_arguments()]
        seconds = interleave(
            {
                "laminator verify": lambda: _run(verify),
                BARE: lambda: _run([python, "-P", "-c", BARE]),
            },
            rounds,
        )
    return Report(
        name="verify_process",
        unit="ms",
        rounds=rounds,
        medians=medians(seconds, "ms"),
        results={"ratio": paired_ratio(seconds, "laminator verify", BARE)},
        targets={"ratio": 1.3},
    )


def _install(folder: Path) -> str:
    """Return the interpreter of a fresh environment with the core in it."""
    venv.create(folder, with_pip=False)
    target = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    shutil.copytree(ROOT / "laminator", target / "laminator")
    compileall.compile_dir(target, quiet=1)
    return str(folder / "bin/python")


def _run(command: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=30)
    show(measure(options.rounds), as_json=options.json)
