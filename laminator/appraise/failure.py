"""Appraising a failure record: a card's checks of evidence and trust, over what the record has."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from laminator.appraise import rules
from laminator.appraise.check import (
    Check,
    Trust,
    failed,
    is_obstacle,
    missing_checks,
    passed,
    verdict_of,
)
from laminator.appraise.claim_rules import check_future
from laminator.appraise.evidence import Findings, Setting
from laminator.appraise.policy import Policy
from laminator.appraise.tpm_evidence import REQUIRED as TPM_REQUIRED
from laminator.appraise.tpm_evidence import judge
from laminator.appraise.verify import appraise_trust
from laminator.errors import MalformedError, shown
from laminator.evidence.tpm import TPM_MEDIA_TYPE, Attested, expect_attested, parse_tpm_evidence
from laminator.failure import FailureRecord, expected_records

REQUIRED = ("failure.parse", "evidence.set", "claims.future")


class FailureResult(NamedTuple):
    """What a verifier says of one failure record."""

    verdict: Literal["accepted", "rejected"]
    trust: Trust
    checks: tuple[Check, ...]
    required: tuple[str, ...]

    def failures(self) -> tuple[Check, ...]:
        """Return the checks that forbid acceptance."""
        return tuple(check for check in self.checks if is_obstacle(check, self.required))


def verify_failure(record: FailureRecord, policy: Policy, setting: Setting) -> FailureResult:
    """Judge a parsed failure record's evidence and trust under `policy`."""
    evidence = appraise_failure(record, setting)
    trust = appraise_trust(evidence, policy)
    found = (
        passed("failure.parse", "the record is the one encoding of its content"),
        *evidence.checks,
        check_future(record.claims.iat, setting.now),
    )
    checks = (*found, *_check_policy(policy, trust, found, evidence))
    required = tuple(dict.fromkeys((*REQUIRED, *evidence.required, *policy.require)))
    checks = (*checks, *missing_checks(checks, required))
    return FailureResult(verdict_of(checks, required), trust, checks, required)


def appraise_failure(record: FailureRecord, setting: Setting) -> Findings:
    """Judge a failure record's one piece of evidence by the very checks of a card's.

    Its start quote is the run's own, its end quote signs the record's binding over the log's
    three records.
    """
    media_type = record.evidence.media_type
    if media_type != TPM_MEDIA_TYPE:
        detail = f"evidence of the unknown media type {shown(media_type)}"
        return Findings((failed("evidence.set", detail),), TPM_REQUIRED)
    known = passed("evidence.set", "one piece of evidence, of a known kind")
    try:
        evidence = parse_tpm_evidence(record.evidence.value)
    except MalformedError as error:
        return Findings((known, failed("tpm.parse", error.message)), TPM_REQUIRED)
    claims = record.claims
    log = expected_records(claims, evidence.counter.message)
    attested = Attested(claims.run, claims.nonce, record.id, log)
    found = judge(evidence, expect_attested(attested, claims.evidence), setting)
    return found._replace(checks=(known, *found.checks))


def _check_policy(
    policy: Policy, trust: Trust, found: tuple[Check, ...], evidence: Findings
) -> Iterator[Check]:
    yield rules.check_root(policy, trust)
    yield rules.check_coverage(policy, trust)
    yield from rules.check_independence(policy, trust)
    yield from (rules.check_required(id_, found) for id_ in policy.require)
    yield from rules.check_reference(policy, "launch", evidence.launch)
