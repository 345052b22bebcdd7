"""Keys and signatures that somebody else could make or copy: certified all the same, refused."""

import forge
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from verifying import claims, judge

from enclave_sim.adversary import forged_pki as pki
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire


def failures(machine: forge.Machine) -> set[str]:
    """Ids of the checks that fail for the machine's honest card, without the policy's."""
    result = judge(forge.world(machine, claims()), trust=machine.trust)
    assert not result.accepted
    failed = {check.id for check in result.checks if check.verdict == "fail"}
    return {id_ for id_ in failed if not id_.startswith("policy.")}


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384", "rsassa", "rsapss"])
def test_the_strong_keys_are_accepted(algorithm: str) -> None:
    machine = forge.machine(algorithm)
    result = judge(forge.world(machine, claims()), trust=machine.trust)
    assert result.accepted, result.failures()


def test_an_attestation_key_with_the_exponent_3() -> None:
    key = pki.key("weak exponent", "rsa2048e3")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.public_key().public_numbers().e == 3
    ak = forge.ak_public(key, structures.Scheme(wire.ALG_RSASSA, wire.ALG_SHA256))
    assert isinstance(ak, structures.RsaPublic)
    ak = ak._replace(parameters=ak.parameters._replace(exponent=3))
    weak = forge.machine("rsassa")._replace(key=key, ak=ak)
    assert failures(forge.certified(weak)) == {"ak.algorithm"}


def test_an_attestation_key_of_1024_bits() -> None:
    machine = forge.machine("rsassa-1024")
    assert machine.key.key_size == 1024
    assert failures(machine) == {"ak.algorithm", "tpm.algorithm"}


def test_an_attestation_key_on_a_curve_that_its_scheme_is_not_for() -> None:
    machine = forge.machine("ecdsa-p521")
    assert machine.key.key_size == 521
    assert failures(machine) == {"tpm.algorithm"}


def test_an_attestation_key_that_signs_with_whatever_scheme_it_is_told() -> None:
    machine = forge.machine()
    parameters = machine.ak.parameters._replace(scheme=None)
    free = machine._replace(ak=machine.ak._replace(parameters=parameters))  # type: ignore[arg-type]
    assert failures(free) == {"tpm.algorithm"}


@pytest.mark.parametrize("which", ["counter", "start", "end"])
def test_an_attestation_signed_with_another_hash(which: str) -> None:
    honest = forge.world(claims=claims())
    carried = forge.evidence(honest)
    signed = getattr(carried, which)
    other = structures.Scheme(wire.ALG_ECDSA, wire.ALG_SHA512)
    assert honest.machine.ak.parameters.scheme != other
    signature = forge.sign(honest.machine.key, signed.attest, other)
    carried = carried._replace(**{which: signed._replace(signature=signature)})
    result = judge(forge.card_bytes(honest, carried))
    failed = {check.id for check in result.checks if check.verdict == "fail"}
    quoted = {"start": {"tpm.start-pcr-digest"}, "end": {"tpm.pcr-digest"}}.get(which, set())
    assert {id_ for id_ in failed if id_.startswith("tpm.")} == {"tpm.algorithm"} | quoted


@pytest.mark.parametrize(
    "lost",
    [
        structures.AK_ATTRIBUTES_SET & ~structures.RESTRICTED,
        structures.AK_ATTRIBUTES_SET & ~structures.FIXED_TPM,
        structures.AK_ATTRIBUTES_SET | structures.DECRYPT,
    ],
    ids=["unrestricted", "movable", "decrypting"],
)
def test_a_certified_key_that_is_no_attestation_key(lost: int) -> None:
    machine = forge.machine()
    assert lost != machine.ak.attributes
    loose = machine._replace(ak=machine.ak._replace(attributes=lost))
    assert failures(loose) == {"tpm.ak-attributes"}
