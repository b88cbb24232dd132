"""A machine plays holds, captures, voids and transfers in batches against a model of a few lines; the check proves the book after each."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hanbit.db.change import Change
from tests.unit.db.books import CARD, CASH, HONG, KIM, SHOP, capture, fund, hold, open_book, prove, rows, void, write

START = 1000
SOURCES = (HONG, KIM, CARD)
acts = st.lists(
    st.tuples(
        st.sampled_from(["hold", "capture", "void", "fund"]),
        st.sampled_from(SOURCES),
        st.integers(1, 12),
        st.integers(1, 700),
    ),
    min_size=1,
    max_size=8,
)


@dataclass
class Model:
    """What is free to be spent, what is held and by whom, what the shop has."""

    free: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, START))
    held: dict[str, tuple[str, int]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    funded: set[str] = field(default_factory=set)
    earned: int = 0
    paid_in: int = 2 * START

    def fund(self, source: str, name: str, amount: int) -> str:
        """The answer that the book must give, as in each of these."""
        if name in self.funded:
            return "conflict"
        self.funded.add(name)
        self.free[source] += amount
        self.paid_in += amount
        return ""

    def hold(self, source: str, name: str, amount: int) -> str:
        """Hold what is free, once under each name."""
        if name in self.held or name in self.ended:
            return "conflict"
        if self.free[source] < amount:
            return "no_funds"
        self.free[source] -= amount
        self.held[name] = (source, amount)
        return ""

    def end(self, act: str, name: str) -> str:
        """Capture or void what is held."""
        if name in self.held:
            source, amount = self.held.pop(name)
            self.ended.add(name)
            if act == "capture":
                self.earned += amount
            else:
                self.free[source] += amount
            return ""
        return "stale"


class Ledger(RuleBasedStateMachine):
    """The store and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.store = open_book(Path(self._folder.name), START)
        self.model = Model()
        self.ends: set[tuple[str, str]] = set()

    @rule(batch=acts)
    def play(self, batch: list[tuple[str, str, int, int]]) -> None:
        changes, expected = [], []
        for act, some_source, number, some_amount in batch:
            name, is_end = f"p{number}", act in ("capture", "void")
            source, amount = self.model.held.get(name, (some_source, some_amount)) if is_end else (some_source, some_amount)
            make = {"hold": hold, "capture": capture, "void": void}.get(act)
            entry = fund(name, source, amount) if make is None else make(name, source, amount)
            changes.append(Change(entries=(entry,)))
            model = self.model
            answer = model.end(act, name) if is_end else (model.fund if make is None else model.hold)(source, name, amount)
            if is_end:
                # The same end a second time has an id that exists; the other end of an ended hold is stale.
                answer = "conflict" if answer == "stale" and (act, name) in self.ends else answer
                if answer == "":
                    self.ends.add((act, name))
            expected.append(answer)
        assert write(self.store, *changes) == expected

    @invariant()
    def the_book_says_what_the_model_says(self) -> None:
        found = {
            row[0]: row[1:]
            for row in rows(self.store, "SELECT id, debits_pending, credits_pending, debits_posted, credits_posted FROM ledger_accounts")
        }
        for source in SOURCES:
            pending, _, debits, credits_ = found[source]
            line = START if source == CARD else 0
            assert credits_ + line - debits - pending == self.model.free[source]
        held = sum(amount for _, amount in self.model.held.values())
        assert found[SHOP] == (0, held, 0, self.model.earned)
        assert found[CASH][2] == self.model.paid_in
        prove(self.store)

    def teardown(self) -> None:
        self.store.close()
        self._folder.cleanup()


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=8, deadline=None)
