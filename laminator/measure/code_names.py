"""Names of files of code in a run's log and in reference values: LABEL/relative/path.

A name says where a file lies in an installation, not on a machine: two machines with the same
packages give the same names, and nobody's home is in a card.
"""

import os
from pathlib import Path
from typing import NamedTuple

from laminator.measure.environment import Interpreter

SITE, STDLIB, SCRIPT, SOURCE = "site", "stdlib", "script", "source"
INTERPRETER, PREFIX, SYSTEM, RUN, OTHER = "interpreter", "prefix", "system", "run", "other"
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc", "/opt")
RUN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/home/workload")  # noqa: S108 - only named


class Roots(NamedTuple):
    """The folders that names begin at, each (label, absolute path without a slash at its end)."""

    entries: tuple[tuple[str, str], ...]

    def name(self, path: str) -> str:
        """Return the name of the file at the absolute `path`; the innermost root decides."""
        clean = os.path.normpath(path)
        for label, folder in sorted(self.entries, key=lambda entry: -len(entry[1])):
            if clean == folder:
                return f"{label}/{os.path.basename(clean)}"  # noqa: PTH119 - text, no file
            if clean.startswith(f"{folder}/"):
                return f"{label}/{clean[len(folder) + 1 :]}"
        return f"{OTHER}{clean}"

    def script_at(self, folder: Path) -> "Roots":
        """Return these roots for a script whose copy the workload sees in `folder`."""
        return Roots((*self.entries, (SCRIPT, str(folder))))


def roots_of(interpreter: Interpreter, script: Path) -> Roots:
    """Return the roots of a workload: its interpreter's folders and the folder of its script."""
    entries = [(f"{SYSTEM}{os.path.realpath(folder)}", folder) for folder in SYSTEM_FOLDERS]
    entries += [(f"{RUN}{folder}", folder) for folder in RUN_FOLDERS]
    entries += [(PREFIX, str(folder)) for folder in interpreter.prefixes if folder.parts[1:2]]
    entries.append((STDLIB, str(stdlib_of(interpreter))))
    entries += [(f"{SOURCE}/{folder.name}", str(folder)) for folder in interpreter.sources]
    entries += [(SITE, str(folder)) for folder in interpreter.packages]
    entries.append((INTERPRETER, str(interpreter.executable)))
    entries.append((SCRIPT, str(script.parent)))
    resolved = [(label, os.path.realpath(folder)) for label, folder in entries]
    return Roots(tuple(dict.fromkeys((*entries, *resolved))))


def stdlib_of(interpreter: Interpreter) -> Path:
    """Return the standard library's folder: lib/pythonX.Y of the base installation."""
    version = interpreter.version.rpartition(" ")[2]
    return interpreter.prefixes[-1] / "lib" / f"python{'.'.join(version.split('.')[:2])}"
