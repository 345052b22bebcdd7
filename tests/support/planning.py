"""A run that keeps a plan which was time-stamped before it began, and a verifier who asks for it.

honest = planned()                                # everything as planned
bad = planned(properties=(...))                   # other claims under the same plan
other = planned(plan_text(runs=1))                # another plan, with a time-stamp of its own
obstacles(judge_planned(bad))
"""

from typing import Any

import tsa_pki
from verifying import POLICY, claims, judge, world

from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import World
from laminator.appraise.policy import Policy
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import TrustStore
from laminator.card import ConceptualMessage
from laminator.claims import Seed
from laminator.digest import Digest, sha256
from laminator.endorsements import PLAN_MEDIA_TYPE, PLAN_TIMESTAMP_MEDIA_TYPE
from laminator.evidence.tpm_key import key_digest

NONCE = b"n" * 32
_NAMES = (
    "digest",
    "parse",
    "token",
    "metric",
    "model",
    "entry",
    "data",
    "parameters",
    "seed",
    "runs",
)
CHECKS = tuple(f"plan.{name}" for name in _NAMES)
KEPT: Policy = POLICY._replace(require=CHECKS)
FIRST_RUN, RUNS = 6, 3


def plan_text(
    *,
    runs: int = RUNS,
    seed: str = '"nonce"',
    machine_table: str | None = None,
    more: str = "",
) -> bytes:
    """Return the plan that the sample's claims keep; `more` goes before its first table."""
    inputs = claims().inputs
    table = machine_table
    if table is None:
        key = Digest("sha-256", key_digest(machine().ak).value)
        table = f'[machine]\nkey = "{key}"\nfirst-run = {FIRST_RUN}\n'
    return f"""\
version = 1
runs = {runs}
seed = {seed}
metric = ["accuracy"]
model = "{inputs["model"].digest}"
entry = "{claims().workload.entry.digest}"
{more}
[data]
test = "{inputs["test"].digest}"
[parameters]
rule = "argmax"
{table}""".encode()


PLAN = plan_text()


def token(plan: bytes = PLAN, **changes: object) -> bytes:
    """Return a good time-stamp over `plan`; `changes` are fields of `tsa_pki.Stamp`."""
    return tsa_pki.reply(tsa_pki.authority(), plan, **changes)


def carried(plan: bytes | None = PLAN, reply: bytes | None = None) -> tuple[ConceptualMessage, ...]:
    """Return endorsements with `plan` and `reply`, without what is None."""
    both = ((PLAN_MEDIA_TYPE, plan), (PLAN_TIMESTAMP_MEDIA_TYPE, reply))
    return tuple(ConceptualMessage(media, value) for media, value in both if value is not None)


def planned(
    plan: bytes = PLAN,
    *,
    reply: bytes | None = None,
    seed: Seed | None = "nonce",
    number: int = 7,
    **changes: object,
) -> World:
    """Return a world whose run names `plan` and the time-stamp `reply` (default: a good one)."""
    stamp = token(plan) if reply is None else reply
    run = claims().run._replace(
        id=number.to_bytes(16, "big"),
        number=number,
        plan=sha256(plan),
        plan_token=sha256(stamp),
        seed=seed,
    )
    honest = world(run=run, **changes)
    return honest._replace(endorsements=carried(plan, stamp))


def trust(world_: World) -> TrustStore:
    """Return the anchors of the world's machine and of the time-stamping authority."""
    own, tsa = world_.machine.trust, tsa_pki.authority().trust()
    return TrustStore(own.anchors + tsa.anchors, own.crls + tsa.crls)


def judge_planned(
    world_: World, policy: Policy = KEPT, *, nonce: bytes | None = NONCE, **given: Any
) -> VerificationResult:
    """Verify the world's card for a verifier who asks for a kept plan."""
    return judge(world_, policy, **{"trust": trust(world_), "nonce": nonce, **given})
