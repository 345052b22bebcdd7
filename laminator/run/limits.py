"""Resource limits of the processes in a sandbox, by their names in setrlimit(2): core, data, ...

Hard limits are inherited, and cannot be raised again without a capability that nobody in a sandbox
has. The attester forbids core files for itself, and so for every process that it starts.
"""

import resource
from collections.abc import Mapping
from types import MappingProxyType

from laminator.run.private_copy import available_memory

Limits = Mapping[str, int]
NO_LIMITS: Limits = MappingProxyType({})
_LEAST_MEMORY = 2 << 30
_MODEL_FILE_BYTES = 1 << 30
_MODEL_FILES, _MODEL_THREADS = 4096, 4096


def forbid_core_files() -> None:
    """Let neither this process nor any that it starts leave a core file (RLIMIT_CORE)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def with_inherited(limits: Limits) -> Limits:
    """Return `limits` and this process's own one for core files, which all that it starts has."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    return limits if hard == resource.RLIM_INFINITY else {"core": hard, **limits}


def model_limits() -> dict[str, int]:
    """Return the limits that a model's process is to have, none above what it would inherit.

    Its data segment is three quarters of the memory that is available, at least 2 GiB.
    """
    wanted = {
        "core": 0,
        "data": max(_LEAST_MEMORY, available_memory() * 3 // 4),
        "fsize": _MODEL_FILE_BYTES,
        "nofile": _MODEL_FILES,
        "nproc": _MODEL_THREADS,
    }
    return {name: _at_most(name, limit) for name, limit in wanted.items()}


def _at_most(name: str, limit: int) -> int:
    _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)
