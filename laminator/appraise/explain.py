"""A policy in sentences, so that its author can read what it asks and what it lets through."""

import datetime as dt
from collections.abc import Iterable, Iterator

from laminator.appraise.code_policy import ALLOW, REFUSE, REFUSE_MEASURED
from laminator.appraise.policy import Policy, PropertyRule, References
from laminator.appraise.rules import DIMENSIONLESS, describe_selection
from laminator.digest import Digest
from laminator.report.text import safe

_COVERAGE = {
    "none": "nothing of the attester's own code has to match a reference value",
    "launch": "the attester's code, as measured at its launch, has to match a reference value",
    "boot": "the attester's code and what booted below it have to match reference values",
    "attester": "the whole chain from the firmware to the attester has to match reference values",
}


def explain(policy: Policy) -> tuple[str, ...]:
    """Return one sentence for each thing that `policy` asks or allows."""
    return (
        *_trust(policy),
        *_checks(policy),
        *_time(policy),
        *_references(policy.references),
        *_code(policy),
        *_data(policy),
        *_endorsers(policy),
        *(_rule(rule) for rule in policy.properties),
        *(f"The artifact {name} is {digest}." for name, digest in policy.artifacts.items()),
        *_contradictions(policy.properties),
    )


def _trust(policy: Policy) -> Iterator[str]:
    yield f"The hardware root is one of: {', '.join(policy.roots)}."
    if "simulated" in policy.roots:
        yield "A simulated root proves nothing against the owner of the simulated machine."
    yield f"Coverage is {policy.coverage} or more: {_COVERAGE[policy.coverage]}."
    if policy.coverage == "attester":
        yield "No card reaches coverage attester in this version: every card is refused."
    elif policy.coverage_named:
        yield (
            f"Measured values count although coverage {policy.coverage} does not prove the "
            "attester's code: the policy names that coverage."
        )
    else:
        yield (
            "Measured values count only at coverage attester, which no card reaches in this "
            "version: the policy names no lower one."
        )
    if policy.authority == "independent":
        known = ", ".join(sorted(map(str, policy.independent_authorities))) or "none is named"
        yield f"The authority that certified the attestation key is independent: {known}."
    else:
        yield "A self-certified attestation key is enough."


def _checks(policy: Policy) -> Iterator[str]:
    for id_ in policy.require:
        yield f"The check {id_} has to pass."
    if "ak.revocation" not in policy.require:
        yield "Revocation is not required: without CRLs, a revoked key is accepted."


def _time(policy: Policy) -> Iterator[str]:
    if policy.nonce_required:
        yield "The card holds the nonce that the verifier gives."
    else:
        yield "No nonce is required: an old card is accepted like a new one."
    if policy.judged_as_of == "token":
        yield (
            "A card with a verified time-stamp is judged as of that time: what expired or was "
            "superseded since does not count against it, a compromised key does."
        )
    else:
        yield "Every card is judged as of now, also one with a time-stamp."
    if policy.maximum_age is not None:
        age = dt.timedelta(seconds=policy.maximum_age)
        yield f"The time that the card declares is at most {age} (h:mm:ss) ago; nobody proves it."


def _references(references: References) -> Iterator[str]:
    kinds = {
        "launch": "attester",
        "entry": "entry script",
        "interpreter": "interpreter",
        "data": "data",
    }
    for kind, digests in references._asdict().items():
        if digests:
            yield f"Known digests for the {kinds[kind]}: {_digests(digests)}."
    if not references.launch:
        yield "No attester code is known, so coverage stays none."


_UNKNOWN = {
    REFUSE: "Every file of code is known: in a reference given with --reference, or approved. A "
    "card that does not say which code ran is refused.",
    REFUSE_MEASURED: "Every file of code is known: in a reference given with --reference, or "
    "approved. A card whose attester does not measure code is accepted all the same.",
    ALLOW: "Any code may run, known or not.",
}


_ANY_ENTRY = {
    REFUSE: (),
    REFUSE_MEASURED: ("Any entry script is accepted where the attester does not measure code.",),
    ALLOW: ("Any entry script is accepted.",),
}


def _code(policy: Policy) -> Iterator[str]:
    rules = policy.code
    yield _UNKNOWN[rules.unknown]
    if not policy.references.entry:
        yield from _ANY_ENTRY[rules.unknown]
    if rules.allow:
        yield f"Approved files of code: {_digests(rules.allow)}."
    if rules.forbid:
        yield f"Forbidden code, whatever approves it: {_digests(rules.forbid)}."
    if rules.forbid_events:
        yield f"Code without a file may not run by {', '.join(sorted(rules.forbid_events))}."
    elif rules.unknown != ALLOW:
        yield "Code without a file (compiled text, foreign functions, pickles …) may run."


def _digests(digests: Iterable[Digest]) -> str:
    return ", ".join(sorted(map(str, digests)))


def _data(policy: Policy) -> Iterator[str]:
    if policy.data_chosen_by == "reference":
        yield "Every measured value is on data that is a reference value."
    else:
        yield "Measured values may be on data that the provider chose."


def _endorsers(policy: Policy) -> Iterator[str]:
    for each in policy.endorsers:
        yield f"{safe(each.name)} may endorse measurers, with the key {each.key}."
    if policy.endorsers and "endorsement.revocation" not in policy.require:
        yield "An endorsement counts without a list of its endorser's revocations."


def _rule(rule: PropertyRule) -> str:
    bounds = []
    if rule.least is not None:
        bounds.append(f"at least {rule.least:g}")
    if rule.most is not None:
        bounds.append(f"at most {rule.most:g}")
    if rule.unit is not None:
        bounds.append(f"in the unit {safe(rule.unit)}")
    asked = f"Every {describe_selection(rule)} is {' and '.join(bounds) or 'accepted'}"
    judged = {
        "interval": ", judged by the worse end of its interval, which it has to have",
        "point": ", judged by its value alone",
    }
    default = ", judged by the worse end of its interval where it has one"
    how = judged.get(rule.bound or "", default) if bounds else ""
    if bounds and rule.bound != "point":
        how += f" (at confidence {rule.confidence:g} or more)"
    if set(rule.sources) == {"external"}:
        how += ", but no external value counts in this version"
    elif "external" in rule.sources:
        how += ", though no external value counts in this version"
    if rule.measurer_endorsed:
        how += ", and an endorser has to vouch for its measurer"
    return f"{asked}{how}; {'there is at least one' if rule.required else 'there may be none'}."


def _contradictions(rules: tuple[PropertyRule, ...]) -> Iterator[str]:
    """Name the rules about the same properties that no value meets together."""
    groups: dict[object, list[PropertyRule]] = {}
    for rule in rules:
        parameters = frozenset(rule.parameters.items())
        lists = map(frozenset, (rule.sources, rule.on, rule.measurers))
        groups.setdefault((rule.name, *lists, parameters), []).append(rule)
    for same in groups.values():
        least = max((rule.least for rule in same if rule.least is not None), default=None)
        most = min((rule.most for rule in same if rule.most is not None), default=None)
        apart = least is not None and most is not None and least > most
        units = {rule.unit or DIMENSIONLESS for rule in same if _asks_unit(rule)}
        if apart or len(units) > 1:
            ids = " and ".join(rule.id for rule in same)
            yield f"Warning: no card meets {ids} together: they contradict each other."


def _asks_unit(rule: PropertyRule) -> bool:
    return any(asked is not None for asked in (rule.least, rule.most, rule.unit))
