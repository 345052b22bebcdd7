"""What a lying provider's model tries during an evaluation, each in real sandboxes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import evaluating
import numpy as np
import pytest
import sklearn
from model_process import CONSTANT, table

from laminator.claims import Property
from laminator.errors import LaminatorError
from laminator.measure.dataset import load_columns
from laminator.measure.files import measure_path
from laminator.run import evaluation
from laminator.run.bubblewrap import bubblewrap
from laminator.run.check_request import check_request
from laminator.run.evaluation import measure_model, parse_evaluation
from laminator.run.own_code import own_code
from laminator.run.request import RunRequest
from laminator.run.sandbox import NAMESPACES, NONE, probe

CANARY = "label-that-only-the-measurer-knows"
ROWS = 60
X = [(7 * i) % 30 for i in range(ROWS)]

# Says on stderr, as one JSON line, what it found; then answers like a coin.
SPY = """
import json, os, sys
CLASSES = ["no", "CANARY"[::-1]]
NEEDLE = CLASSES[1] = "".join(reversed("YRANAC"))

def load(path):
    print("SPY " + json.dumps(spy(path)), file=sys.stderr, flush=True)

def predict(model, batch):
    return [0.0] * len(next(iter(batch.values())))

def contents(root):
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            try:
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        yield path, file.read(1 << 20)
            except OSError:
                pass
"""


def _spy(body: str) -> str:
    code = SPY.replace('["no", "CANARY"[::-1]]', '["no", ""]').replace("YRANAC", CANARY[::-1])
    return code + "\ndef spy(model_path):\n" + "".join(f"    {line}\n" for line in body.split("\n"))


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if probe(bubblewrap()).separation != NAMESPACES:
        pytest.skip("namespaces are forbidden here")


class Bench:
    """A model, its code and its data in a folder, and their evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("model.bin", "weights")
        self.write("code.py", CONSTANT)
        self.write("test.csv", table({"x": X, "label": [self._label(x) for x in X]}))

    @staticmethod
    def _label(x: int) -> str:
        return CANARY if x % 3 else "no"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def request(self, *words: object) -> RunRequest:
        labels = () if "--labels" in words else ("--labels", "label")
        code, data = self.folder / "code.py", f"test={self.folder / 'test.csv'}"
        model = self.folder / "model.bin"
        return evaluating.request(model, "--model-code", code, "--data", data, *labels, *words)

    def evaluate(
        self,
        *words: object,
        force: str = NAMESPACES,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Property:
        """Return the accuracy; `meanwhile` runs when everything has been measured."""
        asked = self.request(*words)
        with evaluating.started_run(asked, force) as started:
            meanwhile()
            (found,) = measure_model(started, parse_evaluation(asked.options))
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench with a constant model."""
    return Bench(tmp_path)


def _found(capfd: pytest.CaptureFixture[str]) -> Any:
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("SPY "))
    return json.loads(line.removeprefix("SPY "))


def _refused(action: Callable[[], object]) -> LaminatorError:
    with pytest.raises(LaminatorError) as caught:
        action()
    return caught.value


def test_reading_labels_and_data(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own folder, the data's, the attester's, memory file systems, every process's files."""
    label_file = bench.write("labels.txt", "\n".join([CANARY, "no"] * (ROWS // 2)))
    data = bench.folder / "test.csv"
    body = f"""
        roots = [{str(bench.folder)!r}]
        if model_path.startswith("/laminator"):
            roots += ["/tmp", "/dev/shm", "/var", "/home", "/laminator", "/mnt", os.getcwd(),
                      "/proc/self/fd"]
            roots += [os.path.join("/proc/1/root", place) for place in ("tmp", "dev/shm")]
        hits = [path for root in roots for path, content in contents(root)
                if NEEDLE.encode() in content and not path.endswith("code.py")]
        direct = [os.path.exists(path) for path in ({str(data)!r}, {str(label_file)!r})]
        return {{"hits": hits, "direct": direct, "seen": len(list(contents("/laminator")))}}
    """.replace("\n        ", "\n").strip()
    bench.write("code.py", _spy(body))
    for words in ((), ("--labels", label_file, "--hold-back", "label")):
        bench.evaluate(*words)
        assert _found(capfd) == {"hits": [], "direct": [False, False], "seen": 3}
    found = bench.evaluate(force=NONE)
    assert found.source == "reported"
    seen = _found(capfd)
    assert str(data) in seen["hits"]  # the spy is real: without namespaces it finds them
    assert seen["direct"] == [True, True]


def test_data_inside_the_python_environment(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the data's own path is one that the model's process sees, it is masked."""
    data = Path(sklearn.__file__).parent / "datasets" / "data" / "iris.csv"
    body = f"""
        with open({str(data.with_name("wine_data.csv"))!r}) as file:
            beside = len(file.read())
        try:
            with open({str(data)!r}) as file:
                return [beside, len(file.read())]
        except OSError:
            return [beside, 0]
    """.replace("\n        ", "\n").strip()
    bench.write("code.py", _spy(body))
    asked = bench.request("--labels", "virginica")  # what its first line holds for a header
    asked = asked._replace(inputs={**asked.inputs, "test": str(data)})
    monkeypatch.setattr(bench, "request", lambda: asked)
    _refused(bench.evaluate)  # three classes, and the spy scores two
    beside, data_bytes = _found(capfd)
    assert beside > 0
    assert data_bytes == 0


def test_other_processes_and_descriptors(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the measurer nor the attester is there to be traced; it has two sockets: one to the
    measurer, one for its records of code."""
    body = """
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        words = [open(f"/proc/{pid}/cmdline").read().split("\\0") for pid in pids]
        links = {}
        for fd in os.listdir("/proc/self/fd"):
            if os.path.lexists(f"/proc/self/fd/{fd}"):
                links[fd] = os.readlink(f"/proc/self/fd/{fd}")
        sockets = [fd for fd, link in links.items() if link.startswith("socket:")]
        lines = open("/proc/net/dev").readlines()[2:]
        interfaces = [line.split(":")[0].strip() for line in lines]
        return {"interfaces": interfaces, "processes": len(pids),
                "measurers": sum("measurer" in argv for argv in words),
                "sockets": sockets, "channel": sys.argv[1],
                "code": str(sys.modules["__laminator_bootstrap__"]._channel),
                "tpm": os.path.exists("/dev/tpm0")}
    """.replace("\n        ", "\n").strip()
    bench.write("code.py", _spy(body))
    bench.evaluate()
    found = _found(capfd)
    assert found["measurers"] == 0
    assert found["interfaces"] == ["lo"]
    assert found["processes"] <= 2
    assert set(found["sockets"]) <= {found["channel"], found["code"], "0", "1", "2"}
    assert not found["tpm"]


def test_what_the_measurer_itself_could_reach(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurer taken over by its data sees the data, and neither model, files nor network."""
    spy = f"""
import glob, json, os, sys
interfaces = [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]
found = {{
    "copies": len(glob.glob("/dev/shm/laminator-*/*/*") + glob.glob("/tmp/laminator-*/*/*")),
    "folder": os.path.exists({str(bench.folder)!r}),
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "interfaces": interfaces,
    "words": len(sys.argv),
}}
print("SPY " + json.dumps(found), file=sys.stderr)
"""
    own = own_code()
    spying = own._replace(words=(sys.executable, "-I", "-c", spy))
    monkeypatch.setattr(evaluation, "own_code", lambda: spying)
    assert _refused(bench.evaluate).code == "frame.ended"
    found = _found(capfd)
    assert found["processes"] <= 2
    del found["processes"]
    assert found == {"copies": 1, "folder": False, "interfaces": ["lo"], "words": 4}


# Each takes the channel for itself and speaks in the host's place.
SPEECHES = {
    "pickle": ("frame(pickle.dumps(Bomb()))", "cbor."),
    "garbage": ("channel.sendall(os.urandom(64))", ""),
    "huge": ("channel.sendall(b'\\xff\\xff\\xff\\xff')", "frame.size"),
    "nothing": ("os._exit(0)", "model.failed"),
    "properties": ("frame(b'\\xa1\\x6aproperties\\x80')", "model.hello"),
    "two classes of one name": ("frame(b'\\xa1gclasses\\x82\\x61a\\x61a')", "model.classes"),
}


@pytest.mark.parametrize(("speech", "code"), SPEECHES.values(), ids=list(SPEECHES))
def test_speaking_in_the_hosts_place(bench: Bench, tmp_path: Path, speech: str, code: str) -> None:
    bench.write(
        "code.py",
        f"""
import os, pickle, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))

class Bomb:
    def __reduce__(self):
        return open, ({str(tmp_path / "bomb")!r}, "w")

def frame(body):
    channel.sendall(len(body).to_bytes(4, "big") + body)

{speech}
channel.shutdown(socket.SHUT_RDWR)
""",
    )
    assert _refused(bench.evaluate).code.startswith(code)
    assert not (tmp_path / "bomb").exists()


# Speaks in the host's place; asks and answers are of 1,024 rows each, as the measurer's are.
TAGGED = """
import socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
host = sys.modules["__main__"]

def answer(tag):
    host.send(channel, {"shape": [1024], "scores": bytes(8 * 1024), "tag": tag})

host.send(channel, {"classes": ["no", "yes"]})
SPEECH
while host.receive(channel): pass
"""
TWICE = "first = host.receive(channel)['tag']; answer(first); answer("
TAGS = {
    "replayed": f"{TWICE}first)",
    "early": "answer(bytes(16))",
    "guessed": f"{TWICE}bytes([first[0] ^ 1]) + first[1:])",
}


@pytest.mark.parametrize("speech", TAGS.values(), ids=list(TAGS))
def test_an_answer_to_another_batch(bench: Bench, speech: str) -> None:
    """It has the right shape and comes at the right time; only its tag tells what it answers."""
    bench.write(
        "test.csv", table({"x": [i % 7 for i in range(2048)], "label": ["no", "yes"] * 1024})
    )
    honest = "answer(host.receive(channel)['tag']); " * 2
    bench.write("code.py", TAGGED.replace("SPEECH", honest))
    assert bench.evaluate().parameters["n"] == 2048
    bench.write("code.py", TAGGED.replace("SPEECH", speech))
    assert _refused(bench.evaluate).code == "model.tag"


@pytest.mark.parametrize(
    ("scores", "code"),
    [
        ("[[0.0, float('nan')]] * rows", "scores.finite"),
        ("[[0.0, float('inf')]] * rows", "scores.finite"),
        ("[[0.0, 1.0]] * (rows + 1)", "model.scores"),
        ("[[0.0, 1.0]] * 1000000", "frame.size"),
        ("[[0.0, 1.0, 2.0]] * rows", "scores.classes"),
        ("[2.0] * rows", "scores.probability"),
    ],
)
def test_scores_that_are_none(bench: Bench, scores: str, code: str) -> None:
    bench.write("code.py", CONSTANT.replace("[[0.0, 1.0]] * rows", scores))
    bench.write("test.csv", table({"x": X, "label": ["yes" if x % 3 else "no" for x in X]}))
    assert _refused(bench.evaluate).code == code


@pytest.mark.parametrize("sample", [(), ("--sample=599", "--seed=3")])
def test_knowing_the_files_order(bench: Bench, sample: tuple[str, ...]) -> None:
    """It holds every label by row number, and knows the seed; the order is another, so it guesses.

    Were the order the seed's, a model's code could work out which row it is asked about.
    """
    rows = 600
    labels = (np.random.default_rng(5).random(rows) < 0.5).tolist()
    code = f"""
CLASSES = ["no", "yes"]
LABELS = {[float(label) for label in labels]}

def load(path):
    return iter(LABELS)

def predict(model, batch):
    return [next(model) for _ in batch["x"]]
"""
    bench.write("code.py", code)
    names = ["yes" if label else "no" for label in labels]
    bench.write("test.csv", table({"x": [i % 7 for i in range(rows)], "label": names}))
    found = [bench.evaluate(*sample).value for _ in range(5)]
    for value in found:
        assert isinstance(value, float)
        assert 0.38 < value < 0.62  # six standard deviations
    assert len(set(found)) > 1  # a fresh order each time; five equal ones: less than once in 10^6


@pytest.mark.parametrize("name", ["code.py", "model.bin", "test.csv"])
def test_swapping_after_hashing(bench: Bench, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What is put in a file's place after it was measured reaches neither process."""
    code = """
import sys
CLASSES = ["no", "yes"]

def load(path):
    print("SPY " + repr(open(path).read()).replace("'", '"'), file=sys.stderr)

def predict(model, batch):
    return (batch["x"] % 3 != 0).astype(float)
"""
    bench.write("code.py", code)
    bench.write("test.csv", table({"x": X, "label": ["yes" if x % 3 else "no" for x in X]}))
    lie = {
        "code.py": "raise SystemExit('swapped')",
        "model.bin": "swapped",
        "test.csv": "x,label\n1,swapped\n",
    }[name]
    found = bench.evaluate(meanwhile=lambda: bench.write(name, lie))
    assert (found.value, found.parameters["n"]) == (1, ROWS)
    assert _found(capfd) == "weights"


def test_swapping_the_interpreter_after_hashing(bench: Bench) -> None:
    """The link that led to the measured binary leads there still, for the model's process."""
    venv = bench.folder / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    (venv / "lib").symlink_to(Path(sys.prefix, "lib"))
    (venv / "pyvenv.cfg").write_text(f"home = {python.resolve().parent}\n")

    def swap() -> None:
        (venv / "new").symlink_to("/bin/false")
        (venv / "new").rename(python)

    bench.write("test.csv", table({"x": X, "label": ["yes" if x % 3 else "no" for x in X]}))
    found = bench.evaluate("--python", python, meanwhile=swap)
    assert found.parameters["n"] == ROWS


def test_the_labels_as_a_feature(bench: Bench) -> None:
    assert _refused(lambda: bench.evaluate("--feature", "label")).code == "data.labels"
    assert _refused(lambda: bench.evaluate("--sensitive", "label")).code == "data.labels"
    copied = {"x": X, "label": [x % 3 for x in X], "copy": [x % 3 * 10 for x in X]}
    bench.write("test.csv", table(copied))
    assert _refused(bench.evaluate).code == "data.leak"
    bench.write("test.csv", table({**copied, "copy": range(ROWS)}))  # type: ignore[dict-item]
    assert _refused(bench.evaluate).code == "data.leak"
    twice = table({"x": X, "label": X}).replace("x,label", "label,label", 1)
    bench.write("test.csv", twice)
    assert _refused(bench.evaluate).code == "dataset.column-name"


@pytest.mark.parametrize("change", ["more", "fewer", "outputs", "one name"])
def test_a_request_with_other_inputs(bench: Bench, change: str) -> None:
    """The attester believes no request: what is not model, data and labels is refused."""
    asked = bench.request()
    data = asked.inputs["test"]
    changed = {
        "more": asked._replace(inputs={**asked.inputs, "more": data}),
        "fewer": asked._replace(inputs={"test": data}),
        "outputs": asked._replace(outputs={"out": "/out"}),
        "one name": asked._replace(
            inputs={"model": data}, options={**asked.options, "data": "model"}
        ),
    }[change]
    nothing = cast("Any", None)
    error = _refused(lambda: evaluation.work(nothing, changed, nothing))
    assert error.code == "evaluation.inputs"


@pytest.mark.parametrize("flags", [("-c", "pass"), ("-u",), ("-m", "x")])
def test_a_request_for_another_host(bench: Bench, flags: tuple[str, ...]) -> None:
    """The model's process runs the measured host, whatever the request's words are."""
    asked = bench.request()
    interpreter, script = asked.argv
    asked = asked._replace(argv=(interpreter, *flags, script), script=len(flags) + 1)
    error = _refused(lambda: check_request(asked))
    assert error.code in ("command.flag", "request.script")
    check_request(bench.request())


@pytest.mark.parametrize("which", ["data", "labels", "images"])
def test_a_private_copy_that_is_changed_after_it_was_measured(bench: Bench, which: str) -> None:
    """By another process of the same user: what is parsed is what the claims have, or nothing."""
    lines = bench.write("labels.txt", "\n".join([CANARY, "no"] * (ROWS // 2)))
    asked = bench.request(
        *(("--labels", lines, "--hold-back", "label") if which == "labels" else ())
    )
    if which == "images":
        asked = _with_images(bench)
    with evaluating.started_run(asked, NAMESPACES) as started:
        copy = started.inputs["labels" if which == "labels" else "test"].copy
        target = copy / "no" / "1.png" if which == "images" else copy
        target.chmod(0o644)
        target.write_bytes(target.read_bytes().replace(b"no", b"ny"))
        error = _refused(lambda: measure_model(started, parse_evaluation(asked.options)))
    assert error.code == "dataset.changed"
    assert "not what was measured" in error.message


def test_an_image_that_is_changed_after_the_folder_was_checked(tmp_path: Path) -> None:
    image = tmp_path / "images" / "no" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"measured")
    column, _ = load_columns(tmp_path / "images", "", expected=measure_path(tmp_path / "images")[0])
    assert column.take([0]) == [b"measured"]
    image.write_bytes(b"exchanged")
    assert _refused(lambda: column.take([0])).code == "dataset.changed"


def _with_images(bench: Bench) -> RunRequest:
    for name in ("no/1.png", f"{CANARY}/1.png"):
        path = bench.folder / "images" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no image")
    data = f"test={bench.folder / 'images'}"
    words = ("--model-code", bench.folder / "code.py", "--data", data, "--labels", "class")
    return evaluating.request(bench.folder / "model.bin", *words)


def test_a_crash_names_how_it_ended(bench: Bench) -> None:
    bench.write("code.py", "import os\nos.kill(os.getpid(), 9)")
    error = _refused(bench.evaluate)
    assert error.code == "model.failed"
    assert "SIGKILL" in error.message
