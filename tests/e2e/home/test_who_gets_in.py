"""Who gets in and who approves, as the customer orders it at home, in Chromium: log-ins, passwords, passkeys, device keys, letters."""

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from hanbit.protocols.redirect import customer
from hanbit.web.words import LanguageCode, catalogue
from tests.e2e.checkout.authenticators import add_authenticator
from tests.e2e.home.guests import DESKTOP, PHONE, Place, guest, in_english, in_korean
from tests.faces.test_customer_site import Browser as Program
from tests.faces.test_home import CHROME, FIREFOX, Home
from tests.world import enrol_device

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
NEW_PASSWORD, NEW_ACCOUNT_PASSWORD = "quite another sentence", "8642"


async def is_in(*homes: Home) -> list[bool]:
    """Which of these other browsers are still logged in."""
    return [(await home.page("/my"))[0] == 200 for home in homes]


@in_korean
async def test_a_log_in_that_was_not_his_ends_with_all_others_and_the_password_is_next(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        own = await who.elsewhere(**FIREFOX)
        await who.log_in()
        thief = await who.elsewhere(**CHROME)
        await who.open("/my")
        page = who.page
        notice = page.locator("section.summary", has_text="Chrome · Windows")
        await expect(notice).to_contain_text(who.words("home.unusual.disown_hint"))
        await who.seen("unusual")
        await notice.locator("button.plain").click()
        await who.done("disowned")
        assert await is_in(own, thief) == [False, False]
        await expect(page.locator("button[data-session]")).to_have_count(0)
        await expect(page.locator("#password")).to_be_visible()
        await who.seen("disowned")
        await who.typed(password_old=who.password, password_new=NEW_PASSWORD, password_again=NEW_PASSWORD)
        await who.done("password")
        await who.open("/my")
        await expect(page.locator("section.summary")).to_have_count(0)


@in_english
async def test_many_log_ins_are_a_short_list_of_which_one_or_all_others_end(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        others = [await who.elsewhere(**FIREFOX) for _ in range(7)]
        await who.log_in("/my/security")
        page = who.page
        await expect(page.locator("button[data-session]")).to_have_count(5)
        await who.seen("security")
        await page.locator("a[href*='sessions=all']").click()
        await expect(page.locator("button[data-session]")).to_have_count(7)
        await page.locator("button[data-session]").first.click()
        await who.done("ended")
        assert sorted(await is_in(*others)) == [False] + [True] * 6
        await page.locator("#end-sessions button.plain").click()
        await who.done("ended")
        assert not any(await is_in(*others))
        await expect(page.locator("#end-sessions")).to_have_count(0)
        await expect(page.locator("#login-id")).to_have_count(0)


@in_english
async def test_another_log_in_password_and_another_account_password_count_at_once(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        other = await who.elsewhere()
        await who.log_in("/my/security")
        await who.typed(password_old="wrong", password_new=NEW_PASSWORD, password_again=NEW_PASSWORD)
        await who.refused(who.words("problem.wrong_password.title"))
        await who.typed(password_old=who.password, password_new="aaaaaaaa", password_again="aaaaaaaa")
        await who.refused(who.words("home.say.wrong_new"))
        await who.typed(password_old=who.password, password_new=NEW_PASSWORD, password_again="another")
        await who.refused(who.words("home.say.not_the_same"))
        await who.seen("password-differs")
        await who.typed(password_old=who.password, password_new=NEW_PASSWORD, password_again=NEW_PASSWORD)
        await who.done("password")
        await expect(who.page.locator("#tries + p")).to_have_text(who.words("home.tries.text"))
        await who.seen("password-changed")
        assert await is_in(other) == [False]
        who.password = NEW_PASSWORD

        await who.open(f"/my/accounts/{who.bank}/settings")
        await who.typed(password_old=who.account_password, password_new=NEW_ACCOUNT_PASSWORD, password_again=NEW_ACCOUNT_PASSWORD)
        await who.done("password")
        assert (await who.pays())[1:] == ("open", "wrong_factor")
        assert (await who.pays(password=NEW_ACCOUNT_PASSWORD))[1] == "captured"
        assert NEW_ACCOUNT_PASSWORD not in await who.page.content()


@in_korean
async def test_a_passkey_is_made_logs_in_gets_a_name_and_goes(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        page = who.page
        session, authenticator = await add_authenticator(page)
        await page.goto(who.site.address(who.site.shop.order(), lang=language))
        await who.typed(login_id=who.login, login_password=who.password)
        await page.locator("#account-password").fill(who.account_password)
        await page.locator("#pay-form button.pay").click()
        await page.locator("#enrol-passkey").click()
        await expect(page.locator("#progress")).to_have_text(who.words("program.passkey_saved"))
        (credential,) = (await session.send("WebAuthn.getCredentials", {"authenticatorId": authenticator}))["credentials"]
        assert (credential["rpId"], credential["userName"], credential["userDisplayName"]) == ("pay.localhost", who.login, who.name)

        await who.open("/my/security")
        await expect(page.locator("a[href*='/my/keys/']")).to_have_text("Chrome · Linux")
        await page.locator("form[data-act='/my/logout'] button").click()
        await page.locator("#login-passkey").click()
        await expect(page.locator("h1")).to_have_text(who.words("home.hello", name=who.name))
        await who.open("/my/security")
        await expect(page.locator("table").first).to_contain_text(who.words("home.method.passkey"))
        await page.locator("a[href*='/my/keys/']").click()
        await who.seen("passkey")
        await who.typed(key_name="  거실 노트북 ")
        await expect(page.locator("h1")).to_have_text("거실 노트북")
        await page.locator("[data-approve]").click()
        await who.done("removed")
        await expect(page.locator("a[href*='/my/keys/']")).to_have_count(0)
        await page.locator("form[data-act='/my/logout'] button").click()
        await page.locator("#login-passkey").click()
        await who.refused(who.words("problem.login_failed.title"))
        await who.seen("passkey-removed")


async def test_a_device_key_and_its_code_approve_until_they_are_removed(browser: Browser, place: Place) -> None:
    async with guest(browser, place, "ko", PHONE) as who:
        signer, secret = await enrol_device(who.site.gateway, who.login)

        def by_device(program: Program, core: str) -> str:
            return customer.auth_device(program.opening, core, signer, who.site.gateway.clock.now())

        def by_code(program: Program, core: str) -> str:
            return customer.auth_code(program.sealing.session.code_binding, core, secret)

        assert [await who.pays_by(approve) for approve in (by_device, by_code)] == [("captured", "")] * 2
        await who.log_in("/my/security")
        page = who.page
        await page.locator("a[href*='/my/keys/']").click()
        await expect(page.locator(".strong")).to_have_text(who.words("home.keys.last", limit="1,000,000원"))
        await who.seen("device-key")
        await who.typed(key_name="사무실 컴퓨터")
        await who.done("renamed")
        await who.typed(key_password="wrong")
        await who.refused(who.words("problem.wrong_password.title"))
        await who.typed(key_password=who.password)
        await who.done("removed")
        assert [await who.pays_by(approve) for approve in (by_device, by_code)] == [("open", "wrong_factor")] * 2


@in_english
async def test_an_address_is_confirmed_by_its_letter_and_letters_tell_what_happens(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        page, address = who.page, f"{who.login}@example.com"
        letters = {kind: catalogue(language)[f"mail.{kind}.subject"] for kind in ("confirm", "paid", "refunded", "new_key", "password")}
        test = f"[{who.words('mail.test')}] "
        await who.log_in("/my/contact")
        await expect(page.locator(".test-mode")).to_be_visible()
        await page.locator("#email").fill("hong@")
        await who.typed(email_password=who.password)
        await who.refused(who.words("home.say.wrong_email"))
        await expect(page.locator("#email-error")).to_have_text(who.words("home.say.wrong_email"))
        await expect(page.locator("[data-approve]")).to_have_count(0)
        await who.seen("email-wrong")
        await page.locator("#email").fill(address)
        await who.typed(email_password=who.password)
        await who.done("email_asked")
        await expect(page.locator(".lines")).to_contain_text(address)
        await who.seen("email-asked")
        ((subject, text),) = await place.delivered(address)
        assert subject == test + letters["confirm"]
        link = next(line for line in text.split() if "/my/email/" in line)
        await page.goto(link)
        await who.seen("email-link")
        await page.locator("form[data-act='/my/confirm'] button").click()
        await who.done("confirmed")

        payment, _, _ = await who.pays(33_000)
        await who.refunded(payment, 3_000, "배송비")
        won = {"ko": "{}원", "en": "₩{}"}[language].format
        paid = test + letters["paid"].format(amount=won("33,000"), payee="가람전자")
        refunded = test + letters["refunded"].format(returned=won("3,000"), payee="가람전자")
        await who.open("/my/security")
        await who.typed(password_old=who.password, password_new=NEW_PASSWORD, password_again=NEW_PASSWORD)
        await who.done("password")
        told = dict((await place.delivered(address))[1:])
        assert set(told) == {paid, refunded, test + letters["password"]}
        await page.goto(next(line for line in told[paid].split() if f"/my/payments/{payment}" in line))
        await expect(page.locator(".timeline")).to_be_visible()
        assert NEW_PASSWORD not in "".join(told.values())


async def test_a_new_passkey_is_told_by_a_letter_under_its_name(browser: Browser, place: Place) -> None:
    async with guest(browser, place, "ko", DESKTOP) as who:
        page, address = who.page, f"{who.login}@example.com"
        await who.log_in("/my/contact")
        await page.locator("#email").fill(address)
        await who.typed(email_password=who.password)
        await who.done("email_asked")
        ((_, text),) = await place.delivered(address)
        await page.goto(next(line for line in text.split() if "/my/email/" in line))
        await page.locator("form[data-act='/my/confirm'] button").click()
        await who.done("confirmed")
        await add_authenticator(page)
        await page.goto(who.site.address(who.site.shop.order(1_000), lang="ko"))
        await page.locator("#account-password").fill(who.account_password)
        await page.locator("#pay-form button.pay").click()
        await page.locator("#enrol-passkey").click()
        await expect(page.locator("#progress")).to_have_text(who.words("program.passkey_saved"))
        subjects = dict(await place.delivered(address))
        assert "Chrome · Linux" in subjects[f"[시험] {catalogue('ko')['mail.new_key.subject']}"]


async def test_the_language_changes_for_a_look_or_for_good(browser: Browser, place: Place) -> None:
    async with guest(browser, place, "ko") as who:
        await who.log_in()
        page = who.page
        await page.locator(".languages a[lang=en]").click()
        await expect(page.locator("html[lang=en] h1")).to_have_text(catalogue("en")["home.hello"].format(name=who.name))
        await page.goto(f"{who.site.base}/my")
        await expect(page.locator("html[lang=ko] h1")).to_have_text(who.words("home.hello", name=who.name))
        await who.open("/my/contact")
        await page.locator("#language-choice").select_option("en")
        await page.locator("form[data-act='/my/language'] button").click()
        await expect(page.locator("html[lang=en] .done")).to_have_text(catalogue("en")["home.done.language"])
        await page.goto(f"{who.site.base}/my")
        await expect(page.locator("html[lang=en]")).to_have_count(1)
        assert (await page.title()).startswith(f"[{catalogue('en')['layout.test_mark']}] ")
