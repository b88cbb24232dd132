"""Payment server and shop are two sites: cookies, storage, frames and scripts of one are nothing to the other."""

import json

import pytest
from playwright.async_api import Page, Request, expect

from hanbit.demo.world import World
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_outcome, expect_receipt, log_in, order_at_shop, pay, redirect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def _cookies(requests: list[Request], site: str) -> set[str]:
    """The names of the cookies that were sent to a site."""
    headers = [(await request.all_headers()).get("cookie", "") for request in requests if request.url.startswith(site)]
    return {pair.partition("=")[0].strip() for header in headers for pair in header.split(";") if pair.strip()}


async def test_the_cookies_of_one_site_never_reach_the_other(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who, shop, bank = await invite(), world.shops["shop"], world.settings.public_url
    page = await visit("en")
    await page.goto(f"{shop.url}/language/en")
    tid = await order_at_shop(page, shop, "phone")
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page, "en")
    await page.locator("a[href*='/hanbit/return']").click()
    await page.wait_for_url(f"{shop.url}/orders/{tid}")
    assert await _cookies(watch.requests, bank) == {"__Host-hanbit"}
    assert await _cookies(watch.requests, shop.url) == {"__Host-rainbow", "__Host-rainbow-language"}

    kept = await page.context.cookies()
    assert {(cookie["name"], cookie["domain"]) for cookie in kept} == {
        ("__Host-hanbit", "pay.localhost"),
        ("__Host-rainbow", "shop.localhost"),
        ("__Host-rainbow-language", "shop.localhost"),
    }
    assert all(cookie["httpOnly"] and cookie["secure"] and cookie["path"] == "/" for cookie in kept)
    assert all(cookie["sameSite"] == "Lax" for cookie in kept)
    assert await page.evaluate("document.cookie") == ""
    session = next(cookie["value"] for cookie in kept if cookie["name"] == "__Host-hanbit")
    assert not [request.url for request in watch.requests if session in request.url + (request.post_data or "")]


async def test_no_secret_is_left_in_the_browsers_storage(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    _, location = await redirect(world.shops["shop"])

    async def stored() -> str:
        return json.dumps(
            await page.evaluate(
                "async () => [Object.entries(localStorage), Object.entries(sessionStorage), await indexedDB.databases(), "
                "await caches.keys(), (await navigator.serviceWorker.getRegistrations()).length, window.name, history.state]"
            )
        )

    await page.goto(location)
    await log_in(page, who)
    assert json.loads(await stored()) == [[], [], [], [], 0, "", None]
    await pay(page, who)
    await expect_receipt(page)
    assert json.loads(await stored()) == [[], [], [], [], 0, "", None]
    await page.goto("about:blank")
    await page.go_back()
    await expect_receipt(page)
    content = await page.content()
    assert not [secret for secret in who.secrets if secret in content]


async def test_no_page_of_the_payment_server_can_be_framed(world: World, watch: Watch, visit: Visit) -> None:
    """Neither by the shop nor by its own site: what is typed is always typed into a window with an address bar."""
    page = await visit()
    shop = world.shops["shop"]
    _, location = await redirect(shop)
    trap = f'<!doctype html><title>trap</title><iframe id="bank" src="{location}"></iframe>'
    for site in (shop.url, world.settings.public_url):
        await page.route(f"{site}/trap", lambda route: route.fulfill(body=trap, content_type="text/html"))
        async with page.expect_event("requestfailed", lambda request: request.url == location):
            await page.goto(f"{site}/trap")
        frame = page.frames[1]
        await expect(frame.locator("#login-password")).to_have_count(0)
        assert frame.url.startswith("chrome-error:")
    assert watch.complaints
    assert all("frame-ancestors" in complaint for complaint in watch.complaints)
    watch.complaints.clear()


async def test_the_payment_page_has_no_opener_to_talk_to(world: World, visit: Visit) -> None:
    page = await visit()
    shop = world.shops["shop"]
    _, location = await redirect(shop)
    await page.goto(shop.url)
    async with page.expect_popup() as opening:
        await page.evaluate("address => { globalThis.bank = window.open(address); }", location)
    bank = await opening.value
    await expect(bank.locator("#login")).to_be_visible()
    assert await bank.evaluate("window.opener") is None
    assert await page.evaluate("globalThis.bank.closed"), "cross-origin opener policy has cut the two windows apart"


async def test_text_becomes_markup_only_through_the_programs_own_policy(world: World, watch: Watch, visit: Visit) -> None:
    page = await visit()
    _, location = await redirect(world.shops["shop"], "song")
    await page.goto(location)
    await expect(page.locator("#login")).to_be_visible()
    attempt = "(markup) => { try { %s; return 'done'; } catch (error) { return error.name; } }"
    for act in ("document.body.innerHTML = markup", "document.createElement('script').src = markup", "setTimeout(markup)"):
        assert await page.evaluate(attempt % act, "<img src=x onerror=alert(1)>") in {"TypeError", "EvalError"}, act
    assert await page.evaluate(attempt % "trustedTypes.createPolicy('other', {})", "") == "TypeError"
    assert watch.complaints
    watch.complaints.clear()


async def _without_scripts(visit: Visit, page: Page) -> Page:
    """The same person in a browser that runs no scripts."""
    other = await visit("ko", java_script_enabled=False)
    await other.context.add_cookies(await page.context.cookies())  # type: ignore[arg-type]  # what comes out goes in
    return other


async def test_without_javascript_the_page_says_plainly_that_it_cannot_seal(world: World, watch: Watch, visit: Visit) -> None:
    page = await visit("ko", java_script_enabled=False)
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await expect(page.locator("noscript h1")).to_have_text(words("ko", "noscript.title"))
    await expect(page.locator("noscript code")).to_have_text("hanbit wallet pay")
    await expect(page.locator("#login-password")).to_be_hidden()
    await expect(page.locator("noscript a[href*='/hanbit/return']")).to_be_visible()
    await picture(page, "no-javascript-ko")
    assert not [request for request in watch.requests if request.method == "POST"]


async def test_without_javascript_the_pages_that_only_tell_still_tell(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    tid, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page)
    plain = await _without_scripts(visit, page)
    await plain.goto(page.url)
    await expect_receipt(plain)
    await expect(plain.locator("[data-print]")).to_be_hidden()
    await expect(plain.locator("#passkey-offer")).to_be_hidden()
    async with plain.expect_download() as downloading:
        await plain.locator("a[download]").click()
    assert (await (await downloading.value).path()).read_text("ascii").count(".") == 2
    await plain.goto(location)
    await expect_receipt(plain)
    stranger = await visit("en", java_script_enabled=False)
    await stranger.goto(page.url.replace("lang=ko", "lang=en"))
    await expect_outcome(stranger, "already_paid", "en")
    await expect(stranger.locator(".acts a.plain")).to_have_attribute("href", f"{world.shops['shop'].url}/hanbit/return?TID={tid}")
