"""Reference values of a wheel: the files that installing it puts in place, byte for byte.

What installing makes of a wheel is not in it and gets no reference value: entry-point scripts and
scripts whose first line the installer rewrites, `__pycache__`, INSTALLER, the installed RECORD.
Source: "Binary distribution format" of the Python packaging specifications.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.reference import ReferencePackage
from laminator.references.locks import Lock, check_locked, locked_as
from laminator.references.packing import pack
from laminator.references.wheel_name import WheelName, parse_wheel_name
from laminator.references.wheel_record import (
    MAX_RECORD,
    Recorded,
    check_covers,
    check_hash,
    parse_record,
)
from laminator.references.zip_members import (
    Member,
    MemberDigests,
    check_names,
    digest_member,
    list_members,
    read_member,
)

MAX_WHEEL = 16 << 30
MAX_METADATA = 4 << 20

_CHUNK = 1 << 20
_REWRITTEN = b"#!python"
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_SCHEMES = {
    "purelib": "site/",
    "platlib": "site/",
    "scripts": "prefix/bin/",
    "data": "prefix/",
    "headers": "prefix/include/{name}/",
}


def read_wheel(path: str, lock: Lock) -> ReferencePackage:
    """Read the wheel at `path` over all cores, if it is one that `lock` names.

    Raises MalformedError `lock.*`, `wheel.*`, `record.*`, `zip.*` or `files.*`, with the wheel's
    name, and UsageError for a file that cannot be read.
    """
    filename = os.path.basename(path)  # noqa: PTH119 - text in, text out
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        message = f"cannot read {shown(path)}: {error.strerror}; name another wheel"
        raise UsageError("file.read", message) from error
    try:
        return _read(descriptor, parse_wheel_name(filename), lock)
    except MalformedError as error:
        raise MalformedError(error.code, error.message, path=filename) from error
    finally:
        os.close(descriptor)


def _read(descriptor: int, name: WheelName, lock: Lock) -> ReferencePackage:
    if os.fstat(descriptor).st_size > MAX_WHEEL:
        raise MalformedError("wheel.size", f"more than {MAX_WHEEL} bytes")
    entries = locked_as(lock, name)
    algorithms = {"sha256"}.union(*(entry.hashes for entry in entries))
    digests = _digest_file(descriptor, sorted(algorithms))
    check_locked(entries, digests)
    members = {member.name: member for member in list_members(descriptor)}
    info = _find_info(members, name)
    _check_metadata(
        read_member(descriptor, _needed(members, f"{info}/METADATA"), MAX_METADATA), name
    )
    record = parse_record(read_member(descriptor, _needed(members, f"{info}/RECORD"), MAX_RECORD))
    unhashed = {f"{info}/{each}" for each in _UNHASHED}
    check_covers(record, {each.name: each.size for each in members.values()}, unhashed)
    placed = {each: _place(each, name) for each in members if each not in unhashed}
    check_names(list(placed.values()))
    read = _digest_members(descriptor, [members[each] for each in placed], record)
    scripts = f"{info.removesuffix('.dist-info')}.data/scripts/"
    files = {
        placed[each]: found.digests["sha256"]
        for each, found in read.items()
        if not (each.startswith(scripts) and found.head.startswith(_REWRITTEN))
    }
    origin = Digest("sha-256", digests["sha256"])
    return pack(name.name, name.version, "wheel", files, origin)


def _digest_file(descriptor: int, algorithms: Sequence[str]) -> dict[str, bytes]:
    """Return a whole file's digests, each algorithm in a thread of its own."""

    def digest(algorithm: str) -> bytes:
        hashed, position = hashlib.new(algorithm), 0
        while chunk := os.pread(descriptor, _CHUNK, position):
            hashed.update(chunk)
            position += len(chunk)
        return hashed.digest()

    with ThreadPoolExecutor(len(algorithms)) as pool:
        return dict(zip(algorithms, pool.map(digest, algorithms), strict=True))


def _digest_members(
    descriptor: int, members: Sequence[Member], record: Mapping[str, Recorded]
) -> dict[str, MemberDigests]:
    """Digest the largest files first, over all cores; each is compared with its row."""

    def digest(member: Member) -> MemberDigests:
        recorded = record[member.name]
        found = digest_member(
            descriptor, member, sorted({"sha256", recorded.algorithm or "sha256"})
        )
        check_hash(member.name, recorded, found.digests)
        return found

    ordered = sorted(members, key=lambda member: member.size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(digest, ordered)
        return {member.name: each for member, each in zip(ordered, found, strict=True)}


def _find_info(members: Iterable[str], name: WheelName) -> str:
    """Return the name of the one .dist-info folder, which has to be this wheel's."""
    folders = {each.partition("/")[0] for each in members if "/" in each}
    infos = [each for each in folders if each.lower().endswith(".dist-info")]
    if len(infos) != 1:
        raise MalformedError("wheel.info", f"{len(infos)} folders .dist-info instead of one")
    stem = infos[0].removesuffix(".dist-info")
    project, _, version = stem.rpartition("-")
    if not _same(project, version, name):
        message = f"{shown(infos[0])} does not go with the wheel's name"
        raise MalformedError("wheel.info", message)
    if others := {each for each in folders if each.endswith(".data")} - {f"{stem}.data"}:
        raise MalformedError("wheel.data", f"the folder {shown(min(others))} of another wheel")
    return infos[0]


def _check_metadata(data: bytes, name: WheelName) -> None:
    raw, _ = parse_email(data)
    project, version = raw.get("name", ""), raw.get("version", "")
    if not _same(project, version, name):
        message = f"METADATA is of {shown(f'{project} {version}')}"
        raise MalformedError("wheel.metadata", message)


def _same(project: str, version: str, name: WheelName) -> bool:
    try:
        same_version = Version(version) == Version(name.version)
    except InvalidVersion:
        return False
    return same_version and canonicalize_name(project) == name.name


def _needed(members: Mapping[str, Member], path: str) -> Member:
    if path not in members:
        raise MalformedError("wheel.info", f"no file {shown(path)}")
    return members[path]


def _place(path: str, name: WheelName) -> str:
    """Return the name that a run logs a member under, once it is installed."""
    folder, _, rest = path.partition("/")
    if not folder.endswith(".data") or not rest:
        return f"site/{path}"
    scheme, _, within = rest.partition("/")
    if scheme not in _SCHEMES or not within:
        raise MalformedError("wheel.data", f"no place to install {shown(path)}")
    return _SCHEMES[scheme].format(name=name.name) + within
