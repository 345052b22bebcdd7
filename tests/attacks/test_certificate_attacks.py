"""Keys that nobody, or nobody still, vouches for: each stopped by one check of the certificate."""

import forge
import pytest
import verifying
from cryptography import x509

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.trust import Anchor, TrustStore
from laminator.evidence import tpm_structures as structures
from laminator.evidence.ak_extension import AkExtension, encode_ak_extension

NOW, DAY = pki.NOW, pki.DAY


def obstacles(machine: forge.Machine, trust: TrustStore | None = None) -> set[str]:
    """Ids of the checks of the certificate that stop the machine's honest card."""
    world = forge.world(machine, verifying.claims())
    result = verifying.judge(world, trust=trust or machine.trust)
    assert not result.accepted
    failed = {check.id for check in result.checks if check.verdict == "fail"}
    return {id_ for id_ in failed if not id_.startswith("policy.")}


def test_the_honest_machine_is_accepted() -> None:
    assert verifying.judge(forge.world(forge.machine(), verifying.claims())).accepted


def test_an_unknown_authority() -> None:
    assert obstacles(forge.machine(), pki.store(pki.root("somebody else"))) == {"ak.chain"}


def test_a_card_that_brings_its_own_root() -> None:
    machine = forge.machine(label="a prover's own")
    machine = machine._replace(certificates=(*machine.certificates, machine.root.der))
    assert obstacles(machine, forge.machine().trust) == {"ak.chain"}


def test_the_certificate_of_another_key() -> None:
    other = forge.machine(label="certified")
    machine = forge.machine()._replace(certificates=other.certificates)
    assert obstacles(machine, other.trust) == {"ak.certificate"}


def test_an_expired_certificate() -> None:
    machine = forge.certified(forge.machine(), not_after=NOW - DAY)
    assert obstacles(machine) == {"ak.validity"}


@pytest.mark.parametrize("eku", [(), (pki.EK_EKU,), ("1.3.6.1.5.5.7.3.3",)])
def test_a_certificate_of_another_kind(eku: tuple[str, ...]) -> None:
    assert obstacles(forge.certified(forge.machine(), eku=eku)) == {"ak.eku"}


def test_an_authoritys_own_certificate() -> None:
    machine = forge.certified(forge.machine(), ca=True, usage=pki.ISSUE | pki.SIGN)
    assert obstacles(machine) == {"ak.chain"}


def test_a_certificate_that_names_no_counter() -> None:
    assert obstacles(forge.certified(forge.machine(), extras=())) == {"ak.extension"}


def test_a_certificate_that_names_another_counter() -> None:
    counter = structures.NvPublic(0x01801A4E, 11, structures.COUNTER_ATTRIBUTES, b"", 8)
    spec = pki.ak_spec(forge.machine().key.public_key(), structures.name(counter))
    machine = forge.certified(forge.machine(), extras=spec.extras)
    assert obstacles(machine) == {"run.counter.endorsed"}


@pytest.mark.parametrize("reason", [None, x509.ReasonFlags.key_compromise])
def test_a_revoked_certificate(reason: x509.ReasonFlags | None) -> None:
    machine = forge.machine()
    leaf = x509.load_der_x509_certificate(machine.certificates[0])
    entry = pki.Revoked(leaf.serial_number, NOW + DAY, reason)
    revoking = pki.crl(machine.authority, pki.CrlSpec(issued=NOW + DAY, revoked=(entry,)))
    assert obstacles(machine, machine.trust.with_crls((revoking,))) == {"ak.revocation"}


def test_a_revoked_authority() -> None:
    machine = forge.machine()
    entry = pki.Revoked(machine.authority.certificate.serial_number)
    newer = pki.CrlSpec(issued=NOW, revoked=(entry,))
    trust = machine.trust.with_crls((pki.crl(machine.root, newer),))
    assert obstacles(machine, trust) == {"ak.revocation"}


def test_a_withheld_revocation_list_is_no_pass() -> None:
    machine = forge.machine()
    trust = machine.trust._replace(crls=machine.trust.crls[:1])
    result = verifying.judge(forge.world(machine, verifying.claims()), trust=trust)
    assert not result.accepted
    assert verifying.verdict_of(result, "ak.revocation") == "not-checked"


def test_a_certificate_that_makes_more_of_itself() -> None:
    machine = forge.machine()
    name = structures.name(machine.counter)
    value = encode_ak_extension(AkExtension("tpm", name))
    _, critical = pki.ak_spec(machine.key.public_key(), name).extras[0]
    oid = pki.ak_spec(machine.key.public_key(), name).extras[0][0].oid
    boasting = forge.certified(
        machine, extras=((x509.UnrecognizedExtension(oid, value), critical),)
    )
    result = verifying.judge(forge.world(boasting, verifying.claims()))
    assert result.trust.root == "simulated"


def test_a_simulated_machine_under_a_hardware_anchor_stays_simulated() -> None:
    machine = forge.machine()
    anchors = (Anchor("tpm", machine.root.certificate),)
    trust = TrustStore(anchors, machine.trust.crls)
    result = verifying.judge(forge.world(machine, verifying.claims()), trust=trust)
    assert result.trust.root == "simulated"
