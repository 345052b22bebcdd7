"""A result as an AR4SI trustworthiness vector (draft-ietf-rats-ar4si), for EAR consumers.

Only what was appraised is claimed: 0 says nothing. Tiers: 2 to 31 affirming, 32 to 95 warning, 96
to 127 contraindicated. A relying party that reads the vector knows no policy of ours, so a
simulated root is contraindicated here even where a policy accepts it.
"""

from typing import NamedTuple

from laminator.appraise.result import FAIL, PASS, VerificationResult

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


def trustworthiness(result: VerificationResult) -> dict[str, object]:
    """Return ``{"status": tier, "vector": {claim: number}}`` for a result."""
    vector = _vector(result)
    return {
        "status": _status(result, vector),
        "vector": {key.replace("_", "-"): value for key, value in vector._asdict().items()},
    }


def _vector(result: VerificationResult) -> Vector:
    broken = any(
        check.verdict == FAIL and check.id.startswith(_BROKEN_EVIDENCE) for check in result.checks
    )
    if broken or result.trust.root == "none":
        return Vector(instance_identity=CRYPTO_FAILED, hardware=CRYPTO_FAILED)
    simulated = result.trust.root == "simulated"
    return Vector(
        instance_identity=UNRECOGNIZED if simulated else TRUSTED,
        hardware=UNRECOGNIZED if simulated else TRUSTED,
        executables=NO_CLAIM if result.trust.coverage == "none" else UNRECOGNIZED_AT_RUN_TIME,
        sourced_data=_sourced_data(result),
    )


def _sourced_data(result: VerificationResult) -> int:
    """Judge the cards that this one builds on; at best a warning, since their code is unproven."""
    verdicts = {check.verdict for check in result.checks if check.id.startswith("lineage.")}
    if FAIL in verdicts:
        return CONTRAINDICATED
    return WARNED_SOURCES if verdicts == {PASS} else NO_CLAIM


def _status(result: VerificationResult, vector: Vector) -> str:
    worst = max(vector)
    if not result.accepted or worst >= _CONTRAINDICATED:
        return "contraindicated"
    if worst >= _WARNING:
        return "warning"
    return "none" if result.trust.coverage == "none" else "affirming"
