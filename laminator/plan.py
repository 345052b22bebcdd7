"""A plan: what a provider says beforehand that it will measure, as strict TOML.

`docs/plan.md` describes every key. Attester and verifier read the same bytes with this module; the
plan's identity is their plain SHA-256.
"""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from laminator.cbor import Value
from laminator.claims import FOUND_PARAMETERS, SEED_FROM_NONCE, Seed
from laminator.digest import Digest, parse_digest
from laminator.errors import MalformedError
from laminator.fields import Fields, array, malformed, name, named, uint
from laminator.toml_border import MAX_BYTES, Scalar, read_toml, scalar

PLAN_VERSION = 1
MAX_PLAN_BYTES = MAX_BYTES
MAX_RUNS = 1_000_000
MAX_SEED = 2**53 - 1
NO_SEED = "none"
MODEL = "model"
SAMPLE = "sample"

_MAX_LIST = 1000


class PlannedMachine(NamedTuple):
    """The machine that a plan names: SHA-256 of its AK's SubjectPublicKeyInfo, and a run number.

    The plan's runs have the numbers from `first_run` on.
    """

    key: Digest
    first_run: int


class Plan(NamedTuple):
    """A plan; `seed` is None where no seed is used, `parameters` are scalars or tuples of them.

    `entry` is the entry script: of an evaluation, the model's code.
    """

    runs: int
    seed: Seed | None
    metric: tuple[str, ...]
    data: Mapping[str, Digest]
    model: Digest | None = None
    parameters: Mapping[str, Value] = MappingProxyType({})
    machine: PlannedMachine | None = None
    entry: Digest | None = None

    @property
    def last_run(self) -> int | None:
        """The last run number that follows the plan, None where it names no machine."""
        return None if self.machine is None else self.machine.first_run + self.runs - 1


def parse_plan(content: bytes) -> Plan:
    """Parse a plan. Raises MalformedError, naming the key that is wrong."""
    fields = Fields(read_toml(content, "plan"), "plan")
    fields.take("version", _version)
    plan = Plan(
        runs=fields.take("runs", _runs),
        seed=fields.take("seed", _seed),
        metric=fields.take("metric", _metric),
        data=fields.take("data", _data),
        model=fields.optional("model", _digest),
        parameters=fields.optional("parameters", _parameters) or MappingProxyType({}),
        machine=fields.optional("machine", _machine),
        entry=fields.optional("entry", _digest),
    )
    fields.close()
    if SAMPLE in plan.parameters and plan.seed is None:
        raise malformed(f"plan.parameters.{SAMPLE}", "a seed to draw by", plan.parameters[SAMPLE])
    return plan


def explain_plan(plan: Plan) -> Iterator[str]:
    """Yield one sentence for each thing that `plan` fixes or leaves open."""
    yield f"At most {plan.runs} wrapped run(s) follow this plan."
    yield from _explain_machine(plan)
    yield _explain_seed(plan.seed)
    yield (
        f"A result states exactly {', '.join(plan.metric)}, and beside that only what a person "
        "declares."
    )
    for key, digest in plan.data.items():
        yield f"The data set {key} is {digest}."
    yield "A result is on no other data."
    if plan.model is None:
        yield "Which model is measured is left open."
    else:
        yield f"The model is {plan.model}."
    if plan.entry is None:
        yield "Which script runs, such as a model's code, is left open."
    else:
        yield f"The script that runs, such as a model's code, is {plan.entry}."
    if plan.parameters:
        for key, value in plan.parameters.items():
            yield f"The parameter {key} is {value!r}."
        yield "No other parameter is chosen."
    else:
        yield "How it is measured, such as which column holds the labels, is left open."


def _explain_machine(plan: Plan) -> Iterator[str]:
    if plan.machine is None:
        yield (
            "No machine is named, so a verifier cannot show that there were no other runs; "
            "[machine] names one."
        )
    else:
        yield (
            f"They are numbers {plan.machine.first_run} to {plan.last_run} of the machine whose "
            f"key is {plan.machine.key}; whatever else it runs meanwhile takes numbers too."
        )


def _explain_seed(seed: Seed | None) -> str:
    if seed is None:
        return "No seed is used: nobody can check what was drawn."
    if seed == SEED_FROM_NONCE:
        return "Sampling and shuffling follow the verifier's nonce."
    return f"Sampling and shuffling follow the number {seed}, which the plan's author chose."


def _version(value: Value, path: str) -> int:
    if isinstance(value, bool) or value != PLAN_VERSION:
        raise malformed(path, f"the number {PLAN_VERSION}", value)
    return PLAN_VERSION


def _runs(value: Value, path: str) -> int:
    number = uint(value, path)
    if not 1 <= number <= MAX_RUNS:
        raise malformed(path, f"a number from 1 to {MAX_RUNS}", value)
    return number


def _seed(value: Value, path: str) -> Seed | None:
    if value == NO_SEED:
        return None
    if value == SEED_FROM_NONCE:
        return SEED_FROM_NONCE
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise malformed(path, f'"nonce", "none" or a number from 0 to {MAX_SEED}', value)
    return value


def _metric(value: Value, path: str) -> tuple[str, ...]:
    names = array(name, least=1, most=_MAX_LIST)(value, path)
    if len(set(names)) < len(names):
        raise malformed(path, "no repetition", value)
    return names


def _digest(value: Value, path: str) -> Digest:
    try:
        return parse_digest(value if isinstance(value, str) else "")
    except MalformedError as error:
        raise MalformedError("plan.digest", error.message, path=path) from error


def _data(value: Value, path: str) -> Mapping[str, Digest]:
    found = named(_digest, most=_MAX_LIST)(value, path)
    if not found:
        raise malformed(path, "at least one data set, or nothing could be on other data", value)
    if MODEL in found:
        raise malformed(f"{path}.{MODEL}", f"the model's digest as {MODEL} = ...", found[MODEL])
    return found


def _parameters(value: Value, path: str) -> Mapping[str, Value]:
    found = named(_parameter, most=_MAX_LIST)(value, path)
    if not found:
        raise malformed(path, "at least one parameter, or no such table", value)
    for key in FOUND_PARAMETERS & found.keys():
        raise malformed(f"{path}.{key}", "a parameter that somebody chooses", found[key])
    return found


def _parameter(value: Value, path: str) -> Value:
    if isinstance(value, tuple):
        return array(_scalar, most=_MAX_LIST)(value, path)
    return _scalar(value, path)


def _scalar(value: Value, path: str) -> Scalar:
    found = scalar(value, path)
    if isinstance(found, float) and not math.isfinite(found):
        raise malformed(path, "a finite number", value)
    return found


def _machine(value: Value, path: str) -> PlannedMachine:
    fields = Fields(value, path)
    machine = PlannedMachine(
        key=fields.take("key", _digest), first_run=fields.take("first-run", uint)
    )
    fields.close()
    if machine.key.algorithm != "sha-256":
        raise malformed(f"{path}.key", "a digest by sha-256", str(machine.key))
    if machine.first_run < 1:
        raise malformed(f"{path}.first-run", "a run number, which starts at 1", machine.first_run)
    return machine
