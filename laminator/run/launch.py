"""Run the workload in its sandbox, serve its channel, collect what it made."""

import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from laminator.claims import Artifact, Property
from laminator.errors import UsageError, shown
from laminator.run.bootstrapped import BOOTSTRAP, Script, bootstrapped
from laminator.run.bubblewrap import attester_copy
from laminator.run.channel import CHANNEL_VARIABLE, Names, serve
from laminator.run.code_channel import code_channel
from laminator.run.filesystem import Filesystem, is_broad, merged
from laminator.run.in_place import leaf_files, leaf_names
from laminator.run.pinned import pin, pin_code
from laminator.run.places import (
    Handed,
    Output,
    Plan,
    Request,
    code_copies,
    find_output,
    plain_places,
    trace,
    workload_filesystem,
)
from laminator.run.private_copy import store
from laminator.run.progress import tell
from laminator.run.sandbox import (
    NAMESPACES,
    OTHER_USER,
    ExitStatus,
    Job,
    Process,
    check_other_user_reads,
    start,
)
from laminator.run.session import StartedRun, artifact_type
from laminator.run.signals import InterruptedRunError
from laminator.seed import workload_seed

_GRACE_SECONDS = 3.0


class Ended(NamedTuple):
    """A workload that has ended: how, and what it reported."""

    status: ExitStatus
    reports: tuple[Property, ...]


def plan_workload(started: StartedRun) -> Plan:
    """Plan what the workload sees.

    Raises UsageError for paths that contradict each other, MachineError where another user
    stands in for namespaces and cannot read what the workload needs.
    """
    request, code = started.request, started.code
    paths = Request(
        script=Handed(code.script_path, code.script),
        cwd=Path(request.cwd),
        home=Path.home(),
        interpreter=code.interpreter,
        interpreter_copy=code.executable,
        links=code.links,
        settings=code.settings,
        inputs={name: Handed(item.given, item.copy) for name, item in started.inputs.items()},
        outputs={name: Path(path) for name, path in request.outputs.items()},
        hidden=tuple(
            path for path in (started.place, started.outputs, attester_copy()) if path is not None
        ),
        network=request.network,
    )
    for source in code.interpreter.sources:
        if is_broad(source.resolve(), paths.home):
            tell(f"{shown(str(source))}, named in a .pth file, is not shown to the work")
    places = started.outputs / "outputs"
    places.mkdir()
    match started.sandbox.separation:
        case "namespaces":
            plan = workload_filesystem(paths, places)
            copies = Filesystem(read_only=started.code.start.copies)
            whole = merged(_pinned(plan.filesystem, paths), copies, leaf_files(started.inputs))
            return replace(plan, filesystem=whole)
        case "uid":
            for folder in (started.place, started.outputs):
                folder.chmod(0o711)
            plan = plain_places(paths, places, owner=OTHER_USER)
            needed = [code.script, code.start.bootstrap, code.interpreter.given]
            check_other_user_reads([*needed, *plan.inputs.values()])
            return plan
        case _:
            return plain_places(paths, places)


def _pinned(filesystem: Filesystem, paths: Request) -> Filesystem:
    """Keep script, interpreter and inputs bound where they are.

    Of a data folder with very many entries, the script sees its inputs only.
    """
    script = trace(paths.script.given).real
    inputs = [trace(one.given).real for one in paths.inputs.values()]
    thin = {path.parent for path in inputs} - {script.parent}
    return pin_code(pin(filesystem, [script, *inputs], thin), code_copies(paths), paths.links)


def run_workload(started: StartedRun, plan: Plan) -> Ended:
    """Run the workload to its end. Raises MalformedError where it breaks its channel."""
    ours, theirs = socket.socketpair()
    with ours, code_channel(started.opened.log) as code:
        with theirs, code:
            command, environment = workload_command(started, plan, code.fileno())
            job = Job(
                command=command,
                env={**environment, CHANNEL_VARIABLE: str(theirs.fileno())},
                cwd=plan.cwd,
                pass_fds=(theirs.fileno(), code.fileno()),
                network=started.request.network,
            )
            process = start(job, plan.filesystem, started.sandbox)
        names = Names(
            {name: str(path) for name, path in plan.inputs.items()},
            {name: str(path) for name, path in plan.outputs.items()},
            None if started.seed is None else workload_seed(started.seed),
            leaf_names(started.inputs, bound=started.sandbox.separation == NAMESPACES),
        )
        return _attend(process, ours, names)


def workload_command(
    started: StartedRun, plan: Plan, channel: int
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that run the measured script through the bootstrap.

    `channel` is the descriptor that its records of code go to. Without namespaces the private
    copies cannot lie at the script's own path: the copy is run from where it is, and finds the
    modules beside the script through its search path.
    """
    request, environment = started.request, dict(started.code.environment)
    bound = started.sandbox.separation == NAMESPACES
    script = Script(
        interpreter=request.argv[0],
        options=request.argv[1 : request.script],
        script=request.argv[request.script] if bound else str(started.code.script),
        arguments=request.argv[request.script + 1 :],
        path=() if bound else (str(started.code.script_path.parent),),
    )
    if not bound:
        environment |= {"HOME": str(plan.home)}
    place = BOOTSTRAP if bound else started.code.start.bootstrap
    roots = started.code.roots
    if not bound:
        roots = roots.script_at(started.code.script.parent)
    command = bootstrapped(script, roots, channel, place, list(environment))
    return command, environment


def collect_outputs(
    plan: Plan, types: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Artifact]:
    """Measure what the workload left and store exactly these bytes; artifacts by name.

    `types` gives artifact types by name (default: `artifact_type`). Raises UsageError for an
    output that is not there, MachineError.
    """
    found = {name: _find(plan, name) for name in sorted(plan.collected)}
    artifacts = {}
    for name, output in found.items():
        measured = store(output.place, output.path, output.destination)
        kind = types.get(name) or artifact_type("output", name)
        artifacts[name] = Artifact(kind, measured.digest, measured.size, measured.files)
    return artifacts


def _find(plan: Plan, name: str) -> Output:
    output = find_output(plan, name)
    if output is None:
        where = shown(str(plan.collected[name].destination))
        message = f"the workload did not write the output {name} ({where}); no card is written"
        raise UsageError("output.missing", message)
    return output


def _attend(process: Process, channel: socket.socket, names: Names) -> Ended:
    ended = os.pidfd_open(process.popen.pid)
    try:
        reports = serve(channel, names, ended)
        return Ended(process.wait(), reports)
    except InterruptedRunError as error:
        process.send_signal(error.signal)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        raise
    finally:
        os.close(ended)
        process.kill()
        process.popen.wait()
