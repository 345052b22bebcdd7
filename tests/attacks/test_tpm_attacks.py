"""What a prover who owns a real TPM tries with its evidence, each stopped by one check.

The authority here certifies whatever key and index it is asked to, so that the verifier's own
checks are what stands in the way.
"""

import hashlib
from collections.abc import Iterator

import forge
import pytest
import real_tpm
import verifying
from raw_swtpm import RawSwtpm, running_swtpm
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_RH,
    TPM2_ST,
    TPM2B_DIGEST,
    TPM2B_MAX_NV_BUFFER,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from laminator.attest.tpm import AttestationTpm, CounterCertification
from laminator.enroll.key_templates import AK_ECDSA_P256, AK_RSASSA_2048, AkTemplate
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures

INDEX = structures.RUN_COUNTER_INDEX
STRIPES = 4


@pytest.fixture(scope="module")
def swtpm() -> Iterator[RawSwtpm]:
    with running_swtpm() as running:
        yield running


@pytest.fixture
def machine(swtpm: RawSwtpm) -> Iterator[AttestationTpm]:
    with AttestationTpm(swtpm.connect()) as connected:
        yield connected


@pytest.mark.parametrize("template", [AK_ECDSA_P256, AK_RSASSA_2048], ids=lambda item: item.name)
def test_an_honest_run_is_accepted(swtpm: RawSwtpm, template: AkTemplate) -> None:
    with AttestationTpm(swtpm.connect(), ak=template) as machine:
        result = real_tpm.run(machine).judge()
    assert result.accepted, verifying.obstacles(result)


def test_claims_of_one_run_with_evidence_of_another(machine: AttestationTpm) -> None:
    one, two = real_tpm.run(machine, "one"), real_tpm.run(machine, "two")
    mixed = one._replace(evidence=two.evidence)
    assert {
        "tpm.binding",
        "tpm.start-binding",
        "run.counter.binding",
        "run.counter.value",
        "log.claims",
    } <= mixed.obstacles()


def test_the_end_quote_of_another_run(machine: AttestationTpm) -> None:
    one, two = real_tpm.run(machine, "one"), real_tpm.run(machine, "two")
    mixed = one._replace(evidence=one.evidence._replace(end=two.evidence.end))
    assert mixed.obstacles() == {"tpm.binding", "tpm.pcr-digest"}


def test_the_start_quote_of_another_run(machine: AttestationTpm) -> None:
    one, two = real_tpm.run(machine, "one"), real_tpm.run(machine, "two")
    mixed = two._replace(evidence=two.evidence._replace(start=one.evidence.start))
    assert {"tpm.start-binding", "tpm.start-pcr-digest"} <= mixed.obstacles()


@pytest.mark.parametrize("change", ["dropped", "reordered", "edited", "added"])
def test_a_log_changed_after_the_run(machine: AttestationTpm, change: str) -> None:
    run = real_tpm.run(machine)
    last = run.log[-1]
    log = {
        "dropped": run.log[:-1],
        "reordered": (*run.log[:-2], last, run.log[-2]),
        "edited": (*run.log[:-1], last._replace(digest=bytes(32))),
        "added": (*run.log, last),
    }[change]
    assert {"tpm.pcr-digest", "log.claims"} <= run._replace(log=log).obstacles()


def test_a_start_quote_of_another_boot(swtpm: RawSwtpm) -> None:
    with AttestationTpm(swtpm.connect()) as before:
        connected = [before]

        def reboot() -> AttestationTpm:
            before.close()
            real_tpm.power_cycle(swtpm)
            connected.append(AttestationTpm(swtpm.connect()))
            return connected[-1]

        run = real_tpm.run(before, pause=reboot)
        for each in connected:
            each.close()
    assert run.obstacles() == {"tpm.clock"}


def test_a_number_of_another_boot() -> None:
    taken: list[CounterCertification] = []

    def keep(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
        taken.append(real_tpm.count(machine, qualifying_data))
        return taken[0]

    def certify_again(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
        again = machine.certify_counter(INDEX, qualifying_data)
        return CounterCertification(*again, nv_public=machine.counter_public(INDEX))

    with running_swtpm() as fresh:
        with AttestationTpm(fresh.connect()) as machine:
            first = real_tpm.run(machine, counting=keep)
        real_tpm.power_cycle(fresh)
        with AttestationTpm(fresh.connect()) as machine:
            replayed = real_tpm.run(machine, counting=lambda _, __: taken[0])
            second = real_tpm.run(machine, "another run", counting=certify_again)
    assert replayed.obstacles() == {"run.counter.clock"}
    # Its owner has one number certified twice: two cards, and neither can tell of the other.
    assert first.claims.run.number == second.claims.run.number
    for run in (first, second):
        result = run.judge()
        assert result.accepted
        assert "coverage.none" in {caveat.code for caveat in result.caveats}


def test_a_clock_that_may_have_gone_back() -> None:
    with running_swtpm() as fresh:
        real_tpm.cut_power(fresh)
        with AttestationTpm(fresh.connect()) as machine:
            run = real_tpm.run(machine)
    assert run.obstacles() == {"tpm.clock", "run.counter.clock"}


def test_a_number_that_was_not_taken_for_this_run(machine: AttestationTpm) -> None:
    def reuse(machine: AttestationTpm, _: bytes) -> CounterCertification:
        real_tpm.count(machine, bytes(32))
        again = machine.certify_counter(INDEX, bytes(32))
        return CounterCertification(*again, nv_public=machine.counter_public(INDEX))

    assert real_tpm.run(machine, counting=reuse).obstacles() == {"run.counter.binding"}


def test_a_second_counter(machine: AttestationTpm) -> None:
    def second(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
        if not machine.has_nv_index(INDEX + 1):
            machine.define_counter(INDEX + 1)
        return machine.count_run(INDEX + 1, qualifying_data)

    assert real_tpm.run(machine, counting=second).obstacles() == {"run.counter.index"}


def test_a_second_counter_passed_off_as_the_endorsed_one(machine: AttestationTpm) -> None:
    real_tpm.count(machine, bytes(32))

    def second(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
        if not machine.has_nv_index(INDEX + 1):
            machine.define_counter(INDEX + 1)
        counted = machine.count_run(INDEX + 1, qualifying_data)
        return counted._replace(nv_public=machine.counter_public(INDEX))

    assert real_tpm.run(machine, counting=second).obstacles() == {"run.counter.name"}


def test_a_counter_that_the_authority_did_not_endorse(machine: AttestationTpm) -> None:
    run = real_tpm.run(machine)
    other = structures.parse_nv_public(run.evidence.nv_public)._replace(nv_index=INDEX + 2)
    key = structures.parse_public(run.evidence.ak)
    certificates, trust = real_tpm.certify(key, other)
    run = run._replace(evidence=run.evidence._replace(certificates=certificates), trust=trust)
    assert run.obstacles() == {"run.counter.endorsed"}


def ordinary_index(machine: AttestationTpm, number: int) -> None:
    """Define an ordinary index at the counter's handle and write a number of choice to it."""
    esapi = machine._esapi
    if machine.has_nv_index(INDEX):
        handle = esapi.tr_from_tpmpublic(INDEX)
        esapi.nv_undefine_space(handle, ESYS_TR.OWNER)
    public = TPMS_NV_PUBLIC(
        nvIndex=INDEX,
        nameAlg=TPM2_ALG.SHA256,
        attributes=TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA,
        dataSize=8,
    )
    handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public), ESYS_TR.OWNER)
    esapi.nv_write(handle, TPM2B_MAX_NV_BUFFER(number.to_bytes(8, "big")), auth_handle=handle)


def test_an_ordinary_index_in_place_of_the_counter() -> None:
    def invent(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
        ordinary_index(machine, 1)
        certified = machine.certify_counter(INDEX, qualifying_data)
        return CounterCertification(*certified, nv_public=machine.counter_public(INDEX))

    with running_swtpm() as fresh, AttestationTpm(fresh.connect()) as machine:
        run = real_tpm.run(machine, counting=invent)
    assert run.claims.run.number == 1
    assert run.obstacles() == {"run.counter.index"}


UNRESTRICTED = AkTemplate(
    "unrestricted",
    AK_ECDSA_P256.public._replace(
        attributes=AK_ECDSA_P256.public.attributes & ~structures.RESTRICTED
    ),
)


def sign_anything(machine: AttestationTpm, attest: structures.Attest) -> tpm.SignedAttest:
    """Have an unrestricted key sign a structure that no TPM made."""
    message = structures.marshal_attest(attest)
    digest = TPM2B_DIGEST(hashlib.sha256(message).digest())
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    handle = machine._loaded_ak().handle
    signature = machine._esapi.sign(handle, digest, scheme, ticket)
    return tpm.SignedAttest(message, bytes(signature.marshal()))


def test_an_unrestricted_key_that_signs_invented_quotes(swtpm: RawSwtpm) -> None:
    with AttestationTpm(swtpm.connect(), ak=UNRESTRICTED) as machine:
        honest = real_tpm.run(machine)
        end = structures.parse_attest(honest.evidence.end.attest)
        later = end.clock_info._replace(clock=end.clock_info.clock + 3_600_000)
        invented = sign_anything(machine, end._replace(clock_info=later))
    run = honest._replace(evidence=honest.evidence._replace(end=invented))
    assert run.obstacles() == {"tpm.ak-attributes"}


def test_an_unrestricted_key_dressed_up_as_a_restricted_one(swtpm: RawSwtpm) -> None:
    with AttestationTpm(swtpm.connect(), ak=UNRESTRICTED) as machine:
        run = real_tpm.run(machine)
    key = structures.parse_public(run.evidence.ak)
    dressed = key._replace(attributes=key.attributes | structures.RESTRICTED)
    evidence = run.evidence._replace(ak=structures.marshal_public(dressed))
    assert run._replace(evidence=evidence).obstacles() == {"tpm.signer"}


@pytest.mark.parametrize("stripe", range(STRIPES))
def test_no_byte_of_a_card_can_be_changed(stripe: int) -> None:
    data = forge.card_bytes(verifying.world())
    assert verifying.judge(data).accepted
    for position in range(stripe, len(data), STRIPES):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert not verifying.judge(bytes(changed)).accepted, position
