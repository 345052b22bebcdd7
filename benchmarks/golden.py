"""The golden cards, as the benchmarks' fixed input."""

import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests/vectors/cards/v1"


def verify_arguments() -> list[str]:
    """Return the arguments that `laminator verify` takes from the repository's root."""
    return shlex.split((FOLDER / "verify.txt").read_text(encoding="utf-8"))
