"""What the machine's owner tells the attester: the TPM, its secrets, how this code was launched.

One JSON object, read from the descriptor in LAMINATOR_SETUP_FD before anything else is done:

    {"tpm": {"fd": N} | {"tcti": TEXT}, "auth": {"endorsement": HEX, "owner": HEX, "counter": HEX},
     "counter_index": N, "launch": {"type": TEXT, "digest": "sha-256:…" | null},
     "enrol_fd": N | null, "ak_certificates": [HEX DER, …] | null, "simulated": BOOL}
"""

import json
from typing import Any, NamedTuple

from laminator.attest.auths import HierarchyAuths
from laminator.claims import LAUNCH_TYPES, Launch
from laminator.digest import parse_digest
from laminator.errors import MalformedError, shown
from laminator.fields import choice

MAX_BYTES = 1024 * 1024


class Setup(NamedTuple):
    """The owner's word. `tpm` is a connected descriptor or a TCTI string."""

    tpm: int | str
    auths: HierarchyAuths
    counter_index: int
    launch: Launch
    enrol_fd: int | None
    certificates: tuple[bytes, ...] | None
    simulated: bool


def parse_setup(data: bytes) -> Setup:
    """Parse the owner's JSON. Raises MalformedError."""
    try:
        plain = json.loads(data[: MAX_BYTES + 1])
        return _setup(plain)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedError("setup.json", f"the owner's setup is not readable: {error}") from error


def encode_setup(setup: Setup) -> bytes:
    """Return what `parse_setup` reads."""
    digest = setup.launch.digest
    certificates = setup.certificates
    plain = {
        "tpm": {"fd" if isinstance(setup.tpm, int) else "tcti": setup.tpm},
        "auth": {
            "endorsement": setup.auths.endorsement.hex(),
            "owner": setup.auths.owner.hex(),
            "counter": setup.auths.counter.hex(),
        },
        "counter_index": setup.counter_index,
        "launch": {"type": setup.launch.type, "digest": str(digest) if digest else None},
        "enrol_fd": setup.enrol_fd,
        "ak_certificates": None if certificates is None else [der.hex() for der in certificates],
        "simulated": setup.simulated,
    }
    return json.dumps(plain).encode()


def _setup(plain: dict[str, Any]) -> Setup:
    auth = plain["auth"]
    certificates = plain["ak_certificates"]
    return Setup(
        tpm=_connection(plain["tpm"]),
        auths=HierarchyAuths(
            endorsement=bytes.fromhex(auth["endorsement"]),
            owner=bytes.fromhex(auth["owner"]),
            counter=bytes.fromhex(auth["counter"]),
        ),
        counter_index=_integer(plain["counter_index"]),
        launch=_launch(plain["launch"]),
        enrol_fd=None if plain["enrol_fd"] is None else _integer(plain["enrol_fd"]),
        certificates=None if certificates is None else tuple(map(bytes.fromhex, certificates)),
        simulated=plain["simulated"] is not False,
    )


def _launch(launch: dict[str, Any]) -> Launch:
    digest = parse_digest(launch["digest"]) if launch["digest"] else None
    return Launch(choice(*LAUNCH_TYPES)(launch["type"], "launch.type"), digest)


def _connection(tpm: dict[str, Any]) -> int | str:
    return str(tpm["tcti"]) if "tcti" in tpm else _integer(tpm["fd"])


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a number, got {shown(value)}")
    return value
