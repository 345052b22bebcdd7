"""A short name for the forged claims, in tests."""

from enclave_sim.adversary.forged_claims import *  # noqa: F403
