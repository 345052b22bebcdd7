"""The tree of a file or folder that is read chunk by chunk, and the leaves that a reader checks.

Built in the one pass that yields the plain digests. A leaf is a chunk of LEAF_BYTES bytes of one
file (its last may be shorter); hashes are those of RFC 9162, section 2.1.1, with SHA-256:

    leaf  = SHA-256(00 || chunk)
    node  = SHA-256(01 || left || right)       the left part has the largest power of two of leaves
    root  = the node over all leaves of one file; SHA-256 of nothing for an empty file
    tree  = SHA-256("laminator-tree-v1" || 00 || CBOR of the list of [path, size, root])

The list is sorted by the UTF-8 bytes of the paths, as a manifest is; a plain file is a list of one
with the empty path. Paths and sizes are under the digest, and a size says how many leaves a root
has: no leaf counts for another place, another file, or another file's end.

The file of leaves, which the attester hands to the workload:

    "laminator-leaves-v1" || 00 || length of the list (8 bytes, big-endian) ||
    CBOR of the list of [path, size] || all leaves, 32 bytes each, in the order of the list
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from laminator.cbor import Value, decode, encode
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError
from laminator.fields import malformed, uint
from laminator.measure.files import (
    MAX_FILES,
    Finish,
    Measured,
    Write,
    list_files,
    measure_descriptor,
    open_beneath,
    open_source,
)

LEAF_BYTES = 1 << 20
DIGEST_BYTES = 32
MAX_TREE_FILES = MAX_FILES // 2
TREE_DOMAIN = b"laminator-tree-v1\x00"
LEAVES_DOMAIN = b"laminator-leaves-v1\x00"

_LENGTH_BYTES = 8
_LEAF, _NODE = b"\x00", b"\x01"
_HEAD_BYTES = len(LEAVES_DOMAIN) + _LENGTH_BYTES


class FileLeaves(NamedTuple):
    """The leaves of one file: its path ("" for a plain file), size in bytes, 32 bytes a leaf."""

    path: str
    size: int
    leaves: bytes | memoryview


class FileState(NamedTuple):
    """What fstat(2) says of a file: it differs after a write, unless somebody sets clocks back."""

    inode: int
    size: int
    modified: int
    changed: int


class MeasuredTree(NamedTuple):
    """What one pass found: the plain digest, the tree, leaves and states by the files' paths.

    `states` are from when each file was opened.
    """

    measured: Measured
    tree: Digest
    files: tuple[FileLeaves, ...]
    states: Mapping[str, FileState]


def measure_tree(path: str | os.PathLike[str]) -> MeasuredTree:
    """Measure the file or folder at `path` in one pass. Raises UsageError, MachineError."""
    descriptor = open_source(path)
    try:
        return measure_tree_descriptor(descriptor)
    finally:
        os.close(descriptor)


def measure_tree_descriptor(descriptor: int) -> MeasuredTree:
    """Measure an open file or folder in one pass; raises as `measure_tree`.

    The leaves of a large file are hashed in one thread while another hashes the whole.
    """
    hashed: dict[str, _LeafHash] = {}
    states: dict[str, FileState] = {}

    def sink(path: str, status: os.stat_result) -> tuple[Write, Finish]:
        hashed[path], states[path] = (leaf_hash := _LeafHash()), _state(status)
        return leaf_hash.write, leaf_hash.finish

    measured = measure_descriptor(descriptor, sink)
    if len(hashed) > MAX_TREE_FILES:
        message = f"more than {MAX_TREE_FILES} files to read in place; pack them into shards"
        raise UsageError("tree.files", message)
    ordered = sorted(hashed, key=str.encode)
    files = tuple(FileLeaves(path, hashed[path].size, hashed[path].leaves) for path in ordered)
    return MeasuredTree(measured, tree_digest(files), files, states)


def find_states(descriptor: int) -> dict[str, FileState]:
    """Return the states of an open file or folder, as `measure_tree_descriptor` does.

    Raises UsageError.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        return {"": _state(status)}
    states = {}
    for item in list_files(descriptor):
        opened = open_beneath(descriptor, item.real)
        states[item.path] = _state(os.fstat(opened))
        os.close(opened)
    return states


def leaf_digest(*pieces: bytes | bytearray | memoryview) -> bytes:
    """Return the leaf of one chunk, given in pieces, at most LEAF_BYTES in all."""
    digest = hashlib.sha256(_LEAF)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def leaf_count(size: int) -> int:
    """Return how many leaves a file of `size` bytes has."""
    return -(-size // LEAF_BYTES)


def file_root(leaves: bytes | memoryview) -> bytes:
    """Return the root over leaves of 32 bytes each (RFC 9162, section 2.1.1: MTH).

    Pairing neighbours and passing an odd last one up gives the same tree as splitting at the
    largest power of two.
    """
    level = [bytes(leaves[at : at + DIGEST_BYTES]) for at in range(0, len(leaves), DIGEST_BYTES)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(_NODE + left + right).digest() for left, right in pairs]
        level = above if len(level) % 2 == 0 else [*above, level[-1]]
    return level[0] if level else hashlib.sha256().digest()


def tree_digest(files: Iterable[FileLeaves]) -> Digest:
    """Return the tree over `files`, which are sorted by the UTF-8 bytes of their paths."""
    roots = encode([(item.path, item.size, file_root(item.leaves)) for item in files])
    return Digest("sha-256", hashlib.sha256(TREE_DOMAIN + roots).digest())


def encode_leaves(files: Iterable[FileLeaves]) -> Iterator[bytes]:
    """Yield, piece by piece, the file of leaves that `parse_leaves` reads."""
    listed = tuple(files)
    header = encode([(item.path, item.size) for item in listed])
    yield LEAVES_DOMAIN + len(header).to_bytes(_LENGTH_BYTES, "big") + header
    yield from (bytes(item.leaves) for item in listed)


def parse_leaves(data: bytes | memoryview) -> tuple[FileLeaves, ...]:
    """Parse a file of leaves; the leaves are views of `data`. Raises MalformedError.

    What it says counts only with the tree that it has: compare `tree_digest`.
    """
    view = memoryview(data)
    if bytes(view[: len(LEAVES_DOMAIN)]) != LEAVES_DOMAIN or len(view) < _HEAD_BYTES:
        raise MalformedError("leaves.domain", "not a file of leaves")
    start = _HEAD_BYTES + int.from_bytes(view[len(LEAVES_DOMAIN) : _HEAD_BYTES], "big")
    if start > len(view):
        raise MalformedError("leaves.length", "the list of files is cut off")
    listed = decode(bytes(view[_HEAD_BYTES:start]))
    files = []
    for path, size in _listed(listed):
        end = start + leaf_count(size) * DIGEST_BYTES
        files.append(FileLeaves(path, size, view[start:end]))
        start = end
    if start != len(view):
        raise MalformedError("leaves.length", "there are more or fewer leaves than the sizes need")
    return tuple(files)


def _state(status: os.stat_result) -> FileState:
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _LeafHash:
    """Hashes what is written into leaves, wherever the pieces end."""

    def __init__(self) -> None:
        self.size = 0
        self._leaves = bytearray()
        self._digest = hashlib.sha256(_LEAF)

    @property
    def leaves(self) -> bytes:
        """The leaves of what was written; complete after `finish`."""
        return bytes(self._leaves)

    def write(self, piece: memoryview) -> None:
        """Hash `piece` into the leaves that it lies in."""
        while piece:
            part = piece[: LEAF_BYTES - self.size % LEAF_BYTES]
            self._digest.update(part)
            self.size += len(part)
            if self.size % LEAF_BYTES == 0:
                self._end_leaf()
            piece = piece[len(part) :]

    def finish(self) -> None:
        """End the last leaf, if it is a short one."""
        if self.size % LEAF_BYTES:
            self._end_leaf()

    def _end_leaf(self) -> None:
        self._leaves += self._digest.digest()
        self._digest = hashlib.sha256(_LEAF)


def _listed(value: Value) -> Iterator[tuple[str, int]]:
    """Yield path and size of each file; refuse what no encoder writes."""
    if not isinstance(value, tuple) or len(value) > MAX_TREE_FILES:
        raise malformed("leaves", f"a list of at most {MAX_TREE_FILES} files", value)
    before: bytes | None = None
    for number, item in enumerate(value):
        where = f"leaves.{number}"
        match item:
            case (str() as path, size):
                encoded = path.encode()
                if before is not None and encoded <= before:
                    raise malformed(where, "paths in their order, each once", path)
                before = encoded
                yield path, uint(size, where)
            case _:
                raise malformed(where, "[path, size]", item)
