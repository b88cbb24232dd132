"""What the operator's staff does: open customers, accounts and merchants, fund, suspend, enrol, revoke; each act one Change with its audit.

`COMMANDS` is the list by which `hanbit` commands reach a running server; every argument is text or a whole number.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hanbit.crypto.passwords import check_new
from hanbit.db.change import Change, Put, Require, Value
from hanbit.db.reading import Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, NotFound, WrongState
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money, parse_amount, parse_money
from hanbit.ledger import rules
from hanbit.ledger.balances import available, lent
from hanbit.ledger.chart import KINDS, OPERATOR_ACCOUNTS, operator_account
from hanbit.parties import accounts, customers, enrolment, merchants
from hanbit.parties.customers import ledger_account
from hanbit.payments import (
    appearance,
    bank_limits,
    checkpoints,
    contact,
    forgotten,
    halt,
    handed_over,
    lines,
    merchant_limits,
    own_keys,
    payouts,
    revocation,
    settlement,
    staff,
)
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.refund import allow_until, refund_by
from hanbit.payments.sign_in import act
from hanbit.payments.states import State

Result = dict[str, Any]
ACTOR = "operator"
REASON_MAX = 200
ALLOWANCE_MAX_S = 366 * 86_400
"""How far ahead the operator may move a refund's deadline."""


@dataclass(frozen=True, slots=True)
class Party:
    """A table whose rows can be suspended and made active again."""

    table: str
    key: str


SUSPENDABLE = {"customer": Party("customers", "id"), "account": Party("accounts", "id"), "merchant": Party("merchants", "id")}


async def create_customer(
    gateway: Gateway, by: str = ACTOR, *, login: str, name: str, password: str, language: str = "ko", reason: str = ""
) -> Result:
    """A customer with a log-in password; the login name must be new."""
    if customers.by_login(gateway.reader, login) is not None:
        raise Conflict(f"login {login} exists")
    check_new(password, login=login)
    hashed = await gateway.passwords.hash(password)
    put = customers.new_customer(login=login, name=name, password_hash=hashed, language=language, at=gateway.clock.now())
    await _commit(gateway, by, f"create customer {put.row['id']}", put, reason or "ok")
    return {"customer": put.row["id"], "login": login}


async def create_account(
    gateway: Gateway,
    by: str = ACTOR,
    *,
    login: str,
    kind: str,
    number: str,
    password: str,
    currency: str = "",
    credit_limit: str = "0",
    reason: str = "",
) -> Result:
    """An account of a customer (bank, card or emoney) with its own password; a card may have a credit line."""
    customer = _customer(gateway, login)
    put, ledger = accounts.new_account(
        customer=str(customer["id"]),
        kind=kind,
        number=number,
        currency=currency or gateway.settings.currency,
        password_hash=await gateway.passwords.hash(password),
        credit_limit=_limit(credit_limit),
        pepper=gateway.keyring.pepper,
        at=gateway.clock.now(),
    )
    known = gateway.reader.one("SELECT 1 FROM accounts WHERE number_mac = ?", put.row["number_mac"])
    if known is not None:
        raise Conflict("an account with this number exists")
    await gateway.book.commit(
        Change(puts=(put,), appends=(ledger, act(gateway.clock.now(), by, f"create account {put.row['id']}", reason or "ok")))
    )
    return {"account": put.row["id"], "masked": put.row["masked"], "kind": kind}


async def fund(gateway: Gateway, by: str = ACTOR, *, account: str, amount: str, id: str = "") -> Result:  # noqa: A002 - the entry's own name
    """Pay cash into an account. With the same id and content again nothing more happens; other content under it is refused."""
    row = gateway.reader.one("SELECT id, currency FROM accounts WHERE id = ?", account)
    if row is None:
        raise NotFound(f"no account {account}")
    return await _pay_in(gateway, by, account, parse_money(amount, row["currency"]), entry_id=f"fund:{id or ids.new_token()}")


async def fund_reserve(gateway: Gateway, by: str = ACTOR, *, amount: str, currency: str = "", id: str = "") -> Result:  # noqa: A002 - the entry's own name
    """Set cash aside for refunds that a merchant's account cannot cover; the same id again changes nothing more."""
    await open_operator_accounts(gateway)  # a book that was made before there was a reserve has no account for it
    money = parse_money(amount, currency or gateway.settings.currency)
    account = operator_account("reserve", money.currency)
    return await _pay_in(gateway, by, account, money, entry_id=f"reserve:{id or ids.new_token()}")


async def reserve(gateway: Gateway) -> Result:
    """What is left of the reserve in each currency, and what merchants owe to it."""
    left = ((currency, available(gateway.reader, operator_account("reserve", currency))) for currency in CURRENCY_EXPONENTS)
    owed = await lent(gateway.reader)
    return {
        "reserve": [{"currency": currency, "available": amount} for currency, amount in left if amount],
        "lent": [{"account": account, "owes": amount} for account, amount in owed.items()],
    }


async def allow_refund(gateway: Gateway, by: str = ACTOR, *, merchant: str, tid: str, until: str, reason: str) -> Result:
    """Let a captured payment be refunded until then (seconds since 1970), although its order's deadline has passed; kept in the audit."""
    payment = payments.find(gateway.reader, merchant, tid)
    if payment is None:
        raise NotFound(f"no payment {merchant} {tid}")
    if payment.state != State.CAPTURED:
        raise WrongState(f"the payment is {payment.state}: there is nothing to refund")
    last = refund_by(gateway, payment)
    if last is None:
        raise BadInput("this order has no refund deadline: it can be refunded at any time")
    at, until_s = gateway.clock.now(), parse_amount(until)
    if not at < until_s <= at + ALLOWANCE_MAX_S:
        raise BadInput("until: in the future, and within a year")
    if not 1 <= len(reason.strip()) <= REASON_MAX or not reason.isprintable():
        raise BadInput(f"reason: 1 to {REASON_MAX} printable characters")
    put = allow_until(gateway, payment, until_s)
    audit = act(at, by, f"allow refund until {until_s}", reason.strip(), merchant, tid)
    await gateway.book.commit(Change(puts=(put,), appends=(audit,)))
    return {"payment": payment.id, "merchant": merchant, "tid": tid, "refund_by": last, "allowed_until": until_s}


async def _pay_in(gateway: Gateway, by: str, account: str, money: Money, *, entry_id: str) -> Result:
    """Cash → an account, once for each entry id."""
    if _is_funded(gateway, entry_id, account, money):
        return {"entry": entry_id, "account": account, "amount": money.text}
    entry = rules.transfer(id=entry_id, debit=operator_account("cash", money.currency), credit=account, money=money)
    audit = act(gateway.clock.now(), by, f"fund {account}", entry_id)
    try:
        await gateway.book.commit(Change(entries=(entry,), appends=(audit,)))
    except Conflict:  # the same command beside this one
        if not _is_funded(gateway, entry_id, account, money):
            raise
    return {"entry": entry_id, "account": account, "amount": money.text}


def _is_funded(gateway: Gateway, entry_id: str, account: str, money: Money) -> bool:
    """Whether this very entry is there; Conflict if it has other content."""
    sql = "SELECT e.amount, p.account FROM entries e JOIN postings p ON p.entry = e.number AND p.side = 'C' WHERE e.id = ?"
    known = gateway.reader.one(sql, entry_id)
    if known is not None and (known["amount"], known["account"]) != (money.amount_minor, account):
        raise Conflict(f"entry {entry_id} has other content")
    return known is not None


async def create_merchant(
    gateway: Gateway,
    by: str = ACTOR,
    *,
    id: str,  # noqa: A002 - the registry's own name
    name: str,
    telephone: str,
    return_url: str,
    orders: str = "signed",
    currency: str = "",
    line_mode: str = "vpn",
    line_address: str = "",
    post_url: str = "",
    reason: str = "",
) -> Result:
    """A merchant with a one-time enrolment code for its keys; `line_address` is the one from which a leased line comes."""
    if merchants.by_id(gateway.reader, id) is not None:
        raise Conflict(f"merchant {id} exists")
    line = lines.read(gateway, id, mode=line_mode, address=line_address, post_url=post_url)
    at = gateway.clock.now()
    put, ledger = merchants.new_merchant(
        merchant_id=id,
        name=name,
        telephone=telephone,
        orders=orders,
        currency=currency or gateway.settings.currency,
        return_url=return_url,
        line=line,
        at=at,
    )
    code, enrol = enrolment.new_code(gateway.settings.merchant_urn(id), at)
    await gateway.book.commit(Change(puts=(put, enrol), appends=(ledger, act(at, by, f"create merchant {id}", reason or "ok", id))))
    return {"merchant": id, "code": code}


async def enrol_code(gateway: Gateway, by: str = ACTOR, *, login: str = "", merchant: str = "", reason: str = "") -> Result:
    """A fresh one-time code: for a customer's wallet, or for a merchant's keys.

    NotAllowed for whoever has made a link for a new log-in password of this customer within a day.
    """
    puts: tuple[Put, ...] = ()
    requires: tuple[Require, ...] = ()
    if login:
        customer = str(_customer(gateway, login)["id"])
        urn = ids.urn(gateway.settings.operator, "customer", customer)
        noted, requires = handed_over.note(gateway, by, customer, "device")
        puts = (noted,)
    elif merchants.by_id(gateway.reader, merchant) is not None:
        urn = gateway.settings.merchant_urn(merchant)
    else:
        raise NotFound(f"no merchant {merchant}")
    code, put = enrolment.new_code(urn, gateway.clock.now())
    audit = act(gateway.clock.now(), by, f"enrolment code for {urn}", reason or "ok", merchant or None)
    await gateway.book.commit(Change(requires=requires, puts=(put, *puts), appends=(audit,)))
    return {"code": code, "for": urn}


async def set_state(gateway: Gateway, by: str = ACTOR, *, what: str, id: str, state: str, reason: str = "") -> Result:  # noqa: A002 - the registry's own name
    """Suspend a customer, account or merchant, or make it active again; takes effect with the next decision under the book lock."""
    if what not in SUSPENDABLE or state not in ("active", "suspended"):
        raise BadInput("what: customer, account or merchant; state: active or suspended")
    party = SUSPENDABLE[what]
    key = str(_customer(gateway, id)["id"]) if what == "customer" else id  # customers are named by their login
    row = gateway.reader.one(f"SELECT * FROM {party.table} WHERE {party.key} = ?", key)  # noqa: S608 - a name from our own table
    if row is None:
        raise NotFound(f"no {what} {id}")
    put = Put(party.table, _row(row) | {"state": state}, row["version"])
    await _commit(gateway, by, f"{state} {what} {key}", put, reason or "-", merchant=key if what == "merchant" else None)
    return {what: id, "state": state}


async def revoke(gateway: Gateway, by: str = ACTOR, *, kid: str, reason: str = "") -> Result:
    """Revoke a certificate at once: the registry is the immediate switch."""
    row = gateway.reader.one("SELECT * FROM certificates WHERE kid = ?", kid)
    if row is None:
        raise NotFound(f"no certificate {kid}")
    if row["revoked_at"] is None:
        _, _, operator, role, *name = row["urn"].split(":")
        merchant = name[0] if role == "merchant" and operator == gateway.settings.operator else None
        # By the book's time: what was kept while this waited for its turn was signed before it.
        revoked = Put("certificates", _row(row), row["version"], stamped="revoked_at")
        await _commit(gateway, by, f"revoke {kid}", revoked, reason or "-", merchant=merchant)
        if merchant is not None:
            gateway.line.drop(merchant, "revoked")  # it dials again with what it has; a revoked line certificate is not admitted
        await own_keys.renew_due(gateway)  # one of the gateway's own is replaced at once
        authority = revocation.authority_of(row["urn"])
        if authority is not None:
            await revocation.publish(gateway, authority)
    return {"kid": kid, "urn": row["urn"], "purpose": row["purpose"]}


async def list_parties(gateway: Gateway, *, what: str) -> Result:
    """Customers, accounts, merchants or certificates, newest first (of one second by id, on either engine), at most a thousand."""
    queries = {
        "customers": "SELECT id, login, name, state FROM customers ORDER BY created_at DESC, id LIMIT 1000",
        "accounts": "SELECT a.id, c.login, a.kind, a.masked, a.currency, a.state, l.credits_posted - l.debits_posted AS balance, "
        "l.debits_pending AS held FROM accounts a JOIN customers c ON c.id = a.customer JOIN ledger_accounts l ON l.id = a.id "
        "ORDER BY a.created_at DESC, a.id LIMIT 1000",
        "merchants": "SELECT id, name, telephone, state, orders, currency, return_url, line_mode FROM merchants "
        "ORDER BY created_at DESC, id LIMIT 1000",
        "certificates": "SELECT kid, urn, purpose, not_after, revoked_at FROM certificates ORDER BY issued_at DESC, kid LIMIT 1000",
    }
    if what not in queries:
        raise BadInput("customers, accounts, merchants or certificates")
    return {what: [_row(row) for row in await gateway.reader.scan(queries[what])]}


async def open_operator_accounts(gateway: Gateway) -> None:
    """The operator's own ledger accounts in every currency that a book may be kept in; those that are there already stay as they are."""
    known = {row[0] for row in gateway.reader.all("SELECT id FROM ledger_accounts WHERE id >= 'operator:' AND id < 'operator;'")}
    rows = tuple(
        ledger_account(account, f"operator_{name}", currency, limited=KINDS[f"operator_{name}"].limited)
        for currency in CURRENCY_EXPONENTS
        for name in OPERATOR_ACCOUNTS
        if (account := operator_account(name, currency)) not in known
    )
    if rows:
        await gateway.book.commit(Change(appends=rows))


COMMANDS: dict[str, Callable[..., Awaitable[Result]]] = {
    command.__name__: command
    for command in (
        create_customer,
        create_account,
        fund,
        fund_reserve,
        reserve,
        allow_refund,
        create_merchant,
        enrol_code,
        contact.set_email,
        set_state,
        revoke,
        list_parties,
        forgotten.make_password_link,
        bank_limits.set_account_limits,
        merchant_limits.set_merchant_limits,
        appearance.show_brand,
        appearance.set_brand,
        staff.invite_staff,
        staff.renew_staff_link,
        staff.set_staff_state,
        staff.confirm_staff,
        staff.list_staff,
        lines.set_line,
        lines.lines,
        halt.resume_payments,
        checkpoints.sign_checkpoint,
        settlement.close_days,
        settlement.show_day,
        settlement.show_statements,
        settlement.trial_balance,
        settlement.set_fees,
        settlement.set_payout_account,
        payouts.list_payouts,
        payouts.instructions,
        payouts.confirm_payout,
        payouts.fail_payout,
        payouts.reconcile_payouts,
    )
}


def _customer(gateway: Gateway, login: str) -> Row:
    row = gateway.reader.one("SELECT id FROM customers WHERE login = ?", login)
    if row is None:
        raise NotFound(f"no customer {login}")
    return row


def _row(row: Row) -> dict[str, Value]:
    return {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row


def _limit(text: str) -> int:
    return 0 if text in ("", "0") else parse_money(text, "KRW").amount_minor


async def _commit(gateway: Gateway, by: str, what: str, put: Put, reason: str = "ok", *, merchant: str | None = None) -> None:
    audit = act(gateway.clock.now(), by, what, reason, merchant)
    await gateway.book.commit(Change(puts=(put,), appends=(audit,)))
