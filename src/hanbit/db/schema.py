"""Every table of the book on one page.

Rows that change carry a `version` (see `db/change.py`); everything else is only ever added. Instants are whole seconds since 1970,
amounts whole minor units. Secrets are not here: passwords as peppered argon2id, tokens as hashes, card numbers as a keyed MAC and a mask.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint, text

SCHEMA_VERSION = 2
MONEY_MAX = 999_999_999_999_999_999
"""Bound of every counter: sums of amounts stay far inside 64 bits."""

metadata = MetaData()
_BY_KEY = frozenset({"ledger_accounts", "postings", "outbox", "tiles"})
"""Narrow tables that are written with every payment: stored in the order of their key, one tree instead of two."""
_Whole = BigInteger().with_variant(Integer(), "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")
"""In the order of its bytes on both engines, whatever language the database was made for."""


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, _Text, primary_key=key, nullable=null)


def _whole(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    return Column(name, _Whole, primary_key=key, nullable=null, autoincrement=False)


def _table(name: str, *items: Column[str] | Column[int] | CheckConstraint | UniqueConstraint | Index) -> Table:
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=name not in _BY_KEY)


def _some(name: str, column: str, *, unique: bool = False) -> Index:
    """An index of the few rows that have this column at all: the others are in it neither when they are written nor when they change."""
    there = text(f"{column} IS NOT NULL")
    return Index(name, column, unique=unique, sqlite_where=there, postgresql_where=there)


book = _table(  # one row: its lock is the book lock
    "book",
    _whole("id", key=True),
    _text("operator"),
    _whole("schema_version"),
    _whole("next_entry"),
    _whole("next_leaf"),
    _text("frontier"),
    _whole("time"),
    CheckConstraint("id = 1"),
)

# --- the ledger -------------------------------------------------------------------------------------------------------------------

ledger_accounts = _table(
    "ledger_accounts",
    _text("id", key=True),
    _text("kind"),
    _text("currency"),
    _whole("limited"),
    _whole("credit_limit"),
    _whole("debits_pending"),
    _whole("credits_pending"),
    _whole("debits_posted"),
    _whole("credits_posted"),
    CheckConstraint("debits_pending >= 0 AND credits_pending >= 0 AND debits_posted >= 0 AND credits_posted >= 0", name="counters"),
    CheckConstraint(
        f"debits_posted <= {MONEY_MAX} AND credits_posted <= {MONEY_MAX} AND credit_limit BETWEEN 0 AND {MONEY_MAX}", name="bounds"
    ),
    CheckConstraint("limited IN (0, 1)", name="limited_flag"),
    CheckConstraint("limited = 0 OR credits_posted + credit_limit >= debits_posted + debits_pending", name="never_below_zero"),
)
entries = _table(
    "entries",
    _whole("number", key=True),
    _text("id"),
    _text("kind"),
    _text("payment", null=True),
    _whole("ends", null=True),
    _whole("amount"),
    _text("currency"),
    _whole("at"),
    UniqueConstraint("id", name="one_effect"),
    _some("a_hold_ends_once", "ends", unique=True),
    CheckConstraint(f"amount BETWEEN 1 AND {MONEY_MAX}", name="amount"),
    CheckConstraint("(ends IS NOT NULL) = (kind IN ('capture', 'void'))", name="ends"),
    CheckConstraint("kind IN ('hold', 'capture', 'void', 'refund', 'transfer')", name="kind"),
    Index("entries_by_payment", "payment"),
)
postings = _table(
    "postings",
    _whole("entry", key=True),
    _whole("leg", key=True),
    _text("account"),
    _text("side"),
    _whole("pending"),
    _whole("posted"),
    _whole("balance"),
    CheckConstraint("side IN ('D', 'C')", name="side"),
    CheckConstraint("posted >= 0 AND (posted <> 0 OR pending <> 0)", name="moves"),
    Index("postings_by_account", "account", "entry"),
)

# --- payments ---------------------------------------------------------------------------------------------------------------------

payments = _table(
    "payments",
    _text("merchant", key=True),
    _text("tid", key=True),
    _whole("version"),
    _text("id"),
    _text("state"),
    _text("reason", null=True),
    _text("order_hash"),
    _whole("amount"),
    _text("currency"),
    _text("payee"),
    _text("text"),
    _text("return_url"),
    _whole("pay_by"),
    _whole("opened_at"),
    _whole("attempts"),
    _text("customer", null=True),
    _text("account", null=True),
    _text("method", null=True),
    _text("sid", null=True),
    _text("notice_hash", null=True),
    _text("answer_hash", null=True),
    _text("outcome_hash", null=True),
    _text("receipt_hash", null=True),
    _text("refusal_message", null=True),
    _whole("hold_until", null=True),
    _whole("next_at", null=True),
    _whole("tries"),
    _whole("captured"),
    _whole("refunded"),
    _whole("ended_at", null=True),
    UniqueConstraint("id", name="payment_id"),
    CheckConstraint("captured BETWEEN 0 AND amount AND refunded BETWEEN 0 AND captured", name="refunds_within_captured"),
    CheckConstraint("state IN ('open', 'authorized', 'captured', 'refused', 'voided', 'closed')", name="state"),
    _some("payments_due", "next_at"),
    Index("payments_by_customer", "customer", "opened_at"),
    Index("payments_by_merchant", "merchant", "opened_at"),
    Index("payments_by_time", "opened_at"),
)
attempts = _table(  # append-only: what the customer approved and how it was checked
    "attempts",
    _text("payment", key=True),
    _whole("number", key=True),
    _text("customer"),
    _text("account", null=True),
    _text("method"),
    _text("result"),
    _text("core"),
    _text("auth_hash"),
    _text("auth_value", null=True),
    _text("sealed_hash"),
    _text("session"),
    _whole("at"),
)
exchanges = _table(  # append-only: each session of the dual-signature checkout, and the answer that its merchant gets for ever
    "exchanges",
    _text("merchant", key=True),
    _text("sid", key=True),
    _text("tid"),
    _text("payment", null=True),
    _text("result"),
    _text("reason", null=True),
    _text("oimd"),
    _text("pimd"),
    _text("thumbprint"),
    _text("request_hash"),
    _text("answer_hash"),
    _whole("at"),
    CheckConstraint("result IN ('approved', 'declined')", name="exchange_result"),
    Index("exchanges_by_payment", "merchant", "tid"),
)
grants = _table(  # a customer's leave to try one payment of one order through its merchant, as hashes; used once
    "grants",
    _text("grant_hash", key=True),
    _whole("version"),
    _text("customer"),
    _text("session"),
    _text("merchant"),
    _text("tid"),
    _text("order_hash"),
    _whole("given_at"),
    _whole("expires_at"),
    _whole("used_at", null=True),
    Index("grants_by_payment", "merchant", "tid"),
    Index("grants_by_time", "expires_at"),
)

cancellations = _table(  # append-only: what a merchant asked back, and the answer that it gets for ever
    "cancellations",
    _text("merchant", key=True),
    _text("id", key=True),
    _text("tid"),
    _text("payment", null=True),
    _whole("amount"),
    _text("currency"),
    _text("reason"),
    _text("result"),
    _text("request_hash"),
    _text("answer_hash"),
    _whole("refunded"),
    _whole("at"),
    CheckConstraint("amount > 0 AND refunded BETWEEN 0 AND amount", name="cancellation_amounts"),
    Index("cancellations_by_payment", "merchant", "tid"),
)

# --- evidence and what must still be told -------------------------------------------------------------------------------------------

headers = _table("headers", _text("id", key=True), _text("segment"))
messages = _table(  # numbered by the leaf of the Change that stored it, and its place among that Change's messages
    "messages",
    _whole("leaf", key=True),
    _whole("place", key=True),
    _text("hash"),
    _text("typ"),
    _text("header"),
    _text("iss"),
    _text("jti"),
    _text("merchant"),
    _text("tid"),
    _whole("at"),
    _whole("signer_revoked_at", null=True),
    _text("payload"),
    _text("signature"),
    UniqueConstraint("hash", name="message_hash"),
    UniqueConstraint("iss", "jti", name="message_number"),
    Index("messages_by_payment", "merchant", "tid", "leaf", "place"),
)
log = _table(  # append-only: one leaf a Change; see crypto/leaves.py
    "log",
    _whole("leaf", key=True),
    _text("hash"),
    _text("data"),
)
tiles = _table(  # append-only: the root of each whole group of 256, of leaves at level 1, of tiles above
    "tiles",
    _whole("level", key=True),
    _whole("number", key=True),
    _text("root"),
    CheckConstraint("level BETWEEN 1 AND 6 AND number >= 0", name="tile"),
)
checkpoints = _table(  # append-only: what we have signed of the log
    "checkpoints",
    _whole("size", key=True),
    _text("root"),
    _text("hash"),
    _whole("at"),
    UniqueConstraint("hash", name="checkpoint_hash"),
)
outbox = _table(
    "outbox",
    _text("hash", key=True),
    _whole("version"),
    _text("merchant"),
    _text("tid"),
    _whole("next_at", null=True),
    _whole("tries"),
    _whole("stored_at"),
    _whole("acknowledged_at", null=True),
    _some("outbox_due", "next_at"),
)
audit = _table(  # refused messages of known parties and acts of people
    "audit",
    _text("id", key=True),
    _whole("at"),
    _text("actor"),
    _text("act"),
    _text("reason"),
    _text("merchant", null=True),
    _text("tid", null=True),
    Index("audit_by_time", "at"),
    Index("audit_by_merchant", "merchant", "at"),
)

# --- parties ------------------------------------------------------------------------------------------------------------------------

customers = _table(
    "customers",
    _text("id", key=True),
    _whole("version"),
    _text("login"),
    _text("name"),
    _text("state"),
    _text("password"),
    _text("language"),
    _text("webauthn_user"),
    _whole("created_at"),
    UniqueConstraint("login", name="customer_login"),
    CheckConstraint("state IN ('active', 'suspended')", name="customer_state"),
)
accounts = _table(  # what a customer pays from; `id` is also its ledger account
    "accounts",
    _text("id", key=True),
    _whole("version"),
    _text("customer"),
    _text("kind"),
    _text("currency"),
    _text("number_mac"),
    _text("masked"),
    _text("password"),
    _text("state"),
    _whole("created_at"),
    UniqueConstraint("number_mac", name="account_number"),
    CheckConstraint("kind IN ('bank', 'card', 'emoney')", name="account_kind"),
    CheckConstraint("state IN ('active', 'suspended')", name="account_state"),
    Index("accounts_by_customer", "customer"),
)
devices = _table(  # what a customer signs or proves with: device key, passkey, one-time-code secret
    "devices",
    _text("id", key=True),
    _whole("version"),
    _text("customer"),
    _text("kind"),
    _text("name"),
    _text("state"),
    _text("public"),
    _whole("sign_count"),
    _whole("created_at"),
    CheckConstraint("kind IN ('device', 'passkey', 'code')", name="device_kind"),
    CheckConstraint("state IN ('active', 'removed')", name="device_state"),
    Index("devices_by_customer", "customer"),
)
merchants = _table(
    "merchants",
    _text("id", key=True),
    _whole("version"),
    _text("name"),
    _text("telephone"),
    _text("state"),
    _text("orders"),
    _text("currency"),
    _text("return_url"),
    _text("return_origins"),
    _text("line_mode"),
    _text("line_address", null=True),
    _text("post_url", null=True),
    _whole("created_at"),
    CheckConstraint("state IN ('active', 'suspended')", name="merchant_state"),
    CheckConstraint("orders IN ('signed', 'plain')", name="merchant_orders"),
    CheckConstraint("line_mode IN ('vpn', 'leased')", name="merchant_line_mode"),
    CheckConstraint("line_mode = 'vpn' OR line_address IS NOT NULL", name="leased_lines_are_pinned"),
    UniqueConstraint("line_address", name="one_merchant_an_address"),
)
certificates = _table(
    "certificates",
    _text("kid", key=True),
    _whole("version"),
    _text("urn"),
    _text("purpose"),
    _text("chain"),
    _text("serial"),
    _whole("not_before"),
    _whole("not_after"),
    _whole("issued_at"),
    _whole("revoked_at", null=True),
    Index("certificates_by_party", "urn", "purpose"),
)
enrolments = _table(  # one-time codes, as hashes
    "enrolments",
    _text("code_hash", key=True),
    _whole("version"),
    _text("urn"),
    _whole("expires_at"),
    _whole("used_at", null=True),
    Index("enrolments_by_time", "expires_at"),
)
sessions = _table(
    "sessions",
    _text("token_hash", key=True),
    _whole("version"),
    _text("customer"),
    _text("method"),
    _whole("created_at"),
    _whole("seen_at"),
    _whole("ended_at", null=True),
    Index("sessions_by_customer", "customer"),
    Index("sessions_by_time", "created_at"),
)
throttles = _table(
    "throttles",
    _text("factor", key=True),
    _whole("version"),
    _whole("failures"),
    _whole("wait_until"),
    Index("throttles_by_time", "wait_until"),
)
openings = _table(  # each opening logs in at most once: a replayed login finds its ctx used
    "openings",
    _text("ctx", key=True),
    _whole("version"),
    _text("login_hash"),
    _whole("at"),
    Index("openings_by_time", "at"),
)
settings = _table("settings", _text("name", key=True), _whole("version"), _text("value"))
SANDBOX = "sandbox"
"""The row of `settings` that only a sandbox's book has: how many seconds its clock is ahead."""

# --- people of the operator and of merchants ------------------------------------------------------------------------------------------

people = _table(  # who works in a console; `password` is empty until the set-up link was used
    "people",
    _text("id", key=True),
    _whole("version"),
    _text("face"),
    _text("merchant", null=True),
    _text("login"),
    _text("name"),
    _text("role"),
    _text("password", null=True),
    _text("language"),
    _text("webauthn_user"),
    _text("state"),
    _whole("created_at"),
    UniqueConstraint("login", name="person_login"),
    CheckConstraint("face IN ('operator', 'merchant') AND (face = 'merchant') = (merchant IS NOT NULL)", name="person_face"),
    CheckConstraint("state IN ('invited', 'active', 'suspended')", name="person_state"),
    CheckConstraint("state <> 'active' OR password IS NOT NULL", name="nobody_works_without_a_password"),
    Index("people_by_merchant", "merchant"),
)
people_factors = _table(  # second factors: a passkey's public key, or the secret of one-time codes wrapped under the pepper
    "people_factors",
    _text("id", key=True),
    _whole("version"),
    _text("person"),
    _text("kind"),
    _text("name"),
    _text("state"),
    _text("public"),
    _whole("counter"),
    _whole("created_at"),
    CheckConstraint("kind IN ('passkey', 'totp')", name="factor_kind"),
    CheckConstraint("state IN ('active', 'removed')", name="factor_state"),
    Index("people_factors_by_person", "person"),
)
proposals = _table(  # acts of one person that take effect when another approves
    "proposals",
    _text("id", key=True),
    _whole("version"),
    _text("act"),
    _text("content"),
    _text("reason"),
    _text("state"),
    _text("proposed_by"),
    _whole("proposed_at"),
    _text("decided_by", null=True),
    _text("decided_reason", null=True),
    _whole("decided_at", null=True),
    CheckConstraint("state IN ('open', 'approved', 'refused', 'withdrawn')", name="proposal_state"),
    CheckConstraint("(state = 'open') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)", name="proposal_decision"),
    CheckConstraint("state <> 'approved' OR decided_by <> proposed_by", name="a_second_person_approves"),
    Index("proposals_by_state", "state", "proposed_at"),
)
invitations = _table(  # one-time links by which a person sets password and second factor, as hashes
    "invitations",
    _text("token_hash", key=True),
    _whole("version"),
    _text("person"),
    _whole("expires_at"),
    _whole("used_at", null=True),
    Index("invitations_by_person", "person"),
    Index("invitations_by_time", "expires_at"),
)
console_sessions = _table(  # without a second factor `stepped_up_at` is empty, and the session opens nothing but the page that asks for one
    "console_sessions",
    _text("token_hash", key=True),
    _whole("version"),
    _text("person"),
    _text("face"),
    _whole("created_at"),
    _whole("seen_at"),
    _whole("stepped_up_at", null=True),
    _whole("ended_at", null=True),
    CheckConstraint("face IN ('operator', 'merchant')", name="session_face"),
    Index("console_sessions_by_person", "person"),
    Index("console_sessions_by_time", "created_at"),
)

HISTORY = ("entries", "postings", "messages", "headers", "attempts", "exchanges", "cancellations", "audit", "log", "tiles", "checkpoints")
"""Tables in which a row is never changed or removed; triggers say so."""
KEPT = ("payments", "ledger_accounts", "book", "certificates", "people", "proposals")
"""Tables in which a row changes and is never removed."""
VOLATILE = frozenset({"console_sessions", "enrolments", "grants", "invitations", "openings", "sessions", "throttles"})
"""Tables whose rows are removed once they can matter to nobody any more: no evidence, so no log covers them."""
DERIVED: dict[str, int] = {"headers": 0, "log": 0, "tiles": 0, "postings": 0, "book": 2, "ledger_accounts": 5, "messages": 11}
"""Of these tables the log covers only so many columns, the first ones: the rest follows from what is covered. Counters are the sum of legs,
legs belong to their entry, a message's hash is that of its header, payload and signature, the book's own row counts the others."""
