"""`scripts/build`: the same bytes from any folder, and a wheel with what the package needs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _build(tree: Path, out: Path, umask: int, *options: str) -> dict[str, bytes]:
    """Run `tree`'s scripts/build; return what it made by its name."""
    done = subprocess.run(
        [sys.executable, str(tree / "scripts/build"), "--out", str(out), *options],
        cwd=out.parent,
        env={**os.environ, "TZ": f"UTC+{umask % 12}"},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(map(str, out.iterdir()))
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_two_folders_and_umasks_give_the_same_bytes(tmp_path: Path) -> None:
    clone = tmp_path / "elsewhere/clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    shutil.copy(ROOT / "scripts/build", clone / "scripts/build")
    for path in (clone / "laminator").glob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    here = _build(ROOT, tmp_path / "one", 0o077)
    there = _build(clone, tmp_path / "two", 0o000)
    assert len(here) == 2
    assert here == there
    assert _build(clone, tmp_path / "three", 0o022, "--commit", "HEAD") == here


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "dist"
    _build(ROOT, out, 0o022, "--working-tree")
    return out


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = {member.filename: member for member in archive.infolist()}
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("laminator", "enclave_sim")
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    plain = {name for name in members if ".dist-info/" not in name}
    assert plain == wanted
    modes = {member.external_attr >> 16 & 0o777 for member in members.values()}
    assert modes <= {0o644, 0o664}
    assert len({member.date_time for member in members.values()}) == 1


def test_the_source_distribution_is_sorted_and_nobodys(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = [member.name.partition("/")[2] for member in members]
    assert names == sorted(names)
    assert {"pyproject.toml", "README.md", "LICENSE", "laminator/py.typed"} <= set(names)
    owners = {(member.uid, member.gid, member.uname, member.gname) for member in members}
    assert owners == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
