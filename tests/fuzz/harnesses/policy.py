"""The verifier's policy: TOML read strictly, explained, and asked of a card."""

import datetime as dt
from functools import cache

from harnesses.harness import VECTORS, Harness, golden_cards, parsed
from laminator.appraise.explain import explain
from laminator.appraise.policy import Policy, parse_policy
from laminator.appraise.trust import load_trust
from laminator.appraise.verify import Given, verify
from laminator.errors import UsageError

FULL = """\
version = 1
roots = ["simulated", "tpm"]
coverage = "none"
require = ["ak.revocation", "lineage.model"]
nonce = "optional"
maximum-age = "30d"
authority = "independent"
independent-authorities = ["sha-256:{d}"]
data-chosen-by = "provider"
judged-as-of = "token"
unknown-code = "refuse"
[code]
allow = ["sha-256:{d}"]
forbid = ["sha-256:{h}{h}"]
forbid-events = ["pickle", "exec"]
[reference]
launch = ["sha-256:{d}"]
entry = ["sha-256:{d}"]
interpreter = ["sha-384:{d}{h}"]
data = ["sha-256:{d}"]
[artifacts]
model = "sha-256:{d}"
[[property]]
name = "accuracy"
source = ["measured", "reported"]
on = "test"
measurer = "laminator.accuracy/1"
min = 0.9
max = 1
bound = "interval"
confidence = 0.95
required = false
unit = "1"
parameters = {{ labels = "column:label", n = 4, x = 1.5, y = true }}
"""
WORDS = (
    *("version = 1", "roots", "coverage", "require", "nonce", "maximum-age", "reference"),
    *("authority", "independent-authorities", "data-chosen-by", "[[property]]", "[artifacts]"),
    *('"""', "'''", "1979-05-27", "0x", "inf", "nan", "sha-256:", "min", "max", "source"),
    *("unknown-code", "[code]", "allow", "forbid", "forbid-events"),
)


def check(data: bytes) -> bool:
    """A policy is refused as the caller's mistake, or explained and applied without a stumble."""
    policy = parsed(lambda given: parse_policy(given, name="fuzz"), data, UsageError)
    if policy is None:
        return False
    assert parse_policy(data, name="fuzz") == policy
    ids = [rule.id for rule in policy.properties]
    assert len(set(ids)) == len(ids)
    assert all(line.isprintable() for line in explain(policy))
    _check_use(policy)
    _check_use(policy.for_lineage())
    return True


def seeds() -> list[bytes]:
    """Return the least policy, one with every key, and the one of the golden cards."""
    full = FULL.format(d="a" * 64, h="b" * 32)
    return [b"version = 1\n", full.encode(), (VECTORS / "policy.toml").read_bytes()]


def _check_use(policy: Policy) -> None:
    result = verify(golden_cards()[1], policy, **_given())
    rules = {check.id for check in result.checks if check.id.startswith("policy.property.")}
    assert {rule.id for rule in policy.properties} <= rules
    assert set(policy.require) <= set(result.required)


@cache
def _given() -> Given:
    return {
        "trust": load_trust(str(VECTORS / "trust")),
        "now": dt.datetime(2026, 11, 25, 0, 5, 22, tzinfo=dt.UTC),
    }


HARNESS = Harness(check, seeds, words=WORDS)
