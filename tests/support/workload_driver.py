"""Play the attester: run one unmodified script as a workload, print what it saw as JSON.

Usage: workload_driver.py PYTHON [BWRAP WORD...], in an own process so that the tests can start it
as another user, or inside an outer sandbox. Works in a folder made below the current one.
"""

import json
import os
import socket
import sys
from pathlib import Path

from laminator.measure.environment import (
    inspect_interpreter,
    list_distributions,
    select_environment,
)
from laminator.run.dumpable import make_undumpable
from laminator.run.places import Handed, Plan, Request, find_output, workload_filesystem
from laminator.run.private_copy import copy_measured, private_place, store
from laminator.run.sandbox import Job, Sandbox, ask, isolation, probe, start

SCRIPT = """
import json, os, socket, sys
from laminator.errors import LaminatorError
import helper

def attempt(act):
    try:
        return repr(act())
    except OSError as error:
        return type(error).__name__

def dial(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
        return "connected"

def is_attester(process):
    with open(f"/proc/{process}/cmdline") as file:
        return any(word.endswith("/" + attester) for word in file.read().split("\\0"))

attester, port, abstract, secret = sys.argv[1:]
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
seen = {
    "input": open("data/records.csv").read(),
    "folder": sorted(os.listdir("data")),
    "write input": attempt(lambda: open("data/records.csv", "a")),
    "replace input": attempt(lambda: os.replace("data/records.csv", "data/x")),
    "write script": attempt(lambda: open(__file__, "a")),
    "write cwd": attempt(lambda: open("stray", "w")),
    "write root": attempt(lambda: open("/stray", "w")),
    "write usr": attempt(lambda: open("/usr/stray", "w")),
    "write sysctl": attempt(lambda: open("/proc/sys/kernel/core_pattern", "r+")),
    "write sysrq": attempt(lambda: open("/proc/sysrq-trigger", "w")),
    "home": os.listdir(os.environ["HOME"]),
    "write home": attempt(lambda: open(os.environ["HOME"] + "/cache", "w").close()),
    "secret": attempt(lambda: open(secret)),
    "siblings": sorted(os.listdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))),
    "hidden": attempt(lambda: os.listdir("hidden")),
    "old output": os.path.exists("out/model"),
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "attester": [name for name in os.listdir("/proc") if name.isdigit() and is_attester(name)],
    "interfaces": [name for _, name in socket.if_nameindex()],
    "tcp": attempt(lambda: dial(socket.AF_INET, ("127.0.0.1", int(port)))),
    "abstract": attempt(lambda: dial(socket.AF_UNIX, "\\0" + abstract)),
    "devices": sorted(os.listdir("/dev")),
    "shm": os.listdir("/dev/shm"),
    "tmp": attempt(lambda: open("/tmp/mine", "w").close()),
    "capabilities": sorted({status[name].strip() for name in status if name.startswith("Cap")}),
    "no_new_privs": status["NoNewPrivs"].strip(),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "session": os.getsid(0) == os.getpgid(0),
    "helper": helper.VALUE,
    "shadow": attempt(lambda: open("/etc/shadow")),
    "configfs": os.path.exists("/sys/kernel"),
    "executable": sys.executable,
    "prefix": sys.prefix,
    "file": os.path.abspath(__file__),
    "cwd": os.getcwd(),
    "laminator": LaminatorError.__module__,
    "marker": "measured",
}
os.makedirs("out", exist_ok=True)
with open("out/model", "w") as file:
    json.dump(seen, file)
"""


def build(base: Path) -> Path:
    """Make a user's home with a project in it; return the project."""
    project = base / "home" / "project"
    (project / "data").mkdir(parents=True)
    (project / "out").mkdir()
    (project / "hidden").mkdir()
    (project / "hidden" / "socket").write_text("")
    (base / "home" / "secret").write_text("secret")
    (project / "train.py").write_text(SCRIPT)
    (project / "helper.py").write_text("VALUE = 42\n")
    (project / "data" / "records.csv").write_text("measured")
    (project / "out" / "model").write_text("old")
    return project


def swap(project: Path) -> None:
    """Do what a lying provider does once everything has been measured."""
    (project / "data" / "records.csv").write_text("swapped")
    (project / "train.py").write_text("print('swapped')\n")


def run(base: Path, python: Path, sandbox: Sandbox) -> dict[str, object]:
    """Measure, swap, run and collect; return what was seen."""
    project = build(base)
    with private_place(1 << 40, disk=base) as place, listening() as (port, abstract):
        interpreter = inspect_interpreter(python, lambda words, on: ask(words, on, sandbox))
        copied = copy_measured(interpreter.executable, place / "interpreter")
        script = copy_measured(project / "train.py", place / "script")
        data = copy_measured(project / "data", place / "data")
        swap(project)
        (place / "outputs").mkdir()
        plan = workload_filesystem(
            Request(
                script=Handed(project / "train.py", script.path),
                cwd=project,
                home=base / "home",
                interpreter=interpreter,
                interpreter_copy=copied.path,
                inputs={"data": Handed(project / "data", data.path)},
                outputs={"model": project / "out" / "model"},
                hidden=(place, project / "hidden"),
            ),
            place / "outputs",
        )
        words = [Path(__file__).name, str(port), abstract, str(base / "home" / "secret")]
        status = execute(plan, [str(python), "train.py", *words], sandbox)
        output = find_output(plan, "model")
        stored = None if output is None else str(store(*output).digest)
        seen = (project / "out" / "model").read_text()
    return {
        "status": list(status),
        "stored": stored,
        "seen": json.loads(seen),
        "isolation": isolation(sandbox, network=False)._asdict(),
        "distributions": len(list_distributions(interpreter.packages).items),
        "left": sorted(path.name for path in base.iterdir()),
    }


def execute(plan: Plan, command: list[str], sandbox: Sandbox) -> tuple[int, int | None]:
    """Run `command` in the plan's root."""
    env = select_environment(os.environ, home=plan.home).values
    return start(Job(command=command, env=env, cwd=plan.cwd), plan.filesystem, sandbox).wait()


class listening:  # noqa: N801 - a context manager
    """A TCP and an abstract Unix socket of the attester's network namespace."""

    def __enter__(self) -> tuple[int, str]:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        name = f"laminator-{os.getpid()}"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(f"\0{name}")
        self.unix.listen()
        return self.tcp.getsockname()[1], name

    def __exit__(self, *_reason: object) -> None:
        self.tcp.close()
        self.unix.close()


def main() -> None:
    """Run and report."""
    make_undumpable()
    sandbox = probe(sys.argv[2:] or ("bwrap",))
    base = Path.cwd() / "base"
    base.mkdir()
    result = run(base, Path(sys.argv[1]), sandbox) if sandbox.separation == "namespaces" else {}
    print(json.dumps({"sandbox": list(sandbox), **result}))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
