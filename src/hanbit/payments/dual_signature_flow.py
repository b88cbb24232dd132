"""Document B from top to bottom: D4, D7 and D8 as the gateway lives them. The flow decides; what it calls computes.

D4   the customer, logged in here, gets a grant for this order (`grants.give`); the order enters the book
D6   his shop brings its signed request and the envelope, in one frame; the request is at the same time the shop's confirmation
D7   1  these very bytes were answered before: the stored answer, whatever the time
     2  the request is the merchant's own, and its session and its number were never used
     3  a live grant for this merchant, tid and order          ┐ else one uniform decline: signed and kept, but nothing is opened,
     4  the envelope opens, its core names that grant          │ no counter moves, no factor is tried, the grant stays
     5  the dual signature, with the gateway's own half        │
     6  every name and figure is the same wherever it stands   ┘
     7  the order can still be paid
     8  the customer's factor; whatever becomes of it, the grant is used up
     9  payable: hold and capture in one Change, with the authorization and the receipt; else the attempt is declined
D8   the customer asks for himself what became of his session (`purchase_result.py`)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hanbit.crypto import certificates
from hanbit.db.change import Append, Change, Put, Require, Stale, Value, Within
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Conflict, Declined, ProtocolViolation, TooManyTries, Unavailable
from hanbit.parties import customers, limits
from hanbit.parties.customers import Customer
from hanbit.parties.merchants import Merchant
from hanbit.payments import exchanges, factors, grants, merchant_limits, outbox
from hanbit.payments import payment as payments
from hanbit.payments.apply import Step, apply, still_trusted
from hanbit.payments.authorize import attempt, check_payable, declined_step, still_payable
from hanbit.payments.factors import Approval
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.grants import Grant
from hanbit.payments.halt import check_taken
from hanbit.payments.payment import Payment
from hanbit.payments.sign_in import act
from hanbit.payments.states import Event, InProgress, State
from hanbit.protocols.dual_signature import gateway as role
from hanbit.protocols.dual_signature.digests import split_frame
from hanbit.protocols.dual_signature.gateway import VerifiedDual
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest
from hanbit.protocols.redirect.gateway import Offer
from hanbit.protocols.sealed import Instruction, PurchaseCore
from hanbit.protocols.signed import SignedMessage, peek_chain

DECIDE_TRIES = 5
"""How often a purchase is decided again because the payment, the grant or a balance moved on meanwhile."""
SESSIONS_MAX = 100
"""Sessions of one tid that are answered for ever: an evidence file holds each, and five attempts close the order."""
DECLINED, CLOSED, IN_PROGRESS = "declined", "closed", "in_progress"
"""What a merchant is told of a decline: why is between the customer and the gateway."""
NO_GRANT = "no_grant"

Request = SignedMessage[AuthorizationRequest]


@dataclass(frozen=True, slots=True)
class Purchase:
    """A request whose every part was verified, opened and compared: only the book, the factor and the money are left to decide."""

    request: Request
    dual: VerifiedDual
    instruction: Instruction[PurchaseCore]
    customer: Customer
    grant: Grant
    payment: Payment
    merchant: Merchant


async def authorize_purchase(gateway: Gateway, merchant_id: str, unverified_frame: str) -> str:
    """D7: the answer's frame, approved or declined. ProtocolViolation, InProgress or Unavailable where there is none: nothing changed."""
    unverified_request, unverified_envelope = split_frame(unverified_frame)
    # 1: these very bytes were answered before.
    known = exchanges.answer_to_bytes(gateway, merchant_id, unverified_request)
    if known is not None:
        return known
    # 2: the merchant's own; what it asks costs nothing while payments are halted.
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    request = role.verify_authorization_request(unverified_request, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    with _deciding(gateway, f"{urn} {request.claims.jti}"):
        check_taken(gateway)
        for _ in range(DECIDE_TRIES):
            known = exchanges.answer_in_session(gateway, merchant_id, request)
            if known is not None:
                return known
            if evidence.are_kept(gateway.reader, merchant_id, request.claims.tid, AuthorizationRequest.TYP, SESSIONS_MAX):
                raise ProtocolViolation("used_up", "no more sessions of this order")
            try:
                return await _decide(gateway, merchant_id, request, unverified_envelope)
            except (Stale, Conflict):
                continue
    raise Unavailable("this payment is being changed at this moment")


async def _decide(gateway: Gateway, merchant_id: str, request: Request, unverified_envelope: str) -> str:
    """3 to 9, from what the book shows now. Stale or Conflict where it shows something else by the time of the commit."""
    try:
        purchase = _open(gateway, merchant_id, request, unverified_envelope)
    except ProtocolViolation as error:
        return await _decline_uniformly(gateway, merchant_id, request, error.rule)

    with _deciding(gateway, purchase.grant.grant_hash):
        return await _try(gateway, purchase)


async def _try(gateway: Gateway, purchase: Purchase) -> str:
    """7 to 9: whatever comes of it, session and grant are used up."""
    # 7: an order that has ended, or is being paid by the other checkout, takes no second payment.
    if purchase.payment.state != State.OPEN:
        return await _turn_away(gateway, purchase, told=CLOSED if purchase.payment.is_final else IN_PROGRESS)

    # 8: right factor? Only then: payable? Otherwise the answer would tell a stranger what is in the account.
    approval = None
    try:
        approval = await factors.check(gateway, purchase.customer, purchase.instruction)
        return await _approve(gateway, purchase, approval)
    except TooManyTries:
        return await _turn_away(gateway, purchase, told=DECLINED, reason="factor_waits")
    except Declined as declined:
        return await _decline(gateway, purchase, approval, declined.reason)
    except ProtocolViolation:  # his consent repeats the number of another one, or its key was revoked at this moment
        return await _decline(gateway, purchase, None, "wrong_factor")


def _open(gateway: Gateway, merchant_id: str, request: Request, unverified_envelope: str) -> Purchase:
    """3 to 6, cheap and grant first; ProtocolViolation names what was not met."""
    asked, at = request.claims, gateway.clock.now()
    # 3: who has not asked for it here cannot be charged; without a grant nothing is opened.
    found = payments.find_with_merchant(gateway.reader, merchant_id, asked.tid)
    if found is None or found[0].state != "active" or found[0].orders != "signed":
        raise ProtocolViolation("merchant")
    payment = found[1]
    if payment is None or payment.order_hash != asked.order:
        raise ProtocolViolation("unknown_order")
    live = [grant for grant in grants.live(gateway.reader, merchant_id, asked.tid, at) if grant.order_hash == asked.order]
    if not live:
        raise ProtocolViolation(NO_GRANT)
    # 4: PI opens and names that grant.
    seal = gateway.keyring.seal_by_kid(role.peek_seal_kid(unverified_envelope))
    if seal is None:
        raise ProtocolViolation("sealed")
    instruction = role.open_envelope(unverified_envelope, request, seal)
    grant = grants.named(live, instruction.core.grant)
    customer = None if grant is None else customers.by_id(gateway.reader, grant.customer)
    if grant is None or customer is None:
        raise ProtocolViolation(NO_GRANT)
    # 5: one and the same customer signed the half that is here and the half that the shop keeps.
    dual = role.verify_dual(request, root=gateway.keyring.root, authorities=gateway.registry, gateway=gateway.urn, at=at)
    role.check_halves(asked, dual.message.claims, instruction)
    # 6: what is approved, signed, asked for and ordered is one thing.
    role.compare_purchase(asked, dual, instruction, _ordered(gateway, payment), gateway=gateway.urn, at=at)
    return Purchase(request, dual, instruction, customer, grant, payment, found[0])


async def _approve(gateway: Gateway, purchase: Purchase, approval: Approval) -> str:
    """9: hold and capture, the shop's confirmation, the authorization and the receipt: one Change. Declined where it is not payable."""
    payment, request, at = purchase.payment, purchase.request, gateway.clock.now()
    check_payable(gateway, approval, payment.money)
    unchanged, counted = limits.within(
        gateway.reader, customer=purchase.customer.id, account=approval.account.id, money=payment.money, at=at
    )
    within = merchant_limits.within(gateway, purchase.merchant, payment.money, at)
    authorization = role.make_authorization(request, signer=gateway.signer, payment=payment.id, reason=None, at=at)
    receipt = role.make_receipt(authorization, signer=gateway.signer, customer=gateway.settings.customer_urn, payee=payment.payee, at=at)
    held: dict[str, Value] = {
        "attempts": payment.attempts + 1,
        "customer": purchase.customer.id,
        "account": approval.account.id,
        "method": approval.method,
        "reason": None,
        "sid": request.claims.sid,
    }
    captured: dict[str, Value] = {
        "answer_hash": request.hash,
        "outcome_hash": authorization.hash,
        "receipt_hash": receipt.hash,
        "captured": payment.amount,
        "next_at": None,
    }
    proofs = () if approval.consent is None else (approval.consent,)
    payable = still_payable(purchase.customer.id, approval.account.id, payment.merchant)
    async with merchant_limits.counted_anew(gateway, payment.merchant):
        await apply(
            gateway,
            payment,
            Step(Event.AUTHORIZED, messages=proofs, columns=held, ceiling=within.ceiling),
            Step(Event.MERCHANT_CONFIRMED, messages=(request, authorization, receipt), columns=captured, tell=authorization),
            requires=(*payable, *approval.requires, *unchanged, *within.requires, _still_certified(request)),
            appends=(_attempt(purchase, approval, "held", at), _exchange(purchase, authorization, at)),
            puts=(*approval.puts, *counted, *within.puts, purchase.grant.use(at)),
            within=_while_certified(purchase.dual),
        )
    gateway.observe("purchase", "approved")
    # Told from the outbox too until it is acknowledged, should this answer be lost.
    return role.frame(authorization.compact, receipt.compact)


def _still_certified(request: Request) -> Require:
    """Under the book lock the session authority above the temporary key is not revoked; if it was a moment ago, 5 is not met."""
    return Require("certificates", certificates.kid(peek_chain(request.claims.dual)[1]), "revoked_at", None, Stale("certificates"))


def _while_certified(dual: VerifiedDual) -> Within:
    """Under the book lock the temporary certificate has not ended; if it has while the factor was checked, 5 is not met."""
    return Within(dual.verified_at, dual.good_until, Stale("certificates"))


async def _decline(gateway: Gateway, purchase: Purchase, approval: Approval | None, reason: str) -> str:
    """The attempt is closed, as in the redirect checkout; the order stays open for another one until the fifth closes it."""
    payment, at = purchase.payment, gateway.clock.now()
    authorization = role.make_authorization(purchase.request, signer=gateway.signer, payment=None, reason=DECLINED, at=at)
    step = declined_step(gateway, payment, reason, messages=(purchase.request, authorization))
    await apply(
        gateway,
        payment,
        step,
        appends=(
            _attempt(purchase, approval, reason, at),
            _exchange(purchase, authorization, at, reason),
        ),
        puts=(purchase.grant.use(at),),
    )
    gateway.observe("declined", reason)
    if step.tell is not None:
        await outbox.tell(gateway, payment.merchant, step.tell.compact)
    return authorization.compact


async def _turn_away(gateway: Gateway, purchase: Purchase, *, told: str, reason: str | None = None) -> str:
    """No factor was tried, so this is no attempt; session and grant are used up."""
    at, reason = gateway.clock.now(), reason or told
    authorization = role.make_authorization(purchase.request, signer=gateway.signer, payment=None, reason=told, at=at)
    exchange = _exchange(purchase, authorization, at, reason)
    await _keep(gateway, purchase.request, authorization, (exchange,), purchase.grant.use(at))
    gateway.observe("purchase", reason)
    return authorization.compact


async def _decline_uniformly(gateway: Gateway, merchant_id: str, request: Request, rule: str) -> str:
    """Whatever was not met between 3 and 6 looks the same from outside; what it was stands in the exchange and in the audit."""
    spend_unasked(gateway, merchant_id)
    at = gateway.clock.now()
    authorization = role.make_authorization(request, signer=gateway.signer, payment=None, reason=DECLINED, at=at)
    audit = act(at, request.claims.iss, "purchase", rule, merchant_id, request.claims.tid)
    await _keep(gateway, request, authorization, (exchanges.row(request, authorization, at=at, reason=rule), audit))
    gateway.observe("purchase", rule)
    return authorization.compact


async def _keep(gateway: Gateway, request: Request, answer: SignedMessage[Authorization], rows: tuple[Append, ...], *puts: Put) -> None:
    """Request and answer, where no payment moves."""
    merchant_id = exchanges.merchant_of(request)
    kept = tuple(record(message, merchant=merchant_id, tid=request.claims.tid) for message in (request, answer))
    await gateway.book.commit(Change(requires=tuple(still_trusted(gateway, request, answer)), messages=kept, appends=rows, puts=puts))


@contextmanager
def _deciding(gateway: Gateway, name: str) -> Iterator[None]:
    """A request by its number, and a grant, is decided once at a time: beside itself it would be one more try of the same factor."""
    if name in gateway.deciding:
        raise InProgress("this very purchase is being decided")
    gateway.deciding.add(name)
    try:
        yield
    finally:
        gateway.deciding.discard(name)


def _ordered(gateway: Gateway, payment: Payment) -> Offer:
    """What the merchant once signed as its order, as it stands in the book since a customer opened it."""
    return Offer(
        merchant=payment.merchant,
        merchant_urn=gateway.settings.merchant_urn(payment.merchant),
        tid=payment.tid,
        money=payment.money,
        order_hash=payment.order_hash,
        order=None,
        text=payment.text,
        return_url=payment.return_url,
        pay_by=payment.pay_by,
    )


def _exchange(purchase: Purchase, answer: SignedMessage[Authorization], at: int, reason: str | None = None) -> Append:
    # Not later than the certificate: by it, as it was then, the customer asks what became of his session.
    at = min(at, purchase.dual.good_until)
    return exchanges.row(purchase.request, answer, at=at, reason=reason, payment=purchase.payment.id, thumbprint=purchase.dual.thumbprint)


def _attempt(purchase: Purchase, approval: Approval | None, result: str, at: int) -> Append:
    return attempt(purchase.payment, purchase.customer, purchase.instruction, approval, result, purchase.grant.session, at)
