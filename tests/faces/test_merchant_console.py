"""What a merchant's people see of their own book: payments, days, payouts, the line and the keys that speak for the shop."""

import csv
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hanbit.evidence.log_check import check as check_log
from hanbit.kernel import ids
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.days import day_of, zone_of
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import terms as agreed
from hanbit.payments import payment as payments
from hanbit.payments import proposals, settlement
from hanbit.protocols import console
from tests.faces.consoles import OTHER_SHOP, Consoles, Member, running_consoles
from tests.faces.site import SHOP, Shop
from tests.faces.test_customer_site import logged_in as customer_logged_in

pytestmark = pytest.mark.asyncio
WHY = "our bank has merged"


@pytest_asyncio.fixture
async def consoles(tmp_path: Path) -> AsyncIterator[Consoles]:
    """An operator for each test, since days pass in it; at the end book and log are whole."""
    async with running_consoles(tmp_path) as running:
        yield running
        reader = running.gateway.reader
        assert check_ledger(reader.connection).balanced
        with reader.snapshot() as connection:
            assert check_log(connection).whole


async def paid(consoles: Consoles, text: str = "IM-1100", amount: int = 10_000) -> str:
    """The id of a payment of the first shop."""
    browser, accounts = await customer_logged_in(consoles.site, consoles.http, consoles.site.shop.order(amount=amount, text=text))
    _, answer, _ = await browser.pay(accounts["bank"])
    assert answer["state"] == "captured"
    return str(answer["payment"])


def rows_of(sheet: str) -> list[dict[str, str]]:
    assert sheet.startswith("\ufeff"), "spreadsheets know by it that this is UTF-8"
    return list(csv.DictReader(sheet.removeprefix("\ufeff").splitlines()))


async def close_today(consoles: Consoles) -> str:
    """A day passes and is closed."""
    gateway = consoles.gateway
    today = day_of(gateway.clock.now(), zone_of(gateway.settings.time_zone))
    assert isinstance(gateway.clock, SandboxClock)
    gateway.clock.offset_s += 86_400
    await settlement.close_days(gateway)
    return str(today)


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_every_page_opens_in_both_languages(consoles: Consoles, language: str) -> None:
    await paid(consoles)
    await close_today(consoles)
    viewer = await consoles.person("merchant", "viewer", language=language)
    day = settlement.last_day(consoles.gateway.reader)
    assert day is not None
    for path in ("/", "/payments", "/settlement", f"/settlement/{day.day}", "/line", "/staff", "/me"):
        shown = await viewer.get(path)
        assert shown.status == 200, (path, shown.words)
        assert f'<html lang="{language}">' in shown.text
        assert shown.text.count("<h1") == 1, path


async def test_the_sheet_of_payments_is_the_list_and_no_cell_is_a_formula(consoles: Consoles) -> None:
    nasty = "=HYPERLINK(1)"
    found = await paid(consoles, nasty)
    cashier = await consoles.person("merchant", "cashier")
    shown = await sheet(cashier, "/payments/sheet?state=captured")
    (row,) = [row for row in shown if row["payment"] == found]
    assert (row["text"], row["amount"], row["merchant"], row["state"]) == (f"'{nasty}", "10000", SHOP, "captured")
    assert await sheet(cashier, "/payments/sheet?state=voided") == []
    assert await sheet(cashier, "/payments/sheet?until=2020-01-01") == []
    for wrong in ("state=nowhere", "since=x", "x=1"):
        assert (await cashier.get(f"/payments/sheet?{wrong}")).status == 400
    other = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    assert await sheet(other, f"/payments/sheet?merchant={SHOP}") == [], "whose they are is said by who asks"


async def sheet(member: Member, path: str) -> list[dict[str, str]]:
    answer = await member.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    return rows_of(answer.text)


async def test_a_statement_adds_up_to_its_entries(consoles: Consoles) -> None:
    gateway = consoles.gateway
    await settlement.set_fees(gateway, merchant=SHOP, basis_points="250", fixed="100")
    await settlement.set_payout_account(gateway, merchant=SHOP, bank="한빛은행", number="110-222-333444")
    payment = payments.by_id(gateway.reader, await paid(consoles, amount=20_000))
    assert payment is not None
    day = await close_today(consoles)
    found = settlement.statement(gateway.reader, SHOP, "KRW", day)
    assert found is not None
    viewer = await consoles.person("merchant", "viewer")
    shown = await viewer.get(f"/settlement/{day}")
    for amount in (found.captured, found.net, found.closing, found.paid_out):
        assert f"₩{amount:,}" in shown.words, amount
    assert "한빛은행 ********3444" in shown.words
    assert "110222333444" not in shown.text, "the number stays sealed"
    lines = rows_of((await viewer.get(f"/settlement/{day}/sheet")).text)
    assert sum(int(line["amount"]) for line in lines) == found.closing - found.opening
    assert sum(int(line["amount"]) for line in lines if line["kind"] == "capture") == found.captured
    assert [line["tid"].lstrip("'") for line in lines if line["payment"].lstrip("'") == payment.id] == [payment.tid]
    days = rows_of((await viewer.get("/settlement/sheet")).text)
    assert (days[0]["day"], days[0]["net"], days[0]["fees"]) == (day, str(found.net), str(found.fees))
    assert day in (await viewer.get("/settlement")).words


async def test_another_merchants_days_and_keys_are_not_there(consoles: Consoles) -> None:
    await paid(consoles)
    day = await close_today(consoles)
    other = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    assert consoles.gateway.reader.one("SELECT 1 FROM settlements WHERE merchant = ?", OTHER_SHOP) is None
    urn = consoles.gateway.settings.merchant_urn(SHOP)
    kid = consoles.gateway.reader.one("SELECT kid FROM certificates WHERE urn = ? AND purpose = 'line'", urn)
    assert kid is not None
    gateways = consoles.gateway.reader.one("SELECT kid FROM certificates WHERE urn = ?", consoles.gateway.urn)
    assert gateways is not None
    for path in (
        f"/settlement/{day}",
        f"/settlement/{day}/sheet",
        f"/certificates/{kid['kid']}/revoke",
        f"/certificates/{gateways['kid']}/revoke",
    ):
        assert (await other.get(path)).status == 404, path
    for one in (kid, gateways):
        assert (await other.post(f"/certificates/{one['kid']}/revoke", reason=WHY)).status == 404
        assert consoles.gateway.reader.one("SELECT revoked_at FROM certificates WHERE kid = ?", one["kid"])[0] is None  # type: ignore[index]  # it stands
    assert rows_of((await other.get("/settlement/sheet")).text) == []
    for path in ("/settlement/2020-02-31", "/settlement/2020-01-01", "/settlement/yesterday"):
        assert (await other.get(path)).status == 404


async def test_the_payout_account_is_changed_by_an_admin_with_a_fresh_factor_and_a_reason(consoles: Consoles) -> None:
    fields = {"bank": "다솜은행", "number": "333-444-555666"}
    cashier, stale = await consoles.person("merchant", "cashier"), await consoles.person("merchant", "admin", session="stale")
    assert (await cashier.post("/settlement/account", reason=WHY, **fields)).status == 403
    assert (await stale.post("/settlement/account", reason=WHY, **fields)).location.startswith("/second-factor")
    admin = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    assert (await admin.post("/settlement/account", reason="", **fields)).status == 422
    assert (await admin.post("/settlement/account", reason=WHY, bank="x", number="1")).status == 422
    assert agreed.of_merchant(consoles.gateway.reader, OTHER_SHOP).payout_masked is None
    done = await admin.post("/settlement/account", reason=WHY, **fields)
    assert (done.status, done.location) == (303, "/settlement")
    shown = await admin.get("/settlement")
    assert "다솜은행 ********5666 waits for the operator’s approval" in shown.words
    reader = consoles.gateway.reader
    assert agreed.of_merchant(reader, OTHER_SHOP).payout_masked is None
    again = await admin.post("/settlement/account", reason=WHY, bank="다솜은행", number="333-444-555777")
    assert again.status == 303
    (waiting,) = proposals.waiting(reader)
    assert waiting.told["masked"] == "다솜은행 ********5777", "a new one takes the place of one that waits"
    await proposals.approve(consoles.gateway, "person:" + (await consoles.person("operator", "admin")).person.id, waiting, reason=WHY)
    shown = await admin.get("/settlement")
    assert "다솜은행 ********5777" in shown.words
    assert "waits for the operator" not in shown.words
    row = consoles.gateway.reader.one("SELECT reason FROM audit WHERE actor = ? AND merchant = ?", admin.person.actor, OTHER_SHOP)
    assert row is not None
    assert row["reason"] == WHY


async def test_certificates_show_their_days_and_one_is_revoked_for_good(consoles: Consoles) -> None:
    admin, viewer = await consoles.person("merchant", "admin"), await consoles.person("merchant", "viewer")
    shown = await admin.get("/line")
    assert shown.words.count("By enrolment code") == 2, "the line's certificate and the one that signs"
    kids = re.findall(r"/certificates/([A-Za-z0-9_-]{43})/revoke", shown.text)
    assert len(kids) == 2
    assert "/revoke" not in (await viewer.get("/line")).text
    urn = consoles.gateway.settings.merchant_urn(SHOP)
    kid = consoles.gateway.reader.one("SELECT kid FROM certificates WHERE urn = ? AND purpose = 'line'", urn)["kid"]  # type: ignore[index]  # enrolled
    assert (await admin.post(f"/certificates/{kid}/revoke", reason=" ")).status == 422
    asked = (await admin.get(f"/certificates/{kid}/revoke")).words
    assert "cannot be undone" in asked
    assert "its line goes down" in asked
    done = await admin.post(f"/certificates/{kid}/revoke", reason=WHY)
    assert (done.status, done.location) == (303, "/line"), done.words
    assert not consoles.site.shop.up, "as it was said"
    assert "Revoked" in (await admin.get("/line")).words
    assert (await admin.post(f"/certificates/{kid}/revoke", reason=WHY)).status == 409
    consoles.site.shop.up = True  # the shop of these tests has no line to dial again


async def test_a_line_that_is_down_says_so_on_top(consoles: Consoles) -> None:
    viewer = await consoles.person("merchant", "viewer")
    consoles.site.shop.up = False
    try:
        assert "Your shop’s program is not connected" in (await viewer.get("/line")).words
        assert "Down" in (await viewer.get("/")).words
    finally:
        consoles.site.shop.up = True
    assert "is not connected" not in (await viewer.get("/line")).words


async def test_days_are_paged(consoles: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanbit.web.merchant.settlement.ROWS", 1)
    await paid(consoles)
    days = [await close_today(consoles) for _ in range(2)]
    viewer = await consoles.person("merchant", "viewer")
    first = await viewer.get("/settlement")
    following = re.search(r'href="(/settlement\?after=[0-9-]+)" rel="next"', first.text)
    assert following
    assert f"/settlement/{days[0]}" in (await viewer.get(following[1])).text
    assert (await viewer.get("/settlement?after=x")).status == 400


# --- what the shop is asked ---------------------------------------------------------------------------------------------------------------


CALL_BACK = console.CallBack(
    delivery="evt_1", endpoint="<b>shop", type="order.settled", tid="A" * 22, state="given_up", created_at=1, tries=3, last_status=500
)


@pytest.fixture
def shop(consoles: Consoles) -> Shop:
    """The shop's program, which knows what a console asks."""
    consoles.site.shop.callbacks = (CALL_BACK,)
    return consoles.site.shop


def token_in(page: str) -> str:
    found = re.search(r'name="request" value="([A-Za-z0-9_-]{22})"', page)
    assert found
    return found[1]


async def test_a_cashier_asks_for_a_part_and_sent_twice_it_asks_once(consoles: Consoles, shop: Shop) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    assert f"/payments/{payment}/refund" in (await cashier.get(f"/payments/{payment}")).text
    form = await cashier.get(f"/payments/{payment}/refund")
    assert "₩10,000 is left" in form.words
    fields = {"much": "part", "amount": "4,000", "reason": WHY, "request": token_in(form.text)}
    for _ in range(2):
        done = await cashier.post(f"/payments/{payment}/refund", **fields)
        assert (done.status, done.location) == (303, f"/payments/{payment}"), done.words
    (act,) = shop.acts
    assert (act.act, act.amount, act.currency, act.reason, act.person) == ("cancel", "4000", "KRW", WHY, cashier.person.actor)
    shown = await cashier.get(f"/payments/{payment}")
    assert "Your shop has taken it up" in shown.words
    assert "Taken up by the shop" in shown.words
    assert payments.by_id(consoles.gateway.reader, payment).refunded == 0, "the shop's word moves no money"  # type: ignore[union-attr]  # paid above
    assert consoles.gateway.reader.one("SELECT reason FROM audit WHERE actor = ?", cashier.person.actor)["reason"] == WHY  # type: ignore[index]  # just written


async def test_what_is_wrong_with_a_refund_is_said_at_the_field(consoles: Consoles, shop: Shop) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    good = {"much": "part", "amount": "1", "reason": WHY, "request": ids.new_token()}
    for wrong in (
        {"amount": "0"}, {"amount": "10,001"}, {"amount": "1.5"}, {"amount": "-1"}, {"amount": "1,00"}, {"amount": ""}, {"amount": "가"},
        {"reason": ""}, {"reason": "x" * 201}, {"reason": "a\nb"}, {"much": "all"},
    ):  # fmt: skip
        answer = await cashier.post(f"/payments/{payment}/refund", **(good | wrong))
        assert answer.status in {400, 422}, wrong
    assert (await cashier.post(f"/payments/{payment}/refund", **(good | {"request": "x"}))).status == 400
    assert shop.acts == []
    assert consoles.gateway.reader.one("SELECT 1 FROM console_requests") is None


async def test_a_viewer_a_stale_factor_and_another_merchant_refund_nothing(consoles: Consoles, shop: Shop) -> None:
    payment = await paid(consoles)
    fields = {"much": "whole", "amount": "", "reason": WHY, "request": ids.new_token()}
    viewer, stale = await consoles.person("merchant", "viewer"), await consoles.person("merchant", "cashier", session="stale")
    other = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    assert "/refund" not in (await viewer.get(f"/payments/{payment}")).text
    assert (await viewer.post(f"/payments/{payment}/refund", **fields)).status == 403
    assert (await stale.post(f"/payments/{payment}/refund", **fields)).location.startswith("/second-factor")
    assert (await other.get(f"/payments/{payment}/refund")).status == 404
    assert (await other.post(f"/payments/{payment}/refund", **fields)).status == 404
    assert shop.acts == []


async def test_while_the_line_is_down_the_request_waits_and_is_sent_again_by_hand(consoles: Consoles, shop: Shop) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    consoles.site.shop.up = False
    await cashier.post(f"/payments/{payment}/refund", much="whole", amount="", reason=WHY, request=ids.new_token())
    shown = await cashier.get(f"/payments/{payment}")
    assert "its answer is still to come" in shown.words
    assert f"/payments/{payment}/refund" not in shown.text, "one at a time"
    again = re.search(r'action="(/requests/[A-Za-z0-9_-]{22}/again)"', shown.text)
    assert again
    second = await cashier.post(f"/payments/{payment}/refund", much="whole", amount="", reason=WHY, request=ids.new_token())
    assert second.status == 409
    assert "The shop has been asked already" in second.words
    assert cashier.person.name in second.words
    colleague = await consoles.person("merchant", "cashier")
    waits = await colleague.get(f"/payments/{payment}/refund")
    assert waits.status == 200
    assert all(told in waits.words for told in ("The shop has been asked already", cashier.person.name, WHY, "Ask again now"))
    other = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    assert (await other.post(again[1])).status == 404
    consoles.site.shop.up = True
    done = await cashier.post(again[1])
    assert (done.status, done.location) == (303, f"/payments/{payment}")
    assert [act.amount for act in shop.acts] == [None]
    assert "Taken up by the shop" in (await cashier.get(f"/payments/{payment}")).words


async def test_who_typed_while_somebody_else_gave_back_is_told_before_he_gives_back_again(consoles: Consoles, shop: Shop) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    left = re.search(r'name="left" value="([0-9]+)"', (await cashier.get(f"/payments/{payment}/refund")).text)
    assert left
    assert left[1] == "10000"
    fields = {"much": "part", "amount": "4,000", "reason": WHY, "request": ids.new_token()}
    stale = await cashier.post(f"/payments/{payment}/refund", **(fields | {"left": "10001"}))
    assert stale.status == 422
    assert "Somebody has given money back meanwhile" in stale.words
    assert 'name="left" value="10000"' in stale.text, "sent again it counts"
    assert shop.acts == []
    assert (await cashier.post(f"/payments/{payment}/refund", **(fields | {"left": left[1]}))).status == 303


async def test_an_older_shop_is_answered_with_its_own_command(consoles: Consoles, shop: Shop) -> None:
    shop.is_old = True
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    await cashier.post(f"/payments/{payment}/refund", much="whole", amount="", reason=WHY, request=ids.new_token())
    shown = await cashier.get(f"/payments/{payment}")
    tid = payments.by_id(consoles.gateway.reader, payment).tid  # type: ignore[union-attr]  # paid above
    assert f"hanbit merchant cancel {tid}" in shown.words
    assert "hanbit merchant reconcile" in (await cashier.get("/orders")).words
    assert "does not show this" in (await cashier.get("/callbacks")).words


async def test_a_call_back_that_failed_says_in_plain_words_why_when_it_is_tried_again_and_what_to_do(
    consoles: Consoles, shop: Shop
) -> None:
    viewer, told = await consoles.person("merchant", "viewer"), {"endpoint": "shop", "type": "order.settled", "created_at": 1}
    for status, error, said in (
        (None, "ClientConnectorError", "could not be reached"),
        (None, "no answer in time", "no answer in time"),
        (None, "SomethingNobodyKnows", "It could not be sent"),
        (302, None, "another address"),
        (403, None, "Check that the secret"),
        (404, None, "Check the path"),
        (422, None, "did not take it"),
        (503, None, "could not handle it"),
        (999, None, "It could not be sent"),
    ):
        last: dict[str, Any] = {**told, "last_status": status, "last_error": error}
        soon = consoles.gateway.clock.now() + 1800
        waits = console.CallBack(**last, delivery="evt_1", state="waiting", next_at=soon, tries=5)
        given_up = console.CallBack(**last, delivery="evt_2", state="given_up", tries=80)
        for one, next_step in ((waits, "Next try in 30 minutes ("), (given_up, "not tried again by itself")):
            shop.callbacks = (one,)
            words = (await viewer.get("/callbacks")).words
            assert said in words
            assert next_step in words
            assert "ClientConnector" not in words
            assert (f"(HTTP {status})" in words) == (status is not None)


async def test_what_the_shop_says_is_text_and_its_refusals_have_words(consoles: Consoles, shop: Shop) -> None:
    payment = payments.by_id(consoles.gateway.reader, await paid(consoles))
    assert payment is not None
    shop.looks = (
        console.Look(kind="cancellation", tid=payment.tid, state="confirmed", why="<script>alert(1)</script>", since=1),
        console.Look(kind="order", tid="B" * 22, state="placed", why="", since=1),
    )
    cashier, viewer = await consoles.person("merchant", "cashier"), await consoles.person("merchant", "viewer")
    orders, calls = await cashier.get("/orders"), await cashier.get("/callbacks")
    assert "<script>alert" not in orders.text
    assert f'href="/payments/{payment.id}"' in orders.text
    assert f"/orders/{payment.tid}/looked" in orders.text
    assert "/looked" not in (await viewer.get("/orders")).text
    assert "<b>shop" not in calls.text
    assert "HTTP 500" in calls.words
    for path, said in ((f"/orders/{payment.tid}/looked", "looked"), ("/callbacks/evt_1/resend", "resend")):
        assert (await cashier.post(path, reason=WHY)).status == 303
        assert shop.acts[-1].act == said
    assert (await cashier.post("/callbacks/test", reason=WHY)).status == 403
    admin = await consoles.person("merchant", "admin")
    assert (await admin.post("/callbacks/test", reason=WHY)).location == "/callbacks"
    for code in ("over_limit", "a_word_of_its_own"):
        shop.result = code
        await admin.post("/callbacks/evt_1/resend", reason=WHY)
    words = (await admin.get("/callbacks")).words
    assert "More than the shop allows with one request" in words
    assert "a_word_of_its_own" in words
    consoles.site.shop.up = False
    for path in ("/orders", "/callbacks"):
        assert "is not connected" in (await cashier.get(path)).words
    consoles.site.shop.up = True
