"""Every address shows the true state: double clicks, back, reload, second tabs, ended sessions, Cancel and the end of the time."""

import pytest
from playwright.async_api import Page, Route, expect

from hanbit.demo.world import World
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_notice, expect_outcome, expect_receipt, log_in, order_at_shop, pay, redirect
from tests.e2e.checkout.world import MovingWorld, balance

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PRICE = 220_000


async def test_a_double_click_pays_once(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await page.locator("#account-password").fill(who.account_password)
    await page.locator("#pay-form button.pay").dblclick()
    await expect_receipt(page)
    assert len(watch.sent("/pay/submit")) == 1
    assert await balance(world, who, "bank") == (1_000_000 - PRICE, 0)


async def test_a_lost_answer_makes_the_page_send_the_same_bytes_again_and_pays_once(
    world: World, watch: Watch, visit: Visit, invite: Invite
) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    lost: list[bytes | None] = []

    async def lose_the_first_answer(route: Route) -> None:
        if lost:
            await route.continue_()
            return
        body, headers = route.request.post_data_buffer, await route.request.all_headers()
        lost.append(body)
        async with world.shops["shop"].http.post(route.request.url, data=body, headers=headers) as answer:
            assert (await answer.json())["state"] == "captured"
        await route.abort("connectionreset")

    await page.route("**/pay/submit*", lose_the_first_answer)
    await pay(page, who)
    await expect_receipt(page)
    assert [request.post_data_buffer for request in watch.sent("/pay/submit")] == lost * 2
    assert await balance(world, who, "bank") == (1_000_000 - PRICE, 0)


async def test_back_after_paying_leads_to_the_shop_and_never_to_a_form(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who, shop = await invite(bank=1_000_000), world.shops["shop"]
    page = await visit()
    tid = await order_at_shop(page, shop, "phone")
    address = page.url
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page)
    receipt = page.url
    await page.go_back()
    assert page.url.startswith(shop.url), "the payment screen is no longer in the history"
    await page.go_forward()
    await expect_receipt(page)
    assert page.url == receipt
    await page.goto(address)
    await expect_receipt(page)
    assert page.url.partition("?")[0] == receipt.partition("?")[0], f"the address of {tid} shows the true state"
    stranger = await visit("en")
    await stranger.goto(address)
    await expect_outcome(stranger, "already_paid", "ko")
    assert "홍길동" not in await stranger.content()
    assert len(watch.sent("/pay/submit")) == 1


async def test_two_tabs_on_one_order_pay_once(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=1_000_000)
    first = await visit()
    _, location = await redirect(world.shops["shop"])
    await first.goto(location)
    await log_in(first, who)
    second = await first.context.new_page()
    await second.goto(location)
    await expect(second.locator("#pay-form")).to_be_visible()
    await pay(first, who)
    await expect_receipt(first)
    await pay(second, who)
    await expect_receipt(second)
    assert first.url == second.url
    assert await balance(world, who, "bank") == (1_000_000 - PRICE, 0)


async def test_two_people_at_one_order_the_second_sees_no_names(world: World, visit: Visit, invite: Invite) -> None:
    who, other = await invite(bank=1_000_000), await invite("김영희", bank=1_000_000)
    first, second = await visit(), await visit()
    _, location = await redirect(world.shops["shop"])
    for page, person in ((first, who), (second, other)):
        await page.goto(location)
        await log_in(page, person)
    await pay(first, who)
    await expect_receipt(first)
    await pay(second, other)
    await expect_outcome(second, "already_paid")
    assert "홍길동" not in await second.content()
    assert await balance(world, other, "bank") == (1_000_000, 0)


async def test_a_reload_of_the_payment_screen_keeps_the_session_and_pays(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await page.locator("#account-password").fill(who.account_password)
    await page.reload()
    await expect(page.locator("#account-password")).to_have_value("")
    await expect(page.locator("#login")).to_be_hidden()
    await pay(page, who)
    await expect_receipt(page)
    assert len(watch.sent("/pay/login")) == 1


@pytest.mark.parametrize("signed_in", [False, True])
async def test_cancel_ends_the_order_and_the_shop_hears_of_it(world: World, visit: Visit, invite: Invite, *, signed_in: bool) -> None:
    who, shop = await invite(), world.shops["shop"]
    page = await visit()
    tid = await order_at_shop(page, shop, "phone")
    address = page.url
    if signed_in:
        await log_in(page, who)
    await page.locator("#pay-cancel" if signed_in else "#login-cancel").click()
    await expect_outcome(page, "cancelled")
    await picture(page, "cancelled-ko")
    await page.goto(address)
    await expect_outcome(page, "cancelled")
    await page.locator(".acts a.plain").click()
    await expect(page.locator("#order")).to_have_attribute("data-state", "closed")
    assert page.url == f"{shop.url}/orders/{tid}"


async def test_a_session_that_ended_in_the_middle_logs_in_again_and_keeps_the_order(
    moving: MovingWorld, moving_watch: Watch, moving_visit: Visit, moving_invite: Invite
) -> None:
    who = await moving_invite()
    page = await moving_visit()
    _, location = await redirect(moving.world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    moving.clock.advance(301)
    await pay(page, who)
    await expect_notice(page, words("ko", "program.login_again"))
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page)
    assert len(moving_watch.sent("/pay/login")) == 2


async def test_an_order_whose_time_has_passed_is_closed_and_every_page_says_so(
    moving: MovingWorld, moving_visit: Visit, moving_invite: Invite
) -> None:
    shop, who = moving.world.shops["shop"], await moving_invite()
    page = await moving_visit("en")
    tid, location = await redirect(shop, language="en")
    _, never_begun = await redirect(shop, language="en")
    await page.goto(location)
    await log_in(page, who)
    moving.clock.advance(30 * 60 + 1)
    assert (await shop.state(tid, wait=True))["state"] == "closed", "recovery closes it by itself"
    await pay(page, who)
    await expect_outcome(page, "expired", "en")
    await page.goto(location)
    await expect_outcome(page, "expired", "en")
    await picture(page, "expired-en")
    await page.goto(never_begun)
    await expect_outcome(page, "expired_order", "en")
    await expect(page.locator("input")).to_have_count(0)


async def _open_with_a_clock(page: Page, location: str) -> None:
    await page.clock.install()
    await page.goto(location)
    await expect(page.locator("#login")).to_be_visible()
    await expect(page.locator("#time-warning")).to_be_hidden()


async def test_the_page_warns_two_minutes_before_its_end_and_gives_more_time_once(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await _open_with_a_clock(page, location)
    await log_in(page, who)
    warning, more = page.locator("#time-warning"), page.locator("#more-time")
    await page.clock.fast_forward("13:01")
    await expect(warning).to_be_visible()
    await picture(page, "time-warning-ko")
    await more.click()
    await expect(warning).to_be_hidden()
    await expect(page.locator("#progress")).to_have_text(words("ko", "program.more_time_done"))
    await page.clock.fast_forward("15:00")
    await expect(warning).to_be_visible()
    await expect(more).to_be_hidden()
    await pay(page, who)
    await expect_receipt(page)


async def test_the_page_closes_at_its_end_and_clears_what_was_typed(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit("en")
    _, location = await redirect(world.shops["shop"], language="en")
    await _open_with_a_clock(page, location)
    await page.locator("#login-id").fill(who.login)
    await page.locator("#login-password").fill(who.password)
    await page.clock.fast_forward("15:01")
    await expect_notice(page, words("en", "program.time_over"))
    await expect(page.locator("#login")).to_be_hidden()
    await expect(page.locator("#login-password")).to_have_value("")
    assert not watch.sent("/pay/login")
    await page.locator("#notice a.button").click()
    await expect(page.locator("#login")).to_be_visible()
