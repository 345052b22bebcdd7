"""The wheels of a lock, fetched with pip into a folder; hashes are compared afterwards as always.

pip gets the pins and hashes that were parsed, never the lock's own lines, and builds nothing: a
lock cannot have code run here.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from laminator.errors import MachineError, UsageError, shown
from laminator.references.locks import Lock, LockedWheel

_SECONDS = 3600


def download_wheels(lock: Lock, folder: Path) -> tuple[str, ...]:
    """Download the wheels that the lock has for this interpreter; return their paths.

    Raises MachineError where pip cannot; the message says to give --wheels.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join([*_lines(lock), ""]), encoding="utf-8")
    wheels = folder / "wheels"
    words = ["download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--quiet"]
    words += ["--disable-pip-version-check", "--no-input", *lock.options]
    command = [sys.executable, "-m", "pip", *words, "-r", str(requirements), "-d", str(wheels)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _refusal(f"no end after {_SECONDS} seconds") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _refusal(shown(lines[-1] if lines else "no reason given"))
    return list_wheels(str(wheels))


def list_wheels(folder: str) -> tuple[str, ...]:
    """Return the paths of a folder's wheels, sorted. Raises UsageError where there is none."""
    try:
        found = sorted(str(path) for path in Path(folder).iterdir() if path.suffix == ".whl")
    except OSError as error:
        message = f"cannot read the folder {shown(folder)}: {error.strerror}"
        raise UsageError("wheels.folder", message) from error
    if not found:
        raise UsageError("wheels.folder", f"no wheel in {shown(folder)}: pip download --no-deps")
    return tuple(found)


def _refusal(reason: str) -> MachineError:
    message = f"pip cannot download the lock's wheels: {reason}; download them where there is a"
    return MachineError("wheels.download", f"{message} network, and give the folder as --wheels")


def _lines(lock: Lock) -> Iterator[str]:
    """Yield one requirement for each project: its wheel for this interpreter, by every hash."""
    for entries in _by_project(lock):
        chosen = _compatible(entries)
        hashes = [
            f"--hash={algorithm}:{value.hex()}"
            for entry in chosen
            for algorithm, value in entry.hashes.items()
        ]
        first = chosen[0]
        where = (
            f"{first.name}=={first.version}" if first.url is None else f"{first.name} @ {first.url}"
        )
        yield " ".join([where, *sorted(set(hashes))])


def _by_project(lock: Lock) -> list[list[LockedWheel]]:
    projects: dict[tuple[str, str], list[LockedWheel]] = {}
    for wheel in lock.wheels:
        projects.setdefault((wheel.name, wheel.version), []).append(wheel)
    return list(projects.values())


def _compatible(entries: list[LockedWheel]) -> list[LockedWheel]:
    """Return the entries of the wheel that this interpreter takes first, all if it takes none."""
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    named = {
        entry.filename: parse_wheel_filename(entry.filename)[3]
        for entry in entries
        if entry.filename
    }
    if not named:
        return entries
    for tag in sys_tags():
        for filename, tags in named.items():
            if tag in tags:
                return [entry for entry in entries if entry.filename == filename]
    return entries
