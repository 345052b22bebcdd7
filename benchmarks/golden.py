"""The golden cards, as the benchmarks' fixed input."""

import datetime as dt
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests/vectors/cards/v1"


def verify_arguments() -> list[str]:
    """Return the arguments that `laminator verify` takes from the repository's root."""
    return shlex.split((FOLDER / "verify.txt").read_text(encoding="utf-8"))


def judged_at() -> dt.datetime:
    """Return the time at which the golden cards are judged."""
    words = verify_arguments()
    return dt.datetime.fromisoformat(words[words.index("--at") + 1])
