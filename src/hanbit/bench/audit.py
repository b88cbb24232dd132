"""After the run: book and evidence proved from the store alone, by as many processes as there are cores; a run that fails has no figure."""

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from hanbit.bench.ledger_deals import MERCHANT as PRELOADED
from hanbit.db.reading import Reader
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.evidence.log_check import check as check_log
from hanbit.folder import KEYS_FOLDER, place_at
from hanbit.kernel.errors import Unavailable
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import keyring
from hanbit.parties.registry import Registry
from hanbit.settings import load

BROKEN_SHOWN = 3


async def prove(data: Path) -> list[str]:
    """What is wrong with the book or the evidence; empty where every promise holds."""
    parts = os.cpu_count() or 1
    found = await asyncio.gather(*(_part(data, part, parts) for part in range(parts)))
    return [line for lines in found for line in lines]


async def _part(data: Path, part: int, parts: int) -> list[str]:
    """A share of the work in a process of its own: each verification holds a whole core."""
    arguments = ("-m", "hanbit.bench.audit", str(data), str(part), str(parts))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:  # the run was told to end; a large book's proof would outlive it by minutes
            process.kill()
            await process.wait()
    if process.returncode:
        raise Unavailable("the audit itself failed; see above")
    return [str(line) for line in json.loads(output)]


def prove_part(data: Path, part: int, parts: int) -> list[str]:
    """The evidence of every payment whose tid falls to this part; the first part also proves the ledger."""
    settings = load(data)
    reader = Reader(place_at(data), patient=True)
    try:
        broken: list[str] = []
        if part == 0:
            with reader.snapshot() as connection:
                broken = [f"ledger: {promise}" for promise in check_ledger(connection).broken]
                broken += [f"log: {finding}" for finding in check_log(connection).findings[:BROKEN_SHOWN]]
        registry = Registry(reader, keyring.load(data / KEYS_FOLDER, settings).root, settings.operator)
        signed = (stored for stored in evidence.share(reader, part, parts) if not stored.merchant.startswith(PRELOADED))
        report = check_evidence(signed, registry, lambda _merchant, _tid: None)
        return broken + [f"evidence: {line}" for line in report.broken[:BROKEN_SHOWN]]
    finally:
        reader.close()


def unfinished(data: Path) -> dict[str, int]:
    """How many payments are not captured, and how many outcomes the shop has not acknowledged."""
    reader = Reader(place_at(data), patient=True)
    try:
        (payments,) = reader.all("SELECT count(*) FROM payments WHERE state <> 'captured'")
        return {"payments": payments[0], "outcomes": unacknowledged(reader)}
    finally:
        reader.close()


def unacknowledged(reader: Reader) -> int:
    """Outcomes that the shop has not acknowledged yet; found by the index of what is due."""
    return int(reader.all("SELECT count(*) FROM outbox WHERE next_at IS NOT NULL")[0][0])


def settled_orders(order_book: Path) -> int:
    """Orders that were paid by the shop's own book (after the shop has closed it), whatever went back of them since."""
    sql = "SELECT count(*) FROM orders WHERE state = 'settled' OR (state = 'cancelled' AND refunded_minor > 0)"
    return _count(order_book, sql)


def refunds_agree(data: Path, *order_books: Path) -> list[str]:
    """What is wrong with what went back: the books must have the same sum of the same number of confirmed refunds."""
    reader = Reader(place_at(data), patient=True)
    try:
        (there,) = reader.all("SELECT count(*), coalesce(sum(refunded), 0) FROM cancellations WHERE refunded > 0")
        (total,) = reader.all("SELECT coalesce(sum(refunded), 0) FROM payments")
    finally:
        reader.close()
    here = sum(_count(order_book, "SELECT count(*) FROM cancellations WHERE state = 'confirmed'") for order_book in order_books)
    given_back = sum(_count(order_book, "SELECT coalesce(sum(refunded_minor), 0) FROM orders") for order_book in order_books)
    if (there[0], there[1], total[0]) == (here, given_back, given_back):
        return []
    return [f"the gateway gave back {total[0]} in {there[0]} refunds, the shop knows of {given_back} in {here}"]


def purchases_agree(data: Path, order_book: Path, captured: int) -> list[str]:
    """What is wrong with the purchases by dual signature: both books approve as many as were captured, and the shop holds no envelope."""
    reader = Reader(place_at(data), patient=True)
    try:
        there = int(reader.all("SELECT count(*) FROM exchanges WHERE result = 'approved'")[0][0])
    finally:
        reader.close()
    here = _count(order_book, "SELECT count(*) FROM exchanges WHERE state = 'approved'")
    kept = _count(order_book, "SELECT count(*) FROM exchanges WHERE envelope IS NOT NULL")
    broken = (
        []
        if there == here == captured
        else [f"{captured} captured, of {there} that the gateway approved and {here} that the shop knows of"]
    )
    return broken + ([f"the shop still holds {kept} envelopes"] if kept else [])


def _count(order_book: Path, sql: str) -> int:
    with closing(sqlite3.connect(order_book)) as connection:
        return int(connection.execute(sql).fetchone()[0])


def main(arguments: list[str]) -> None:
    """One part, its findings as JSON on standard output."""
    findings: list[Any] = prove_part(Path(arguments[0]), int(arguments[1]), int(arguments[2]))
    sys.stdout.write(json.dumps(findings))


if __name__ == "__main__":
    main(sys.argv[1:])
