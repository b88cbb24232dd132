"""The Merkle tree of RFC 9162, section 2.1: an append-only list of leaves under one hash, with short proofs of what it holds. Pure.

    leaf = SHA-256(0x00 ‖ data)          node = SHA-256(0x01 ‖ left ‖ right)

A tree is known by its *frontier*: the roots of the perfect subtrees that it consists of, one for each bit of its size, largest first.
Appending needs nothing else. Proofs need inner nodes, named by height and number: (0, 5) is the sixth leaf, (3, 2) covers leaves 16 to 23.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hanbit.kernel.errors import ProtocolViolation

HASH_BYTES = 32
SIZE_MAX = 1 << 48
PROOF_MAX = 64
"""Hashes of the longest proof: RFC 9162 never needs more than the tree's height plus one."""
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = hashlib.sha256().digest()
_sha256 = hashlib.sha256

Node = Callable[[int, int], bytes]
"""(height, number) → the root of that perfect subtree."""


class Tile(NamedTuple):
    """The root of a completed subtree of 256 nodes of the level below; level 0 are the leaves themselves."""

    level: int
    number: int
    root: bytes


@dataclass(slots=True)
class Frontier:
    """A growing tree: its size and the roots of its perfect subtrees, largest first."""

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> list[Tile]:
        """Add a leaf's hash; the tiles that it completed, lowest first (nearly always none)."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Add the hashes of these leaves, a level of the tree after the other; the tiles that they completed, lowest first."""
        row, number, height = list(leaves), self.size, 0
        self.size += len(row)
        completed: list[Tile] = []
        perfect: list[bytes] = []
        while row:
            # Here `row` are the new nodes of this height, the first of which is `number`; a left neighbour waits in the frontier.
            if height and not height % TILE_HEIGHT:
                completed += [Tile(height // TILE_HEIGHT, place, node) for place, node in enumerate(row, number)]
            if number & 1:
                row.insert(0, self.nodes.pop())
            if len(row) & 1:
                perfect.append(row.pop())
            row = [_sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
            number >>= 1
            height += 1
        self.nodes += reversed(perfect)
        return completed

    def root(self) -> bytes:
        """The tree's hash."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            root = node_hash(left, root)
        return root


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_at(size: int, node: Node) -> bytes:
    """The hash that the tree had when it held `size` leaves."""
    return _subtree(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(leaf: int, size: int, node: Node) -> list[bytes]:
    """The path from a leaf to the root of the tree of this size, lowest first (section 2.1.3.1)."""
    assert 0 <= leaf < size, (leaf, size)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if leaf < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """What shows that the tree of size `second` begins with the tree of size `first` (section 2.1.4.1)."""
    assert 0 < first <= second, (first, second)
    path: list[bytes] = []
    start, end, whole = 0, second, True
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(start, end, node))
    return path[::-1]


def verify_inclusion(leaf_hash_: bytes, leaf: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Return if the path leads from this leaf to this root (section 2.1.3.2), else raise ProtocolViolation("inclusion")."""
    if not 0 <= leaf < size <= SIZE_MAX:
        raise ProtocolViolation("inclusion", "no such leaf")
    number, last, found = leaf, size - 1, leaf_hash_
    for sibling in path:
        if not last:
            raise ProtocolViolation("inclusion", "the path is too long")
        if number & 1 or number == last:
            found = node_hash(sibling, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        number, last = number >> 1, last >> 1
    if last or found != root:
        raise ProtocolViolation("inclusion", "the path does not lead to this root")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> None:
    """Return if the larger tree begins with the smaller one (section 2.1.4.2), else raise ProtocolViolation("consistency")."""
    if not 0 < first <= second <= SIZE_MAX:
        raise ProtocolViolation("consistency", "sizes")
    if first == second:
        if path or first_root != second_root:
            raise ProtocolViolation("consistency", "one size has two roots")
        return
    # Of a perfect first tree the proof leaves the root out, because whoever checks has it.
    nodes = [*([first_root] if not first & (first - 1) else []), *path]
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    if not nodes:
        raise ProtocolViolation("consistency", "the proof is too short")
    old = new = nodes[0]
    for node in nodes[1:]:
        if not last:
            raise ProtocolViolation("consistency", "the proof is too long")
        if number & 1 or number == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, node)
        number, last = number >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise ProtocolViolation("consistency", "the larger tree does not begin with the smaller one")


def _subtree(start: int, end: int, node: Node) -> bytes:
    """The hash of leaves start to end; `start` is a multiple of the smallest power of two that holds them."""
    width = end - start
    if not width & (width - 1):
        height = width.bit_length() - 1
        return node(height, start >> height)
    middle = start + _split(width)
    return node_hash(_subtree(start, middle, node), _subtree(middle, end, node))


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)
