"""The button's script and the payment window as a browser is given them: which headers, how large, and what the window's own call tells."""

import gzip
from typing import Any

import pytest

from hanbit.web.customer.window import BUTTON, KEEPS_OPENER
from hanbit.web.security import FIXED_HEADERS
from tests.faces.site import Site, changes, client

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUTTON_MAX = 3 * 1024
"""Bytes of the script as it is sent to shops' pages, compressed: it must not be what a page waits for."""


async def test_the_button_is_small_kept_and_loadable_by_any_page(quiet_site: Site) -> None:
    async with client() as http, http.get(f"{quiet_site.base}/{BUTTON}") as answer:
        script, headers = await answer.read(), answer.headers
        assert answer.status == 200
    assert len(gzip.compress(script)) <= BUTTON_MAX
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cache-Control"] == "public, max-age=3600"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers.getall("Cross-Origin-Resource-Policy") == ["cross-origin"]
    version = headers["ETag"].strip('"')
    async with client(**{"If-None-Match": headers["ETag"]}) as http, http.get(f"{quiet_site.base}/{BUTTON}") as again:
        assert (again.status, await again.read()) == (304, b"")
    async with client() as http, http.get(f"{quiet_site.base}/{BUTTON}?v={version}") as named:
        assert named.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    async with client() as http, http.get(f"{quiet_site.base}/{BUTTON}?v=older") as older:
        assert older.headers["Cache-Control"] == "public, max-age=3600", (
            "an old version is not there any more and is not kept as if it were"
        )


async def test_only_the_payment_window_keeps_who_opened_it(quiet_site: Site) -> None:
    strict = FIXED_HEADERS["Cross-Origin-Opener-Policy"]
    async with client(Accept="text/html") as http:
        async with http.get(f"{quiet_site.base}/window?lang=en") as window:
            page = await window.text()
            assert window.headers.getall("Cross-Origin-Opener-Policy") == [KEEPS_OPENER]
            policy = window.headers["Content-Security-Policy"]
            assert window.headers["Cache-Control"] == "no-store"
        assert {"frame-ancestors 'none'", "form-action 'none'", "default-src 'none'"} <= set(policy.split("; "))
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert f'<script type="module" nonce="{nonce}"' in page
        assert "TID" not in page
        for path in ("/pay?" + "&".join(f"{name}={value}" for name, value in quiet_site.shop.order().items()), "/payments/x", f"/{BUTTON}"):
            async with http.get(f"{quiet_site.base}{path}") as other:
                assert other.headers.getall("Cross-Origin-Opener-Policy") == [strict]


def form(order: dict[str, str], **changed: Any) -> dict[str, Any]:
    return {"mid": order["MID"], "tid": order["TID"], "amount": order["AMOUNT"], "currency": "KRW", "order": order["ORDER"], **changed}


async def test_the_window_is_told_the_origins_of_its_payee_and_opening_writes_nothing(quiet_site: Site) -> None:
    before = changes(quiet_site.gateway)
    async with client() as http:
        async with http.post(f"{quiet_site.base}/window/open?lang=en", json=form(quiet_site.shop.order())) as answer:
            opened = await answer.json()
            assert answer.status == 200
        assert opened["origins"] == ["http://shop.localhost:8500"]
        assert opened["ended"] is None
        assert opened["exponent"] == 0
        assert "가람전자" in opened["html"]
        assert opened["opening"]["keys"].count(".") == 2
        async with http.post(f"{quiet_site.base}/window/open", json=form(quiet_site.shop.order(), amount="1")) as other:
            assert (other.status, (await other.json())["code"]) == (409, "not_opened")
        headers = {"Origin": "http://shop.localhost:8500", "Sec-Fetch-Site": "cross-site"}
        async with http.post(f"{quiet_site.base}/window/open", json=form(quiet_site.shop.order()), headers=headers) as foreign:
            assert foreign.status == 403, "the shop's own page may not ask in the customer's name"
    assert changes(quiet_site.gateway) == before


async def test_while_the_line_is_down_the_window_says_so_before_any_password(quiet_site: Site) -> None:
    quiet_site.shop.up = False
    try:
        async with client() as http, http.post(f"{quiet_site.base}/window/open", json=form(quiet_site.shop.order())) as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
    finally:
        quiet_site.shop.up = True
