"""Schema 2: cancellations and refunds, the log with its checkpoints, how a merchant's line reaches us.

Messages move to the places where the first leaves will name them: the old running number n is leaf n // PORTION, place n % PORTION. The
leaves themselves are written when the book has its last form (`hanbit.db.migrations.migrate`).
"""

from hanbit.db import schema
from hanbit.db.covered import PORTION
from hanbit.db.guards import GUARDS
from hanbit.db.migrations.rebuild import become

revision = "0002"
down_revision = "0001"

VALUES = {
    ("book", "schema_version"): "2",
    ("book", "next_leaf"): "0",
    ("book", "frontier"): "''",
    ("merchants", "line_mode"): "'vpn'",
    ("messages", "leaf"): f"leaf / {PORTION}",
    ("messages", "place"): f"leaf % {PORTION}",
}


def upgrade() -> None:
    """Nothing that was signed, moved or promised changes; nothing was stored under a revoked key, so no message bears a revocation."""
    become(schema.metadata, history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS, values=VALUES)
