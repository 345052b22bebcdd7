"""What can be seen to be wrong with a request before it costs a run number."""

import os
from pathlib import Path

from laminator.errors import UsageError, shown
from laminator.measure.environment import check_binary
from laminator.run.command import find_script
from laminator.run.disclosure import PRIVATE_SUFFIX
from laminator.run.request import RunRequest


def check_request(request: RunRequest) -> None:
    """Raise UsageError where the request cannot be met on this machine."""
    _check_command(request)
    _check_files(request)
    _check_names(request)
    _check_targets(request)


def _check_command(request: RunRequest) -> None:
    """Check that the interpreter will run the script that is measured, and nothing else."""
    if not request.argv[0].startswith("/"):
        raise UsageError("request.interpreter", "the interpreter's path is not absolute")
    if find_script(request.argv) != request.script:
        message = "the interpreter would take another word for its script"
        raise UsageError("request.script", message)
    if request.verb == "evaluate" and request.argv[1:] != request.argv[-1:]:
        raise UsageError("request.script", "an evaluation has one interpreter and one script")


def _check_files(request: RunRequest) -> None:
    script = Path(request.cwd, request.argv[request.script])
    files = {"script": script, "interpreter": Path(request.argv[0])}
    named = {"plan": request.plan, "plan-token": request.plan_token}
    files |= {what: Path(path) for what, path in named.items() if path is not None}
    for what, path in files.items():
        if not path.is_file() or not os.access(path, os.R_OK):
            raise UsageError(f"request.{what}", f"cannot read the {what} {shown(str(path))}")
    check_binary(Path(request.argv[0]).resolve())
    for name, given in request.inputs.items():
        if not os.access(given, os.R_OK):
            message = f"cannot read the input {name} at {shown(given)}"
            raise UsageError("request.input", message)
        if not (Path(given).is_file() or Path(given).is_dir()):
            message = f"the input {name} at {shown(given)} is neither file nor folder"
            raise UsageError("request.input", message)


def _check_names(request: RunRequest) -> None:
    both = sorted(request.inputs.keys() & request.outputs.keys())
    if both:
        raise UsageError("request.names", f"{both[0]} is the name of an input and of an output")
    unknown = sorted(set(request.in_place) - request.inputs.keys())
    if unknown or (request.in_place and request.verb != "run"):
        message = f"{', '.join(unknown) or request.verb}: only inputs of a run are read in place"
        raise UsageError("request.in-place", message)
    strange = sorted(request.cards.keys() - request.inputs.keys())
    if strange:
        message = f"--card-in {strange[0]}: there is no input of this name"
        raise UsageError("request.card-in", message)


def _check_targets(request: RunRequest) -> None:
    """Check that the card and the outputs can be written, and lie in nobody's way."""
    card = Path(request.card)
    files = {
        "the card": card,
        "the card's private file": card.with_name(card.name + PRIVATE_SUFFIX),
    }
    outputs = {name: Path(path) for name, path in request.outputs.items()}
    used = _used(request)
    for name, path in {**outputs, **files}.items():
        folder = path.parent if name in files else _existing(path)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            message = f"cannot write {name} into {shown(str(folder))}: no folder to write to"
            raise UsageError("request.target", message)
        others = {**used, **outputs, **files}
        for other_name, other in others.items():
            if other_name != name and _clash(path, other, whole=name in files):
                message = f"{name} and {other_name} are the same place, or one is in the other"
                raise UsageError("request.overlap", message)
    if card.is_dir():
        raise UsageError("request.card", f"the card {shown(request.card)} is a folder")


def _used(request: RunRequest) -> dict[str, Path]:
    """Return the files that the run reads, by what they are."""
    script = Path(request.cwd, request.argv[request.script])
    used = {"the script": script, "the interpreter": Path(request.argv[0])}
    plans = {"the plan": request.plan, "the plan's time-stamp": request.plan_token}
    used |= {what: Path(path) for what, path in plans.items() if path is not None}
    used |= {f"the card of {name}": Path(path) for name, path in request.cards.items()}
    return used | {name: Path(path) for name, path in request.inputs.items()}


def _existing(path: Path) -> Path:
    """Return the innermost folder above `path` that is there; the work may make the others."""
    return next(folder for folder in path.parents if folder.exists())


def _clash(path: Path, other: Path, *, whole: bool) -> bool:
    """Say whether two places overlap; or are one, for a card, which may lie in a folder."""
    path, other = path.resolve(), other.resolve()
    if whole:
        return path == other
    return path.is_relative_to(other) or other.is_relative_to(path)
