"""The path from a certificate to a pinned anchor (RFC 5280 section 6), for a stated purpose.

cryptography's verifier builds and checks the path; the extension policies here replace its rules
for web servers. docs/adr/0002-x509-verification.md says why this verifier, and what it checks.
"""

import datetime as dt
from typing import NamedTuple

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder

from laminator.appraise.trust import SIMULATED_TSA, TSA, Anchor
from laminator.errors import shown
from laminator.evidence.encodings import Encoding, PublicFormat

AK_EKU = ObjectIdentifier("2.23.133.8.3")
MAX_INTERMEDIATES = 3


class Purpose(NamedTuple):
    """What a path is for.

    `kinds` are the kinds of anchor that it may end in, the lowest first, and never those of another
    purpose. `leaf` are the rules for the first certificate, `issuers` those for the others.
    """

    name: str
    kinds: tuple[str, ...]
    leaf: ExtensionPolicy
    issuers: ExtensionPolicy


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
    purpose: Purpose,
    certificates: tuple[x509.Certificate, ...],
    anchors: tuple[Anchor, ...],
    at: dt.datetime,
) -> ChainSearch:
    """Look for a path from the first of `certificates` over the others to one of `anchors`.

    Where none holds at `at`, one that held when the first certificate began is looked for, so
    that an expired path is told apart from a foreign one. The lowest kind of anchor is tried
    first, and a key that is pinned as several kinds counts as the lowest. The first certificate is
    never its own anchor.
    """
    chain, detail = _search(purpose, certificates, anchors, at)
    if chain is not None:
        return ChainSearch(chain, in_time=True, detail="")
    chain, _ = _search(purpose, certificates, anchors, certificates[0].not_valid_before_utc)
    if chain is not None:
        return ChainSearch(chain, in_time=False, detail="")
    return ChainSearch(None, in_time=False, detail=detail)


def _search(
    purpose: Purpose,
    certificates: tuple[x509.Certificate, ...],
    anchors: tuple[Anchor, ...],
    at: dt.datetime,
) -> tuple[Chain | None, str]:
    detail = f"no anchor of a kind that {purpose.name} can have"
    for kind in purpose.kinds:
        of_kind = (anchor for anchor in anchors if anchor.kind == kind)
        pinned = {anchor.certificate: anchor for anchor in of_kind}
        pinned.pop(certificates[0], None)
        if not pinned:
            continue
        try:
            verifier = _verifier(purpose, list(pinned), at)
            path = verifier.verify(certificates[0], list(certificates[1:]))
        except verification.VerificationError as error:
            detail = shown(str(error))
        else:
            lowest = _lowest(purpose, tuple(path.chain), anchors)
            return Chain(tuple(path.chain), pinned[path.chain[-1]]._replace(kind=lowest)), ""
    return None, detail


def _lowest(
    purpose: Purpose, path: tuple[x509.Certificate, ...], anchors: tuple[Anchor, ...]
) -> str:
    """Return the lowest kind that any authority's key of `path` is pinned as.

    By key, not by certificate: another certificate of a key may have expired, or forbid the path.
    """
    keys = {_spki(certificate) for certificate in path[1:]}
    kinds = {anchor.kind for anchor in anchors if _spki(anchor.certificate) in keys}
    return next(kind for kind in purpose.kinds if kind in kinds)


def _spki(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _verifier(
    purpose: Purpose, roots: list[x509.Certificate], at: dt.datetime
) -> verification.ClientVerifier:
    return (
        PolicyBuilder()
        .store(verification.Store(roots))
        .time(at)
        .max_chain_depth(MAX_INTERMEDIATES)
        .extension_policies(ca_policy=purpose.issuers, ee_policy=purpose.leaf)
        .build_client_verifier()
    )


def _check_ca_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("an issuer without keyCertSign")


def _issuers_for(eku: ObjectIdentifier) -> ExtensionPolicy:
    """Return the rules for issuers on a path for the extended key usage `eku`."""
    allowed = {eku, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}

    def check_purpose(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and not allowed & {*usage}:
            raise ValueError("an issuer for other purposes")

    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_ca_usage)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, check_purpose)
        .require_not_present(x509.NameConstraints)
    )


def _check_ak_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("key usage of an attestation key is digitalSignature")


def _check_tsa_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    signs = usage.digital_signature or usage.content_commitment
    others = (
        *(usage.key_encipherment, usage.data_encipherment, usage.key_agreement),
        *(usage.key_cert_sign, usage.crl_sign),
    )
    if not signs or any(others):
        raise ValueError(
            "key usage for time-stamping is digitalSignature, contentCommitment or both"
        )


def _check_leaf_constraints(
    _: Policy, __: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("an authority's certificate at the start of a path")


_LEAF = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _check_leaf_constraints)
    .require_not_present(x509.NameConstraints)
)
ATTESTATION_KEY = Purpose(
    name="attestation keys",
    kinds=("simulated", "cloud-vtpm", "tpm"),
    leaf=_LEAF.require_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_ak_usage),
    issuers=_issuers_for(AK_EKU),
)
TIME_STAMPING = Purpose(
    name="time-stamping authorities",
    kinds=(SIMULATED_TSA, TSA),
    leaf=_LEAF.require_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_tsa_usage),
    issuers=_issuers_for(ExtendedKeyUsageOID.TIME_STAMPING),
)
