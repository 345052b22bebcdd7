"""Which bubblewrap the attester runs: the one in its own measured code, where there is one."""

import sys
from pathlib import Path


def attester_copy() -> Path | None:
    """Return the folder of the measured copy of code that this process runs from, if it does.

    A launched attester is a copy (`laminator.measure.attester_code`): bin/python3 beside
    bin/bwrap, with the linker and all libraries in so/.
    """
    root = Path(sys.executable).parent.parent
    return root if (root / "bin" / "bwrap").is_file() and _linkers(root) else None


def bubblewrap() -> tuple[str, ...]:
    """Return the words that run bubblewrap: the copied program by the copied linker.

    Outside of a copy it is the system's `bwrap`.
    """
    root = attester_copy()
    if root is None:
        return ("bwrap",)
    linker, libraries = _linkers(root)[0], root / "so"
    return (str(linker), "--library-path", str(libraries), str(root / "bin" / "bwrap"))


def _linkers(root: Path) -> list[Path]:
    return sorted((root / "so").glob("ld-*.so*"))
