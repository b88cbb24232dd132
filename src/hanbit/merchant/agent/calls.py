"""What each address of the agent does: one method a call, from validated structs to structs."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable, WrongState
from hanbit.kernel.money import parse_money
from hanbit.merchant import cancellation as cancellations
from hanbit.merchant.agent import shapes
from hanbit.merchant.agent.acts import Act, possible
from hanbit.merchant.agent.delivery import Courier
from hanbit.merchant.agent.faults import CustomerMessage, NoEndpoint
from hanbit.merchant.agent.outbox import Outbox, TrialData, rfc_3339
from hanbit.merchant.agent.settings import TEST
from hanbit.merchant.cancellation import Cancellation, Goods
from hanbit.merchant.console_desk import shown
from hanbit.merchant.gateway_line import GatewayLine
from hanbit.merchant.order import Order, owner_hash
from hanbit.merchant.shop import Redirect, Shop
from hanbit.merchant.states import Event
from hanbit.protocols.console import CallBack
from hanbit.protocols.dual_signature.messages import Purchase

WAITS_MAX: Final = 256
"""Calls that wait for an outcome at once; one more is told to come again."""
_log = logging.getLogger("hanbit.merchant.agent")


@dataclass(frozen=True, slots=True)
class Call:
    """One request after every check: the id in its path, its query and body, and the number under which a write is done once."""

    id: str = ""
    query: Any = None
    body: Any = None
    work: str = ""


class Calls:
    """The shop and its outbox, as the API sees them."""

    def __init__(self, shop: Shop, outbox: Outbox, couriers: list[Courier], clock: Clock) -> None:
        self._shop = shop
        self._outbox = outbox
        self._couriers = couriers
        self._clock = clock
        self._test = shop.registration.test
        self._waits = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Whoever waits for an outcome is answered now, with the order as it stands."""
        self._stopping.set()

    # --- orders -----------------------------------------------------------------------------------------------------------------------

    async def place(self, call: Call) -> shapes.Placed:
        """R2, R3."""
        asked: shapes.NewOrder = call.body
        return await self._placed(await self._shop.create_order(**asked.shop_order, request_key=call.work))

    async def replace(self, call: Call) -> shapes.Placed:
        """Another order in place of one that is not being paid yet."""
        asked: shapes.NewOrder = call.body
        return await self._placed(await self._shop.replace_order(call.id, **asked.shop_order, request_key=call.work))

    async def orders(self, call: Call) -> shapes.OrderList:
        """The newest first."""
        query: shapes.OrdersQuery = call.query
        orders, following = await self._shop.book.listed(owner_hash(query.owner), query.state, query.limit, query.before)
        at = self._clock.now()
        found: dict[str, list[Cancellation]] = {}
        for one in await self._shop.book.cancellations(
            cancellations.OF_ORDERS, msgspec.json.encode([order.tid for order in orders]).decode()
        ):
            found.setdefault(one.tid, []).append(one)
        return shapes.OrderList(
            orders=[shapes.order_row(order, found.get(order.tid, ()), at, test=self._test) for order in orders], next=following
        )

    async def order(self, call: Call) -> shapes.OrderView:
        """As the book has it, or as soon as its outcome is there."""
        query: shapes.OrderQuery = call.query
        if query.wait == 0:
            return await self.view(await self._shop.order(call.id))
        if self._waits >= WAITS_MAX:
            raise Unavailable("too many wait for outcomes")
        self._waits += 1
        try:
            return await self.view(await self._wait(call.id, query.wait))
        finally:
            self._waits -= 1

    async def redirect(self, call: Call) -> shapes.Redirected:
        """R3 once more."""
        query: shapes.RedirectQuery = call.query
        redirect = await self._shop.redirect(call.id, language=query.language)
        return shapes.Redirected(tid=redirect.tid, redirect=redirect.location)

    async def withdraw(self, call: Call) -> shapes.OrderView:
        """An order that was taken back already is taken back: the answer to the first request may have been lost."""
        try:
            order = await self._shop.withdraw(call.id)
        except WrongState:
            order = await self._shop.order(call.id)
            steps = await self._shop.book.history(call.id)
            if order.replaced_by is not None or all(step.event != Event.WITHDRAWN for step in steps):
                raise
        return await self.view(order)

    async def inquire(self, call: Call) -> shapes.Inquired:
        """RQ, now."""
        status = await self._shop.inquire(call.id)
        return shapes.Inquired(gateway_state=status.state, order=await self.view(await self._shop.order(call.id)))

    async def messages(self, call: Call) -> shapes.MessageList:
        """The shop's half of the evidence."""
        order = await self._shop.order(call.id)
        return shapes.MessageList(
            messages=[
                shapes.MessageView(
                    number=kept.number, at=kept.at, direction=kept.direction, typ=kept.typ, hash=kept.hash, message=kept.compact
                )
                for kept in await self._shop.book.messages(order.tid)
            ]
        )

    async def view(self, order: Order) -> shapes.OrderView:
        """The whole order, with the message that its outcome names."""
        outcome = None
        if order.outcome is not None:
            outcome = next((kept.compact for kept in await self._shop.book.messages(order.tid) if kept.hash == order.outcome), None)
        at, cancellations = self._clock.now(), await self._shop.cancellations(order.tid)
        checkout = None
        if Act.PAY in possible(order, cancellations, at) and not order.plain:
            with suppress(WrongState, Unavailable):  # paid at this moment, or its certificate is not here: there is the redirect
                checkout = await self._shop.checkout(order.tid)
        return shapes.order_view(order, cancellations, outcome, checkout, at, test=self._test)

    # --- the dual-signature checkout ----------------------------------------------------------------------------------------------------

    async def open_session(self, call: Call) -> shapes.SessionOpened:
        """D2, D3."""
        asked: shapes.NewSession = call.body
        with _from_a_customer():
            opened = await self._shop.open_session(call.id, asked.session_request)
        return shapes.SessionOpened(session=opened.session, certificate=list(opened.certificate))

    async def buy(self, call: Call) -> shapes.Bought:
        """D5 to D8."""
        asked: shapes.NewPurchase = call.body
        with _from_a_customer():
            done = await self._shop.purchase(call.id, Purchase(oi=asked.oi, pimd=asked.pimd, dual=asked.dual, envelope=asked.envelope))
        message = None if done.message is None else shapes.BothWords(ko=done.message.ko, en=done.message.en)
        return shapes.Bought(result=done.result, reason=done.reason, receipt=done.receipt, message=message)

    # --- cancellations ------------------------------------------------------------------------------------------------------------------

    async def cancel(self, call: Call) -> shapes.Cancelled:
        """C1: durable before it is sent; answered with the payment server's word where that comes at once."""
        asked: shapes.NewCancellation = call.body
        order = await self._shop.order(call.id)
        amount = None if asked.amount is None else parse_money(asked.amount, order.amount.currency)
        done = await self._shop.cancel(order.tid, amount=amount, reason=asked.reason, request_key=call.work, goods=asked.goods)
        return shapes.Cancelled(cancellation=shapes.cancellation_view(done), order=await self.view(await self._shop.order(order.tid)))

    async def cancellations(self, call: Call) -> shapes.CancellationList:
        """The oldest first."""
        order = await self._shop.order(call.id)
        return _cancellation_list(await self._shop.cancellations(order.tid))

    async def returned(self, call: Call) -> shapes.CancellationList:
        """What the customer had has come back; told twice, it has come back."""
        order = await self._shop.order(call.id)
        try:
            return _cancellation_list(await self._shop.mark_goods_returned(order.tid))
        except WrongState:
            found = await self._shop.cancellations(order.tid)
            if all(one.goods is not Goods.RETURNED for one in found):
                raise
            return _cancellation_list(found)

    # --- the line and the agent itself --------------------------------------------------------------------------------------------------

    async def line(self, _call: Call) -> shapes.LineView:
        """Whether customers can pay now."""
        line = self._shop.line
        up = line is not None and line.connected.is_set()
        strange = 0 if self._shop.keys is None else len(self._shop.keys.alarms)
        known = line if isinstance(line, GatewayLine) else None
        round_trip_s = known.round_trip_s if known is not None and up else None
        return shapes.LineView(
            up=up,
            down_reason=None if up else "no line" if known is None else known.down_reason,
            stopped=self._shop.stopped,
            strange_certificates=strange,
            offset_s=None if known is None else known.offset_s,
            round_trip_ms=None if round_trip_s is None else round(round_trip_s * 1000, 3),
        )

    async def health(self, _call: Call) -> shapes.Health:
        """The agent answers."""
        line = self._shop.line
        return shapes.Health(agent="up", test=self._test, line="up" if line is not None and line.connected.is_set() else "down")

    # --- call-backs -----------------------------------------------------------------------------------------------------------------------

    async def endpoints(self, _call: Call) -> shapes.EndpointList:
        """What agent.toml registers."""
        return await self._outbox.overview()

    async def deliveries(self, call: Call) -> shapes.DeliveryList:
        """The delivery log."""
        return await self._outbox.log(call.query)

    async def resend_delivery(self, call: Call) -> shapes.DeliveryView:
        """Send an event again now."""
        await self.resend(call.id)
        return await self._outbox.delivery(call.id)

    async def send_test(self, call: Call) -> shapes.DeliveryList:
        """Send a test event."""
        asked: shapes.TrialAsked = call.body
        made = await self._put_test(call.work, asked.endpoint)
        return shapes.DeliveryList(deliveries=[await self._outbox.delivery(one) for one in made], next=None)

    # --- what the merchants' console asks; see console_desk.py --------------------------------------------------------------------------

    async def latest(self, limit: int) -> list[CallBack]:
        """The newest events, without the addresses that they go to."""
        return [_call_back(one) for one in (await self._outbox.log(shapes.DeliveriesQuery(limit=limit))).deliveries]

    async def resend(self, delivery: str) -> None:
        """Send an event again now; NotFound where there is none."""
        await self._outbox.resend(delivery)
        self.ring()

    async def test(self, subject: str) -> None:
        """A test event to every endpoint; NoEndpoint where there is none."""
        await self._put_test(subject, None)

    def ring(self) -> None:
        """There is something to send."""
        for courier in self._couriers:
            courier.ring()

    async def _put_test(self, subject: str, only: str | None) -> list[str]:
        if not any(only in (None, courier.endpoint.name) for courier in self._couriers):
            raise NoEndpoint("there is no such endpoint" if only else "there is no endpoint")
        made = await self._outbox.put(
            TEST, subject=subject, tid=None, data=TrialData(test=subject, at=rfc_3339(self._clock.now())), only=only
        )
        self.ring()
        return made

    # --- inside ---------------------------------------------------------------------------------------------------------------------------

    async def _placed(self, redirect: Redirect) -> shapes.Placed:
        order = await self.view(await self._shop.order(redirect.tid))
        return shapes.Placed(tid=redirect.tid, redirect=redirect.location, order=order)

    async def _wait(self, tid: str, seconds: float) -> Order:
        """Until the outcome is there, the time is over or the agent stops, whatever comes first."""
        waiting = asyncio.create_task(self._shop.wait_outcome(tid, seconds))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else await self._shop.order(tid)
        finally:
            for task in (waiting, stopping):
                task.cancel()
            ended = await asyncio.gather(waiting, stopping, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception) and not isinstance(error, HanbitError):
                    _log.error("a wait for an outcome failed", exc_info=error)


@contextmanager
def _from_a_customer() -> Iterator[None]:
    """What breaks a rule here came through the shop from whoever sat in front of its page, not from the payment server."""
    try:
        yield
    except ProtocolViolation as violation:
        raise CustomerMessage(violation.rule) from violation


def _cancellation_list(found: list[Cancellation]) -> shapes.CancellationList:
    return shapes.CancellationList(cancellations=[shapes.cancellation_view(one) for one in found])


def _call_back(one: shapes.DeliveryView) -> CallBack:
    last = one.attempts[0] if one.attempts else None
    return CallBack(
        delivery=one.id,
        endpoint=one.endpoint,
        type=one.type,
        tid=one.tid,
        state=one.state,
        created_at=one.created_at,
        next_at=one.next_at,
        tries=len(one.attempts),
        last_status=None if last is None else last.status,
        last_error=None if last is None or last.error is None else shown(last.error.partition(":")[0]),
    )
