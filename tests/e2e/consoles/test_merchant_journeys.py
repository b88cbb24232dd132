"""What a merchant's people do all day, in Chromium: find a payment, look at an order, print a day, say where to be paid, end a key."""

import secrets
from base64 import b32decode

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from hanbit.crypto.passwords import NEW_PASSWORD_CHARACTERS_MIN
from hanbit.db.change import Change
from hanbit.parties import console_sessions, time_codes
from hanbit.parties import terms as agreed
from hanbit.payments import proposals
from hanbit.web.words import LanguageCode
from tests.e2e.consoles.steps import (
    SIZES,
    another_shop,
    looked_at,
    opened_filter,
    printed_whole,
    reasoned,
    sheet_of,
    stepped_up,
    went_to,
)
from tests.e2e.consoles.test_journeys import NEW_PASSWORD, enter, window, words
from tests.faces.consoles import PASSWORD
from tests.faces.site import SHOP
from tests.faces.stage import Stage

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize(("language", "size"), SIZES),
]


async def test_a_payment_is_found_by_its_number_and_a_list_is_narrowed_and_kept(
    browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize
) -> None:
    consoles, base = stage.consoles, stage.base("merchant")
    cashier = await consoles.person("merchant", "cashier", language=language)
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, cashier)
        await page.goto(base + "/")
        await expect(page.locator(".test-mode")).to_contain_text(words(language, "layout.test_mark"))
        await went_to(page, "merchant.nav.payments", language, size)
        await opened_filter(page, size)
        await looked_at(page, size)
        await page.locator("#number").fill(stage.things["captured"])
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/payments/{stage.things['captured']}")
        await expect(page.locator(".timeline")).to_be_visible()

        await page.goto(base + "/payments")
        await opened_filter(page, size)
        await page.locator("#state").select_option("refused")
        await page.get_by_role("button", name=words(language, "console.search")).click()
        await page.wait_for_url("**state=refused**")
        await expect(page.locator("#state")).to_be_visible()  # what narrows the list is never folded away
        shown = await page.locator("tbody tr").count()
        rows = await sheet_of(page.get_by_role("link", name=words(language, "console.sheet")))
        assert {row["payment"] for row in rows} == {stage.things["refused"], stage.things["mismatch"]}
        assert len(rows) == shown
        await printed_whole(page, size)


async def test_an_order_that_needs_a_look_is_looked_at(browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize) -> None:
    consoles = stage.consoles
    cashier = await consoles.person("merchant", "cashier", language=language)
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, cashier)
        await page.goto(stage.base("merchant") + "/orders")
        await expect(page.locator("#main tbody tr")).not_to_have_count(0)
        await looked_at(page, size)
        await page.get_by_role("link", name=words(language, "merchant.orders.looked")).click()
        before = len(stage.shop.acts)
        await reasoned(page)
        await expect(page.locator(".done")).to_have_text(words(language, "merchant.request.done.done"))
    assert [(act.act, act.tid) for act in stage.shop.acts[before:]] == [("looked", stage.things["looked"])]


async def test_a_settled_day_is_opened_kept_and_printed(browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize) -> None:
    consoles, day = stage.consoles, stage.things["day"]
    viewer = await consoles.person("merchant", "viewer", language=language)
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, viewer)
        await page.goto(stage.base("merchant") + "/settlement")
        await looked_at(page, size)
        days = await sheet_of(page.get_by_role("link", name=words(language, "console.sheet")))
        assert day in [row["day"] for row in days]
        await printed_whole(page, size)
        await page.locator(f"th a[href='/settlement/{day}']").click()
        await expect(page.locator("h1")).to_contain_text(day)
        await looked_at(page, size)
        lines = await sheet_of(page.get_by_role("link", name=words(language, "merchant.settlement.lines")))
        taken = sum(int(row["amount"]) for row in lines if row["kind"] == "capture")
        assert str(taken) == next(row["captured"] for row in days if row["day"] == day)
        await printed_whole(page, size)


async def test_another_payout_account_asks_for_the_second_factor(
    browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize
) -> None:
    consoles = stage.consoles
    admin = await consoles.person("merchant", "admin", session="stale", language=language)
    had = agreed.of_merchant(consoles.gateway.reader, SHOP).payout_masked
    number = f"1109988{secrets.randbelow(10**7):07}"
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, admin)
        await page.goto(stage.base("merchant") + "/settlement")
        await page.get_by_role("link", name=words(language, "merchant.deed.payout_account")).click()
        assert agreed.of_merchant(consoles.gateway.reader, SHOP).payout_masked == had
        await stepped_up(page, consoles, admin, language)
        await looked_at(page, size)
        await reasoned(page, bank="한빛은행", number=number)
        await expect(page.locator(".done")).to_have_text(words(language, "merchant.done.payout_account"))
        await expect(page.locator("main")).to_contain_text(number[-4:])
        assert number not in await page.content()
        await looked_at(page, size)
    waiting = proposals.waiting_account(consoles.gateway.reader, SHOP)
    assert waiting is not None
    assert waiting.told["masked"].endswith(number[-4:])
    assert agreed.of_merchant(consoles.gateway.reader, SHOP).payout_masked == had, "the operator approves it"


async def test_a_key_is_revoked_with_the_second_factor(browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize) -> None:
    consoles, merchant = stage.consoles, f"saebom-{language}"
    await another_shop(consoles, merchant)
    admin = await consoles.person("merchant", "admin", merchant=merchant, session="stale", language=language)
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, admin)
        await page.goto(stage.base("merchant") + "/line")
        revoke = page.locator("a[href^='/certificates/']")
        await expect(revoke).to_have_count(2)
        await looked_at(page, size)
        await revoke.first.click()
        await stepped_up(page, consoles, admin, language)
        await reasoned(page)
        await expect(page.locator(".done")).to_have_text(words(language, "merchant.done.revoked"))
        await expect(revoke).to_have_count(1)
        await expect(page.locator(".state-refused")).to_have_text(words(language, "console.certificates.revoked"))


async def test_somebody_keeps_his_own_account_safe(browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize) -> None:
    """Another password, one more second factor, and nobody else is logged in as him."""
    assert len(NEW_PASSWORD) >= NEW_PASSWORD_CHARACTERS_MIN
    consoles = stage.consoles
    cashier = await consoles.person("merchant", "cashier", language=language)
    base, at = stage.base("merchant"), consoles.gateway.clock.now
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, cashier)
        _, elsewhere = console_sessions.open_session(cashier.person, at(), stepped_up=False)
        await consoles.gateway.book.commit(Change(puts=(elsewhere,)))
        await page.goto(base + "/me")
        await looked_at(page, size)
        await page.get_by_role("button", name=words(language, "console.me.end_others")).click()
        await expect(page.locator(".done")).to_have_text(words(language, "console.me.done.sessions"))
        assert len(console_sessions.of_person(consoles.gateway.reader, cashier.person.id, at())) == 1

        await page.locator("a[href='/me/factor']").click()
        secret = b32decode((await page.locator(".secret").inner_text()).replace(" ", ""))
        await page.locator("#code").fill(time_codes.code_of(secret, at() // time_codes.STEP_S))
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words(language, "console.me.done.factor"))
        await expect(page.locator("a[href^='/me/factors/']")).to_have_count(2)

        await page.locator("a[href='/me/password']").click()
        await page.locator("#present").fill("wrong")
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.locator("#again").fill(NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("#present-error")).to_have_text(words(language, "console.me.wrong_password"))
        await looked_at(page, size)
        for field, text in (("present", PASSWORD), ("password", NEW_PASSWORD), ("again", NEW_PASSWORD)):
            await page.locator(f"#{field}").fill(text)
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words(language, "console.me.done.password"))

        await page.get_by_role("button", name=words(language, "console.log_out")).click()
        await page.locator("#login").fill(cashier.person.login)
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("#code")).to_be_visible()
