"""The bootstrap: what an unmodified script sees, and what is sent before each thing runs."""

import hashlib
import zipfile
from pathlib import Path
from typing import cast

import pytest
from bootstrapping import BARE, run_measured

from laminator.errors import MalformedError
from laminator.eventlog import Record
from laminator.measure.code_names import Roots, roots_of
from laminator.measure.environment import Interpreter
from laminator.run.bootstrap import EVENTS
from laminator.run.code_channel import code_channel, parse_packet
from laminator.run.log import RunLog


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def test_each_module_is_sent_with_its_files_digest(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 7\n")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from . import inner\n")
    (tmp_path / "pack" / "inner.py").write_text("")
    ran = run_measured(tmp_path, "import helper, pack, json; print(helper.VALUE)")
    assert (ran.status, ran.stdout) == (0, "7\n"), ran.stderr
    sources = ran.names("source")
    for name in ("helper.py", "pack/__init__.py", "pack/inner.py", "main.py"):
        assert ran.digest(f"script/{name}") == _sha256(tmp_path / name)
    assert any(name.endswith("json/__init__.py") for name in sources)


def test_a_script_sees_what_python_shows_it(tmp_path: Path) -> None:
    script = """
import __main__, inspect, linecache, os, sys
def here(): pass
print(sys.argv[1:], os.path.basename(__file__), __name__, __main__.here is here)
print(inspect.getsource(here).strip(), sys.path[0] == os.path.dirname(__file__))
sys.exit(3)
"""
    ran = run_measured(tmp_path, script, BARE._replace(arguments=("a", "--b")))
    assert ran.status == 3
    expected = "['a', '--b'] main.py __main__ True\ndef here(): pass True\n"
    assert ran.stdout == expected, ran.stderr


def test_a_traceback_begins_in_the_script(tmp_path: Path) -> None:
    ran = run_measured(tmp_path, "def fail():\n    raise ValueError('no')\nfail()\n")
    assert ran.status == 1
    lines = ran.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "main.py" in lines[1]
    assert "bootstrap" not in ran.stderr
    assert lines[-1] == "ValueError: no"


def test_zip_namespace_and_data(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("zipped.py", "WHERE = __file__\n")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "part.py").write_text("")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "table.txt").write_text("a table")
    script = """
import sys; sys.path.append("lib.zip")
import pkgutil, space.part, zipped
print(pkgutil.get_data("pack", "table.txt"))
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "b'a table'\n", ran.stderr
    assert ran.digest("script/pack/table.txt") == _sha256(tmp_path / "pack" / "table.txt")
    assert ran.digest("script/space/part.py") == hashlib.sha256(b"").digest()
    zipped = [name for name in ran.names("source") if name.endswith("lib.zip/zipped.py")]
    assert len(zipped) == 1


def test_code_without_a_file(tmp_path: Path) -> None:
    script = """
import collections, ctypes, os, pickle, subprocess
eval("1 + 1"); exec("x = 1"); compile("y = 2", "<made>", "exec")
pickle.loads(pickle.dumps(collections.OrderedDict()))
ctypes.CDLL("libc.so.6")
subprocess.run(["/bin/true"], check=True)
"""
    ran = run_measured(tmp_path, script)
    assert ran.status == 0, ran.stderr
    assert "collections.OrderedDict" in ran.names("pickle")
    assert "libc.so.6" in ran.names("ctypes")
    assert any(name.endswith("bin/true") for name in ran.names("process"))
    text = hashlib.sha256(b"y = 2").digest()
    assert Record("exec", "compile <made>", text) in ran.records
    assert len([name for name in ran.names("exec") if name == "exec <string>"]) >= 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_are_measured(tmp_path: Path, method: str) -> None:
    (tmp_path / "late.py").write_text("VALUE = 41\n")
    script = f"""
import multiprocessing
def work(x):
    import late
    return late.VALUE + x
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.map(work, [1]))
"""
    ran = run_measured(tmp_path, script)
    assert (ran.status, ran.stdout) == (0, "[42]\n"), ran.stderr
    assert ran.digest("script/late.py") == _sha256(tmp_path / "late.py")


def test_options_and_variables_reach_the_interpreter(tmp_path: Path) -> None:
    script = "import sys; print(sys.flags.optimize, sys.flags.hash_randomization, hash('a'))"
    seeded = [
        run_measured(tmp_path, script, BARE._replace(options=("-O",)), env={"PYTHONHASHSEED": "7"})
        for _ in range(2)
    ]
    assert seeded[0].stdout == seeded[1].stdout
    assert seeded[0].stdout.startswith("1 "), seeded[0].stderr


def test_no_modules_beside_the_script_where_python_would_show_none(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    safe = BARE._replace(options=("-P",))
    assert run_measured(tmp_path, "import helper", safe).status == 1
    beside = safe._replace(path=(str(tmp_path),))
    assert run_measured(tmp_path, "import helper", beside).status == 0


def test_names_begin_at_the_innermost_root() -> None:
    roots = Roots((("prefix", "/e"), ("site", "/e/lib/site"), ("interpreter", "/e/bin/python3")))
    assert roots.name("/e/lib/site/torch/a.py") == "site/torch/a.py"
    assert roots.name("/e/share/x") == "prefix/share/x"
    assert roots.name("/e/bin/python3") == "interpreter/python3"
    assert roots.name("/elsewhere/x.py") == "other/elsewhere/x.py"
    assert roots.script_at(Path("/e/lib/site/own")).name("/e/lib/site/own/m.py") == "script/m.py"


def test_a_system_folder_has_one_name() -> None:
    """After the merge of /lib into /usr, a library has the name that its package gives it."""
    interpreter = Interpreter(
        given=Path("/e/bin/python"),
        executable=Path("/usr/bin/python3.11"),
        version="cpython 3.11.2",
        prefixes=(Path("/e"), Path("/usr")),
        packages=(Path("/e/lib/python3.11/site-packages"),),
        sources=(),
    )
    roots = roots_of(interpreter, Path("/project/train.py"))
    real = Path("/lib/x86_64-linux-gnu/libc.so.6").resolve()
    assert roots.name("/lib/x86_64-linux-gnu/libc.so.6") == f"system{real}"
    assert roots.name(str(real)) == f"system{real}"
    assert roots.name("/usr/lib/python3.11/json/__init__.py") == "stdlib/json/__init__.py"
    assert roots.name("/usr/bin/python3.11") == "interpreter/python3.11"
    assert roots.name("/project/train.py") == "script/train.py"


class _Log:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, *records: Record) -> None:
        self.records += records


def _send_all(log: _Log, *packets: bytes) -> None:
    with code_channel(log) as theirs:  # type: ignore[arg-type]
        for packet in packets:
            theirs.send(packet)


def _send(log: _Log, *packets: bytes) -> None:
    with code_channel(cast("RunLog", log)) as theirs:
        for packet in packets:
            theirs.send(packet)


def _packet(event: int, name: bytes, digest: bytes = bytes(32)) -> bytes:
    return bytes([event]) + digest + name


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00",
        _packet(0, b""),
        _packet(len(EVENTS), b"a"),
        _packet(0, b"\xff"),
        _packet(0, b"a\nb"),
        _packet(0, b"\x1b[2J"),
        _packet(0, b"a" * 1001),
    ],
)
def test_a_packet_that_is_none(packet: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_packet(packet)
    assert caught.value.code == "code.packet"
    log = _Log()
    with pytest.raises(MalformedError):
        _send_all(log, _packet(0, b"good"), packet)
    assert log.records == [Record("source", "good", bytes(32))]


class _FullLog(_Log):
    def append(self, *records: Record) -> None:
        raise OSError(28, f"no space for {len(records)}")


def test_whatever_ends_the_reading_fails_the_run() -> None:
    """Nothing is lost in silence: a reader that ended cannot leave a card with half a log."""
    with pytest.raises(OSError, match="no space"):
        _send(_FullLog(), _packet(0, b"lost"))


def test_what_has_arrived_is_in_the_log() -> None:
    log = _Log()
    _send_all(log, *(_packet(number % len(EVENTS), f"f{number}".encode()) for number in range(50)))
    assert [record.name for record in log.records] == [f"f{number}" for number in range(50)]


def test_the_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    ran = run_measured(tmp_path, "import base64; print(base64.__file__)")
    name = next(each for each in ran.names("source") if each.endswith("/base64.py"))
    assert ran.digest(name) == _sha256(Path(ran.stdout.strip()))
