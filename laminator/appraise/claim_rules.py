"""Rules that claims and log have to keep whatever the policy: one function a check."""

import datetime as dt
from collections.abc import Iterator, Mapping

from laminator.appraise.check import Check, failed, not_applicable, not_checked, passed
from laminator.card import Card
from laminator.claims import CODE_EVENTS, Claims, Confinement, Isolation
from laminator.eventlog import (
    code_in_place,
    count_code,
    expected_records,
    replay,
    without_code,
)

CLOCK_TOLERANCE = 300
"""Seconds by which the attester's declared clock may be ahead of the verifier's."""

REQUIRED = (
    "card.parse",
    "log.head",
    "log.count",
    "log.claims",
    "log.code",
    "claims.isolation",
    "claims.future",
)

_PROTECTING = {"mount", "pid"}
_MODEL_LIMITS = ("data", "fsize", "nofile")


def check_log(card: Card, counter_attest: bytes | None) -> tuple[Check, ...]:
    """Return the checks that tie the log to the claims."""
    return (
        check_log_head(card),
        check_log_count(card),
        check_log_claims(card, counter_attest),
        check_log_code(card),
    )


def check_claims(claims: Claims, nonce: bytes | None, now: dt.datetime) -> tuple[Check, ...]:
    """Return the checks of the claims by themselves."""
    return (
        check_isolation(claims),
        check_confinement(claims),
        check_nonce(claims, nonce),
        check_future(claims.iat, now),
    )


def check_log_head(card: Card) -> Check:
    """`log.head`: the head in the claims is the log's replay."""
    found, claimed = replay(card.log), card.claims.log.head
    if found != claimed:
        return failed(
            "log.head", f"the log's head is {found.hex()}, the claims say {claimed.hex()}"
        )
    return passed("log.head", f"the log's head is the claims' {found.hex()}")


def check_log_count(card: Card) -> Check:
    """`log.count`: the number of records in the claims is the log's."""
    found, claimed = len(card.log), card.claims.log.records
    if found != claimed:
        return failed("log.count", f"the log has {found} records, the claims say {claimed}")
    return passed("log.count", f"the log has the claims' {found} records")


def check_log_claims(card: Card, counter_attest: bytes | None) -> Check:
    """`log.claims`: the log is the one that a run with these claims has, record by record."""
    if counter_attest is None:
        return not_checked("log.claims", "no counter certification to start the log with")
    expected, found = expected_records(card.claims, counter_attest), without_code(card.log)
    if found == expected:
        return passed("log.claims", "every record is what the claims say, in their order")
    place = next(_differences(found, expected))
    return failed("log.claims", f"record {place} is not what the claims say")


def check_log_code(card: Card) -> Check:
    """`log.code`: the log's records of code are as many as claimed, where code can have run."""
    found, code = count_code(card.log), card.claims.workload.code
    if code is None:
        if found:
            return failed("log.code", f"the claims hold no code, the log has {_counts(found)}")
        return passed("log.code", "neither claims nor log hold records of code")
    claimed = {event: number for event, number in code.counts.items() if number}
    if found != claimed:
        detail = f"the log has {_counts(found)}, the claims say {_counts(claimed)}"
        return failed("log.code", detail)
    if not code_in_place(card.log):
        return failed("log.code", "a record of code stands before the start or after the end")
    return passed("log.code", f"the log has the claims' {_counts(found)}, from start to end")


def _counts(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{counts[event]:,} {event}" for event in CODE_EVENTS if event in counts)
    return listed or "no code"


def _differences(found: tuple[object, ...], expected: tuple[object, ...]) -> Iterator[int]:
    for place, pair in enumerate(zip(found, expected, strict=False)):
        if pair[0] != pair[1]:
            yield place
    yield min(len(found), len(expected))


def check_isolation(claims: Claims) -> Check:
    """`claims.isolation`: without isolation, nothing is stated as measured by the attester."""
    stated = sorted({item.name for item in claims.properties if item.source == "measured"})
    weakness = isolation_weakness(claims.isolation)
    if stated and weakness:
        names = ", ".join(stated)
        return failed("claims.isolation", f"{names} stated as measured, although {weakness}")
    separation = claims.isolation.separation
    return passed("claims.isolation", weakness or f"attester and workload separated: {separation}")


def isolation_weakness(isolation: Isolation) -> str:
    """Return why the workload could have spoken for the attester, or nothing if it could not."""
    if isolation.separation == "none":
        return "nothing separated the workload from the attester"
    if isolation.attester_dumpable:
        return "the workload could read the attester's memory"
    if not isolation.no_new_privs:
        return "the workload could gain privileges"
    hidden = set(isolation.namespaces) >= _PROTECTING
    if isolation.separation == "namespaces" and not hidden:
        return "mount and pid namespaces were not both in force"
    return ""


def check_confinement(claims: Claims) -> Check:
    """`claims.confinement`: the kernel filtered the work's calls, and limited a model's process.

    What is missing makes it not-checked and never failed: a policy that needs it requires it.
    Landlock is named and not needed, since the namespaces of a workload hold no other files.
    """
    found = claims.isolation.confinement
    if found is None:
        return not_applicable("claims.confinement", "the claims do not say what confined the work")
    if missing := confinement_gaps(found, claims.kind):
        detail = f"expected {', '.join(missing)}, which the claims do not state"
        return not_checked("claims.confinement", detail)
    landlock = f"Landlock ABI {found.landlock}" if found.landlock else "no Landlock"
    limits = ", ".join(sorted(found.limits)) or "nothing"
    detail = f"system calls were filtered, with {landlock} and limits on {limits}"
    return passed("claims.confinement", detail)


def confinement_gaps(found: Confinement, kind: str) -> tuple[str, ...]:
    """Return what should have confined work of this kind and did not."""
    limits = _MODEL_LIMITS if kind == "evaluation" else ()
    filters = () if found.seccomp else ("a system call filter",)
    return (*filters, *(f"a limit on {name}" for name in limits if name not in found.limits))


def check_nonce(claims: Claims, nonce: bytes | None) -> Check:
    """`claims.nonce`: the nonce that the verifier gave is the claims'."""
    if nonce is None:
        return not_applicable("claims.nonce", "the verifier gave no nonce")
    if claims.nonce is None:
        return failed("claims.nonce", f"expected {nonce.hex()}, the claims hold no nonce")
    if claims.nonce != nonce:
        return failed("claims.nonce", f"expected {nonce.hex()}, found {claims.nonce.hex()}")
    return passed("claims.nonce", f"the claims hold {nonce.hex()}")


def check_future(iat: int, now: dt.datetime) -> Check:
    """`claims.future`: the declared time is not after the time at which the verifier judges."""
    ahead = iat - int(now.timestamp())
    if ahead > CLOCK_TOLERANCE:
        return failed("claims.future", f"declared {ahead} seconds after the verifier's time")
    return passed("claims.future", f"declared {iat} s after 1970, not in the future")
