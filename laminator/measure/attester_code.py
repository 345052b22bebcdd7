"""The attester's whole code: where it lies, a private copy that is started, and its digest.

A copy has these files; the paths do not depend on where anything is installed:

    entry.py               a fixed text that starts `laminator.run.entry`
    bin/python3            the interpreter
    bin/bwrap              bubblewrap, for the workload's sandbox, where the machine has it
    lib/pythonX.Y/...      the standard library: *.py and extension modules
    site/...               laminator and every distribution that its attester imports
    so/...                 every other shared object that they map, and the dynamic linker

The launch digest is the manifest digest of these files (`laminator.measure.files`). Nothing else
is in the copy: no byte code, no `.pth`, no metadata. Left out of the standard library are its
tests and what an attester never imports (`UNUSED`).

What an installation consists of is asked of a process of that interpreter, which imports what
the attester imports and lists what that mapped. Only 64-bit Linux with glibc is supported.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from laminator.digest import Digest
from laminator.errors import MachineError, shown
from laminator.measure.files import (
    ManifestEntry,
    Write,
    hash_descriptor,
    manifest_preimage,
    measure_manifest,
)
from laminator.programs import SEARCH_PATH, find_program

ENTRY = """\
import sys

sys.path.insert(0, __file__.rpartition("/")[0] + "/site")

from laminator.run.entry import main

raise SystemExit(main(sys.argv[1:]))
"""

IMPORTS = (
    "cbor2",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.ciphers",
    "cryptography.hazmat.primitives.serialization",
    "ctypes",
    "hashlib",
    "tpm2_pytss",
)
"""What the attester imports beside laminator and pure standard library."""

UNUSED = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "msilib",
        "pydoc_data",
        "site-packages",
        "sitecustomize.py",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
        "usercustomize.py",
    }
)
"""Folders and files of the standard library that are left out, at any depth."""

_UNUSED_STARTS = ("config-", "_tkinter.", "_test", "_ctypes_test.", "_xx", "xx")
_NO_CODE = frozenset({"__pycache__"})
_PROBE_SECONDS = 60.0
_FILE_MODE = 0o444
_PROGRAM_MODE = 0o555
_PROGRAMS = ("bin/", "so/")

# Runs in the other interpreter: argv[1] is the folder that holds laminator, argv[2:] the imports.
_PROBE = """
import ctypes, json, os, sys
before = {name.partition(".")[0] for name in sys.modules}
sys.path.append(sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
wanted = {name.partition(".")[0] for name in sys.argv[2:]}
loaded = {name.partition(".")[0] for name in sys.modules}
distributions = {}
for name in sorted((loaded - before | wanted) - set(sys.stdlib_module_names)):
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None and spec.origin:
        folders = spec.submodule_search_locations
        distributions[name] = list(folders)[0] if folders else spec.origin
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
objects = []
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def collect(info, size, data):
    objects.append(os.fsdecode(info.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(collect, None)
json.dump({"executable": os.path.realpath(sys.executable),
           "library": os.path.dirname(os.path.realpath(os.__file__)),
           "version": "%d.%d" % sys.version_info[:2],
           "distributions": distributions, "objects": objects}, sys.stdout)
"""


class Installation(NamedTuple):
    """Which installation to copy: an interpreter, and the folder that holds `laminator`."""

    python: Path
    packages: Path


class CodeFile(NamedTuple):
    """A file of the attester's code: its path in every copy, and where it lies here."""

    path: str
    source: str


class CodeCopy(NamedTuple):
    """A copy in `root`; `preimage` is what a launch hashes, `digest` its SHA-256."""

    root: Path
    digest: Digest
    preimage: bytes

    def command(self, arguments: Sequence[str], seen_at: Path | None = None) -> tuple[str, ...]:
        """Return the words that start the copy, which its process sees at `seen_at`.

        The copied linker finds every library in the copy first, `-I -S -B` keep the interpreter
        from reading code elsewhere.
        """
        root = seen_at or self.root
        python = str(root / "bin/python3")
        words = (str(root / "so" / _linker_name(self.root)), "--inhibit-cache", "--argv0", python)
        isolated = ("-I", "-S", "-B", str(root / "entry.py"))
        return (*words, "--library-path", str(root / "so"), python, *isolated, *arguments)


def own_installation() -> Installation:
    """Return the installation that runs now."""
    return Installation(Path(sys.executable), Path(__file__).absolute().parents[2])


def collect(installation: Installation) -> tuple[CodeFile, ...]:
    """List the attester's code in an installation, without `entry.py`, sorted by path.

    Raises MachineError where the interpreter cannot import what the attester needs.
    """
    found = _probe(installation)
    files = dict(_library(found["library"], found["version"]))
    files.update(_distributions(found["distributions"]))
    files.update(_folder("site/laminator", str(installation.packages / "laminator"), _NO_CODE))
    files["bin/python3"] = found["executable"]
    placed = {os.path.realpath(source) for source in files.values()}
    objects = [name for name in found["objects"] if name.startswith("/")]
    bubblewrap = find_program("bwrap")
    if bubblewrap is not None:
        bubblewrap = os.path.realpath(bubblewrap)
        files["bin/bwrap"] = bubblewrap
        objects += _needed(bubblewrap, _dynamic_linker(objects))
    for name in objects:
        if os.path.realpath(name) not in placed:
            files.setdefault(f"so/{Path(name).name}", name)
    return tuple(CodeFile(path, files[path]) for path in sorted(files))


def launch_digest(installation: Installation, entry: str = ENTRY) -> Digest:
    """Return the digest that a launch of this installation has, without copying it.

    Raises MachineError.
    """
    return measure_manifest(launch_entries(installation, entry)).digest


def launch_entries(installation: Installation, entry: str = ENTRY) -> list[ManifestEntry]:
    """Return what a launch of this installation measures, file by file. Raises MachineError."""
    entries = _over_files(collect(installation), lambda item: _read(item, None))
    return [*entries, _entry_of(entry)]


def copy_code(files: Sequence[CodeFile], root: Path, entry: str = ENTRY) -> CodeCopy:
    """Copy `files` and `entry` into the new folder `root`; each byte is read once.

    Raises MachineError.
    """
    _make_folders(files, root)
    entries = _over_files(files, lambda item: _copy(item, root))
    with _created(root / "entry.py", _FILE_MODE) as write:
        write(memoryview(entry.encode()))
    manifest = [*entries, _entry_of(entry)]
    return CodeCopy(root, measure_manifest(manifest).digest, manifest_preimage(manifest))


def _probe(installation: Installation) -> dict[str, Any]:
    python, packages = str(installation.python), str(installation.packages)
    words = [python, "-I", "-B", "-c", _PROBE, packages, *IMPORTS]
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            env={"PATH": SEARCH_PATH, "OPENSSL_CONF": os.devnull},
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unusable(installation, str(error)) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise _unusable(installation, f"{lines[-1]}; install laminator[prover]")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _unusable(installation: Installation, reason: str) -> MachineError:
    python = shown(str(installation.python))
    return MachineError("attester.code", f"{python} cannot run the attester: {reason}")


def _library(folder: str, version: str) -> Iterator[tuple[str, str]]:
    """Yield the standard library's files; links are followed when they are read."""
    for path, source in _folder(f"lib/python{version}", folder, UNUSED):
        if not path.rpartition("/")[2].startswith(_UNUSED_STARTS):
            yield path, source


def _distributions(places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the files of imported packages and modules, by their place on the import path."""
    for name, place in places.items():
        if Path(place).is_dir():
            yield from _folder(f"site/{name}", place, _NO_CODE)
        else:
            yield f"site/{Path(place).name}", place


def _folder(logical: str, folder: str, left_out: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield (path in a copy, path here) of a folder's Python files and extension modules."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        message = f"cannot read {shown(folder)}: {error.strerror}"
        raise MachineError("attester.code", message) from error
    for entry in entries:
        name = entry.name
        if name in left_out or name.startswith("config-"):
            continue
        if entry.is_dir():
            yield from _folder(f"{logical}/{name}", entry.path, left_out)
        elif name.endswith((".py", ".so")):
            yield f"{logical}/{name}", entry.path


def _dynamic_linker(objects: Iterable[str]) -> str:
    for name in objects:
        if Path(name).name.startswith("ld-"):
            return name
    raise MachineError("attester.code", "no dynamic linker found: only glibc is supported")


def _needed(program: str, linker: str) -> list[str]:
    """Return the paths of the shared objects that a program is linked with."""
    done = subprocess.run([linker, "--list", program], check=False, capture_output=True, env={})
    lines = done.stdout.decode(errors="replace").splitlines()
    return [words[2] for line in lines if (words := line.split())[1:2] == ["=>"]]


def _linker_name(root: Path) -> str:
    return _dynamic_linker(sorted(path.name for path in (root / "so").iterdir()))


def _make_folders(files: Iterable[CodeFile], root: Path) -> None:
    for folder in sorted({item.path.rpartition("/")[0] for item in files}):
        (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)


def _copy(item: CodeFile, root: Path) -> ManifestEntry:
    mode = _PROGRAM_MODE if item.path.startswith(_PROGRAMS) else _FILE_MODE
    with _created(root / item.path, mode) as write:
        return _read(item, write)


def _read(item: CodeFile, write: Write | None) -> ManifestEntry:
    try:
        descriptor = os.open(item.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        message = f"cannot read {shown(item.source)}: {error.strerror}"
        raise MachineError("attester.code", message) from error
    try:
        return ManifestEntry(item.path, *hash_descriptor(descriptor, write))
    finally:
        os.close(descriptor)


@contextmanager
def _created(path: Path, mode: int) -> Iterator[Write]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        message = f"cannot write {shown(str(path))}: {error.strerror}"
        raise MachineError("attester.copy", message) from error

    def write(chunk: memoryview) -> None:
        while chunk:
            chunk = chunk[os.write(descriptor, chunk) :]

    try:
        yield write
    except OSError as error:
        message = f"cannot write {shown(str(path))}: {error.strerror}; make room and run again"
        raise MachineError("attester.copy", message) from error
    finally:
        os.close(descriptor)


def _entry_of(text: str) -> ManifestEntry:
    content = text.encode()
    return ManifestEntry("entry.py", len(content), hashlib.sha256(content).digest())


def _over_files(
    files: Sequence[CodeFile], work: Callable[[CodeFile], ManifestEntry]
) -> list[ManifestEntry]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(work, files))
