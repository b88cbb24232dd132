"""The exported journal is read and proved by the programs that it is for, to the minor unit of every currency."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from hanbit.db import place as places
from hanbit.db.change import Append, Change
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel.days import begins_at, zone_of
from hanbit.kernel.money import Money
from hanbit.ledger import journal, rules
from hanbit.ledger.chart import KINDS, merchant_account, operator_account
from hanbit.ledger.entry import Entry
from hanbit.parties.customers import ledger_account
from tests import engine
from tests.unit.db.books import NOW, Desk

BEAN_CHECK = Path(sys.executable).with_name("bean-check")
SEOUL = zone_of("Asia/Seoul")
FIRST = date(2027, 1, 15)
SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
CUSTOMER = "_-a-_Z0_"
"""An id whose every sign would mean something else in the name of an account."""
SHOP = "9-shop"
CURRENCIES = ("KRW", "USD", "KWD")
"""None, two and three digits behind the point."""

Prover = Callable[[str], tuple[int, str]]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Desk]:
    """Three days in three currencies: funded; held and captured; given back in part, and another hold that is still open."""
    place = engine.database() or tmp_path / BOOK_FILE
    places.create(place, "bank", NOW)
    desk = Desk(place, places.open_store(place))
    assert desk.write_batch([Change(appends=accounts(currency)) for currency in CURRENCIES], NOW) == [None] * len(CURRENCIES)
    for day in (FIRST, SECOND, THIRD):
        changes = [Change(entries=entries(currency)[day]) for currency in CURRENCIES]
        # The first second of each day, when elsewhere it is still the day before.
        assert desk.write_batch(changes, begins_at(day, SEOUL)) == [None] * len(CURRENCIES)
    yield desk
    desk.close()


@pytest.fixture(params=["hledger", "beancount"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def prove(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> Prover:
    """The program of this format reads a journal: its exit status and what it said."""
    strict = [str(BEAN_CHECK), "--no-cache"] if form == "beancount" else [request.getfixturevalue("hledger"), "check", "--strict", "-f"]
    path = tmp_path / f"book.{form}"

    def run(text: str) -> tuple[int, str]:
        path.write_text(text, "ascii")
        done = subprocess.run([*strict, str(path)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def accounts(currency: str) -> tuple[Append, ...]:
    return (
        ledger_account(operator_account("cash", currency), "operator_cash", currency, limited=KINDS["operator_cash"].limited),
        ledger_account(CUSTOMER + currency, "customer_bank", currency, limited=True),
        ledger_account(merchant_account(SHOP, currency), "merchant", currency, limited=True),
    )


def entries(currency: str) -> dict[date, tuple[Entry, ...]]:
    customer, shop, cash = CUSTOMER + currency, merchant_account(SHOP, currency), operator_account("cash", currency)

    def hold(payment: str, amount: int) -> Entry:
        return rules.hold(payment=payment, attempt=1, source=customer, target=shop, money=Money(amount, currency))

    paid = rules.capture(payment=f"paid-{currency}", attempt=1, source=customer, target=shop, money=Money(1_000_001, currency))
    return {
        FIRST: (rules.transfer(id=f'fund:"a", {currency};\n\\ 돈', debit=cash, credit=customer, money=Money(2_000_003, currency)),),
        SECOND: (hold(f"paid-{currency}", 1_000_001), paid),
        THIRD: (
            rules.transfer(id=f"back-{currency}", debit=shop, credit=customer, money=Money(333_333, currency)),
            hold(f"held-{currency}", 7),
        ),
    }


def export(book: Desk, form: str, since: date | None = None, until: date | None = None) -> str:
    with closing(places.open_for_reading(book.place, patient=True)) as connection:
        of = journal.span(connection, SEOUL, since, until)
        return "".join(journal.write(connection, journal.FORMS[form](), of, operator="bank", zone="Asia/Seoul", days=SEOUL))


@pytest.mark.parametrize(("since", "until"), [(None, None), (SECOND, None), (None, SECOND), (SECOND, SECOND), (THIRD, date(2027, 3, 1))])
def test_the_journal_of_any_days_is_proved_by_its_program(
    book: Desk, form: str, prove: Prover, since: date | None, until: date | None
) -> None:
    text = export(book, form, since, until)
    assert prove(text) == (0, "")
    assert (f"{THIRD} *" in text) is (until != SECOND)
    assert (f"{FIRST} *" in text) is (since is None)


def test_one_minor_unit_more_or_less_is_noticed_in_every_currency(book: Desk, form: str, prove: Prover) -> None:
    """An assertion that lets one through would prove nothing."""
    text = export(book, form)
    shops = {"KRW": ("-666668", "-666667"), "USD": ("-6666.68", "-6666.69"), "KWD": ("-666.668", "-666.667")}
    for currency, (right, wrong) in shops.items():
        status, said = prove(text.replace(f" {right} {currency}", f" {wrong} {currency}").replace(f" {right} ~", f" {wrong} ~"))
        assert status != 0, currency
        assert right.lstrip("-") in said.replace(",", ""), said


def test_a_leg_that_was_altered_no_longer_balances(book: Desk, form: str, prove: Prover) -> None:
    text = export(book, form)
    assert text.count(" 10000.01 USD") == 1
    status, _ = prove(text.replace(" 10000.01 USD", " 10000.02 USD"))
    assert status != 0


def test_what_is_only_held_is_not_in_the_journal(book: Desk, form: str) -> None:
    text = export(book, form)
    assert "held-" not in text
    assert " 0.07 " not in text


def test_a_day_is_one_of_the_operators_zone(book: Desk) -> None:
    """Midnight in Seoul is the day before in most other places."""
    assert f"{SECOND} * (5) capture" in export(book, "hledger")


def test_a_book_without_entries_has_an_empty_journal(tmp_path: Path, form: str, prove: Prover) -> None:
    place = engine.database() or tmp_path / BOOK_FILE
    places.create(place, "bank", NOW)
    store = places.open_store(place)
    with closing(places.open_for_reading(place, patient=True)) as connection:
        of = journal.span(connection, SEOUL, None, None)
        text = "".join(journal.write(connection, journal.FORMS[form](), of, operator="bank", zone="Asia/Seoul", days=SEOUL))
    store.close()
    assert prove(text) == (0, "")


def test_no_two_accounts_have_one_name() -> None:
    found = [
        ("a-ub", "customer_bank"),
        ("a_b", "customer_bank"),
        ("a-b", "customer_bank"),
        ("a--b", "customer_bank"),
        ("a", "customer_card"),
    ]
    merchants = [(f"merchant:{name}:{currency}", "merchant") for name in ("a", "b", "a-b", "9") for currency in ("KRW", "USD")]
    operators = [(operator_account(kind.removeprefix("operator_"), "KRW"), kind) for kind in KINDS if kind.startswith("operator_")]
    names = {
        journal.account_name(account, kind, account.rpartition(":")[2] if ":" in account else "KRW")
        for account, kind in (*found, *merchants, *operators)
    }
    assert len(names) == len(found) + len(merchants) + len(operators)
    assert set(journal.BRANCHES) == set(KINDS)
