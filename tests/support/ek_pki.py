"""A short name for the forged manufacturer, in tests."""

from enclave_sim.adversary.forged_manufacturer import *  # noqa: F403
