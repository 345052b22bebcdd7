"""A short name for the forged world, in tests."""

from enclave_sim.adversary.forged_tpm import *  # noqa: F403
from enclave_sim.adversary.forged_world import *  # noqa: F403
