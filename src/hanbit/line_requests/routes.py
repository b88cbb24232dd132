"""Routes one frame of a merchant by its typ: purchases, late answers, acknowledgements, inquiries, cancellations, renewals; else `refused`.

What costs a row has an allowance a merchant: beyond it the frame is answered `too_many` and nothing is written.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from hanbit.db.change import Change, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation, code_on_the_line
from hanbit.payments import checkpoints, console_requests, key_requests, outbox, views
from hanbit.payments.allowance import TOO_MANY
from hanbit.payments.apply import signing_still
from hanbit.payments.cancellation_flow import cancel
from hanbit.payments.dual_signature_flow import authorize_purchase
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.halt import PaymentsHalted
from hanbit.payments.redirect_flow import take_answer
from hanbit.payments.sign_in import act
from hanbit.payments.states import InProgress
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.checkpoint import ProofRequest
from hanbit.protocols.console import ConsoleDone
from hanbit.protocols.dual_signature.messages import AuthorizationRequest
from hanbit.protocols.keys import KeyRecord, Renewal, SessionAuthorityRequest
from hanbit.protocols.line import Acknowledgement, RefusedByGateway
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Confirmation, Inquiry, Refusal, Status
from hanbit.protocols.signed import head, peek_typ, sign

INQUIRIES_KEPT_MAX: Final = 100
"""Inquiries about one tid that are kept; later ones are answered too, and say nothing that is not stored already."""


async def answer(gateway: Gateway, merchant_id: str, unverified_frame: str) -> str | None:
    """The frame that answers this one, or None where the answer is an outcome of its own; a broken rule is answered `refused`."""
    typ = ""
    structlog.contextvars.clear_contextvars()  # one worker of the line serves many frames
    try:
        typ = peek_typ(unverified_frame.partition("\n")[0])
        if typ == Acknowledgement.TYP:
            await outbox.take_acknowledgement(gateway, merchant_id, unverified_frame)
            return None
        if typ in (Confirmation.TYP, Refusal.TYP):
            await take_answer(gateway, merchant_id, unverified_frame)
            return None
        if typ == ConsoleDone.TYP:  # too late for whoever asked
            await console_requests.take_answer(gateway, merchant_id, unverified_frame)
            return None
        asked = ANSWERED_BY.get(typ)
        if asked is None:
            raise ProtocolViolation("typ", "not taken over the line")
        return await asked(gateway, merchant_id, unverified_frame)
    except HanbitError as error:
        rule = code_on_the_line(error)
        at = gateway.clock.now()
        urn = gateway.settings.merchant_urn(merchant_id)
        if isinstance(error, InProgress | PaymentsHalted):
            pass  # no fault of the merchant's: it asks again until it is decided, and each time would be a row
        elif rule != TOO_MANY and gateway.allowances.spend(merchant_id, "refused", gateway.settings.refusals_per_minute):
            row = act(at, urn, f"sent {typ[:40]}", rule, merchant_id)
            await gateway.book.commit(Change(appends=(row,)))
        else:
            rule = TOO_MANY
        gateway.observe("line_refused", rule)
        claims = RefusedByGateway(**head(gateway.signer, urn, at), req=_request_hash(unverified_frame), code=rule, message=error.advice)
        return sign(claims, gateway.signer).compact


def _request_hash(unverified_frame: str) -> str:
    """The name of what is refused: the message, whatever stands beside it."""
    return ids.digest(unverified_frame.partition("\n")[0].encode("ascii", "replace"))


async def _inquiry(gateway: Gateway, merchant_id: str, unverified_frame: str) -> str:
    urn = gateway.settings.merchant_urn(merchant_id)
    at = gateway.clock.now()
    inquiry = role.verify_inquiry(unverified_frame, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    known = evidence.answer_to(gateway.reader, merchant_id, inquiry.claims.tid, inquiry.hash, Status.TYP)
    if known is not None:
        return known
    role.check_fresh(inquiry, at)
    spend_unasked(gateway, merchant_id)
    state, outcome = views.merchant_state(gateway, merchant_id, inquiry.claims.tid)
    status = role.make_status(inquiry, signer=gateway.signer, state=state, outcome=outcome, at=at)
    if evidence.are_kept(gateway.reader, merchant_id, inquiry.claims.tid, Inquiry.TYP, INQUIRIES_KEPT_MAX):
        return status.compact
    kept = tuple(record(message, merchant=merchant_id, tid=inquiry.claims.tid) for message in (inquiry, status))
    try:
        await gateway.book.commit(Change(requires=(signing_still(gateway),), messages=kept))
    except Stale:  # the same inquiry came twice at once: one answer for both
        known = evidence.answer_to(gateway.reader, merchant_id, inquiry.claims.tid, inquiry.hash, Status.TYP)
        if known is None:
            raise
        return known
    return status.compact


ANSWERED_BY: Final[dict[str, Callable[[Gateway, str, str], Awaitable[str]]]] = {
    AuthorizationRequest.TYP: authorize_purchase,
    Cancel.TYP: cancel,
    Inquiry.TYP: _inquiry,
    Renewal.TYP: key_requests.renew,
    KeyRecord.TYP: key_requests.record_first_key,
    SessionAuthorityRequest.TYP: key_requests.certify_sessions,
    ProofRequest.TYP: checkpoints.answer_proof_request,
}
"""What a merchant asks, by typ, and who answers it."""
