"""The tables of days and of what merchants are paid: terms, closed days, statements, payouts; a part of `db/schema.py`."""

from sqlalchemy import CheckConstraint, Index, UniqueConstraint

from hanbit.db.columns import MONEY_MAX, table, text, whole

terms = table(  # what was agreed with a merchant: its fees, and where it is paid to (the number sealed under the pepper)
    "terms",
    text("merchant", key=True),
    whole("version"),
    whole("fee_basis_points"),
    whole("fee_fixed_minor"),
    text("payout_masked", null=True),
    text("payout_sealed", null=True),
    whole("changed_at"),
    CheckConstraint(f"fee_basis_points BETWEEN 0 AND 1000 AND fee_fixed_minor BETWEEN 0 AND {MONEY_MAX}", name="fees"),
    CheckConstraint("(payout_masked IS NULL) = (payout_sealed IS NULL)", name="payout_account"),
)
days = table(  # a day that has ended and is settled: its entries are those from first to last
    "days",
    text("day", key=True),
    whole("version"),
    text("state"),
    whole("first_entry"),
    whole("last_entry"),
    text("closed_by"),
    whole("begun_at"),
    whole("closed_at", null=True),
    CheckConstraint("state IN ('closing', 'closed') AND (state = 'closed') = (closed_at IS NOT NULL)", name="day_state"),
    CheckConstraint("last_entry >= first_entry - 1", name="day_entries"),
)
settlements = table(  # append-only: what a merchant's day came to; `version` is always 1, so that no second one is put
    "settlements",
    text("merchant", key=True),
    text("currency", key=True),
    text("day", key=True),
    whole("version"),
    whole("first_entry"),
    whole("last_entry"),
    whole("opening"),
    whole("captures"),
    whole("captured"),
    whole("refunds"),
    whole("refunded"),
    whole("closing"),
    whole("fee_basis_points"),
    whole("fee_fixed_minor"),
    whole("fees"),
    whole("fees_taken"),
    whole("fees_owed"),
    whole("repaid"),
    whole("paid_out"),
    whole("at"),
    CheckConstraint("captured >= 0 AND refunded >= 0 AND fees >= 0 AND fees_taken >= 0 AND fees_owed >= 0", name="settled_sums"),
    CheckConstraint("repaid >= 0 AND paid_out >= 0", name="settled_out"),
    Index("settlements_by_day", "day", "merchant"),
)
payouts = table(  # an instruction to pay a merchant by bank; its money has left the merchant's account already
    "payouts",
    text("reference", key=True),
    whole("version"),
    text("merchant"),
    text("currency"),
    text("day"),
    whole("amount"),
    text("account_masked"),
    text("account_sealed"),
    text("state"),
    whole("made_at"),
    text("decided_by", null=True),
    text("reason", null=True),
    whole("decided_at", null=True),
    UniqueConstraint("merchant", "currency", "day", name="one_payout_a_day"),
    CheckConstraint(f"amount BETWEEN 1 AND {MONEY_MAX}", name="payout_amount"),
    CheckConstraint("state IN ('instructed', 'confirmed', 'failed', 'returned')", name="payout_state"),
    CheckConstraint(
        "(state = 'instructed') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)", name="payout_decision"
    ),
    Index("payouts_by_state", "state", "day"),
)

HISTORY = ("settlements",)
"""Never changed or removed."""
KEPT = ("days", "payouts")
"""Changed, and never removed."""
