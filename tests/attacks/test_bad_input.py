"""Bad input gets a clear answer at every address: never a 5xx, a hang, our insides, or a changed book. Walks the routing table."""

import asyncio
import contextlib
import dataclasses
import json
import secrets
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route
from yarl import URL

from hanbit.crypto import certificates, envelopes
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.kernel.money import Money
from hanbit.ledger.check import check as check_ledger
from hanbit.payments import operations
from hanbit.protocols import sealed
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Pin
from hanbit.protocols.sealed import SessionKey
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Password, Wallet
from hanbit.web import application
from hanbit.web.listener import LimitedHttp
from hanbit.web.security import SESSION_COOKIE, Limits
from tests.attacks.bad_requests import BAD, JSON_TYPE, OPENED, SPELLINGS_OF_AMOUNTS, SPELLINGS_OF_TIDS, Bad, ask, judge, post
from tests.faces.site import ACCOUNT_PASSWORD, LOGIN, PASSWORD, Site, changes, client, running_site

pytestmark = pytest.mark.asyncio(loop_scope="module")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One server for all of it."""
    async with running_site(tmp_path_factory.mktemp("bad")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(site: Site) -> AsyncIterator[dict[str, str]]:
    """A customer who has logged in, with an opening whose bytes are good: bad input from inside, not only from strangers."""
    async with Http() as http:
        wallet = Wallet.at(site.base, pin=Pin(site.gateway.keyring.root, "demo"), http=http, clock=SystemClock())
        opened = await wallet.open(site.address(site.shop.order()))
        await wallet.login(opened, LOGIN, PASSWORD)
        body = wallet.prepare(opened, Password(ACCOUNT_PASSWORD), account="A" * 22)
        OPENED[site.base] = opened.body()
        yield {"cookie": f"{SESSION_COOKIE}={wallet.client._cookie}", **body}


def routes(site: Site) -> list[Route]:
    """Every address that the customers' site has."""
    found = site.app.routes
    assert all(isinstance(route, Route) for route in found), "a mount or a socket: teach this walk what it takes"
    return [route for route in found if isinstance(route, Route)]


def proved(site: Site, before: str) -> None:
    """Nothing has changed, and the book is whole."""
    assert changes(site.gateway) == before
    assert check_ledger(site.gateway.reader.connection).balanced


async def test_every_address_is_tried_with_bad_input(site: Site) -> None:
    assert {route.path for route in routes(site)} == set(BAD)


@pytest.mark.parametrize("signed_in", [False, True], ids=["a stranger", "a customer"])
@pytest.mark.parametrize("path", BAD)
async def test_bad_input_gets_a_clear_answer(path: str, signed_in: bool, site: Site, session: dict[str, str]) -> None:
    before = changes(site.gateway)
    async with client(**({"Cookie": session["cookie"]} if signed_in else {})) as http:
        requests = list(BAD[path](site))
        assert requests
        for at in range(0, len(requests), 8):
            await asyncio.gather(*(ask(http, site, bad) for bad in requests[at : at + 8]))
    proved(site, before)


async def test_every_address_refuses_other_methods_and_other_sites(site: Site, session: dict[str, str]) -> None:
    before = changes(site.gateway)
    elsewhere: list[dict[str, str]] = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": site.base + "."},
        {"Origin": site.base.replace("pay.", "shop.")},
        {"Origin": site.base.upper()},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": site.base, "Sec-Fetch-Site": "cross-site"},
    ]
    async with client(Cookie=session["cookie"]) as http:
        for route in routes(site):
            target = route.path.replace("{id}", "A" * 22).replace("{version}/{name:path}", "x/y")
            others = [Bad(method, target, expected=frozenset({405, 400})) for method in METHODS if method not in (route.methods or set())]
            if "POST" in (route.methods or set()):
                kind = {"Content-Type": JSON_TYPE}
                others += [Bad("POST", target, b"{}", {**kind, **headers}, frozenset({403})) for headers in elsewhere]
            await asyncio.gather(*(ask(http, site, bad) for bad in others))
        for target in (
            "/",
            "//",
            "/pay/",
            "/PAY",
            "/pay/../pay/login",
            "/%70ay",
            "/pay%2flogin",
            "/.env",
            "/pay/login/x",
            "/" + "a" * 20_000,
        ):
            await ask(http, site, Bad("GET", target))
    proved(site, before)


@pytest.mark.parametrize("name", ["order", "keys", "key", "pay"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_one_letter_of_a_signed_or_sealed_message(name: str, site: Site, session: dict[str, str], data: st.DataObject) -> None:
    """Cut short, one letter changed, one put in: at submit, from the customer's own live session."""
    good = session[name]
    place = data.draw(st.integers(0, 9_999)) * len(good) // 10_000  # a share of the length, which is another in each run
    letter = data.draw(st.sampled_from("ABab09-_.="))
    altered = data.draw(st.sampled_from([good[:place], good[:place] + letter + good[place + 1 :], good[:place] + letter + good[place:]]))
    if altered == good:
        return
    before = changes(site.gateway)
    form = {field: value for field, value in session.items() if field != "cookie"} | {name: altered}
    async with client(Cookie=session["cookie"]) as http:
        await ask(http, site, post("/pay/submit", form))
    proved(site, before)


@pytest.mark.parametrize(
    "return_url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://garam.example/",
        "http://user@shop.localhost:8500/return",
        "http://shop.localhost:8500@evil.example/",
        "http://shop.localhost:8501/return",
        "http://shop.localhost/return",
        "https://shop.localhost:8500/return",
        "http://shop.localhost.:8500/return",
        "http://shop.localhost:8500\\@evil.example/",
        "http://evil.example\\.shop.localhost:8500/",
        "http://xn--shop-.localhost:8500/",
        "http://şhop.localhost:8500/",
        "http://shop.localhost:8500/\r\nSet-Cookie: a=b",
        "http://shop.localhost:8500/return#x",
        "http://shop.localhost:8500/ return",
        "//shop.localhost:8500/",
        "http:///shop.localhost:8500/",
        "http://shop.localhost:8500.evil.example/",
        "http://[::1]:8500/",
        "",
        "http://shop.localhost:\uff18\uff15\uff10\uff10/",
    ],
)
async def test_a_signed_order_leads_back_to_the_registered_origin_only(return_url: str, site: Site) -> None:
    """The shop's own signature does not make another return address good: its key may be in other hands."""
    before = changes(site.gateway)
    tid = ids.new_token()
    try:
        signed = site.shop.merchant.make_order(
            tid=tid,
            amount=Money(1000, "KRW"),
            oi=ids.digest(secrets.token_bytes(32)),
            text="x",
            return_url=return_url,
            pay_by=SystemClock().now() + 600,
            refund_by=None,
            at=SystemClock().now(),
        )
    except Exception:  # noqa: BLE001 - the shop's own half refuses to sign it: just as good
        return
    query = {"MID": "garam", "TID": tid, "AMOUNT": "1000", "CUR": "KRW", "ORDER": signed.compact}
    async with client() as http:
        for accept in (JSON_TYPE, "text/html"):
            target = site.address(query).removeprefix(site.base)
            await ask(http, site, Bad("GET", target, headers={"Accept": accept}, expected=frozenset({400, 409})))
    proved(site, before)


SEALED_LOGINS: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 10_000,
    b'{"method":1}',
    b'{"method":"sms","id":"a","password":"b"}',
    b'{"method":"password"}',
    b'{"method":"password","id":1,"password":"x"}',
    b'{"method":"password","id":"hong","password":["x"]}',
    b'{"method":"password","id":"","password":"x"}',
    b'{"method":"password","id":"hong","password":""}',
    b'{"method":"password","id":"hong","password":"' + b"x" * 129 + b'"}',
    b'{"method":"password","id":"' + b"x" * 65 + b'","password":"x"}',
    b'{"method":"password","id":"\\ud800","password":"x"}',
    b'{"method":"password","id":"nobody","password":"\\ud800"}',
    b'{"method":"password","id":"a\\u0000","password":"x"}',
    b'{"method":"password","id":"\xff","password":"x"}',
    b'{"method":"passkey"}',
    b'{"method":"passkey","assertion":null}',
    b'{"method":"passkey","assertion":{"id":"x","rawId":"x","response":{"clientDataJSON":"!","signature":"!"},"type":"x"}}',
    b'{"method":"passkey","assertion":{"id":["x"],"rawId":5,"response":[]}}',
)
"""Plaintexts that open under the right key and are no login."""


@pytest.mark.parametrize("plain", SEALED_LOGINS, ids=range(len(SEALED_LOGINS)))
async def test_a_login_that_opens_and_is_none(plain: bytes, site: Site) -> None:
    before = changes(site.gateway)
    async with Http() as http, client() as raw:
        wallet = Wallet.at(site.base, pin=Pin(site.gateway.keyring.root, "demo"), http=http, clock=SystemClock())
        opened = await wallet.open(site.address(site.shop.order()))
        login = seal_raw(opened.sealing.session, sealed.LOGIN_TYP, plain)
        await ask(raw, site, post("/pay/login", {**opened.body(), "key": opened.sealing.key, "login": login}))
    proved(site, before)


def bad_instructions(core: str, auth: str) -> list[Any]:
    """Plaintexts of R7 that open under the right key and are no instruction of this customer for this order."""
    good_core, good_auth = json.loads(core), json.loads(auth)
    cores: list[Any] = [
        "",
        "[" * 9_000,
        core + " ",
        core.replace("{", '{"v":1,', 1),
        *({**good_core, "amount": amount} for amount in SPELLINGS_OF_AMOUNTS),
        *({**good_core, "tid": tid} for tid in SPELLINGS_OF_TIDS),
        *(
            {**good_core, "account": account}
            for account in ("", "x" * 500, "typed:", "typed:" + "A" * 43, "\ud800", "a\x00b", "../x", 5, None)
        ),
        *(
            {**good_core, name: value}
            for name in ("merchant", "gateway", "order", "ctx", "salt", "currency")
            for value in ("", "x", 1, None)
        ),
        {**good_core, "v": 2},
        {**good_core, "more": 1},
    ]
    auths: list[Any] = [
        "",
        "[" * 9_000,
        *({**good_auth, "method": method} for method in ("", "sms", "passkey", "device", "code", 1, None)),
        *({**good_auth, "value": value} for value in ("", "x" * 129, "\ud800", "é" * 200, 1, None)),
        *({**good_auth, "method": "device", "value": value} for value in ("a.b.c", "e30.e30.AA", "." * 9_000)),
        *(
            {**good_auth, "method": "passkey", "value": value}
            for value in ("{}", "[" * 5_000, '{"id":5}', "null", '{"response":{"clientDataJSON":1}}')
        ),
        {**good_auth, "salt": "x"},
    ]
    numbers: list[dict[str, Any]] = [
        {"number": number, "number_salt": "A" * 43}
        for number in ("\uff14" * 16, "4" * 500, "", "4012-8888-8888-1881\x00", "\ud800", 5, None)
    ]

    def text(part: Any) -> Any:
        return part if isinstance(part, str) else json.dumps(part)

    return [
        None, [], {}, {"core": core}, {"auth": auth}, {"core": good_core, "auth": good_auth}, {"core": 5, "auth": auth},
        *({"core": text(part), "auth": auth} for part in cores),
        *({"core": core, "auth": text(part)} for part in auths),
        *({"core": core, "auth": auth, **number} for number in numbers),
        {"core": core, "auth": auth, "number": "4012888888881881"},
        {"core": core, "auth": auth, "more": 1},
    ]  # fmt: skip


async def test_an_instruction_that_opens_and_is_none(tmp_path: Path) -> None:
    """Sealed under the right key in a live session. A whole instruction with a wrong factor is a declined attempt, no more."""
    async with running_site(tmp_path) as fresh, Http() as http, client() as raw:
        wallet = Wallet.at(fresh.base, pin=Pin(fresh.gateway.keyring.root, "demo"), http=http, clock=SystemClock())
        opened = await wallet.open(fresh.address(fresh.shop.order()))
        await wallet.login(opened, LOGIN, PASSWORD)
        core = customer.make_core(opened.opening, "A" * 22)
        auth = customer.auth_password("wrong")
        held = "SELECT count(*) FROM entries WHERE kind = 'hold'"
        for number in range(len(bad_instructions(core, auth))):
            if number % 3 == 0:  # a few failures burn an opening, and a factor waits: each gets its own, as a page that is loaded again
                opened = await wallet.open(fresh.address(fresh.shop.order()))
                core = customer.make_core(opened.opening, "A" * 22)
            plain = bad_instructions(core, auth)[number]
            pay = seal_raw(opened.sealing.session, sealed.PAY_TYP, json.dumps(plain).encode())
            bad = post("/pay/submit", {**opened.body(), "key": opened.sealing.key, "pay": pay})
            bad = dataclasses.replace(bad, headers={**bad.headers, "Cookie": f"{SESSION_COOKIE}={wallet.client._cookie}"})
            url = URL(fresh.base + bad.target)
            async with raw.post(url, data=bad.body, headers=bad.headers) as answer:
                content = await answer.read()
                if answer.status == 200:  # a whole instruction with a wrong factor
                    told = json.loads(content)
                    assert (told["state"], told["reason"]) in {("open", "wrong_factor"), ("closed", "wrong_factor")}, (plain, told)
                else:
                    judge(answer.status, {name.title(): value for name, value in answer.headers.items()}, content, bad)
            assert fresh.gateway.reader.all(held)[0][0] == 0, plain
        assert check_ledger(fresh.gateway.reader.connection).balanced


def seal_raw(session: SessionKey, typ: str, plain: bytes) -> str:
    """Any bytes under the right key, as only the customer himself can send them."""
    header: dict[str, str | int] = {"typ": typ, "ctx": session.ctx, "sequence": 1, "tid": session.tid}
    return envelopes.seal_with_secret(sealed._key_for(session, typ), plain, header)


# --- the wire ---------------------------------------------------------------------------------------------------------------------


async def exchange(site: Site, *pieces: bytes) -> bytes:
    """Everything that the server says to these bytes until it hangs up; within the five seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(5):
            return await reader.read(1 << 20)
    finally:
        writer.close()


FORM = b'{"order":"","keys":"","tid":"","amount":""}'
HOST = b"Host: pay.localhost\r\nConnection: close\r\n"
SHAPES: dict[str, bytes] = {
    "length and chunks": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "chunks and length": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "two lengths": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "list of lengths": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: 2, 2\r\n\r\n{}",
    "length of other digits": b"POST /pay/screen HTTP/1.1\r\n" + HOST + "Content-Length: \uff12\r\n\r\n{}".encode(),
    "signed length": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\n{}",
    "negative length": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n{}",
    "endless length": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}",
    "unknown coding": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "coding after chunks": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}",
    "folded header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "bare CR": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n",
    "header without a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "bad chunk size": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    "endless chunk size": b"POST /pay/screen HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2's opening": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x00" * 160,
    "no path": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a whole address": b"GET http://evil.example HTTP/1.1\r\n" + HOST + b"\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a letter beyond ASCII in the path": "GET /결제 HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "upgrade": b"GET /pay HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % number for number in range(9000)),
    "one long header": b"GET / HTTP/1.1\r\nCookie: " + b"a" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_shapes_that_two_servers_read_differently_are_refused(shape: str, site: Site) -> None:
    """What may be one request to a proxy and two to us is none; the connection ends, so that nothing is left on it."""
    before = changes(site.gateway)
    answered = await exchange(site, SHAPES[shape])
    head, _, content = answered.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    assert lines[0].startswith("HTTP/1.1 "), answered
    headers = {name.strip().title(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    judge(int(lines[0].split()[1]), headers, content, Bad("RAW", shape))
    assert answered.count(b"HTTP/1.1 ") == 1, "a second answer: a request was smuggled"
    proved(site, before)


async def test_a_request_behind_a_refused_one_is_answered_by_itself(site: Site) -> None:
    """Two in one packet: the first is refused for its kind, its body is not taken for the second."""
    body = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    first = b"POST /pay/screen HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    answered = await exchange(site, first + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answered.count(b"HTTP/1.1 415") == 1
    assert answered.count(b"HTTP/1.1 200") == 1
    assert b"ready" not in answered


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"POST /pay/screen HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 403"),
        (b"POST /pay/screen HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", b"HTTP/1.1 415"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 404"),
    ],
)
async def test_a_body_that_nobody_reads_holds_no_connection(
    sent: bytes, answers: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was refused at once; its body goes on dripping until the connection is closed."""
    monkeypatch.setattr(LimitedHttp, "body_deadline_s", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(sent)

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    answered = b""
    try:
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):  # it was closed while we were writing
                while more := await reader.read(1 << 16):
                    answered += more
    finally:
        dripping.cancel()
        writer.close()
    assert answered.startswith(answers)
    assert answered.count(b"HTTP/1.1") == 1


# --- overload ---------------------------------------------------------------------------------------------------------------------


async def test_a_connection_beyond_the_limit_takes_the_place_of_the_one_that_was_silent_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_site(tmp_path) as full:
        held = [await asyncio.open_connection("127.0.0.1", full.port) for _ in range(3)]
        for reader, writer in reversed(held):  # an answer makes a connection younger
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read(1024)).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(full.places, "_total", full.places.taken)
        answered = await exchange(full, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answered.startswith(b"HTTP/1.1 200")
        for reader, writer in held[:2]:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read(1024)).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionResetError):
            assert await held[2][0].read() == b""
        for _, writer in held:
            writer.close()


async def test_a_connection_is_told_to_come_again_where_everybody_is_being_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_site(tmp_path) as busy:
        _, writer = await asyncio.open_connection("127.0.0.1", busy.port)
        stalled, proceed = asyncio.Event(), asyncio.Event()

        async def stall(*_: Any) -> None:
            stalled.set()
            await proceed.wait()
            raise Unavailable

        monkeypatch.setattr(Limits, "_limited", stall)
        monkeypatch.setattr(busy.places, "_total", 1)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await stalled.wait()
        answered = await exchange(busy, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answered.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 2" in answered
        assert b"x-reference: " in answered
        proceed.set()
        writer.close()


async def test_a_request_beyond_the_limit_is_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"at_once_max": 1}
    monkeypatch.setattr(application, "Limits", lambda app, **given: Limits(app, **given, **limits))
    async with running_site(tmp_path) as busy, client() as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", busy.port)
        writer.write(b"POST /pay/screen HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        for _ in range(100):  # until the request above has begun
            async with http.get(f"{busy.base}/healthz") as answer:
                if answer.status == 503:
                    judge(503, {name.title(): value for name, value in answer.headers.items()}, await answer.read(), Bad("GET", "/healthz"))
                    break
        else:
            pytest.fail("the second request at once was taken")
        writer.write(b"        ")
        assert (await reader.read(1024)).startswith(b"HTTP/1.1 400")
        writer.close()
        async with http.get(f"{busy.base}/healthz") as answer:
            assert answer.status == 200


async def test_more_logins_than_the_workers_can_check_are_told_to_come_again(tmp_path: Path) -> None:
    async with running_site(tmp_path, password_workers=1, password_waiting_max=1) as busy, Http() as http:
        pin = Pin(busy.gateway.keyring.root, "demo")
        wallets = [Wallet.at(busy.base, pin=pin, http=http, clock=SystemClock()) for _ in range(8)]
        opened = [await wallet.open(busy.address(busy.shop.order())) for wallet in wallets]
        results: list[Any] = await asyncio.gather(
            *(wallet.login(one, "nobody", "wrong") for wallet, one in zip(wallets, opened, strict=True)), return_exceptions=True
        )
        assert all(isinstance(result, HanbitError) for result in results), results
        turned_away = [result for result in results if isinstance(result, Unavailable)]
        assert 1 <= len(turned_away) < len(results)
        assert all(result.retry_after_s > 0 for result in turned_away)
        await wallets[0].login(opened[0], LOGIN, PASSWORD)


async def test_of_33_logins_that_wait_for_the_one_worker_the_last_is_told_when_to_come_again(tmp_path: Path) -> None:
    """With the limits as they are installed: one worker is at a password, 32 wait for it, and whoever comes then hears 503 at once."""
    async with running_site(tmp_path, password_workers=1) as busy, Http() as http:
        assert busy.gateway.settings.password_waiting_max == 32
        pin = Pin(busy.gateway.keyring.root, "demo")
        wallets = [Wallet.at(busy.base, pin=pin, http=http, clock=SystemClock()) for _ in range(33)]
        opened = [await wallet.open(busy.address(busy.shop.order())) for wallet in wallets]
        passwords, is_done = busy.gateway.passwords, threading.Event()
        at_work = asyncio.create_task(passwords._in_thread(is_done.wait))
        try:
            waiting = [
                asyncio.create_task(wallet.login(one, f"nobody-{number}", "wrong"))
                for number, (wallet, one) in enumerate(zip(wallets[:32], opened[:32], strict=True))
            ]
            async with asyncio.timeout(60):
                while passwords._room._value:  # noqa: ASYNC110 - a semaphore of threads rings no bell
                    await asyncio.sleep(0.01)
            with pytest.raises(Unavailable) as told:
                await wallets[32].login(opened[32], LOGIN, PASSWORD)
            assert told.value.retry_after_s > 0
            assert not any(login.done() for login in waiting)
        finally:
            is_done.set()
        results = await asyncio.gather(*waiting, at_work, return_exceptions=True)
        assert not any(isinstance(result, Unavailable) for result in results), results
        await wallets[32].login(opened[32], LOGIN, PASSWORD)


# --- enrolment --------------------------------------------------------------------------------------------------------------------


async def test_bad_certificate_requests_do_not_use_up_the_code(site: Site) -> None:
    """Garbage, RSA, another's name, a missing one: refused; then the same code with good requests is good, and once only."""
    shop = f"s{secrets.token_hex(4)}"
    made = await operations.create_merchant(site.gateway, id=shop, name="x", telephone="02-555-0100", return_url="https://x.example/")
    urn = site.gateway.settings.merchant_urn(shop)
    rsa_key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shop)])
    rsa_request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(rsa_key, hashes.SHA256())

    def request(purpose: str, name: str = urn) -> str:
        return ids.encode_base64url(certificates.certificate_request(new_key(), name, purpose))

    good = {"merchant-sign": request("merchant-sign"), "line": request("line")}
    of_rsa = ids.encode_base64url(rsa_request.public_bytes(serialization.Encoding.DER))
    before = changes(site.gateway)
    async with client() as http:
        for change in (
            {"line": "AAAA"},
            {"line": of_rsa},
            {"line": good["line"][:-8]},
            {"line": request("line", site.gateway.settings.merchant_urn("garam"))},
            {"line": request("line", site.gateway.urn)},
            {"line": good["merchant-sign"]},
            {"customer-sign": request("line")},
        ):
            await ask(http, site, post("/enrol/merchant", {"code": made["code"], "requests": {**good, **change}}))
        for missing in good:
            requests = {name: value for name, value in good.items() if name != missing}
            await ask(http, site, post("/enrol/merchant", {"code": made["code"], "requests": requests}))
        proved(site, before)
        async with http.post(f"{site.base}/enrol/merchant", json={"code": made["code"], "requests": good}) as answer:
            assert answer.status == 200, await answer.text()
        await ask(http, site, post("/enrol/merchant", {"code": made["code"], "requests": good}))


async def test_a_silent_connection_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttp, "head_deadline_s", 0.2)
    assert await exchange(site) == b""
    slow = await exchange(site, b"GET /healthz HTTP/1.1\r\nX: ")
    assert slow.startswith(b"HTTP/1.1 408")
    assert b"x-reference: " in slow


async def test_the_server_still_answers(site: Site) -> None:
    """After all of it (tests run in any order, so this one is only sometimes the last)."""
    async with client() as http, http.get(f"{site.base}/readyz") as answer:
        assert answer.status == 200
