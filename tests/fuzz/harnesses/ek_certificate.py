"""An endorsement key's certificate, as an authority judges it, and one above it."""

from functools import cache
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary import forged_manufacturer as ek_pki
from harnesses.der_mutation import mutate_as_der
from harnesses.harness import Harness, parsed
from harnesses.signing import parts, signed
from laminator.enroll.ek_certificate import (
    VerifiedEkCertificate,
    certificate_key,
    parse_certificate,
    verify_ek_certificate,
)
from laminator.enroll.key_templates import EK_ECC_P256, EK_RSA_2048
from laminator.errors import LaminatorError


def check(data: bytes) -> bool:
    """Nothing but what the manufacturer signed is an EK's certificate, or stands above one.

    What it did sign, whatever that says, is judged without a stumble.
    """
    unsigned = parsed(parts, data)
    if unsigned is not None:
        maker = ek_pki.manufacturer()
        for key in (maker.intermediate.key, maker.root.key):
            _judge(signed(unsigned, cast("ec.EllipticCurvePrivateKey", key)))
    certificate = parsed(parse_certificate, data)
    if certificate is None:
        return False
    assert certificate.public_bytes(Encoding.DER) == data
    parsed(lambda _: certificate_key(certificate), data)
    body = certificate.tbs_certificate_bytes
    as_leaf = _verified(certificate, ek_pki.manufacturer().intermediate.certificate)
    assert as_leaf is None or body in [real.tbs_certificate_bytes for real in _real()]
    as_issuer = _verified(_real()[0], certificate)
    issuer = ek_pki.manufacturer().intermediate.certificate
    assert as_issuer is None or body == issuer.tbs_certificate_bytes
    return as_leaf is not None or as_issuer is not None


def seeds() -> list[bytes]:
    """Return the certificates of both kinds of EK, and of the authority that signed them."""
    issuer = ek_pki.manufacturer().intermediate.certificate
    return [each.public_bytes(Encoding.DER) for each in (*_real(), issuer)]


def _judge(data: bytes) -> None:
    certificate = parsed(parse_certificate, data)
    if certificate is not None:
        _verified(certificate, ek_pki.manufacturer().intermediate.certificate)
        _verified(_real()[0], certificate)


def _verified(leaf: x509.Certificate, issuer: x509.Certificate) -> VerifiedEkCertificate | None:
    trust = ek_pki.manufacturer().trust
    return parsed(
        lambda _: verify_ek_certificate(leaf, [issuer], trust, ek_pki.NOW), b"", LaminatorError
    )


@cache
def _real() -> tuple[x509.Certificate, ...]:
    keys = [ek_pki.software_ek(each).private.public_key() for each in (EK_ECC_P256, EK_RSA_2048)]
    return tuple(ek_pki.issue_ek(ek_pki.ek_profile(key)) for key in keys)


HARNESS = Harness(check, seeds, mutate_as_der)
