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
    request_key  TEXT,                       -- the shop's idempotency key
    owner        TEXT,                       -- hash of the shop's own session or account
    placed_at    INTEGER NOT NULL,
    pay_by       INTEGER NOT NULL,
    answer_until INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    payment      TEXT,                       -- the gateway's payment whose notice decided this order
    reason       TEXT,
    replaced_by  TEXT REFERENCES orders (tid) DEFERRABLE INITIALLY DEFERRED,
    outcome      TEXT,                       -- hash of the settled, voided or closed message
    handled_at   INTEGER,                    -- the shop's handler has taken the outcome
    CHECK ((state IN ('settled', 'voided', 'closed')) = (outcome IS NOT NULL)),
    CHECK (state NOT IN ('confirmed', 'settled') OR payment IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX one_order_a_request ON orders (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX orders_unhandled ON orders (changed_at) WHERE outcome IS NOT NULL AND handled_at IS NULL;
CREATE INDEX orders_unfinished ON orders (pay_by) WHERE outcome IS NULL;
CREATE INDEX orders_of_an_owner ON orders (owner, placed_at) WHERE owner IS NOT NULL;

-- Headers carry the certificates (some 2 KB) and recur: each is stored once.
CREATE TABLE headers (id INTEGER PRIMARY KEY, header TEXT NOT NULL UNIQUE) STRICT;

-- Everything that happened: each message sent or received with its exact bytes (header . base64url(payload) . signature), and each
-- step of an order with the message that made it. A random key costs a page in each commit, so there are two indexes and no more.
CREATE TABLE journal (
    number    INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    tid       TEXT,
    version   INTEGER,
    event     TEXT,
    state     TEXT,
    direction TEXT CHECK (direction IN ('sent', 'received')),
    typ       TEXT,
    hash      TEXT CHECK (length(hash) = 43),
    jti       TEXT,
    header    INTEGER REFERENCES headers (id),
    payload   TEXT,
    signature TEXT,
    CHECK ((event IS NULL) = (state IS NULL) AND (event IS NULL) = (version IS NULL)),
    CHECK ((hash IS NULL) = (direction IS NULL) AND (hash IS NULL) = (payload IS NULL) AND (hash IS NULL) = (signature IS NULL)),
    CHECK (event IS NOT NULL OR hash IS NOT NULL)
) STRICT;
CREATE INDEX journal_of_a_tid ON journal (tid) WHERE tid IS NOT NULL;
-- The gateway is the only sender: one jti, one message, for ever.
CREATE UNIQUE INDEX one_message_a_jti ON journal (jti) WHERE direction = 'received';

-- What was answered to what: the same request gets the same bytes for ever. One acknowledgement answers many outcomes.
CREATE TABLE answers (
    request TEXT PRIMARY KEY CHECK (length(request) = 43),
    answer  INTEGER NOT NULL REFERENCES journal (number)
) STRICT, WITHOUT ROWID;

-- Each payment of which the gateway gave notice, and what this shop said.
CREATE TABLE notices (
    payment   TEXT PRIMARY KEY CHECK (length(payment) = 22),
    notice    INTEGER NOT NULL REFERENCES journal (number),
    answer    INTEGER NOT NULL REFERENCES journal (number),
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1))
) STRICT, WITHOUT ROWID;

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
CREATE TRIGGER orders_version BEFORE UPDATE ON orders WHEN new.version <> old.version + 1
    AND (new.version, new.state, new.payment, new.reason, new.replaced_by, new.outcome)
        IS NOT (old.version, old.state, old.payment, old.reason, old.replaced_by, old.outcome)
BEGIN SELECT RAISE(ABORT, 'a step raises the version by one'); END;
CREATE TRIGGER orders_fixed BEFORE UPDATE OF tid, plain, amount_minor, currency, text, return_url, lines, salt, order_hash,
    request_key, owner, placed_at, pay_by, answer_until ON orders
BEGIN SELECT RAISE(ABORT, 'an order is never edited'); END;
-- Whatever the code does, one order is never confirmed for two payments.
CREATE TRIGGER orders_payment_stays BEFORE UPDATE OF payment ON orders WHEN old.payment IS NOT NULL AND old.payment IS NOT new.payment
BEGIN SELECT RAISE(ABORT, 'an order has one payment'); END;
CREATE TRIGGER orders_outcome_stays BEFORE UPDATE OF outcome ON orders WHEN old.outcome IS NOT NULL AND old.outcome IS NOT new.outcome
BEGIN SELECT RAISE(ABORT, 'an order ends once'); END;
CREATE TRIGGER orders_kept BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'orders are kept'); END;
"""

_GROWING: Final = ("headers", "journal", "answers", "notices", "legal_steps")


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
