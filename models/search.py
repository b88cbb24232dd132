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


class BoundExceeded(Exception):
    """A search met more states than its model's `states_max`: what it says beyond that is nothing."""


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A state to look for: bad (an attack) or wanted (an honest run)."""

    says: str
    pattern: str
    unless: str | None = None


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


@dataclass(frozen=True, slots=True)
class Found:
    """What one search met: the names of the goals, each with the steps that led there, and how many states were looked at."""

    goals: dict[str, tuple[str, ...]]
    states: int


def expectations(path: Path = EXPECTED) -> dict[str, Model]:
    """Every model by name; a misspelt or unknown word in the file raises here."""
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), dict[str, Model])


@cache
def _module(file: str, module: str) -> Any:
    maude.init(advise=False)
    if not maude.load(str(FOLDER / file)):
        raise AssertionError(f"{file} cannot be loaded")
    found = maude.getModule(module)
    if found is None:
        raise AssertionError(f"{file} has no module {module}")
    return found


def search(model: Model, defences: tuple[str, ...], goals: dict[str, Goal], *, until: frozenset[str] | None = None) -> Found:
    """Look at every state that can be reached with these defences, breadth first; stop early once all goals of `until` were met."""
    module = _module(model.file, model.module)
    start = _parsed(module, f"start({' '.join(defences) or 'none'})")
    open_goals = {name: (_parsed(module, goal.pattern), _condition(module, goal)) for name, goal in goals.items()}
    found: dict[str, tuple[str, ...]] = {}
    every = start.search(maude.ANY_STEPS, _parsed(module, "X:State"))
    states = 0
    for state, *_ in every:
        states += 1
        if states > model.states_max:
            raise BoundExceeded(f"{model.module} without {set(model.defences) - set(defences)}: more than {model.states_max} states")
        for name, (pattern, condition) in tuple(open_goals.items()):
            if next(iter(state.match(pattern, condition)), None) is not None:
                found[name] = tuple(str(step.getLabel()) for step in every.pathTo(every.getStateNr())[1::2])
                del open_goals[name]
        if until is not None and until <= set(found):
            break
    return Found(found, states)


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
        yield from (f"{mode}: {name} is found with every defence on" for name in every.goals if name in model.attacks)
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
        yield from (f"a set: {name} is no attack" for name in one.finds if name not in model.attacks)


def _parsed(module: Any, text: str) -> Any:
    term = module.parseTerm(text)
    if term is None:
        raise AssertionError(f"{text!r} is no term of {module}")
    return term


def _condition(module: Any, goal: Goal) -> list[Any]:
    if goal.unless is None:
        return []
    return [maude.EqualityCondition(_parsed(module, goal.unless), _parsed(module, "false"))]
