"""Produced cards held against the format's CDDL, their TPM evidence too."""

from pathlib import Path

import pycddl

from laminator.card import Card, parse_card
from laminator.evidence.tpm_format import TPM_MEDIA_TYPE

CDDL = Path(__file__).parents[2] / "docs" / "card.cddl"


def fits(data: bytes, rule: str) -> None:
    """Raise pycddl.ValidationError where `data` is not what the CDDL's `rule` says."""
    pycddl.Schema(f"start = {rule}\n{CDDL.read_text()}").validate_cbor(data)


def fitting_card(data: bytes) -> Card:
    """Return the parsed card. Raises pycddl.ValidationError where it does not fit the CDDL."""
    rules = CDDL.read_text()
    pycddl.Schema(rules).validate_cbor(data)
    card = parse_card(data)
    for message in card.evidence:
        if message.media_type == TPM_MEDIA_TYPE:
            pycddl.Schema(f"start = tpm-evidence\n{rules}").validate_cbor(message.value)
    return card
