"""A populated site for looking at: three days of payments in every state, customers, merchants, and staff of every role.

async with staged(tmp_path) as stage:
    stage.things["captured"]                   # ids by what they are: payments, people, merchants, orders
    await stage.cookies("operator", "admin")   # of somebody who has logged in and stepped up just now
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hanbit.db.change import Change, Put
from hanbit.evidence import store as evidence
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.money import Money
from hanbit.parties import console_sessions, customers, enrolment, sessions, visits
from hanbit.payments import (
    cancellation_flow,
    console_requests,
    contact,
    forgotten,
    home_keys,
    operations,
    payouts,
    proposals,
    recovery,
    settlement,
    staff,
)
from hanbit.payments import payment as payments
from hanbit.payments.states import ATTEMPTS_MAX
from hanbit.protocols.cancellation.merchant import Merchant as Canceller
from hanbit.protocols.console import CallBack, Look
from hanbit.protocols.redirect.merchant import Objection
from hanbit.protocols.redirect.messages import Order, Settled, Words
from hanbit.web.security import SESSION_COOKIE
from tests.faces.consoles import Consoles, Member, running_consoles, token_of
from tests.faces.site import SHOP, Shop, Site
from tests.faces.test_customer_site import Browser, logged_in

DAY_S = 86_400
SESSION_S = 120
"""After so long somebody logs in anew: a step-up counts for five minutes, a customer's session ends after as long."""
TODAY_S = 55 * 60
"""So long ago today's payments begin: the overview draws the last hour."""
PAST_S = 2 * DAY_S
"""How long ago the stage's first payments were made: two days of it are closed and settled."""
CUSTOMER, OTHER_CUSTOMER, SUSPENDED_CUSTOMER = "hong", "younghee", "chulsu"
LONG_CUSTOMER, LONG_NAME, LARGE = "maximiliana", "Maximiliana Alexandria von Hohenstein-Grünwald 황보하늘별", "123456789012"
"""Somebody whose name and balance are as long as they get."""
GOODS = (
    (220_000, "SK휴대폰 IM-1100"),
    (18_900, "국어사전 1권"),
    (4_500, "엽서 10장"),
    (39_000, "무선 이어폰 (흰색) · 무료 배송"),
    (7_200, "원두커피 200g"),
)


class LateClock(SystemClock):
    """The machine's clock, behind by what is left of the stage's past."""

    def __init__(self, behind_s: int) -> None:
        self.behind_s = behind_s

    def now(self) -> int:
        return super().now() - self.behind_s


@dataclass
class Stage:
    """The site, its parties, and everything on it by what it is."""

    consoles: Consoles
    clock: LateClock
    things: dict[str, str] = field(default_factory=dict)
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    sessions: dict[tuple[str, str], tuple[int, dict[str, str]]] = field(default_factory=dict)
    """Who has logged in when, with which cookies."""
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return self.consoles.site

    @property
    def shop(self) -> Shop:
        return self.consoles.site.shop

    def base(self, face: str) -> str:
        """The origin of a face."""
        return self.site.base if face == "customer" else self.consoles.bases[face]

    async def cookies(self, face: str, who: str) -> dict[str, str]:
        """Cookies of somebody who has logged in and shown his factors just now; none for nobody.

        `who` is a role of the consoles, or a customer's log-in; a name that ends in "?" has shown a password only.
        """
        if not who:
            return {}
        at = self.clock.now()
        since, found = self.sessions.get((face, who), (0, {}))
        if at - since > SESSION_S:
            found = await (self._customer(who) if face == "customer" else self._member(face, who))
            self.sessions[face, who] = at, found
        return found

    async def _customer(self, login: str) -> dict[str, str]:
        gateway = self.consoles.gateway
        customer = customers.by_login(gateway.reader, login)
        assert customer is not None, login
        token, row = sessions.open_session(customer.id, "password", self.clock.now())
        await gateway.book.commit(Change(puts=(row,)))
        return {SESSION_COOKIE: token}

    async def _member(self, face: str, who: str) -> dict[str, str]:
        role, half = who.rstrip("?"), who.endswith("?")
        known = self.members.get((face, who))
        if known is None:
            login = f"{face}-{role}{'-half' * half}"
            known = await self.consoles.person(face, role, session="none", login=login, name=NAMES[role], language="ko")
            self.members[face, who] = known
        token, row = console_sessions.open_session(known.person, self.clock.now(), stepped_up=not half)
        await self.consoles.gateway.book.commit(Change(puts=(row,)))
        return {f"__Host-hanbit-{face}": token}

    def order(self, amount: int = 220_000, text: str = GOODS[0][1], **changed: Any) -> str:
        """The query of a new order's address."""
        return urlencode(self.shop.order(amount, text, **changed))


NAMES = {"viewer": "이보라", "support": "정상담", "admin": "김한빛", "auditor": "최감사", "cashier": "박출납"}


@asynccontextmanager
async def staged(folder: Path, **settings: Any) -> AsyncIterator[Stage]:
    """Build it in the past and let it arrive in the present."""
    clock = LateClock(PAST_S)
    async with running_consoles(
        folder,
        clock=clock,
        open_account_url="https://bank.example/open",
        terms_url="https://bank.example/terms",
        **MAIL | settings,
    ) as consoles:
        stage = Stage(consoles, clock)
        await _parties(stage)
        stage.things["late"] = stage.order(*GOODS[1])
        for ago in (2, 1):
            await recovery.tick(consoles.gateway)
            await _sell(stage, range(len(GOODS)))
            await _half_way(stage, f"voided{ago}", f"expired{ago}")
            clock.behind_s = (ago - 1) * DAY_S or TODAY_S
            await recovery.tick(consoles.gateway)
        stage.things |= {"voided": stage.things["voided1"], "expired": stage.things["expired1"]}
        await settlement.close_days(consoles.gateway)
        await _today(stage)
        await _people(stage)
        await _at_home(stage)
        await _asked(stage)
        yield stage


MAIL = {"smtp_host": "127.0.0.1", "smtp_tls": "off", "mail_from": "no-reply@bank.example"}
"""Mail is turned on; nothing here sends it."""


async def _at_home(stage: Stage) -> None:
    """What the customer finds at home beside money: keys, a log-in from elsewhere, an address that waits; and a letter that was lost."""
    gateway, at = stage.consoles.gateway, stage.clock.now()
    customer = customers.by_login(gateway.reader, CUSTOMER)
    assert customer is not None
    keys = [("passkey", "내 휴대폰", "cGhvbmU"), ("device", "wallet", "device-key"), ("code", "wallet", "code:device-key")]
    puts = [
        enrolment.device_put(device_id=name, customer=customer.id, kind=kind, name=called, public={}, at=at - DAY_S)
        for kind, called, name in keys
    ]
    elsewhere = visits.whence("Mozilla/5.0 (Windows NT 10.0) Chrome/143.0 Safari/537.36", "203.0.113.7")
    _, session = sessions.open_session(customer.id, "password", at - 600, elsewhere, "both")
    lost: dict[str, str | int | None] = {
        "id": ids.new_token(), "customer": customer.id, "kind": "paid", "address": "hong@example.com", "language": "ko", "facts": "{}",
        "state": "given_up", "why": "refused 550", "next_at": None, "tries": 1, "stored_at": at - DAY_S, "ended_at": at,
    }  # fmt: skip
    await gateway.book.commit(Change(puts=(*puts, session, Put("mails", lost, 0))))
    await contact.set_email(gateway, login=CUSTOMER, email="hong@example.com")
    stage.things |= {"unsent": str(lost["id"]), "email_link": ids.new_token()}
    stage.things["key"] = home_keys.of_customer(gateway, customer.id)[0].handle


async def _parties(stage: Stage) -> None:
    gateway = stage.consoles.gateway
    for login, name in ((OTHER_CUSTOMER, "김영희"), (SUSPENDED_CUSTOMER, "박철수"), (LONG_CUSTOMER, LONG_NAME)):
        await operations.create_customer(gateway, login=login, name=name, password="a customer's password")
        number = f"1102233{len(login):04}001"
        made = await operations.create_account(gateway, login=login, kind="bank", number=number, password="1111")
        await operations.fund(gateway, account=made["account"], amount=LARGE if login == LONG_CUSTOMER else "300000")
    await operations.set_state(gateway, what="customer", id=SUSPENDED_CUSTOMER, state="suspended", reason="분실 신고")
    await settlement.set_fees(gateway, merchant=SHOP, basis_points="150", fixed="100", reason="계약서 3조")
    await settlement.set_payout_account(gateway, merchant=SHOP, bank="한빛은행", number="11099887766554", reason="계약서 5조")
    row = gateway.reader.one(
        "SELECT a.id FROM accounts a JOIN customers c ON c.id = a.customer WHERE c.login = ? AND a.kind = 'bank'", CUSTOMER
    )
    assert row is not None
    await operations.fund(gateway, account=row["id"], amount="2000000")
    await operations.fund_reserve(gateway, amount="1000000")


async def _browser(stage: Stage, *goods: Any, **changed: Any) -> tuple[Browser, dict[str, str]]:
    return await logged_in(stage.site, stage.consoles.http, stage.shop.order(*goods, **changed))


async def _pay(stage: Stage, amount: int, text: str, kind: str = "bank") -> dict[str, Any]:
    browser, accounts = await _browser(stage, amount, text)
    _, answer, _ = await browser.pay(accounts[kind])
    return answer | {"tid": browser.body["tid"]}


async def _sell(stage: Stage, which: range) -> None:
    for number in which:
        amount, text = GOODS[number]
        answer = await _pay(stage, amount, text, kind="card" if number == len(GOODS) - 1 else "bank")
        assert answer["state"] == "captured", answer


async def _half_way(stage: Stage, voided: str, expired: str) -> None:
    """What ends by itself as time passes: a hold that nobody confirms, an order that nobody pays."""
    stage.shop.silent = True
    stage.things[voided] = (await _pay(stage, *GOODS[3]))["payment"]
    stage.shop.silent = False
    answer = await _pay(stage, 999_999, "고급 의자", kind="emoney")
    assert answer["reason"] == "no_funds"
    stage.things[expired] = answer["payment"]


async def _today(stage: Stage) -> None:
    things, shop, gateway = stage.things, stage.shop, stage.consoles.gateway
    for minutes, number in ((55, 1), (51, 4), (50, 2), (44, 2), (38, 1), (37, 4), (36, 2), (28, 3), (22, 4), (21, 1), (14, 2)):
        stage.clock.behind_s = minutes * 60
        await _sell(stage, range(number, number + 1))
    stage.clock.behind_s = 12 * 60
    answer = await _pay(stage, *GOODS[0])
    things["captured"], things["tid"] = answer["payment"], answer["tid"]
    things["refunded"] = await _refunded(stage)
    stage.clock.behind_s = 7 * 60
    shop.objection = Objection(message=Words(ko="죄송합니다. 방금 다 팔렸습니다.", en="Sorry, it has just been sold out."))
    things["refused"] = (await _pay(stage, *GOODS[3]))["payment"]
    shop.objection = Objection("amount_mismatch")
    things["mismatch"] = (await _pay(stage, *GOODS[1]))["payment"]
    shop.objection = None
    browser, _ = await _browser(stage, *GOODS[2])
    _, answer, _ = await browser.cancel()
    things["cancelled_unopened"] = str(answer.get("payment") or "")
    stage.clock.behind_s = 3 * 60
    browser, accounts = await _browser(stage, 999_999, "고급 의자")
    await browser.pay(accounts["emoney"])
    _, answer, _ = await browser.cancel()
    things["cancelled"] = answer["payment"]
    browser, accounts = await _browser(stage, 999_999, "원목 책상")
    for _ in range(ATTEMPTS_MAX):
        _, answer, _ = await browser.pay(accounts["emoney"])
    things["declined"] = answer["payment"]
    things["withdrawn"] = await _withdrawn(stage)
    stage.clock.behind_s = 0
    await _acknowledged(stage)
    shop.silent = True
    things["in_progress"] = (await _pay(stage, *GOODS[4]))["payment"]
    shop.silent = False
    answer = await _pay(stage, 999_999, "고급 의자", kind="emoney")
    things["open"] = answer["payment"]
    things["altered"] = urlencode(shop.order() | {"AMOUNT": "1"})
    shop.deaf = True
    await _pay(stage, *GOODS[2])
    shop.deaf = False
    row = gateway.reader.one("SELECT hash FROM outbox WHERE next_at IS NOT NULL")
    assert row is not None
    things["untold"] = row["hash"]
    things |= {
        "shop": SHOP,
        "nowhere": ids.new_token(),
        "nobody": ids.digest(b"nobody"),
        "day": str(settlement.days(gateway.reader)[0].day),
    }
    things["reference"] = payouts.of_state(gateway.reader, "instructed")[0].reference
    row = gateway.reader.one("SELECT kid FROM certificates WHERE urn = ? AND purpose = 'line'", gateway.settings.merchant_urn(SHOP))
    assert row is not None
    things["certificate"] = row["kid"]
    for row in gateway.reader.all("SELECT id, login FROM customers"):
        things[f"customer_{row['login']}"] = row["id"]
    for row in gateway.reader.all("SELECT a.id, a.kind FROM accounts a JOIN customers c ON c.id = a.customer WHERE c.login = ?", CUSTOMER):
        things[f"account_{row['kind']}"] = row["id"]


async def _acknowledged(stage: Stage) -> None:
    """The shop has acknowledged all that it was told so far."""
    gateway, at = stage.consoles.gateway, stage.clock.now()
    rows = gateway.reader.all("SELECT * FROM outbox WHERE next_at IS NOT NULL")
    known = [{name: row[name] for name in row.keys() if name != "version"} | {"next_at": None, "acknowledged_at": at} for row in rows]  # noqa: SIM118 - a database row
    puts = (Put("outbox", one, row["version"]) for one, row in zip(known, rows, strict=True))
    await gateway.book.commit(Change(puts=tuple(puts)))


async def _refunded(stage: Stage) -> str:
    answer = await _pay(stage, *GOODS[0])
    await _cancel(stage, answer["payment"], Money(20_000, "KRW"), "부속품이 빠져 있었습니다")
    return str(answer["payment"])


async def _withdrawn(stage: Stage) -> str:
    answer = await _pay(stage, 999_999, "고급 의자", kind="emoney")
    await _cancel(stage, answer["payment"], Money(999_999, "KRW"), "손님이 주문을 바꾸었습니다")
    return str(answer["payment"])


async def _cancel(stage: Stage, number: str, money: Money, reason: str) -> None:
    await cancelled_by_shop(stage.site, number, money.amount_minor, reason)


async def cancelled_by_shop(site: Site, number: str, amount: int, reason: str) -> None:
    """C1 of the shop: the whole of a payment, or a part of what was paid."""
    gateway, shop = site.gateway, site.shop
    payment = payments.by_id(gateway.reader, number)
    assert payment is not None
    role = Canceller(shop.merchant.signer, shop.merchant.gateway, shop.merchant.trust)
    typs = [typ for typ, _ in evidence.of_payment(gateway.reader, SHOP, payment.tid)]
    kept = evidence.stored_of_payment(gateway.reader, SHOP, payment.tid)
    link = kept[typs.index(Settled.TYP if Settled.TYP in typs else Order.TYP)].hash
    request = role.make_cancel(
        cancellation=ids.new_token(),
        payment=number,
        tid=payment.tid,
        amount=Money(amount, payment.currency),
        remaining=Money(payment.amount - payment.refunded, payment.currency),
        reason=reason,
        prev=link,
        at=gateway.clock.now(),
    )
    await cancellation_flow.cancel(gateway, SHOP, request.compact)


async def _asked(stage: Stage) -> None:
    """What people asked their shop from the console: done, refused and still waiting; and what its program shows of its own book."""
    shop, gateway, at = stage.shop, stage.consoles.gateway, stage.clock.now()
    who = stage.members["merchant", "cashier"].person
    payment = payments.by_id(gateway.reader, (await _pay(stage, *GOODS[0]))["payment"])
    assert payment is not None
    stage.things |= {"asked": payment.id, "looked": payment.tid}
    for result, amount, reason in (
        ("done", 20_000, "색상이 달라 일부 환불"),
        ("over_limit", 150_000, "고객 변심"),
        ("", 50_000, "배송 지연 보상"),
    ):
        shop.result, shop.up = result, bool(result)
        money = Money(amount, "KRW")
        await console_requests.ask_refund(gateway, who, payment, request=ids.new_token(), amount=money, reason=reason)
    shop.result, shop.up = "done", True
    why = "the gateway says: 20000 refunded, 200000 left; this book has 0 refunded, 220000 left"
    shop.looks = (
        Look(kind="cancellation", tid=payment.tid, state="confirmed", why=why, since=at - 60),
        Look(kind="order", tid=ids.new_token(), state="confirmed", why="", since=at - DAY_S),
    )
    told: dict[str, Any] = {"endpoint": "shop", "tid": payment.tid, "created_at": at - 300}
    shop.callbacks = (
        CallBack(**told, delivery="evt_1", type="order.cancelled", state="waiting", tries=2, next_at=at + 120, last_status=500),
        CallBack(**told, delivery="evt_2", type="order.settled", state="delivered", tries=1, last_status=204),
        CallBack(**told, delivery="evt_3", type="order.closed", state="given_up", tries=20, last_error="ClientConnectorError"),
    )


async def _people(stage: Stage) -> None:
    for face, roles in (("operator", ("viewer", "support", "admin", "auditor")), ("merchant", ("viewer", "cashier", "admin"))):
        for role in roles:
            await stage.cookies(face, role)
            stage.things[f"{face}_{role}"] = person = stage.members[face, role].person.id
            row = stage.consoles.gateway.reader.one("SELECT id FROM people_factors WHERE person = ?", person)
            assert row is not None
            stage.things[f"{face}_{role}_factor"] = row["id"]
        made = await staff.invite_staff(
            stage.consoles.gateway,
            login=f"{face}-new",
            name="한새롬",
            role="admin",
            merchant=SHOP if face == "merchant" else "",
            language="ko",
        )
        stage.things[f"{face}_set_up"] = token_of(made["link"])
    made = await forgotten.make_password_link(stage.consoles.gateway, login=CUSTOMER, reason="신분증 확인")
    stage.things["password_link"] = made["link"].rpartition("/")[2]
    await _proposals(stage)


async def _proposals(stage: Stage) -> None:
    """Two wait for a second person, one was refused."""
    gateway, account = stage.consoles.gateway, stage.things["account_bank"]
    support, admin = (stage.members["operator", role].person.actor for role in ("support", "admin"))
    for amount, reason in (("50000", "창구 입금 영수증 118번"), ("70000", "창구 입금 영수증 119번")):
        stage.things["proposal"] = await proposals.propose_fund(gateway, support, account=account, amount=amount, reason=reason)
    refused = proposals.waiting(gateway.reader)[0]
    await proposals.refuse(gateway, admin, refused, reason="영수증이 없습니다")
    await proposals.propose_reserve(gateway, support, amount="300000", currency="KRW", reason="준비금 보충")
