"""Failure records that a TPM signs, as the verifier sees them."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from raw_swtpm import RawSwtpm

from enclave_sim.adversary import lying_attester
from enclave_sim.adversary.forged_pki import NOW
from laminator.appraise.evidence import Setting
from laminator.appraise.failure import verify_failure
from laminator.appraise.trust import TrustStore
from laminator.attest.tpm import AttestationTpm
from laminator.claims import Launch
from laminator.digest import sha256
from laminator.errors import MachineError
from laminator.evidence.tpm_format import RUN_PCR
from laminator.evidence.tpm_key import key_digest
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX, parse_nv_public, parse_public
from laminator.failure import parse_failure
from laminator.run import failure
from laminator.run.attestation import Attestation, open_log, spend_number
from laminator.run.planned import Planned

NONCE = b"a verifier's own"


@pytest.fixture
def opened(raw_swtpm: RawSwtpm) -> Iterator[tuple[Attestation, TrustStore]]:
    """Return a TPM with a certified key and counter, and trust in who certified them."""
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        if not tpm.has_nv_index(RUN_COUNTER_INDEX):
            tpm.define_counter(RUN_COUNTER_INDEX)
            tpm.increment_counter(RUN_COUNTER_INDEX)
        key = parse_public(tpm.ak_public)
        counter = parse_nv_public(tpm.counter_public(RUN_COUNTER_INDEX))
        certificates, trust = lying_attester.certify(key, counter)
        digest = key_digest(key).value
        yield Attestation(tpm, certificates, digest, RUN_COUNTER_INDEX, Launch("none")), trust


def test_a_failure_right_after_the_start_is_accepted(
    opened: tuple[Attestation, TrustStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attestation, trust = opened
    clock = SimpleNamespace(time=NOW.timestamp, sleep=time.sleep)  # the authority's own year
    monkeypatch.setattr(failure, "time", clock)
    spent = spend_number(attestation, NONCE, Planned())
    log, start = open_log(attestation, spent, NONCE)
    attestation.tpm.extend_log(bytes(32))  # half a run's log
    record = failure.sign_failure(attestation, spent, start, nonce=NONCE, outcome="failed")
    assert attestation.tpm.read_pcr(RUN_PCR) != log.head
    kept = failure.write_failure(record, tmp_path / "deep" / "failures")
    content = kept.path.read_bytes()
    assert (parse_failure(content), sha256(content).value) == (record, kept.digest)
    policy = lying_attester.POLICY.for_ledger()
    result = verify_failure(record, policy, Setting(trust, NOW, {}))
    assert result.verdict == "accepted", result.failures()


def test_somebody_else_in_the_log_s_pcr_is_said(
    opened: tuple[Attestation, TrustStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    attestation, _ = opened
    spent = spend_number(attestation, None, Planned())
    _, start = open_log(attestation, spent, None)
    monkeypatch.setattr(time, "sleep", lambda _: attestation.tpm.extend_log(bytes(32)))
    with pytest.raises(MachineError, match="another user"):
        failure.sign_failure(attestation, spent, start, nonce=None, outcome="failed")
