"""The shop's staff give money back in Chromium, and from a terminal beside the running shop; the customer sees both (Figure 4)."""

import asyncio
import json
import sys

import pytest
from playwright.async_api import expect

from hanbit.demo.world import World
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import audit
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, picture
from tests.e2e.checkout.walk import expect_receipt, log_in, log_in_at_shop, pay
from tests.e2e.checkout.world import balance

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

STAMPS: dict[LanguageCode, tuple[str, str]] = {"ko": ("일부 환불", "취소됨"), "en": ("Partly refunded", "Cancelled")}


async def hanbit(*arguments: str) -> dict[str, object]:
    """A command of the shop's staff."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanbit", "merchant", *arguments, "--json"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return dict(json.loads(out))


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_a_part_by_the_staffs_page_and_the_rest_from_a_terminal(
    world: World, visit: Visit, invite: Invite, language: LanguageCode
) -> None:
    shop = world.shops["shop"]
    who = await invite("홍길동", bank=1_000_000)
    page = await visit(language)
    await page.goto(f"{shop.url}/items/phone")
    await log_in_at_shop(page)
    await page.locator("form.order button").click()
    tid = page.url.partition("TID=")[2].partition("&")[0]
    await log_in(page, who)
    await pay(page, who, kind="bank")
    await expect_receipt(page, language)
    assert await balance(world, who, "bank") == (780_000, 0)

    clerk = await visit(language)
    await clerk.goto(f"{shop.url}/staff")
    await audit(clerk)
    await clerk.locator("#token").fill((shop.folder / "staff.token").read_text("ascii"))
    await clerk.locator("main form button").click()
    await clerk.wait_for_url(f"{shop.url}/staff")
    await audit(clerk)
    await picture(clerk, f"staff-orders-{language}")
    await clerk.locator(f"a[href='/staff/orders/{tid}']").click()
    await clerk.locator("#amount").fill("20000")
    await clerk.locator("#reason").fill("흠집이 있음" if language == "ko" else "it has a scratch")
    await audit(clerk)
    await picture(clerk, f"staff-order-{language}")
    await clerk.locator("form[action$='/cancel'] button").click()
    await expect(clerk.locator(".stamp")).to_have_text(STAMPS[language][0])
    await audit(clerk)
    await picture(clerk, f"staff-refunded-{language}")
    assert await balance(world, who, "bank") == (800_000, 0)

    await page.goto(f"{shop.url}/orders/{tid}")
    await expect(page.locator(".stamp")).to_have_text(STAMPS[language][0])
    await audit(page)
    await picture(page, f"partly-refunded-{language}")

    # The shop is running and has the order book: the command goes through its socket.
    done = await hanbit("cancel", tid, "--reason", "the rest", "--directory", str(shop.folder))
    assert isinstance(done["cancellation"], dict)
    assert (done["cancellation"]["state"], done["cancellation"]["amount"]) == ("confirmed", "200000")
    assert await balance(world, who, "bank") == (1_000_000, 0)
    await page.reload()
    await expect(page.locator(".stamp")).to_have_text(STAMPS[language][1])
    await picture(page, f"cancelled-{language}")
    await clerk.reload()
    await clerk.locator("form[action$='/returned'] button").click()
    await expect(clerk.locator("form[action$='/returned']")).to_have_count(0)
    await picture(clerk, f"staff-cancelled-{language}")
    listed = await hanbit("orders", "--state", "cancelled", "--directory", str(shop.folder))
    assert isinstance(listed["orders"], list)
    assert tid in [order["tid"] for order in listed["orders"]]
    report = await hanbit("reconcile", "--directory", str(shop.folder))
    assert report["unresolved"] == []
