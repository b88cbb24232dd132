"""The shop is away, silent or dead: the page says so, the money is never lost, and the shop delivers when it is back."""

import signal

import pytest
from playwright.async_api import expect

from hanbit.demo.world import World
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_outcome, expect_receipt, log_in, order_at_shop, pay, redirect
from tests.e2e.checkout.world import MovingWorld, ShopProcess, balance, line_is_down, shop_process

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PRICE = 220_000


async def test_when_the_line_is_down_the_page_says_so_before_any_password(
    world: World, watch: Watch, visit: Visit, invite: Invite, spare: ShopProcess
) -> None:
    who = await invite()
    page = await visit()
    _, location = await redirect(spare.shop)
    await spare.end()
    await line_is_down(spare.shop, location)
    answer = await page.goto(location)
    assert answer is not None
    assert answer.status == 503
    assert answer.headers["retry-after"]
    await expect_outcome(page, "line_down")
    await expect(page.locator("input")).to_have_count(0)
    await picture(page, "line-down-ko")
    await spare.start()
    await page.get_by_role("link", name=words("ko", "act.try_again"), exact=True).click()
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page)


async def test_a_silent_shop_means_in_progress_and_its_late_yes_brings_the_receipt(
    world: World, visit: Visit, invite: Invite, spare: ShopProcess
) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    tid, location = await redirect(spare.shop)
    await page.goto(location)
    await log_in(page, who)
    spare.send(signal.SIGSTOP)
    await pay(page, who)
    await expect(page.locator("#progress-heading")).to_have_text(words("ko", "progress.heading"))
    await expect(page.locator("#stage .money")).to_have_text(words("ko", "progress.money", amount="220,000원"))
    assert await balance(world, who, "bank") == (1_000_000, PRICE), "held, not taken"
    await picture(page, "in-progress-ko")
    reloaded = await page.context.new_page()
    plain = await visit("ko", java_script_enabled=False)
    await plain.context.add_cookies(await page.context.cookies())  # type: ignore[arg-type]  # what comes out goes in
    for waiting in (reloaded, plain):
        await waiting.goto(location)
        await expect_outcome(waiting, "in_progress")
    await picture(reloaded, "in-progress-reloaded-ko")
    spare.send(signal.SIGCONT)
    for waiting in (page, reloaded, plain):
        await expect_receipt(waiting)
    assert (await spare.shop.state(tid, wait=True))["may_deliver"]
    assert await balance(world, who, "bank") == (1_000_000 - PRICE, 0)


async def test_a_shop_that_never_answers_gets_nothing_and_the_hold_ends_by_itself(
    moving: MovingWorld, moving_visit: Visit, moving_invite: Invite
) -> None:
    who, shop = await moving_invite(bank=1_000_000), moving.world.shops["shop"]
    page = await moving_visit("en")
    tid, location = await redirect(shop, language="en")
    await page.goto(location)
    await log_in(page, who)
    moving.gate.open.clear()
    await pay(page, who)
    await moving.gate.asked.wait()
    await expect(page.locator("#progress-heading")).to_be_visible()
    moving.clock.advance(10 * 60 + 1)
    await expect_outcome(page, "voided", "en")
    await picture(page, "voided-en")
    assert await balance(moving.world, who, "bank") == (1_000_000, 0)
    moving.gate.open.set()
    answer = await shop.state(tid, wait=True)
    assert answer["final"]
    assert not answer["may_deliver"], "a late yes is answered with the stored voided"
    assert await balance(moving.world, who, "bank") == (1_000_000, 0)


async def test_whoever_waits_longer_than_a_session_lives_still_sees_his_receipt(
    moving: MovingWorld, moving_visit: Visit, moving_invite: Invite
) -> None:
    """The page that waits keeps the session alive; nobody is told "already paid" about his own payment."""
    who, shop = await moving_invite(bank=1_000_000), moving.world.shops["shop"]
    page = await moving_visit()
    _, location = await redirect(shop)
    await page.goto(location)
    await log_in(page, who)
    moving.gate.open.clear()
    await pay(page, who)
    for _ in range(2):
        await expect(page.locator("#progress-heading")).to_be_visible()
        moving.clock.advance(200)
        async with page.expect_response(lambda response: response.url.endswith("/state")):
            pass
    moving.gate.open.set()
    await expect_receipt(page)


async def test_a_shop_killed_before_it_is_asked_pays_after_its_restart(
    world: World, visit: Visit, invite: Invite, spare: ShopProcess
) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    tid, location = await redirect(spare.shop)
    await page.goto(location)
    await log_in(page, who)
    await spare.end(signal.SIGKILL)
    await line_is_down(spare.shop, location)
    await pay(page, who)
    await expect(page.locator("#progress-heading")).to_be_visible()
    await spare.start()
    await expect_receipt(page)
    assert (await spare.shop.state(tid, wait=True))["may_deliver"]


async def test_a_shop_that_dies_after_confirming_delivers_after_its_restart(
    world: World, visit: Visit, invite: Invite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The receipt is at the bank; the settled message waits in the outbox until the shop has it."""
    who = await invite(bank=1_000_000)
    page = await visit()
    async with shop_process(world, tmp_path_factory.mktemp("dying")) as dying:
        await dying.start(HANBIT_FAIL_AT="merchant.outcome.verified")
        tid = await order_at_shop(page, dying.shop, "song")
        await log_in(page, who)
        await pay(page, who)
        await expect_receipt(page)
        await dying.end(None)
        await dying.start()
        await page.locator("a[href*='/hanbit/return']").click()
        await page.wait_for_url(f"{dying.shop.url}/orders/{tid}")
        await expect(page.locator("#order")).to_have_attribute("data-state", "settled")
        await expect(page.locator(f"a[href='/orders/{tid}/download']")).to_be_visible()


async def test_the_return_page_waits_for_the_settled_message_by_itself(
    world: World, visit: Visit, invite: Invite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The customer is back before the shop knows: nothing in the address counts, the page waits for the bank's signed word."""
    page = await visit("en")
    async with shop_process(world, tmp_path_factory.mktemp("waiting")) as shop:
        await shop.start()
        tid = await order_at_shop(page, shop.shop, "song")
        address = page.url
        await page.goto(f"{shop.shop.url}/hanbit/return?TID={tid}&state=captured")
        await expect(page.locator("h1")).to_have_text("Checking your payment")
        await picture(page, "return-en")
        who = await invite()
        beside = await page.context.new_page()
        await beside.goto(address)
        await log_in(beside, who)
        await pay(beside, who)
        await expect_receipt(beside, "en")
        await page.wait_for_url(f"{shop.shop.url}/orders/{tid}")
        await expect(page.locator("#order")).to_have_attribute("data-state", "settled")
