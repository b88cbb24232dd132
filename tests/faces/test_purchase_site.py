"""The customer's own calls of a purchase over HTTP: a grant for who is logged in here, and the result that no shop can hide."""

from dataclasses import replace
from typing import Any

import aiohttp
import msgspec

from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.line_requests import routes as line_requests
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature.customer import OpenSession
from hanbit.protocols.dual_signature.merchant import Merchant, SessionFacts, frame
from hanbit.protocols.keys import make_session_authority_request, read_session_authority
from hanbit.protocols.redirect.customer import Pin, auth_password
from tests.faces.site import ACCOUNT_PASSWORD, SHOP, Site, changes, client
from tests.faces.test_customer_site import PAGE, Browser, logged_in

JOSE = {"Content-Type": "application/jose"}


async def purchased(browser: Browser, tid: str, account: str, password: str, grant: str) -> OpenSession:
    """D2 to D7 beside the site: the shop is played by its role, over its line."""
    site = browser.site
    gateway, own, at = site.gateway, site.shop.merchant, site.gateway.clock.now()
    root, key = gateway.keyring.root, new_key()
    request = make_session_authority_request(own.signer, gateway.urn, key, at=at)
    issued = read_session_authority(
        await answered(site, request.compact), trust=own.trust, root=root, gateway=gateway.urn, owner=own.signer.urn, at=at
    )
    merchant = Merchant(own.signer, gateway.urn, own.trust, root)
    asking = role.make_session_request(browser.opening, at=at)
    opened = merchant.answer_session_request(
        merchant.verify_session_request(asking.request.compact, at=at),
        site.shop.orders[tid],
        Authority.below_root(key, issued.certificate.chain),
        at=at,
    )
    session = role.verify_session(opened.answer, asking, pin=Pin(root, gateway.settings.operator), at=at)
    oi = role.make_order_information(session, "[]")
    core = role.make_core(session, account=account, grant=grant, oi=oi)
    purchase = role.make_purchase(session, oi=oi, core=core, auth=auth_password(password), at=at)
    facts = SessionFacts(opened.session.claims, opened.session.hash, used=False)
    checked = merchant.verify_purchase(purchase, facts, site.shop.orders[tid], "[]", at=at)
    await answered(site, frame(merchant.make_authorization_request(checked, at=at).compact, checked.envelope))
    return session


async def answered(site: Site, frame_: str) -> str:
    answer = await line_requests.answer(site.gateway, SHOP, frame_)
    assert answer is not None
    return answer


async def ask_result(browser: Browser, session: OpenSession) -> Any:
    """D8 over HTTP."""
    gateway, at = browser.site.gateway, browser.site.gateway.clock.now()
    request = role.make_result_request(session, at=at)
    async with browser.http.post(browser.site.base + "/purchase/result", data=request.compact, headers=JOSE) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/jose")
        compact = await answer.text()
    return role.verify_result(compact, request, session, pin=Pin(gateway.keyring.root, gateway.settings.operator), at=at).claims


async def test_a_grant_a_purchase_and_its_result_and_the_receipt_page_is_the_same(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        browser, accounts = await logged_in(site, http, query)
        status, told, _ = await browser.post("/pay/grant", {**browser.body, "key": browser.sealing.key})
        assert status == 200
        assert told.keys() == {"grant", "expires_at"}
        session = await purchased(browser, query["TID"], accounts["bank"], ACCOUNT_PASSWORD, told["grant"])
        result = await ask_result(browser, session)
        assert (result.state, result.reason) == ("approved", None)
        payment = role.verify_receipt(
            result.receipt or "", session, pin=Pin(site.gateway.keyring.root, site.gateway.settings.operator), at=site.gateway.clock.now()
        ).claims.payment
        _, page, _ = await browser.get(f"/payments/{payment}", PAGE)
        assert "홍길동님의 계좌에서 220,000원이 인출되었습니다" in page
        assert (await browser.get(f"/payments/{payment}/receipt"))[1] == result.receipt


async def test_why_it_was_declined_is_told_to_the_key_that_bought(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        browser, accounts = await logged_in(site, http, query)
        _, told, _ = await browser.post("/pay/grant", {**browser.body, "key": browser.sealing.key})
        session = await purchased(browser, query["TID"], accounts["bank"], "0000", told["grant"])
        assert (await ask_result(browser, session)).reason == "wrong_factor"
        other = replace(session, signer=replace_key(session))
        before = changes(site.gateway)
        request = role.make_result_request(other, at=site.gateway.clock.now())
        async with http.post(site.base + "/purchase/result", data=request.compact, headers=JOSE) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (400, "protocol_violation")
        assert changes(site.gateway) == before


def replace_key(session: OpenSession) -> Any:
    """Somebody who has the certificate and not its key."""
    own = session.signer
    return type(own)(urn=own.urn, purpose=own.purpose, kid=own.kid, chain=own.chain, key=new_key())


async def test_no_grant_without_a_login_or_from_another_site(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        stranger = Browser(site, http)
        await stranger.open(query)
        before = changes(site.gateway)
        body = {**stranger.body, "key": stranger.sealing.key}
        status, problem, _ = await stranger.post("/pay/grant", body)
        assert (status, problem["code"]) == (401, "not_signed_in")
        assert changes(site.gateway) == before
        browser, _ = await logged_in(site, http, query)
        before = changes(site.gateway)
        for headers in ({"Origin": "https://shop.localhost"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}):
            assert await _posted(http, site, browser, headers) == 403
        assert changes(site.gateway) == before


async def _posted(http: aiohttp.ClientSession, site: Site, browser: Browser, headers: dict[str, str]) -> int:
    body = msgspec.json.encode({**browser.body, "key": browser.sealing.key})
    everything = {"Content-Type": "application/json", "Cookie": browser.cookie, **headers}
    async with http.post(site.base + "/pay/grant", data=body, headers=everything) as answer:
        return answer.status


async def test_a_grant_is_told_once_and_nowhere_else(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        browser, _ = await logged_in(site, http, query)
        told = [(await browser.post("/pay/grant", {**browser.body, "key": browser.sealing.key}))[1]["grant"] for _ in range(2)]
    assert len(set(told)) == 2
    assert all(ids.TOKEN.fullmatch(grant) for grant in told)
    assert not any(grant in changes(site.gateway) for grant in told)
