"""Enrolment against a real TPM implementation, cross-checked with tpm2-tools."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from raw_swtpm import RawSwtpm, running_swtpm
from tpm2_tools import Tools, from_tools, to_tools, tools_for

from enclave_sim.adversary.forged_manufacturer import (
    DAY,
    NOW,
    ca,
    ek_profile,
    issue_ek,
    manufacturer,
)
from laminator.attest.tpm import AttestationTpm
from laminator.enroll.ak_certificate import CertificateTerms
from laminator.enroll.authority import (
    accept_response,
    certify,
    challenge,
    check_ak,
    check_counter,
    check_ek,
    verify_endorsement,
)
from laminator.enroll.credential import make_credential
from laminator.enroll.ek_certificate import certificate_key, check_profile, parse_certificate
from laminator.enroll.key_templates import (
    AK_ECDSA_P256,
    AK_TEMPLATES,
    EK_ECC_P384,
    EK_RSA_2048,
    EK_TEMPLATES,
    AkTemplate,
    EkTemplate,
)
from laminator.errors import MachineError
from laminator.evidence.tpm_key import public_key
from laminator.evidence.tpm_structures import (
    RUN_COUNTER_INDEX,
    name,
    parse_nv_public,
    parse_public,
)
from laminator.evidence.tpm_wire import sized

SECRET = bytes(range(32))

each_ek = pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda each: str(each.name))


@pytest.fixture
def tools(raw_swtpm: RawSwtpm, tmp_path: Path) -> Iterator[Tools]:
    with tools_for(raw_swtpm, tmp_path) as tools:
        yield tools


@each_ek
def test_our_tpm_opens_what_our_software_made(raw_swtpm: RawSwtpm, template: EkTemplate) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        ek = parse_public(tpm.endorsement_public(template))
        credential = make_credential(ek, name(parse_public(tpm.ak_public)), SECRET)
        assert tpm.activate_credential(template, credential) == SECRET


@each_ek
def test_our_tpm_opens_what_tpm2_tools_made(
    raw_swtpm: RawSwtpm, tools: Tools, tmp_path: Path, template: EkTemplate
) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        (tmp_path / "ek.pub").write_bytes(sized(tpm.endorsement_public(template)))
        (tmp_path / "secret").write_bytes(SECRET)
        ak_name = name(parse_public(tpm.ak_public)).hex()
        command = ["tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret"]
        tools.run(*command, "-n", ak_name, "-o", "credential")
        credential = from_tools((tmp_path / "credential").read_bytes())
        assert tpm.activate_credential(template, credential) == SECRET


@each_ek
def test_tpm2_tools_open_what_our_software_made(
    raw_swtpm: RawSwtpm, tools: Tools, tmp_path: Path, template: EkTemplate
) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        ek, ak = tpm.endorsement_public(template), tpm.ak_public
    credential = make_credential(parse_public(ek), name(parse_public(ak)), SECRET)
    (tmp_path / "credential").write_bytes(to_tools(credential))
    tools.create_ek(template)
    tools.create_ak()
    tools.activate(template, "credential", "opened")
    assert (tmp_path / "opened").read_bytes() == SECRET


@each_ek
def test_a_credential_for_another_key_is_refused(raw_swtpm: RawSwtpm, template: EkTemplate) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        ek = parse_public(tpm.endorsement_public(template))
        credential = make_credential(ek, b"\x00\x0b" + bytes(32), SECRET)
        with pytest.raises(MachineError, match="another key") as caught:
            tpm.activate_credential(template, credential)
        assert caught.value.code == "tpm.command"
        again = make_credential(ek, name(parse_public(tpm.ak_public)), SECRET)
        assert tpm.activate_credential(template, again) == SECRET


@pytest.mark.parametrize("ak_template", AK_TEMPLATES, ids=lambda each: str(each.name))
@each_ek
def test_an_attestation_key_gets_its_certificate(
    raw_swtpm: RawSwtpm, template: EkTemplate, ak_template: AkTemplate
) -> None:
    maker = manufacturer()
    counter = bytes.fromhex("01801a4d") + bytes.fromhex("000b") + bytes.fromhex("02040014")
    counter += bytes(2) + bytes([0, 8])
    with AttestationTpm(raw_swtpm.connect(), ak=ak_template) as tpm:
        ek = check_ek(tpm.endorsement_public(template))
        certificate = issue_ek(ek_profile(ek.key))
        certificates = tuple(map(der, (certificate, *maker.chain)))
        ak = check_ak(tpm.ak_public)
        endorsed = verify_endorsement(ek, certificates, maker.trust, NOW)
        credential, pending = challenge(ak, endorsed, check_counter(counter), NOW)
        secret = tpm.activate_credential(template, credential)
    verified = accept_response(pending, secret, NOW + DAY)
    authority = ca("AK authority", maker.root, serial=5)
    issued = certify(verified, authority, CertificateTerms(NOW + DAY, NOW + 100 * DAY, 1))
    assert issued.public_key() == public_key(ak.public)
    issued.verify_directly_issued_by(authority.certificate)


def test_the_counters_name_is_the_tpms(fresh_swtpm: RawSwtpm) -> None:
    with AttestationTpm(fresh_swtpm.connect(), ak=AK_ECDSA_P256) as tpm:
        tpm.define_counter(RUN_COUNTER_INDEX)
        before = check_counter(tpm.counter_public(RUN_COUNTER_INDEX))
        counted = tpm.count_run(RUN_COUNTER_INDEX, bytes(32))
    assert before == check_counter(counted.nv_public) == name(parse_nv_public(counted.nv_public))


def der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def manufactured() -> Iterator[RawSwtpm]:
    with running_swtpm(manufactured=True) as swtpm:
        yield swtpm


def test_the_certificates_of_swtpm_setup_are_for_our_templates(manufactured: RawSwtpm) -> None:
    with AttestationTpm(manufactured.connect()) as tpm:
        keys = tpm.endorsement_keys()
    assert [key.template for key in keys] == [EK_ECC_P384, EK_RSA_2048]
    for key in keys:
        certificate = parse_certificate(key.certificate)
        check_profile(certificate)
        assert certificate_key(certificate) == public_key(parse_public(key.public))
