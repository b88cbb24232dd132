"""What the database itself refuses beyond keys, bounds and history: promises that hold over several rows, or over time."""

from typing import NamedTuple


class Guard(NamedTuple):
    """A trigger: on what, for which rows, what must be there nevertheless (nothing: it is always refused), what the refusal says."""

    on: str
    when: str
    unless: str
    says: str


GUARDS: dict[str, Guard] = {
    "refunds_stay_within_the_capture": Guard(
        on="AFTER INSERT ON entries",
        when="NEW.kind = 'refund'",
        unless="EXISTS (SELECT 1 FROM payments p WHERE p.id = NEW.payment AND p.refunded <= p.captured "
        "AND p.refunded >= (SELECT sum(e.amount) FROM entries e WHERE e.payment = NEW.payment AND e.kind = 'refund'))",
        says="more refunded than captured",
    ),
    "what_moved_is_never_unsaid": Guard(
        on="BEFORE UPDATE ON payments",
        when="NEW.refunded < OLD.refunded OR NEW.captured < OLD.captured",
        unless="",
        says="what was captured or refunded is never unsaid",
    ),
}
"""What else is refused. Σ refunds ≤ captured on every path: a batch writes payments before entries, so an entry finds its own Change's
figures."""
