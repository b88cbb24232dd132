"""`hanbit evidence check` and `resume`, `hanbit merchant checkpoint`: what a person is told of a book that is whole, forged or old."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hanbit.db.change import Change
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.evidence import store
from hanbit.folder import close_gateway, hold, open_gateway
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.witness import CONTRADICTS, HELD
from hanbit.payments import checkpoints, halt
from hanbit.payments.sign_in import act
from tests.unit.cli.world import copy_of, make_folder, run, run_json, told

ENROLLED = Path(__file__).parents[2] / "data" / "release-1" / "shop"
"""A shop's folder as enrolment leaves it."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose log was signed once."""
    made = make_folder(tmp_path_factory.mktemp("evidence") / "data")
    asyncio.run(_with(made, checkpoints.sign_due))
    return made


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return copy_of(original, tmp_path / "data")


async def _with(folder: Path, do: Any) -> Any:
    with hold(folder):
        gateway = open_gateway(folder, SystemClock())
        try:
            return await do(gateway)
        finally:
            await close_gateway(gateway)


def signed(data: Path) -> str:
    """The last checkpoint, as a merchant would hold it."""
    reader = Reader(data / BOOK_FILE)
    try:
        row = reader.one("SELECT hash FROM checkpoints ORDER BY size DESC")
        assert row is not None
        compact = store.compact(reader, "", "", row["hash"])
        assert compact is not None
        return compact
    finally:
        reader.close()


def test_a_whole_book_is_said_to_be_whole(data: Path) -> None:
    assert "nothing was altered" in run("evidence", "check", "--data", data).stdout
    result = run_json("evidence", "check", "--data", data)
    assert (result["whole"], result["first"], result["checkpoints"], result["messages"]) == (True, None, 1, 4)


def test_a_forged_row_is_named_first_and_the_status_says_so(data: Path) -> None:
    with closing(sqlite3.connect(data / BOOK_FILE, isolation_level=None)) as forger:
        forger.execute("DROP TRIGGER audit_no_update")
        (name,) = forger.execute("SELECT value FROM settings WHERE name = 'halted'").fetchone()
        forger.execute("UPDATE settings SET value = 'x' WHERE name = 'halted'")
        assert name == ""
    result = run("evidence", "check", "--data", data)
    assert result.exit_code == 1
    assert 'THE EVIDENCE IS BROKEN, first: settings ["halted"]: altered after leaf 0' in result.stdout
    as_json = run("evidence", "check", "--data", data, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["first"].startswith('settings ["halted"]')


def test_an_older_copy_is_found_against_what_a_merchant_holds(data: Path, original: Path, tmp_path: Path) -> None:
    async def grow(gateway: Any) -> None:
        await gateway.book.commit(Change(appends=(act(gateway.clock.now(), "test", "grew", "ok"),)))
        await gateway.book.commit(Change(appends=(act(gateway.clock.now(), "test", "grew", "again"),)))
        checkpoints.EVERY_S, every = 0, checkpoints.EVERY_S
        try:
            await checkpoints.sign_due(gateway)
        finally:
            checkpoints.EVERY_S = every

    asyncio.run(_with(data, grow))
    held = tmp_path / "shop.checkpoint"
    held.write_text(signed(data) + "\n", "ascii")
    assert run_json("evidence", "check", "--data", data, "--checkpoint", held)["whole"]
    old = run("evidence", "check", "--data", original, "--checkpoint", held)
    assert old.exit_code == 1
    assert "it is an older copy, or was cut" in old.stdout


def test_a_checkpoint_that_nobody_of_ours_signed_is_refused(data: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    forged.write_text(signed(data)[:-6] + "AAAAAA", "ascii")
    assert "no checkpoint that this operator's gateway signed" in told(run("evidence", "check", "--data", data, "--checkpoint", forged))[0]
    forged.write_bytes(b"\xff")
    assert "no checkpoint" in told(run("evidence", "check", "--data", data, "--checkpoint", forged))[0]


def test_a_folder_without_a_book_or_root_says_what_to_do(data: Path, tmp_path: Path) -> None:
    assert "is missing" in told(run("evidence", "check", "--data", tmp_path))[0]
    root = (data / "keys" / "root.pem").rename(tmp_path / "root.pem")
    assert "--root" in told(run("evidence", "check", "--data", data))[1]
    assert run_json("evidence", "check", "--data", data, "--root", root)["whole"]


def test_resume_needs_a_halt_and_a_reason_and_is_kept(data: Path) -> None:
    assert "payments are being taken" in told(run("evidence", "resume", "--reason", "x", "--data", data))[0]
    asyncio.run(_with(data, lambda gateway: halt.halt(gateway, "test", {"reason": "older_copy", "merchant": "shop"})))
    assert "say why" in told(run("evidence", "resume", "--reason", " ", "--data", data))[0]
    assert run_json("evidence", "resume", "--reason", "looked at it", "--data", data)["halted"]["merchant"] == "shop"
    assert run("evidence", "resume", "--reason", "x", "--data", data).exit_code == 1
    with closing(sqlite3.connect(data / BOOK_FILE)) as book:
        acts = [row[0] for row in book.execute("SELECT act FROM audit WHERE act LIKE 'payments %' ORDER BY rowid")]
    assert acts == ["payments halted", "payments resumed"]
    assert run_json("evidence", "check", "--data", data)["whole"]


def test_a_shop_writes_what_it_holds_and_what_contradicts_it(data: Path, tmp_path: Path) -> None:
    directory, out = copy_of(ENROLLED, tmp_path / "shop"), tmp_path / "shop.checkpoint"
    for path in (directory / "keys").iterdir():
        path.chmod(0o600)
    assert "no checkpoint yet" in told(run("merchant", "checkpoint", "-o", out, "--directory", directory))[0]
    compact = signed(data)

    async def keep(name: str, content: str) -> None:
        book = OrderBook(directory / "orders.db", lambda *_: None)  # type: ignore[arg-type]  # nothing is acknowledged here
        await book.hold(name, content, 1)
        await book.close()

    asyncio.run(keep(HELD, compact))
    assert run_json("merchant", "checkpoint", "-o", out, "--directory", directory)["contradiction_name"] is None
    assert out.read_text("ascii").strip() == compact
    assert run_json("evidence", "check", "--data", data, "--checkpoint", out)["whole"]
    other = compact.replace("A", "B")
    asyncio.run(keep(CONTRADICTS, other))
    assert run("merchant", "checkpoint", "-o", out, "--directory", directory).exit_code == 1
    assert (tmp_path / "shop.checkpoint.contradicts").read_text("ascii").strip() == other
    assert run("merchant", "checkpoint", "-o", out, "--directory", directory, "--accept", "A" * 43).exit_code == 1
    asyncio.run(keep(CONTRADICTS, compact))
    accepted = run_json("merchant", "checkpoint", "-o", out, "--directory", directory, "--accept", ids.digest(compact.encode("ascii")))
    assert accepted["contradiction_name"] is None
