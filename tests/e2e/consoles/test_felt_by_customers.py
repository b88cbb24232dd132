"""What the operator's staff decides, as a customer meets it in Chromium: name and mark, a halt, limits of an account and of a shop."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from hanbit.ledger.balances import available
from hanbit.payments import halt
from hanbit.payments import payment as payments
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.walk import expect_notice, expect_outcome, expect_receipt, log_in, pay
from tests.e2e.checkout.world import Person
from tests.e2e.consoles.steps import DESKTOP, NARROW, WHY, a_customer, customers_window, looked_at, press, reasoned
from tests.e2e.consoles.test_journeys import enter, window, words
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.site import SHOP
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SEEN_AGAIN_S = 0.1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """An operator whose customers feel what its staff does: other tests have another one."""
    async with running_consoles(tmp_path_factory.mktemp("felt")) as running:
        yield running


def new_order(bank: Consoles, language: LanguageCode, amount: int = 18_900) -> str:
    """R3's address of another order."""
    return bank.site.address(bank.site.shop.order(amount), lang=language)


async def shows(page: Page, address: str, text: str) -> None:
    """The page says this, at the latest a moment after it was changed."""
    async with asyncio.timeout(PATIENCE_S):
        await page.goto(address)
        while text not in await page.locator("body").inner_text():
            await asyncio.sleep(SEEN_AGAIN_S)
            await page.goto(address)


async def test_another_name_colour_telephone_and_terms_are_on_the_payment_page_and_at_home(browser: Browser, bank: Consoles) -> None:
    admin = await bank.person("operator", "admin", language="ko")
    async with window(browser, bank, "ko", viewport=DESKTOP) as page:
        await enter(page, bank, admin)
        await page.goto(bank.bases["operator"] + "/brand")
        await page.locator("a[href='/brand/change']").click()
        wanted = {"name_ko": "새빛은행", "name_en": "Saebit Bank", "telephone": "1599-7788", "terms_url": "https://saebit.example/terms"}
        await reasoned(page, colour="#fefefe", **wanted)
        await expect(page.locator("#colour-error")).to_be_visible()  # too pale for the mark
        await expect(page.locator("#name_ko")).to_have_value("새빛은행")  # what was typed stays
        await looked_at(page, DESKTOP)
        await reasoned(page, colour="#5b2a86")
        await expect(page.locator(".done")).to_have_text(words("ko", "operator.deed.done.brand"))
        await expect(page.locator(".bar .operator-name")).to_have_text("새빛은행")
        await looked_at(page, DESKTOP)
    names: dict[LanguageCode, str] = {"ko": "새빛은행", "en": "Saebit Bank"}
    async with customers_window(browser, "ko", NARROW) as page:
        for language, name in names.items():
            for address in (new_order(bank, language), f"{bank.site.base}/my/login?lang={language}"):
                await shows(page, address, name)
                await expect(page.locator(".masthead .operator-name")).to_have_text(name)
                await expect(page.locator(".masthead svg").first).to_be_visible()
                assert "#5b2a86" in await page.locator(".masthead svg").first.evaluate("mark => mark.outerHTML")
                await expect(page.locator("footer a[href='tel:1599-7788']")).to_be_visible()
                await expect(page.locator("footer a[href='https://saebit.example/terms']")).to_be_visible()
        await looked_at(page, NARROW)


async def test_a_halt_stops_who_comes_and_who_is_about_to_pay_and_afterwards_he_pays(browser: Browser, bank: Consoles) -> None:
    admin, who, reader = await bank.person("operator", "admin"), await a_customer(bank), bank.gateway.reader
    had = available(reader, who.accounts["bank"])
    async with window(browser, bank, viewport=NARROW) as staff, customers_window(browser, "en", NARROW) as page:
        await page.goto(new_order(bank, "en"))
        await log_in(page, who)
        await enter(staff, bank, admin)
        await staff.goto(bank.bases["operator"] + "/evidence")
        await press(staff, "operator.deed.evidence_halt", "en")
        await looked_at(staff, NARROW)
        await reasoned(staff)
        await expect(staff.locator("main [role=alert]")).to_contain_text(WHY)
        await looked_at(staff, NARROW)

        await pay(page, who)
        await expect_notice(page, words("en", "problem.payments_halted.title"))
        await looked_at(page, NARROW)
        assert available(reader, who.accounts["bank"]) == had
        async with customers_window(browser, "ko", NARROW) as another:
            answer = await another.goto(new_order(bank, "ko"))
            assert answer is not None
            assert answer.status == 503
            await expect_outcome(another, "halted", "ko")
            await expect(another.locator("input[type=password]")).to_have_count(0)
            await looked_at(another, NARROW)

        await press(staff, "operator.deed.evidence_resume", "en")
        await reasoned(staff)
        await expect(staff.locator("main [role=alert]")).to_have_count(0)
        assert halt.why_halted(reader) is None
        await pay(page, who)
        await expect_receipt(page, "en")
    assert available(reader, who.accounts["bank"]) == had - 18_900


async def test_a_limit_of_the_bank_declines_until_two_people_have_lifted_it(browser: Browser, bank: Consoles) -> None:
    support, admin = await bank.person("operator", "support", language="ko"), await bank.person("operator", "admin", language="ko")
    who = await a_customer(bank)
    account, amounts = who.accounts["bank"], "#accounts ~ .wide .amount"
    async with (
        window(browser, bank, "ko", viewport=DESKTOP) as staff,
        window(browser, bank, "ko", viewport=DESKTOP) as second,
        customers_window(browser, "ko", NARROW) as page,
    ):
        await enter(staff, bank, support)
        await limited(staff, bank, who, payment="10000", day="50000")
        await expect(staff.locator(amounts).first).to_contain_text("10,000")
        await looked_at(staff, DESKTOP)
        await page.goto(new_order(bank, "ko"))
        await log_in(page, who)
        await pay(page, who)
        await expect_notice(page, words("ko", "decline.limit"))
        await looked_at(page, NARROW)
        assert available(bank.gateway.reader, account) == 1_000_000

        await limited(staff, bank, who, payment="", day="")  # waits for another
        await looked_at(staff, DESKTOP)
        await enter(second, bank, admin)
        await second.goto(bank.bases["operator"] + "/proposals")
        await press(second, "operator.act.approve", "ko")
        await looked_at(second, DESKTOP)
        await reasoned(second)
        await expect(second.locator(".done")).to_have_text(words("ko", "operator.deed.done.proposal_approve"))
        await pay(page, who)
        await expect_receipt(page, "ko")
    assert available(bank.gateway.reader, account) == 1_000_000 - 18_900


async def limited(staff: Page, bank: Consoles, who: Person, *, payment: str, day: str) -> None:
    """The bank's limits of his account, from the list of customers on."""
    await staff.goto(f"{bank.bases['operator']}/customers")
    await staff.locator("#q").fill(who.numbers["bank"])
    await staff.keyboard.press("Enter")
    await staff.locator(f"a[href='/accounts/{who.accounts['bank']}/limits']").click()
    await reasoned(staff, payment=payment, day=day)
    await expect(staff.locator(".done")).to_be_visible()


async def test_a_limit_of_a_shop_is_said_before_a_password_is_asked_for(browser: Browser, bank: Consoles) -> None:
    admin, theirs, who = await bank.person("operator", "admin"), await bank.person("merchant", "viewer"), await a_customer(bank)
    address = new_order(bank, "en", 30_000)
    async with window(browser, bank, viewport=NARROW) as staff, customers_window(browser, "en", DESKTOP) as page:
        await enter(staff, bank, admin)
        await enter(staff, bank, theirs)
        await staff.goto(f"{bank.bases['operator']}/merchants/{SHOP}/limits")
        await looked_at(staff, NARROW)
        await reasoned(staff, payment="29999", day="")
        await expect(staff.locator(".done")).to_be_visible()
        await page.goto(address)
        await expect_outcome(page, "merchant_limit", "en")
        await expect(page.locator("input[type=password]")).to_have_count(0)
        await looked_at(page, DESKTOP)
        await staff.goto(bank.bases["merchant"] + "/")
        await expect(staff.locator("main")).to_contain_text("₩29,999")
        await looked_at(staff, NARROW)

        await staff.goto(f"{bank.bases['operator']}/merchants/{SHOP}/limits")
        await expect(staff.locator("#payment")).to_have_value("29,999")
        await reasoned(staff, payment="", day="")
        await expect(staff.locator(".done")).to_be_visible()
        await page.goto(address)
        await log_in(page, who)
        await pay(page, who)
        await expect_receipt(page, "en")
    row = bank.gateway.reader.one("SELECT id FROM payments WHERE amount = 30000")
    assert row is not None
    paid = payments.by_id(bank.gateway.reader, row["id"])
    assert paid is not None
    assert paid.state == "captured"
