"""Which bubblewrap the attester runs: the one in its own measured code, where there is one."""

import sys
from pathlib import Path


def bubblewrap() -> tuple[str, ...]:
    """Return the words that run bubblewrap.

    A launched attester is a copy (`laminator.measure.attester_code`): bin/python3 beside
    bin/bwrap, with the linker and all libraries in so/. The copied linker runs the copied
    program. Elsewhere it is the system's `bwrap`.
    """
    copy = Path(sys.executable).parent
    program, libraries = copy / "bwrap", copy.parent / "so"
    linkers = sorted(libraries.glob("ld-*.so*"))
    if not program.is_file() or not linkers:
        return ("bwrap",)
    return (str(linkers[0]), "--library-path", str(libraries), str(program))
