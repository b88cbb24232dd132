"""Each defence of the models taken out of the real code, one at a time: the attack tests that are named for it notice, all of them."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest
from models.mutants import ROOT, Cut, Mutant, build, failing, mutants, surviving, taken_out
from models.search import expectations
from msgspec.structs import replace

MUTANTS: Final = mutants()
NAMED: Final = tuple(sorted({test for mutant in MUTANTS for test in mutant.tests}))


def by_name(mutant: Mutant) -> str:
    return mutant.defences[0]


@pytest.mark.processes
@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_no_mutant_survives_its_tests(mutant: Mutant, tmp_path: Path) -> None:
    assert surviving(mutant, tmp_path / "src") == ()


@pytest.mark.processes
def test_the_same_tests_pass_with_the_code_as_it_is(tmp_path: Path) -> None:
    assert failing(NAMED, build((), tmp_path / "src")) == frozenset()


@pytest.mark.processes
def test_a_mutant_that_changes_nothing_is_reported(tmp_path: Path) -> None:
    mutant = next(one for one in MUTANTS if by_name(one) == "dual_signature.PIN")
    harmless = replace(mutant, cuts=tuple(replace(cut, becomes=f"    # the same again\n{cut.was}") for cut in mutant.cuts))
    assert surviving(harmless, tmp_path / "src") == mutant.tests


def test_every_defence_of_the_models_has_its_mutant() -> None:
    taken = [defence for mutant in MUTANTS for defence in mutant.defences]
    assert sorted(taken) == sorted(f"{name}.{defence}" for name, model in expectations().items() for defence in model.defences)


@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_each_check_stands_once_where_the_table_says(mutant: Mutant) -> None:
    sources: dict[str, str] = {}
    for cut in mutant.cuts:
        source = sources.get(cut.file) or (ROOT / "src/hanbit" / cut.file).read_text("utf-8")
        sources[cut.file] = taken_out(source, cut)
    assert mutant.cuts


@pytest.mark.parametrize("test", NAMED)
def test_every_named_test_exists(test: str) -> None:
    path, name = re.fullmatch(r"(tests/[\w/]+\.py)::(\w+)(?:\[.+\])?", test).groups()  # type: ignore[union-attr]  # no match is a failure
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (Cut("a.py", "gone", "1", "2"), "has no function gone"),
        (Cut("a.py", "check", "3", "2"), "0 times '3'"),
        (Cut("a.py", "check", "1", "2"), "2 times '1'"),
    ],
)
def test_a_table_that_is_out_of_date_is_refused(cut: Cut, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        taken_out("def check() -> int:\n    return 1 + 1\n\n\ndef other() -> int:\n    return 3\n", cut)
