"""What a wheel's file name says (PEP 427, PEP 440, PEP 503)."""

from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from laminator.errors import MalformedError, shown


class WheelName(NamedTuple):
    """What a wheel's file name says: normalised name, version, and the file name itself."""

    name: str
    version: str
    filename: str


def parse_wheel_name(filename: str) -> WheelName:
    """Parse a wheel's file name. Raises MalformedError `wheel.name`."""
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise MalformedError("wheel.name", f"not a wheel's name: {shown(filename)}") from error
    return WheelName(name, str(version), filename)
