"""The words: both languages have all of them, nothing asks for others, and none is left over."""

import re
import string

import pytest

from hanbit.payments.states import DECLINE_REASONS
from hanbit.web.words import LANGUAGES, catalogue, choose_language
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
        for part in ("cancellation", "entry", "factor", "language", "message", "payout", "person", "problem", "role", "state")
    ),
    "console.purpose.",
    "console.statement.",
    *(f"home.{part}." for part in ("csv", "done", "entry", "key", "language", "method", "reason", "unusual")),
    "console.operator",
    "mail.",
    "console.merchant",
    "console.staff.act.",
    "console.staff.done.",
    *(f"operator.{part}." for part in ("act", "day", "deed", "device", "kind", "letter", "line_mode", "proposal")),
    *(f"console.request.{part}." for part in ("acts", "states", "why")),
    *(
        f"merchant.{part}"
        for part in (
            "callbacks.states.",
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
