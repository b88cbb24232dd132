"""The order book: exact bytes, history that only grows, shared commits and acknowledgements, bounded queue, one owner, full disks."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.merchant import book_file, order_book
from hanbit.merchant.states import State
from tests.unit.merchant.support import Parties, confirmed, kinds, place


@pytest.fixture
def parties() -> Parties:
    return Parties()


async def test_every_message_is_kept_with_its_exact_bytes(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        order, notice, confirmation = await confirmed(parties, shop)
        settled = parties.settled(confirmation.claims, confirmation.hash)
        acknowledgement = await shop.receive(settled.compact)
        kept = await shop.book.messages(order.tid)
        assert kinds(kept) == ["order", "notice", "confirmation", "settled"]
        assert [message.compact for message in kept[1:]] == [notice.compact, confirmation.compact, settled.compact]
        assert [message.direction for message in kept] == ["sent", "received", "sent", "received"]
        assert kept[0].hash == order.order_hash
        assert parties.read_acknowledgement(acknowledgement).claims.req == (settled.hash,)
    async with parties.open_shop(tmp_path) as reopened:
        assert await reopened.book.messages(order.tid) == kept
        assert [(step.event, step.state) for step in await reopened.book.history(order.tid)] == [
            ("placed", State.PLACED),
            ("notice_confirmed", State.CONFIRMED),
            ("settled", State.SETTLED),
        ]


async def test_the_same_request_gets_the_same_bytes_for_ever(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        _, notice, confirmation = await confirmed(parties, shop)
        settled = parties.settled(confirmation.claims, confirmation.hash)
        acknowledgement = await shop.receive(settled.compact)
    async with parties.open_shop(tmp_path) as reopened:
        assert await reopened.receive(notice.compact) == confirmation.compact
        assert await reopened.receive(settled.compact) == acknowledgement


async def test_what_queued_during_a_commit_shares_the_next_and_one_acknowledgement(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        commits: list[int] = []
        shop.book._connection.set_trace_callback(lambda statement: commits.append(1) if statement == "COMMIT" else None)
        exchanges = await asyncio.gather(*(confirmed(parties, shop) for _ in range(150)))
        assert len(commits) < 20
        outcomes = [parties.settled(confirmation.claims, confirmation.hash) for _, _, confirmation in exchanges]
        answers = await asyncio.gather(*(shop.receive(outcome.compact) for outcome in outcomes))
        sent = [parties.read_acknowledgement(answer).claims.req for answer in answers if answer is not None]
        assert len(sent) < 10
        assert max(map(len, sent)) == 100
        assert sorted(name for names in sent for name in names) == sorted(outcome.hash for outcome in outcomes)
        # Asked again, each outcome is answered, with the stored bytes of the message that it shares with others.
        again = [await shop.receive(outcome.compact) for outcome in outcomes]
        assert {answer for answer in again if answer} == {answer for answer in answers if answer}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET at = 0",
        "UPDATE answers SET answer = 1",
        "UPDATE notices SET confirmed = 0",
        "UPDATE headers SET header = 'x'",
        "UPDATE orders SET amount_minor = 1",
        "UPDATE legal_steps SET next = 'settled'",
        "DELETE FROM journal",
        "DELETE FROM answers",
        "DELETE FROM notices",
        "DELETE FROM headers",
        "DELETE FROM orders",
        "DELETE FROM legal_steps",
    ],
)
async def test_history_is_never_edited_nor_deleted(parties: Parties, tmp_path: Path, statement: str) -> None:
    async with parties.open_shop(tmp_path) as shop:
        await confirmed(parties, shop)
        with pytest.raises(sqlite3.IntegrityError):
            shop.book._connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET state = 'placed', payment = NULL, version = version + 1",  # back to the start
        "UPDATE orders SET state = 'settled', version = version + 1",  # without its outcome
        "UPDATE orders SET payment = 'another payment', version = version + 1",
        "UPDATE orders SET state = 'voided', outcome = 'x', version = version + 2",
        "UPDATE orders SET amount_minor = '12,000'",
        "UPDATE orders SET state = 'voided', outcome = 'x'",  # a step that no version tells of
    ],
)
async def test_the_schema_itself_refuses_an_illegal_step(parties: Parties, tmp_path: Path, statement: str) -> None:
    async with parties.open_shop(tmp_path) as shop:
        await confirmed(parties, shop)
        with pytest.raises(sqlite3.IntegrityError):
            shop.book._connection.execute(statement)


async def test_one_change_that_the_schema_refuses_does_not_take_its_neighbours_along(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        first, second = [await shop.order((await place(shop)).tid) for _ in range(2)]
        # A row that the code would never write: the second order has a payment although it is still placed.
        shop.book._connection.execute("UPDATE orders SET payment = 'p', version = 2 WHERE tid = ?", (second.tid,))
        honest, odd = parties.notice(first), parties.notice(second)
        answers = await asyncio.gather(shop.receive(honest.compact), shop.receive(odd.compact), return_exceptions=True)
        assert isinstance(answers[1], sqlite3.IntegrityError)
        assert isinstance(answers[0], str)
        parties.read_confirmation(answers[0])
        assert (await shop.order(second.tid)).state is State.PLACED


async def test_a_second_process_cannot_open_the_book(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path):
        with pytest.raises(Unavailable, match="another process"):
            async with parties.open_shop(tmp_path):
                pass
    async with parties.open_shop(tmp_path):
        pass


async def test_no_second_connection_gets_at_an_open_book(parties: Parties, tmp_path: Path) -> None:
    """A log that two connections checkpoint at once is spoiled by the libraries that many systems still have."""
    async with parties.open_shop(tmp_path) as shop:
        await place(shop)
        with closing(sqlite3.connect(tmp_path / "orders.db", timeout=0)) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT count(*) FROM orders")


async def test_a_book_of_another_version_is_left_alone(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        shop.book._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="schema 99"):
        async with parties.open_shop(tmp_path):
            pass


def test_only_the_owner_may_read_the_files(parties: Parties, tmp_path: Path) -> None:
    async def modes() -> dict[str, int]:
        async with parties.open_shop(tmp_path) as shop:
            await place(shop)
            return {path.name: path.stat().st_mode & 0o077 for path in tmp_path.glob("orders.db*")}  # noqa: ASYNC240 - a look

    assert asyncio.run(modes()) == {"orders.db": 0, "orders.db-wal": 0}


async def test_the_queue_is_bounded(parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_book, "QUEUE_MAX", 4)
    async with parties.open_shop(tmp_path) as shop:
        results = await asyncio.gather(*(place(shop) for _ in range(32)), return_exceptions=True)
        turned_away = [result for result in results if isinstance(result, Unavailable)]
        assert 0 < len(turned_away) < 32
        assert len([result for result in results if not isinstance(result, BaseException)]) == 32 - len(turned_away)


@pytest.mark.parametrize("where", ["statement", "commit"])
async def test_a_full_disk_is_unavailable_and_the_book_goes_on(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with parties.open_shop(tmp_path) as shop:
        order = await shop.order((await place(shop)).tid)
        notice = parties.notice(order)

        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(shop.book, "_insert" if where == "statement" else "_commit_now", full)
            with pytest.raises(Unavailable):
                await shop.receive(notice.compact)
        assert await shop.order(order.tid) == order
        assert kinds(await shop.book.messages(order.tid)) == ["order"]
        parties.read_confirmation(await shop.receive(notice.compact))


async def test_a_disk_that_is_really_full_is_unavailable(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        order = await shop.order((await place(shop)).tid)
        pages = shop.book._connection.execute("PRAGMA page_count").fetchone()[0]
        shop.book._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable):
            await asyncio.gather(*(place(shop) for _ in range(200)))
        # After the failure the file is opened anew, here without the limit, and nothing that was acknowledged is lost.
        assert await shop.order(order.tid) == order
        await place(shop)


async def test_a_book_whose_log_finds_no_room_in_the_file_is_open_and_cut_later(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with parties.open_shop(tmp_path) as shop:
        order = await shop.order((await place(shop)).tid)
    cut: list[str] = []

    def full(_: Any) -> None:
        cut.append("tried")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(book_file, "forget", full)
    async with parties.open_shop(tmp_path) as shop:
        assert await shop.order(order.tid) == order
        assert cut == ["tried"]
        monkeypatch.setattr(book_file, "forget", lambda _: cut.append("done"))
        await place(shop)
        await place(shop)
    assert cut == ["tried", "done"]


async def test_a_caller_that_goes_away_leaves_the_others_alone(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        tasks = [asyncio.create_task(place(shop)) for _ in range(6)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, False, True, False, False, False]


async def test_headers_with_certificates_are_stored_once(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        exchanges = [await confirmed(parties, shop) for _ in range(5)]
        for _, _, confirmation in exchanges:
            await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
        # order, notice, confirmation, settled, acknowledgement
        assert shop.book._connection.execute("SELECT count(*) FROM headers").fetchone() == (5,)
        kept = await shop.book.messages(exchanges[0][0].tid)
        assert parties.read_confirmation(kept[2].compact) == exchanges[0][2]
