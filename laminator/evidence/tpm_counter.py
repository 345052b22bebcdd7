"""Checks of the run counter's certification (TPM2_NV_Certify), one function a check."""

from laminator.appraise.check import Check, failed, not_checked, passed
from laminator.evidence.tpm_format import Expected, ParsedTpm
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES_ACCEPTED,
    RUN_COUNTER_INDEX,
    RUN_COUNTER_SIZE,
    NvCertification,
    name,
)
from laminator.evidence.tpm_wire import ALG_SHA256


def check_run_counter(evidence: ParsedTpm, expected: Expected) -> tuple[Check, ...]:
    """Return the run counter's checks, field by field."""
    return (
        check_index(evidence),
        check_name(evidence),
        check_endorsed(evidence, expected),
        check_value(evidence, expected),
        check_binding(evidence, expected),
        check_clock(evidence),
    )


def check_index(evidence: ParsedTpm) -> Check:
    """Check that the carried public area is a run counter's: no other kind of index will do."""
    public = evidence.nv_public
    found = (public.nv_index, public.name_alg, public.auth_policy, public.data_size)
    wanted = (RUN_COUNTER_INDEX, ALG_SHA256, b"", RUN_COUNTER_SIZE)
    if found != wanted or public.attributes not in COUNTER_ATTRIBUTES_ACCEPTED:
        detail = f"index {public.nv_index:#010x} with TPMA_NV {public.attributes:#010x}"
        return failed("run.counter.index", f"{detail} is not a run counter")
    return passed("run.counter.index", f"{public.nv_index:#010x} is a written NV counter")


def check_name(evidence: ParsedTpm) -> Check:
    """Check that the attested Name is that of the carried public area."""
    attested = evidence.counter.attest.attested
    if not isinstance(attested, NvCertification):
        return not_checked("run.counter.name", "there is no NV certification")
    if attested.index_name != name(evidence.nv_public):
        detail = f"the TPM certified {attested.index_name.hex()}, another index"
        return failed("run.counter.name", detail)
    return passed("run.counter.name", f"the TPM certified {attested.index_name.hex()}")


def check_endorsed(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the AK's authority endorsed this very index as the run counter."""
    if expected.endorsed_counter is None:
        return not_checked("run.counter.endorsed", "no verified AK certificate names a counter")
    found = name(evidence.nv_public)
    if found != expected.endorsed_counter:
        detail = f"the AK certificate names {expected.endorsed_counter.hex()}, not {found.hex()}"
        return failed("run.counter.endorsed", detail)
    return passed("run.counter.endorsed", "the AK certificate names this counter")


def check_value(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the certified contents are the whole counter, and it is the claims' run number."""
    attested = evidence.counter.attest.attested
    if not isinstance(attested, NvCertification):
        return not_checked("run.counter.value", "there is no NV certification")
    if attested.offset != 0 or len(attested.contents) != RUN_COUNTER_SIZE:
        detail = f"{len(attested.contents)} bytes at {attested.offset}, not 8 bytes at 0"
        return failed("run.counter.value", f"the certification covers {detail}")
    number = int.from_bytes(attested.contents, "big")
    if number != expected.run_number:
        detail = f"the counter shows {number}, the claims say run {expected.run_number}"
        return failed("run.counter.value", detail)
    return passed("run.counter.value", f"run {number} of this TPM")


def check_binding(evidence: ParsedTpm, expected: Expected) -> Check:
    """Check that the certification was made for this run: nonce, plan and run id."""
    found = evidence.counter.attest.extra_data
    if found != expected.counter_binding:
        detail = f"qualifying data {found.hex()}, not {expected.counter_binding.hex()}"
        return failed("run.counter.binding", detail)
    return passed("run.counter.binding", f"qualifying data is {found.hex()}")


def check_clock(evidence: ParsedTpm) -> Check:
    """Check that the certification is of the start quote's boot, and not after it."""
    counter, start = evidence.counter.attest.clock_info, evidence.start.attest.clock_info
    if counter[1:3] != start[1:3] or not counter.safe:
        return failed("run.counter.clock", "the certification is not of the start quote's boot")
    if counter.clock > start.clock:
        detail = f"the certification, {counter.clock} ms, is after the start, {start.clock} ms"
        return failed("run.counter.clock", detail)
    return passed("run.counter.clock", f"{start.clock - counter.clock} ms before the start quote")
