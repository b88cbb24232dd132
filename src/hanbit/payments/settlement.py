"""Days are closed and merchants are settled: what they were paid and gave back, what it cost, what is on its way to their bank.

A day closes once, after it has ended, and days close in order:

 1. an act in the audit moves the book's time past the day's end: from then on no entry can be of that day, wherever it comes from
 2. the day's entries are those behind the day before, up to the last one before its end; what is captured later is the next day's
 3. each merchant is settled by one Change: what it owes the reserve, then fees, then the payout, and the statement of it
 4. when no merchant is left the day is closed

A crash in between leaves a day `closing`, and the next attempt goes on where that one stopped: entries and statements have the day and the
account in their names, so none is written twice. What is taken is never more than what the merchant had of that day and before and still
has: money that came in since is the next day's.
"""

import asyncio
from datetime import date, timedelta
from typing import Any

import msgspec

from hanbit.db.change import Append, Change, Put, Require, Stale, Value
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.kernel.days import begins_at, day_of, read_day
from hanbit.kernel.errors import BadInput, Conflict, Declined, NotFound, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.ledger import balances, rules
from hanbit.ledger.chart import operator_account
from hanbit.ledger.entry import CAPTURE, REFUND, Entry
from hanbit.ledger.journal import first_from
from hanbit.parties import merchants
from hanbit.parties import terms as agreed
from hanbit.parties.customers import ledger_account
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import check_taken
from hanbit.payments.sign_in import act

AT_ONCE = 32
"""Merchants that are settled beside one another."""
PAGE = 500
STALE_TRIES = 3
STATEMENTS_MAX = 400
ACTOR = "operator"
CLOSING, CLOSED = "closing", "closed"


class Day(msgspec.Struct, frozen=True):
    """A day that is closing or closed: its entries are those from `first_entry` to `last_entry`."""

    day: str
    version: int
    state: str
    first_entry: int
    last_entry: int
    closed_by: str
    begun_at: int
    closed_at: int | None


class Statement(msgspec.Struct, frozen=True):
    """A merchant's day, in minor units of its currency.

    `opening` and `closing` are the account's balances before and behind the day's entries; `captured − refunded` of the difference is
    payments, the rest what earlier days took, what the reserve lent and what came back from a bank. `fees` are those of the day's captures,
    `fees_taken` what was taken for them and for earlier ones, `fees_owed` what is still open; `repaid` went to the reserve.
    """

    merchant: str
    currency: str
    day: str
    first_entry: int
    last_entry: int
    opening: int
    captures: int
    captured: int
    refunds: int
    refunded: int
    closing: int
    fee_basis_points: int
    fee_fixed_minor: int
    fees: int
    fees_taken: int
    fees_owed: int
    repaid: int
    paid_out: int
    at: int

    @property
    def net(self) -> int:
        """What the day was worth: gross less refunds and fees; it may be below zero."""
        return self.captured - self.refunded - self.fees

    def row(self) -> dict[str, Any]:
        """For people: the figures, the net among them."""
        return msgspec.structs.asdict(self) | {"net": self.net}


_DAYS = f"SELECT {columns('days', Day)} FROM days "  # noqa: S608 - names of our own
_STATEMENTS = f"SELECT {columns('settlements', Statement)} FROM settlements "  # noqa: S608 - names of our own


# --- what others read ----------------------------------------------------------------------------------------------------------------


def find_day(reader: Reader, day: str) -> Day | None:
    """A day that is closing or closed."""
    row = reader.one(_DAYS + "WHERE day = ?", day)
    return None if row is None else Day(*row)


def last_day(reader: Reader) -> Day | None:
    """The last day that was begun to be closed."""
    row = reader.one(_DAYS + "ORDER BY day DESC LIMIT 1")
    return None if row is None else Day(*row)


def days(reader: Reader, *, before: str = "9999", limit: int = 50) -> list[Day]:
    """Days, the newest first, those before a day."""
    return [Day(*row) for row in reader.all(_DAYS + "WHERE day < ? ORDER BY day DESC LIMIT ?", before, limit)]


def statement(reader: Reader, merchant: str, currency: str, day: str) -> Statement | None:
    """One merchant's day."""
    row = reader.one(_STATEMENTS + "WHERE merchant = ? AND currency = ? AND day = ?", merchant, currency, day)
    return None if row is None else Statement(*row)


def statements_of_merchant(reader: Reader, merchant: str, currency: str, *, before: str = "9999", limit: int = 50) -> list[Statement]:
    """A merchant's days, the newest first, those before a day."""
    sql = _STATEMENTS + "WHERE merchant = ? AND currency = ? AND day < ? ORDER BY day DESC LIMIT ?"
    return [Statement(*row) for row in reader.all(sql, merchant, currency, before, min(limit, STATEMENTS_MAX))]


def statements_of_day(reader: Reader, day: str, *, after: str = "", limit: int = 50) -> list[Statement]:
    """The merchants of a day in the order of their ids, those behind one."""
    sql = _STATEMENTS + "WHERE day = ? AND merchant > ? ORDER BY merchant LIMIT ?"
    return [Statement(*row) for row in reader.all(sql, day, after, min(limit, STATEMENTS_MAX))]


async def sums_of_day(reader: Reader, day: str) -> list[dict[str, Any]]:
    """What a day came to in each currency."""
    sql = (
        "SELECT currency, count(*) AS merchants, sum(captured) AS captured, sum(refunded) AS refunded, sum(fees) AS fees, "
        "sum(fees_taken) AS fees_taken, sum(repaid) AS repaid, sum(paid_out) AS paid_out FROM settlements WHERE day = ? "
        "GROUP BY currency ORDER BY currency"
    )
    names = ("merchants", "captured", "refunded", "fees", "fees_taken", "repaid", "paid_out")
    return [{"currency": row["currency"]} | {name: int(row[name]) for name in names} for row in await reader.scan(sql, day)]


def next_day(gateway: Gateway) -> date | None:
    """The day that must close next; None if nothing was ever posted. It may not have ended yet."""
    last = last_day(gateway.reader)
    if last is not None:
        day = read_day(last.day)
        return day if last.state == CLOSING else day + timedelta(days=1)
    first = gateway.reader.one("SELECT at FROM entries ORDER BY number LIMIT 1")
    return None if first is None else day_of(int(first["at"]), gateway.settings.zone)


# --- closing ---------------------------------------------------------------------------------------------------------------------------


async def close_days(gateway: Gateway, by: str = ACTOR, *, through: str = "", reason: str = "") -> dict[str, Any]:
    """Close every day that has ended and is not closed, in order, up to this one (yesterday); those that were closed and their sums."""
    check_taken(gateway)
    yesterday = day_of(gateway.clock.now(), gateway.settings.zone) - timedelta(days=1)
    last = read_day(through) if through else yesterday
    if last > yesterday:
        raise WrongState(f"{last} has not ended: the last day that can be closed is {yesterday}")
    if "closing a day" in gateway.deciding:
        raise Conflict("a day is being closed at this moment")
    gateway.deciding.add("closing a day")
    closed: list[dict[str, Any]] = []
    try:
        while (day := next_day(gateway)) is not None and day <= last:
            await _close(gateway, day, by, reason or "-")
            closed += [{"day": str(day)} | sums for sums in await sums_of_day(gateway.reader, str(day)) or [{}]]
    finally:
        gateway.deciding.discard("closing a day")
    return {"closed": closed}


async def _close(gateway: Gateway, day: date, by: str, reason: str) -> None:
    await open_accounts(gateway)
    begun = find_day(gateway.reader, str(day)) or await _begin(gateway, day, by, reason)
    after = ""
    sql = "SELECT id, currency FROM ledger_accounts WHERE id > ? AND id >= 'merchant:' AND id < 'merchant;' ORDER BY id LIMIT ?"
    while page := gateway.reader.all(sql, after, PAGE):
        for start in range(0, len(page), AT_ONCE):
            group = page[start : start + AT_ONCE]
            work = (_settle(gateway, begun, row["id"].split(":")[1], row["currency"], row["id"]) for row in group)
            for failed in await asyncio.gather(*work, return_exceptions=True):  # none is left at work behind our back
                if failed is not None:
                    raise failed
        after = page[-1]["id"]
    standing = find_day(gateway.reader, str(day))
    if standing is not None and standing.state == CLOSING:
        at = gateway.clock.now()
        put = Put("days", _row(standing) | {"state": CLOSED, "closed_at": at}, standing.version)
        await gateway.book.commit(Change(puts=(put,), appends=(act(at, by, f"closed day {day}", reason),)))


async def _begin(gateway: Gateway, day: date, by: str, reason: str) -> Day:
    """Steps 1 and 2: behind the act in the audit the day's last entry is settled for ever."""
    at, end = gateway.clock.now(), begins_at(day + timedelta(days=1), gateway.settings.zone)
    assert at >= end, day
    await gateway.book.commit(Change(appends=(act(at, by, f"close day {day}", reason),)))
    before = last_day(gateway.reader)
    first = 1 if before is None else before.last_entry + 1
    behind = max(first, first_from(gateway.reader.connection, end))
    begun = Day(str(day), 0, CLOSING, first, behind - 1, by, at, None)
    await gateway.book.commit(Change(puts=(Put("days", _row(begun), 0),)))
    return msgspec.structs.replace(begun, version=1)


async def _settle(gateway: Gateway, day: Day, merchant: str, currency: str, account: str) -> None:
    """Step 3 for one merchant; nothing if it is done, or if there is nothing to say."""
    for _ in range(STALE_TRIES):
        if statement(gateway.reader, merchant, currency, day.day) is not None:
            return
        found = await _reckon(gateway, day, merchant, currency, account)
        if found is None:
            return
        try:
            await gateway.book.commit(_change(gateway, found, account))
        except (Stale, Conflict, Declined):  # settled beside us, or a refund has taken of what we reckoned with
            continue
        return
    raise Unavailable(f"{merchant} is being changed at this moment: close the day again, it goes on where it stopped")


async def _reckon(gateway: Gateway, day: Day, merchant: str, currency: str, account: str) -> Statement | None:
    reader = gateway.reader
    terms = agreed.of_merchant(reader, merchant)
    known = merchants.by_id(reader, merchant)
    # What it has is read before what came later: money that arrives in between is then left where it is.
    has = balances.available(reader, account)
    later = await reader.scan(
        "SELECT coalesce(sum(posted), 0) FROM postings WHERE account = ? AND entry > ? AND side = 'C' AND posted > 0",
        *(account, day.last_entry),
    )
    cap = max(0, has - int(later[0][0]))
    opening, closing = _balance(reader, account, day.first_entry - 1), _balance(reader, account, day.last_entry)
    moved = await reader.scan(
        "SELECT e.kind, p.posted, count(*) AS times FROM postings p JOIN entries e ON e.number = p.entry WHERE p.account = ? "
        "AND p.entry BETWEEN ? AND ? AND p.posted > 0 AND e.kind IN (?, ?) GROUP BY e.kind, p.posted",
        *(account, day.first_entry, day.last_entry, CAPTURE, REFUND),
    )
    captures = [(int(row["posted"]), int(row["times"])) for row in moved if row["kind"] == CAPTURE]
    refunds = [(int(row["posted"]), int(row["times"])) for row in moved if row["kind"] == REFUND]
    owed_before = next((s.fees_owed for s in statements_of_merchant(reader, merchant, currency, before=day.day, limit=1)), 0)
    if not (captures or refunds or opening or closing or owed_before or cap):
        return None
    fees = sum(terms.fee_of(amount) * times for amount, times in captures)
    repaid = min(await balances.owed_to_reserve(reader, merchant, account), cap)
    fees_taken = min(owed_before + fees, cap - repaid)
    payable = terms.payout_sealed is not None and known is not None and known.state == "active"
    return Statement(
        merchant=merchant,
        currency=currency,
        day=day.day,
        first_entry=day.first_entry,
        last_entry=day.last_entry,
        opening=opening,
        captures=sum(times for _, times in captures),
        captured=sum(amount * times for amount, times in captures),
        refunds=sum(times for _, times in refunds),
        refunded=sum(amount * times for amount, times in refunds),
        closing=closing,
        fee_basis_points=terms.fee_basis_points,
        fee_fixed_minor=terms.fee_fixed_minor,
        fees=fees,
        fees_taken=fees_taken,
        fees_owed=owed_before + fees - fees_taken,
        repaid=repaid,
        paid_out=cap - repaid - fees_taken if payable else 0,
        at=gateway.clock.now(),
    )


def _change(gateway: Gateway, found: Statement, account: str) -> Change:
    """The statement with the entries that it speaks of."""
    currency, day = found.currency, found.day
    entries: list[Entry] = []
    puts = [Put("settlements", msgspec.structs.asdict(found), 0)]
    requires: tuple[Require, ...] = ()
    if found.repaid:
        reserve = operator_account("reserve", currency)
        entries.append(rules.repay(account=account, day=day, reserve=reserve, money=Money(found.repaid, currency)))
    if found.fees_taken:
        fees = operator_account("fees", currency)
        entries.append(rules.fee(account=account, day=day, fees=fees, money=Money(found.fees_taken, currency)))
    if found.paid_out:
        terms = agreed.of_merchant(gateway.reader, found.merchant)
        payouts = operator_account("payouts", currency)
        entries.append(rules.payout(account=account, day=day, payouts=payouts, money=Money(found.paid_out, currency)))
        puts.append(_payout(found, terms))
        # Reckoning takes its time: nobody is paid who was suspended meanwhile, nor where he is paid no more.
        requires = (
            Require("merchants", found.merchant, "state", "active", Stale("merchants")),
            Require("terms", found.merchant, "version", terms.version, Stale("terms")),
        )
    return Change(puts=tuple(puts), requires=requires, entries=tuple(entries))


def _payout(found: Statement, terms: agreed.Terms) -> Put:
    if terms.payout_masked is None or terms.payout_sealed is None:
        raise Stale("terms")
    row: dict[str, Value] = {
        "reference": ids.new_reference(),
        "merchant": found.merchant,
        "currency": found.currency,
        "day": found.day,
        "amount": found.paid_out,
        "account_masked": terms.payout_masked,
        "account_sealed": terms.payout_sealed,
        "state": "instructed",
        "made_at": found.at,
        "decided_by": None,
        "reason": None,
        "decided_at": None,
    }
    return Put("payouts", row, 0)


async def open_accounts(gateway: Gateway) -> None:
    """The operator's accounts for fees and payouts in the currencies of merchants; a book that is older has none."""
    sql = "SELECT DISTINCT currency FROM merchants"
    wanted = [(name, row["currency"]) for row in await gateway.reader.scan(sql) for name in ("fees", "payouts", "reserve", "cash")]
    missing: list[Append] = []
    for name, currency in wanted:
        account = operator_account(name, currency)
        if gateway.reader.one("SELECT 1 FROM ledger_accounts WHERE id = ?", account) is None:
            missing.append(ledger_account(account, f"operator_{name}", currency, limited=name != "cash"))
    if missing:
        await gateway.book.commit(Change(appends=tuple(missing)))


def _balance(reader: Reader, account: str, number: int) -> int:
    """The balance behind this entry."""
    sql = "SELECT balance FROM postings WHERE account = ? AND entry <= ? AND posted > 0 ORDER BY entry DESC, leg DESC LIMIT 1"
    row = reader.one(sql, account, number)
    return 0 if row is None else int(row["balance"])


def _row(day: Day) -> dict[str, Value]:
    row = msgspec.structs.asdict(day)
    del row["version"]
    return row


# --- what the operator's staff asks ----------------------------------------------------------------------------------------------------


async def show_day(gateway: Gateway, *, day: str) -> dict[str, Any]:
    """A closed day: its sums, and the statement of each merchant (the first four hundred)."""
    found = find_day(gateway.reader, str(read_day(day)))
    if found is None:
        raise NotFound(f"no day {day}: it is not closed")
    rows = [one.row() for one in statements_of_day(gateway.reader, found.day, limit=STATEMENTS_MAX)]
    return msgspec.structs.asdict(found) | {"sums": await sums_of_day(gateway.reader, found.day), "statements": rows}


async def show_statements(gateway: Gateway, *, merchant: str, before: str = "") -> dict[str, Any]:
    """A merchant's days, the newest first, up to four hundred before a day."""
    known = merchants.by_id(gateway.reader, merchant)
    if known is None:
        raise NotFound(f"no merchant {merchant}")
    earlier = str(read_day(before)) if before else "9999"
    found = statements_of_merchant(gateway.reader, merchant, known.currency, before=earlier, limit=STATEMENTS_MAX)
    return {"statements": [one.row() for one in found]}


async def trial_balance(gateway: Gateway) -> dict[str, Any]:
    """Every kind of account with its sums, and for each currency whether debits and credits are equal.

    A currency in which nothing was ever posted or held is left out: the operator's own accounts stand in all that a book may be kept in.
    """
    names = ("accounts", "debits", "credits", "debits_held", "credits_held")
    found = await balances.trial_balance(gateway.reader)
    rows = [{"currency": row["currency"], "kind": row["kind"]} | {name: int(row[name]) for name in names} for row in found]
    used = {row["currency"] for row in rows if any(row[name] for name in names[1:])}
    kinds = [row for row in rows if row["currency"] in used]
    sums = []
    for currency in sorted(used):
        of = [row for row in kinds if row["currency"] == currency]
        debits, credits_ = (sum(row[name] for row in of) for name in ("debits", "credits"))
        held = sum(row["debits_held"] - row["credits_held"] for row in of)
        sums.append({"currency": currency, "debits": debits, "credits": credits_, "balanced": debits == credits_ and held == 0})
    return {"kinds": kinds, "sums": sums}


async def set_fees(
    gateway: Gateway, by: str = ACTOR, *, merchant: str, basis_points: str, fixed: str = "0", reason: str = ""
) -> dict[str, Any]:
    """What captures of a merchant cost from the next day on that is closed: hundredths of a percent, and a fixed part in minor units."""
    terms, at = _terms(gateway, merchant), gateway.clock.now()
    put = agreed.with_fees(terms, basis_points=_whole(basis_points), fixed_minor=_whole(fixed), at=at)
    await gateway.book.commit(
        Change(puts=(put,), appends=(act(at, by, f"fees {merchant}: {basis_points} basis points + {fixed}", reason or "-", merchant),))
    )
    return {"merchant": merchant, "basis_points": put.row["fee_basis_points"], "fixed": put.row["fee_fixed_minor"]}


async def set_payout_account(
    gateway: Gateway, by: str = ACTOR, *, merchant: str, bank: str, number: str, reason: str = ""
) -> dict[str, Any]:
    """The bank account to which a merchant is paid from the next payout on."""
    terms, at = _terms(gateway, merchant), gateway.clock.now()
    put = agreed.with_account(terms, bank=bank, number=number, pepper=gateway.keyring.pepper, at=at)
    masked = str(put.row["payout_masked"])
    await gateway.book.commit(Change(puts=(put,), appends=(act(at, by, f"payout account {merchant}: {masked}", reason or "-", merchant),)))
    return {"merchant": merchant, "account": masked}


def _terms(gateway: Gateway, merchant: str) -> agreed.Terms:
    if merchants.by_id(gateway.reader, merchant) is None:
        raise NotFound(f"no merchant {merchant}")
    return agreed.of_merchant(gateway.reader, merchant)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:  # noqa: PLR2004 - as an amount
        raise BadInput("fees: whole numbers")
    return int(text)
