"""Schema 1: what the redirect checkout needs."""

from hanbit.db.migrations import schema_1
from hanbit.db.migrations.rebuild import become

revision = "0001"
down_revision = None


def upgrade() -> None:
    """An empty file becomes an empty book."""
    become(schema_1.metadata, history=schema_1.HISTORY, kept=("payments", "ledger_accounts", "book", "certificates"), guards={}, values={})
