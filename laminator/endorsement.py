"""What an auditor signs about measurers: an endorsement, and the list of those withdrawn.

`docs/endorsement.md` and `docs/card.cddl` describe both; they travel as payloads of COSE_Sign1.
"""

from collections.abc import Mapping
from typing import NamedTuple

from laminator import cbor
from laminator.cbor import Value
from laminator.digest import Digest
from laminator.errors import MalformedError
from laminator.fields import Fields, array, choice, digest, malformed, name, octets, text, uint

ENDORSEMENT_PROFILE = "tag:laminator,2026:endorsement-v1"
REVOCATIONS_PROFILE = "tag:laminator,2026:endorsement-revocations-v1"
ENDORSEMENT_TYPE = "application/vnd.laminator.endorsement+cbor"
REVOCATIONS_TYPE = "application/vnd.laminator.endorsement-revocations+cbor"
REFERENCE_TYPE = "application/vnd.laminator.reference+cbor"
KINDS = ("launch", "entry")
"""What is endorsed: an attester by the digest of its launch, or a run's entry script."""

ID_SIZE = 16
MAX_PAYLOAD = 1024 * 1024
MAX_MEASURES = 100


class Endorsement(NamedTuple):
    """`digest` measures the properties `measures`; times in seconds since 1970, both included."""

    id: bytes
    measures: tuple[str, ...]
    kind: str
    digest: Digest
    not_before: int
    not_after: int
    measurer: str | None = None
    note: str | None = None


class Revocations(NamedTuple):
    """Endorsements withdrawn by their signer, with reasons; current up to `next_update`."""

    issued: int
    next_update: int
    reasons: Mapping[bytes, str]


def parse_endorsement(data: bytes) -> Endorsement:
    """Parse the one encoding of an endorsement. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_PAYLOAD), "endorsement")
    fields.take("profile", choice(ENDORSEMENT_PROFILE))
    found = Endorsement(
        id=fields.take("id", octets(ID_SIZE, ID_SIZE)),
        measures=fields.take("measures", array(name, least=1, most=MAX_MEASURES)),
        kind=fields.take("kind", choice(*KINDS)),
        digest=fields.take("digest", digest),
        not_before=fields.take("not-before", uint),
        not_after=fields.take("not-after", uint),
        measurer=fields.optional("measurer", text),
        note=fields.optional("note", text),
    )
    fields.close()
    if list(found.measures) != sorted(set(found.measures)):
        raise malformed("endorsement.measures", "names sorted, each once", found.measures)
    _check_span(found.not_before, found.not_after, "endorsement.not-after")
    return found


def encode_endorsement(endorsement: Endorsement) -> bytes:
    """Return the one encoding. Raises MalformedError where it could not be read back."""
    plain: dict[str, cbor.Encodable] = {
        "profile": ENDORSEMENT_PROFILE,
        "id": endorsement.id,
        "measures": endorsement.measures,
        "kind": endorsement.kind,
        "digest": endorsement.digest,
        "not-before": endorsement.not_before,
        "not-after": endorsement.not_after,
    }
    for key in ("measurer", "note"):
        if (value := getattr(endorsement, key)) is not None:
            plain[key] = value
    encoded = cbor.encode(plain)
    parse_endorsement(encoded)
    return encoded


def parse_revocations(data: bytes) -> Revocations:
    """Parse the one encoding of a list of revocations. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_PAYLOAD), "revocations")
    fields.take("profile", choice(REVOCATIONS_PROFILE))
    issued = fields.take("issued", uint)
    next_update = fields.take("next-update", uint)
    revoked = fields.take("revoked", array(_revoked))
    fields.close()
    ids = [id_ for id_, _ in revoked]
    if ids != sorted(set(ids)):
        message = "ids are not sorted, or one is there twice"
        raise MalformedError("endorsement.order", message, path="revocations.revoked")
    _check_span(issued, next_update, "revocations.next-update")
    return Revocations(issued, next_update, dict(revoked))


def encode_revocations(revocations: Revocations) -> bytes:
    """Return the one encoding. Raises MalformedError where it could not be read back."""
    encoded = cbor.encode(
        {
            "profile": REVOCATIONS_PROFILE,
            "issued": revocations.issued,
            "next-update": revocations.next_update,
            "revoked": sorted(revocations.reasons.items()),
        }
    )
    parse_revocations(encoded)
    return encoded


def _revoked(value: Value, path: str) -> tuple[bytes, str]:
    match value:
        case (bytes() as id_, reason) if len(id_) == ID_SIZE:
            return id_, text(reason, path)
        case _:
            raise malformed(path, "[id, reason]", value)


def _check_span(first: int, last: int, path: str) -> None:
    if last < first:
        raise malformed(path, f"{first} or later", last)
