"""An authority's trust in TPM manufacturers: a folder in the layout of a verifier's store."""

from laminator.appraise.trust import load_trust
from laminator.enroll.ek_certificate import EkAnchor, EkTrust
from laminator.errors import UsageError, shown

_KINDS = ("simulated", "tpm", "cloud-vtpm")


def load_ek_trust(folder: str) -> EkTrust:
    """Read manufacturers' roots with their kinds, and CRLs, as `laminator trust` keeps them.

    Anchors of kinds that no TPM can have do not count. Raises UsageError for a folder that is
    not there, cannot be read or holds no root.
    """
    store = load_trust(folder)
    anchors = tuple(
        EkAnchor(anchor.certificate, anchor.kind)
        for anchor in store.anchors
        if anchor.kind in _KINDS
    )
    if not anchors:
        message = (
            f"{shown(folder)} holds no TPM manufacturer's root; "
            f"pin one: laminator trust --trust {folder} add --kind tpm ROOT.pem"
        )
        raise UsageError("authority.manufacturers", message)
    return EkTrust(anchors, store.crls)
