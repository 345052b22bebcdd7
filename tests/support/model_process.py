"""The measurer in this process and the model's in another, without a sandbox."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laminator.claims import Property
from laminator.measure.files import measure_path
from laminator.run import model_host
from laminator.run.measurement import Copied, Measurement, Orders
from laminator.run.measurer import measure

CONSTANT = """
CLASSES = ["no", "yes"]

def load(path):
    return None

def predict(model, batch):
    rows = len(next(iter(batch.values())))
    return [[0.0, 1.0]] * rows
"""


@contextlib.contextmanager
def model_process(model: Path, code: Path | None = None) -> Iterator[socket.socket]:
    """Start the model's process; yield the measurer's end of its channel."""
    ours, theirs = socket.socketpair()
    words = [str(theirs.fileno()), "core=0", str(model), *([] if code is None else [str(code)])]
    script = model_host.__file__
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-B", script, *words],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()
            process.communicate()


def measurement(**fields: Any) -> Measurement:
    """Return what to measure on a CSV file whose labels are in the column `label`."""
    plain = Measurement(properties=("accuracy",), data_suffix=".csv", labels="label")
    return plain._replace(**fields)


def copied(path: Path) -> Copied:
    """Return what the attester's orders say of the data set at `path`."""
    return Copied(str(path), measure_path(path).digest)


def evaluate(folder: Path, code: str, data: str, **fields: Any) -> Property:
    """Measure the accuracy of a model whose code is `code` on the CSV text `data`."""
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "code.py").write_text(code, encoding="utf-8")
    (folder / "data.csv").write_text(data, encoding="utf-8")
    orders = Orders(measurement(**fields), copied(folder / "data.csv"), None, ("model", "test"))
    with model_process(folder / "model.bin", folder / "code.py") as channel:
        (found,) = measure(orders, channel)
    return found


def table(columns: dict[str, list[Any]]) -> str:
    """Return columns as CSV text."""
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows), ""])


def save_onnx(path: Path, weights: list[list[float]]) -> None:
    """Write an ONNX model that multiplies [rows, features] by `weights`."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    features, width = len(weights), len(weights[0])
    cells = [cell for row in weights for cell in row]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", kind, ["n", features])],
        [helper.make_tensor_value_info("y", kind, ["n", width])],
        [helper.make_tensor("w", kind, [features, width], cells)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
