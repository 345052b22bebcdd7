"""The model's process and the measurer, each in a process of its own."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_process import CONSTANT, copied, evaluate, measurement, model_process, save_onnx, table
from safetensors.torch import save_file

from laminator import cbor
from laminator.claims_codec import plain_property
from laminator.digest import sha256
from laminator.errors import LaminatorError, MalformedError, UsageError
from laminator.measure.csv_table import column
from laminator.properties.decision import ARGMAX, THRESHOLD
from laminator.run import model_host, predictions
from laminator.run.filesystem import Bind, Filesystem
from laminator.run.frames import receive_frame, send_frame
from laminator.run.measurement import (
    Copied,
    Measurement,
    Orders,
    encode_orders,
    parse_measurement,
    parse_orders,
    plain_measurement,
)
from laminator.run.measurer import measure, obey, parse_result
from laminator.run.own_code import own_code

ROWS = 40
X = [(7 * i) % ROWS for i in range(ROWS)]
DATA = table({"x": X, "label": ["yes" if x % 3 else "no" for x in X]})

MODULO = """
import numpy as np

CLASSES = ["no", "yes"]

def load(path):
    assert open(path, "rb").read() == b"weights"
    return 3

def predict(model, batch):
    assert list(batch) == ["x"], batch
    assert batch["x"].dtype == np.int64
    return (batch["x"] % model != 0).astype(float)
"""


def _code(action: Callable[[], object]) -> str:
    with pytest.raises(LaminatorError) as caught:
        action()
    return caught.value.code


def test_a_model_is_measured(tmp_path: Path) -> None:
    found = evaluate(tmp_path, MODULO, DATA)
    assert found.value == 1
    assert found.on == ("model", "test")
    assert found.parameters == {
        "labels": "column:label",
        "features": 1,
        "decision": THRESHOLD,
        "classes": ("no", "yes"),
        "classes-from": "model",
        "n": ROWS,
        "correct": ROWS,
    }


def test_scores_come_back_in_the_datas_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several batches, one score a row that only that row can have."""
    monkeypatch.setattr(predictions, "BATCH_ROWS", 7)
    code = """
import numpy as np
CLASSES = 40
def load(path): return None
def predict(model, batch):
    return np.stack([8 * batch["a"] + batch["b"] == i for i in range(40)], 1)
"""
    data = table({"a": [x // 8 for x in X], "b": [x % 8 for x in X], "label": X})
    assert evaluate(tmp_path, code, data).value == 1


def test_half_right_is_half(tmp_path: Path) -> None:
    found = evaluate(tmp_path, CONSTANT, table({"x": [1, 2, 3, 4], "label": ["no", "yes"] * 2}))
    assert (found.value, found.parameters["decision"]) == (0.5, ARGMAX)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [("", ("0", "1")), ("CLASSES = 2", ("0", "1")), ("CLASSES = [1, 0]", ("1", "0"))],
)
def test_class_order(tmp_path: Path, classes: str, expected: tuple[str, ...]) -> None:
    code = CONSTANT.replace('CLASSES = ["no", "yes"]', classes)
    found = evaluate(tmp_path, code, table({"x": [5, 6], "label": [1, 1 if classes else 0]}))
    assert found.parameters["classes"] == expected
    assert found.parameters["classes-from"] == ("model" if classes else "data")
    assert found.value == (0.0 if expected == ("1", "0") else 1.0 if classes else 0.5)


def test_every_kind_of_column_arrives(tmp_path: Path) -> None:
    """Whole numbers, floats and texts by name; a sensitive column only where it is a feature."""
    code = """
import json
import numpy as np

def load(path):
    return path + ".seen"

def predict(model, batch):
    plain = {name: [str(getattr(c, "dtype", type(c))), list(map(str, c))]
             for name, c in batch.items()}
    with open(model, "w") as file:
        json.dump(plain, file)
    return np.full(len(batch["a"]), 0.5)
"""
    data = table(
        {"a": [1], "b": [0.5], "c": ["日本"], "s": ["f"], "t": ["u"], "label": ["no"]}
    ).replace("label\n", "label\n2,,x,m,v,yes\n")
    found = evaluate(tmp_path, code, data, sensitive=("s", "t"), features=("t",))
    seen = json.loads((tmp_path / "model.bin.seen").read_text())
    assert {name: kind for name, (kind, _) in seen.items()} == {
        "a": "int64",
        "b": "float64",
        "c": "<class 'list'>",
        "t": "<class 'list'>",
    }
    assert sorted(seen["c"][1]) == ["x", "日本"]
    assert sorted(seen["b"][1]) == ["0.5", "nan"]
    assert [(item["column"], item["group"]) for item in found.parameters["slices"]] == [  # type: ignore[index, union-attr, call-overload]
        ("s", "f"),
        ("s", "m"),
        ("t", "u"),
        ("t", "v"),
    ]
    assert found.parameters["sensitive-features"] == ("t",)


def test_images_arrive_as_encoded_bytes(tmp_path: Path) -> None:
    for name in ("no/1.png", "no/2.png", "yes/1.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name[:1].encode() * 3)
    (tmp_path / "code.py").write_text(
        "CLASSES = ['no', 'yes']\n"
        "def load(path): return None\n"
        "def predict(model, batch): return [float(b == b'yyy') for b in batch['image']]\n"
    )
    what = measurement(data_suffix="", labels="class")
    orders = Orders(what, copied(tmp_path / "images"), None, ("model", "test"))
    with model_process(tmp_path, tmp_path / "code.py") as channel:
        (found,) = measure(orders, channel)
    assert (found.value, found.parameters["n"]) == (1, 3)


def test_arrays_arrive_in_their_type_and_shape(tmp_path: Path) -> None:
    x = np.arange(24, dtype="<f4").reshape(4, 2, 3)
    np.savez(tmp_path / "data.npz", x=x, y=np.array([0, 1, 1, 0]))
    (tmp_path / "code.py").write_text(
        "import numpy as np\n"
        "def load(path): return None\n"
        "def predict(model, batch):\n"
        "    x = batch['x']\n"
        "    assert x.dtype == np.float32 and x.shape == (4, 2, 3) and x.flags.writeable\n"
        "    return [float(row[0, 0] in (6, 12)) for row in x]\n"
    )
    what = measurement(data_suffix=".npz", labels="y")
    orders = Orders(what, copied(tmp_path / "data.npz"), None, ("model", "test"))
    with model_process(tmp_path, tmp_path / "code.py") as channel:
        (found,) = measure(orders, channel)
    assert found.value == 1


def test_labels_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x\n1\n2\n")
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    (tmp_path / "code.py").write_text(CONSTANT)
    what = measurement(labels=None, labels_suffix=".txt")
    paths = copied(tmp_path / "data.csv"), copied(tmp_path / "labels.txt")
    with model_process(tmp_path, tmp_path / "code.py") as channel:
        (found,) = measure(Orders(what, *paths, ("model", "test", "labels")), channel)
    assert (found.value, found.parameters["labels"]) == (0.5, "file")


def test_names_given_by_the_caller_do_not_hide_which_column_is_the_label(tmp_path: Path) -> None:
    """Otherwise a policy's `labels = "column:label"` would hold for any column of its data."""
    data = table({"x": [1, 2, 3, 4], "label": ["no", "yes"] * 2}).partition("\n")[2]
    found = evaluate(tmp_path, CONSTANT, data, header=("a", "label"))
    assert found.parameters["labels"] == "column-number:2"
    assert found.parameters["columns"] == ("a", "label")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError", "frame.ended"),
        ("syntax error", "frame.ended"),
        ("def load(path): ...", "frame.ended"),
        (CONSTANT.replace("return None", "raise OSError"), "frame.ended"),
        (CONSTANT.replace("rows = ", "raise OSError #"), "frame.ended"),
        (CONSTANT.replace('["no", "yes"]', "'no'"), "frame.ended"),
        (CONSTANT.replace('["no", "yes"]', "[1.5, 2]"), "frame.ended"),
        (CONSTANT.replace("[[0.0, 1.0]]", "'text' #"), "frame.ended"),
        (CONSTANT.replace("rows = ", "import os; os._exit(0) #"), "frame.ended"),
        (CONSTANT.replace('["no", "yes"]', "['no']"), "model.classes"),
        (CONSTANT.replace('["no", "yes"]', "['no', 'no']"), "model.classes"),
        (CONSTANT.replace('["no", "yes"]', "['', 'no']"), "model.classes"),
        (CONSTANT.replace('["no", "yes"]', "['no', 'maybe']"), "labels.unknown"),
        (CONSTANT.replace('["no", "yes"]', "['no', 'yes', 'maybe']"), "scores.classes"),
        (CONSTANT.replace("[0.0, 1.0]", "[0.0, float('nan')]"), "scores.finite"),
        (CONSTANT.replace("[0.0, 1.0]", "[0.0, float('inf')]"), "scores.finite"),
        (CONSTANT.replace("[0.0, 1.0]", "1.5"), "scores.probability"),
        (CONSTANT.replace("[0.0, 1.0]", "[1.0]"), "scores.classes"),
        (CONSTANT.replace("[0.0, 1.0]", "[]"), "scores.classes"),
        (CONSTANT.replace("* rows", "* (rows - 1)"), "model.scores"),
        (CONSTANT.replace("* rows", "* (rows + 1)"), "model.scores"),
        (CONSTANT.replace("[0.0, 1.0]", "[[0.0, 1.0]]"), "model.scores"),
        (CONSTANT.replace("* rows", "* 1000000"), "frame.size"),
    ],
)
def test_a_bad_model_is_a_clear_failure(tmp_path: Path, code: str, expected: str) -> None:
    assert _code(lambda: evaluate(tmp_path, code, DATA)) == expected


def test_batches_of_different_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BATCH_ROWS", 1)
    code = CONSTANT.replace("rows = ", "global S; S = not globals().get('S'); rows = ")
    code = code.replace("[[0.0, 1.0]]", "[[0.0, 1.0] if S else 1.0]")
    assert _code(lambda: evaluate(tmp_path, code, DATA)) == "model.scores"


def test_one_class_needs_the_codes_classes(tmp_path: Path) -> None:
    code = CONSTANT.replace("CLASSES", "NAMES")
    one = table({"x": [1, 2], "label": ["yes", "yes"]})
    assert _code(lambda: evaluate(tmp_path, code, one)) == "labels.one-class"
    assert evaluate(tmp_path, CONSTANT, one).value == 1


# What a hostile model's process may say in place of its first frame, or of its scores.
SCORES = {"shape": [1], "scores": bytes(8), "tag": bytes(16)}
LIES: dict[str, Any] = {
    "pickle": b"\x80\x04\x95\x00",
    "garbage": b"\xff" * 20,
    "nothing": b"",
    "text": cbor.encode("scores"),
    "list": cbor.encode([1]),
    "more fields": cbor.encode({**SCORES, "labels": b""}),
    "no bytes": cbor.encode({**SCORES, "scores": [0.0]}),
    "no list": cbor.encode({**SCORES, "shape": 1}),
    "long shape": cbor.encode({**SCORES, "shape": [1, 1, 1]}),
    "float shape": cbor.encode({**SCORES, "shape": [1.0]}),
    "other rows": cbor.encode({**SCORES, "shape": [2]}),
    "negative": cbor.encode({**SCORES, "shape": [1, -1]}),
    "short": cbor.encode({**SCORES, "scores": bytes(7)}),
    "no tag": cbor.encode({"shape": [1], "scores": bytes(8)}),
    "another tag": cbor.encode({**SCORES, "tag": b"\x01" * 16}),
    "short tag": cbor.encode({**SCORES, "tag": bytes(15)}),
    "a tag that is no bytes": cbor.encode({**SCORES, "tag": "\0" * 16}),
    "not deterministic": b"\xa3\x63tag\x50"
    + bytes(16)
    + b"\x65shape\x81\x18\x01\x66scores\x48"
    + bytes(8),
    "trailing": cbor.encode(SCORES) + b"\x00",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_lies_on_the_channel(lie: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", bytes)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(theirs, lie, "")
        with pytest.raises(MalformedError):
            predictions.receive_classes(ours)
        send_frame(theirs, lie, "")
        with pytest.raises(MalformedError):
            predictions.ask(ours, [column("x", ("1",))], 2)


def test_an_honest_answer_on_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", bytes)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(theirs, cbor.encode(SCORES), "")
        assert predictions.ask(ours, [column("x", ("1",))], 2).values[0] == 0


def test_a_descriptor_on_the_channel_is_never_taken(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    (tmp_path / "file").write_bytes(b"")
    with ours, theirs, (tmp_path / "file").open() as file:
        body = cbor.encode({"classes": None})
        head = len(body).to_bytes(4, "big")
        socket.send_fds(theirs, [head + body], [file.fileno()])
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert predictions.receive_classes(ours) is None
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_channel_that_hangs_up() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"\x00\x00")
        theirs.close()
        assert _code(lambda: predictions.receive_classes(ours)) == "frame.ended"
        assert _code(lambda: predictions.ask(ours, [column("x", ("1",))], 2)) == "frame.ended"


def test_sending_to_nobody() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert _code(lambda: send_frame(ours, b"", "")) == "frame.ended"


def test_rows_are_sent_in_an_order_of_their_own() -> None:
    """Each evaluation draws an order; it differs from the file's and from the last one."""
    cells = tuple(map(str, range(500)))
    orders = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            seen: list[int] = []
            thread = threading.Thread(target=_echo, args=(theirs, seen))
            thread.start()
            scores = predictions.ask(ours, [column("x", cells)], 2)
            thread.join()
        assert list(scores.values) == [int(cell) / 1000 for cell in cells]
        assert sorted(seen) == list(range(500))
        orders.append(seen)
    assert orders[0] != orders[1]
    for order in orders:
        assert sum(row == place for place, row in enumerate(order)) < 20


def _echo(connection: socket.socket, seen: list[int]) -> None:
    message = model_host.receive(connection)
    rows = np.frombuffer(message["columns"][0][3], dtype="<i8")
    seen.extend(rows.tolist())
    scores = (rows / 1000).astype("<f8").tobytes()
    model_host.send(connection, {"shape": [len(rows)], "scores": scores, "tag": message["tag"]})


def test_rows_larger_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BATCH_BYTES", 10)
    data = table({"x": ["x" * 100, "y", "z"], "label": ["no", "yes", "yes"]})
    assert evaluate(tmp_path, CONSTANT, data).parameters["n"] == 3


def _built_in(folder: Path, model: str, data: str) -> Any:
    (folder / "data.csv").write_text(data)
    orders = Orders(measurement(), copied(folder / "data.csv"), None, ("model", "test"))
    with model_process(folder / model) as channel:
        return measure(orders, channel)[0]


NUMBERS = table({"a": [1, 0, 1, 0], "b": [0.0, 1.0, 0.5, 0.5], "label": ["no", "yes", "no", "yes"]})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torch_export(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.zero_()
    dynamic = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(layer, (torch.zeros(3, 2),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "model.pt2")
    assert _built_in(tmp_path, "model.pt2", NUMBERS).value == 1


@pytest.mark.parametrize("weights", [[[1.0, 0.0], [0.0, 1.0]], [[0.0], [1.0]]])
def test_onnx(tmp_path: Path, weights: list[list[float]]) -> None:
    save_onnx(tmp_path / "model.onnx", weights)
    data = NUMBERS.replace("0.5", "0.25") if len(weights[0]) == 1 else NUMBERS
    expected = 0.75 if len(weights[0]) == 1 else 1
    assert _built_in(tmp_path, "model.onnx", data).value == expected


def test_onnx_takes_numbers_only(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx", [[0.0], [1.0]])
    data = table({"a": [1, 2], "t": ["x", "y"], "label": ["no", "yes"]})
    assert _code(lambda: _built_in(tmp_path, "model.onnx", data)) == "frame.ended"


def test_other_models_need_code(tmp_path: Path) -> None:
    assert _code(lambda: _built_in(tmp_path, "model.bin", DATA)) == "frame.ended"


def test_safetensors_with_code(tmp_path: Path) -> None:
    save_file({"w": torch.eye(2)}, tmp_path / "model.bin")
    (tmp_path / "data.csv").write_text(NUMBERS)
    (tmp_path / "code.py").write_text(
        "import numpy, torch\n"
        "from safetensors.torch import load_file\n"
        "def load(path): return load_file(path)\n"
        "def predict(model, batch):\n"
        "    x = torch.from_numpy(numpy.stack([batch['a'], batch['b']], 1).astype('f4'))\n"
        "    return (x @ model['w']).requires_grad_()\n"
    )
    orders = Orders(measurement(), copied(tmp_path / "data.csv"), None, ("model", "test"))
    with model_process(tmp_path / "model.bin", tmp_path / "code.py") as channel:
        assert measure(orders, channel)[0].value == 1


messages = st.recursive(
    st.integers(0, 2**64 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(messages)
def test_the_hosts_cbor_is_the_formats(message: Any) -> None:
    """The host's own few lines of CBOR agree with the package's."""
    assert model_host.encode({"m": message, "n": None}) == cbor.encode({"m": message, "n": None})


@given(messages)
def test_the_host_decodes_the_formats_cbor(message: Any) -> None:
    assert model_host.decode(cbor.encode(message)) == message


WHAT = Measurement(
    properties=("accuracy",),
    data_suffix=".csv",
    labels="label",
    header=("a", "b"),
    sensitive=("a",),
    features=("a",),
    held_back=("b",),
)


def test_orders_and_options_come_back() -> None:
    orders = Orders(WHAT, Copied("/data", sha256(b"")), None, ("model", "test"))
    assert parse_orders(encode_orders(orders)) == orders
    assert parse_measurement(plain_measurement(WHAT), "") == WHAT


@pytest.mark.parametrize("properties", [("magic",), ("accuracy", "accuracy")])
def test_unknown_properties_are_named(properties: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_measurement(plain_measurement(WHAT._replace(properties=properties)), "")
    assert caught.value.code in {"property.unknown", "property.twice"}
    assert "accuracy" in caught.value.message or caught.value.code == "property.twice"


def _measured_by_process(orders: bytes, folder: Path) -> bytes:
    """Run the measurer's main as the attester does; return its result."""
    ours, theirs = socket.socketpair()
    with ours, theirs, model_process(folder, folder / "code.py") as channel:
        descriptors = [str(theirs.fileno()), str(channel.fileno())]
        code = (
            "import sys; from laminator.run.measurer import main; "
            "from laminator.run.dumpable import is_dumpable; "
            "status = main(sys.argv[1:]); sys.exit(9 if is_dumpable() else status)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *descriptors],
            pass_fds=[theirs.fileno(), channel.fileno()],
        )
        send_frame(ours, orders, "")
        result = receive_frame(ours, 1 << 20, "measurer")
        assert process.wait() == 0
    return result


def test_the_measurers_process(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(DATA)
    (tmp_path / "code.py").write_text(CONSTANT)
    orders = Orders(measurement(), copied(tmp_path / "data.csv"), None, ("model", "test"))
    (found,) = parse_result(_measured_by_process(encode_orders(orders), tmp_path))
    assert found.parameters["n"] == ROWS
    missing = orders._replace(measurement=measurement(labels="none"))
    with pytest.raises(UsageError) as caught:
        parse_result(_measured_by_process(encode_orders(missing), tmp_path))
    assert caught.value.code == "data.column"


def test_the_measurer_answers_errors_too(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(DATA)
    (tmp_path / "code.py").write_text(CONSTANT)
    orders = Orders(measurement(), copied(tmp_path / "data.csv"), None, ("model", "test"))
    with model_process(tmp_path, tmp_path / "code.py") as channel:
        (found,) = parse_result(cbor.encode(obey(encode_orders(orders), channel)))
        assert found.source == "measured"
        failed = cbor.encode(obey(b"", channel))
    assert _code(lambda: parse_result(failed)) == "cbor.length"


@pytest.mark.parametrize(
    "result",
    [{}, {"properties": [{}]}, {"error": ["code"], "usage": False}, {"error": ["code", "m"]}],
)
def test_a_result_that_is_none(result: dict[str, Any]) -> None:
    assert _code(lambda: parse_result(cbor.encode(result))) != "code"


def test_a_result_of_the_measurer(tmp_path: Path) -> None:
    found = evaluate(tmp_path, CONSTANT, DATA)
    encoded = cbor.encode({"properties": [plain_property(found)]})
    assert parse_result(encoded) == (found,)
    failed = cbor.encode({"error": ["code", "words"], "usage": False})
    assert _code(lambda: parse_result(failed)) == "code"


def test_a_model_that_knows_the_files_order_gains_nothing(tmp_path: Path) -> None:
    """It holds every label by position in the file; what it gets is chance."""
    labels = (np.random.default_rng(0).random(400) < 0.5).tolist()
    words = ["yes" if label else "no" for label in labels]
    code = f"""
CLASSES = ["no", "yes"]
LABELS = {[float(label) for label in labels]}
NEXT = 0

def load(path):
    return None

def predict(model, batch):
    global NEXT
    NEXT += len(batch["x"])
    return LABELS[NEXT - len(batch["x"]):NEXT]
"""
    found = evaluate(tmp_path, code, table({"x": [i // 2 for i in range(400)], "label": words}))
    assert isinstance(found.value, float)
    assert 0.35 < found.value < 0.65


def test_the_measurer_runs_from_the_attesters_own_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a launched attester its copy is all that the measurer sees; elsewhere the package."""
    for name in ("bin/python3", "so/ld-linux.so.2", "entry.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert own_code().words[:2] == (sys.executable, "-I")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))
    copied = own_code()
    assert copied.filesystem == Filesystem(read_only=(Bind(tmp_path, tmp_path),))
    assert copied.words[0] == str(tmp_path / "so" / "ld-linux.so.2")
    assert copied.words[-4:] == ("-I", "-S", "-B", str(tmp_path / "entry.py"))


@pytest.mark.parametrize("part", [b"", b"\0\0"])
def test_a_measurer_that_has_ended_leaves_no_noise(tmp_path: Path, part: bytes) -> None:
    """It says itself why; the model's process must not speak before it."""
    (tmp_path / "code.py").write_text(CONSTANT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [str(theirs.fileno()), "core=0", str(tmp_path), str(tmp_path / "code.py")]
        process = subprocess.Popen(
            [sys.executable, "-P", model_host.__file__, *words],
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
        )
        theirs.close()
        ours.recv(1)
        ours.sendall(part)
    assert process.communicate(timeout=60)[1] == b""
