"""The demo shop's pages: its login, Figure 6, orders of one's own, a download only after settled, and foreign or bad requests."""

import json
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest

from hanbit.demo.shop.app import ShopPages
from hanbit.demo.shop.catalogue import ITEMS
from hanbit.demo.shop.session import COOKIE, STAFF_COOKIE, Sessions
from hanbit.demo.shop.staff import Staff
from hanbit.demo.shop.words import WORDS
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import Answered, GatewayLine, Parties, call

ORIGIN = "http://shop.localhost:8402"
FORM = "application/x-www-form-urlencoded"


class Visitor:
    """A browser: cookies, the origin of its writes, a language."""

    def __init__(self, app: Any, language: str = "en") -> None:
        self.app = app
        self.cookies: dict[str, str] = {}
        self.language = language

    async def get(self, target: str, **headers: str) -> Answered:
        return await self._call(target, "GET", b"", headers)

    async def post(self, target: str, fields: dict[str, str], **headers: str) -> Answered:
        headers = {"origin": ORIGIN, "sec_fetch_site": "same-origin", "content_type": FORM, **headers}
        return await self._call(target, "POST", urlencode(fields).encode(), headers)

    async def log_in(self, account: str = "minji", password: str = "rainbow") -> Answered:
        return await self.post("/login?next=/orders", {"id": account, "password": password})

    async def order(self, item: str = "phone", quantity: str = "1", method: str = "hanbit") -> Answered:
        return await self.post("/orders", {"item": item, "quantity": quantity, "method": method})

    async def _call(self, target: str, method: str, body: bytes, headers: dict[str, str]) -> Answered:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given = {"accept_language": self.language, **({"cookie": cookies} if cookies else {}), **headers}
        answer = await call(self.app, target, method=method, body=body, **given)
        for header in answer.cookies:
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        return answer


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
def staff(tmp_path: Path) -> Staff:
    return Staff(tmp_path)


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path, staff: Staff) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path, on_confirm=staff.on_confirm, on_outcome=staff.on_outcome) as opened:
        opened.line = GatewayLine(parties)
        yield opened


@pytest.fixture
def app(parties: Parties, shop: Shop, staff: Staff, tmp_path: Path) -> Any:
    return ShopPages(shop, Sessions(tmp_path, parties.clock), staff, public_url=ORIGIN).app


@pytest.fixture
async def minji(app: Any) -> Visitor:
    visitor = Visitor(app)
    await visitor.log_in()
    return visitor


def tid_of(answer: Answered) -> str:
    assert answer.status == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["TID"][0]


async def test_order_screen_has_what_figure_6_has(minji: Visitor) -> None:
    minji.language = "ko"
    page = (await minji.get("/items/phone")).text
    for word in (
        "구입상품",
        "휴대폰 IM-1100",
        "수량",
        "가격",
        "220,000원",
        "지불방법",
        "한빛전자지불 / Hanbit",
        "무통장입금",
        "확인",
        "취소",
    ):
        assert word in page


async def test_ordering_makes_the_order_durable_and_redirects_with_tid_and_amount(shop: Shop, minji: Visitor) -> None:
    answer = await minji.order(quantity="2")
    address = urlsplit(answer.headers["location"])
    fields = parse_qs(address.query)
    assert (address.netloc, fields["AMOUNT"], fields["CUR"]) == ("pay.localhost:8400", ["440000"], ["KRW"])
    assert (await shop.order(fields["TID"][0])).lines[0].quantity == 2


async def test_the_other_payment_method_is_not_ours(shop: Shop, minji: Visitor) -> None:
    assert (await minji.order(method="deposit")).headers["location"] == "/deposit"
    assert (await minji.get("/deposit")).status == 200
    assert await shop.book.unfinished(5) == []


async def test_the_song_can_be_downloaded_only_after_settled(parties: Parties, shop: Shop, minji: Visitor) -> None:
    tid = tid_of(await minji.order("song"))
    assert (await minji.get(f"/orders/{tid}/download")).status == 403
    confirmation = parties.read_confirmation(await shop.receive(parties.notice(await shop.order(tid)).compact))
    refused = await minji.get(f"/orders/{tid}/download")
    assert (refused.status, refused.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "signed confirmation" in refused.text
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    song = await minji.get(f"/orders/{tid}/download")
    assert (song.status, song.headers["content-type"], song.body[:4]) == (200, "audio/wav", b"RIFF")


async def test_a_real_thing_is_not_downloaded(minji: Visitor) -> None:
    assert (await minji.get(f"/orders/{tid_of(await minji.order())}/download")).status == 404


async def test_an_order_is_seen_by_its_own_customer_only(app: Any, minji: Visitor) -> None:
    tid = tid_of(await minji.order())
    assert (await minji.get(f"/orders/{tid}")).status == 200
    junho = Visitor(app)
    await junho.log_in("junho", "umbrella")
    foreign = await junho.get(f"/orders/{tid}")
    unknown = await junho.get(f"/orders/{'A' * 22}")
    assert foreign.status == unknown.status == 404
    assert foreign.text.replace(tid, "") == unknown.text.replace("A" * 22, "")
    assert (await junho.get(f"/orders/{tid}", accept="application/json")).status == 404
    assert (await junho.get(f"/orders/{tid}/pay")).status == 404
    assert tid not in (await junho.get("/orders")).text
    assert tid in (await minji.get("/orders")).text


async def test_pages_of_a_customer_ask_a_visitor_to_log_in_and_come_back(app: Any) -> None:
    visitor = Visitor(app)
    for page in ("/orders", "/items/phone", f"/orders/{'A' * 22}"):
        answer = await visitor.get(page)
        assert (answer.status, answer.headers["location"]) == (303, f"/login?next={page}")
    assert (await visitor.order()).headers["location"] == "/login"


async def test_login_gives_a_new_strict_cookie_each_time_and_one_answer_for_everything_wrong(app: Any) -> None:
    visitor = Visitor(app)
    first = await visitor.log_in()
    assert first.headers["location"] == "/orders"
    cookie = SimpleCookie(first.cookies[0])[COOKIE]
    assert cookie["secure"]
    assert cookie["httponly"]
    assert (cookie["path"], cookie["samesite"].lower(), cookie["domain"]) == ("/", "lax", "")
    assert (await visitor.log_in()).cookies != first.cookies
    wrong = [await Visitor(app).log_in(*pair) for pair in (("minji", "wrong"), ("nobody", "rainbow"), ("", ""), ("minji", ""))]
    assert {(answer.status, answer.text) for answer in wrong} == {(401, wrong[0].text)}
    assert not any(answer.cookies for answer in wrong)


@pytest.mark.parametrize("change", ["altered", "empty", "expired", "cut"])
async def test_a_cookie_that_the_shop_did_not_make_is_nobodys(parties: Parties, minji: Visitor, change: str) -> None:
    value = minji.cookies[COOKIE]
    if change == "expired":
        parties.clock.advance(13 * 3600)
    minji.cookies[COOKIE] = {"altered": value.replace("minji", "junho"), "empty": "", "cut": value[:-1], "expired": value}[change]
    assert (await minji.get("/orders")).status == 303


async def test_next_never_leads_to_another_site(app: Any) -> None:
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        visitor = Visitor(app)
        answer = await visitor.post("/login?" + urlencode({"next": target}), {"id": "minji", "password": "rainbow"})
        assert answer.headers["location"] == "/"
        assert (await visitor.get("/language/en?" + urlencode({"next": target}))).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://pay.localhost:8400", "sec_fetch_site": "cross-site"},
        {"origin": "null"},
        {"origin": ORIGIN, "sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
async def test_a_write_from_another_site_is_refused(app: Any, shop: Shop, minji: Visitor, headers: dict[str, str]) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in minji.cookies.items())
    body = b"item=phone&quantity=1&method=hanbit"
    answer = await call(app, "/orders", method="POST", body=body, cookie=cookies, content_type=FORM, **headers)
    assert answer.status == 403
    assert await shop.book.unfinished(5) == []


async def test_a_write_that_hides_its_origin_may_not_carry_a_cookie(app: Any, minji: Visitor) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in minji.cookies.items())
    body = b"item=phone&quantity=1&method=hanbit"
    assert (await call(app, "/orders", method="POST", body=body, cookie=cookies, content_type=FORM)).status == 403


@pytest.mark.parametrize("quantity", ["0", "10", "-1", "1.5", "", "\uff11", "1e0", "9999999999", "x"])
async def test_a_bad_quantity_places_nothing(shop: Shop, minji: Visitor, quantity: str) -> None:
    assert (await minji.order(quantity=quantity)).status == 400
    assert await shop.book.unfinished(5) == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"item=phone&quantity=1&method=gold", FORM, 400),
        (b"item=car&quantity=1&method=hanbit", FORM, 400),
        (b"item=phone&item=song&quantity=1&method=hanbit", FORM, 400),
        (b"\xff\xfe", FORM, 400),
        (b"&".join(b"a%d=1" % number for number in range(40)), FORM, 400),
        (b"x" * 70_000, FORM, 413),
        (b"<xml/>", "application/xml", 415),
        (b"{", "application/json", 400),
        (b'{"item":"phone","quantity":"1"}', "application/json", 400),
        (b'{"item":"phone","quantity":0}', "application/json", 400),
        (b'{"item":"phone","quantity":1,"price":1}', "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
    ],
)
async def test_bad_bodies_get_a_clear_answer_and_place_nothing(shop: Shop, minji: Visitor, body: bytes, kind: str, status: int) -> None:
    answer = await minji._call("/orders", "POST", body, {"origin": ORIGIN, "content_type": kind})
    assert answer.status == status
    assert await shop.book.unfinished(5) == []


@pytest.mark.parametrize("path", ["/nothing", "/items/car", "/static/..%2fapp.py", "/static/app.py", "/language/fr", "/items/../etc"])
async def test_unknown_addresses_are_not_found(minji: Visitor, path: str) -> None:
    assert (await minji.get(path)).status == 404


async def test_the_json_that_the_demo_speaks(parties: Parties, shop: Shop, app: Any, staff: Staff) -> None:
    made = await call(app, "/orders", method="POST", body=b'{"item":"phone","quantity":1}', content_type="application/json")
    answer = msgspec.json.decode(made.body)
    assert made.status == 201
    assert answer["location"].startswith("http://pay.localhost:8400/pay?MID=shop&TID=")
    seen = await call(app, f"/orders/{answer['tid']}", accept="application/json")
    assert msgspec.json.decode(seen.body)["state"] == "placed"
    # staff: only with the token of the shop's folder
    target = f"/staff/orders/{answer['tid']}/change"
    body = b'{"item":"phone","quantity":2}'
    for token in ("", "x", staff.token[:-1]):
        refused = await call(app, target, method="POST", body=body, authorization=f"Bearer {token}", content_type="application/json")
        assert refused.status == 403
    changed = await call(app, target, method="POST", body=body, authorization=f"Bearer {staff.token}", content_type="application/json")
    assert msgspec.json.decode(changed.body)["replaces"] == answer["tid"]
    refusal = parties.read_refusal(await shop.receive(parties.notice(await shop.order(answer["tid"])).compact))
    assert refusal.claims.reason == "order_changed"
    withdrawn = await call(
        app, f"/staff/orders/{msgspec.json.decode(changed.body)['tid']}/withdraw", method="POST", authorization=f"Bearer {staff.token}"
    )
    assert msgspec.json.decode(withdrawn.body)["state"] == "withdrawn"


async def test_staff_can_make_the_shop_say_no(parties: Parties, shop: Shop, app: Any, staff: Staff, minji: Visitor) -> None:
    answer = await call(app, "/staff/answer", method="POST", body=b"no", authorization=f"Bearer {staff.token}")
    assert msgspec.json.decode(answer.body) == {"answer": "no"}
    tid = tid_of(await minji.order())
    refusal = parties.read_refusal(await shop.receive(parties.notice(await shop.order(tid)).compact))
    assert refusal.claims.message.en == "Sorry, it has just sold out."
    assert (await shop.order(tid)).state is State.REFUSED
    assert "We did not accept this payment" in (await minji.get(f"/orders/{tid}")).text
    assert (await call(app, "/staff/answer", method="POST", body=b"maybe", authorization=f"Bearer {staff.token}")).status == 400


async def test_every_page_has_a_strict_policy_and_its_language(minji: Visitor) -> None:
    tid = tid_of(await minji.order())
    for language in ("ko", "en"):
        await minji.get(f"/language/{language}")
        for page in ("/", "/login", "/items/phone", "/orders", f"/orders/{tid}", "/deposit", "/nothing"):
            answer = await minji.get(page)
            assert f'<html lang="{language}">' in answer.text
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert " style=" not in answer.text


def test_every_word_and_item_is_in_both_languages() -> None:
    assert all(korean and english for korean, english in WORDS.values())
    assert all(item.name("ko") and item.name("en") and item.note("ko") and item.note("en") for item in ITEMS.values())


async def test_health_says_whether_the_line_is_up(shop: Shop, app: Any) -> None:
    assert msgspec.json.decode((await call(app, "/healthz")).body) == {"shop": "up", "line": "up"}
    assert isinstance(shop.line, GatewayLine)
    shop.line.connected.clear()
    assert msgspec.json.decode((await call(app, "/healthz")).body) == {"shop": "up", "line": "down"}


# --- staff -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def clerk(app: Any, staff: Staff) -> Visitor:
    visitor = Visitor(app)
    answer = await visitor.post("/staff/login", {"token": staff.token})
    assert (answer.status, answer.headers["location"]) == (303, "/staff")
    return visitor


async def bought(parties: Parties, shop: Shop, customer: Visitor, item: str = "phone") -> str:
    """An order of this customer that is paid."""
    tid = tid_of(await customer.order(item))
    confirmation = parties.read_confirmation(await shop.receive(parties.notice(await shop.order(tid)).compact))
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    return tid


def obliges(parties: Parties, shop: Shop, price: int) -> list[str]:
    """The gateway refunds what is asked, and counts."""
    refunded: list[str] = []

    def judge(cancel: SignedMessage[Cancel]) -> str:
        refunded.append(cancel.claims.amount)
        sum_ = sum(map(int, refunded))
        return parties.cancelled(cancel, sum_, price - sum_).compact

    assert isinstance(shop.line, GatewayLine)
    shop.line.judge = judge
    return refunded


async def test_staff_give_a_part_back_and_then_the_rest(parties: Parties, shop: Shop, minji: Visitor, clerk: Visitor) -> None:
    tid = await bought(parties, shop, minji)
    obliges(parties, shop, 220_000)
    assert tid in (await clerk.get("/staff")).text
    page = await clerk.get(f"/staff/orders/{tid}")
    assert 'max="220000"' in page.text
    part = await clerk.post(
        f"/staff/orders/{tid}/cancel", {"amount": "20000", "reason": "흠집이 있음", "key": "a" * 22, "goods": "awaited"}
    )
    assert (part.status, part.headers["location"]) == (303, f"/staff/orders/{tid}")
    again = await clerk.post(
        f"/staff/orders/{tid}/cancel", {"amount": "20000", "reason": "흠집이 있음", "key": "a" * 22, "goods": "awaited"}
    )
    assert again.status == 303, "the same form sent twice is one cancellation"
    assert (await shop.order(tid)).refunded_minor == 20_000
    seen = (await clerk.get(f"/staff/orders/{tid}")).text
    for word in ("흠집이 있음", "Partly refunded", "200,000 won", "Goods awaited back", 'max="200000"'):
        assert word in seen
    theirs = (await minji.get(f"/orders/{tid}")).text
    assert "The rest of your order stands" in theirs
    assert "20,000 won" in theirs
    await clerk.post(f"/staff/orders/{tid}/cancel", {"amount": "200000", "reason": "alles", "key": "b" * 22})
    assert (await shop.order(tid)).state is State.CANCELLED
    assert "went back to the account" in (await minji.get(f"/orders/{tid}")).text
    await clerk.post(f"/staff/orders/{tid}/returned", {})
    assert "Goods returned" in (await clerk.get(f"/staff/orders/{tid}")).text


async def test_a_download_ends_when_its_order_is_cancelled(parties: Parties, shop: Shop, minji: Visitor, clerk: Visitor) -> None:
    tid = await bought(parties, shop, minji, "song")
    price = (await shop.order(tid)).amount.amount_minor
    obliges(parties, shop, price)
    assert (await minji.get(f"/orders/{tid}/download")).status == 200
    await clerk.post(f"/staff/orders/{tid}/cancel", {"amount": str(price), "reason": "does not play", "key": "a" * 22})
    ended = await minji.get(f"/orders/{tid}/download")
    assert (ended.status, "the download has ended" in ended.text) == (403, True)
    assert "Goods awaited" not in (await clerk.get(f"/staff/orders/{tid}")).text
    assert "/download" not in (await minji.get(f"/orders/{tid}")).text


async def test_an_order_that_is_not_paid_is_withdrawn_and_waits_for_the_answer(shop: Shop, minji: Visitor, clerk: Visitor) -> None:
    tid = tid_of(await minji.order())
    page = (await clerk.get(f"/staff/orders/{tid}")).text
    assert 'name="amount"' not in page
    await clerk.post(f"/staff/orders/{tid}/cancel", {"reason": "sold out", "key": "a" * 22})
    assert (await shop.order(tid)).state is State.WITHDRAWN
    assert "The same request is sent again" in (await clerk.get(f"/staff/orders/{tid}")).text
    assert "We have asked to cancel" in (await minji.get(f"/orders/{tid}")).text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"amount": "220001", "reason": "r"}, 409),
        ({"amount": "0", "reason": "r"}, 400),
        ({"amount": "-1", "reason": "r"}, 400),
        ({"amount": "1.5", "reason": "r"}, 400),
        ({"amount": "1", "reason": " "}, 400),
        ({"amount": "1", "reason": "x" * 201}, 400),
        ({"amount": "1", "reason": "r", "key": "k" * 201}, 400),
    ],
)
async def test_a_bad_wish_of_the_staff_is_shown_and_nothing_is_asked(
    parties: Parties, shop: Shop, minji: Visitor, clerk: Visitor, fields: dict[str, str], status: int
) -> None:
    tid = await bought(parties, shop, minji)
    answer = await clerk.post(f"/staff/orders/{tid}/cancel", fields)
    assert (answer.status, 'role="alert"' in answer.text) == (status, True)
    assert await shop.cancellations(tid) == []


async def test_only_staff_see_and_cancel(parties: Parties, shop: Shop, app: Any, minji: Visitor, staff: Staff) -> None:
    tid = await bought(parties, shop, minji)
    minji.cookies[STAFF_COOKIE] = minji.cookies[COOKIE]  # a customer's own cookie under the staff's name
    for visitor in (minji, Visitor(app)):
        for target in ("/staff", f"/staff/orders/{tid}"):
            assert (await visitor.get(target)).headers["location"] == "/staff/login"
        for target in (f"/staff/orders/{tid}/cancel", f"/staff/orders/{tid}/returned"):
            assert (await visitor.post(target, {"amount": "1", "reason": "r"})).headers["location"] == "/staff/login"
    wrong = await Visitor(app).post("/staff/login", {"token": staff.token[:-1]})
    assert (wrong.status, wrong.cookies) == (401, [])
    target = f"/staff/orders/{tid}/cancel"
    refused = await call(app, target, method="POST", body=b"{}", authorization="Bearer x", content_type="application/json")
    assert refused.status == 403
    assert await shop.cancellations(tid) == []
    obliges(parties, shop, 220_000)
    body = b'{"amount":"20000","reason":"a part"}'
    done = await call(app, target, method="POST", body=body, authorization=f"Bearer {staff.token}", content_type="application/json")
    answer = msgspec.json.decode(done.body)
    assert (answer["cancellation"]["state"], answer["order"]["remaining"]) == ("confirmed", "200000")


async def test_staff_pages_have_a_strict_policy_and_their_language(parties: Parties, shop: Shop, minji: Visitor, clerk: Visitor) -> None:
    tid = await bought(parties, shop, minji)
    obliges(parties, shop, 220_000)
    await clerk.post(f"/staff/orders/{tid}/cancel", {"amount": "20000", "reason": "a part", "key": "a" * 22})
    for language in ("ko", "en"):
        await clerk.get(f"/language/{language}")
        for page in ("/staff", "/staff/login", f"/staff/orders/{tid}"):
            answer = await clerk.get(page)
            assert (answer.status, f'<html lang="{language}">' in answer.text) == (200, True)
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert " style=" not in answer.text


async def test_the_order_page_has_the_button_of_the_payment_server_and_its_policy_lets_it_run(shop: Shop, minji: Visitor) -> None:
    placed = await minji.order(method="window")
    assert placed.status == 303
    page = placed.headers["location"]
    tid = page.removeprefix("/orders/")
    answer = await minji.get(page)
    gateway = shop.registration.pay_url.removesuffix("/pay")
    assert f'<script src="{gateway}/button.js" defer></script>' in answer.text
    assert f'data-hanbit-relay="/hanbit/{tid}"' in answer.text
    assert f"script-src 'self' {gateway};" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-opener-policy"] == "same-origin-allow-popups"
    checkout = json.loads((await minji.get(f"/hanbit/{tid}", accept="application/json")).text)
    assert set(checkout) == {"script", "order", "merchant_chain", "lines", "lines_salt", "redirect"}
    assert checkout["script"] == f"{gateway}/button.js"


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("sessions", b"{}", "application/json", 400),
        ("sessions", b'{"session_request":"a.b.c"}', "application/json", 409),  # this one has no session authority yet
        ("sessions", b'{"session_request":1}', "application/json", 400),
        ("sessions", b"[", "application/json", 400),
        ("sessions", b"x", FORM, 415),
        ("purchases", b"{}", "application/json", 400),
        ("purchases", b'{"oi":"{}","pimd":"x","dual":"a.b.c","envelope":"a"}', "application/json", 400),
        ("purchases", b"x" * 70_000, "application/json", 413),
    ],
)
async def test_what_comes_to_the_relay_and_is_none_changes_nothing(
    shop: Shop, minji: Visitor, path: str, body: bytes, kind: str, status: int
) -> None:
    tid = (await minji.order(method="window")).headers["location"].removeprefix("/orders/")
    headers = {"origin": ORIGIN, "content_type": kind, "accept": "application/json"}
    answer = await minji._call(f"/hanbit/{tid}/{path}", "POST", body, headers)
    assert answer.status == status, answer.text
    assert (await shop.order(tid)).state == "placed"


async def test_the_relay_is_for_the_order_s_own_customer(app: Any, minji: Visitor) -> None:
    tid = (await minji.order(method="window")).headers["location"].removeprefix("/orders/")
    other = Visitor(app)
    assert (await other.get(f"/hanbit/{tid}", accept="application/json")).status == 404
    for path in ("sessions", "purchases"):
        headers = {"origin": ORIGIN, "content_type": "application/json", "accept": "application/json"}
        answer = await other._call(f"/hanbit/{tid}/{path}", "POST", b'{"session_request":"a.b.c"}', headers)
        assert answer.status == 404
        foreign = {**headers, "origin": "https://elsewhere.example"}
        assert (await minji._call(f"/hanbit/{tid}/{path}", "POST", b"{}", foreign)).status == 403
