"""The forged world with valid claims, as tests of the whole verifier change it."""

from enclave_sim.adversary import forged_world
from enclave_sim.adversary.forged_world import (
    IAT,
    POLICY,
    World,
    claims,
    judge,
    obstacles,
    verdict_of,
)
from laminator.digest import sha256

__all__ = ["IAT", "LAUNCH_DIGEST", "POLICY", "claims", "judge", "obstacles", "verdict_of", "world"]

LAUNCH_DIGEST = sha256(b"the attester's manifest")


def world(**changes: object) -> World:
    """Return a valid world with claims changed before everything is signed."""
    return forged_world.world(claims=claims(**changes))
