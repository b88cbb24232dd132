"""Every table of the book on one page, but for those of `schema_days.py`, `schema_people.py` and `schema_mail.py`.

Rows that change carry a `version` (see `db/change.py`); everything else is only ever added. Instants are whole seconds since 1970,
amounts whole minor units. Secrets are not here: passwords as peppered argon2id, tokens as hashes, card numbers as a keyed MAC and a mask.
"""

from sqlalchemy import CheckConstraint, Index, UniqueConstraint

from hanbit.db import columns, schema_days, schema_mail, schema_people
from hanbit.db.columns import some, stored_by, table, text, where, whole

metadata = columns.metadata
SCHEMA_VERSION = 2
MONEY_MAX = columns.MONEY_MAX

book = table(  # one row: its lock is the book lock
    "book",
    whole("id", key=True),
    text("operator"),
    whole("schema_version"),
    whole("next_entry"),
    whole("next_leaf"),
    text("frontier"),
    whole("time"),
    CheckConstraint("id = 1"),
)

# --- the ledger -------------------------------------------------------------------------------------------------------------------

ledger_accounts = table(
    "ledger_accounts",
    text("id", key=True),
    text("kind"),
    text("currency"),
    whole("limited"),
    whole("credit_limit"),
    whole("debits_pending"),
    whole("credits_pending"),
    whole("debits_posted"),
    whole("credits_posted"),
    CheckConstraint("debits_pending >= 0 AND credits_pending >= 0 AND debits_posted >= 0 AND credits_posted >= 0", name="counters"),
    CheckConstraint(
        f"debits_posted <= {MONEY_MAX} AND credits_posted <= {MONEY_MAX} AND credit_limit BETWEEN 0 AND {MONEY_MAX}", name="bounds"
    ),
    CheckConstraint("limited IN (0, 1)", name="limited_flag"),
    CheckConstraint("limited = 0 OR credits_posted + credit_limit >= debits_posted + debits_pending", name="never_below_zero"),
)
entries = table(
    "entries",
    whole("number", key=True),
    text("id"),
    text("kind"),
    text("payment", null=True),
    whole("ends", null=True),
    whole("amount"),
    text("currency"),
    whole("at"),
    UniqueConstraint("id", name="one_effect"),
    some("a_hold_ends_once", "ends", unique=True),
    CheckConstraint(f"amount BETWEEN 1 AND {MONEY_MAX}", name="amount"),
    CheckConstraint("(ends IS NOT NULL) = (kind IN ('capture', 'void'))", name="ends"),
    CheckConstraint("kind IN ('hold', 'capture', 'void', 'refund', 'transfer')", name="kind"),
    Index("entries_by_payment", "payment"),
)
POSTED = "posted > 0"
"""Legs that moved money; a list of an account's says so in these words, for what was only held is on no statement and in no index."""
postings = table(
    "postings",
    whole("entry", key=True),
    whole("leg", key=True),
    text("account"),
    text("side"),
    whole("pending"),
    whole("posted"),
    whole("balance"),
    CheckConstraint("side IN ('D', 'C')", name="side"),
    CheckConstraint("posted >= 0 AND (posted <> 0 OR pending <> 0)", name="moves"),
    where("postings_by_account", POSTED, "account", "entry"),
)

# --- payments ---------------------------------------------------------------------------------------------------------------------

WITHOUT_MONEY = "state IN ('refused', 'voided', 'closed')"
"""Payments that ended and moved nothing; a list of some of them says so in these words, and two indexes hold it."""
LISTED = "opened_at > 0"
"""Of every payment this is so. Whoever lists a merchant's payments says it, and only then is the index of them by time looked at: to find
one payment PostgreSQL may think it as good as the key while the table is small, and then reads all that a merchant ever took."""
payments = table(
    "payments",
    text("merchant", key=True),
    text("tid", key=True),
    whole("version"),
    text("id"),
    text("state"),
    text("reason", null=True),
    text("order_hash"),
    whole("amount"),
    text("currency"),
    text("payee"),
    text("text"),
    text("return_url"),
    whole("pay_by"),
    whole("opened_at"),
    whole("attempts"),
    text("customer", null=True),
    text("account", null=True),
    text("method", null=True),
    text("sid", null=True),
    text("notice_hash", null=True),
    text("answer_hash", null=True),
    text("outcome_hash", null=True),
    text("receipt_hash", null=True),
    text("refusal_message", null=True),
    whole("hold_until", null=True),
    whole("next_at", null=True),
    whole("tries"),
    whole("captured"),
    whole("refunded"),
    whole("ended_at", null=True),
    stored_by("tid", "merchant"),
    UniqueConstraint("id", name="payment_id"),
    CheckConstraint("captured BETWEEN 0 AND amount AND refunded BETWEEN 0 AND captured", name="refunds_within_captured"),
    CheckConstraint("state IN ('open', 'authorized', 'captured', 'refused', 'voided', 'closed')", name="state"),
    some("payments_due", "next_at"),
    Index("payments_by_customer", "customer", "opened_at"),
    where("payments_by_merchant", LISTED, "merchant", "opened_at"),
    Index("payments_by_time", "opened_at"),
    # What ended without money is rare and is looked for; a payment that is captured never touches these.
    where("payments_without_money", WITHOUT_MONEY, "state", "opened_at"),
    where("payments_without_money_by_merchant", WITHOUT_MONEY, "merchant", "state", "opened_at"),
)
attempts = table(  # append-only: what the customer approved and how it was checked
    "attempts",
    text("payment", key=True),
    whole("number", key=True),
    text("customer"),
    text("account", null=True),
    text("method"),
    text("result"),
    text("core"),
    text("auth_hash"),
    text("auth_value", null=True),
    text("sealed_hash"),
    text("session"),
    whole("at"),
)
exchanges = table(  # append-only: each session of the dual-signature checkout, and the answer that its merchant gets for ever
    "exchanges",
    text("merchant", key=True),
    text("sid", key=True),
    text("tid"),
    text("payment", null=True),
    text("result"),
    text("reason", null=True),
    text("oimd"),
    text("pimd"),
    text("thumbprint"),
    text("request_hash"),
    text("answer_hash"),
    whole("at"),
    stored_by("sid", "merchant"),
    CheckConstraint("result IN ('approved', 'declined')", name="exchange_result"),
    Index("exchanges_by_payment", "tid", "merchant"),
)
grants = table(  # a customer's leave to try one payment of one order through its merchant, as hashes; used once
    "grants",
    text("grant_hash", key=True),
    whole("version"),
    text("customer"),
    text("session"),
    text("merchant"),
    text("tid"),
    text("order_hash"),
    whole("given_at"),
    whole("expires_at"),
    whole("used_at", null=True),
    Index("grants_by_payment", "tid", "merchant"),
    Index("grants_by_time", "expires_at"),
)

STUCK = "result IN ('too_late', 'merchant_funds')"
"""Refunds that the operator's staff can help with; their list says so in these words."""
cancellations = table(  # append-only: what a merchant asked back, and the answer that it gets for ever
    "cancellations",
    text("merchant", key=True),
    text("id", key=True),
    text("tid"),
    text("payment", null=True),
    whole("amount"),
    text("currency"),
    text("reason"),
    text("result"),
    text("request_hash"),
    text("answer_hash"),
    whole("refunded"),
    whole("at"),
    stored_by("id", "merchant"),
    CheckConstraint("amount > 0 AND refunded BETWEEN 0 AND amount", name="cancellation_amounts"),
    Index("cancellations_by_payment", "tid", "merchant"),
    where("cancellations_stuck", STUCK, "at"),
)

# --- evidence and what must still be told -------------------------------------------------------------------------------------------

headers = table("headers", text("id", key=True), text("segment"))
OF_KEYS = (
    "typ IN ('hanbit-certificates', 'hanbit-crl', 'hanbit-key-record', 'hanbit-key-record-confirmation', 'hanbit-renewal') AND tid = ''"
)
"""Messages about keys, a few among the many that belong to no payment; a list of them says so in these words."""
messages = table(  # numbered by the leaf of the Change that stored it, and its place among that Change's messages
    "messages",
    whole("leaf", key=True),
    whole("place", key=True),
    text("hash"),
    text("typ"),
    text("header"),
    text("iss"),
    text("jti"),
    text("merchant"),
    text("tid"),
    whole("at"),
    whole("signer_revoked_at", null=True),
    text("payload"),
    text("signature"),
    # Both begin with what begins with its second. A hash is looked up among the messages of its payment; the same bytes under another one
    # would repeat their own number.
    UniqueConstraint("tid", "merchant", "hash", name="message_hash"),
    UniqueConstraint("jti", "iss", name="message_number"),
    where("messages_of_keys", OF_KEYS, "merchant", "leaf"),
)
log = table("log", whole("leaf", key=True), text("hash"), text("data"))  # append-only: one leaf a Change; see crypto/leaves.py
tiles = table(  # append-only: the root of each whole group of 256, of leaves at level 1, of tiles above
    "tiles",
    whole("level", key=True),
    whole("number", key=True),
    text("root"),
    CheckConstraint("level BETWEEN 1 AND 6 AND number >= 0", name="tile"),
)
checkpoints = table(  # append-only: what we have signed of the log
    "checkpoints",
    whole("size", key=True),
    text("root"),
    text("hash"),
    whole("at"),
    UniqueConstraint("hash", name="checkpoint_hash"),
)
outbox = table(
    "outbox",
    text("hash", key=True),
    whole("version"),
    text("merchant", key=True),
    text("tid", key=True),
    whole("next_at", null=True),
    whole("tries"),
    whole("stored_at"),
    whole("acknowledged_at", null=True),
    stored_by("tid", "merchant", "hash"),
    some("outbox_due", "next_at"),
    where("outbox_waiting", "next_at IS NOT NULL", "merchant", "hash"),
)
audit = table(  # refused messages of known parties and acts of people
    "audit",
    text("id", key=True),
    whole("at"),
    text("actor"),
    text("act"),
    text("reason"),
    text("merchant", null=True),
    text("tid", null=True),
    Index("audit_by_time", "at"),
    Index("audit_by_merchant", "merchant", "at"),
    where("audit_by_payment", "tid IS NOT NULL", "merchant", "tid", "at"),  # with the time: else SQLite walks the one above
    Index("audit_by_actor", "actor", "at"),
    Index("audit_by_act", "act", "at"),
)

# --- parties ------------------------------------------------------------------------------------------------------------------------

customers = table(
    "customers",
    text("id", key=True),
    whole("version"),
    text("login"),
    text("name"),
    text("state"),
    text("password"),
    text("language"),
    text("webauthn_user"),
    whole("created_at"),
    text("email", null=True),  # confirmed by a one-time link
    UniqueConstraint("login", name="customer_login"),
    CheckConstraint("state IN ('active', 'suspended')", name="customer_state"),
)
accounts = table(  # what a customer pays from; `id` is also its ledger account
    "accounts",
    text("id", key=True),
    whole("version"),
    text("customer"),
    text("kind"),
    text("currency"),
    text("number_mac"),
    text("masked"),
    text("password"),
    text("state"),
    whole("created_at"),
    # the customer's own limits, those that will count from `later_at` on, and the bank's
    *(
        whole(name, null=True)
        for name in ("limit_payment", "limit_day", "later_payment", "later_day", "later_at", "bank_payment", "bank_day")
    ),
    UniqueConstraint("number_mac", name="account_number"),
    CheckConstraint("kind IN ('bank', 'card', 'emoney')", name="account_kind"),
    CheckConstraint("state IN ('active', 'suspended')", name="account_state"),
    Index("accounts_by_customer", "customer"),
)
devices = table(  # what a customer signs or proves with: device key, passkey, one-time-code secret
    "devices",
    text("id", key=True),
    whole("version"),
    text("customer"),
    text("kind"),
    text("name"),
    text("state"),
    text("public"),
    whole("sign_count"),
    whole("created_at"),
    whole("used_at", null=True),
    CheckConstraint("kind IN ('device', 'passkey', 'code')", name="device_kind"),
    CheckConstraint("state IN ('active', 'removed')", name="device_state"),
    Index("devices_by_customer", "customer"),
)
merchants = table(
    "merchants",
    text("id", key=True),
    whole("version"),
    text("name"),
    text("telephone"),
    text("state"),
    text("orders"),
    text("currency"),
    text("return_url"),
    text("return_origins"),
    text("line_mode"),
    text("line_address", null=True),
    text("post_url", null=True),
    whole("created_at"),
    # the operator's limits, and where the day that is counted began and ends; see payments/merchant_limits.py
    *(whole(name, null=True) for name in ("limit_payment", "limit_day", "day_from", "day_until")),
    CheckConstraint("coalesce(limit_payment, 1) > 0 AND coalesce(limit_day, 1) > 0", name="merchant_limits"),
    CheckConstraint(
        "(limit_day IS NULL) = (day_from IS NULL) AND (limit_day IS NULL) = (day_until IS NULL)", name="a_limited_day_is_counted"
    ),
    CheckConstraint("state IN ('active', 'suspended')", name="merchant_state"),
    CheckConstraint("orders IN ('signed', 'plain')", name="merchant_orders"),
    CheckConstraint("line_mode IN ('vpn', 'leased')", name="merchant_line_mode"),
    CheckConstraint("line_mode = 'vpn' OR line_address IS NOT NULL", name="leased_lines_are_pinned"),
    UniqueConstraint("line_address", name="one_merchant_an_address"),
)
certificates = table(
    "certificates",
    text("kid", key=True),
    whole("version"),
    text("urn"),
    text("purpose"),
    text("chain"),
    text("serial"),
    whole("not_before"),
    whole("not_after"),
    whole("issued_at"),
    whole("revoked_at", null=True),
    Index("certificates_by_party", "urn", "purpose"),
)
enrolments = table(  # one-time codes, as hashes
    "enrolments",
    text("code_hash", key=True),
    whole("version"),
    text("urn"),
    whole("expires_at"),
    whole("used_at", null=True),
    Index("enrolments_by_time", "expires_at"),
)
sessions = table(
    "sessions",
    text("token_hash", key=True),
    whole("version"),
    text("customer"),
    text("method"),
    whole("created_at"),
    whole("seen_at"),
    whole("ended_at", null=True),
    *(text(name, null=True) for name in ("browser", "network", "unusual")),  # see parties/visits.py
    Index("sessions_by_customer", "customer", "created_at"),
    Index("sessions_by_time", "created_at"),
)
throttles = table(
    "throttles",
    text("factor", key=True),
    whole("version"),
    whole("failures"),
    whole("wait_until"),
    Index("throttles_by_time", "wait_until"),
)
openings = table(  # each opening logs in at most once: a replayed login finds its ctx used
    "openings",
    text("ctx", key=True),
    whole("version"),
    text("login_hash"),
    whole("at"),
    Index("openings_by_time", "at"),
)
settings = table("settings", text("name", key=True), whole("version"), text("value"))
SANDBOX = "sandbox"
"""The row of `settings` that only a sandbox's book has: how many seconds its clock is ahead."""

# --- several processes on one book: who they are, whose lines they hold, who does which work ---------------------------------------------

processes = table(  # each writes its row anew every few seconds: what counts is that the version moves, not what its clock says
    "processes",
    text("id", key=True),
    whole("version"),
    whole("number"),
    text("machine"),
    text("address"),
    whole("started_at"),
    whole("seen_at"),
)
lines = table(  # which process holds a connection of which merchant; a merchant has up to four, each perhaps at another process
    "lines",
    text("id", key=True),
    whole("version"),
    text("merchant"),
    text("process"),
    whole("since"),
    Index("lines_by_merchant", "merchant"),
    Index("lines_by_process", "process"),
)
jobs = table("jobs", text("name", key=True), whole("version"), text("holder"))  # which process does which work of the background
shared_keys = table(  # new keys of the gateway's own on their way to its other machines, sealed under a key that no book holds
    "shared_keys",
    text("stem", key=True),
    whole("version"),
    text("purpose"),
    whole("made_at"),
    text("sealed"),
)

PASSING = frozenset({"jobs", "lines", "processes", "shared_keys"})
_FLOW = ("entries", "postings", "messages", "headers", "attempts", "exchanges", "cancellations")
HISTORY = (*_FLOW, "audit", "log", "tiles", "checkpoints", *schema_days.HISTORY)
"""Tables in which a row is never changed or removed; triggers say so."""
KEPT = ("payments", "ledger_accounts", "book", "certificates", *schema_people.KEPT, *schema_days.KEPT)
"""Tables in which a row changes and is never removed."""
_ENDED = frozenset({"console_sessions", "enrolments", "grants", "invitations", "openings", "sessions", "throttles"})
VOLATILE = _ENDED | PASSING | schema_mail.VOLATILE
"""Tables whose rows are removed once they can matter to nobody any more: no evidence, so no log covers them."""
DERIVED: dict[str, int] = {"headers": 0, "log": 0, "tiles": 0, "postings": 0, "book": 2, "ledger_accounts": 5, "messages": 11}
"""Of these tables the log covers only so many columns, the first ones: the rest follows from what is covered. Counters are the sum of legs,
legs belong to their entry, a message's hash is that of its header, payload and signature, the book's own row counts the others."""
