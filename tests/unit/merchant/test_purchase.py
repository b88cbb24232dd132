"""The shop's side of the dual-signature checkout: one purchase a session, one answer for ever, goods on an approval and on nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import HanbitError, NotFound, ProtocolViolation, TooManyTries, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import purchase as rows
from hanbit.merchant import purchase_desk, sending
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Order
from hanbit.merchant.purchase import SESSIONS_MAX, Exchange, ExchangeState
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import gateway
from hanbit.protocols.dual_signature.customer import Asking
from hanbit.protocols.dual_signature.messages import Dual, OrderInformation, Purchase, SessionRequest
from hanbit.protocols.redirect.gateway import make_closed
from hanbit.protocols.redirect.messages import Inquiry, Notice, Words
from hanbit.protocols.signed import SignedMessage
from tests.protocol.dual_signature.parties import session_authority
from tests.unit.merchant.purchases import PAYMENT, PRICE, Customer, Till, dump, opened
from tests.unit.wallet.parties import AT, bank, forger
from tests.waiting import until


@pytest.fixture
def till() -> Till:
    return Till()


@pytest.fixture
async def shop(tmp_path: Path, till: Till) -> AsyncIterator[Shop]:
    async with opened(tmp_path, till) as shop:
        yield shop


async def exchange_of(shop: Shop, tid: str) -> Exchange:
    (found,) = await shop.book.exchanges(rows.OF_AN_ORDER, tid)
    return found


async def refused(folder: Path, work: Any, error: type[HanbitError], match: str | None = None) -> None:
    """It raises this, and not a row of the book has changed."""
    before = dump(folder)
    with pytest.raises(error, match=match):
        await work
    assert dump(folder) == before


# --- the honest way ---------------------------------------------------------------------------------------------------------------------


async def test_an_approved_purchase_is_paid_delivered_and_acknowledged_like_every_other(tmp_path: Path, till: Till) -> None:
    heard: list[Order] = []

    async def deliver(order: Order) -> None:
        heard.append(order)

    async with opened(tmp_path, till, on_outcome=deliver) as shop:
        customer = await Customer.come(shop, till)
        purchase = await customer.purchase()
        result = await shop.purchase(customer.tid, purchase)
        assert result.result == "approved"
        assert result.receipt is not None
        assert signed.peek_claims(result.receipt)["payment"] == PAYMENT
        order = await shop.wait_outcome(customer.tid, 5)
        assert (order.state, order.payment, order.may_deliver) == (State.SETTLED, PAYMENT, True)
        assert (await shop.deliverable(customer.tid)).outcome is not None
        await until(lambda: heard)
        assert [one.tid for one in heard] == [customer.tid]
        assert till.acknowledged() == [order.outcome]
        kinds = [kept.typ.removeprefix("hanbit-") for kept in await shop.book.messages(customer.tid)]
        assert kinds == ["order", "session", "authorization-request", "authorization"]
        assert [step.event for step in await shop.book.history(customer.tid)] == ["placed", "authorization_requested", "authorized"]


async def test_a_decline_ends_the_attempt_and_the_next_one_may_succeed(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda till, frame: till.decline(frame)
    declined = await shop.purchase(customer.tid, await customer.purchase())
    assert (declined.result, declined.reason, declined.receipt) == ("declined", "declined", None)
    order = await shop.order(customer.tid)
    assert (order.state, order.may_deliver, order.payment) == (State.PLACED, False, None)
    assert till.acknowledged() == []
    till.decide = lambda till, frame: till.approve(frame)
    assert (await shop.purchase(customer.tid, await customer.purchase())).result == "approved"
    assert (await shop.order(customer.tid)).may_deliver


async def test_the_same_session_request_gets_the_same_answer(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    asking = customer.ask()
    first, second = await asyncio.gather(*(shop.open_session(customer.tid, asking.request.compact) for _ in range(2)))
    assert first == second == await shop.open_session(customer.tid, asking.request.compact)


async def test_the_same_purchase_gets_the_same_answer_and_is_asked_once(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    first, second = await asyncio.gather(*(shop.purchase(customer.tid, purchase) for _ in range(2)))
    assert first == second == await shop.purchase(customer.tid, purchase)
    assert first.result == "approved"
    assert len(till.frames) == 1


def _written(folder: Path) -> bytes:
    """The book's file and its log."""
    return b"".join(path.read_bytes() for path in folder.glob("orders.db*"))


async def test_the_envelope_is_gone_as_soon_as_the_answer_is_stored(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    till.decide = lambda *_: None
    assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    assert (await exchange_of(shop, customer.tid)).envelope == purchase.envelope
    parts = [purchase.envelope[at : at + 60].encode() for at in range(0, len(purchase.envelope), 60)]  # no page of the file holds it whole
    assert any(part in _written(tmp_path) for part in parts)
    till.decide = lambda till, frame: till.approve(frame)
    assert (await shop.purchase(customer.tid, purchase)).result == "approved"
    assert (await exchange_of(shop, customer.tid)).envelope is None
    assert not any(part in _written(tmp_path) for part in parts)
    evidence = "".join(kept.compact for kept in await shop.book.messages(customer.tid))
    assert purchase.envelope not in evidence


# --- the shop's own say -------------------------------------------------------------------------------------------------------------------


async def test_what_the_shop_does_not_want_is_asked_of_nobody(tmp_path: Path, till: Till) -> None:
    say: list[Yes | No] = [No("품절", "sold out"), Yes()]

    async def confirm(_: Order) -> Yes | No:
        return say.pop(0)

    async with opened(tmp_path, till, on_confirm=confirm) as shop:
        customer = await Customer.come(shop, till)
        purchase = await customer.purchase()
        before = dump(tmp_path)
        result = await shop.purchase(customer.tid, purchase)
        assert (result.result, result.reason, result.message) == ("declined", "shop_refused", Words(ko="품절", en="sold out"))
        assert (dump(tmp_path), till.frames) == (before, [])
        assert (await shop.purchase(customer.tid, purchase)).result == "approved", "the session is good still, the shop has thought again"


async def test_a_shop_without_the_checkout_and_a_tool_beside_one_take_nothing(tmp_path: Path, till: Till) -> None:
    async with opened(tmp_path, till) as shop:
        customer = await Customer.come(shop, till)
        asking, purchase = customer.ask().request.compact, await customer.purchase()
    async with opened(tmp_path, till, attended=False) as tool:
        await refused(tmp_path, tool.open_session(customer.tid, asking), Unavailable)
        await refused(tmp_path, tool.purchase(customer.tid, purchase), Unavailable)
    assert till.frames == []


# --- D2: whoever asks for a session -------------------------------------------------------------------------------------------------------


async def test_an_order_has_only_so_many_sessions_at_once(tmp_path: Path, till: Till) -> None:
    clock = ManualClock(AT)
    async with opened(tmp_path, till, clock=clock) as shop:
        customer = await Customer.come(shop, till)
        for _ in range(SESSIONS_MAX):
            await shop.open_session(customer.tid, customer.ask().request.compact)
        await refused(tmp_path, shop.open_session(customer.tid, customer.ask().request.compact), TooManyTries)
        await (await Customer.come(shop, till)).session()
        clock.advance(purchase_desk.KEPT_AFTER_S + 601)
        await shop.open_session(customer.tid, customer.ask().request.compact)
        assert len(dump(tmp_path)["sessions"]) == 1, "those that have ended are gone"


def again(asking: Asking, **changes: Any) -> str:
    """The same request saying something else, signed by the same fresh key."""
    return signed.sign_keyed(msgspec.structs.replace(asking.request.claims, **changes), asking.key).compact


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"order": "B" * 43}, "order"),
        ({"aud": ids.urn("bank", "merchant", "other")}, "aud"),
        ({"iss": ids.urn("bank", "gateway")}, "sender"),
        ({"iat": AT + 3600}, "iat"),
        ({"v": 2}, "version"),
    ],
)
async def test_a_session_request_for_another_order_shop_or_time_opens_nothing(
    shop: Shop, till: Till, tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    customer = await Customer.come(shop, till)
    await refused(tmp_path, shop.open_session(customer.tid, again(customer.ask(), **changes)), ProtocolViolation, rule)


async def test_a_session_request_under_another_key_than_it_names_opens_nothing(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    mine, other = customer.ask().request.compact.split("."), customer.ask().request.compact.split(".")
    forged = ".".join((mine[0], mine[1], other[2]))
    await refused(tmp_path, shop.open_session(customer.tid, forged), ProtocolViolation, "signature")


@pytest.mark.parametrize("garbage", ["", ".", "a.b.c", "A" * 40_000, "é", "{}"])
async def test_garbage_opens_and_buys_nothing(shop: Shop, till: Till, tmp_path: Path, garbage: str) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    await refused(tmp_path, shop.open_session(customer.tid, garbage), ProtocolViolation)
    for part in ("oi", "pimd", "dual", "envelope"):
        spoiled = msgspec.structs.replace(purchase, **{part: garbage})
        await refused(tmp_path, shop.purchase(customer.tid, spoiled), ProtocolViolation)
    assert till.frames == []


async def test_a_request_that_opened_a_session_of_one_order_opens_none_of_another(shop: Shop, till: Till, tmp_path: Path) -> None:
    one, other = await Customer.come(shop, till), await Customer.come(shop, till)
    asking = one.ask()
    await shop.open_session(one.tid, asking.request.compact)
    await refused(tmp_path, shop.open_session(other.tid, asking.request.compact), ProtocolViolation, "order")


async def test_no_session_and_no_purchase_of_an_order_that_is_paid_withdrawn_or_not_there(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    late, asking = await customer.purchase(), customer.ask().request.compact
    assert (await shop.purchase(customer.tid, await customer.purchase())).result == "approved"
    await refused(tmp_path, shop.open_session(customer.tid, asking), WrongState)
    await refused(tmp_path, shop.purchase(customer.tid, late), WrongState)
    await refused(tmp_path, shop.checkout(customer.tid), WrongState)
    other = await Customer.come(shop, till)
    taken_back = await other.purchase()
    await shop.withdraw(other.tid)
    await refused(tmp_path, shop.purchase(other.tid, taken_back), WrongState)
    for work in (shop.open_session("x" * 22, asking), shop.purchase("x" * 22, late), shop.checkout("../etc/passwd")):
        await refused(tmp_path, work, NotFound)
    assert len(till.frames) == 1


# --- D5: whoever sends a purchase ---------------------------------------------------------------------------------------------------------


def resigned(purchase: Purchase, key: Any, **changes: Any) -> Purchase:
    """The dual signature saying something else, by the same temporary key."""
    claims = msgspec.structs.replace(msgspec.convert(signed.peek_claims(purchase.dual), Dual), **changes)
    return msgspec.structs.replace(purchase, dual=signed.sign(claims, key).compact)


async def test_a_purchase_whose_halves_were_changed_is_asked_of_nobody(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer, stranger = await Customer.come(shop, till), await Customer.come(shop, till)
    session = await customer.session()
    purchase, second = customer.signed_in(session), customer.signed_in(session)
    foreign = await stranger.purchase()
    change = msgspec.structs.replace
    cheaper = purchase.oi.replace("220000", "2200")
    assert cheaper != purchase.oi
    for spoiled, rule in (
        (change(purchase, oi=cheaper), "oimd"),
        (change(purchase, oi=second.oi), "oimd"),
        (change(purchase, oi=f"{purchase.oi}\ud800"), "oi"),
        (change(purchase, pimd=second.pimd), "pimd"),
        (change(purchase, pimd=msgspec.convert(signed.peek_claims(purchase.dual), Dual).oimd), "pimd"),
        (change(purchase, envelope=foreign.envelope), "sid"),
        (change(purchase, envelope=purchase.envelope + "AAAA" * 8192), "sealed"),
        (change(purchase, dual=foreign.dual), "sid"),
        (foreign, "sid"),
    ):
        await refused(tmp_path, shop.purchase(customer.tid, spoiled), ProtocolViolation, rule)
    assert till.frames == []
    assert (await shop.purchase(customer.tid, purchase)).result == "approved", "what was refused has used nothing up"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"aud": ids.urn("bank", "merchant", "shop")}, "aud"),
        ({"merchant": ids.urn("bank", "merchant", "other")}, "merchant"),
        ({"gateway": ids.urn("otherbank", "gateway")}, "gateway"),
        ({"nc": "B" * 43}, "nc"),
        ({"nm": "B" * 43}, "nm"),
        ({"order": "B" * 43}, "order"),
        ({"tid": "B" * 22}, "tid"),
        ({"prev": "B" * 43}, "prev"),
        ({"exp": AT + 3600}, "exp"),
        ({"oimd": "B" * 43}, "oimd"),
        ({"pimd": "B" * 43}, "pimd"),
        ({"pomd": "B" * 43}, "pomd"),
        ({"sid": "B" * 22}, "sid"),
    ],
)
async def test_a_dual_signature_over_anything_else_is_asked_of_nobody(
    shop: Shop, till: Till, tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    customer = await Customer.come(shop, till)
    session = await customer.session()
    spoiled = resigned(customer.signed_in(session), session.signer, **changes)
    await refused(tmp_path, shop.purchase(customer.tid, spoiled), ProtocolViolation, rule)
    assert till.frames == []


@pytest.mark.parametrize("field", ["tid", "sid", "nc", "nm", "merchant", "gateway", "amount", "currency", "lines"])
async def test_order_information_that_says_something_else_is_asked_of_nobody(shop: Shop, till: Till, tmp_path: Path, field: str) -> None:
    """Signed by the customer's own key: it is the shop's own half that does not agree."""
    customer = await Customer.come(shop, till)
    session = await customer.session()
    said = msgspec.json.decode(customer.signed_in(session).oi, type=OrderInformation)
    other = {"amount": "1", "currency": "USD", "lines": "[]", "merchant": ids.urn("bank", "merchant", "other")}
    value = other.get(field) or {"gateway": ids.urn("otherbank", "gateway")}.get(field) or "B" * len(getattr(said, field))
    oi = msgspec.json.encode(msgspec.structs.replace(said, **{field: value})).decode()
    lied = customer.buying(session, oi)
    await refused(tmp_path, shop.purchase(customer.tid, lied), ProtocolViolation, field)
    assert till.frames == []


async def test_a_used_session_takes_no_other_purchase(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda till, frame: till.decline(frame)
    session = await customer.session()
    assert (await shop.purchase(customer.tid, customer.signed_in(session))).result == "declined"
    other = customer.signed_in(session, "1111")
    await refused(tmp_path, shop.purchase(customer.tid, other), ProtocolViolation, "sid")
    await refused(tmp_path, shop.purchase(customer.tid, msgspec.structs.replace(other, oi="\ud800")), ProtocolViolation, "oi")
    assert len(till.frames) == 1


async def test_a_session_that_has_ended_takes_no_purchase(tmp_path: Path, till: Till) -> None:
    clock = ManualClock(AT)
    async with opened(tmp_path, till, clock=clock) as shop:
        customer = await Customer.come(shop, till)
        purchase = await customer.purchase()
        clock.advance(601)
        await refused(tmp_path, shop.purchase(customer.tid, purchase), ProtocolViolation, "expired")
        assert till.frames == []


async def test_two_purchases_of_one_order_at_once_are_one_attempt(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    purchases = [await customer.purchase() for _ in range(4)]
    results = await asyncio.gather(*(shop.purchase(customer.tid, one) for one in purchases), return_exceptions=True)
    approved = [one for one in results if not isinstance(one, BaseException)]
    assert [one.result for one in approved] == ["approved"]
    assert all(isinstance(one, WrongState) for one in results if isinstance(one, BaseException))
    assert len(till.frames) == 1


# --- D7: what the gateway, or somebody in its place, answers ------------------------------------------------------------------------


def lies(till: Till) -> dict[str, Callable[[str], str]]:
    """Answers that no honest gateway gives to this request."""

    def altered(**changes: Any) -> Callable[[str], str]:
        return lambda frame: till.authorize(frame, **changes).compact

    def by_a_forger(frame: str) -> str:
        claims = till.authorize(frame).claims
        return signed.sign(claims, replace(forger().gateway)).compact

    def of_another_order(frame: str) -> str:
        return till.authorize(frame, tid="B" * 22).compact

    def receipt_of_another(frame: str) -> str:
        approved = till.approve(frame).partition("\n")[0]
        return gateway.frame(approved, till.approve(frame).partition("\n")[2][:-4] + "AAAA")

    return {
        "another order": of_another_order,
        "another sid": altered(sid="B" * 22),
        "another order hash": altered(order="B" * 43),
        "a larger amount": altered(amount="220001"),
        "another currency": altered(currency="USD"),
        "another request": altered(req="B" * 43),
        "another shop": altered(aud=ids.urn("bank", "merchant", "other")),
        "approved without a payment": altered(payment=None),
        "declined with a payment": altered(result="declined"),
        "approved with a reason": altered(reason="declined"),
        "another root": by_a_forger,
        "a receipt that was altered": receipt_of_another,
        "the request itself": lambda frame: frame.partition("\n")[0],
        "three lines": lambda frame: till.approve(frame) + "\n" + till.approve(frame),
        "garbage": lambda _: "a.b.c",
        "oversized": lambda frame: till.authorize(frame).compact + "\n" + "A" * 70_000,
        "a refusal of another request": lambda frame: till.turn_away("x" + frame, "revoked"),
    }


@pytest.mark.parametrize("lie", list(lies(Till())))
async def test_an_answer_to_anything_else_delivers_nothing_and_the_right_one_still_counts(
    shop: Shop, till: Till, tmp_path: Path, lie: str
) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    till.decide = lambda till, frame: lies(till)[lie](frame)
    assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    asked = dump(tmp_path)
    order = await shop.order(customer.tid)
    assert (order.state, order.may_deliver) == (State.REQUESTED, False)
    with pytest.raises(HanbitError):
        await shop.deliverable(customer.tid)
    till.answers.clear()
    assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    assert dump(tmp_path) == asked
    till.answers.clear()
    till.decide = lambda till, frame: till.approve(frame)
    assert (await shop.purchase(customer.tid, purchase)).result == "approved"
    assert len(set(till.frames)) == 1, "the same bytes until they are answered"
    assert (await shop.order(customer.tid)).may_deliver


async def test_declined_and_then_approved_is_declined(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda till, frame: till.decline(frame)
    purchase = await customer.purchase()
    assert (await shop.purchase(customer.tid, purchase)).result == "declined"
    approved = till.authorize(till.frames[0]).compact
    await refused(tmp_path, shop.receive(approved), ProtocolViolation, "answered")
    assert not (await shop.order(customer.tid)).may_deliver
    assert (await shop.purchase(customer.tid, purchase)).result == "declined"


async def test_approved_and_then_declined_or_approved_otherwise_stays_as_it_is(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    await shop.purchase(customer.tid, purchase)
    for other in (till.authorize(till.frames[0], approved=False), till.authorize(till.frames[0], payment="Q" * 22)):
        await refused(tmp_path, shop.receive(other.compact), ProtocolViolation, "answered")
    assert (await shop.order(customer.tid)).payment == PAYMENT


async def test_an_authorization_of_one_attempt_does_not_pay_the_next(shop: Shop, till: Till) -> None:
    """Another session of the same order and amount: only the request tells them apart."""
    customer = await Customer.come(shop, till)
    till.decide = lambda till, frame: till.decline(frame)
    await shop.purchase(customer.tid, await customer.purchase())
    first = till.frames[0]
    till.decide = lambda till, _: till.authorize(first).compact
    assert (await shop.purchase(customer.tid, await customer.purchase())).result == "pending"
    assert not (await shop.order(customer.tid)).may_deliver


@pytest.mark.parametrize("code", sorted(purchase_desk.NOT_NOW))
async def test_what_is_not_decided_yet_is_asked_again_with_the_same_bytes(shop: Shop, till: Till, code: str) -> None:
    customer = await Customer.come(shop, till)
    purchase = await customer.purchase()
    till.decide = lambda till, frame: till.turn_away(frame, code)
    assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    till.decide = lambda till, frame: till.approve(frame)
    shop._on_connected()
    assert (await shop.wait_outcome(customer.tid, 30)).state is State.SETTLED
    assert len(set(till.frames)) == 1


@pytest.mark.parametrize("code", ["certificate_dates", "expired", "revoked", "temporary", "typ"])
async def test_bytes_that_are_refused_for_ever_end_the_attempt(shop: Shop, till: Till, code: str) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda till, frame: till.turn_away(frame, code)
    result = await shop.purchase(customer.tid, await customer.purchase())
    assert (result.result, result.reason) == ("declined", code)
    assert (await shop.order(customer.tid)).state is State.PLACED


# --- answers that come another way --------------------------------------------------------------------------------------------------


async def test_an_approval_that_was_lost_comes_by_being_told_and_is_acknowledged_for_ever(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda *_: None
    purchase = await customer.purchase()
    assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    told = till.authorize(till.frames[0]).compact
    acknowledgement = await shop.receive(told)
    assert acknowledgement is not None
    before = dump(tmp_path)
    assert await shop.receive(told) == acknowledgement
    assert dump(tmp_path) == before
    assert (await shop.order(customer.tid)).may_deliver
    assert (await shop.purchase(customer.tid, purchase)).result == "approved"


async def test_an_approval_that_was_lost_comes_with_the_status(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda *_: None
    assert (await shop.purchase(customer.tid, await customer.purchase())).result == "pending"

    def status(inquiry: SignedMessage[Inquiry]) -> str:
        return till.in_status(inquiry, till.authorize(till.frames[0]).compact)

    till.status = status
    report = await shop.reconcile()
    assert report.ended == ((customer.tid, "settled"),)
    assert (await shop.order(customer.tid)).may_deliver
    assert len(till.acknowledged()) == 1


async def test_nothing_is_believed_that_this_shop_never_asked_for(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda *_: None
    await shop.purchase(customer.tid, await customer.purchase())
    unknown: tuple[dict[str, Any], ...] = ({"sid": "B" * 22}, {"sid": "B" * 22, "tid": "B" * 22})
    for changes in unknown:
        await refused(tmp_path, shop.receive(till.authorize(till.frames[0], **changes).compact), ProtocolViolation, "sid")


async def test_what_was_asked_before_a_stop_is_sent_with_the_same_bytes_after_it(tmp_path: Path, till: Till) -> None:
    heard: list[str] = []

    async def deliver(order: Order) -> None:
        heard.append(order.tid)

    till.decide = lambda *_: None
    async with opened(tmp_path, till, on_outcome=deliver) as shop:
        customer = await Customer.come(shop, till)
        purchase = await customer.purchase()
        assert (await shop.purchase(customer.tid, purchase)).result == "pending"
    till.decide = lambda till, frame: till.approve(frame)
    async with opened(tmp_path, till, on_outcome=deliver) as again:
        again._on_connected()
        assert (await again.wait_outcome(customer.tid, 30)).may_deliver
        await until(lambda: heard)
        assert (await again.purchase(customer.tid, purchase)).result == "approved"
    assert len(set(till.frames)) == 1
    assert heard == [customer.tid]


async def test_an_approval_of_what_the_gateway_had_closed_rests_and_is_for_staff_to_look_at(tmp_path: Path, till: Till) -> None:
    till.decide = lambda *_: None
    till.connected.set()
    async with opened(tmp_path, till) as shop:
        customer = await Customer.come(shop, till)
        purchase = await customer.purchase()
        assert (await shop.purchase(customer.tid, purchase)).result == "pending"
        order_hash = (await shop.order(customer.tid)).order_hash
        closed = make_closed(
            signer=bank().gateway, merchant_urn=bank().shop.urn, tid=customer.tid, order_hash=order_hash, outcome="expired", at=AT
        )
        await shop.receive(closed.compact)
        till.decide = lambda till, frame: till.approve(frame)
        assert (await shop.purchase(customer.tid, purchase)).result == "pending"
        order = await shop.order(customer.tid)
        assert (order.state, order.may_deliver, order.outcome) == (State.CLOSED, False, closed.hash)
        found = (await shop.reconcile()).unresolved
        assert [(one.kind, one.tid, one.reason) for one in found] == [("purchase", customer.tid, "contradiction")]
    sent, asked = len(till.frames), dump(tmp_path)
    async with opened(tmp_path, till) as again:
        again._on_connected()
        assert (await again.purchase(customer.tid, purchase)).result == "pending"
        assert (len(till.frames), dump(tmp_path)) == (sent, asked), "it rests, after a restart too"
        with pytest.raises(ProtocolViolation):
            await again.receive(till.authorize(till.frames[0]).compact)
        assert [one.kind for one in (await again.reconcile()).unresolved] == ["purchase"]
        await again.receive(till.authorize(till.frames[0], approved=False).compact)
        assert ((await again.reconcile()).unresolved, (await again.purchase(customer.tid, purchase)).result) == ((), "declined")


async def test_pauses_grow_and_the_bytes_stay(tmp_path: Path, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LOOK_S", 0.005)
    clock = ManualClock(AT)
    till.decide = lambda *_: None
    async with opened(tmp_path, till, clock=clock) as shop:
        customer = await Customer.come(shop, till)
        await shop.purchase(customer.tid, await customer.purchase())
        for pause in (2, 4, 8, 16, 30, 30):
            tries = len(till.frames)
            clock.advance(pause)
            await until(lambda: len(till.frames) > tries)  # noqa: B023 - awaited here
    assert len(set(till.frames)) == 1


# --- beside the other checkout and after it -----------------------------------------------------------------------------------------------


async def test_an_order_whose_purchase_is_decided_is_neither_withdrawn_nor_cancelled(shop: Shop, till: Till, tmp_path: Path) -> None:
    customer = await Customer.come(shop, till)
    till.decide = lambda *_: None
    await shop.purchase(customer.tid, await customer.purchase())
    await refused(tmp_path, shop.withdraw(customer.tid), WrongState)
    await refused(tmp_path, shop.cancel(customer.tid, reason="sold out"), WrongState)


async def test_a_notice_of_the_redirect_checkout_is_confirmed_while_a_purchase_waits(shop: Shop, till: Till) -> None:
    """The gateway lets one attempt through: where it gives notice, the other was not approved."""
    customer = await Customer.come(shop, till)
    till.decide = lambda *_: None
    purchase = await customer.purchase()
    await shop.purchase(customer.tid, purchase)
    order = await shop.order(customer.tid)
    common = signed.head(bank().gateway, bank().shop.urn, AT)
    figures: dict[str, Any] = {"tid": order.tid, "amount": PRICE.text, "currency": "KRW", "order": order.order_hash}
    notice = signed.sign(Notice(**common, **figures, payment=PAYMENT, prev=order.order_hash, exp=AT + 600), bank().gateway)
    answer = await shop.receive(notice.compact)
    assert signed.peek_typ(answer or "") == "hanbit-confirmation"
    till.decide = lambda till, frame: till.decline(frame)
    assert (await shop.purchase(customer.tid, purchase)).result == "declined"
    assert (await shop.order(customer.tid)).state is State.CONFIRMED
    assert (await exchange_of(shop, customer.tid)).state is ExchangeState.DECLINED


async def test_a_paid_purchase_is_cancelled_with_its_payment_and_its_outcome(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    await shop.purchase(customer.tid, await customer.purchase())
    order = await shop.order(customer.tid)
    till.decide = lambda *_: None
    asked = await shop.cancel(customer.tid, amount=Money(1000, "KRW"), reason="a scratch")
    claims = signed.peek_claims((await shop.book.message(asked.message)).compact)
    assert (claims["payment"], claims["prev"], claims["remaining"]) == (PAYMENT, order.outcome, "220000")


async def test_the_button_is_the_gateways_and_the_address_the_same_orders(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    shown = await shop.checkout(customer.tid)
    assert shown.script == "https://pay.localhost:8400/button.js"
    assert shown.redirect == (await shop.redirect(customer.tid)).location
    assert shown.order in shown.redirect


def test_the_session_authority_of_these_tests_is_the_shops() -> None:
    assert SessionRequest.SENDER == "customer"
    assert session_authority().content.urn.text == ids.urn("bank", "authority", "session:shop")
