"""Signing anew what a fuzzer wrote into a certificate or a list."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_sim.adversary.forged_der import Signed
from laminator.errors import MalformedError
from laminator.evidence.der import elements, parse_element

_PARTS = 3


def parts(data: bytes) -> Signed:
    """Return body and algorithm of what has the form of a certificate. Raises MalformedError."""
    found = elements(parse_element(data, "signed").content, "signed")
    if len(found) != _PARTS:
        raise MalformedError("fuzz.parts", "not body, algorithm and signature")
    return Signed(found[0].encoded, found[1].encoded, b"")


def signed(unsigned: Signed, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the whole, with a signature by `key` and SHA-256."""
    signature = key.sign(unsigned.body, ec.ECDSA(hashes.SHA256()))
    return unsigned._replace(signature=signature).der
