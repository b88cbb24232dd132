"""The tables of mail: what customers are still to be written, addresses that are yet to be confirmed; a part of `db/schema.py`."""

from sqlalchemy import CheckConstraint, Index

from hanbit.db.columns import some, table, text, whole

mails = table(  # stored in the same Change as what it tells; `facts` is what the letter is made of, never a secret or a whole number
    "mails",
    text("id", key=True),
    whole("version"),
    text("customer"),
    text("kind"),
    text("address"),
    text("language"),
    text("facts"),
    text("state"),
    text("why", null=True),
    whole("next_at", null=True),
    whole("tries"),
    whole("stored_at"),
    whole("ended_at", null=True),
    CheckConstraint("state IN ('waiting', 'sent', 'given_up') AND (state = 'waiting') = (next_at IS NOT NULL)", name="mail_state"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="mail_ended"),
    some("mails_due", "next_at"),
    some("mails_ended", "ended_at"),
)
email_links = table(  # one-time links that confirm a customer's address, as hashes
    "email_links",
    text("token_hash", key=True),
    whole("version"),
    text("customer"),
    text("address"),
    whole("expires_at"),
    whole("used_at", null=True),
    Index("email_links_by_customer", "customer"),
    Index("email_links_by_time", "expires_at"),
)

VOLATILE = frozenset({"email_links", "mails"})
"""Removed once they can matter to nobody: they hold addresses, and prove nothing."""
