"""State folders in which nothing can be written: said clearly, and the next run works.

Full disks are small file systems in memory, mounted in a namespace of the test's own.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from local_run import LAMINATOR, PYTHON, Attester, Ran, Workshop

OUTPUT = "--output=model=model.bin"
MAKE = "open('model.bin', 'w').write('m')"
MOUNTING = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "-Urm")
FILL = "head -c 8388608 /dev/zero >{0}/filler 2>/dev/null"


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    (tmp_path / "work").mkdir()
    return Workshop(attester, tmp_path / "work")


def with_state(shop: Workshop, state: Path) -> Workshop:
    """Return the workshop with its runs kept in `state`."""
    variables = {**shop.attester.variables, "XDG_STATE_HOME": str(state)}
    attester = _Stated(*shop.attester._replace(variables=variables))
    return Workshop(attester, shop.folder, shop.prefix)


class _Stated(Attester):
    """An attester whose variables decide over its home."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.variables}


def mounted(shop: Workshop, script: str) -> Workshop:
    """Return the workshop with commands run after `script`, where it may mount."""
    return Workshop(
        shop.attester, shop.folder, (*MOUNTING, "sh", "-c", f'{script}; exec "$@"', "sh")
    )


def number(shop: Workshop) -> int:
    """Do a good run and return its number."""
    assert shop.run("").status == 0
    assert shop.verify().accepted
    spent = shop.card().claims.run.number
    (shop.folder / "train.card").unlink()
    return spent


def refused(ran: Ran, words: str) -> None:
    assert ran.status == 125
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


# The user's own list of runs.


def a_folder(ledger: Path) -> None:
    ledger.mkdir(parents=True)


def a_file_above(ledger: Path) -> None:
    ledger.parent.parent.mkdir(parents=True)
    ledger.parent.write_text("")


def a_pipe(ledger: Path) -> None:
    ledger.parent.mkdir(parents=True)
    os.mkfifo(ledger)


def a_loop(ledger: Path) -> None:
    ledger.parent.mkdir(parents=True)
    ledger.symlink_to(ledger.name)


def a_device(ledger: Path) -> None:
    ledger.parent.mkdir(parents=True)
    ledger.symlink_to("/dev/full")


def a_link_to_nowhere(ledger: Path) -> None:
    ledger.parent.mkdir(parents=True)
    ledger.symlink_to("/nowhere/runs.jsonl")


@pytest.mark.parametrize(
    "make", [a_folder, a_file_above, a_pipe, a_loop, a_device, a_link_to_nowhere]
)
def test_a_ledger_that_is_no_file_spends_no_number(
    shop: Workshop, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "state" / "laminator" / "runs.jsonl")
    before = number(shop)
    ran = with_state(shop, tmp_path / "state").run("print('ran')")
    refused(ran, "list of runs")
    assert "XDG_STATE_HOME" in ran.stderr or "move it away" in ran.stderr
    assert not shop.has_card
    assert number(shop) == before + 1


def test_a_full_disk_under_the_ledger_spends_no_number(shop: Workshop, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    before = number(shop)
    place = shlex.quote(str(state))
    fill = f"mount -t tmpfs -o size=16k none {place} && mkdir {place}/laminator; "
    ran = mounted(with_state(shop, state), fill + FILL.format(place)).run("print('ran')")
    refused(ran, "No space left on device; make room")
    assert not shop.has_card
    assert number(shop) == before + 1


def test_room_that_was_kept_is_there_when_the_disk_is_full(shop: Workshop, tmp_path: Path) -> None:
    """Somebody fills the disk during the run: its lines still have their place."""
    state = tmp_path / "state"
    state.mkdir()
    before = number(shop)
    place = shlex.quote(str(state))
    mount = f"mount -t tmpfs -o size=1m none {place}"
    small = mounted(with_state(shop, state), mount)
    command = shlex.join(small.command("")[len(small.prefix) :])
    script = (
        f"{mount}; {command} & sleep 0.2; until test -s {place}/laminator/runs.jsonl; do :; done"
    )
    script += f"; {FILL.format(place)}; wait $!; cat {place}/laminator/runs.jsonl"
    done = subprocess.run(
        [*MOUNTING, "sh", "-c", script],
        cwd=shop.folder,
        env=small.attester.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["event"], line["number"]) for line in lines] == [
        ("started", before + 1),
        ("ended", before + 1),
    ]
    assert (lines[1]["outcome"] == "card") == shop.has_card


# Where the card and the outputs go.


def test_a_full_disk_under_the_card(shop: Workshop, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    place = shlex.quote(str(full))
    fill = f"mount -t tmpfs -o size=16k none {place}; " + FILL.format(place)
    ran = mounted(shop, fill).run("", f"--card={full}/x.card")
    refused(ran, "cannot write")
    assert "no space left" in ran.stderr
    assert shop.ledger()[-1]["outcome"] == "failed"
    number(shop)


def test_a_full_disk_under_an_output(shop: Workshop, tmp_path: Path) -> None:
    """The card that would name it is not written."""
    full = tmp_path / "full"
    full.mkdir()
    (shop.folder / "other").mkdir()
    place = shlex.quote(str(full))
    fill = f"mount -t tmpfs -o size=64k none {place}; " + FILL.format(place)
    script = f"open({str(full / 'model.bin')!r}, 'wb').write(bytes(1 << 20))"
    ran = mounted(shop, fill).run(script, f"--output=model={full}/model.bin")
    refused(ran, "no space left")
    assert not shop.has_card
    assert shop.ledger()[-1]["outcome"] == "failed"
    number(shop)


def test_a_card_s_place_that_is_taken(shop: Workshop) -> None:
    (shop.folder / "train.card.private").mkdir()
    ran = shop.run(MAKE, OUTPUT)
    refused(ran, "cannot write")
    assert not shop.has_card
    (shop.folder / "train.card.private").rmdir()
    number(shop)


# The simulated machine's folder.


def simulated(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` where it may mount, with `laminator` as a function and $M the machine."""
    run = shlex.join([*LAMINATOR, "run"])
    head = f'run() {{ {run} "--simulated=$M" -- {PYTHON} train.py; echo "status $?"; }}\n'
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "M": str(folder / "machine"),
    }
    (folder / "train.py").write_text("print('ran')\n")
    return subprocess.run(
        [*MOUNTING, "sh", "-c", head + script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_machine_that_has_no_room_to_be_made(tmp_path: Path) -> None:
    done = simulated(
        tmp_path,
        'mkdir disk; mount -t tmpfs -o size=16k none disk; M="$PWD/disk/machine"; run\n'
        "ls -A disk; umount disk; run",
    )
    assert done.stdout.split("\n")[:3] == ["status 125", "ran", "status 0"], done.stderr
    assert "Traceback" not in done.stderr
    assert "machine" in done.stderr.splitlines()[0]


def test_a_machine_whose_disk_is_full(tmp_path: Path) -> None:
    """Its TPM and the attester's copy have no room: no run, and a good one when there is again."""
    done = simulated(
        tmp_path,
        'mkdir disk; mount -t tmpfs -o size=400m none disk; M="$PWD/disk/machine"\n'
        "run; mv train.card first.card; head -c 1G /dev/zero >disk/filler 2>/dev/null\n"
        "run; test -e train.card && echo card; rm disk/filler; run",
    )
    said = done.stdout.split("\n")
    assert said[:5] == ["ran", "status 0", "status 125", "ran", "status 0"], done.stderr
    assert "Traceback" not in done.stderr
    assert "make room on the disk of the machine's folder" in done.stderr
