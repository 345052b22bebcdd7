"""Run the workload in its sandbox, serve its channel, collect what it made."""

import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from laminator.claims import Artifact, Property
from laminator.errors import UsageError, shown
from laminator.run.channel import CHANNEL_VARIABLE, Names, serve
from laminator.run.outcome import InterruptedRunError
from laminator.run.places import Handed, Output, Plan, Request, workload_filesystem
from laminator.run.private_copy import store
from laminator.run.sandbox import ExitStatus, Job, Process, start
from laminator.run.session import StartedRun, artifact_type

_GRACE_SECONDS = 3.0


class Ended(NamedTuple):
    """A workload that has ended: how, and what it reported."""

    status: ExitStatus
    reports: tuple[Property, ...]


def plan_workload(started: StartedRun) -> Plan:
    """Plan what the workload sees. Raises UsageError for paths that contradict each other."""
    request, code = started.request, started.code
    places = started.place / "outputs"
    places.mkdir()
    return workload_filesystem(
        Request(
            script=Handed(code.script_path, code.script),
            cwd=Path(request.cwd),
            home=Path.home(),
            interpreter=code.interpreter,
            interpreter_copy=code.executable,
            inputs={name: Handed(item.given, item.copy) for name, item in started.inputs.items()},
            outputs={name: Path(path) for name, path in request.outputs.items()},
            hidden=(started.place,),
            network=request.network,
        ),
        places,
    )


def run_workload(started: StartedRun, plan: Plan) -> Ended:
    """Run the workload to its end. Raises MalformedError where it breaks its channel."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            job = Job(
                command=started.request.argv,
                env={**started.code.environment, CHANNEL_VARIABLE: str(theirs.fileno())},
                cwd=plan.cwd,
                pass_fds=(theirs.fileno(),),
                network=started.request.network,
            )
            process = start(job, plan.filesystem, started.sandbox)
        names = Names(
            {name: str(path) for name, path in plan.inputs.items()},
            {name: str(path) for name, path in plan.outputs.items()},
        )
        return _attend(process, ours, names)


def collect_outputs(
    collected: Mapping[str, Output], types: Mapping[str, str]
) -> dict[str, Artifact]:
    """Measure what the workload left and store exactly these bytes; artifacts by name.

    `types` gives artifact types by name (default: `artifact_type`). Raises UsageError for an
    output that is not there, MachineError.
    """
    for name, output in sorted(collected.items()):
        if not os.path.lexists(output.place / output.path):
            where = shown(str(output.destination))
            message = f"the workload did not write the output {name} ({where})"
            raise UsageError("output.missing", f"{message}; no card is written")
    artifacts = {}
    for name, output in sorted(collected.items()):
        measured = store(output.place, output.path, output.destination)
        kind = types.get(name) or artifact_type("output", name)
        artifacts[name] = Artifact(kind, measured.digest, measured.size, measured.files)
    return artifacts


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
