"""D8: the customer asks the gateway itself what became of his purchase, by the key that he bought with; no shop can hide it.

Like a refusal on the line the answer is signed and not kept: it says nothing that is not stored already, and asking writes nothing.
"""

from hanbit.crypto.envelopes import equal
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments import exchanges
from hanbit.payments.dual_signature_flow import DECLINED
from hanbit.payments.gateway import Gateway
from hanbit.protocols.dual_signature import gateway as role
from hanbit.protocols.dual_signature import temporary
from hanbit.protocols.signed import peek_chain, peek_claims

UNKNOWN = "unknown"
"""The state of a session of which the gateway has not heard."""
TOLD_AS = {"unknown_account": "wrong_factor"}
"""An account that is not there looks like a wrong password."""


def result(gateway: Gateway, unverified: str) -> str:
    """The signed `result`: unknown, approved with the receipt, or declined with the reason. ProtocolViolation if it is not his to ask."""
    merchant_id, sid = _session_named(peek_claims(unverified).get("iss"))
    exchange, at = exchanges.find(gateway, merchant_id, sid), gateway.clock.now()
    request = role.verify_result_request(
        unverified,
        root=gateway.keyring.root,
        merchant_urn=gateway.settings.merchant_urn(merchant_id),
        sid=sid,
        gateway=gateway.urn,
        at=at,
        certified_at=None if exchange is None else exchange["at"],
    )
    state, reason, receipt = UNKNOWN, None, None
    if exchange is not None:
        state, reason = exchange["result"], exchange["reason"]
        # A shop can certify any key for a session of its own: why its customer was declined is told to his key alone.
        bought_with, asks = exchange["thumbprint"], temporary.thumbprint_of(peek_chain(unverified))
        if bought_with and equal(bought_with.encode("ascii"), asks.encode("ascii")):
            reason, receipt = TOLD_AS.get(reason, reason), exchanges.receipt(gateway, exchange)
        elif reason is not None:
            reason = DECLINED
    message = role.make_result(
        request,
        signer=gateway.signer,
        customer=gateway.settings.customer_urn,
        state=state,
        reason=reason,
        message="",
        receipt=receipt,
        at=at,
    )
    return message.compact


def _session_named(unverified_urn: object) -> tuple[str, str]:
    """The merchant and the session in a temporary party's name: only good for choosing what is verified then."""
    _, _, name = str(unverified_urn).partition(":temporary:")
    merchant_id, _, sid = name.partition(":")
    if not ids.PARTY_ID.fullmatch(merchant_id) or not ids.TOKEN.fullmatch(sid):
        raise ProtocolViolation("sender", "no temporary party")
    return merchant_id, sid
