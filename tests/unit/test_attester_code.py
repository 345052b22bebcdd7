"""The attester's code: what belongs to it, its copy, its digest."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laminator.cli.main import main
from laminator.errors import MachineError
from laminator.measure import attester_code
from laminator.measure.attester_code import (
    ENTRY,
    CodeCopy,
    CodeFile,
    Installation,
    collect,
    copy_code,
    launch_digest,
    own_installation,
)
from laminator.measure.files import measure_path

DEBIAN_PYTHON = Path("/usr/bin/python3")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# Imports what the attester imports, then says how it runs and what it has mapped.
LOOK = """
import sys
sys.path.insert(0, __file__.rpartition("/")[0] + "/site")
import json, os
import cbor2, cryptography.x509, tpm2_pytss, ctypes, hashlib, ssl, bz2, lzma
import laminator.run.attester, laminator.run.workload_run, laminator.run.evaluation
import laminator.run.measurer, laminator.attest.tpm
tpm2_pytss.ESAPI
mapped = sorted({line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")
                 if line.split()[1][2] == "x" and "/" in line})
files = sorted({m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)})
flags = [sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode]
print(json.dumps({"mapped": mapped, "files": files, "flags": flags, "path": sys.path}))
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """This interpreter with a copy of laminator that nobody edits meanwhile."""
    packages = tmp_path_factory.mktemp("packages")
    shutil.copytree(own_installation().packages / "laminator", packages / "laminator")
    return own_installation()._replace(packages=packages)


@pytest.fixture(scope="module")
def code(installation: Installation) -> tuple[CodeFile, ...]:
    return collect(installation)


@pytest.fixture(scope="module")
def copy(
    code: tuple[CodeFile, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CodeCopy]:
    root = tmp_path_factory.mktemp("copy") / "code"
    yield copy_code(code, root, LOOK)
    shutil.rmtree(root)


def _debian_installation(folder: Path) -> Installation:
    """Return Debian's interpreter in a virtual environment that sees this test's packages."""
    if not DEBIAN_PYTHON.exists():
        pytest.skip("no /usr/bin/python3")
    asked = [str(DEBIAN_PYTHON), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    if subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() != VERSION:
        pytest.skip(f"/usr/bin/python3 is no Python {VERSION}, whose packages are installed here")
    return _environment(folder, DEBIAN_PYTHON)


def _environment(folder: Path, base: Path) -> Installation:
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (folder / f"lib/python{VERSION}/site-packages/here.pth").write_text(f"{packages}\n")
    return Installation(folder / "bin/python", own_installation().packages)


def _look(copied: CodeCopy, seen_at: Path | None = None) -> dict[str, Any]:
    done = subprocess.run(
        copied.command((), seen_at), check=True, capture_output=True, env={"LC_ALL": "C"}, cwd="/"
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_has_interpreter_library_packages_and_shared_objects(
    code: tuple[CodeFile, ...],
) -> None:
    paths = {item.path for item in code}
    assert {
        "bin/python3",
        f"lib/python{VERSION}/os.py",
        "site/cbor2/__init__.py",
        "site/cryptography/x509/__init__.py",
        "site/laminator/run/attester.py",
        "site/tpm2_pytss/__init__.py",
    } <= paths
    names = {Path(path).name for path in paths if path.startswith("so/")}
    assert any(name.startswith("libc.so") for name in names)
    assert any(name.startswith("libtss2-esys") for name in names)
    assert len([name for name in names if name.startswith("ld-")]) == 1


def test_it_has_no_byte_code_metadata_or_path_files(code: tuple[CodeFile, ...]) -> None:
    for item in code:
        folder, _, name = item.path.rpartition("/")
        assert "__pycache__" not in folder
        assert "dist-info" not in folder
        if folder.split("/")[0] in {"lib", "site"}:
            assert name.endswith((".py", ".so"))


def test_a_started_copy_runs_nothing_from_elsewhere(copy: CodeCopy) -> None:
    seen = _look(copy)
    root = f"{copy.root}/"
    assert seen["flags"] == [1, 1, 1]
    assert [path for path in seen["mapped"] if not path.startswith(root)] == []
    assert [path for path in seen["files"] if not path.startswith(root)] == []
    assert [path for path in seen["path"] if not path.startswith(root)] == []
    assert list(copy.root.rglob("*.pyc")) == []


def test_debians_interpreter_can_be_copied(tmp_path: Path) -> None:
    copied = copy_code(collect(_debian_installation(tmp_path / "venv")), tmp_path / "code", LOOK)
    seen = _look(copied)
    root = f"{copied.root}/"
    assert [path for path in seen["mapped"] if not path.startswith(root)] == []
    assert [path for path in seen["files"] if not path.startswith(root)] == []


def test_a_copy_runs_where_it_is_seen(copy: CodeCopy, tmp_path: Path) -> None:
    place = tmp_path / "moved"
    shutil.copytree(copy.root, place)
    assert all(path.startswith(f"{place}/") for path in _look(copy, place)["mapped"])


def test_the_digest_is_the_copys_folder_digest(installation: Installation, copy: CodeCopy) -> None:
    assert measure_path(copy.root).digest == copy.digest
    assert launch_digest(installation, LOOK) == copy.digest


def test_the_digest_does_not_depend_on_where_code_lies(
    installation: Installation, tmp_path: Path
) -> None:
    shutil.copytree(installation.packages / "laminator", tmp_path / "elsewhere/laminator")
    elsewhere = _environment(tmp_path / "venv", Path(sys._base_executable))  # type: ignore[attr-defined]
    moved = elsewhere._replace(packages=tmp_path / "elsewhere")
    assert launch_digest(moved) == launch_digest(installation)


def test_one_changed_byte_or_another_entry_changes_the_digest(
    installation: Installation, tmp_path: Path
) -> None:
    package = tmp_path / "laminator"
    shutil.copytree(installation.packages / "laminator", package)
    honest = launch_digest(installation)
    assert launch_digest(installation, f"{ENTRY}\n") != honest
    changed = package / "run/attester.py"
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert launch_digest(installation._replace(packages=tmp_path)) != honest


def test_the_reference_value_is_printed(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(attester_code, "own_installation", lambda: installation)
    expected = str(launch_digest(installation))
    assert main(["reference", "launch"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert main(["reference", "launch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"launch": expected}


def test_a_copy_cannot_be_written(copy: CodeCopy) -> None:
    modes = {path.stat().st_mode & 0o222 for path in copy.root.rglob("*") if path.is_file()}
    assert modes == {0}


def test_an_interpreter_without_the_packages_is_refused(tmp_path: Path) -> None:
    subprocess.run(
        [sys._base_executable, "-m", "venv", "--without-pip", tmp_path / "bare"],  # type: ignore[attr-defined]
        check=True,
    )
    with pytest.raises(MachineError) as refused:
        collect(Installation(tmp_path / "bare/bin/python", own_installation().packages))
    assert refused.value.code == "attester.code"
    assert "install laminator[prover]" in refused.value.message


def test_a_vanished_file_is_an_error_not_a_gap(tmp_path: Path) -> None:
    gone = CodeFile("site/gone.py", os.fspath(tmp_path / "gone.py"))
    with pytest.raises(MachineError) as refused:
        copy_code([gone], tmp_path / "code")
    assert refused.value.code == "attester.code"
