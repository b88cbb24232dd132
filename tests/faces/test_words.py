"""The words: both languages have all of them, nothing asks for others, and none is left over."""

import re
import string

import pytest

from hanbit.payments.states import DECLINE_REASONS
from hanbit.web.words import LANGUAGES, LanguageCode, catalogue, choose_language
from tests.tidy.files import texts

# Places that are put together from a name: outcome.<page>.title, decline.<reason>, kind.<kind>, problem.<code>.title.
COMPOSED = (
    "operator.why.",
    "outcome.",
    "decline.",
    "kind.",
    "problem.",
    *(
        f"console.{part}."
        for part in ("acts", "cancellation", "entry", "factor", "language", "message", "payout", "person", "problem", "role", "state")
    ),
    "console.field.amount_",
    "console.line.why.",
    "console.purpose.",
    "console.statement.",
    *(f"home.{part}." for part in ("csv", "done", "entry", "key", "language", "method", "reason", "tries", "unusual")),
    "console.operator",
    "home.say.wrong_",
    "mail.",
    "console.merchant",
    "console.staff.act.",
    "console.staff.done.",
    *(f"operator.{part}." for part in ("act", "day", "deed", "device", "differs", "kind", "letter", "line_mode", "proposal", "unsent")),
    *(f"console.request.{part}." for part in ("acts", "states", "why")),
    *(
        f"merchant.{part}"
        for part in (
            *(f"callbacks.{part}." for part in ("do", "events", "states", "went")),
            "deed.",
            "orders.advice.",
            "orders.kinds.",
            "request.done.",
            "line.how.",
            "line.leased",
            "line.vpn",
        )
    ),
    "operator.orders.",
)
PLACE = re.compile(
    r"""["']((?:layout|sandbox|stub|login|act|noscript|screen|kind|decline|progress|outcome|receipt|error|problem|program|window|"""
    r"""home|console|operator|merchant)\.[a-z_.]+)["']"""
)


def asked_places() -> set[str]:
    sources = [text for name, text in texts(".html", ".js", ".py") if name.startswith("src/hanbit/web/")]
    return {place for text in sources for place in PLACE.findall(text)}


def test_both_languages_have_the_same_places() -> None:
    assert catalogue("ko").keys() == catalogue("en").keys()


def test_both_languages_fill_the_same_values_into_a_place() -> None:
    def values(words: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(words) if name}

    for place, words in catalogue("ko").items():
        assert values(words) == values(catalogue("en")[place]), place


def test_korean_is_korean_and_english_is_not() -> None:
    for place, words in catalogue("ko").items():
        letters = re.sub(r"\{[a-z]+\}|[^A-Za-z가-힣]", "", words)
        assert not letters or re.search("[가-힣]", words) or letters == "ID", place
    assert not [place for place, words in catalogue("en").items() if re.search("[가-힣]", words)]


# One meaning has one word (docs/glossary.md): what would be a second one, in which faces, and the word to take.
OTHERS: dict[LanguageCode, dict[str, str]] = {
    "ko": {
        "결재": "결제",
        "패스워드|비번": "비밀번호",
        "유저|이용자|사용자": "고객, 사람",
        "머천트|거래처": "가맹점",
        "상점|판매점|판매자": "쇼핑몰, 가맹점",
        "환급|리펀드": "환불",
        "캡처|캡쳐": "매입",
        "홀드": "보류",
        "토큰": "코드, 링크",
        "어드민": "관리자",
        "이메일|전자우편": "메일",
        "사인인|로그온": "로그인",
        "클릭": "누르다",
        "캔슬": "취소",
        "에러": "오류",
        "(?<!녕하)세요": "십시오",
    },
    "en": {
        r"sign(ed|s)?[ -](in|out)|signin|logout|logoff": "log in, log out",
        r"users?|usernames?": "customer, person, ID",
        r"clients?|shoppers?|buyers?": "customer",
        r"vendors?|retailers?|sellers?|stores?": "shop",
        r"chargebacks?|reversals?|reimburse\w*": "refund",
        r"voided?": "released, except as the name of a message",
        r"abort\w*": "cancel",
        r"emails?": "e-mail",
        r"passcodes?|PIN": "password",
        r"OTP|2FA": "code, second factor",
        r"invalid|illegal": "say what to enter",
        r"oops|whoops": "say what happened",
        r"click": "press, choose",
        r"okay": "the act itself",
    },
}
NAMES_OF_MESSAGES = "console.message."


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_meaning_has_one_word(language: LanguageCode) -> None:
    used = {
        place: (found[0], instead)
        for place, words in catalogue(language).items()
        if not place.startswith(NAMES_OF_MESSAGES)
        for other, instead in OTHERS[language].items()
        if (found := re.search(other if language == "ko" else rf"\b(?:{other})\b", words, re.IGNORECASE))
    }
    assert not used


def test_customers_read_of_shops_and_staff_of_merchants() -> None:
    """The customer's shop is 쇼핑몰 on every page, as in the document; whoever runs one is 가맹점 in both consoles."""
    for place, words in catalogue("ko").items():
        for_staff = place.startswith(("console.", "operator.", "merchant.", "sandbox."))
        assert ("쇼핑몰" if for_staff else "가맹점") not in words, place


def test_the_languages_have_the_same_letters_to_fill_in_and_end_alike() -> None:
    """A sentence ends with its full stop in both languages, a label in neither."""
    korean, english = catalogue("ko"), catalogue("en")
    assert not {place for place in korean if korean[place].strip() != korean[place] or english[place].strip() != english[place]}
    assert not {place for place in korean if "  " in korean[place] + english[place]}


def test_every_place_that_is_asked_for_has_words() -> None:
    known = catalogue("ko").keys()
    missing = {place for place in asked_places() if place not in known and not place.endswith((".", ".html", ".js"))}
    assert not missing


def test_no_words_are_left_over() -> None:
    asked = asked_places()
    assert not {place for place in catalogue("ko") if place not in asked and not place.startswith(COMPOSED)}


@pytest.mark.parametrize("reason", DECLINE_REASONS)
def test_each_decline_has_its_own_place(reason: str) -> None:
    for language in LANGUAGES:
        assert catalogue(language)[f"decline.{reason}"]


@pytest.mark.parametrize(
    ("asked", "accepted", "expected"),
    [
        ("en", "ko", "en"),
        ("ko", "en", "ko"),
        (None, "en-US,en;q=0.9,ko;q=0.8", "en"),
        (None, "fr,de;q=0.9,ko-KR;q=0.2,en;q=0.1", "ko"),
        (None, "ko;q=0.1, en", "en"),
        (None, "EN-gb", "en"),
        (None, "fr", "ko"),
        (None, "", "ko"),
        ("fr", "en", "en"),
        (None, "en;q=banana, ko;q=0.001", "ko"),
        (None, "en;q=" + "9" * 5000, "en"),
        (None, ",;;;=,,en", "en"),
    ],
)
def test_the_language_is_the_one_asked_for_else_the_browsers(asked: str | None, accepted: str, expected: str) -> None:
    assert choose_language(asked, accepted) == expected
