"""The doctor, on machines made of files."""

import contextlib
import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from enrolment import laminator
from hypothesis import given
from hypothesis import strategies as st

from enclave_sim.adversary.forged_manufacturer import DAY, NOW, ca_profile, sign
from laminator.cli import doctor
from laminator.doctor import hardware, raw_tpm
from laminator.doctor.finding import Diagnosis, Finding, Host, State, diagnose
from laminator.doctor.hardware import tee_findings, tpm_findings
from laminator.doctor.isolation import isolation_findings, kernel_findings
from laminator.doctor.raw_tpm import RawTpm, TpmState, open_tpm
from laminator.doctor.software import enrolment_finding, software_findings
from laminator.errors import MachineError
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX
from laminator.run.sandbox import Sandbox


def host(root: Path, **files: str) -> Host:
    """Make a machine with these files; ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root)


def states(findings: tuple[Finding, ...]) -> dict[str, State]:
    return {item.name: item.state for item in findings}


def only(findings: tuple[Finding, ...], name: str) -> Finding:
    (found,) = (item for item in findings if item.name == name)
    return found


# --- TPM


def test_no_tpm_leads_to_the_simulation(tmp_path: Path) -> None:
    (device,) = tpm_findings(Host(tmp_path), None)
    assert (device.state, device.blocks) == ("missing", ("tpm",))
    assert "--simulated" in device.advice


@pytest.mark.parametrize(("version", "words"), [("1", "version 1"), ("2", "without /dev/tpmrm0")])
def test_a_tpm_without_a_resource_manager_is_told(tmp_path: Path, version: str, words: str) -> None:
    machine = host(tmp_path, dev__tpm0="", sys__class__tpm__tpm0__tpm_version_major=f"{version}\n")
    (device,) = tpm_findings(machine, None)
    assert device.state == "missing"
    assert words in device.detail


def test_a_tpm_of_unknown_version_lacks_its_resource_manager(tmp_path: Path) -> None:
    (device,) = tpm_findings(host(tmp_path, dev__tpm0=""), None)
    assert "without /dev/tpmrm0" in device.detail


def test_a_tpm_that_this_user_may_not_open_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = host(tmp_path, dev__tpmrm0="")
    monkeypatch.setattr(os, "access", lambda *_: False)
    (device,) = tpm_findings(machine, None)
    assert device.state == "warning"
    assert "usermod -aG tss" in device.advice


def test_a_tpm_that_does_not_answer_is_told(tmp_path: Path) -> None:
    machine = host(tmp_path, dev__tpmrm0="")
    found = tpm_findings(machine, None)
    assert found[-1].state == "warning"
    assert "too short" in found[-1].detail
    (there,) = tpm_findings(machine, f"device:{tmp_path}/absent")
    assert (there.state, there.blocks) == ("warning", ("tpm",))
    (socket,) = tpm_findings(machine, f"swtpm:path={tmp_path}/absent")
    assert socket.state == "warning"
    assert "No such file" in socket.detail
    for tcti in ("mssim:port=1", "mssim:path=x", "swtpm:host=x", "tabrmd:"):
        (other,) = tpm_findings(machine, tcti)
        assert "only device:" in other.detail


class Script:
    """A TPM that answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    def ask(self, command: bytes) -> bytes:
        self.asked.append(command)
        return self.answers.pop(0)


def reply(body: bytes = b"", code: int = 0) -> bytes:
    size = 10 + len(body)
    return b"\x80\x01" + size.to_bytes(4, "big") + code.to_bytes(4, "big") + body


def told(which: int, value: int) -> bytes:
    return reply(b"\x00" + b"".join(n.to_bytes(4, "big") for n in (6, 1, which, value)))


SESSION = reply(b"\x03\x00\x00\x00" + b"\x00\x10" + bytes(16))
MAKER = told(0x105, int.from_bytes(b"IBM\x00", "big"))


@pytest.mark.parametrize(
    ("permanent", "empty"),
    [
        (0x000, ("owner", "endorsement", "lockout")),
        (0x001, ("endorsement", "lockout")),
        (0x002, ("owner", "lockout")),
        (0x004, ("owner", "endorsement")),
        (0x007, ()),
    ],
)
def test_secrets_that_nobody_set_are_read(permanent: int, empty: tuple[str, ...]) -> None:
    tpm = RawTpm(Script(told(0x200, permanent), told(0x201, 0), MAKER))
    assert tpm.state() == TpmState("IBM", empty, in_lockout=False)


@pytest.mark.parametrize(("code", "empty"), [(0, ("platform",)), (0x9A2, ()), (0x185, ())])
def test_the_platforms_secret_is_tried(code: int, empty: tuple[str, ...]) -> None:
    script = Script(told(0x200, 7), told(0x201, 1), SESSION, reply(code=code), reply(), MAKER)
    assert RawTpm(script).state().empty_auths == empty
    flush = script.asked[4]
    assert flush[6:10] == bytes.fromhex("00000165")
    assert flush[10:] == b"\x03\x00\x00\x00"


def test_a_lockout_is_read() -> None:
    assert RawTpm(Script(told(0x200, 0x207), told(0x201, 0), MAKER)).state().in_lockout


def test_a_refused_command_is_named() -> None:
    with pytest.raises(MachineError, match="answers command 0x17a with 0x101"):
        RawTpm(Script(reply(code=0x101))).state()


@pytest.mark.parametrize("answer", [b"", b"\x80\x01", reply(code=0x101), told(0x999, 0), reply()])
def test_other_answers_are_our_errors_alone(answer: bytes) -> None:
    with pytest.raises(MachineError) as caught:
        RawTpm(Script(answer)).state()
    assert caught.value.code == "doctor.tpm"


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_any_answers_are_a_state_or_our_error(answers: list[bytes]) -> None:
    with contextlib.suppress(MachineError):
        RawTpm(Script(*answers * 6)).state()


def test_empty_secrets_come_with_the_command_that_sets_one() -> None:
    state = TpmState("X", ("owner", "lockout", "endorsement", "platform"), in_lockout=True)
    found = hardware._auths(state)
    assert [item.state for item in found] == ["warning"] * 5
    assert only(found, "owner-auth").advice.startswith("tpm2_changeauth -c owner")
    assert only(found, "lockout-auth").advice.startswith("tpm2_changeauth -c lockout")
    (good,) = hardware._auths(TpmState("X", (), in_lockout=False))
    assert good.state == "present"


def test_a_device_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tpm"
    path.write_bytes(b"")
    monkeypatch.setattr(os, "read", lambda *_: reply(b"\x00" * 20))
    with open_tpm(f"device:{path}") as tpm:
        assert not tpm.has_handle(5)
    assert path.read_bytes()[6:10] == bytes.fromhex("0000017a")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(MachineError, match="does not answer"), open_tpm(f"device:{path}") as tpm:
        tpm.has_handle(5)
    assert raw_tpm.DEVICE == "/dev/tpmrm0"


def test_the_machines_own_tpm_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = host(tmp_path, dev__tpmrm0="")
    answers = [told(0x200, 7), told(0x201, 0), MAKER, reply(b"\x00" * 9)]
    monkeypatch.setattr(os, "read", lambda *_: answers.pop(0))
    found = states(tpm_findings(machine, None))
    assert found == {
        "device": "present",
        "manufacturer": "present",
        "auths": "present",
        "run-counter": "missing",
    }


def test_a_run_counter_is_seen() -> None:
    index = RUN_COUNTER_INDEX.to_bytes(4, "big")
    script = Script(reply(b"\x00" + bytes(4) + b"\x00\x00\x00\x01" + index))
    assert hardware._counter(RawTpm(script)).state == "present"


# --- trusted execution environments

TEES = {
    "dev__sgx_enclave": "sgx",
    "dev__sgx__enclave": "sgx",
    "dev__sgx_provision": "sgx-provision",
    "dev__attestation__user_report_data": "gramine",
    "dev__tdx_guest": "tdx",
    "dev__tdx-guest": "tdx",
    "dev__sev-guest": "snp",
    "dev__nsm": "nitro",
    "dev__nitro_enclaves": "nitro-parent",
}


@pytest.mark.parametrize("file", TEES)
def test_an_environment_is_found_by_its_device(tmp_path: Path, file: str) -> None:
    found = states(tee_findings(host(tmp_path, **{file: ""})))
    assert {name for name, state in found.items() if state == "present"} == {TEES[file]}


def test_a_device_that_this_user_may_not_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sys/kernel/config/tsm/report").mkdir(parents=True)
    machine = host(tmp_path, **{"dev__sev-guest": ""})
    assert states(tee_findings(machine))["tsm"] == "present"
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = tee_findings(machine)
    assert only(found, "snp").state == "warning"
    assert only(found, "tsm").state == "warning"


# --- isolation


def kernel(root: Path, setting: str, value: str) -> Host:
    return host(root, **{f"proc__sys__{setting.replace('.', '__')}": f"{value}\n"})


@pytest.mark.parametrize(
    ("setting", "value", "way_out"),
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "/etc/apparmor.d/bwrap"),
        ("kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_a_kernel_that_restricts_namespaces_comes_with_the_way_out(
    tmp_path: Path, setting: str, value: str, way_out: str
) -> None:
    (found,) = kernel_findings(kernel(tmp_path, setting, value))
    assert found.state == "warning"
    assert setting in found.detail
    assert way_out in found.advice


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
        ("user.max_user_namespaces", "96365"),
        ("kernel.other", "0"),
    ],
)
def test_other_settings_restrict_nothing(tmp_path: Path, setting: str, value: str) -> None:
    (found,) = kernel_findings(kernel(tmp_path, setting, value))
    assert found.state == "present"


def test_a_profile_for_bubblewrap_is_the_way_out(tmp_path: Path) -> None:
    machine = kernel(tmp_path, "kernel.apparmor_restrict_unprivileged_userns", "1")
    (found,) = kernel_findings(host(machine.root, etc__apparmor__d=""))
    assert found.state == "warning"
    (tmp_path / "etc/apparmor.d").mkdir()
    (tmp_path / "etc/apparmor.d/bwrap").touch()
    (found,) = kernel_findings(machine)
    assert found.state == "present"


@pytest.mark.parametrize(
    ("separation", "state"), [("namespaces", "present"), ("uid", "warning"), ("none", "missing")]
)
def test_a_separation_is_told(tmp_path: Path, separation: str, state: str) -> None:
    found = isolation_findings(Host(tmp_path), Sandbox(separation, ("bwrap",), "namespaces: no"))
    assert found[0].state == state
    assert ("namespaces: no" in found[0].detail) == (state != "present")


def test_the_separation_is_really_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[tuple[str, ...]] = []

    def probe(bwrap: tuple[str, ...]) -> Sandbox:
        tried.append(bwrap)
        return Sandbox("none", bwrap, "tried")

    monkeypatch.setattr("laminator.doctor.isolation.probe", probe)
    assert "tried" in isolation_findings(Host(tmp_path))[0].detail
    assert tried == [("bwrap",)]


# --- software and the enrolled key


def test_missing_software_comes_with_its_command(tmp_path: Path) -> None:
    found = software_findings(lambda name: name == "rich", str(tmp_path))
    assert states(found) == {
        "extra-tpm": "missing",
        "extra-ml": "missing",
        "extra-onnx": "missing",
        "extra-timestamp": "missing",
        "extra-progress": "present",
        "bwrap": "missing",
        "swtpm": "missing",
        "openssl": "missing",
    }
    assert only(found, "extra-tpm").advice == "pip install 'laminator[tpm]'"
    assert only(found, "extra-tpm").blocks == ("tpm", "simulated")
    assert only(found, "swtpm").advice == "sudo apt install swtpm"
    assert only(found, "bwrap").blocks == ()


def test_modules_that_break_when_looked_for_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ValueError

    monkeypatch.setattr("importlib.util.find_spec", broken)
    assert states(software_findings())["extra-tpm"] == "missing"


def test_programs_are_found_on_the_path(tmp_path: Path) -> None:
    for name in ("bwrap", "swtpm", "openssl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    found = software_findings(lambda _: True, str(tmp_path))
    assert set(states(found).values()) == {"present"}


def certificate(end: dt.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    profile = dataclasses.replace(ca_profile(key.public_key(), "x"), not_after=end)
    return sign(profile, "x", key).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("end", "state", "blocks"),
    [
        (NOW + 100 * DAY, "present", ()),
        (NOW + 29 * DAY, "warning", ()),
        (NOW - DAY, "warning", ("tpm",)),
    ],
)
def test_an_enrolled_key_has_an_end(
    tmp_path: Path, end: dt.datetime, state: str, blocks: tuple[str, ...]
) -> None:
    (tmp_path / "ecdsa-p256.pem").write_bytes(certificate(end))
    (tmp_path / "counter.auth").write_text("00")
    found = enrolment_finding(tmp_path, NOW)
    assert (found.state, found.blocks) == (state, blocks)
    assert str(end.date()) in found.detail


def test_no_key_is_enrolled(tmp_path: Path) -> None:
    assert enrolment_finding(tmp_path / "absent", NOW).state == "missing"
    (tmp_path / "x.pem").write_text("no certificate")
    (tmp_path / "y.der").write_bytes(b"\x30\x00")
    found = enrolment_finding(tmp_path, NOW)
    assert (found.state, found.advice) == ("missing", "laminator enroll request")


def test_labels_are_counted(tmp_path: Path) -> None:
    (tmp_path / "ecdsa-p256.pem").write_bytes(certificate(NOW + 100 * DAY))
    (tmp_path / "labels" / "acme").mkdir(parents=True)
    assert "keys of 1 labels" in enrolment_finding(tmp_path, NOW).detail


# --- what it leads to

DEVICE = Finding("tpm", "device", "present", "")
NO_DEVICE = Finding("tpm", "device", "missing", "", "enable it", ("tpm",))
NO_KEY = Finding("enrolment", "certificate", "missing", "", "laminator enroll request", ("tpm",))
NO_EXTRA = Finding("software", "extra-tpm", "missing", "", "pip install", ("tpm", "simulated"))


@pytest.mark.parametrize(
    ("findings", "ready", "following"),
    [
        ((DEVICE,), ("tpm", "simulated"), "laminator run -- python train.py"),
        ((DEVICE, NO_KEY), ("simulated",), "laminator enroll request"),
        ((NO_DEVICE, NO_KEY), ("simulated",), "laminator run --simulated -- python train.py"),
        ((NO_DEVICE, NO_KEY, NO_EXTRA), (), "pip install"),
        ((DEVICE, NO_EXTRA, NO_KEY), (), "pip install"),
    ],
)
def test_findings_lead_to_the_next_command(
    findings: tuple[Finding, ...], ready: tuple[str, ...], following: str
) -> None:
    diagnosis = diagnose(findings)
    assert (diagnosis.ready, diagnosis.following) == (ready, following)
    assert diagnosis.findings == findings


def test_every_blocker_says_what_to_do(tmp_path: Path) -> None:
    found = (
        *tpm_findings(Host(tmp_path), None),
        *software_findings(lambda _: False, str(tmp_path)),
        enrolment_finding(tmp_path, NOW),
    )
    assert all(item.advice for item in found if item.blocks)


# --- the command


def test_the_command_prints_and_its_status_says_if_cards_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diagnosis = diagnose((NO_DEVICE, NO_EXTRA, NO_EXTRA._replace(name="extra-ml")))
    monkeypatch.setattr(doctor, "_look", lambda _: diagnosis)
    ran = laminator({}, "doctor")
    assert ran.status == 1
    assert "next: pip install" in ran.stdout
    assert "no machine yet" in ran.stdout
    assert ran.stdout.count("software:") == 1
    found = Finding("tpm", "x", "present", "\x1b[2Jevil")
    monkeypatch.setattr(doctor, "_look", lambda _: Diagnosis((found,), ("tpm",), "y"))
    ran = laminator({}, "doctor")
    assert ran.status == 0
    assert "\x1b" not in ran.stdout


def test_the_command_looks_at_this_machine(tmp_path: Path) -> None:
    variables = {"XDG_DATA_HOME": str(tmp_path)}
    ran = laminator(variables, "doctor", "--json")
    facts = ran.facts
    assert {item["area"] for item in facts["findings"]} == {
        "tpm",
        "tee",
        "isolation",
        "software",
        "enrolment",
    }
    assert ran.status == (0 if facts["ready"] else 1)
    assert facts["next"]
    for attester in ("nonsense", "tpm:", "tmp:device:x"):
        assert laminator(variables, "doctor", f"--attester={attester}").status == 2


_WITHOUT = """\
import sys
sys.modules.update(dict.fromkeys(("tpm2_pytss", "torch", "numpy", "rich"), None))
from laminator.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", [["doctor", "--json"], ["authority", "list"]])
def test_neither_the_doctor_nor_an_authority_needs_the_tpms_software(
    tmp_path: Path, words: list[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *words],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    if words[0] == "doctor":
        assert "extra-tpm" in {
            item["name"]
            for item in json.loads(ran.stdout)["findings"]
            if item["state"] == "missing"
        }
    else:
        assert "laminator authority init" in ran.stderr


def test_enrolment_without_the_tpms_software_names_the_extra(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT, "enroll", "request"],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install 'laminator[tpm]'" in ran.stderr
