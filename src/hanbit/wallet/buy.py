"""The dual-signature checkout as a customer goes through it from a terminal, from the shop's relay to the verified receipt (D1 to D8).

    wallet, opened, enrolment = await Wallet.visit(checkout.redirect, …)      D1  the order, verified against the pinned root as at R4
    lines  = shown_lines(opened, checkout)                                     D1  what is bought, as the signed order stands for it
    screen = await wallet.login(opened, login_id, password)                    D4  the gateway's own login
    outcome = await buy(wallet, opened, relay, lines, factor, account=…)       D2 to D8

Only what proves itself counts. A receipt does; whatever else the shop says or keeps to itself, the gateway is asked by the key that bought.
"""

import asyncio
from typing import Final

import msgspec

from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.protocols.dual_signature import customer
from hanbit.protocols.dual_signature.customer import OpenSession
from hanbit.protocols.dual_signature.messages import Purchase
from hanbit.protocols.fields import Token
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.signed import SignedMessage
from hanbit.wallet.client import decode
from hanbit.wallet.pay import Device, Factor, OneTimeCode, Opened, Outcome, Wallet
from hanbit.wallet.relay import DishonestShop, Relay, ShopCheckout, ShopRefused, ShopResult

ASKED_MAX: Final = 15
"""How often shop and gateway are asked, two seconds apart, before the outcome is called unknown."""
UNKNOWN: Final = "unknown"
"""The gateway has not heard of the session: the shop has not passed the purchase on."""


class _Granted(msgspec.Struct, frozen=True):
    grant: Token


def shown_lines(opened: Opened, checkout: ShopCheckout) -> str:
    """D1: the lines, if they are those of the very order that was opened; DishonestShop else."""
    if opened.opening.redirect.order != checkout.order:
        raise DishonestShop("order", "the shop's address opens another order than it shows")
    try:
        return customer.verify_lines(opened.opening, checkout.lines, checkout.lines_salt)
    except ProtocolViolation as error:
        raise DishonestShop(error.rule, error.detail) from error


async def buy(wallet: Wallet, opened: Opened, relay: Relay, lines: str, factor: Factor, *, account: str = "", number: str = "") -> Outcome:
    """One attempt, by one key and one session of its own; the account is one of those shown, or a typed number.

    Outcome.state is captured (with the verified receipt), open (declined, `reason` says why), closed, or unknown.
    """
    if bool(account) is bool(number):
        raise BadInput("choose one account, or type one number")
    asking = customer.make_session_request(opened.opening, at=wallet.now())
    answer = await relay.session(asking.request.compact)
    try:
        session = customer.verify_session(answer, asking, pin=wallet.pin, at=wallet.now())
    except ProtocolViolation as error:
        raise DishonestShop(error.rule, error.detail) from error
    grant = decode(await wallet.client.post("/pay/grant", {**opened.body(), "key": opened.sealing.key}), _Granted).grant
    purchase = _purchase(wallet, session, lines, grant, factor, account=account, number=number)
    return await _result(wallet, relay, session, purchase)


def _purchase(wallet: Wallet, session: OpenSession, lines: str, grant: str, factor: Factor, *, account: str, number: str) -> Purchase:
    """D5: OI for the shop, PI for the gateway alone, one signature over both."""
    salt = None
    if number:
        account, salt = redirect.typed_number(number)
    oi = customer.make_order_information(session, lines)
    core = customer.make_core(session, account=account, grant=grant, oi=oi)
    if isinstance(factor, Device):
        auth = redirect.auth_device(session.opening, core, factor.signer, wallet.now())
    elif isinstance(factor, OneTimeCode):
        auth = customer.auth_code(core, factor.secret)
    else:
        auth = redirect.auth_password(factor.value)
    return customer.make_purchase(session, oi=oi, core=core, auth=auth, at=wallet.now(), number=number or None, number_salt=salt)


async def _result(wallet: Wallet, relay: Relay, session: OpenSession, purchase: Purchase) -> Outcome:
    """D8: hand the purchase over until the gateway knows of it; the same bytes each time, which are answered alike."""
    outcome = Outcome("", UNKNOWN, None)
    for asked in range(ASKED_MAX):
        if asked:
            await asyncio.sleep(wallet.poll_s)
        told, receipt = await _shops_word(wallet, relay, session, purchase)
        if receipt is not None:
            return _paid(receipt)
        try:
            outcome = await _ask_gateway(wallet, session)
        except Unavailable:
            continue
        if outcome.state != UNKNOWN:
            break
        if told is not None and told.result == "declined":
            # The shop does not want the order, and the gateway has not been asked: there is nothing to wait for.
            return Outcome("", UNKNOWN, told.reason, unverified_words="" if told.message is None else told.message.en)
    return outcome


async def _shops_word(
    wallet: Wallet, relay: Relay, session: OpenSession, purchase: Purchase
) -> tuple[ShopResult | None, SignedMessage[Receipt] | None]:
    """What the shop says, and the gateway's receipt as it hands it on; None for what cannot be read or proves nothing."""
    told = None
    try:
        told = await relay.purchase(purchase)
        if told.receipt is not None:
            return told, customer.verify_receipt(told.receipt, session, pin=wallet.pin, at=wallet.now())
    except (ProtocolViolation, ShopRefused, Unavailable):
        return told, None  # what became of it the gateway says
    return told, None


async def _ask_gateway(wallet: Wallet, session: OpenSession) -> Outcome:
    request = customer.make_result_request(session, at=wallet.now())
    unverified = await wallet.client.post_compact("/purchase/result", request.compact, "application/jose")
    claims = customer.verify_result(unverified, request, session, pin=wallet.pin, at=wallet.now()).claims
    if claims.receipt is not None:
        return _paid(customer.verify_receipt(claims.receipt, session, pin=wallet.pin, at=wallet.now()))
    if claims.state == "approved":
        raise ProtocolViolation("receipt", "approved without a receipt")
    return Outcome("", "open" if claims.state == "declined" else claims.state, claims.reason)


def _paid(receipt: SignedMessage[Receipt]) -> Outcome:
    return Outcome(receipt.claims.payment, "captured", None, unverified_receipt=receipt.compact, receipt=receipt)
