"""Whom an admin lets in and how far he comes, what a clerk prints and keeps, and the language of one's own, in Chromium."""

from base64 import b32decode

import pytest
from playwright.async_api import Browser, Page, expect

from hanbit.parties import people, time_codes
from hanbit.web.words import LanguageCode
from tests.e2e.consoles.steps import (
    DESKTOP,
    NARROW,
    WHY,
    looked_at,
    opened_filter,
    press,
    printed_whole,
    sheet_of,
    went_to,
)
from tests.e2e.consoles.test_journeys import NEW_PASSWORD, enter, window, words
from tests.faces.consoles import FACES
from tests.faces.site import SHOP
from tests.faces.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_cashier_comes_in_by_the_admins_link_and_may_refund_and_no_more(browser: Browser, stage: Stage) -> None:
    consoles, base, payment = stage.consoles, stage.base("merchant"), stage.things["captured"]
    admin = await consoles.person("merchant", "admin", language="ko")
    async with window(browser, consoles, "ko", viewport=DESKTOP) as page:
        await enter(page, consoles, admin)
        await page.goto(base + "/staff")
        await press(page, "console.staff.invite", "ko")
        await page.locator("#name").fill("오수납")
        await page.locator("#login").fill("oh-sunap")
        await page.locator("#role").select_option("cashier")
        await page.locator("#language").select_option("ko")
        await looked_at(page, DESKTOP)
        await page.keyboard.press("Enter")
        link = await page.locator(".secret-link .code").inner_text()
        await looked_at(page, DESKTOP)
        await press(page, "console.staff.title", "ko")
        await expect(page.locator("#main tbody tr").filter(has_text="oh-sunap")).to_contain_text(words("ko", "console.role.cashier"))
    async with window(browser, consoles, "ko", viewport=NARROW) as page:
        await set_up(page, stage, link)
        await page.goto(f"{base}/payments/{payment}/refund")
        await page.locator("input[value=part]").check()
        await page.locator("#amount").fill("1,000")
        await page.locator("#reason").fill(WHY)
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words("ko", "merchant.request.done.done"))
        assert (stage.shop.acts[-1].act, stage.shop.acts[-1].amount) == ("cancel", "1000")
        await page.goto(base + "/staff")
        await expect(page.locator("a[href='/staff/invite']")).to_have_count(0)
        for path, status in (
            ("/settlement/account", 403),
            ("/staff/invite", 403),
            (f"/certificates/{stage.things['certificate']}/revoke", 403),
            (f"/payments/{stage.things['nowhere']}/refund", 404),
        ):
            answer = await page.goto(base + path)
            assert answer is not None
            assert answer.status == status, path
            await expect(page.locator(".rail")).to_be_visible()  # and a way on
        await looked_at(page, NARROW)
    person = people.by_login(consoles.gateway.reader, "oh-sunap")
    assert person is not None
    assert (person.role, person.merchant) == ("cashier", SHOP)


async def set_up(page: Page, stage: Stage, link: str) -> None:
    """A password and an app, by the link alone."""
    await page.goto(link)
    secret = b32decode((await page.locator(".secret").inner_text()).replace(" ", ""))
    await page.locator("#password").fill(NEW_PASSWORD)
    await page.locator("#again").fill(NEW_PASSWORD)
    await page.locator("#code").fill(time_codes.code_of(secret, stage.clock.now() // time_codes.STEP_S))
    await page.keyboard.press("Enter")
    await expect(page.locator(".done")).to_contain_text("오수납")
    await looked_at(page, NARROW)


async def test_a_clerk_keeps_a_list_and_a_day_as_sheets_and_prints_them(browser: Browser, stage: Stage) -> None:
    consoles, base, day = stage.consoles, stage.base("operator"), stage.things["day"]
    support = await consoles.person("operator", "support", language="ko")
    async with window(browser, consoles, "ko", viewport=DESKTOP) as page:
        await enter(page, consoles, support)
        await page.goto(base + "/")
        await went_to(page, "operator.nav.payments", "ko", DESKTOP)
        await opened_filter(page, DESKTOP)
        await page.locator("#state").select_option("refused")
        await page.get_by_role("button", name=words("ko", "console.search")).click()
        await page.wait_for_url("**state=refused**")
        rows = await sheet_of(page.get_by_role("link", name=words("ko", "console.sheet")))
        assert {row["payment"] for row in rows} == {stage.things["refused"], stage.things["mismatch"]}
        await printed_whole(page, DESKTOP)

        await went_to(page, "operator.nav.settlement", "ko", DESKTOP)
        await page.locator(f"th a[href='/settlement/days/{day}']").click()
        await expect(page.locator("h1")).to_contain_text(day)
        (kept,) = [row for row in await sheet_of(page.get_by_role("link", name=words("ko", "console.sheet"))) if row["merchant"] == SHOP]
        await looked_at(page, DESKTOP)
        await printed_whole(page, DESKTOP)
        await page.locator(f"a[href='/settlement/days/{day}/{SHOP}']").click()
        await expect(page.locator("#main .lines")).to_contain_text(f"{int(kept['captured']):,}")
        await looked_at(page, DESKTOP)
        await printed_whole(page, DESKTOP)


@pytest.mark.parametrize("face", FACES)
async def test_the_language_changes_where_one_stands_and_stays(browser: Browser, stage: Stage, face: str) -> None:
    consoles = stage.consoles
    viewer = await consoles.person(face, "viewer", language="en")
    titles: dict[LanguageCode, str] = {code: words(code, "console.payments.title") for code in ("ko", "en")}
    async with window(browser, consoles, "en", viewport=NARROW) as page:
        await enter(page, consoles, viewer)
        await page.goto(stage.base(face) + "/payments?state=captured")
        await expect(page.locator("h1")).to_have_text(titles["en"])
        await page.get_by_role("button", name="한국어").click()
        await expect(page.locator("h1")).to_have_text(titles["ko"])
        await expect(page.locator("html")).to_have_attribute("lang", "ko")
        await expect(page.locator("#state")).to_have_value("captured")  # the list is as narrow as before
        await page.goto(stage.base(face) + "/")
        await expect(page.locator("html")).to_have_attribute("lang", "ko")
        await page.get_by_role("button", name="English").click()
        await expect(page.locator("html")).to_have_attribute("lang", "en")
