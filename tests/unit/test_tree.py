"""The tree over chunks of 1 MiB: its definition written again, and every border of a leaf."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laminator.cbor import encode
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError
from laminator.measure import tree
from laminator.measure.files import measure_path
from laminator.measure.tree import (
    DIGEST_BYTES,
    LEAF_BYTES,
    LEAVES_DOMAIN,
    FileLeaves,
    encode_leaves,
    file_root,
    find_states,
    leaf_count,
    leaf_digest,
    measure_tree,
    parse_leaves,
    tree_digest,
)

SMALL = 64
DATA = hashlib.shake_256(b"data").digest(8 * SMALL)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word by word."""
    if not leaves:
        return sha()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha(b"\x01", root(leaves[:split]), root(leaves[split:]))


def by_definition(content: dict[str, bytes], leaf: int) -> Digest:
    listed = []
    for path, data in sorted(content.items(), key=lambda item: item[0].encode()):
        leaves = [sha(b"\x00", data[at : at + leaf]) for at in range(0, len(data), leaf)]
        listed.append((path, len(data), root(leaves)))
    return Digest("sha-256", sha(b"laminator-tree-v1\x00", encode(listed)))


def fill(folder: Path, content: dict[str, bytes]) -> None:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LEAF_BYTES", SMALL)


@pytest.mark.parametrize("number", range(18))
def test_the_root_is_that_of_rfc_9162(number: int) -> None:
    leaves = [sha(bytes([at])) for at in range(number)]
    assert file_root(b"".join(leaves)) == root(leaves)


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 5 * LEAF_BYTES])
def test_one_pass_yields_the_plain_digest_and_the_tree(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    found = measure_tree(tmp_path / "file")
    assert found.measured == measure_path(tmp_path / "file")
    assert found.tree == by_definition({"": data}, LEAF_BYTES)
    assert [(item.path, item.size, len(item.leaves)) for item in found.files] == [
        ("", size, 32 * leaf_count(size))
    ]


@pytest.mark.usefixtures("small")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    sizes=st.lists(
        st.integers(0, 6).flatmap(lambda n: st.integers(-1, 1).map(lambda d: max(0, n * SMALL + d)))
        | st.integers(0, 7 * SMALL),
        max_size=5,
    )
)
def test_a_folder_of_any_sizes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    content = {f"{'é/' * (number % 2)}{number}": DATA[:size] for number, size in enumerate(sizes)}
    fill(folder, content)
    found = measure_tree(folder)
    assert found.measured == measure_path(folder)
    assert found.tree == by_definition(content, SMALL)
    assert parse_leaves(b"".join(encode_leaves(found.files))) == found.files
    assert {item.path: item.size for item in found.files} == {
        path: len(data) for path, data in content.items()
    }


def test_a_file_and_a_folder_with_one_file_differ(tmp_path: Path) -> None:
    fill(tmp_path, {"a": b"1"})
    assert measure_tree(tmp_path).tree != measure_tree(tmp_path / "a").tree


def test_a_link_counts_as_its_file(tmp_path: Path) -> None:
    fill(tmp_path, {"a": b"1"})
    (tmp_path / "b").symlink_to("a")
    assert measure_tree(tmp_path).tree == by_definition({"a": b"1", "b": b"1"}, LEAF_BYTES)


@pytest.mark.usefixtures("small")
def test_pieces_of_any_length_give_the_same_leaves() -> None:
    whole, pieces = tree._LeafHash(), tree._LeafHash()
    whole.write(memoryview(DATA[:300]))
    for at in range(0, 300, 7):
        pieces.write(memoryview(DATA[at : min(at + 7, 300)]))
    whole.finish()
    pieces.finish()
    assert (pieces.size, pieces.leaves) == (300, whole.leaves)


def _leaf(number: int) -> bytes:
    return leaf_digest(bytes([number]))


def test_every_part_of_the_list_is_under_the_digest() -> None:
    one = FileLeaves("a", 2 * LEAF_BYTES, _leaf(1) + _leaf(2))
    two = FileLeaves("b", LEAF_BYTES, _leaf(3))
    changed = [
        (one._replace(path="c"), two),
        (one._replace(size=one.size - 1), two),
        (one._replace(leaves=_leaf(2) + _leaf(1)), two),
        (one._replace(leaves=_leaf(1) + _leaf(3)), two._replace(leaves=_leaf(2))),
        (two._replace(path="a"), one._replace(path="b")),
        (one,),
        (FileLeaves("a", 3 * LEAF_BYTES, bytes(one.leaves) + _leaf(3)),),
        (),
    ]
    trees = {str(tree_digest(files)) for files in [(one, two), *changed]}
    assert len(trees) == len(changed) + 1


def test_a_leaf_is_no_node_and_no_chunk() -> None:
    left, right = _leaf(1), _leaf(2)
    assert file_root(left + right) != leaf_digest(left + right)
    assert leaf_digest(b"x") != sha(b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LEAVES_DOMAIN,
        LEAVES_DOMAIN + bytes(7),
        b"laminator-leaves-v2\x00" + bytes(8) + encode([]),
        LEAVES_DOMAIN + (100).to_bytes(8, "big") + encode([]),
        LEAVES_DOMAIN + (2**63).to_bytes(8, "big") + encode([]),
        LEAVES_DOMAIN + (1).to_bytes(8, "big") + encode([]) + b"x",
        LEAVES_DOMAIN + (1).to_bytes(8, "big") + encode({}),
    ],
)
def test_what_is_no_file_of_leaves(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_leaves(data)


@pytest.mark.parametrize(
    "listed",
    [
        [["a"]],
        [["a", -1]],
        [["a", True]],
        [[b"a", 0]],
        [["b", 0], ["a", 0]],
        [["a", 0], ["a", 0]],
        [["a", 1]],
        [["a", 2**64 - 1]],
    ],
)
def test_a_list_that_nobody_writes(listed: list[list[object]]) -> None:
    header = encode(listed)  # type: ignore[arg-type]
    with pytest.raises(MalformedError):
        parse_leaves(LEAVES_DOMAIN + len(header).to_bytes(8, "big") + header)


@given(st.binary(max_size=200))
def test_wild_bytes_are_malformed_or_read(data: bytes) -> None:
    for prefix in (b"", LEAVES_DOMAIN, LEAVES_DOMAIN + bytes(7)):
        try:
            files = parse_leaves(prefix + data)
        except MalformedError:
            continue
        assert b"".join(encode_leaves(files)) == prefix + data


def test_too_many_files_to_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_TREE_FILES", 1)
    fill(tmp_path, {"a": b"1", "b": b"2"})
    with pytest.raises(UsageError) as caught:
        measure_tree(tmp_path)
    assert caught.value.code == "tree.files"
    header = encode([["a", 0], ["b", 0]])
    with pytest.raises(MalformedError):
        parse_leaves(LEAVES_DOMAIN + len(header).to_bytes(8, "big") + header)


def test_states_are_found_again_and_tell_a_change(tmp_path: Path) -> None:
    fill(tmp_path / "data", {"a": b"1", "deep/b": b"2"})
    before = measure_tree(tmp_path / "data").states
    descriptor = os.open(tmp_path / "data", os.O_RDONLY)
    assert find_states(descriptor) == before
    (tmp_path / "new").write_bytes(b"1")
    (tmp_path / "new").rename(tmp_path / "data/a")
    changed = find_states(descriptor)
    os.close(descriptor)
    assert {path for path in before if changed[path] != before[path]} == {"a"}
    one = os.open(tmp_path / "data/a", os.O_RDONLY)
    assert find_states(one) == measure_tree(tmp_path / "data/a").states
    os.close(one)


def test_a_digest_has_the_length_that_the_format_says() -> None:
    assert len(leaf_digest(b"")) == DIGEST_BYTES
