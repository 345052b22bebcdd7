"""The path from an AK certificate to a pinned anchor (RFC 5280 section 6).

cryptography's verifier builds and checks the path; the extension policies here replace its rules
for web servers. docs/adr/0002-x509-verification.md says why this verifier, and what it checks.
"""

import datetime as dt
from typing import NamedTuple

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder

from laminator.appraise.trust import Anchor
from laminator.errors import shown
from laminator.evidence.encodings import Encoding, PublicFormat

AK_EKU = ObjectIdentifier("2.23.133.8.3")
MAX_INTERMEDIATES = 3
_AK_ANCHOR_KINDS = ("simulated", "cloud-vtpm", "tpm")


class Chain(NamedTuple):
    """A path that holds: certificates from the leaf to the anchor's."""

    certificates: tuple[x509.Certificate, ...]
    anchor: Anchor


class ChainSearch(NamedTuple):
    """A path, or why there is none; `in_time` is False for a path that held at another time."""

    chain: Chain | None
    in_time: bool
    detail: str


def find_chain(
    certificates: tuple[x509.Certificate, ...], anchors: tuple[Anchor, ...], at: dt.datetime
) -> ChainSearch:
    """Look for a path from the first of `certificates` over the others to one of `anchors`.

    Where none holds at `at`, one that held when the first certificate began is looked for, so
    that an expired path is told apart from a foreign one. The lowest kind of anchor is tried
    first, and a key that is pinned as several kinds counts as the lowest. The first certificate is
    never its own anchor.
    """
    chain, detail = _search(certificates, anchors, at)
    if chain is not None:
        return ChainSearch(chain, in_time=True, detail="")
    chain, _ = _search(certificates, anchors, certificates[0].not_valid_before_utc)
    if chain is not None:
        return ChainSearch(chain, in_time=False, detail="")
    return ChainSearch(None, in_time=False, detail=detail)


def _search(
    certificates: tuple[x509.Certificate, ...], anchors: tuple[Anchor, ...], at: dt.datetime
) -> tuple[Chain | None, str]:
    detail = "no anchor of a kind that attestation keys can have"
    for kind in _AK_ANCHOR_KINDS:
        of_kind = (anchor for anchor in anchors if anchor.kind == kind)
        pinned = {anchor.certificate: anchor for anchor in of_kind}
        pinned.pop(certificates[0], None)
        if not pinned:
            continue
        try:
            path = _verifier(list(pinned), at).verify(certificates[0], list(certificates[1:]))
        except verification.VerificationError as error:
            detail = shown(str(error))
        else:
            anchor = _lowest(tuple(path.chain), pinned[path.chain[-1]], anchors)
            return Chain(tuple(path.chain), anchor), ""
    return None, detail


def _lowest(
    path: tuple[x509.Certificate, ...], anchor: Anchor, anchors: tuple[Anchor, ...]
) -> Anchor:
    """Return `anchor` as the lowest kind that any authority's key of `path` is pinned as.

    By key, not by certificate: another certificate of a key may have expired, or forbid the path.
    """
    keys = {_spki(certificate) for certificate in path[1:]}
    kinds = {other.kind for other in anchors if _spki(other.certificate) in keys}
    return anchor._replace(kind=next(kind for kind in _AK_ANCHOR_KINDS if kind in kinds))


def _spki(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _verifier(roots: list[x509.Certificate], at: dt.datetime) -> verification.ClientVerifier:
    return (
        PolicyBuilder()
        .store(verification.Store(roots))
        .time(at)
        .max_chain_depth(MAX_INTERMEDIATES)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_AK_POLICY)
        .build_client_verifier()
    )


def _check_ca_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("an issuer without keyCertSign")


def _check_ca_purpose(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and not {AK_EKU, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {*usage}:
        raise ValueError("an issuer for other purposes")


def _check_leaf_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("key usage of an attestation key is digitalSignature")


def _check_leaf_constraints(
    _: Policy, __: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("an authority's certificate for an attestation key")


_CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_ca_usage)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_ca_purpose)
    .require_not_present(x509.NameConstraints)
)
_AK_POLICY = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _check_leaf_constraints)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_leaf_usage)
)
