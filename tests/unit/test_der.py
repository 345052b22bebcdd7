"""DER: one form for each value, and an error for every other."""

import datetime as dt

import pytest
import tsa_pki
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.evidence.der import (
    INTEGER,
    MAX_ELEMENTS,
    OCTET_STRING,
    OID,
    SEQUENCE,
    DerFields,
    Element,
    elements,
    generalized_time,
    integer,
    oid,
    parse_element,
)


def _refused(data: bytes) -> str:
    with pytest.raises(MalformedError) as error:
        parse_element(data, "there")
    assert error.value.code == "der.element"
    assert error.value.path == "there"
    return error.value.message


@given(st.sampled_from([0x02, 0x04, 0x30, 0x80, 0xA0]), st.binary(max_size=300))
def test_an_element_is_its_tag_and_content(tag: int, content: bytes) -> None:
    encoded = tsa_pki.tlv(tag, content)
    assert parse_element(encoded, "there") == Element(tag, content, encoded)


def test_long_lengths() -> None:
    for size in (0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000):
        assert len(parse_element(tsa_pki.octets(bytes(size)), "there").content) == size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x1f\x01\x00",  # a tag of more octets
        b"\x3f\x00",
        b"\x04\x01",  # cut content
        b"\x04\x02\x00",
        b"\x04\x00\x00",  # something after it
        b"\x30\x80\x00\x00",  # BER's indefinite length
        b"\x04\x81\x01\x00",  # longer than needed
        b"\x04\x81\x7f" + bytes(0x7F),
        b"\x04\x82\x00\x80" + bytes(0x80),
        b"\x04\x81",  # cut length
        b"\x04\x82\x01",
        b"\x04\x84\xff\xff\xff\xff",
        b"\x04\x85\x00\x00\x00\x00\x01\x00",
        b"\x04\xff\x00",
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    _refused(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = elements(data, "there")
    except MalformedError:
        return
    assert b"".join(tsa_pki.tlv(item.tag, item.content) for item in found) == data


def test_at_most_so_many_elements() -> None:
    assert len(elements(b"\x05\x00" * MAX_ELEMENTS, "there")) == MAX_ELEMENTS
    with pytest.raises(MalformedError, match="at most 64 elements"):
        elements(b"\x05\x00" * (MAX_ELEMENTS + 1), "there")


@given(st.integers(0, (1 << 511) - 1))
def test_integers(value: int) -> None:
    assert integer(parse_element(tsa_pki.integer(value), "there"), "there") == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\x00", 0),
        (b"\x7f", 127),
        (b"\x00\x80", 128),
        (b"\x80", -128),
        (b"\xff", -1),
        (b"\xff\x7f", -129),
    ],
)
def test_integer_values(content: bytes, value: int) -> None:
    assert integer(Element(INTEGER, content, b""), "there") == value


@pytest.mark.parametrize("content", [b"", b"\x00\x7f", b"\x00\x00", b"\xff\x80", bytes([1] * 65)])
def test_integers_in_other_forms(content: bytes) -> None:
    with pytest.raises(MalformedError):
        integer(Element(INTEGER, content, b""), "there")


@pytest.mark.parametrize(
    "dotted", ["1.2.840.113549.1.7.2", "2.23.133.8.3", "0.0", "1.39", "2.999.1", "1.2.16384"]
)
def test_object_identifiers(dotted: str) -> None:
    assert oid(parse_element(tsa_pki.oid(dotted), "there"), "there") == dotted


@pytest.mark.parametrize("content", [b"", b"\x2a\x81", b"\x2a\x80\x01", b"\x80\x01", bytes(65)])
def test_object_identifiers_in_other_forms(content: bytes) -> None:
    with pytest.raises(MalformedError):
        oid(Element(OID, content, b""), "there")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("20260131120000Z", dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)),
        ("20260131120000.5Z", dt.datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=dt.UTC)),
        ("20260131120000.0000019Z", dt.datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=dt.UTC)),
        ("20260131120000.123456789Z", dt.datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=dt.UTC)),
    ],
)
def test_times(text: str, time: dt.datetime) -> None:
    assert generalized_time(Element(0x18, text.encode(), b""), "there") == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "202601311200Z",
        "20260131120000",
        "20260131120000+0100",
        "20260131120000.Z",
        "20260131120000.50Z",
        "20260131120000,5Z",
        "20260231120000Z",
        "20260131120060Z",
        "00000131120000Z",
        "20260131120000Z\n",
        "\uff120260131120000Z",
        "20260131120000." + "1" * 30 + "Z",
    ],
)
def test_times_in_other_forms(text: str) -> None:
    with pytest.raises(MalformedError):
        generalized_time(Element(0x18, text.encode(), b""), "there")


def test_fields_in_their_order() -> None:
    data = tsa_pki.sequence(tsa_pki.integer(1), tsa_pki.octets(b"x"))
    fields = DerFields(parse_element(data, "there"), "there")
    assert fields.optional(OCTET_STRING, "text") is None
    assert fields.take(INTEGER, "number").content == b"\x01"
    with pytest.raises(MalformedError) as left:
        fields.close()
    assert left.value.path == "there"
    with pytest.raises(MalformedError) as other:
        fields.take(SEQUENCE, "list")
    assert other.value.path == "there.list"
    text = fields.optional(OCTET_STRING, "text")
    assert text is not None
    assert text.content == b"x"
    assert fields.optional(OCTET_STRING, "text") is None
    fields.close()
    with pytest.raises(MalformedError, match="the end"):
        fields.take(OCTET_STRING, "text")
