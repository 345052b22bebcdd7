"""The file of leaves that an attester hands to the workload: read back as written."""

from harnesses.harness import Harness, parsed
from laminator.measure.tree import (
    DIGEST_BYTES,
    LEAF_BYTES,
    FileLeaves,
    encode_leaves,
    leaf_count,
    parse_leaves,
    tree_digest,
)

WORDS = ("laminator-leaves-v1\0",)


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes, and has a tree and the leaves that its sizes need."""
    files = parsed(parse_leaves, data)
    if files is None:
        return False
    assert b"".join(encode_leaves(files)) == data
    assert all(len(item.leaves) == DIGEST_BYTES * leaf_count(item.size) for item in files)
    paths = [item.path.encode() for item in files]
    assert paths == sorted(set(paths))
    assert len(tree_digest(files).value) == DIGEST_BYTES
    return True


def seeds() -> list[bytes]:
    """Return no files, a plain file, and a folder with an empty file and a border of a leaf."""
    digests = bytes(range(DIGEST_BYTES))
    folder = (
        FileLeaves("a", LEAF_BYTES + 1, digests * 2),
        FileLeaves("a/empty", 0, b""),
        FileLeaves("é", LEAF_BYTES, digests),
    )
    files = ((), (FileLeaves("", 1, digests),), folder)
    return [b"".join(encode_leaves(each)) for each in files]


HARNESS = Harness(check, seeds, words=WORDS)
