"""A passkey in Chromium's virtual authenticator: enrolled after a payment, then it logs in and signs a payment."""

import pytest
from playwright.async_api import Page, expect

from hanbit.demo.world import World
from tests.e2e.checkout.authenticators import add_authenticator
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_notice, expect_receipt, log_in, pay, redirect
from tests.e2e.checkout.world import Person, balance

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def _enrol(page: Page, world: World, who: Person) -> None:
    """Pay once by password and accept the receipt's offer."""
    _, location = await redirect(world.shops["shop"], "song")
    await page.goto(location)
    await log_in(page, who)
    await expect(page.locator("[data-needs-passkey]")).to_have_count(0)
    await pay(page, who)
    await expect_receipt(page)
    await page.locator("#enrol-passkey").click()
    await expect(page.locator("#progress")).to_have_text(words("ko", "program.passkey_saved"))
    await expect(page.locator("#passkey-offer")).to_be_hidden()


async def test_a_passkey_logs_in_and_signs_a_payment(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    session, authenticator = await add_authenticator(page)
    await _enrol(page, world, who)
    credentials = (await session.send("WebAuthn.getCredentials", {"authenticatorId": authenticator}))["credentials"]
    assert [(one["rpId"], one["isResidentCredential"]) for one in credentials] == [("pay.localhost", True)]

    await page.context.clear_cookies()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await page.locator("#login-passkey").click()
    await expect(page.locator("#pay-form")).to_be_visible()
    await page.locator("#factor-passkey").check()
    await expect(page.locator("#account-password")).to_be_hidden()
    await picture(page, "passkey-ko")
    await page.locator("#pay-form button.pay").click()
    receipt = await expect_receipt(page)
    await expect(receipt).to_contain_text(words("ko", "receipt.signed"))
    await expect(page.locator("#enrol-passkey")).to_have_count(0)
    assert await balance(world, who, "bank") == (1_000_000 - 1_200 - 220_000, 0)


async def test_a_passkey_that_does_not_know_its_owner_sends_nothing_and_the_password_still_pays(
    world: World, watch: Watch, visit: Visit, invite: Invite
) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    session, authenticator = await add_authenticator(page)
    await _enrol(page, world, who)
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await page.locator("#factor-passkey").check()
    await session.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    before = len(watch.sent("/pay/submit"))
    await page.locator("#pay-form button.pay").click()
    await expect_notice(page, words("ko", "program.passkey_failed"))
    assert len(watch.sent("/pay/submit")) == before
    await page.locator("#factor-password").check()
    await pay(page, who)
    await expect(await expect_receipt(page)).to_contain_text(words("ko", "receipt.unsigned"))


async def test_a_passkey_of_nobody_cannot_log_in(world: World, watch: Watch, visit: Visit) -> None:
    page = await visit("en")
    await add_authenticator(page)
    _, location = await redirect(world.shops["shop"], language="en")
    await page.goto(location)
    await page.locator("#login-passkey").click()
    await expect_notice(page, words("en", "program.passkey_failed"))
    await expect(page.locator("#login-form")).to_be_visible()
    assert not watch.sent("/pay/login")


async def test_above_the_limit_of_unsigned_payments_only_the_passkey_pays(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=3_000_000)
    page = await visit("ko")
    await add_authenticator(page)
    await _enrol(page, world, who)
    _, location = await world.shops["shop"].order("phone", 9)
    await page.goto(location)
    await pay(page, who)
    await expect_notice(page, words("ko", "decline.unsigned_limit"))
    await page.locator("#factor-passkey").check()
    await page.locator("#pay-form button.pay").click()
    receipt = await expect_receipt(page)
    await expect(receipt).to_contain_text(words("ko", "receipt.signed"))
    await expect(receipt).to_contain_text("1,980,000원")
