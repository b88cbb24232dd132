"""Every page of the gallery as it is sent: small, of our own alone, kept and framed by nobody, in the language that was asked for."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Match, Route

from hanbit.bench import pages_asked
from hanbit.db.reading import Reader
from hanbit.web.customer.outcomes import PAGES
from hanbit.web.words import LANGUAGES, LanguageCode
from tests import engine
from tests.faces.gallery import GALLERY, NOT_PAGES, TABLES, Entry
from tests.faces.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE_MAX = 100_000
"""Bytes of one page with everything that it names but the font."""
NAMED = re.compile(r'<(?:link|script|img)\b[^>]*\s(?:href|src)="([^"]+)"')
LISTED = sorted(GALLERY, key=lambda entry: (entry.face, entry.name))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One populated site for all of it."""
    async with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


def apps(stage: Stage) -> dict[str, Starlette]:
    return {"customer": stage.site.app, **stage.consoles.apps}


def routes(app: Starlette) -> list[Route]:
    return [route for route in app.routes if isinstance(route, Route) and "GET" in (route.methods or ())]


def route_of(app: Starlette, path: str) -> str:
    """The first address that answers for a path, as the router finds it."""
    scope = {"type": "http", "path": path, "method": "GET", "root_path": ""}
    return next((route.path for route in routes(app) if route.matches(scope)[0] is Match.FULL), "")


async def test_every_page_is_in_the_gallery(stage: Stage) -> None:
    missing = set()
    for face, app in apps(stage).items():
        pages = {route.path for route in routes(app) if not route.path.endswith(TABLES)} - NOT_PAGES.keys()
        shown = {route_of(app, entry.address(stage).partition("?")[0]) for entry in GALLERY if entry.face == face}
        missing |= {(face, path) for path in pages - shown}
    assert not missing, "give each a line in tests/faces/gallery.py"


async def test_every_outcome_of_a_payment_is_in_the_gallery() -> None:
    names = {entry.name for entry in GALLERY if entry.face == "customer"}
    assert (PAGES.keys() | {"not_opened", "merchant_limit", "expired_order", "line_down", "halted"}) <= names


async def test_every_entry_has_a_name_of_its_own() -> None:
    names = [entry.whole_name for entry in GALLERY]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_-]+", name) for name in names)


MANY = (
    "payments", "attempts", "cancellations", "entries", "postings", "messages", "headers", "outbox", "audit", "log", "tiles", "exchanges",
    "grants", "sessions", "customers", "accounts", "devices", "mails", "console_requests",
)  # fmt: skip
"""Tables that grow with every payment, customer or log-in: no page reads one whole."""
SORTED_WHOLE = ("accounts", "devices", "cancellations", "messages", "headers")
"""Of these one customer or one payment has few: they may be sorted once they are found."""
FEW = ("next_at IS NOT NULL", "LIMIT ?) AS ")
"""What waits for the shop is few at any time, what a LIMIT has cut already too: these may be sorted."""


@pytest.mark.skipif(
    engine.is_postgresql(), reason="reads SQLite's plans; PostgreSQL's, which follow its statistics, are in unit/db/test_plans"
)
async def test_no_page_reads_or_sorts_a_table_that_grows(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many payments are stored, each statement of each page finds its rows by an index and takes them in that order."""
    asked: dict[str, str] = {}
    path = ""

    def noting(read: Callable[..., Any]) -> Callable[..., Any]:
        def noted(reader: Reader, sql: str, *values: Any) -> Any:
            asked.setdefault(sql, path)
            return read(reader, sql, *values)

        return noted

    for name in ("one", "all", "scan"):
        monkeypatch.setattr(Reader, name, noting(getattr(Reader, name)))
    there = pages_asked.Found(*(stage.things[name] for name in ("shop", "captured", "tid", "customer_hong", "account_bank", "day", "shop")))
    walk = [(entry.face, entry.who, entry.address(stage)) for entry in GALLERY]
    walk += [(face, ASKS[face], path) for face in pages_asked.FACES for _, path in pages_asked.addresses(face, there)]
    for face, who, path in walk:
        await fetch(stage, Entry(face, "", path, who), path)
    monkeypatch.undo()
    assert len(asked) > STATEMENTS_MIN
    assert not {f"{path}: {sql}": wrong for sql, path in asked.items() if (wrong := wrong_plan(stage.consoles.gateway.reader, sql))}


ASKS = {"customer": "hong", "operator": "admin", "merchant": "admin"}
STATEMENTS_MIN = 80
"""So many different ones the pages ask at least: a sign that they were noted."""


def wrong_plan(reader: Reader, sql: str) -> list[str]:
    """The steps of SQLite's plan that walk through a table that grows, or sort what was found in one."""
    called = {
        alias or table: table for table, alias in re.findall(r"(?:FROM|JOIN) (\w+)(?: (?:AS )?(?!WHERE|ORDER|JOIN|LEFT|ON)(\w+))?", sql)
    }
    steps = [row[3] for row in reader.connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]
    found = [called.get(step.split()[1], "") for step in steps if step.startswith("SEARCH")]
    sorts = any(one in MANY and one not in SORTED_WHOLE for one in found) and not any(word in sql for word in FEW)
    return [
        step
        for step in steps
        if (step.startswith("SCAN") and called.get(step.split()[1]) in MANY) or (sorts and step == "USE TEMP B-TREE FOR ORDER BY")
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry.whole_name)
async def test_a_page_is_small_ours_and_kept_by_nobody(stage: Stage, entry: Entry, language: LanguageCode) -> None:
    async with entry.given(stage):
        address = entry.address(stage)
        joined = f"{address}{'&' if '?' in address else '?'}lang={language}"
        status, headers, page = await fetch(stage, entry, joined)
    assert (status, headers["Content-Type"]) == (entry.status, "text/html; charset=utf-8"), page
    assert f'<html lang="{language}">' in page
    assert page.count("<h1") - page.count("<h1 hidden") >= 1
    assert re.search(r"<title>[^<]{4,}</title>", page)
    policy = headers["Content-Security-Policy"]
    assert {"frame-ancestors 'none'", "default-src 'none'"} <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "noindex" in headers["X-Robots-Tag"]
    named = {name for name in NAMED.findall(page) if not name.endswith((".woff2", ".woff"))}
    assert all(name.startswith("/static/") for name in named), "a page names nobody else's files"
    assert not re.search(r"<[^>]+\sstyle=|<style|\son[a-z]+=", page), "what the policy forbids would not work"
    assert len(page.encode()) + sum([await size(stage, entry, name) for name in named]) <= PAGE_MAX


async def size(stage: Stage, entry: Entry, name: str) -> int:
    """Bytes of a file that a page names; its address names its content, so one look is enough."""
    if name not in stage.sizes:
        stage.sizes[name] = len((await fetch(stage, entry, name))[2].encode())
    return stage.sizes[name]


async def fetch(stage: Stage, entry: Entry, address: str) -> tuple[int, Mapping[str, str], str]:
    """One answer, as a browser in which this person has logged in gets it."""
    cookies = await stage.cookies(entry.face, entry.who)
    headers = {"Accept": "text/html", "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    async with stage.consoles.http.get(stage.base(entry.face) + address, headers=headers, allow_redirects=False) as answer:
        return answer.status, answer.headers.copy(), await answer.text()
