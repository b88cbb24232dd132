"""The font of the pages: every letter of the words in both languages and of Korean names, so that no page falls back to another face."""

import re
from importlib import resources
from io import BytesIO

import pytest
from fontTools.ttLib import TTFont

from hanbit.web.assets import Assets
from hanbit.web.words import LANGUAGES, catalogue

WEIGHTS = ("regular", "bold")
SYLLABLES = [bytes([lead, trail]).decode("euc-kr") for lead in range(0xB0, 0xC9) for trail in range(0xA1, 0xFF)]
"""The 2,350 syllables of KS X 1001, of which nearly every name is made."""
SIGNS = "0123456789,.:;-–·/()[]*%@#+=‹›…“”₩$€£¥원년월일시분초"  # noqa: RUF001 - a dash between two times


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets(gateway_urn="urn:hanbit:demo:gateway", root_point=b"\4" + bytes(64))


@pytest.fixture(scope="module", params=WEIGHTS)
def letters(request: pytest.FixtureRequest, assets: Assets) -> set[str]:
    """What one weight can write."""
    with TTFont(BytesIO(assets.read(f"fonts/pretendard-{request.param}.woff2").content)) as font:
        return {chr(code) for code in font.getBestCmap()}


def test_the_font_writes_every_word_of_both_catalogues(letters: set[str]) -> None:
    words = {letter for language in LANGUAGES for text in catalogue(language).values() for letter in text} - {"\n"}
    assert not words - letters


def test_the_font_writes_every_syllable_of_a_korean_name(letters: set[str]) -> None:
    assert len(set(SYLLABLES)) == 2_350
    assert not set(SYLLABLES) - letters


def test_the_font_writes_amounts_dates_and_masked_numbers(letters: set[str]) -> None:
    assert not set(SIGNS) - letters


def test_the_font_comes_with_its_licence_under_its_own_name(assets: Assets) -> None:
    licence = assets.read("fonts/OFL.txt").content.decode("utf-8")
    assert "SIL Open Font License, Version 1.1" in licence
    assert "Reserved Font Name Pretendard" in re.sub(r"\s+", " ", licence)


def test_one_stylesheet_names_the_fonts_and_nothing_of_anybody_else(assets: Assets) -> None:
    style = assets.read("style.css").content.decode("utf-8")
    assert set(re.findall(r"url\(([^)]*)\)", style)) == {f'"fonts/pretendard-{weight}.woff2"' for weight in WEIGHTS}
    assert "@import" not in style
    assert resources.files("hanbit.web").joinpath("style").is_dir()


def test_every_name_in_the_stylesheet_is_given_a_value(assets: Assets) -> None:
    style = assets.read("style.css").content.decode("utf-8")
    given, used = set(re.findall(r"(--[a-z-]+):", style)), set(re.findall(r"var\((--[a-z-]+)\)", style))
    assert used <= given
    assert given <= used, "a name that nothing uses"
    assert style.count("{") == style.count("}")


def test_colours_are_named_once(assets: Assets) -> None:
    """Elsewhere than in the tokens a colour is a name, so that dark and paper change all of them; a QR code is black on white always."""
    parts = resources.files("hanbit.web").joinpath("style")
    loose = {
        (part.name, colour)
        for part in parts.iterdir()
        if part.name != "tokens.css"
        for colour in re.findall(r"#[0-9a-fA-F]{3,8}\b", re.sub(r"@media print.*", "", part.read_text("utf-8"), flags=re.DOTALL))
    }
    assert loose <= {("consoles.css", "#ffffff")}
