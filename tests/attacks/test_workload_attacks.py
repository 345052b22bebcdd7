"""What a hostile workload tries: the TPM, the attester, other files, its channel, its own bytes.

Each test runs a real script under measurement. A script says what it reached on its stdout.
"""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluating import started_run
from local_run import PYTHON, Attester, Workshop

from laminator.digest import sha256
from laminator.run.launch import plan_workload, run_workload
from laminator.run.request import RunRequest
from laminator.run.sandbox import NAMESPACES

CHANNEL = """
import os, socket, struct
from laminator.cbor import decode, encode

channel = socket.socket(fileno=int(os.environ["LAMINATOR_CHANNEL"]))

def send(body):
    channel.sendall(struct.pack(">I", len(body)) + body)

def answer():
    size = struct.unpack(">I", channel.recv(4, socket.MSG_WAITALL))[0]
    return decode(channel.recv(size, socket.MSG_WAITALL))

def ask(**message):
    send(encode(message))
    return answer()

LOSS = {"op": "report", "name": "accuracy", "value": 0.99, "on": [], "unit": None, "parameters": {}}
"""
WAIT_FOR_SWAP = """
import os, time
print("up", flush=True)
while not os.path.exists("signals/swapped"):
    time.sleep(0.01)
"""


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    return Workshop(attester, tmp_path)


# --- the TPM


def test_no_tpm_in_reach(shop: Workshop) -> None:
    script = """
import os, socket, sys
path = sys.argv[1]
print([name for name in os.listdir("/dev") if "tpm" in name])
for target in (path, path + ".ctrl"):
    try:
        socket.socket(socket.AF_UNIX).connect(target)
        print("connected")
    except OSError as error:
        print(type(error).__name__)
"""
    path = shop.attester.tcti.removeprefix("swtpm:path=")
    assert Path(path).is_socket()
    ran = shop.run(script, arguments=[path])
    assert ran.stdout.splitlines() == ["[]", "FileNotFoundError", "FileNotFoundError"]


def test_no_descriptor_of_the_attester(shop: Workshop) -> None:
    script = """
import os, sys
channel = int(os.environ["LAMINATOR_CHANNEL"])
code = sys.modules["__laminator_bootstrap__"]._channel
for name in os.listdir("/proc/self/fd"):
    path = f"/proc/self/fd/{name}"
    if int(name) not in (0, 1, 2, channel, code) and os.path.exists(path):  # but the listing's own
        print(name, os.readlink(path))
print("end", "LAMINATOR_SETUP_FD" in os.environ)
"""
    assert shop.run(script).stdout == "end False\n"


# --- the attester


def test_the_attester_is_no_process_that_the_workload_sees(shop: Workshop) -> None:
    script = """
import glob
for path in sorted(glob.glob("/proc/[0-9]*/cmdline")):
    if b"laminator.run.entry" in open(path, "rb").read():
        print("sees", path)
print("end")
"""
    assert shop.run(script).stdout == "end\n"


def test_no_process_outside_of_the_sandbox(shop: Workshop) -> None:
    script = """
import os
print(sorted({1, os.getpid()} ^ {int(name) for name in os.listdir("/proc") if name.isdigit()}))
print(open("/proc/1/comm").read().strip())
status = open("/proc/self/status").read()
print([line for line in status.splitlines() if line.startswith(("NoNewPrivs", "CapEff"))])
"""
    assert shop.run(script).stdout.splitlines() == [
        "[]",
        "bwrap",
        str(["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]),
    ]


def test_killing_everything_ends_the_workload_alone(shop: Workshop) -> None:
    script = """
import os
for target in (-1, 1, os.getppid(), os.getpid()):
    try:
        os.kill(target, 9)
    except OSError:
        pass
"""
    ran = shop.run(script)
    assert ran.status == 137
    assert "no card is written" in ran.stderr
    assert shop.ledger()[-1]["outcome"] == "workload-failed"


def test_a_lingering_grandchild_does_not_outlive_the_run(shop: Workshop) -> None:
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.close(1), os.close(2)
    time.sleep(600)
"""
    started = time.monotonic()
    assert shop.run(script).status == 0
    assert time.monotonic() - started < 300  # it would be 600


@pytest.mark.parametrize(("options", "reached"), [((), "no"), (("--network",), "yes")])
def test_the_network_is_there_only_where_the_card_says_so(
    shop: Workshop, options: tuple[str, ...], reached: str
) -> None:
    script = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    print("yes")
except OSError:
    print("no")
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ran = shop.run(script, *options, arguments=[str(server.getsockname()[1])])
    assert ran.stdout == f"{reached}\n"
    assert shop.card().claims.isolation.network == (reached == "yes")


# --- files


def test_labels_and_homes_are_out_of_sight(
    shop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    labels.write_text("secret")
    script = """
import os, sys
for path in sys.argv[1:]:
    print(os.path.exists(path))
print(os.listdir(os.environ["HOME"]))
"""
    paths = [str(labels), str(shop.attester.home), str(shop.attester.home / "data")]
    ran = shop.run(script, arguments=paths)
    assert ran.stdout.splitlines() == ["False", "False", "False", "[]"]


def test_a_card_cannot_be_planted(shop: Workshop) -> None:
    script = """
from laminator import workload
for name in ("train.card", "train.card.private", "other.txt"):
    try:
        open(name, "w").write("forged")
    except OSError:
        pass
open(workload.output("model"), "w").write("model")
"""
    assert shop.run(script, "--output=model=model.bin").status == 0
    assert shop.verify().accepted
    assert not (shop.folder / "other.txt").exists()


@pytest.mark.parametrize(
    "make",
    [
        "os.symlink('/etc/hostname', path)",
        "os.symlink('train.py', path)",
        "os.mkfifo(path)",
        "os.mkdir(path); os.symlink('../train.py', path + '/link')",
        "os.mkdir(path); os.symlink('/etc/hostname', path + '/link')",
        "os.mkdir(path)",
    ],
)
def test_an_output_that_is_no_plain_file_gets_no_card(shop: Workshop, make: str) -> None:
    script = f"import os\nfrom laminator import workload\npath = workload.output('model')\n{make}"
    ran = shop.run(script, "--output=model=model.bin")
    assert (ran.status, shop.has_card) == (125, False), ran.stderr
    assert not (shop.folder / "model.bin").exists()


# --- another program than the measured script


EVIL = "print('another program ran')"


@pytest.mark.parametrize(
    ("words", "position"),
    [
        (("-c", EVIL, "train.py"), 3),
        (("-m", "http.server", "train.py"), 3),
        (("evil.py", "train.py"), 2),
        (("-BX", "train.py", "evil.py"), 2),
        (("-X", "train.py", "evil.py"), 2),
        (("-i", "train.py"), 2),
        (("-", "train.py"), 2),
        (("--", "train.py"), 2),
    ],
)
def test_a_request_for_another_program_spends_no_number(
    shop: Workshop, words: tuple[str, ...], position: int
) -> None:
    """Who writes requests of its own names a script that the interpreter would not run."""
    shop.write("evil.py", EVIL)
    before = len(shop.ledger())
    shop.write("train.py", "print('the measured one')")
    card = str(shop.folder / "train.card")
    argv = (PYTHON, *words)
    ran = shop.request(RunRequest("run", argv, position, str(shop.folder), "training", card))
    assert (ran.status, ran.stdout, shop.has_card) == (125, "", False), ran.stderr
    assert "before the script only" in ran.stderr or "another word for its script" in ran.stderr
    assert len(shop.ledger()) == before


def test_an_honest_request_s_flags_are_arguments(shop: Workshop) -> None:
    shop.write("train.py", "import sys; print(sys.flags.no_user_site, sys.argv)")
    card = str(shop.folder / "train.card")
    argv = (PYTHON, "-s", "-W", "error", "train.py", "-c")
    request = RunRequest("run", argv, 4, str(shop.folder), "training", card)
    ran = shop.request(request._replace(environment_public=True))
    assert (ran.status, ran.stdout) == (0, "1 ['train.py', '-c']\n"), ran.stderr
    assert shop.card().claims.workload.arguments == argv[1:]


# --- hash, then swap


def _run_and_swap(shop: Workshop, script: str, swap: Callable[[], object], *options: str) -> str:
    """Run `script` to its first line, swap, let it go on; return what it says then."""
    (shop.folder / "signals").mkdir()
    with shop.start(WAIT_FOR_SWAP + script, *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        swap()
        shop.write("signals/swapped", "")
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return said


def _replace(path: Path, content: str) -> None:
    path.unlink()
    path.write_text(content)


def _rename_around(folder: Path, name: str) -> None:
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    (folder / name).write_text("swapped")


def test_an_input_swapped_after_hashing_is_not_read(shop: Workshop) -> None:
    data = shop.write("data.csv", "measured")
    script = "print(open('data.csv').read())"
    swap = lambda: _replace(data, "swapped")  # noqa: E731
    assert _run_and_swap(shop, script, swap, "--input=train=data.csv") == "measured\n"
    assert shop.card().claims.inputs["train"].digest == sha256(b"measured")


def test_an_input_whose_folder_is_swapped_is_not_lost(shop: Workshop) -> None:
    data = shop.write("deep/data/part.csv", "measured")
    script = "print(open('deep/data/part.csv').read()); open('model.bin', 'w').write('model')"
    swap = lambda: _rename_around(data.parent, data.name)  # noqa: E731
    options = ("--input=train=deep/data/part.csv", "--output=model=model.bin")
    assert _run_and_swap(shop, script, swap, *options) == "measured\n"
    assert shop.read("model.bin") == "model"


def test_an_input_overwritten_in_place_is_not_read(shop: Workshop) -> None:
    shop.write("data/part", "measured")
    script = "print(open('data/part').read())"
    swap = lambda: shop.write("data/part", "swapped")  # noqa: E731
    assert _run_and_swap(shop, script, swap, "--input=train=data") == "measured\n"


def test_an_entry_script_swapped_after_hashing_does_not_run(shop: Workshop) -> None:
    script = "print(open(__file__).read().count('swapped bytes'))"
    before = WAIT_FOR_SWAP + script
    swap = lambda: _replace(shop.folder / "train.py", "# swapped bytes\n" * 9)  # noqa: E731
    assert _run_and_swap(shop, script, swap) == "1\n"
    assert shop.card().claims.workload.entry.digest == sha256(before.encode())


def _swap_link(venv: Path) -> None:
    (venv / "new").symlink_to("/bin/echo")
    (venv / "new").rename(venv / "bin" / "python3")


def _swap_file(venv: Path) -> None:
    shutil.copy("/bin/echo", venv / "new")
    (venv / "new").rename(venv / "bin" / "python3")


def _swap_folder(venv: Path) -> None:
    (venv / "bin").rename(venv / "old")
    (venv / "bin").mkdir()
    _swap_file(venv)
    (venv / "bin" / "python").symlink_to("python3")


def _swap_settings(venv: Path) -> None:
    (venv / "pyvenv.cfg").write_text("home = /nowhere\n")


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("swap", [_swap_link, _swap_file, _swap_folder, _swap_settings])
def test_an_interpreter_swapped_after_hashing_does_not_run(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    swap: Callable[[Path], None],
    when: str,
    beside: bool,
) -> None:
    """What leads from the command's first word to the binary is as it was measured."""
    venv = tmp_path / ("work" if beside else "venv")
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python3").symlink_to(Path(PYTHON).resolve())
    (venv / "bin" / "python").symlink_to("python3")
    home = Path(PYTHON).resolve().parent
    (venv / "pyvenv.cfg").write_text(f"home = {home}\n")
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    (work / "train.py").write_text(
        "import sys; print('honest', sys.prefix); open('m', 'w').write('m')"
    )
    argv = (str(venv / "bin" / "python"), "train.py")
    outputs = {"model": str(work / "m")}
    asked = RunRequest("run", argv, 1, str(work), "training", str(work / "c"), outputs=outputs)
    with started_run(asked, NAMESPACES) as started:
        if when == "before":
            swap(venv)
        plan = plan_workload(started)
        if when == "after":
            swap(venv)
        assert run_workload(started, plan).status.code == 0
    assert capfd.readouterr().out == f"honest {venv}\n"


def test_an_output_swapped_during_the_run_is_not_collected(shop: Workshop) -> None:
    script = "open('model.bin', 'w').write('made by the workload')"
    swap = lambda: shop.write("model.bin", "swapped")  # noqa: E731
    _run_and_swap(shop, script, swap, "--output=model=model.bin")
    assert shop.read("model.bin") == "made by the workload"
    made = sha256(b"made by the workload")
    assert shop.card().claims.outputs["model"].digest == made


def test_inputs_cannot_be_changed_by_the_workload(shop: Workshop) -> None:
    shop.write("data.csv", "measured")
    script = """
import os
for attempt in ((open, "w"), (os.unlink,), (os.chmod, 0o777)):
    try:
        attempt[0]("data.csv", *attempt[1:])
        print("changed")
    except OSError as error:
        print("refused")
"""
    ran = shop.run(script, "--input=train=data.csv")
    assert ran.stdout.split() == ["refused"] * 3
    assert shop.read("data.csv") == "measured"


# --- the channel


@pytest.mark.parametrize(
    "change",
    [
        '{"source": "measured"}',
        '{"measurer": "accuracy"}',
        '{"value": float("nan")}',
        '{"value": float("inf")}',
        '{"value": 2**63}',
        '{"on": ["labels"]}',
        '{"op": "measure"}',
    ],
)
def test_a_forged_statement_is_refused_and_leaves_nothing(shop: Workshop, change: str) -> None:
    script = f"{CHANNEL}\nprint('refused' in ask(**(LOSS | {change})))"
    ran = shop.run(script)
    assert (ran.status, ran.stdout) == (0, "True\n"), ran.stderr
    assert shop.card().claims.properties == ()


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        ("send(b'\\xff')", "a tag, or a simple value"),
        ("channel.sendall(struct.pack('>I', 2**32 - 1))", "limit"),
        ("channel.sendall(struct.pack('>I', 70_000) + bytes(70_000))", "limit"),
        ("channel.sendall(struct.pack('>I', 100) + b'half')", "middle of a message"),
        ("[ask(op='output', name='x') for _ in range(10_001)]", "more than 10000"),
        ("[send(encode(LOSS)) for _ in range(1_000_000)]", "does not read its replies"),
    ],
)
def test_a_broken_channel_fails_the_run(shop: Workshop, attack: str, code: str) -> None:
    ran = shop.run(f"{CHANNEL}\n{attack}")
    assert (ran.status, shop.has_card) == (125, False)
    assert code in ran.stderr
    assert shop.ledger()[-1]["outcome"] == "failed"


def test_the_channel_s_other_end_gives_no_rights(shop: Workshop) -> None:
    """Descriptors sent along with a message are not taken, none come back."""
    script = f"""{CHANNEL}
import array
body = encode({{"op": "output", "name": "model"}})
message = struct.pack(">I", len(body)) + body
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
channel.sendmsg([message], rights)
data, ancillary, *_ = channel.recvmsg(65536, 4096)
print(ancillary)
"""
    ran = shop.run(script, "--output=model=model.bin")
    assert ran.stdout == "[]\n"
