"""Every table of the shop's order book on one page: STRICT, with triggers that let history only grow."""

import sqlite3
from typing import Final

from hanbit.merchant.states import TRANSITIONS

VERSION: Final = 2

ORDERS: Final = """
CREATE TABLE orders (
    tid          TEXT PRIMARY KEY CHECK (length(tid) BETWEEN 22 AND 64),
    version      INTEGER NOT NULL CHECK (version >= 1),
    state        TEXT NOT NULL CHECK (state IN
                 ('placed', 'withdrawn', 'requested', 'confirmed', 'refused', 'settled', 'voided', 'closed', 'cancelled')),
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
    outcome      TEXT,                       -- hash of the settled, voided or closed message, or of the authorization
    handled_at   INTEGER,                    -- the shop's handler has taken the outcome, or that the order was struck
    refunded_minor INTEGER NOT NULL DEFAULT 0,  -- the sum of the cancellations that the gateway has confirmed
    CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    CHECK (refunded_minor = 0 OR payment IS NOT NULL),
    CHECK (state NOT IN ('settled', 'voided', 'closed') OR outcome IS NOT NULL),
    CHECK (outcome IS NULL OR state IN ('settled', 'voided', 'closed', 'cancelled')),
    CHECK (state NOT IN ('confirmed', 'settled') OR payment IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX one_order_a_request ON orders (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX orders_unhandled ON orders (changed_at) WHERE (outcome IS NOT NULL OR state = 'cancelled') AND handled_at IS NULL;
CREATE INDEX orders_unfinished ON orders (pay_by) WHERE outcome IS NULL AND state <> 'cancelled';
CREATE INDEX orders_of_an_owner ON orders (owner, placed_at) WHERE owner IS NOT NULL;
"""

TRIGGERS: Final = """
CREATE TRIGGER orders_step BEFORE UPDATE OF state ON orders WHEN old.state <> new.state
BEGIN SELECT RAISE(ABORT, 'no such step') WHERE NOT EXISTS (SELECT 1 FROM legal_steps WHERE state = old.state AND next = new.state); END;
CREATE TRIGGER orders_version BEFORE UPDATE ON orders WHEN new.version <> old.version + 1
    AND (new.version, new.state, new.payment, new.reason, new.replaced_by, new.outcome, new.refunded_minor)
        IS NOT (old.version, old.state, old.payment, old.reason, old.replaced_by, old.outcome, old.refunded_minor)
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
CREATE TRIGGER orders_refund_grows BEFORE UPDATE OF refunded_minor ON orders WHEN new.refunded_minor < old.refunded_minor
BEGIN SELECT RAISE(ABORT, 'what was refunded stays refunded'); END;
"""

HISTORY: Final = """
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
"""

ADDED_IN_2: Final = """
-- What the shop asked the gateway to take back (C1), stored before it is sent, and the one answer that it gets for ever (C3).
CREATE TABLE cancellations (
    id              TEXT PRIMARY KEY CHECK (length(id) = 22),
    tid             TEXT NOT NULL REFERENCES orders (tid),
    state           TEXT NOT NULL CHECK (state IN ('asked', 'confirmed', 'refused')),
    amount_minor    INTEGER NOT NULL CHECK (amount_minor BETWEEN 1 AND 999999999999999),
    currency        TEXT NOT NULL CHECK (length(currency) = 3),
    remaining_minor INTEGER NOT NULL CHECK (remaining_minor >= amount_minor),  -- what the shop believes is left before it
    reason          TEXT NOT NULL,
    request_key     TEXT,                       -- the shop's idempotency key
    early           INTEGER NOT NULL CHECK (early IN (0, 1)),  -- asked before the outcome of the payment was known here
    asked_at        INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    goods           TEXT NOT NULL CHECK (goods IN ('none', 'awaited', 'returned')),
    message         INTEGER NOT NULL REFERENCES journal (number),
    answer          INTEGER REFERENCES journal (number),
    refusal         TEXT,                       -- why it was refused
    look            TEXT,                       -- what somebody should look at: figures of the gateway that are not ours
    replaced_by     TEXT REFERENCES cancellations (id) DEFERRABLE INITIALLY DEFERRED,  -- asked anew with the right figures
    CHECK ((state = 'asked') = (answer IS NULL)),
    CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CHECK (replaced_by IS NULL OR state = 'refused')
) STRICT;
-- Only one at a time: what is left is known when the next is signed, so two together can never ask for more than that.
CREATE UNIQUE INDEX one_open_cancellation ON cancellations (tid) WHERE state = 'asked';
CREATE UNIQUE INDEX one_cancellation_a_request ON cancellations (request_key) WHERE request_key IS NOT NULL AND replaced_by IS NULL;
CREATE INDEX cancellations_of_a_tid ON cancellations (tid, asked_at);
CREATE INDEX cancellations_to_look_at ON cancellations (changed_at) WHERE look IS NOT NULL;
CREATE INDEX cancellations_refused ON cancellations (refusal) WHERE state = 'refused' AND replaced_by IS NULL AND early = 1;
CREATE TRIGGER cancellations_fixed BEFORE UPDATE OF id, tid, amount_minor, currency, remaining_minor, reason, request_key, early, asked_at,
    message ON cancellations
BEGIN SELECT RAISE(ABORT, 'a cancellation is never edited'); END;
CREATE TRIGGER cancellations_end_once BEFORE UPDATE OF state, answer, refusal, look ON cancellations WHEN old.state <> 'asked'
    AND (new.state, new.answer, new.refusal, new.look) IS NOT (old.state, old.answer, old.refusal, old.look)
BEGIN SELECT RAISE(ABORT, 'a cancellation is answered once'); END;
CREATE TRIGGER cancellations_replaced_once BEFORE UPDATE OF replaced_by ON cancellations WHEN old.replaced_by IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a cancellation is asked anew once'); END;
CREATE TRIGGER cancellations_kept BEFORE DELETE ON cancellations BEGIN SELECT RAISE(ABORT, 'cancellations are kept'); END;

-- D3: sessions of the dual-signature checkout, with the very answer that each got; a row goes some time after it has ended.
CREATE TABLE sessions (
    sid        TEXT PRIMARY KEY CHECK (length(sid) = 22),
    tid        TEXT NOT NULL REFERENCES orders (tid),
    request    TEXT NOT NULL UNIQUE CHECK (length(request) = 43),
    answer     TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_a_tid ON sessions (tid);
CREATE INDEX sessions_by_time ON sessions (expires_at);

-- D6: each purchase that the gateway was asked for, stored before it is sent, and the one answer that it gets for ever (D7). Of what the
-- customer pays with there is only the envelope, sealed to the gateway, and that goes as soon as the answer is here.
CREATE TABLE exchanges (
    sid        TEXT PRIMARY KEY CHECK (length(sid) = 22),
    tid        TEXT NOT NULL REFERENCES orders (tid),
    state      TEXT NOT NULL CHECK (state IN ('asked', 'approved', 'declined')),
    purchase   TEXT NOT NULL CHECK (length(purchase) = 43),  -- hash of all that the customer sent
    oi         TEXT NOT NULL,                                -- exact text; its salted hash was signed
    envelope   TEXT,
    asked_at   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    session    INTEGER NOT NULL REFERENCES journal (number),
    request    INTEGER NOT NULL REFERENCES journal (number),
    answer     INTEGER REFERENCES journal (number),
    receipt    TEXT,
    reason     TEXT,
    look       TEXT,                                         -- why somebody must look at it; it is sent no more
    CHECK ((state = 'asked') = (answer IS NULL)),
    CHECK ((state = 'asked') = (envelope IS NOT NULL)),
    CHECK ((state = 'declined') = (reason IS NOT NULL)),
    CHECK (receipt IS NULL OR state = 'approved')
) STRICT;
-- Whatever the code does: one attempt of an order at a time, and one that was approved for ever.
CREATE UNIQUE INDEX one_open_exchange ON exchanges (tid) WHERE state = 'asked';
CREATE UNIQUE INDEX one_approved_exchange ON exchanges (tid) WHERE state = 'approved';
CREATE INDEX exchanges_of_a_tid ON exchanges (tid, request);
CREATE TRIGGER exchanges_fixed BEFORE UPDATE OF sid, tid, purchase, oi, asked_at, session, request ON exchanges
BEGIN SELECT RAISE(ABORT, 'an exchange is never edited'); END;
CREATE TRIGGER exchanges_end_once BEFORE UPDATE ON exchanges WHEN old.state <> 'asked'
BEGIN SELECT RAISE(ABORT, 'an exchange is answered once'); END;
CREATE TRIGGER exchanges_kept BEFORE DELETE ON exchanges BEGIN SELECT RAISE(ABORT, 'exchanges are kept'); END;

-- What the shop holds for the gateway or against it, the latest of each: revocation lists, the last checkpoint of the evidence log.
CREATE TABLE held (name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100), at INTEGER NOT NULL, content TEXT NOT NULL) STRICT;
"""

SCHEMA: Final = f"""
CREATE TABLE legal_steps (state TEXT NOT NULL, event TEXT NOT NULL, next TEXT NOT NULL, PRIMARY KEY (state, event)) STRICT, WITHOUT ROWID;
{ORDERS}{HISTORY}{ADDED_IN_2}{TRIGGERS}"""

_GROWING: Final = ("headers", "journal", "answers", "notices", "legal_steps")


def create(connection: sqlite3.Connection) -> None:
    """Make every table, the transition table's rows and the triggers on what only grows: all in one transaction, or nothing."""
    connection.executescript(f"BEGIN IMMEDIATE;\n{SCHEMA}")
    write_steps(connection)
    for table in _GROWING:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'history is never edited'); END"
            )
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def write_steps(connection: sqlite3.Connection) -> None:
    """The transition table's rows, as the triggers read them; a later version only adds to them."""
    steps = [(state, event, following) for state, events in TRANSITIONS.items() for event, following in events.items()]
    connection.executemany("INSERT OR IGNORE INTO legal_steps VALUES (?, ?, ?)", steps)
