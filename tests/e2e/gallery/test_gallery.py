"""Every page of the gallery in Chromium, in both languages, is one that everybody can use; with a folder named, its pictures are taken."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error

from hanbit.web.words import LANGUAGES, LanguageCode
from tests.e2e.gallery.looking import Windows, arrive, take_pictures, wrong_with
from tests.faces.gallery import GALLERY, Entry
from tests.faces.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
FACES = ("customer", "operator", "merchant")
ONLY = os.environ.get("HANBIT_GALLERY_ONLY", "")
"""Part of the names of the pages that are looked at; all where it is empty."""
PICTURES_ONLY = bool(os.environ.get("HANBIT_PICTURES_ONLY"))
"""Nothing is looked for: `make screenshots` only takes the pictures."""


@pytest.fixture(autouse=True)
def _axe_is_there(node: str) -> None:
    """axe-core comes with the packages of tests/node."""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("face", FACES)
async def test_everybody_can_use_every_page(browser: Browser, stage: Stage, face: str, language: LanguageCode) -> None:
    wrong: dict[str, list[str]] = {}
    windows = Windows(browser, stage, language)
    try:
        for entry in GALLERY:
            if entry.face == face and ONLY in entry.whole_name:
                found = await look(windows, entry)
                wrong |= {entry.whole_name: found} if found else {}
    finally:
        await windows.close()
    assert not wrong


async def look(windows: Windows, entry: Entry) -> list[str]:
    """What is wrong with one page; the walk goes on, so that one run tells of all."""
    stage, folder, page = windows.stage, os.environ.get("HANBIT_SCREENSHOTS"), await windows.of(entry)
    try:
        async with entry.given(stage):
            await arrive(page, stage, entry, windows.language)
            if folder:
                await take_pictures(page, Path(folder), f"{entry.whole_name}-{windows.language}")
            wrong = [] if PICTURES_ONLY else await wrong_with(page, script=entry.script)
    except (AssertionError, Error) as error:
        wrong = [f"its state was not reached: {str(error)[:300]}"]
    foreign = windows.asked - {stage.base(entry.face)}
    return [*wrong, *windows.complaints, *(f"asks {one}" for one in foreign)]
