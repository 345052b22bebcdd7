"""Powering a machine's TPM on, as firmware does before anything else runs."""

import secrets

from enclave_sim import commands
from enclave_sim.folder import Folder
from enclave_sim.swtpm import Swtpm

_AUTH_BYTES = 32
_CLOCK_STEP = 4096
"""Milliseconds; a TPM that lost power without a word has forgotten at most as many."""


def power_on(folder: Folder) -> Swtpm:
    """Start the machine's TPM and close its platform hierarchy. Raises MachineError."""
    tpm = Swtpm(folder.tpm_state, folder.log)
    try:
        act_as_firmware(tpm)
    except BaseException:
        tpm.cut_power()
        raise
    return tpm


def act_as_firmware(tpm: Swtpm) -> None:
    """Do what firmware does after each start: make the clock safe, close the platform hierarchy.

    Platform auth is empty after a start; the random one that it gets is kept by nobody, so that
    until the next start nobody clears the TPM, changes its seeds or defines platform NV.
    """
    clock = commands.read_clock(tpm.exchange).info
    if not clock.safe:
        commands.set_clock(tpm.exchange, clock.clock + _CLOCK_STEP, b"")
    platform = secrets.token_bytes(_AUTH_BYTES)
    commands.change_hierarchy_auth(tpm.exchange, commands.RH_PLATFORM, b"", platform)
