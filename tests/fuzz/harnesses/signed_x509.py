"""Certificates and lists that an authority signed, whatever it wrote into them."""

from functools import cache
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_tpm import Machine, ak_spki, machine
from harnesses.der_mutation import mutate_as_der
from harnesses.harness import Harness, parsed
from harnesses.signing import parts, signed
from laminator.appraise.trust import TrustStore, parse_certificate, parse_crl
from laminator.appraise.x509 import verify_ak_certificate

MAX_DETAIL = 8000
_REASONS = (None, x509.ReasonFlags.key_compromise, x509.ReasonFlags.superseded)
# A name of a kind that cryptography does not read: an X.400 address.
_ADDRESS = x509.UnrecognizedExtension(x509.CertificateIssuer.oid, b"\x30\x02\xa3\x00")


def check(data: bytes) -> bool:
    """Signed anew it is judged without a stumble, and makes no other key the AK."""
    unsigned = parsed(parts, data)
    if unsigned is None:
        return False
    here = machine()
    keys = cast("tuple[ec.EllipticCurvePrivateKey, ...]", (here.authority.key, here.root.key))
    by_authority, by_root = (signed(unsigned, key) for key in keys)
    as_leaf = _judge((by_authority, here.certificates[1]), here.trust)
    if as_leaf:
        assert parse_certificate(by_authority).public_key() == here.key.public_key()
    as_authority = _judge((here.certificates[0], by_root), here.trust)
    crl = parsed(parse_crl, by_authority)
    if crl is not None:
        _judge(here.certificates, _with_newest(here, crl))
    return as_leaf or as_authority or crl is not None


@cache
def seeds() -> list[bytes]:
    """Return the AK's and the authority's certificate, and lists with and without entries."""
    here = machine()
    serial = parse_certificate(here.certificates[0]).serial_number
    entries = [pki.Revoked(serial, reason=reason) for reason in _REASONS]
    entries.append(pki.Revoked(serial, extras=((_ADDRESS, False),)))
    named = ((), *((entry, pki.Revoked(7)) for entry in entries))
    lists = [pki.crl(here.authority, pki.CrlSpec(revoked=revoked)) for revoked in named]
    return [*here.certificates, *(crl.public_bytes(Encoding.DER) for crl in lists)]


def _judge(certificates: tuple[bytes, ...], trust: TrustStore) -> bool:
    found = verify_ak_certificate(certificates, ak_spki(machine()), trust, pki.NOW)
    assert all(len(each.detail) < MAX_DETAIL for each in found.checks)
    assert all(each.detail.isprintable() for each in found.checks)
    return found.verified is not None


def _with_newest(here: Machine, crl: x509.CertificateRevocationList) -> TrustStore:
    return here.trust._replace(crls=(crl, *here.trust.crls))


HARNESS = Harness(check, seeds, mutate_as_der)
