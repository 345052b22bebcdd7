"""The prover's TPM over a relay socket and over a TCTI string, on swtpm."""

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest
from raw_swtpm import RawSwtpm
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_CAP,
    TPM2_HC,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TSS2_Exception,
)

from laminator.attest.tcti import RelayTcti
from laminator.attest.tpm import AttestationTpm, HierarchyAuths, SignedAttest, strip_padding
from laminator.enroll.authority import check_ak
from laminator.enroll.credential import Credential, make_credential
from laminator.enroll.key_templates import (
    AK_ECDSA_P256,
    AK_RSASSA_2048,
    AK_TEMPLATES,
    EK_ECC_P384,
    EK_RSA_2048,
    EK_TEMPLATES,
    AkTemplate,
    EkTemplate,
    find_ek_template,
)
from laminator.errors import MachineError
from laminator.evidence.tpm_key import public_key, signature_holds
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    PLATFORMCREATE,
    RUN_COUNTER_INDEX,
    Attest,
    NvCertification,
    Quote,
    name,
    parse_attest,
    parse_nv_public,
    parse_public,
    parse_signature,
    qualified_name,
)

QUALIFYING = bytes(range(32))
each_ak = pytest.mark.parametrize("ak", AK_TEMPLATES, ids=lambda each: str(each.name))


def signed_by(tpm: AttestationTpm, signed: SignedAttest) -> Attest:
    """Return the attestation after checking its signature, signer and qualifying data."""
    ak = parse_public(tpm.ak_public)
    assert signature_holds(public_key(ak), parse_signature(signed.signature), signed.attest)
    attest = parse_attest(signed.attest)
    assert attest.qualified_signer == qualified_name(ak)
    assert attest.extra_data == QUALIFYING
    return attest


# --- keys


@each_ak
def test_the_same_tpm_makes_the_same_key(raw_swtpm: RawSwtpm, ak: AkTemplate) -> None:
    publics = []
    for _ in range(2):
        with AttestationTpm(raw_swtpm.connect(), ak=ak) as tpm:
            publics.append(tpm.ak_public)
    assert publics[0] == publics[1]
    assert check_ak(publics[0])


@pytest.mark.parametrize("template", EK_TEMPLATES, ids=lambda each: str(each.name))
def test_endorsement_keys_have_their_template(raw_swtpm: RawSwtpm, template: EkTemplate) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        assert find_ek_template(parse_public(tpm.endorsement_public(template))) is template


def test_nothing_stays_loaded(raw_swtpm: RawSwtpm) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        ak_name = name(parse_public(tpm.ak_public))
        for template in EK_TEMPLATES * 2:
            ek = parse_public(tpm.endorsement_public(template))
            tpm.activate_credential(template, make_credential(ek, ak_name, QUALIFYING))
            with pytest.raises(MachineError):
                tpm.activate_credential(template, Credential(b"", b""))
    with ESAPI(raw_swtpm.tcti) as esapi:
        for kind in (TPM2_HC.TRANSIENT_FIRST, TPM2_HC.LOADED_SESSION_FIRST):
            _, capability = esapi.get_capability(TPM2_CAP.HANDLES, kind, 8)
            assert not list(capability.data.handles)


# --- endorsement certificates


def write_nv(swtpm: RawSwtpm, index: int, data: bytes, attributes: TPMA_NV) -> None:
    with ESAPI(swtpm.tcti) as esapi:
        public = TPMS_NV_PUBLIC(
            nvIndex=index, nameAlg=0x000B, attributes=attributes, dataSize=len(data)
        )
        handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))
        for start in range(0, len(data), 512):
            esapi.nv_write(handle, data[start : start + 512], start, auth_handle=ESYS_TR.OWNER)


@pytest.mark.parametrize(
    "readable", [TPMA_NV.AUTHREAD, TPMA_NV.OWNERREAD], ids=["by anyone", "by the owner"]
)
def test_a_padded_certificate_is_read_whole(fresh_swtpm: RawSwtpm, readable: TPMA_NV) -> None:
    certificate = b"\x30\x82\x04\x00" + bytes(1023) + b"\xff"
    attributes = readable | TPMA_NV.OWNERWRITE | TPMA_NV.NO_DA
    padded = certificate + b"\xff" * 431
    write_nv(fresh_swtpm, EK_RSA_2048.certificate_index, padded, attributes)
    with AttestationTpm(fresh_swtpm.connect(), HierarchyAuths(counter=b"secret")) as tpm:
        assert tpm.endorsement_certificate(EK_RSA_2048) == certificate
        assert tpm.endorsement_certificate(EK_ECC_P384) is None
        keys = tpm.endorsement_keys()
    assert [key.template for key in keys] == [EK_RSA_2048]
    assert keys[0].certificate == certificate


@pytest.mark.parametrize("data", [b"", b"\x30\x03abc\xff", b"\x31\x82\x00\x01a", b"\x30\x82"])
def test_bytes_that_are_no_long_der_stay(data: bytes) -> None:
    assert strip_padding(data) == data


# --- run counter


@each_ak
def test_a_run_takes_the_next_number(fresh_swtpm: RawSwtpm, ak: AkTemplate) -> None:
    with AttestationTpm(fresh_swtpm.connect(), HierarchyAuths(counter=b"secret"), ak) as tpm:
        tpm.define_counter(RUN_COUNTER_INDEX)
        for number in (1, 2):
            counted = tpm.count_run(RUN_COUNTER_INDEX, QUALIFYING)
            public = parse_nv_public(counted.nv_public)
            assert public.attributes == COUNTER_ATTRIBUTES
            attest = signed_by(tpm, SignedAttest(counted.attest, counted.signature))
            assert attest.attested == NvCertification(name(public), 0, number.to_bytes(8, "big"))


def test_a_platforms_counter_says_so(fresh_swtpm: RawSwtpm) -> None:
    auths = HierarchyAuths(counter=b"secret")
    with AttestationTpm(fresh_swtpm.connect(), auths) as tpm:
        tpm.define_counter(RUN_COUNTER_INDEX, "platform")
        public = parse_nv_public(tpm.count_run(RUN_COUNTER_INDEX, QUALIFYING).nv_public)
    assert public.attributes == COUNTER_ATTRIBUTES | PLATFORMCREATE


def test_the_counter_needs_its_secret(fresh_swtpm: RawSwtpm) -> None:
    with AttestationTpm(fresh_swtpm.connect(), HierarchyAuths(counter=b"secret")) as tpm:
        tpm.define_counter(RUN_COUNTER_INDEX)
        tpm.increment_counter(RUN_COUNTER_INDEX)
    with (
        AttestationTpm(fresh_swtpm.connect(), HierarchyAuths(counter=b"guess")) as tpm,
        pytest.raises(MachineError, match="authorisation value is wrong"),
    ):
        tpm.increment_counter(RUN_COUNTER_INDEX)


def test_a_missing_counter_is_named(fresh_swtpm: RawSwtpm) -> None:
    with AttestationTpm(fresh_swtpm.connect()) as tpm:
        assert not tpm.has_nv_index(RUN_COUNTER_INDEX)
        with pytest.raises(MachineError, match=r"increment the run counter.*not defined"):
            tpm.increment_counter(RUN_COUNTER_INDEX)


def test_a_second_definition_is_refused(fresh_swtpm: RawSwtpm) -> None:
    with AttestationTpm(fresh_swtpm.connect()) as tpm:
        tpm.define_counter(RUN_COUNTER_INDEX)
        assert tpm.has_nv_index(RUN_COUNTER_INDEX)
        with pytest.raises(MachineError, match="already defined"):
            tpm.define_counter(RUN_COUNTER_INDEX)


# --- log and quotes


def test_the_log_is_replayed_by_hand(raw_swtpm: RawSwtpm) -> None:
    with AttestationTpm(raw_swtpm.connect()) as tpm:
        tpm.reset_log()
        assert tpm.read_pcr(23) == bytes(32)
        head = bytes(32)
        for record in (b"one", b"two"):
            digest = hashlib.sha256(record).digest()
            tpm.extend_log(digest)
            head = hashlib.sha256(head + digest).digest()
        assert tpm.read_pcr(23) == head


@each_ak
@pytest.mark.parametrize("pcrs", [(23,), (17, 23)])
def test_a_quote_is_over_the_selected_pcrs(
    raw_swtpm: RawSwtpm, ak: AkTemplate, pcrs: tuple[int, ...]
) -> None:
    with AttestationTpm(raw_swtpm.connect(), ak=ak) as tpm:
        tpm.reset_log()
        tpm.extend_log(QUALIFYING)
        values = b"".join(tpm.read_pcr(pcr) for pcr in pcrs)
        attested = signed_by(tpm, tpm.quote(pcrs, QUALIFYING)).attested
    assert isinstance(attested, Quote)
    (selection,) = attested.selections
    assert selection.pcrs == pcrs
    assert attested.pcr_digest == hashlib.sha256(values).digest()


# --- secrets and connections


def test_the_endorsement_secret_makes_the_key(fresh_swtpm: RawSwtpm) -> None:
    with AttestationTpm(fresh_swtpm.connect()) as tpm:
        before = tpm.ak_public
    with ESAPI(fresh_swtpm.tcti) as esapi:
        esapi.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, b"endorsement")
    with (
        AttestationTpm(fresh_swtpm.connect()) as tpm,
        pytest.raises(MachineError, match=r"create a key.*authorisation value is wrong") as caught,
    ):
        tpm.quote((23,), QUALIFYING)
    assert caught.value.code == "tpm.command"
    auths = HierarchyAuths(endorsement=b"endorsement")
    with AttestationTpm(fresh_swtpm.connect(), auths) as tpm:
        assert tpm.ak_public == before
        for template in EK_TEMPLATES:
            ek = parse_public(tpm.endorsement_public(template))
            credential = make_credential(ek, name(parse_public(before)), QUALIFYING)
            assert tpm.activate_credential(template, credential) == QUALIFYING


def test_a_tcti_string_reaches_the_same_key(raw_swtpm: RawSwtpm) -> None:
    with AttestationTpm(raw_swtpm.connect(), ak=AK_ECDSA_P256) as tpm:
        over_relay = tpm.ak_public
    with AttestationTpm(raw_swtpm.tcti, ak=AK_ECDSA_P256) as tpm:
        assert tpm.ak_public == over_relay


def test_a_tpm_that_is_not_there_is_named() -> None:
    with pytest.raises(MachineError, match="be opened") as caught:
        AttestationTpm("device:/dev/no-tpm-here")
    assert caught.value.code == "tpm.connection"


def test_a_relay_that_hangs_up_is_named() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    tpm = AttestationTpm(ours.detach())
    with pytest.raises(MachineError) as caught:
        tpm.read_pcr(23)
    assert caught.value.code == "tpm.connection"
    tpm.close()


@pytest.mark.parametrize(
    "response",
    [
        b"\x80\x01\x00\x00\x00\x09\x00\x00\x00\x00",
        b"\x80\x01\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x80",
    ],
    ids=["short", "huge", "cut"],
)
def test_a_response_of_a_wrong_size_is_named(response: bytes) -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        theirs.recv(4096)
        theirs.sendall(response)
        theirs.close()

    thread = threading.Thread(target=answer)
    with AttestationTpm(ours.detach()) as tpm:
        thread.start()
        with pytest.raises(MachineError) as caught:
            tpm.read_pcr(23)
    thread.join()
    assert caught.value.code == "tpm.connection"


def use_until_cut_off(descriptor: int) -> None:
    """Load the attestation key, then lose the connection."""
    with (
        socket.socket(fileno=os.dup(descriptor)) as line,
        AttestationTpm(descriptor) as tpm,
    ):
        assert tpm.ak_public
        line.shutdown(socket.SHUT_RDWR)
        tpm.reset_log()


def test_the_first_error_is_the_one_that_is_told(fresh_swtpm: RawSwtpm) -> None:
    with pytest.raises(MachineError, match="reset PCR 23"):
        use_until_cut_off(fresh_swtpm.connect())


def test_a_response_that_does_not_come_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    tcti = RelayTcti(ours.detach())
    with theirs, pytest.raises(TSS2_Exception):
        tcti.do_receive(1)
    tcti.close()


def test_a_descriptor_that_is_no_socket_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(MachineError) as caught:
        AttestationTpm(file.fileno())
    assert caught.value.code == "tpm.connection"


def test_closing_twice_closes_the_descriptor_once(raw_swtpm: RawSwtpm) -> None:
    descriptor = raw_swtpm.connect()
    tpm = AttestationTpm(descriptor, ak=AK_RSASSA_2048)
    tpm.close()
    tpm.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
