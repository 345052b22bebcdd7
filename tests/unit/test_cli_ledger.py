"""`laminator ledger`: what it lists, what it exports, and what it says is missing."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enclave_sim.adversary.forged_ledger import (
    card_of,
    failed_run,
    failure_bytes,
    judge,
    run_of,
)
from enclave_sim.adversary.forged_tpm import machine
from laminator.card import parse_card
from laminator.cli.main import main
from laminator.digest import sha256
from laminator.evidence.tpm_key import key_digest
from laminator.run import run_list
from laminator.run.outcome import Outcome, card_written, outcome_of, workload_failed
from laminator.run.run_list import Failure, RunRecord, complete
from laminator.run.runs import MAX_SPAN, machines

KEY = key_digest(machine().ak).value
OTHER = bytes(32)
HOLD = """
import sys
from laminator.run.run_list import RunRecord
record = RunRecord(sys.argv[1], ticket="alive", card="/nowhere")
record.started(bytes.fromhex(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4]))
print("up", flush=True)
sys.stdin.read()
"""


class Desk:
    """A user's list of runs, and folders for what they leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.list = folder / "state" / "laminator" / "runs.jsonl"

    def record(self, number: int, card: str = "x.card") -> RunRecord:
        return RunRecord(str(self.list), ticket=f"t{number}", card=str(self.folder / card))

    def started(self, number: int, key: bytes = KEY, card: str = "x.card") -> RunRecord:
        record = self.record(number, card)
        record.started(run_of(number).id, number, key)
        return record

    def with_card(self, number: int, key: bytes = KEY) -> None:
        name = f"{number}.card"
        content = card_of(number)
        (self.folder / name).write_bytes(content)
        record = self.started(number, key, name)
        record.ended(card_written(parse_card(content).id))
        record.close()

    def with_failure(self, number: int) -> Path:
        content = failure_bytes(failed_run(number))
        path = self.folder / f"{number}.failure"
        path.write_bytes(content)
        record = self.started(number)
        record.failure = Failure(path, sha256(content).value)
        record.ended(Outcome("interrupted", 130))
        record.close()
        return path

    def silent(self, number: int, key: bytes = KEY) -> None:
        self.started(number, key).close()

    def json(self, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
        capsys.readouterr()
        main(["ledger", *words, "--json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def test_no_list_yet(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    del desk
    assert main(["ledger"]) == 0
    assert "no run is listed" in capsys.readouterr().err
    assert main(["ledger", "export", "--out", "x.ledger"]) == 2


def test_every_number_has_a_state(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.with_card(2)
    desk.with_failure(3)
    desk.silent(4)
    desk.with_card(7)
    (desk.folder / "7.card").unlink()
    record = desk.started(8)
    record.ended(workload_failed(3))
    record.close()
    assert main(["ledger"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == f"key {KEY.hex()}"
    found = [" ".join(row.split()[:2]) for row in rows[1:]]
    assert found == [
        *("2 card", "3 interrupted", "4 aborted", "5 MISSING", "6 MISSING", "7 card"),
        "8 workload-failed",
    ]
    assert "is not at" in rows[6]
    assert "without a failure record" in rows[7]


def test_a_run_at_work_is_running_until_it_is_killed(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(desk.list), run_of(5).id.hex(), "5", KEY.hex()]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (running,) = desk.json(capsys)["machines"][0]["runs"]
        process.kill()
    (aborted,) = desk.json(capsys)["machines"][0]["runs"]
    assert (running["state"], aborted["state"]) == ("running", "aborted")


def test_an_attester_that_died_is_aborted(desk: Desk) -> None:
    desk.silent(4)
    complete(desk.list, "t4", Outcome("died", 137))
    ((run,),) = (each.runs for each in machines(desk.list))
    assert (run.state, run.evidence) == ("aborted", None)


def test_machines_are_apart_and_old_lines_are_read(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.with_card(2)
    desk.silent(3, OTHER)
    desk.with_card(4, b"")  # an older version wrote no key: the card says it
    desk.silent(5, b"")
    lines = desk.list.read_text().splitlines()
    new = ("key", "failure", "failure_digest")
    old = [json.loads(line) for line in lines if '"key": ""' in line]
    kept = [line for line in lines if '"key": ""' not in line]
    kept += [json.dumps({k: v for k, v in line.items() if k not in new}) for line in old]
    desk.list.write_text("\n".join(kept) + "\n")
    document = desk.json(capsys)
    found = {each["key"]: [run["number"] for run in each["runs"]] for each in document["machines"]}
    assert found == {None: [5], OTHER.hex(): [3], KEY.hex(): [2, 4]}
    assert main(["ledger"]) == 0
    assert "key unknown" in capsys.readouterr().out


def test_an_export_is_what_an_auditor_checks(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.with_card(2)
    desk.with_failure(3)
    desk.with_card(4)
    assert main(["ledger", "export", "--out", "all.ledger"]) == 0
    assert "numbers 2 to 4, 2 card(s), 1 failure record(s)" in capsys.readouterr().out
    assert judge((desk.folder / "all.ledger").read_bytes()).accepted
    document = desk.json(capsys, "export", "--from", "3", "--to", "4", "--out", "some.ledger")
    assert (document["from"], document["to"], document["missing"]) == (3, 4, [])
    assert judge((desk.folder / "some.ledger").read_bytes()).accepted


def test_what_is_missing_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.with_card(2)
    desk.silent(3)
    path = desk.with_failure(5)
    path.write_bytes(failure_bytes(failed_run(5, "refused")))  # not the record of the list
    desk.with_card(6)
    (desk.folder / "6.card").write_bytes(card_of(2))  # overwritten by another run
    assert main(["ledger", "export", "--to", "7", "--out", "all.ledger"]) == 1
    out = capsys.readouterr().out
    for number, reason in {
        3: "without a word",
        4: "not in the list",
        5: "failure record is not at",
        6: "card is not at",
        7: "not in the list",
    }.items():
        (line,) = (line for line in out.splitlines() if f"missing {number}:" in line)
        assert reason in line
    result = judge((desk.folder / "all.ledger").read_bytes())
    assert [each.number for each in result.numbers if each.entry == "gap"] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "0"),
        ("--from", "9", "--to", "2"),
        ("--to", "999999999"),
        ("--key", "ff"),
    ],
    ids=["from zero", "backwards", "too many", "no such key"],
)
def test_exports_that_cannot_be(
    desk: Desk, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    desk.with_card(2)
    assert main(["ledger", "export", "--out", "x.ledger", *words]) == 2
    assert not (desk.folder / "x.ledger").exists()
    assert capsys.readouterr().err


def test_several_keys_want_a_choice(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.with_card(2)
    desk.silent(3, OTHER)
    assert main(["ledger", "export", "--out", "x.ledger"]) == 2
    assert "--key" in capsys.readouterr().err
    for key in (KEY.hex()[:8], f"sha-256:{KEY.hex()}"):
        assert main(["ledger", "export", "--out", "x.ledger", "--key", key]) == 0


# --- a list that is not as it should be


def test_a_half_line_loses_nothing_but_itself(desk: Desk) -> None:
    desk.with_card(2)
    with desk.list.open("a") as lines:
        lines.write('{"event": "star')
    desk.with_card(3)
    ((first, second),) = (each.runs for each in machines(desk.list))
    assert (first.number, second.number) == (2, 3)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 50_000,
        '{"event": 1, "ticket": "t", "run": "' + "0" * 32 + '", "number": 3, "card": ""}',
        '{"event": "started", "ticket": "t", "run": "zz", "number": 3, "card": ""}',
        '{"event": "started", "ticket": "t", "run": "' + "0" * 32 + '", "number": -3, "card": ""}',
        '{"event": "started", "ticket": "t", "run": "'
        + "0" * 32
        + '", "number": true, "card": ""}',
        '{"event": "started", "ticket": "t", "run": "' + "0" * 32 + '", "number": 3}',
        '{"event": "started", "ticket": "t", "run": "' + "0" * 32 + '", "number": 0, "card": ""}',
        "9" * 5000,
    ],
    ids=[
        *("nested", "a number as text", "no run id", "negative", "true"),
        *("no card", "no number spent", "a long number"),
    ],
)
def test_lines_that_are_none(desk: Desk, line: str) -> None:
    desk.with_card(2)
    with desk.list.open("a") as lines:
        lines.write(line + "\n")
    assert [run.number for each in machines(desk.list) for run in each.runs] == [2]


def test_a_fifo_is_no_list(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.list.parent.mkdir(parents=True)
    os.mkfifo(desk.list)
    assert main(["ledger"]) == 2
    assert "is no file" in capsys.readouterr().err
    with pytest.raises(Exception, match="is no file"):
        desk.record(2)


def test_a_list_behind_a_link_is_read(desk: Desk) -> None:
    desk.with_card(2)
    real = desk.list.rename(desk.folder / "real.jsonl")
    desk.list.symlink_to(real)
    desk.with_card(3)
    assert [run.number for each in machines(desk.list) for run in each.runs] == [2, 3]


def test_a_huge_list_is_read_from_its_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "MAX_READ_BYTES", 4096)
    for number in range(2, 30):
        desk.silent(number)
    ((*_, last),) = (each.runs for each in machines(desk.list))
    assert last.number == 29


def test_numbers_far_apart_are_not_all_named(desk: Desk) -> None:
    desk.silent(1)
    desk.silent(2**63)
    (found,) = machines(desk.list)
    assert len(found.missing) <= MAX_SPAN


def test_a_card_that_is_a_fifo_is_not_waited_for(desk: Desk) -> None:
    desk.with_card(2)
    (desk.folder / "2.card").unlink()
    os.mkfifo(desk.folder / "2.card")
    ((run,),) = (each.runs for each in machines(desk.list))
    assert (run.state, run.evidence) == ("card", None)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "no locks here")

    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks(desk: Desk) -> None:
    desk.silent(2)
    ((run,),) = (each.runs for each in machines(desk.list))
    assert run.state == "aborted"


def test_an_ending_of_no_kind_goes_on() -> None:
    with pytest.raises(ValueError, match="fault"):
        outcome_of(ValueError("a fault of ours"))


def test_a_list_too_long_to_read_whole_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    desk.with_card(7)
    assert main(["ledger", "--list", str(desk.list)]) == 0
    assert "the oldest runs" not in capsys.readouterr().err
    desk.with_card(8)
    monkeypatch.setattr(run_list, "MAX_READ_BYTES", desk.list.stat().st_size - 1)
    assert main(["ledger", "--list", str(desk.list)]) == 0
    assert "the oldest runs of" in capsys.readouterr().err
