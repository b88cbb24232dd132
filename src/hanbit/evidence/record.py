"""Turns a signed message into the row that is kept, and a row back into the very bytes."""

from hanbit.db.change import StoredMessage
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
