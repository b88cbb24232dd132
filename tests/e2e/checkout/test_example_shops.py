"""The shops in Node and PHP as their customers see them: from the order page over the bank to the download, in both languages."""

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from hanbit.demo.world import World
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import audit
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, picture
from tests.e2e.checkout.walk import expect_outcome, expect_receipt, log_in, pay
from tests.flows.example_shops import KINDS, ExampleShop, example_shop, until_book

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TITLES: dict[LanguageCode, str] = {"ko": "지불이 끝났습니다", "en": "Your order is paid"}
SONGS: dict[LanguageCode, str] = {"ko": "아리랑 아리랑 아라리요", "en": "Arirang, arirang, arariyo"}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=KINDS)
async def example(world: World, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[ExampleShop]:
    async with example_shop(world, tmp_path_factory.mktemp(request.param), request.param) as started:
        yield started


@pytest.fixture(autouse=True)
def _axe_is_there(node: str) -> None:
    """axe-core comes with the packages of tests/node."""


async def order(page: Page, shop: ExampleShop, quantity: int = 1) -> str:
    """The order page (Figure 6), OK; the bank's page is then open. Returns the tid."""
    await page.goto(shop.url)
    await page.locator("#quantity").select_option(str(quantity))
    await page.locator("form button[value=bank]").click()
    await expect(page.locator("#login, #stage").first).to_be_attached()
    return page.url.partition("TID=")[2].partition("&")[0]


async def order_here(page: Page, shop: ExampleShop) -> str:
    """The same order, paid on its own page. Returns the tid."""
    await page.goto(shop.url)
    await page.locator("form button[value=here]").click()
    await expect(page.locator("[data-hanbit-relay]")).to_be_visible()
    await page.evaluate("globalThis.stayed = true")
    return page.url.partition("TID=")[2]


async def window_of(page: Page) -> Page:
    """A click on the button; the payment window. The button is there before the script that listens to it: this is no test of haste."""
    await page.wait_for_function("globalThis.hanbit")
    async with page.expect_popup() as opening:
        await page.locator("[data-hanbit-relay]").click()
    return await opening.value


async def status_of(page: Page, address: str) -> int:
    answer = await page.goto(address)
    assert answer is not None
    return answer.status


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_an_order_is_paid_and_its_song_downloaded(example: ExampleShop, visit: Visit, invite: Invite, language: LanguageCode) -> None:
    who, page = await invite(), await visit(language)
    await page.goto(example.url)
    await audit(page, narrow=True)
    await audit(page)
    await picture(page, f"example-{example.kind}-order-{language}")
    tid = await order(page, example, quantity=2)
    await expect(page.locator(".stub [data-shown=amount]")).to_contain_text("2,400")
    assert await status_of(page, f"{example.url}/download?TID={tid}") == 403
    await audit(page)
    await page.go_back()
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page, language)
    await page.locator(f"a[href*='/return?TID={tid}']").click()
    await expect(page.locator("h1")).to_have_text(TITLES[language])
    await expect(page.locator("#state")).to_have_attribute("data-state", "settled")
    await expect(page.locator("html")).to_have_attribute("lang", language)
    await audit(page)
    await picture(page, f"example-{example.kind}-paid-{language}")
    async with page.expect_download() as downloading:
        await page.locator("a.button").click()
    assert (await (await downloading.value).path()).read_text("utf-8").startswith(SONGS[language])
    await until_book(example, tid, "settled")


async def test_a_visitor_who_changes_the_language_keeps_it_to_the_end(example: ExampleShop, visit: Visit, invite: Invite) -> None:
    who, page = await invite(), await visit("ko")
    await page.goto(example.url)
    await page.locator("header a[lang=en]").click()
    tid = await order(page, example)
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page, "en")
    await page.goto(f"{example.url}/return?TID={tid}")
    await expect(page.locator("h1")).to_have_text(TITLES["en"])


async def test_a_customer_who_cancels_has_paid_nothing_and_gets_nothing(example: ExampleShop, visit: Visit) -> None:
    page = await visit()
    tid = await order(page, example)
    await page.locator("#login-cancel").click()
    await expect_outcome(page, "cancelled")
    await page.locator(".acts a.plain").click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "closed")
    await audit(page)
    await picture(page, f"example-{example.kind}-closed-ko")
    assert await status_of(page, f"{example.url}/download?TID={tid}&state=settled") == 403


async def test_a_shop_that_has_sold_out_refuses_in_its_own_words(example: ExampleShop, visit: Visit, invite: Invite) -> None:
    who, page = await invite(), await visit()
    held = sum(one["units"] for one in example.book.values() if one["state"] in {"held", "settled"})
    lines = [{"item": "arirang", "quantity": 20 - held, "price_minor": 1200}]
    filler = {"timestamp": "2026-01-01T00:00:00Z", "data": {"tid": "S" * 22, "state": "voided", "lines": lines}}
    await example.call_back({"type": "order.confirm", **filler})
    try:
        await order(page, example)
        await log_in(page, who)
        await pay(page, who)
        await expect_outcome(page, "refused")
        await expect(page.locator("body")).to_contain_text("악보가 방금 다 팔렸습니다.")
    finally:
        await example.call_back({"type": "order.voided", "sequence": 30_000, **filler})


async def test_another_browser_cannot_have_what_this_one_paid(example: ExampleShop, visit: Visit, invite: Invite) -> None:
    who, page, other = await invite(), await visit(), await visit("en")
    tid = await order(page, example)
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page)
    await other.goto(example.url)
    for path in (f"/return?TID={tid}&state=settled", f"/download?TID={tid}"):
        assert await status_of(other, example.url + path) == 404
    await audit(other)
    await picture(other, f"example-{example.kind}-unknown-en")


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_an_order_is_paid_at_the_button_and_its_page_changes_in_place(
    example: ExampleShop, visit: Visit, invite: Invite, language: LanguageCode
) -> None:
    """Declined once in the window, then paid; the shop's page has never been left."""
    who, page = await invite(), await visit(language)
    tid = await order_here(page, example)
    await audit(page, narrow=True)
    await audit(page)
    await picture(page, f"example-{example.kind}-button-{language}")
    window = await window_of(page)
    await expect(window.locator(".order-lines li")).to_have_text(["arirang" + ("1,200원" if language == "ko" else "₩1,200")])
    await log_in(window, who)
    await pay(window, who, password="wrong")
    await expect(window.locator("#notice [role=alert]")).to_be_visible()
    await pay(window, who)
    await expect(page.locator("#state")).to_have_attribute("data-state", "settled")
    await expect(page).to_have_title(TITLES[language])
    await expect(page.locator("[data-hanbit-relay]")).to_have_count(0)
    assert await page.evaluate("stayed")
    await audit(page)
    async with page.expect_download() as downloading:
        await page.locator("a.button").click()
    assert (await (await downloading.value).path()).read_text("utf-8").startswith(SONGS[language])
    await until_book(example, tid, "settled")


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_a_shop_that_has_sold_out_is_quoted_in_the_window_and_may_think_again(
    example: ExampleShop, visit: Visit, invite: Invite, language: LanguageCode
) -> None:
    who, page = await invite(), await visit(language)
    held = sum(one["units"] for one in example.book.values() if one["state"] in {"held", "settled"})
    lines = [{"item": "arirang", "quantity": 20 - held, "price_minor": 1200}]
    filler = {"timestamp": "2026-01-01T00:00:00Z", "data": {"tid": secrets.token_urlsafe(16), "state": "voided", "lines": lines}}
    await example.call_back({"type": "order.confirm", **filler})
    try:
        await order_here(page, example)
        window = await window_of(page)
        await log_in(window, who)
        await pay(window, who)
        notice = window.locator("#notice [role=alert]")
        await expect(notice).to_contain_text("“악보가 방금 다 팔렸습니다.”" if language == "ko" else "“The score has just sold out.”")
        await expect(notice).to_contain_text("노래 가게")
        await audit(window)
        await picture(window, f"window-sold-out-{language}")
    finally:
        await example.call_back({"type": "order.voided", "sequence": 60_000, **filler})
    await pay(window, who)
    await expect(page.locator("#state")).to_have_attribute("data-state", "settled")


async def test_a_closed_window_leaves_the_order_as_it_was_and_the_banks_page_takes_it(
    example: ExampleShop, visit: Visit, invite: Invite
) -> None:
    who, page = await invite(), await visit()
    tid = await order_here(page, example)
    window = await window_of(page)
    await log_in(window, who)
    await window.close()
    await expect(page.locator("[data-hanbit-relay]")).to_have_attribute("data-hanbit-state", "closed")
    await expect(page.locator("#state")).to_have_attribute("data-state", "placed")
    await page.locator(".ways a.button").click()
    await pay(page, who)
    await expect_receipt(page)
    await page.locator(f"a[href*='/return?TID={tid}']").click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "settled")


async def test_where_the_window_is_blocked_the_same_order_goes_by_the_banks_page(
    example: ExampleShop, visit: Visit, invite: Invite
) -> None:
    who, page = await invite(), await visit()
    await page.add_init_script("globalThis.open = () => null")
    tid = await order_here(page, example)
    await page.locator("[data-hanbit-relay]").click()
    await log_in(page, who)
    assert f"TID={tid}" in page.url
    await pay(page, who)
    await expect_receipt(page)
    await page.locator(f"a[href*='/return?TID={tid}']").click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "settled")
