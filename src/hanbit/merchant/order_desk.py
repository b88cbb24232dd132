"""Where orders are made: numbered, signed, durable before the customer leaves (R2, R3); withdrawn or replaced while nobody pays."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Conflict, NotFound, Unavailable, WrongState
from hanbit.merchant.changes import Place, Stale, Withdraw
from hanbit.merchant.files import Registration
from hanbit.merchant.order import NewOrder, Order, owner_hash
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.purchase import Checkout
from hanbit.merchant.states import State
from hanbit.protocols.redirect.merchant import Merchant, hash_lines
from hanbit.protocols.redirect.messages import plain_order_hash
from hanbit.protocols.signed import encode_der, peek_kid

PAY_BY_S: Final = 30 * 60
"""protocol.md, Deadlines: an order can be begun to be paid for 30 minutes."""
DECIDED_S: Final = 15 * 60
"""… and is final at the latest 15 minutes after that."""
BUTTON: Final = "/button.js"
"""The script of the button, on the gateway's own site."""
TRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Redirect:
    """R3: answer the customer's order with `303 See Other` and this Location."""

    tid: str
    location: str


class OrderDesk:
    """Makes orders for one registration and puts them into the book."""

    def __init__(
        self,
        *,
        registration: Registration,
        role: Merchant,
        book: OrderBook,
        clock: Clock,
        chain_of: Callable[[str], tuple[bytes, ...]] | None = None,
    ) -> None:
        """`chain_of` knows the chain of each key that ever signed an order here (by kid); without it only the one in use is known."""
        self._registration = registration
        self._role = role
        self._book = book
        self._clock = clock
        self._chain_of = chain_of or (lambda _: role.signer.chain)

    async def order(self, tid: str) -> Order:
        """The order as the book holds it now; NotFound where there is none."""
        order = await self._book.order(tid) if ids.TID.fullmatch(tid) else None
        if order is None:
            raise NotFound("no such order")
        return order

    async def place(self, new: NewOrder, language: str | None) -> Redirect:
        """R2, R3; the same `request_key` with the same content gives the same order, with other content it is a Conflict."""
        if new.request_key is not None:
            existing = await self._book.order_by_request_key(new.request_key)
            if existing is not None:
                return await self._again(existing, new, language)
        place = self._make(new)
        try:
            await self._book.commit(place)
        except Stale:  # the same request was under way beside this one
            existing = await self._book.order_by_request_key(new.request_key or "")
            if existing is None:
                raise Unavailable("the order was placed meanwhile; ask again") from None
            return await self._again(existing, new, language)
        return self._address(place.order, place.message.compact if place.message is not None else None, language)

    async def replace(self, tid: str, new: NewOrder, language: str | None) -> Redirect:
        """Another order in the place of one that is not being paid yet, in one commit."""
        if new.request_key is not None:
            existing = await self._book.order_by_request_key(new.request_key)
            if existing is not None:
                return await self._again(existing, new, language)
        place = self._make(new)
        await self.withdraw(tid, place)
        return self._address(place.order, place.message.compact if place.message is not None else None, language)

    async def withdraw(self, tid: str, replacement: Place | None = None) -> Order:
        """Take back an order that is not being paid yet; WrongState once it is."""
        for _ in range(TRIES_MAX):
            order = await self.order(tid)
            try:
                await self._book.commit(Withdraw(tid, order.version, replacement, self._clock.now()))
            except Stale:
                continue
            return await self.order(tid)
        raise Unavailable("the order changed three times meanwhile")

    async def redirect(self, tid: str, language: str | None) -> Redirect:
        """R3 once more for an order that is still open; WrongState once it was answered."""
        order = await self.order(tid)
        if order.state is not State.PLACED:
            raise WrongState(f"the order is {order.state}")
        return self._address(order, await self.signed_order(order), language)

    async def checkout(self, tid: str) -> Checkout:
        """D1: what the button needs of an order that is still open; WrongState once it was answered, and in plain form."""
        order = await self.order(tid)
        message = await self.signed_order(order)
        if message is None:
            raise WrongState("orders in plain form are paid by redirect alone")
        if order.state is not State.PLACED:
            raise WrongState(f"the order is {order.state}")
        return Checkout(
            script=urlunsplit((*urlsplit(self._registration.pay_url)[:2], BUTTON, "", "")),
            order=message,
            merchant_chain=[encode_der(der) for der in self._chain_of(peek_kid(message))],
            lines=order.lines_json,
            lines_salt=order.salt,
            redirect=self._address(order, message, None).location,
        )

    async def signed_order(self, order: Order) -> str | None:
        """The order's own signed message; None in plain form."""
        messages = [kept.compact for kept in await self._book.messages(order.tid) if kept.hash == order.order_hash]
        return messages[0] if messages else None

    async def _again(self, order: Order, new: NewOrder, language: str | None) -> Redirect:
        if not new.same_as(order):
            raise Conflict("this request_key was used for another order")
        return self._address(order, await self.signed_order(order), language)

    def _address(self, order: Order, message: str | None, language: str | None) -> Redirect:
        fields = {"MID": self._registration.merchant_id, "TID": order.tid, "AMOUNT": order.amount.text, "CUR": order.amount.currency}
        if message is not None:
            fields["ORDER"] = message
        if language is not None:
            fields["lang"] = language
        return Redirect(order.tid, f"{self._registration.pay_url}?{urlencode(fields)}")

    def _make(self, new: NewOrder) -> Place:
        at = self._clock.now()
        tid, salt, lines = ids.new_tid_of(at), secrets.token_bytes(32), new.lines_json
        plain = self._role.plain
        message = None
        if plain:
            order_hash = plain_order_hash(self._registration.merchant_id, tid, new.total.text, new.total.currency)
        else:
            message = self._role.make_order(
                tid=tid,
                amount=new.total,
                oi=hash_lines(salt, lines.encode()),
                text=new.text,
                return_url=new.return_url,
                pay_by=at + PAY_BY_S,
                refund_by=new.refund_by,
                at=at,
            )
            order_hash = message.hash
        order = Order(
            tid=tid,
            version=1,
            state=State.PLACED,
            plain=plain,
            amount=new.total,
            text=new.text,
            return_url=new.return_url,
            lines_json=lines,
            salt=ids.encode_base64url(salt),
            order_hash=order_hash,
            request_key=new.request_key,
            owner=owner_hash(new.owner),
            placed_at=at,
            pay_by=at + PAY_BY_S,
            # In plain form the gateway's own 30 minutes begin only when the customer first sends something sealed.
            answer_until=at + PAY_BY_S + DECIDED_S + (PAY_BY_S if plain else 0),
            changed_at=at,
        )
        return Place(order, message, at)
