"""`laminator run` from end to end: the command, the attester, a real software TPM."""

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cddl import fitting_card
from local_run import LAMINATOR, PYTHON, Attester, Workshop

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.machine import Machine
from laminator.digest import sha256

TRAIN = """
import sys
from laminator import workload

rows = open(workload.input("train")).read()
with open(workload.output("model"), "w") as file:
    file.write(rows * 2)
workload.hyperparameters({"epochs": 3, "lr": 0.1})
workload.report("loss", 0.25, on=["train"], unit="nats")
print("arguments", *sys.argv[1:])
"""
ROWS = "a,b\n1,2\n"
NAMED = ("--input=train=data.csv", "--output=model=model.bin")


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    workshop = Workshop(attester, tmp_path)
    workshop.write("data.csv", ROWS)
    return workshop


def test_a_run_becomes_a_card(shop: Workshop) -> None:
    ran = shop.run(TRAIN, *NAMED, "--declare=license=MIT", arguments=["--epochs", "3"])
    assert (ran.status, ran.stdout) == (0, "arguments --epochs 3\n"), ran.stderr
    claims = shop.card().claims
    assert claims.kind == "training"
    assert claims.inputs["train"].digest == sha256(ROWS.encode())
    assert claims.outputs["model"].digest == sha256(ROWS.encode() * 2)
    assert shop.read("model.bin") == ROWS * 2
    assert claims.workload.entry.digest == sha256(TRAIN.encode())
    assert claims.workload.interpreter.digest == sha256(Path(sys.executable).read_bytes())
    assert [(item.name, item.source, item.measurer) for item in claims.properties] == [
        ("license", "declared", "provider"),
        ("hyperparameters", "reported", "workload"),
        ("loss", "reported", "workload"),
    ]
    assert claims.isolation.separation == "namespaces"
    assert not claims.isolation.attester_dumpable
    assert not claims.isolation.network


def test_a_workload_leaves_no_core_file_and_the_card_says_so(shop: Workshop) -> None:
    code = "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))\n"
    ran = shop.run(f"{code}{TRAIN}", *NAMED)
    assert (ran.status, ran.stdout.splitlines()[0]) == (0, "(0, 0)"), ran.stderr
    confinement = shop.card().claims.isolation.confinement
    assert confinement is not None
    assert confinement.limits == {"core": 0}


def test_the_card_verifies(shop: Workshop) -> None:
    assert shop.run(TRAIN, *NAMED, "--nonce", "ab" * 16).status == 0
    result = shop.verify(nonce=bytes.fromhex("ab" * 16))
    assert result.accepted, [check for check in result.checks if check.verdict == "fail"]


def test_the_command_says_how_to_verify(shop: Workshop) -> None:
    ran = shop.run(TRAIN, *NAMED, "--card=out.card", "--nonce", "ab" * 16)
    assert f"laminator verify out.card --nonce {'ab' * 16}" in ran.stderr


def test_a_bare_script_needs_no_options(shop: Workshop) -> None:
    assert shop.run("print(open('data.csv').read())").status == 0
    claims = shop.card().claims
    assert (claims.inputs, claims.outputs, claims.properties) == ({}, {}, ())


def test_an_interpreter_above_the_current_folder(shop: Workshop) -> None:
    (shop.folder / "work").mkdir()
    (shop.folder / "v").symlink_to(sys.prefix)
    command = [*shop.command("print('ran')")[:-2], "../v/bin/python", "../train.py"]
    done = subprocess.run(
        command,
        cwd=shop.folder / "work",
        env=shop.attester.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_rsa_keys_and_folders(shop: Workshop) -> None:
    shop.write("images/a/1.txt", "one")
    shop.write("images/b/2.txt", "two")
    script = """
import os
from pathlib import Path
assert Path("images/a/1.txt").read_text() == "one"
os.mkdir("out")
Path("out/weights").write_text("w")
Path("out/config").write_text("c")
"""
    options = ("--ak=rsa", "--input=images=images", "--output=model=out")
    assert shop.run(script, *options).status == 0
    claims = shop.card().claims
    assert (claims.inputs["images"].files, claims.outputs["model"].files) == (2, 2)
    assert shop.read("out/config") == "c"
    assert shop.verify().accepted


def test_an_output_in_a_folder_that_the_work_makes(shop: Workshop) -> None:
    script = "import os; os.makedirs('out/deep'); open('out/deep/model.bin', 'w').write('m')"
    assert shop.run(script, "--output=model=out/deep/model.bin").status == 0
    assert shop.read("out/deep/model.bin") == "m"


def test_outputs_never_lie_in_memory(shop: Workshop) -> None:
    script = """
import os
print(os.stat(".").st_dev)
open("model.bin", "w").write("m")
"""
    ran = shop.run(script, *NAMED)
    assert ran.status == 0, ran.stderr
    assert int(ran.stdout) == Path(tempfile.gettempdir()).stat().st_dev
    assert int(ran.stdout) != Path("/dev/shm").stat().st_dev  # noqa: S108 - only looked at


def test_a_script_elsewhere_with_inputs_elsewhere(
    shop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The paths that work outside work inside: relative ones, links, `..`."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "rows.csv").write_text("rows")
    shop.write("code/real.py", "import near; print(near.TEXT, open('data/rows.csv').read())")
    shop.write("code/near.py", "TEXT = 'near'")
    (shop.folder / "data").symlink_to(elsewhere)
    (shop.folder / "link.py").symlink_to("code/real.py")
    for script in ("code/real.py", "link.py", "code/../code/real.py"):
        command = shop.command("", "--input=train=data/rows.csv", "--card=train.card")
        command[-1] = script
        done = subprocess.run(
            command,
            cwd=shop.folder,
            env=shop.attester.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "near rows\n"), done.stderr


def test_arguments_are_commitments_that_the_private_file_opens(shop: Workshop) -> None:
    assert shop.run(TRAIN, *NAMED, arguments=["--secret", "s3cret-of-many-bytes"]).status == 0
    private = shop.folder / "train.card.private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    opened = json.loads(private.read_text())
    assert [item["value"] for item in opened["arguments"]] == [
        "train.py",
        "--secret",
        "s3cret-of-many-bytes",
    ]
    card = shop.card()
    assert opened["card"] == card.id.hex()
    assert all(isinstance(item, bytes) for item in card.claims.workload.arguments)
    assert b"s3cret-of-many-bytes" not in (shop.folder / "train.card").read_bytes()


def test_public_arguments_are_text(shop: Workshop) -> None:
    assert shop.run(TRAIN, *NAMED, "--env-public", arguments=["--x"]).status == 0
    workload = shop.card().claims.workload
    assert workload.arguments == ("train.py", "--x")
    assert workload.environment["HOME"] == "/home/workload"
    assert not (shop.folder / "train.card.private").exists()


def test_only_named_variables_are_passed(shop: Workshop) -> None:
    variables = {"SEED": "7", "OTHER": "8"}
    shop = Workshop(shop.attester._replace(variables=variables), shop.folder)
    script = "import os; print(os.environ.get('SEED'), os.environ.get('OTHER'))"
    assert shop.run(script).stdout == "None None\n"
    assert shop.run(script, "--env=SEED").stdout == "7 None\n"
    assert "SEED" in shop.card().claims.workload.environment


def test_plan_and_nonce_are_in_the_claims(shop: Workshop) -> None:
    data = sha256(ROWS.encode())
    plan = f'version = 1\nruns = 1\nseed = 7\nmetric = ["loss"]\n[data]\ntrain = "{data}"\n'
    shop.write("plan.toml", plan)
    options = ("--input=train=data.csv", "--plan=plan.toml", "--nonce", "ab" * 8)
    script = "from laminator import workload; workload.report('loss', 1)"
    ran = shop.run(script, *options)
    assert ran.status == 0, ran.stderr
    claims = shop.card().claims
    assert (claims.run.plan, claims.run.seed) == (sha256(plan.encode()), 7)
    assert claims.nonce == bytes.fromhex("ab" * 8)
    assert shop.verify().accepted


def test_a_large_input_is_handed_over_whole(shop: Workshop) -> None:
    content = os.urandom(1 << 20) * 80
    (shop.folder / "large.bin").write_bytes(content)
    script = "import hashlib; print(hashlib.sha256(open('large.bin', 'rb').read()).hexdigest())"
    ran = shop.run(script, "--input=train=large.bin")
    assert ran.stdout.strip() == sha256(content).value.hex()
    assert shop.card().claims.inputs["train"].size == len(content)


def test_lineage_names_the_input_s_card(shop: Workshop) -> None:
    assert shop.run(TRAIN, *NAMED).status == 0
    first = shop.card()
    script = "print(open('model.bin').read())"
    options = ("--input=model=model.bin", "--card-in=model=train.card", "--card=second.card")
    assert shop.run(script, *options).status == 0
    assert shop.card("second.card").claims.cards == {"model": first.id}


def test_numbers_count_up(shop: Workshop) -> None:
    for _ in range(2):
        assert shop.run("").status == 0
    first, _, second, _ = shop.ledger()[-4:]
    assert second["number"] == first["number"] + 1
    assert shop.card().claims.run.number == second["number"]


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("raise SystemExit(3)", 3, "exit status 3"),
        ("raise ValueError('wrong data')", 1, "exit status 1"),
        ("import os; os.abort()", 134, "SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", 137, "out of memory"),
        ("raise SystemExit(125)", 125, "exit status 125"),
    ],
)
def test_a_failing_workload_gets_no_card(
    shop: Workshop, script: str, status: int, said: str
) -> None:
    ran = shop.run(script)
    assert ran.status == status
    assert said in ran.stderr
    assert "no card is written" in ran.stderr
    assert "is spent" in ran.stderr
    assert not shop.has_card
    last = shop.ledger()[-1]
    assert (last["outcome"], last["status"]) == ("workload-failed", status)


def test_a_missing_output_gets_no_card(shop: Workshop) -> None:
    ran = shop.run("print('did nothing')", "--output=model=model.bin")
    assert ran.status == 125
    assert "did not write the output model" in ran.stderr
    assert not shop.has_card
    assert shop.ledger()[-1]["outcome"] == "refused"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_stopped_run_gets_no_card(shop: Workshop, number: int, status: int) -> None:
    script = "import time\nprint('up', flush=True)\ntime.sleep(60)"
    with shop.start(script) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        attester = _children(process.pid)[0]
        os.kill(attester if number == signal.SIGINT else process.pid, number)
        said = process.stderr.read()
    assert process.returncode == status
    assert "stopped by signal" in said
    assert not shop.has_card
    assert shop.ledger()[-1]["outcome"] == "interrupted"
    assert shop.run("").status == 0  # the TPM stays usable


def test_a_killed_attester_leaves_its_number_in_the_ledger(shop: Workshop) -> None:
    script = "import time\nprint('up', flush=True)\ntime.sleep(60)"
    with shop.start(script) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        said = process.stderr.read()
    assert process.returncode == 137
    assert "is spent" in said
    assert not shop.has_card
    assert shop.ledger()[-1]["outcome"] == "died"


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input=train=missing.csv",), "cannot read the input train"),
        (("--input=a=data.csv", "--output=a=model.bin"), "the name of an input and of an output"),
        (("--input=a=data.csv", "--output=b=data.csv"), "the same place"),
        (("--output=b=train.card",), "the same place"),
        (("--output=b=data.csv/model.bin",), "no folder to write to"),
        (("--output=b=train.py",), "b and the script are the same place"),
        (("--output=b=.",), "b and the script are the same place"),
        ((f"--output=b={sys.executable}",), "b and the interpreter are the same place"),
        (("--output=b=data.csv", "--plan=data.csv"), "b and the plan are the same place"),
        (("--output=card=train.py",), "card and the script are the same place"),
        (("--output=b=train.card.private",), "b and the card's private file are the same place"),
        (("--card=train.py",), "the card and the script are the same place"),
        ((f"--card={sys.executable}",), "the card and the interpreter are the same place"),
        (("--card=data.csv", "--plan=data.csv"), "the card and the plan are the same place"),
        (("--card=data.csv", "--input=a=data.csv"), "the card and a are the same place"),
        (("--card=x", "--input=a=x.private"), "the card's private file and a are the same place"),
        (("--card=x", "--output=a=x.private"), "a and the card's private file are the same place"),
        (("--card=nowhere/train.card",), "no folder to write to"),
        (("--card-in=a=data.csv",), "no input of this name"),
        (("--input=a=data.csv", "--card-in=a=data.csv"), "is not a card"),
        (("--input=a=data.csv", "--card-in=a=o.card", "--card=o.card"), "and the card of a are"),
        (("--plan=missing.toml",), "cannot read the plan"),
        (("--nonce=xyz",), "8 to 64 bytes"),
        (("--nonce=abcd",), "8 to 64 bytes"),
        (("--input=nothing",), "expected NAME=VALUE"),
        (("--input=a b=data.csv",), "a name of 1 to 100"),
        (("--input=a=data.csv", "--input=a=data.csv"), "is given twice"),
        (("--env=LD_PRELOAD",), "LD_PRELOAD"),
        (("--env=MISSING",), "not set"),
        (("--ak=dsa",), "invalid choice"),
    ],
)
def test_a_request_that_makes_no_sense_spends_no_number(
    shop: Workshop, options: tuple[str, ...], said: str
) -> None:
    before = len(shop.ledger())
    shop.write("x.private", "")
    ran = shop.run("", *options)
    assert ran.status == 125
    assert said in ran.stderr
    assert len(shop.ledger()) == before


def test_auto_never_falls_back_to_a_simulation(shop: Workshop) -> None:
    if Path("/dev/tpmrm0").exists():
        pytest.skip("this machine has a TPM")
    shop.write("train.py", "")
    command = [word for word in shop.command("") if not word.startswith("--attester")]
    done = subprocess.run(
        command,
        cwd=shop.folder,
        env=shop.attester.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert "--simulated" in done.stderr


def test_an_unenrolled_key_is_said(shop: Workshop, tmp_path: Path) -> None:
    lonely = Workshop(shop.attester._replace(home=tmp_path / "nobody"), shop.folder)
    ran = lonely.run("")
    assert ran.status == 125
    assert "not enrolled" in ran.stderr


def test_a_full_disk_gets_no_card(shop: Workshop) -> None:
    small = shop.folder / "small"
    small.mkdir()
    mount = ["--size", "65536", "--tmpfs", str(small), "--chdir", str(shop.folder)]
    user = ["--unshare-user", "--uid", "1000"]
    prefix = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *user, *mount, "--"]
    shop = Workshop(shop.attester, shop.folder, prefix)
    script = "open('small/model.bin', 'wb').write(bytes(200_000))"
    ran = shop.run(script, "--output=model=small/model.bin")
    assert ran.status == 125, ran.stderr
    assert "no space left" in ran.stderr
    assert not shop.has_card
    assert shop.ledger()[-1]["outcome"] == "failed"


def test_another_key_s_certificate_is_said(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "other" / "data" / "laminator" / "ak"
    folder.mkdir(parents=True)
    (folder / "ak.der").write_bytes(pki.root("another key").der)
    other = Workshop(shop.attester._replace(home=tmp_path / "other"), shop.folder)
    ran = other.run("")
    assert ran.status == 125
    assert "no certificate for this TPM's attestation key" in ran.stderr


@pytest.mark.parametrize(("name", "content"), [("ak.pem", b"no PEM"), ("ak.der", b"no DER")])
def test_a_damaged_certificate_is_said(
    shop: Workshop, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "other" / "data" / "laminator" / "ak"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    ran = Workshop(shop.attester._replace(home=tmp_path / "other"), shop.folder).run("")
    assert ran.status == 125
    assert "certificate" in ran.stderr
    assert "Traceback" not in ran.stderr


# --- on the simulated machine


def _simulated(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    (folder / "train.py").write_text(TRAIN)
    (folder / "data.csv").write_text(ROWS)
    return subprocess.run(
        [*LAMINATOR, "run", *words, *NAMED, "--", PYTHON, "train.py"],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _verify_as_told(folder: Path, stderr: str, **variables: str) -> str:
    """Run the verify command that a run printed; return how it ended and what failed."""
    words = shlex.split(stderr.splitlines()[-1])
    assert words[:2] == ["laminator", "verify"]
    done = subprocess.run(
        [*LAMINATOR, *words[1:]],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    failures = [line for line in done.stdout.splitlines() if "FAIL" in line]
    return "\n".join([f"exit status {done.returncode}", *failures])


@pytest.mark.parametrize("options", [(), ("--ak=rsa", "--nonce", "cd" * 32)], ids=["ecc", "rsa"])
def test_the_printed_command_accepts_the_card(
    machine: Machine, tmp_path: Path, options: tuple[str, ...]
) -> None:
    state = str(tmp_path / "state")
    place = f"--simulated={machine.folder.root}"
    ran = _simulated(tmp_path, place, *options, XDG_STATE_HOME=state)
    assert ran.returncode == 0, ran.stderr
    claims = fitting_card((tmp_path / "train.card").read_bytes()).claims
    assert claims.run.launch.type == "drtm-simulated"
    assert claims.isolation.separation == "namespaces"
    assert _verify_as_told(tmp_path, ran.stderr) == "exit status 0"


def test_a_machine_is_made_on_demand(tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    ran = _simulated(tmp_path, "--simulated", **state)
    assert ran.returncode == 0, ran.stderr
    first, *_ = ran.stderr.splitlines()
    assert "made and started the simulated machine" in first
    assert _verify_as_told(tmp_path, ran.stderr, **state) == "exit status 0"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stopped_driver_leaves_the_machine_usable(
    machine: Machine, tmp_path: Path, number: int, status: int
) -> None:
    (tmp_path / "wait.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    place = f"--simulated={machine.folder.root}"
    with subprocess.Popen(
        [*LAMINATOR, "run", place, "--", PYTHON, "wait.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert not (tmp_path / "wait.card").exists()
    assert "is spent" in said
    ran = _simulated(tmp_path, place, XDG_STATE_HOME=str(tmp_path / "state"))
    assert ran.returncode == 0, ran.stderr


def test_two_runs_at_once_take_turns(machine: Machine, tmp_path: Path) -> None:
    """The second waits for the machine, says so, and gets the next number."""
    (tmp_path / "signals").mkdir()
    script = "import os, time\nprint('up', flush=True)\n"
    script += "while not os.path.exists('signals/go'):\n    time.sleep(0.01)\n"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    runs = []
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(script)
        runs.append(
            subprocess.Popen(
                [
                    *(*LAMINATOR, "run", f"--simulated={machine.folder.root}"),
                    *("--", PYTHON, f"{name}.py"),
                ],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        if name == "first":
            assert runs[0].stdout is not None
            assert runs[0].stdout.readline() == "up\n"
    first, second = runs
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    (tmp_path / "signals" / "go").touch()
    for run in (first, second):
        _, said = run.communicate(timeout=60)
        assert run.returncode == 0, said
    cards = [fitting_card((tmp_path / f"{name}.card").read_bytes()) for name in ("first", "second")]
    assert cards[1].claims.run.number == cards[0].claims.run.number + 1
