"""The policy's rules as checks: one function a rule, each over the claims and what was found."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from laminator.appraise.check import Check, Trust, failed, not_applicable, passed
from laminator.appraise.chosen import chosen_by
from laminator.appraise.policy import COVERAGES, Policy, PropertyRule
from laminator.claims import Claims, Property
from laminator.digest import Digest
from laminator.report.text import safe
from laminator.toml_border import same

if TYPE_CHECKING:
    from laminator.endorsement import Endorsement

PROVEN_COVERAGE = "attester"
DIMENSIONLESS = "1"

_CODE_REFERENCES = ("launch", "entry", "interpreter")


class Findings(NamedTuple):
    """What was found of one card before the policy is asked; `now` in seconds since 1970.

    `launch` is the digest of the launch that the evidence proves, whatever the claims say;
    `endorsements` are those of the card's measurers that count.
    """

    claims: Claims
    trust: Trust
    checks: tuple[Check, ...]
    now: int
    launch: Digest | None = None
    endorsements: tuple["Endorsement", ...] = ()


def check_policy(policy: Policy, findings: Findings) -> tuple[Check, ...]:
    """Return a check for every rule of `policy`."""
    claims = findings.claims
    return (
        check_root(policy, findings.trust),
        check_coverage(policy, findings.trust),
        *check_independence(policy, findings.trust),
        *(check_required(id_, findings.checks) for id_ in policy.require),
        *check_nonce(policy, findings.checks),
        *check_age(policy, claims, findings.now),
        *check_references(policy, findings),
        *check_artifacts(policy, claims),
        *check_data(policy, claims),
        *(check_property(rule, policy, findings) for rule in policy.properties),
    )


def check_root(policy: Policy, trust: Trust) -> Check:
    """`policy.root`: the anchor's kind is one that the policy accepts."""
    detail = f"root {trust.root}, the policy accepts {', '.join(policy.roots)}"
    return (
        passed("policy.root", detail)
        if trust.root in policy.roots
        else failed("policy.root", detail)
    )


def check_coverage(policy: Policy, trust: Trust) -> Check:
    """`policy.coverage`: the evidence reaches as far down as the policy asks."""
    detail = f"coverage {trust.coverage}, the policy asks for {policy.coverage} or more"
    if COVERAGES.index(trust.coverage) >= COVERAGES.index(policy.coverage):
        return passed("policy.coverage", detail)
    return failed("policy.coverage", detail)


def check_independence(policy: Policy, trust: Trust) -> Iterator[Check]:
    """`policy.independence`: where the policy asks, the AK's authority is one that it names."""
    if policy.authority == "independent":
        detail = f"authority {trust.authority} ({trust.anchor or 'no anchor'})"
        named = trust.authority == "independent"
        yield (passed if named else failed)("policy.independence", detail)


def check_required(id_: str, checks: Iterable[Check]) -> Check:
    """`policy.require.<id>`: a check that the policy names was made and passed."""
    verdicts = [check.verdict for check in checks if check.id == id_]
    own_id = f"policy.require.{id_}"
    if verdicts and all(verdict == "pass" for verdict in verdicts):
        return passed(own_id, f"{id_} passed")
    found = ", ".join(dict.fromkeys(verdicts)) or "absent"
    return failed(own_id, f"{id_} has to pass, found {found}")


def check_nonce(policy: Policy, checks: Iterable[Check]) -> Iterator[Check]:
    """`policy.nonce`: where the policy asks, the verifier's own nonce is in the claims."""
    if policy.nonce_required:
        fresh = any(check.id == "claims.nonce" and check.verdict == "pass" for check in checks)
        detail = "the card holds the verifier's nonce"
        missing = "the policy requires the verifier's nonce in the card; give it with --nonce"
        yield passed("policy.nonce", detail) if fresh else failed("policy.nonce", missing)


def check_age(policy: Policy, claims: Claims, now: int) -> Iterator[Check]:
    """`policy.age`: the declared time of the card is not too long ago at the verifier's clock."""
    if policy.maximum_age is not None:
        age = now - claims.iat
        detail = f"declared {age} seconds ago, the policy allows {policy.maximum_age}"
        yield (passed if age <= policy.maximum_age else failed)("policy.age", detail)


def check_references(policy: Policy, findings: Findings) -> Iterator[Check]:
    """`policy.reference.<kind>`: measured code is a reference value, for each kind named."""
    workload = findings.claims.workload
    found: Mapping[str, Digest | None] = {
        "launch": findings.launch,
        "entry": workload.entry.digest,
        "interpreter": workload.interpreter.digest,
    }
    for kind in _CODE_REFERENCES:
        yield from check_reference(policy, kind, found[kind])


def check_reference(policy: Policy, kind: str, digest: Digest | None) -> Iterator[Check]:
    """`policy.reference.<kind>`: `digest` is a reference value, where the policy names some."""
    known: frozenset[Digest] = getattr(policy.references, kind)
    if known:
        verdict = passed if digest in known else failed
        detail = f"{kind} {digest or 'not proven'}, {len(known)} reference value(s)"
        yield verdict(f"policy.reference.{kind}", detail)


def check_artifacts(policy: Policy, claims: Claims) -> Iterator[Check]:
    """`policy.artifact.<name>`: an input or output has the digest that the policy states."""
    for name, digest in policy.artifacts.items():
        found = [group[name].digest for group in (claims.inputs, claims.outputs) if name in group]
        matches = bool(found) and all(item == digest for item in found)
        shown = ", ".join(map(str, found)) or "no such input or output"
        verdict = passed if matches else failed
        yield verdict(f"policy.artifact.{name}", f"expected {digest}, found {shown}")


def check_data(policy: Policy, claims: Claims) -> Iterator[Check]:
    """`policy.data-chosen-by`: no measured value rests on data that the provider chose."""
    if policy.data_chosen_by == "provider":
        return
    id_ = "policy.data-chosen-by"
    measured = [item for item in claims.properties if item.source == "measured"]
    refused = [
        item.name
        for item in measured
        if chosen_by(item, claims, policy.references.data) == "provider"
    ]
    if refused:
        names = safe(", ".join(dict.fromkeys(refused)))
        yield failed(id_, f"{names}: on data that the provider chose, not a reference value")
    elif measured:
        yield passed(id_, "every measured value is on data that is a reference value")
    else:
        yield not_applicable(id_, "the card states nothing measured")


def check_property(rule: PropertyRule, policy: Policy, findings: Findings) -> Check:
    """`policy.property.<name>`: the properties that the rule selects are there and in bounds.

    Every selected property has to be in bounds: stating a second, better one does not help.
    """
    same_name = [item for item in findings.claims.properties if item.name == rule.name]
    selected = [item for item in same_name if selects(rule, item)]
    if not selected:
        verdict = failed if rule.required else not_applicable
        return verdict(rule.id, f"no {describe_selection(rule)}{_near_misses(same_name)}")
    problems = [
        *(problem for item in selected for problem in _problems(rule, item)),
        *_unproven(policy, findings.trust, {item.source for item in selected}),
        *(_unendorsed(selected, policy, findings) if rule.measurer_endorsed else ()),
    ]
    if problems:
        return failed(rule.id, "; ".join(problems))
    return passed(rule.id, "; ".join(_shown(item) for item in selected))


def describe_selection(rule: PropertyRule) -> str:
    """Return the words for the properties that `rule` is about."""
    about = f" on {', '.join(rule.on)}" if rule.on else ""
    measurers = f" by {' or '.join(map(safe, rule.measurers))}" if rule.measurers else ""
    stated = ", ".join(f"{key} {value}" for key, value in rule.parameters.items())
    parameters = f" with {safe(stated)}" if stated else ""
    return f"{' or '.join(rule.sources)} property {rule.name}{about}{measurers}{parameters}"


def selects(rule: PropertyRule, item: Property) -> bool:
    """Tell whether `rule` is about `item`: its name, source, subject, measurer and parameters."""
    return (
        item.name == rule.name
        and item.source in rule.sources
        and set(rule.on) <= set(item.on)
        and (not rule.measurers or item.measurer in rule.measurers)
        and all(same(item.parameters.get(key), value) for key, value in rule.parameters.items())
    )


def _near_misses(items: Iterable[Property]) -> str:
    found = ", ".join(f"{item.source} on {'+'.join(item.on) or 'nothing'}" for item in items)
    return f" (the card has it {safe(found)})" if found else ""


def _unproven(policy: Policy, trust: Trust, sources: set[str]) -> Iterator[str]:
    """Yield why the word of some of `sources` cannot be taken."""
    if "measured" in sources and not _proven_enough(policy, trust):
        yield (
            f"measured by an attester whose code is not proven (coverage {trust.coverage}), and "
            "the policy does not name that coverage"
        )
    if "external" in sources:
        yield "external, and no signature over external statements can be checked yet"


def _unendorsed(items: Iterable[Property], policy: Policy, findings: Findings) -> Iterator[str]:
    """Yield why no endorsement lets the word of the measurers of `items` be taken."""
    from laminator.appraise.endorsement_rules import endorses

    for item in items:
        if not any(endorses(each, item) for each in findings.endorsements):
            yield f"{_shown(item)}: no endorsement of its measurer counts"
        elif not _proven_enough(policy, findings.trust):
            yield (
                f"{_shown(item)}: which script ran is the word of an attester whose code is not "
                f"proven (coverage {findings.trust.coverage}), and the policy does not name it"
            )


def _proven_enough(policy: Policy, trust: Trust) -> bool:
    """Tell whether `measured` counts: the attester's code is proven, or less is named outright."""
    named = policy.coverage_named and COVERAGES.index(trust.coverage) >= COVERAGES.index(
        policy.coverage
    )
    return trust.coverage == PROVEN_COVERAGE or named


def _problems(rule: PropertyRule, item: Property) -> Iterator[str]:
    bounded = rule.least is not None or rule.most is not None
    wanted_unit, unit = rule.unit or DIMENSIONLESS, item.unit or DIMENSIONLESS
    if (bounded or rule.unit is not None) and unit != wanted_unit:
        yield f"{_shown(item)}: the unit is {safe(unit)}, the rule is in {safe(wanted_unit)}"
        return
    if bounded:
        yield from _out_of_bounds(rule, item)


def _out_of_bounds(rule: PropertyRule, item: Property) -> Iterator[str]:
    interval = item.interval if rule.bound != "point" else None
    if interval is not None and interval.confidence < rule.confidence:
        yield (
            f"{_shown(item)}: the interval's confidence {interval.confidence:g} is below "
            f"{rule.confidence:g}"
        )
        return
    ends = _ends(rule, item)
    if ends is None:
        wanted = "a number with an interval" if rule.bound == "interval" else "a number"
        yield f"{_shown(item)} is not {wanted}"
        return
    low, high = ends
    if rule.least is not None and low < rule.least:
        yield f"{_shown(item)}: {low:g} is below {rule.least:g}"
    if rule.most is not None and high > rule.most:
        yield f"{_shown(item)}: {high:g} is above {rule.most:g}"


def _ends(rule: PropertyRule, item: Property) -> tuple[float, float] | None:
    """Return the low and high value to judge, None where the rule cannot be applied."""
    value = item.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if rule.bound == "point":
        return value, value
    if item.interval is None:
        return None if rule.bound == "interval" else (value, value)
    return item.interval.low, item.interval.high


def _shown(item: Property) -> str:
    about = f" on {', '.join(item.on)}" if item.on else ""
    interval = item.interval
    unit = "" if item.unit is None or item.unit == DIMENSIONLESS else f" {item.unit}"
    spread = (
        ""
        if interval is None
        else f" [{interval.low:g}, {interval.high:g}] at {interval.confidence:g}"
    )
    return safe(f"{item.name}{about} = {item.value!r}{unit}{spread}, {item.source}")
