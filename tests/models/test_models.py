"""The models of the protocols hold what models/expected.toml says of them, and an expectation that is wrong is reported."""

import json
from typing import Final

import pytest
from models.check import SEARCHED
from models.search import BoundExceeded, Goal, Graph, MinimalSet, Model, differences, expectations, search
from msgspec.structs import replace

MODELS: Final = expectations()
REDIRECT: Final = MODELS["redirect"]


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, model in MODELS.items() for mode in model.modes])
def test_an_attack_needs_a_minimal_set_of_defences_off_and_the_honest_can_pay(name: str, mode: str) -> None:
    assert list(differences(MODELS[name], mode)) == []


@pytest.mark.parametrize("name", MODELS)
def test_every_defence_is_of_a_mode_and_needed_for_something(name: str) -> None:
    model = MODELS[name]
    used = {defence for one in model.sets for defence in one.without}
    assert used == set(model.defences) == {defence for mode in model.modes.values() for defence in mode}
    assert {attack for one in model.sets for attack in one.finds} | UNREACHED.get(name, set()) == set(model.bad)


UNREACHED: Final[dict[str, set[str]]] = {"redirect": {"charged_after_end"}, "life": {"held_for_nothing"}}
"""Bad states before which no single defence and no pair stands, but several do, or how the thing is built."""


@pytest.mark.parametrize("name", MODELS)
def test_the_documents_say_how_far_was_searched(name: str) -> None:
    model, noted = MODELS[name], json.loads(SEARCHED.read_text("utf-8"))[name]["modes"]
    assert {mode: looked["states"] for mode, looked in noted.items()} == {
        mode: sum(1 for _ in Graph(model, defences).states()) for mode, defences in model.modes.items()
    }, "make models"
    assert {(mode, tuple(off.split("+"))) for mode, looked in noted.items() for off in looked["ways"]} == {
        (one.mode, one.without) for one in model.sets
    }


def _first(model: Model, *defences: str) -> Model:
    """The model with these defences looked at first, so that the difference which they make is found soon."""
    mode = model.modes["redirect"]
    return replace(model, modes={"redirect": (*defences, *(name for name in mode if name not in defences))})


def _without_set(model: Model, *off: str) -> Model:
    return replace(model, sets=tuple(one for one in model.sets if set(one.without) != set(off)))


def _with_set(model: Model, off: str, finds: str) -> Model:
    wrong = MinimalSet(mode="redirect", without=(off,), finds=(finds,), how="")
    return replace(_without_set(model, off), sets=(wrong, *_without_set(model, off).sets))


PAID: Final = REDIRECT.runs["paid"].pattern
NEVER: Final = "{ goods(t1) | goods(t1) | C }"
WRONG: Final[dict[str, Model]] = {
    "without ONCE alone: refunded_twice is found": _without_set(_first(REDIRECT, "ONCE"), "ONCE"),
    "without HOLD and SETTLED: goods_unpaid is found": _without_set(_first(REDIRECT, "HOLD", "SETTLED"), "HOLD", "SETTLED"),
    "without SETTLED: goods_unpaid is not found": _with_set(_first(REDIRECT, "SETTLED"), "SETTLED", "goods_unpaid"),
    "without ONCE: charged_twice is not found": _with_set(_first(REDIRECT, "ONCE"), "ONCE", "charged_twice"),
    "robbed is no attack": _with_set(REDIRECT, "ONCE", "robbed"),
    "LUCK is no defence of redirect": _with_set(REDIRECT, "LUCK", "goods_unpaid"),
    "no run of paid": replace(REDIRECT, runs={"paid": Goal(says="", pattern=NEVER)}),
    "guessed is found with every defence on": replace(REDIRECT, attacks={**REDIRECT.attacks, "guessed": Goal(says="", pattern=PAID)}),
}


@pytest.mark.parametrize("report", WRONG)
def test_a_wrong_expectation_is_reported(report: str) -> None:
    assert any(line.endswith(report) for line in differences(WRONG[report]))


def test_what_can_never_become_final_is_found() -> None:
    life = MODELS["life"]
    nothing_owed = replace(life, chance=(*life.chance, "pay_by_passed", "attempts_exhausted", "merchant_cancelled"))
    assert "both: stuck is found with every defence on" in differences(nothing_owed)


def test_a_search_that_reaches_its_bound_fails() -> None:
    with pytest.raises(BoundExceeded):
        search(replace(REDIRECT, states_max=100), REDIRECT.modes["redirect"], REDIRECT.attacks)


def test_a_pattern_that_is_no_term_of_the_model_fails() -> None:
    with pytest.raises(AssertionError, match="is no term"):
        search(REDIRECT, REDIRECT.modes["redirect"], {"misspelt": Goal(says="", pattern="{ godos(t1) | C }")})
