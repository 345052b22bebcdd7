"""Requests for a token (TimeStampReq, RFC 3161, 2.4.1)."""

import hashlib
from typing import Literal, NamedTuple

from laminator.evidence.der import (
    BOOLEAN,
    CONSTRUCTED,
    CONTEXT,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    DerFields,
    Element,
    integer,
    malformed,
    oid,
    parse_element,
)

Hash = Literal["sha256", "sha512"]
HASHES: tuple[Hash, ...] = ("sha256", "sha512")
HASH_OIDS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
MAX_QUERY = 16 * 1024

_EXTENSIONS = CONTEXT | CONSTRUCTED


class Query(NamedTuple):
    """A request in DER, the imprint's hash (OID) and bytes in it, and its nonce if it has one."""

    der: bytes
    hash: str
    imprint: bytes
    nonce: int | None

    def is_over(self, message: bytes) -> bool:
        """Say whether the imprint is that of `message`."""
        return self.imprint == imprint_of(message, self.hash)


def make_query(message: bytes, algorithm: Hash) -> Query:
    """Return a request over `message` with a fresh random nonce, for a token with certificates."""
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    builder = TimestampRequestBuilder().data(message)
    built = builder.hash_algorithm(HashAlgorithm[algorithm.upper()]).build()
    return parse_query(built.as_bytes())


def parse_query(data: bytes) -> Query:
    """Parse a request of at most 16 KiB. Raises MalformedError."""
    path = "request"
    if len(data) > MAX_QUERY:
        raise malformed(path, f"at most {MAX_QUERY} bytes", str(len(data)))
    element = parse_element(data, path)
    if element.tag != SEQUENCE:
        raise malformed(path, "a sequence", f"tag {element.tag:#04x}")
    fields = DerFields(element, path)
    fields.take(INTEGER, "version")
    hash_, imprint = _imprint(fields.take(SEQUENCE, "imprint"))
    fields.optional(OID, "policy")
    nonce = fields.optional(INTEGER, "nonce")
    fields.optional(BOOLEAN, "certificates")
    fields.optional(_EXTENSIONS, "extensions")
    fields.close()
    number = None if nonce is None else integer(nonce, "request.nonce")
    return Query(data, hash_, imprint, number)


def imprint_of(message: bytes, hash_oid: str) -> bytes | None:
    """Return the digest of `message`, None for a hash that is not of the SHA-2 family."""
    name = HASH_OIDS.get(hash_oid)
    return None if name is None else hashlib.new(name, message).digest()


def _imprint(element: Element) -> tuple[str, bytes]:
    fields = DerFields(element, "request.imprint")
    algorithm = DerFields(fields.take(SEQUENCE, "hash"), "request.imprint.hash")
    hash_ = oid(algorithm.take(OID, "hash"), "request.imprint.hash")
    digest = fields.take(OCTET_STRING, "digest").content
    fields.close()
    return hash_, digest
