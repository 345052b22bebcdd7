"""Time-stamps from end to end: a run's card, plain openssl, a full disk, a sudden death."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cddl import fitting_card
from timestamp_server import PLAN, authority, golden_card, put_card

from enclave_sim.machine import Machine
from laminator.card import parse_card
from laminator.endorsements import endorsements_of
from laminator.programs import find_program

LAMINATOR = [sys.executable, "-m", "laminator"]
OTHER_AUTHORITY = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = Another test authority
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = signer.pem
signer_key = signer.key
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
signer_digest = sha256
"""
# Dies at one step of replacing a file; the arguments are the step and the command's words.
DYING = """
import os, pathlib, signal, sys
from laminator.cli.main import main
step = sys.argv[1]
def dying(function, *, after):
    def call(*arguments):
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return call
match step:
    case "before-mode": os.fchmod = dying(os.fchmod, after=False)
    case "before-sync": os.fsync = dying(os.fsync, after=False)
    case "after-sync": os.fsync = dying(os.fsync, after=True)
    case "before-replace": pathlib.Path.replace = dying(pathlib.Path.replace, after=False)
    case "after-replace": pathlib.Path.replace = dying(pathlib.Path.replace, after=True)
sys.exit(main(sys.argv[2:]))
"""


def _run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, check=False, text=True, timeout=120
    )


def _done(*words: str | Path, folder: Path) -> str:
    ended = _run(*words, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _openssl(*words: str, folder: Path) -> str:
    return _done(find_program("openssl") or "openssl", *words, folder=folder)


def _tokens(card: Path) -> tuple[bytes, ...]:
    return endorsements_of(parse_card(card.read_bytes())).timestamps


def test_a_stamped_card_of_a_run_is_judged_as_of_its_stamp(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text("print('done')\n")
    where = f"--simulated={machine.folder.root}"
    _done(*LAMINATOR, "run", where, "--", sys.executable, "work.py", folder=tmp_path)
    card = tmp_path / "work.card"
    before = parse_card(card.read_bytes()).id
    _done(*LAMINATOR, "timestamp", "work.card", where, folder=tmp_path)
    assert parse_card(card.read_bytes()).id == before
    assert fitting_card(card.read_bytes())
    judge: list[str | Path] = [
        "verify",
        "work.card",
        "--trust",
        machine.trust_dir,
        "--policy",
        machine.policy_path,
    ]
    result = _judged(*judge, folder=tmp_path)
    assert result["verdict"] == "accepted"
    assert result["as-of"]["then"] == "accepted"
    verdicts = {each["id"]: each["verdict"] for each in result["checks"]}
    assert verdicts["time.token"] == "pass"


def _judged(*words: str | Path, folder: Path) -> Any:
    (result,) = json.loads(_done(*LAMINATOR, *words, "--json", folder=folder))["results"]
    return result


def _another_authority(folder: Path) -> None:
    """Make an authority with openssl alone: root.pem, signer.pem and their keys."""
    (folder / "tsa.cnf").write_text(OTHER_AUTHORITY)
    (folder / "serial").write_text("01\n")
    ec = ("-newkey", "rsa:3072", "-nodes", "-config", "tsa.cnf")
    _openssl("req", "-x509", *ec, "-extensions", "root", "-keyout", "root.key", "-out", "root.pem",
             "-days", "30", folder=folder)  # fmt: skip
    _openssl("req", *ec, "-keyout", "signer.key", "-out", "signer.csr", folder=folder)
    _openssl("x509", "-req", "-in", "signer.csr", "-CA", "root.pem", "-CAkey", "root.key",
             "-CAcreateserial", "-extfile", "tsa.cnf", "-extensions", "signer", "-days", "20",
             "-out", "signer.pem", folder=folder)  # fmt: skip


def test_a_card_by_hand_with_openssl_alone(tmp_path: Path) -> None:
    put_card(tmp_path)
    _another_authority(tmp_path)
    _done(*LAMINATOR, "timestamp", "request", "x.card", "--out", "q.tsq", folder=tmp_path)
    _openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-out", "r.tsr",
             folder=tmp_path)  # fmt: skip
    attach = ("attach", "x.card", "r.tsr", "--request", "q.tsq")
    _done(*LAMINATOR, "timestamp", *attach, folder=tmp_path)
    (token,) = _tokens(tmp_path / "x.card")
    (tmp_path / "token.tsr").write_bytes(token)
    verified = _openssl("ts", "-verify", "-queryfile", "q.tsq", "-in", "token.tsr", "-CAfile",
                        "root.pem", folder=tmp_path)  # fmt: skip
    assert verified == "Verification: OK\n"


def test_a_plan_by_hand_with_openssl_alone(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    _another_authority(tmp_path)
    _openssl("ts", "-query", "-data", "plan.toml", "-sha512", "-cert", "-out", "q.tsq",
             folder=tmp_path)  # fmt: skip
    _openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-out", "r.tsr",
             folder=tmp_path)  # fmt: skip
    _done(*LAMINATOR, "timestamp", "attach", "plan.toml", "r.tsr", "--request", "q.tsq",
          folder=tmp_path)  # fmt: skip
    verified = _openssl("ts", "-verify", "-data", "plan.toml", "-in", "plan.tsr", "-CAfile",
                        "root.pem", folder=tmp_path)  # fmt: skip
    assert verified == "Verification: OK\n"


def test_the_machine_answers_a_request_that_travels(machine: Machine, tmp_path: Path) -> None:
    put_card(tmp_path)
    simulated = [sys.executable, "-m", "enclave_sim", "timestamp", str(machine.folder.root)]
    _done(*LAMINATOR, "timestamp", "request", "x.card", "--out", "q.tsq", folder=tmp_path)
    answered = _done(*simulated, "--in", "q.tsq", "--out", "r.tsr", "--json", folder=tmp_path)
    assert json.loads(answered)["response"] == "r.tsr"
    trust = ("--trust", str(machine.trust_dir))
    _done(*LAMINATOR, "timestamp", "attach", "x.card", "r.tsr", *trust, folder=tmp_path)
    assert _tokens(tmp_path / "x.card") == ((tmp_path / "r.tsr").read_bytes(),)
    ended = _run(*simulated, "--in", "absent.tsq", "--out", "s.tsr", folder=tmp_path)
    assert (ended.returncode, (tmp_path / "s.tsr").exists()) == (2, False)
    assert "cannot read 'absent.tsq'" in ended.stderr


def _response(folder: Path) -> None:
    """Put a card, and a response that fits it, into `folder`."""
    put_card(folder)
    _done(*LAMINATOR, "timestamp", "request", "x.card", "--out", "q.tsq", folder=folder)
    (folder / "r.tsr").write_bytes(authority().reply((folder / "q.tsq").read_bytes()))


def _attach_in(folder: Path, *mount: str, before: str = ":") -> str:
    """Attach r.tsr to small/x.card where `small` is mounted so; return what went wrong.

    Asserts that the card is as it was, and nothing beside it but a filler.
    """
    script = f"{before}; {sys.executable} -m laminator timestamp attach small/x.card r.tsr; "
    script += "echo $?; cmp x.card small/x.card && ls -A small"
    place = [*mount, str(folder / "small"), "--chdir", str(folder)]
    bwrap = [find_program("bwrap") or "bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    ended = _run(*bwrap, "--unshare-user", *place, "--", "sh", "-c", script, folder=folder)
    status, *names = ended.stdout.split()
    assert (status, set(names) - {"filler"}) == ("2", {"x.card"}), ended.stderr
    return ended.stderr


def test_a_full_disk_leaves_the_card(tmp_path: Path) -> None:
    _response(tmp_path)
    (tmp_path / "small").mkdir()
    fill = "cat x.card > small/x.card; head -c 20000 /dev/zero > small/filler"
    said = _attach_in(tmp_path, "--size", "16384", "--tmpfs", before=fill)
    assert "small/x.card': no space left on device" in said


def test_a_read_only_disk_leaves_the_card(tmp_path: Path) -> None:
    _response(tmp_path)
    (tmp_path / "small").mkdir()
    put_card(tmp_path / "small")
    said = _attach_in(tmp_path, "--ro-bind", str(tmp_path / "small"))
    assert "small/x.card': read-only file system" in said


STEPS = {
    "before-mode": False,
    "before-sync": False,
    "after-sync": False,
    "before-replace": False,
    "after-replace": True,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_sudden_death_leaves_the_old_card_or_the_new(tmp_path: Path, step: str) -> None:
    _response(tmp_path)
    words = ("timestamp", "attach", "x.card", "r.tsr")
    ended = _run(sys.executable, "-c", DYING, step, *words, folder=tmp_path)
    assert ended.returncode == -signal.SIGKILL
    found = parse_card((tmp_path / "x.card").read_bytes())
    assert found._replace(endorsements=()) == golden_card()
    assert len(found.endorsements) == STEPS[step]
    again = _run(*LAMINATOR, *words, folder=tmp_path)
    assert again.returncode == (2 if STEPS[step] else 0)
    assert len(_tokens(tmp_path / "x.card")) == 1
