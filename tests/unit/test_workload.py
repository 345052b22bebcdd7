"""The workload's side: what a script may say, and what it is told when it may not."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from laminator import workload
from laminator.claims import Property
from laminator.errors import UsageError
from laminator.run.channel import CHANNEL_VARIABLE, Names, serve

SEED = 2**64 - 1
LEAVES = {"train": ("/laminator/leaves/0.leaves", "sha-256:00")}
NAMES = Names(
    {"train": "/data/train.csv", "copied": "/data/x"}, {"model": "/out/model.bin"}, SEED, LEAVES
)


class Scalar:
    """What numpy and torch scalars have in common."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Attester:
    """Serves one channel in a thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ended = os.eventfd(0)
        self._reports: tuple[Property, ...] = ()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._connection:
            self._reports = serve(self._connection, NAMES, self._ended)

    def reports(self) -> tuple[Property, ...]:
        os.eventfd_write(self._ended, 1)
        self._thread.join(20)
        return self._reports

    def close(self) -> None:
        self.reports()
        os.close(self._ended)


@pytest.fixture
def attester(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attester]:
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(CHANNEL_VARIABLE, str(ours.detach()))
    monkeypatch.setattr(workload, "_connection", None)
    attester = Attester(theirs)
    yield attester
    attester.close()
    if workload._connection is None:
        os.close(int(os.environ[CHANNEL_VARIABLE]))
    else:
        workload._connection.close()


def test_paths(attester: Attester) -> None:
    assert workload.input("train") == "/data/train.csv"
    assert workload.output("model") == "/out/model.bin"
    assert workload.leaves("train") == LEAVES["train"]
    assert workload.leaves("copied") is None
    with pytest.raises(workload.ReportRefusedError, match="train") as caught:
        workload.input("test")
    assert caught.value.code == "channel.name"
    assert attester.reports() == ()


def test_the_run_s_seed(attester: Attester) -> None:
    assert workload.seed() == workload.seed() == SEED
    assert attester.reports() == ()


def test_reports(attester: Attester) -> None:
    workload.report("loss", Scalar(0.25), on=["train"], unit="nats", parameters={"epoch": 3})
    workload.hyperparameters({"lr": 0.1, "layers": (8, Scalar(2)), "bias": True, "note": None})
    loss, settings = attester.reports()
    assert loss == Property("loss", 0.25, "reported", "workload", ("train",), {"epoch": 3}, "nats")
    expected = {"lr": 0.1, "layers": (8, 2), "bias": True, "note": None}
    assert (settings.name, settings.value) == ("hyperparameters", expected)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        Scalar(float("nan")),
        Scalar(ValueError("two elements")),
        Scalar(RuntimeError("two elements")),
        object(),
        {1, 2},
        2**64,
        [1, [2, float("nan")]],
        {"deep": object()},
        "\ud800",
        "x" * 70_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_stated(attester: Attester, value: object) -> None:
    with pytest.raises(UsageError):
        workload.report("loss", value)
    assert attester.reports() == ()


def test_what_the_attester_refuses(attester: Attester) -> None:
    for name, on in (("two words", ()), ("loss", ("test",))):
        with pytest.raises(workload.ReportRefusedError):
            workload.report(name, 1, on=on)
    assert attester.reports() == ()


def test_numpy_scalars(attester: Attester) -> None:
    numpy = pytest.importorskip("numpy")
    workload.report("accuracy", numpy.float32(0.5))
    workload.report("rows", numpy.int64(12))
    workload.report("all", numpy.array([7]))
    assert [item.value for item in attester.reports()] == [0.5, 12, 7]


@pytest.mark.usefixtures("attester")
def test_a_forked_child_cannot_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_OWNER", os.getppid())
    with pytest.raises(UsageError) as caught:
        workload.report("loss", 1)
    assert caught.value.code == "workload.process"


def test_a_closed_channel_is_said(attester: Attester) -> None:
    workload.input("train")
    attester.reports()
    with pytest.raises(UsageError) as caught:
        workload.report("loss", 1)
    assert caught.value.code == "workload.closed"


@pytest.mark.parametrize("value", [None, "", "x", "99"])
def test_a_bare_script_is_told_how_to_start(value: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != CHANNEL_VARIABLE}
    if value is not None:
        environment[CHANNEL_VARIABLE] = value
    code = "from laminator import workload; workload.report('loss', 1)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    expected = "channel to Laminator is closed" if value == "99" else "laminator run --simulated"
    assert expected in done.stderr


def test_the_import_is_light() -> None:
    code = (
        "import sys; from laminator import workload; "
        "print(*[m for m in ('torch','numpy','tpm2_pytss','cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
