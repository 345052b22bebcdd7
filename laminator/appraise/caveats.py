"""What a result does not prove, in words: as much part of it as its verdict."""

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from laminator.appraise.check import NOT_CHECKED, PASS, Caveat, Check, Trust
from laminator.appraise.chosen import chosen_by
from laminator.appraise.policy import Policy
from laminator.appraise.result import VerificationResult
from laminator.appraise.rules import selects
from laminator.card import Card
from laminator.claims import FOUND_PARAMETERS, Claims, Isolation, Property

if TYPE_CHECKING:
    from laminator.appraise.code_rules import CodeReport
    from laminator.appraise.timestamps import VerifiedTime

MAX_INHERITED = 3

_FILELESS = ("exec", "ctypes", "memory", "pickle", "kernel")

_LOW_COVERAGE = (
    "Measured by an attester whose code is not proven: its launch matches a reference value, but "
    "not what runs beneath and beside it, so whoever owns the host can run another program that "
    "quotes invented claims."
)

# Codes are part of the interface: they stay, and the schema of results lists them.
SENTENCES = {
    "root.simulated": "The root is a simulated machine, no hardware: whoever owns it can make any "
    "card.",
    "coverage.none": "The attester's code is not proven: it matches no reference value, and "
    "whoever owns the host can have invented what it calls measured.",
    "coverage.launch": _LOW_COVERAGE,
    "coverage.boot": _LOW_COVERAGE,
    "authority.self-certified": "The authority that certified the attestation key is not one that "
    "the policy names independent.",
    "code.imports-not-measured": "Modules that the interpreter loads before the entry script "
    "(sitecustomize, .pth files) or that the script imports, and native libraries, are not "
    "measured: the entry script's digest does not fix what ran.",
    "code.modules-none": "Modules that the workload imported are not measured: the "
    "entry script's digest does not fix what ran.",
    "code.natives-listed": "Native libraries are listed as the import hook saw them: nothing kept "
    "the workload from loading others.",
    "code.unknown": "{number} of {files} files of code match no reference value and no approved "
    "digest: what they do, nobody that the verifier trusts has said.",
    "code.fileless": "Code without a file ran: {counts}. Digests are in the log where there is a "
    "text; what this code was is not proven.",
    "code.processes": "{number} child process(es) were started whose own code is not measured as "
    "the workload's is.",
    "time.declared": "The time in the card is the host's clock, declared and not proven; that the "
    "card existed at any time in the past is not proven.",
    "time.stamped": "A time-stamp proves that the card existed at {time}, not when it was made: "
    "the time in the card is the host's clock, declared.",
    "time.simulated": "The time-stamp is of a simulated authority: whoever owns its machine can "
    "make any.",
    "time.judged-then": "The verdict is as of {time}: what expired or was superseded since does "
    "not count against the card.",
    "freshness.no-nonce": "No nonce of the verifier was checked: the card may be older than it "
    "says.",
    "plan.declared": "The plan's digest is in the card, but no trusted time-stamp shows that the "
    "plan was fixed before the work: it is declared.",
    "plan.other-work": "The plan covers wrapped runs that name it: work without the wrapper, on "
    "other machines or under another plan may have chosen what this card shows.",
    "plan.after-the-data": "When the plan was made, its author may have known data and model, and "
    "have planned what had already come out well.",
    "runs.one-machine": "At most {number} wrapped runs started on this TPM, since making and "
    "enrolling it take numbers too; that says nothing about work without the wrapper or on other "
    "machines.",
    "isolation.none": "Nothing separated the workload from the attester: every statement is at "
    "most the workload's own word.",
    "isolation.network": "The workload had network access: it can have used data that no digest "
    "covers.",
    "isolation.confinement": "Beyond its namespaces, nothing confined the workload by {missing}.",
    "statements.reported": "Reported values are the word of the measured workload, whose code "
    "decides them.",
    "statements.declared": "Declared values were typed by a person; nothing measured them.",
    "statements.external": "External values are somebody else's word; no signature over them was "
    "checked.",
    "data.chosen-by-provider": "The data behind {names} was chosen by the provider: it is no "
    "reference value, and whether the model had seen it is not proven.",
    "data.parameters-chosen-by-provider": "How {names} was measured, such as which column holds "
    "the labels, was chosen by the provider: no rule of the policy that it meets states these.",
    "data.read-in-place": "{names} was read in place: only readers of laminator.data check each "
    "chunk against what was measured, when they first read it; a script that opens the path itself "
    "may have read other bytes.",
    "lineage.not-checked": "Cards that this one refers to were not given: {names}.",
    "lineage.not-stated": "Where this model came from is not stated: no card is named for {names}.",
    "evidence.co-location": "That the pieces of evidence come from one machine is not proven.",
    "endorsements.not-checked": "The card's endorsements were not checked and count for nothing.",
}


class Appraised(NamedTuple):
    """A card with what was found of it, judged at the time `at`; `proven` is by its own token."""

    card: Card
    trust: Trust
    checks: tuple[Check, ...]
    at: dt.datetime
    proven: "VerifiedTime | None" = None


def caveats(appraised: Appraised, policy: Policy) -> tuple[Caveat, ...]:
    """Return what the result for this card does not prove."""
    claims = appraised.card.claims
    return (
        *trust_caveats(appraised.trust),
        *_time(appraised),
        _caveat("runs.one-machine", number=claims.run.number),
        *isolation_caveats(claims.isolation),
        *_statements(claims),
        *_data(claims, policy),
        *_lineage(claims, appraised.checks),
        *_more(appraised.card),
    )


def code_caveats(report: "CodeReport | None") -> Iterator[Caveat]:
    """Yield what is not proven of the code that ran."""
    if report is None:
        yield _caveat("code.imports-not-measured")
        return
    if report.modules == "none":
        yield _caveat("code.modules-none")
    if report.natives == "listed":
        yield _caveat("code.natives-listed")
    unapproved = len(report.files) - len(report.of("known-good")) - len(report.of("approved"))
    if unapproved:
        yield _caveat("code.unknown", number=f"{unapproved:,}", files=f"{len(report.files):,}")
    counts = [f"{report.events[event]:,} {event}" for event in _FILELESS if event in report.events]
    if counts:
        yield _caveat("code.fileless", counts=", ".join(counts))
    if "process" in report.events:
        yield _caveat("code.processes", number=f"{report.events['process']:,}")


def _caveat(code: str, **fields: object) -> Caveat:
    return Caveat(code, SENTENCES[code].format(**fields))


def trust_caveats(trust: Trust) -> Iterator[Caveat]:
    """Yield what a result with this trust does not prove."""
    if trust.root == "simulated":
        yield _caveat("root.simulated")
    if trust.coverage != "attester":
        yield _caveat(f"coverage.{trust.coverage}")
    if trust.authority == "self-certified":
        yield _caveat("authority.self-certified")


def _time(appraised: Appraised) -> Iterator[Caveat]:
    claims, checks, proven = appraised.card.claims, appraised.checks, appraised.proven
    if proven is None:
        yield _caveat("time.declared")
    else:
        yield from _proven_time(proven, appraised.at)
    if not any(check.id == "claims.nonce" and check.verdict == PASS for check in checks):
        yield _caveat("freshness.no-nonce")
    yield from _plan(claims, checks)


def _plan(claims: Claims, checks: tuple[Check, ...]) -> Iterator[Caveat]:
    if claims.run.plan is None:
        return
    if not any(check.id == "plan.token" and check.verdict == PASS for check in checks):
        yield _caveat("plan.declared")
    yield _caveat("plan.other-work")
    yield _caveat("plan.after-the-data")


def _proven_time(proven: "VerifiedTime", at: dt.datetime) -> Iterator[Caveat]:
    time = proven.time.isoformat()
    yield _caveat("time.stamped", time=time)
    if proven.simulated:
        yield _caveat("time.simulated")
    if at == proven.time:
        yield _caveat("time.judged-then", time=time)


def isolation_caveats(isolation: Isolation) -> Iterator[Caveat]:
    """Yield what was missing between the workload and the rest of its machine."""
    if isolation.separation == "none":
        yield _caveat("isolation.none")
    if isolation.network:
        yield _caveat("isolation.network")
    found = isolation.confinement
    if found is not None:
        parts = (("Landlock", found.landlock), ("a system call filter", found.seccomp))
        if missing := [name for name, in_force in parts if not in_force]:
            yield _caveat("isolation.confinement", missing=" or ".join(missing))


def _statements(claims: Claims) -> Iterator[Caveat]:
    sources = {item.source for item in claims.properties}
    for source in ("reported", "declared", "external"):
        if source in sources:
            yield _caveat(f"statements.{source}")


def _data(claims: Claims, policy: Policy) -> Iterator[Caveat]:
    streams = sorted(name for name, item in claims.inputs.items() if item.tree is not None)
    if streams:
        yield _caveat("data.read-in-place", names=", ".join(streams))
    measured = [item for item in claims.properties if item.source == "measured"]
    known = policy.references.data
    names = {item.name for item in measured if chosen_by(item, claims, known) == "provider"}
    if names:
        yield _caveat("data.chosen-by-provider", names=", ".join(sorted(names)))
    free = [(item.name, sorted(_free_parameters(item, policy))) for item in measured]
    said = dict.fromkeys(f"{name} ({', '.join(keys)})" for name, keys in free if keys)
    if said:
        yield _caveat("data.parameters-chosen-by-provider", names=", ".join(said))


def _free_parameters(item: Property, policy: Policy) -> set[str]:
    """Return the parameters of `item` that no rule which selects it states."""
    rules = [rule for rule in policy.properties if selects(rule, item)]
    return (
        set(item.parameters) - FOUND_PARAMETERS - {key for rule in rules for key in rule.parameters}
    )


def inherited(parents: Iterable[VerificationResult]) -> tuple[Caveat, ...]:
    """Return the caveats of the cards that one builds on, marked with the card that has them.

    At most MAX_INHERITED for each code.
    """
    kept: dict[str, dict[Caveat, None]] = {}
    for parent in parents:
        for caveat in parent.caveats:
            text = caveat.text if caveat.card else f"As of card {parent.card}: {caveat.text}"
            same = kept.setdefault(caveat.code, {})
            if len(same) < MAX_INHERITED:
                same[Caveat(caveat.code, text, caveat.card or parent.card)] = None
    return tuple(caveat for same in kept.values() for caveat in same)


def _lineage(claims: Claims, checks: tuple[Check, ...]) -> Iterator[Caveat]:
    unstated = [
        name
        for name, artifact in claims.inputs.items()
        if artifact.type == "model" and name not in (claims.cards or {})
    ]
    if unstated:
        yield _caveat("lineage.not-stated", names=", ".join(sorted(unstated)))
    names = sorted(
        check.id.removeprefix("lineage.")
        for check in checks
        if check.verdict == NOT_CHECKED and check.id.startswith("lineage.")
    )
    if names:
        yield _caveat("lineage.not-checked", names=", ".join(names))


def _more(card: Card) -> Iterator[Caveat]:
    if len(card.evidence) > 1:
        yield _caveat("evidence.co-location")
    if unknown_endorsements(card):
        yield _caveat("endorsements.not-checked")


def unknown_endorsements(card: Card) -> int:
    """Return how many endorsements of `card` are of kinds that nothing here understands."""
    if not card.endorsements:
        return 0
    from laminator.endorsements import endorsements_of

    return endorsements_of(card).others
