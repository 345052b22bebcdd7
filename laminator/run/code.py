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
from laminator.measure.environment import (
    KEPT,
    Interpreter,
    inspect_interpreter,
    list_distributions,
    select_environment,
)
from laminator.run.disclosure import Disclosed, disclose
from laminator.run.filesystem import HOME, Bind
from laminator.run.log import RunLog
from laminator.run.private_copy import copy_measured
from laminator.run.request import RunRequest
from laminator.run.sandbox import Sandbox, ask


class MeasuredCode(NamedTuple):
    """The workload's code as claims, and what it takes to run exactly that.

    `script` and `executable` are private copies; `script_path` is where the caller has the script.
    """

    workload: Workload
    script: Path
    script_path: Path
    executable: Path
    interpreter: Interpreter
    environment: Mapping[str, str]
    disclosed: Disclosed


def measure_code(request: RunRequest, place: Path, log: RunLog, sandbox: Sandbox) -> MeasuredCode:
    """Copy, measure and log the workload's code. Raises UsageError, MachineError."""
    given = Path(request.argv[0])
    script_path = Path(request.cwd, request.argv[request.script])
    (place / "script").mkdir()
    script = copy_measured(script_path, place / "script" / script_path.name)
    executable = copy_measured(given.resolve(), place / "interpreter")
    extra = [name for name in request.environment if name not in KEPT]
    environment = select_environment(request.environment, extra, home=HOME)
    disclosed = disclose(request.argv[1:], environment.values, public=request.environment_public)
    partial = Workload(
        entry=Code(script_path.name, script.measured.digest),
        interpreter=Code(given.resolve().name, executable.measured.digest),
        arguments=disclosed.arguments,
        environment=disclosed.environment,
        distributions=Distributions(Digest("sha-256", NOTHING), 0),
    )
    *code_records, _ = workload_records(partial)
    log.append(*code_records)
    copies = (Bind(executable.path, given.resolve()),)
    interpreter = inspect_interpreter(
        given, lambda words, folders: ask(words, folders, sandbox, copies)
    )
    installed = list_distributions(interpreter.packages)
    distributions = Distributions(installed.digest, len(installed.items))
    workload = partial._replace(distributions=distributions)
    log.append(workload_records(workload)[-1])
    return MeasuredCode(
        workload=workload,
        script=script.path,
        script_path=script_path,
        executable=executable.path,
        interpreter=interpreter,
        environment=environment.values,
        disclosed=disclosed,
    )
