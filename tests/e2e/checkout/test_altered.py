"""Somebody alters the address between shop and payment server, or the shop changes its mind: nobody pays what he did not order."""

import pytest
from playwright.async_api import Page, expect

from hanbit.demo.world import World
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_outcome, expect_receipt, log_in, pay, redirect
from tests.e2e.checkout.world import altered, balance, staff

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SHOP_TELEPHONE, PLAIN_SHOP_TELEPHONE = "02-555-0100", "02-555-0200"


async def _expect_not_opened(page: Page, watch: Watch, telephone: str) -> None:
    await expect_outcome(page, "not_opened")
    await expect(page.locator(f".acts a[href='tel:{telephone}']")).to_be_visible()
    await expect(page.locator("input")).to_have_count(0)
    assert not [request for request in watch.requests if request.method == "POST"]


async def test_an_altered_amount_beside_a_signed_order_is_stopped_before_the_login(world: World, watch: Watch, visit: Visit) -> None:
    shop = world.shops["shop"]
    page = await visit()
    tid, location = await redirect(shop)
    await page.goto(altered(location, AMOUNT="22000"))
    await _expect_not_opened(page, watch, SHOP_TELEPHONE)
    await picture(page, "not-opened-ko")
    assert (await shop.state(tid))["state"] == "placed", "the shop was asked nothing"


async def test_an_altered_foreign_or_missing_order_is_stopped_before_the_login(world: World, watch: Watch, visit: Visit) -> None:
    shop = world.shops["shop"]
    page = await visit()
    tid, location = await redirect(shop)
    _, other = await redirect(shop, "song")
    order = location.partition("ORDER=")[2].partition("&")[0]
    foreign = other.partition("ORDER=")[2].partition("&")[0]
    head, payload, signature = order.split(".")
    flipped = f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    unsigned = f"{head}.{payload}."
    for wrong in (flipped, unsigned, foreign, ""):
        await page.goto(altered(location, ORDER=wrong))
        await _expect_not_opened(page, watch, SHOP_TELEPHONE)
    await page.goto(altered(location, TID="A" * 22))
    await _expect_not_opened(page, watch, SHOP_TELEPHONE)
    assert (await shop.state(tid))["state"] == "placed"


async def test_an_altered_amount_in_the_plain_form_is_refused_by_the_shop_itself(world: World, visit: Visit, invite: Invite) -> None:
    """Page 62: the shop compares the notice with its own order; the hold is released and the page says whom to ask."""
    shop, who = world.shops["plain-shop"], await invite(bank=300_000)
    page = await visit()
    tid, location = await redirect(shop)
    await page.goto(altered(location, AMOUNT="22000"))
    await log_in(page, who)
    await expect(page.locator("#pay-form button.pay")).to_contain_text("22,000")
    await pay(page, who)
    await expect(page.locator("h1:visible")).to_have_text("거래정보가 일치되지 않아서 지불이 되지 않았습니다")
    await expect_outcome(page, "mismatch")
    await expect(page.locator(f".acts a[href='tel:{PLAIN_SHOP_TELEPHONE}']")).to_be_visible()
    await picture(page, "mismatch-ko")
    assert await balance(world, who, "bank") == (300_000, 0)
    assert (await shop.state(tid, wait=True))["state"] in {"refused", "voided"}, "its own refusal, then the bank's word for it"


async def test_the_plain_form_pays_when_nobody_alters_it(world: World, visit: Visit, invite: Invite) -> None:
    shop, who = world.shops["plain-shop"], await invite(bank=300_000)
    page = await visit("en")
    tid, location = await redirect(shop, language="en")
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page, "en")
    assert (await shop.state(tid, wait=True))["may_deliver"]
    assert await balance(world, who, "bank") == (80_000, 0)


async def test_an_order_that_the_shop_took_back_is_refused_and_the_money_released(world: World, visit: Visit, invite: Invite) -> None:
    shop, who = world.shops["shop"], await invite(bank=300_000)
    page = await visit()
    tid, location = await redirect(shop)
    await page.goto(location)
    await log_in(page, who)
    await shop.withdraw(tid)
    await pay(page, who)
    await expect_outcome(page, "refused")
    assert await balance(world, who, "bank") == (300_000, 0)


async def test_the_words_with_which_a_shop_says_no_stand_under_its_own_name(world: World, visit: Visit, invite: Invite) -> None:
    shop, who = world.shops["shop"], await invite(bank=300_000)
    page = await visit("en")
    _, location = await redirect(shop, language="en")
    await page.goto(location)
    await log_in(page, who)
    await staff(shop, "no")
    try:
        await pay(page, who)
        await expect_outcome(page, "refused", "en")
    finally:
        await staff(shop, "yes")
    await expect(page.locator("figure figcaption")).to_have_text(words("en", "outcome.refused.says", merchant="무지개 상점"))
    await expect(page.locator("figure blockquote")).to_have_text("Sorry, it has just sold out.")
    await picture(page, "refused-en")
    assert await balance(world, who, "bank") == (300_000, 0)
