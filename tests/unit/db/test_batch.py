"""A batch decides each Change by itself: whole or not at all, in order, and the book's time never goes back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanbit.db import place as places
from hanbit.db.change import Acknowledge, Append, Change, Put, Require, StoredMessage, Value
from hanbit.db.commit import Book
from hanbit.db.place import Place
from hanbit.db.sqlite import SqliteStore
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import Conflict, Declined, Unavailable
from hanbit.ledger.entry import Entry
from tests.unit.db.books import CARD, HONG, KIM, NOW, Desk, capture, fund, hold, note, notes, open_book, prove, rows, void, write


@pytest.fixture
def store(empty_place: Place) -> Iterator[Desk]:
    desk = open_book(empty_place)
    yield desk
    desk.close()


def change(name: str, *entries: Entry, **parts: object) -> Change:
    return Change(entries=entries, appends=(note(name),), **parts)  # type: ignore[arg-type]  # whichever parts of a Change


def setting(value: str, version: int, name: str = "x") -> Put:
    return Put("settings", {"name": name, "value": value}, version)


def message(number: str, jti: str) -> StoredMessage:
    return StoredMessage(number, "hanbit-order", "header", "{}", "sig", "urn:a", jti, "shop", "tid")


def test_each_change_is_turned_away_by_itself(store: Desk) -> None:
    answers = write(
        store,
        change("held", hold("p1", HONG, 700)),
        change("poor", hold("p2", HONG, 400)),
        change("rest", hold("p3", HONG, 300)),
        change("nobody", hold("p4", "nobody", 1)),
        change("dollars", hold("p5", "dollars", 1)),
        change("again", hold("p1", KIM, 1)),
        change("card", hold("p6", CARD, 1000)),
        change("over", hold("p7", CARD, 1)),
    )
    assert answers == ["", "no_funds", "", "conflict", "conflict", "conflict", "", "no_funds"]
    assert notes(store) == {"held", "rest", "card"}
    prove(store)


def test_money_freed_in_a_batch_can_be_spent_in_it(store: Desk) -> None:
    assert write(store, change("hold", hold("p1", HONG, 1000))) == [""]
    answers = write(
        store, change("poor", hold("p2", HONG, 1)), change("void", void("p1", HONG, 1000)), change("rich", hold("p3", HONG, 1000))
    )
    assert answers == ["no_funds", "", ""]
    prove(store)


def test_a_change_of_many_entries_is_wholly_there_or_wholly_absent(store: Desk) -> None:
    assert write(store, change("both", hold("p1", HONG, 600), hold("p2", HONG, 600))) == ["no_funds"]
    assert write(store, change("one", hold("p3", HONG, 1000))) == [""], "the first hold was taken back"
    assert notes(store) == {"one"}
    prove(store)


def test_a_hold_ends_at_most_once(store: Desk) -> None:
    write(store, change("hold", hold("p1", HONG, 500)))
    answers = write(store, change("capture", capture("p1", HONG, 500)), change("void", void("p1", HONG, 500)))
    assert answers == ["", "stale"]
    assert write(store, change("void", void("p1", HONG, 500)), change("capture again", capture("p1", HONG, 500))) == ["stale", "conflict"]
    assert write(store, change("never held", capture("p9", HONG, 1))) == ["stale"]
    prove(store)


def test_no_more_is_captured_than_was_held(store: Desk) -> None:
    write(store, change("hold", hold("p1", HONG, 500)))
    assert write(store, change("more", capture("p1", HONG, 501))) == ["conflict"]
    assert write(store, change("all", capture("p1", HONG, 500))) == [""]
    prove(store)


def test_one_change_may_hold_and_capture_wholly_or_not_at_all(store: Desk) -> None:
    answers = write(
        store,
        change("both", hold("p1", HONG, 600), capture("p1", HONG, 600)),
        change("poor", hold("p2", HONG, 400), capture("p2", HONG, 400), hold("p3", HONG, 1)),
        change("twice", hold("p4", HONG, 100), capture("p4", HONG, 100), void("p4", HONG, 100)),
        change("more", hold("p4", HONG, 100), capture("p4", HONG, 101)),
        change("rest", hold("p4", HONG, 400), capture("p4", HONG, 400)),
        change("gone", void("p1", HONG, 600)),
    )
    assert answers == ["", "no_funds", "stale", "conflict", "", "stale"], "nothing stayed of what was turned away"
    assert notes(store) == {"both", "rest"}
    prove(store)


def test_only_a_hold_can_be_ended(store: Desk) -> None:
    ends_a_transfer = Entry("capture:x", "capture", fund("x", HONG, 1).money, fund("x", HONG, 1).postings, ends=f"fund:{HONG}")
    assert write(store, change("x", ends_a_transfer)) == ["stale"]


def test_a_stale_version_is_turned_away_and_the_next_one_is_not(store: Desk) -> None:
    answers = write(
        store,
        change("made", puts=(setting("a", 0),)),
        change("made again", puts=(setting("b", 0),)),
        change("next", puts=(setting("c", 1),)),
        change("stale", puts=(setting("d", 1),)),
    )
    assert answers == ["", "stale", "", "stale"]
    assert rows(store, "SELECT value, version FROM settings WHERE name = 'x'") == [("c", 2)]
    assert notes(store) == {"made", "next"}


OTHER = {"state": "active", "password": "", "language": "ko", "webauthn_user": "w", "email": None}


def test_only_the_columns_that_a_change_names_are_written_and_later_ones_add_theirs(store: Desk) -> None:
    def person(login: str, name: str, version: int, *changed: str) -> Put:
        row = {"id": "p", "login": login, "name": name, **OTHER}
        return Put("customers", {**row, "created_at": NOW}, version, changed or None)

    assert write(store, change("1", puts=(person("anna", "A", 0, "name"),))) == [""], "a new row is whole"
    assert write(store, change("2", puts=(person("anna", "B", 1, "name"),))) == [""]
    assert write(store, change("3", puts=(person("berta", "B", 2, "login"),)), change("4", puts=(person("berta", "C", 3, "name"),))) == [
        "",
        "",
    ]
    assert rows(store, "SELECT login, name, version FROM customers") == [("berta", "C", 4)]
    assert write(store, change("5", puts=(person("berta", "D", 4, "name"),)), change("6", puts=(person("clara", "D", 5),))) == ["", ""]
    assert rows(store, "SELECT login, name, version FROM customers") == [("clara", "D", 6)]
    prove(store)


def test_an_index_follows_a_row_that_changes_twice_in_a_batch(store: Desk) -> None:
    def person(login: str, version: int, name: str = "p") -> Put:
        row = {"id": name, "login": login, "name": "", **OTHER}
        return Put("customers", {**row, "created_at": NOW}, version)

    assert write(store, change("1", puts=(person("anna", 0),)), change("2", puts=(person("berta", 1),))) == ["", ""]
    assert write(store, change("3", puts=(person("berta", 2),))) == [""], "nothing of an index changes"
    assert write(store, change("4", puts=(person("clara", 3),)), change("5", puts=(person("berta", 4),))) == ["", ""]
    assert write(store, change("6", puts=(person("clara", 5),)), change("7", puts=(person("clara", 6),))) == ["", ""]
    assert write(store, change("8", puts=(person("clara", 0, "q"),))) == ["conflict"], "the name is taken"
    assert write(store, change("9", puts=(person("berta", 0, "q"),))) == [""], "the old one is free"
    assert rows(store, "SELECT id, login, version FROM customers ORDER BY id") == [("p", "clara", 7), ("q", "berta", 1)]
    assert rows(store, "SELECT id FROM customers WHERE login = 'clara'") == [("p",)]


def test_a_requirement_is_read_under_the_lock(store: Desk) -> None:
    write(store, change("row", puts=(setting("active", 0),)))
    needs = Require("settings", "x", "value", "active", Declined("account_suspended"))
    missing = Require("settings", "nothing", "value", "active", Declined("merchant_suspended"))
    answers = write(
        store,
        change("good", requires=(needs,)),
        change("suspended", puts=(setting("suspended", 1),)),
        change("late", hold("p1", HONG, 1), requires=(needs,)),
        change("missing", requires=(missing,)),
    )
    assert answers == ["", "", "account_suspended", "merchant_suspended"]
    prove(store)


def test_an_acknowledgement_of_nothing_that_waits_does_nothing_and_spares_its_batch(store: Desk) -> None:
    nothing, unknown = Acknowledge("shop", ()), Acknowledge("shop", (("hash", "tid"),))
    answers = write(
        store, change("paid", hold("p1", HONG, 1)), change("none", acknowledges=(nothing,)), change("known", acknowledges=(unknown,))
    )
    alone = write(store, change("alone", acknowledges=(nothing,)))  # a batch of it alone once failed on PostgreSQL
    assert answers + alone == [""] * 4
    assert rows(store, "SELECT * FROM outbox") == []
    prove(store)


def test_a_constraint_that_the_decision_missed_turns_away_the_guilty_change_only(store: Desk) -> None:
    broken = Append("ledger_accounts", {**_account("odd"), "debits_posted": -1})
    answers = write(
        store,
        change("before", hold("p1", HONG, 1)),
        Change(appends=(note("broken"), broken)),
        change("twice", puts=(setting("a", 0),)),
        Change(appends=(note("twice"),)),
        change("after", hold("p2", KIM, 1)),
    )
    assert answers == ["", "conflict", "", "conflict", ""]
    assert notes(store) == {"before", "twice", "after"}
    prove(store)


def _account(name: str) -> dict[str, str | int | None]:
    counters = {f"{side}_{what}": 0 for side in ("debits", "credits") for what in ("pending", "posted")}
    return {"id": name, "kind": "customer_bank", "currency": "KRW", "limited": 1, "credit_limit": 0, **counters}


def test_what_the_database_says_of_its_tables_is_told_to_nobody(store: Desk) -> None:
    (answer,) = store.write_batch([Change(appends=(note("x"), note("x")))], NOW)
    assert isinstance(answer, Conflict)
    assert "audit" not in str(answer)


def test_a_number_used_with_other_bytes_is_a_broken_rule_and_the_same_bytes_are_stale(store: Desk) -> None:
    assert write(store, Change(messages=(message("h1", "j1"),))) == [""]
    answers = write(
        store, Change(messages=(message("h2", "j1"),)), Change(messages=(message("h1", "j1"),)), Change(messages=(message("h3", "j3"),))
    )
    assert answers == ["jti", "stale", ""]
    assert [row[0] for row in rows(store, "SELECT hash FROM messages ORDER BY leaf, place")] == ["h1", "h3"]


@pytest.mark.parametrize(("purpose", "answer"), [("merchant-sign", "certificate_dates"), ("gateway-sign", "unavailable")])
def test_what_waited_beyond_the_end_of_its_certificate_is_not_kept(store: Desk, purpose: str, answer: str) -> None:
    """Evidence is verified as of when it was stored: a peer whose key ends at this second must not leave what can never be proved."""
    header = ids.encode_base64url(b'{"kid":"key"}')
    row: dict[str, Value] = dict.fromkeys(("kid", "urn", "chain", "serial"), "key")
    row |= {"purpose": purpose, "not_before": 0, "not_after": NOW + 60, "issued_at": 0, "revoked_at": None}
    assert write(store, Change(puts=(Put("certificates", row, 0),))) == [""]
    signed = [StoredMessage(number, "hanbit-order", header, "{}", "sig", "urn:a", number, "shop", "tid") for number in ("1", "2", "3")]
    assert write(store, Change(messages=(signed[0],)), at=NOW + 60) == [""], "its last second"
    answers = write(store, change("late", hold("p1", HONG, 500), messages=(signed[1],)), change("other"), at=NOW + 61)
    assert answers == [answer, ""]
    assert write(store, Change(messages=(signed[2],)), at=NOW) == [answer], "the book's time never goes back"
    assert rows(store, "SELECT hash FROM messages") == [("1",)]
    assert rows(store, "SELECT debits_pending FROM ledger_accounts WHERE debits_pending > 0") == []
    assert notes(store) == {"other"}
    prove(store)


def test_numbers_of_entries_and_leaves_have_no_gap(store: Desk) -> None:
    write(store, change("a", hold("p1", HONG, 1)), change("poor", hold("p2", HONG, 9999)), change("b", hold("p3", HONG, 1)))
    assert [row[0] for row in rows(store, "SELECT number FROM entries ORDER BY number")] == [1, 2, 3, 4]
    assert rows(store, "SELECT next_entry FROM book") == [(5,)]


def test_the_books_time_never_goes_back(store: Desk) -> None:
    write(store, change("a", hold("p1", HONG, 1)), at=NOW + 100)
    write(store, change("b", hold("p2", HONG, 1)), at=NOW - 1_000_000)
    write(store, change("c", hold("p3", HONG, 1)), at=NOW + 101)
    assert [row[0] for row in rows(store, "SELECT at FROM entries WHERE kind = 'hold' ORDER BY number")] == [
        NOW + 100,
        NOW + 100,
        NOW + 101,
    ]
    assert rows(store, "SELECT time FROM book") == [(NOW + 101,)]


def test_an_acknowledgement_reaches_only_its_own_merchants_outcomes(store: Desk) -> None:
    for name, merchant in (("h1", "shop"), ("h2", "other")):
        row: dict[str, str | int | None] = {
            "hash": name,
            "version": 1,
            "merchant": merchant,
            "tid": "t",
            "next_at": NOW,
            "tries": 0,
            "stored_at": NOW,
            "acknowledged_at": None,
        }
        write(store, Change(appends=(Append("outbox", row),)))
    write(store, Change(acknowledges=(Acknowledge("shop", (("h1", "t"), ("h2", "t"), ("h3", "t"))),)), at=NOW + 5)
    write(store, Change(acknowledges=(Acknowledge("shop", (("h1", "t"),)),)), at=NOW + 9)
    assert rows(store, "SELECT hash, version, next_at, acknowledged_at FROM outbox ORDER BY hash") == [
        ("h1", 2, None, NOW + 5),
        ("h2", 1, NOW, None),
    ]


def test_a_full_disk_is_unavailable_and_nothing_is_there(tmp_path: Path) -> None:
    store = open_book(tmp_path)
    assert isinstance(store.store, SqliteStore)
    connection = store.store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = [
        Change(appends=tuple(note(f"{batch}-{row}-{'x' * 500}") for row in range(20)), entries=(hold(f"p{batch}", HONG, 1),))
        for batch in range(8)
    ]
    assert write(store, *big) == ["unavailable"] * 8
    assert notes(store) == set()
    prove(store)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert write(store, *big) == [""] * 8
    prove(store)


async def test_commits_that_queue_share_a_batch_and_each_has_its_own_answer(store: Desk) -> None:
    sizes: list[int] = []
    book = Book(lambda: places.open_store(store.place), ManualClock(NOW), observe=lambda size, _: sizes.append(size))
    try:
        answers = await asyncio.gather(
            *(book.commit(change(f"n{at}", hold(f"p{at}", HONG, 300))) for at in range(10)), return_exceptions=True
        )
    finally:
        await book.close()
    assert [isinstance(answer, Declined) for answer in answers] == [False] * 3 + [True] * 7
    assert sum(sizes) == 10
    assert len(sizes) < 10
    with pytest.raises(Unavailable):
        await book.commit(Change())
    prove(store)


async def test_closing_finishes_what_waits(store: Desk) -> None:
    book = Book(lambda: places.open_store(store.place), ManualClock(NOW))
    waiting = [asyncio.create_task(book.commit(change(f"n{at}", hold(f"p{at}", HONG, 1)))) for at in range(5)]
    await asyncio.sleep(0)
    await book.close()
    await asyncio.gather(*waiting)
    assert len(notes(store)) == 5


async def test_a_bug_in_one_change_is_told_to_its_caller_and_the_book_goes_on(store: Desk) -> None:
    book = Book(lambda: places.open_store(store.place), ManualClock(NOW))
    try:
        with pytest.raises(KeyError):
            await book.commit(Change(appends=(Append("audit", {"id": "x"}),)))
        await book.commit(change("good", hold("p1", HONG, 1)))
    finally:
        await book.close()
    assert notes(store) == {"good"}
