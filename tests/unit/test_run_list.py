"""The list of runs: a spent number is written down, whatever happens next."""

import json
import os
import stat
from pathlib import Path

import pytest

from laminator.errors import MachineError
from laminator.run.outcome import Outcome, card_written
from laminator.run.run_list import RunRecord, complete, default_path, entries

DIED = Outcome("died", 137)


def _record(path: Path, ticket: str = "t") -> RunRecord:
    return RunRecord(str(path), ticket=ticket, card="/w/train.card")


def test_a_run_has_a_start_and_an_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.jsonl"
    record = _record(path)
    record.started(bytes(16), 7)
    record.ended(card_written(b"\1" * 32))
    record.close()
    started, ended = entries(path, "t")
    assert (started.event, started.number, started.run) == ("started", 7, "00" * 16)
    assert (ended.event, ended.outcome, ended.id) == ("ended", "card", "01" * 32)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "time" in json.loads(path.read_text().splitlines()[0])


def test_a_run_without_a_number_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    record = _record(path)
    record.ended(Outcome("failed", 125))
    record.close()
    assert path.read_text() == ""
    assert complete(path, "t", DIED) is None


def test_a_silent_end_is_completed_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    record = _record(path)
    record.started(bytes(16), 7)
    record.close()
    for _ in range(2):
        last = complete(path, "t", DIED)
        assert last is not None
        assert (last.event, last.outcome, last.status, last.number) == ("ended", "died", 137, 7)
    assert len(path.read_text().splitlines()) == 2


def test_other_runs_and_damaged_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('not JSON\n{"ticket": "t"}\n[]\n' + "x" * 100_000 + "\n")
    other, own = _record(path, "other"), _record(path)
    other.started(bytes(16), 1)
    own.started(bytes(16), 2)
    assert [entry.number for entry in entries(path, "t")] == [2]


def test_no_ledger_no_lines() -> None:
    record = RunRecord(None, ticket="", card="")
    record.started(bytes(16), 7)
    record.ended(DIED)
    record.close()
    assert record.number == 7


def test_a_ledger_that_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="XDG_STATE_HOME"):
        _record(tmp_path / "file" / "runs.jsonl")


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    record = _record(tmp_path / "runs.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    assert record._descriptor is not None
    os.dup2(full, record._descriptor)
    with pytest.raises(MachineError, match="list of runs"):
        record.started(bytes(16), 7)
    assert record.number == 7
    record.close()
    os.close(full)


def test_the_place_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_path() == Path("/state/laminator/runs.jsonl")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_path() == Path("/home/me/.local/state/laminator/runs.jsonl")
