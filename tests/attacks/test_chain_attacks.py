"""Paths that lead nowhere, or to the wrong anchor: what a prover carries decides nothing.

The evidence is honest and signed by the AK; the certificates beside it are the lie.
"""

import pytest
from cryptography import x509

from enclave_sim.adversary import deviations
from enclave_sim.adversary import forged_manufacturer as manufacturer
from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_tpm import Machine, certified, machine
from enclave_sim.adversary.forged_world import World, claims, failures, judge, verdict_of, world
from laminator.appraise.trust import Anchor, TrustStore
from laminator.evidence import tpm_structures as structures
from laminator.evidence.ak_extension import AK_EXTENSION_OID

OWN = "a prover's own root"


def honest() -> World:
    made = world(claims=claims())
    assert judge(made).accepted
    return made


def carrying(*certificates: bytes) -> World:
    made = honest()
    assert certificates != made.machine.certificates
    return deviations.other_certificates(made, *certificates)


def counter_extras(machine_: Machine, kind: str = "simulated") -> tuple[pki.Extra, ...]:
    name = structures.name(machine_.counter)
    return pki.ak_spec(machine_.key.public_key(), name, kind).extras


def cross_signed(authority: pki.Authority, by: pki.Authority) -> bytes:
    """Return another certificate of the authority's name and key."""
    (name,) = authority.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    key = authority.certificate.public_key()
    assert authority.certificate.issuer != by.certificate.subject
    return pki.der(pki.sign(pki.Spec(str(name.value), key), by, by.key))  # type: ignore[arg-type]


# Too short, too long, in another order.


def test_a_path_without_its_intermediate() -> None:
    leaf, _ = machine().certificates
    assert failures(judge(carrying(leaf))) == {"ak.chain"}


def test_the_authoritys_certificate_in_the_place_of_the_keys() -> None:
    leaf, authority = machine().certificates
    wrong = {"ak.certificate", "ak.chain", "ak.eku", "ak.extension"}
    for certificates in ((authority, leaf), (authority,)):
        assert failures(judge(carrying(*certificates))) == wrong


def test_a_path_below_the_attestation_key() -> None:
    made = honest()
    leaf, authority = made.machine.certificates
    issuer = pki.Authority(made.machine.key, x509.load_der_x509_certificate(leaf))
    victim = machine(label="certified by a key")
    name = structures.name(victim.counter)
    below = pki.sign(pki.ak_spec(victim.key.public_key(), name), issuer, issuer.key)
    lie = victim._replace(certificates=(pki.der(below), leaf, authority), trust=made.machine.trust)
    assert failures(judge(world(lie, claims()))) == {"ak.chain"}


def test_a_path_with_one_authority_too_many() -> None:
    made = machine()
    below = pki.authority(made.authority, "an authority below the last one")
    name = structures.name(made.counter)
    leaf = pki.sign(pki.ak_spec(made.key.public_key(), name), below, below.key)
    assert made.authority.certificate.extensions.get_extension_for_class(
        x509.BasicConstraints
    ).value == x509.BasicConstraints(ca=True, path_length=0)
    lie = carrying(pki.der(leaf), below.der, made.authority.der)
    assert failures(judge(lie)) == {"ak.chain"}


def test_certificates_that_belong_to_no_path_change_nothing() -> None:
    leaf, authority = machine().certificates
    noise = [pki.root(f"noise {number}").der for number in range(6)]
    for certificates in (
        (leaf, *noise, authority),
        (leaf, authority, leaf, machine().root.der),
        (leaf, authority, authority, authority),
    ):
        result = judge(carrying(*certificates))
        assert result.accepted
        assert result.trust == judge(honest()).trust


def test_more_certificates_than_a_path_can_have() -> None:
    leaf, authority = machine().certificates
    lie = carrying(leaf, authority, *(pki.root(f"noise {number}").der for number in range(7)))
    assert failures(judge(lie)) == {"tpm.parse"}


def test_authorities_that_certify_each_other() -> None:
    one, two = pki.root("one of two"), pki.root("two of two")
    circle = cross_signed(one, two), cross_signed(two, one)
    name = structures.name(machine().counter)
    leaf = pki.sign(pki.ak_spec(machine().key.public_key(), name), one, one.key)
    assert failures(judge(carrying(pki.der(leaf), *circle))) == {"ak.chain"}


# Cross-signed anchors.


def test_an_anchor_cross_signed_by_the_prover_stays_the_anchor() -> None:
    own = pki.root(OWN)
    lie = carrying(*machine().certificates, cross_signed(machine().root, own), own.der)
    result = judge(lie)
    assert result.accepted
    assert result.trust.anchor == str(machine().trust.anchors[0].fingerprint)


def test_an_unknown_root_that_an_unknown_root_cross_signed() -> None:
    own, known = machine(label=OWN), machine().trust
    lie = own._replace(
        certificates=(*own.certificates, cross_signed(own.root, machine().root), own.root.der)
    )
    stranger = known._replace(anchors=pki.store(pki.root("a stranger's root")).anchors)
    assert judge(world(lie, claims()), trust=own.trust).accepted
    assert failures(judge(world(lie, claims()), trust=stranger)) == {"ak.chain"}


def test_a_simulated_root_cross_signed_by_hardware_stays_simulated() -> None:
    boasting = certified(machine(), extras=counter_extras(machine(), "tpm"))
    hardware = pki.root("hardware root")
    lie = boasting._replace(
        certificates=(*boasting.certificates, cross_signed(machine().root, hardware))
    )
    held = (*machine().trust.crls, pki.crl(hardware))
    anchor = Anchor("tpm", hardware.certificate)
    alone = judge(world(lie, claims()), trust=TrustStore((anchor,), held))
    assert alone.trust.root == "tpm"
    both = TrustStore((anchor, *machine().trust.anchors), held)
    assert judge(world(lie, claims()), trust=both).trust.root == "simulated"


def test_a_revoked_authority_that_another_root_cross_signed() -> None:
    made, other = machine(), pki.root("another pinned root")
    entry = pki.Revoked(made.authority.certificate.serial_number)
    revoking = pki.crl(made.root, pki.CrlSpec(issued=pki.NOW, revoked=(entry,)))
    anchors = (*made.trust.anchors, Anchor("simulated", other.certificate))
    trust = TrustStore(anchors, (*made.trust.crls, revoking))
    assert failures(judge(honest(), trust=trust)) == {"ak.revocation"}
    around = carrying(made.certificates[0], cross_signed(made.authority, other))
    result = judge(around, trust=trust)
    assert not result.accepted
    assert verdict_of(result, "ak.revocation") == "not-checked"
    assert failures(result) == set()


# Certificates that are for something else.


def constrained(critical: bool) -> pki.Extra:
    return x509.NameConstraints([x509.DNSName("example.org")], None), critical


@pytest.mark.parametrize("critical", [True, False])
def test_name_constraints_that_nobody_would_apply(critical: bool) -> None:
    made, extra = machine(), constrained(critical)
    authority = pki.authority(made.root, "machine AK authority", path_length=0, extras=(extra,))
    found = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical == critical
    assert failures(judge(carrying(made.certificates[0], authority.der))) == {"ak.chain"}
    root = pki.root("machine root", extras=(extra,))
    trust = made.trust._replace(anchors=pki.store(root).anchors)
    assert failures(judge(honest(), trust=trust)) == {"ak.chain"}
    leaf = deviations.helped_by_the_authority(honest(), extras=(*counter_extras(made), extra))
    assert failures(judge(leaf)) == {"ak.chain"}


def test_a_certificate_of_an_endorsement_key_under_the_manufacturers_root() -> None:
    made, maker = machine(), manufacturer.manufacturer()
    issued = manufacturer.issue_ek(manufacturer.ek_profile(made.key.public_key()))
    lie = carrying(pki.der(issued), pki.der(maker.intermediate.certificate))
    trust = TrustStore((Anchor("tpm", maker.root.certificate),), maker.trust.crls)
    result = judge(lie, trust=trust, now=manufacturer.NOW)
    assert failures(result) == {"ak.chain", "ak.eku", "ak.extension"}


def test_an_endorsement_keys_certificate_made_to_look_like_an_attestation_keys() -> None:
    lie = deviations.helped_by_the_authority(honest(), eku=(pki.EK_EKU,))
    assert failures(judge(lie)) == {"ak.eku"}


@pytest.mark.parametrize(
    "changes",
    [
        {"ca": True},
        {"ca": True, "path_length": 0, "usage": pki.SIGN | pki.ISSUE},
        {"usage": pki.SIGN | {"key_cert_sign"}},
        {"usage": pki.SIGN | {"crl_sign"}},
        {"usage": frozenset({"key_encipherment"})},
        {"usage": None},
    ],
    ids=["CA", "CA that may issue", "may sign certificates", "lists", "encrypts", "anything"],
)
def test_an_attestation_key_that_is_more_than_that(changes: dict[str, object]) -> None:
    lie = deviations.helped_by_the_authority(honest(), **changes)
    assert failures(judge(lie)) == {"ak.chain"}


@pytest.mark.parametrize(
    "extension",
    [
        x509.PolicyConstraints(0, 0),
        x509.InhibitAnyPolicy(0),
        x509.UnrecognizedExtension(x509.ObjectIdentifier(AK_EXTENSION_OID), b"\xa0"),
    ],
    ids=["policy constraints", "inhibit any policy", "the counter's extension"],
)
def test_an_authoritys_critical_extension_that_nobody_understands(
    extension: x509.ExtensionType,
) -> None:
    made = machine()
    authority = pki.authority(
        made.root, "machine AK authority", path_length=0, extras=((extension, True),)
    )
    assert failures(judge(carrying(made.certificates[0], authority.der))) == {"ak.chain"}


def test_the_counter_named_by_the_authoritys_certificate_is_not_the_keys() -> None:
    made = machine()
    authority = pki.authority(
        made.root, "machine AK authority", path_length=0, extras=counter_extras(made)
    )
    lie = certified(made, extras=())
    lie = lie._replace(certificates=(lie.certificates[0], authority.der))
    assert failures(judge(world(lie, claims()))) == {"ak.extension"}
