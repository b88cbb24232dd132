"""Mutants: the real code with one defence taken out, each of which the tests that are named for it must notice."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).parent / "mutants.toml"
RUN_S = 300
"""No run of a mutant's tests takes longer; one that does is as if it had passed."""


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place in the code: what stands there once, and what stands there in the mutant."""

    file: str
    function: str
    was: str
    becomes: str


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defences (`model.FLAG`) that are one check, how to take it out, and the tests that must fail then.

    A test named without its parameters must fail with some of them.
    """

    defences: tuple[str, ...]
    cuts: tuple[Cut, ...]
    tests: tuple[str, ...]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutants: tuple[Mutant, ...]


def mutants() -> tuple[Mutant, ...]:
    """Every mutant of mutants.toml; a misspelt word in the file raises here."""
    return msgspec.convert(tomllib.loads(TABLE.read_text("utf-8")), _Table).mutants


def functions(source: str) -> dict[str, tuple[int, int]]:
    """Each function or table of a module, by its bare name, with its first and last line; a name that occurs twice has the first."""
    found: dict[str, tuple[int, int]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.setdefault(node.name, (node.lineno, node.end_lineno or node.lineno))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, (node.lineno, node.end_lineno or node.lineno))
    return found


def taken_out(source: str, cut: Cut) -> str:
    """The module without the check. ValueError where the fragment is not there exactly once: then the table is out of date."""
    if cut.function not in functions(source):
        raise ValueError(f"{cut.file} has no function {cut.function}")
    first, last = functions(source)[cut.function]
    lines = source.splitlines(keepends=True)
    body = "".join(lines[first - 1 : last])
    if body.count(cut.was) != 1:
        raise ValueError(f"{cut.file}, {cut.function}: {body.count(cut.was)} times {cut.was!r}")
    changed = "".join(lines[: first - 1]) + body.replace(cut.was, cut.becomes) + "".join(lines[last:])
    ast.parse(changed)
    return changed


def build(cuts: Iterable[Cut], folder: Path) -> Path:
    """A copy of src with the cuts made; what PYTHONPATH must name. The copies keep their times, so only what is cut is compiled anew."""
    shutil.copytree(ROOT / "src", folder)
    for cut in cuts:
        path = folder / "hanbit" / cut.file
        path.write_text(taken_out(path.read_text("utf-8"), cut), "utf-8")
    return folder


def failing(tests: tuple[str, ...], source: Path) -> frozenset[str]:
    """Those of the tests that fail with this source tree. RuntimeError where they could not be run at all."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    environment["PYTHONPATH"] = str(source)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode not in {0, 1}:  # 2: interrupted, 4: no such test, 5: no test at all
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    failed = set(re.findall(r"^FAILED (\S+::[^\s\[]+(?:\[.*?\])?)", done.stdout, re.MULTILINE))
    return frozenset(test for test in tests if test in failed or any(one.startswith(f"{test}[") for one in failed))


def surviving(mutant: Mutant, folder: Path) -> tuple[str, ...]:
    """The named tests that do not notice the mutant; none of a good table."""
    failed = failing(mutant.tests, build(mutant.cuts, folder))
    return tuple(test for test in mutant.tests if test not in failed)
