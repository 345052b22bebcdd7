from functools import cache
from pathlib import Path

import forge
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_key import key_digest, public_key, signature_holds, spki

MEASURED_VM = Path(__file__).resolve().parents[3] / "shared/vectors/measured-vm"
needs_vectors = pytest.mark.skipif(
    not MEASURED_VM.is_dir(), reason="recorded vectors are not beside this checkout"
)
NONCE = bytes.fromhex("00112233445566778899aabbccddeeff") * 2

PAIRS = {
    "attest": (structures.parse_attest, structures.marshal_attest),
    "signature": (structures.parse_signature, structures.marshal_signature),
    "public": (structures.parse_public, structures.marshal_public),
    "nv-public": (structures.parse_nv_public, structures.marshal_nv_public),
}


def recorded(name: str) -> bytes:
    return (MEASURED_VM / name).read_bytes()


EXAMPLES = range(26)


@cache
def examples() -> list[tuple[str, bytes]]:
    """One valid structure of every form; the keys in them are of this process alone."""
    found = []
    for algorithm in ("ecdsa-p256", "ecdsa-p384", "rsassa", "rsapss"):
        carried = forge.evidence(forge.world(forge.machine(algorithm)))
        found += [
            ("public", carried.ak),
            ("nv-public", carried.nv_public),
            ("attest", carried.end.attest),
            ("attest", carried.counter.attest),
            ("signature", carried.end.signature),
        ]
    ecc, rsa = forge.machine("ecdsa-p256").ak, forge.machine("rsassa").ak
    assert isinstance(ecc, structures.EccPublic)
    assert isinstance(rsa, structures.RsaPublic)
    schemes = (
        None,
        structures.Scheme(wire.ALG_ECDAA, wire.ALG_SHA256, 7),
        structures.Scheme(wire.ALG_ECDH, wire.ALG_SHA384),
    )
    storage = structures.Symmetric(6, 128, 0x43)
    kdf = structures.Scheme(0x20, wire.ALG_SHA256)
    for scheme in schemes:
        parameters = ecc.parameters._replace(scheme=scheme, symmetric=storage, kdf=kdf)
        found.append(("public", structures.marshal_public(ecc._replace(parameters=parameters))))
    for scheme in (None, structures.Scheme(wire.ALG_RSAES, None)):
        rsa_parameters = rsa.parameters._replace(scheme=scheme)
        found.append(("public", structures.marshal_public(rsa._replace(parameters=rsa_parameters))))
    # Must stay the last: what follows the head of an unknown type is kept as it is.
    other = forge.world().end._replace(type=0x8017, attested=b"\x00\x00")
    found.append(("attest", structures.marshal_attest(other)))
    return found


def test_every_example_is_counted() -> None:
    assert len(examples()) == len(EXAMPLES)


@pytest.mark.parametrize("number", EXAMPLES)
def test_marshalling_what_was_parsed_gives_the_same_bytes(number: int) -> None:
    kind, data = examples()[number]
    parse, marshal = PAIRS[kind]
    assert marshal(parse(data)) == data  # type: ignore[operator]


@pytest.mark.parametrize("number", EXAMPLES[:-1])
def test_every_shorter_and_longer_form_is_refused(number: int) -> None:
    kind, data = examples()[number]
    parse, _ = PAIRS[kind]
    for end in range(len(data)):
        with pytest.raises(MalformedError, match=r"early|unknown"):
            parse(data[:end])
    with pytest.raises(MalformedError, match="1 trailing bytes"):
        parse(data + b"\x00")


@settings(deadline=None)
@pytest.mark.parametrize("kind", PAIRS)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_malformed(kind: str, data: bytes) -> None:
    parse, marshal = PAIRS[kind]
    try:
        parsed = parse(data)
    except MalformedError:
        return
    assert marshal(parsed) == data  # type: ignore[operator]


@settings(deadline=None)
@given(number=st.sampled_from(EXAMPLES), bit=st.integers(min_value=0))
def test_a_flipped_bit_is_malformed_or_kept(number: int, bit: int) -> None:
    kind, data = examples()[number]
    flipped = bytearray(data)
    flipped[bit // 8 % len(data)] ^= 1 << bit % 8
    parse, marshal = PAIRS[kind]
    try:
        parsed = parse(bytes(flipped))
    except MalformedError:
        return
    assert marshal(parsed) == bytes(flipped)  # type: ignore[operator]
    assert parsed != parse(data)


@settings(deadline=None)
@given(number=st.sampled_from(EXAMPLES), data=st.data())
def test_keys_of_arbitrary_public_areas_raise_only_malformed(
    number: int, data: st.DataObject
) -> None:
    kind, valid = examples()[number]
    assume(kind == "public")
    area = bytearray(valid)
    area[data.draw(st.integers(0, len(area) - 1))] = data.draw(st.integers(0, 255))
    try:
        spki(structures.parse_public(bytes(area)))
    except MalformedError:
        return


@pytest.mark.parametrize("kind", PAIRS)
def test_an_oversized_structure_is_refused_before_it_is_read(kind: str) -> None:
    parse, _ = PAIRS[kind]
    with pytest.raises(MalformedError, match="2049 bytes, limit 2048") as caught:
        parse(bytes(2049))
    assert caught.value.code == "tpm.size"


def changed(attest: structures.Attest, old: bytes, new: bytes) -> bytes:
    data = structures.marshal_attest(attest)
    assert data.count(old) == 1
    return data.replace(old, new)


def test_a_boolean_other_than_yes_and_no_is_refused() -> None:
    clock = structures.ClockInfo(0x1122334455667788, 0x0A0B0C0D, 0x01020304, safe=True)
    attest = forge.world().end._replace(clock_info=clock)
    data = changed(attest, b"\x01\x02\x03\x04\x01", b"\x01\x02\x03\x04\x02")
    with pytest.raises(MalformedError, match="TPMI_YES_NO 2"):
        structures.parse_attest(data)


def test_more_pcr_selections_than_any_tpm_has_banks_are_refused() -> None:
    quote = structures.Quote((forge.selection(23),) * 17, bytes(32))
    data = structures.marshal_attest(forge.world().end._replace(attested=quote))
    with pytest.raises(MalformedError, match="17 PCR selections"):
        structures.parse_attest(data)


def test_a_buffer_beyond_its_limit_is_refused() -> None:
    attest = forge.world().end._replace(extra_data=bytes(65))
    with pytest.raises(MalformedError, match="buffer of 65 bytes, limit 64"):
        structures.parse_attest(structures.marshal_attest(attest))


def test_limits_themselves_are_within() -> None:
    quote = structures.Quote((forge.selection(23),) * 16, bytes(64))
    attest = forge.world().end._replace(attested=quote, extra_data=bytes(64))
    assert structures.parse_attest(structures.marshal_attest(attest)) == attest
    with pytest.raises(MalformedError) as caught:
        structures.parse_public(bytes(2048))
    assert caught.value.code == "tpm.structure"


@pytest.mark.parametrize(
    ("parse", "data", "what"),
    [
        (structures.parse_public, b"\x00\x08\x00\x0b", "key type 0x0008"),
        (structures.parse_public, b"\x00\x23\x00\x04", "name algorithm 0x0004"),
        (structures.parse_nv_public, b"\x01\x80\x1a\x4d\x00\x04", "name algorithm 0x0004"),
        (structures.parse_signature, b"\x00\x1a\x00\x0b", "signature algorithm 0x001a"),
        (structures.parse_signature, b"\x00\x18\x00\x12", "hash algorithm 0x0012"),
    ],
)
def test_algorithms_outside_the_format_are_refused(parse: object, data: bytes, what: str) -> None:
    with pytest.raises(MalformedError, match=f"unknown {what}"):
        parse(data)  # type: ignore[operator]


@needs_vectors
@pytest.mark.parametrize("name", ["quote", "quoter"])
def test_recorded_quotes_are_read(name: str) -> None:
    attest = structures.parse_attest(recorded(f"{name}.msg"))
    assert attest.magic == structures.TPM_GENERATED_VALUE
    assert attest.type == structures.ST_ATTEST_QUOTE
    assert attest.extra_data == NONCE
    assert attest.clock_info.safe
    assert attest.clock_info.reset_count == 2
    assert isinstance(attest.attested, structures.Quote)
    (selection,) = attest.attested.selections
    assert selection.algorithm == wire.ALG_SHA256
    assert selection.pcrs == (*range(12), 14, 23)
    assert structures.marshal_attest(attest) == recorded(f"{name}.msg")


@needs_vectors
def test_the_recorded_ecdsa_quote_holds_and_no_flipped_bit_does() -> None:
    ak = structures.parse_public(recorded("ak.tpmt")[2:])
    key = public_key(ak)
    assert structures.name(ak) == recorded("ak.name")
    pem = serialization.load_pem_public_key(recorded("ak.pub"))
    assert key == pem
    message = recorded("quote.msg")
    signature = structures.parse_signature(recorded("quote.sig"))
    assert signature_holds(key, signature, message)
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not signature_holds(key, signature, bytes(flipped))


@needs_vectors
def test_the_recorded_rsassa_quote_holds_and_no_flipped_signature_does() -> None:
    key = serialization.load_pem_public_key(recorded("akr.pub"))
    message, signed = recorded("quoter.msg"), recorded("quoter.sig")
    assert signature_holds(key, structures.parse_signature(signed), message)  # type: ignore[arg-type]
    for bit in range(8 * 6, 8 * len(signed)):
        flipped = bytearray(signed)
        flipped[bit // 8] ^= 1 << bit % 8
        signature = structures.parse_signature(bytes(flipped))
        assert not signature_holds(key, signature, message)  # type: ignore[arg-type]


@needs_vectors
def test_the_recorded_key_is_a_child_of_its_endorsement_key() -> None:
    ak = structures.parse_public(recorded("ak.tpmt")[2:])
    signer = structures.parse_attest(recorded("quote.msg")).qualified_signer
    assert structures.qualified_name(ak) != signer


@needs_vectors
@pytest.mark.parametrize("name", ["ek.pub", "ekr.pub"])
def test_recorded_endorsement_keys_are_read(name: str) -> None:
    data = recorded(name)[2:]
    ek = structures.parse_public(data)
    assert ek.attributes & structures.RESTRICTED
    assert ek.attributes & structures.DECRYPT
    assert ek.parameters.symmetric == structures.Symmetric(6, 128, 0x43)
    assert structures.marshal_public(ek) == data
    assert public_key(ek).key_size in (256, 2048)


def ecc_public(**changes: object) -> structures.EccPublic:
    public = forge.machine("ecdsa-p256").ak
    assert isinstance(public, structures.EccPublic)
    return public._replace(**changes)  # type: ignore[arg-type]


def rsa_public(**changes: object) -> structures.RsaPublic:
    public = forge.machine("rsassa").ak
    assert isinstance(public, structures.RsaPublic)
    return public._replace(**changes)  # type: ignore[arg-type]


def test_keys_are_those_of_the_public_areas() -> None:
    for algorithm in ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsassa"):
        machine = forge.machine(algorithm)
        assert public_key(machine.ak) == machine.key.public_key()
        assert len(key_digest(machine.ak).value) == 32


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384", "rsassa", "rsapss"])
def test_the_keys_own_signature_holds_for_its_message_alone(algorithm: str) -> None:
    machine = forge.machine(algorithm)
    signed = forge.signed(machine, forge.world().end)
    key, signature = public_key(machine.ak), structures.parse_signature(signed.signature)
    assert signature_holds(key, signature, signed.attest)
    assert not signature_holds(key, signature, signed.attest + b"\x00")


def test_a_point_off_the_curve_is_no_key() -> None:
    with pytest.raises(MalformedError, match="not a valid public key"):
        public_key(ecc_public(y=bytes(31) + b"\x01"))


def test_an_unknown_curve_is_no_key() -> None:
    parameters = ecc_public().parameters._replace(curve=0x0010)
    with pytest.raises(MalformedError, match="unknown curve 0x0010"):
        public_key(ecc_public(parameters=parameters))


def test_a_modulus_of_another_size_is_no_key() -> None:
    with pytest.raises(MalformedError, match="modulus of 2040 bits, not 2048"):
        public_key(rsa_public(modulus=b"\xff" * 255))


def test_an_even_exponent_is_no_key() -> None:
    parameters = rsa_public().parameters._replace(exponent=65536)
    with pytest.raises(MalformedError, match="not a valid public key"):
        public_key(rsa_public(parameters=parameters))


def test_a_signature_of_the_other_kind_of_key_does_not_hold() -> None:
    ecdsa, rsassa = forge.machine("ecdsa-p256"), forge.machine("rsassa")
    attest = forge.world().end
    by_ecdsa, by_rsassa = forge.signed(ecdsa, attest), forge.signed(rsassa, attest)
    message = structures.marshal_attest(attest)
    for key, other in ((ecdsa, by_rsassa), (rsassa, by_ecdsa)):
        signature = structures.parse_signature(other.signature)
        assert not signature_holds(public_key(key.ak), signature, message)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "rsassa"])
def test_a_sha1_signature_never_holds(algorithm: str) -> None:
    machine = forge.machine(algorithm)
    scheme = machine.ak.parameters.scheme
    assert scheme is not None
    weak = structures.Scheme(scheme.algorithm, wire.ALG_SHA1)
    signature = structures.parse_signature(forge.sign(machine.key, b"message", weak))
    assert not signature_holds(public_key(machine.ak), signature, b"message")


@pytest.mark.parametrize("r", [b"", bytes(32), b"\xff" * 66])
def test_degenerate_ecdsa_signatures_do_not_hold(r: bytes) -> None:
    signature = structures.EcdsaSignature(wire.ALG_ECDSA, wire.ALG_SHA256, r, r)
    assert not signature_holds(public_key(forge.machine().ak), signature, b"message")


def test_an_empty_rsa_signature_does_not_hold() -> None:
    signature = structures.RsaSignature(wire.ALG_RSASSA, wire.ALG_SHA256, b"")
    assert not signature_holds(public_key(rsa_public()), signature, b"message")


def test_the_counters_attributes_are_what_the_specification_numbers() -> None:
    assert structures.COUNTER_ATTRIBUTES == 0x22040014
    assert structures.COUNTER_ATTRIBUTES_ACCEPTED[1] == 0x62040014
    assert structures.AK_ATTRIBUTES_SET == 0x00050072
