import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from laminator.cbor import encode
from laminator.errors import MachineError, UsageError
from laminator.measure.environment import (
    Distribution,
    commitment,
    find_sources,
    inspect_interpreter,
    list_distributions,
    locate_interpreter,
    select_environment,
)

HOME = Path("/home/workload")
FIXED = {"HOME": "/home/workload", "TMPDIR": "/tmp"}  # noqa: S108 - the workload's own
FIXED |= {"USER": "workload", "LOGNAME": "workload"}
LOADING = "LD_PRELOAD LD_LIBRARY_PATH PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS BASH_ENV HOME"
LOADING += " LAMINATOR_SETUP_FD GCONV_PATH GLIBC_TUNABLES"


def answer(**changes: object) -> bytes:
    content: dict[str, object] = {"version": "cpython 3.11.2", "bases": ["/usr"], "packages": []}
    return json.dumps(content | changes).encode()


def binary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    return path


def test_an_interpreter_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    program = binary(tmp_path / "bin" / "python")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "python").symlink_to(program)
    search = f"{tmp_path / 'other'}:{tmp_path / 'bin'}"
    assert locate_interpreter("python", search) == tmp_path / "other" / "python"
    assert locate_interpreter(f"{tmp_path}/bin/../other/python") == tmp_path / "other" / "python"
    with pytest.raises(UsageError, match="no program 'absent'"):
        locate_interpreter("absent", search)


def test_an_interpreter_is_asked_without_site_and_with_its_folders(tmp_path: Path) -> None:
    real = binary(tmp_path / "base" / "bin" / "python3")
    given = tmp_path / "venv" / "bin" / "python"
    given.parent.mkdir(parents=True)
    given.symlink_to(real)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {real.parent}\nversion = 3\n")
    packages = tmp_path / "venv" / "packages"
    packages.mkdir()
    asked: list[tuple[Sequence[str], Sequence[Path]]] = []

    def ask(command: Sequence[str], folders: Sequence[Path]) -> bytes:
        asked.append((command, folders))
        bases = [str(tmp_path / "base")] * 2
        return answer(bases=bases, packages=[str(packages), str(tmp_path / "absent")])

    found = inspect_interpreter(given, ask)
    assert found.given == given
    assert found.executable == real
    assert found.version == "cpython 3.11.2"
    assert found.prefixes == (tmp_path / "venv", tmp_path / "base")
    assert found.packages == (packages,)
    [(command, folders)] = asked
    assert list(command[:5]) == [str(real), "-I", "-S", "-B", "-c"]
    assert list(command[6:]) == [str(tmp_path / "venv"), "false"]
    assert set(folders) == {tmp_path / "venv", tmp_path / "base"}


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"Python 3",
        b"[]",
        b"{}",
        answer(version=3),
        answer(bases="/usr"),
        answer(packages=["relative"]),
        answer(bases=[1]),
        answer() + b" " * (1 << 16),
        b"[" * 5000,
    ],
)
def test_a_strange_answer_is_an_error(tmp_path: Path, output: bytes) -> None:
    given = binary(tmp_path / "bin" / "python")
    with pytest.raises(MachineError, match="does not answer as a Python 3 interpreter"):
        inspect_interpreter(given, lambda _command, _folders: output)


def test_a_script_is_not_an_interpreter(tmp_path: Path) -> None:
    given = binary(tmp_path / "python")
    given.write_text("#!/bin/sh\n")
    with pytest.raises(UsageError, match="is a script that starts an interpreter"):
        inspect_interpreter(given, lambda _command, _folders: answer())
    with pytest.raises(UsageError, match="cannot read"):
        inspect_interpreter(tmp_path / "absent", lambda _command, _folders: answer())


def metadata(folder: Path, entry: str, name: str, version: str, file: str = "METADATA") -> None:
    path = folder / entry / file if file else folder / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")


def test_distributions_are_sorted_and_digested(tmp_path: Path) -> None:
    metadata(tmp_path, "zeta-1.0.dist-info", "Zeta_Pack.age", "1.0")
    metadata(tmp_path, "alpha-2.dist-info", "alpha", "2")
    metadata(tmp_path / "more", "beta-3-py3.11.egg-info", "beta", "3", "PKG-INFO")
    metadata(tmp_path / "more", "gamma-4.egg-info", "gamma", "4", "")
    (tmp_path / "more" / "delta-5-py3.11.egg-info").mkdir()
    (tmp_path / "module.py").write_text("")
    found = list_distributions([tmp_path, tmp_path / "more"])
    pairs = [
        ("alpha", "2"),
        ("beta", "3"),
        ("delta", "5"),
        ("gamma", "4"),
        ("zeta-pack-age", "1.0"),
    ]
    assert found.items == tuple(Distribution(*pair) for pair in pairs)
    assert found.digest.value == hashlib.sha256(encode([list(pair) for pair in pairs])).digest()


def test_the_list_agrees_with_importlib() -> None:
    from importlib.metadata import distributions

    folder = next(path for path in sys.path if path.endswith("-packages"))
    expected = {(d.name.lower(), d.version) for d in distributions(path=[folder])}
    found = {(item.name, item.version) for item in list_distributions([Path(folder)]).items}
    assert {name for name, _ in found} == {
        name.replace("_", "-").replace(".", "-") for name, _ in expected
    }
    assert {version for _, version in found} == {version for _, version in expected}


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot read"):
        list_distributions([tmp_path / "absent"])


def test_editable_installs_are_found_without_running_them(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("by_pth", "mapped", "recorded", "inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "module.py").write_text("")
    (packages / "inside").mkdir()
    lines = ["# comment", "", "import os; raise SystemExit", f"{tmp_path}/by_pth", "../by_pth"]
    (packages / "a.pth").write_text("\n".join([*lines, "inside", "/absent", ""]))
    mapping = {"mapped": f"{tmp_path}/mapped", "module": f"{tmp_path}/module"}
    (packages / "__editable___x_finder.py").write_text(
        f"raise SystemExit\nMAPPING: dict[str, str] = {mapping!r}\n"
        "NAMESPACES: dict[str, list[str]] = {}\nOTHER: int = 1\n"
    )
    for name, url in (
        ("recorded", f"file://{tmp_path}/recorded"),
        ("covered", f"file://{tmp_path}"),
        ("remote", "https://example.org/x"),
    ):
        record = packages / f"{name}-1.dist-info" / "direct_url.json"
        record.parent.mkdir()
        record.write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    (packages / "plain-1.dist-info").mkdir()
    (packages / "plain-1.dist-info" / "direct_url.json").write_text("{}")
    (packages / "__editable___broken_finder.py").write_text("MAPPING: dict = {")
    expected = {tmp_path / name for name in ("by_pth", "mapped", "module.py", "recorded")}
    assert set(find_sources([packages])) == expected


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("a.pth", f"/{'x' * 300}\n"),
        ("__editable___x_finder.py", f"MAPPING: dict = {{1: 0x{'f' * 4000}}}\n"),
        ("__editable___x_finder.py", f"MAPPING: dict = {{1: {'-' * 30_000}1}}\n"),
        ("__editable___x_finder.py", f"MAPPING: dict = {{1: '/{'x' * 300}'}}\n"),
        ("x-1.dist-info/direct_url.json", '{"dir_info": {"editable": true}, "url": 5}'),
        ("x-1.dist-info/direct_url.json", "[" * 5000),
    ],
)
def test_a_strange_file_among_the_packages_points_nowhere(
    tmp_path: Path, place: str, content: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(content)
    assert find_sources([tmp_path]) == ()


def test_a_workload_gets_the_kept_the_named_and_the_fixed_variables() -> None:
    source = {"PATH": "/bin", "TZ": "UTC", "EXTRA": "é", "OTHER": "no", "HOME": "/root"}
    chosen = select_environment(source, ["EXTRA"], home=HOME)
    assert chosen.values == {"PATH": "/bin", "TZ": "UTC", "EXTRA": "é", **FIXED}
    assert chosen.warnings == ()


@pytest.mark.parametrize("name", LOADING.split())
def test_variables_that_load_code_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--env {name}: this variable is never passed on"):
        select_environment({name: "x"}, [name], home=HOME)


@pytest.mark.parametrize("name", ["", "A=B", "1A", "A B", "A\n", "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a variable's name"):
        select_environment({name: "x"}, [name], home=HOME)


def test_a_hash_seed_may_pass() -> None:
    source = {"PYTHONHASHSEED": "0"}
    assert select_environment(source, list(source), home=HOME).values == source | FIXED


def test_a_variable_that_is_not_set_is_an_error() -> None:
    with pytest.raises(UsageError, match="--env ABSENT: not set"):
        select_environment({}, ["ABSENT"], home=HOME)


@pytest.mark.parametrize("name", ["HF_TOKEN", "my_secret", "DB_PASSWORD", "AWS_ACCESS_KEY_ID"])
def test_names_of_secrets_draw_a_warning(name: str) -> None:
    [warning] = select_environment({name: "x"}, [name], home=HOME).warnings
    assert warning.startswith(f"{name} looks like a secret")
    assert "x:" not in warning


def test_a_value_that_is_not_text_is_refused() -> None:
    with pytest.raises(UsageError, match="the value of TZ is not UTF-8"):
        select_environment({"TZ": os.fsdecode(b"\xff")}, home=HOME)
    with pytest.raises(UsageError, match="the value of argument is not UTF-8"):
        commitment(bytes(16), os.fsdecode(b"\xff"))


def test_a_commitment_is_salted_and_separated() -> None:
    salt = bytes(range(16))
    expected = hashlib.sha256(b"laminator-commitment-v1\x00" + encode([salt, "--lr"])).digest()
    assert commitment(salt, "--lr") == expected
    assert commitment(bytes(16), "--lr") != expected
    with pytest.raises(ValueError, match="a salt has 16 bytes"):
        commitment(b"short", "--lr")
