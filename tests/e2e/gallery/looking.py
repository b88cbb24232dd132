"""How a page is looked at: axe in both colour schemes, 320 pixels or paper, the keyboard, whom it asks for things; and its picture."""

import base64
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize

from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import AXE, PAPER, RULES
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES
from tests.faces.gallery import Entry
from tests.faces.stage import Stage

DESKTOP, PHONE, NARROW = ViewportSize(width=1120, height=720), ViewportSize(width=390, height=720), ViewportSize(width=320, height=640)
COLOURS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PICTURE_HEIGHT_MAX = 1_300
PICTURE_SCALE, PICTURE_QUALITY = 0.66, 36
STOPS_MAX = 400
WAIT_MS = 60_000

_SEEN = """rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === 'serious' || impact === 'critical')
  .map(({ id, help, nodes }) => `${id}: ${help} ${nodes.map(({ target }) => target.join(' ')).slice(0, 4).join(' | ')}`))"""
_SIDEWAYS = """() => {
  const room = document.scrollingElement.clientWidth;
  if (document.scrollingElement.scrollWidth <= room) return [];
  const wide = [...document.querySelectorAll('main *, header *, footer *')].filter((one) => one.getBoundingClientRect().right > room + 1);
  return [`scrolls sideways: ${wide.slice(0, 4).map((one) => one.outerHTML.slice(0, 80)).join(' | ')}`];
}"""
# What Tab reaches, in the order of the document, as no tabindex changes it; each must be seen when it has the focus, and be large enough.
_STOPS = """most => {
  const focusable = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]';
  const stops = [...document.querySelectorAll(focusable)].filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility());
  const wrong = [];
  for (const one of stops.slice(0, most)) {
    const name = one.outerHTML.slice(0, 90);
    if (one.tabIndex > 0) wrong.push(`order: ${name}`);
    one.focus();
    if (document.activeElement !== one) { wrong.push(`takes no focus: ${name}`); continue; }
    const { outlineStyle, outlineWidth } = getComputedStyle(one);
    const seen = one.matches(':focus-visible') && outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
    if (!seen) wrong.push(`focus unseen: ${name}`);
    if (one.getBoundingClientRect().width < 1) wrong.push(`no size: ${name}`);
  }
  return wrong;
}"""


@cache
def _axe() -> str:
    return AXE.read_text("utf-8")


@dataclass
class Windows:
    """The windows of one walk, one for each who looks; what was wrong in the one that is looked at."""

    browser: Browser
    stage: Stage
    language: LanguageCode
    contexts: dict[tuple[str, str, bool], tuple[BrowserContext, Page]] = field(default_factory=dict)
    done_in: set[Page] = field(default_factory=set)
    """In which more was done than looking: who comes next finds no paper, no darkness and no waiting request of another page."""
    complaints: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    async def of(self, entry: Entry) -> Page:
        """The window of the one who looks at this page, logged in just now; a fresh one where more is done in it than looking."""
        key = (entry.face, entry.who, entry.script)
        context, page = self.contexts.get(key) or (await self._context(entry), None)
        if page is None or page in self.done_in or entry.then is not None:
            if page is not None:
                await page.close()
            page = await context.new_page()
            if entry.then is not None:
                self.done_in.add(page)
        self.contexts[key] = context, page
        self.complaints.clear()
        self.asked.clear()
        host = urlsplit(self.stage.base(entry.face)).hostname or ""
        cookies = await self.stage.cookies(entry.face, entry.who)
        for name, value in cookies.items():
            await context.add_cookies(
                [{"name": name, "value": value, "domain": host, "path": "/", "secure": True, "httpOnly": True, "sameSite": "Lax"}]
            )
        return page

    async def close(self) -> None:
        for context, _ in self.contexts.values():
            await context.close()

    async def _context(self, entry: Entry) -> BrowserContext:
        context = await self.browser.new_context(
            locale=BROWSER_LANGUAGES[self.language],
            timezone_id="Asia/Seoul",
            viewport=DESKTOP,
            java_script_enabled=entry.script,
            reduced_motion="reduce",
        )
        context.set_default_timeout(WAIT_MS)
        context.on("console", self._note)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.asked.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
        return context

    def _note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            self.complaints.append(message.text)


async def arrive(page: Page, stage: Stage, entry: Entry, language: LanguageCode) -> None:
    """Open the page and do what leads to its state."""
    address = entry.address(stage)
    await page.goto(f"{stage.base(entry.face)}{address}{'&' if '?' in address else '?'}lang={language}")
    if entry.then is not None:
        await entry.then(page, stage)


async def wrong_with(page: Page, *, script: bool) -> list[str]:
    """Everything about the page as it stands that not everybody could use."""
    wrong: list[str] = []
    if script:
        await page.evaluate(_axe())
        for colours in COLOURS:
            await page.emulate_media(color_scheme=colours)
            rules: Any = {"type": "tag", "values": RULES} if colours == "light" else {"type": "rule", "values": ["color-contrast"]}
            wrong += [f"{colours}: {one}" for one in await page.evaluate(_SEEN, rules)]
        await page.emulate_media(color_scheme="light")
    await page.keyboard.press("Tab")
    wrong += await page.evaluate(_STOPS, STOPS_MAX)
    on_paper = await page.evaluate("matchMedia('print').matches")
    await page.set_viewport_size(PAPER if on_paper else NARROW)
    wrong += await page.evaluate(_SIDEWAYS)
    await page.set_viewport_size(DESKTOP)
    return wrong


async def take_pictures(page: Page, folder: Path, name: str) -> None:
    """Desktop and phone, as small as one can still read them."""
    await page.evaluate("document.fonts.ready.then(() => { document.activeElement?.blur(); scrollTo(0, 0); })")
    session = await page.context.new_cdp_session(page)
    for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await page.set_viewport_size(size)
        height = min(int(await page.evaluate("document.documentElement.scrollHeight")), PICTURE_HEIGHT_MAX)
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": PICTURE_SCALE}
        options = {"format": "webp", "quality": PICTURE_QUALITY, "captureBeyondViewport": True, "clip": clip}
        taken = await session.send("Page.captureScreenshot", options)
        (folder / f"{name}-{device}.webp").write_bytes(base64.b64decode(taken["data"]))
    await session.detach()
