"""What an attester keeps of an input that is read in place, and what it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest

from laminator.cli.run import with_streams
from laminator.errors import MachineError, UsageError
from laminator.measure.tree import LEAF_BYTES, measure_tree, parse_leaves
from laminator.run.check_request import check_request
from laminator.run.in_place import check_unchanged, leaf_files, leaf_names, measure_in_place
from laminator.run.request import RunRequest, encode_request, parse_request
from laminator.run.session import Input


def measured(path: Path, leaves: Path) -> dict[str, Input]:
    artifact, kept = measure_in_place(path, "dataset", leaves)
    return {"train": Input(path, path, artifact, kept), "other": Input(path, path, artifact)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/one").write_bytes(bytes(LEAF_BYTES + 1))
    (tmp_path / "data/two").write_bytes(b"2")
    return tmp_path / "data"


def test_the_artifact_has_both_digests_and_the_leaves_lie_beside(
    data: Path, tmp_path: Path
) -> None:
    inputs = measured(data, tmp_path / "0.leaves")
    found = measure_tree(data)
    artifact = inputs["train"].artifact
    assert (artifact.digest, artifact.tree) == (found.measured.digest, found.tree)
    assert (artifact.type, artifact.size, artifact.files) == ("dataset", LEAF_BYTES + 2, 2)
    assert parse_leaves((tmp_path / "0.leaves").read_bytes()) == found.files
    assert (tmp_path / "0.leaves").stat().st_mode & 0o777 == 0o444
    with pytest.raises(MachineError):
        measure_in_place(data, "dataset", tmp_path / "0.leaves")


def test_where_the_workload_finds_the_leaves(data: Path, tmp_path: Path) -> None:
    inputs = measured(data, tmp_path / "0.leaves")
    tree = str(inputs["train"].artifact.tree)
    (bind,) = leaf_files(inputs).read_only
    assert bind.source == tmp_path / "0.leaves"
    assert leaf_names(inputs, bound=True) == {"train": (str(bind.target), tree)}
    assert leaf_names(inputs, bound=False) == {"train": (str(tmp_path / "0.leaves"), tree)}


def _write(data: Path) -> None:
    (data / "two").write_bytes(b"3")
    os.utime(data / "two", ns=(1, 1))


def _swap(data: Path) -> None:
    (data / "new").write_bytes(b"2")
    (data / "new").rename(data / "two")


def _grow(data: Path) -> None:
    with (data / "two").open("ab") as file:
        file.write(b"2")


def _new(data: Path) -> None:
    (data / "three").write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [_write, _swap, _grow, lambda data: (data / "two").unlink(), _new],
)
def test_data_that_changed_while_the_work_ran(data: Path, tmp_path: Path, change: Any) -> None:
    inputs = measured(data, tmp_path / "0.leaves")
    check_unchanged(inputs)
    change(data)
    with pytest.raises(UsageError) as caught:
        check_unchanged(inputs)
    assert caught.value.code == "input.changed"


def _request(**changes: Any) -> RunRequest:
    plain: dict[str, Any] = {
        "verb": "run",
        "argv": ("/usr/bin/python3", "train.py"),
        "script": 1,
        "cwd": "/project",
        "kind": "training",
        "card": "/project/train.card",
        "inputs": {"train": "/data"},
    }
    return RunRequest(**{**plain, **changes})


def test_a_request_says_what_is_read_in_place() -> None:
    request = _request(in_place=("train",))
    assert parse_request(encode_request(request)).in_place == ("train",)
    streamed = with_streams(_request(), ["more=/more"])
    assert (streamed.inputs, streamed.in_place) == (
        {"train": "/data", "more": "/more"},
        ("more",),
    )
    assert with_streams(_request(), []) == _request()
    with pytest.raises(UsageError, match="by --input and by --stream"):
        with_streams(_request(), ["train=/data"])


@pytest.mark.parametrize("changes", [{"in_place": ("other",)}, {"verb": "evaluate"}])
def test_only_inputs_of_a_run_are_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("laminator.run.check_request._check_command", lambda _: None)
    monkeypatch.setattr("laminator.run.check_request._check_files", lambda _: None)
    request = _request(**{"in_place": ("train",), "card": str(tmp_path / "x.card"), **changes})
    with pytest.raises(UsageError) as caught:
        check_request(request)
    assert caught.value.code == "request.in-place"
