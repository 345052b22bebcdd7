"""The words that start a script through the bootstrap, and what is measured before that.

What an interpreter loads before its first script is the standard library's `encodings` and, for
the bootstrap's hashes, one extension module. The attester measures private copies of these, which
are bound over the originals.
"""

import marshal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.eventlog import Record
from laminator.measure.code_names import Roots, stdlib_of
from laminator.measure.environment import PASSED_PYTHON, Interpreter
from laminator.run import bootstrap
from laminator.run.filesystem import Bind
from laminator.run.log import RunLog
from laminator.run.private_copy import copy_measured

BOOTSTRAP = Path("/run/laminator-bootstrap/bootstrap.py")
"""Where a workload in namespaces has the bootstrap."""

NO_BYTE_CODE = "pycache_prefix=/nonexistent"
_ENCODINGS = ("__init__", "aliases", "ascii", "cp437", "latin_1", "utf_8")
FIRST = (*(f"encodings/{name}.py" for name in _ENCODINGS), "warnings.py")
"""Files of the standard library that load before a script: `-b` and `-X dev` bring warnings."""

_UTF8 = ("-X", "utf8")
"""The first such option counts; a locale's own encoding would be a module before the first one."""

_HASHES = ("lib-dynload/_sha2.*.so", "lib-dynload/_sha256.*.so")


class Start(NamedTuple):
    """What is measured before the start: the bootstrap's private copy, and copies to bind."""

    bootstrap: Path
    copies: tuple[Bind, ...]


class Script(NamedTuple):
    """A script to start: the interpreter's own `options`, its path as it sees it, its arguments.

    `path` are folders that go first in the module search path.
    """

    interpreter: str
    options: Sequence[str]
    script: str
    arguments: Sequence[str]
    path: Sequence[str] = ()


def measure_start(interpreter: Interpreter, roots: Roots, place: Path, log: RunLog) -> Start:
    """Copy, measure and log the bootstrap and what runs before it. Raises as `copy_measured`."""
    own = copy_measured(Path(bootstrap.__file__), place / "bootstrap.py")
    log.append(Record("bootstrap", "bootstrap.py", own.measured.digest.value))
    folder = place / "start"
    folder.mkdir()
    library = stdlib_of(interpreter)
    files = [library / name for name in FIRST]
    files += [path for glob in _HASHES for path in sorted(library.glob(glob))]
    binds = [Bind(own.path, BOOTSTRAP)]
    for number, path in enumerate(file for file in files if file.is_file()):
        copy = copy_measured(path, folder / str(number))
        event = "native" if path.suffix == ".so" else "source"
        log.append(Record(event, roots.name(str(path)), copy.measured.digest.value))
        binds.append(Bind(copy.path, path.resolve()))
    return Start(own.path, tuple(binds))


def bootstrapped(
    script: Script, roots: Roots, channel: int, bootstrap_path: Path, environment: Sequence[str]
) -> list[str]:
    """Return the command that runs `script` with each of its modules measured first.

    `environment` names the workload's variables: isolation would ignore those for Python that the
    caller passed on by name, and none is there that was not.
    """
    passed = any(name in PASSED_PYTHON for name in environment)
    words = [*(("-P", "-s") if passed else ("-I",)), "-S", "-B", "-X", NO_BYTE_CODE, *_UTF8]
    options, warnings = _without_warnings(script.options)
    config = {
        "roots": sorted(roots.entries, key=lambda entry: -len(entry[1])),
        "path": list(script.path),
        "site": "-S" not in script.options,
        "script-folder": not {"-I", "-P"} & set(script.options),
        "words": words,
        "warnings": warnings,
        "bootstrap": str(bootstrap_path),
    }
    ours = [str(bootstrap_path), str(channel), marshal.dumps(config, 2).hex()]
    return [script.interpreter, *words, *options, *ours, script.script, *script.arguments]


def _without_warnings(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part `-W` from the other options: before its first script Python would import `re` for it."""
    kept: list[str] = []
    warnings: list[str] = []
    words = iter(options)
    for word in words:
        value = "" if word not in ("-W", "-X") else next(words, "")
        if word.startswith("-W"):
            warnings.append(word[2:] or value)
        else:
            kept += [word, *([value] if word == "-X" else [])]
    return kept, warnings
