"""Exchanges: the sessions of the dual-signature checkout as the book keeps them, each with the answer that its merchant gets for ever."""

from hanbit.db.change import Append
from hanbit.db.reading import Row
from hanbit.evidence import store as evidence
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments import payment as payments
from hanbit.payments import views
from hanbit.payments.gateway import Gateway
from hanbit.protocols.dual_signature import gateway as role
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest
from hanbit.protocols.signed import SignedMessage, peek_token

Request = SignedMessage[AuthorizationRequest]


def answer_to_bytes(gateway: Gateway, merchant_id: str, unverified_request: str) -> str | None:
    """D7, 1: the stored answer, if these very bytes of this merchant were verified and answered before."""
    found = find(gateway, merchant_id, peek_token(unverified_request, "sid"))
    if found is None or found["request_hash"] != ids.digest(unverified_request.encode("ascii", "replace")):
        return None
    return _answer(gateway, found)


def answer_in_session(gateway: Gateway, merchant_id: str, request: Request) -> str | None:
    """D7, 2: the stored answer of this session, None where it is new; one session has one request for ever, under a number of its own.

    What could not be kept is refused here, before the customer's factor: else a shop could have it tried again and again, and no attempt
    would ever be counted.
    """
    found = find(gateway, merchant_id, request.claims.sid)
    if found is None:
        if evidence.number_is_used(gateway.reader, request.claims.iss, request.claims.jti):
            raise ProtocolViolation("jti", "this message's number was used with other bytes")
        return None
    if found["request_hash"] != request.hash:
        raise ProtocolViolation("sid_reused", "this session has another request")
    return _answer(gateway, found)


def find(gateway: Gateway, merchant_id: str, sid: str) -> Row | None:
    """The row of a session, None where the gateway has not heard of it."""
    return gateway.reader.one("SELECT * FROM exchanges WHERE merchant = ? AND sid = ?", merchant_id, sid)


def receipt(gateway: Gateway, exchange: Row) -> str | None:
    """The receipt of a session in which the payment was approved."""
    payment = payments.by_id(gateway.reader, exchange["payment"]) if exchange["result"] == "approved" else None
    return None if payment is None else views.receipt(gateway, payment)


def row(
    request: Request, answer: SignedMessage[Authorization], *, at: int, reason: str | None, payment: str | None = None, thumbprint: str = ""
) -> Append:
    """The row of a session that was answered; `payment` and `thumbprint` are there where the customer's half was verified."""
    asked = request.claims
    return Append(
        "exchanges",
        {
            "merchant": merchant_of(request),
            "sid": asked.sid,
            "tid": asked.tid,
            "payment": payment,
            "result": answer.claims.result,
            "reason": reason,
            "oimd": asked.oimd,
            "pimd": asked.pimd,
            "thumbprint": thumbprint,
            "request_hash": request.hash,
            "answer_hash": answer.hash,
            "at": at,
        },
    )


def merchant_of(request: Request) -> str:
    """The id of the merchant that asks."""
    return request.claims.iss.rpartition(":")[2]


def _answer(gateway: Gateway, exchange: Row) -> str:
    """The very bytes that were stored, with the receipt where it was approved."""
    authorization = evidence.compact(gateway.reader, exchange["merchant"], exchange["tid"], exchange["answer_hash"])
    assert authorization is not None, exchange["answer_hash"]
    return role.frame(authorization, receipt(gateway, exchange))
