"""What the operator's staff does in its console: who is paid, who pays, what two people stand behind, what needs a look."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hanbit.db.change import Append, Change, Put
from hanbit.db.schema import metadata
from hanbit.evidence.log_check import check as check_log
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.days import day_of, zone_of
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.balances import available
from hanbit.ledger.chart import merchant_account, operator_account
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import customers, merchants
from hanbit.payments import operations, payouts, proposals, settlement
from hanbit.payments.halt import why_halted
from hanbit.payments.sign_in import act
from tests.faces.consoles import OTHER_SHOP, Consoles, Member, running_consoles
from tests.faces.site import SHOP
from tests.faces.test_consoles import paid
from tests.faces.test_customer_site import logged_in as customer_logged_in

pytestmark = pytest.mark.asyncio(loop_scope="module")
WHY = "as agreed by letter"
BRAND_SEEN_S = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """One operator for all of it; at the end book and log are whole."""
    async with running_consoles(tmp_path_factory.mktemp("operator")) as running:
        yield running
        reader = running.gateway.reader
        assert check_ledger(reader.connection).balanced
        with reader.snapshot() as connection:
            assert check_log(connection).whole


async def does(member: Member, path: str, **fields: str) -> str:
    """An act that succeeds; what the next page says of it."""
    form = await member.get(path)
    assert form.status == 200, form.words
    done = await member.post(path, reason=WHY, **fields)
    assert done.status == 303, done.words
    return (await member.get(done.location)).words


def audited(consoles: Consoles, member: Member, what: str) -> bool:
    """Whether the audit names him, the act and the reason."""
    sql = "SELECT 1 FROM audit WHERE actor = ? AND act LIKE ? AND reason = ?"
    return consoles.gateway.reader.one(sql, member.person.actor, f"{what}%", WHY) is not None


def account_of(consoles: Consoles) -> str:
    """Some account in won of the customer that the site has."""
    row = consoles.gateway.reader.one("SELECT id FROM accounts WHERE currency = 'KRW' ORDER BY id LIMIT 1")
    assert row is not None
    return str(row["id"])


PAGES = (
    "/", "/payments", "/exceptions", "/merchants", f"/merchants/{SHOP}", "/customers", "/proposals", "/settlement", "/settlement/balance",
    "/payouts", "/evidence", "/audit", "/staff",
)  # fmt: skip


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_every_page_opens_in_both_languages(consoles: Consoles, language: str) -> None:
    admin = await consoles.person("operator", "admin", language=language)
    for path in PAGES:
        shown = await admin.get(path)
        assert shown.status == 200, (path, shown.words)
        assert f'<html lang="{language}">' in shown.text
        assert shown.text.count("<h1") == 1, path


async def test_every_act_asks_first_and_wants_a_reason(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    row = consoles.gateway.reader.one("SELECT id FROM customers LIMIT 1")
    assert row is not None
    paths = [
        f"/merchants/{SHOP}/{name}" for name in ("suspend", "resume", "registration", "fees", "payout", "line", "limits", "code", "revoke")
    ]
    paths += [f"/customers/{row['id']}/{name}" for name in ("suspend", "resume", "account", "code")]
    paths += [f"/accounts/{account_of(consoles)}/{name}" for name in ("suspend", "resume", "fund")]
    paths += ["/merchants/register", "/customers/open", "/settlement/close", "/settlement/continue", "/settlement/reserve"]
    paths += ["/payouts/instructions", "/payouts/reconcile", *(f"/evidence/{name}" for name in ("halt", "resume", "sign"))]
    for path in paths:
        form = await admin.get(path)
        assert form.status == 200, (path, form.words)
        names = re.findall(r'<(?:input|select|textarea) id="[a-z_]+" name="([a-z_]+)"', form.text)
        assert names[-1] == "reason", path
        before = consoles.gateway.reader.one("SELECT count(*) FROM audit")
        refused = await admin.post(path, **dict.fromkeys(names, ""))
        assert refused.status == 422, (path, refused.words)
        assert consoles.gateway.reader.one("SELECT count(*) FROM audit")[0] == before[0], path  # type: ignore[index]  # a count has a row


# --- merchants --------------------------------------------------------------------------------------------------------------------


async def test_a_merchant_is_registered_with_a_code_that_is_shown_once(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    fields = {"id": "haneul", "name": "하늘상점", "telephone": "02-555-0199", "return_url": "https://haneul.example/back"}
    made = await admin.post("/merchants/register", reason=WHY, orders="signed", currency="KRW", **fields)
    assert made.status == 200, made.words
    code = re.search(r'class="code">([A-Za-z0-9_-]{22})<', made.text)
    assert code, made.words
    assert code[1] not in (await admin.get("/merchants/haneul")).text
    assert audited(consoles, admin, "create merchant haneul")
    again = await admin.post("/merchants/register", reason=WHY, orders="signed", currency="KRW", **fields)
    assert again.status == 422
    assert "taken" in again.words


async def test_a_merchant_is_suspended_with_a_reason_and_made_active_again(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    assert "is suspended" in await does(admin, f"/merchants/{OTHER_SHOP}/suspend")
    assert merchants.by_id(consoles.gateway.reader, OTHER_SHOP).state == "suspended"  # type: ignore[union-attr]  # it is registered
    assert audited(consoles, admin, f"suspended merchant {OTHER_SHOP}")
    assert "is active again" in await does(admin, f"/merchants/{OTHER_SHOP}/resume")


async def test_registration_fees_and_payout_account_are_changed_and_shown(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    path = f"/merchants/{OTHER_SHOP}"
    fields = {"name": "다솜서점", "telephone": "02-555-0100", "return_url": "https://dasom.example/orders"}
    await does(admin, f"{path}/registration", origins="https://shop.dasom.example", **fields)
    await does(admin, f"{path}/fees", points="250", fixed="50")
    await does(admin, f"{path}/payout", bank="한빛은행", number="110-222-333444")
    (proposal,) = proposals.waiting(consoles.gateway.reader)
    assert "3444" not in (await admin.get(path)).words, "one person alone sends nobody's money elsewhere"
    assert (await admin.post(f"/proposals/{proposal.id}/approve", reason=WHY)).status == 403
    second = await consoles.person("operator", "admin")
    listed = await second.get("/proposals")
    assert "3444" in listed.words
    assert "110222333444" not in listed.text
    await does(second, f"/proposals/{proposal.id}/approve")
    shown = await admin.get(path)
    for said in ("02-555-0100", "https://shop.dasom.example", "2.50% of each payment", "3444"):
        assert said in shown.words
    assert "110222333444" not in shown.text, "the number stays sealed"
    wrong = await admin.post(f"{path}/registration", reason=WHY, origins="https://x.example/path", **fields)
    assert wrong.status == 422


async def test_a_certificate_of_another_merchant_is_not_revoked_here(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    urn = consoles.gateway.settings.merchant_urn(SHOP)
    kid = consoles.gateway.reader.one("SELECT kid FROM certificates WHERE urn = ? AND revoked_at IS NULL", urn)
    if kid is not None:
        refused = await admin.post(f"/merchants/{OTHER_SHOP}/revoke", reason=WHY, kid=kid["kid"])
        assert refused.status == 422
        assert consoles.gateway.reader.one("SELECT revoked_at FROM certificates WHERE kid = ?", kid["kid"])[0] is None  # type: ignore[index]  # kept


# --- customers, and money that two people stand behind ----------------------------------------------------------------------------


async def test_a_customer_is_opened_with_an_account_and_found_by_its_number(consoles: Consoles) -> None:
    support = await consoles.person("operator", "support")
    said = await does(
        support, "/customers/open", login="newcomer", name="=cmd|'/c calc'!A1", password="a sentence of four words", language="en"
    )
    assert "is registered" in said
    customer = customers.by_login(consoles.gateway.reader, "newcomer")
    assert customer is not None
    number = "11022233344455"
    await does(support, f"/customers/{customer.id}/account", kind="bank", number=number, password="7391", currency="KRW", credit="")
    found = await support.get(f"/customers?q={number}")
    assert (found.status, found.location) == (303, f"/customers/{customer.id}")
    assert number not in (await support.get(found.location)).text
    await does(support, f"/customers/{customer.id}/suspend")
    assert audited(consoles, support, "suspended customer")


async def test_amounts_are_typed_and_shown_in_the_units_of_the_accounts_currency(consoles: Consoles) -> None:
    reader, admin = consoles.gateway.reader, await consoles.person("operator", "admin")
    await does(admin, "/customers/open", login="in-dollars", name="Dollar Kim", password="a sentence of four words", language="en")
    customer = customers.by_login(reader, "in-dollars")
    assert customer is not None
    path = f"/customers/{customer.id}/account"
    card = {"kind": "card", "number": "4000000000000028", "password": "7391", "currency": "USD"}
    refused = await admin.post(path, reason=WHY, **card, credit="1,200.505")
    assert (refused.status, "at most two decimals" in refused.words) == (422, True)
    assert "1,200.505" in refused.text, "what was typed stays"
    await does(admin, path, **card, credit="1,200.50")
    row = reader.one("SELECT a.id, l.credit_limit FROM accounts a JOIN ledger_accounts l ON l.id = a.id WHERE a.customer = ?", customer.id)
    assert row is not None
    assert row["credit_limit"] == 120_050
    limits = f"/accounts/{row['id']}/limits"
    for wrong in ("\uff11\uff12\uff10\uff10", "1e3", " 12 ", "-1", "1,2,3", "0.001", "1" * 16, "0"):
        assert (await admin.post(limits, reason=WHY, payment=wrong, day="")).status == 422
    await does(admin, limits, payment="300", day="1,200.5")
    assert audited(consoles, admin, f"bank limits of {row['id']}: 30000 a payment, 120050 a day")
    shown = (await admin.get(limits)).text
    assert 'value="300.00"' in shown
    assert 'value="1,200.50"' in shown
    assert "In USD, like 1,200.50." in shown
    assert "One payment at most $300.00" in (await admin.get(f"/customers/{customer.id}")).words
    await does(admin, f"/accounts/{row['id']}/fund", amount="0.05")
    (proposal,) = proposals.waiting(reader)
    assert proposal.money == Money(5, "USD")
    assert "$0.05" in (await admin.get("/proposals")).words
    await does(admin, f"/proposals/{proposal.id}/withdraw")
    assert (await admin.post("/settlement/reserve", reason=WHY, amount="1.5", currency="KRW")).status == 422
    assert (await admin.post("/settlement/reserve", reason=WHY, amount="1.5", currency="XXX")).status == 422
    await does(admin, "/settlement/reserve", amount="1.5", currency="USD")
    (proposal,) = proposals.waiting(reader)
    assert proposal.money == Money(150, "USD")
    await does(admin, f"/proposals/{proposal.id}/withdraw")


async def test_money_is_paid_in_only_when_a_second_person_approves(consoles: Consoles) -> None:
    reader, account = consoles.gateway.reader, account_of(consoles)
    one, two = await consoles.person("operator", "admin"), await consoles.person("operator", "admin")
    had = available(reader, account)
    await does(one, f"/accounts/{account}/fund", amount="5,000")
    (proposal,) = proposals.waiting(reader)
    assert available(reader, account) == had
    alone = await one.post(f"/proposals/{proposal.id}/approve", reason=WHY)
    assert alone.status == 403
    assert (available(reader, account), len(proposals.waiting(reader))) == (had, 1)
    support = await consoles.person("operator", "support")
    assert (await support.post(f"/proposals/{proposal.id}/approve", reason=WHY)).status == 403
    assert (await support.post(f"/proposals/{proposal.id}/withdraw", reason=WHY)).status == 403
    await does(two, f"/proposals/{proposal.id}/approve")
    assert available(reader, account) == had + 5000
    again = await two.post(f"/proposals/{proposal.id}/approve", reason=WHY)
    assert again.status == 409
    assert available(reader, account) == had + 5000


async def test_a_colleague_whom_the_proposer_let_in_approves_only_once_somebody_else_has_confirmed_him(consoles: Consoles) -> None:
    reader, account = consoles.gateway.reader, account_of(consoles)
    one, two = await consoles.person("operator", "admin", name="Hong"), await consoles.person("operator", "admin")
    new = await consoles.person("operator", "admin", name="Newcomer")
    await consoles.gateway.book.commit(Change(puts=(new.person.put(handed_by=one.person.actor),)))
    page = f"/staff/{new.person.id}"
    had = available(reader, account)
    await does(one, f"/accounts/{account}/fund", amount="5000")
    (proposal,) = proposals.waiting(reader)
    refused = await new.post(f"/proposals/{proposal.id}/approve", reason=WHY)
    assert refused.status == 422
    assert "Somebody else must do this" in refused.words
    for who in (one, new):
        shown = await who.get(page)
        assert "Set up by a link that Hong made" in shown.words
        assert f"{page}/confirm" not in shown.text
        assert (await who.post(f"{page}/confirm", reason=WHY)).status == 422
    assert f"{page}/confirm" in (await two.get(page)).text
    assert available(reader, account) == had
    await does(two, f"{page}/confirm")
    assert audited(consoles, two, f"confirm person {new.person.id}")
    assert "Set up by a link" not in (await two.get(page)).words
    assert (await two.post(f"{page}/confirm", reason=WHY)).status == 409, "once"
    await does(new, f"/proposals/{proposal.id}/approve")
    assert available(reader, account) == had + 5000


async def test_what_is_refused_or_withdrawn_moves_nothing(consoles: Consoles) -> None:
    reader, account = consoles.gateway.reader, account_of(consoles)
    one, two = await consoles.person("operator", "support"), await consoles.person("operator", "admin")
    had = available(reader, account)
    for who, decision in ((one, "withdraw"), (two, "refuse")):
        await does(one, f"/accounts/{account}/fund", amount="700")
        (proposal,) = proposals.waiting(reader)
        await does(who, f"/proposals/{proposal.id}/{decision}")
    assert (available(reader, account), proposals.waiting(reader)) == (had, [])


async def pays(consoles: Consoles, admin: Member) -> None:
    """The payout of the day: read out for the bank, found in the bank's file, come back, each time once."""
    reader, account = consoles.gateway.reader, merchant_account(SHOP, "KRW")
    (payout,) = payouts.of_state(reader, "instructed")
    listed = (await admin.get("/payouts")).words
    assert payout.reference in listed
    assert merchants.names(reader, [SHOP])[SHOP] in listed
    told = await admin.post("/payouts/instructions", reason=WHY)
    assert "110222333444" in told.text
    assert audited(consoles, admin, "read the accounts of 1 payouts")
    lines = f"{payout.reference},{payout.amount},KRW\nAAAA-AAAA,5,KRW"
    for _ in range(2):
        compared = await admin.post("/payouts/reconcile", reason=WHY, lines=lines)
        assert compared.status == 200, compared.words
        assert "No payout of ours has this reference" in compared.words
    wrong = await admin.post("/payouts/reconcile", reason=WHY, lines=f'"{payout.reference}","{payout.amount + 1:,}",KRW')
    assert f"We have instructed ₩{payout.amount:,}" in wrong.words
    assert payouts.find(reader, payout.reference).state == "confirmed"  # type: ignore[union-attr]  # found above
    await does(admin, f"/payouts/{payout.reference}/fail")
    assert available(reader, account) == payout.amount
    assert payout.reference in (await admin.get("/payouts?state=returned")).words
    assert (await admin.post("/payouts/reconcile", reason=WHY, lines="no line")).status == 422
    assert (await admin.post("/payouts/reconcile", reason=WHY, lines="AAAA-AAAA,1.5,KRW")).status == 422


async def test_a_day_is_closed_by_two_people_and_its_statements_are_shown(consoles: Consoles) -> None:
    gateway = consoles.gateway
    one, two = await consoles.person("operator", "admin"), await consoles.person("operator", "admin")
    today = day_of(gateway.clock.now(), zone_of(gateway.settings.time_zone))
    early = await one.post("/settlement/close", day=str(today), reason=WHY)
    assert (early.status, "has not ended yet" in early.words) == (422, True)
    assert "/settlement/close" not in (await one.get("/settlement")).text
    await settlement.set_payout_account(gateway, merchant=SHOP, bank="한빛은행", number="110-222-333444")
    cash, account = operator_account("cash", "KRW"), merchant_account(SHOP, "KRW")
    entry = rules.transfer(id="fund:for-a-payout", debit=cash, credit=account, money=Money(10_000, "KRW"))
    await gateway.book.commit(Change(entries=(entry,)))
    assert isinstance(gateway.clock, SandboxClock)
    gateway.clock.offset_s += 2 * 86_400
    one, two = await consoles.person("operator", "admin"), await consoles.person("operator", "admin")
    await does(one, "/settlement/close", day=str(today))
    (proposal,) = proposals.waiting(gateway.reader)
    assert (await one.post(f"/proposals/{proposal.id}/approve", reason=WHY)).status == 403
    await does(two, f"/proposals/{proposal.id}/approve")
    assert "Closed" in (await two.get("/settlement")).words
    (registered,) = gateway.reader.all("SELECT name FROM merchants WHERE id = ?", SHOP)
    assert f"{registered['name']} {SHOP}" in (await two.get(f"/settlement/days/{today}")).words
    assert (await two.post("/settlement/close", day=str(today), reason=WHY)).status == 422, "closed already"
    statement = await two.get(f"/settlement/days/{today}/{SHOP}")
    assert statement.status == 200
    assert "₩10,000" in statement.words
    await pays(consoles, two)
    sheet = await two.get(f"/settlement/days/{today}/sheet")
    assert sheet.text.lstrip("\ufeff").startswith("merchant,currency,day")
    assert (await two.get(f"/settlement/days/{today + timedelta(days=1)}")).status == 404
    assert "is balanced" in (await two.get("/settlement/balance")).words


# --- what is watched --------------------------------------------------------------------------------------------------------------


async def test_payments_are_halted_and_let_go_on(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    await does(admin, "/evidence/halt")
    assert why_halted(consoles.gateway.reader) is not None
    assert "Payments are halted" in (await admin.get("/")).words
    await does(admin, "/evidence/resume")
    assert why_halted(consoles.gateway.reader) is None
    assert audited(consoles, admin, "payments resumed")


async def test_the_audit_is_searched_and_no_cell_of_its_sheet_is_a_formula(consoles: Consoles) -> None:
    auditor, admin = await consoles.person("operator", "auditor"), await consoles.person("operator", "admin")
    refused = await admin.post(f"/merchants/{OTHER_SHOP}/suspend", reason="=1+1")
    assert refused.status == 303
    await admin.post(f"/merchants/{OTHER_SHOP}/resume", reason=WHY)
    for who in (admin.person.actor, admin.person.login):
        assert f"{admin.person.name} {admin.person.login}" in (await auditor.get(f"/audit?word=suspended&actor={who}")).words
    assert "No act" in (await auditor.get("/audit?word=%25no_such_act%25")).words
    assert (await auditor.get("/audit?since=yesterday")).status == 422
    sheet = (await auditor.get(f"/audit/sheet?actor={admin.person.actor}")).text
    assert "'=1+1" in sheet
    assert not re.search(r"(^|,)[=+@]", sheet, re.MULTILINE)


async def test_the_audit_of_a_merchant_names_every_act_upon_it(consoles: Consoles) -> None:
    auditor, admin = await consoles.person("operator", "auditor"), await consoles.person("operator", "admin")
    fields = {"id": "byeolbit", "name": "별빛문구", "telephone": "02-555-0188", "return_url": "https://byeolbit.example/back"}
    await admin.post("/merchants/register", reason=WHY, orders="signed", currency="KRW", **fields)
    for what in ("suspend", "resume", "code"):
        await admin.post("/merchants/byeolbit/" + what, reason=WHY)
    await admin.post("/merchants/byeolbit/line", reason=WHY, mode="vpn", address="", post="")
    await operations.set_state(consoles.gateway, what="merchant", id=OTHER_SHOP, state="active")
    told = (await auditor.get("/audit?merchant=byeolbit")).words
    acts = ("create merchant byeolbit", "suspended merchant byeolbit", "active merchant byeolbit", "enrolment code for", "line of merchant")
    assert [one for one in acts if one not in told] == []
    assert OTHER_SHOP not in told


async def test_the_trial_balance_leaves_out_currencies_that_nobody_uses(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    kept = {row[0] for row in consoles.gateway.reader.all("SELECT DISTINCT currency FROM ledger_accounts")}
    told = (await admin.get("/settlement/balance")).text
    assert {currency for currency in kept if f"<td>{currency}</td>" in told} == {"KRW"} < kept


async def test_things_that_are_not_there_are_not_found(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    nobody = "A" * 22
    for path in (
        f"/customers/{nobody}", f"/customers/{nobody}/suspend", f"/accounts/{nobody}/fund", f"/proposals/{nobody}/approve",
        f"/exceptions/ask/{nobody}", f"/exceptions/tell/{'A' * 43}", f"/exceptions/send/{nobody}",
        "/payouts/AAAA-AAAA/confirm", "/merchants/nobody/fees",
        f"/merchants/{SHOP}/perhaps", "/settlement/days/2020-01-01", "/settlement/days/2020-02-31",
    ):  # fmt: skip
        assert (await admin.get(path)).status == 404, path


async def test_what_is_stuck_is_shown_with_the_act_that_helps(tmp_path: Path) -> None:
    """A payment whose shop is silent, an outcome that nobody acknowledged, an order that was refused."""
    async with running_consoles(tmp_path) as consoles:
        gateway, at, tid = consoles.gateway, consoles.gateway.clock.now(), "C" * 22
        columns = [column.name for column in metadata.tables["payments"].columns]
        texts = {"id": "P" * 22, "merchant": SHOP, "tid": tid, "state": "authorized", "currency": "KRW", "payee": "<b>Shop</b>"}
        numbers = {"amount": 7000, "opened_at": at, "pay_by": at + 900, "hold_until": at + 900, "next_at": at + 600, "tries": 5}
        blank = dict.fromkeys(("order_hash", "text", "return_url"), "-") | dict.fromkeys(("attempts", "captured", "refunded"), 0)
        payment = dict.fromkeys(columns) | blank | texts | numbers
        del payment["version"]
        untold = to_tell_row("H" * 43, tid, at)
        refused = act(at, gateway.settings.merchant_urn(SHOP), "order", "late", SHOP, tid)
        await gateway.book.commit(Change(puts=(Put("payments", payment, 0),), appends=(untold, refused)))
        person = gateway.reader.one("SELECT id FROM customers WHERE login = 'hong'")
        assert person is not None
        letter = {
            "id": "L" * 22, "customer": person[0], "kind": "paid", "address": "hong@example.com", "language": "ko", "facts": "{}",
            "state": "given_up", "why": "refused 550", "next_at": None, "tries": 3, "stored_at": at, "ended_at": at,
        }  # fmt: skip
        await gateway.book.commit(Change(puts=(Put("mails", letter, 0),)))
        support = await consoles.person("operator", "support")
        shown = await support.get("/exceptions")
        assert ("mail server refused it" in shown.words, "hong@example.com" in shown.text) == (True, False)
        for link in (
            f"/exceptions/send/{'L' * 22}",
            f"/exceptions/ask/{'P' * 22}",
            f"/exceptions/tell/{'H' * 43}",
            f"/payments/{'P' * 22}",
        ):
            assert f'href="{link}"' in shown.text, link
        assert "<b>Shop" not in shown.text
        await does(support, f"/exceptions/ask/{'P' * 22}")
        await does(support, f"/exceptions/tell/{'H' * 43}")
        await does(support, f"/exceptions/send/{'L' * 22}")
        assert gateway.reader.one("SELECT state, why FROM mails")[:] == ("waiting", None)  # type: ignore[index]  # the one above
        assert gateway.reader.one("SELECT next_at FROM payments")[0] < at + 600  # type: ignore[index]  # the one above
        assert gateway.reader.one("SELECT next_at FROM outbox WHERE tid = ?", tid)[0] < at + 600  # type: ignore[index]  # as well
        assert audited(consoles, support, "ask now")
        assert audited(consoles, support, "tell now")


def to_tell_row(name: str, tid: str, at: int) -> Append:
    """An outcome that was told five times."""
    row: dict[str, str | int | None] = {"hash": name, "version": 1, "merchant": SHOP, "tid": tid, "next_at": at + 600}
    return Append("outbox", row | {"tries": 5, "stored_at": at, "acknowledged_at": None})


# --- how the operator shows itself, and refunds that are stuck ----------------------------------------------------------------------


async def test_the_brand_is_changed_on_the_customers_pages_too(consoles: Consoles) -> None:
    admin, viewer = await consoles.person("operator", "admin"), await consoles.person("operator", "viewer")
    fields = {
        "name_ko": "푸른은행", "name_en": "Blue <Bank>", "colour": "#123a6b", "telephone": "1599-1234",
        "terms_url": "https://blue.example/terms", "open_account_url": "",
    }  # fmt: skip
    for wrong in ({"colour": "#ffe9b0"}, {"colour": "red"}, {"terms_url": "http://blue.example"}, {"name_en": " "}, {"telephone": "x"}):
        refused = await admin.post("/brand/change", reason=WHY, **(fields | wrong))
        assert (refused.status, refused.text.count("field-error")) == (422, 1), wrong
    assert (await viewer.post("/brand/change", reason=WHY, **fields)).status == 403
    assert "is changed" not in (await does(admin, "/brand/change", **fields))
    assert audited(consoles, admin, "brand: name_ko 푸른은행")
    before = consoles.gateway.clock.monotonic()
    while True:  # within a second; a slow machine may take longer to ask than that
        async with consoles.http.get(consoles.site.base + "/my/login?lang=en", headers={"Accept": "text/html"}) as answer:
            shown = await answer.text()
        if "Blue &lt;Bank&gt;" in shown or consoles.gateway.clock.monotonic() > before + BRAND_SEEN_S:
            break
    assert "Blue &lt;Bank&gt;" in shown
    for said in ("#123a6b", "tel:1599-1234", "https://blue.example/terms"):
        assert said in shown
    again = await admin.post("/brand/change", reason=WHY, **fields)
    assert again.status == 422, "nothing would change"


async def test_the_overview_can_be_watched_and_watching_keeps_no_session_alive(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    shown = await admin.get("/?live=on")
    assert (shown.status, shown.headers.get("refresh")) == (200, "15")
    assert "refresh" not in (await admin.get("/")).headers
    assert isinstance(consoles.gateway.clock, SandboxClock)
    for _ in range(4):
        consoles.gateway.clock.offset_s += 5 * 60
        shown = await admin.get("/?live=on")
    assert shown.status == 303, "after fifteen minutes"


async def test_a_refund_that_came_too_late_is_listed_and_allowed(tmp_path: Path) -> None:
    async with running_consoles(tmp_path) as consoles:
        await stuck_and_allowed(consoles)


async def stuck_and_allowed(consoles: Consoles) -> None:
    """A shop may not refund any more; the staff sees it and lets it."""
    gateway, at = consoles.gateway, consoles.gateway.clock.now()
    payment = await paid(consoles, refund_by=at + 60)
    row = gateway.reader.one("SELECT tid FROM payments WHERE id = ?", payment)
    assert row is not None
    assert isinstance(gateway.clock, SandboxClock)
    gateway.clock.offset_s += 120
    admin = await consoles.person("operator", "admin")
    assert "Nothing" in (await admin.get("/exceptions")).words
    stuck: dict[str, Any] = {
        "merchant": SHOP, "id": "A" * 22, "tid": row["tid"], "payment": payment, "amount": 1000, "currency": "KRW", "reason": "late",
        "result": "too_late", "request_hash": "A" * 43, "answer_hash": "A" * 43, "refunded": 0, "at": gateway.clock.now(),
    }  # fmt: skip
    await gateway.book.commit(Change(appends=(Append("cancellations", stuck),)))
    assert f"/payments/{payment}/allow-refund" in (await admin.get("/exceptions")).text
    day = day_of(gateway.clock.now(), zone_of(gateway.settings.time_zone)) + timedelta(days=3)
    early = await admin.post(f"/payments/{payment}/allow-refund", reason=WHY, until=str(day - timedelta(days=30)))
    assert early.status == 422
    await does(admin, f"/payments/{payment}/allow-refund", until=str(day))
    assert audited(consoles, admin, "allow refund until")
    assert "Allowed until" in (await admin.get("/exceptions")).words


async def test_a_merchant_is_limited_and_both_consoles_and_the_customer_are_told(tmp_path: Path) -> None:
    async with running_consoles(tmp_path) as consoles:
        admin, theirs = await consoles.person("operator", "admin"), await consoles.person("merchant", "admin")
        path = f"/merchants/{SHOP}/limits"
        assert (await admin.post(path, reason=WHY, payment="1.5", day="")).status == 422
        await does(admin, path, payment="999", day="5,000")
        assert 'value="5,000"' in (await admin.get(path)).text
        assert audited(consoles, admin, f"limits of merchant {SHOP}: 999 a payment, 5000 a day")
        assert "One payment at most ₩999" in (await admin.get(f"/merchants/{SHOP}")).words
        site, order = consoles.site, consoles.site.shop.order(amount=1_000)
        for _ in range(2):
            with pytest.raises(ProtocolViolation):  # there is no opening
                await customer_logged_in(site, consoles.http, order)
        home = (await theirs.get("/")).words
        assert "One payment at most ₩999" in home
        noted = consoles.gateway.reader.all("SELECT tid FROM audit WHERE act = ? AND merchant = ?", "order above a limit", SHOP)
        assert len(noted) == 1, "once for each order"
        assert noted[0]["tid"] in home
        await does(admin, path, payment="", day="")
        await paid(consoles)


async def test_an_account_is_limited_by_the_bank_from_the_next_payment_on(tmp_path: Path) -> None:
    async with running_consoles(tmp_path) as consoles:
        support = await consoles.person("operator", "support")
        row = consoles.gateway.reader.one("SELECT id, customer FROM accounts WHERE kind = 'bank'")
        assert row is not None
        path = f"/accounts/{row['id']}/limits"
        assert (await support.post(path, reason=WHY, payment="1.5", day="")).status == 422
        await does(support, path, payment="999", day="5000")
        assert audited(consoles, support, f"bank limits of {row['id']}: 999 a payment, 5000 a day")
        assert "One payment at most ₩999" in (await support.get(f"/customers/{row['customer']}")).words
        site = consoles.site
        for amount, state in ((1_000, "open"), (999, "captured")):
            browser, accounts = await customer_logged_in(site, consoles.http, site.shop.order(amount=amount))
            _, answer, _ = await browser.pay(accounts["bank"])
            assert answer["state"] == state, answer
        raised = await support.post(path, payment="", day="4000", reason=WHY)
        assert (raised.status, raised.location) == (303, "/proposals"), raised.words
        page = (await support.get(f"/customers/{row['customer']}")).words
        assert "One payment at most ₩999" in page, "what is higher waits"
        assert "A day at most ₩4,000" in page, "what is lower counts"
        (proposal,) = proposals.waiting(consoles.gateway.reader)
        admin = await consoles.person("operator", "admin")
        assert "One payment at most: no limit" in (await admin.get("/proposals")).words
        assert "One payment at most: no limit" in (await admin.get(f"/proposals/{proposal.id}/approve")).words
        await does(admin, f"/proposals/{proposal.id}/approve")
        assert "One payment at most" not in (await support.get(f"/customers/{row['customer']}")).words
