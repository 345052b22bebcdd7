"""Code that runs before the hook of a workload's bootstrap is in force, or beside it."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bootstrapping import BARE, PYTHON, run_measured
from local_run import LAMINATOR, Attester, Workshop

from laminator.errors import UsageError
from laminator.measure.environment import Interpreter
from laminator.measure.installation import check_installation
from laminator.run.bootstrapped import FIRST

EVIL = "print('evil')\n"


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    return Workshop(attester, tmp_path)


@pytest.mark.parametrize(
    "options", [(), ("-W", "ignore:x"), ("-b",), ("-X", "dev"), ("-X", "utf8=0")]
)
def test_nothing_is_loaded_before_the_hook_unmeasured(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The provider's own standard library has other code in modules that load first."""
    script = """
import sys
for module in list(sys.modules.values()):
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.has_location:
        print(spec.origin)
"""
    ran = run_measured(tmp_path, script, BARE._replace(options=("-S", *options)))
    assert ran.status == 0, ran.stderr
    library = Path(sys.base_prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    first = {str(library / name) for name in FIRST}
    sent = {str(Path(sys.base_prefix, "lib", name.partition("/")[2])) for name in names(ran)}
    loaded = [path for path in ran.stdout.splitlines() if "_sha" not in path]
    assert loaded
    assert set(loaded) - first - sent == set()


def names(ran: object) -> list[str]:
    return [record.name for record in ran.records]  # type: ignore[attr-defined]


def test_a_program_that_is_started_without_subprocess(tmp_path: Path) -> None:
    """As joblib starts its workers: no audit event of Python's tells of it."""
    (tmp_path / "hidden.py").write_text(EVIL)
    script = f"""
import os, _posixsubprocess
words = [b"python3", b"hidden.py"]
reading, writing = os.pipe()
_posixsubprocess.fork_exec(
    words, [{PYTHON.encode()!r}], True, (writing,), None, None, -1, -1, -1, -1, -1, -1,
    reading, writing, False, False, 0, None, None, None, -1, None, False,
)
os.wait()
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "evil\n", ran.stderr
    assert ran.names("process")


def test_another_program_as_the_interpreter_of_multiprocessing(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho evil\n")
    program.chmod(0o755)
    script = f"""
import multiprocessing.util, os
words = [b"python3", b"-c", b"from multiprocessing.spawn"]
multiprocessing.util.spawnv_passfds({str(program).encode()!r}, words, [])
os.wait()
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "evil\n", ran.stderr
    assert ran.names("process") == ["script/program"]


def test_what_multiprocessing_spawns_is_no_other_program(tmp_path: Path) -> None:
    script = """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print, args=("child",))
    process.start()
    process.join()
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "child\n", ran.stderr
    assert ran.names("process") == []


def test_byte_code_that_no_file_was_compiled_to(tmp_path: Path) -> None:
    script = """
import marshal, types
def good(): pass
clone = good.__code__.replace(co_consts=(None, "evil"))
types.FunctionType(clone, globals())()
open("code", "wb").write(marshal.dumps(clone))
"""
    ran = run_measured(tmp_path, script, BARE._replace(options=("-S",)))
    assert ran.status == 0, ran.stderr
    assert ran.names("exec") == ["code.__new__"]
    loaded = """
import marshal
marshal.loads(open("code", "rb").read())
marshal.load(open("code", "rb"))
"""
    ran = run_measured(tmp_path, loaded, BARE._replace(options=("-S",)))
    assert ran.names("exec") == ["marshal.loads", "marshal.load"]
    digest = hashlib.sha256((tmp_path / "code").read_bytes()).digest()
    assert ran.digest("marshal.loads") == digest


def test_another_interpreter_in_the_process(tmp_path: Path) -> None:
    """Audit hooks are an interpreter's own."""
    script = "import _xxsubinterpreters as it\nit.run_string(it.create(), 'print(1)')\n"
    ran = run_measured(tmp_path, script)
    assert ran.names("process") == ["sub-interpreter"], ran.stderr


def test_a_library_that_is_not_the_loaders(tmp_path: Path) -> None:
    """The loader names one file, the specification that it is called with another."""
    evil = extension(tmp_path)
    script = f"""
from importlib.machinery import ExtensionFileLoader, ModuleSpec
import _imp, math
name = {Path(evil).name.partition(".")[0]!r}
_imp.create_dynamic(ModuleSpec(name, None, origin={evil!r}))
"""
    ran = run_measured(tmp_path, script)
    assert ran.status == 0, ran.stderr
    place = next(n for n, each in enumerate(ran.records) if each.name.endswith(Path(evil).name))
    assert ran.records[place].event == "native"
    assert ran.records[place].digest == hashlib.sha256(Path(evil).read_bytes()).digest()


def test_a_library_that_changes_after_its_record(tmp_path: Path) -> None:
    evil = extension(tmp_path)
    script = f"""
import ctypes, os
ctypes.CDLL({evil!r})
with open({evil!r}, "rb") as file:
    other = file.read() + b"other"
with open("new", "wb") as file:
    file.write(other)
os.rename("new", {evil!r})
ctypes.CDLL({evil!r})
"""
    ran = run_measured(tmp_path, script)
    assert ran.status == 0, ran.stderr
    sent = [
        each.digest
        for each in ran.records
        if each.name.endswith(Path(evil).name) and each.event == "native"
    ]
    assert hashlib.sha256(Path(evil).read_bytes()).digest() in sent
    assert len(set(sent)) == 2


def test_data_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("package/__init__.py", "")
        archive.writestr("package/data.txt", "data")
    script = """
import sys
sys.path.insert(0, "lib.zip")
import pkgutil
print(pkgutil.get_data("package", "data.txt"))
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "b'data'\n", ran.stderr
    assert [each.digest for each in ran.records if each.event == "data"] == [
        hashlib.sha256(b"data").digest()
    ]


def installation(folder: Path) -> Interpreter:
    library = folder / "base" / "lib" / "python3.11"
    library.mkdir(parents=True)
    (library / "os.py").touch()
    (folder / "base" / "bin").mkdir()
    executable = folder / "base" / "bin" / "python3.11"
    return Interpreter(
        given=executable,
        executable=executable,
        version="cpython 3.11.7",
        prefixes=(folder / "base",),
        packages=(),
        sources=(),
    )


def refused(found: Interpreter, settings: str | None = None, said: bytes = b"Python 3.11.7") -> str:
    with pytest.raises(UsageError) as caught:
        check_installation(found, settings, said)
    return caught.value.code


def test_a_standard_library_that_lies_about_where_it_is(tmp_path: Path) -> None:
    """What tells the attester is that library: copies would be bound over one that is not used."""
    found = installation(tmp_path)
    check_installation(found, None, b"Python 3.11.7\n")
    other = installation(tmp_path / "honest")
    assert refused(dataclasses.replace(found, prefixes=other.prefixes)) == "interpreter.home"


def test_an_archive_before_the_standard_library(tmp_path: Path) -> None:
    found = installation(tmp_path)
    (tmp_path / "base" / "lib" / "python311.zip").touch()
    assert refused(found) == "interpreter.archive"


def test_a_build_folder_beside_the_interpreter(tmp_path: Path) -> None:
    found = installation(tmp_path)
    (tmp_path / "base" / "bin" / "pybuilddir.txt").touch()
    assert refused(found) == "interpreter.archive"


def test_another_version_than_the_interpreters_own(tmp_path: Path) -> None:
    assert refused(installation(tmp_path), said=b"Python 3.12.1") == "interpreter.version"


def test_two_homes_in_one_environment(tmp_path: Path) -> None:
    """Python takes the first."""
    found = installation(tmp_path)
    honest, evil = f"home = {tmp_path}/base/bin\n", f"home = {tmp_path}/evil/bin\n"
    check_installation(found, honest + evil, b"Python 3.11.7")
    assert refused(found, evil + honest) == "interpreter.home"


def test_a_run_whose_interpreter_has_an_archive(shop: Workshop, tmp_path: Path) -> None:
    """Its `encodings` would run before anything that is measured."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    base = tmp_path / "base"
    library = base / "lib" / f"python{version}"
    library.parent.mkdir(parents=True)
    (base / "bin").mkdir()
    program = base / "bin" / "python3"
    program.write_bytes(Path(PYTHON).resolve().read_bytes())
    program.chmod(0o755)
    ignored = shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*")
    shutil.copytree(Path(sys.base_prefix, "lib", library.name), library, ignore=ignored)
    for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy(shared, base / "lib")
    command = [str(program) if word == sys.executable else word for word in shop.command("")]
    command[: len(LAMINATOR)] = LAMINATOR
    ran = shop.attester.ran(command, shop.folder)
    assert ran.status == 0, ran.stderr
    evil = base / "lib" / f"python{version.replace('.', '')}.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        for path in (library / "encodings").glob("*.py"):
            archive.write(path, f"encodings/{path.name}")
    ran = shop.attester.ran(command, shop.folder)
    assert ran.status in (2, 125), ran.stderr
    assert evil.name in ran.stderr


def extension(folder: Path) -> str:
    """Copy an extension module of the standard library into `folder`; return its path."""
    question = "import _bisect; print(_bisect.__file__)"
    path = subprocess.run([PYTHON, "-c", question], capture_output=True, text=True, check=True)
    copy = folder / Path(path.stdout.strip()).name
    copy.write_bytes(Path(path.stdout.strip()).read_bytes())
    return str(copy)
