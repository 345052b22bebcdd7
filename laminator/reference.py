"""Reference values of code: which bytes a file of a published package has, by its name in a log.

`docs/card.cddl` describes the encoding. A file of them says nothing of who made it: whoever gives
one to a verifier decides that its values are good. Names and digests of a package are one text and
one byte string, so that 200,000 of them are read and matched in well under a tenth of a second.
"""

import operator
import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from laminator import cbor
from laminator.cbor import Value
from laminator.digest import Digest
from laminator.errors import MalformedError
from laminator.fields import Fields, array, choice, digest, malformed, octets

REFERENCE_PROFILE = "tag:laminator,2026:reference-v1"
REFERENCE_SUFFIX = ".ref"
REFERENCE_KINDS = ("wheel", "deb", "interpreter", "directory", "environment", "card")
CODE_LABELS = (
    "site",
    "stdlib",
    "script",
    "source",
    "interpreter",
    "system",
    "prefix",
    "run",
    "other",
)
"""First parts of the names that a log gives to files of code."""

MAX_REFERENCE = 256 * 1024 * 1024
MAX_PACKAGES = 10_000
MAX_FILES = 2_000_000
MAX_TITLE = 200
DIGEST_SIZE = 32

_CONTROLS = bytes([*range(10), *range(11, 32), 127])
_WIDE_CONTROLS = re.compile("[\x80-\x9f\u2028\u2029]")


_Order: TypeAlias = tuple[tuple[str, str, str, str], tuple[str, ...], bytes]


class ReferencePackage(NamedTuple):
    """One package's files: `paths` sorted and unique, `digests` their SHA-256s in that order.

    `origin` is the digest of the wheel, .deb or card that they were read from.
    """

    name: str
    version: str
    kind: str
    origin: Digest | None
    paths: tuple[str, ...]
    digests: bytes

    def digest(self, place: int) -> bytes:
        """Return the digest of the file `paths[place]`, 32 bytes."""
        return self.digests[DIGEST_SIZE * place : DIGEST_SIZE * (place + 1)]


class ReferenceValues(NamedTuple):
    """Reference values that belong together; `label` is their maker's name for them."""

    label: str
    packages: tuple[ReferencePackage, ...]


def parse_reference(data: bytes) -> ReferenceValues:
    """Parse the one encoding of reference values. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_REFERENCE), "reference")
    fields.take("profile", choice(REFERENCE_PROFILE))
    label = fields.take("label", _title)
    packages = fields.take("packages", array(_package, most=MAX_PACKAGES))
    fields.close()
    if not _ascending(list(map(_order, packages))):
        message = "packages are not sorted, or one is there twice"
        raise MalformedError("reference.order", message, path="reference.packages")
    files = sum(len(package.paths) for package in packages)
    if files > MAX_FILES:
        raise MalformedError("reference.size", f"{files} files, limit {MAX_FILES}")
    return ReferenceValues(label, packages)


def encode_reference(values: ReferenceValues) -> bytes:
    """Return the one encoding of `values`; the order in which packages stand does not matter.

    Raises MalformedError where it could not be read back.
    """
    packages = [_plain(package) for package in sorted(values.packages, key=_order)]
    encoded = cbor.encode(
        {"profile": REFERENCE_PROFILE, "label": values.label, "packages": packages}
    )
    parse_reference(encoded)
    return encoded


def _order(package: ReferencePackage) -> _Order:
    origin = "" if package.origin is None else str(package.origin)
    head = (package.name, package.version, package.kind, origin)
    return head, package.paths, package.digests


def _plain(package: ReferencePackage) -> dict[str, cbor.Encodable]:
    plain: dict[str, cbor.Encodable] = {
        "name": package.name,
        "version": package.version,
        "kind": package.kind,
        "paths": "\n".join(package.paths),
        "digests": package.digests,
    }
    if package.origin is not None:
        plain["origin"] = package.origin
    return plain


def _package(value: Value, path: str) -> ReferencePackage:
    fields = Fields(value, path)
    package = ReferencePackage(
        name=fields.take("name", _name),
        version=fields.take("version", _title),
        kind=fields.take("kind", choice(*REFERENCE_KINDS)),
        origin=fields.optional("origin", digest),
        paths=fields.take("paths", _paths),
        digests=fields.take("digests", octets(0, DIGEST_SIZE * MAX_FILES)),
    )
    fields.close()
    if len(package.digests) != DIGEST_SIZE * len(package.paths):
        message = f"{len(package.digests)} bytes for {len(package.paths)} files"
        raise MalformedError("reference.digests", message, path=f"{path}.digests")
    return package


def _name(value: Value, path: str) -> str:
    if value == "":
        raise malformed(path, "a name", value)
    return _title(value, path)


def _title(value: Value, path: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TITLE or "\n" in value or _controls(value):
        message = f"text of at most {MAX_TITLE} characters, without control characters"
        raise malformed(path, message, value)
    return value


def _paths(value: Value, path: str) -> tuple[str, ...]:
    """Split names at newlines: sorted, unique, each a relative path that begins with a label."""
    if not isinstance(value, str):
        raise malformed(path, "text", value)
    if _controls(value):
        raise MalformedError("reference.paths", "a control character in a name", path=path)
    paths = tuple(value.split("\n")) if value else ()
    if not _ascending(paths):
        raise MalformedError("reference.paths", "names unsorted, or one twice", path=path)
    if _labelled(paths) != len(paths):
        message = f"expected LABEL/relative/path, LABEL one of {', '.join(CODE_LABELS)}"
        raise MalformedError("reference.paths", message, path=path)
    return paths


def _labelled(paths: Sequence[str]) -> int:
    """Return how many of the sorted `paths` begin with a label and a slash."""
    # "0" is the character after "/": the names between stand together in the order.
    return sum(
        bisect_left(paths, f"{label}0") - bisect_left(paths, f"{label}/") for label in CODE_LABELS
    )


def _controls(value: str) -> bool:
    """Tell whether `value` has C0 (but newline), DEL, C1 or Unicode's two line separators."""
    octet_string = value.encode()
    if len(octet_string.translate(None, _CONTROLS)) != len(octet_string):
        return True
    return not value.isascii() and _WIDE_CONTROLS.search(value) is not None


def _ascending(items: Sequence[Any]) -> bool:
    return all(map(operator.lt, items, islice(items, 1, None)))
