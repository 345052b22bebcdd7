"""The secrets that authorise an attester's use of its TPM; needs no TPM library."""

from typing import NamedTuple


class HierarchyAuths(NamedTuple):
    """Authorisation values; each is empty where nobody has set one."""

    endorsement: bytes = b""
    owner: bytes = b""
    platform: bytes = b""
    counter: bytes = b""
