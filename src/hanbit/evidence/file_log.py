"""The leaves of an evidence file: each leads to the signed root, names the rows that the file shows, and is of use to something. Pure."""

from collections.abc import Iterable
from itertools import pairwise

from hanbit.crypto import leaves, merkle
from hanbit.evidence.bundle import Kept, LeafProof
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.checkpoint import Checkpoint
from hanbit.protocols.fields import Message
from hanbit.protocols.signed import SignedMessage


class FileLog:
    """Verified leaves by number, and which rows of theirs were shown."""

    def __init__(self) -> None:
        self._leaves: dict[int, leaves.Leaf] = {}
        self._items: dict[int, frozenset[leaves.Item]] = {}
        self._used: set[tuple[int, leaves.Item]] = set()

    def take(self, proofs: Iterable[LeafProof], checkpoint: Checkpoint) -> int:
        """Verify every leaf's path to the checkpoint's root; how many there are."""
        root = _decode(checkpoint.root)
        for one in proofs:
            data = one.data.encode("utf-8")
            if one.leaf in self._leaves:
                raise ProtocolViolation("inclusion", f"leaf {one.leaf} twice")
            path = [_decode(node) for node in one.path]
            merkle.verify_inclusion(merkle.leaf_hash(data), one.leaf, checkpoint.size, path, root)
            self._leaves[one.leaf] = leaf = leaves.read_leaf(data)
            if leaf.number != one.leaf:
                raise ProtocolViolation("logged_leaf", f"leaf {one.leaf} calls itself {leaf.number}")
            self._items[one.leaf] = frozenset(leaf.items)
        times = [*(leaf.at for _, leaf in sorted(self._leaves.items())), checkpoint.time]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ProtocolViolation("logged_leaf", "a leaf is younger than one after it, or than the checkpoint: the log's clock goes back")
        return len(self._leaves)

    def names_message(self, kept: Kept, message: SignedMessage[Message], merchant: str, tid: str) -> None:
        """Return if the leaf names this message with these columns, else raise ProtocolViolation("logged_leaf")."""
        if kept.leaf is None or kept.place is None:
            raise ProtocolViolation("logged_leaf", "the leaf that names this message is missing")
        claims, header = message.claims, ids.digest(kept.compact.partition(".")[0].encode("ascii"))
        covered = (kept.leaf, kept.place, message.hash, claims.TYP, header, claims.iss, claims.jti, merchant, tid, kept.at, kept.revoked_at)
        self.names_row(kept.leaf, leaves.Item("messages", (kept.leaf, kept.place), leaves.digest("messages", covered)), kept.at)

    def names_row(self, leaf: int, item: leaves.Item, at: int) -> None:
        """Return if this leaf names the row, which was not shown before.

        A leaf is younger than its rows only in a book that is older than its log.
        """
        if item not in self._items.get(leaf, frozenset()) or at > self._leaves[leaf].at:
            raise ProtocolViolation("logged_leaf", f"leaf {leaf} does not name this {item.table} row")
        if (leaf, item) in self._used:
            raise ProtocolViolation("logged_leaf", "a row is shown twice")
        self._used.add((leaf, item))

    def touches(self, leaf: int, table: str, key: leaves.Key) -> None:
        """Return if a leaf says that its Change wrote this row, whatever stood in it."""
        found = next((item for item in self._items.get(leaf, frozenset()) if (item.table, item.key) == (table, key)), None)
        if found is None:
            raise ProtocolViolation("logged_leaf", f"leaf {leaf} names no such {table} row")
        self._used.add((leaf, found))

    def check_used(self) -> None:
        """ProtocolViolation where a leaf has nothing to do with what the file shows."""
        if stray := set(self._leaves) - {leaf for leaf, _ in self._used}:
            raise ProtocolViolation("logged_leaf", f"leaf {min(stray)} belongs to nothing in the file")

    def check_whole(self, messages: Iterable[Kept]) -> int:
        """How many messages stand beside these in leaves of many Changes; ProtocolViolation where one of the same Change is left out.

        A leaf is one Change, and a Change is of one payment, whose row it writes too. Only the first leaves of a book that is older than
        its log are of many: they name messages and nothing else.
        """
        beside = 0
        for leaf in {kept.leaf for kept in messages if kept.leaf is not None}:
            items = self._items[leaf]
            hidden = {(leaf, item) for item in items if item.table == "messages"} - self._used
            if hidden and any(item.table != "messages" for item in items):
                raise ProtocolViolation("logged_leaf", f"leaf {leaf} names a message of this payment that the file leaves out")
            beside += len(hidden)
        return beside


def _decode(text: str) -> bytes:
    try:
        return ids.decode_base64url(text)
    except BadInput as error:
        raise ProtocolViolation("inclusion", "a hash is misspelt") from error
