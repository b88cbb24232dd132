"""The chart of accounts: every kind, its normal side, and whether it may be overdrawn.

Each account carries four counters of whole minor units: debits and credits, pending (held) and posted.

    kind               normal side   limited by
    customer_bank      credit        its balance
    customer_card      credit        its balance + credit line (the operator's own card; what is owed is a negative balance)
    customer_emoney    credit        its balance
    merchant           credit        its balance
    operator_cash      debit         -           what the operator holds outside for its customers
    operator_equity    credit        -           openings and corrections
    operator_reserve   credit        its balance what the operator has set aside for refunds that a merchant cannot cover
    operator_fees      credit        its balance what merchants have paid for the operator's service
    operator_payouts   credit        its balance what merchants are being paid by bank: instructed, not yet confirmed
"""

from dataclasses import dataclass

from hanbit.kernel.ids import PARTY_ID


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of account: `normal` is "D" or "C"; a limited account never goes below zero counting holds and credit line."""

    name: str
    normal: str
    limited: bool


KINDS = {
    kind.name: kind
    for kind in (
        Kind("customer_bank", "C", limited=True),
        Kind("customer_card", "C", limited=True),
        Kind("customer_emoney", "C", limited=True),
        Kind("merchant", "C", limited=True),
        Kind("operator_cash", "D", limited=False),
        Kind("operator_equity", "C", limited=False),
        Kind("operator_reserve", "C", limited=True),
        Kind("operator_fees", "C", limited=True),
        Kind("operator_payouts", "C", limited=True),
    )
}
OPERATOR_ACCOUNTS = ("cash", "equity", "reserve", "fees", "payouts")
"""The operator's own accounts, one of each in every currency."""
CUSTOMER_KINDS = {"bank": "customer_bank", "card": "customer_card", "emoney": "customer_emoney"}
"""The three kinds of account that a customer may pay from (A13)."""


def normal_balance(kind: str, debits: int, credits_: int) -> int:
    """Posted balance on the kind's normal side."""
    return credits_ - debits if KINDS[kind].normal == "C" else debits - credits_


def merchant_account(merchant_id: str, currency: str) -> str:
    """The ledger account of a merchant in one currency."""
    if not PARTY_ID.fullmatch(merchant_id):
        raise AssertionError(merchant_id)
    return f"merchant:{merchant_id}:{currency}"


def operator_account(name: str, currency: str) -> str:
    """One of the operator's own accounts, by its name in `OPERATOR_ACCOUNTS`."""
    return f"operator:{name}:{currency}"
