"""Acts on money that two people stand behind: one proposes, another approves, and only then it happens.

    open ── another person agrees ──▶ approved, and done       (another: `hands.py` says who may be the same)
      ├──── another person does not ─▶ refused
      └──── who proposed it ─────────▶ withdrawn

Money that is paid in by hand is posted by the very Change that approves it. A day is closed by many Changes, so it is approved first; a
close that was cut short goes on where it stopped without being approved again.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hanbit.db.change import Append, Change, Put, Require, Stale
from hanbit.db.reading import Reader, Row, columns
from hanbit.kernel import ids
from hanbit.kernel.days import day_of, read_day
from hanbit.kernel.errors import BadInput, Conflict, NotAllowed, NotFound, WrongState
from hanbit.kernel.money import Money, parse_money
from hanbit.ledger import rules
from hanbit.ledger.chart import operator_account
from hanbit.parties import accounts, limits, merchants
from hanbit.parties import terms as agreed
from hanbit.parties.limits import Limits
from hanbit.payments import bank_limits, hands, settlement
from hanbit.payments.gateway import Gateway
from hanbit.payments.hands import Hands
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

OPEN: Final = "open"
LISTED_MAX: Final = 200
FUND: Final = "fund"
RESERVE: Final = "reserve"
CLOSE: Final = "close"
LIMITS: Final = "limits"
PAYOUT: Final = "payout"
ACTS: Final = (FUND, RESERVE, CLOSE, LIMITS, PAYOUT)
_SEALED: Final = "sealed"
"""What of a content stands in no audit."""


class Proposal(msgspec.Struct, frozen=True):
    """What somebody proposed, why, and what became of it; `content` is JSON, of one shape for each act."""

    id: str
    version: int
    act: str
    content: str
    reason: str
    state: str
    proposed_by: str
    hands: str | None
    proposed_at: int
    decided_by: str | None
    decided_reason: str | None
    decided_at: int | None

    @property
    def told(self) -> dict[str, str]:
        """Its content."""
        return dict(json.loads(self.content))

    @property
    def money(self) -> Money | None:
        """What it moves; None where the act is none of money paid in."""
        told = self.told
        return parse_money(told["amount"], told["currency"]) if "amount" in told else None

    @property
    def limits(self) -> dict[str, Money | None]:
        """The limits that are to be higher, by their names; None is no limit any more."""
        told = self.told
        found = {name: told[name] for name in bank_limits.NAMES if name in told}
        return {name: None if text == bank_limits.NONE else parse_money(text, told["currency"]) for name, text in found.items()}


_SELECT = f"SELECT {columns('proposals', Proposal)} FROM proposals "  # noqa: S608 - names of our own


def find(reader: Reader, proposal_id: str) -> Proposal | None:
    """The proposal with this id."""
    return _proposal(reader.one(_SELECT + "WHERE id = ?", proposal_id))


def waiting(reader: Reader) -> list[Proposal]:
    """What waits for a second person, the oldest first."""
    return [Proposal(*row) for row in reader.all(_SELECT + "WHERE state = 'open' ORDER BY proposed_at LIMIT ?", LISTED_MAX)]


def decided(reader: Reader, limit: int) -> list[Proposal]:
    """What was decided lately, the newest first; each state by its own walk of the index."""
    found: list[Proposal] = []
    for state in ("approved", "refused", "withdrawn"):
        found += [Proposal(*row) for row in reader.all(_SELECT + "WHERE state = ? ORDER BY proposed_at DESC LIMIT ?", state, limit)]
    return sorted(found, key=lambda one: one.decided_at or 0, reverse=True)[:limit]


def about(reader: Reader, proposal: Proposal) -> str:
    """Whose account it pays into, or up to which day it closes, as people know it."""
    told = proposal.told
    if proposal.act == PAYOUT:
        return f"{told['merchant']} {told['masked']}"
    if proposal.act not in (FUND, LIMITS):
        return told.get("through", told.get("currency", ""))
    sql = "SELECT a.masked, c.name FROM accounts a JOIN customers c ON c.id = a.customer WHERE a.id = ?"
    row = reader.one(sql, told["account"])
    return told["account"] if row is None else f"{row['name']} {row['masked']}"


async def propose_fund(gateway: Gateway, by: str, *, account: str, amount: str, reason: str) -> str:
    """Cash into a customer's account."""
    row = gateway.reader.one("SELECT currency FROM accounts WHERE id = ?", account)
    if row is None:
        raise NotFound(f"no account {account}")
    money = parse_money(amount, row["currency"])
    return await _propose(gateway, by, FUND, {"account": account, "amount": money.text, "currency": money.currency}, reason)


async def change_limits(gateway: Gateway, by: str, *, account: str, payment: str, day: str, reason: str) -> bool:
    """What is lower counts at once; what is higher waits for a second person, and then the answer is True.

    Minor units of the account's currency; empty is no limit. BadInput names the field.
    """
    check_reason(reason)
    wanted = bank_limits.read(gateway, account, payment=payment, day=day)
    now = limits.of_account(gateway.reader, account)
    at_once, higher = bank_limits.split(now, wanted)
    puts: tuple[Put, ...] = ()
    audits: tuple[Append, ...] = ()
    if at_once != Limits(now.bank_payment, now.bank_day) or not higher:
        row, audit = bank_limits.to_set(gateway, by, account, at_once, reason)
        puts, audits = (row,), (audit,)
    if not higher:
        await gateway.book.commit(Change(puts=puts, appends=audits))
        return False
    found = accounts.by_id(gateway.reader, account)
    assert found is not None, account
    told = {name: bank_limits.NONE if limit is None else str(limit) for name, limit in higher.items()}
    content = {"account": account, **told, "currency": found.currency}
    await _propose(gateway, by, LIMITS, content, reason, puts=puts, audits=audits)
    return True


async def propose_payout_account(gateway: Gateway, by: str, *, merchant: str, bank: str, number: str, reason: str) -> str:
    """Another bank account to which a merchant is paid, in place of one that still waits. BadInput names the field.

    Whoever could change it alone, at the operator or with a merchant's stolen log-in, would have the merchant's money sent to himself.
    """
    if merchants.by_id(gateway.reader, merchant) is None:
        raise NotFound(f"no merchant {merchant}")
    at = gateway.clock.now()
    terms = agreed.of_merchant(gateway.reader, merchant)
    row = agreed.with_account(terms, bank=bank, number=number, pepper=gateway.keyring.pepper, at=at).row
    content = {"merchant": merchant, "masked": str(row["payout_masked"]), _SEALED: str(row["payout_sealed"])}
    earlier = waiting_account(gateway.reader, merchant)
    replaced = () if earlier is None else (_put(earlier, "withdrawn", by, reason, at),)
    return await _propose(gateway, by, PAYOUT, content, reason, puts=replaced, merchant=merchant)


def waiting_account(reader: Reader, merchant: str) -> Proposal | None:
    """The account to which a merchant is to be paid once a second person has approved it."""
    return next((one for one in waiting(reader) if one.act == PAYOUT and one.told["merchant"] == merchant), None)


async def propose_reserve(gateway: Gateway, by: str, *, amount: str, currency: str, reason: str) -> str:
    """Cash into the reserve for refunds."""
    money = parse_money(amount, currency)
    account = operator_account("reserve", money.currency)
    return await _propose(gateway, by, RESERVE, {"account": account, "amount": money.text, "currency": money.currency}, reason)


async def propose_close(gateway: Gateway, by: str, *, through: str, reason: str) -> str:
    """Closing every day that has ended, up to this one. Conflict while another such proposal is open."""
    day = read_day(through)
    following = settlement.next_day(gateway)
    if following is None or day < following:
        raise WrongState(f"{day} is closed, or nothing was posted yet")
    today = day_of(gateway.clock.now(), gateway.settings.zone)
    if day >= today:
        raise WrongState(f"{day} has not ended")
    if any(one.act == CLOSE for one in waiting(gateway.reader)):
        raise Conflict("a close waits for its second person already")
    return await _propose(gateway, by, CLOSE, {"through": str(day)}, reason)


async def approve(gateway: Gateway, by: str, proposal: Proposal, *, reason: str) -> dict[str, Any]:
    """The second person agrees and it is done; NotAllowed for who proposed it, or may be the same person under another name."""
    check_reason(reason)
    mine = hands.of(gateway.reader, by)
    if not _is_second(gateway.reader, mine, proposal):
        raise NotAllowed("a second person approves, whose account cannot be in the same hands")
    at, told, money = gateway.clock.now(), proposal.told, proposal.money
    if proposal.act == LIMITS:
        return await _raise_limits(gateway, by, proposal, mine, reason)
    if proposal.act == PAYOUT:
        return await _change_account(gateway, by, proposal, mine, reason)
    if money is None:
        await _decide(gateway, by, proposal, "approved", reason, mine.requires)
        return await settlement.close_days(gateway, by, through=told["through"], reason=f"{proposal.reason} / {reason.strip()}")
    await _still_there(gateway, told["account"])
    cash = operator_account("cash", money.currency)
    entry = rules.transfer(id=f"proposal:{proposal.id}", debit=cash, credit=told["account"], money=money)
    audit = act(at, by, f"approved proposal {proposal.id}: {proposal.act} {told['account']} {money.text}", reason.strip())
    put = _put(proposal, "approved", by, reason, at)
    await _commit(gateway, Change(requires=mine.requires, puts=(put,), entries=(entry,), appends=(audit,)))
    return {"entry": entry.id}


def may_approve(reader: Reader, by: str, proposal: Proposal) -> bool:
    """Whether this is a second person."""
    return _is_second(reader, hands.of(reader, by), proposal)


async def refuse(gateway: Gateway, by: str, proposal: Proposal, *, reason: str) -> None:
    """It does not happen: another person says no, or who proposed it takes it back."""
    check_reason(reason)
    await _decide(gateway, by, proposal, "withdrawn" if proposal.proposed_by == by else "refused", reason)


async def withdraw(gateway: Gateway, by: str, proposal: Proposal, *, reason: str) -> None:
    """Who proposed it takes it back; NotAllowed for everybody else."""
    if proposal.proposed_by != by:
        raise NotAllowed("only who proposed it withdraws it")
    await refuse(gateway, by, proposal, reason=reason)


async def go_on(gateway: Gateway, by: str, *, reason: str) -> dict[str, Any]:
    """Finish the close of a day that was begun and cut short; it was approved when it began."""
    check_reason(reason)
    last = settlement.last_day(gateway.reader)
    if last is None or last.state != settlement.CLOSING:
        raise WrongState("no close was cut short")
    return await settlement.close_days(gateway, by, through=last.day, reason=reason.strip())


async def _raise_limits(gateway: Gateway, by: str, proposal: Proposal, mine: Hands, reason: str) -> dict[str, Any]:
    """Those limits that were proposed; the others are as they are by now."""
    account, now = proposal.told["account"], limits.of_account(gateway.reader, proposal.told["account"])
    higher = {name: None if money is None else money.amount_minor for name, money in proposal.limits.items()}
    wanted = Limits(**{"payment": now.bank_payment, "day": now.bank_day} | higher)
    row, audit = bank_limits.to_set(gateway, by, account, wanted, f"{proposal.reason} / {reason.strip()}")
    put = _put(proposal, "approved", by, reason, gateway.clock.now())
    await _commit(gateway, Change(requires=mine.requires, puts=(put, row), appends=(audit,)))
    return {"account": account, "payment": wanted.payment, "day": wanted.day}


async def _change_account(gateway: Gateway, by: str, proposal: Proposal, mine: Hands, reason: str) -> dict[str, Any]:
    """From the next payout on."""
    at, told = gateway.clock.now(), proposal.told
    terms = agreed.of_merchant(gateway.reader, told["merchant"])
    row = agreed.with_sealed(terms, masked=told["masked"], sealed=told[_SEALED], at=at)
    audit = act(at, by, f"payout account {told['merchant']}: {told['masked']}", f"{proposal.reason} / {reason.strip()}", told["merchant"])
    put = _put(proposal, "approved", by, reason, at)
    await _commit(gateway, Change(requires=mine.requires, puts=(put, row), appends=(audit,)))
    return {"merchant": told["merchant"], "account": told["masked"]}


async def _propose(
    gateway: Gateway,
    by: str,
    what: str,
    content: Mapping[str, str],
    reason: str,
    *,
    puts: tuple[Put, ...] = (),
    audits: tuple[Append, ...] = (),
    merchant: str | None = None,
) -> str:
    check_reason(reason)
    at, proposal_id = gateway.clock.now(), ids.new_token()
    his = hands.of(gateway.reader, by)
    proposal = Proposal(proposal_id, 0, what, json.dumps(content), reason.strip(), OPEN, by, his.told, at, None, None, None)
    told = " ".join(text for name, text in content.items() if name != _SEALED)
    audit = act(at, by, f"proposed {proposal_id}: {what} {told}", reason.strip(), merchant)
    await gateway.book.commit(Change(requires=his.requires, puts=(*puts, _row(proposal)), appends=(*audits, audit)))
    return proposal_id


def _is_second(reader: Reader, mine: Hands, proposal: Proposal) -> bool:
    """In no hands that the proposer's account may have been in when he proposed, or may be in now."""
    then = {proposal.proposed_by, *(proposal.hands or "").split()}
    return not mine.actors & (then | hands.of(reader, proposal.proposed_by).actors)


async def _still_there(gateway: Gateway, account: str) -> None:
    if gateway.reader.one("SELECT 1 FROM ledger_accounts WHERE id = ?", account) is None:
        await settlement.open_accounts(gateway)  # a book that is older than the reserve
        if gateway.reader.one("SELECT 1 FROM ledger_accounts WHERE id = ?", account) is None:
            raise BadInput("currency")


async def _decide(gateway: Gateway, by: str, proposal: Proposal, state: str, reason: str, requires: tuple[Require, ...] = ()) -> None:
    at = gateway.clock.now()
    audit = act(at, by, f"{state} proposal {proposal.id}: {proposal.act}", reason.strip())
    await _commit(gateway, Change(requires=requires, puts=(_put(proposal, state, by, reason, at),), appends=(audit,)))


async def _commit(gateway: Gateway, change: Change) -> None:
    try:
        await gateway.book.commit(change)
    except (Stale, Conflict) as error:
        raise WrongState("somebody else has decided this at the same moment") from error


def _put(proposal: Proposal, state: str, by: str, reason: str, at: int) -> Put:
    if proposal.state != OPEN:
        raise WrongState(f"this proposal is {proposal.state}")
    return _row(msgspec.structs.replace(proposal, state=state, decided_by=by, decided_reason=reason.strip(), decided_at=at))


def _row(proposal: Proposal) -> Put:
    row = msgspec.structs.asdict(proposal)
    del row["version"]
    return Put("proposals", row, proposal.version)


def _proposal(row: Row | None) -> Proposal | None:
    return None if row is None else Proposal(*row)
