"""The wrapper of certificates, revocation lists and the AK extension; the chain that they make."""

import datetime as dt
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harnesses.der_mutation import mutate_as_der
from harnesses.harness import VECTORS, Harness, golden_cards, parsed
from laminator.appraise.check import FAIL
from laminator.appraise.trust import TrustStore, load_trust, parse_certificate, parse_crl
from laminator.appraise.x509 import verify_ak_certificate
from laminator.card import parse_card
from laminator.evidence.ak_extension import encode_ak_extension, parse_ak_extension
from laminator.evidence.tpm import parse_tpm_evidence

NOW = dt.datetime(2026, 11, 25, 0, 5, 22, tzinfo=dt.UTC)


def check(data: bytes) -> bool:
    """What parses is its own bytes again, and no change of a certificate makes another AK's."""
    extension = parsed(parse_ak_extension, data)
    if extension is not None:
        assert encode_ak_extension(extension) == data
    certificate = parsed(parse_certificate, data)
    if certificate is not None:
        assert certificate.public_bytes(Encoding.DER) == data
        _check_certificate(certificate, data)
    crl = parsed(parse_crl, data)
    if crl is not None:
        assert crl.public_bytes(Encoding.DER) == data
        _check_with_list(crl)
    return any(found is not None for found in (extension, certificate, crl))


def seeds() -> list[bytes]:
    """Return the certificates, anchors, lists and extensions of the golden cards."""
    store = _store()
    chains = _chains()
    extensions = [
        extension.value.public_bytes()
        for chain in chains
        for extension in parse_certificate(chain[0]).extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    ]
    return [
        *(der for chain in chains for der in chain),
        *(anchor.certificate.public_bytes(Encoding.DER) for anchor in store.anchors),
        *(crl.public_bytes(Encoding.DER) for crl in store.crls),
        *(value for value in extensions if parsed(parse_ak_extension, value) is not None),
    ]


def _check_certificate(certificate: x509.Certificate, data: bytes) -> None:
    signed = certificate.tbs_certificate_bytes
    for chain in _chains():
        real = tuple(map(parse_certificate, chain))
        leaf = verify_ak_certificate((data, *chain[1:]), _spki(real[0]), _store(), NOW)
        assert leaf.verified is None or signed == real[0].tbs_certificate_bytes
        above = verify_ak_certificate((chain[0], data), _spki(real[0]), _store(), NOW)
        assert above.verified is None or signed == real[1].tbs_certificate_bytes
        assert data not in chain or leaf.verified or above.verified


def _check_with_list(crl: x509.CertificateRevocationList) -> None:
    """A list that no authority of the store signed changes no verdict."""
    store = _store()
    known = {each.public_bytes(Encoding.DER) for each in store.crls}
    if crl.public_bytes(Encoding.DER) in known:
        return
    for chain in _chains():
        key = _spki(parse_certificate(chain[0]))
        found = verify_ak_certificate(chain, key, store.with_crls((crl,)), NOW)
        assert not [check.id for check in found.checks if check.verdict == FAIL]


def _spki(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def _store() -> TrustStore:
    return load_trust(str(VECTORS / "trust"))


@cache
def _chains() -> tuple[tuple[bytes, ...], ...]:
    cards = map(parse_card, golden_cards())
    return tuple(parse_tpm_evidence(card.evidence[0].value).certificates for card in cards)


HARNESS = Harness(check, seeds, mutate_as_der)
