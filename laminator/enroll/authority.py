"""The authority's core: from a request to a certificate, in four steps and no state.

1. `check_ak`, `check_ek`, `check_counter`: the public areas are of the kinds that are certified.
2. `verify_endorsement`: the EK is the one of a certificate that a manufacturer's root vouches for.
3. `challenge`: a secret that only the TPM with both keys can open.
4. `accept_response`, then `certify`: only the returned `VerifiedAk` earns a certificate.

Sources: TPM 2.0 Part 1, clause 24; TCG EK Credential Profile for TPM Family 2.0. Time is an
argument. The caller keeps `PendingChallenge` values, uses each at most once, and so works in one
process as well as across an air gap.
"""

import dataclasses
import datetime as dt
import hashlib
import hmac
import secrets
from typing import NamedTuple

from cryptography import x509

from laminator.enroll.ak_certificate import Authority, CertificateTerms, sign_ak_certificate
from laminator.enroll.credential import Credential, make_credential
from laminator.enroll.ek_certificate import (
    EkTrust,
    certificate_key,
    parse_certificate,
    verify_ek_certificate,
)
from laminator.enroll.key_templates import EkTemplate, find_ek_template
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import UsageError
from laminator.evidence.ak_extension import AkExtension
from laminator.evidence.tpm_key import PublicKey, public_key
from laminator.evidence.tpm_structures import (
    AK_ATTRIBUTES_CLEAR,
    AK_ATTRIBUTES_SET,
    COUNTER_ATTRIBUTES_ACCEPTED,
    RUN_COUNTER_INDEX,
    RUN_COUNTER_SIZE,
    WRITTEN,
    EccPublic,
    NvPublic,
    Public,
    RsaPublic,
    Scheme,
    marshal_public,
    name,
    parse_nv_public,
    parse_public,
)
from laminator.evidence.tpm_wire import (
    ALG_ECDSA,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SHA256,
    ALG_SHA384,
    ALG_SHA512,
    ECC_NIST_P256,
    ECC_NIST_P384,
)

SECRET_BYTES = 32
CHALLENGE_LIFETIME = dt.timedelta(days=30)
_DOMAIN = b"laminator-credential-v1\x00"

_HASHES = (ALG_SHA256, ALG_SHA384, ALG_SHA512)
_AK_ECC = {
    ECC_NIST_P256: [Scheme(ALG_ECDSA, hash_) for hash_ in _HASHES],
    ECC_NIST_P384: [Scheme(ALG_ECDSA, hash_) for hash_ in (ALG_SHA384, ALG_SHA512)],
}
_AK_RSA_BITS = (2048, 3072, 4096)
_AK_RSA = [Scheme(scheme, hash_) for scheme in (ALG_RSASSA, ALG_RSAPSS) for hash_ in _HASHES]
_DEFAULT_EXPONENTS = (0, 65537)


class CheckedAk(NamedTuple):
    """An attestation key of an accepted kind; that a TPM holds it is not shown yet."""

    public: Public
    key: PublicKey
    name: bytes


class CheckedEk(NamedTuple):
    """An endorsement key with a TCG template's public area; nobody vouches for it yet."""

    public: Public
    key: PublicKey
    template: EkTemplate


class VerifiedEk(NamedTuple):
    """An endorsement key that a manufacturer's root vouches for."""

    public: Public
    certificate: x509.Certificate
    certificate_digest: bytes
    anchor_kind: str


class PendingChallenge(NamedTuple):
    """What the authority keeps of a challenge: plain values, and not the secret itself."""

    ak: bytes
    counter_name: bytes
    ek_certificate_digest: bytes
    anchor_kind: str
    proof: bytes
    expires: dt.datetime


_VERIFIED = object()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAk:
    """An attestation key shown to be in the TPM of a verified endorsement key.

    Only `accept_response` makes one.
    """

    ak: CheckedAk
    extension: AkExtension
    ek_certificate_digest: bytes
    seal: object = dataclasses.field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _VERIFIED:
            raise UsageError("response.unverified", "call accept_response to verify a key")


def check_ak(data: bytes) -> CheckedAk:
    """Check an attestation key's TPMT_PUBLIC.

    Required: fixed to its TPM and parent, made in it, restricted, signing with an explicit
    scheme of SHA-256 or better; not decrypting, not signing X.509; a nameAlg of SHA-256 or
    better; P-256, P-384, or RSA of 2048, 3072 or 4096 bits with the exponent 65537.

    Raises `EnrolmentRefusedError`, and `MalformedError` for anything that is not a TPMT_PUBLIC of
    a valid key with such a nameAlg.
    """
    public = parse_public(data)
    missing = AK_ATTRIBUTES_SET & ~public.attributes
    forbidden = AK_ATTRIBUTES_CLEAR & public.attributes
    if missing or forbidden:
        raise EnrolmentRefusedError(
            "ak.attributes",
            f"the AK's attributes lack {missing:#x} and must not have {forbidden:#x}",
        )
    if not (_is_ecc_ak(public) if isinstance(public, EccPublic) else _is_rsa_ak(public)):
        raise EnrolmentRefusedError("ak.scheme", "the AK's scheme, curve or size is not accepted")
    return CheckedAk(public, public_key(public), name(public))


def check_ek(data: bytes) -> CheckedEk:
    """Check that an endorsement key's TPMT_PUBLIC is a TCG template's in all but `unique`.

    Raises `EnrolmentRefusedError` and `MalformedError`.
    """
    public = parse_public(data)
    template = find_ek_template(public)
    if template is None:
        raise EnrolmentRefusedError("ek.template", "the EK's public area is no TCG template's")
    return CheckedEk(public, public_key(public), template)


def check_counter(data: bytes) -> bytes:
    """Return the Name, with WRITTEN set, of the run counter with this TPMS_NV_PUBLIC.

    Raises `EnrolmentRefusedError` and `MalformedError`.
    """
    public = parse_nv_public(data)
    written = public._replace(attributes=public.attributes | WRITTEN)
    accepted = [
        NvPublic(RUN_COUNTER_INDEX, ALG_SHA256, attributes, b"", RUN_COUNTER_SIZE)
        for attributes in COUNTER_ATTRIBUTES_ACCEPTED
    ]
    if written not in accepted:
        raise EnrolmentRefusedError("counter.public", "the NV index is not a run counter")
    return name(written)


def verify_endorsement(
    ek: CheckedEk, certificates: tuple[bytes, ...], trust: EkTrust, at: dt.datetime
) -> VerifiedEk:
    """Check that `certificates` (DER; the EK's own first, then candidates) vouch for `ek`.

    Raises `EnrolmentRefusedError` and `MalformedError`.
    """
    if not certificates:
        raise EnrolmentRefusedError("ek.certificate", "the request has no EK certificate")
    certificate, *intermediates = [parse_certificate(data) for data in certificates]
    if certificate_key(certificate) != ek.key:
        raise EnrolmentRefusedError("ek.key", "the EK is not the key of its certificate")
    verified = verify_ek_certificate(certificate, intermediates, trust, at)
    return VerifiedEk(ek.public, certificate, verified.digest, verified.anchor_kind)


def challenge(
    ak: CheckedAk, ek: VerifiedEk, counter_name: bytes, at: dt.datetime
) -> tuple[Credential, PendingChallenge]:
    """Return a credential for the machine, and what to keep until it answers.

    The challenge expires `CHALLENGE_LIFETIME` after `at`.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    credential = make_credential(ek.public, ak.name, secret)
    pending = PendingChallenge(
        ak=marshal_public(ak.public),
        counter_name=counter_name,
        ek_certificate_digest=ek.certificate_digest,
        anchor_kind=ek.anchor_kind,
        proof=_proof(ek.certificate_digest, ak.name, secret),
        expires=at + CHALLENGE_LIFETIME,
    )
    return credential, pending


def accept_response(pending: PendingChallenge, secret: bytes, at: dt.datetime) -> VerifiedAk:
    """Compare the secret that came back, in constant time, and return the key as verified.

    The caller forgets `pending` whatever the outcome. Raises `EnrolmentRefusedError`.
    """
    if at > pending.expires:
        raise EnrolmentRefusedError("response.expired", "the challenge has expired")
    ak = check_ak(pending.ak)
    proof = _proof(pending.ek_certificate_digest, ak.name, secret)
    if not hmac.compare_digest(proof, pending.proof):
        raise EnrolmentRefusedError("response.secret", "the secret is not the challenge's")
    return VerifiedAk(
        ak=ak,
        extension=AkExtension(pending.anchor_kind, pending.counter_name),
        ek_certificate_digest=pending.ek_certificate_digest,
        seal=_VERIFIED,
    )


def certify(
    verified: VerifiedAk, authority: Authority, terms: CertificateTerms
) -> x509.Certificate:
    """Return the attestation key's certificate. Raises `UsageError` for impossible terms."""
    return sign_ak_certificate(verified.ak.key, authority, terms, verified.extension)


def _is_ecc_ak(public: EccPublic) -> bool:
    parameters = public.parameters
    return (
        parameters.scheme in _AK_ECC.get(parameters.curve, [])
        and parameters.symmetric is None
        and parameters.kdf is None
    )


def _is_rsa_ak(public: RsaPublic) -> bool:
    parameters = public.parameters
    return (
        parameters.scheme in _AK_RSA
        and parameters.key_bits in _AK_RSA_BITS
        and parameters.exponent in _DEFAULT_EXPONENTS
        and parameters.symmetric is None
    )


def _proof(ek_certificate_digest: bytes, ak_name: bytes, secret: bytes) -> bytes:
    """Bind the secret to its pair. A digest has 32 bytes, and a Name begins with its algorithm."""
    return hashlib.sha256(_DOMAIN + ek_certificate_digest + ak_name + secret).digest()
