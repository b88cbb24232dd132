"""The log as it stands in the store: where a message's leaf is, and the proofs that a tree of some size holds it or begins with another."""

from hanbit.crypto import merkle
from hanbit.crypto.leaves import read_leaf
from hanbit.db.reading import Reader
from hanbit.db.rows import Connection
from hanbit.evidence.record import Logged
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound

_SELECT_LEAVES = "SELECT hash FROM log WHERE leaf >= ? AND leaf < ? ORDER BY leaf"
_SELECT_TILES = "SELECT root FROM tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number"
_SELECT_LOGGED = """
SELECT m.leaf, m.place, m.hash, m.typ, m.header, m.iss, m.jti, m.merchant, m.tid, m.at, m.signer_revoked_at, l.data
FROM messages m JOIN log l ON l.leaf = m.leaf WHERE m.tid = ? AND m.merchant = ? AND m.hash = ?
"""


def nodes(connection: Connection) -> merkle.Node:
    """Inner nodes of the stored tree: each is folded from at most 128 neighbours of the nearest stored level."""

    def node(height: int, number: int) -> bytes:
        level, above = divmod(height, merkle.TILE_HEIGHT)
        first, last = number << above, (number + 1) << above
        rows = connection.execute(*((_SELECT_TILES, (level, first, last)) if level else (_SELECT_LEAVES, (first, last)))).fetchall()
        if len(rows) != last - first:
            raise NotFound(f"leaves {number << height} to {((number + 1) << height) - 1} of the log")
        hashes = [ids.decode_base64url(row[0]) for row in rows]
        while len(hashes) > 1:
            hashes = [merkle.node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    return node


def root_at(reader: Reader, size: int) -> str:
    """The tree's hash when it held `size` leaves; NotFound if it never did."""
    return ids.encode_base64url(merkle.root_at(size, nodes(reader.connection)))


def time_of(data: str) -> int:
    """When the Change of a leaf was made."""
    return read_leaf(data.encode("utf-8")).at


def consistency_proof(reader: Reader, first: int, second: int) -> tuple[str, ...]:
    """What shows that the tree of size `second` begins with that of size `first`; NotFound beyond the log."""
    if not 0 < first <= second:
        raise NotFound("no such sizes")
    return tuple(map(ids.encode_base64url, merkle.consistency_proof(first, second, nodes(reader.connection))))


def logged(reader: Reader, merchant: str, tid: str, message_hash: str, size: int) -> Logged:
    """The proof that a kept message of this payment stands in the tree of this size, with its whole leaf; NotFound if it does not."""
    row = reader.one(_SELECT_LOGGED, tid, merchant, message_hash)
    if row is None or row["leaf"] >= size:
        raise NotFound("no such message in the log of this size")
    path = merkle.inclusion_proof(row["leaf"], size, nodes(reader.connection))
    return Logged(**dict(row), path=tuple(map(ids.encode_base64url, path)))
