"""The model's process: loads the model and answers batches of features with scores.

Runs as a script of its own in the user's Python environment, inside the workload's sandbox:

    python -P -B model_host.py DESCRIPTOR LIMITS MODEL [CODE]

LIMITS (`core=0,nofile=4096`, say) are set before any of the provider's code runs.

CODE is the provider's Python file. It defines `load(path) -> model` and
`predict(model, batch) -> scores`, and may define `CLASSES`: the classes in the order of the
scores, or a number k for the classes 0 to k-1. A batch is a dict of columns: numbers as NumPy
arrays, texts as lists of `str`, images as lists of encoded `bytes`. Scores are
float[rows, classes], or float[rows] with the probability of the second of two classes. Without
CODE, a `.pt2` (torch.export) or `.onnx` model gets the numeric columns, in the data's order, as
one float32 array [rows, features].

Neither labels, file names, row numbers nor the rows' order ever come here. Both directions use
frames: four bytes of big-endian length, then that many bytes of deterministic CBOR (RFC 8949
section 4.2.1; `laminator.run.predictions` is the other end). This file imports nothing of
Laminator, since the user's environment need not have it, so it has the few lines of CBOR that
the frames need. An error ends the process; its last words go to stderr.
"""

import importlib.util
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

BUILT_IN = (".pt2", ".onnx")
LENGTH_BYTES = 4
CODE_MODULE = "laminator_model_code"
TEXT, IMAGE = "text", "image"
_UINT, _BYTES, _TEXT, _ARRAY, _MAP = 0, 2, 3, 4, 5
_DIRECT = 24
HUNG_UP = 1
"""The exit status, without a word, where the measurer has ended: it says itself why."""
_NULL = b"\xf6"
_ARGUMENT_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}


class Host(NamedTuple):
    """A loaded model: `predict` takes a batch, `classes` is what the code says of its scores."""

    predict: Callable[[dict[str, Any]], Any]
    classes: Sequence[object] | int | None = None


def main(arguments: Sequence[str]) -> None:
    """Serve one model on the socket at descriptor `arguments[0]` until the other end hangs up."""
    limit_resources(arguments[1])
    connection = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(connection.fileno(), False)
    model, *code = arguments[2:]
    host = load_with_code(model, *code) if code else load_built_in(model)
    classes = None if host.classes is None else _class_names(host.classes)
    send(connection, {"classes": classes})
    while (message := receive(connection)) is not None:
        batch = {name: _column(*rest) for name, *rest in message["columns"]}
        scores = _score_array(host.predict(batch))
        reply = {"shape": list(scores.shape), "scores": scores.tobytes(), "tag": message["tag"]}
        send(connection, reply)


def limit_resources(limits: str) -> None:
    """Set hard limits, `name=value,...` as setrlimit(2) names them, for all that follows."""
    for name, _, value in (word.partition("=") for word in limits.split(",")):
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        resource.setrlimit(number, (int(value), int(value)))


def load_with_code(model_path: str, code_path: str) -> Host:
    """Run the provider's file and load the model with it."""
    code = _run_code(code_path)
    for name in ("load", "predict"):
        if not callable(getattr(code, name, None)):
            sys.exit(f"{code_path} does not define the function {name}")
    model = code.load(model_path)
    return Host(lambda batch: code.predict(model, batch), getattr(code, "CLASSES", None))


def load_built_in(model_path: str) -> Host:
    """Load a `.pt2` or `.onnx` model."""
    suffix = Path(model_path).suffix
    if suffix == ".pt2":
        return Host(_load_torch_export(model_path))
    if suffix == ".onnx":
        return Host(_load_onnx(model_path))
    sys.exit(f"{suffix or 'this'} is no form that loads without code; give --model-code FILE.py")


def _run_code(path: str) -> "ModuleType":
    spec = importlib.util.spec_from_file_location(CODE_MODULE, path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[CODE_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _load_torch_export(path: str) -> Callable[[dict[str, Any]], Any]:
    import torch

    module = torch.export.load(path).module()

    def predict(batch: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the model returns
        with torch.inference_mode():
            return _flat(module(torch.from_numpy(_matrix(batch))).numpy())

    return predict


def _load_onnx(path: str) -> Callable[[dict[str, Any]], Any]:
    try:
        import onnxruntime
    except ImportError:
        sys.exit("an .onnx model needs onnxruntime: pip install 'laminator[onnx]'")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [item.name for item in session.get_inputs()]
    floats = [item.name for item in session.get_outputs() if item.type.startswith("tensor(fl")]
    if len(inputs) != 1 or not floats:
        sys.exit("the model must have one input and a tensor of floats as output")

    def predict(batch: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the model returns
        return _flat(session.run([floats[-1]], {inputs[0]: _matrix(batch)})[0])

    return predict


def _matrix(batch: dict[str, Any]) -> "NDArray[np.float32]":
    """Return the columns of numbers as one array [rows, features]."""
    import numpy as np

    texts = [name for name, column in batch.items() if not isinstance(column, np.ndarray)]
    if texts:
        sys.exit(f"columns that are no numbers ({', '.join(texts)}) need --model-code FILE.py")
    parts = [column.reshape(len(column), -1) for column in batch.values()]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _flat(scores: Any) -> Any:  # noqa: ANN401 - an array
    """Return scores [rows, 1] as [rows]."""
    return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores  # noqa: PLR2004


def _column(kind: str, shape: Sequence[int], content: Any) -> Any:  # noqa: ANN401 - as received
    if kind in (TEXT, IMAGE):
        return content
    try:
        import numpy as np
    except ImportError:
        sys.exit("columns of numbers need numpy in this environment: pip install numpy")
    return np.frombuffer(content, dtype=kind).reshape(-1, *shape).copy()


def _score_array(scores: Any) -> "NDArray[np.float64]":  # noqa: ANN401 - the model's word
    """Return scores (arrays, tensors, nested lists) as 64-bit floats."""
    import numpy as np

    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().numpy()
    return np.ascontiguousarray(scores, dtype="<f8")


def _class_names(classes: Sequence[object] | int) -> list[str]:
    if isinstance(classes, int):
        classes = range(classes)
    if isinstance(classes, str | bytes) or not all(isinstance(name, str | int) for name in classes):
        sys.exit("CLASSES must be a list of texts or whole numbers, or how many classes there are")
    return [str(name) for name in classes]


def send(connection: socket.socket, message: object) -> None:
    """Send one frame."""
    body = encode(message)
    try:
        connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(HUNG_UP)


def receive(connection: socket.socket) -> Any:  # noqa: ANN401 - a decoded message
    """Return the next frame's message, or None when the other end has hung up."""
    head = _receive_exactly(connection, LENGTH_BYTES)
    if not head:
        return None
    return decode(_receive_exactly(connection, int.from_bytes(head, "big")))


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size:
        try:
            count = connection.recv_into(view[position:])
        except ConnectionResetError:
            sys.exit(HUNG_UP)
        if count == 0:
            if position:
                sys.exit(HUNG_UP)
            return bytearray()
        position += count
    return data


def encode(value: object) -> bytes:
    """Return the deterministic CBOR of None, whole numbers from 0, bytes, text, lists, maps."""
    match value:
        case None:
            return _NULL
        case int():
            return _head(_UINT, value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            return _head(_TEXT, len(value.encode())) + value.encode()
        case Mapping():
            entries = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(_MAP, len(entries)) + b"".join(key + item for key, item in entries)
        case Sequence():
            return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
        case _:
            raise TypeError(type(value).__name__)


def decode(data: bytes | bytearray) -> Any:  # noqa: ANN401 - any value
    """Decode what the measurer sent."""
    return _decode(bytes(data), 0)[0]


def _head(major: int, argument: int) -> bytes:
    if argument < _DIRECT:
        return bytes([major << 5 | argument])
    info = next(info for info, size in _ARGUMENT_SIZES.items() if argument < 1 << 8 * size)
    return bytes([major << 5 | info]) + argument.to_bytes(_ARGUMENT_SIZES[info], "big")


def _decode(data: bytes, position: int) -> tuple[Any, int]:
    major, argument = data[position] >> 5, data[position] & 31
    position += 1
    if argument >= _DIRECT:
        size = _ARGUMENT_SIZES[argument]
        argument = int.from_bytes(data[position : position + size], "big")
        position += size
    if major == _UINT:
        return argument, position
    if major in (_BYTES, _TEXT):
        end = position + argument
        content = data[position:end]
        return (content if major == _BYTES else content.decode()), end
    items = []
    for _ in range(argument * (2 if major == _MAP else 1)):
        item, position = _decode(data, position)
        items.append(item)
    return (items if major == _ARRAY else dict(zip(items[::2], items[1::2], strict=True))), position


if __name__ == "__main__":
    main(sys.argv[1:])
