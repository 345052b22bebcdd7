"""Certificates and lists that no builder writes: changed in their DER, and signed again.

DER is ITU-T X.690; the fields of certificates and lists are those of RFC 5280, 4.1 and 5.1.
"""

from collections.abc import Callable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding

INTEGER, BIT_STRING, SEQUENCE, UTC_TIME, EXTENSIONS = 0x02, 0x03, 0x30, 0x17, 0xA3
# Order of the group of P-256 (SP 800-186, 3.2.1.3)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_LONG = 0x80  # the length itself has a length

Edit = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]


class Signed(NamedTuple):
    """The three parts of a certificate or list: the signed body, algorithm, signature."""

    body: bytes
    algorithm: bytes
    signature: bytes

    @property
    def der(self) -> bytes:
        """The whole."""
        return tlv(SEQUENCE, self.body + self.algorithm + tlv(BIT_STRING, b"\0" + self.signature))


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element with the shortest length."""
    size = len(content)
    if size < _LONG:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _LONG | len(octets)]) + octets + content


def content(element: bytes) -> bytes:
    """Return what is in the one element."""
    return element[_head(element) :]


def elements(data: bytes) -> tuple[bytes, ...]:
    """Return the elements that follow each other in `data`."""
    found = []
    while data:
        end = _head(data) + _size(data)
        found.append(data[:end])
        data = data[end:]
    return tuple(found)


def parts(made: x509.Certificate | x509.CertificateRevocationList) -> Signed:
    """Return the three parts of `made`."""
    body, algorithm, _ = elements(content(made.public_bytes(Encoding.DER)))
    return Signed(body, algorithm, made.signature)


def edited(
    made: x509.Certificate | x509.CertificateRevocationList,
    key: ec.EllipticCurvePrivateKey,
    edit: Edit,
) -> bytes:
    """Return the DER of `made` with its body's fields edited, signed with `key` and SHA-256."""
    body, algorithm, _ = parts(made)
    lie = tlv(SEQUENCE, b"".join(edit(elements(content(body)))))
    return Signed(lie, algorithm, key.sign(lie, ec.ECDSA(hashes.SHA256()))).der


def with_serial(number: bytes) -> Edit:
    """Return an edit that gives a certificate the serial number of these octets."""
    return lambda fields: (fields[0], tlv(INTEGER, number), *fields[2:])


def with_extension_twice(place: int) -> Edit:
    """Return an edit that repeats a certificate's extension number `place`."""

    def edit(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        (sequence,) = elements(content(fields[-1]))
        found = elements(content(sequence))
        again = b"".join((*found, found[place]))
        return (*fields[:-1], tlv(EXTENSIONS, tlv(SEQUENCE, again)))

    return edit


def without_next_update(fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Edit a list so that it has no end: the second of its two times goes."""
    times = [place for place, field in enumerate(fields) if field[0] == UTC_TIME]
    return tuple(field for place, field in enumerate(fields) if place != times[1])


def complement(signature: bytes, order: int = P256_ORDER) -> bytes:
    """Return (r, n - s) for (r, s) in DER: as good a signature, which anybody can make."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, order - s)


def padded(signature: bytes) -> bytes:
    """Return the same r and s in BER that is not DER: r with a needless zero octet."""
    r, s = elements(content(signature))
    return tlv(SEQUENCE, tlv(INTEGER, b"\0" + content(r)) + s)


def _head(data: bytes) -> int:
    return 2 if data[1] < _LONG else 2 + (data[1] & 0x7F)


def _size(data: bytes) -> int:
    return data[1] if data[1] < _LONG else int.from_bytes(data[2 : _head(data)], "big")
