"""Somebody who ends TLS in the middle alters what the payment server says: the program in the page stops and sends nothing."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from playwright.async_api import Page, Route, expect

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key
from hanbit.demo.world import World
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.protocols import signed
from hanbit.protocols.redirect.messages import Keys
from hanbit.protocols.signed import Signer
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.conftest import Invite
from tests.e2e.checkout.visitors import Visit, Watch, picture, words
from tests.e2e.checkout.walk import log_in, pay, redirect, type_login

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_OPENING = re.compile(r'(<script type="application/json" id="opening">)(.*?)(</script>)', re.DOTALL)
Alter = Callable[[str], str]


@dataclass
class Middle:
    """Passes everything of one address on, altered."""

    world: World
    alter: Alter

    async def stand(self, page: Page, path: str) -> None:
        """Between this page and the payment server."""
        await page.route(re.compile(re.escape(self.world.settings.public_url + path) + r"(\?|$)"), self._pass)

    async def _pass(self, route: Route) -> None:
        request = route.request
        headers = {name: value for name, value in (await request.all_headers()).items() if not name.startswith(":")}
        headers["accept-encoding"] = "identity"
        http = self.world.shops["shop"].http
        async with http.request(request.method, request.url, headers=headers, data=request.post_data_buffer) as answer:
            body = self.alter(await answer.text())
            dropped = {"content-length", "transfer-encoding", "content-encoding"}
            answered = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
            await route.fulfill(status=answer.status, headers=answered, body=body)


def opening_of(text: str) -> dict[str, Any]:
    """The opening in a page."""
    found = _OPENING.search(text)
    assert found is not None
    return dict(json.loads(found.group(2)))


def with_opening(change: Callable[[dict[str, Any]], object]) -> Alter:
    """Alters the page's opening JSON and nothing else."""

    def alter(text: str) -> str:
        opening = opening_of(text)
        change(opening)
        shown = json.dumps(opening, ensure_ascii=False).replace("<", "\\u003c")
        return _OPENING.sub(lambda found: found.group(1) + shown + found.group(3), text)

    return alter


def _flip(compact: str, segment: int) -> str:
    """Another letter in one segment of a message."""
    segments = compact.split(".")
    text = segments[segment]
    segments[segment] = text[:30] + ("A" if text[30] != "A" else "B") + text[31:]
    return ".".join(segments)


def _claims(compact: str, **changed: str) -> str:
    """Other claims under the old signature."""
    head, payload, signature = compact.split(".")
    claims = json.loads(ids.decode_base64url(payload)) | changed
    return f"{head}.{ids.encode_base64url(json.dumps(claims, separators=(',', ':')).encode())}.{signature}"


class FalseGateway:
    """Certificates in the right form and with the right names, under a root of its own."""

    def __init__(self, operator: str) -> None:
        at = SystemClock().now()
        root_key, gateway_key, self.sign_key, self.seal_key = (new_key() for _ in range(4))
        root = certificates.make_root(operator, root_key, at)
        issuer = certificates.Authority(root_key, x509.load_der_x509_certificate(root), (root,))
        middle = certificates.make_authority(issuer, operator, "gateway", gateway_key.public_key(), 0, at)
        authority = certificates.Authority(gateway_key, x509.load_der_x509_certificate(middle), (middle,))
        self.urn = ids.urn(operator, "gateway")
        self.sign_chain, self.seal_chain = (
            (certificates.make_leaf(authority, urn=self.urn, purpose=purpose, public=key.public_key(), at=at, lifetime_s=86_400), middle)
            for purpose, key in (("gateway-sign", self.sign_key), ("gateway-seal", self.seal_key))
        )

    def keys(self, genuine: str, *, own_signature: bool) -> str:
        """`keys` with this gateway's sealing certificate, signed by it or still carrying the genuine signature."""
        claims = json.loads(ids.decode_base64url(genuine.split(".")[1]))
        claims["seal"] = [signed.encode_der(der) for der in self.seal_chain]
        if not own_signature:
            return _claims(genuine, seal=claims["seal"])
        signer = Signer(
            urn=self.urn, key=self.sign_key, purpose="gateway-sign", chain=self.sign_chain, kid=certificates.kid(self.sign_chain[0])
        )
        return signed.sign(Keys(**claims), signer).compact


def _update(**values: str) -> Callable[[dict[str, Any]], object]:
    return lambda opening: opening.update(values)


def _keys(change: Callable[[str], str]) -> Callable[[dict[str, Any]], object]:
    return lambda opening: opening.update(keys=change(opening["keys"]))


def _merchant(**values: str) -> Callable[[dict[str, Any]], object]:
    return lambda opening: opening["merchant"].update(values)


FALSE = FalseGateway("demo")
ALTERATIONS: dict[str, tuple[str, Alter]] = {
    "keys: one letter of the signature": ("keys_signature", with_opening(_keys(lambda keys: _flip(keys, 2)))),
    "keys: one letter of the claims": ("keys_signature", with_opening(_keys(lambda keys: _flip(keys, 1)))),
    "keys: another amount under the old signature": ("keys_signature", with_opening(_keys(lambda keys: _claims(keys, amount="22000")))),
    "keys: no signature": ("keys_header", with_opening(_keys(lambda keys: keys.rpartition(".")[0] + "."))),
    "keys: signed by a gateway of another root": (
        "certificate_profile",
        with_opening(_keys(lambda keys: FALSE.keys(keys, own_signature=True))),
    ),
    "seal certificate of another root under the old signature": (
        "keys_signature",
        with_opening(_keys(lambda keys: FALSE.keys(keys, own_signature=False))),
    ),
    "gateway's name": ("gateway", with_opening(_update(gateway="urn:hanbit:evil:gateway"))),
    "amount in the opening": ("keys_amount", with_opening(_update(amount="22000"))),
    "amount everywhere on the page": ("keys_amount", lambda text: with_opening(_update(amount="22000"))(text.replace("220,000", "22,000"))),
    "amount as it is shown": ("shown_amount", lambda text: text.replace("220,000", "22,000")),
    "payee as it is shown": ("shown_payee", lambda text: text.replace(">무지개 상점<", ">번개 상점<")),
    "payee in the opening": ("keys_payee", with_opening(_merchant(name="번개 상점"))),
    "merchant's certificate": (
        "certificate_profile",
        with_opening(lambda opening: opening.update(merchant_chain=opening["merchant_chain"][::-1])),
    ),
    "no merchant's certificate": ("order_certificate", with_opening(_update(merchant_chain=""))),
    "one letter of the order": ("keys_order", with_opening(lambda opening: opening.update(order=_flip(opening["order"], 1)))),
    "no order": ("keys_order", with_opening(_update(order=""))),
    "order's text": ("order_text", with_opening(_update(text="SK휴대폰 IM-9999"))),
    "transaction number": ("keys_tid", with_opening(_update(tid="A" * 22))),
    "currency": ("keys_currency", with_opening(_update(currency="USD"))),
}
"""What is altered → the check that stops the program, and how it is done."""


@pytest.mark.parametrize("alteration", ALTERATIONS)
async def test_an_altered_opening_stops_the_program_before_anything_is_typed(
    world: World, watch: Watch, visit: Visit, alteration: str
) -> None:
    page = await visit()
    rule, alter = ALTERATIONS[alteration]
    await Middle(world, alter).stand(page, "/pay")
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await _expect_distrust(page, "ko")
    await expect(page.locator("#notice")).to_contain_text(words("ko", "program.check_failed_text", rule=rule))
    assert not [request.url for request in watch.requests if request.method != "GET"]


async def _expect_distrust(page: Page, language: LanguageCode) -> None:
    await expect(page.locator("#notice [role=alert]")).to_contain_text(words(language, "program.check_failed"))
    await expect(page.locator("input:visible")).to_have_count(0)
    await expect(page.locator("#login-password")).to_have_count(0)
    await expect(page.locator("#sealed-note")).to_be_hidden()


async def test_the_keys_of_another_order_are_not_taken(world: World, watch: Watch, visit: Visit) -> None:
    """Both are genuine, but they do not belong together."""
    page = await visit("en")
    shop = world.shops["shop"]
    _, other = await redirect(shop, "song", language="en")
    async with shop.http.get(other, headers={"Accept": "text/html"}) as answer:
        keys = opening_of(await answer.text())["keys"]
    await Middle(world, with_opening(_update(keys=keys))).stand(page, "/pay")
    _, location = await redirect(shop, language="en")
    await page.goto(location)
    await _expect_distrust(page, "en")
    await picture(page, "check-failed-en")
    assert not [request.url for request in watch.requests if request.method != "GET"]


async def test_a_payment_screen_with_another_amount_or_payee_is_not_paid(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite()
    for old, new in (("220,000", "22,000"), ("무지개 상점", "번개 상점")):
        page = await visit()
        await Middle(world, lambda text, old=old, new=new: text.replace(old, new)).stand(page, "/pay/login")  # type: ignore[misc]  # bound now
        _, location = await redirect(world.shops["shop"])
        await page.goto(location)
        await type_login(page, who)
        await _expect_distrust(page, "ko")
    assert not watch.sent("/pay/submit")


async def test_a_script_that_is_slipped_into_the_payment_screen_does_not_run(
    world: World, watch: Watch, visit: Visit, invite: Invite
) -> None:
    who = await invite()
    page = await visit()
    trap = "<img src='/nothing' onerror='globalThis.trapped = 1'><script>globalThis.trapped = 1</script>"
    await Middle(world, lambda text: text.replace("<section", trap.replace("'", '\\"') + "<section")).stand(page, "/pay/login")
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    async with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        await log_in(page, who)
    await expect(page.locator("#stage img")).to_have_count(1)
    assert await page.evaluate("globalThis.trapped") is None
    assert all("Content Security Policy" in complaint for complaint in watch.complaints)
    watch.complaints.clear()


async def test_whoever_only_listens_in_the_middle_learns_no_secret(world: World, watch: Watch, visit: Visit, invite: Invite) -> None:
    who = await invite()
    page = await visit()
    heard: list[str] = []

    def hear(text: str) -> str:
        heard.append(text)
        return text

    listener = Middle(world, hear)
    for path in ("/pay", "/pay/login", "/pay/submit"):
        await listener.stand(page, path)
    _, location = await redirect(world.shops["shop"])
    await page.goto(location)
    await log_in(page, who)
    await pay(page, who)
    await page.wait_for_url(re.compile("/payments/"))
    said = "".join(heard) + "".join(request.post_data or "" for request in watch.requests)
    assert len(heard) == 3
    assert not [secret for secret in (*who.secrets, who.numbers["bank"]) if secret in said]
