"""No Host header decides anything: what is answered to a forged one is what is answered to the true one.

An unknown Host is not refused either: refusing it would make it decide something, and whoever looks after a server asks it by its address.
Addresses in pages are relative or of `public_url`, writes are held against its origin, and the session cookie bears no domain.
"""

import re
import secrets
from collections.abc import AsyncIterator

import pytest

from tests.attacks.test_bad_input import exchange
from tests.faces.site import Site, client, running_site

EVIL = "evil.example"
FORGED = (
    {"Host": EVIL},
    {"Host": f"{EVIL}:443"},
    {"Host": "127.0.0.1"},
    {"X-Forwarded-Host": EVIL},
    {"Forwarded": f"host={EVIL};proto=https"},
    {"X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1", "X-Original-Host": EVIL},
)
_OF_EACH_ANSWER = re.compile(rb'nonce="[^"]*"|"keys":"[^"]*"')
_HEADERS_OF_EACH_ANSWER = {"date", "x-reference", "content-security-policy", "content-length"}


@pytest.fixture
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with running_site(tmp_path_factory.mktemp("site"), trusted_proxies=["127.0.0.1"]) as opened:
        yield opened


async def test_a_forged_host_changes_no_answer(site: Site) -> None:
    query = site.shop.order()
    addresses = (site.address(query), f"{site.base}/payments/{'A' * 22}", f"{site.base}/healthz", f"{site.base}/enrol/keys")
    async with client(Accept="text/html") as http:
        for address in addresses:
            seen = []
            for forged in ({}, *FORGED):
                async with http.get(address, headers=forged, allow_redirects=False) as answer:
                    body = await answer.read()
                    headers = {name.lower(): value for name, value in answer.headers.items()}
                    assert EVIL.encode() not in body
                    assert EVIL not in str(headers)
                    kept = {name: value for name, value in headers.items() if name not in _HEADERS_OF_EACH_ANSWER}
                    seen.append((answer.status, kept, len(_OF_EACH_ANSWER.sub(b"", body))))
            assert all(one[0] == seen[0][0] and one[1] == seen[0][1] for one in seen), address


async def test_an_origin_that_equals_a_forged_host_is_another_site(site: Site) -> None:
    async with client() as http:
        for forged in (f"http://{EVIL}", f"https://{EVIL}"):
            headers = {"Host": EVIL, "X-Forwarded-Host": EVIL, "Origin": forged, "Content-Type": "application/json"}
            async with http.post(f"{site.base}/pay/login", data=b"{}", headers=headers) as answer:
                assert answer.status == 403


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: pay.localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nHost: pay.localhost\r\nHost: evil.example\r\n\r\n",
    ],
)
async def test_a_request_with_no_host_or_two_is_none(head: bytes, site: Site) -> None:
    """RFC 9112, 3.2: two readers could take it for two sites."""
    answered = await exchange(site, head)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"x-reference: " in answered


async def test_an_absolute_address_is_answered_by_its_path(site: Site) -> None:
    name = secrets.token_hex(4).encode()
    line = b"GET http://" + name + b".example/healthz HTTP/1.1\r\n"
    answered = await exchange(site, line + b"Host: pay.localhost\r\nConnection: close\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert name not in answered
