"""Reference values of what is here: folders, files, interpreters, environments, cards; changes."""

import os
import sys
import sysconfig
import venv
from pathlib import Path

import forge
import packages
import pytest

from enclave_sim.adversary.forged_code import RECORDS, TORCH, ran
from laminator.claims import CODE_FILES
from laminator.errors import MachineError, MalformedError, UsageError
from laminator.reference import ReferencePackage
from laminator.references.cards import read_card
from laminator.references.differences import compare
from laminator.references.environments import UNOWNED, read_environment
from laminator.references.folders import read_files, read_folder, walk
from laminator.references.interpreters import (
    find_interpreter,
    read_interpreter,
    roots_without_script,
)
from laminator.references.packing import encode, pack


def files_of(package: ReferencePackage) -> dict[str, bytes]:
    return {path: package.digest(place) for place, path in enumerate(package.paths)}


def test_a_folder_has_its_sources_and_no_caches(tmp_path: Path) -> None:
    for path in ("train.py", "a/b.py", "__pycache__/x.py", ".git/config", "a/c.pyc"):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "link.py").symlink_to("train.py")
    (tmp_path / "folder").symlink_to("a")
    (tmp_path / "broken").symlink_to("nowhere")
    found = read_folder(str(tmp_path), "source/demo", "demo")
    names = {"source/demo/train.py": "train.py", "source/demo/a/b.py": "a/b.py"}
    names["source/demo/link.py"] = "train.py"
    assert files_of(found) == {name: packages.digest(text.encode()) for name, text in names.items()}
    assert found.kind == "directory"


def test_folders_that_give_no_values(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_folder(str(tmp_path), "elsewhere", "x")
    assert refused.value.code == "reference.label"
    with pytest.raises(UsageError) as refused:
        read_folder(str(tmp_path), "script/..", "x")
    assert refused.value.code == "files.name"
    with pytest.raises(UsageError) as refused:
        read_folder(str(tmp_path), "script", "x")
    assert refused.value.code == "reference.empty"
    with pytest.raises(UsageError) as refused:
        read_folder(str(tmp_path / "missing"), "script", "x")
    assert refused.value.code == "files.open"
    (tmp_path / "a\nb.py").write_text("")
    with pytest.raises(UsageError) as refused:
        read_folder(str(tmp_path), "script", "x")
    assert refused.value.code == "files.name"


def test_a_folder_too_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    monkeypatch.setattr("laminator.references.folders.MAX_DEPTH", 2)
    with pytest.raises(UsageError) as refused:
        list(walk(str(tmp_path)))
    assert refused.value.code == "files.depth"


def test_an_interpreters_files_are_named_as_a_run_names_them() -> None:
    found = read_interpreter(sys.executable)
    real = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    named = files_of(found)
    assert named[f"interpreter/{real.name}"] == packages.digest(real.read_bytes())
    assert named["stdlib/os.py"] == packages.digest((stdlib / "os.py").read_bytes())
    assert any(name.startswith("stdlib/lib-dynload/") for name in named)
    assert not [name for name in named if "site-packages" in name or name.endswith(".pyc")]


def test_what_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        find_interpreter("/bin/true")
    with pytest.raises(UsageError):
        find_interpreter(str(tmp_path / "missing"))


def test_single_files_under_both_their_names(tmp_path: Path) -> None:
    roots = roots_without_script(find_interpreter(sys.executable))
    stdlib = Path(sysconfig.get_path("stdlib"))
    link = tmp_path / "link.py"
    link.symlink_to(stdlib / "os.py")
    found = read_files([str(link)], roots, "files")
    assert set(found.paths) == {roots.name(str(link)), "stdlib/os.py"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site-packages of an environment with the small wheel's files."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python3*/site-packages")
    for path, content in packages.FILES.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_bytes(content)
    record = packages.record_of({**packages.FILES, "demo_pkg/gone.py": b""})
    (site / packages.INFO / "RECORD").write_bytes(record)
    (site / "alone.py").write_text("alone")
    (site / "old-1.dist-info").mkdir()
    return site


def test_installed_files_and_what_record_does_not_agree_with(environment: Path) -> None:
    python = str(environment.parents[2] / "bin/python")
    found = read_environment(python)
    by_name = {package.name: package for package in found.packages}
    assert set(by_name) == {"demo-pkg", UNOWNED}
    assert by_name[UNOWNED].paths == ("site/alone.py",)
    assert files_of(by_name["demo-pkg"])["site/demo_pkg/__init__.py"] == packages.digest(
        b"VALUE = 1\n"
    )
    assert found.differences == ("demo-pkg 1.2: demo_pkg/gone.py is missing",)
    (environment / "demo_pkg/__init__.py").write_text("VALUE = 2\n")
    differences = read_environment(python).differences
    assert "demo-pkg 1.2: demo_pkg/__init__.py is not what RECORD says: modified" in differences


def test_a_card_gives_the_code_that_it_loaded() -> None:
    again = TORCH._replace(digest=bytes(32))
    card = forge.card_bytes(ran(*RECORDS, again))
    found = read_card(card)
    named = {(path, digest) for each in found for path, digest in files_of(each).items()}
    logged = {
        (each.name, each.digest) for each in (*RECORDS, again) if each.event in CODE_FILES[1:]
    }
    assert logged <= named
    assert {each.kind for each in found} == {"card"}
    assert not [path for path, _ in named if "bootstrap" in path]
    assert encode("x", found) == encode("x", found[::-1])
    with pytest.raises(MalformedError):
        read_card(card[:-1])


def test_what_changed_is_told_by_package() -> None:
    old = pack("a", "1", "wheel", {"site/a.py": bytes(32), "site/b.py": bytes(32)})
    new = pack("a", "2", "environment", {"site/a.py": b"x" * 32, "site/c.py": bytes(32)})
    same = pack("same", "1", "wheel", {"site/s.py": bytes(32)})
    (change,) = compare([old, same], [new, same._replace(kind="card")])
    assert change.name == "a"
    assert (change.before, change.after) == (("1",), ("2",))
    assert (change.added, change.removed) == (("site/c.py",), ("site/b.py",))
    assert change.modified == ("site/a.py",)
    assert [each.name for each in compare([], [old, same])] == ["a", "same"]
    assert compare([old, same], [same, old]) == ()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    roots = roots_without_script(find_interpreter(sys.executable))
    with pytest.raises(UsageError) as refused:
        read_files([os.fspath(tmp_path / "missing.so")], roots, "files")
    assert "missing.so" in refused.value.message
