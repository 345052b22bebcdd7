"""Whether a card keeps the plan that its claims name: one function a check.

The plan is the verifier's own file, or one that the card carries, and counts only where its digest
is the claims'. Its time-stamp counts only where the token's digest is: then it was in the log, and
under the start quote, before the work began.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from laminator.appraise.check import (
    PASS,
    Check,
    failed,
    not_applicable,
    not_checked,
    passed,
)
from laminator.appraise.evidence import Setting
from laminator.card import Card
from laminator.cbor import Value
from laminator.claims import FOUND_PARAMETERS, SEED_FROM_NONCE, Artifact, Claims, Property
from laminator.digest import Digest, sha256
from laminator.endorsements import endorsements_of
from laminator.errors import MalformedError
from laminator.plan import MODEL, Plan, parse_plan
from laminator.report.text import safe
from laminator.toml_border import same

if TYPE_CHECKING:
    from laminator.appraise.timestamps import VerifiedTime


class Follower(NamedTuple):
    """A run that names a plan: its id, its number and the digests of its attestation keys."""

    run: bytes
    number: int
    keys: frozenset[bytes]


class PlanQuestion(NamedTuple):
    """What decides beside the card: the verifier's own plan, and the plans of all cards given.

    `runs` are the distinct runs by plan. `simulated` says that the verifier accepts simulated
    roots, without which a simulated authority's time does not count. `issued` is when the verifier
    made its nonce, if it has that on record.
    """

    given: bytes | None = None
    runs: Mapping[Digest, frozenset[Follower]] = {}
    simulated: bool = False
    issued: dt.datetime | None = None


def runs_by_plan(cards: Iterable[Claims]) -> dict[Digest, frozenset[Follower]]:
    """Return the distinct runs that follow each plan; runs without a plan are left out."""
    found: dict[Digest, frozenset[Follower]] = {}
    for claims in cards:
        run = claims.run
        if run.plan is not None:
            follower = Follower(run.id, run.number, _keys(claims))
            found[run.plan] = found.get(run.plan, frozenset()) | {follower}
    return found


def check_plan(
    card: Card, question: PlanQuestion, setting: Setting, nonce: bytes | None
) -> Iterator[Check]:
    """Yield the checks of `card` against its plan; none where nobody speaks of a plan."""
    claims = card.claims
    content = find_plan(card, question.given)
    if claims.run.plan is not None or question.given is not None:
        yield check_digest(card, question.given)
    if content is None:
        return
    try:
        plan = parse_plan(content)
    except MalformedError as error:
        yield failed("plan.parse", error.message)
        return
    yield passed("plan.parse", "the plan is readable")
    stamped = stamp_of(card, content, setting, simulated=question.simulated)
    yield check_token(stamped)
    yield check_metric(plan, claims)
    yield check_model(plan, claims)
    yield check_entry(plan, claims)
    yield check_data(plan, claims)
    yield check_parameters(plan, claims)
    yield check_seed(plan, claims, nonce, _known_before(stamped, question.issued))
    yield check_runs(plan, claims, question.runs)


def find_plan(card: Card, given: bytes | None) -> bytes | None:
    """Return the bytes of the plan that the claims name: the verifier's, else a carried one."""
    candidates = endorsements_of(card).plans if given is None else (given,)
    return next((each for each in candidates if sha256(each) == card.claims.run.plan), None)


def check_digest(card: Card, given: bytes | None) -> Check:
    """`plan.digest`: the plan at hand is the one that the claims name."""
    named = card.claims.run.plan
    if named is None:
        return failed("plan.digest", "a plan was given, and the claims name none")
    if find_plan(card, given) is not None:
        return passed("plan.digest", f"the plan is the claims' {named}")
    if given is not None:
        return failed("plan.digest", f"the plan given is {sha256(given)}, the claims name {named}")
    carried = len(endorsements_of(card).plans)
    detail = f"the claims name {named}; the card carries {carried} other plan(s)"
    return not_checked("plan.digest", f"{detail}: give that plan with --plan")


def stamp_of(
    card: Card, content: bytes, setting: Setting, *, simulated: bool
) -> "VerifiedTime | str":
    """Return the time of the plan's time-stamp that the claims name, or why none counts."""
    from laminator.appraise.timestamps import appraise_token

    named = card.claims.run.plan_token
    if named is None:
        return "the claims name no time-stamp of the plan"
    replies = [each for each in endorsements_of(card).plan_timestamps if sha256(each) == named]
    if not replies:
        return f"the time-stamp {named} is not in the card"
    appraisal = appraise_token(replies[0], content, setting.trust, setting.now)
    if appraisal.verified is None:
        (first, *_) = (check for check in appraisal.checks if check.verdict != PASS)
        return f"the time-stamp is not good: {first.id}: {first.detail}"
    if appraisal.verified.simulated and not simulated:
        return "a simulated authority's time counts only where simulated roots do"
    return appraisal.verified


def check_token(stamped: "VerifiedTime | str") -> Check:
    """`plan.token`: a trusted time-stamp over the plan was there before the run began."""
    if isinstance(stamped, str):
        return not_checked("plan.token", stamped)
    what = "simulated time-stamp" if stamped.simulated else "time-stamp"
    detail = f"the plan's {what} of {stamped.time.isoformat()} was verified before the run began"
    return passed("plan.token", detail)


def check_metric(plan: Plan, claims: Claims) -> Check:
    """`plan.metric`: exactly the planned properties are stated, beside what a person declares."""
    stated = {item.name for item in _stated(claims)}
    planned = set(plan.metric)
    problems = [
        *(f"{name} is stated and not planned" for name in sorted(stated - planned)),
        *(f"{name} is planned and not stated" for name in sorted(planned - stated)),
    ]
    if problems:
        return failed("plan.metric", "; ".join(problems))
    return passed("plan.metric", f"stated as planned: {', '.join(plan.metric)}")


def check_model(plan: Plan, claims: Claims) -> Check:
    """`plan.model`: the input `model`, which claims have as a model only, is the planned one."""
    if plan.model is None:
        return not_applicable("plan.model", "the plan leaves the model open")
    found = claims.inputs.get(MODEL)
    if found is None:
        return failed("plan.model", f"planned is {plan.model}, and no input is the model")
    if found.digest != plan.model:
        return failed("plan.model", f"planned is {plan.model}, found {found.digest}")
    return passed("plan.model", f"the model is the planned {plan.model}")


def check_entry(plan: Plan, claims: Claims) -> Check:
    """`plan.entry`: the entry script, which is a model's code in an evaluation, is the planned one.

    Weights that are planned say little where the code that reads them may know the rows.
    """
    if plan.entry is None:
        return not_applicable("plan.entry", "the plan leaves the entry script open")
    found = claims.workload.entry.digest
    if found != plan.entry:
        return failed("plan.entry", f"planned is {plan.entry}, found {found}")
    return passed("plan.entry", f"the entry script is the planned {plan.entry}")


def check_data(plan: Plan, claims: Claims) -> Check:
    """`plan.data`: the planned data sets, and nothing else, go in beside the input `model`.

    Whatever its type: data that is called a file or a model is data all the same.
    """
    inputs = {name: item for name, item in claims.inputs.items() if name != MODEL}
    problems = [
        *(f"{name} is planned and no input" for name in sorted(plan.data.keys() - inputs.keys())),
        *(f"{name} is an input and not planned" for name in sorted(inputs.keys() - plan.data)),
        *(problem for name in inputs for problem in _other_data(plan, name, inputs[name])),
    ]
    if problems:
        return failed("plan.data", "; ".join(problems))
    return passed("plan.data", f"the data are the planned {', '.join(plan.data)}")


def check_parameters(plan: Plan, claims: Claims) -> Check:
    """`plan.parameters`: every stated value was found under exactly the planned parameters."""
    if not plan.parameters:
        return not_applicable("plan.parameters", "the plan leaves the parameters open")
    problems = [each for item in _stated(claims) for each in _other_parameters(plan, item)]
    if problems:
        return failed("plan.parameters", safe("; ".join(problems)))
    listed = ", ".join(f"{key} {value!r}" for key, value in plan.parameters.items())
    return passed("plan.parameters", safe(f"the parameters are as planned: {listed}"))


def check_seed(plan: Plan, claims: Claims, nonce: bytes | None, known: str = "") -> Check:
    """`plan.seed`: sampling and shuffling follow the planned rule, and the verifier's own nonce.

    `known` says that the plan's author can have known the nonce, and have put the data's rows in
    an order that draws well.
    """
    planned, found = _rule(plan.seed), claims.run.seed
    if found != plan.seed:
        return failed("plan.seed", f"the planned rule is {planned}, the run's {_rule(found)}")
    others = [
        item.name for item in _stated(claims) if not same(item.parameters.get("seed", found), found)
    ]
    if others:
        return failed("plan.seed", f"{', '.join(others)}: stated under another rule than {planned}")
    if found != SEED_FROM_NONCE:
        return passed("plan.seed", f"the rule is the planned {planned}")
    if claims.nonce is None:
        return failed("plan.seed", "the rule is the planned nonce, and the claims hold no nonce")
    if nonce != claims.nonce:
        detail = "the seed follows a nonce that the verifier did not give: give it with --nonce"
        return not_checked("plan.seed", detail)
    if known:
        return not_checked("plan.seed", known)
    return passed("plan.seed", "the rule is the planned nonce, which is the verifier's")


def check_runs(plan: Plan, claims: Claims, runs: Mapping[Digest, frozenset[Follower]]) -> Check:
    """`plan.runs`: the run is one of as many as planned, on the planned machine.

    A TPM certifies one number for as many runs as it is asked to: those that are given are seen.
    """
    number, keys = claims.run.number, _keys(claims)
    given = frozenset() if claims.run.plan is None else runs.get(claims.run.plan, frozenset())
    count = len({each.run for each in given})
    if count > plan.runs:
        return failed("plan.runs", f"{count} runs follow this plan, which allows {plan.runs}")
    alike = {each.run for each in given if (each.number, each.keys) == (number, keys)}
    if len(alike) > 1:
        return failed("plan.runs", f"number {number} of one machine stands for {len(alike)} runs")
    if plan.machine is None:
        detail = f"{max(count, 1)} of at most {plan.runs} run(s) given"
        hint = "a plan that names its [machine] gives it that many numbers and no more"
        return not_checked("plan.runs", f"{detail}; {hint}")
    if keys != {plan.machine.key.value}:
        found = ", ".join(str(Digest("sha-256", key)) for key in sorted(keys))
        return failed("plan.runs", f"planned is the machine {plan.machine.key}, found {found}")
    interval = f"numbers {plan.machine.first_run} to {plan.last_run}"
    if not plan.machine.first_run <= number < plan.machine.first_run + plan.runs:
        return failed("plan.runs", f"planned are {interval}, this is run {number}")
    return passed("plan.runs", f"run {number} is one of the planned {interval} of this machine")


def _keys(claims: Claims) -> frozenset[bytes]:
    return frozenset(ref.key for ref in claims.evidence)


def _known_before(stamped: "VerifiedTime | str", issued: dt.datetime | None) -> str:
    """Return what to say where the plan's time-stamp is not older than the verifier's nonce."""
    if issued is None or isinstance(stamped, str) or stamped.time < issued:
        return ""
    when = f"the plan's time-stamp is of {stamped.time.isoformat()}, the nonce of"
    advice = "data and model may be chosen to suit it: issue a nonce once the plan is time-stamped"
    return f"{when} {issued.isoformat()}; {advice}"


def _stated(claims: Claims) -> tuple[Property, ...]:
    return tuple(item for item in claims.properties if item.source != "declared")


def _other_data(plan: Plan, name: str, found: Artifact) -> Iterator[str]:
    planned = plan.data.get(name, found.digest)
    if found.digest != planned:
        yield f"{name} is {found.digest}, planned is {planned}"
    elif found.type != "dataset":
        yield f"{name} is called a {found.type}, planned is a dataset"


def _other_parameters(plan: Plan, item: Property) -> Iterator[str]:
    chosen = item.parameters.keys() - FOUND_PARAMETERS
    for key in sorted(chosen | plan.parameters.keys()):
        found, planned = item.parameters.get(key), plan.parameters.get(key)
        if key not in plan.parameters or not same(found, planned):
            yield f"{item.name} has {key} {_value(found)}, planned is {_value(planned)}"


def _value(value: Value) -> str:
    return "nothing" if value is None else repr(value)


def _rule(seed: Value) -> str:
    return "none" if seed is None else str(seed)
