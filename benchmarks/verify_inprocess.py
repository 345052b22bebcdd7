"""`laminator.verify` in process, against nothing but the signature checks that it makes.

Both start from bytes in memory and a loaded trust store. The signatures are the three of the
TPM, those of the certificate chain and those of the CRLs; keys and certificates are parsed
beforehand, so the ratio holds all parsing and every other check against bare cryptography.
"""

import datetime as dt
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from cryptography import x509

import laminator
from benchmarks.golden import FOLDER, judged_at
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show
from laminator.appraise.chain import ATTESTATION_KEY, find_chain
from laminator.evidence.tpm import ParsedTpm, parse_tpm_evidence
from laminator.evidence.tpm_key import signature_holds

CALLS = 50
VERIFY = f"laminator.verify, {CALLS} times"
SIGNATURES = f"its signature checks alone, {CALLS} times"


class Signatures(NamedTuple):
    """Everything that is signed about one card, parsed."""

    evidence: ParsedTpm
    chain: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]

    def check(self) -> None:
        """Check every signature."""
        for item in self.evidence.attestations:
            if not signature_holds(self.evidence.key, item.signature, item.message):
                raise ValueError("an attestation's signature does not hold")
        for certificate, issuer in pairwise(self.chain):
            certificate.verify_directly_issued_by(issuer)
            for crl in self.crls:
                if crl.issuer == issuer.subject:
                    crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def measure(rounds: int) -> Report:
    """Time both `rounds` times."""
    card = (FOLDER / "evaluation.card").read_bytes()
    trust = laminator.load_trust(str(FOLDER / "trust"))
    policy = laminator.load_policy(str(FOLDER / "policy.toml")).for_lineage()
    now = judged_at()
    signatures = _signatures(card, trust, now)

    def verify() -> None:
        if not laminator.verify(card, policy, trust=trust, now=now).accepted:
            raise ValueError("the golden card is rejected")

    seconds = interleave({VERIFY: _repeat(verify), SIGNATURES: _repeat(signatures.check)}, rounds)
    return Report(
        name="verify_inprocess",
        unit="ms",
        rounds=rounds,
        medians=medians(seconds, "ms"),
        results={"ratio": paired_ratio(seconds, VERIFY, SIGNATURES)},
        targets={"ratio": 3.0},
    )


def _signatures(card: bytes, trust: laminator.TrustStore, now: dt.datetime) -> Signatures:
    message = laminator.parse_card(card).evidence[0]
    evidence = parse_tpm_evidence(message.value)
    certificates = tuple(map(x509.load_der_x509_certificate, evidence.certificates))
    chain = find_chain(ATTESTATION_KEY, certificates, trust.anchors, now).chain
    if chain is None:
        raise ValueError("the golden card's certificates lead to no anchor")
    return Signatures(evidence, chain.certificates, trust.crls)


def _repeat(call: Callable[[], None]) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(CALLS):
            call()

    return repeated


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=15)
    show(measure(options.rounds), as_json=options.json)
