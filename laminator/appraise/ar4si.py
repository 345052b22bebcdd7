"""A result as an AR4SI trustworthiness vector (draft-ietf-rats-ar4si), for EAR consumers.

Only what was appraised is claimed: 0 says nothing. Tiers: 2 to 31 affirming, 32 to 95 warning, 96
to 127 contraindicated. A relying party that reads the vector knows no policy of ours, so a
simulated root is contraindicated here even where a policy accepts it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from laminator.appraise.check import FAIL, PASS, Check, Trust

NO_CLAIM = 0
TRUSTED = 2
UNRECOGNIZED_AT_RUN_TIME = 33
WARNED_SOURCES = 32
CONTRAINDICATED = 96
UNRECOGNIZED = 97
CRYPTO_FAILED = 99

_WARNING, _CONTRAINDICATED = 32, 96
_BROKEN_EVIDENCE = ("card.", "evidence.", "tpm.", "ak.", "log.", "run.")


class Vector(NamedTuple):
    """The AR4SI trustworthiness claims; each -128 to 127."""

    instance_identity: int = NO_CLAIM
    configuration: int = NO_CLAIM
    executables: int = NO_CLAIM
    file_system: int = NO_CLAIM
    hardware: int = NO_CLAIM
    runtime_opaque: int = NO_CLAIM
    storage_opaque: int = NO_CLAIM
    sourced_data: int = NO_CLAIM


def trustworthiness(trust: Trust, checks: Sequence[Check], *, accepted: bool) -> dict[str, object]:
    """Return ``{"status": tier, "vector": {claim: number}}`` for what was found of a card."""
    vector = _vector(trust, checks)
    status = _status(max(vector), trust) if accepted else "contraindicated"
    return {
        "status": status,
        "vector": {key.replace("_", "-"): value for key, value in vector._asdict().items()},
    }


def _vector(trust: Trust, checks: Sequence[Check]) -> Vector:
    broken = any(
        check.verdict == FAIL and check.id.startswith(_BROKEN_EVIDENCE) for check in checks
    )
    if broken or trust.root == "none":
        return Vector(instance_identity=CRYPTO_FAILED, hardware=CRYPTO_FAILED)
    simulated = trust.root == "simulated"
    return Vector(
        instance_identity=UNRECOGNIZED if simulated else TRUSTED,
        hardware=UNRECOGNIZED if simulated else TRUSTED,
        executables=NO_CLAIM if trust.coverage == "none" else UNRECOGNIZED_AT_RUN_TIME,
        sourced_data=_sourced_data(checks),
    )


def _sourced_data(checks: Sequence[Check]) -> int:
    """Judge the cards that this one builds on; at best a warning, since their code is unproven."""
    verdicts = {check.verdict for check in checks if check.id.startswith("lineage.")}
    if FAIL in verdicts:
        return CONTRAINDICATED
    return WARNED_SOURCES if verdicts == {PASS} else NO_CLAIM


def _status(worst: int, trust: Trust) -> str:
    if worst >= _CONTRAINDICATED:
        return "contraindicated"
    if worst >= _WARNING:
        return "warning"
    return "none" if trust.coverage == "none" else "affirming"
