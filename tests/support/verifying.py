"""A forged world that verifies, a policy that accepts it, and helpers to ask about it."""

from typing import Any

import forge
import samples

from laminator.appraise.policy import Policy, References
from laminator.appraise.result import VerificationResult
from laminator.appraise.verify import verify
from laminator.claims import Claims
from laminator.digest import sha256

LAUNCH_DIGEST = sha256(b"the attester's manifest")
IAT = int(forge.NOW.timestamp()) - 3600
POLICY = Policy(
    name="test",
    roots=("simulated",),
    coverage="launch",
    coverage_named=True,
    references=References(launch=frozenset({LAUNCH_DIGEST})),
    data_chosen_by="provider",
)


def claims(**changes: object) -> Claims:
    """Return the sample's claims as of an hour before NOW, launched, without other cards."""
    draft = samples.claims()._replace(cards=None, iat=IAT)
    draft = draft._replace(run=draft.run._replace(launch=forge.LAUNCH))
    return draft._replace(**changes)  # type: ignore[arg-type]


def world(**changes: object) -> forge.World:
    """Return a valid world with claims changed before everything is signed."""
    return forge.world(claims=claims(**changes))


def judge(judged: forge.World | bytes, policy: Policy = POLICY, **given: Any) -> VerificationResult:
    """Verify a world or a card at NOW with the forged machine's trust."""
    card = judged if isinstance(judged, bytes) else forge.card_bytes(judged)
    return verify(card, policy, **{"trust": forge.machine().trust, "now": forge.NOW, **given})


def obstacles(result: VerificationResult) -> set[str]:
    """Return the ids of the checks that forbid acceptance."""
    return {check.id for check in result.failures()}


def verdict_of(result: VerificationResult, id_: str) -> str:
    """Return the verdict of the one check with that id."""
    (verdict,) = (check.verdict for check in result.checks if check.id == id_)
    return verdict
