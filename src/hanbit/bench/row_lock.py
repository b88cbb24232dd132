"""The yard-stick beside `hanbit bench ledger`: a ledger as one writes it by hand on PostgreSQL, a transaction a step, rows locked.

    hold      lock the customer's row · enough? · entry, pending + amount · COMMIT
    capture   lock the hold and both accounts in one order · entry, two legs, balances · COMMIT

CONNECTIONS connections work beside each other, each with one pair at a time, however many callers wait. It keeps what a ledger must (a
balance never below zero, an id once, a hold ended once) and nothing else: no log, no evidence, no second look at what was written.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from hanbit.bench.figures import Latencies
from hanbit.bench.ledger_deals import CUSTOMERS, Dice, Draw
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock

CONNECTIONS: Final = 16
AMOUNT: Final = 1_000
FUNDS: Final = 900_000_000_000
_TABLES: Final = """
CREATE TABLE rl_accounts (id text PRIMARY KEY, pending bigint NOT NULL CHECK (pending >= 0), balance bigint NOT NULL,
    limited boolean NOT NULL, CHECK (NOT limited OR balance >= pending));
CREATE TABLE rl_payments (id text PRIMARY KEY, customer text NOT NULL, merchant text NOT NULL, amount bigint NOT NULL CHECK (amount > 0),
    state text NOT NULL CHECK (state IN ('authorized', 'captured')));
CREATE TABLE rl_entries (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE, payment text NOT NULL,
    amount bigint NOT NULL);
CREATE TABLE rl_postings (entry bigint NOT NULL, leg int NOT NULL, account text NOT NULL, pending bigint NOT NULL, posted bigint NOT NULL,
    balance bigint NOT NULL, PRIMARY KEY (entry, leg));
"""
_LOCK: Final = "SELECT id, balance, pending FROM rl_accounts WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_ENTRY: Final = "INSERT INTO rl_entries (id, payment, amount) VALUES (%s, %s, %s) RETURNING number"
_LEGS: Final = "INSERT INTO rl_postings VALUES (%s, 0, %s, %s, %s, %s), (%s, 1, %s, %s, %s, %s)"
_BALANCE: Final = "UPDATE rl_accounts SET pending = pending + %s, balance = balance + %s WHERE id = %s"


@dataclass(slots=True)
class RowLock:
    """What came of it."""

    pairs: int = 0
    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)


async def measure(url: str, *, merchants: str, seconds: float, in_flight: int, clock: Clock) -> RowLock:
    """Pairs for so many seconds; AssertionError where the books do not balance behind them."""
    customers, dice, result = [f"customer-{number}" for number in range(CUSTOMERS)], Dice(), RowLock()
    draw, turns = Draw(merchants, dice), asyncio.Queue[Any]()
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=False) for _ in range(min(CONNECTIONS, in_flight))]
    try:
        await _open(connections[0], customers, draw)
        for connection in connections:
            turns.put_nowait(connection)
        started = clock.monotonic()

        async def call() -> None:
            while clock.monotonic() < started + seconds:
                customer, merchant = customers[dice.roll(CUSTOMERS)], draw.next()
                asked = clock.monotonic()
                connection = await turns.get()
                try:
                    await _pair(connection, customer, merchant)
                finally:
                    turns.put_nowait(connection)
                result.latencies.add(clock.monotonic() - asked)
                result.pairs += 1

        await asyncio.gather(*(call() for _ in range(in_flight)))
        result.seconds = clock.monotonic() - started
        await _prove(connections[0], result.pairs)
        await connections[0].execute("DROP TABLE rl_accounts, rl_payments, rl_entries, rl_postings")
        await connections[0].commit()
    finally:
        for connection in connections:
            await connection.close()
    return result


async def _pair(connection: Any, customer: str, merchant: str) -> None:
    payment = ids.new_token()
    async with connection.transaction():
        cursor = await connection.execute(_LOCK, ([customer],))
        _, balance, pending = await cursor.fetchone()
        assert balance - pending >= AMOUNT, customer
        await connection.execute("INSERT INTO rl_payments VALUES (%s, %s, %s, %s, 'authorized')", (payment, customer, merchant, AMOUNT))
        (number,) = await (await connection.execute(_ENTRY, (f"hold:{payment}", payment, AMOUNT))).fetchone()
        await connection.execute(_LEGS, (number, customer, AMOUNT, 0, balance, number, merchant, AMOUNT, 0, 0))
        await connection.execute(_BALANCE, (AMOUNT, 0, customer))
    async with connection.transaction():
        cursor = await connection.execute("SELECT state FROM rl_payments WHERE id = %s FOR UPDATE", (payment,))
        assert await cursor.fetchone() == ("authorized",), payment
        standing = {row[0]: row[1] for row in await (await connection.execute(_LOCK, ([customer, merchant],))).fetchall()}
        (number,) = await (await connection.execute(_ENTRY, (f"capture:{payment}", payment, AMOUNT))).fetchone()
        legs = (
            number,
            customer,
            -AMOUNT,
            AMOUNT,
            standing[customer] - AMOUNT,
            number,
            merchant,
            -AMOUNT,
            AMOUNT,
            standing[merchant] + AMOUNT,
        )
        await connection.execute(_LEGS, legs)
        await connection.execute(_BALANCE, (-AMOUNT, -AMOUNT, customer))
        await connection.execute(_BALANCE, (0, AMOUNT, merchant))
        await connection.execute("UPDATE rl_payments SET state = 'captured' WHERE id = %s", (payment,))


async def _open(connection: Any, customers: list[str], draw: Draw) -> None:
    await connection.execute(_TABLES)
    rows = [(name, FUNDS, True) for name in customers] + [(name, 0, False) for name in draw.everybody]
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO rl_accounts VALUES (%s, 0, %s, %s)", rows)
    await connection.commit()


async def _prove(connection: Any, pairs: int) -> None:
    """The money is all there, nothing is held, and each pair is two entries of two legs."""
    found = await (
        await connection.execute(
            "SELECT (SELECT sum(balance) FROM rl_accounts), (SELECT sum(pending) FROM rl_accounts), (SELECT count(*) FROM rl_entries), "
            "(SELECT count(*) FROM rl_postings), (SELECT count(*) FROM rl_payments WHERE state = 'captured')"
        )
    ).fetchone()
    assert tuple(map(int, found)) == (FUNDS * CUSTOMERS, 0, 2 * pairs, 4 * pairs, pairs), found
