"""What guards the addresses: other sites, sizes, slowness, kinds of content, headers; each refusal is clear and changes nothing."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from yarl import URL

from hanbit.web import listener, security
from hanbit.web.security import BODY_MAX
from tests.faces.site import Site, changes, client
from tests.faces.test_security_rules import REFERENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")
FORM = {"order": "", "keys": "a.b.c", "tid": "A" * 22, "amount": "1", "mid": "garam"}


async def test_every_answer_carries_the_headers(quiet_site: Site) -> None:
    async with client(Accept="text/html") as http:
        for address in (
            quiet_site.address(quiet_site.shop.order()),
            f"{quiet_site.base}/nowhere",
            f"{quiet_site.base}/payments/{'A' * 22}",
        ):
            async with http.get(address) as answer:
                for name, value in security.FIXED_HEADERS.items():
                    assert answer.headers[name] == value
                assert answer.headers["Cache-Control"] == "no-store"
                assert REFERENCE.fullmatch(answer.headers["X-Reference"])
                assert "Server" not in answer.headers
                nonce = re.search(r"'nonce-([A-Za-z0-9_-]{22})'", answer.headers["Content-Security-Policy"])
                assert nonce is not None
                page = await answer.text()
                scripts = re.findall(r"<script([^>]*)>", page)
                assert all("application/json" in script or f'nonce="{nonce[1]}"' in script for script in scripts)
                assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
                addresses = {urlsplit(found).netloc for found in re.findall(r'(?:src|href)="([^"]+)"', page)}
                assert addresses <= {"", "shop.localhost:8500"}, "no third party"


async def test_two_visits_have_two_nonces(quiet_site: Site) -> None:
    address, found = quiet_site.address(quiet_site.shop.order()), set()
    async with client(Accept="text/html") as http:
        for _ in range(2):
            async with http.get(address) as answer:
                found.add(answer.headers["Content-Security-Policy"])
    assert len(found) == 2


@pytest.mark.parametrize(
    "path", ["/pay/login", "/pay/screen", "/pay/submit", "/pay/cancel", "/passkeys", "/passkeys/options", "/enrol/merchant"]
)
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{}", "text/plain", 415, "wrong_media_type"),
        (b"{}", "application/x-www-form-urlencoded", 415, "wrong_media_type"),
        (b"{}", "application/json; charset=euc-kr", 415, "wrong_media_type"),
        (b"", "application/json", 400, "bad_input"),
        (b"not json", "application/json", 400, "bad_input"),
        (b"[" * 50_000, "application/json", 400, "bad_input"),
        (b'{"tid":"x","tid":"x"}', "application/json", 400, "bad_input"),
        (b"\xff\xfe", "application/json", 400, "bad_input"),
        (b"[]", "application/json", 400, "bad_input"),
        (b'{"a":' + b"9" * 5000 + b"}", "application/json", 400, "bad_input"),
        (b" " * (BODY_MAX + 1), "application/json", 413, "too_large"),
    ],
)
async def test_a_body_of_another_kind_is_refused_in_words(
    quiet_site: Site, path: str, body: bytes, content_type: str, status: int, code: str
) -> None:
    before = changes(quiet_site.gateway)
    async with (
        client(**{"Content-Type": content_type, "Accept-Language": "en"}) as http,
        http.post(quiet_site.base + path, data=body) as answer,
    ):
        problem = await answer.json(content_type="application/problem+json")
        signed_out = path.startswith("/passkeys") and body == b'{"a":' + b"9" * 5000 + b"}"
        assert (answer.status, problem["code"]) in {(status, code), (401, "not_signed_in") if signed_out else (status, code)}
    assert set(problem) == {"type", "title", "status", "code", "detail", "reference", "advice"}
    assert problem["reference"] == answer.headers["X-Reference"]
    assert problem["title"]
    assert problem["advice"]
    assert changes(quiet_site.gateway) == before


@pytest.mark.parametrize(
    "change",
    [
        {"tid": "short"}, {"tid": "A" * 65}, {"tid": 7}, {"amount": "1.0"}, {"amount": "01"}, {"amount": "-1"}, {"amount": "\uff11\uff12"},
        {"amount": 220000}, {"amount": "9" * 16}, {"order": None}, {"order": "a b"}, {"order": "A" * 40_000}, {"keys": ""}, {"keys": "a.b"},
        {"keys": "é"}, {"mid": "GARAM"}, {"mid": "x" * 33}, {"mid": "nobody"}, {"key": ""}, {"key": "A" * 17_000}, {"login": None},
        {"extra": "1"}, {"key": "..", "login": "...."}, {"order": "..", "mid": ""}, {"order": "a.b.c", "mid": ""},
        {"order": "eyJhIjoxfQ.eyJpc3MiOiJ1cm46aGFuYml0OmRlbW86bWVyY2hhbnQ6Z2FyYW0ifQ.x", "mid": ""},
    ],
)  # fmt: skip
async def test_a_login_beyond_its_grammar_is_refused_and_changes_nothing(quiet_site: Site, change: dict[str, Any]) -> None:
    before = changes(quiet_site.gateway)
    body = {**FORM, "key": "a.b.c.d.e", "login": "a.b.c.d.e", **change}
    async with client() as http, http.post(f"{quiet_site.base}/pay/login", json=body) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status in {400, 404, 409}, problem
        assert not re.search(r"/work|/src|Traceback|\.py|hanbit\.", json.dumps(problem))
    assert changes(quiet_site.gateway) == before


@pytest.mark.parametrize(
    "query",
    [
        "", "MID=garam", "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1", "MID=garam&MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW",
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&AMOUNT=2&CUR=KRW", "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW&X=1",
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1e3&CUR=KRW", "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=%EF%BC%91&CUR=KRW",
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=0&CUR=KRW", "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=WON",
        "MID=garam&TID=AAAA&AMOUNT=1&CUR=KRW", "MID=garam&TID=%00AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW",
        "MID=..%2F..%2Fetc&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW", "MID=nobody&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW",
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW&lang=fr", "MID=garam&TID=%FF%FE&AMOUNT=1&CUR=KRW", "MID", "%", "&&&&", "=",
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=KRW&ORDER=" + "A" * 30_000,
        "MID=garam&TID=AAAAAAAAAAAAAAAAAAAAAA&AMOUNT=1&CUR=USD",
    ],
)  # fmt: skip
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
async def test_an_address_beyond_its_grammar_is_refused_and_changes_nothing(quiet_site: Site, query: str, accept: str) -> None:
    before = changes(quiet_site.gateway)
    async with client(Accept=accept) as http, http.get(URL(f"{quiet_site.base}/pay?{query}", encoded=True)) as answer:
        text = await answer.text()
        assert answer.status in {400, 404, 409}, text[:300]
        assert answer.headers["X-Reference"] in text
        assert not re.search(r"/work|Traceback|\.py\b|uvicorn|starlette", text)
    assert changes(quiet_site.gateway) == before


async def test_unknown_and_malformed_ids_look_the_same(quiet_site: Site) -> None:
    answers = set()
    async with client(Accept="text/html") as http:
        for path in (
            "/payments/x",
            f"/payments/{'A' * 22}",
            f"/payments/{'A' * 22}/receipt",
            "/payments/%00",
            "/nowhere",
            "/static/x/../../etc",
        ):
            async with http.get(quiet_site.base + path) as answer:
                page = re.sub(r"[0-9A-Z]{4}-[0-9A-Z]{4}|href=\"[^\"]*\"", "", await answer.text())
                answers.add((answer.status, page))
    assert len(answers) == 1
    assert answers.pop()[0] == 404


async def test_a_method_that_an_address_does_not_have_is_405(quiet_site: Site) -> None:
    async with client() as http:
        for method, path in (("GET", "/pay/login"), ("POST", "/pay"), ("DELETE", f"/payments/{'A' * 22}"), ("PUT", "/pay/submit")):
            async with http.request(method, quiet_site.base + path) as answer:
                assert (answer.status, (await answer.json(content_type=None))["code"]) == (405, "wrong_method")


async def test_a_cross_site_post_never_reaches_its_handler(quiet_site: Site) -> None:
    before = changes(quiet_site.gateway)
    async with client(Origin="http://shop.localhost:8500") as http, http.post(f"{quiet_site.base}/pay/login", json=FORM) as answer:
        assert answer.status == 403
    assert changes(quiet_site.gateway) == before


async def send_raw(site: Site, *parts: bytes, pause_s: float = 0.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_a_head_that_is_not_complete_in_time_is_cut(quiet_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener.LimitedHttp, "head_deadline_s", 0.2)
    assert (await send_raw(quiet_site, b"GET /healthz HTTP/1.1\r\nHost: pay.localhost\r\nX-Slow: ")).startswith(b"HTTP/1.1 408 ")
    assert await send_raw(quiet_site) == b""


async def test_a_second_head_on_the_same_connection_has_the_same_deadline(quiet_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener.LimitedHttp, "head_deadline_s", 0.3)
    head = b"GET /healthz HTTP/1.1\r\nHost: pay.localhost\r\n"
    answered = await send_raw(quiet_site, head + b"\r\n", head, pause_s=0.1)
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answered


async def test_a_head_without_end_is_cut_by_its_size(quiet_site: Site) -> None:
    answered = await send_raw(quiet_site, b"GET /healthz HTTP/1.1\r\nX-Endless: " + b"a" * (listener.HEAD_MAX + 1))
    assert answered.startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_trickles_is_cut(quiet_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for middleware in walk(quiet_site):
        monkeypatch.setattr(middleware, "_deadline_s", 0.2)
    head = b"POST /pay/login HTTP/1.1\r\nHost: pay.localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    answered = await send_raw(quiet_site, head + b"{")
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answered
    assert b"connection: close" in answered.lower()


async def test_a_body_in_pieces_is_counted_as_a_whole(quiet_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener.LimitedHttp, "body_deadline_s", 0.5)  # the rest of the body is thrown away for so long
    head = b"POST /pay/login HTTP/1.1\r\nHost: pay.localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    answered = await send_raw(quiet_site, head, *[chunk] * 5)
    assert answered.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /pay\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0",
        b"GET http://[/ HTTP/1.1\r\n\r\n",
        b"POST /pay/login HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /pay/login HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_request_get_a_400_and_nothing_of_our_insides(quiet_site: Site, request_bytes: bytes) -> None:
    answered = await send_raw(quiet_site, request_bytes)
    assert re.match(rb"HTTP/1.1 4[0-9][0-9] ", answered) or answered == b""
    assert b"uvicorn" not in answered.lower()


async def test_a_bug_of_ours_is_told_as_a_reference_and_nothing_else(quiet_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr("hanbit.web.customer.routes.open_order", broken)
    address = f"{quiet_site.base}/pay?MID=garam&TID={'A' * 22}&AMOUNT=1&CUR=KRW"
    async with client(Accept="text/html") as http, http.get(address) as answer:
        text = await answer.text()
    assert answer.status == 500
    assert "secret detail" not in text
    assert "KeyError" not in text
    assert answer.headers["X-Reference"] in text
    assert "결제를 누르신 뒤라면 처리되었을 수 있습니다" in text


def walk(site: Site) -> list[security.Limits]:
    """The running application's limits."""
    app: Any = site.app.middleware_stack
    found = []
    while app is not None:
        if isinstance(app, security.Limits):
            found.append(app)
        app = getattr(app, "app", None) or getattr(app, "_app", None)
    assert found
    return found
