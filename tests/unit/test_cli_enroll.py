"""`laminator enroll` where there is no TPM to talk to."""

from pathlib import Path

import pytest
from enrolment import laminator


@pytest.mark.parametrize("words", [["request"], ["respond", "x"], ["install", "x"]])
def test_a_machine_without_a_tpm_is_led_to_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("laminator.cli.enroll._DEVICE", str(tmp_path / "absent"))
    ran = laminator({"XDG_DATA_HOME": str(tmp_path)}, "enroll", *words)
    assert ran.status == 2
    assert "laminator doctor" in ran.stderr or "cannot read" in ran.stderr


def test_the_machines_own_tpm_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "tpmrm0"
    device.touch()
    monkeypatch.setattr("laminator.cli.enroll._DEVICE", str(device))
    ran = laminator({"XDG_DATA_HOME": str(tmp_path)}, "enroll", "request")
    assert ran.status == 2
    assert "the TPM could not" in ran.stderr


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    ran = laminator({}, "enroll", "request")
    assert (ran.status, "laminator[tpm]" in ran.stderr) == (2, True)
