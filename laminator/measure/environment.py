"""What a workload runs in: its interpreter, the installed distributions, its environment.

The interpreter is asked for its version and folders in isolated mode, without `site` (so no
`.pth` file runs), and inside a sandbox: it is the provider's program. Everything else is read
from files.

Environment variables: a workload gets those of `KEPT` that are set, those named by `--env`, and
fixed values for HOME, TMPDIR, USER and LOGNAME. Variables that load code into a process (LD_*,
PYTHON* but for `PASSED_PYTHON`, and a few more) are refused.
"""

import ast
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from laminator.cbor import encode
from laminator.digest import Digest, sha256
from laminator.errors import MachineError, UsageError, shown

KEPT = (
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "TERM",
    "TZ",
)
"""Variables that reach every workload if they are set; `--env NAME` adds others."""

PASSED_PYTHON = ("PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONUTF8")
"""The only PYTHON* variables that `--env` may pass: none of them loads code."""

SALT_BYTES = 16
COMMITMENT_DOMAIN = b"laminator-commitment-v1\x00"

_REFUSED_PREFIXES = ("LD_", "PYTHON", "LAMINATOR_")
_REFUSED = ("BASH_ENV", "ENV", "GCONV_PATH", "GLIBC_TUNABLES", "HOME", "TMPDIR", "USER", "LOGNAME")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METADATA = (".dist-info", ".egg-info")
_ANSWER_BYTES = 1 << 16
_METADATA_BYTES = 1 << 16
_QUESTION = """
import json, site, sys
base = [sys.base_prefix, sys.base_exec_prefix]
packages = site.getsitepackages(sorted(set(base), key=base.index))
if sys.argv[1]:
    sys.prefix = sys.exec_prefix = sys.argv[1]
    packages = site.getsitepackages([sys.argv[1]]) + (packages if sys.argv[2] == "true" else [])
print(json.dumps({
    "version": sys.implementation.name + " " + ".".join(map(str, sys.version_info[:3])),
    "bases": base,
    "packages": packages,
}))
"""

Ask = Callable[[Sequence[str], Sequence[Path]], bytes]
"""Runs a command where only the system's folders and the given ones are visible: its stdout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python interpreter and the folders that its programs import from.

    `given` is its absolute path as called, `executable` the real binary; `prefixes` are the
    environment's and the base installation's folders, `packages` the folders of installed
    distributions, `sources` what editable installs and `.pth` files point to outside of these.
    """

    given: Path
    executable: Path
    version: str
    prefixes: tuple[Path, ...]
    packages: tuple[Path, ...]
    sources: tuple[Path, ...]


class Distribution(NamedTuple):
    """An installed distribution: its normalised name (PEP 503) and version."""

    name: str
    version: str


class InstalledDistributions(NamedTuple):
    """The sorted distributions and the SHA-256 of the CBOR of their (name, version) pairs."""

    items: tuple[Distribution, ...]
    digest: Digest


class Environment(NamedTuple):
    """The variables that a workload gets, and what to tell the user about them."""

    values: Mapping[str, str]
    warnings: tuple[str, ...]


def locate_interpreter(name: str, search: str | None = None) -> Path:
    """Resolve a command's first word as a shell does: absolute, no `..`, links not followed.

    `search` defaults to PATH. Raises UsageError.
    """
    found = shutil.which(name, path=search)
    if found is None:
        raise UsageError("interpreter.missing", f"no program {shown(name)} on PATH")
    return Path(os.path.abspath(found))  # noqa: PTH100 - keeps links as they are


def inspect_interpreter(given: Path, ask: Ask, real: Path | None = None) -> Interpreter:
    """Find out what `given` (an absolute path) is, from files and from its own answer to `ask`.

    `real` is where it led when it was measured (default: where it leads now); that is asked.
    Raises UsageError if it is not a Python interpreter, MachineError if it gives no answer.
    """
    executable = real or given.resolve()
    check_binary(executable)
    prefix, settings = _virtual_environment(given)
    folders = [executable.parent.parent]
    if prefix is not None:
        folders += [prefix, Path(settings.get("home", "/usr/bin")).parent]
    system = settings.get("include-system-site-packages", "false").lower()
    command = [str(executable), "-I", "-S", "-B", "-c", _QUESTION, str(prefix or ""), system]
    answer = _parse_answer(ask(command, folders), given)
    prefixes = [*([prefix] if prefix is not None else []), *map(Path, answer.bases)]
    packages = tuple(Path(path) for path in answer.packages if os.path.isdir(path))  # noqa: PTH112 - as _is_there
    return Interpreter(
        given=given,
        executable=executable,
        version=answer.version,
        prefixes=tuple(dict.fromkeys(prefixes)),
        packages=packages,
        sources=find_sources(packages),
    )


def find_sources(packages: Sequence[Path]) -> tuple[Path, ...]:
    """Find what `.pth` files, setuptools' editable finders and PEP 610 records point to.

    Only existing paths outside `packages`; no code of the environment runs.
    """
    found: list[Path] = []
    for folder in packages:
        for path in sorted(folder.glob("*.pth")):
            found += [Path(os.path.normpath(folder / line)) for line in _path_lines(path)]
        for path in sorted(folder.glob("__editable__*_finder.py")):
            found += _finder_paths(path)
    projects = [root for folder in packages for root in _editable_projects(folder)]
    found += [root for root in projects if not any(path.is_relative_to(root) for path in found)]
    outside = (path for path in found if not any(path.is_relative_to(one) for one in packages))
    return tuple(sorted({path for path in outside if _is_there(path)}))


def list_distributions(packages: Sequence[Path]) -> InstalledDistributions:
    """List the distributions that have metadata in `packages`, as name and version.

    Raises MachineError if a folder cannot be read.
    """
    found: set[Distribution] = set()
    for folder in packages:
        try:
            entries = list(folder.iterdir())
        except OSError as error:
            message = f"cannot read {shown(str(folder))}"
            raise MachineError("environment.unreadable", message) from error
        found.update(_distribution(entry) for entry in entries if entry.suffix in _METADATA)
    items = tuple(sorted(found))
    return InstalledDistributions(items, sha256(encode([list(item) for item in items])))


def select_environment(
    source: Mapping[str, str], names: Sequence[str] = (), *, home: Path
) -> Environment:
    """Choose a workload's variables from `source`: `KEPT`, `names`, and the fixed ones.

    Raises UsageError for a name that is not set, not a variable's name, or refused.
    """
    values = {name: source[name] for name in KEPT if name in source}
    warnings = []
    for name in names:
        _check_name(name)
        if name not in source:
            raise UsageError("environment.missing", f"--env {name}: not set")
        if _SECRET.search(name):
            warnings.append(
                f"{name} looks like a secret: the workload gets it, and the card's .private file"
                " holds its value"
            )
        values[name] = source[name]
    for name, value in values.items():
        _check_text(name, value)
    values |= {"HOME": str(home), "TMPDIR": "/tmp", "USER": "workload", "LOGNAME": "workload"}  # noqa: S108 - the workload's own, empty at its start
    return Environment(values, tuple(warnings))


def commitment(salt: bytes, value: str) -> bytes:
    """Return the salted commitment to an argument or to a variable's value, 32 bytes.

    SHA-256("laminator-commitment-v1" || 00 || CBOR [salt, value]); the salt has 16 bytes.
    Raises UsageError if `value` is not Unicode text.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    _check_text("argument", value)
    return hashlib.sha256(COMMITMENT_DOMAIN + encode([salt, value])).digest()


class _Answer(NamedTuple):
    version: str
    bases: tuple[str, ...]
    packages: tuple[str, ...]


def _parse_answer(output: bytes, given: Path) -> _Answer:
    refusal = MachineError(
        "interpreter.answer", f"{shown(str(given))} does not answer as a Python 3 interpreter"
    )
    if len(output) > _ANSWER_BYTES:
        raise refusal
    try:
        answer = json.loads(output)
        version, bases, packages = answer["version"], answer["bases"], answer["packages"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refusal from error
    if not isinstance(version, str) or not _all_paths(bases) or not _all_paths(packages):
        raise refusal
    return _Answer(version[:64], tuple(bases), tuple(packages))


def _all_paths(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and item.startswith("/") for item in value
    )


def _is_there(path: Path) -> bool:
    """Say whether there is `path`, which there is not where its name is one that cannot be."""
    return os.path.exists(path)  # noqa: PTH110 - pathlib raises for a name that is too long


def check_binary(executable: Path) -> None:
    """Check that `executable` is no script in an interpreter's place. Raises UsageError."""
    try:
        with executable.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        message = f"cannot read {shown(str(executable))}"
        raise UsageError("interpreter.unreadable", message) from error
    if head == b"#!":
        raise UsageError(
            "interpreter.script",
            f"{shown(str(executable))} is a script that starts an interpreter (a pyenv shim?):"
            " give the interpreter itself, or activate a virtual environment",
        )


def find_settings(given: Path) -> Path | None:
    """Find `pyvenv.cfg` beside or above the interpreter as called (PEP 405)."""
    found = (folder / "pyvenv.cfg" for folder in (given.parent, given.parent.parent))
    return next((path for path in found if path.is_file() and os.access(path, os.R_OK)), None)


def _virtual_environment(given: Path) -> tuple[Path | None, Mapping[str, str]]:
    path = find_settings(given)
    if path is None:
        return None, {}
    lines = path.read_text(errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    return path.parent, {key.strip().lower(): value.strip() for key, _, value in pairs}


def _path_lines(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if line.strip() and not line.startswith(("#", "import ", "import\t")):
            yield line.rstrip()


def _finder_paths(path: Path) -> Iterator[Path]:
    """Read the literal MAPPING and NAMESPACES of a setuptools editable finder."""
    try:
        body = ast.parse(path.read_text()).body
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        for item in ast.walk(node.value):
            value = item.value if isinstance(item, ast.Constant) else None
            if isinstance(value, str) and value.startswith("/"):
                target = Path(value)
                yield target if _is_there(target) else target.with_name(f"{target.name}.py")


def _editable_projects(folder: Path) -> Iterator[Path]:
    for record in sorted(folder.glob("*.dist-info/direct_url.json")):
        try:
            content = json.loads(record.read_text())
            editable = content["dir_info"]["editable"]
            url = urlsplit(content["url"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if editable is True and url.scheme == "file":
            yield Path(unquote(url.path))


def _distribution(path: Path) -> Distribution:
    """Read name and version from a distribution's metadata, else from its folder's name."""
    stem_name, _, stem_version = path.stem.partition("-")
    fields = {"name": stem_name, "version": stem_version.partition("-py")[0]}
    candidates = (path / "METADATA", path / "PKG-INFO") if path.is_dir() else (path,)
    for candidate in candidates:
        try:
            with candidate.open(encoding="utf-8", errors="replace") as file:
                head = file.read(_METADATA_BYTES).partition("\n\n")[0]
        except OSError:
            continue
        for line in head.splitlines():
            key, _, value = line.partition(":")
            if key.lower() in fields:
                fields[key.lower()] = value.strip()
        break
    return Distribution(re.sub(r"[-_.]+", "-", fields["name"]).lower(), fields["version"])


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError("environment.name", f"not a variable's name: {shown(name)}")
    if name in PASSED_PYTHON:
        return
    if name in _REFUSED or name.startswith(_REFUSED_PREFIXES):
        raise UsageError("environment.refused", f"--env {name}: this variable is never passed on")


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError("environment.text", f"the value of {name} is not UTF-8") from error
