"""R7: right factor, own account, then payable? → hold with a signed notice, else a decline; decided under the book lock."""

from hanbit.db.change import Append, Require, Stale, Value
from hanbit.evidence import store as evidence
from hanbit.kernel.errors import Declined, Unavailable
from hanbit.kernel.money import Money
from hanbit.parties import limits
from hanbit.parties.customers import Customer
from hanbit.payments import merchant_limits
from hanbit.payments.apply import Step, apply
from hanbit.payments.factors import SIGNED_METHODS, Approval, as_it_is_now
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import still_taken
from hanbit.payments.open_order import Opening, first_step, refreshed
from hanbit.payments.payment import Payment
from hanbit.payments.states import ATTEMPTS_MAX, Event, State
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Keys, Notice
from hanbit.protocols.sealed import CommonCore, Instruction
from hanbit.protocols.signed import SignedMessage

STALE_TRIES = 3
FIRST_RESEND_S = 2


async def authorize(
    gateway: Gateway, opening: Opening, customer: Customer, instruction: Instruction[CommonCore], approval: Approval, *, session: str
) -> tuple[Payment, SignedMessage[Notice] | None]:
    """Hold the money and store the notice (the exact bytes that leave next); without a notice the payment was decided elsewhere.

    Declined, with the attempt recorded, when the customer or account is stopped, funds are short, a limit of the account or of the
    merchant is exceeded, or an unsigned payment is too large.
    """
    check_payable(gateway, approval, opening.offer.money)
    requires = still_payable(customer.id, approval.account.id, opening.merchant.id)
    for _ in range(STALE_TRIES):
        payment, first = first_step(gateway, opening)
        if payment.state not in (State.NEW, State.OPEN):
            return payment, None
        at = gateway.clock.now()
        if at > payment.pay_by:
            return payment, None
        unchanged, counted = limits.within(
            gateway.reader, customer=customer.id, account=approval.account.id, money=opening.offer.money, at=at
        )
        within = merchant_limits.within(gateway, opening.merchant, opening.offer.money, at)
        notice = role.make_notice(opening.offer, signer=gateway.signer, payment=payment.id, at=at)
        columns: dict[str, Value] = {
            "attempts": payment.attempts + 1,
            "customer": customer.id,
            "account": approval.account.id,
            "method": approval.method,
            "reason": None,
            "notice_hash": notice.hash,
            "hold_until": notice.claims.exp,
            "next_at": at + FIRST_RESEND_S,
            "tries": 0,
        }
        proofs = (*(() if first else _new_keys(gateway, opening)), *(() if approval.consent is None else (approval.consent,)), notice)
        try:
            async with merchant_limits.counted_anew(gateway, opening.merchant.id):
                authorized = await apply(
                    gateway,
                    payment,
                    *first,
                    Step(Event.AUTHORIZED, messages=proofs, columns=columns, ceiling=within.ceiling),
                    requires=(*requires, *approval.requires, *unchanged, *within.requires),
                    appends=(attempt(payment, customer, instruction, approval, "held", session, at),),
                    puts=(*approval.puts, *counted, *within.puts),
                )
        except Stale:
            opening = refreshed(gateway, opening)
            if opening.payment is not None and was_tried(gateway, opening.payment, instruction):
                return opening.payment, None
            approval = as_it_is_now(gateway, approval)
            continue
        return authorized, notice
    raise Unavailable("this payment is being changed by somebody else at this moment")


async def decline(
    gateway: Gateway,
    opening: Opening,
    customer: Customer,
    instruction: Instruction[CommonCore],
    approval: Approval | None,
    reason: str,
    *,
    session: str,
) -> Payment:
    """Close the attempt and say why; the payment stays open for another account until the fifth attempt closes it."""
    for _ in range(STALE_TRIES):
        payment, first = first_step(gateway, opening)
        if payment.state not in (State.NEW, State.OPEN):
            return payment
        at = gateway.clock.now()
        step = declined_step(gateway, payment, reason, messages=() if first else _new_keys(gateway, opening))
        row = attempt(payment, customer, instruction, approval, reason, session, at)
        try:
            declined = await apply(gateway, payment, *first, step, appends=(row,))
        except Stale:
            opening = refreshed(gateway, opening)
            if opening.payment is not None and was_tried(gateway, opening.payment, instruction):
                return opening.payment
            continue
        gateway.observe("declined", reason)
        return declined
    raise Unavailable("this payment is being changed by somebody else at this moment")


def check_payable(gateway: Gateway, approval: Approval, money: Money) -> None:
    """What needs no book lock: an unsigned payment within the operator's limit, from an account in the order's currency; else Declined."""
    if approval.method not in SIGNED_METHODS and money.amount_minor > gateway.settings.unsigned_limit_minor:
        raise Declined("unsigned_limit")
    if approval.account.currency != money.currency:
        raise Declined("unknown_account", "an account in another currency")


def still_payable(customer: str, account: str, merchant: str) -> tuple[Require, ...]:
    """Under the book lock nobody is stopped and payments are taken; whether the funds suffice the hold itself decides."""
    return (
        Require("customers", customer, "state", "active", Declined("customer_suspended")),
        Require("accounts", account, "state", "active", Declined("account_suspended")),
        Require("merchants", merchant, "state", "active", Declined("merchant_suspended")),
        still_taken(),
    )


def declined_step(gateway: Gateway, payment: Payment, reason: str, *, messages: tuple[SignedMessage[Message], ...]) -> Step:
    """One more attempt without a hold; the fifth closes the payment, which its merchant is told."""
    columns: dict[str, Value] = {"attempts": payment.attempts + 1, "reason": reason}
    if payment.attempts + 1 < ATTEMPTS_MAX:
        return Step(Event.DECLINED, messages=messages, columns=columns)
    merchant_urn = gateway.settings.merchant_urn(payment.merchant)
    closed = role.make_closed(
        signer=gateway.signer,
        merchant_urn=merchant_urn,
        tid=payment.tid,
        order_hash=payment.order_hash,
        outcome="declined",
        at=gateway.clock.now(),
    )
    columns |= {"outcome_hash": closed.hash, "next_at": None}
    return Step(Event.ATTEMPTS_EXHAUSTED, messages=(*messages, closed), columns=columns, tell=closed)


def attempt(
    payment: Payment,
    customer: Customer,
    instruction: Instruction[CommonCore],
    approval: Approval | None,
    result: str,
    session: str,
    at: int,
) -> Append:
    """The row of an attempt: what was approved, how it was checked, in which web session; a password or code itself is not kept."""
    return Append(
        "attempts",
        {
            "payment": payment.id,
            "number": payment.attempts + 1,
            "customer": customer.id,
            "account": None if approval is None else approval.account.id,
            "method": instruction.auth.method[:20],
            "result": result,
            "core": instruction.core_text,
            "auth_hash": instruction.auth_hash,
            "auth_value": None if approval is None else approval.signature,
            "sealed_hash": instruction.sealed_hash,
            "session": session,
            "at": at,
        },
    )


def was_tried(gateway: Gateway, payment: Payment, instruction: Instruction[CommonCore]) -> bool:
    """Whether these very sealed bytes are an attempt already (a double click): they are not tried twice."""
    sql = "SELECT 1 FROM attempts WHERE payment = ? AND sealed_hash = ?"
    return gateway.reader.one(sql, payment.id, instruction.sealed_hash) is not None


def _new_keys(gateway: Gateway, opening: Opening) -> tuple[SignedMessage[Keys], ...]:
    """The opening's `keys`, unless the evidence holds these very bytes already (a second attempt in the same opening)."""
    known = evidence.is_known(gateway.reader, opening.offer.merchant, opening.offer.tid, opening.keys.hash)
    return () if known else (opening.keys,)
