"""Checkpoints: what the gateway has signed of its log, how a merchant holds it to that, and what either must be shown by the other.

A checkpoint says: after `size` leaves my log's hash is `root`. Whoever holds one can tell a log that goes on from one that was altered, cut
or put back: every later log must begin with the one that was signed. `consistency` shows it from the checkpoint before (`prev`); from an
older one the merchant asks for the proof, and shows by asking what it holds.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from hanbit.crypto import merkle
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.fields import INSTANT_MAX, Compact, Digest, Instant, Message
from hanbit.protocols.signed import SignedMessage, Signer, Trust, head, peek_claims, sign, verify

NOT_OURS = "not_ours"
"""The gateway's refusal where its book does not hold what it once signed."""
Size = Annotated[int, msgspec.Meta(ge=1, le=merkle.SIZE_MAX)]
Path = Annotated[tuple[Digest, ...], msgspec.Meta(max_length=merkle.PROOF_MAX)]


class Checkpoint(Message, frozen=True, kw_only=True):
    """The log after `size` leaves; to any merchant, so that all hold the same bytes. `time` is that of the last of these leaves."""

    TYP: ClassVar[str] = "hanbit-checkpoint"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    size: Size
    root: Digest
    time: Instant
    prev: Digest | None = None
    consistency: Path = ()


class ProofRequest(Message, frozen=True, kw_only=True):
    """A merchant holds this checkpoint and cannot link the one that it was sent: show me that your log still begins with mine."""

    TYP: ClassVar[str] = "hanbit-proof-request"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    checkpoint: Compact


class Proof(Message, frozen=True, kw_only=True):
    """The newest checkpoint, and what shows that it goes on from the one in the request."""

    TYP: ClassVar[str] = "hanbit-proof"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    req: Digest
    checkpoint: Compact
    consistency: Path = ()


MESSAGES: tuple[type[Message], ...] = (Checkpoint, ProofRequest, Proof)


def any_merchant(operator: str) -> str:
    """The audience of a checkpoint."""
    return ids.urn(operator, "merchant")


def verify_checkpoint(unverified: str, *, trust: Trust, operator: str, at: int | None = None) -> SignedMessage[Checkpoint]:
    """A checkpoint that the gateway signed, as of `at`; without it as of when it says that it was signed."""
    if at is None:
        signed_at = peek_claims(unverified).get("iat")
        if type(signed_at) is not int or not 0 <= signed_at <= INSTANT_MAX:
            raise ProtocolViolation("iat")
        at = signed_at
    return verify(unverified, Checkpoint, trust=trust, audience=any_merchant(operator), at=at)


def check_extends(older: Checkpoint, newer: Checkpoint, path: Sequence[str]) -> None:
    """Return if the path shows that the newer log begins with the older one, else raise ProtocolViolation("consistency")."""
    try:
        nodes = [ids.decode_base64url(node) for node in path]
        roots = ids.decode_base64url(older.root), ids.decode_base64url(newer.root)
    except BadInput as error:
        raise ProtocolViolation("consistency", "a hash is misspelt") from error
    merkle.verify_consistency(older.size, newer.size, *roots, nodes)


def make_proof_request(held: str, *, signer: Signer, gateway: str, at: int) -> SignedMessage[ProofRequest]:
    """The merchant's request, with what it holds."""
    return sign(ProofRequest(**head(signer, gateway, at), checkpoint=held), signer)


def verify_proof_request(unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int) -> SignedMessage[ProofRequest]:
    """The request of this very merchant."""
    return verify(unverified, ProofRequest, trust=trust, audience=gateway, sender=merchant_urn, at=at)


def make_proof(
    request: SignedMessage[ProofRequest], checkpoint: str, path: Sequence[str], *, signer: Signer, at: int
) -> SignedMessage[Proof]:
    """The gateway's answer."""
    claims = head(signer, request.claims.iss, at)
    return sign(Proof(**claims, req=request.hash, checkpoint=checkpoint, consistency=tuple(path)), signer)


def verify_proof(
    unverified: str, request: SignedMessage[ProofRequest], held: Checkpoint, *, trust: Trust, operator: str, at: int
) -> SignedMessage[Checkpoint]:
    """The newer checkpoint of an answer that shows how it goes on from the held one; else ProtocolViolation."""
    claims = request.claims
    proof = verify(unverified, Proof, trust=trust, audience=claims.iss, sender=claims.aud, at=at).claims
    if proof.req != request.hash:
        raise ProtocolViolation("req", "the answer to another request")
    newer = verify_checkpoint(proof.checkpoint, trust=trust, operator=operator)
    check_extends(held, newer.claims, proof.consistency)
    return newer


def read_held(compact: str) -> Checkpoint:
    """The claims of a checkpoint that we verified when we took it: a key that was revoked since does not unsay it."""
    try:
        return msgspec.convert(peek_claims(compact), Checkpoint)
    except msgspec.ValidationError as error:
        raise BadInput("this is no checkpoint") from error
