"""Where this user's keys and authority lie: folders in the XDG data folder."""

import os
from pathlib import Path

CERTIFICATE_SUFFIXES = (".pem", ".crt", ".der")
LABELS = "labels"


def ak_folder() -> Path:
    """Return where `laminator run` looks for certificates of this machine's attestation keys."""
    return _data_folder() / "ak"


def certificate_folder(label: str | None) -> Path:
    """Return where certificates of the key of `label` lie: apart, so that no card has another's."""
    return ak_folder() if label is None else ak_folder() / LABELS / label


def own_authority() -> Path:
    """Return where `laminator authority` keeps an authority that nobody put elsewhere."""
    return _data_folder() / "authority"


def _data_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "laminator"
