"""A short name for the forged endorsement key, in tests."""

from enclave_sim.adversary.forged_endorsement_key import *  # noqa: F403
