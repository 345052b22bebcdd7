"""The workload's code: measured into the log, then run from the measured copies.

The entry script and the interpreter's binary are copied once; the copies are what is hashed and
what runs. Their records are in the log before the interpreter is run for the first time, to ask
it where its packages are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from laminator.claims import Code, Distributions, Workload
from laminator.digest import Digest
from laminator.eventlog import NOTHING, workload_records
from laminator.measure.code_names import Roots, roots_of
from laminator.measure.environment import (
    KEPT,
    Interpreter,
    find_settings,
    inspect_interpreter,
    list_distributions,
    select_environment,
)
from laminator.measure.installation import check_installation
from laminator.run.bootstrapped import Start, measure_start
from laminator.run.disclosure import Disclosed, disclose
from laminator.run.filesystem import HOME, Bind, Link
from laminator.run.log import RunLog
from laminator.run.places import trace
from laminator.run.private_copy import PrivateCopy, copy_measured
from laminator.run.request import RunRequest
from laminator.run.sandbox import UID, Sandbox, ask, check_other_user_reads


class MeasuredCode(NamedTuple):
    """The workload's code as claims, and what it takes to run exactly that.

    `script` and `executable` are private copies; `script_path` is where the caller has the script.
    `links` lead from the interpreter as called to its binary, as they were when it was copied;
    `settings` binds the copy of its `pyvenv.cfg`, if it has one. `roots` name its files in the log,
    `start` is what runs before the script.
    """

    workload: Workload
    script: Path
    script_path: Path
    executable: Path
    interpreter: Interpreter
    links: tuple[Link, ...]
    settings: tuple[Bind, ...]
    environment: Mapping[str, str]
    disclosed: Disclosed
    roots: Roots
    start: Start


class _Copied(NamedTuple):
    """An interpreter as called, what its path led to, and the private copies of that."""

    given: Path
    real: Path
    links: tuple[Link, ...]
    copy: PrivateCopy
    settings: tuple[Bind, ...]


def measure_code(request: RunRequest, place: Path, log: RunLog, sandbox: Sandbox) -> MeasuredCode:
    """Copy, measure and log the workload's code. Raises UsageError, MachineError."""
    script_path = Path(request.cwd, request.argv[request.script])
    (place / "script").mkdir()
    script = copy_measured(script_path, place / "script" / script_path.name)
    python = _copy_interpreter(Path(request.argv[0]), place)
    extra = [name for name in request.environment if name not in KEPT]
    environment = select_environment(request.environment, extra, home=HOME)
    disclosed = disclose(request.argv[1:], environment.values, public=request.environment_public)
    partial = Workload(
        entry=Code(script_path.name, script.measured.digest),
        interpreter=Code(python.real.name, python.copy.measured.digest),
        arguments=disclosed.arguments,
        environment=disclosed.environment,
        distributions=Distributions(Digest("sha-256", NOTHING), 0),
    )
    *code_records, _ = workload_records(partial)
    log.append(*code_records)
    interpreter = _inspect(python, sandbox)
    installed = list_distributions(interpreter.packages)
    distributions = Distributions(installed.digest, len(installed.items))
    workload = partial._replace(distributions=distributions)
    log.append(workload_records(workload)[-1])
    roots = roots_of(interpreter, script_path)
    return MeasuredCode(
        workload=workload,
        script=script.path,
        script_path=script_path,
        executable=python.copy.path,
        interpreter=interpreter,
        links=python.links,
        settings=python.settings,
        environment=environment.values,
        disclosed=disclosed,
        roots=roots,
        start=measure_start(interpreter, roots, place, log),
    )


def _inspect(python: _Copied, sandbox: Sandbox) -> Interpreter:
    """Ask the copy what it is, and check what it says. Raises UsageError, MachineError."""
    if sandbox.separation == UID:
        check_other_user_reads([python.given])
    copies = (Bind(python.copy.path, python.real), *python.settings)
    interpreter = inspect_interpreter(
        python.given, lambda words, folders: ask(words, folders, sandbox, copies), python.real
    )
    texts = [bind.source.read_text(errors="replace") for bind in python.settings]
    stated = ask([str(python.real), "-I", "-V"], [python.real.parent.parent], sandbox, copies)
    check_installation(interpreter, texts[0] if texts else None, stated)
    return interpreter


def _copy_interpreter(given: Path, place: Path) -> _Copied:
    """Follow the path as called once, and copy what it leads to."""
    traced = trace(given)
    copy = copy_measured(traced.real, place / "interpreter")
    settings = find_settings(given)
    if settings is None:
        return _Copied(given, traced.real, traced.links, copy, ())
    bind = Bind(copy_measured(settings, place / "pyvenv.cfg").path, trace(settings).real)
    return _Copied(given, traced.real, traced.links, copy, (bind,))
