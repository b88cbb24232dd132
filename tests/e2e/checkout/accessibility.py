"""What every page must be in every state: axe finds nothing serious, and a window of 320 pixels need not scroll sideways."""

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page, ViewportSize

AXE = Path(__file__).parents[2] / "node/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROW, USUAL, PAPER = ViewportSize(width=320, height=800), ViewportSize(width=1280, height=720), ViewportSize(width=718, height=1000)
"""PAPER is what an A4 page leaves between the margins that browsers print."""

BEYOND_THE_EDGE = """() => {
  const room = document.scrollingElement.clientWidth, all = document.scrollingElement.scrollWidth;
  if (all <= room) return [];
  const wide = [...document.querySelectorAll('body *:not(.wide *)')].filter((one) => one.getBoundingClientRect().right > room + 1);
  return [`${all} of ${room}`, ...wide.slice(0, 6).map((one) => one.outerHTML.slice(0, 160))];
}"""


@cache
def _axe() -> str:
    return AXE.read_text("utf-8")


async def audit(page: Page, *, narrow: bool = False) -> None:
    """Look at the page as it stands now; the page's own scripts are not disturbed."""
    if narrow:
        await page.set_viewport_size(NARROW)
    await page.evaluate(_axe())
    found: dict[str, Any] = await page.evaluate(
        "rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", {"type": "tag", "values": RULES}
    )
    serious = [
        f"{violation['id']} ({violation['impact']}): {[node['target'] for node in violation['nodes']]} {violation['help']}"
        for violation in found["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    assert not serious, f"{page.url.partition('?')[0]}: {serious}"
    await page.set_viewport_size(NARROW)
    wide = await page.evaluate(BEYOND_THE_EDGE)
    assert not wide, f"{page.url.partition('?')[0]} scrolls sideways at 320 pixels: {wide}"
    await page.set_viewport_size(USUAL)
