"""The log's tree is that of RFC 9162: known roots, proofs held against the naive definition, and every bent proof refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import merkle
from hanbit.crypto.merkle import Frontier, leaf_hash, node_hash
from hanbit.kernel.errors import ProtocolViolation

KNOWN_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
"""The leaves and roots of the reference tree that implementations of Certificate Transparency are tested on."""
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 300)


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def naive(leaves: list[bytes]) -> bytes:
    """MTH, word by word as section 2.1.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive(leaves[:split]), naive(leaves[split:]))


def naive_path(leaf: int, leaves: list[bytes]) -> list[bytes]:
    """PATH, word by word as section 2.1.3.1 defines it."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if leaf < split:
        return [*naive_path(leaf, leaves[:split]), naive(leaves[split:])]
    return [*naive_path(leaf - split, leaves[split:]), naive(leaves[:split])]


def naive_proof(first: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF, word by word as section 2.1.4.1 defines it."""
    if first == len(leaves):
        return [] if whole else [naive(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if first <= split:
        return [*naive_proof(first, leaves[:split], whole=whole), naive(leaves[split:])]
    return [*naive_proof(first - split, leaves[split:], whole=False), naive(leaves[:split])]


def nodes(leaves: list[bytes]) -> merkle.Node:
    return lambda height, number: naive(leaves[number << height : (number + 1) << height])


def grown(leaves: list[bytes]) -> tuple[Frontier, list[merkle.Tile]]:
    frontier, tiles = Frontier(), list[merkle.Tile]()
    for leaf in leaves:
        tiles += frontier.append(leaf)
    return frontier, tiles


def test_the_known_roots() -> None:
    leaves = [leaf_hash(bytes.fromhex(data)) for data in KNOWN_LEAVES]
    for size, root in enumerate(KNOWN_ROOTS, start=1):
        assert grown(leaves[:size])[0].root().hex() == root
        assert merkle.root_at(size, nodes(leaves)).hex() == root
    assert Frontier().root().hex() == hashlib.sha256().hexdigest() == merkle.root_at(0, nodes([])).hex()


@given(st.integers(0, 600))
def test_a_tree_grown_leaf_by_leaf_is_the_tree(size: int) -> None:
    leaves = hashes(size)
    frontier, tiles = grown(leaves)
    assert (frontier.size, frontier.root()) == (size, naive(leaves))
    assert tiles == [(1, number, naive(leaves[number * 256 : number * 256 + 256])) for number in range(size // 256)]


@given(st.integers(0, 600), st.integers(0, 1_100))
def test_a_tree_grown_by_a_batch_is_the_one_that_grows_leaf_by_leaf(before: int, more: int) -> None:
    leaves = hashes(before + more)
    (expected, all_tiles), (frontier, tiles) = grown(leaves), grown(leaves[:before])
    tiles += frontier.extend(leaves[before:])
    assert (frontier.size, frontier.nodes) == (expected.size, expected.nodes)
    assert sorted(tiles) == sorted(all_tiles)


def test_tiles_of_tiles() -> None:
    frontier, tiles = grown(hashes(1 << 16))
    assert [tile.number for tile in tiles if tile.level == 1] == list(range(256))
    assert tiles[-1] == (2, 0, frontier.root())


@given(st.data())
def test_an_inclusion_proof_is_that_of_the_definition_and_verifies(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    leaf = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    path = merkle.inclusion_proof(leaf, size, nodes(leaves))
    assert path == naive_path(leaf, leaves)
    assert len(path) <= merkle.PROOF_MAX
    merkle.verify_inclusion(leaves[leaf], leaf, size, path, naive(leaves))


@given(st.data())
def test_a_bent_inclusion_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    leaf = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    path, root = merkle.inclusion_proof(leaf, size, nodes(leaves)), naive(leaves)
    other = data.draw(st.integers(-2, size + 2).filter(lambda number: number != leaf))
    bent = [
        (leaf_hash(b"other"), leaf, size, path, root),
        (leaves[leaf], other, size, path, root),
        (leaves[leaf], leaf, size, [*path, root], root),
        (leaves[leaf], leaf, size, path, leaf_hash(b"other")),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        bent.append((leaves[leaf], leaf, size, [*path[:at], *path[at + 1 :]], root))
        bent.append((leaves[leaf], leaf, size, [*path[:at], leaf_hash(b"other"), *path[at + 1 :]], root))
    for case in bent:
        with pytest.raises(ProtocolViolation):
            merkle.verify_inclusion(*case)


@given(st.data())
def test_a_consistency_proof_is_that_of_the_definition_and_verifies(data: st.DataObject) -> None:
    second = data.draw(SIZES)
    first = data.draw(st.integers(1, second))
    leaves = hashes(second)
    path = merkle.consistency_proof(first, second, nodes(leaves))
    assert path == naive_proof(first, leaves)
    assert len(path) <= merkle.PROOF_MAX
    merkle.verify_consistency(first, second, naive(leaves[:first]), naive(leaves), path)


@given(st.data())
def test_a_bent_consistency_proof_is_refused(data: st.DataObject) -> None:
    second = data.draw(SIZES)
    first = data.draw(st.integers(1, second))
    leaves = hashes(second)
    path, old, new = merkle.consistency_proof(first, second, nodes(leaves)), naive(leaves[:first]), naive(leaves)
    other = leaf_hash(b"other")
    bent = [
        (first, second, other, new, path),
        (first, second, old, other, path),
        (first, second, old, new, [*path, other]),
        (0, second, old, new, path),
        (second + 1, second, old, new, path),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        bent.append((first, second, old, new, [*path[:at], *path[at + 1 :]]))
        bent.append((first, second, old, new, [*path[:at], other, *path[at + 1 :]]))
        bent.append((first, second, old, new, []))
    for case in bent:
        with pytest.raises(ProtocolViolation):
            merkle.verify_consistency(*case)


@given(st.integers(2, 200), st.data())
def test_no_proof_joins_two_histories(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, first - 1))
    leaves, forked = hashes(size), hashes(size)
    forked[changed] = leaf_hash(b"changed afterwards")
    for path in (merkle.consistency_proof(first, size, nodes(forked)), merkle.consistency_proof(first, size, nodes(leaves))):
        with pytest.raises(ProtocolViolation):
            merkle.verify_consistency(first, size, naive(leaves[:first]), naive(forked), path)
