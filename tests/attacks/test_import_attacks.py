"""Code that wants to run without its bytes being in the log."""

import hashlib
import importlib.util
import os
import py_compile
import venv
from pathlib import Path

import pytest
from bootstrapping import BARE, run_measured
from local_run import Attester, Workshop

from laminator.claims import CODE_FILES
from laminator.run.bootstrap import EVENTS, LOST

EVIL = "print('evil')\n"


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    return Workshop(attester, tmp_path)


def test_poisoned_byte_code(tmp_path: Path) -> None:
    """A .pyc in __pycache__ that fits the source's time and size, with other code inside."""
    source = tmp_path / "helper.py"
    source.write_text(EVIL)
    cached = Path(importlib.util.cache_from_source(str(source)))
    py_compile.compile(str(source), cfile=str(cached), doraise=True)
    time = source.stat().st_mtime_ns
    source.write_text(EVIL.replace("evil", "good"))
    os.utime(source, ns=(time, time))
    ran = run_measured(tmp_path, "import helper")
    assert ran.stdout == "good\n"
    assert ran.digest("script/helper.py") == hashlib.sha256(source.read_bytes()).digest()


def test_byte_code_without_a_source(tmp_path: Path) -> None:
    source = tmp_path / "helper.py"
    source.write_text(EVIL)
    py_compile.compile(str(source), cfile=str(tmp_path / "helper.pyc"), doraise=True)
    source.unlink()
    ran = run_measured(tmp_path, "import helper")
    assert (ran.status, ran.stdout) == (1, "")
    loaded = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("helper", "helper.pyc")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
    ran = run_measured(tmp_path, loaded)
    assert (ran.status, ran.stdout) == (1, "")
    assert "byte code without a source" in ran.stderr


def test_a_module_loaded_by_hand_is_sent(tmp_path: Path) -> None:
    (tmp_path / "hidden.txt").write_text(EVIL)
    script = """
import importlib.machinery, importlib.util
loader = importlib.machinery.SourceFileLoader("hidden", "hidden.txt")
spec = importlib.util.spec_from_loader("hidden", loader)
loader.exec_module(importlib.util.module_from_spec(spec))
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "evil\n", ran.stderr
    digest = hashlib.sha256(EVIL.encode()).digest()
    assert any(record.digest == digest for record in ran.records if record.event == "source")


def test_variables_that_load_code_have_no_effect(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(EVIL)
    (tmp_path / "sitecustomize.py").write_text(EVIL)
    env = {"PYTHONSTARTUP": "start.py", "PYTHONPATH": str(tmp_path), "PYTHONINSPECT": "1"}
    ran = run_measured(tmp_path, "print('good')", BARE._replace(options=("-P",)), env)
    assert ran.stdout == "good\n", ran.stderr


def test_a_file_changed_after_it_was_read(tmp_path: Path) -> None:
    """What is compiled is what was hashed, whatever lies on disk by then."""
    (tmp_path / "helper.py").write_text("print('good')\n")
    script = """
import os, sys
real = os.write
def swap(descriptor, data):
    if b"helper.py" in bytes(data):
        open("helper.py", "w").write("print('evil')\\n")
    return real(descriptor, data)
os.write = swap
import helper
"""
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "good\n", ran.stderr
    good = hashlib.sha256(b"print('good')\n").digest()
    assert ran.digest("script/helper.py") == good


def test_nothing_runs_when_its_record_cannot_leave(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text(EVIL)
    script = """
import os, sys
os.close(sys.modules["__laminator_bootstrap__"]._channel)
import helper
"""
    ran = run_measured(tmp_path, script)
    assert (ran.status, ran.stdout) == (LOST, "")


def test_a_real_run_names_its_code(shop: Workshop) -> None:
    shop.write("helper.py", "VALUE = 1\n")
    ran = shop.run("import helper, json; print(helper.VALUE)")
    assert ran.status == 0, ran.stderr
    card = shop.card()
    summary = card.claims.workload.code
    assert summary is not None
    assert (summary.modules, summary.natives) == ("import-hook", "listed")
    by_name = {record.name: record for record in card.log if record.event in CODE_FILES}
    assert by_name["script/helper.py"].digest == hashlib.sha256(b"VALUE = 1\n").digest()
    assert "bootstrap.py" in by_name
    assert any(name.startswith("stdlib/encodings/") for name in by_name)
    assert any(name.endswith("libc.so.6") for name in by_name)
    kinds = [record.event for record in card.log]
    assert kinds.index("bootstrap") < kinds.index("begin") < kinds.index("end")


@pytest.mark.parametrize(
    "packet",
    ["b'x'", "b''", "bytes([0]) + bytes(32) + b'a' * 2000", "bytes([200]) + bytes(32) + b'boot'"],
)
def test_a_broken_channel_fails_the_run(shop: Workshop, packet: str) -> None:
    script = f"""
import socket, sys
channel = socket.socket(fileno=sys.modules["__laminator_bootstrap__"]._channel)
channel.send({packet})
"""
    ran = shop.run(script)
    assert ran.status == 125, ran.stderr
    assert not (shop.folder / "out.card").exists()


def test_no_workload_can_call_its_own_code_the_bootstrap() -> None:
    """What is called so is known good by the attester's launch: the channel has no such event."""
    assert "bootstrap" not in EVENTS


def test_what_an_environment_runs_at_start(tmp_path: Path) -> None:
    """Lines of .pth files and sitecustomize run as with plain Python: each is in the log first."""
    venv.create(tmp_path / "env", symlinks=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "editable.py").write_text("")
    files = {
        "evil.pth": f"import hidden\n{tmp_path / 'elsewhere'}\n",
        "hidden.py": "print('hidden')\n",
        "sitecustomize.py": "print('site')\n",
        "usercustomize.py": "print('user')\n",
    }
    for name, text in files.items():
        (site / name).write_text(text)
    what = BARE._replace(interpreter=str(tmp_path / "env" / "bin" / "python3"))
    ran = run_measured(tmp_path, "import editable", what)
    assert (ran.status, ran.stdout) == (0, "hidden\nsite\n"), ran.stderr
    for name in ("evil.pth", "hidden.py", "sitecustomize.py"):
        digest = hashlib.sha256(files[name].encode()).digest()
        assert ran.digest(f"script/{(site / name).relative_to(tmp_path)}") == digest
    assert any(record.event == "exec" for record in ran.records)


def test_a_module_that_replaces_itself(tmp_path: Path) -> None:
    """What a second import runs is in the log beside what the first one ran."""
    again = "print('good')\nopen(__file__, 'w').write(\"print('evil')\\n\")\n"
    (tmp_path / "helper.py").write_text(again)
    ran = run_measured(tmp_path, "import helper, importlib; importlib.reload(helper)")
    assert ran.stdout == "good\nevil\n", ran.stderr
    sent = [record.digest for record in ran.records if record.name == "script/helper.py"]
    assert sent == [hashlib.sha256(text.encode()).digest() for text in (again, EVIL)]


def test_a_python_that_is_no_child_of_multiprocessing(tmp_path: Path) -> None:
    """It is not measured as its parent is, and the log says that it was started."""
    (tmp_path / "hidden.py").write_text(EVIL)
    script = "import subprocess, sys\nsubprocess.run([sys.executable, 'hidden.py'], check=True)\n"
    ran = run_measured(tmp_path, script)
    assert ran.stdout == "evil\n", ran.stderr
    assert "script/hidden.py" not in ran.names("source")
    assert any("python3" in name for name in ran.names("process"))
