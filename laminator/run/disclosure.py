"""What a card commits to, and the private file beside it that can open the commitments.

Arguments and environment values are salted commitments in the claims, unless the caller makes
them public. CARD.private (mode 0600) is JSON and holds the salts and values:

    {"card": "<hex id>", "arguments": [{"salt": hex, "value": text}, …],
     "environment": {NAME: {"salt": hex, "value": text}, …}}
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from laminator.claims import Commitment
from laminator.measure.environment import SALT_BYTES, commitment

PRIVATE_SUFFIX = ".private"


class Opening(NamedTuple):
    """A value and the salt of its commitment."""

    salt: bytes
    value: str


class Disclosed(NamedTuple):
    """Arguments and environment as the claims hold them, and what opens them (or nothing)."""

    arguments: tuple[Commitment, ...]
    environment: Mapping[str, Commitment]
    argument_openings: tuple[Opening, ...] = ()
    environment_openings: Mapping[str, Opening] = {}

    @property
    def is_public(self) -> bool:
        """Whether there is nothing to open."""
        return not self.argument_openings and not self.environment_openings


def disclose(
    arguments: Sequence[str], environment: Mapping[str, str], *, public: bool
) -> Disclosed:
    """Return what the claims say of these values. Raises UsageError for text that is not UTF-8."""
    if public:
        return Disclosed(tuple(arguments), dict(environment))
    opened = tuple(map(_opening, arguments))
    opened_names = {name: _opening(value) for name, value in environment.items()}
    return Disclosed(
        tuple(commitment(*opening) for opening in opened),
        {name: commitment(*opening) for name, opening in opened_names.items()},
        opened,
        opened_names,
    )


def private_file(disclosed: Disclosed, card_id: bytes) -> bytes:
    """Return the content of the private file of the card `card_id`."""
    plain = {
        "card": card_id.hex(),
        "arguments": list(map(_plain, disclosed.argument_openings)),
        "environment": {
            name: _plain(item) for name, item in disclosed.environment_openings.items()
        },
    }
    return json.dumps(plain, indent=1).encode()


def _opening(value: str) -> Opening:
    return Opening(secrets.token_bytes(SALT_BYTES), value)


def _plain(opening: Opening) -> dict[str, str]:
    return {"salt": opening.salt.hex(), "value": opening.value}
