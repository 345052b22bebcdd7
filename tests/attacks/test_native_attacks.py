"""Native code that was not measured: the kernel neither maps nor executes it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from laminator.errors import MalformedError, UsageError
from laminator.eventlog import Record
from laminator.run.filesystem import Bind, Filesystem, folder_binds, merged, system_filesystem
from laminator.run.mount_agent import COPIES
from laminator.run.natives import Natives
from laminator.run.sandbox import NAMESPACES, Job, Sandbox, probe, start

LD = next(
    path
    for path in map(Path, ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"))
    if path.exists()
)
LOADER = """
import ctypes, sys
try:
    ctypes.CDLL(sys.argv[1])
    print("loaded")
except OSError as error:
    print("refused", error)
"""


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    found = probe()
    if found.separation != NAMESPACES:
        pytest.skip("no namespaces")
    return found


class World:
    """A sandbox whose native code is enforced, with a folder of its own and /bin/sh measured."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.sandbox, self.folder = sandbox, folder / "work"
        self.folder.mkdir()
        self.copies = folder / "copies"
        self.copies.mkdir()
        self.log: list[Record] = []
        self.natives = Natives(self.copies, self.log.append, str)

    def run(
        self, *words: str, load: tuple[str, ...] = (), then: Callable[[], object] = lambda: None
    ) -> subprocess.CompletedProcess[str]:
        prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
        filesystem = merged(
            system_filesystem(),
            folder_binds(prefixes),
            Filesystem(
                read_only=(Bind(self.copies, Path(COPIES)),),
                writable=(Bind(self.folder, self.folder),),
            ),
        )
        job = Job(
            command=words,
            env={"PATH": "/usr/bin:/bin"},
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def prepare(first: int) -> None:
            self.natives.enforce(first)
            self.natives.load_all(load)
            then()

        process = start(job, filesystem, self.sandbox, prepare)
        with process.popen:
            output, errors = process.popen.communicate(timeout=60)
            process.kill()
        code = process.popen.returncode
        return subprocess.CompletedProcess(words, code, output.decode(), errors.decode())

    def library(self, name: str, source: str = "int f(void){return 1;}", *options: str) -> Path:
        path, text = self.folder / name, self.folder / f"{name}.c"
        text.write_text(source)
        words = ["gcc", "-shared", "-fPIC", "-o", str(path), str(text), *options]
        subprocess.run(words, check=True, capture_output=True)
        return path


@pytest.fixture
def world(tmp_path: Path, sandbox: Sandbox) -> Iterator[World]:
    made = World(tmp_path, sandbox)
    yield made
    made.natives.close()


PYTHON = str(Path(sys.executable).resolve())
STDLIB_NATIVES = tuple(
    str(path) for path in Path(PYTHON).parents[1].glob("lib/python3*/lib-dynload/_ctypes.*.so")
) + tuple(
    str(path) for path in Path(PYTHON).parents[1].glob("lib/python3*/lib-dynload/_struct.*.so")
)


def test_measured_program_runs_and_is_logged_with_all_that_it_needs(world: World) -> None:
    done = world.run("/bin/sh", "-c", "echo here", load=("/bin/sh",))
    assert (done.returncode, done.stdout) == (0, "here\n")
    names = [record.name for record in world.log]
    assert any("libc.so" in name for name in names)
    assert any(Path(name).name == LD.resolve().name for name in names)
    assert all(record.event == "native" for record in world.log)


def test_nothing_runs_that_was_not_measured(world: World) -> None:
    assert world.run("/bin/sh", "-c", "echo here").returncode != 0
    assert world.log == []


@pytest.mark.parametrize(
    "attempt",
    [
        "/bin/ls /",
        f"{LD} /bin/ls /",
        "cp /bin/ls /tmp/ls; /tmp/ls /",
        "cp /bin/ls {work}/ls; {work}/ls /",
        "cp /bin/ls /dev/shm/ls; /dev/shm/ls /",
        "printf '#!/bin/sh\\necho usr' > /tmp/x; chmod 755 /tmp/x; /tmp/x",
    ],
    ids=["exec", "linker", "tmp", "output", "shm", "script"],
)
def test_unmeasured_program_is_not_executed(world: World, attempt: str) -> None:
    script = attempt.replace("{work}", str(world.folder))
    done = world.run("/bin/sh", "-c", script, load=("/bin/sh", "/bin/cp", "/bin/chmod"))
    assert "usr" not in done.stdout
    assert done.returncode != 0


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -o remount,exec,bind /tmp",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "unshare -Urm true",
    ],
)
def test_workload_changes_no_mount(world: World, attempt: str) -> None:
    programs = tuple(f"/usr/bin/{name}" for name in ("mount", "umount", "unshare", "true"))
    done = world.run("/bin/sh", "-c", attempt, load=("/bin/sh", *programs))
    assert done.returncode != 0


def test_library_is_mapped_only_after_it_was_loaded(world: World) -> None:
    path = world.library("liba.so")
    words = (PYTHON, "-I", "-S", "-c", LOADER, str(path))
    assert "refused" in world.run(*words, load=(PYTHON, *STDLIB_NATIVES)).stdout


def test_loaded_library_is_mapped_with_what_stands_beside_it(world: World) -> None:
    inner = world.library("libb.so")
    path = world.library(
        "liba.so", "int f(void);int g(void){return f();}", str(inner), "-Wl,-rpath,$ORIGIN"
    )
    words = (PYTHON, "-I", "-S", "-c", LOADER, str(path))
    done = world.run(*words, load=(PYTHON, *STDLIB_NATIVES, str(path)))
    assert done.stdout == "loaded\n"
    assert {str(inner), str(path)} <= {record.name for record in world.log}


def test_library_changed_after_it_was_measured_runs_as_measured(world: World) -> None:
    said = '#include <unistd.h>\n__attribute__((constructor)) void f(void){write(1,"%s\\n",4);}'
    path = world.library("liba.so", said % "old")
    other = world.library("libb.so", said % "new")
    words = (PYTHON, "-I", "-S", "-c", LOADER, str(path))
    done = world.run(
        *words,
        load=(PYTHON, *STDLIB_NATIVES, str(path)),
        then=lambda: path.write_bytes(other.read_bytes()),
    )
    assert done.stdout.splitlines() == ["old", "loaded"]


def test_nothing_of_the_agent_is_seen(world: World) -> None:
    script = "ps -e -o pid= | wc -l; cat /proc/net/unix | wc -l"
    load = tuple(f"/usr/bin/{name}" for name in ("ps", "wc", "cat"))
    if not shutil.which("ps"):
        pytest.skip("no ps")
    done = world.run("/bin/sh", "-c", script, load=("/bin/sh", *load))
    processes, sockets = map(int, done.stdout.split())
    assert processes <= 4
    assert sockets == 1


def test_loading_twice_measures_once(world: World) -> None:
    world.run("/bin/sh", "-c", ":", load=("/bin/sh",), then=lambda: world.natives.load("/bin/sh"))
    names = [record.name for record in world.log]
    assert len(names) == len(set(names))


def test_file_that_is_no_library_is_refused(world: World) -> None:
    text = world.folder / "text.so"
    text.write_text("no library")
    with pytest.raises(MalformedError):
        world.run("/bin/sh", "-c", ":", load=(str(text),))


def test_file_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(UsageError) as refused:
        world.run("/bin/sh", "-c", ":", load=("/nowhere.so",))
    assert refused.value.code == "native.open"


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/proc/sys/vm/memfd_noexec", os.W_OK),
    reason="only root's user id may write vm.memfd_noexec, and Linux has it from 6.3",
)
def test_memory_file_is_not_executed(world: World) -> None:
    script = (
        "import os\n"
        "fd = os.memfd_create('x', 0)\n"
        "os.write(fd, open('/bin/ls', 'rb').read())\n"
        "os.execv(f'/proc/self/fd/{fd}', ['ls', '/'])\n"
    )
    words = (PYTHON, "-I", "-S", "-c", script)
    done = world.run(*words, load=(PYTHON, *STDLIB_NATIVES))
    assert "usr" not in done.stdout
    assert "PermissionError" in done.stderr
