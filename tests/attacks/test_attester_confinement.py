"""A hostile program in the attester's place, as root and as a user without privileges.

It gets what the real attester gets: the relay, the hierarchies' secrets, the counter's secret.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from launching import launch_text

from enclave_sim.machine import create, start
from laminator.digest import parse_digest
from laminator.measure.attester_code import own_installation
from laminator.programs import SEARCH_PATH

NOBODY = 65534
SUPPORT = Path(__file__).parents[1] / "support"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("OpenSSL", "cbor2", "cryptography", "tpm2_pytss", "typing_extensions.py")

# Makes a machine in argv[1] and launches the attacker on it.
DRIVER = """
import json, sys
from pathlib import Path
import attacker_entry
from launching import launch_text
from enclave_sim.machine import create, start
from laminator.attest.tpm import AttestationTpm

place = Path(sys.argv[1])
create(place)
with start(place) as machine:
    def kept():
        with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
            keys = [key.public.hex() for key in tpm.endorsement_keys()]
            return [tpm.counter_public(seat.counter_index).hex(), keys]
    before = kept()
    said = launch_text(machine, Path(attacker_entry.__file__).read_text(), arguments=(str(place),))
    print(json.dumps({"attacker": said.answer, "kept": before == kept()}))
"""

PROBE = """
from laminator.run.bubblewrap import bubblewrap
from laminator.run.sandbox import probe
probe(("bwrap",))
probe(bubblewrap())
print(json.dumps({"path": os.environ["PATH"]}))
"""


LARGE = """
from pathlib import Path
from laminator.run.bubblewrap import bubblewrap
from laminator.run.filesystem import Bind
from laminator.run.private_copy import private_place
from laminator.run.sandbox import ask, probe
with private_place(1 << 60) as place:
    (place / "copy").write_text("copied")
    copies = (Bind(place / "copy", Path("/data")),)
    seen = ask(["/bin/cat", "/data"], (), probe(bubblewrap()), copies)
    machine = sorted(os.listdir(sys.argv[1]))
print(json.dumps({"place": str(place), "machine": machine, "seen": seen.decode()}))
"""


@pytest.fixture(scope="module", params=["root", "user"])
def attack(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the attacker said, and whether endorsement keys and counter are what they were."""
    place = Path(tempfile.mkdtemp(prefix="laminator-test-", dir="/tmp"))
    try:
        place.chmod(0o755)
        yield _attack_as_user(place) if request.param == "user" else _attack_as_root(place)
    finally:
        shutil.rmtree(place)


def _attack_as_root(place: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("this test runs without root")
    return _attack([sys.executable], place, str(SUPPORT))


def _attack_as_user(place: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return _attack([sys.executable], place, str(SUPPORT))
    python = _readable_environment(place / "venv")
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return _attack([*user, str(python)], home, str(place / "venv/support"))


def _readable_environment(folder: Path) -> Path:
    """Make an interpreter with all packages that every user can read; return its path."""
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    if not _is_open(base.resolve()):
        base = Path("/usr/bin/python3")
    asked = [str(base), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    if found != VERSION:
        pytest.skip(f"no Python {VERSION} that every user can run")
    subprocess.run([str(base), "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = folder / f"lib/python{VERSION}/site-packages"
    installed = Path(cbor2.__file__).parents[1]
    sources = [installed / name for name in PACKAGES] + list(installed.glob("_cffi_backend*.so"))
    own = own_installation().packages
    for source in [*sources, own / "laminator", own / "enclave_sim"]:
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, packages / source.name)
    shutil.copytree(SUPPORT, folder / "support")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return folder / "bin/python"


def _is_open(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


def _attack(command: list[str], home: Path, support: str) -> dict[str, Any]:
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": support,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = [*command, "-c", DRIVER, str(home / "machine")]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_clients_path_chooses_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bubblewrap and swtpm are the system's: whoever chooses them chooses what is measured."""
    tools, ran = tmp_path / "tools", tmp_path / "ran"
    tools.mkdir()
    for name in ("bwrap", "setpriv", "swtpm"):
        program = tools / name
        real = shutil.which(name)
        program.write_text(f'#!/bin/sh\necho {name} >>{ran}\nexec {real} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    create(tmp_path / "machine")
    with start(tmp_path / "machine") as machine:
        said = launch_text(machine, PROBE)
    assert said.answer["path"] == SEARCH_PATH
    assert not ran.exists()


def test_large_private_copies_lie_in_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in the client's TMPDIR, where others find them; the machine's folder stays hidden."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "client"))
    folder = tmp_path / "machine"
    create(folder)
    with start(folder) as machine:
        said = launch_text(machine, LARGE, arguments=(str(folder),))
    assert Path(said.answer["place"]).parent == folder / "disk"
    assert said.answer["machine"] == ["attester", "disk"]
    assert said.answer["seen"] == "copied"


def _refused(attack: dict[str, Any], prefix: str) -> dict[str, str]:
    """Return the answers to attempts that begin with `prefix`; each was refused."""
    said: dict[str, str] = attack["attacker"]["said"]
    found = {name: answer for name, answer in said.items() if name.startswith(prefix)}
    assert found
    assert {name: text for name, text in found.items() if not text.startswith("refused:")} == {}
    return found


@pytest.mark.parametrize(
    "attempt", ["folder", "unmount", "bind-below", "bwrap-below", "disk", "processes"]
)
def test_the_machines_folder_is_out_of_reach(attack: dict[str, Any], attempt: str) -> None:
    _refused(attack, attempt)


@pytest.mark.parametrize("attempt", ["owner-socket", "unix-sockets", "control-channel"])
def test_no_socket_but_the_relay_can_be_opened(attack: dict[str, Any], attempt: str) -> None:
    _refused(attack, attempt)


def test_nested_namespaces_uncover_nothing(attack: dict[str, Any]) -> None:
    """They can be made, as the workload's must be, and what they inherit stays locked."""
    said = attack["attacker"]["said"]
    assert said["control-namespace"].startswith("succeeded:")
    assert "unmount" in said["unmount"] or "umount" in said["unmount"]
    assert "bind" in said["bind-below"] or "mount" in said["bind-below"]


def test_the_measured_copy_cannot_be_changed(attack: dict[str, Any]) -> None:
    _refused(attack, "code")


def test_pcr_17_stays_what_the_launch_made_it(attack: dict[str, Any]) -> None:
    assert set(_refused(attack, "pcr17-")) == {"pcr17-reset", "pcr17-extend", "pcr17-event"}
    digest = parse_digest(attack["attacker"]["digest"])
    expected = hashlib.sha256(bytes(32) + digest.value).hexdigest()
    assert attack["attacker"]["said"]["pcr17"] == expected


@pytest.mark.parametrize(
    "attempt", ["clear-", "change-eps-", "change-pps-", "platform-nv-", "undefine-", "redefine-"]
)
def test_the_platform_stays_closed(attack: dict[str, Any], attempt: str) -> None:
    _refused(attack, attempt)


def test_the_secrets_that_it_has_do_work(attack: dict[str, Any]) -> None:
    """Without this, the refusals above could come from a typing error in the attacker."""
    assert attack["attacker"]["said"]["control-owner-nv"].startswith("succeeded:")


def test_counter_and_endorsement_keys_are_what_they_were(attack: dict[str, Any]) -> None:
    assert attack["kept"]
