"""Certificates from files that a person names."""

import warnings

from laminator.errors import MalformedError, UsageError, shown
from laminator.reading import read_limited

_MAX_CERTIFICATES = 192 * 1024


def read_certificates(path: str) -> tuple[bytes, ...]:
    """Return the certificates in a PEM file as DER, or a DER file as it is. Raises UsageError."""
    data = read_limited(path, _MAX_CERTIFICATES)
    if b"-----BEGIN " not in data:
        return (data,)
    try:
        return split_pem(data)
    except MalformedError as error:
        raise UsageError("file.certificate", f"{shown(path)} holds no certificate") from error


def split_pem(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates in PEM as DER; whoever uses one judges it. Raises MalformedError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.utils import CryptographyDeprecationWarning

    try:
        with warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
            loaded = x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise MalformedError("certificate.pem", "no certificate in PEM") from error
    return tuple(each.public_bytes(Encoding.DER) for each in loaded)
