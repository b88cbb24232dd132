"""Every table of the shop's order book on one page: STRICT, with triggers that let history only grow."""

import sqlite3
from typing import Final

from hanbit.merchant.states import TRANSITIONS

VERSION: Final = 1

SCHEMA: Final = """
CREATE TABLE legal_steps (state TEXT NOT NULL, event TEXT NOT NULL, next TEXT NOT NULL, PRIMARY KEY (state, event)) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    tid          TEXT PRIMARY KEY CHECK (length(tid) BETWEEN 22 AND 64),
    version      INTEGER NOT NULL CHECK (version >= 1),
    state        TEXT NOT NULL CHECK (state IN
                 ('placed', 'withdrawn', 'confirmed', 'refused', 'settled', 'voided', 'closed')),
    plain        INTEGER NOT NULL CHECK (plain IN (0, 1)),
    amount_minor INTEGER NOT NULL CHECK (amount_minor BETWEEN 1 AND 999999999999999),
    currency     TEXT NOT NULL CHECK (length(currency) = 3),
    text         TEXT NOT NULL,
    return_url   TEXT NOT NULL,
    lines        TEXT NOT NULL,              -- exact JSON; with salt it gives oi
    salt         TEXT NOT NULL CHECK (length(salt) = 43),
    order_hash   TEXT NOT NULL CHECK (length(order_hash) = 43),
    request_key  TEXT UNIQUE,                -- the shop's idempotency key
    browser      TEXT,                       -- hash of the shop's own browser session
    placed_at    INTEGER NOT NULL,
    pay_by       INTEGER NOT NULL,
    answer_until INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    payment      TEXT,                       -- the gateway's payment whose notice decided this order
    reason       TEXT,
    replaced_by  TEXT REFERENCES orders (tid) DEFERRABLE INITIALLY DEFERRED,
    outcome      TEXT UNIQUE,                -- hash of the settled, voided or closed message
    handled_at   INTEGER,                    -- the shop's handler has taken the outcome
    CHECK ((state IN ('settled', 'voided', 'closed')) = (outcome IS NOT NULL)),
    CHECK (state NOT IN ('confirmed', 'settled') OR payment IS NOT NULL)
) STRICT;
CREATE INDEX orders_unhandled ON orders (changed_at) WHERE outcome IS NOT NULL AND handled_at IS NULL;
CREATE INDEX orders_unfinished ON orders (pay_by) WHERE outcome IS NULL;
CREATE INDEX orders_of_a_browser ON orders (browser, placed_at) WHERE browser IS NOT NULL;

-- Headers carry the certificates (some 2 KB) and recur: each is stored once.
CREATE TABLE headers (id INTEGER PRIMARY KEY, header TEXT NOT NULL UNIQUE) STRICT;

-- Every message sent or received, its exact bytes = header . base64url(payload) . signature.
CREATE TABLE messages (
    number    INTEGER PRIMARY KEY,
    hash      TEXT NOT NULL UNIQUE CHECK (length(hash) = 43),
    direction TEXT NOT NULL CHECK (direction IN ('sent', 'received')),
    typ       TEXT NOT NULL,
    tid       TEXT,
    iss       TEXT NOT NULL,
    jti       TEXT NOT NULL,
    header    INTEGER NOT NULL REFERENCES headers (id),
    payload   TEXT NOT NULL,
    signature TEXT NOT NULL,
    at        INTEGER NOT NULL,
    UNIQUE (iss, jti)
) STRICT;
CREATE INDEX messages_of_a_tid ON messages (tid, number) WHERE tid IS NOT NULL;

-- What was answered to what: the same request gets the same bytes for ever. One acknowledgement answers many outcomes.
CREATE TABLE answers (
    request TEXT PRIMARY KEY REFERENCES messages (hash) DEFERRABLE INITIALLY DEFERRED,
    answer  TEXT NOT NULL REFERENCES messages (hash) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

-- Each payment of which the gateway gave notice, and what this shop said.
CREATE TABLE notices (
    payment   TEXT PRIMARY KEY CHECK (length(payment) = 22),
    tid       TEXT NOT NULL,
    notice    TEXT NOT NULL UNIQUE REFERENCES messages (hash) DEFERRABLE INITIALLY DEFERRED,
    answer    TEXT NOT NULL UNIQUE REFERENCES messages (hash) DEFERRABLE INITIALLY DEFERRED,
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1))
) STRICT, WITHOUT ROWID;
-- Whatever the code does, one order is never confirmed for two payments.
CREATE UNIQUE INDEX one_confirmation_a_tid ON notices (tid) WHERE confirmed = 1;

-- One outcome ends one payment.
CREATE TABLE ended_payments (
    payment TEXT PRIMARY KEY,
    outcome TEXT NOT NULL UNIQUE REFERENCES messages (hash) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    number     INTEGER PRIMARY KEY,
    tid        TEXT NOT NULL REFERENCES orders (tid) DEFERRABLE INITIALLY DEFERRED,
    version    INTEGER NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL,
    message    TEXT,
    at         INTEGER NOT NULL,
    UNIQUE (tid, version)
) STRICT;

-- What came over the line and broke a rule: kept for the operator, and bounded (settings of the book).
CREATE TABLE rejected (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    rule   TEXT NOT NULL,
    detail TEXT NOT NULL,
    bytes  BLOB NOT NULL
) STRICT;

CREATE TRIGGER orders_step BEFORE UPDATE OF state ON orders WHEN old.state <> new.state
BEGIN SELECT RAISE(ABORT, 'no such step') WHERE NOT EXISTS (SELECT 1 FROM legal_steps WHERE state = old.state AND next = new.state); END;
CREATE TRIGGER orders_version BEFORE UPDATE OF state, outcome, payment, replaced_by ON orders WHEN new.version <> old.version + 1
BEGIN SELECT RAISE(ABORT, 'a step raises the version by one'); END;
CREATE TRIGGER orders_fixed BEFORE UPDATE OF tid, plain, amount_minor, currency, text, return_url, lines, salt, order_hash,
    request_key, browser, placed_at, pay_by, answer_until ON orders
BEGIN SELECT RAISE(ABORT, 'an order is never edited'); END;
CREATE TRIGGER orders_outcome_stays BEFORE UPDATE OF outcome ON orders WHEN old.outcome IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an order ends once'); END;
CREATE TRIGGER orders_kept BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'orders are kept'); END;
"""

_GROWING: Final = ("headers", "messages", "answers", "notices", "ended_payments", "history", "legal_steps")


def create(connection: sqlite3.Connection) -> None:
    """Make every table, the transition table's rows and the triggers on what only grows: all in one transaction, or nothing."""
    connection.executescript(f"BEGIN IMMEDIATE;\n{SCHEMA}")
    steps = [(state, event, following) for state, events in TRANSITIONS.items() for event, following in events.items()]
    connection.executemany("INSERT INTO legal_steps VALUES (?, ?, ?)", steps)
    for table in _GROWING:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'history is never edited'); END"
            )
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
