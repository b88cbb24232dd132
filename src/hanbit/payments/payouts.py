"""Payouts: what merchants are being paid by bank, what the bank says of each, and where the two differ.

    instructed ── the bank has paid ──▶ confirmed ── it came back ──▶ returned
         └─────── it has not ────────▶ failed

The money has left the merchant's account when the payout is made, so nothing else can take it; a payout that fails or returns gives it back
by an entry of its own, and the next day's payout takes it along. Each happens once: entries have the payout's reference in their id.
"""

from typing import Any

import msgspec

from hanbit.db.change import Change, Put
from hanbit.db.reading import Reader, columns
from hanbit.kernel.errors import BadInput, HanbitError, NotFound, WrongState
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money, parse_amount
from hanbit.ledger import rules
from hanbit.ledger.chart import merchant_account, operator_account
from hanbit.ledger.entry import Entry
from hanbit.parties import terms as agreed
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act

ACTOR = "operator"
REASON_MAX = 200
LISTED_MAX = 1_000
LINES_MAX = 1_000
"""Lines of a bank's file that are compared in one command."""
STATES = ("instructed", "confirmed", "failed", "returned")


class Payout(msgspec.Struct, frozen=True):
    """An instruction to pay a merchant; `reference` stands in the bank's transfer and comes back in its file."""

    reference: str
    version: int
    merchant: str
    currency: str
    day: str
    amount: int
    account_masked: str
    account_sealed: str
    state: str
    made_at: int
    decided_by: str | None
    reason: str | None
    decided_at: int | None

    def row(self) -> dict[str, Any]:
        """For people: the account's number stays sealed."""
        row = msgspec.structs.asdict(self)
        del row["version"], row["account_sealed"]
        return row


class BankLine(msgspec.Struct, frozen=True):
    """What a bank's file says of one payment that it made."""

    reference: str
    amount: str
    currency: str


_SELECT = f"SELECT {columns('payouts', Payout)} FROM payouts "  # noqa: S608 - names of our own


def find(reader: Reader, reference: str) -> Payout | None:
    """The payout with this reference."""
    row = reader.one(_SELECT + "WHERE reference = ?", reference)
    return None if row is None else Payout(*row)


def of_state(reader: Reader, state: str, *, limit: int = LISTED_MAX) -> list[Payout]:
    """Payouts of a state, the oldest days first."""
    sql = _SELECT + "WHERE state = ? ORDER BY day, reference LIMIT ?"
    return [Payout(*row) for row in reader.all(sql, state, min(limit, LISTED_MAX))]


def of_merchant(reader: Reader, merchant: str, currency: str, *, before: str = "9999", limit: int = 50) -> list[Payout]:
    """A merchant's payouts, the newest days first, those before a day."""
    sql = _SELECT + "WHERE merchant = ? AND currency = ? AND day < ? ORDER BY day DESC LIMIT ?"
    return [Payout(*row) for row in reader.all(sql, merchant, currency, before, min(limit, LISTED_MAX))]


async def list_payouts(gateway: Gateway, *, state: str = "instructed") -> dict[str, Any]:
    """Payouts of a state, the oldest days first, at most a thousand."""
    if state not in STATES:
        raise BadInput(f"state: {', '.join(STATES)}")
    return {"payouts": [payout.row() for payout in of_state(gateway.reader, state)]}


async def instructions(gateway: Gateway, by: str = ACTOR, *, reason: str = "") -> dict[str, Any]:
    """What the bank must be told of every open payout: the whole account number too, which is why the audit says who asked."""
    found = of_state(gateway.reader, "instructed")
    rows = []
    for payout in found:
        bank, number = agreed.open_account(payout.account_sealed, payout.merchant, gateway.keyring.pepper)
        rows.append({"reference": payout.reference, "bank": bank, "number": number, "amount": payout.amount, "currency": payout.currency})
    audit = act(gateway.clock.now(), by, f"read the accounts of {len(rows)} payouts", reason or "-")
    await gateway.book.commit(Change(appends=(audit,)))
    return {"instructions": rows}


async def confirm_payout(gateway: Gateway, by: str = ACTOR, *, reference: str, reason: str = "") -> dict[str, Any]:
    """The bank has paid: what was on its way has left the operator's cash. Once more, nothing more happens."""
    payout = _known(gateway, reference)
    if payout.state == "confirmed":
        return payout.row()
    if payout.state != "instructed":
        raise WrongState(f"payout {reference} is {payout.state}")
    money = Money(payout.amount, payout.currency)
    payouts, cash = (operator_account(name, payout.currency) for name in ("payouts", "cash"))
    entry = rules.paid(reference=reference, payouts=payouts, cash=cash, money=money)
    return await _decide(gateway, payout, "confirmed", entry, by, reason)


async def fail_payout(gateway: Gateway, by: str = ACTOR, *, reference: str, reason: str) -> dict[str, Any]:
    """The bank has not paid, or what it had paid came back: the merchant has its money again. Once more, nothing more happens."""
    payout = _known(gateway, reference)
    if payout.state in ("failed", "returned"):
        return payout.row()
    if not 1 <= len(reason.strip()) <= REASON_MAX or not reason.isprintable():
        raise BadInput(f"reason: 1 to {REASON_MAX} printable characters")
    was_paid = payout.state == "confirmed"
    source = operator_account("cash" if was_paid else "payouts", payout.currency)
    account = merchant_account(payout.merchant, payout.currency)
    entry = rules.unpaid(reference=reference, source=source, account=account, money=Money(payout.amount, payout.currency))
    return await _decide(gateway, payout, "returned" if was_paid else "failed", entry, by, reason)


async def reconcile_payouts(gateway: Gateway, by: str = ACTOR, *, lines: str, source: str = "") -> dict[str, Any]:
    """Confirm what a bank's file says it has paid and is as we have instructed it; what differs is named and left as it is.

    `lines` is a JSON list of reference, amount (minor units) and currency. Each that differs says why, as a code and in words.
    """
    told = _read_lines(lines)
    confirmed: list[str] = []
    before: list[str] = []
    differs: list[dict[str, Any]] = []
    for line in told:
        payout = find(gateway.reader, line.reference)
        code, why = _difference(payout, line) if line.reference not in {*confirmed, *before} else ("twice", "twice in the file")
        if code or payout is None:
            differs.append(msgspec.structs.asdict(line) | {"code": code, "why": why})
        elif payout.state == "confirmed":
            before.append(line.reference)
        else:
            try:
                await confirm_payout(gateway, by, reference=line.reference, reason=source)
            except HanbitError as error:  # decided otherwise at this moment
                differs.append(msgspec.structs.asdict(line) | {"code": "meanwhile", "why": error.detail or error.code})
            else:
                confirmed.append(line.reference)
    return {"confirmed": confirmed, "confirmed_before": before, "differs": differs}


def _difference(payout: Payout | None, line: BankLine) -> tuple[str, str]:
    """Why this line is not what we have instructed, as a code and in words; both empty where it is."""
    if payout is None:
        return "unknown", "no payout of ours has this reference"
    if line.currency != payout.currency or parse_amount(line.amount) != payout.amount:
        return "amount", f"we have instructed {payout.amount} {payout.currency}"
    if payout.state in ("failed", "returned"):
        return "given_back", f"the payout is {payout.state}: its money was given back to the merchant"
    return "", ""


def _read_lines(text: str) -> list[BankLine]:
    try:
        lines = msgspec.json.decode(text, type=list[BankLine])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput("lines: reference, amount and currency of each payment") from error
    if len(lines) > LINES_MAX:
        raise BadInput(f"lines: at most {LINES_MAX} at once")
    for line in lines:
        parse_amount(line.amount)
        if line.currency not in CURRENCY_EXPONENTS:
            raise BadInput("currency")
    return lines


async def _decide(gateway: Gateway, payout: Payout, state: str, entry: Entry, by: str, reason: str) -> dict[str, Any]:
    at = gateway.clock.now()
    row = msgspec.structs.asdict(payout) | {"state": state, "decided_by": by, "reason": reason.strip() or None, "decided_at": at}
    del row["version"]
    audit = act(at, by, f"payout {payout.reference} {state}", reason.strip() or "-", payout.merchant)
    await gateway.book.commit(Change(puts=(Put("payouts", row, payout.version),), entries=(entry,), appends=(audit,)))
    return {name: value for name, value in row.items() if name != "account_sealed"}


def _known(gateway: Gateway, reference: str) -> Payout:
    payout = find(gateway.reader, reference)
    if payout is None:
        raise NotFound(f"no payout {reference}")
    return payout
