"""The simulated machine with a real software TPM: its papers, its power, its launches."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from launching import Said, launch_text, launching, request_descriptor

from enclave_sim import wire
from enclave_sim.client import default_folder, ensure
from enclave_sim.folder import open_folder, read_launches
from enclave_sim.machine import (
    Machine,
    _launch_message,
    _wait_for_end,
    create,
    is_running,
    start,
    stop,
)
from laminator.appraise.policy import load_policy
from laminator.attest.tpm import AttestationTpm
from laminator.digest import parse_digest
from laminator.enroll.key_templates import AK_RSASSA_2048, EK_TEMPLATES
from laminator.errors import MachineError, UsageError
from laminator.evidence.ak_extension import AK_EXTENSION_OID, parse_ak_extension
from laminator.evidence.tpm_key import public_key
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    PLATFORMCREATE,
    RUN_COUNTER_INDEX,
    Attest,
    name,
    parse_attest,
    parse_nv_public,
    parse_public,
)
from laminator.measure.attester_code import launch_digest, own_installation
from laminator.run import enrolment
from laminator.run.enrolment import enrol

PCR17 = """
from laminator.attest.tpm import AttestationTpm
with AttestationTpm(setup.tpm, setup.auths) as tpm:
    pcr = tpm.read_pcr(17).hex()
print(json.dumps({"type": setup.launch.type, "digest": str(setup.launch.digest), "pcr": pcr}))
"""
ENROL = """
from laminator.attest.tpm import AttestationTpm
from laminator.run.enrolment import enrol
with AttestationTpm(setup.tpm, setup.auths) as tpm:
    print(json.dumps([der.hex() for der in enrol(tpm, setup.enrol_fd, "ecc")]))
"""
WAIT_FOR_SIGNAL = """
import signal
def stop(number, frame):
    os.write(1, b"%d\\n" % number)
    os._exit(100 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
print(json.dumps("ready"), flush=True)
signal.pause()
"""
NO_BUBBLEWRAP = """
from laminator import programs
found = programs.find_program
programs.find_program = lambda name: None if name == "bwrap" else found(name)
"""
SLOW_TO_CATCH = (
    """
import signal, time
print(json.dumps("started"), flush=True)
time.sleep(0.5)
"""
    + WAIT_FOR_SIGNAL
)
SLEEP = """
import time
print(json.dumps("ready"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "machine")
    return tmp_path / "machine"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield default_folder()
    if default_folder().exists():
        stop(default_folder())


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "enclave_sim", *map(str, arguments)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def _quote(machine: Machine) -> Attest:
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
        return parse_attest(tpm.quote((23,), b"").attest)


def _wait_for_users(machine: Machine, number: int) -> None:
    deadline = time.monotonic() + 10
    while machine.status()["users"] != number and time.monotonic() < deadline:
        time.sleep(0.01)
    assert machine.status()["users"] == number


# --- manufacture


def test_ek_certificates_in_nv_are_those_of_the_endorsement_keys(machine: Machine) -> None:
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
        keys = tpm.endorsement_keys()
    assert [key.template for key in keys] == list(EK_TEMPLATES)
    for key in keys:
        certificate = x509.load_der_x509_certificate(key.certificate)
        assert certificate.public_key() == public_key(parse_public(key.public))


def test_the_run_counter_is_the_platforms(machine: Machine) -> None:
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
        public = parse_nv_public(tpm.counter_public(RUN_COUNTER_INDEX))
    assert public.attributes == COUNTER_ATTRIBUTES | PLATFORMCREATE


def test_the_folder_is_closed_to_others(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(MachineError) as refused:
        start(folder)
    assert refused.value.code == "machine.mode"


def test_nothing_is_made_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(UsageError) as refused:
        create(tmp_path)
    assert refused.value.code == "machine.exists"


def test_a_folder_without_a_machine_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        start(tmp_path)
    assert refused.value.code == "machine.missing"


def test_swtpm_has_no_socket_in_the_file_system(machine: Machine) -> None:
    sockets = [path for path in machine.folder.root.rglob("*") if path.is_socket()]
    assert [path.name for path in sockets] == [wire.SOCKET_NAME]


# --- power


def test_a_reset_and_a_power_cycle_count(machine: Machine) -> None:
    first = _quote(machine).clock_info
    machine.reset()
    second = _quote(machine).clock_info
    machine.power_cycle()
    third = _quote(machine).clock_info
    counts = [info.reset_count for info in (first, second, third)]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    assert first.clock < second.clock < third.clock
    assert all(info.safe for info in (first, second, third))


def test_a_crash_leaves_a_machine_that_starts_with_a_safe_clock(folder: Path) -> None:
    with start(folder, keep=True) as machine:
        before = _quote(machine).clock_info
        os.kill(machine.status()["pid"], signal.SIGKILL)
    (folder / "hidden" / "left").mkdir()
    with start(folder) as machine:
        after = _quote(machine).clock_info
    assert after.safe
    assert after.clock > before.clock
    assert after.reset_count > before.reset_count
    assert list((folder / "hidden").iterdir()) == []


def test_two_starters_share_one_owner(folder: Path) -> None:
    pids: list[int] = []
    both = threading.Barrier(2)

    def use() -> None:
        with start(folder) as machine:
            pids.append(machine.status()["pid"])
            both.wait()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 1
    _wait_for_end(open_folder(folder))


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30) / "machine"
    create(place)
    with start(place) as machine:
        assert machine.status()["users"] == 1


def test_commands(tmp_path: Path) -> None:
    place = tmp_path / "machine"
    assert json.loads(_run("create", place, "--json").stdout)["running"] is False
    started = json.loads(_run("start", place, "--json").stdout)
    assert started["running"] is True
    assert started["transient"] is False
    assert json.loads(_run("reset", place, "--json").stdout)["pid"] == started["pid"]
    assert "running" in _run("status", place).stdout
    assert json.loads(_run("stop", place, "--json").stdout)["running"] is False
    again = _run("create", place)
    assert again.returncode == 2
    assert "not empty" in again.stderr


# --- launch


@pytest.fixture(scope="module")
def said(machine: Machine) -> Said:
    return launch_text(machine, PCR17)


def test_a_launch_is_in_pcr_17_while_its_attester_lives(machine: Machine, said: Said) -> None:
    assert said.status == 0
    assert said.answer["type"] == "drtm-simulated"
    digest = parse_digest(said.answer["digest"])
    assert digest == launch_digest(own_installation(), launching(PCR17).entry)
    assert said.answer["pcr"] == hashlib.sha256(bytes(32) + digest.value).hexdigest()
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
        assert tpm.read_pcr(17).hex() != said.answer["pcr"]


def test_a_launch_becomes_a_reference_value_of_the_machines_policy(
    machine: Machine, said: Said
) -> None:
    digest = parse_digest(said.answer["digest"])
    policy = load_policy(str(machine.policy_path))
    assert digest in policy.references.launch
    assert policy.roots == ("simulated",)
    assert policy.coverage == "launch"
    assert set(read_launches(machine.folder)) == policy.references.launch


def test_the_attester_gets_request_streams_and_little_else(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("TMPDIR", "/nowhere")
    text = """
request = os.fdopen(int(os.environ["LAMINATOR_REQUEST_FD"]), "rb").read().decode()
known = {0, 1, 2, int(os.environ["LAMINATOR_REQUEST_FD"]), setup.tpm, setup.enrol_fd}
found = {int(name) for name in os.listdir("/proc/self/fd")}
print(json.dumps({"request": request, "others": len(found - known), "env": sorted(os.environ)}))
raise SystemExit(42)
"""
    said = launch_text(machine, text, b"please")
    assert said.status == 42
    assert said.answer["request"] == "please"
    assert said.answer["others"] == 1  # the listing's own
    assert {"LD_PRELOAD", "PYTHONPATH", "TMPDIR"}.isdisjoint(said.answer["env"])


def test_an_attestation_key_is_certified_once(machine: Machine) -> None:
    chain, again = (launch_text(machine, ENROL).answer for _ in range(2))
    assert again == chain
    certificate, authority = (x509.load_der_x509_certificate(bytes.fromhex(d)) for d in chain)
    certificate.verify_directly_issued_by(authority)
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths) as tpm:
        assert public_key(parse_public(tpm.ak_public)) == certificate.public_key()
        counter = parse_nv_public(tpm.counter_public(RUN_COUNTER_INDEX))
    found = next(e for e in certificate.extensions if e.oid.dotted_string == AK_EXTENSION_OID)
    assert isinstance(found.value, x509.UnrecognizedExtension)
    extension = parse_ak_extension(found.value.value)
    assert extension.anchor == "simulated"
    assert extension.counter_name == name(counter)


def test_an_rsa_key_is_certified_by_the_rsa_authority(machine: Machine) -> None:
    with machine.seat() as seat, AttestationTpm(seat.tpm, seat.auths, AK_RSASSA_2048) as tpm:
        assert seat.enrol_fd is not None
        chain = enrol(tpm, seat.enrol_fd, "rsa")
    assert "RSA" in x509.load_der_x509_certificate(chain[1]).subject.rfc4514_string()


def test_an_unknown_key_is_refused_in_words(machine: Machine) -> None:
    text = """
import socket
from laminator.errors import MachineError
from laminator.run import enrolment
with socket.socket(fileno=setup.enrol_fd) as owner:
    try:
        enrolment._ask(owner, {"op": "request", "ak": "00", "ek": "", "ek_certificates": []})
    except MachineError as error:
        print(json.dumps(error.code))
"""
    assert launch_text(machine, text).answer == "enrol.refused"


@pytest.mark.parametrize(
    "answer",
    [
        {"op": "dance"},
        {"op": "request", "ak": 1},
        {"op": "request", "ak": "zz"},
        {"op": "response", "secret": "00"},
    ],
)
def test_a_malformed_request_is_answered(machine: Machine, answer: dict[str, Any]) -> None:
    with machine.seat() as seat:
        assert seat.enrol_fd is not None
        assert isinstance(seat.tpm, int)
        os.close(seat.tpm)
        with socket.socket(fileno=seat.enrol_fd) as owner, pytest.raises(MachineError) as refused:
            enrolment._ask(owner, answer)
    assert refused.value.code == "enrol.refused"


def test_without_namespaces_the_launch_is_typed_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_BUBBLEWRAP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with start(folder) as machine:
        said = launch_text(machine, PCR17)
    assert said.status == 0
    assert said.answer["type"] == "none"
    assert said.answer["digest"] == "None"


def test_objects_that_an_attester_leaves_are_flushed(machine: Machine) -> None:
    text = """
from laminator.attest.tpm import AttestationTpm
from laminator.enroll.key_templates import AK_ECDSA_P256
tpm = AttestationTpm(setup.tpm, setup.auths)
for _ in range(3):
    tpm._create_primary(AK_ECDSA_P256.public)
os._exit(0)
"""
    assert launch_text(machine, text).status == 0
    _quote(machine)


def _started(machine: Machine, text: str) -> tuple[Any, threading.Thread, list[int]]:
    """Launch `text` from another thread; return its output and, when it ends, its status."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    statuses: list[int] = []

    def launch() -> None:
        with os.fdopen(writer, "wb"), request_descriptor(b"") as request:
            statuses.append(machine.launch(request, (0, writer, 2), launching(text)))

    thread = threading.Thread(target=launch)
    thread.start()
    return os.fdopen(reader, "r"), thread, statuses


def test_two_launches_take_turns(machine: Machine) -> None:
    waited: list[bool] = []
    text = 'import time; print(json.dumps("ready"), flush=True); time.sleep(0.5)'
    output, thread, statuses = _started(machine, text)
    with output:
        assert output.readline() == '"ready"\n'
        with request_descriptor(b"") as request:
            status = machine.launch(
                request, (0, 1, 2), launching("pass"), lambda: waited.append(True)
            )
        thread.join()
    assert waited == [True]
    assert [status, *statuses] == [0, 0]


def test_a_machine_at_work_is_not_reset(machine: Machine) -> None:
    output, thread, _ = _started(machine, 'print(json.dumps("ready"), flush=True); input()')
    with output:
        assert output.readline() == '"ready"\n'
        with pytest.raises(MachineError) as refused:
            machine.reset()
        thread.join()
    assert refused.value.code == "machine.busy"


LAUNCHER = """
import sys
from pathlib import Path
from enclave_sim.machine import start
from launching import launching, request_descriptor
with start(Path(sys.argv[1])) as machine, request_descriptor(b"") as request:
    raise SystemExit(machine.launch(request, what=launching(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(machine: Machine, number: signal.Signals) -> None:
    support = str(Path(__file__).parents[1] / "support")
    words = [sys.executable, "-c", LAUNCHER, str(machine.folder.root), WAIT_FOR_SIGNAL]
    environment = {**os.environ, "PYTHONPATH": support}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == '"ready"\n'
        launcher.send_signal(number)
        assert launcher.stdout.readline() == f"{int(number)}\n"
    assert launcher.returncode == 100 + number


def test_hanging_up_ends_the_attester(machine: Machine) -> None:
    support = str(Path(__file__).parents[1] / "support")
    words = [sys.executable, "-c", LAUNCHER, str(machine.folder.root), SLEEP]
    environment = {**os.environ, "PYTHONPATH": support}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == '"ready"\n'
        launcher.kill()
        assert launcher.stdout.read() == ""  # the attester held the other end
    _quote(machine)


def test_an_attester_does_not_outlive_its_owner(folder: Path) -> None:
    support = str(Path(__file__).parents[1] / "support")
    words = [sys.executable, "-c", LAUNCHER, str(folder), SLEEP]
    environment = {**os.environ, "PYTHONPATH": support}
    with start(folder, keep=True) as machine:
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        ) as launcher:
            assert launcher.stdout is not None
            assert launcher.stdout.readline() == '"ready"\n'
            os.kill(machine.status()["pid"], signal.SIGKILL)
            assert launcher.stdout.read() == ""
        assert launcher.returncode != 0
    assert not is_running(open_folder(folder))


def test_stopping_ends_a_running_attester(folder: Path) -> None:
    with start(folder, keep=True) as machine:
        output, thread, statuses = _started(machine, SLEEP)
        with output:
            assert output.readline() == '"ready"\n'
            stop(folder)
            thread.join()
    assert statuses == [128 + signal.SIGTERM]
    assert not is_running(open_folder(folder))


# --- on demand


def test_a_machine_is_made_on_demand_and_ends_with_its_last_user(
    state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ensure(None) as machine:
        assert machine.folder.root == state.resolve()
        with ensure(None):
            pass
        _wait_for_users(machine, 1)
    assert not is_running(open_folder(state))
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"laminator: made and started the simulated machine in {state}"]


def test_a_machine_that_somebody_started_stays(folder: Path) -> None:
    with start(folder, keep=True):
        pass
    with ensure(folder):
        pass
    assert is_running(open_folder(folder))
    stop(folder)


def test_two_at_once_make_one_machine(state: Path) -> None:
    serials: set[str] = set()
    both = threading.Barrier(2)

    def use() -> None:
        both.wait()
        with ensure(None) as machine:
            serials.add((machine.folder.root / "machine.json").read_text())
            both.wait()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(serials) == 1
    assert [path.name for path in state.parent.iterdir()] == ["machine"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_early_signal_waits_until_it_can_be_caught(machine: Machine, number: int) -> None:
    with wire.connect(machine.folder) as connection:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader) as output, request_descriptor(b"") as request:
            message = _launch_message(launching(SLOW_TO_CATCH))
            wire.send(connection, message, (request, 0, writer, 2))
            os.close(writer)
            wire.send(connection, {"op": "signal", "signal": number})
            assert output.read() == f'"started"\n"ready"\n{number}\n'
        while (packet := wire.receive(connection)) and "ended" not in packet.message:
            pass
    assert packet is not None
    assert packet.message["ended"] == 100 + number


def test_a_dead_tpm_leaves_no_traceback(folder: Path) -> None:
    with start(folder) as machine, contextlib.suppress(MachineError):
        owner = machine.status()["pid"]
        (tpm,) = Path(f"/proc/{owner}/task/{owner}/children").read_text().split()
        os.kill(int(tpm), signal.SIGKILL)
        machine.reset()
    assert not is_running(open_folder(folder))
    log = open_folder(folder).log.read_text()
    assert "does not answer" in log
    assert "Traceback" not in log


def test_the_owner_survives_strangers_on_its_socket(machine: Machine) -> None:
    for packet in (b"no JSON", b"[]", b'{"op": "dance"}', b'{"op": "launch"}', b'{"op": 1}'):
        with wire.connect(machine.folder) as connection:
            connection.send(packet)
            connection.settimeout(5)
            connection.recv(1000)
    _wait_for_users(machine, 1)
