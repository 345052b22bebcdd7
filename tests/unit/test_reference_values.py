"""Reference values of code: one encoding, bounded, and refused in every other form."""

from typing import Any

import cddl
import pycddl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator import cbor, reference
from laminator.digest import Digest, sha256
from laminator.errors import MalformedError
from laminator.reference import (
    CODE_LABELS,
    REFERENCE_KINDS,
    REFERENCE_PROFILE,
    ReferencePackage,
    ReferenceValues,
    encode_reference,
    parse_reference,
)

PATHS = ("interpreter/python3.11", "site/a b/é.py", "site/torch/__init__.py", "stdlib/os.py")


def package(**changes: Any) -> ReferencePackage:
    digests = b"".join(sha256(path.encode()).value for path in PATHS)
    made = ReferencePackage("torch", "2.13.0", "wheel", sha256(b"wheel"), PATHS, digests)
    return made._replace(**changes)


def document(**changes: Any) -> dict[str, Any]:
    """Return a package's fields as they are encoded, with changes; None leaves a field out."""
    whole = {
        "name": "torch",
        "version": "2.13.0",
        "kind": "wheel",
        "paths": "site/a.py\nsite/b.py",
        "digests": bytes(64),
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def encoded(*packages: dict[str, Any], **changes: Any) -> bytes:
    whole = {"profile": REFERENCE_PROFILE, "label": "x", "packages": packages, **changes}
    return cbor.encode({key: value for key, value in whole.items() if value is not None})


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=20)
FILES = st.dictionaries(
    st.builds(lambda label, rest: f"{label}/{rest}", st.sampled_from(CODE_LABELS), NAMES),
    st.binary(min_size=32, max_size=32),
    max_size=6,
)


@st.composite
def packages(draw: st.DrawFn) -> ReferencePackage:
    files = sorted(draw(FILES).items())
    return ReferencePackage(
        name=draw(NAMES.filter(bool)),
        version=draw(NAMES),
        kind=draw(st.sampled_from(REFERENCE_KINDS)),
        origin=draw(st.none() | st.builds(sha256, st.binary())),
        paths=tuple(path for path, _ in files),
        digests=b"".join(digest for _, digest in files),
    )


@given(NAMES, st.lists(packages(), max_size=4, unique=True))
def test_what_is_encoded_is_read_back(label: str, wild: list[ReferencePackage]) -> None:
    data = encode_reference(ReferenceValues(label, tuple(wild)))
    values = parse_reference(data)
    assert values.label == label
    assert set(values.packages) == set(wild)
    assert encode_reference(values) == data
    assert encode_reference(ReferenceValues(label, tuple(reversed(wild)))) == data


@given(st.binary(max_size=200))
def test_wild_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_reference(data)


def test_a_packages_digests_go_with_its_paths() -> None:
    (found,) = parse_reference(encode_reference(ReferenceValues("x", (package(),)))).packages
    assert found == package()
    for place, path in enumerate(found.paths):
        assert found.digest(place) == sha256(path.encode()).value


def test_what_is_encoded_fits_its_cddl() -> None:
    """And what it does not have to hold is not part of the CDDL: the order, and what names are."""
    for values in (ReferenceValues("", ()), ReferenceValues("x", (package(),))):
        cddl.fits(encode_reference(values), "reference")
    with pytest.raises(pycddl.ValidationError):
        cddl.fits(encoded(document(kind="egg")), "reference")


def test_no_package_and_no_file_are_values() -> None:
    assert parse_reference(encoded()) == ReferenceValues("x", ())
    empty = parse_reference(encoded(document(paths="", digests=b""))).packages[0]
    assert (empty.paths, empty.digests) == ((), b"")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"paths": "site/a.py\nsite/a.py"}, "reference.paths"),
        ({"paths": "site/b.py\nsite/a.py"}, "reference.paths"),
        ({"paths": "site/a.py\n"}, "reference.paths"),
        ({"paths": "\nsite/a.py"}, "reference.paths"),
        ({"paths": "/site/a.py\nsite/b.py"}, "reference.paths"),
        ({"paths": "a.py\nsite/b.py"}, "reference.paths"),
        ({"paths": "home/a.py\nsite/b.py"}, "reference.paths"),
        ({"paths": "site\nsite/b.py"}, "reference.paths"),
        ({"paths": "site/a.py\nsited/b.py"}, "reference.paths"),
        ({"paths": "Site/a.py\nsite/b.py"}, "reference.paths"),
        ({"paths": "site/a.py\nsite/b\x00.py"}, "reference.paths"),
        ({"paths": "site/a.py\r\nsite/b.py"}, "reference.paths"),
        ({"paths": "site/a.py\nsite/b\x7f.py"}, "reference.paths"),
        ({"paths": "site/a.py\nsite/b\x85.py"}, "reference.paths"),
        ({"paths": "site/a.py\nsite/b\u2028.py"}, "reference.paths"),
        ({"paths": ("site/a.py", "site/b.py")}, "field.type"),
        ({"paths": None}, "field.missing"),
        ({"digests": bytes(63)}, "reference.digests"),
        ({"digests": bytes(65)}, "reference.digests"),
        ({"digests": bytes(32)}, "reference.digests"),
        ({"digests": bytes(96)}, "reference.digests"),
        ({"digests": b""}, "reference.digests"),
        ({"digests": "0" * 64}, "field.type"),
        ({"name": ""}, "field.type"),
        ({"name": "a\nb"}, "field.type"),
        ({"name": "a\x1bb"}, "field.type"),
        ({"name": "a" * 201}, "field.type"),
        ({"version": "1\n2"}, "field.type"),
        ({"version": 2}, "field.type"),
        ({"kind": "egg"}, "field.type"),
        ({"origin": bytes(32)}, "field.type"),
        ({"signed": True}, "field.unknown"),
    ],
)
def test_a_package_in_another_form(changes: dict[str, Any], code: str) -> None:
    assert parse_reference(encoded(document())).packages
    with pytest.raises(MalformedError) as refused:
        parse_reference(encoded(document(**changes)))
    assert refused.value.code == code
    assert refused.value.path.startswith("reference.packages[0]")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"profile": "tag:laminator,2026:reference-v2"}, "field.type"),
        ({"profile": None}, "field.missing"),
        ({"label": "a\nb"}, "field.type"),
        ({"label": None}, "field.missing"),
        ({"packages": {}}, "field.type"),
        ({"expires": 1}, "field.unknown"),
    ],
)
def test_a_file_in_another_form(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_reference(encoded(document(), **changes))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"name": "torch"}, {"name": "numpy"}),
        ({"version": "2.13.0"}, {"version": "2.12.0"}),
        ({"kind": "wheel"}, {"kind": "deb"}),
        ({"origin": ("sha-256", bytes(32))}, {}),
        ({"paths": "site/a.py\nsite/c.py"}, {}),
        ({"digests": b"\x01" * 64}, {}),
    ],
)
def test_packages_stand_in_one_order(first: dict[str, Any], second: dict[str, Any]) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_reference(encoded(document(**first), document(**second)))
    assert refused.value.code == "reference.order"
    if first:
        assert len(parse_reference(encoded(document(**second), document(**first))).packages) == 2


def test_the_same_package_twice_is_not_written() -> None:
    with pytest.raises(MalformedError) as refused:
        encode_reference(ReferenceValues("x", (package(), package())))
    assert refused.value.code == "reference.order"


@pytest.mark.parametrize(
    "changes",
    [{"paths": tuple(reversed(PATHS))}, {"digests": bytes(32)}, {"kind": "egg"}, {"name": ""}],
)
def test_what_could_not_be_read_back_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        encode_reference(ReferenceValues("x", (package(**changes),)))


def test_files_beyond_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(document(), document(version="3"))
    assert len(parse_reference(whole).packages) == 2
    monkeypatch.setattr(reference, "MAX_FILES", 3)
    with pytest.raises(MalformedError) as refused:
        parse_reference(whole)
    assert refused.value.code == "reference.size"
    monkeypatch.setattr(reference, "MAX_REFERENCE", len(whole) - 1)
    with pytest.raises(MalformedError) as refused:
        parse_reference(whole)
    assert refused.value.code == "cbor.size"


def test_more_packages_than_a_file_has() -> None:
    many = [document(version=f"{n:05}") for n in range(reference.MAX_PACKAGES + 1)]
    with pytest.raises(MalformedError) as refused:
        parse_reference(encoded(*many))
    assert refused.value.code == "field.type"
    assert len(parse_reference(encoded(*many[:-1])).packages) == reference.MAX_PACKAGES


def test_bytes_in_another_encoding_of_the_same_value() -> None:
    whole = encoded(document())
    with pytest.raises(MalformedError):
        parse_reference(whole + b"\x00")
    assert whole.count(b"\x73site/a") == 1
    with pytest.raises(MalformedError) as refused:
        parse_reference(whole.replace(b"\x73site/a", b"\x78\x13site/a"))
    assert refused.value.code == "cbor.deterministic"


def test_an_origin_by_another_algorithm_is_kept() -> None:
    origin = Digest("sha-384", bytes(48))
    values = ReferenceValues("x", (package(origin=origin),))
    assert parse_reference(encode_reference(values)) == values
