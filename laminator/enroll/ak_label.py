"""Attestation keys of one TPM that nobody can link by key or certificate: one a customer.

CreatePrimary derives a key from the hierarchy's seed and the whole template, `unique` included
(TPM 2.0 Part 3, 24.1; Part 1, 27.7). So a label in `unique` gives another key, the same one at
each time, while the public area that comes out has the key itself in that place: it satisfies
every rule for attestation keys, and neither the authority nor a card sees the label.
"""

import hashlib
import re

from laminator.enroll.key_templates import AkTemplate
from laminator.errors import UsageError, shown
from laminator.evidence.tpm_structures import RsaPublic

_DOMAIN = b"laminator-ak-label-v1\x00"
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_RSA_2048_BYTES = 256
_P256_BYTES = 32


def check_label(label: str) -> str:
    """Return `label` if it is 1 to 64 of A-Z a-z 0-9 _ . - without a leading sign.

    Raises UsageError.
    """
    if not _LABEL.fullmatch(label):
        wanted = "1 to 64 letters, digits, '_', '.', '-', the first no sign"
        raise UsageError("ak.label", f"label {shown(label)}: expected {wanted}")
    return label


def labelled(template: AkTemplate, label: str | None) -> AkTemplate:
    """Return the template of the key for `label`; without one, `template` itself.

    Raises UsageError.
    """
    if label is None:
        return template
    value = hashlib.sha256(_DOMAIN + check_label(label).encode()).digest()
    # Fields are as long as the key's, as in the TCG's own templates: some TPMs insist.
    if isinstance(template.public, RsaPublic):
        public = template.public._replace(modulus=value.ljust(_RSA_2048_BYTES, b"\x00"))
        return template._replace(public=public)
    return template._replace(public=template.public._replace(x=value, y=bytes(_P256_BYTES)))
