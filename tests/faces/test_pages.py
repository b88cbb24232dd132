"""The pages by themselves: amounts and times by language, every outcome with what happened to the money, a page for every state."""

import itertools
import re
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from hanbit.kernel.days import zone_of
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.payments.states import DECLINE_REASONS, State
from hanbit.web.assets import Assets
from hanbit.web.customer.outcomes import MISMATCHES, PAGES, OrderCard, ReceiptCard, page_of
from hanbit.web.forms import day_begins, day_ends
from hanbit.web.pages import Language, OperatorCard, Pages, Visit, alternates, embed, short_number
from hanbit.web.words import LANGUAGES, LanguageCode

AT = 1_795_000_000
SEOUL = zone_of("Asia/Seoul")
OUTCOMES = sorted(
    (set(PAGES) - {"login", "payment", "decline", "receipt"}) | {"not_opened", "merchant_limit", "expired_order", "line_down", "halted"}
)
ORDER = OrderCard(
    merchant_name="<b>가람</b> & 전자",
    merchant_telephone="02-555-0123",
    money=Money(220_000, "KRW"),
    text="휴대폰 <script>alert(1)</script>",
    tid="kq3VZ8yTn0eQpXw1r5hJ2A",
    return_url="https://shop.example/return?a=1&TID=x",
)


@pytest.fixture(scope="module")
def pages() -> Pages:
    operator = OperatorCard("demo", {"ko": "한빛은행", "en": "Hanbit Bank"}, "1588-0000", test_mode=True)
    return Pages(lambda: operator, Assets(gateway_urn="urn:hanbit:demo:gateway", root_point=b"\4" + bytes(64)), SEOUL)


def visit(pages: Pages, code: LanguageCode) -> Visit:
    return Visit(pages.languages[code], "the-nonce", alternates("/pay", "MID=garam&lang=ko"))


@pytest.mark.parametrize(
    ("code", "money", "expected"),
    [
        ("ko", Money(220_000, "KRW"), "220,000원"),
        ("en", Money(220_000, "KRW"), "₩220,000"),
        ("ko", Money(1, "KRW"), "1원"),
        ("en", Money(123_456, "USD"), "$1,234.56"),
        ("ko", Money(123_456, "USD"), "US$1,234.56"),
        ("en", Money(5, "USD"), "$0.05"),
        ("en", Money(1_234_567, "KWD"), "KWD1,234.567"),
        ("en", Money(999_999_999_999_999, "KRW"), "₩999,999,999,999,999"),
    ],
)
def test_an_amount_is_written_as_the_language_writes_it(code: LanguageCode, money: Money, expected: str) -> None:
    assert Language.of(code, SEOUL).amount(money) == expected


@pytest.mark.parametrize(("code", "currency"), list(itertools.product(LANGUAGES, CURRENCY_EXPONENTS)))
def test_the_digits_of_an_amount_are_its_minor_units_so_that_the_program_can_compare_them(code: LanguageCode, currency: str) -> None:
    for minor in (1, 10, 99, 1_234, 220_000, 999_999_999_999_999):
        shown = re.sub("[^0-9]", "", Language.of(code, SEOUL).amount(Money(minor, currency)))
        assert shown.lstrip("0") == str(minor)


def test_times_are_the_operators_and_readable() -> None:
    assert Language.of("ko", SEOUL).moment(AT) == "2026년 11월 18일 20:06:40"
    assert Language.of("en", SEOUL).moment(AT) == "18 November 2026, 20:06:40"
    assert Language.of("ko", SEOUL).time_of_day(AT) == "20시 6분"
    assert Language.of("ko", zone_of("America/New_York")).moment(AT) == "2026년 11월 18일 06:06:40"
    assert Language.of("en", zone_of("UTC")).time_of_day(AT) == "11:06"


@pytest.mark.parametrize("zone", ["Asia/Seoul", "UTC", "America/New_York"])
def test_a_day_that_is_searched_for_is_one_of_the_operators(zone: str) -> None:
    begins, ends = day_begins("2026-11-01", zone_of(zone)), day_ends("2026-11-01", zone_of(zone))
    assert begins is not None
    assert ends is not None
    shown = [Language.of("en", zone_of(zone)).moment(at) for at in (begins, ends - 1, ends)]
    assert shown == ["1 November 2026, 00:00:00", "1 November 2026, 23:59:59", "2 November 2026, 00:00:00"]
    assert ends - begins == (25 if zone == "America/New_York" else 24) * 3600, "clocks were put back that night"


@pytest.mark.parametrize("text", ["", "2026-13-01", "2026-02-30", "20261101", "1.11.2026", "2026-11-01 ", "9999-12-31", "0001-01-01"])
def test_what_is_no_day_is_none(text: str) -> None:
    assert day_begins(text, SEOUL) is None
    assert day_ends(text, SEOUL) is None


def test_the_same_page_in_another_language_keeps_the_order() -> None:
    assert alternates("/pay", "MID=garam&TID=a_b&ORDER=x.y&lang=ko")["en"] == "/pay?MID=garam&TID=a_b&ORDER=x.y&lang=en"


@pytest.mark.parametrize(("code", "outcome"), list(itertools.product(LANGUAGES, OUTCOMES)))
def test_every_outcome_says_what_happened_to_the_money_and_leads_back(pages: Pages, code: LanguageCode, outcome: str) -> None:
    page = pages.render(
        "outcome.html", visit(pages, code), outcome=outcome, order=ORDER, message=None, watch=None, try_again=None, reference="7KQ4-M2XD"
    )
    language = pages.languages[code]
    assert f'<html lang="{code}">' in page
    for part in ("title", "text", "money", "next"):
        assert str(language.say(f"outcome.{outcome}.{part}")) in page
    assert "https://shop.example/return?a=1&amp;TID=x" in page
    assert "02-555-0123" in page
    assert "1588-0000" in page
    assert "7KQ4-M2XD" in page
    assert "<script>alert" not in page
    assert "<b>가람" not in page
    assert "<script" not in page, "a page that only tells needs no script"


def test_the_words_of_the_document_stand_on_page_62(pages: Pages) -> None:
    page = pages.render(
        "outcome.html", visit(pages, "ko"), outcome="mismatch", order=ORDER, message=None, watch=None, try_again=None, reference=None
    )
    assert "거래정보가 일치되지 않아서 지불이 되지 않았습니다" in page
    assert "다시 한번 구매신청을 하시거나 해당 쇼핑몰에 문의하시기 바랍니다" in page


def test_a_shops_refusal_stands_under_its_own_name_and_is_plain_text(pages: Pages) -> None:
    message = "품절 <img src=x>"
    page = pages.render(
        "outcome.html", visit(pages, "ko"), outcome="refused", order=ORDER, message=message, watch=None, try_again=None, reference=None
    )
    assert "&lt;b&gt;가람&lt;/b&gt; &amp; 전자에서 남긴 말" in page
    assert "품절 &lt;img src=x&gt;" in page


@pytest.mark.parametrize(("code", "reason"), list(itertools.product(LANGUAGES, [*DECLINE_REASONS, "other"])))
def test_every_decline_says_which_and_that_no_money_went(pages: Pages, code: LanguageCode, reason: str) -> None:
    language = pages.languages[code]
    fragment = pages.fragment("decline.html", language, reason=reason)
    assert str(language.say(f"decline.{reason}")) in fragment
    assert str(language.say("decline.money")) in fragment
    assert 'role="alert"' in fragment


def test_a_wrong_password_and_an_unknown_account_are_declined_in_the_same_words(pages: Pages) -> None:
    for language in pages.languages.values():
        assert language.say("decline.wrong_factor") == language.say("decline.unknown_account")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("ko", "bank", "홍길동님의 계좌에서 220,000원이 인출되었습니다"),
        ("ko", "card", "홍길동님의 카드로 220,000원이 결제되었습니다"),
        ("en", "bank", "₩220,000 was withdrawn from 홍길동’s account."),
    ],
)
def test_the_receipt_says_whose_money_went_where(pages: Pages, code: LanguageCode, kind: str, sentence: str) -> None:
    receipt = ReceiptCard("Zk3VZ8yTn0eQpXw1r5hJ2A", kind, "홍길동", "******8890", AT, signed=False, offer_passkey=True)
    page = pages.render("receipt.html", visit(pages, code), order=ORDER, receipt=receipt)
    assert sentence in page
    assert "/payments/Zk3VZ8yTn0eQpXw1r5hJ2A/receipt" in page
    assert str(pages.languages[code].say("receipt.unsigned")) in page
    assert short_number(receipt.payment) in page


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("ko", "220,000원 중 20,000원, 돈이 나간 계좌로 돌려 드렸습니다"), ("en", "₩20,000 of ₩220,000, to the account that it came from")],
)
def test_the_receipt_says_how_much_of_it_went_back(pages: Pages, code: LanguageCode, sentence: str) -> None:
    receipt = ReceiptCard("Zk3VZ8yTn0eQpXw1r5hJ2A", "bank", "홍길동", "******8890", AT, signed=True, offer_passkey=False)
    before = pages.render("receipt.html", visit(pages, code), order=ORDER, receipt=receipt)
    assert str(pages.languages[code].say("receipt.refunded")) not in before
    after = pages.render("receipt.html", visit(pages, code), order=ORDER, receipt=replace(receipt, refunded=Money(20_000, "KRW")))
    assert sentence in after


def test_the_payment_screen_asks_what_the_documents_figure_asks(pages: Pages) -> None:
    accounts = [{"id": "a1", "kind": "bank", "masked": "******8890"}, {"id": "a2", "kind": "card", "masked": "4012-88**-****-1881"}]
    screen = pages.fragment(
        "payment.html", pages.languages["ko"], order=ORDER, accounts=accounts, passkeys=True, customer_name="홍길동", expires_at=AT
    )
    assert "아래 금액을 한빛은행의 계좌에서 지불하시겠습니까?" in screen
    assert "220,000원 결제</button>" in screen
    assert "결제 취소</button>" in screen
    assert "******8890" in screen


def test_no_field_has_a_name_so_that_nothing_typed_can_leave_without_the_program(pages: Pages) -> None:
    accounts = [{"id": "a1", "kind": "bank", "masked": "******8890"}]
    login = pages.render("pay.html", visit(pages, "ko"), order=ORDER, opening={})
    screen = pages.fragment(
        "payment.html", pages.languages["ko"], order=ORDER, accounts=accounts, passkeys=True, customer_name="홍길동", expires_at=AT
    )
    fields = re.findall(r"<input [^>]*>", login + screen)
    assert len(fields) >= 6
    assert not [field for field in fields if "name=" in field and 'type="radio"' not in field]


def test_nothing_inside_embedded_json_can_end_its_element() -> None:
    embedded = embed({"text": "</script><script>alert(1)</script><!--", "and": "&amp;"})
    assert not set("<>&") & set(embedded)


def test_a_value_that_a_template_lacks_is_an_error_and_not_an_empty_place(pages: Pages) -> None:
    with pytest.raises(UndefinedError):
        pages.render("outcome.html", visit(pages, "ko"), outcome="expired", order=ORDER)


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("reason", [None, "no_funds", "cancelled_by_customer", "expired", "declined", "shop_refused", *sorted(MISMATCHES)])
@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_page_that_may_show_it(state: State, reason: str | None, owner: bool) -> None:
    page = page_of(state, reason, owner=owner)
    assert state in PAGES[page]
    assert (page == "receipt") is (state is State.CAPTURED and owner)
