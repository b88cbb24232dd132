"""What a customer does, step by step: the shop's order screen, the bank's login, the payment screen, the receipt."""

from playwright.async_api import Locator, Page, expect

from hanbit.demo.world import DemoShop
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.visitors import words
from tests.e2e.checkout.world import Person, altered

SHOP_LOGIN = ("minji", "rainbow")


async def redirect(shop: DemoShop, item: str = "phone", *, language: LanguageCode = "ko") -> tuple[str, str]:
    """An order placed by the shop's own program, for tests that begin at the bank: its tid and R3's address."""
    tid, location = await shop.order(item)
    return tid, altered(location, lang=language)


async def order_at_shop(page: Page, shop: DemoShop, item: str, *, quantity: int = 1) -> str:
    """R1 to R3 by hand: the shop's own login, the order screen (Figure 6), OK. Returns the tid; the bank's page is then open."""
    await page.goto(f"{shop.url}/items/{item}")
    if "/login" in page.url:
        await log_in_at_shop(page)
    if quantity != 1:
        await page.locator("#quantity").fill(str(quantity))
    await page.locator("form.order button").click()
    await expect(page.locator("#login, #stage").first).to_be_attached()
    return page.url.partition("TID=")[2].partition("&")[0]


async def log_in_at_shop(page: Page) -> None:
    """The shop's own login (A23)."""
    login, password = SHOP_LOGIN
    await page.locator("#id").fill(login)
    await page.locator("#password").fill(password)
    await page.locator("main button").click()
    await page.wait_for_url(lambda url: "/login" not in url)


async def type_login(page: Page, who: Person, *, password: str | None = None) -> None:
    """R5: ID and log-in password."""
    await page.locator("#login-id").fill(who.login)
    await page.locator("#login-password").fill(who.password if password is None else password)
    await page.locator("#login-form button[type=submit]").click()


async def log_in(page: Page, who: Person) -> None:
    """R5, R6: the payment screen is then shown."""
    await type_login(page, who)
    await expect(page.locator("#pay-form")).to_be_visible()


async def pay(page: Page, who: Person, *, kind: str = "", number: str = "", password: str | None = None) -> None:
    """R7: choose or type an account, its password, the Pay button."""
    if number:
        await page.locator("#account-other").check()
        await page.locator("#account-number").fill(number)
    elif kind:
        await page.locator(f"input[name=account][value='{who.accounts[kind]}']").check()
    await page.locator("#account-password").fill(who.account_password if password is None else password)
    await page.locator("#pay-form button.pay").click()


async def expect_receipt(page: Page, language: LanguageCode = "ko") -> Locator:
    """R12: the receipt page."""
    await expect(page.locator(".receipt .done")).to_have_text(words(language, "receipt.done"))
    return page.locator(".receipt")


async def expect_outcome(page: Page, outcome: str, language: LanguageCode = "ko") -> None:
    """The page of this outcome, with its own words about the money."""
    await expect(page.locator("h1:visible")).to_have_text(words(language, f"outcome.{outcome}.title"))
    await expect(page.locator(".money")).to_have_text(words(language, f"outcome.{outcome}.money"))


async def expect_notice(page: Page, text: str) -> None:
    """The summary on top: announced, focused, and saying this."""
    notice = page.locator("#notice [role=alert]")
    await expect(notice).to_contain_text(text)
    await expect(notice).to_be_focused()
