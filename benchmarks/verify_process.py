"""`laminator verify` as a whole process, against the bare import of what it stands on.

Both run in an empty virtual environment without `.pth` files, as an auditor's would be; an
editable installation's import hook would slow both alike.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.golden import ROOT, verify_arguments
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show

MAIN = "import sys; from laminator.cli.main import main; sys.exit(main())"
BARE = "import cryptography.x509, cbor2"


def measure(rounds: int) -> Report:
    """Time both processes `rounds` times."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        python = str(Path(folder) / "bin/python")
        seconds = interleave(
            {
                "laminator verify": lambda: _run([python, "-c", MAIN, "verify", *_arguments()]),
                BARE: lambda: _run([python, "-c", BARE]),
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


def _arguments() -> list[str]:
    return verify_arguments()


def _run(command: list[str]) -> None:
    site_packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{site_packages}"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=30)
    show(measure(options.rounds), as_json=options.json)
