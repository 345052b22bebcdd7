"""TPM evidence as the core asks for it: AK certificate first, then what the AK signed."""

from laminator.appraise.check import failed, passed
from laminator.appraise.evidence import Findings, Setting
from laminator.appraise.x509 import AkAppraisal, verify_ak_certificate
from laminator.card import Card
from laminator.claims import Launch
from laminator.digest import Digest
from laminator.errors import MalformedError
from laminator.evidence.tpm import (
    TPM_KIND,
    Expected,
    ParsedTpm,
    expect,
    parse_tpm_evidence,
    verify_tpm_evidence,
)
from laminator.evidence.tpm_key import spki

KIND = TPM_KIND

# tpm.launch may be not-applicable, and ak.revocation is for the policy to require.
REQUIRED = (
    "tpm.parse",
    "ak.certificate",
    "ak.chain",
    "ak.algorithm",
    "ak.validity",
    "ak.eku",
    "ak.extension",
    "tpm.magic",
    "tpm.type",
    "tpm.algorithm",
    "tpm.ak-attributes",
    "tpm.signature",
    "tpm.signer",
    "tpm.key",
    "tpm.start-binding",
    "tpm.binding",
    "tpm.pcr-selection",
    "tpm.start-pcr-digest",
    "tpm.pcr-digest",
    "tpm.clock",
    "run.counter.index",
    "run.counter.name",
    "run.counter.endorsed",
    "run.counter.value",
    "run.counter.binding",
    "run.counter.clock",
)


def appraise(card: Card, index: int, setting: Setting) -> Findings:
    """Judge the card's evidence number `index`, which is TPM evidence."""
    try:
        evidence = parse_tpm_evidence(card.evidence[index].value)
    except MalformedError as error:
        return Findings((failed("tpm.parse", error.message),), REQUIRED)
    reference = card.claims.evidence[index]
    return judge(evidence, expect(card, reference, None, setting.log_head), setting)


def judge(evidence: ParsedTpm, expected: Expected, setting: Setting) -> Findings:
    """Judge the attestation key, then what it signed against what is `expected` of it."""
    ak = _appraise_ak(evidence, setting)
    endorsed = None if ak.verified is None else ak.verified.counter_name
    quotes = verify_tpm_evidence(evidence, expected._replace(endorsed_counter=endorsed))
    checks = (passed("tpm.parse", "well-formed TPM structures"), *ak.checks, *quotes.checks)
    counter_attest = evidence.counter.message
    if ak.verified is None or quotes.verified is None:
        return Findings(checks, REQUIRED, counter_attest=counter_attest)
    return Findings(
        checks=checks,
        required=REQUIRED,
        root=ak.verified.kind,
        anchor=ak.verified.anchor_fingerprint,
        launch=_proven(quotes.verified.launch, ak.verified.kind),
        counter_attest=counter_attest,
    )


def _appraise_ak(evidence: ParsedTpm, setting: Setting) -> AkAppraisal:
    key = spki(evidence.ak)
    known = setting.known.get((key, *evidence.certificates))
    if isinstance(known, AkAppraisal):
        return known
    found = verify_ak_certificate(evidence.certificates, key, setting.trust, setting.now)
    setting.known[(key, *evidence.certificates)] = found
    return found


def _proven(launch: Launch, root: str) -> Digest | None:
    """Return the digest of a launch that PCR 17 proves.

    The simulated machine's launch proves something on simulated machines alone: elsewhere PCR 17
    may be reached by others than the processor.
    """
    simulated = (launch.type, root) == ("drtm-simulated", "simulated")
    return launch.digest if simulated else None
