"""Each page in each state, in both languages, is one that everybody can use: axe, 320 pixels, the keyboard alone."""

import signal

import pytest
from playwright.async_api import Page, expect

from hanbit.demo.world import World
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import audit
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.test_intermediary import Middle
from tests.e2e.checkout.visitors import Visit, words
from tests.e2e.checkout.walk import (
    expect_notice,
    expect_outcome,
    expect_receipt,
    log_in,
    log_in_at_shop,
    order_at_shop,
    pay,
    redirect,
    type_login,
)
from tests.e2e.checkout.world import MovingWorld, ShopProcess, altered, line_is_down

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LANGUAGES: tuple[LanguageCode, ...] = ("ko", "en")


@pytest.fixture(autouse=True)
def _axe_is_there(node: str) -> None:
    """axe-core comes with the packages of tests/node."""


@pytest.mark.parametrize(("language", "colours", "narrow"), [("ko", "light", False), ("en", "light", True), ("ko", "dark", True)])
async def test_the_way_from_the_shop_to_the_receipt(
    world: World, visit: Visit, invite: Invite, language: LanguageCode, colours: str, *, narrow: bool
) -> None:
    who, shop = await invite("홍길동", bank=1_000, card=500_000, emoney=300_000), world.shops["shop"]
    page = await visit(language, color_scheme=colours)
    await page.goto(shop.url)
    await audit(page, narrow=narrow)
    await page.goto(f"{shop.url}/items/song")
    await audit(page, narrow=narrow)
    await log_in_at_shop(page)
    await expect(page.locator("form.order")).to_be_visible()
    await audit(page, narrow=narrow)
    await page.locator("form.order button").click()

    await expect(page.locator("#login")).to_be_visible()
    await page.locator("details summary").click()
    await audit(page, narrow=narrow)
    await page.locator("#login-form button[type=submit]").click()
    await expect_notice(page, words(language, "program.need_id"))
    await audit(page, narrow=narrow)
    await type_login(page, who, password="wrong")
    await expect_notice(page, words(language, "problem.login_failed.title"))
    await audit(page, narrow=narrow)

    await log_in(page, who)
    await audit(page, narrow=narrow)
    await page.locator("#account-other").check()
    await page.locator("#pay-form button.pay").click()
    await expect_notice(page, words(language, "program.need_number"))
    await audit(page, narrow=narrow)
    await pay(page, who, kind="bank")
    await expect_notice(page, words(language, "decline.no_funds"))
    await audit(page, narrow=narrow)
    await pay(page, who, kind="card")
    await expect_receipt(page, language)
    await audit(page, narrow=narrow)
    await page.locator("a[href*='/hanbit/return']").click()
    await expect(page.locator("#order")).to_have_attribute("data-state", "settled")
    await audit(page, narrow=narrow)
    await page.goto(f"{shop.url}/orders")
    await audit(page, narrow=narrow)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_pages_that_end_a_payment(world: World, visit: Visit, invite: Invite, language: LanguageCode) -> None:
    who, shop = await invite(), world.shops["shop"]
    page = await visit(language)

    tid = await order_at_shop(page, shop, "song")
    beside = await page.context.new_page()
    await beside.goto(f"{shop.url}/hanbit/return?TID={tid}")
    await audit(beside)
    await beside.close()
    await page.locator("#login-cancel").click()
    await expect_outcome(page, "cancelled", language)
    await audit(page)
    await page.goto(f"{shop.url}/orders/{tid}/download")
    await audit(page)
    await page.goto(f"{shop.url}/deposit")
    await audit(page)

    _, location = await redirect(shop, language=language)
    await page.goto(altered(location, AMOUNT="1"))
    await expect_outcome(page, "not_opened", language)
    await audit(page)

    _, location = await redirect(world.shops["plain-shop"], language=language)
    await page.goto(altered(location, AMOUNT="1"))
    await log_in(page, who)
    await pay(page, who)
    await expect_outcome(page, "mismatch", language)
    await audit(page)

    tid, location = await redirect(shop, language=language)
    await page.goto(location)
    await expect(page.locator("#pay-form")).to_be_visible()
    await shop.withdraw(tid)
    await pay(page, who)
    await expect_outcome(page, "refused", language)
    await audit(page)

    _, location = await redirect(shop, language=language)
    await page.goto(location)
    await pay(page, who)
    await expect_receipt(page, language)
    stranger = await visit(language)
    await stranger.goto(page.url)
    await expect_outcome(stranger, "already_paid", language)
    await audit(stranger)

    for nowhere in (f"/payments/{'A' * 22}?lang={language}", f"/pay?lang={language}", "/nowhere"):
        await page.goto(world.settings.public_url + nowhere)
        await audit(page)
    await page.goto(f"{shop.url}/nowhere")
    await audit(page)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_pages_while_the_shop_is_away(
    world: World, visit: Visit, invite: Invite, spare: ShopProcess, language: LanguageCode
) -> None:
    who = await invite()
    page = await visit(language)
    _, location = await redirect(spare.shop, language=language)
    _, unpaid = await redirect(spare.shop, language=language)
    await page.goto(location)
    await log_in(page, who)
    spare.send(signal.SIGSTOP)
    await pay(page, who)
    await expect(page.locator("#progress-heading")).to_be_visible()
    await audit(page)
    await page.goto(location)
    await expect_outcome(page, "in_progress", language)
    await audit(page)
    spare.send(signal.SIGCONT)
    await expect_receipt(page, language)
    await spare.end()
    await line_is_down(spare.shop, unpaid)
    await page.goto(unpaid)
    await expect_outcome(page, "line_down", language)
    await audit(page)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_pages_of_time_and_of_distrust(
    moving: MovingWorld, moving_visit: Visit, moving_invite: Invite, language: LanguageCode
) -> None:
    shop = moving.world.shops["shop"]
    page = await moving_visit(language)
    _, location = await redirect(shop, language=language)
    await page.clock.install()
    await page.goto(location)
    await expect(page.locator("#login")).to_be_visible()
    await page.clock.fast_forward("13:01")
    await expect(page.locator("#time-warning")).to_be_visible()
    await audit(page)
    await page.clock.fast_forward("02:00")
    await expect_notice(page, words(language, "program.time_over"))
    await audit(page)

    distrusting = await moving_visit(language)
    await Middle(moving.world, lambda text: text.replace("220,000", "22,000")).stand(distrusting, "/pay")
    await distrusting.goto(location)
    await expect_notice(distrusting, words(language, "program.check_failed"))
    await audit(distrusting)

    moving.clock.advance(30 * 60 + 1)
    late = await moving_visit(language)
    await late.goto(location)
    await expect_outcome(late, "expired_order", language)
    await audit(late)


async def _focus_by_tab(page: Page, selector: str) -> None:
    """Press Tab until this element has the focus; every stop on the way must be visible."""
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        assert await page.evaluate("document.activeElement.checkVisibility()")
    raise AssertionError(f"Tab does not reach {selector}")


async def test_the_keyboard_alone_pays(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=1_000, emoney=300_000)
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await expect(page.locator("#login")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.locator("a.skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await _focus_by_tab(page, "#login-id")
    await page.keyboard.type(who.login)
    await _focus_by_tab(page, "#login-password")
    await page.keyboard.type(who.password)
    await page.keyboard.press("Enter")

    await expect(page.locator("#pay-heading")).to_be_focused()
    await _focus_by_tab(page, "input[name=account]")
    while await page.evaluate("document.activeElement.value") != who.accounts["emoney"]:
        await page.keyboard.press("ArrowDown")
    await _focus_by_tab(page, "#account-password")
    await page.keyboard.press("Enter")
    await expect_notice(page, words("ko", "program.need_account_password"))
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#account-password")).to_be_focused()
    await page.keyboard.type(who.account_password)
    await _focus_by_tab(page, "button.pay")
    await page.keyboard.press("Enter")
    await expect_receipt(page)
    await _focus_by_tab(page, ".acts a.plain")
    await _focus_by_tab(page, "a[download]")
