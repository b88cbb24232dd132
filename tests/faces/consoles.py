"""Both consoles on real ports beside the customers' site, and people who are logged in to them; what console tests stand on.

async with running_consoles(tmp_path) as consoles:
    admin = await consoles.person("operator", "admin")           # logged in, second factor just shown
    shown = await admin.get("/payments")
    await admin.post("/staff/invite", login="kim", name="Kim", role="viewer")
"""

import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from starlette.applications import Starlette

from hanbit.crypto.passwords import Passwords
from hanbit.db.change import Change
from hanbit.kernel import ids
from hanbit.parties import console_sessions, people, people_factors, time_codes
from hanbit.parties.people import Person
from hanbit.payments import operations
from hanbit.payments.gateway import Gateway
from hanbit.web import application
from hanbit.web.serving import serving
from hanbit.web.visitors import Places, Proxies
from tests.faces.site import SHOP, Site, client, running_site

PASSWORD = "a staff member's password"
OTHER_SHOP = "dasom"
FACES = ("operator", "merchant")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: dict[str, str]
    cookies: list[str]

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    @property
    def words(self) -> str:
        """What a person reads of it."""
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", self.text)))


@dataclass
class Visitor:
    """A browser without scripts: keeps cookies, says from which page it comes, follows nothing by itself."""

    http: aiohttp.ClientSession
    base: str
    cookies: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> Answer:
        own = {"Origin": self.base, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
        return await self._ask("POST", path, urlencode(fields), {**own, **(headers or {})})

    async def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        sent = {"Accept": "text/html", "Accept-Language": self.language, **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.http.request(method, self.base + path, data=body, headers=sent, allow_redirects=False) as answer:
            for name, morsel in answer.cookies.items():
                self.cookies.pop(name, None)
                if morsel.value:
                    self.cookies[name] = morsel.value
            said = answer.headers.getall("Set-Cookie", [])
            return Answer(answer.status, await answer.text(), dict(answer.headers), said)


@dataclass
class Member(Visitor):
    """Somebody who is logged in."""

    person: Person = None  # type: ignore[assignment]  # `Consoles.person` always says who
    secret: bytes = b""

    def code(self, at: int) -> str:
        """What his authenticator app shows."""
        return time_codes.code_of(self.secret, at // time_codes.STEP_S)


@dataclass
class Consoles:
    """Both consoles, the customers' site and its shop."""

    site: Site
    apps: dict[str, Starlette]
    bases: dict[str, str]
    http: aiohttp.ClientSession
    hashed: str

    @property
    def gateway(self) -> Gateway:
        return self.site.gateway

    def stranger(self, face: str, language: str = "en") -> Visitor:
        """Somebody without a session."""
        return Visitor(self.http, self.bases[face], language=language)

    async def person(
        self,
        face: str,
        role: str,
        *,
        merchant: str = SHOP,
        session: str = "fresh",
        language: str = "en",
        login: str = "",
        name: str = "Kim",
    ) -> Member:
        """Somebody with a password and an authenticator app. `session`: "fresh", "stale" (no step-up lately), "half" or "none"."""
        reader, at, secret = self.gateway.reader, self.gateway.clock.now(), secrets.token_bytes(time_codes.SECRET_BYTES)
        login = login or f"{role}-{secrets.token_hex(4)}"
        put = people.new_person(
            face=face, merchant=merchant if face == "merchant" else None, login=login, name=name, role=role, language=language, at=at
        )
        await self.gateway.book.commit(Change(puts=(put,)))
        person = people.by_login(reader, login)
        assert person is not None
        factor = people_factors.new_code_secret(self.gateway.keyring.pepper, person.id, secret, step=0, name="app", at=at)
        rows = [person.put(state="active", password=self.hashed), factor]
        member = Member(self.http, self.bases[face], language=language, person=person, secret=secret)
        if session != "none":
            token, row = console_sessions.open_session(person, at, stepped_up=session != "half")
            if session == "stale":
                row = msgspec.structs.replace(row, row={**row.row, "stepped_up_at": at - console_sessions.FRESH_S - 1})
            rows.append(row)
            member.cookies[f"__Host-hanbit-{face}"] = token
        await self.gateway.book.commit(Change(puts=tuple(rows)))
        member.person = people.by_id(reader, person.id) or person
        return member


class _Metrics:
    def request(self, route: str, status: int, seconds: float) -> None:
        assert route, status
        assert seconds >= 0


@asynccontextmanager
async def running_consoles(folder: Path, **settings: Any) -> AsyncIterator[Consoles]:
    """A fresh operator with its shop, a second merchant, and both consoles listening."""
    listeners = {face: socket.create_server(("127.0.0.1", 0)) for face in FACES}
    ports = {face: listener.getsockname()[1] for face, listener in listeners.items()}
    bases = {"operator": f"http://console.localhost:{ports['operator']}", "merchant": f"http://merchant.localhost:{ports['merchant']}"}
    urls: dict[str, Any] = {"operator_url": bases["operator"], "merchant_url": bases["merchant"]}
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(running_site(folder, **urls, **settings))
        await operations.create_merchant(
            site.gateway, id=OTHER_SHOP, name="다솜서점", telephone="02-555-0177", return_url="https://dasom.example/orders"
        )
        apps = {}
        for face, listener in listeners.items():
            apps[face] = application.create_console(site.gateway, _Metrics(), face)
            places = Places(200, 200, Proxies(()))
            await stack.enter_async_context(serving(apps[face], listener, clock=site.gateway.clock, places=places))
        http = await stack.enter_async_context(client())
        yield Consoles(site, apps, bases, http, hashed(site.gateway))


def hashed(gateway: Gateway) -> str:
    """Hashed once: everybody in a test has the same password."""
    passwords = Passwords(gateway.keyring.pepper, workers=1, waiting_max=1)
    try:
        return passwords.hash_now(PASSWORD)
    finally:
        passwords.close()


def token_of(link: str) -> str:
    """The token of a set-up link."""
    return ids.check(re.compile(r"[A-Za-z0-9_-]{43}"), link.rpartition("/")[2], "token")
