"""What a merchant's people see of their own book: payments, days, payouts, the line and the keys that speak for the shop."""

import csv
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hanbit.evidence.log_check import check as check_log
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.days import day_of, zone_of
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import terms as agreed
from hanbit.payments import payment as payments
from hanbit.payments import settlement
from tests.faces.consoles import OTHER_SHOP, Consoles, Member, running_consoles
from tests.faces.site import SHOP
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
    assert "다솜은행 ********5666" in shown.words
    row = consoles.gateway.reader.one("SELECT reason FROM audit WHERE actor = ? AND merchant = ?", admin.person.actor, OTHER_SHOP)
    assert row is not None
    assert row["reason"] == WHY


async def test_certificates_show_their_days_and_one_is_revoked_for_good(consoles: Consoles) -> None:
    admin, viewer = await consoles.person("merchant", "admin"), await consoles.person("merchant", "viewer")
    shown = await admin.get("/line")
    assert "By enrolment code" in shown.words
    kids = re.findall(r"/certificates/([A-Za-z0-9_-]{43})/revoke", shown.text)
    assert len(kids) == 2
    assert "/revoke" not in (await viewer.get("/line")).text
    urn = consoles.gateway.settings.merchant_urn(SHOP)
    kid = consoles.gateway.reader.one("SELECT kid FROM certificates WHERE urn = ? AND purpose = 'line'", urn)["kid"]  # type: ignore[index]  # enrolled
    assert (await admin.post(f"/certificates/{kid}/revoke", reason=" ")).status == 422
    done = await admin.post(f"/certificates/{kid}/revoke", reason=WHY)
    assert (done.status, done.location) == (303, "/line"), done.words
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
