"""Reference values of an interpreter as it is installed here, and the names of its folders."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from laminator.errors import MachineError, shown
from laminator.measure.code_names import SCRIPT, Roots, roots_of, stdlib_of
from laminator.measure.environment import Interpreter, inspect_interpreter, locate_interpreter
from laminator.reference import ReferencePackage
from laminator.references.folders import NEVER_READ, walk
from laminator.references.packing import digest_files, pack

_PACKAGES = ("site-packages", "dist-packages")
_SECONDS = 60


def find_interpreter(python: str) -> Interpreter:
    """Ask the interpreter that the shell would find as `python` for its folders.

    It runs isolated and without `site`. Raises UsageError and MachineError.
    """
    return inspect_interpreter(locate_interpreter(python), _ask)


def roots_without_script(interpreter: Interpreter) -> Roots:
    """Return the roots that name everything but an entry script's own folder."""
    roots = roots_of(interpreter, interpreter.executable)
    return Roots(tuple(entry for entry in roots.entries if entry[0] != SCRIPT))


def read_interpreter(python: str) -> ReferencePackage:
    """Return the values of the binary, the standard library, its extensions and libpython.

    Raises UsageError and MachineError.
    """
    interpreter = find_interpreter(python)
    roots = roots_without_script(interpreter)
    stdlib = stdlib_of(interpreter)
    paths = [interpreter.executable, *_libpython(interpreter)]
    paths += [stdlib / path for path in walk(str(stdlib), (*NEVER_READ, *_PACKAGES))]
    named = {roots.name(str(path)): str(path) for path in paths}
    named |= {roots.name(str(path.resolve())): str(path) for path in paths if path.is_symlink()}
    implementation, _, version = interpreter.version.partition(" ")
    return pack(implementation, version, "interpreter", digest_files(named))


def _libpython(interpreter: Interpreter) -> list[Path]:
    folder = interpreter.prefixes[-1] / "lib"
    minor = stdlib_of(interpreter).name
    return sorted([*folder.glob(f"lib{minor}*.so*"), *folder.glob(f"*/lib{minor}*.so*")])


def _ask(words: Sequence[str], _folders: Sequence[Path]) -> bytes:
    try:
        done = subprocess.run(words, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{shown(words[0])} does not start or does not answer; give another --python"
        raise MachineError("interpreter.answer", message) from error
    return done.stdout
