"""What a workload or a model tries on the kernel and on the machine's resources."""

import errno
import json
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import evaluating
import pytest
from model_process import CONSTANT, table
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from laminator.appraise.caveats import isolation_caveats
from laminator.appraise.policy import Policy
from laminator.appraise.result import VerificationResult
from laminator.claims import Confinement, Isolation
from laminator.errors import LaminatorError
from laminator.run import seccomp
from laminator.run.bubblewrap import bubblewrap
from laminator.run.evaluation import measure_model, parse_evaluation
from laminator.run.filesystem import folder_binds, merged, system_filesystem
from laminator.run.limits import model_limits
from laminator.run.sandbox import NAMESPACES, Job, Sandbox, isolation, probe, start
from laminator.run.session import StartedRun

ARCH = 0xC000003E
X = [(7 * i) % 30 for i in range(60)]


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> Sandbox:
    found = probe(bubblewrap())
    if found.separation != NAMESPACES or not seccomp.is_available():
        pytest.skip("namespaces or filters are forbidden here")
    return found


# Makes each call with harmless arguments and prints the error's number.
CALLS = """
import ctypes, sys
library = ctypes.CDLL(None, use_errno=True)
for words in sys.argv[1:]:
    numbers = [ctypes.c_long(int(word)) for word in words.split(",")]
    print(ctypes.get_errno() if library.syscall(*numbers) < 0 else 0)
"""


def errors_of(calls: list[str], sandbox: Sandbox, *, strict: bool = False) -> list[int]:
    """Return the error's number, or 0, of each system call within a sandbox."""
    python = Path(sys.executable).resolve()
    filesystem = merged(
        system_filesystem(), folder_binds([Path(sys.base_prefix), python.parent.parent])
    )
    job = Job(
        command=[str(python), "-I", "-c", CALLS, *calls],
        env={},
        cwd=Path("/"),
        strict=strict,
        stdout=subprocess.PIPE,
    )
    process = start(job, filesystem, sandbox)
    with process.popen:
        output, _ = process.popen.communicate()
    assert process.wait().code == 0
    return [int(line) for line in output.split()]


CLONE_CALLS = [f"56,{flag}" for flag in (0x20000, 0x10000000, 0x40000000, 0x20000000)]


@pytest.mark.parametrize("strict", [False, True])
def test_calls_that_reach_beyond_a_sandbox(sandbox: Sandbox, strict: bool) -> None:
    numbers = [*map(str, seccomp.DENIED.values()), *CLONE_CALLS, "135,4194304", "16,0,21522,0"]
    wanted = [errno.EPERM] * len(numbers)
    assert errors_of([*numbers, "41,40,1,0"], sandbox, strict=strict) == [
        *wanted,
        errno.EAFNOSUPPORT,
    ]
    absent = list(map(str, seccomp.ABSENT.values()))
    assert errors_of(absent, sandbox, strict=strict) == [errno.ENOSYS] * len(absent)


def test_a_model_makes_no_process_and_no_socket(sandbox: Sandbox) -> None:
    calls = [*map(str, seccomp.DENIED_STRICTLY.values()), "56,17"]
    assert errors_of(calls, sandbox, strict=True) == [errno.EPERM] * len(calls)
    families = ["41,2,1,0", "41,10,1,0", "41,16,3,0", "53,1,1,0,0"]
    found = errors_of(families, sandbox, strict=True)
    assert found == [errno.EAFNOSUPPORT] * 3 + [errno.EFAULT]


def test_what_a_training_script_needs_is_there(sandbox: Sandbox) -> None:
    assert errors_of(["41,2,1,0", "41,1,1,0", "39"], sandbox) == [0, 0, 0]


@contextmanager
def evaluation_of(folder: Path, code: str, *words: str) -> Iterator[StartedRun]:
    """Start the evaluation of a model with this code."""
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "code.py").write_text(code)
    labels = ["yes" if x % 3 else "no" for x in X]
    (folder / "test.csv").write_text(table({"x": X, "label": labels}))
    data = ("--data", f"test={folder / 'test.csv'}", "--labels", "label")
    code_words = ("--model-code", folder / "code.py")
    asked = evaluating.request(folder / "model.bin", *code_words, *data, *words)
    with evaluating.started_run(asked, NAMESPACES) as started:
        yield started


def evaluated(folder: Path, code: str, *words: str) -> LaminatorError:
    """Return what the evaluation of a model with this code is refused with."""
    with (
        evaluation_of(folder, code, *words) as started,
        pytest.raises(LaminatorError) as caught,
    ):
        measure_model(started, parse_evaluation(started.request.options))
    return caught.value


BIG_FILE = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.posix_fallocate(os.open('/tmp/f', os.O_CREAT | os.O_WRONLY), 0, (1 << 30) + 1)
"""
MEMORY = """
import mmap, os
kept, total = [], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
try:
    while True: kept.append(mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE))
except OSError:
    raise SystemExit(f"within the limit: {len(kept) << 30 < max(total, 2 << 30)}")
"""
DESCRIPTORS = """
import os
try:
    while True: last = os.dup(2)
except OSError:
    raise SystemExit(f"within the limit: {last < 4096}")
"""
BOMBS = {
    "forks": ("import os\nwhile True: os.fork()", "PermissionError"),
    "memory": (MEMORY, "within the limit: True"),
    "descriptors": (DESCRIPTORS, "within the limit: True"),
    "a file": (BIG_FILE, "File too large"),
}


@pytest.mark.parametrize(("bomb", "said"), BOMBS.values(), ids=list(BOMBS))
def test_a_model_that_takes_without_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], bomb: str, said: str
) -> None:
    error = evaluated(tmp_path, f"{bomb}\n{CONSTANT}")
    assert error.code == "model.failed"
    assert said in capfd.readouterr().err


# Tries to raise each limit, then says which it has.
LIMITS = """
import json, resource, sys
def held(name):
    number = getattr(resource, "RLIMIT_" + name.upper())
    try:
        resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
    return resource.getrlimit(number)
found = {name: held(name) for name in ("core", "data", "fsize", "nofile", "nproc")}
print("HELD " + json.dumps(found), file=sys.stderr)
"""


def test_a_model_has_the_limits_in_the_claims(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with evaluation_of(tmp_path, f"{LIMITS}\n{CONSTANT}") as started:
        measure_model(started, parse_evaluation(started.request.options))
        stated = started.isolation.confinement
    assert stated is not None
    (line,) = (x for x in capfd.readouterr().err.splitlines() if x.startswith("HELD "))
    held = json.loads(line.removeprefix("HELD "))
    assert held == {name: [limit, limit] for name, limit in stated.limits.items()}
    assert held["core"] == [0, 0]


def test_no_limit_is_stated_that_a_stricter_one_already_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert model_limits() == {"core": 0, "data": 100, "fsize": 100, "nofile": 100, "nproc": 100}


def test_a_model_that_never_answers(tmp_path: Path) -> None:
    error = evaluated(tmp_path, f"import time\ntime.sleep(1000)\n{CONSTANT}", "--timeout=1s")
    assert error.code == "model.time"
    assert "after 1 seconds (--timeout)" in error.message


def verdict(program: bytes, number: int, first: int = 0, second: int = 0, arch: int = ARCH) -> int:
    """Run a seccomp program as the kernel does; return its action."""
    data = struct.pack("=IIQQQ", number, arch, 0, first, second)
    steps = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while True:
        code, yes, no, value = steps[place]
        place += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return int(value)
            case _:
                tests = {0x15: accumulator == value, 0x35: accumulator >= value}
                place += yes if tests.get(code, accumulator & value) else no


def test_calls_by_another_table_of_numbers() -> None:
    """32-bit calls have other numbers, and x32 calls a bit of their own."""
    program = seccomp.program()
    assert verdict(program, 39) == 0x7FFF0000
    assert verdict(program, 39, arch=0x40000003) == 0x50000 | errno.EPERM
    assert verdict(program, 0x40000000 | 39) == 0x50000 | errno.EPERM
    assert verdict(program, 56, 0x3D0F00) == 0x7FFF0000  # a thread


def test_the_claims_say_what_is_in_force(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    found = isolation(sandbox, network=False).confinement
    assert found is not None
    assert (found.landlock, found.seccomp) == (0, True)
    monkeypatch.setattr("laminator.run.sandbox.is_available", lambda: False)
    found = isolation(sandbox, network=False).confinement
    assert found is not None
    assert not found.seccomp


@pytest.mark.parametrize(
    ("landlock", "filtered", "said"),
    [(0, True, ["by Landlock."]), (7, False, ["by a system call filter."]), (7, True, [])],
)
def test_what_the_kernel_lacked_is_named(landlock: int, filtered: bool, said: list[str]) -> None:
    confinement = Confinement(landlock, filtered, {})
    found = Isolation("namespaces", (), True, False, False, confinement)
    texts = [caveat.text for caveat in isolation_caveats(found)]
    assert [text.partition("workload ")[2] for text in texts] == said


LIMITED = {"core": 0, "data": 1 << 32, "fsize": 1 << 30, "nofile": 4096, "nproc": 4096}
ASKED = POLICY._replace(require=("claims.confinement",))


def _without(name: str) -> dict[str, int]:
    return {other: limit for other, limit in LIMITED.items() if other != name}


def judged(
    kind: str, confinement: Confinement | None, policy: Policy = ASKED
) -> VerificationResult:
    """Judge a card whose claims state this confinement."""
    stated = claims().isolation._replace(confinement=confinement)
    return judge(world(kind=kind, isolation=stated), policy)


@pytest.mark.parametrize(
    ("kind", "confinement", "said"),
    [
        ("evaluation", Confinement(0, False, LIMITED), "a system call filter"),
        ("training", Confinement(7, False, {"core": 0}), "a system call filter"),
        ("evaluation", Confinement(7, True, {"core": 0}), "on data, a limit on fsize"),
        *(
            ("evaluation", Confinement(0, True, _without(name)), f"expected a limit on {name},")
            for name in ("data", "fsize", "nofile")
        ),
        ("training", None, "do not say"),
    ],
)
def test_a_card_of_unconfined_work(kind: str, confinement: Confinement | None, said: str) -> None:
    """Refused where a policy asks; the check by itself fails no card."""
    result = judged(kind, confinement)
    assert obstacles(result) == {"claims.confinement", "policy.require.claims.confinement"}
    assert verdict_of(result, "claims.confinement") != "pass"
    assert said in next(x.detail for x in result.checks if x.id == "claims.confinement")
    assert judged(kind, confinement, POLICY).accepted


@pytest.mark.parametrize(
    ("kind", "confinement", "said"),
    [
        (
            "evaluation",
            Confinement(0, True, LIMITED),
            "no Landlock and limits on core, data, fsize, nofile, nproc",
        ),
        ("training", Confinement(0, True, {"core": 0}), "no Landlock and limits on core"),
        ("training", Confinement(7, True, {}), "Landlock ABI 7 and limits on nothing"),
    ],
)
def test_a_card_of_confined_work(kind: str, confinement: Confinement, said: str) -> None:
    result = judged(kind, confinement)
    assert result.accepted
    (found,) = (check for check in result.checks if check.id == "claims.confinement")
    assert found.detail.endswith(f"with {said}")


def test_no_call_of_these_is_dropped_from_the_list() -> None:
    memory = {"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"}
    spaces = {"mount", "umount2", "move_mount", "open_tree", "mount_setattr", "unshare", "setns"}
    shared = {"keyctl", "bpf", "perf_event_open", "userfaultfd", "open_by_handle_at"}
    kernel = {"init_module", "finit_module", "kexec_load", "kexec_file_load"}
    assert memory | spaces | shared | kernel <= set(seccomp.DENIED)
    assert {"clone3", "io_uring_setup"} <= set(seccomp.ABSENT)
    assert {"fork", "vfork"} <= set(seccomp.DENIED_STRICTLY)
