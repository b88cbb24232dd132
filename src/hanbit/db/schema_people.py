"""The tables of people in consoles, the operator's and merchants': factors, links, sessions, proposals; a part of `db/schema.py`."""

from sqlalchemy import CheckConstraint, Index, UniqueConstraint

from hanbit.db.columns import table, text, whole

people = table(  # who works in a console; `password` is empty until the set-up link was used
    "people",
    text("id", key=True),
    whole("version"),
    text("face"),
    text("merchant", null=True),
    text("login"),
    text("name"),
    text("role"),
    text("password", null=True),
    text("language"),
    text("webauthn_user"),
    text("state"),
    whole("created_at"),
    UniqueConstraint("login", name="person_login"),
    CheckConstraint("face IN ('operator', 'merchant') AND (face = 'merchant') = (merchant IS NOT NULL)", name="person_face"),
    CheckConstraint("state IN ('invited', 'active', 'suspended')", name="person_state"),
    CheckConstraint("state <> 'active' OR password IS NOT NULL", name="nobody_works_without_a_password"),
    Index("people_by_merchant", "merchant"),
)
people_factors = table(  # second factors: a passkey's public key, or the secret of one-time codes wrapped under the pepper
    "people_factors",
    text("id", key=True),
    whole("version"),
    text("person"),
    text("kind"),
    text("name"),
    text("state"),
    text("public"),
    whole("counter"),
    whole("created_at"),
    CheckConstraint("kind IN ('passkey', 'totp')", name="factor_kind"),
    CheckConstraint("state IN ('active', 'removed')", name="factor_state"),
    Index("people_factors_by_person", "person"),
)
proposals = table(  # acts of one person that take effect when another approves
    "proposals",
    text("id", key=True),
    whole("version"),
    text("act"),
    text("content"),
    text("reason"),
    text("state"),
    text("proposed_by"),
    whole("proposed_at"),
    text("decided_by", null=True),
    text("decided_reason", null=True),
    whole("decided_at", null=True),
    CheckConstraint("state IN ('open', 'approved', 'refused', 'withdrawn')", name="proposal_state"),
    CheckConstraint("(state = 'open') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)", name="proposal_decision"),
    CheckConstraint("state <> 'approved' OR decided_by <> proposed_by", name="a_second_person_approves"),
    Index("proposals_by_state", "state", "proposed_at"),
)
invitations = table(  # one-time links by which a person sets password and second factor, as hashes
    "invitations",
    text("token_hash", key=True),
    whole("version"),
    text("person"),
    whole("expires_at"),
    whole("used_at", null=True),
    Index("invitations_by_person", "person"),
    Index("invitations_by_time", "expires_at"),
)
console_sessions = table(  # without a second factor `stepped_up_at` is empty, and the session opens nothing but the page that asks for one
    "console_sessions",
    text("token_hash", key=True),
    whole("version"),
    text("person"),
    text("face"),
    whole("created_at"),
    whole("seen_at"),
    whole("stepped_up_at", null=True),
    whole("ended_at", null=True),
    CheckConstraint("face IN ('operator', 'merchant')", name="session_face"),
    Index("console_sessions_by_person", "person"),
    Index("console_sessions_by_time", "created_at"),
)

KEPT = ("people", "proposals")
"""Changed, and never removed."""
