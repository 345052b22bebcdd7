"""The one seam at which errors of the TSS become errors of ours, with advice."""

import contextlib
from collections.abc import Iterator

from tpm2_pytss import TSS2_Exception

from laminator.errors import MachineError

# Response codes without handle, parameter and session numbers (TPM 2.0 Part 2, 6.6.3).
_ADVICE = {
    0x08B: "the handle or index is not defined",
    0x08E: "the authorisation value is wrong; check the hierarchy's or counter's secret",
    0x09F: "it was made for another key or another TPM",
    0x0A2: "the authorisation value is wrong; check the hierarchy's or counter's secret",
    0x14C: "the NV index is already defined",
    0x14B: "the TPM has no room for another NV index",
    0x902: "the TPM holds too many loaded objects; free them with: tpm2_flushcontext -t",
    0x903: "the TPM holds too many sessions; free them with: tpm2_flushcontext -l -s",
    0x921: "the TPM is locked after wrong authorisations; wait, or reset the lockout",
}
_TCTI_LAYER = 0x0A
_CONNECTION_ADVICE = (
    "check that the TPM is there and that this user may open it (group tss for /dev/tpmrm0)"
)


@contextlib.contextmanager
def tss_errors(action: str) -> Iterator[None]:
    """Raise a `MachineError` ("the TPM could not" `action`) for an error of the TSS inside.

    Its code is ``tpm.connection`` where the TPM could not be reached, else ``tpm.command``.
    """
    try:
        yield
    except TSS2_Exception as error:
        broken = int(error.rc) >> 16 == _TCTI_LAYER
        advice = _CONNECTION_ADVICE if broken else _ADVICE.get(int(error.error) & 0xFFF, "")
        message = f"the TPM could not {action}: {error}"
        raise MachineError(
            "tpm.connection" if broken else "tpm.command",
            f"{message}; {advice}" if advice else message,
        ) from error
