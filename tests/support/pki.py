"""A short name for the forged authorities, in tests."""

from enclave_sim.adversary.forged_pki import *  # noqa: F403
