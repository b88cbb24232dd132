"""`hanbit bench pages`: what the consoles' pages take in a book of many payments, over real sockets, as a browser gets them.

fill      so many captured payments over the last thirty days, between a thousand customers and a thousand merchants whose shares follow
          Zipf's law; each behind a log-in in the audit
people    an admin of the operator and one of the largest merchant, each with a live session
pages     each is asked once to warm up and then TIMES times, one after the other: median, slowest, and processor time (client included)
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from msgspec.structs import replace

from hanbit import folder
from hanbit.bench import floors
from hanbit.bench.figures import percentile_ms
from hanbit.bench.ledger_deals import CASH, MERCHANT, Deals
from hanbit.bench.preload import SAY_EVERY, pay
from hanbit.bench.processes import cpu_s
from hanbit.db.change import Change
from hanbit.db.commit import Book
from hanbit.db.place import Place, open_store
from hanbit.db.schema import LISTED
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel.clock import Clock, ManualClock, SandboxClock
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.parties import console_sessions, people
from hanbit.parties.people import Person
from hanbit.payments import settlement
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act
from hanbit.settings import Settings
from hanbit.web import application
from hanbit.web.serving import serving
from hanbit.web.visitors import Places, Proxies

DAYS: Final = 30
DAY_S: Final = 86_400
TIMES: Final = 15
PORTIONS: Final = 1_000
"""The past is made of at least so many moments."""
PORTION_MAX: Final = 1_000
LARGEST: Final = f"{MERCHANT}0"
CONNECTIONS: Final = 20
TARGET_MS: Final = 100.0
"""What no page of a console may take, whatever is stored; the report names those that did."""


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that stand in addresses: the oldest payment, its tid, its customer, the first day and who was settled then."""

    payment: str
    tid: str
    customer: str
    day: str
    settled: str


class Unobserved:
    """Nobody counts these requests."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """One more."""


async def run(directory: Path, count: int, clock: Clock, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what is wrong with the run: an address that answers with no page."""
    floors.check_disk(directory)
    say("measuring floors")
    found = floors.measure(directory, clock)
    data = directory / "gateway"
    then = ManualClock(clock.now() - DAYS * DAY_S)  # a book's time never goes back: it begins with its first payment
    await folder.create(data, Settings(operator="bench"), then, root_key=None, root_passphrase=None)
    started = clock.monotonic()
    await fill(data / BOOK_FILE, count, clock, say)
    filled_s = clock.monotonic() - started
    report, broken = await measure(data, clock, say)
    return {"payments": count, "filled_s": round(filled_s, 1), **report, "floors": found}, broken


async def fill(place: Place, count: int, clock: Clock, say: Callable[[str], None]) -> None:
    """The past, evenly over its days: each portion of payments at its own moment of the book, behind the log-ins that it needs."""
    then = SandboxClock(clock, -DAYS * DAY_S)
    deals, book = Deals("zipf", with_evidence=True, at=then.now()), Book(lambda: open_store(place), then)
    portion = max(min(count // PORTIONS, PORTION_MAX), 1)
    try:
        accounts, *openings = deals.openings()
        await book.commit(replace(accounts, puts=(), appends=tuple(one for one in accounts.appends if one.row["id"] != CASH)))
        for opening in openings:
            await book.commit(opening)
        for done in range(0, count, portion):
            then.offset_s = -DAYS * DAY_S + DAYS * DAY_S * done // count
            now = min(portion, count - done)
            customers = (deals.customers[(done + place) % len(deals.customers)] for place in range(now))
            await book.commit(Change(appends=tuple(act(then.now(), f"customer:{customer}", "login", "device") for customer in customers)))
            await pay(book, deals, now, then, _quietly, requires=False)
            if done // SAY_EVERY != (done + now) // SAY_EVERY:
                say(f"filling: {done + now:,} of {count:,} payments")
    finally:
        await book.close()


def _quietly(_text: str) -> None:
    """A portion is not worth a word."""


async def measure(data: Path, clock: Clock, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """Each page of both consoles on a folder that was filled before."""
    pages: dict[str, dict[str, float | None]] = {}
    broken: list[str] = []
    with folder.hold(data):
        gateway = folder.open_gateway(data, clock)
        try:
            say("closing the first day")
            closed, started = settlement.last_day(gateway.reader), clock.monotonic()
            first = str(settlement.next_day(gateway)) if closed is None else closed.day
            await settlement.close_days(gateway, through=first)
            closed_s = clock.monotonic() - started
            ids = _found(gateway, first)
            for face, merchant in (("operator", None), ("merchant", LARGEST)):
                say(f"the {face}'s pages")
                async with _browser(gateway, face, merchant) as ask:
                    for name, path in _addresses(face, ids):
                        before = cpu_s(os.getpid())
                        seconds, status, size = await _timed(ask, path, clock)
                        spent = round((cpu_s(os.getpid()) - before) * 1000 / (TIMES + 1), 1)
                        pages[f"{face}: {name}"] = {
                            "p50_ms": percentile_ms(seconds, 50),
                            "max_ms": percentile_ms(seconds, 100),
                            "cpu_ms": spent,
                            "kb": size,
                        }
                        if status != 200:  # noqa: PLR2004 - a page
                            broken.append(f"{face} {path}: {status}")
        finally:
            await folder.close_gateway(gateway)
    slow = [name for name, one in pages.items() if (one["p50_ms"] or 0) > TARGET_MS]
    return {"day_closed_s": round(closed_s, 1), "too_slow": slow, "pages": pages}, broken


def _addresses(face: str, ids: Found) -> Sequence[tuple[str, str]]:
    """What is asked: every list with and without a filter, far down its pages too."""
    payments = [
        ("home", "/"),
        ("payments", "/payments"),
        ("payments, far down", f"/payments?until={ids.day}"),
        ("payments of a state", "/payments?state=captured"),
        ("payments of a rare state", "/payments?state=voided"),
        ("payment by its short number", f"/payments?number={ids.payment[:8]}"),
        ("payment by the shop's number", f"/payments?number={ids.tid}"),
        ("time line", f"/payments/{ids.payment}"),
        ("people", "/staff"),
    ]
    if face == "merchant":
        return payments
    return [
        *payments,
        ("payments of a merchant", f"/payments?merchant={LARGEST}"),
        ("payments of a merchant and a rare state", f"/payments?merchant={LARGEST}&state=voided"),
        ("exceptions", "/exceptions"),
        ("merchants", "/merchants"),
        ("merchant", f"/merchants/{LARGEST}"),
        ("customers", "/customers"),
        ("customer", f"/customers/{ids.customer}"),
        ("proposals", "/proposals"),
        ("settlement", "/settlement"),
        ("trial balance", "/settlement/balance"),
        ("day", f"/settlement/days/{ids.day}"),
        ("statement", f"/settlement/days/{ids.day}/{ids.settled}"),
        ("payouts", "/payouts"),
        ("evidence", "/evidence"),
        ("audit", "/audit"),
        ("audit, a word", "/audit?word=nothing+like+it"),
        ("audit, a day far back", f"/audit?since={ids.day}&until={ids.day}"),
    ]


def _found(gateway: Gateway, first: str) -> Found:
    sql = f"SELECT id, tid, customer FROM payments WHERE merchant = ? AND {LISTED} ORDER BY opened_at LIMIT 1"  # noqa: S608 - words of our own
    row = gateway.reader.one(sql, LARGEST)
    if row is None:
        raise Unavailable("the book is not filled")
    statements = settlement.statements_of_day(gateway.reader, first, limit=1)
    if not statements:
        raise Unavailable("nobody was paid on the first day")
    return Found(row["id"], row["tid"], row["customer"], first, statements[0].merchant)


@asynccontextmanager
async def _browser(gateway: Gateway, face: str, merchant: str | None) -> AsyncIterator[Callable[[str], Any]]:
    """Somebody who is logged in to a console that listens: asks for an address, gets status and bytes."""
    at = gateway.clock.now()
    login = f"bench-{face}-{secrets.token_hex(4)}"  # a folder may be measured twice
    put = people.new_person(face=face, merchant=merchant, login=login, name="Bench", role="admin", language="ko", at=at)
    await gateway.book.commit(Change(puts=(put,)))
    person = people.by_login(gateway.reader, login)
    assert isinstance(person, Person)
    token, session = console_sessions.open_session(person, at, stepped_up=True)
    await gateway.book.commit(Change(puts=(person.put(state="active", password="-"), session)))  # noqa: S106 - nobody logs in by it
    async with AsyncExitStack() as stack:
        listener = socket.create_server(("127.0.0.1", 0))
        app = application.create_console(gateway, Unobserved(), face)
        places = Places(CONNECTIONS, CONNECTIONS, Proxies(()))
        await stack.enter_async_context(serving(app, listener, clock=gateway.clock, places=places))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=LoopbackResolver())))
        base = f"http://{face}.localhost:{listener.getsockname()[1]}"

        async def ask(path: str) -> tuple[int, int]:
            headers = {"Accept": "text/html", "Cookie": f"__Host-hanbit-{face}={token}"}
            async with http.get(base + path, headers=headers, allow_redirects=False) as answer:
                return answer.status, len(await answer.read())

        yield ask


async def _timed(ask: Callable[[str], Any], path: str, clock: Clock) -> tuple[list[float], int, float]:
    status, size = await ask(path)
    if status == 303:  # noqa: PLR2004 - a number leads to its payment
        status = 200
    seconds = []
    for _ in range(TIMES):
        started = clock.monotonic()
        await ask(path)
        seconds.append(clock.monotonic() - started)
        await asyncio.sleep(0)
    return sorted(seconds), status, round(size / 1000, 1)
