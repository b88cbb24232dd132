"""`hanbit ledger check`: proves the money promises from the store alone, whatever wrote it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Connection = Any
"""A DB-API connection that reads the store; the check knows its tables and nothing else of it."""
CHECKS: dict[str, str] = {
    "debits_equal_credits": """
        SELECT currency, sum(debits_posted) - sum(credits_posted), sum(debits_pending) - sum(credits_pending)
        FROM ledger_accounts
        GROUP BY currency
        HAVING sum(debits_posted) <> sum(credits_posted)
        OR sum(debits_pending) <> sum(credits_pending)
    """,
    "entries_balance": """
        SELECT e.number
        FROM entries e
        LEFT JOIN postings p ON p.entry = e.number
        GROUP BY e.number
        HAVING count(p.leg) < 2
        OR sum(CASE p.side WHEN 'D' THEN p.pending ELSE -p.pending END) <> 0
        OR sum(CASE p.side WHEN 'D' THEN p.posted ELSE -p.posted END) <> 0
    """,
    "one_currency_an_entry": """
        SELECT e.number
        FROM entries e JOIN postings p ON p.entry = e.number JOIN ledger_accounts a ON a.id = p.account
        WHERE a.currency <> e.currency
    """,
    "legs_carry_the_amount_of_their_entry": """
        SELECT e.number
        FROM entries e JOIN postings p ON p.entry = e.number
        WHERE (CASE WHEN abs(p.pending) > abs(p.posted) THEN abs(p.pending) ELSE abs(p.posted) END) <> e.amount
    """,
    "legs_belong_to_entries": """
        SELECT p.entry
        FROM postings p
        LEFT JOIN entries e ON e.number = p.entry
        WHERE e.number IS NULL
    """,
    "legs_belong_to_accounts": """
        SELECT p.entry
        FROM postings p
        LEFT JOIN ledger_accounts a ON a.id = p.account
        WHERE a.id IS NULL
    """,
    "balances_are_the_fold_of_the_entries": """
        SELECT a.id
        FROM ledger_accounts a
        LEFT JOIN (SELECT account, sum(CASE side WHEN 'D' THEN pending ELSE 0 END) dp, sum(CASE side WHEN 'C' THEN pending ELSE
        0 END) cp, sum(CASE side WHEN 'D' THEN posted ELSE 0 END) dt, sum(CASE side WHEN 'C' THEN posted ELSE 0 END) ct
        FROM postings
        GROUP BY account) f ON f.account = a.id
        WHERE a.debits_pending <> coalesce(f.dp, 0)
        OR a.credits_pending <> coalesce(f.cp, 0)
        OR a.debits_posted <> coalesce(f.dt, 0)
        OR a.credits_posted <> coalesce(f.ct, 0)
    """,
    "no_limited_account_below_zero": """
        SELECT id
        FROM ledger_accounts
        WHERE limited = 1
        AND credits_posted + credit_limit < debits_posted + debits_pending
    """,
    "limited_kinds_are_limited": """
        SELECT id
        FROM ledger_accounts
        WHERE limited <> (CASE WHEN kind IN ('operator_cash', 'operator_equity') THEN 0 ELSE 1 END)
    """,
    "a_hold_ends_once_within_its_amount": """
        SELECT x.number
        FROM entries x
        LEFT JOIN entries h ON h.number = x.ends
        WHERE x.ends IS NOT NULL
        AND (h.kind IS NULL
        OR h.kind <> 'hold'
        OR x.amount > h.amount
        OR x.payment <> h.payment)
    """,
    "what_is_held_is_of_open_holds": """
        SELECT 1
        FROM (SELECT coalesce(sum(h.amount), 0) held
        FROM entries h
        WHERE h.kind = 'hold'
        AND NOT EXISTS (SELECT 1
        FROM entries x
        WHERE x.ends = h.number)) open
        WHERE held <> (SELECT coalesce(sum(debits_pending), 0)
        FROM ledger_accounts)
    """,
    "payments_and_entries_agree": """
        SELECT p.id
        FROM payments p
        WHERE (p.state = 'captured') <> EXISTS (SELECT 1
        FROM entries e
        WHERE e.payment = p.id
        AND e.kind = 'capture')
        OR (p.state IN ('refused', 'voided')) <> EXISTS (SELECT 1
        FROM entries e
        WHERE e.payment = p.id
        AND e.kind = 'void')
        OR (p.state = 'authorized') <> EXISTS (SELECT 1
        FROM entries e
        WHERE e.payment = p.id
        AND e.kind = 'hold'
        AND NOT EXISTS (SELECT 1
        FROM entries x
        WHERE x.ends = e.number))
    """,
    "holds_belong_to_payments": """
        SELECT e.number
        FROM entries e
        LEFT JOIN payments p ON p.id = e.payment
        WHERE e.kind <> 'transfer'
        AND p.id IS NULL
    """,
    "payments_move_between_their_own_accounts": """
        SELECT e.number
        FROM entries e JOIN payments p ON p.id = e.payment JOIN postings l ON l.entry = e.number
        WHERE l.account <> (CASE WHEN (l.side = 'D') = (e.kind <> 'refund') THEN p.account
        ELSE 'merchant:' || p.merchant || ':' || p.currency END)
        OR e.currency <> p.currency
        OR e.amount > p.amount
    """,
    "captured_is_what_moved": """
        SELECT p.id
        FROM payments p
        WHERE p.captured <> (SELECT coalesce(sum(e.amount), 0)
        FROM entries e
        WHERE e.payment = p.id
        AND e.kind = 'capture')
    """,
    "refunds_within_captured": """
        SELECT id
        FROM payments
        WHERE refunded > captured
        OR captured > amount
    """,
    "refunded_is_what_went_back": """
        SELECT p.id
        FROM payments p
        WHERE p.refunded <> (SELECT coalesce(sum(e.amount), 0)
        FROM entries e
        WHERE e.payment = p.id
        AND e.kind = 'refund')
    """,
    "every_refund_was_asked_for_and_confirmed": """
        SELECT e.number
        FROM entries e
        LEFT JOIN payments p ON p.id = e.payment
        WHERE e.kind = 'refund'
        AND NOT EXISTS (SELECT 1
        FROM cancellations c JOIN messages q ON q.tid = c.tid AND q.merchant = c.merchant AND q.hash = c.request_hash
        JOIN messages a ON a.tid = c.tid AND a.merchant = c.merchant AND a.hash = c.answer_hash
        WHERE c.merchant = p.merchant
        AND c.tid = p.tid
        AND e.id = 'refund:' || c.merchant || ':' || c.id
        AND c.payment = p.id
        AND c.refunded = e.amount
        AND c.amount = e.amount
        AND q.typ = 'hanbit-cancel'
        AND a.typ = 'hanbit-cancel-confirmation')
    """,
    "every_confirmed_refund_moved_its_money": """
        SELECT c.id
        FROM cancellations c
        WHERE (c.refunded > 0) <> EXISTS (SELECT 1
        FROM entries e
        WHERE e.id = 'refund:' || c.merchant || ':' || c.id
        AND e.kind = 'refund'
        AND e.amount = c.refunded)
    """,
    "the_reserve_lends_for_refunds_only": """
        SELECT e.number
        FROM entries e JOIN postings d ON d.entry = e.number AND d.side = 'D' JOIN postings c ON c.entry = e.number AND c.side = 'C'
        WHERE (e.id >= 'cover:' AND e.id < 'cover;')
        AND (d.account <> 'operator:reserve:' || e.currency
        OR NOT EXISTS (SELECT 1
        FROM entries r JOIN postings m ON m.entry = r.number AND m.side = 'D'
        WHERE r.id = 'refund:' || substr(e.id, 7)
        AND r.kind = 'refund'
        AND r.amount >= e.amount
        AND m.account = c.account))
    """,
    "the_reserve_is_repaid_no_more_than_it_lent": """
        SELECT p.account
        FROM entries e JOIN postings p ON p.entry = e.number
        WHERE (e.id >= 'cover:' AND e.id < 'cover;' AND p.side = 'C')
        OR (e.id >= 'repay:' AND e.id < 'repay;' AND p.side = 'D')
        GROUP BY p.account
        HAVING sum(CASE p.side WHEN 'C' THEN p.posted ELSE -p.posted END) < 0
    """,
    "days_follow_one_another": """
        SELECT d.day
        FROM days d
        WHERE d.first_entry <> coalesce((SELECT max(b.last_entry)
        FROM days b
        WHERE b.day < d.day), 0) + 1
        OR (d.state = 'closing' AND EXISTS (SELECT 1
        FROM days a
        WHERE a.day > d.day))
    """,
    "every_statement_adds_up_to_the_ledger": """
        SELECT s.merchant, s.day
        FROM settlements s LEFT JOIN days d ON d.day = s.day
        WHERE d.day IS NULL
        OR s.first_entry <> d.first_entry
        OR s.last_entry <> d.last_entry
        OR s.captured <> (SELECT coalesce(sum(p.posted), 0)
        FROM postings p JOIN entries e ON e.number = p.entry
        WHERE p.account = 'merchant:' || s.merchant || ':' || s.currency
        AND p.entry BETWEEN s.first_entry AND s.last_entry
        AND p.posted > 0
        AND e.kind = 'capture')
        OR s.refunded <> (SELECT coalesce(sum(p.posted), 0)
        FROM postings p JOIN entries e ON e.number = p.entry
        WHERE p.account = 'merchant:' || s.merchant || ':' || s.currency
        AND p.entry BETWEEN s.first_entry AND s.last_entry
        AND p.posted > 0
        AND e.kind = 'refund')
        OR s.closing - s.opening <> (SELECT coalesce(sum(CASE p.side WHEN 'C' THEN p.posted ELSE -p.posted END), 0)
        FROM postings p
        WHERE p.account = 'merchant:' || s.merchant || ':' || s.currency
        AND p.entry BETWEEN s.first_entry AND s.last_entry
        AND p.posted > 0)
        OR s.fees_owed <> (SELECT sum(b.fees) - sum(b.fees_taken)
        FROM settlements b
        WHERE b.merchant = s.merchant
        AND b.currency = s.currency
        AND b.day <= s.day)
    """,
    "every_capture_and_refund_of_a_closed_day_is_in_one_statement": """
        SELECT d.day
        FROM days d
        WHERE d.state = 'closed'
        AND (SELECT coalesce(sum(s.captures + s.refunds), 0)
        FROM settlements s
        WHERE s.day = d.day) <> (SELECT count(*)
        FROM entries e
        WHERE e.number BETWEEN d.first_entry AND d.last_entry
        AND e.kind IN ('capture', 'refund'))
    """,
    "what_a_statement_takes_is_what_moved": """
        SELECT s.merchant, s.day
        FROM settlements s
        WHERE s.repaid <> coalesce((SELECT e.amount
        FROM entries e
        WHERE e.id = 'repay:merchant:' || s.merchant || ':' || s.currency || ':' || s.day), 0)
        OR s.fees_taken <> coalesce((SELECT e.amount
        FROM entries e
        WHERE e.id = 'fee:merchant:' || s.merchant || ':' || s.currency || ':' || s.day), 0)
        OR s.paid_out <> coalesce((SELECT e.amount
        FROM entries e
        WHERE e.id = 'payout:merchant:' || s.merchant || ':' || s.currency || ':' || s.day), 0)
        OR s.paid_out <> coalesce((SELECT p.amount
        FROM payouts p
        WHERE p.merchant = s.merchant
        AND p.currency = s.currency
        AND p.day = s.day), 0)
    """,
    "nothing_is_taken_without_a_statement": """
        SELECT e.number
        FROM entries e JOIN postings d ON d.entry = e.number AND d.side = 'D' JOIN postings c ON c.entry = e.number AND c.side = 'C'
        WHERE ((e.id >= 'repay:merchant:' AND e.id < 'repay:merchant;')
        OR (e.id >= 'fee:merchant:' AND e.id < 'fee:merchant;')
        OR (e.id >= 'payout:merchant:' AND e.id < 'payout:merchant;'))
        AND NOT EXISTS (SELECT 1
        FROM settlements s
        WHERE d.account = 'merchant:' || s.merchant || ':' || s.currency
        AND ((e.id = 'repay:' || d.account || ':' || s.day AND c.account = 'operator:reserve:' || s.currency)
        OR (e.id = 'fee:' || d.account || ':' || s.day AND c.account = 'operator:fees:' || s.currency)
        OR (e.id = 'payout:' || d.account || ':' || s.day AND c.account = 'operator:payouts:' || s.currency)))
    """,
    "every_payout_is_of_a_statement_and_ends_once": """
        SELECT p.reference
        FROM payouts p
        WHERE NOT EXISTS (SELECT 1
        FROM settlements s
        WHERE s.merchant = p.merchant
        AND s.currency = p.currency
        AND s.day = p.day
        AND s.paid_out = p.amount)
        OR (p.state IN ('confirmed', 'returned')) <> EXISTS (SELECT 1
        FROM entries e
        WHERE e.id = 'paid:' || p.reference
        AND e.amount = p.amount)
        OR (p.state IN ('failed', 'returned')) <> EXISTS (SELECT 1
        FROM entries e JOIN postings c ON c.entry = e.number AND c.side = 'C'
        WHERE e.id = 'unpaid:' || p.reference
        AND e.amount = p.amount
        AND c.account = 'merchant:' || p.merchant || ':' || p.currency)
    """,
    "what_is_on_its_way_is_of_open_payouts": """
        SELECT a.id
        FROM ledger_accounts a
        WHERE a.kind = 'operator_payouts'
        AND a.credits_posted - a.debits_posted <> (SELECT coalesce(sum(p.amount), 0)
        FROM payouts p
        WHERE p.state = 'instructed'
        AND p.currency = a.currency)
    """,
    "no_money_moves_without_a_stored_confirmation": """
        SELECT p.id
        FROM payments p
        WHERE p.captured > 0
        AND NOT EXISTS (SELECT 1
        FROM messages m
        WHERE m.hash = p.answer_hash
        AND m.typ IN ('hanbit-confirmation', 'hanbit-authorization-request')
        AND m.merchant = p.merchant
        AND m.tid = p.tid)
    """,
    "every_approved_session_is_that_of_its_payment": """
        SELECT e.sid
        FROM exchanges e
        WHERE e.result = 'approved'
        AND NOT EXISTS (SELECT 1
        FROM payments p
        WHERE p.id = e.payment
        AND p.merchant = e.merchant
        AND p.tid = e.tid
        AND p.sid = e.sid
        AND p.answer_hash = e.request_hash
        AND p.outcome_hash = e.answer_hash
        AND p.captured > 0)
        UNION ALL
        SELECT p.sid
        FROM payments p
        WHERE p.sid IS NOT NULL
        AND NOT EXISTS (SELECT 1
        FROM exchanges e
        WHERE e.merchant = p.merchant
        AND e.sid = p.sid
        AND e.result = 'approved')
    """,
    "every_outcome_is_stored_and_told": """
        SELECT p.id
        FROM payments p
        WHERE p.state IN ('captured', 'refused', 'voided', 'closed')
        AND NOT EXISTS (SELECT 1
        FROM messages m JOIN outbox o ON o.tid = m.tid AND o.merchant = m.merchant AND o.hash = m.hash
        WHERE m.hash = p.outcome_hash
        AND m.merchant = p.merchant
        AND m.tid = p.tid)
    """,
    "numbers_have_no_gap": """
        SELECT 1
        FROM book b
        WHERE b.next_entry - 1 <> (SELECT count(*)
        FROM entries)
        OR b.next_leaf <> (SELECT count(*)
        FROM log)
        OR b.next_entry - 1 <> (SELECT coalesce(max(number), 0)
        FROM entries)
    """,
}
"""Promise → query that finds what breaks it: every query must find nothing."""
SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Report:
    """What the check found: `broken` is empty when every promise holds."""

    entries: int
    accounts: int
    broken: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether every promise holds."""
        return not self.broken


def check(connection: Connection, say: Callable[[str], None] = lambda _promise: None) -> Report:
    """Run every check in the caller's snapshot; `say` hears of each before it begins, because a large book takes its time."""
    broken: dict[str, list[Any]] = {}
    for promise, query in CHECKS.items():
        say(promise)
        found = [list(row) for row in connection.execute(f"{query} LIMIT {SHOWN_MAX}")]
        if found:
            broken[promise] = found
    entries = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    accounts = connection.execute("SELECT count(*) FROM ledger_accounts").fetchone()[0]
    return Report(entries, accounts, broken)
