"""Turns a signed message into the row that is kept, a row back into the very bytes, and holds a message against the log's signed hash.

Pure: a stranger checks with it what a book once said, without the book.
"""

import msgspec

from hanbit.crypto import leaves, merkle
from hanbit.db.change import StoredMessage
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.fields import Message
from hanbit.protocols.signed import SignedMessage, join, split


def record(message: SignedMessage[Message], *, merchant: str, tid: str) -> StoredMessage:
    """The row for a message that belongs to this merchant's tid (`tid` is empty for messages of the line itself)."""
    header, payload, signature = split(message.compact)
    return StoredMessage(
        hash=message.hash,
        typ=message.claims.TYP,
        header=header,
        payload=payload,
        signature=signature,
        iss=message.claims.iss,
        jti=message.claims.jti,
        merchant=merchant,
        tid=tid,
    )


def rebuild(header_segment: str, payload: str, signature: str) -> str:
    """The compact bytes as they were signed."""
    return join(header_segment, payload, signature)


class Logged(msgspec.Struct, frozen=True):
    """How a message stands in the log: the covered columns of its row, its whole leaf, and that leaf's path to a signed root."""

    leaf: int
    place: int
    hash: str
    typ: str
    header: str
    iss: str
    jti: str
    merchant: str
    tid: str
    at: int
    signer_revoked_at: int | None
    data: str
    path: tuple[str, ...]

    def verify(self, compact: str, *, size: int, root: str) -> leaves.Leaf:
        """Return the whole leaf if this message stands, as these columns say, in the log that was signed with this size and root.

        Else raises ProtocolViolation:

        1. the message's bytes hash to its name, its header to the header's
        2. the leaf names a row of these columns
        3. the leaf's path leads to the root
        """
        segment = compact.partition(".")[0]
        if (ids.digest(compact.encode("ascii", "replace")), ids.digest(segment.encode("ascii", "replace"))) != (self.hash, self.header):
            raise ProtocolViolation("logged_message", "these are not the bytes that the log names")
        data = self.data.encode("utf-8", "replace")
        leaf = leaves.read_leaf(data)
        covered = (self.leaf, self.place, self.hash, self.typ, self.header, self.iss, self.jti, self.merchant, self.tid, self.at)
        item = leaves.Item("messages", (self.leaf, self.place), leaves.digest("messages", (*covered, self.signer_revoked_at)))
        if item not in leaf.items or (leaf.number, leaf.at) != (self.leaf, self.at):
            raise ProtocolViolation("logged_leaf", "the leaf does not name this message")
        try:
            path = [ids.decode_base64url(node) for node in self.path]
            merkle.verify_inclusion(merkle.leaf_hash(data), self.leaf, size, path, ids.decode_base64url(root))
        except BadInput as error:
            raise ProtocolViolation("inclusion", "a hash is misspelt") from error
        return leaf
