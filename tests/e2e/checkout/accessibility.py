"""What every page must be in every state: axe finds nothing serious, and a window of 320 pixels need not scroll sideways."""

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page

AXE = Path(__file__).parents[1] / "node/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROW, USUAL = {"width": 320, "height": 800}, {"width": 1280, "height": 720}


@cache
def _axe() -> str:
    return AXE.read_text("utf-8")


async def audit(page: Page) -> None:
    """Look at the page as it stands now, wide and narrow; the page's own scripts are not disturbed."""
    await page.evaluate(_axe())
    for size in (USUAL, NARROW):
        await page.set_viewport_size(size)  # type: ignore[arg-type]  # a ViewportSize
        found: dict[str, Any] = await page.evaluate(
            "rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", {"type": "tag", "values": RULES}
        )
        serious = [
            f"{violation['id']} ({violation['impact']}): {[node['target'] for node in violation['nodes']]} {violation['help']}"
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical"}
        ]
        assert not serious, f"{page.url.partition('?')[0]}: {serious}"
    wide = await page.evaluate(
        "() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 320.5 && e.checkVisibility())"
        ".map(e => e.tagName + '.' + e.className)"
    )
    scrolls = await page.evaluate("document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth")
    assert not scrolls, f"{page.url.partition('?')[0]} scrolls sideways at 320 pixels: {wide}"
    await page.set_viewport_size(USUAL)  # type: ignore[arg-type]  # a ViewportSize
