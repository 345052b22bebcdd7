"""The plan that a run follows: read once with its time-stamp, before a run number is spent.

The bytes that are hashed are those that are verified and that the card carries. What can be seen
to contradict the plan is refused here, which saves a number; the verifier's own checks decide.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from laminator.card import ConceptualMessage
from laminator.cbor import Value
from laminator.claims import SEED_FROM_NONCE, Seed
from laminator.digest import Digest, sha256
from laminator.endorsements import PLAN_MEDIA_TYPE, PLAN_TIMESTAMP_MEDIA_TYPE
from laminator.errors import MalformedError, UsageError, shown
from laminator.evidence.timestamp_reply import MAX_REPLY
from laminator.measure.files import measure_path
from laminator.plan import MAX_PLAN_BYTES, MODEL, Plan, PlannedMachine, parse_plan
from laminator.reading import read_limited
from laminator.run.measurement import Measurement, chosen_parameters, parse_measurement
from laminator.run.request import RunRequest
from laminator.toml_border import same


class Planned(NamedTuple):
    """What the claims say of plan and seed, and what the card carries of them.

    `machine` and `runs` are the plan's, None and 0 where it names none.
    """

    plan: Digest | None = None
    token: Digest | None = None
    seed: Seed | None = None
    endorsements: tuple[ConceptualMessage, ...] = ()
    machine: PlannedMachine | None = None
    runs: int = 0


def read_planned(request: RunRequest, types: Mapping[str, str]) -> Planned:
    """Read the request's plan and time-stamp; `types` are the artifact types of the inputs.

    Raises UsageError for a plan that is none, a time-stamp that is not good, and a request that
    contradicts the plan.
    """
    if request.plan is None:
        _check_seed(request, request.seed)
        _check_sample(request, request.seed)
        return Planned(seed=request.seed)
    content = read_limited(request.plan, MAX_PLAN_BYTES)
    try:
        plan = parse_plan(content)
    except MalformedError as error:
        message = f"{shown(request.plan)}: {error.message}; `laminator plan check` explains plans"
        raise UsageError("plan.content", message) from error
    _check_rule(request, plan)
    _check_seed(request, plan.seed)
    _check_inputs(request, plan, types)
    _check_entry(request, plan)
    _check_sample(request, plan.seed)
    _check_evaluation(request, plan)
    token, endorsements = None, [ConceptualMessage(PLAN_MEDIA_TYPE, content)]
    if request.plan_token is not None:
        reply = read_limited(request.plan_token, MAX_REPLY)
        _check_token(request, reply, content)
        token = sha256(reply)
        endorsements.append(ConceptualMessage(PLAN_TIMESTAMP_MEDIA_TYPE, reply))
    digest = sha256(content)
    return Planned(digest, token, plan.seed, tuple(endorsements), plan.machine, plan.runs)


def _check_token(request: RunRequest, reply: bytes, content: bytes) -> None:
    """Refuse a time-stamp that a verifier with the request's anchors would not count."""
    from laminator.appraise.timestamps import appraise_token
    from laminator.appraise.trust import Anchor, TrustStore, parse_certificate, parse_crl

    anchors = [Anchor(kind, parse_certificate(der)) for kind, der in request.tsa_anchors]
    trust = TrustStore(tuple(anchors), tuple(map(parse_crl, request.tsa_crls)))
    appraisal = appraise_token(reply, content, trust, dt.datetime.now(dt.UTC))
    if appraisal.verified is None:
        first = next(check for check in appraisal.checks if check.verdict != "pass")
        message = f"the plan's time-stamp {shown(request.plan_token)} is not good"
        hint = "--plan-trust names the folder with the authority's anchor and CRLs"
        raise UsageError("plan.token", f"{message}: {first.id}: {first.detail}; {hint}")


def _check_rule(request: RunRequest, plan: Plan) -> None:
    if request.seed is not None and request.seed != plan.seed:
        planned = "none" if plan.seed is None else plan.seed
        message = f"--seed {request.seed}: the plan's rule is {planned}; leave --seed out"
        raise UsageError("plan.seed", message)


def _check_seed(request: RunRequest, rule: Seed | None) -> None:
    if rule == SEED_FROM_NONCE and request.nonce is None:
        message = "the seed follows the verifier's nonce, and there is none: give it with --nonce"
        raise UsageError("seed.nonce", message)


def _check_inputs(request: RunRequest, plan: Plan, types: Mapping[str, str]) -> None:
    """Check names, types and digests; reading twice costs less than a planned number."""
    data = {name: path for name, path in request.inputs.items() if name != MODEL}
    odd = sorted(data.keys() ^ plan.data.keys())
    if odd:
        planned = ", ".join(sorted(plan.data))
        message = f"the plan's data are {planned}; {odd[0]} is only in one of plan and request"
        raise UsageError("plan.data", message)
    wanted = {**plan.data, **({} if plan.model is None else {MODEL: plan.model})}
    for name, digest in wanted.items():
        if name not in request.inputs:
            raise UsageError("plan.model", f"the plan's model {digest} is no input of this run")
        found = measure_path(request.inputs[name]).digest
        if found != digest:
            code = "plan.model" if name == MODEL else "plan.data"
            raise UsageError(code, f"the input {name} is {found}, the plan's is {digest}")
        if name != MODEL and types[name] != "dataset":
            message = f"the input {name} would be called a {types[name]}; plan it by another name"
            raise UsageError("plan.data", message)


def _check_entry(request: RunRequest, plan: Plan) -> None:
    if plan.entry is None:
        return
    script = str(Path(request.cwd, request.argv[request.script]))
    found = measure_path(script).digest
    if found != plan.entry:
        message = f"the script {shown(script)} is {found}, the plan's is {plan.entry}"
        raise UsageError("plan.entry", message)


def _check_evaluation(request: RunRequest, plan: Plan) -> None:
    measurement = _measurement(request)
    if measurement is None:
        return
    if set(measurement.properties) != set(plan.metric):
        planned = ", ".join(plan.metric)
        message = f"the plan measures exactly {planned}: write --property for each of these"
        raise UsageError("plan.metric", message)
    chosen = chosen_parameters(measurement)
    for key in sorted(chosen.keys() | plan.parameters.keys()) if plan.parameters else ():
        if not same(chosen.get(key), plan.parameters.get(key)):
            found, planned = _value(chosen.get(key)), _value(plan.parameters.get(key))
            message = f"the plan's parameter {key} is {planned}, this evaluation's {found}"
            raise UsageError("plan.parameters", message)


def _check_sample(request: RunRequest, rule: Seed | None) -> None:
    measurement = _measurement(request)
    if measurement is not None and measurement.sample is not None and rule is None:
        message = "a sample without a seed: nobody could check which rows were drawn; give --seed"
        raise UsageError("evaluate.sample", message)


def _measurement(request: RunRequest) -> Measurement | None:
    """Return what an evaluation measures, None for a run."""
    if request.verb != "evaluate":
        return None
    return parse_measurement(request.options["measurement"], "options.measurement")


def _value(value: Value) -> str:
    return "nothing" if value is None else shown(value)
