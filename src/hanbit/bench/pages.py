"""`hanbit bench pages`: what the pages of all three faces take in a book of many payments, over real sockets, as a browser gets them.

fill      so many captured payments over the last thirty days, between a thousand customers and a thousand merchants whose shares follow
          Zipf's law; each behind a log-in in the audit, for an order at the largest of them
people    an admin of the operator, one of the largest merchant and a customer of its, each with a live session
pages     each is asked once to warm up and then TIMES times, one after the other: median and slowest on the wall; processor time of this
          process (the client's part is in it) and of the database's server, which says more on a machine that others use
"""

import asyncio
import resource
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from msgspec.structs import replace

from hanbit import folder
from hanbit.bench import cluster, floors
from hanbit.bench.cluster import Cluster
from hanbit.bench.figures import percentile_ms
from hanbit.bench.ledger_deals import CASH, MERCHANT, Deals
from hanbit.bench.pages_asked import FACES, Found, addresses, found
from hanbit.bench.preload import SAY_EVERY, pay
from hanbit.db.change import Change
from hanbit.db.commit import Book
from hanbit.db.place import Place, open_store
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, ManualClock, SandboxClock
from hanbit.loopback import LoopbackResolver
from hanbit.parties import console_sessions, people, sessions
from hanbit.parties.people import Person
from hanbit.payments import settlement
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act
from hanbit.settings import Settings
from hanbit.web import application
from hanbit.web.security import SESSION_COOKIE
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
"""What no page may take on the wall, whatever is stored; the report names those that did."""
TARGET_CPU_MS: Final = 50.0
"""And what none may cost in processor time."""
Ask = Callable[[str], Awaitable[tuple[int, int]]]
"""An address, answered with status and bytes."""


class Unobserved:
    """Nobody counts these requests."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """One more."""


async def run(
    directory: Path, count: int, clock: Clock, say: Callable[[str], None], *, store: str = "sqlite"
) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what is wrong with the run: addresses that answer with no page. A book that is there is not filled again."""
    floors.check_disk(directory)
    say("measuring floors")
    with tempfile.TemporaryDirectory(dir=directory) as beside:  # gone before the next run in a folder that is kept
        floor = floors.measure(Path(beside), clock)
    data, filled_s = directory / "gateway", 0.0
    with ExitStack() as stack:
        server = stack.enter_context(cluster.started(directory, clock)) if store == "postgresql" else None
        if not data.exists():
            then = ManualClock(clock.now() - DAYS * DAY_S)  # a book's time never goes back: it begins with its first payment
            settings = Settings(operator="bench", database=server.create("pages") if server else "")
            await folder.create(data, settings, then, root_key=None, root_passphrase=None)
            started = clock.monotonic()
            await fill(settings.database or data / BOOK_FILE, count, clock, say)
            filled_s = clock.monotonic() - started
        report, broken = await measure(data, clock, say, server)
    return {"store": store, "filled_s": round(filled_s, 1), **report, "floors": floor}, broken


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
            await book.commit(
                Change(
                    appends=tuple(
                        act(then.now(), f"customer:{customer}", "login", "device", LARGEST, ids.new_token()) for customer in customers
                    )
                )
            )
            await pay(book, deals, now, then, _quietly, requires=False)
            if done // SAY_EVERY != (done + now) // SAY_EVERY:
                say(f"filling: {done + now:,} of {count:,} payments")
    finally:
        await book.close()


def _quietly(_text: str) -> None:
    """A portion is not worth a word."""


async def measure(data: Path, clock: Clock, say: Callable[[str], None], server: Cluster | None = None) -> tuple[dict[str, Any], list[str]]:
    """Each page of all three faces on a folder that was filled before."""
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
            there = found(gateway.reader, LARGEST, first)
            (stored,) = await gateway.reader.scan("SELECT count(*) FROM payments")
            for face in FACES:
                say(f"the {face}'s pages")
                async with _browser(gateway, face, there) as ask:
                    for name, path in addresses(face, there):
                        pages[f"{face}: {name}"], status = await _timed(ask, path, clock, server)
                        if status != 200:  # noqa: PLR2004 - a page
                            broken.append(f"{face} {path}: {status}")
        finally:
            await folder.close_gateway(gateway)
    slow = [name for name, one in pages.items() if (one["p50_ms"] or 0) > TARGET_MS]
    dear = [name for name, one in pages.items() if (one["cpu_ms"] or 0) + (one["server_ms"] or 0) > TARGET_CPU_MS]
    report = {"payments": int(stored[0]), "day_closed_s": round(closed_s, 1), "too_slow": slow, "too_dear": dear, "pages": pages}
    return report, broken


@asynccontextmanager
async def _browser(gateway: Gateway, face: str, there: Found) -> AsyncIterator[Ask]:
    """Somebody who is logged in to a face that listens: asks for an address, gets status and bytes."""
    if face == "customer":
        token, app = await _customer(gateway, there.customer), application.create(gateway, Unobserved(), is_ready=lambda: True)
    else:
        token, app = await _staff(gateway, face, there.merchant), application.create_console(gateway, Unobserved(), face)
    cookie = SESSION_COOKIE + ("" if face == "customer" else f"-{face}")
    async with AsyncExitStack() as stack:
        listener = socket.create_server(("127.0.0.1", 0))
        places = Places(CONNECTIONS, CONNECTIONS, Proxies(()))
        await stack.enter_async_context(serving(app, listener, clock=gateway.clock, places=places))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=LoopbackResolver())))
        base = f"http://{face}.localhost:{listener.getsockname()[1]}"

        async def ask(path: str) -> tuple[int, int]:
            headers = {"Accept": "text/html", "Cookie": f"{cookie}={token}"}
            async with http.get(base + path, headers=headers, allow_redirects=False) as answer:
                return answer.status, len(await answer.read())

        yield ask


async def _staff(gateway: Gateway, face: str, merchant: str) -> str:
    """The session of a new admin."""
    at = gateway.clock.now()
    login = f"bench-{face}-{secrets.token_hex(4)}"  # a folder may be measured twice
    of = merchant if face == "merchant" else None
    put = people.new_person(face=face, merchant=of, login=login, name="Bench", role="admin", language="ko", at=at)
    await gateway.book.commit(Change(puts=(put,)))
    person = people.by_login(gateway.reader, login)
    assert isinstance(person, Person)
    token, session = console_sessions.open_session(person, at, stepped_up=True)
    await gateway.book.commit(Change(puts=(person.put(state="active", password="-"), session)))  # noqa: S106 - nobody logs in by it
    return token


async def _customer(gateway: Gateway, customer: str) -> str:
    """The session of somebody who has paid since the first day."""
    token, session = sessions.open_session(customer, "password", gateway.clock.now())
    await gateway.book.commit(Change(puts=(session,)))
    return token


async def _timed(ask: Ask, path: str, clock: Clock, server: Cluster | None) -> tuple[dict[str, float | None], int]:
    """One page: on the wall and in processor time, ours (the client's part is in it) and the database server's."""
    status, size = await ask(path)
    if status == 303:  # noqa: PLR2004 - a number leads to its payment
        status = 200
    seconds, spent, served = [], _spent_s(), server.cpu_s() if server else 0.0
    for _ in range(TIMES):
        started = clock.monotonic()
        await ask(path)
        seconds.append(clock.monotonic() - started)
        await asyncio.sleep(0)
    own, theirs = _spent_s() - spent, server.cpu_s() - served if server else 0.0
    figures: dict[str, float | None] = {
        "p50_ms": percentile_ms(sorted(seconds), 50),
        "max_ms": percentile_ms(sorted(seconds), 100),
        "cpu_ms": round(own * 1000 / TIMES, 1),
        "server_ms": round(theirs * 1000 / TIMES, 1),
        "kb": round(size / 1000, 1),
    }
    return figures, status


def _spent_s() -> float:
    """Processor seconds of all threads of this process, finer than the system's ticks."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
