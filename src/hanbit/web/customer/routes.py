"""Every address of the customers' site. A handler reads the form, lets the flow decide, and shows the page of the true state.

GET  /pay                      R4   login screen and certificate (14, 16), or the opening as JSON
POST /pay/login                R5   PBkb(SK), SK(ID, password) (18)
POST /pay/screen               R6   payment screen (20) for a live session
POST /pay/submit               R7   SK(PI, TID, AMOUNT) (22), to R12
POST /pay/cancel                    the customer's Cancel
GET  /payments/{id}            R12  receipt (28), or the page of whatever state it is in (50, 62)
GET  /payments/{id}/state           the state as JSON, for whoever waits
GET  /payments/{id}/receipt         the signed receipt
     /enrol/…, /passkeys…           see enrolment.py
     /window…, /button.js           see window.py
     /my…                         see home.py
"""

from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hanbit.crypto.keys import public_point
from hanbit.db.change import Change, Stale
from hanbit.evidence import store as evidence
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Declined, NotFound, NotSignedIn, Unavailable, WrongState
from hanbit.kernel.money import Money, parse_money
from hanbit.parties import sessions
from hanbit.parties.merchants import Merchant
from hanbit.parties.visits import Whence, whence
from hanbit.payments import merchant_limits, redirect_flow, views
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import RETRY_S, PaymentsHalted, why_halted
from hanbit.payments.open_order import NotOpened, Opening, open_order, reopen
from hanbit.payments.payment import Payment
from hanbit.payments.redirect_flow import Shown, SignedIn
from hanbit.payments.sign_in import sign_in
from hanbit.payments.states import FINAL, State
from hanbit.web.assets import Assets
from hanbit.web.card import Card
from hanbit.web.customer.forms import KeyForm, LoginForm, OpeningForm, PayForm, read_form, read_query
from hanbit.web.customer.outcomes import PAGES, OrderCard, ReceiptCard, page_of
from hanbit.web.faults import json_response, language_of, visit_of, wants_page
from hanbit.web.pages import Language, Pages
from hanbit.web.security import session_token, set_session

PAGE_LIFE_S: Final = 15 * 60
"""The page starts with so much time and offers the rest of its keys' life once."""
LINE_DOWN_RETRY_S: Final = 30
_TOLD_AS: Final = {"unknown_account": "wrong_factor"}
"""Declines that are told in other words than they are counted: an account that is not there looks like a wrong password."""


class CustomerFace:
    """The handlers; they hold nothing but the gateway and the pages."""

    def __init__(self, gateway: Gateway) -> None:
        root = x509.load_der_x509_certificate(gateway.keyring.root).public_key()
        assert isinstance(root, EllipticCurvePublicKey)
        self.gateway = gateway
        self.assets = Assets(gateway_urn=gateway.urn, root_point=public_point(root))
        self.pages = Pages(Card(gateway), self.assets, gateway.settings.zone)

    @property
    def origin(self) -> str:
        """The only origin whose writes are taken."""
        parts = urlsplit(self.gateway.settings.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/pay/submit", self.submit_payment, methods=["POST"]),  # first: routes are looked through in order
            Route("/pay", self.open_page),
            Route("/pay/login", self.log_in, methods=["POST"]),
            Route("/pay/screen", self.show_screen, methods=["POST"]),
            Route("/pay/cancel", self.cancel_payment, methods=["POST"]),
            Route("/payments/{id}", self.payment_page),
            Route("/payments/{id}/state", self.payment_state),
            Route("/payments/{id}/receipt", self.payment_receipt),
            Route("/static/{version}/{name:path}", self.assets.serve),
        ]

    async def open_page(self, request: Request) -> Response:
        """R4: opening it writes nothing."""
        query = read_query(request.scope["query_string"])
        try:
            opening = open_order(
                self.gateway, mid=query["MID"], tid=query["TID"], amount=query["AMOUNT"], currency=query["CUR"], order=query["ORDER"]
            )
        except NotOpened as error:
            await redirect_flow.keep_second_order(self.gateway, error)
            if not wants_page(request):
                raise
            order = _card_of_address(error.merchant, query["TID"], parse_money(query["AMOUNT"], query["CUR"]))
            return self._outcome(request, "not_opened", order, status=error.status, reference=True)
        payment = opening.payment
        if payment is not None and State(payment.state) not in PAGES["login"]:
            return self._to_payment(request, payment)
        order = card_of_opening(opening)
        if self.gateway.clock.now() > opening.pay_by:
            if not wants_page(request):
                raise WrongState("the time to pay for this order has passed")
            return self._outcome(request, "expired_order", order)
        not_now = await self.not_now(request, opening, order)
        if not_now is not None:
            return not_now
        shown = self.shown_opening(request, opening)
        if not wants_page(request):
            return json_response(shown)
        return HTMLResponse(self.pages.render("pay.html", visit_of(request, self.pages), order=order, opening=shown))

    async def not_now(self, request: Request, opening: Opening, order: OrderCard) -> Response | None:
        """Said before any password is typed: more than this shop may take at once, payments are halted, or the line to the shop is down."""
        try:
            merchant_limits.check_payment(opening.merchant, opening.offer.money)
        except Declined as declined:
            await merchant_limits.note_above(self.gateway, opening)
            if not wants_page(request):
                raise
            return self._outcome(request, "merchant_limit", order, status=declined.status, reference=True)
        error: Unavailable
        if why_halted(self.gateway.reader) is not None:
            outcome, error = "halted", PaymentsHalted(retry_after_s=RETRY_S)
        elif not self.gateway.line.connected(opening.merchant.id):
            outcome, error = "line_down", Unavailable("the line to this shop is down", retry_after_s=LINE_DOWN_RETRY_S)
        else:
            return None
        if not wants_page(request):
            raise error
        response = self._outcome(request, outcome, order, status=error.status, try_again=_here(request))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    async def log_in(self, request: Request) -> Response:
        """R5, R6: a right login answers with the payment screen and a fresh session."""
        form = await read_form(request, LoginForm)
        opening = self.reopened(form)
        token, customer = await sign_in(
            self.gateway, opening, unverified_key=form.key, unverified_login=form.login, whence=whence_of(request)
        )
        who = redirect_flow.signed_in(self.gateway, token)
        assert who.customer.id == customer.id
        response = json_response({"screen": self._screen(request, opening, who)})
        set_session(response, token)
        return response

    async def show_screen(self, request: Request) -> Response:
        """R6 for a live session: what a customer who has logged in, and every reload, gets at once."""
        form = await read_form(request, OpeningForm)
        who = await self.signed_in(request)
        return json_response({"screen": self._screen(request, self.reopened(form), who)})

    async def submit_payment(self, request: Request) -> Response:
        """R7 to R12: may this page act in this state? The flow answers with the payment in its true state, whatever was sent."""
        form = await read_form(request, PayForm)
        who = await self.signed_in(request)
        opening = self.reopened(form, any_state=True)
        shown = await redirect_flow.pay(self.gateway, opening, who, unverified_key=form.key, unverified_pay=form.pay)
        return self._answer(request, shown, who)

    async def cancel_payment(self, request: Request) -> Response:
        """The customer's Cancel; whoever runs the payment program on this order may, because an unpaid order is nobody's yet."""
        form = await read_form(request, KeyForm)
        who, opening = self.visitor(request), self.reopened(form, any_state=True)
        payment = await redirect_flow.cancel(self.gateway, opening, unverified_key=form.key, is_signed_in=who is not None)
        return self._answer(request, Shown(payment), who)

    async def payment_page(self, request: Request) -> Response:
        """R12 and every other end: the page of the true state."""
        payment, view = self._find(request)
        page = page_of(State(payment.state), payment.reason, owner=view is not None)
        if not wants_page(request):
            return json_response(_facts(payment, owner=view is not None))
        if page == "login":
            return RedirectResponse(self._address_of(payment, request), 303)
        if view is None:
            return self._outcome(request, page, _card_of_stranger(payment), watch=page == "in_progress")
        order = _card_of_view(view)
        if page != "receipt":
            # Page 62 has the document's own words; what the shop says itself is shown where the shop itself refuses.
            words = view.refusal_message if page == "refused" and view.refusal_message is not None else {}
            message = words.get(language_of(request, self.pages).code)
            return self._outcome(request, page, order, message=message, watch=page == "in_progress")
        receipt = ReceiptCard(
            payment=payment.id,
            kind=view.account_kind or "bank",
            customer_name=view.customer_name or "",
            masked=view.account_masked or "",
            time=payment.ended_at or payment.opened_at,
            signed=view.signed,
            offer_passkey=payment.method != "passkey",
            refunded=Money(payment.refunded, payment.currency) if payment.refunded else None,
        )
        return HTMLResponse(self.pages.render("receipt.html", visit_of(request, self.pages), order=order, receipt=receipt))

    async def payment_state(self, request: Request) -> Response:
        """What the page that waits asks every two seconds."""
        payment, view = self._find(request)
        if view is not None and State(payment.state) not in FINAL:
            await self.signed_in(request)  # whoever waits for the shop's answer is here, and shall see his receipt
        facts = _facts(payment, owner=view is not None)
        return json_response({name: facts[name] for name in ("state", "reason", "final")})

    async def payment_receipt(self, request: Request) -> Response:
        """The signed receipt (28), for the payment's own customer only."""
        payment, view = self._find(request)
        receipt = None if view is None else views.receipt(self.gateway, payment)
        if receipt is None:
            raise NotFound("no such receipt")
        name = f'attachment; filename="hanbit-receipt-{payment.id}.jws"'
        return Response(receipt, media_type="application/jose", headers={"Content-Disposition": name})

    def reopened(self, form: OpeningForm, *, any_state: bool = False) -> Opening:
        """The opening that a form brings back in clear, verified again; WrongState where its payment has moved on."""
        opening = reopen(self.gateway, mid=form.merchant_id, tid=form.tid, amount=form.amount, order=form.order, keys=form.keys)
        if opening.payment is not None:
            structlog.contextvars.bind_contextvars(payment=opening.payment.id)
        if not any_state and opening.payment is not None and State(opening.payment.state) not in PAGES["payment"]:
            raise WrongState("this payment has moved on")
        return opening

    async def signed_in(self, request: Request) -> SignedIn:
        """The live session, kept alive by this request."""
        who = redirect_flow.signed_in(self.gateway, session_token(request))
        touched = sessions.touch(who.session, self.gateway.clock.now())
        if touched is not None:
            with suppress(Stale):  # another request of this session has kept it alive already
                await self.gateway.book.commit(Change(puts=(touched,)))
        return who

    def visitor(self, request: Request) -> SignedIn | None:
        """Who has a live session, if anybody."""
        try:
            return redirect_flow.signed_in(self.gateway, session_token(request))
        except NotSignedIn:
            return None

    def _find(self, request: Request) -> tuple[Payment, views.PaymentView | None]:
        try:
            payment_id = ids.check(ids.TOKEN, request.path_params["id"], "id")
        except BadInput as error:
            raise NotFound("no such payment") from error
        who = self.visitor(request)
        view, payment = views.payment_view(self.gateway, payment_id, None if who is None else who.customer.id)
        if payment is None:
            raise NotFound("no such payment")
        structlog.contextvars.bind_contextvars(payment=payment.id)
        return payment, view

    def shown_opening(self, request: Request, opening: Opening) -> dict[str, Any]:
        """R4's object, which the payment program verifies."""
        offer, merchant = opening.offer, opening.merchant
        operator = self.pages.operator.in_language(language_of(request, self.pages).code)
        return {
            "gateway": self.gateway.urn,
            "operator": {name: operator[name] for name in ("id", "name", "telephone")},
            "merchant": {"id": merchant.id, "urn": offer.merchant_urn, "name": merchant.name, "telephone": merchant.telephone},
            "tid": offer.tid,
            "amount": offer.money.text,
            "currency": offer.money.currency,
            "text": offer.text,
            "order": "" if offer.order is None else offer.order.compact,
            "order_hash": offer.order_hash,
            "keys": opening.keys.compact,
            "merchant_chain": [] if offer.order is None else self.gateway.registry.chain_texts(offer.order.kid),
            "signed_in": self.visitor(request) is not None,
            "expires_at": min(opening.keys.claims.iat + PAGE_LIFE_S, opening.pay_by),
        }

    def _screen(self, request: Request, opening: Opening, who: SignedIn) -> dict[str, Any]:
        expires_at = min(opening.keys.claims.exp, opening.pay_by)
        screen = views.screen(self.gateway, who.customer.id, who.customer.name, opening.offer.money.currency, expires_at)
        html = self.pages.fragment(
            "payment.html",
            language_of(request, self.pages),
            order=card_of_opening(opening),
            customer_name=who.customer.name,
            accounts=screen["accounts"],
            passkeys=screen["passkeys"],
            expires_at=expires_at,
        )
        return {**screen, "html": html}

    def _answer(self, request: Request, shown: Shown, who: SignedIn | None) -> Response:
        payment = shown.payment
        owner = who is not None and payment.customer == who.customer.id
        state, reason = State(payment.state), payment.reason
        html = None
        if state is State.OPEN and reason is not None:
            language = language_of(request, self.pages)
            reason = _TOLD_AS.get(reason, reason)
            html = self.decline(language, reason)
        elif state is State.AUTHORIZED:
            html = self.pages.fragment("progress.html", language_of(request, self.pages), money=payment.money)
        return json_response(
            {
                "payment": payment.id,
                "state": State.OPEN if state is State.NEW else state,
                "reason": reason if owner or state is State.OPEN else None,
                "receipt": (shown.receipt or views.receipt(self.gateway, payment)) if owner else None,
                "next": return_address(payment.return_url, payment.tid) if state is State.NEW else f"/payments/{payment.id}",
                "html": html,
            }
        )

    def decline(self, language: Language, reason: str) -> str:
        """Why an account or factor was not taken, in words that do not say which of them was wrong."""
        reason = _TOLD_AS.get(reason, reason)
        return self.pages.fragment("decline.html", language, reason=reason if f"decline.{reason}" in language.words else "other")

    def _outcome(
        self,
        request: Request,
        outcome: str,
        order: OrderCard,
        *,
        status: int = 200,
        message: str | None = None,
        watch: bool = False,
        try_again: str | None = None,
        reference: bool = False,
    ) -> Response:
        page = self.pages.render(
            "outcome.html",
            visit_of(request, self.pages),
            outcome=outcome,
            order=order,
            message=message,
            watch=request.url.path if watch else None,
            try_again=try_again,
            reference=request.state.reference if reference else None,
        )
        return HTMLResponse(page, status)

    def _to_payment(self, request: Request, payment: Payment) -> Response:
        language = request.query_params.get("lang")
        return RedirectResponse(f"/payments/{payment.id}" + (f"?lang={language}" if language else ""), 303)

    def _address_of(self, payment: Payment, request: Request) -> str:
        """R3's address of a payment that is still open, from what the book holds."""
        order = evidence.compact(self.gateway.reader, payment.merchant, payment.tid, payment.order_hash)
        pairs = {"MID": payment.merchant, "TID": payment.tid, "AMOUNT": payment.money.text, "CUR": payment.currency}
        pairs |= {} if order is None else {"ORDER": order}
        pairs |= {"lang": language_of(request, self.pages).code} if "lang" in request.query_params else {}
        return f"/pay?{urlencode(pairs)}"


def return_address(url: str, tid: str) -> str:
    """The shop's page with the tid and nothing that the shop could take for an outcome."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'TID': tid})}"


def _here(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}"


def _facts(payment: Payment, *, owner: bool) -> dict[str, Any]:
    return {
        "payment": payment.id,
        "state": payment.state,
        "reason": _TOLD_AS.get(payment.reason or "", payment.reason) if owner else None,
        "final": State(payment.state) in FINAL,
        "tid": payment.tid,
        "amount": payment.money.text,
        "currency": payment.currency,
        "refunded": str(payment.refunded) if owner else "0",
    }


def whence_of(request: Request) -> Whence:
    """From where a request comes, as coarse as it is remembered."""
    return whence(request.headers.get("user-agent", ""), request.client.host if request.client is not None else "")


def card_of_opening(opening: Opening) -> OrderCard:
    """What a page says about an order that was opened."""
    offer, merchant = opening.offer, opening.merchant
    back = return_address(offer.return_url, offer.tid)
    return OrderCard(merchant.name, merchant.telephone, offer.money, offer.text, offer.tid, back)


def _card_of_address(merchant: Merchant, tid: str, money: Money) -> OrderCard:
    """An order that was not opened: nothing but what the address said, and the shop's registered place to return to."""
    return OrderCard(merchant.name, merchant.telephone, money, "", tid, return_address(merchant.return_url, tid))


def _card_of_view(view: views.PaymentView) -> OrderCard:
    payment = view.payment
    back = return_address(payment.return_url, payment.tid)
    return OrderCard(view.merchant_name, view.merchant_telephone, payment.money, payment.text, payment.tid, back)


def _card_of_stranger(payment: Payment) -> OrderCard:
    """What anybody who knows the address may see: no person, no account, no lines."""
    return OrderCard(payment.payee, "", payment.money, "", payment.tid, return_address(payment.return_url, payment.tid))
