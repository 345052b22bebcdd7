"""The simulated manufacturer's certificates and revocation lists."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from enclave_sim.folder import Folder
from enclave_sim.manufacturer import (
    KINDS,
    Kind,
    Pki,
    load_pki,
    make_crl,
    make_pki,
    sign_ek_certificate,
    write_pki,
)
from laminator.appraise.trust import load_trust
from laminator.enroll.ek_certificate import (
    EK_CERTIFICATE_OID,
    EkAnchor,
    EkTrust,
    verify_ek_certificate,
)
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.evidence.tpm_key import PublicKey

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
SERIAL = "0123abcd"


@pytest.fixture(scope="module")
def pkis() -> dict[Kind, Pki]:
    return make_pki(SERIAL, NOW)


@pytest.fixture(scope="module")
def ek_keys() -> dict[str, PublicKey]:
    return {
        "rsa-2048": rsa.generate_private_key(65537, 2048).public_key(),
        "ecc-p256": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "ecc-p384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    }


def _trust(pki: Pki, revoked: tuple[x509.RevokedCertificate, ...] = ()) -> EkTrust:
    crls = (make_crl(pki.root, NOW), make_crl(pki.ek, NOW, revoked))
    return EkTrust((EkAnchor(pki.root.certificate, "simulated"),), crls)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["rsa-2048", "ecc-p256", "ecc-p384"])
def test_ek_certificates_satisfy_the_authority(
    pkis: dict[Kind, Pki], ek_keys: dict[str, PublicKey], kind: Kind, name: str
) -> None:
    pki = pkis[kind]
    certificate = sign_ek_certificate(ek_keys[name], pki, NOW)
    verified = verify_ek_certificate(certificate, [pki.ek.certificate], _trust(pki), NOW)
    assert verified.anchor_kind == "simulated"
    assert not list(certificate.subject)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment == name.startswith("rsa")
    assert usage.key_agreement == name.startswith("ecc")
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [EK_CERTIFICATE_OID]


def test_what_it_signs_says_that_it_is_simulated(
    pkis: dict[Kind, Pki], ek_keys: dict[str, PublicKey]
) -> None:
    for pki in pkis.values():
        for authority in (pki.root, pki.ek, pki.ak):
            subject = authority.certificate.subject.rfc4514_string()
            assert "SIMULATED" in subject
            assert SERIAL in subject
    certificate = sign_ek_certificate(ek_keys["ecc-p256"], pkis["ecc"], NOW)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "SIMULATED" in names.get_values_for_type(x509.DirectoryName)[0].rfc4514_string()


def test_an_intermediate_issues_no_further_authority(pkis: dict[Kind, Pki]) -> None:
    for pki in pkis.values():
        lengths = [
            each.certificate.extensions.get_extension_for_class(
                x509.BasicConstraints
            ).value.path_length
            for each in (pki.root, pki.ek, pki.ak)
        ]
        assert lengths == [1, 0, 0]
        for issued in (pki.ek, pki.ak):
            issued.certificate.verify_directly_issued_by(pki.root.certificate)


def test_a_revoked_ek_certificate_is_refused(
    pkis: dict[Kind, Pki], ek_keys: dict[str, PublicKey]
) -> None:
    pki = pkis["ecc"]
    certificate = sign_ek_certificate(ek_keys["ecc-p256"], pki, NOW)
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(certificate.serial_number)
        .revocation_date(NOW)
        .build()
    )
    with pytest.raises(EnrolmentRefusedError) as refused:
        verify_ek_certificate(certificate, [pki.ek.certificate], _trust(pki, (entry,)), NOW)
    assert refused.value.code == "ek.revoked"


def test_written_keys_are_private_and_the_trust_store_is_a_verifiers(
    pkis: dict[Kind, Pki], tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    write_pki(folder, pkis, NOW)
    assert {path.stat().st_mode & 0o777 for path in folder.pki.glob("*.key")} == {0o600}
    store = load_trust(str(folder.trust))
    assert {anchor.certificate for anchor in store.anchors} == {
        pki.root.certificate for pki in pkis.values()
    }
    assert {anchor.kind for anchor in store.anchors} == {"simulated"}
    assert len(store.crls) == 6
    loaded = load_pki(folder, "rsa")
    assert loaded.root.certificate == pkis["rsa"].root.certificate
    assert loaded.ak.key.private_numbers() == pkis["rsa"].ak.key.private_numbers()
