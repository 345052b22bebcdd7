"""Whatever bytes a wheel, a .deb or a lock has: values, or one refusal that is ours."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import packages
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.references.debs import read_deb
from laminator.references.locks import parse_pylock, parse_requirements
from laminator.references.wheel_record import parse_record
from laminator.references.wheels import read_wheel

WHEEL = packages.wheel_bytes()
DEB = packages.deb_bytes([packages.member("./usr/lib/x", b"x" * 300)])
PLAIN_DEB = packages.deb_bytes([packages.member("./usr/lib/x", b"x" * 300)], packed="")
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6)), min_size=1, max_size=4)


def _changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for place, new in changes:
        start = place % len(content)
        content = content[:start] + new + content[start + len(new) :] or b"x"
    return content


def _read(content: bytes, name: str, read: Callable[[str], object]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(MalformedError):
        Path(folder, name).write_bytes(content)
        read(str(Path(folder, name)))


@given(CHANGES)
def test_changed_wheels(changes: list[tuple[int, bytes]]) -> None:
    content = _changed(WHEEL, changes)
    _read(content, packages.FILENAME, lambda path: read_wheel(path, packages.lock_of(content)))


@given(st.sampled_from([DEB, PLAIN_DEB]), CHANGES)
def test_changed_debs(deb: bytes, changes: list[tuple[int, bytes]]) -> None:
    _read(_changed(deb, changes), "x.deb", read_deb)


@given(st.binary(max_size=200))
def test_wild_records(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        parse_record(data)


@given(st.text(max_size=100))
def test_wild_locks(text: str) -> None:
    for parse in (parse_pylock, parse_requirements):
        with contextlib.suppress(MalformedError):
            parse(text)
