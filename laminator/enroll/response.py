"""A machine's answer to a challenge, and the certificate that it gets for it."""

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from laminator.appraise.check import FAIL
from laminator.appraise.trust import Anchor, TrustStore
from laminator.appraise.x509 import VerifiedAk, verify_ak_certificate
from laminator.attest.tpm import AttestationTpm, HierarchyAuths
from laminator.enroll.ak_label import labelled
from laminator.enroll.authority import check_counter
from laminator.enroll.ek_certificate import certificate_key, parse_certificate
from laminator.enroll.exchange import (
    EnrolmentGrant,
    EnrolmentResponse,
    digest,
    parse_challenge,
)
from laminator.enroll.key_templates import (
    AK_ECDSA_P256,
    AK_RSASSA_2048,
    EK_TEMPLATES,
    AkTemplate,
)
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import UsageError
from laminator.evidence.tpm_key import PublicKey, public_key, spki
from laminator.evidence.tpm_structures import RUN_COUNTER_INDEX, parse_public
from laminator.run.atomic import write_atomically

_SUBJECT_INFO = PublicFormat.SubjectPublicKeyInfo


class TpmAccess(NamedTuple):
    """How to reach the TPM (a TCTI string), its secrets, and the label of the key that is meant."""

    tcti: str
    auths: HierarchyAuths
    label: str | None

    def open(self, key: PublicKey) -> AttestationTpm:
        """Connect, with the attestation key of the type of `key`. Raises MachineError."""
        return AttestationTpm(self.tcti, self.auths, _template(key, self.label))


class Installed(NamedTuple):
    """A certificate in its place."""

    path: Path
    certificate: x509.Certificate
    verified: VerifiedAk


def answer_challenge(access: TpmAccess, data: bytes) -> EnrolmentResponse:
    """Have the TPM open the challenge in the file `data`.

    Raises MalformedError, UsageError where it is for another attestation key, and MachineError
    where the TPM does not open it.
    """
    challenge = parse_challenge(data)
    template = next(each for each in EK_TEMPLATES if each.name == challenge.ek)
    with access.open(public_key(parse_public(challenge.ak))) as tpm:
        if tpm.ak_public != challenge.ak:
            message = (
                "the challenge is for another attestation key: another TPM's, or one with "
                "another label (give the request's --label)"
            )
            raise UsageError("enrol.challenge", message)
        secret = tpm.activate_credential(template, challenge.credential)
    return EnrolmentResponse(digest(data), secret)


def install_grant(
    access: TpmAccess, grant: EnrolmentGrant, folder: Path, at: dt.datetime
) -> Installed:
    """Put the certificate into `folder`, where a measured run on this TPM finds it.

    Raises EnrolmentRefusedError for a certificate that a verifier would refuse, MalformedError
    and MachineError.
    """
    certificate = parse_certificate(grant.certificates[0])
    key = certificate_key(certificate)
    with access.open(key) as tpm:
        public = parse_public(tpm.ak_public)
        counter = check_counter(tpm.counter_public(RUN_COUNTER_INDEX))
    if spki(public) != key.public_bytes(Encoding.DER, _SUBJECT_INFO):
        message = (
            "the certificate is for another attestation key: another TPM's, or one with another "
            "label (give the request's --label)"
        )
        raise EnrolmentRefusedError("grant.key", message)
    verified = check_grant(grant, spki(public), at)
    if verified.counter_name != counter:
        raise EnrolmentRefusedError("grant.counter", "the certificate names another run counter")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{_template(key, None).name}.pem"
    # The authority's own certificate is the verifier's to have, so a card need not carry it.
    chain = map(parse_certificate, grant.certificates[:-1])
    write_atomically(path, b"".join(each.public_bytes(Encoding.PEM) for each in chain), mode=0o644)
    return Installed(path, certificate, verified)


def check_grant(grant: EnrolmentGrant, key: bytes, at: dt.datetime) -> VerifiedAk:
    """Judge a grant as a verifier would who pinned its last certificate; `key` is the AK's SPKI.

    Nothing says here whether anybody should pin it. Raises EnrolmentRefusedError.
    """
    anchor = Anchor("simulated", parse_certificate(grant.certificates[-1]))
    appraisal = verify_ak_certificate(grant.certificates, key, TrustStore((anchor,)), at)
    if appraisal.verified is None:
        check = next(check for check in appraisal.checks if check.verdict == FAIL)
        message = f"verifiers would refuse the certificate: {check.id}: {check.detail}"
        raise EnrolmentRefusedError("grant.certificate", message)
    return appraisal.verified


def _template(key: PublicKey, label: str | None) -> AkTemplate:
    base = AK_RSASSA_2048 if isinstance(key, rsa.RSAPublicKey) else AK_ECDSA_P256
    return labelled(base, label)
