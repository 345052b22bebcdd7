"""The system's own programs, found in fixed folders.

What separates an attester or a workload, and what plays its TPM, must not be chosen by whoever
asks for a run: nothing here looks at PATH.
"""

import os
from pathlib import Path

FOLDERS = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/usr/local/sbin", "/sbin")
SEARCH_PATH = ":".join(FOLDERS)
"""The folders as a PATH, for the attester's own processes."""


def find_program(name: str) -> str | None:
    """Return the path of the system's program `name`, None where it is not installed."""
    for folder in FOLDERS:
        path = Path(folder, name)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None
