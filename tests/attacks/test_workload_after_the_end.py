"""A workload that writes after its end, or spends what the machine has: no card, or a good one."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from local_run import Attester, Ran, Workshop

from laminator.digest import sha256

OUTPUT = "--output=model=model.bin"
MEBI = 1 << 20


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    return Workshop(attester, tmp_path)


def works(shop: Workshop) -> None:
    """The next run is a good one."""
    assert shop.run("print('well')").stdout == "well\n"
    assert shop.verify().accepted


def no_card(shop: Workshop, ran: Ran, status: int, outcome: str) -> None:
    assert (ran.status, shop.has_card) == (status, False), ran.stderr
    assert "Traceback" not in ran.stderr.partition("laminator:")[2]
    assert shop.ledger()[-1]["outcome"] == outcome


# After the end.


@pytest.mark.parametrize(
    "write",
    [
        "file.seek(0), file.write(b'later'), file.flush()",
        "view.__setitem__(slice(0, 5), b'later')",
        "open('model.bin', 'wb').write(b'later')",
        "os.replace('next', 'model.bin'), open('next', 'wb').write(b'later')",
    ],
    ids=["descriptor", "mapping", "by name", "rename"],
)
def test_a_daemon_that_writes_its_output_for_ever(shop: Workshop, write: str) -> None:
    """It holds the output open, ignores signals, left its session: it ends with the namespace."""
    script = f"""
import mmap, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for name in ("model.bin", "next"):
    with open(name, "wb") as file:
        file.write(b"first")
file = open("model.bin", "r+b")
view = mmap.mmap(file.fileno(), 5)
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.write(writer, b"x")
        while True:
            try:
                {write}
            except OSError:
                pass
    os._exit(0)
os.read(reader, 1)
"""
    ran = shop.run(script, OUTPUT)
    assert ran.status == 0, ran.stderr
    stored = (shop.folder / "model.bin").read_bytes()
    assert stored in (b"first", b"later", b"")
    claimed = shop.card().claims.outputs["model"]
    assert (claimed.digest, claimed.size) == (sha256(stored), len(stored))
    time.sleep(0.1)
    assert (shop.folder / "model.bin").read_bytes() == stored
    assert shop.verify(artifacts={"model": sha256(stored)}).accepted


def test_no_process_is_left_of_very_many(shop: Workshop) -> None:
    """A hundred daemons, each in a session of its own, end with the workload."""
    mark = f"left-{os.getpid()}-{time.monotonic_ns()}"
    script = f"""
import os, sys, time
for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execv("/bin/sh", ["sh", "-c", "sleep 600; : {mark}"])
print("forked", flush=True)
time.sleep(0.2)
"""
    ran = shop.run(script)
    assert (ran.status, ran.stdout) == (0, "forked\n"), ran.stderr
    assert [path for path in processes() if mark in path] == []
    assert shop.verify().accepted


def processes() -> list[str]:
    """Return the command lines of all processes that are in sight."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if "pytest" not in line]


def test_a_workload_that_changes_its_own_entry_file(shop: Workshop) -> None:
    """While it runs, by every way that a script has; what is in the card is what was started."""
    script = """
import ctypes, os
path = os.path.abspath(__file__)
attempts = {
    "write": lambda: open(path, "w").write("forged"),
    "unlink": lambda: os.unlink(path),
    "rename": lambda: os.replace(path, path + ".old"),
    "rename over": lambda: os.rename("other.py", path),
    "mode": lambda: os.chmod(path, 0o777),
    "truncate": lambda: os.truncate(path, 0),
    "link": lambda: os.link(path, "twin.py"),
    "descriptor": lambda: open(f"/proc/self/fd/{os.open(path, os.O_RDONLY)}", "r+"),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print("did", name)
    except OSError:
        pass
if ctypes.CDLL(None).umount2(path.encode(), 2) == 0:
    print("unmounted")
print(open(path).read().startswith("\\nimport ctypes"))
"""
    shop.write("other.py", "forged")
    ran = shop.run(script)
    assert (ran.status, ran.stdout) == (0, "True\n"), ran.stderr
    assert shop.read("train.py") == script
    assert shop.card().claims.workload.entry.digest == sha256(script.encode())


def test_a_workload_that_rewrites_itself_where_it_may(shop: Workshop) -> None:
    """With an output beside it, its folder takes files: its own name stays the measured copy."""
    script = """
import os
open("model.bin", "w").write("m")
for act in (lambda: open(__file__, "w"), lambda: os.unlink(__file__),
            lambda: os.rename("model.bin", __file__)):
    try:
        act()
        print("did")
    except OSError:
        pass
"""
    ran = shop.run(script, OUTPUT)
    assert (ran.status, ran.stdout) == (0, ""), ran.stderr
    assert shop.read("train.py") == script


# Memory, disk, processes.


def test_a_workload_that_runs_out_of_memory(shop: Workshop) -> None:
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, ({256 * MEBI}, {256 * MEBI}))
held = []
while True:
    held.append(bytearray({16 * MEBI}))
"""
    ran = shop.run(script, OUTPUT)
    assert "MemoryError" in ran.stderr
    no_card(shop, ran, 1, "workload-failed")


def test_a_workload_that_the_kernel_ends(shop: Workshop) -> None:
    """As it does where memory is gone: SIGKILL from nobody in the sandbox."""
    ran = shop.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    no_card(shop, ran, 137, "workload-failed")
    assert "out of memory" in ran.stderr


def limited(shop: Workshop, *limits: str) -> Workshop:
    return Workshop(shop.attester, shop.folder, ("prlimit", *limits, "--"))


def test_a_disk_with_no_room_for_the_input_s_copy(shop: Workshop) -> None:
    (shop.folder / "data.csv").write_bytes(bytes(64 * MEBI))
    small = limited(shop, f"--fsize={32 * MEBI}")
    ran = small.run("print('ran')", "--input=train=data.csv")
    assert ran.stdout == ""
    no_card(shop, ran, 125, "failed")
    assert "no space left" in ran.stderr
    works(shop)


def test_a_disk_with_no_room_for_an_output(shop: Workshop) -> None:
    """The workload cannot write what it wants; a part of it is no output with a card."""
    script = f"open('model.bin', 'wb').write(bytes({64 * MEBI}))"
    ran = limited(shop, f"--fsize={32 * MEBI}").run(script, OUTPUT)
    no_card(shop, ran, 1, "workload-failed")
    assert not (shop.folder / "model.bin").exists()
    works(shop)


def test_a_sparse_output_is_measured_as_long_as_it_is(shop: Workshop) -> None:
    """A hole is read as zeros: what is stored is what was measured."""
    script = f"open('model.bin', 'wb').truncate({64 * MEBI})"
    assert shop.run(script, OUTPUT).status == 0
    claimed = shop.card().claims.outputs["model"]
    assert (claimed.size, claimed.digest) == (64 * MEBI, sha256(bytes(64 * MEBI)))


def test_a_bounded_fork_bomb(shop: Workshop) -> None:
    """It ends with its parent, and the attester's own work is done."""
    script = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
def grow(depth):
    for _ in range(3):
        if os.fork() == 0:
            if depth:
                grow(depth - 1)
            time.sleep(600)
grow(4)
open("model.bin", "w").write("m")
os._exit(0)
"""
    ran = shop.run(script, OUTPUT)
    assert (ran.status, shop.read("model.bin")) == (0, "m"), ran.stderr
    assert shop.verify().accepted


# Never ending, not answering.


@pytest.mark.parametrize(
    "hold",
    [
        "while True: time.sleep(600)",
        "while True: pass",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)",
        "channel.shutdown(socket.SHUT_RDWR); channel.close(); time.sleep(600)",
    ],
    ids=["sleeps", "spins", "stops", "stops its parent", "hangs up"],
)
def test_a_workload_that_never_ends_is_ended(shop: Workshop, hold: str) -> None:
    script = f"""
import os, signal, socket, time
channel = socket.socket(fileno=int(os.environ["LAMINATOR_CHANNEL"]))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("up", flush=True)
{hold}
"""
    with shop.start(script, OUTPUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, shop.has_card) == (143, False), errors
    assert shop.ledger()[-1]["outcome"] == "interrupted"


def test_a_workload_that_closes_its_channel_and_works_on(shop: Workshop) -> None:
    script = """
import os
os.close(int(os.environ["LAMINATOR_CHANNEL"]))
open("model.bin", "w").write("made")
"""
    assert shop.run(script, OUTPUT).status == 0
    assert shop.card().claims.properties == ()
    assert shop.verify().accepted


def test_a_workload_that_gives_its_channel_to_a_daemon(shop: Workshop) -> None:
    """What the daemon would say comes after the end, and is not waited for."""
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    time.sleep(600)
"""
    assert shop.run(script).status == 0
    assert shop.card().claims.properties == ()


@pytest.mark.parametrize("read", [True, False])
def test_a_flood_on_stdout(shop: Workshop, read: bool) -> None:
    """It goes to the caller, who reads it or not; nothing of it is kept."""
    script = f"""
import os
block = b"\\x1b]0;forged\\x07" * 10_000
for _ in range({200 if read else 10_000}):
    os.write(1, block)
    os.write(2, b"laminator: wrote train.card\\n")
"""
    command = shop.command(script)
    with subprocess.Popen(
        command,
        cwd=shop.folder,
        env=shop.attester.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        size = len(process.stdout.read()) if read else len(process.stdout.read(100))
        process.stdout.close()
        status = process.wait(timeout=60)
    assert (size, status) == ((200 * 110_000, 0) if read else (100, 1))
    assert shop.has_card == read
    works(shop)
