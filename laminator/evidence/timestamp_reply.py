"""An RFC 3161 time-stamp response as typed values, unverified.

The layers, outermost first: TimeStampResp (RFC 3161 2.4.2), ContentInfo and SignedData (RFC 5652
sections 3 and 5), TSTInfo (RFC 3161 2.4.2), and the signed attributes with SigningCertificate or
SigningCertificateV2 (RFC 2634 5.4, RFC 5035). Certificates stay bytes, and CRLs are passed over.
"""

import datetime as dt
from typing import NamedTuple

from laminator.evidence.der import (
    BIT_STRING,
    BOOLEAN,
    CONSTRUCTED,
    CONTEXT,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    DerFields,
    Element,
    elements,
    generalized_time,
    integer,
    malformed,
    oid,
    parse_element,
)

MAX_REPLY = 64 * 1024
MAX_CERTIFICATES = 8
MAX_ACCURACY = dt.timedelta(minutes=1)
"""The worst accuracy of a token that is read: beyond it, a time proves too little."""

OID_SIGNED_DATA = "1.2.840.113549.1.7.2"
OID_TST_INFO = "1.2.840.113549.1.9.16.1.4"
OID_CONTENT_TYPE = "1.2.840.113549.1.9.3"
OID_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
OID_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
OID_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
OID_SHA1 = "1.3.14.3.2.26"
OID_SHA256 = "2.16.840.1.101.3.4.2.1"

_GRANTED = 0
_TAG_0, _TAG_1 = CONTEXT | CONSTRUCTED, CONTEXT | CONSTRUCTED | 1
_PRIMITIVE_0, _PRIMITIVE_1 = CONTEXT, CONTEXT | 1
_DIRECTORY_NAME = CONTEXT | CONSTRUCTED | 4
_MOST_FRACTION = 999
_FIRST_YEAR, _LAST_YEAR = 1970, 9998

_ESS_ATTRIBUTES = {OID_SIGNING_CERTIFICATE: OID_SHA1, OID_SIGNING_CERTIFICATE_V2: OID_SHA256}


class TstInfo(NamedTuple):
    """What the authority signed (TSTInfo): `imprint` is by the hash with the OID `hash`.

    `time` is genTime, `accuracy` by how much it may be off, zero where the token does not say.
    """

    policy: str
    hash: str
    imprint: bytes
    serial: int
    time: dt.datetime
    accuracy: dt.timedelta


class SignerId(NamedTuple):
    """Which certificate is the signer's: issuer's Name in DER and serial, or a key identifier."""

    issuer: bytes | None
    serial: int
    key: bytes | None


class CertificateId(NamedTuple):
    """ESSCertID or ESSCertIDv2: `digest` of a whole certificate by the hash with the OID `hash`.

    `issuer` (a Name in DER) and `serial` are None where the identifier leaves them out.
    """

    hash: str
    digest: bytes
    issuer: bytes | None
    serial: int | None


class Signer(NamedTuple):
    """The one SignerInfo; algorithms are OIDs.

    `attributes` are the bytes that the signature is over (a SET OF Attribute), `message_digest` the
    digest in them, `certificates` the first certificate identifier of each ESS attribute.
    """

    id: SignerId
    digest_algorithm: str
    attributes: bytes
    message_digest: bytes
    certificates: tuple[CertificateId, ...]
    signature_algorithm: str
    signature: bytes


class TimestampReply(NamedTuple):
    """A granted response: `content` are the bytes of `info`; certificates are carried, DER."""

    info: TstInfo
    content: bytes
    certificates: tuple[bytes, ...]
    signer: Signer


def parse_timestamp_reply(data: bytes) -> TimestampReply:
    """Parse a granted TimeStampResp in DER, of at most 64 KiB. Raises MalformedError."""
    if len(data) > MAX_REPLY:
        raise malformed("response", f"at most {MAX_REPLY} bytes", str(len(data)))
    fields = DerFields(_sequence(parse_element(data, "response"), "response"), "response")
    status = fields.take(SEQUENCE, "status")
    _check_granted(status)
    token = fields.take(SEQUENCE, "token")
    fields.close()
    return _signed_data(_content(token, OID_SIGNED_DATA, "token"))


def _check_granted(status: Element) -> None:
    fields = DerFields(status, "response.status")
    value = integer(fields.take(INTEGER, "status"), "response.status")
    if value != _GRANTED:
        raise malformed("response.status", "0 (granted)", str(value))
    fields.optional(SEQUENCE, "text")
    fields.optional(BIT_STRING, "failure")
    fields.close()


def _content(info: Element, wanted: str, path: str) -> Element:
    """Return what a ContentInfo or EncapsulatedContentInfo of type `wanted` holds."""
    fields = DerFields(info, path)
    _expect_oid(fields.take(OID, "type"), wanted, f"{path}.type")
    wrapped = fields.take(_TAG_0, "content")
    fields.close()
    return parse_element(wrapped.content, f"{path}.content")


def _signed_data(element: Element) -> TimestampReply:
    path = "signed-data"
    fields = DerFields(_sequence(element, path), path)
    fields.take(INTEGER, "version")
    fields.take(SET, "digest-algorithms")
    content = _content(fields.take(SEQUENCE, "content"), OID_TST_INFO, f"{path}.content")
    carried = fields.optional(_TAG_0, "certificates")
    fields.optional(_TAG_1, "crls")
    signers = elements(fields.take(SET, "signers").content, f"{path}.signers")
    fields.close()
    if content.tag != OCTET_STRING:
        raise malformed(f"{path}.content", "an octet string", f"tag {content.tag:#04x}")
    if len(signers) != 1:
        raise malformed(f"{path}.signers", "exactly one signer", str(len(signers)))
    return TimestampReply(
        info=parse_tst_info(content.content),
        content=content.content,
        certificates=_certificates(carried),
        signer=_signer(signers[0]),
    )


def _certificates(carried: Element | None) -> tuple[bytes, ...]:
    if carried is None:
        return ()
    found = elements(carried.content, "certificates", most=MAX_CERTIFICATES)
    return tuple(_sequence(element, "certificates").encoded for element in found)


def parse_tst_info(data: bytes) -> TstInfo:
    """Parse a TSTInfo. Raises MalformedError, also for a critical extension: none is understood."""
    path = "tst-info"
    fields = DerFields(_sequence(parse_element(data, path), path), path)
    if integer(fields.take(INTEGER, "version"), f"{path}.version") != 1:
        raise malformed(f"{path}.version", "1", "another")
    policy = oid(fields.take(OID, "policy"), f"{path}.policy")
    hash_, imprint = _imprint(fields.take(SEQUENCE, "imprint"))
    serial = integer(fields.take(INTEGER, "serial"), f"{path}.serial")
    time = generalized_time(fields.take(GENERALIZED_TIME, "time"), f"{path}.time")
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise malformed(f"{path}.time", f"a year from {_FIRST_YEAR} to {_LAST_YEAR}", str(time))
    accuracy = _accuracy(fields.optional(SEQUENCE, "accuracy"))
    fields.optional(BOOLEAN, "ordering")
    fields.optional(INTEGER, "nonce")
    fields.optional(_TAG_0, "tsa")
    _check_extensions(fields.optional(_TAG_1, "extensions"))
    fields.close()
    return TstInfo(policy, hash_, imprint, serial, time, accuracy)


def _imprint(element: Element) -> tuple[str, bytes]:
    fields = DerFields(element, "imprint")
    hash_ = _algorithm(fields.take(SEQUENCE, "hash"), "imprint.hash")
    digest = fields.take(OCTET_STRING, "digest").content
    fields.close()
    return hash_, digest


def _accuracy(element: Element | None) -> dt.timedelta:
    """Return an Accuracy. Raises MalformedError for one that is worse than MAX_ACCURACY."""
    if element is None:
        return dt.timedelta()
    path = "accuracy"
    fields = DerFields(element, path)
    most = int(MAX_ACCURACY.total_seconds())
    seconds = _limited(fields.optional(INTEGER, "seconds"), most, path)
    millis = _limited(fields.optional(_PRIMITIVE_0, "millis"), _MOST_FRACTION, path)
    micros = _limited(fields.optional(_PRIMITIVE_1, "micros"), _MOST_FRACTION, path)
    fields.close()
    return dt.timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _limited(element: Element | None, most: int, path: str) -> int:
    value = 0 if element is None else integer(element, path)
    if not 0 <= value <= most:
        raise malformed(path, f"0 to {most}", str(value))
    return value


def _check_extensions(extensions: Element | None) -> None:
    carried = () if extensions is None else elements(extensions.content, "extensions")
    for extension in carried:
        fields = DerFields(_sequence(extension, "extensions"), "extensions")
        name = oid(fields.take(OID, "id"), "extensions.id")
        if fields.optional(BOOLEAN, "critical") is not None:
            raise malformed("extensions", "none that is critical", name)
        fields.take(OCTET_STRING, "value")
        fields.close()


def _signer(element: Element) -> Signer:
    path = "signer"
    fields = DerFields(_sequence(element, path), path)
    fields.take(INTEGER, "version")
    key = fields.optional(_PRIMITIVE_0, "key")
    id_ = SignerId(None, 0, key.content) if key else _issuer_and_serial(fields)
    digest_algorithm = _algorithm(fields.take(SEQUENCE, "digest-algorithm"), path)
    attributes = fields.take(_TAG_0, "attributes")
    signature_algorithm = _algorithm(fields.take(SEQUENCE, "algorithm"), path)
    signature = fields.take(OCTET_STRING, "signature").content
    fields.optional(_TAG_1, "unsigned-attributes")
    fields.close()
    values = _attributes(attributes)
    _expect_oid(_required(values, OID_CONTENT_TYPE, OID), OID_TST_INFO, "attributes.type")
    return Signer(
        id=id_,
        digest_algorithm=digest_algorithm,
        attributes=bytes([SET]) + attributes.encoded[1:],
        message_digest=_required(values, OID_MESSAGE_DIGEST, OCTET_STRING).content,
        certificates=tuple(
            _first_certificate_id(values[name], default)
            for name, default in _ESS_ATTRIBUTES.items()
            if name in values
        ),
        signature_algorithm=signature_algorithm,
        signature=signature,
    )


def _issuer_and_serial(fields: DerFields) -> SignerId:
    inner = DerFields(fields.take(SEQUENCE, "id"), "signer.id")
    issuer = inner.take(SEQUENCE, "issuer").encoded
    serial = integer(inner.take(INTEGER, "serial"), "signer.id.serial")
    inner.close()
    return SignerId(issuer, serial, None)


def _attributes(attributes: Element) -> dict[str, Element]:
    """Return the one value of each signed attribute; none may come twice (RFC 5652 section 11)."""
    values: dict[str, Element] = {}
    for attribute in elements(attributes.content, "attributes"):
        fields = DerFields(_sequence(attribute, "attributes"), "attributes")
        name = oid(fields.take(OID, "type"), "attributes.type")
        value = parse_element(fields.take(SET, "values").content, f"attributes.{name}")
        fields.close()
        if name in values:
            raise malformed("attributes", "each attribute once", name)
        values[name] = value
    return values


def _required(values: dict[str, Element], name: str, tag: int) -> Element:
    value = values.get(name)
    if value is None or value.tag != tag:
        raise malformed("attributes", f"attribute {name}", "none of its type")
    return value


def _first_certificate_id(value: Element, default_hash: str) -> CertificateId:
    """Parse the first identifier of a SigningCertificate or V2: the signer's (RFC 2634 5.4)."""
    path = "signing-certificate"
    fields = DerFields(_sequence(value, path), path)
    identifiers = elements(fields.take(SEQUENCE, "certificates").content, path)
    fields.optional(SEQUENCE, "policies")
    fields.close()
    if not identifiers:
        raise malformed(path, "an identifier", "none")
    inner = DerFields(_sequence(identifiers[0], path), path)
    algorithm = inner.optional(SEQUENCE, "hash")
    hash_ = default_hash if algorithm is None else _algorithm(algorithm, path)
    digest = inner.take(OCTET_STRING, "digest").content
    issuer, serial = _issuer_serial(inner.optional(SEQUENCE, "issuer-serial"))
    inner.close()
    return CertificateId(hash_, digest, issuer, serial)


def _issuer_serial(element: Element | None) -> tuple[bytes | None, int | None]:
    if element is None:
        return None, None
    path = "issuer-serial"
    fields = DerFields(element, path)
    names = elements(fields.take(SEQUENCE, "issuer").content, path)
    serial = integer(fields.take(INTEGER, "serial"), path)
    fields.close()
    if [name.tag for name in names] != [_DIRECTORY_NAME]:
        raise malformed(path, "one directory name", "another")
    return names[0].content, serial


def _algorithm(element: Element, path: str) -> str:
    """Return an AlgorithmIdentifier's OID; its parameters say nothing for the ones that count."""
    found = elements(element.content, path, most=2)
    if not found or found[0].tag != OID:
        raise malformed(path, "an algorithm", "none")
    return oid(found[0], path)


def _expect_oid(element: Element, wanted: str, path: str) -> None:
    found = oid(element, path)
    if found != wanted:
        raise malformed(path, wanted, found)


def _sequence(element: Element, path: str) -> Element:
    if element.tag != SEQUENCE:
        raise malformed(path, "a sequence", f"tag {element.tag:#04x}")
    return element
