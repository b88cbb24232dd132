"""`Shop`: what a shop installs. It makes orders, answers the gateway's notices and keeps every word in its order book.

    async with Shop.open(Path("my-shop"), on_confirm=in_stock, on_outcome=deliver) as shop:
        redirect = await shop.create_order(lines=[Line("IM-1100", 1, 220_000)], total=Money(220_000, "KRW"), text="IM-1100",
                                           return_url="https://shop.example/orders")
        # 303 See Other, Location: redirect.location; later, in a handler or a page:
        order = await shop.wait_outcome(redirect.tid, timeout_s=20)
        if order.may_deliver: …

Bytes from outside have one entrance, `receive`; nothing that an order's state depends on goes round its checks, and `may_deliver` is true
only once a settled message that continues this shop's own confirmation, or an authorization that answers its request, was verified and is
durable.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from hanbit.kernel.clock import Clock, SystemClock
from hanbit.kernel.errors import ProtocolViolation, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import cancellation as cancellations
from hanbit.merchant import control, files
from hanbit.merchant.cancel_desk import CancellationDesk
from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.changes import MarkReturned
from hanbit.merchant.console_desk import ConsoleDesk, ConsoleTerms
from hanbit.merchant.following import clock_of, take_up
from hanbit.merchant.handlers import OnConfirm, OnOutcome, OnRefund, OutcomeDesk
from hanbit.merchant.identity import Identity
from hanbit.merchant.inbox import Inbox
from hanbit.merchant.inquiries import Inquiries
from hanbit.merchant.key_desk import KeyDesk
from hanbit.merchant.line import LineToGateway
from hanbit.merchant.line_parts import LineParts
from hanbit.merchant.order import Line, NewOrder, Order, owner_hash
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.order_desk import OrderDesk, Redirect
from hanbit.merchant.purchase import Checkout, PurchaseResult
from hanbit.merchant.purchase_desk import Issuing, PurchaseDesk
from hanbit.merchant.reconciliation import Progress, Reconciliation, Report
from hanbit.merchant.records import OwnCertificate
from hanbit.merchant.witness import Witness, is_checkpoint
from hanbit.protocols.cancellation.merchant import Merchant as CancellingMerchant
from hanbit.protocols.dual_signature.messages import Purchase, SessionAnswer
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.redirect.messages import Status

__all__ = ["Redirect", "Shop"]


class Shop:
    """One merchant at one gateway; `open` is for shops, the plain constructor for those who bring their own parts."""

    def __init__(
        self,
        *,
        registration: files.Registration,
        role: Merchant,
        book_path: Path,
        on_confirm: OnConfirm | None = None,
        on_outcome: OnOutcome | None = None,
        on_refund: OnRefund | None = None,
        attended: bool = True,
        clock: Clock | None = None,
        issuing: Issuing | None = None,
        chain_of: Callable[[str], tuple[bytes, ...]] | None = None,
        console: ConsoleTerms | None = None,
    ) -> None:
        """`issuing` is the shop's part in the dual-signature checkout, without which it takes redirects alone."""
        self.registration = registration
        self.line: LineToGateway | None = None
        self.keys: KeyDesk | None = None
        """Renewal, certificates in this shop's name, lists of the revoked; None where somebody else sees to them."""
        self._role = role
        self._clock = clock or SystemClock()
        self.book = OrderBook(book_path, lambda outcomes, at: role.make_acknowledgement(outcomes, at=at))
        self._orders = OrderDesk(registration=registration, role=role, book=self.book, clock=self._clock, chain_of=chain_of)
        self._inquiries = Inquiries(
            role=role, book=self.book, orders=self._orders, clock=self._clock, line=lambda: self.line, inbox=lambda: self._inbox
        )
        is_told = on_outcome is not None or on_refund is not None
        self._desk = OutcomeDesk(self.book, on_outcome, on_refund, self._clock) if is_told else None
        # A tool beside the shop takes no outcome out of the hands of the shop's own handler.
        has_outcome_handler = on_outcome is not None or not attended
        self._cancelling = CancellationDesk(
            role=lambda: CancellingMerchant(self._role.signer, self._role.gateway, self._role.trust),
            book=self.book,
            clock=self._clock,
            line=lambda: self.line,
            has_outcome_handler=has_outcome_handler,
            tells_refunds=on_refund is not None or not attended,
            on_struck=self._on_ended,
            on_refunded=self._ring,
        )
        self._purchases = PurchaseDesk(
            issuing=issuing,
            orders=self._orders,
            book=self.book,
            clock=self._clock,
            line=lambda: self.line,
            on_confirm=on_confirm,
            has_outcome_handler=has_outcome_handler,
            attended=attended,
            on_ended=self._on_ended,
            on_unproven=lambda _tid: self._reconciliation.ring(),
        )
        self._reconciliation = Reconciliation(
            book=self.book,
            clock=self._clock,
            inquire=self._inquiries.inquire,
            may_inquire=self._inquiries.may_inquire,
            is_up=lambda: self.line is not None and self.line.connected.is_set(),
            desk=self._cancelling,
            has_outcome_handler=has_outcome_handler,
            on_ended=self._on_ended,
        )
        self.console = ConsoleDesk(role=role, book=self.book, clock=self._clock, cancel=self.cancel, order=self.order, terms=console)
        """What the merchants' console at the gateway may ask of this shop."""
        self._inbox = Inbox(
            role=role,
            book=self.book,
            clock=self._clock,
            on_confirm=on_confirm,
            has_outcome_handler=has_outcome_handler,
            on_ended=self._on_ended,
            desk=self._cancelling,
            purchases=self._purchases,
            attended=attended,
            # The gateway is to say under its present key what it stored.
            on_unproven=lambda _tid: self._reconciliation.ring(),
            on_keys=self._on_keys,
            console=self.console,
        )
        self.witness = Witness(
            book=self.book,
            signer=lambda: role.signer,
            trust=role.trust,
            gateway=registration.gateway,
            operator=registration.operator,
            clock=self._clock,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        on_confirm: OnConfirm | None = None,
        on_outcome: OnOutcome | None = None,
        on_refund: OnRefund | None = None,
        on_alarm: Callable[[OwnCertificate], None] | None = None,
        attended: bool = True,
        dial: bool = True,
        post_listen: tuple[str, int] | None = None,
        clock: Clock | None = None,
        console_cancellations: ConsoleTerms | None = None,
    ) -> AsyncIterator[Self]:
        """Open an enrolled folder and keep the private line up, and its keys renewed, while the `async with` lasts.

        `on_refund` hears of each part of a settled order that has gone back. `on_alarm` hears of a certificate in this shop's name
        that it never asked for: somebody else could speak for it. `attended` is False for a tool that works on the folder while the
        shop's own program is stopped: it answers no new notice and leaves the outcomes to the shop's handler. With `post_listen`
        (host, port) the gateway's frames are taken by HTTPS POST too, at the address that the operator has registered. `dial` is
        False for a shop that has only that, and for a tool that asks nothing of the gateway. With `console_cancellations` the
        shop's people may cancel and refund in the merchants' console, within these limits.
        """
        identity = Identity.load(directory)
        role = identity.merchant()
        async with cls(
            registration=identity.registration,
            role=role,
            book_path=directory / files.ORDER_BOOK,
            on_confirm=on_confirm,
            on_outcome=on_outcome,
            on_refund=on_refund,
            attended=attended,
            clock=clock_of(identity.registration, clock or SystemClock()),
            issuing=None if role.plain else identity.issuing(),
            chain_of=identity.chain_of,
            console=console_cancellations,
        ) as shop:
            clock = await take_up(shop._clock, shop.book)
            if not dial and post_listen is None:
                yield shop
                return
            parts = LineParts(
                identity.registration,
                identity.root,
                identity.signer,
                identity.line_tls,
                identity.trust,
                clock,
                on_request=shop.receive,
                on_connected=lambda _: shop._on_connected(),
                checkpoint=lambda: shop.witness.compact,
            )
            shop.keys = KeyDesk(identity, shop.book, role.make_acknowledgement, clock=clock, on_alarm=on_alarm)
            async with parts.opened(dial=dial, post_listen=post_listen) as line:
                shop.line = line
                async with shop.keys.at_work(line), control.listening(directory, shop):
                    yield shop

    async def __aenter__(self) -> Self:
        await self.witness.load()
        if self._desk is not None:
            self._desk.start()
        self._cancelling.sender.start()
        self._purchases.sender.start()
        self._reconciliation.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._reconciliation.stop()
        await self._purchases.sender.stop()
        await self._cancelling.sender.stop()
        if self._desk is not None:
            await self._desk.stop()
        await self.book.close()

    # --- what the shop does -----------------------------------------------------------------------------------------------------------

    async def create_order(
        self,
        *,
        lines: Sequence[Line],
        total: Money,
        text: str,
        return_url: str,
        owner: str | None = None,
        request_key: str | None = None,
        refund_by: int | None = None,
        language: Literal["ko", "en"] | None = None,
    ) -> Redirect:
        """R2, R3: number the order, sign it, make it durable, and say where the customer goes.

        `text` is what the payment page shows, at most 200 characters; the lines stay in the shop. `owner` is whose order it is in the
        shop's own terms (its browser session, an account): the return page is bound to it. The same `request_key` with the same content
        gives the same order, with other content it is a Conflict.
        """
        return await self._orders.place(NewOrder(lines, total, text, return_url, refund_by, request_key, owner), language)

    async def replace_order(
        self,
        tid: str,
        *,
        lines: Sequence[Line],
        total: Money,
        text: str,
        return_url: str,
        owner: str | None = None,
        request_key: str | None = None,
        refund_by: int | None = None,
        language: Literal["ko", "en"] | None = None,
    ) -> Redirect:
        """Change an order that is not being paid yet: a signed order is never edited, so another takes its place in the same commit.

        `request_key` as in `create_order`: the same change asked for again gives the order that it made.
        """
        return await self._orders.replace(tid, NewOrder(lines, total, text, return_url, refund_by, request_key, owner), language)

    async def withdraw(self, tid: str) -> Order:
        """Take back an order that is not being paid yet; a later notice for it is refused. WrongState once it was confirmed."""
        return await self._orders.withdraw(tid)

    async def redirect(self, tid: str, *, language: Literal["ko", "en"] | None = None) -> Redirect:
        """R3 once more for an order that is still open: the same bytes to the same address. WrongState once it was answered."""
        return await self._orders.redirect(tid, language)

    async def checkout(self, tid: str) -> Checkout:
        """D1: what the button on the shop's page needs of an order that is still open; WrongState once it was answered.

        The shop's own server passes this, and what the customer's window sends and gets (`open_session`, `purchase`), on as it is.
        """
        return await self._orders.checkout(tid)

    async def open_session(self, tid: str, session_request: str) -> SessionAnswer:
        """D2, D3: a session for the customer's fresh key; the same request gets the same answer.

        ProtocolViolation names what is wrong with a request, WrongState says that no payment of this order is taken, TooManyTries that it
        has its sessions already: then nothing has changed.
        """
        return await self._purchases.open_session(tid, session_request)

    async def purchase(self, tid: str, purchase: Purchase) -> PurchaseResult:
        """D5 to D8: checked with the shop's own half, asked of the gateway, answered with its word, or `pending` while there is none.

        The same purchase gets the same answer. ProtocolViolation names the check that a purchase failed: then nobody was asked anything.
        Goods go out as after a redirect: `on_outcome` is called, `may_deliver` is true, once the gateway's approval is verified and stored.
        """
        return await self._purchases.buy(tid, purchase)

    async def order(self, tid: str) -> Order:
        """The order as the book holds it now; NotFound where there is none."""
        return await self._orders.order(tid)

    async def orders_of(self, owner: str, limit: int = 50) -> list[Order]:
        """The newest orders of an owner."""
        return await self.book.orders_of_owner(owner_hash(owner) or "", limit)

    async def deliverable(self, tid: str) -> Order:
        """The order if, and only if, its settled message is verified and stored; else WrongState: deliver nothing."""
        order = await self.order(tid)
        if not order.may_deliver:
            raise WrongState(f"the order is {order.state}, not settled")
        return order

    async def cancel(
        self,
        tid: str,
        *,
        amount: Money | None = None,
        reason: str,
        request_key: str | None = None,
        goods: bool = True,
    ) -> Cancellation:
        """C1: take back all that is left of an order, or a part of what was paid; returns once that is answered, or durable and on its way.

        Before the payment the order is withdrawn and closed; after it the money goes back where it came from. One cancellation of an order
        is open at a time (WrongState for a second one), and the same `request_key` gives the same cancellation. The order is struck
        (`cancelled`), or less is left of it, only once the gateway's signed confirmation is stored. `goods` is False where nothing is to
        come back from the customer, as after a download. WrongState where nothing was or can be paid, or more is asked than is left.
        """
        return await self._cancelling.ask(tid, amount=amount, reason=reason, request_key=request_key, goods=goods)

    async def cancellation(self, cancellation_id: str) -> Cancellation:
        """The cancellation of this id as it stands now, or the one that took its place; NotFound where there is none."""
        return await self._cancelling.latest(cancellation_id)

    async def cancellations(self, tid: str) -> list[Cancellation]:
        """Every cancellation of an order, the oldest first."""
        return await self.book.cancellations(cancellations.OF_AN_ORDER, tid)

    async def mark_goods_returned(self, tid: str) -> list[Cancellation]:
        """What was delivered under the cancelled order has come back; WrongState where nothing is awaited."""
        await self.order(tid)
        await self.book.commit(MarkReturned(tid, self._clock.now()))
        return await self.cancellations(tid)

    async def wait_outcome(self, tid: str, timeout_s: float) -> Order:
        """Return once the order is final, else as it stands after `timeout_s`.

        Unless it is final already the gateway is asked (RQ): at the first wait for it, then with growing pauses, however often a page asks.
        """
        return await self._inquiries.wait(tid, timeout_s)

    async def inquire(self, tid: str) -> Status:
        """RQ: ask the gateway what became of this tid; a stored outcome in its answer goes the way of every outcome."""
        return (await self._inquiries.inquire(tid)).claims

    async def reconcile(self, progress: Progress | None = None) -> Report:
        """Ask about every order that has no outcome and send every open cancellation; what could not be ended is listed with advice.

        A Shop does the same by itself, when its line comes up and every ten minutes, for orders that nobody can be paying any more.
        """
        return await self._reconciliation.report(progress)

    async def receive(self, unverified: str) -> str | None:
        """The one entrance of bytes from the gateway, and what to send back; see `Inbox.receive`, of checkpoints `Witness.receive`."""
        if is_checkpoint(unverified):
            await self.witness.receive(unverified, self._ask)
            return None
        return await self._inbox.receive(unverified)

    @property
    def stopped(self) -> str | None:
        """Why nothing of the gateway's is believed at this moment (its list of revoked certificates is too old); None if all is well."""
        return None if self.keys is None else self.keys.lists.fault(self._clock.now())

    # --- inside -----------------------------------------------------------------------------------------------------------------------

    async def _ask(self, request: str) -> str:
        if self.line is None:
            raise Unavailable("no line to the gateway")
        return await self.line.ask(request)

    def _on_ended(self, tid: str) -> None:
        self._inquiries.on_ended(tid)
        self._ring()
        self._cancelling.on_ended(tid)

    def _ring(self) -> None:
        if self._desk is not None:
            self._desk.ring()

    def _on_connected(self) -> None:
        self._cancelling.sender.ring()
        self._purchases.sender.ring()
        self._reconciliation.ring()
        if self.keys is not None:
            self.keys.ring()

    async def _on_keys(self, typ: str, unverified: str) -> str | None:
        if self.keys is None:
            raise ProtocolViolation("typ", "this shop's keys are seen to elsewhere")
        return await self.keys.receive(typ, unverified)
