"""Work on one machine, attested by the TPM of another: on two real software TPMs.

A relay of every command gives a card of the other machine, and that is all it says. What a relay
cannot give is one card with a part of each.
"""

from collections.abc import Iterator

import pytest
from raw_swtpm import running_swtpm

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary import lying_attester
from enclave_sim.adversary.forged_world import failures
from enclave_sim.adversary.lying_attester import Run, count
from laminator.attest.tpm import AttestationTpm
from laminator.claims import EvidenceRef
from laminator.claims_codec import encode_claims
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import key_digest


@pytest.fixture(scope="module")
def near() -> Iterator[AttestationTpm]:
    """The TPM of the machine that does the work."""
    with running_swtpm() as swtpm, AttestationTpm(swtpm.connect()) as machine:
        yield machine


@pytest.fixture(scope="module")
def far() -> Iterator[AttestationTpm]:
    """The TPM of another machine, whose owner lets anybody use it."""
    with running_swtpm() as swtpm, AttestationTpm(swtpm.connect()) as machine:
        yield machine


def key_of(machine: AttestationTpm) -> bytes:
    return key_digest(structures.parse_public(machine.ak_public)).value


def test_they_are_two_machines(near: AttestationTpm, far: AttestationTpm) -> None:
    assert key_of(near) != key_of(far)
    for machine in (near, far):
        assert lying_attester.run(machine).judge().accepted


def test_a_relay_of_every_command_gives_a_card_of_the_other_machine(
    near: AttestationTpm, far: AttestationTpm
) -> None:
    relayed = lying_attester.run(far, "done near")
    (reference,) = relayed.claims.evidence
    assert reference.key == key_of(far)
    assert reference.key != key_of(near)
    result = relayed.judge()
    assert result.accepted
    assert result.trust.coverage == "none"
    assert "coverage.none" in {caveat.code for caveat in result.caveats}


def test_a_relay_is_of_no_use_where_the_other_machine_is_not_trusted(far: AttestationTpm) -> None:
    relayed = lying_attester.run(far)
    known = relayed._replace(trust=pki.store(pki.root("the near machine's authority")))
    assert failures(known.judge()) == {"ak.chain"}


def test_a_number_of_one_machine_for_quotes_of_another(
    near: AttestationTpm, far: AttestationTpm
) -> None:
    mixed = lying_attester.run(far, counting=lambda _, data: count(near, data))
    found = mixed.obstacles()
    assert {"tpm.signature", "tpm.signer"} <= found
    assert found <= {"tpm.signature", "tpm.signer", "run.counter.clock"}


def test_an_end_quote_of_another_machine(near: AttestationTpm, far: AttestationTpm) -> None:
    mixed = lying_attester.run(near, pause=lambda: far)
    found = mixed.obstacles()
    assert {"tpm.signature", "tpm.signer"} <= found
    assert found <= {"tpm.signature", "tpm.signer", "tpm.clock"}


def test_claims_of_one_machine_attested_by_another(
    near: AttestationTpm, far: AttestationTpm
) -> None:
    honest, other = lying_attester.run(near), lying_attester.run(far)
    mixed = honest._replace(evidence=other.evidence, trust=other.trust)
    assert encode_claims(mixed.claims) == encode_claims(honest.claims)
    assert {"tpm.key", "tpm.binding"} <= mixed.obstacles()


def test_a_relayed_card_that_names_the_near_machine(
    near: AttestationTpm, far: AttestationTpm
) -> None:
    """The far TPM quotes claims that name the near machine's key."""
    named = (EvidenceRef("tpm", key_of(near)),)
    relayed: Run = lying_attester.run(far, naming=named)
    assert relayed.claims.evidence == named
    assert relayed.obstacles() == {"tpm.key"}
