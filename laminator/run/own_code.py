"""How this attester starts another process of its own code.

A launched attester runs from a measured copy (`laminator.measure.attester_code`): a folder with
bin/python3, its libraries in so/ and entry.py. Elsewhere it is the installed package.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.run.filesystem import (
    Bind,
    Filesystem,
    folder_binds,
    merged,
    system_filesystem,
)

# Starts this package, whichever one an installed finder would find.
_START = """
import sys
sys.path.insert(0, {folder!r})
from laminator.run.entry import main
raise SystemExit(main(sys.argv[1:]))
"""


class OwnCode(NamedTuple):
    """The words that start `laminator.run.entry`, and all that it needs to see."""

    words: tuple[str, ...]
    filesystem: Filesystem


def own_code() -> OwnCode:
    """Return how to run the code that this process runs."""
    copy = Path(sys.executable).parent.parent
    entry, libraries = copy / "entry.py", copy / "so"
    linkers = sorted(libraries.glob("ld-*.so*"))
    if not entry.is_file() or not linkers:
        return _installed()
    program = str(copy / "bin" / Path(sys.executable).name)
    linker = (str(linkers[0]), "--inhibit-cache", "--argv0", program)
    words = (*linker, "--library-path", str(libraries), program, "-I", "-S", "-B", str(entry))
    return OwnCode(words, Filesystem(read_only=(Bind(copy, copy),)))


def _installed() -> OwnCode:
    package = Path(__file__).parents[1]
    prefixes = [Path(prefix) for prefix in dict.fromkeys((sys.prefix, sys.base_prefix))]
    seen: Sequence[Filesystem] = (system_filesystem(), folder_binds([*prefixes, package]))
    words = (sys.executable, "-I", "-B", "-c", _START.format(folder=str(package.parent)))
    return OwnCode(words, merged(*seen))
