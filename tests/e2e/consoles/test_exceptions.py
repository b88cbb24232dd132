"""What does not come right by itself, really brought about, and resolved in Chromium by the act that the page offers for it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from hanbit.kernel import ids
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.days import day_of
from hanbit.kernel.money import Money
from hanbit.ledger.balances import available
from hanbit.ledger.check import check as check_ledger
from hanbit.line_requests import routes as line_requests
from hanbit.payments import payment as payments
from hanbit.payments import recovery
from hanbit.payments.exceptions import TRIES
from hanbit.payments.payment import Payment
from hanbit.protocols import signed
from hanbit.protocols.cancellation.merchant import Merchant as Canceller
from hanbit.protocols.cancellation.messages import CancelConfirmation, CancelRefusal
from hanbit.protocols.redirect.messages import Confirmation
from hanbit.protocols.signed import peek_typ
from tests.e2e.consoles.steps import DESKTOP, NARROW, looked_at, press, reasoned
from tests.e2e.consoles.test_journeys import enter, window, words
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.site import SHOP, Shop
from tests.faces.test_customer_site import logged_in

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
PRICE = 18_900


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """An operator of its own, whose time of day is moved; money is whole at the end."""
    async with running_consoles(tmp_path_factory.mktemp("exceptions")) as running:
        yield running
        assert check_ledger(running.gateway.reader.connection).balanced


async def bought(bank: Consoles, refund_by: int | None = None) -> Payment:
    """A customer pays, however the shop takes it."""
    browser, accounts = await logged_in(bank.site, bank.http, bank.site.shop.order(PRICE, refund_by=refund_by))
    _, answer, _ = await browser.pay(accounts["bank"])
    return now(bank, answer["payment"])


def now(bank: Consoles, payment: str) -> Payment:
    """As the book has it."""
    found = payments.by_id(bank.gateway.reader, payment)
    assert found is not None
    return found


async def later(bank: Consoles, seconds: int) -> None:
    """So much later the background has looked once more."""
    clock = bank.gateway.clock
    assert isinstance(clock, SandboxClock)
    clock.offset_s += seconds
    await recovery.tick(bank.gateway)


async def tried_again_and_again(bank: Consoles) -> None:
    """The background has tried as often as makes it an exception."""
    for doubled in range(1, TRIES + 1):
        await later(bank, 2**doubled)


async def exceptions(page: Page, bank: Consoles) -> None:
    await page.goto(bank.bases["operator"] + "/exceptions")


async def test_a_shop_that_was_silent_is_asked_now_and_the_payment_is_decided(browser: Browser, bank: Consoles) -> None:
    shop = bank.site.shop
    shop.silent = True
    payment = await bought(bank)
    await tried_again_and_again(bank)
    assert now(bank, payment.id).state == "authorized"
    support = await bank.person("operator", "support", language="ko")
    act = f"a[href='/exceptions/ask/{payment.id}']"
    async with window(browser, bank, "ko", viewport=DESKTOP) as page:
        await enter(page, bank, support)
        await exceptions(page, bank)
        await looked_at(page, DESKTOP)
        shop.silent = False  # it has been telephoned
        await page.locator(act).click()
        await reasoned(page)
        await expect(page.locator(".done")).to_have_text(words("ko", "operator.deed.done.ask"))
        await recovery.tick(bank.gateway)
        await exceptions(page, bank)
        await expect(page.locator(act)).to_have_count(0)
    assert now(bank, payment.id).state == "captured"


async def test_a_shop_that_confirmed_another_amount_is_listed_and_asked_once_it_is_repaired(
    browser: Browser, bank: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another_amount(shop: Shop, merchant_id: str, message: str) -> str:
        answer = await honest(shop, merchant_id, message)
        claims = signed.recall(answer, Confirmation).claims
        return signed.sign(msgspec.structs.replace(claims, amount=str(PRICE - 1)), shop.merchant.signer).compact

    honest = Shop.ask
    had = available(bank.gateway.reader, f"merchant:{SHOP}:KRW")
    with monkeypatch.context() as patched:
        patched.setattr(Shop, "ask", another_amount)
        payment = await bought(bank)
        await tried_again_and_again(bank)
    assert (now(bank, payment.id).state, available(bank.gateway.reader, f"merchant:{SHOP}:KRW")) == ("authorized", had)
    support = await bank.person("operator", "support")
    async with window(browser, bank, viewport=NARROW) as page:
        await enter(page, bank, support)
        await exceptions(page, bank)
        await looked_at(page, NARROW)
        refused = page.locator("#refused ~ .wide tbody tr").first
        await expect(refused).to_contain_text(payment.payee)
        await expect(refused.locator(f"a[href='/payments/{payment.id}']")).to_be_visible()
        await page.locator(f"a[href='/exceptions/ask/{payment.id}']").click()
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        await recovery.tick(bank.gateway)
        await exceptions(page, bank)
        await refused.locator(f"a[href='/payments/{payment.id}']").click()
        await expect(page.locator("h1 .state")).to_have_text(words("en", "console.state.captured"))
        await looked_at(page, NARROW)
    assert available(bank.gateway.reader, f"merchant:{SHOP}:KRW") == had + PRICE


async def test_an_outcome_that_nobody_acknowledged_is_told_now_and_acknowledged(browser: Browser, bank: Consoles) -> None:
    shop, reader = bank.site.shop, bank.gateway.reader
    payment = await bought(bank)
    await tried_again_and_again(bank)
    support = await bank.person("operator", "support")
    (row,) = reader.all("SELECT hash FROM outbox WHERE tid = ?", payment.tid)
    act = f"a[href='/exceptions/tell/{row['hash']}']"
    async with window(browser, bank, viewport=NARROW) as page:
        await enter(page, bank, support)
        await exceptions(page, bank)
        await page.locator(act).click()
        await looked_at(page, NARROW)
        before = len(shop.told)
        await reasoned(page)
        await expect(page.locator(".done")).to_have_text(words("en", "operator.deed.done.tell"))
        await recovery.tick(bank.gateway)
        assert row["hash"] in [ids.digest(told.encode()) for told in shop.told[before:]]
        stored = shop.merchant.make_acknowledgement((row["hash"],), at=bank.gateway.clock.now())
        assert await line_requests.answer(bank.gateway, SHOP, stored.compact) is None
        await exceptions(page, bank)
        await expect(page.locator(act)).to_have_count(0)


async def test_a_refund_that_came_too_late_is_allowed_and_then_made(browser: Browser, bank: Consoles) -> None:
    gateway = bank.gateway
    payment = await bought(bank, refund_by=gateway.clock.now() + 60)
    await later(bank, 120)
    assert await asked_back(bank, payment) == CancelRefusal.TYP
    admin = await bank.person("operator", "admin", language="ko")
    act = f"a[href='/payments/{payment.id}/allow-refund']"
    async with window(browser, bank, "ko", viewport=DESKTOP) as page:
        await enter(page, bank, admin)
        await exceptions(page, bank)
        await page.locator(act).click()
        await looked_at(page, DESKTOP)
        day = day_of(gateway.clock.now(), gateway.settings.zone)
        await reasoned(page, until=str(day - timedelta(days=30)))
        await expect(page.locator("#until-error")).to_be_visible()
        await reasoned(page, until=str(day + timedelta(days=3)))
        await expect(page.locator(".done")).to_be_visible()
        await exceptions(page, bank)
        await expect(page.locator("#stuck ~ .wide").first).to_contain_text(words("ko", "operator.exceptions.allowed", until=""))
        await looked_at(page, DESKTOP)
        assert await asked_back(bank, payment) == CancelConfirmation.TYP
        await exceptions(page, bank)
        await expect(page.locator(act)).to_have_count(0)
        await page.goto(f"{bank.bases['operator']}/payments/{payment.id}")
        await expect(page.locator("#cancellations ~ .wide tbody tr")).to_have_count(2)
        await press(page, "console.payments.title", "ko")
    assert now(bank, payment.id).refunded == PRICE


async def asked_back(bank: Consoles, payment: Payment) -> str:
    """The shop's own C1 for all of it; the typ of what the gateway answers."""
    shop, gateway = bank.site.shop, bank.gateway
    role = Canceller(shop.merchant.signer, shop.merchant.gateway, shop.merchant.trust)
    assert payment.outcome_hash is not None
    request = role.make_cancel(
        cancellation=ids.new_token(),
        payment=payment.id,
        tid=payment.tid,
        amount=Money(PRICE, "KRW"),
        remaining=Money(PRICE, "KRW"),
        reason="the parcel was late",
        prev=payment.outcome_hash,
        at=gateway.clock.now(),
    )
    reply = await line_requests.answer(gateway, SHOP, request.compact)
    assert reply is not None
    return peek_typ(reply)
