"""`scripts/release`: its launch value is the one that a card made with the same code shows."""

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from laminator.appraise.policy import parse_policy
from laminator.card import parse_card
from laminator.digest import parse_digest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]* --hash=sha256:[0-9a-f]{64}")
ATTESTER = ("cbor2", "cffi", "cryptography", "pyopenssl", "tpm2-pytss")


class Released(NamedTuple):
    """How `scripts/release` ended, and the values file that it wrote."""

    folder: Path
    status: int
    stderr: str

    @property
    def values(self) -> dict[str, Any]:
        (path,) = self.folder.glob("*.launch.toml")
        return tomllib.loads(path.read_text("utf-8"))


def _lock(path: Path, versions: dict[str, str]) -> Path:
    lines = [f"{name}=={version} --hash=sha256:{'0' * 64}" for name, version in versions.items()]
    path.write_text("\n".join(("# made by a test", *lines, "")), encoding="utf-8")
    return path


def _release(folder: Path, lock: Path) -> Released:
    options = ("--python", sys.executable, "--lock", str(lock), "--out", str(folder))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/release"), "--working-tree", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return Released(folder, done.returncode, done.stderr)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    folder = tmp_path_factory.mktemp("release")
    versions = {name: importlib.metadata.version(name) for name in ATTESTER}
    made = _release(folder / "dist", _lock(folder / "lock.txt", versions))
    assert made.status == 0, made.stderr
    return made


def test_the_value_is_the_one_in_a_card(released: Released, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("print('ran')\n", encoding="utf-8")
    command = [sys.executable, "-m", "laminator", "run", "--simulated=machine"]
    ran = subprocess.run(
        [*command, "--", sys.executable, "work.py"],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    launch = parse_card((tmp_path / "work.card").read_bytes()).claims.run.launch
    assert str(launch.digest) == released.values["launch"]


def test_the_values_name_what_they_are_of(released: Released) -> None:
    values = released.values
    (wheel,) = released.folder.glob("*.whl")
    assert values["format"] == "laminator-launch-values-v1"
    assert values["laminator"] == importlib.metadata.version("laminator")
    made_from = values["made-from"]
    assert made_from["wheel"] == f"sha-256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    lock = released.folder.parent / "lock.txt"
    assert made_from["lock"] == f"sha-256:{hashlib.sha256(lock.read_bytes()).hexdigest()}"
    python = hashlib.sha256(Path(sys.executable).resolve().read_bytes()).hexdigest()
    assert made_from["interpreter"] == f"sha-256:{python}"
    assert set(values["parts"]) >= {"bin", "lib", "site", "so"}
    policy = f'version = 1\n[reference]\nlaunch = ["{values["launch"]}"]\n'
    assert parse_policy(policy.encode(), name="x").references.launch == {
        parse_digest(values["launch"])
    }


def test_the_list_of_files_names_what_the_value_covers(released: Released) -> None:
    (listing,) = released.folder.glob("*.launch.sha256")
    pairs = [line.split("  ", 1) for line in listing.read_text("utf-8").splitlines()]
    digests = {path: digest for digest, path in pairs}
    assert len(digests) == len(pairs)
    for path in (ROOT / "laminator").rglob("*.py"):
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digests[f"site/{path.relative_to(ROOT)}"] == expected
    assert not any(path.startswith(("site/enclave_sim", "site/tests")) for path in digests)
    site = [path for path in digests if path.startswith("site/")]
    assert {f"site/{name}" for name in ("cbor2", "cryptography", "tpm2_pytss")} <= {
        "/".join(path.split("/")[:2]) for path in site
    }


def test_making_it_again_gives_the_same_bytes(released: Released, tmp_path: Path) -> None:
    again = _release(tmp_path / "dist", released.folder.parent / "lock.txt")
    assert again.status == 0, again.stderr
    first, second = (
        {path.name: path.read_bytes() for path in made.folder.iterdir()}
        for made in (released, again)
    )
    assert first == second


@pytest.mark.parametrize("versions", [{}, {"cbor2": "0.0.1"}, {"no-such-distribution": "1"}])
def test_an_environment_that_is_not_the_lock_files(
    versions: dict[str, str], tmp_path: Path
) -> None:
    refused = _release(tmp_path / "dist", _lock(tmp_path / "lock.txt", versions))
    assert refused.status == 1
    assert "LOCK" in refused.stderr
    assert not list((tmp_path / "dist").glob("*.launch.*"))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_pins_versions_and_hashes_and_names_no_host(path: Path) -> None:
    head, *pins = path.read_text("ascii").splitlines()
    assert head.startswith("# laminator[")
    assert [pin for pin in pins if not PIN.fullmatch(pin)] == []
    assert {pin.split("==")[0] for pin in pins} >= set(ATTESTER)


def test_there_is_a_lock_file() -> None:
    assert LOCKS
