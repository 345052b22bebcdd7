"""A plan of runs: TOML read strictly, and explained."""

from harnesses.harness import Harness, parsed
from laminator.plan import explain_plan, parse_plan
from laminator.seed import seed_bytes

LEAST = 'version = 1\nruns = 1\nseed = "none"\nmetric = ["accuracy"]\n[data]\ntest = "{d}"\n'
FULL = """\
version = 1
runs = 3
seed = "nonce"
metric = ["accuracy", "f1"]
model = "{d}"
entry = "{d}"
[data]
test = "{d}"
labels = "{d}"
[parameters]
labels = "column:label"
sample = 500
share = 0.5
public = true
sensitive = ["sex", "age"]
[machine]
key = "{d}"
first-run = 7
"""
WORDS = (
    *("version = 1", "runs", "seed", '"nonce"', '"none"', "metric", "model", "[data]", "first-run"),
    *("[parameters]", "[machine]", "key", "sha-256:", "sha-384:", '"""', "1979-05-27", "nan"),
)


def check(data: bytes) -> bool:
    """A plan is refused, or explained in sentences that hide nothing; its seed is computed."""
    plan = parsed(parse_plan, data)
    if plan is None:
        return False
    assert parse_plan(data) == plan
    assert all(line.isprintable() for line in explain_plan(plan))
    assert plan.last_run is None or plan.last_run >= plan.runs
    assert plan.seed is None or len(seed_bytes(plan.seed, b"n" * 8)) == 32
    return True


def seeds() -> list[bytes]:
    """Return the least plan, and one with every key."""
    digest = f"sha-256:{'a' * 64}"
    return [form.format(d=digest).encode() for form in (LEAST, FULL)]


HARNESS = Harness(check, seeds, words=WORDS)
