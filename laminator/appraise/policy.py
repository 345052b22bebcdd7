"""The appraisal policy: what a verifier asks of a card, read strictly from TOML.

`docs/policy.md` describes every key. A policy is the verifier's own file: what is wrong with it
is a UsageError that names the key, never a check.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from laminator.appraise.code_policy import ALLOW, CodeRules, take_code_rules
from laminator.appraise.policy_endorsers import Endorser, check_endorsed_rules, take_endorsers
from laminator.appraise.policy_fields import digest_set as _digests
from laminator.appraise.policy_fields import digest_text as _digest
from laminator.appraise.policy_fields import distinct as _distinct
from laminator.cbor import Value
from laminator.claims import SOURCES
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.fields import (
    Fields,
    Parse,
    array,
    choice,
    flag,
    malformed,
    name,
    named,
    text,
)
from laminator.toml_border import MAX_BYTES, Scalar, read_toml, scalar

POLICY_VERSION = 1

HARDWARE_ROOTS = ("tpm", "cloud-vtpm", "sgx", "tdx", "snp", "nitro")
ROOTS = ("simulated", *HARDWARE_ROOTS)
COVERAGES = ("none", "launch", "boot", "attester")
AUTHORITIES = ("self-certified", "independent")
BOUNDS = ("point", "interval")
CHOOSERS = ("reference", "provider")
TIMES = ("now", "token")

DEFAULT_CONFIDENCE = 0.9
"""Least confidence of an interval that a bound is judged by, where a rule says none."""

# What a policy requires where it does not say otherwise, beyond what no policy can waive.
DEFAULT_REQUIRE = ("ak.revocation",)
DEFAULT_COVERAGE = "launch"

_BORDER_CODES = {"toml.size": "policy.size", "toml.syntax": "policy.syntax"}
_DURATION = r"([1-9][0-9]{0,6})([smhdw])"
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CHECK_ID = r"[a-z0-9-]+(\.[A-Za-z0-9_/-]+)+"

T = TypeVar("T")


class References(NamedTuple):
    """Digests known to be good, for each kind of measured thing."""

    launch: frozenset[Digest] = frozenset()
    entry: frozenset[Digest] = frozenset()
    interpreter: frozenset[Digest] = frozenset()
    data: frozenset[Digest] = frozenset()


class PropertyRule(NamedTuple):
    """What is asked of the properties called `name` (about `on`, where given).

    `sources` are the words that count, `parameters` those that have to be as stated. `bound`
    "interval" asks for an interval and judges its worse end, "point" judges the value, None judges
    the worse end where there is an interval. `unit` None stands for no unit, or "1"; `confidence`
    is the least of an interval that is judged. `measurer_endorsed` asks for an endorsement of the
    measurer by one of the policy's endorsers.
    """

    id: str
    name: str
    sources: tuple[str, ...]
    on: tuple[str, ...] = ()
    measurers: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    bound: str | None = None
    required: bool = True
    parameters: Mapping[str, Scalar] = MappingProxyType({})
    unit: str | None = None
    confidence: float = DEFAULT_CONFIDENCE
    measurer_endorsed: bool = False


class Policy(NamedTuple):
    """An appraisal policy; `maximum_age` in seconds, `coverage_named` whether the file says it.

    `judged_as_of` is "now" or "token": the verdict that decides for a card with a time-stamp.
    """

    name: str = "built-in"
    roots: tuple[str, ...] = HARDWARE_ROOTS
    coverage: str = DEFAULT_COVERAGE
    coverage_named: bool = False
    require: tuple[str, ...] = DEFAULT_REQUIRE
    nonce_required: bool = False
    maximum_age: int | None = None
    references: References = References()
    authority: str = "self-certified"
    independent_authorities: frozenset[Digest] = frozenset()
    data_chosen_by: str = "reference"
    properties: tuple[PropertyRule, ...] = ()
    artifacts: Mapping[str, Digest] = MappingProxyType({})
    judged_as_of: str = "now"
    code: CodeRules = CodeRules()
    endorsers: tuple[Endorser, ...] = ()

    def for_lineage(self) -> "Policy":
        """Return the policy for cards that a judged card builds on.

        Trust, reference values, code and revocation are asked of them as well; what is asked of one
        particular card (its properties, nonce, age, artifacts, lineage) is not.
        """
        kept = tuple(id_ for id_ in self.require if not id_.startswith(_OF_ONE_CARD))
        return self._replace(
            require=kept, nonce_required=False, maximum_age=None, properties=(), artifacts={}
        )

    def for_ledger(self) -> "Policy":
        """Return the policy for each entry of a ledger of runs.

        Trust, the attester's launch and revocation are asked of an entry. What is asked of one
        card, its data and the workload's code is not: a ledger counts runs, whatever they did.
        """
        return self.for_lineage()._replace(
            require=tuple(id_ for id_ in self.require if id_.startswith(_OF_EVIDENCE)),
            references=References(launch=self.references.launch),
            data_chosen_by="provider",
            code=CodeRules(unknown=ALLOW),
        )


BUILT_IN = Policy()
_OF_EVIDENCE = ("ak.", "tpm.", "run.")
_OF_ONE_CARD = ("lineage.", "artifact.", "claims.nonce", "nonce.", "time.", "plan.", "endorsement.")


def load_policy(path: str) -> Policy:
    """Read the policy file at `path`. Raises UsageError, naming the key that is wrong."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs the verifier's start
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            "policy.unreadable", f"policy {shown(path)}: {error.strerror}; name a readable file"
        ) from error
    return parse_policy(data, name=path)


def parse_policy(data: bytes, *, name: str) -> Policy:
    """Read a policy from TOML bytes; `name` is how results call it. Raises UsageError."""
    try:
        return _policy(read_toml(data, "policy"), name)
    except MalformedError as error:
        code = _BORDER_CODES.get(error.code, "policy.content")
        raise UsageError(code, f"policy {shown(name)}: {error.message}") from error


def _policy(table: Value, name: str) -> Policy:
    fields = Fields(table, "policy")
    fields.take("version", _version)
    named_coverage = fields.optional("coverage", choice(*COVERAGES))
    policy = Policy(
        name=name,
        roots=_or(fields.optional("roots", _distinct(choice(*ROOTS), least=1)), HARDWARE_ROOTS),
        coverage=_or(named_coverage, DEFAULT_COVERAGE),
        coverage_named=named_coverage is not None,
        require=_or(fields.optional("require", _distinct(_check_id)), DEFAULT_REQUIRE),
        nonce_required=fields.optional("nonce", choice("required", "optional")) == "required",
        maximum_age=fields.optional("maximum-age", duration),
        references=_or(fields.optional("reference", _references), References()),
        authority=_or(fields.optional("authority", choice(*AUTHORITIES)), AUTHORITIES[0]),
        independent_authorities=_or(
            fields.optional("independent-authorities", _digests), frozenset()
        ),
        data_chosen_by=_or(fields.optional("data-chosen-by", choice(*CHOOSERS)), CHOOSERS[0]),
        properties=_numbered(_or(fields.optional("property", array(_rule)), ())),
        artifacts=_or(fields.optional("artifacts", named(_digest)), MappingProxyType({})),
        judged_as_of=_or(fields.optional("judged-as-of", choice(*TIMES)), TIMES[0]),
        code=take_code_rules(fields),
        endorsers=take_endorsers(fields),
    )
    fields.close()
    _check_can_fail(policy)
    check_endorsed_rules(policy)
    return policy


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _version(value: Value, path: str) -> int:
    if isinstance(value, bool) or value != POLICY_VERSION:
        raise malformed(path, f"the number {POLICY_VERSION}", value)
    return POLICY_VERSION


def _references(value: Value, path: str) -> References:
    """Parse `[reference]`; an empty list of code would accept any, and is refused."""
    fields = Fields(value, path)
    found = {kind: fields.optional(kind, _digests) for kind in References._fields}
    fields.close()
    for kind in ("entry", "interpreter"):
        if found[kind] == frozenset():
            raise malformed(f"{path}.{kind}", "a digest, or no such key", ())
    return References(**{kind: digests or frozenset() for kind, digests in found.items()})


def _check_id(value: Value, path: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(_CHECK_ID, value):
        raise malformed(path, "the id of a check, such as ak.revocation", value)
    if value.startswith("policy."):
        raise malformed(path, "a check of the card; the policy's own rules always hold", value)
    return value


def duration(value: Value, path: str) -> int:
    """Parse a number and a unit, such as ``30d``, to seconds. Raises MalformedError."""
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if match is None:
        raise malformed(path, "a number and one of s, m, h, d, w, such as '30d'", value)
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _number(value: Value, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise malformed(path, "a finite number", value)
    return float(value)


def _one_or_more(parse: Parse[T]) -> Parse[tuple[T, ...]]:
    """Return a parser of one item or of an array of them, without repetition."""
    parse_array = _distinct(parse, least=1)
    return lambda value, path: parse_array(value if isinstance(value, tuple) else (value,), path)


def _parameter(value: Value, path: str) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise malformed(path, "a finite number", value)
    return scalar(value, path)


def _rule(value: Value, path: str) -> PropertyRule:
    fields = Fields(value, path)
    rule = PropertyRule(
        id="",
        name=fields.take("name", name),
        sources=fields.take("source", _one_or_more(choice(*SOURCES))),
        on=_or(fields.optional("on", _one_or_more(name)), ()),
        measurers=_or(fields.optional("measurer", _one_or_more(text)), ()),
        least=fields.optional("min", _number),
        most=fields.optional("max", _number),
        bound=fields.optional("bound", choice(*BOUNDS)),
        required=_or(fields.optional("required", flag), True),
        parameters=_or(fields.optional("parameters", named(_parameter)), MappingProxyType({})),
        unit=fields.optional("unit", text),
        measurer_endorsed=fields.optional("measurer-endorsed", flag) or False,
        confidence=_or(
            confidence := fields.optional("confidence", _confidence), DEFAULT_CONFIDENCE
        ),
    )
    fields.close()
    _check_rule(rule, path)
    if confidence is None:
        return rule
    if rule.bound == "point" or rule.least is rule.most is None:
        raise malformed(
            f"{path}.confidence", "min or max beside it, and no point bound", confidence
        )
    return rule._replace(bound="interval")


def _confidence(value: Value, path: str) -> float:
    number = _number(value, path)
    if not 0 < number < 1:
        raise malformed(path, "a number between 0 and 1", value)
    return number


def _check_rule(rule: PropertyRule, path: str) -> None:
    if rule.least is not None and rule.most is not None and rule.least > rule.most:
        raise malformed(path, "min <= max", (rule.least, rule.most))
    if rule.bound is not None and rule.least is None and rule.most is None:
        raise malformed(f"{path}.bound", "min or max beside it", rule.bound)


def _check_can_fail(policy: Policy) -> None:
    """Refuse a rule that no card could fail: whoever wrote it thinks that it asks something."""
    harmless = {"reported", "declared", *(("measured",) if policy.coverage_named else ())}
    for rule in policy.properties:
        asks = rule.required or rule.unit is not None or rule.measurer_endorsed
        bounds = rule.least is not None or rule.most is not None
        if not (asks or bounds) and harmless.issuperset(rule.sources):
            raise malformed(
                rule.id, "min, max, unit or required = true", "a rule that asks nothing"
            )


def _numbered(rules: tuple[PropertyRule, ...]) -> tuple[PropertyRule, ...]:
    """Give each rule its check id: the property's name, and `#2` … where it comes again."""
    seen: dict[str, int] = {}
    numbered = []
    for rule in rules:
        seen[rule.name] = count = seen.get(rule.name, 0) + 1
        suffix = f"#{count}" if count > 1 else ""
        numbered.append(rule._replace(id=f"policy.property.{rule.name}{suffix}"))
    return tuple(numbered)
