import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from laminator.errors import UsageError
from laminator.measure.environment import Interpreter
from laminator.run import filesystem as filesystem_module
from laminator.run import places as module
from laminator.run.filesystem import Bind, Filesystem, folder_binds, is_broad, system_filesystem
from laminator.run.places import (
    Handed,
    Output,
    Plan,
    Request,
    cover,
    find_output,
    plain_places,
    trace,
    workload_filesystem,
)
from laminator.run.private_copy import copy_measured, store
from laminator.run.sandbox import (
    NAMESPACES,
    OTHER_USER,
    UID,
    Job,
    check_other_user_reads,
    probe,
    start,
)

needs_namespaces = pytest.mark.skipif(
    probe().separation != NAMESPACES, reason="namespaces are forbidden here"
)


class Machine:
    """A home with a project, and a private folder of the attester; scripts are for sh."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = self.home / "project"
        self.private = folder / "private"
        self.project.mkdir(parents=True)
        self.private.mkdir()
        (self.home / "secret").write_text("secret")
        (self.project / "train.sh").write_text("echo trained")
        (self.project / "data.csv").write_text("records")

    def request(
        self,
        *,
        script: Path | None = None,
        inputs: Mapping[str, Path] | None = None,
        outputs: Mapping[str, Path] | None = None,
        **more: object,
    ) -> Request:
        """Copy what is handed over and return the request."""
        shell = Path("/bin/sh").resolve()
        interpreter = Interpreter(
            given=Path("/bin/sh"),
            executable=shell,
            version="sh",
            prefixes=(Path("/usr"), *more.pop("prefixes", ())),  # type: ignore[misc]
            packages=(),
            sources=more.pop("sources", ()),  # type: ignore[arg-type]
        )
        given = {"script": script or self.project / "train.sh", **(inputs or {})}
        handed = {
            name: Handed(path, copy_measured(path, self.private / name).path)
            for name, path in given.items()
        }
        values = {"cwd": self.project, "home": self.home, **more}
        return Request(
            script=handed.pop("script"),
            interpreter=interpreter,
            interpreter_copy=copy_measured(shell, self.private / "sh").path,
            inputs=handed,
            outputs=outputs or {},
            **values,  # type: ignore[arg-type]
        )

    def plan(self, request: Request) -> Plan:
        """Plan with places in the private folder."""
        (self.private / "places").mkdir()
        return workload_filesystem(request, self.private / "places")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def see(plan: Plan, script: str) -> str:
    """Run `script` with sh in the planned root; return what it prints."""
    command = ["/bin/sh", "-c", f"exec 2>&1; {script}"]
    job = Job(command=command, env={"PATH": os.defpath}, cwd=plan.cwd, stdout=subprocess.PIPE)
    process = start(job, plan.filesystem, probe())
    with process.popen:
        output, _ = process.popen.communicate()
    assert process.wait().signal is None
    return output.decode()


def collect(plan: Plan, name: str) -> bytes:
    output = find_output(plan, name)
    assert output is not None
    store(*output)
    return output.destination.read_bytes()


# --- what is visible ---


@needs_namespaces
def test_the_scripts_folder_is_there_and_read_only(machine: Machine) -> None:
    plan = machine.plan(machine.request())
    assert see(plan, "sh train.sh; ls; ls ..").split() == [
        "trained",
        "data.csv",
        "train.sh",
        "project",
    ]
    assert "Read-only file system" in see(plan, "touch new")


@needs_namespaces
@pytest.mark.parametrize("where", ["home", "above"])
def test_of_a_home_only_the_script_is_shown(machine: Machine, where: str) -> None:
    folder = machine.home if where == "home" else machine.home.parent
    (folder / "train.sh").write_text("echo at home")
    plan = machine.plan(machine.request(script=folder / "train.sh", cwd=folder))
    assert see(plan, "sh train.sh; ls").split("\n")[:2] == ["at home", "train.sh"]


@needs_namespaces
def test_the_bytes_that_were_copied_are_seen(machine: Machine) -> None:
    data = machine.project / "data.csv"
    request = machine.request(inputs={"data": data})
    data.write_text("swapped")
    (machine.project / "train.sh").write_text("echo swapped")
    plan = machine.plan(request)
    assert see(plan, "cat data.csv; sh train.sh") == "recordstrained\n"
    assert plan.inputs == {"data": data}
    (machine.project / "data.csv").write_text("swapped again")
    assert see(plan, "cat data.csv") == "records"


@needs_namespaces
def test_an_input_elsewhere_brings_nothing_else(machine: Machine) -> None:
    data = machine.home / "sets" / "one" / "data"
    data.mkdir(parents=True)
    (data / "x").write_text("x")
    (data.parent / "other").write_text("other")
    plan = machine.plan(machine.request(inputs={"data": data}))
    assert see(plan, f"cat {data}/x; ls {data.parent} {machine.home}").split() == [
        "x" + f"{machine.home}:", "project", "sets", f"{data.parent}:", "data",
    ]  # fmt: skip


@needs_namespaces
def test_paths_through_links_and_dots_work_as_spelled(machine: Machine) -> None:
    elsewhere = machine.home / "disk"
    elsewhere.mkdir()
    (elsewhere / "data").write_text("x")
    (machine.home / "sub" / "deep").mkdir(parents=True)
    (machine.home / "short").symlink_to("disk")
    (machine.home / "abs").symlink_to(machine.home / "short")
    given = machine.home / "sub" / "deep" / ".." / ".." / "abs" / "data"
    plan = machine.plan(machine.request(inputs={"data": given}))
    assert see(plan, f"cat {given} ../short/data {elsewhere}/data") == "xxx"


@needs_namespaces
def test_a_project_reached_through_a_link_works(machine: Machine) -> None:
    (machine.home / "link").symlink_to("project")
    script = machine.home / "link" / "train.sh"
    output = machine.home / "link" / "model"
    plan = machine.plan(machine.request(script=script, outputs={"model": output}))
    assert see(plan, f"sh {script} && echo m > {output}; ls {machine.home}/link") != ""
    assert collect(plan, "model") == b"m\n"
    assert (machine.project / "model").exists()


@needs_namespaces
def test_hidden_folders_are_masked(machine: Machine) -> None:
    hidden = machine.project / "machine"
    hidden.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(hidden / "s"))
        plan = machine.plan(machine.request(hidden=(hidden, machine.home / "elsewhere")))
        assert "data.csv" in see(plan, "ls")
        assert "s" not in see(plan, "ls machine 2>/dev/null").split()
        assert "No such file" in see(plan, "cat machine/s") or "Permission" in see(
            plan, "cat machine/s"
        )


@needs_namespaces
def test_places_inside_the_scripts_folder_are_masked(machine: Machine) -> None:
    machine.private = machine.project / "private"
    machine.private.mkdir()
    request = machine.request(outputs={"model": machine.project / "out" / "model"})
    plan = machine.plan(request)
    assert "place-0" not in see(
        plan, "ls -R private; echo m > out/model; mkdir out; echo m > out/model"
    )
    assert collect(plan, "model") == b"m\n"


@needs_namespaces
def test_folders_within_hidden_ones_are_masked_with_them(machine: Machine) -> None:
    machine.private = machine.project / "private"
    machine.private.mkdir()
    plan = machine.plan(machine.request(hidden=(machine.private,)))
    assert "data.csv" in see(plan, "ls")
    assert "places" not in see(plan, "ls private")


@needs_namespaces
def test_editable_sources_and_prefixes_are_shown(machine: Machine) -> None:
    for name in ("env/bin", "src/package", "src/other"):
        (machine.home / name).mkdir(parents=True)
    (machine.home / "src" / "module.py").write_text("module")
    shown = (machine.home / "src" / "package", machine.home / "src" / "module.py")
    plan = machine.plan(machine.request(prefixes=(machine.home / "env",), sources=shown))
    assert see(plan, f"cd {machine.home}; ls env src; cat src/module.py").split() == [
        "env:", "bin", "src:", "module.py", "package", "module",
    ]  # fmt: skip


def test_of_a_broad_prefix_only_programs_and_libraries_are_shown(machine: Machine) -> None:
    for name in ("bin", "lib", "lib64", "share"):
        (machine.home / name).mkdir()
    binds = folder_binds([machine.home], home=machine.home).read_only
    assert {bind.target.name for bind in binds} == {"bin", "lib", "lib64"}


def test_broad_folders(machine: Machine) -> None:
    for path in ("/", "/tmp", "/home", "/var/tmp"):  # noqa: S108 - only named
        assert is_broad(Path(path))
    assert is_broad(machine.home, machine.home)
    assert is_broad(machine.home.parent, machine.home)
    assert not is_broad(machine.project, machine.home)


CLOSED = ("/run", "/proc", "/var", "/", "/etc", "/dev", "/sys", "/home", "/root", "/tmp")  # noqa: S108


@needs_namespaces
@pytest.mark.parametrize("path", [*CLOSED, "/var/lib", "/dev/shm", "/proc/self", "/run/.."])  # noqa: S108
def test_a_pth_line_does_not_open_the_machine(machine: Machine, path: str) -> None:
    """Whatever a .pth file or an interpreter's answer names: the machine itself is not shown."""
    before = machine.plan(machine.request()).filesystem.read_only
    shutil.rmtree(machine.private)
    machine.private.mkdir()
    named = machine.request(sources=(Path(path),), prefixes=(Path(path),))
    added = set(machine.plan(named).filesystem.read_only) - set(before)
    assert all(bind.target.name.startswith(("bin", "lib")) for bind in added)
    assert not any(bind.target.is_relative_to("/var") for bind in added)


def test_a_socket_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("s")
    assert folder_binds([tmp_path / "s"]).read_only == ()


def test_gpus_are_shown_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        return [Path("/dev/nvidia0")] if pattern == "nvidia*" else list(real(self, pattern))

    monkeypatch.setattr(Path, "glob", glob)
    found = system_filesystem()
    assert Path("/dev/nvidia0") in found.devices
    assert (
        Bind(Path("/sys/bus/pci"), Path("/sys/bus/pci")) in found.read_only
        or not Path("/sys/bus/pci").exists()
    )
    options = found.options()
    assert options[options.index("--dev-bind") + 1] == "/dev/nvidia0"
    assert options.index("--dev") < options.index("--dev-bind")


def test_a_resolver_outside_etc_is_shown_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.resolve
    monkeypatch.setattr(
        Path,
        "resolve",
        lambda self, *args: (
            Path("/bin/sh") if self == Path("/etc/resolv.conf") else real(self, *args)
        ),
    )
    bind = Bind(Path("/bin/sh"), Path("/bin/sh"))
    assert bind in system_filesystem(network=True).read_only
    assert bind not in system_filesystem(network=False).read_only


# --- outputs ---


@needs_namespaces
def test_an_output_beside_the_script(machine: Machine) -> None:
    (machine.project / "old").mkdir()
    (machine.project / "link").symlink_to("data.csv")
    (machine.project / "model").write_text("old")
    os.mkfifo(machine.project / "pipe")
    plan = machine.plan(machine.request(outputs={"model": machine.project / "model"}))
    assert see(plan, "ls; cat link").split() == ["data.csv", "link", "old", "train.sh", "records"]
    refused = see(plan, "echo x > data.csv; rm train.sh; mv old new; touch old/x; rm -r data.csv")
    assert refused.count("Read-only") == 2
    assert refused.count("busy") == 3
    see(plan, "echo stray > stray; echo new > model")
    assert (machine.project / "model").read_text() == "old"
    assert collect(plan, "model") == b"new\n"
    assert not (machine.project / "stray").exists()
    assert plan.outputs == {"model": machine.project / "model"}


@needs_namespaces
@pytest.mark.parametrize("exists", [False, True])
def test_an_output_folder(machine: Machine, exists: bool) -> None:
    out = machine.project / "runs" / "out"
    if exists:
        out.mkdir(parents=True)
        (out / "old").write_text("old")
    plan = machine.plan(machine.request(outputs={"model": out}))
    assert see(plan, "ls runs/out" if exists else "mkdir -p runs/out; ls runs/out") == ""
    assert find_output(plan, "model") is None
    see(plan, "echo w > runs/out/weights")
    output = find_output(plan, "model")
    assert output is not None
    store(*output)
    assert [path.name for path in out.iterdir()] == ["weights"]


@needs_namespaces
def test_an_output_in_a_folder_that_is_not_visible(machine: Machine) -> None:
    (machine.home / "models").mkdir()
    (machine.home / "models" / "others").write_text("others")
    outputs = {"a": machine.home / "models" / "a", "b": machine.home / "new" / "b"}
    outputs["c"] = machine.home / "c"
    plan = machine.plan(machine.request(outputs=outputs))
    script = f"cd {machine.home}; ls; ls models; echo a > models/a; echo b > new/b; echo c > c"
    assert see(plan, script).split() == ["models", "new", "project"]
    assert [collect(plan, name) for name in "abc"] == [b"a\n", b"b\n", b"c\n"]
    assert see(plan, "sh train.sh; cat ../secret").startswith("trained\n")


@needs_namespaces
def test_outputs_in_a_folder_and_below_it(machine: Machine) -> None:
    (machine.project / "sub" / "deep").mkdir(parents=True)
    (machine.project / "sub" / "kept").write_text("kept")
    outputs = {"a": machine.project / "a", "b": machine.project / "sub" / "deep" / "b"}
    outputs["c"] = machine.project / "sub" / "c"
    plan = machine.plan(machine.request(outputs=outputs))
    assert see(plan, "cat sub/kept; echo a > a; echo b > sub/deep/b; echo c > sub/c") == "kept"
    assert [collect(plan, name) for name in "abc"] == [b"a\n", b"b\n", b"c\n"]


@needs_namespaces
def test_an_output_that_is_a_link_lands_where_the_link_points(machine: Machine) -> None:
    (machine.project / "v1").write_text("old")
    (machine.project / "latest").symlink_to("v1")
    plan = machine.plan(machine.request(outputs={"model": machine.project / "latest"}))
    see(plan, "echo new > latest")
    assert collect(plan, "model") == b"new\n"
    assert (machine.project / "v1").read_text() == "new\n"
    assert (machine.project / "latest").is_symlink()


@needs_namespaces
def test_a_link_left_by_the_workload_is_found_and_refused(machine: Machine) -> None:
    plan = machine.plan(machine.request(outputs={"model": machine.project / "model"}))
    see(plan, "ln -s /etc/hostname model")
    output = find_output(plan, "model")
    assert output is not None
    with pytest.raises(UsageError, match="cannot open"):
        store(*output)


@needs_namespaces
def test_an_output_in_tmp(machine: Machine) -> None:
    target = Path("/tmp") / f"laminator-test-{os.getpid()}"  # noqa: S108 - what users do
    plan = machine.plan(machine.request(outputs={"model": target}))
    try:
        see(plan, f"echo m > {target}")
        assert not target.exists()
        assert collect(plan, "model") == b"m\n"
    finally:
        target.unlink(missing_ok=True)


def test_a_missing_output_is_not_found(machine: Machine) -> None:
    plan = machine.plan(machine.request(outputs={"model": machine.project / "model"}))
    assert find_output(plan, "model") is None


OVERLAPS = {
    "the script": {"model": "train.sh"},
    "an input": {"model": "data.csv"},
    "around an input": {"model": "."},
    "below the script's name": {"model": "train.sh/x"},
    "each other": {"model": "out", "log": "out/log"},
    "the same": {"model": "out", "log": "out"},
}


@pytest.mark.parametrize("outputs", OVERLAPS.values(), ids=OVERLAPS)
def test_overlapping_paths_are_refused(machine: Machine, outputs: dict[str, str]) -> None:
    request = machine.request(
        inputs={"data": machine.project / "data.csv"},
        outputs={name: machine.project / path for name, path in outputs.items()},
    )
    with pytest.raises(UsageError, match="overlap") as caught:
        machine.plan(request)
    assert caught.value.code == "places.overlap"


@pytest.mark.parametrize("path", ["/model", "/proc/x", "/dev/shm/x", "/sys/x"])  # noqa: S108
def test_some_places_hold_no_output(machine: Machine, path: str) -> None:
    with pytest.raises(UsageError, match="not a place for an output"):
        machine.plan(machine.request(outputs={"model": Path(path)}))


def test_an_output_below_a_file_is_refused(machine: Machine) -> None:
    request = machine.request(outputs={"model": machine.project / "data.csv" / "model"})
    with pytest.raises(UsageError, match=r"data\.csv' is a file"):
        machine.plan(request)


def test_a_crowded_folder_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    with pytest.raises(UsageError, match="more than 1 entries: write the output to a folder"):
        machine.plan(machine.request(outputs={"model": machine.project / "model"}))


# --- without namespaces ---


def test_without_namespaces_what_is_asked_for_is_private(machine: Machine) -> None:
    output = machine.project / "model"
    output.write_text("old")
    request = machine.request(
        inputs={"data": machine.project / "data.csv"}, outputs={"model": output}
    )
    plan = plain_places(request, machine.private)
    assert plan.inputs["data"].read_text() == "records"
    assert plan.home.parent == machine.private
    assert find_output(plan, "model") is None
    plan.outputs["model"].write_text("new")
    assert collect(plan, "model") == b"new"
    assert output.read_text() == "new"


def test_without_namespaces_what_an_unmodified_script_writes_is_found(machine: Machine) -> None:
    output = machine.project / "model"
    plan = plain_places(machine.request(outputs={"model": output}), machine.private)
    output.mkdir()
    (output / "weights").write_text("new")
    assert find_output(plan, "model") == Output(output.parent, "model", output)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_owns_the_places(machine: Machine) -> None:
    request = machine.request(outputs={"model": machine.project / "model"})
    plan = plain_places(request, machine.private, owner=65534)
    assert plan.home.stat().st_uid == plan.outputs["model"].parent.stat().st_uid == 65534
    assert request.script.private.parent.stat().st_mode & 0o777 == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_works_with_what_it_asks_for() -> None:
    folder = Path(tempfile.mkdtemp(prefix="laminator-test-"))
    folder.chmod(0o711)
    machine = Machine(folder)
    try:
        data, model = machine.project / "data.csv", machine.project / "model"
        plan = plain_places(
            machine.request(inputs={"data": data}, outputs={"model": model}),
            machine.private,
            owner=OTHER_USER,
        )
        check_other_user_reads([plan.script, *plan.inputs.values()])
        asked = {"data": str(plan.inputs["data"]), "model": str(plan.outputs["model"])}
        script = f'cat "$data" > "$model"; cat {machine.private}/*; touch {machine.project}/x'
        job = Job(
            command=["/bin/sh", "-c", script],
            env={"PATH": os.defpath, **asked},
            cwd=plan.cwd,
            stderr=subprocess.DEVNULL,
        )
        assert start(job, plan.filesystem, probe(force=UID)).wait().code != 0
        assert collect(plan, "model") == b"records"
        assert not (machine.project / "x").exists()
    finally:
        shutil.rmtree(folder)


# --- small things ---


def test_a_user_without_a_home_has_broad_folders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    assert is_broad(Path("/"))
    assert not is_broad(Path("/usr/share"))


def test_tracing_walks_as_the_kernel_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b/../b")
    (tmp_path / "abs").symlink_to(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    traced = trace(tmp_path / "abs" / ".." / "missing" / "x")
    assert traced.real == tmp_path / "a" / "missing" / "x"
    assert [link.path.name for link in traced.links] == ["abs", "link"]
    assert traced.folders == (tmp_path / "a" / "b", tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="too many links"):
        trace(tmp_path / "loop")


def test_the_innermost_place_covers() -> None:
    binds = tuple(Bind(Path("/x"), Path(path)) for path in ("/a", "/a/b", "/a/b/c/d"))
    found = Filesystem(read_only=binds[:1], writable=binds[1:], tmpfs=(Path("/t"),))
    assert cover(Path("/a/b/c"), found) == Path("/a/b")
    assert cover(Path("/a/b/c/d"), found) == Path("/a/b/c/d")
    assert cover(Path("/t/x"), found) == Path("/t")
    assert cover(Path("/ab"), found) is None


@needs_namespaces
def test_what_only_we_may_read_in_etc_is_masked(machine: Machine, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    (etc / "private").mkdir(parents=True)
    (etc / "open").mkdir()
    for name, mode in (("private/key", 0o644), ("open/key", 0o600), ("open/public", 0o644)):
        (etc / name).write_text(name)
        (etc / name).chmod(mode)
    (etc / "private").chmod(0o700)
    (etc / "open" / "link").symlink_to("key")
    masked = tuple(filesystem_module._secrets(etc))
    assert set(masked) == {etc / "private", etc / "open" / "key"}
    shown = Filesystem(read_only=(Bind(etc, etc),), masked=masked)
    plan = machine.plan(machine.request())
    whole = filesystem_module.merged(plan.filesystem, shown)
    job = Job(
        command=["/bin/sh", "-c", f"cd {etc}; cat private/key open/key open/link open/public"],
        env={"PATH": os.defpath},
        cwd=Path("/"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process = start(job, whole, probe())
    with process.popen:
        output, errors = process.popen.communicate()
    process.wait()
    assert output == b"open/public"
    assert errors.count(b"\n") == 3
    shutil.rmtree(etc)
