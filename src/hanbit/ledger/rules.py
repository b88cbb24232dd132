"""Which event makes which entry: pure functions from amounts and account ids to balanced entries."""

from hanbit.kernel.money import Money
from hanbit.ledger.entry import CAPTURE, HOLD, REFUND, TRANSFER, VOID, Entry, Posting

COVER = "cover:"
"""How the ids of what the reserve lent begin."""
REPAY, FEE, PAYOUT = "repay:", "fee:", "payout:"
"""How the ids begin of what a closed day takes from a merchant: once for each account and day."""


def hold(*, payment: str, attempt: int, source: str, target: str, money: Money) -> Entry:
    """R7, before R8 leaves: keep `money` of the customer's account for the merchant so that nothing else can spend it."""
    amount = money.amount_minor
    return Entry(
        id=hold_id(payment, attempt),
        kind=HOLD,
        money=money,
        postings=(Posting(source, "D", amount, 0), Posting(target, "C", amount, 0)),
        payment=payment,
    )


def capture(*, payment: str, attempt: int, source: str, target: str, money: Money) -> Entry:
    """R10: the held money moves to the merchant; the merchant's signed confirmation is the evidence."""
    amount = money.amount_minor
    return Entry(
        id=f"capture:{payment}",
        kind=CAPTURE,
        money=money,
        postings=(Posting(source, "D", -amount, amount), Posting(target, "C", -amount, amount)),
        payment=payment,
        ends=hold_id(payment, attempt),
    )


def void(*, payment: str, attempt: int, source: str, target: str, money: Money) -> Entry:
    """The hold is released and nothing moves."""
    amount = money.amount_minor
    return Entry(
        id=f"void:{payment}",
        kind=VOID,
        money=money,
        postings=(Posting(source, "D", -amount, 0), Posting(target, "C", -amount, 0)),
        payment=payment,
        ends=hold_id(payment, attempt),
    )


def refund(*, payment: str, merchant: str, cancellation: str, source: str, target: str, money: Money) -> Entry:
    """C2: the capture's way back, whole or in part; `source` is the merchant's account, `target` the one that the money came from."""
    amount = money.amount_minor
    return Entry(
        id=f"refund:{merchant}:{cancellation}",
        kind=REFUND,
        money=money,
        postings=(Posting(source, "D", 0, amount), Posting(target, "C", 0, amount)),
        payment=payment,
    )


def cover(*, merchant: str, cancellation: str, reserve: str, target: str, money: Money) -> Entry:
    """C2: what the operator's reserve lends the merchant for a refund that its own account cannot cover; the merchant owes it."""
    return transfer(id=f"{COVER}{merchant}:{cancellation}", debit=reserve, credit=target, money=money)


def repay(*, account: str, day: str, reserve: str, money: Money) -> Entry:
    """A closed day: the merchant's debt to the reserve comes first."""
    return transfer(id=f"{REPAY}{account}:{day}", debit=account, credit=reserve, money=money)


def fee(*, account: str, day: str, fees: str, money: Money) -> Entry:
    """A closed day: what its captures cost the merchant, and what it owed for earlier ones."""
    return transfer(id=f"{FEE}{account}:{day}", debit=account, credit=fees, money=money)


def payout(*, account: str, day: str, payouts: str, money: Money) -> Entry:
    """A closed day: what is left is on its way to the merchant's bank account."""
    return transfer(id=f"{PAYOUT}{account}:{day}", debit=account, credit=payouts, money=money)


def paid(*, reference: str, payouts: str, cash: str, money: Money) -> Entry:
    """The bank has paid."""
    return transfer(id=f"paid:{reference}", debit=payouts, credit=cash, money=money)


def unpaid(*, reference: str, source: str, account: str, money: Money) -> Entry:
    """The bank has not paid, or sent it back: the merchant has its money again, of `payouts` or of `cash`."""
    return transfer(id=f"unpaid:{reference}", debit=source, credit=account, money=money)


def transfer(*, id: str, debit: str, credit: str, money: Money) -> Entry:  # noqa: A002 - the field's own name
    """A plain transfer: funding an account, a manual entry, a correction."""
    amount = money.amount_minor
    return Entry(id=id, kind=TRANSFER, money=money, postings=(Posting(debit, "D", 0, amount), Posting(credit, "C", 0, amount)))


def hold_id(payment: str, attempt: int) -> str:
    """The id of an attempt's hold."""
    return f"hold:{payment}:{attempt}"
