"""Time-stamp responses as values: what is read, and what is refused with the place named."""

import contextlib
import datetime as dt
from collections.abc import Callable

import pytest
import tsa_pki
from hypothesis import given, settings
from hypothesis import strategies as st
from tsa_pki import TIME, integer, octets, oid, sequence, set_of, tlv

from enclave_sim.adversary import forged_pki as pki
from laminator.errors import MalformedError
from laminator.evidence.timestamp_reply import (
    MAX_ACCURACY,
    MAX_CERTIFICATES,
    MAX_REPLY,
    OID_SHA1,
    OID_SHA256,
    TstInfo,
    parse_timestamp_reply,
    parse_tst_info,
)

MESSAGE = b"what is stamped"
TSA = tsa_pki.authority()
SHA512 = "2.16.840.1.101.3.4.2.3"


def _place(value: object) -> str:
    """Name a case for the place that is refused."""
    return value if isinstance(value, str) else "in"


def _parse(**changes: object) -> TstInfo:
    return parse_timestamp_reply(tsa_pki.reply(TSA, MESSAGE, **changes)).info


def _path(**changes: object) -> str:
    """Return the place that a response changed like this is refused for."""
    with pytest.raises(MalformedError) as error:
        _parse(**changes)
    return error.value.path


def test_what_a_response_says() -> None:
    found = parse_timestamp_reply(tsa_pki.reply(TSA, MESSAGE))
    assert found.info.policy == "1.2.3.4.1"
    assert found.info.hash == OID_SHA256
    assert len(found.info.imprint) == 32
    assert found.info.serial == 0x1234
    assert found.info.time == TIME
    assert found.info.accuracy == dt.timedelta()
    assert found.content == tsa_pki.tst_info(tsa_pki.Stamp(MESSAGE))
    assert set(found.certificates) == {TSA.signer.der, TSA.issuer.der}
    signer = found.signer
    assert signer.id.issuer == TSA.issuer.certificate.subject.public_bytes()
    assert signer.id.serial == TSA.signer.certificate.serial_number
    assert signer.id.key is None
    assert [each.hash for each in signer.certificates] == [OID_SHA256]
    assert signer.certificates[0].serial is None


def test_both_kinds_of_certificate_identifiers() -> None:
    certificate = TSA.signer.certificate
    serial = tsa_pki.issuer_serial(certificate.issuer, 5)
    ess = (tsa_pki.ess_v1(certificate, serial), tsa_pki.ess_v2(certificate, "sha512"))
    reply = tsa_pki.reply(TSA, MESSAGE, ess=ess)
    old, new = parse_timestamp_reply(reply).signer.certificates
    assert (old.hash, old.serial) == (OID_SHA1, 5)
    assert old.issuer == certificate.issuer.public_bytes()
    assert (new.hash, new.serial, new.issuer) == (SHA512, None, None)


def test_a_signer_named_by_its_key() -> None:
    reply = tsa_pki.reply(TSA, MESSAGE, signer_id=tlv(0x80, b"key id"))
    assert parse_timestamp_reply(reply).signer.id == (None, 0, b"key id")


def test_a_response_without_certificates() -> None:
    assert parse_timestamp_reply(tsa_pki.reply(TSA, MESSAGE, certificates=())).certificates == ()


def test_attributes_that_are_passed_over() -> None:
    reply = tsa_pki.reply(TSA, MESSAGE, unsigned=tlv(0xA1, b"anything"))
    assert parse_timestamp_reply(reply).info.time == TIME


# TSTInfo.


@pytest.mark.parametrize(
    ("accuracy", "microseconds"),
    [
        (sequence(), 0),
        (sequence(integer(1)), 1_000_000),
        (sequence(tlv(0x80, b"\x05")), 5000),
        (sequence(tlv(0x81, b"\x07")), 7),
        (sequence(integer(2), tlv(0x80, b"\x03"), tlv(0x81, b"\x04")), 2_003_004),
    ],
)
def test_accuracy(accuracy: bytes, microseconds: int) -> None:
    assert _parse(accuracy=accuracy).accuracy == dt.timedelta(microseconds=microseconds)


@pytest.mark.parametrize(
    "accuracy",
    [
        sequence(integer(61)),
        sequence(integer(-1)),
        sequence(tlv(0x80, b"\x03\xe8")),
        sequence(tlv(0x81, b"\x03\xe8")),
        sequence(integer(1), integer(1)),
    ],
)
def test_accuracy_that_is_refused(accuracy: bytes) -> None:
    assert _path(accuracy=accuracy) == "accuracy"


def test_the_worst_accuracy() -> None:
    assert _parse(accuracy=sequence(integer(60))).accuracy == MAX_ACCURACY


@pytest.mark.parametrize(
    "tail",
    [
        tlv(0x01, b"\xff"),
        integer(99),
        tlv(0xA0, tlv(0xA4, b"")),
        tlv(0xA1, sequence(oid("1.2.3"), octets(b""))),
        b"".join((tlv(0x01, b"\x00"), integer(99), tlv(0xA0, b""), tlv(0xA1))),
    ],
    ids=["ordering", "nonce", "tsa", "extension", "all"],
)
def test_what_may_follow_the_accuracy(tail: bytes) -> None:
    assert _parse(tail=tail).time == TIME


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        (tlv(0xA1, sequence(oid("1.2.3"), tlv(0x01, b"\xff"), octets(b""))), "extensions"),
        (tlv(0xA1, sequence(oid("1.2.3"), octets(b""), octets(b""))), "extensions"),
        (tlv(0xA1, set_of()), "extensions"),
        (tlv(0xA2), "tst-info"),
        (tlv(0x01, b"\x00") * 2, "tst-info"),
    ],
    ids=["critical", "long", "no sequence", "unknown", "twice"],
)
def test_what_may_not(tail: bytes, path: str) -> None:
    assert _path(tail=tail) == path


@pytest.mark.parametrize(
    ("year", "good"), [(1969, False), (1970, True), (9998, True), (9999, False)]
)
def test_years(year: int, good: bool) -> None:
    time = dt.datetime(year, 6, 1, tzinfo=dt.UTC)
    if good:
        assert _parse(time=time).time == time
    else:
        assert _path(time=time) == "tst-info.time"


def _info(*parts: bytes) -> bytes:
    imprint = sequence(sequence(oid(OID_SHA256)), octets(bytes(32)))
    rest = (oid("1.2.3"), imprint, integer(1), tsa_pki.generalized(TIME))
    return sequence(*(parts or (integer(1), *rest)))


def test_a_small_info() -> None:
    assert parse_tst_info(_info()).policy == "1.2.3"


@pytest.mark.parametrize(
    ("info", "path"),
    [
        (b"", "tst-info"),
        (set_of(), "tst-info"),
        (_info() + b"\x00", "tst-info"),
        (_info(integer(2)), "tst-info.version"),
        (_info(integer(1), integer(1)), "tst-info.policy"),
        (_info(integer(1), oid("1.2.3"), sequence(sequence(), octets(b""))), "imprint.hash"),
        (
            _info(integer(1), oid("1.2.3"), sequence(sequence(octets(b"\x2a\x03")), octets(b""))),
            "imprint.hash",
        ),
        (
            _info(
                integer(1),
                oid("1.2.3"),
                sequence(sequence(oid("1.2"), tlv(5), tlv(5)), octets(b"")),
            ),
            "imprint.hash",
        ),
        (_info(integer(1), oid("1.2.3"), sequence(sequence(oid("1.2")))), "imprint.digest"),
        (
            _info(
                integer(1), oid("1.2.3"), sequence(sequence(oid("1.2")), octets(b""), octets(b""))
            ),
            "imprint",
        ),
    ],
    ids=_place,
)
def test_infos_that_are_refused(info: bytes, path: str) -> None:
    assert _path(info=info) == path


# The layers around it.


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (sequence(integer(1)), "response.status"),
        (sequence(integer(2)), "response.status"),
        (sequence(integer(-1)), "response.status"),
        (sequence(), "response.status.status"),
        (sequence(integer(0), sequence(), tlv(0x03, b"\x00"), integer(1)), "response.status"),
    ],
    ids=_place,
)
def test_a_response_that_is_not_granted(status: bytes, path: str) -> None:
    assert _path(status=status) == path


def test_words_beside_the_status() -> None:
    status = sequence(integer(0), sequence(tlv(0x0C, b"fine")), tlv(0x03, b"\x00"))
    assert _parse(status=status).time == TIME


@pytest.mark.parametrize("signers", [0, 2, 3])
def test_other_than_one_signer(signers: int) -> None:
    assert _path(signers=signers) == "signed-data.signers"


def test_too_many_certificates() -> None:
    ders = [pki.root(f"root {number}").der for number in range(MAX_CERTIFICATES + 1)]
    assert _path(certificates=tuple(ders)) == "certificates"
    good = tsa_pki.reply(TSA, MESSAGE, certificates=tuple(ders[1:]))
    assert len(parse_timestamp_reply(good).certificates) == MAX_CERTIFICATES


def test_another_kind_of_certificate() -> None:
    assert _path(certificates=(tlv(0xA1, b"attribute certificate"),)) == "certificates"


def test_a_response_that_is_too_large() -> None:
    with pytest.raises(MalformedError) as error:
        parse_timestamp_reply(octets(bytes(MAX_REPLY)))
    assert error.value.path == "response"
    assert str(MAX_REPLY) in error.value.message


_TOKEN = tsa_pki.reply(TSA, MESSAGE)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"", "response"),
        (set_of(), "response"),
        (_TOKEN + b"\x00", "response"),
        (sequence(sequence(integer(0))), "response.token"),
        (sequence(sequence(integer(0)), sequence(), integer(1)), "response"),
        (sequence(sequence(integer(0)), sequence(integer(1))), "token.type"),
        (sequence(sequence(integer(0)), sequence(oid("1.2.3"), tlv(0xA0))), "token.type"),
    ],
    ids=_place,
)
def test_other_things_than_a_token(data: bytes, path: str) -> None:
    with pytest.raises(MalformedError) as error:
        parse_timestamp_reply(data)
    assert error.value.path == path


def _replaced(old: bytes, new: bytes) -> bytes:
    """Return a good token with one piece replaced by another of the same size."""
    assert _TOKEN.count(old) == 1
    assert len(old) == len(new)
    return _TOKEN.replace(old, new)


def _inner_type(dotted: str) -> Callable[[], bytes]:
    content = tlv(0xA0, octets(tsa_pki.tst_info(tsa_pki.Stamp(MESSAGE))))
    good = oid("1.2.840.113549.1.9.16.1.4") + content
    return lambda: _replaced(good, oid(dotted) + content)


def test_another_content_than_a_time() -> None:
    with pytest.raises(MalformedError) as error:
        parse_timestamp_reply(_inner_type("1.2.840.113549.1.9.16.1.5")())
    assert error.value.path == "signed-data.content.type"


def test_content_that_is_no_octet_string() -> None:
    content = octets(tsa_pki.tst_info(tsa_pki.Stamp(MESSAGE)))
    with pytest.raises(MalformedError) as error:
        parse_timestamp_reply(_replaced(content, b"\x24" + content[1:]))
    assert error.value.path == "signed-data.content"


def test_more_in_the_signed_data() -> None:
    data = _rewrapped(lambda parts: (*parts, integer(1)))
    with pytest.raises(MalformedError) as error:
        parse_timestamp_reply(data)
    assert error.value.path == "signed-data"


def test_revocation_lists_in_the_response_are_passed_over() -> None:
    data = _rewrapped(lambda parts: (*parts[:-1], tlv(0xA1, b"no list"), parts[-1]))
    assert parse_timestamp_reply(data).info.time == TIME


def _rewrapped(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> bytes:
    """Return a good response with the parts of its SignedData changed."""
    from laminator.evidence.der import elements, parse_element

    _, token = elements(parse_element(_TOKEN, "").content, "")
    type_, content = elements(token.content, "")
    signed = elements(parse_element(content.content, "").content, "")
    changed = change(tuple(part.encoded for part in signed))
    inner = sequence(type_.encoded, tlv(0xA0, sequence(*changed)))
    return sequence(sequence(integer(0)), inner)


# The signer.


_TYPE = tsa_pki.attribute("1.2.840.113549.1.9.3", oid("1.2.840.113549.1.9.16.1.4"))
_DIGEST = tsa_pki.attribute("1.2.840.113549.1.9.4", octets(bytes(32)))


def _ess(*identifiers: bytes) -> bytes:
    return tsa_pki.attribute(tsa_pki.ESS_V2, sequence(sequence(*identifiers)))


_ESS = _ess(sequence(octets(bytes(32))))


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        (_DIGEST + _ESS, "attributes"),
        (_TYPE + _ESS, "attributes"),
        (_TYPE * 2 + _DIGEST + _ESS, "attributes"),
        (_TYPE + _DIGEST + _ESS * 2, "attributes"),
        (_TYPE + _DIGEST + integer(1), "attributes"),
        (_TYPE + _DIGEST + sequence(oid("1.2.3"), set_of(), integer(1)), "attributes.1.2.3"),
        (_TYPE + _DIGEST + sequence(oid("1.2.3"), set_of(tlv(5)), integer(1)), "attributes"),
        (_TYPE + _DIGEST + tsa_pki.attribute("1.2.3", tlv(5), tlv(5)), "attributes.1.2.3"),
        (_TYPE + tsa_pki.attribute("1.2.840.113549.1.9.4", integer(1)), "attributes"),
        (
            tsa_pki.attribute("1.2.840.113549.1.9.3", oid("1.2.840.113549.1.7.1")) + _DIGEST,
            "attributes.type",
        ),
        (_TYPE + _DIGEST + _ess(), "signing-certificate"),
        (_TYPE + _DIGEST + _ess(integer(1)), "signing-certificate"),
        (_TYPE + _DIGEST + _ess(sequence(integer(1))), "signing-certificate.digest"),
        (_TYPE + _DIGEST + _ess(sequence(octets(b""), octets(b""))), "signing-certificate"),
        (_TYPE + _DIGEST + tsa_pki.attribute(tsa_pki.ESS, integer(1)), "signing-certificate"),
        (
            _TYPE
            + _DIGEST
            + tsa_pki.attribute(tsa_pki.ESS, sequence(sequence(), sequence(), integer(1))),
            "signing-certificate",
        ),
        (
            _TYPE
            + _DIGEST
            + _ess(sequence(octets(b""), sequence(sequence(tlv(0x82, b"a.example")), integer(1)))),
            "issuer-serial",
        ),
        (
            _TYPE
            + _DIGEST
            + _ess(sequence(octets(b""), sequence(sequence(), integer(1), integer(1)))),
            "issuer-serial",
        ),
    ],
    ids=_place,
)
def test_attributes_that_are_refused(attributes: bytes, path: str) -> None:
    assert _path(attributes=attributes) == path


@pytest.mark.parametrize(
    ("signer_id", "path"),
    [
        (integer(1), "signer.id"),
        (sequence(sequence(), octets(b"")), "signer.id.serial"),
        (sequence(sequence(), integer(1), integer(1)), "signer.id"),
    ],
    ids=_place,
)
def test_signer_identifiers_that_are_refused(signer_id: bytes, path: str) -> None:
    assert _path(signer_id=signer_id) == path


def test_more_in_the_signer() -> None:
    assert _path(unsigned=integer(1)) == "signer"


@settings(max_examples=60)
@given(st.integers(0, len(_TOKEN) - 1), st.integers(1, 255))
def test_any_changed_byte_is_read_or_refused(place: int, change: int) -> None:
    data = bytearray(_TOKEN)
    data[place] ^= change
    with contextlib.suppress(MalformedError):
        assert parse_timestamp_reply(bytes(data)).content != b""
