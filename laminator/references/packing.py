"""From names and digests to packages of reference values, and to a file of them."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from laminator.digest import Digest
from laminator.measure.files import hash_descriptor, open_source
from laminator.reference import ReferencePackage, ReferenceValues, encode_reference


def pack(
    name: str, version: str, kind: str, files: Mapping[str, bytes], origin: Digest | None = None
) -> ReferencePackage:
    """Return the package of `files`: their names as a run logs them, SHA-256 of each (32 bytes)."""
    paths = tuple(sorted(files))
    return ReferencePackage(
        name=name,
        version=version,
        kind=kind,
        origin=origin,
        paths=paths,
        digests=b"".join(files[path] for path in paths),
    )


def encode(label: str, packages: Iterable[ReferencePackage]) -> bytes:
    """Return a file's bytes: each package once, in the format's order. Raises MalformedError."""
    return encode_reference(ReferenceValues(label, tuple(set(packages))))


def digest_files(paths: Mapping[str, str]) -> dict[str, bytes]:
    """Return the SHA-256 of each file, by name; `paths` has the path of each.

    Raises UsageError or MachineError for a file that cannot be read.
    """

    def digest(path: str) -> bytes:
        descriptor = open_source(path)
        try:
            return hash_descriptor(descriptor)[1]
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(paths, pool.map(digest, paths.values()), strict=True))
