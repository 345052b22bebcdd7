"""MakeCredential against an inverse of it that is written apart from it."""

import pytest

from enclave_sim.adversary.forged_endorsement_key import IntegrityError, activate
from enclave_sim.adversary.forged_manufacturer import software_ek
from laminator.enroll.credential import Credential, make_credential
from laminator.enroll.key_templates import EK_TEMPLATES, EkTemplate
from laminator.errors import UsageError
from laminator.evidence.tpm_structures import EccPublic
from laminator.evidence.tpm_wire import ALG_SHA512

NAME = b"\x00\x0b" + bytes(range(32))
SECRET = bytes(range(100, 132))


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_the_holder_of_the_key_gets_the_secret(template: EkTemplate) -> None:
    ek = software_ek(template)
    assert activate(ek, NAME, make_credential(ek.public, NAME, SECRET)) == SECRET


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda template: str(template.name))
def test_another_name_gets_nothing(template: EkTemplate) -> None:
    ek = software_ek(template)
    credential = make_credential(ek.public, NAME, SECRET)
    with pytest.raises(IntegrityError):
        activate(ek, NAME[:-1] + b"\x00", credential)


def test_two_credentials_share_nothing() -> None:
    ek = software_ek()
    first, second = (make_credential(ek.public, NAME, SECRET) for _ in range(2))
    assert first.blob != second.blob
    assert first.secret != second.secret


@pytest.mark.parametrize("position", range(34 + 34))
def test_a_changed_blob_is_refused(position: int) -> None:
    ek = software_ek()
    credential = make_credential(ek.public, NAME, SECRET)
    blob = bytearray(credential.blob)
    blob[position] ^= 1
    with pytest.raises(IntegrityError):
        activate(ek, NAME, Credential(bytes(blob), credential.secret))


@pytest.mark.parametrize("size", [0, 33])
def test_a_secret_of_a_wrong_size_is_misuse(size: int) -> None:
    with pytest.raises(UsageError) as caught:
        make_credential(software_ek().public, NAME, bytes(size))
    assert caught.value.code == "credential.secret"


def test_an_unsupported_name_algorithm_is_misuse() -> None:
    public = software_ek().public._replace(name_alg=ALG_SHA512)
    with pytest.raises(UsageError) as caught:
        make_credential(public, NAME, SECRET)
    assert caught.value.code == "credential.ek"


def test_a_key_without_a_symmetric_scheme_is_misuse() -> None:
    public = software_ek().public
    assert isinstance(public, EccPublic)
    public = public._replace(parameters=public.parameters._replace(symmetric=None))
    with pytest.raises(UsageError) as caught:
        make_credential(public, NAME, SECRET)
    assert caught.value.code == "credential.ek"
