"""The core alone: a wheel built from this tree, with its three dependencies and nothing else."""

import os
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "tpm2_pytss", "safetensors", "rich", "sklearn")
CORE = {"laminator", "cbor2", "cryptography", "pyopenssl"}


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300
    )


def _build_wheel(folder: Path) -> Path:
    command = [sys.executable, str(ROOT / "scripts/build"), "--working-tree", "--out", str(folder)]
    built = _run(command, folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the `bin` folder of a virtual environment that holds the core alone."""
    folder = tmp_path_factory.mktemp("core")
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    python = str(environment / "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-qq"]
    installed = _run([*pip, str(_build_wheel(folder))], folder)
    assert installed.returncode == 0, installed.stderr
    yield environment / "bin"
    shutil.rmtree(folder)


def test_core_brings_nothing_heavy(core: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m, importlib.util as u;"
        "print(*sorted(d.name.lower() for d in m.distributions()));"
        f"print(*[name for name in {HEAVY!r} if u.find_spec(name)])"
    )
    found = _run([str(core / "python"), "-c", code], tmp_path).stdout.splitlines()
    assert set(found[0].split()) >= CORE
    assert found[1] == ""


def test_core_verifies_a_golden_card(core: Path) -> None:
    arguments = shlex.split((ROOT / "tests/vectors/cards/v1/verify.txt").read_text("utf-8"))
    where = _run([str(core / "python"), "-I", "-c", "import laminator; print(laminator)"], ROOT)
    assert str(core.parent) in where.stdout
    verified = _run([str(core / "laminator"), "verify", *arguments], ROOT)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_core_says_what_running_needs(core: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('ran')", encoding="utf-8")
    words = ["run", "--simulated=machine", "--", sys.executable, "script.py"]
    refused = _run([str(core / "laminator"), *words], tmp_path)
    assert refused.returncode == 125
    assert "laminator[tpm]" in refused.stderr
    assert "Traceback" not in refused.stderr
