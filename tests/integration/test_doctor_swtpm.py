"""The doctor's questions to a TPM implementation, in raw commands."""

from pathlib import Path

from enrolment import laminator
from raw_swtpm import RawSwtpm
from tpm2_tools import tools_for

from laminator.attest.tpm import AttestationTpm
from laminator.doctor.finding import Host
from laminator.doctor.hardware import tpm_findings
from laminator.doctor.raw_tpm import open_tpm
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX


def test_secrets_and_the_counter_are_seen(fresh_swtpm: RawSwtpm, tmp_path: Path) -> None:
    with open_tpm(fresh_swtpm.tcti) as tpm:
        state = tpm.state()
        assert set(state.empty_auths) == {"owner", "endorsement", "lockout", "platform"}
        assert (state.manufacturer, state.in_lockout) == ("IBM", False)
        assert not tpm.has_handle(RUN_COUNTER_INDEX)
    with AttestationTpm(fresh_swtpm.tcti) as attester:
        attester.define_counter(RUN_COUNTER_INDEX)
    with tools_for(fresh_swtpm, tmp_path) as tools:
        for hierarchy in ("owner", "platform"):
            tools.run("tpm2_changeauth", "-c", hierarchy, "secret")
    with open_tpm(fresh_swtpm.tcti) as tpm:
        assert set(tpm.state().empty_auths) == {"endorsement", "lockout"}
        assert tpm.has_handle(RUN_COUNTER_INDEX)


def test_a_disabled_platform_is_not_open(fresh_swtpm: RawSwtpm, tmp_path: Path) -> None:
    with tools_for(fresh_swtpm, tmp_path) as tools:
        tools.run("tpm2_hierarchycontrol", "-C", "p", "phEnable", "clear")
    with open_tpm(fresh_swtpm.tcti) as tpm:
        assert "platform" not in tpm.state().empty_auths


def test_looking_leaves_nothing_behind(raw_swtpm: RawSwtpm) -> None:
    for _ in range(8):
        with open_tpm(raw_swtpm.tcti) as tpm:
            assert "platform" in tpm.state().empty_auths


def test_the_command_looks_into_a_named_tpm(raw_swtpm: RawSwtpm, tmp_path: Path) -> None:
    variables = {"XDG_DATA_HOME": str(tmp_path)}
    ran = laminator(variables, "doctor", "--json", f"--attester=tpm:{raw_swtpm.tcti}")
    found = {item["name"]: item for item in ran.facts["findings"]}
    assert found["device"]["state"] == "present"
    assert found["owner-auth"]["state"] == "warning"
    assert ran.facts["next"] == f"laminator enroll request --attester tpm:{raw_swtpm.tcti}"
    assert {item.name for item in tpm_findings(Host(), raw_swtpm.tcti)} <= set(found)
