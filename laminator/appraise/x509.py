"""The AK's certificate: whose key it is, and who vouches for it, at a stated time.

`verify_ak_certificate` is the list of checks. Candidates from the card are intermediates only;
anchors and revocation lists are the verifier's.
"""

import datetime as dt
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from laminator.appraise.chain import AK_EKU, ATTESTATION_KEY, Chain, find_chain
from laminator.appraise.check import FAIL, Check, failed, not_checked, passed
from laminator.appraise.path_checks import PathIds, check_path, name_of
from laminator.appraise.trust import LOWEST_KIND, TrustStore, parse_certificate
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError
from laminator.evidence.ak_extension import AK_EXTENSION_OID, AkExtension, parse_ak_extension
from laminator.evidence.encodings import Encoding, PublicFormat

_PATH = PathIds("ak.chain", "ak.algorithm", "ak.validity", "ak.revocation")
_LEAF_CHECKS = ("ak.eku", "ak.extension")
_RANK = ("simulated", "cloud-vtpm", "tpm")
_MAX_CERTIFICATES = 8


class VerifiedAk(NamedTuple):
    """An AK certificate whose checks all passed; revocation may be not-checked.

    `kind` is the anchor's, or a lower one that the certificate's extension states. `subject` and
    `anchor_subject` are RFC 4514 strings as they stand in the certificates, not fit for a terminal.
    """

    kind: str
    subject: str
    anchor_kind: str
    anchor_subject: str
    anchor_fingerprint: Digest
    counter_name: bytes


class AkAppraisal(NamedTuple):
    """The checks of an AK certificate; `verified` only where none of them failed."""

    checks: tuple[Check, ...]
    verified: VerifiedAk | None


def verify_ak_certificate(
    certificates: tuple[bytes, ...], spki: bytes, trust: TrustStore, at: dt.datetime
) -> AkAppraisal:
    """Judge the certificate of the key `spki` (SubjectPublicKeyInfo, DER) at the time `at`.

    `certificates` are DER: the AK's, then candidates for intermediates. Raises UsageError for a
    time without a zone.
    """
    if at.tzinfo is None:
        raise UsageError("verify.at", "the time of appraisal needs a time zone")
    try:
        parsed = _parse(certificates)
    except MalformedError as error:
        return _unreadable(error.message)
    search = find_chain(ATTESTATION_KEY, parsed, trust.anchors, at.astimezone(dt.UTC))
    extension = _extension(parsed[0])
    checks = (
        check_certificate(parsed[0], spki),
        *check_path(_PATH, search, trust.crls, at),
        check_eku(parsed[0]),
        check_extension(extension, search.chain),
    )
    return AkAppraisal(checks, _verified(checks, search.chain, extension))


def check_certificate(leaf: x509.Certificate, spki: bytes) -> Check:
    """Check that the certificate is for the key that signed the evidence."""
    found = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if found != spki:
        return failed("ak.certificate", "the certificate is for another key than the AK")
    return passed("ak.certificate", f"a certificate for the AK: {name_of(leaf)}")


def check_eku(leaf: x509.Certificate) -> Check:
    """Check the extended key usage tcg-kp-AIKCertificate (TCG OID registry)."""
    try:
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return failed("ak.eku", "the certificate has no extended key usage")
    if AK_EKU not in usages:
        found = ", ".join(usage.dotted_string for usage in usages)
        return failed("ak.eku", f"extended key usage {found}, not {AK_EKU.dotted_string}")
    return passed("ak.eku", "the certificate is one for an attestation key")


def check_extension(extension: AkExtension | str, chain: Chain | None) -> Check:
    """Check that the authority names the run counter, and a kind that fits the anchor's."""
    if isinstance(extension, str):
        return failed("ak.extension", extension)
    if chain is None:
        return not_checked("ak.extension", "no chain says whose statement it is")
    kind = lowered(chain.anchor.kind, extension.anchor)
    if kind is None:
        detail = f"it says {extension.anchor}, the anchor is {chain.anchor.kind}"
        return failed("ak.extension", detail)
    name = extension.counter_name.hex()
    return passed("ak.extension", f"root {kind}, run counter {name}")


def lowered(anchor_kind: str, stated: str) -> str | None:
    """Return the kind of root: never higher than the anchor's, None where the two do not fit.

    An anchor pinned as simulated stays simulated whatever a certificate says.
    """
    if anchor_kind == LOWEST_KIND:
        return LOWEST_KIND
    if anchor_kind not in _RANK or stated not in _RANK:
        return anchor_kind if stated == anchor_kind else None
    return min(anchor_kind, stated, key=_RANK.index)


def _verified(
    checks: tuple[Check, ...], chain: Chain | None, extension: AkExtension | str
) -> VerifiedAk | None:
    if chain is None or isinstance(extension, str):
        return None
    if any(check.verdict == FAIL for check in checks):
        return None
    kind = lowered(chain.anchor.kind, extension.anchor)
    return VerifiedAk(
        kind=kind or LOWEST_KIND,
        subject=chain.certificates[0].subject.rfc4514_string(),
        anchor_kind=chain.anchor.kind,
        anchor_subject=chain.anchor.subject,
        anchor_fingerprint=chain.anchor.fingerprint,
        counter_name=extension.counter_name,
    )


def _parse(certificates: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    if not 1 <= len(certificates) <= _MAX_CERTIFICATES:
        count = f"{len(certificates)} certificates, not 1 to {_MAX_CERTIFICATES}"
        raise MalformedError("x509.certificate", count)
    return tuple(parse_certificate(der) for der in certificates)


def _extension(leaf: x509.Certificate) -> AkExtension | str:
    """Return the leaf's private extension, or what is wrong with it."""
    try:
        found = leaf.extensions.get_extension_for_oid(ObjectIdentifier(AK_EXTENSION_OID)).value
        return parse_ak_extension(found.public_bytes())
    except x509.ExtensionNotFound:
        return "the certificate names no run counter"
    except MalformedError as error:
        return f"the certificate's extension is malformed: {error.message}"


def _unreadable(reason: str) -> AkAppraisal:
    rest = (not_checked(id_, "no certificate was read") for id_ in (*_PATH, *_LEAF_CHECKS))
    return AkAppraisal((failed("ak.certificate", reason), *rest), None)
