"""Checks of the attestation key and of the two quotes, one function a check."""

import hashlib

from laminator.appraise.check import Check, failed, not_applicable, not_checked, passed
from laminator.claims import Launch
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_format import (
    LAUNCH_PCR,
    RUN_PCR,
    TPM_KIND,
    Attestation,
    Expected,
    ParsedTpm,
    launch_pcr,
)
from laminator.evidence.tpm_key import key_digest, signature_holds
from laminator.evidence.tpm_structures import (
    AK_ATTRIBUTES_CLEAR,
    AK_ATTRIBUTES_SET,
    ST_ATTEST_NV,
    ST_ATTEST_QUOTE,
    TPM_GENERATED_VALUE,
    EccPublic,
    PcrSelection,
    Public,
    Quote,
    qualified_name,
)

_NAMES = ("counter certification", "start quote", "end quote")
_TYPES = (ST_ATTEST_NV, ST_ATTEST_QUOTE, ST_ATTEST_QUOTE)
_CURVES = (wire.ECC_NIST_P256, wire.ECC_NIST_P384)
_RSA_SCHEMES = (wire.ALG_RSASSA, wire.ALG_RSAPSS)
_MIN_RSA_BITS = 2048
_PCR_BYTES = 32
_SIMULATED_LAUNCH = "drtm-simulated"
_NO_LAUNCH = (b"\xff" * _PCR_BYTES, bytes(_PCR_BYTES))


def check_magic(evidence: ParsedTpm) -> Check:
    """Check that all three structures were made inside a TPM: TPM_GENERATED_VALUE (Part 2, 6.2)."""
    for name, attestation in zip(_NAMES, evidence.attestations, strict=True):
        magic = attestation.attest.magic
        if magic != TPM_GENERATED_VALUE:
            return failed("tpm.magic", f"the {name} starts with {magic:#010x}, not 0xff544347")
    return passed("tpm.magic", "all three attestations are TPM_GENERATED")


def check_type(evidence: ParsedTpm) -> Check:
    """Check that there are two quotes and one certification of NV contents (Part 2, 6.9)."""
    for name, wanted, attestation in zip(_NAMES, _TYPES, evidence.attestations, strict=True):
        found = attestation.attest.type
        if found != wanted:
            return failed("tpm.type", f"the {name} has type {found:#06x}, not {wanted:#06x}")
    return passed("tpm.type", "two quotes and one NV certification")


def check_algorithm(evidence: ParsedTpm) -> Check:
    """Check that key, scheme and hash are strong, and every signature uses the key's own scheme."""
    weakness = _weakness(evidence.ak)
    if weakness:
        return failed("tpm.algorithm", weakness)
    scheme = evidence.ak.parameters.scheme
    for name, attestation in zip(_NAMES, evidence.attestations, strict=True):
        signature = attestation.signature
        if scheme is None or (signature.algorithm, signature.hash) != scheme[:2]:
            found = f"{signature.algorithm:#06x}/{signature.hash:#06x}"
            return failed("tpm.algorithm", f"the {name} is signed with {found}, not the AK's own")
    return passed("tpm.algorithm", f"{_key_words(evidence.ak)}, SHA-256 or better")


def check_ak_attributes(evidence: ParsedTpm) -> Check:
    """Check that the AK is a restricted signing key that never left its TPM (Part 2, 8.3)."""
    attributes = evidence.ak.attributes
    missing, forbidden = AK_ATTRIBUTES_SET & ~attributes, AK_ATTRIBUTES_CLEAR & attributes
    if missing or forbidden:
        detail = f"TPMA_OBJECT {attributes:#010x}: {missing:#x} missing, {forbidden:#x} forbidden"
        return failed("tpm.ak-attributes", detail)
    return passed("tpm.ak-attributes", "a restricted signing key, made in its TPM and fixed to it")


def check_signature(evidence: ParsedTpm) -> Check:
    """Check that the AK signed all three attestations."""
    for name, attestation in zip(_NAMES, evidence.attestations, strict=True):
        if not signature_holds(evidence.key, attestation.signature, attestation.message):
            return failed("tpm.signature", f"the {name}'s signature is not the AK's over it")
    return passed("tpm.signature", "all three attestations are signed by the AK")


def check_signer(evidence: ParsedTpm) -> Check:
    """Check that each attestation names the carried AK, a primary key under endorsement."""
    wanted = qualified_name(evidence.ak)
    for name, attestation in zip(_NAMES, evidence.attestations, strict=True):
        if attestation.attest.qualified_signer != wanted:
            detail = f"the {name}'s qualifiedSigner is not the carried AK under endorsement"
            return failed("tpm.signer", detail)
    return passed("tpm.signer", "all three attestations name the carried AK")


def check_key(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the AK is the key that the claims announce."""
    kind, key, _ = expected.reference
    found = key_digest(evidence.ak).value
    if (kind, key) != (TPM_KIND, found):
        detail = f"the claims announce {kind} key {key.hex()}, the evidence has tpm {found.hex()}"
        return failed("tpm.key", detail)
    return passed("tpm.key", f"the AK is the claims' key {found.hex()}")


def check_start_binding(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the start quote's qualifying data covers the log as it stood before the work."""
    return _check_extra_data("tpm.start-binding", evidence.start, expected.start_binding)


def check_binding(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the end quote's qualifying data is the binding of the card's exact claims."""
    return _check_extra_data("tpm.binding", evidence.end, expected.end_binding)


def check_pcr_selection(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that both quotes select exactly the SHA-256 PCRs that log and launch need."""
    for name, attestation in zip(_NAMES[1:], (evidence.start, evidence.end), strict=True):
        quote = attestation.attest.attested
        if not isinstance(quote, Quote):
            return not_checked("tpm.pcr-selection", f"the {name} is no quote")
        found = [(bank.algorithm, bank.pcrs) for bank in quote.selections]
        if found != [(wire.ALG_SHA256, expected.pcrs)]:
            detail = f"the {name} selects {_selection_words(quote.selections)}"
            return failed("tpm.pcr-selection", f"{detail}, not exactly SHA-256 {expected.pcrs}")
    return passed("tpm.pcr-selection", f"both quotes select SHA-256 PCRs {expected.pcrs}")


def check_start_pcr_digest(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the start quote's PCRs are the log's first records replayed, and the launch."""
    return _check_pcrs("tpm.start-pcr-digest", evidence.start, expected, expected.start_head)


def check_pcr_digest(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the end quote's PCRs are the whole log replayed, and the launch."""
    return _check_pcrs("tpm.pcr-digest", evidence.end, expected, expected.end_head)


def check_launch(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that a claimed launch names its digest, and PCR 17 is not an unlaunched TPM's."""
    launch = expected.launch
    if launch.type == "none":
        return not_applicable("tpm.launch", "the claims say that there was no measured launch")
    if launch.type != _SIMULATED_LAUNCH:
        return not_checked("tpm.launch", f"launches of type {launch.type} cannot be judged yet")
    if _launch_value(launch) is None:
        return failed("tpm.launch", f"a {launch.type} launch without a SHA-256 digest")
    heads = ((evidence.start, expected.start_head), (evidence.end, expected.end_head))
    for attestation, head in heads:
        for unlaunched in _NO_LAUNCH:
            if _quoted_digest(attestation) == _pcr_digest(attestation, unlaunched + head):
                return failed("tpm.launch", f"PCR {LAUNCH_PCR} shows no dynamic launch")
    return passed("tpm.launch", f"a {launch.type} launch of {launch.digest}")


def check_clock(evidence: ParsedTpm) -> Check:
    """Check that start and end are of one boot, and in order (Part 1, clause 36)."""
    start, end = evidence.start.attest.clock_info, evidence.end.attest.clock_info
    if start[1:3] != end[1:3]:
        return failed("tpm.clock", f"boot {start[1:3]} at the start and {end[1:3]} at the end")
    if not (start.safe and end.safe):
        return failed("tpm.clock", "the TPM says that its clock may have gone back (safe is NO)")
    if start.clock >= end.clock:
        return failed("tpm.clock", f"the end, {end.clock} ms, is not after {start.clock} ms")
    return passed("tpm.clock", f"one boot, end {end.clock - start.clock} ms after the start")


def _check_extra_data(id_: str, attestation: Attestation, wanted: bytes) -> Check:
    found = attestation.attest.extra_data
    if found != wanted:
        return failed(id_, f"qualifying data {found.hex()}, not {wanted.hex()}")
    return passed(id_, f"qualifying data is {wanted.hex()}")


def _check_pcrs(id_: str, attestation: Attestation, expected: Expected, head: bytes) -> Check:
    quoted, launched = _quoted_digest(attestation), b""
    if quoted is None:
        return not_checked(id_, "there is no quote")
    if expected.is_drtm:
        value = _launch_value(expected.launch)
        if value is None:
            return not_checked(id_, f"PCR {LAUNCH_PCR} of this launch is unknown")
        launched = value
    if quoted != _pcr_digest(attestation, launched + head):
        return failed(id_, f"PCRs {expected.pcrs} are not what log and launch give")
    return passed(id_, f"PCRs {expected.pcrs} are the replay, PCR {RUN_PCR} = {head.hex()}")


def _quoted_digest(attestation: Attestation) -> bytes | None:
    attested = attestation.attest.attested
    return attested.pcr_digest if isinstance(attested, Quote) else None


def _pcr_digest(attestation: Attestation, values: bytes) -> bytes | None:
    """Digest of the selected PCRs by the signing scheme's hash (Part 3, TPM2_Quote)."""
    hash_name = wire.HASH_NAMES.get(attestation.signature.hash)
    return hashlib.new(hash_name, values).digest() if hash_name else None


def _launch_value(launch: Launch) -> bytes | None:
    """Return PCR 17 after `launch`, None where it says too little or is of another type."""
    if launch.type != _SIMULATED_LAUNCH or launch.digest is None:
        return None
    return launch_pcr(launch.digest.value) if launch.digest.algorithm == "sha-256" else None


def _weakness(ak: Public) -> str:
    parameters = ak.parameters
    scheme = parameters.scheme
    if scheme is None or scheme.hash not in wire.HASH_NAMES:
        return "the AK has no scheme with SHA-256 or better"
    if isinstance(ak, EccPublic):
        strong = ak.parameters.curve in _CURVES and scheme.algorithm == wire.ALG_ECDSA
        return "" if strong else "an ECC AK that is not ECDSA over P-256 or P-384"
    strong = ak.parameters.key_bits >= _MIN_RSA_BITS and scheme.algorithm in _RSA_SCHEMES
    return "" if strong else "an RSA AK that is not RSASSA or RSAPSS of at least 2048 bits"


def _key_words(ak: Public) -> str:
    if isinstance(ak, EccPublic):
        return f"ECDSA P-{256 if ak.parameters.curve == wire.ECC_NIST_P256 else 384}"
    return f"RSA-{ak.parameters.key_bits}"


def _selection_words(selections: tuple[PcrSelection, ...]) -> str:
    return ", ".join(f"{bank.algorithm:#06x} {bank.pcrs}" for bank in selections) or "nothing"
