"""A customer buys at the shop and pays in Chromium: from the order screen to the receipt, the shop and the download."""

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import expect

from hanbit.crypto import certificates
from hanbit.demo.world import World
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel.clock import SystemClock
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.signed import PinnedTrust, verify
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import expect_notice, expect_receipt, log_in, log_in_at_shop, order_at_shop, pay, redirect, type_login
from tests.e2e.checkout.world import altered

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RECEIPT_WORDS: dict[LanguageCode, str] = {
    "ko": "홍길동님의 계좌에서 1,200원이 인출되었습니다",
    "en": "₩1,200 was withdrawn from Hong Gildong’s account",
}
NAMES: dict[LanguageCode, str] = {"ko": "홍길동", "en": "Hong Gildong"}


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_from_the_order_screen_to_the_receipt_and_the_download(
    world: World, visit: Visit, invite: Invite, language: LanguageCode, tmp_path: Path
) -> None:
    """The whole of document A as a customer sees it; the digital item is his only once the settled message has come."""
    shop = world.shops["shop"]
    who = await invite(NAMES[language], bank=1_000_000, card=500_000, emoney=30_000)
    page = await visit(language)

    # The shop: shelf, its own login, the order screen of Figure 6 with two ways to pay of which one is ours.
    await page.goto(shop.url)
    await picture(page, f"shelf-{language}")
    await page.locator("a[href='/items/song']").click()
    await log_in_at_shop(page)
    await expect(page.locator("#method option")).to_have_count(3)
    await expect(page.locator("#method option").first).to_contain_text("Hanbit")
    await expect(page.locator("#price")).to_contain_text("1,200")
    await picture(page, f"order-{language}")
    await page.locator("form.order button").click()

    # R3, R4: the payment server, under the bank's name, with shop, amount and order as they were signed.
    await expect(page.locator("#login")).to_be_visible()
    assert page.url.startswith(f"{world.settings.public_url}/pay?MID=shop&")
    tid = page.url.partition("TID=")[2].partition("&")[0]
    await expect(page.locator(".operator-name")).to_have_text({"ko": "한빛은행", "en": "Hanbit Bank"}[language])
    await expect(page.locator(".stub [data-shown=amount]")).to_contain_text("1,200")
    await picture(page, f"login-{language}")

    # Before it is paid the shop refuses the download.
    beside = await page.context.new_page()
    refused = await beside.goto(f"{shop.url}/orders/{tid}/download")
    assert refused is not None
    assert refused.status == 403
    await picture(beside, f"not-yet-{language}")
    await beside.close()

    # R5, R6: the payment screen of Figure 7.
    await log_in(page, who)
    await expect(page.locator("#pay-heading")).to_be_focused()
    bank = page.locator("label.choice", has=page.locator(f"input[value='{who.accounts['bank']}']"))
    await expect(bank).to_contain_text(who.numbers["bank"][-4:])
    await expect(page.locator("#pay-form button.pay")).to_contain_text("1,200")
    await picture(page, f"payment-{language}")

    # R7 to R12.
    await pay(page, who, kind="bank")
    receipt = await expect_receipt(page, language)
    await expect(receipt.locator("h1")).to_contain_text(RECEIPT_WORDS[language])
    await expect(receipt).to_contain_text(words(language, "receipt.unsigned"))
    assert who.numbers["bank"] not in await page.content(), "the account's whole number is nobody's business, not even on the receipt"
    await picture(page, f"receipt-{language}")

    # 28: the signed receipt, verified as anybody with the operator's root can.
    async with page.expect_download() as downloading:
        await page.locator("a[download]").click()
    saved = tmp_path / "receipt.jws"
    await (await downloading.value).save_as(saved)
    (root,) = certificates.load_chain_pem(world.data / KEYS_FOLDER / "root.pem")
    trust = PinnedTrust(root, world.settings.operator, urn=world.settings.gateway_urn)
    at = SystemClock().now()
    claims = verify(saved.read_bytes(), Receipt, trust=trust, audience=world.settings.customer_urn, at=at).claims
    assert (claims.tid, claims.amount, claims.currency, claims.payee) == (tid, "1200", "KRW", "무지개 상점")

    # The receipt leads home, where the same payment is told in the same language and the statement has it.
    beside = await page.context.new_page()
    await beside.goto(page.url)
    await beside.locator(".after a[href*='/my/payments/']").click()
    await expect(beside.locator(f"html[lang={language}] .verified")).to_have_text(words(language, "console.timeline.verified"))
    await expect(beside.locator(".lines")).to_contain_text(who.numbers["bank"][-4:])
    await picture(beside, f"home-payment-{language}")
    await beside.goto(f"{world.settings.public_url}/my/accounts/{who.accounts['bank']}?lang={language}")
    await expect(beside.locator("tbody tr").first).to_contain_text({"ko": "−1,200원", "en": "−₩1,200"}[language])
    await beside.close()

    # Back to the shop, which waits for its own settled message and then lets the customer have the song.
    await page.locator(f"a[href*='/hanbit/return?TID={tid}']").click()
    await page.wait_for_url(f"{shop.url}/orders/{tid}")
    await expect(page.locator("#order")).to_have_attribute("data-state", "settled")
    await picture(page, f"settled-{language}")
    async with page.expect_download() as downloading:
        await page.locator(f"a[href='/orders/{tid}/download']").click()
    assert (await (await downloading.value).path()).read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize(("kind", "place"), [("emoney", "receipt.withdrawn"), ("card", "receipt.charged")])
async def test_each_kind_of_account_pays(world: World, visit: Visit, invite: Invite, kind: str, place: str) -> None:
    who = await invite("홍길동", bank=0, card=500_000, emoney=300_000)
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who, kind=kind)
    receipt = await expect_receipt(page)
    await expect(receipt.locator("h1")).to_have_text(words("ko", place, name="홍길동", amount="220,000원"))
    await expect(receipt).to_contain_text(words("ko", f"kind.{kind}"))


async def test_a_typed_account_number_pays_and_a_wrong_one_says_what_is_wanted(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=500_000, emoney=0)
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await expect(page.locator("#number-field")).to_be_hidden()
    await pay(page, who, number="12-34")
    await expect_notice(page, words("ko", "program.need_number"))
    await expect(page.locator("#account-number")).to_have_attribute("aria-invalid", "true")
    number = who.numbers["bank"]
    await pay(page, who, number=f"{number[:3]}-{number[3:6]} {number[6:]}")
    await expect(await expect_receipt(page)).to_contain_text(number[-4:])


async def test_the_typed_account_of_somebody_else_looks_like_a_wrong_password(world: World, visit: Visit, invite: Invite) -> None:
    who, other = await invite(), await invite("김영희")
    page = await visit()
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    for number in (other.numbers["bank"], "99999999999999"):
        await pay(page, who, number=number, password=other.account_password)
        await expect_notice(page, words("ko", "decline.wrong_factor"))
        await expect(page.locator("#notice .money")).to_have_text(words("ko", "decline.money"))


async def test_without_money_it_is_declined_and_another_account_pays(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=5_000, emoney=300_000)
    page = await visit()
    tid, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who, kind="bank")
    await expect_notice(page, words("ko", "decline.no_funds"))
    await expect(page.locator("#account-password")).to_have_value("")
    await picture(page, "no-funds-ko")
    assert (await world.shops["shop"].state(tid))["state"] == "placed", "the shop hears of no decline"
    await pay(page, who, kind="emoney")
    await expect_receipt(page)
    assert (await world.shops["shop"].state(tid, wait=True))["may_deliver"]


async def test_a_suspended_account_is_told_so_only_after_its_password_was_right(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite()
    await world.command("set_state", what="account", id=who.accounts["bank"], state="suspended", reason="lost")
    page = await visit("en")
    _, location = await redirect(world.shops["shop"], language="en")
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who, kind="bank", password="something else")
    await expect_notice(page, words("en", "decline.wrong_factor"))
    await pay(page, who, kind="bank")
    await expect_notice(page, words("en", "decline.account_suspended"))
    await expect(page.locator("#notice a[href^='tel:']")).to_be_visible()


@pytest.mark.parametrize("known", [True, False])
async def test_a_wrong_login_waits_after_five_tries_whether_or_not_there_is_such_a_customer(
    world: World, watch: Watch, visit: Visit, invite: Invite, *, known: bool
) -> None:
    who = await invite()
    who = who if known else replace(who, login=f"nobody-{who.login}")
    page = await visit("en")
    _, location = await redirect(world.shops["shop"], language="en")
    await page.goto(location)
    await expect(page.locator("#login")).to_be_visible()
    for _ in range(4):
        await type_login(page, who, password="wrong")
        await expect_notice(page, words("en", "problem.login_failed.title"))
        await expect(page.locator("#login-id")).to_have_value(who.login)
        await expect(page.locator("#login-password")).to_have_value("")
        await expect(page.locator("#login-form button[type=submit]")).to_be_enabled()
    await type_login(page, who, password="wrong")
    await expect(page.locator("#login-form button[type=submit]")).to_be_enabled()
    await type_login(page, who)
    await expect_notice(page, words("en", "problem.too_many_tries.title"))
    await expect(page.locator("#notice")).to_contain_text("seconds")
    await picture(page, "too-many-tries-en")


async def test_a_wrong_account_password_closes_the_order_after_five_tries(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    tid, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    for _ in range(4):
        await pay(page, who, password="wrong")
        await expect_notice(page, words("ko", "decline.wrong_factor"))
        await expect(page.locator("#pay-form button.pay")).to_be_enabled()
    await pay(page, who, password="wrong")
    await expect(page.locator("h1:visible")).to_have_text(words("ko", "outcome.declined.title"))
    assert (await world.shops["shop"].state(tid, wait=True))["state"] == "closed"


async def test_an_order_of_several_things_shows_one_total(world: World, visit: Visit, invite: Invite) -> None:
    who = await invite(bank=1_000_000)
    page = await visit()
    await order_at_shop(page, world.shops["shop"], "teapot", quantity=3)
    await expect(page.locator(".stub [data-shown=amount]")).to_have_text("102,000원")
    await page.goto(altered(page.url, lang="en"))
    await expect(page.locator(".stub [data-shown=amount]")).to_have_text("₩102,000")
    await log_in(page, who)
    await pay(page, who)
    await expect_receipt(page, "en")
