"""Plan what one workload sees: its script, its Python, its inputs, and places for its outputs.

Everything appears under the path that it has on the machine, so that an unmodified script works:

- the script's folder read-only (only the script if that folder is broad: a home, or above one);
- the Python environment and what its editable installs point to, read-only;
- script, interpreter and inputs as the attester's private copies;
- the folder of each output as a private place, which the attester owns and the workload writes
  to; what else the folder holds is bound into it read-only, entry by entry, if it would be
  visible at all, and the output that is there already is not.

What else the workload writes is gone when it ends, or refused.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from laminator.errors import UsageError, shown
from laminator.measure.environment import Interpreter
from laminator.run.filesystem import (
    HOME,
    Bind,
    Filesystem,
    Link,
    folder_binds,
    is_broad,
    merged,
    system_filesystem,
)

MAX_ENTRIES = 1000
"""Entries of an output's folder that are bound one by one."""

_MAX_LINKS = 40


class Handed(NamedTuple):
    """A path as given, absolute but with its links, and the private copy bound there.

    Both are the same for what is read in place.
    """

    given: Path
    private: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run needs. All paths are absolute; `home` is the user's home.

    `interpreter_copy` is the private copy of `interpreter.executable`, `links` lead there from
    `interpreter.given`, and `settings` binds the copy of `pyvenv.cfg`. `hidden` folders (the
    attester's own, a simulated machine's) are masked wherever they would be visible.
    """

    script: Handed
    cwd: Path
    home: Path
    interpreter: Interpreter
    interpreter_copy: Path
    links: tuple[Link, ...] = ()
    settings: tuple[Bind, ...] = ()
    inputs: Mapping[str, Handed]
    outputs: Mapping[str, Path]
    hidden: tuple[Path, ...] = ()
    network: bool = False


class Output(NamedTuple):
    """Where an output is collected (`path` below `place`) and where it is stored at the end."""

    place: Path
    path: str
    destination: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A workload's root, and where it finds (as it sees them) and leaves things.

    `before` holds, without namespaces, what lay at an output's own path before the start.
    """

    filesystem: Filesystem
    cwd: Path
    home: Path
    script: Path
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    collected: Mapping[str, Output]
    before: Mapping[str, "Signature"] = field(default_factory=dict)


Signature = tuple[tuple[str, int, int], ...]


def workload_filesystem(request: Request, places_root: Path) -> Plan:
    """Plan the root of a workload in namespaces; its private places are made in `places_root`.

    Raises UsageError for paths that contradict each other or cannot be shown.
    """
    reals = {name: trace(path).real for name, path in request.outputs.items()}
    _check_paths(request, reals)
    visible = _visible(request)
    places = _make_places(reals, places_root, visible)
    binds = Filesystem(
        read_only=(*_entries(places, request, visible), *_copies(request)),
        writable=tuple(Bind(own, at) for at, own in places.items()),
    )
    whole = merged(visible, binds)
    whole = merged(whole, _spelling(request, whole, places))
    hidden = {path.resolve() for path in (*request.hidden, places_root)}
    outer = (path for path in sorted(hidden) if hidden.isdisjoint(path.parents))
    whole = merged(whole, Filesystem(masked=tuple(path for path in outer if cover(path, whole))))
    _make_mount_points(whole, places)
    return Plan(
        filesystem=whole,
        cwd=request.cwd.resolve(),
        home=HOME,
        script=request.script.given,
        inputs={name: handed.given for name, handed in request.inputs.items()},
        outputs=dict(request.outputs),
        collected={name: _output(real, places) for name, real in reals.items()},
    )


def plain_places(request: Request, places_root: Path, *, owner: int | None = None) -> Plan:
    """Plan a workload without namespaces: only what it asks for by name is private.

    Inputs are the private copies; each output has a place of its own. A user id in `owner` gets
    the places, and passage (not reading) through the folders of the copies. An unmodified script
    that uses the paths as given reads and writes those.
    """
    reals = {name: trace(path).real for name, path in request.outputs.items()}
    _check_paths(request, reals)
    home = places_root / "home"
    own = {name: places_root / f"output-{index}" for index, name in enumerate(reals)}
    for folder in (home, *own.values()):
        folder.mkdir(mode=0o700)
        if owner is not None:
            os.chown(folder, owner, owner)
    handed = (request.script, *request.inputs.values())
    copies = (one for one in handed if one.private != one.given)
    for folder in {places_root, *(one.private.parent for one in copies)}:
        if owner is not None:
            folder.chmod(0o711)
    return Plan(
        filesystem=Filesystem(),
        cwd=request.cwd,
        home=home,
        script=request.script.given,
        inputs={name: one.private for name, one in request.inputs.items()},
        outputs={name: own[name] / real.name for name, real in reals.items()},
        collected={name: Output(own[name], real.name, real) for name, real in reals.items()},
        before={name: _signature(real) for name, real in reals.items()},
    )


def find_output(plan: Plan, name: str) -> Output | None:
    """Return where the output `name` is to be collected, None if the workload left none."""
    output = plan.collected[name]
    path = output.place / output.path
    if path.is_symlink() or (path.exists() and not _is_empty_folder(path)):
        return output
    real = output.destination
    if name in plan.before and real.exists() and _signature(real) != plan.before[name]:
        return Output(real.parent, real.name, real)
    return None


class Traced(NamedTuple):
    """Where a path leads: its real path, the links on the way, and folders left through `..`."""

    real: Path
    links: tuple[Link, ...]
    folders: tuple[Path, ...]


def trace(path: Path) -> Traced:
    """Walk an absolute path as the kernel does; what is missing counts as plain. UsageError."""
    real = Path("/")
    links: list[Link] = []
    folders: list[Path] = []
    waiting = list(path.parts[:0:-1])
    while waiting:
        part = waiting.pop()
        here = real / part
        if part == "..":
            folders.append(real)
            real = real.parent
        elif here.is_symlink():
            target = here.readlink()
            links.append(Link(here, str(target)))
            if len(links) > _MAX_LINKS:
                raise UsageError("places.links", f"too many links in {shown(str(path))}")
            real = Path("/") if target.is_absolute() else real
            waiting += target.parts[:0:-1] if target.is_absolute() else target.parts[::-1]
        else:
            real = here
    return Traced(real, tuple(links), tuple(folders))


def cover(path: Path, filesystem: Filesystem) -> Path | None:
    """Return the innermost place of `filesystem` that `path` lies in, or is."""
    targets = [bind.target for bind in (*filesystem.read_only, *filesystem.writable)]
    around = [at for at in (*targets, *filesystem.tmpfs) if path.is_relative_to(at)]
    return max(around, key=lambda at: len(at.parts), default=None)


def code_copies(request: Request) -> list[Path]:
    """Return where the copies of the interpreter, and of what it reads first, are bound."""
    return [request.interpreter.executable, *(bind.target for bind in request.settings)]


def _visible(request: Request) -> Filesystem:
    """Return what the workload sees before any place is made."""
    interpreter = request.interpreter
    sources = (path for path in interpreter.sources if not is_broad(path.resolve(), request.home))
    folders = [*interpreter.prefixes, *interpreter.packages, *sources]
    script_folder = trace(request.script.given).real.parent
    if not is_broad(script_folder, request.home):
        folders.insert(0, script_folder)
    system = system_filesystem(network=request.network)
    return merged(system, folder_binds(folders, home=request.home))


def _copies(request: Request) -> tuple[Bind, ...]:
    handed = (request.script, *request.inputs.values())
    binds = [Bind(one.private, trace(one.given).real) for one in handed]
    executable = Bind(request.interpreter_copy, request.interpreter.executable)
    return (*binds, executable, *request.settings)


def _check_paths(request: Request, outputs: Mapping[str, Path]) -> None:
    """Refuse outputs that lie in, around or upon something else that the run uses."""
    used = {f"input {name}": trace(one.given).real for name, one in request.inputs.items()}
    used["script"] = trace(request.script.given).real
    used["interpreter"] = request.interpreter.executable
    for name, real in outputs.items():
        others = {f"output {other}": path for other, path in outputs.items() if other != name}
        for what, path in (used | others).items():
            if real.is_relative_to(path) or path.is_relative_to(real):
                raise UsageError("places.overlap", f"output {name} and {what} overlap")
        if real.parent == Path("/") or real.parts[1] in ("proc", "dev", "sys"):
            raise UsageError("places.output", f"output {name}: not a place for an output")


def _make_places(
    reals: Mapping[str, Path], places_root: Path, visible: Filesystem
) -> Mapping[Path, Path]:
    """Make the private folder of each output's folder: {path that the workload sees: folder}.

    A folder that exists already as an output exists for the workload too, empty.
    """
    places: dict[Path, Path] = {}
    for name, real in reals.items():
        at = real.parent
        existing = next(folder for folder in real.parents if folder.exists())
        if not existing.is_dir():
            raise UsageError("places.output", f"output {name}: {shown(str(existing))} is a file")
        if cover(existing, visible):
            at = existing
        if at not in places:
            places[at] = places_root / f"place-{len(places)}"
            places[at].mkdir(mode=0o700)
        if real.is_dir():
            (places[at] / real.relative_to(at)).mkdir(parents=True, exist_ok=True)
    return places


def _entries(places: Mapping[Path, Path], request: Request, visible: Filesystem) -> list[Bind]:
    """Show in each place what else its folder holds: links are made anew, the rest is bound."""
    binds: list[Bind] = []
    outputs = {trace(path).real for path in request.outputs.values()}
    measured = {link.path for link in request.links}
    for at, own in places.items():
        if not (at.is_dir() and cover(at, visible)):
            continue
        entries = sorted(at.iterdir())
        if len(entries) > MAX_ENTRIES:
            raise UsageError(
                "places.entries",
                f"{shown(str(at))} has more than {MAX_ENTRIES} entries: write the output to a"
                " folder of its own",
            )
        for entry in (entry for entry in entries if entry not in measured):
            mode = entry.lstat().st_mode
            if stat.S_ISLNK(mode):
                (own / entry.name).symlink_to(entry.readlink())
            elif (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and entry not in outputs:
                binds.append(Bind(entry, entry))
    return [bind for bind in binds if bind.target not in places]


def _spelling(request: Request, whole: Filesystem, places: Mapping[Path, Path]) -> Filesystem:
    """Make the paths as given lead to the real ones: links and folders that are not there yet."""
    interpreter = request.interpreter
    paths = [interpreter.given, *interpreter.prefixes, *interpreter.packages, request.cwd]
    paths += [one.given for one in (request.script, *request.inputs.values())]
    traced = [trace(path) for path in (*paths, *request.outputs.values())]
    links = {link.path: link for one in traced for link in one.links}
    links |= {link.path: link for link in request.links}
    folders = {folder for one in traced for folder in one.folders} | {request.cwd.resolve()}
    for path, link in links.items():
        own = _own(path, whole, places)
        if own is not None and not own.is_symlink():
            own.parent.mkdir(parents=True, exist_ok=True)
            own.symlink_to(link.text)
    for folder in folders:
        own = _own(folder, whole, places)
        if own is not None:
            own.mkdir(parents=True, exist_ok=True)
    return Filesystem(
        links=tuple(link for path, link in links.items() if cover(path, whole) is None),
        folders=tuple(sorted(folder for folder in folders if cover(folder, whole) is None)),
    )


def _make_mount_points(whole: Filesystem, places: Mapping[Path, Path]) -> None:
    """Make what is mounted directly in a place exist there, as an empty file or folder."""
    binds = [*whole.read_only, *whole.writable]
    for source, target in (*binds, *(Bind(Path("/"), path) for path in whole.tmpfs)):
        parent = _own(target.parent, whole, places)
        if parent is None:
            continue
        own = parent / target.name
        if source.is_dir():
            own.mkdir(parents=True, exist_ok=True)
        else:
            own.parent.mkdir(parents=True, exist_ok=True)
            own.touch()


def _own(path: Path, whole: Filesystem, places: Mapping[Path, Path]) -> Path | None:
    """Return the place's own path of what the workload sees at `path`, if a place covers it."""
    at = cover(path, whole)
    return places[at] / path.relative_to(at) if at is not None and at in places else None


def _output(real: Path, places: Mapping[Path, Path]) -> Output:
    at = max((at for at in places if real.is_relative_to(at)), key=lambda at: len(at.parts))
    return Output(places[at], str(real.relative_to(at)), real)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _signature(path: Path) -> Signature:
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    states = [(str(one), one.lstat()) for one in paths if one.exists()]
    return tuple(sorted((name, state.st_mtime_ns, state.st_size) for name, state in states))
