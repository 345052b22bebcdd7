"""The templates against their sources: the policy digests' formula and the fixed bytes."""

import hashlib

import pytest

from enclave_sim.adversary.forged_manufacturer import software_ek
from laminator.enroll.key_templates import (
    AK_TEMPLATES,
    EK_ECC_P256,
    EK_ECC_P384,
    EK_RSA_2048,
    EK_TEMPLATES,
    EkTemplate,
    find_ek_template,
)
from laminator.evidence.tpm_structures import RH_ENDORSEMENT, marshal_public

_CC_POLICY_SECRET = 0x151


def policy_secret(algorithm: str) -> bytes:
    """TPM 2.0 Part 3, 23.4: extend with the command and the hierarchy's Name, then policyRef."""
    start = bytes(hashlib.new(algorithm).digest_size)
    named = start + _CC_POLICY_SECRET.to_bytes(4, "big") + RH_ENDORSEMENT.to_bytes(4, "big")
    return hashlib.new(algorithm, hashlib.new(algorithm, named).digest()).digest()


@pytest.mark.parametrize("template", [EK_RSA_2048, EK_ECC_P256], ids=["rsa", "ecc"])
def test_low_templates_have_the_endorsement_policy(template: EkTemplate) -> None:
    assert template.public.auth_policy == policy_secret("sha256")
    assert template.takes_policy


def test_the_high_template_takes_a_password() -> None:
    assert not EK_ECC_P384.takes_policy


def test_the_rsa_template_is_the_profiles() -> None:
    expected = (
        "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64"
        "f2a1da1b331469aa00060080004300100800000000000100"
    )
    assert marshal_public(EK_RSA_2048.public).hex() == expected + "00" * 256


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_a_key_is_recognised_by_its_template(template: EkTemplate) -> None:
    assert find_ek_template(software_ek(template).public) is template


def test_another_public_area_is_not_recognised() -> None:
    public = software_ek().public
    assert find_ek_template(public._replace(attributes=public.attributes ^ 1 << 6)) is None
    assert find_ek_template(AK_TEMPLATES[0].public) is None
