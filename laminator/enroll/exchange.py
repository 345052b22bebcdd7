"""The four files that travel between a machine and its authority.

    request    machine -> authority   the keys' public areas, the EK's certificates, the counter
    challenge  authority -> machine   a secret that only the TPM with both keys can open
    response   machine -> authority   that secret
    grant      authority -> machine   the AK's certificate

Each is one map in deterministic CBOR whose `profile` names its kind. Nothing here is
authenticated: `laminator.enroll.authority` judges a request and a response,
`laminator.enroll.install` a grant. Digests are SHA-256.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from laminator import cbor
from laminator.cbor import Encodable
from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import EK_TEMPLATES
from laminator.errors import MalformedError, shown
from laminator.fields import Fields, array, choice, octets, text, uint
from laminator.reading import read_bounded

MAX_FILE = 192 * 1024
MAX_CERTIFICATES = 9
"""An EK's own certificate and the intermediates that its authority looks at."""

_PREFIX = "tag:laminator,2026:ak-"
_KINDS = ("request", "challenge", "response", "grant")
_DIGEST = octets(32, 32)
_PUBLIC_AREA = octets(1, 2048)
_CERTIFICATES = array(octets(1, 16 * 1024), least=1, most=MAX_CERTIFICATES)
_MAX_ENCRYPTED = 1024

T = TypeVar("T")


class EnrolmentRequest(NamedTuple):
    """A machine's request.

    `ak`, `ek`: TPMT_PUBLIC. `counter`: the run counter's TPMS_NV_PUBLIC. `ek_certificates`: DER,
    the EK's own first, then candidates for intermediates.
    """

    ak: bytes
    ek: bytes
    ek_certificates: tuple[bytes, ...]
    counter: bytes


class EnrolmentChallenge(NamedTuple):
    """An authority's challenge.

    `request`: the request file's digest. `authority`: its certificate's fingerprint. `ak`: the
    AK's TPMT_PUBLIC. `ek`: the name of the EK's template. `expires`: seconds since 1970.
    """

    request: bytes
    authority: bytes
    ak: bytes
    ek: str
    credential: Credential
    expires: int


class EnrolmentResponse(NamedTuple):
    """The secret that the TPM opened. `challenge`: the challenge file's digest."""

    challenge: bytes
    secret: bytes


class EnrolmentGrant(NamedTuple):
    """The AK's certificate and the authority's own, both DER, in this order."""

    certificates: tuple[bytes, ...]


def digest(data: bytes) -> bytes:
    """Return the digest by which one file names another."""
    return hashlib.sha256(data).digest()


def encode_request(request: EnrolmentRequest) -> bytes:
    """Return the request's file."""
    return _encode(
        "request",
        {
            "ak": request.ak,
            "ek": request.ek,
            "ek-certificates": request.ek_certificates,
            "counter": request.counter,
        },
    )


def parse_request(data: bytes) -> EnrolmentRequest:
    """Parse a request's file. Raises MalformedError."""
    fields = _fields("request", data)
    request = EnrolmentRequest(
        ak=fields.take("ak", _PUBLIC_AREA),
        ek=fields.take("ek", _PUBLIC_AREA),
        ek_certificates=fields.take("ek-certificates", _CERTIFICATES),
        counter=fields.take("counter", _PUBLIC_AREA),
    )
    fields.close()
    return request


def encode_challenge(challenge: EnrolmentChallenge) -> bytes:
    """Return the challenge's file."""
    return _encode(
        "challenge",
        {
            "request": challenge.request,
            "authority": challenge.authority,
            "ak": challenge.ak,
            "ek": challenge.ek,
            "blob": challenge.credential.blob,
            "secret": challenge.credential.secret,
            "expires": challenge.expires,
        },
    )


def parse_challenge(data: bytes) -> EnrolmentChallenge:
    """Parse a challenge's file. Raises MalformedError."""
    fields = _fields("challenge", data)
    encrypted = octets(1, _MAX_ENCRYPTED)
    challenge = EnrolmentChallenge(
        request=fields.take("request", _DIGEST),
        authority=fields.take("authority", _DIGEST),
        ak=fields.take("ak", _PUBLIC_AREA),
        ek=fields.take("ek", choice(*(template.name for template in EK_TEMPLATES))),
        credential=Credential(fields.take("blob", encrypted), fields.take("secret", encrypted)),
        expires=fields.take("expires", uint),
    )
    fields.close()
    return challenge


def encode_response(response: EnrolmentResponse) -> bytes:
    """Return the response's file."""
    return _encode("response", {"challenge": response.challenge, "secret": response.secret})


def parse_response(data: bytes) -> EnrolmentResponse:
    """Parse a response's file. Raises MalformedError."""
    fields = _fields("response", data)
    response = EnrolmentResponse(
        challenge=fields.take("challenge", _DIGEST),
        secret=fields.take("secret", octets(1, 64)),
    )
    fields.close()
    return response


def encode_grant(grant: EnrolmentGrant) -> bytes:
    """Return the grant's file."""
    return _encode("grant", {"certificates": grant.certificates})


def parse_grant(data: bytes) -> EnrolmentGrant:
    """Parse a grant's file. Raises MalformedError."""
    fields = _fields("grant", data)
    grant = EnrolmentGrant(fields.take("certificates", _CERTIFICATES))
    fields.close()
    return grant


def load_file(path: str, parse: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Return a file's bytes and what it says.

    Raises UsageError where it cannot be read, MalformedError.
    """
    data = read_bounded(path, MAX_FILE)
    return data, parse(data)


def _encode(kind: str, entries: dict[str, Encodable]) -> bytes:
    return cbor.encode({"profile": _profile(kind), **entries})


def _fields(kind: str, data: bytes) -> Fields:
    """Return the fields of a file that is of `kind`; the message says what else it may be."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_FILE), kind)
    found = fields.take("profile", text)
    if found != _profile(kind):
        others = [other for other in _KINDS if found == _profile(other)]
        what = f"an enrolment {others[0]}" if others else f"of the profile {shown(found)}"
        raise MalformedError("exchange.kind", f"the file is {what}, not a {kind}")
    return fields


def _profile(kind: str) -> str:
    return f"{_PREFIX}{kind}-v1"
