"""Searches a model of this folder for attacks, state by state and within a named bound, and holds it to what expected.toml says."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import maude
import msgspec

FOLDER = Path(__file__).parent
EXPECTED = FOLDER / "expected.toml"
STUCK = "stuck"
"""The attack of a model that says what is final: from some state no final one can be reached."""


class BoundExceeded(Exception):
    """A search met more states than its model's `states_max`: what it says beyond that is nothing."""


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A state to look for: bad (an attack), wanted (an honest run), or one of those in which nothing is left to do."""

    says: str
    pattern: str
    unless: str | None = None
    """A term of sort Bool; where it is true, a state of this pattern is not meant."""


class MinimalSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without just these defences of a mode, these attacks are found."""

    mode: str
    without: tuple[str, ...]
    finds: tuple[str, ...]
    how: str


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model and what is expected of it."""

    title: str
    file: str
    module: str
    states_max: int
    defences: dict[str, str]
    modes: dict[str, tuple[str, ...]]
    attacks: dict[str, Goal]
    runs: dict[str, Goal]
    sets: tuple[MinimalSet, ...]
    final: Goal | None = None
    """Where it is given, such a state can be reached from every state, or that is the attack STUCK."""
    chance: tuple[str, ...] = ()
    """Steps that nobody owes: what becomes final only by them is stuck."""

    @property
    def bad(self) -> dict[str, str]:
        """Every attack by name, with what it says."""
        return {name: goal.says for name, goal in self.attacks.items()} | ({STUCK: self.final.says} if self.final is not None else {})


@dataclass(frozen=True, slots=True)
class Found:
    """What one search met: the names of the goals, each with the steps that led there, and how many states were looked at."""

    goals: dict[str, tuple[str, ...]]
    states: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step between two states, which go by their numbers."""

    before: int
    label: str
    after: int


def expectations(path: Path = EXPECTED) -> dict[str, Model]:
    """Every model by name; a misspelt or unknown word in the file raises here."""
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), dict[str, Model])


class Graph:
    """The states that can be reached with some of a model's defences, in the order of a search breadth first."""

    def __init__(self, model: Model, defences: tuple[str, ...]) -> None:
        self.module = _module(model.file, model.module)
        self._graph = maude.RewriteGraph(_parsed(self.module, f"start({' '.join(defences) or 'none'})"))
        self._model = model
        self._off = set(model.defences) - set(defences)

    def states(self) -> Iterator[int]:
        """The number of each state; BoundExceeded instead of one more than the model allows."""
        state = 0
        while state < self._graph.getNrStates():
            if state >= self._model.states_max:
                off = " and ".join(sorted(self._off)) or "nothing"
                raise BoundExceeded(f"{self._model.module} without {off}: more than {self._model.states_max} states")
            yield state
            for _ in self.following(state):
                pass
            state += 1

    def following(self, state: int) -> Iterator[int]:
        """The states that one step leads to."""
        index = 0
        while (after := self._graph.getNextState(state, index)) != -1:
            yield after
            index += 1

    def term(self, state: int) -> Any:
        """The state itself."""
        return self._graph.getStateTerm(state)

    def steps(self) -> Iterator[Step]:
        """Every step of the whole graph; where two rules lead from one state to the same other, one of them."""
        for state in self.states():
            for after in self.following(state):
                yield Step(state, self._label(state, after), after)

    def path(self, state: int) -> tuple[str, ...]:
        """The steps of a shortest way to a state."""
        labels: list[str] = []
        while (parent := self._graph.getStateParent(state)) != -1:
            labels.insert(0, self._label(parent, state))
            state = parent
        return tuple(labels)

    def is_goal(self, state: int, goal: tuple[Any, list[Any]]) -> bool:
        """True if the state is one of those that the goal names."""
        return next(iter(self.term(state).match(*goal)), None) is not None

    def parsed(self, goal: Goal) -> tuple[Any, list[Any]]:
        """The goal's pattern and condition as terms of the model."""
        condition = [] if goal.unless is None else [_equals_false(self.module, goal.unless)]
        return _parsed(self.module, goal.pattern), condition

    def _label(self, before: int, after: int) -> str:
        return str(self._graph.getRule(before, after).getLabel())


def search(model: Model, defences: tuple[str, ...], goals: dict[str, Goal], *, until: frozenset[str] | None = None) -> Found:
    """Look at every state that can be reached with these defences; stop early once all goals of `until` were met."""
    graph = Graph(model, defences)
    missing = {name: graph.parsed(goal) for name, goal in goals.items()}
    found: dict[str, tuple[str, ...]] = {}
    states = 0
    for state in graph.states():
        states += 1
        for name in [name for name, goal in missing.items() if graph.is_goal(state, goal)]:
            found[name] = graph.path(state)
            del missing[name]
        if until is not None and until <= set(found):
            return Found(found, states)
    if model.final is not None:
        stuck = next(_stuck(model, model.final, graph), None)
        if stuck is not None:
            found[STUCK] = graph.path(stuck)
    return Found(found, states)


def _stuck(model: Model, final: Goal, graph: Graph) -> Iterator[int]:
    """Each state from which no final one can be reached by the steps that somebody owes."""
    goal = graph.parsed(final)
    before: dict[int, list[int]] = {}
    for step in graph.steps():
        if step.label not in model.chance:
            before.setdefault(step.after, []).append(step.before)
    waiting = [state for state in graph.states() if graph.is_goal(state, goal)]
    ends = set(waiting)
    while waiting:
        for state in before.get(waiting.pop(), ()):
            if state not in ends:
                ends.add(state)
                waiting.append(state)
    return (state for state in graph.states() if state not in ends)


def without(model: Model, mode: str, off: tuple[str, ...]) -> tuple[str, ...]:
    """The defences of a mode but those."""
    return tuple(name for name in model.modes[mode] if name not in off)


def differences(model: Model, *modes: str) -> Iterator[str]:
    """Each way in which the model is not as expected.toml says, in these modes or all; nothing where all is as it says."""
    yield from _misspelt(model)
    for mode in modes or model.modes:
        defences = model.modes[mode]
        minimal = {frozenset(one.without): one for one in model.sets if one.mode == mode}
        every = search(model, defences, model.attacks | model.runs)
        yield from (f"{mode}: {name} is found with every defence on" for name in every.goals if name in model.bad)
        yield from (f"{mode}: no run of {name}" for name in model.runs if name not in every.goals)
        harmless = []
        for name in defences:
            if frozenset({name}) in minimal:
                yield from _of_a_set(model, minimal[frozenset({name})])
            else:
                found = search(model, without(model, mode, (name,)), model.attacks).goals
                yield from (f"{mode} without {name} alone: {attack} is found" for attack in found)
                harmless += [] if found else [name]
        for pair in combinations(harmless, 2):
            if frozenset(pair) not in minimal:
                found = search(model, without(model, mode, pair), model.attacks).goals
                yield from (f"{mode} without {' and '.join(pair)}: {attack} is found" for attack in found)
        for one in minimal.values():
            if len(one.without) > 1:
                yield from _of_a_set(model, one)


def _of_a_set(model: Model, one: MinimalSet) -> Iterator[str]:
    found = search(model, without(model, one.mode, one.without), model.attacks, until=frozenset(one.finds)).goals
    for name in one.finds:
        if name not in found:
            yield f"{one.mode} without {' and '.join(one.without)}: {name} is not found"


def _misspelt(model: Model) -> Iterator[str]:
    for mode, defences in model.modes.items():
        yield from (f"{mode}: {name} is no defence" for name in defences if name not in model.defences)
    for one in model.sets:
        yield from (f"a set: {name} is no defence of {one.mode}" for name in one.without if name not in model.modes.get(one.mode, ()))
        yield from (f"a set: {name} is no attack" for name in one.finds if name not in model.bad)


@cache
def _module(file: str, module: str) -> Any:
    maude.init(advise=False)
    if not maude.load(str(FOLDER / file)):
        raise AssertionError(f"{file} cannot be loaded")
    found = maude.getModule(module)
    if found is None:
        raise AssertionError(f"{file} has no module {module}")
    return found


def _parsed(module: Any, text: str) -> Any:
    term = module.parseTerm(text)
    if term is None:
        raise AssertionError(f"{text!r} is no term of {module}")
    return term


def _equals_false(module: Any, text: str) -> Any:
    return maude.EqualityCondition(_parsed(module, text), _parsed(module, "false"))
