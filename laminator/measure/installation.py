"""Where an interpreter starts from, found without asking it.

What it says of itself comes from its standard library, which is the provider's and not measured
yet. Python finds that library as its `Modules/getpath.py` does: upwards from its own folder, or
from the `home` of `pyvenv.cfg`, to the first folder with a zip archive of it or with its `os.py`.
An archive there would be searched before the measured copies of what loads first.
"""

import os
from pathlib import Path

from laminator.errors import UsageError, shown
from laminator.measure.environment import Interpreter


def check_installation(interpreter: Interpreter, settings: str | None, stated: bytes) -> None:
    """Check that `interpreter` starts from `lib/pythonX.Y` of its last prefix, and nothing else.

    `settings` is the text of its `pyvenv.cfg`, `stated` what `-V` prints, which takes no standard
    library. Raises UsageError.
    """
    version = ".".join(interpreter.version.rpartition(" ")[2].split(".")[:2])
    if not stated.startswith(f"Python {version}.".encode()):
        message = f"says that it is {interpreter.version}, and {shown(stated)} by its option -V"
        raise UsageError("interpreter.version", message)
    start = _home(settings) or interpreter.executable.parent
    archive, library = f"lib/python{version.replace('.', '')}.zip", f"lib/python{version}"
    marks = (archive, f"{library}/os.py", f"{library}/os.pyc")
    folders = (start, *start.parents)
    found = next((one for one in folders if any(_there(one / mark) for mark in marks)), None)
    if found is None or os.path.realpath(found) != os.path.realpath(interpreter.prefixes[-1]):
        message = f"its standard library is not found from {shown(str(start))} as Python finds it"
        raise UsageError("interpreter.home", f"{message}; use an installation with {library}")
    for path in (found / archive, start / "pybuilddir.txt"):
        if _there(path):
            message = f"{shown(str(path))} has it load code that is not measured; remove that file"
            raise UsageError("interpreter.archive", message)


def _home(settings: str | None) -> Path | None:
    """Return the first `home`, which is the one that Python takes."""
    pairs = (line.partition("=") for line in (settings or "").splitlines())
    homes = (value.strip() for key, mark, value in pairs if mark and key.strip().lower() == "home")
    return next(map(Path, homes), None)


def _there(path: Path) -> bool:
    return os.path.lexists(path)
