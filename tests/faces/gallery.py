"""GALLERY: every page in every state worth looking at, a line each: what tests of pages walk and `make screenshots` takes pictures of.

A new page needs its line here, or `test_every_page_is_in_the_gallery` fails:

    operator("payouts", "/payouts", "admin")                    name of its pictures, address, who is signed in
    customer("receipt", "/payments/{captured}", "hong")         {…} is one of `stage.things`
    customer("login-error", "/pay?{order}", then=_empty_login)  `then` is what is done on the page before it is looked at
    customer("line-down", "/pay?{order}", given=_line_down, status=503)   `given` holds while it is looked at

`{order}` is the query of an order that nobody has paid, a new one for each visit.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from msgspec.structs import replace
from playwright.async_api import Page, Route, expect

from hanbit.db.change import Change
from hanbit.parties import sessions, visits
from hanbit.payments import halt, merchant_limits
from tests.faces.site import ACCOUNT_PASSWORD
from tests.faces.stage import CUSTOMER, LONG_CUSTOMER, OTHER_CUSTOMER, Stage

Then = Callable[[Page, Stage], Awaitable[None]]
Given = Callable[[Stage], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Entry:
    """One page in one state."""

    face: str
    name: str
    path: str
    who: str = ""
    then: Then | None = None
    given: Given = lambda _stage: nullcontext()
    status: int = 200
    script: bool = True

    @property
    def whole_name(self) -> str:
        """The name of its pictures, without language and device."""
        return f"{self.face}-{self.name}"

    def address(self, stage: Stage) -> str:
        """Path and query on this stage."""
        things = stage.things | ({"order": stage.order()} if "{order}" in self.path else {})
        return self.path.format_map(things)


# --- what is done on a page before it is looked at --------------------------------------------------------------------------------------


async def _see_login(page: Page, _stage: Stage) -> None:
    await expect(page.locator("#login")).to_be_visible()


async def _no_account(page: Page, stage: Stage) -> None:
    await _see_login(page, stage)
    await page.locator("details summary").click()


async def _empty_login(page: Page, stage: Stage) -> None:
    await _see_login(page, stage)
    await page.locator("#login-form button[type=submit]").click()
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _wrong_login(page: Page, stage: Stage) -> None:
    await _see_login(page, stage)
    await page.locator("#login-id").fill("nobody")
    await page.locator("#login-password").fill("wrong")
    await page.locator("#login-form button[type=submit]").click()
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _see_screen(page: Page, _stage: Stage) -> None:
    await expect(page.locator("#pay-form")).to_be_visible()


async def _other_account(page: Page, stage: Stage) -> None:
    await _see_screen(page, stage)
    await page.locator("#account-other").check()
    await page.locator("#pay-form button.pay").click()
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _pay_with(page: Page, stage: Stage, kind: str) -> None:
    await _see_screen(page, stage)
    await page.locator(f"input[name=account][value='{stage.things[f'account_{kind}']}']").check()
    await page.locator("#account-password").fill(ACCOUNT_PASSWORD)
    await page.locator("#pay-form button.pay").click()


async def _declined(page: Page, stage: Stage) -> None:
    await _pay_with(page, stage, "emoney")
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _waiting(page: Page, stage: Stage) -> None:
    """The bank has the payment and no answer has come: the page waits in place."""
    await page.route("**/pay/submit*", _never)
    await _pay_with(page, stage, "bank")
    await expect(page.locator("#progress")).to_be_visible()


async def _never(_route: Route) -> None:
    """Leave a request without an answer."""


async def _passkey_offer(page: Page, _stage: Stage) -> None:
    await page.evaluate("document.querySelectorAll('#passkey-offer, [data-print]').forEach((one) => { one.hidden = false; })")


async def _altered(page: Page, stage: Stage) -> None:
    """Somebody between shows another amount than the one that was signed."""

    async def alter(route: Route) -> None:
        async with stage.consoles.http.get(route.request.url, headers=await route.request.all_headers()) as answer:
            headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
            await route.fulfill(status=answer.status, headers=headers, body=(await answer.text()).replace("220,000", "22,000"))

    await page.route("**/pay?*", alter)
    await page.reload()
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _time_warning(page: Page, stage: Stage) -> None:
    await page.clock.install()
    await page.reload()
    await _see_login(page, stage)
    await page.clock.fast_forward("13:01")
    await expect(page.locator("#time-warning")).to_be_visible()


async def _time_over(page: Page, stage: Stage) -> None:
    await _time_warning(page, stage)
    await page.clock.fast_forward("02:00")
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _window_alone(page: Page, _stage: Stage) -> None:
    await expect(page.locator("#notice [role=alert]")).to_be_visible()


async def _open_details(page: Page, _stage: Stage) -> None:
    """Of the page itself: the menu is folded, too, where there is no room for it."""
    await page.locator("main details summary").first.click()


async def _nothing_typed(page: Page, _stage: Stage) -> None:
    """The form as it comes back when nothing was filled in."""
    await page.locator("main form[method=post] button[type=submit].plain:visible").first.click()
    await expect(page.locator(".summary")).to_be_visible()


async def _what_is_wrong(page: Page, stage: Stage) -> None:
    """The form as it comes back with what was typed and cannot be: each field as far as it is one for text."""
    for field in await page.locator("main form[method=post] input:not([type=hidden]):not([type=date]), main form textarea").all():
        if await field.is_editable() and await field.get_attribute("type") in (None, "text", "url", "tel"):
            await field.fill("가나다 <b>1,2.3</b>")
    await _nothing_typed(page, stage)


async def _code_shown(page: Page, _stage: Stage) -> None:
    """The form is sent, and its answer shows once what is shown only once."""
    await page.locator("main textarea, main input[name=reason]").first.fill("담당자가 바뀜")
    await page.locator("main form[method=post] button[type=submit].plain:visible").first.click()
    await expect(page.locator(".secret-link")).to_be_visible()


async def _dark(page: Page, _stage: Stage) -> None:
    await page.emulate_media(color_scheme="dark")


async def _printed(page: Page, _stage: Stage) -> None:
    await page.emulate_media(media="print")


# --- what holds while a page is looked at ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _line_down(stage: Stage) -> AsyncIterator[None]:
    stage.shop.up = False
    try:
        yield
    finally:
        stage.shop.up = True


@asynccontextmanager
async def _old_program(stage: Stage) -> AsyncIterator[None]:
    """The shop's program knows of no console."""
    stage.shop.is_old = True
    try:
        yield
    finally:
        stage.shop.is_old = False
        stage.consoles.gateway.speechless.clear()


@asynccontextmanager
async def _halted(stage: Stage) -> AsyncIterator[None]:
    gateway = stage.consoles.gateway
    await halt.halt(gateway, "operator", {"reason": "checked by hand", "merchant": stage.things["shop"]})
    try:
        yield
    finally:
        await halt.resume_payments(gateway, reason="the book was looked at")


@asynccontextmanager
async def _recognised(stage: Stage) -> AsyncIterator[None]:
    """The log-in from elsewhere was answered: the home says nothing of it."""
    gateway = stage.consoles.gateway
    found = sessions.unusual_of(gateway.reader, stage.things["customer_hong"], 20)
    at = gateway.clock.now()
    await gateway.book.commit(Change(puts=tuple(sessions.answered(one, visits.MINE, at) for one in found)))
    try:
        yield
    finally:
        told = [sessions.answered(replace(one, version=one.version + 1), str(one.unusual), at) for one in found]
        await gateway.book.commit(Change(puts=tuple(told)))


@asynccontextmanager
async def _limited(stage: Stage) -> AsyncIterator[None]:
    """The shop may take only little at once, and in a day."""
    gateway, shop = stage.consoles.gateway, stage.things["shop"]
    await merchant_limits.set_merchant_limits(gateway, merchant=shop, payment="10", day="5000000", reason="a new shop")
    try:
        yield
    finally:
        await merchant_limits.set_merchant_limits(gateway, merchant=shop, payment="none", day="none", reason="known by now")


# --- the pages ---------------------------------------------------------------------------------------------------------------------------


def customer(name: str, path: str, who: str = "", **more: object) -> Entry:
    return Entry("customer", name, path, who, **more)  # type: ignore[arg-type]  # an unknown field is refused when the module is read


def operator(name: str, path: str, who: str = "admin", **more: object) -> Entry:
    return Entry("operator", name, path, who, **more)  # type: ignore[arg-type]  # as above


def merchant(name: str, path: str, who: str = "admin", **more: object) -> Entry:
    return Entry("merchant", name, path, who, **more)  # type: ignore[arg-type]  # as above


GALLERY = (
    # the payment page
    customer("login", "/pay?{order}", then=_see_login),
    customer("login-no-account", "/pay?{order}", then=_no_account),
    customer("login-error", "/pay?{order}", then=_empty_login),
    customer("login-wrong", "/pay?{order}", then=_wrong_login),
    customer("login-without-script", "/pay?{order}", script=False),
    customer("login-time-warning", "/pay?{order}", then=_time_warning),
    customer("login-time-over", "/pay?{order}", then=_time_over),
    customer("login-altered", "/pay?{order}", then=_altered),
    customer("payment", "/pay?{order}", CUSTOMER, then=_see_screen),
    customer("payment-error", "/pay?{order}", CUSTOMER, then=_other_account),
    customer("decline", "/pay?{order}", CUSTOMER, then=_declined),
    customer("payment-progress", "/pay?{order}", CUSTOMER, then=_waiting),
    # how a payment ends
    customer("receipt", "/payments/{captured}", CUSTOMER, then=_passkey_offer),
    customer("receipt-printed", "/payments/{captured}", CUSTOMER, then=_printed),
    customer("receipt-dark", "/payments/{captured}", CUSTOMER, then=_dark),
    customer("receipt-refunded", "/payments/{refunded}", CUSTOMER),
    customer("already_paid", "/payments/{captured}"),
    customer("in_progress", "/payments/{in_progress}", CUSTOMER),
    customer("mismatch", "/payments/{mismatch}", CUSTOMER),
    customer("refused", "/payments/{refused}", CUSTOMER),
    customer("voided", "/payments/{voided}", CUSTOMER),
    customer("cancelled", "/payments/{cancelled}", CUSTOMER),
    customer("withdrawn", "/payments/{withdrawn}", CUSTOMER),
    customer("declined", "/payments/{declined}", CUSTOMER),
    customer("expired", "/payments/{expired}", CUSTOMER),
    # pages without a payment
    customer("not_opened", "/pay?{altered}", status=409),
    customer("merchant_limit", "/pay?{order}", given=_limited, status=402),
    customer("expired_order", "/pay?{late}"),
    customer("line_down", "/pay?{order}", given=_line_down, status=503),
    customer("halted", "/pay?{order}", given=_halted, status=503),
    customer("not-found", "/payments/{nowhere}", status=404),
    customer("bad-request", "/pay", status=400),
    customer("password-link-over", "/my/password/{nobody}", status=404),
    customer("password-link", "/my/password/{password_link}"),
    customer("window", "/window", then=_window_alone),
    # the customer's home
    customer("my-login", "/my/login"),
    customer("my-login-error", "/my/login", then=_nothing_typed),
    customer("my", "/my", CUSTOMER, given=_recognised),
    customer("my-dark", "/my", CUSTOMER, given=_recognised, then=_dark),
    customer("my-unusual", "/my", CUSTOMER),
    customer("my-nothing", "/my", OTHER_CUSTOMER),
    customer("my-large", "/my", LONG_CUSTOMER),
    customer("my-statement", "/my/accounts/{account_bank}", CUSTOMER),
    customer("my-statement-printed", "/my/accounts/{account_bank}", CUSTOMER, then=_printed),
    customer("my-statement-nothing", "/my/accounts/{account_bank}?words=nothing", CUSTOMER),
    customer("my-statement-error", "/my/accounts/{account_bank}?since=x", CUSTOMER, status=422),
    customer("my-settings", "/my/accounts/{account_bank}/settings", CUSTOMER),
    customer("my-payment", "/my/payments/{captured}", CUSTOMER),
    customer("my-payment-refunded", "/my/payments/{refunded}", CUSTOMER),
    customer("my-security", "/my/security", CUSTOMER),
    customer("my-key", "/my/keys/{key}", CUSTOMER),
    customer("my-contact", "/my/contact", CUSTOMER),
    customer("my-email-link", "/my/email/{email_link}", CUSTOMER),
    customer("my-not-found", "/my/payments/{nowhere}", CUSTOMER, status=404),
    # the operator's console
    operator("login", "/login", ""),
    operator("login-error", "/login", "", then=_nothing_typed),
    operator("second-factor", "/second-factor", "admin?"),
    operator("set-up", "/set-up/{operator_set_up}", ""),
    operator("set-up-over", "/set-up/{nobody}", "", status=404),
    operator("home", "/"),
    operator("home-halted", "/", given=_halted),
    operator("home-line-down", "/", given=_line_down),
    operator("payments", "/payments"),
    operator("payments-nothing", "/payments?state=authorized&until=2020-01-01"),
    operator("payments-error", "/payments?since=x", status=422),
    operator("payment", "/payments/{captured}", then=_open_details),
    operator("payment-refunded", "/payments/{refunded}", "support"),
    operator("payment-refused", "/payments/{refused}"),
    operator("payment-declined", "/payments/{declined}", "viewer"),
    operator("payment-waiting", "/payments/{in_progress}"),
    operator("payment-allow-refund", "/payments/{captured}/allow-refund"),
    operator("home-live", "/?live=on"),
    operator("home-dark", "/", then=_dark),
    operator("merchants", "/merchants"),
    operator("merchants-found", "/merchants?q=da"),
    operator("merchant", "/merchants/{shop}"),
    operator("merchant-limited", "/merchants/{shop}", given=_limited),
    operator("merchant-new", "/merchants/dasom"),
    operator("merchant-register", "/merchants/register"),
    operator("merchant-register-error", "/merchants/register", then=_nothing_typed),
    operator("merchant-register-wrong", "/merchants/register", then=_what_is_wrong),
    operator("merchant-code-shown", "/merchants/dasom/code", then=_code_shown),
    operator("merchants-nothing", "/merchants?q=nothing"),
    operator("merchant-invite", "/merchants/{shop}/invite"),
    *(
        operator(f"merchant-{act}", f"/merchants/{{shop}}/{act}")
        for act in ("suspend", "registration", "fees", "payout", "line", "limits", "code", "revoke")
    ),
    operator("customers", "/customers"),
    operator("customer", "/customers/{customer_hong}"),
    operator("customer-suspended", "/customers/{customer_chulsu}", "support"),
    operator("customer-large", "/customers/{customer_maximiliana}"),
    operator("customers-nothing", "/customers?q=nothing"),
    operator("customer-open", "/customers/open"),
    *(operator(f"customer-{act}", f"/customers/{{customer_hong}}/{act}") for act in ("suspend", "account", "code", "password")),
    *(operator(f"account-{act}", f"/accounts/{{account_bank}}/{act}") for act in ("suspend", "fund", "limits")),
    operator("proposals", "/proposals"),
    operator("proposal-approve", "/proposals/{proposal}/approve"),
    operator("proposal-refuse", "/proposals/{proposal}/refuse"),
    operator("proposal-withdraw", "/proposals/{proposal}/withdraw", "support"),
    operator("settlement", "/settlement"),
    operator("settlement-close", "/settlement/close"),
    operator("settlement-continue", "/settlement/continue"),
    operator("settlement-reserve", "/settlement/reserve"),
    operator("settlement-balance", "/settlement/balance"),
    operator("settlement-day", "/settlement/days/{day}"),
    operator("settlement-statement", "/settlement/days/{day}/{shop}"),
    operator("payouts", "/payouts"),
    operator("payouts-instructions", "/payouts/instructions"),
    operator("payouts-reconcile", "/payouts/reconcile"),
    operator("payout-confirm", "/payouts/{reference}/confirm"),
    operator("payout-fail", "/payouts/{reference}/fail"),
    operator("exceptions", "/exceptions"),
    operator("exception-ask", "/exceptions/ask/{in_progress}"),
    operator("exception-tell", "/exceptions/tell/{untold}"),
    operator("exception-send", "/exceptions/send/{unsent}"),
    operator("evidence", "/evidence"),
    operator("evidence-halt", "/evidence/halt"),
    operator("evidence-sign", "/evidence/sign"),
    operator("evidence-halted", "/evidence", given=_halted),
    operator("audit", "/audit", "auditor"),
    operator("audit-nothing", "/audit?word=nothing", "auditor"),
    operator("audit-error", "/audit?since=x", "auditor", status=422),
    operator("brand", "/brand"),
    operator("brand-change", "/brand/change"),
    operator("brand-change-error", "/brand/change", then=_nothing_typed),
    operator("staff", "/staff"),
    operator("staff-invite", "/staff/invite"),
    operator("staff-invite-error", "/staff/invite", then=_nothing_typed),
    operator("person", "/staff/{operator_support}"),
    operator("person-role", "/staff/{operator_support}/role"),
    operator("person-suspend", "/staff/{operator_support}/suspend"),
    operator("person-link", "/staff/{operator_support}/link"),
    operator("me", "/me", "support"),
    operator("me-password", "/me/password", "support"),
    operator("me-factor", "/me/factor", "support"),
    operator("me-factor-remove", "/me/factors/{operator_support_factor}/remove", "support"),
    operator("not-allowed", "/staff/invite", "viewer", status=403),
    operator("not-found", "/payments/{nowhere}", status=404),
    # a merchant's console
    merchant("login", "/login", ""),
    merchant("second-factor", "/second-factor", "cashier?"),
    merchant("set-up", "/set-up/{merchant_set_up}", ""),
    merchant("home", "/"),
    merchant("home-line-down", "/", given=_line_down),
    merchant("home-limited", "/", given=_limited),
    merchant("payments", "/payments", "cashier"),
    merchant("payments-nothing", "/payments?state=authorized&until=2020-01-01", "viewer"),
    merchant("payment", "/payments/{captured}"),
    merchant("payment-refunded", "/payments/{refunded}", "cashier"),
    merchant("payment-asked", "/payments/{asked}", "cashier"),
    merchant("payment-refund", "/payments/{captured}/refund", "cashier"),
    merchant("payment-dark", "/payments/{captured}", then=_dark),
    merchant("payment-refund-error", "/payments/{captured}/refund", "cashier", then=_nothing_typed),
    merchant("payment-cancel", "/payments/{open}/refund", "cashier"),
    merchant("orders", "/orders", "cashier"),
    merchant("orders-line-down", "/orders", "viewer", given=_line_down),
    merchant("orders-old-program", "/orders", "viewer", given=_old_program),
    merchant("order-looked", "/orders/{looked}/looked", "cashier"),
    merchant("callbacks", "/callbacks"),
    merchant("callbacks-line-down", "/callbacks", "viewer", given=_line_down),
    merchant("callbacks-old-program", "/callbacks", "viewer", given=_old_program),
    merchant("callbacks-test", "/callbacks/test"),
    merchant("callback-resend", "/callbacks/evt_1/resend", "cashier"),
    merchant("settlement", "/settlement", "viewer"),
    merchant("settlement-account", "/settlement/account"),
    merchant("settlement-day", "/settlement/{day}"),
    merchant("settlement-day-printed", "/settlement/{day}", then=_printed),
    merchant("line", "/line"),
    merchant("line-down", "/line", "viewer", given=_line_down),
    merchant("certificate-revoke", "/certificates/{certificate}/revoke"),
    merchant("staff", "/staff"),
    merchant("staff-invite", "/staff/invite"),
    merchant("person", "/staff/{merchant_cashier}"),
    merchant("person-role", "/staff/{merchant_cashier}/role"),
    merchant("person-suspend", "/staff/{merchant_cashier}/suspend"),
    merchant("person-link", "/staff/{merchant_cashier}/link"),
    merchant("me", "/me", "cashier"),
    merchant("me-password", "/me/password", "cashier"),
    merchant("me-factor", "/me/factor", "cashier"),
    merchant("me-factor-remove", "/me/factors/{merchant_cashier_factor}/remove", "cashier"),
    merchant("not-found", "/payments/{nowhere}", status=404),
)

NOT_PAGES = {
    "/static/{version}/{name:path}": "files of pages",
    "/button.js": "the script of a shop's page",
    "/enrol/keys": "keys for a program",
    "/healthz": "for machines",
    "/readyz": "for machines",
    "/payments/{id}/state": "a state as JSON, for whoever waits",
    "/payments/{id}/receipt": "a signed receipt to keep",
    "/payments/{id}/messages/{hash}": "a signed message to keep",
}
"""Addresses that answer GET with something else than a page, and with what."""
TABLES = ("/sheet", ".csv")
"""How the addresses of tables to keep end."""
