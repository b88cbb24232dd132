"""The demo shop's other way to pay: the order's page has the button, and changes in place when the bank's word is here."""

import pytest
from playwright.async_api import expect

from hanbit.demo.world import World
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture
from tests.e2e.checkout.walk import log_in, log_in_at_shop, pay
from tests.e2e.checkout.world import balance

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_from_the_order_screen_to_the_download_without_leaving_the_shop(
    world: World, watch: Watch, visit: Visit, invite: Invite, language: LanguageCode
) -> None:
    shop, who = world.shops["shop"], await invite(bank=1_000_000)
    page = await visit(language)
    await page.goto(f"{shop.url}/items/song")
    await log_in_at_shop(page)
    await page.locator("#method").select_option("window")
    await page.locator("form.order button").click()
    await page.wait_for_url(f"{shop.url}/orders/*")
    await page.evaluate("globalThis.stayed = true")
    await picture(page, f"button-{language}")
    async with page.expect_popup() as opening:
        await page.locator("[data-hanbit-relay]").click()
    window = await opening.value
    await expect(window.locator(".order-lines li")).to_have_count(1)
    await log_in(window, who)
    await pay(window, who)
    await expect(page.locator("#order")).to_have_attribute("data-state", "settled")
    await expect(page.locator("a[href$='/download']")).to_be_visible()
    await picture(page, f"button-settled-{language}")
    assert await page.evaluate("stayed")
    assert await balance(world, who, "bank") == (1_000_000 - 1_200, 0)
    async with page.expect_download() as downloading:
        await page.locator("a[href$='/download']").click()
    assert (await (await downloading.value).path()).read_bytes().startswith(b"RIFF")
    assert len(watch.sent("/pay/grant")) == 1


async def test_the_same_order_still_goes_by_redirect(world: World, visit: Visit, invite: Invite) -> None:
    """Declined in the window, then paid at the payment page: one payment, whichever way it is tried."""
    shop, who = world.shops["shop"], await invite(bank=300_000)
    tid, location = await shop.order("phone")
    page = await visit()
    await page.goto(f"{shop.url}/items/song")
    await log_in_at_shop(page)
    await page.goto(f"{shop.url}/orders/{tid}")
    async with page.expect_popup() as opening:
        await page.locator("[data-hanbit-relay]").click()
    window = await opening.value
    await log_in(window, who)
    await pay(window, who, password="wrong")
    await expect(window.locator("#notice [role=alert]")).to_be_visible()
    await window.locator("#pay-cancel").click()
    await page.goto(location)
    await pay(page, who)
    await expect(page.locator(".receipt .done")).to_be_visible()
    assert (await shop.state(tid, wait=True))["may_deliver"]
    assert await balance(world, who, "bank") == (80_000, 0)
