"""The house rules that no linter knows, checked on the code itself."""

import ast
import re

from tests.tidy.files import texts

LINES_MAX = 500
SOURCE = (".py", ".js", ".css", ".html", ".sql")
# An exemption names its rule and says why: `noqa: RULE - why`, `type: ignore[rule]  # why`.
EXEMPTION = re.compile(r"#\s*(?:noqa\b|type:\s*ignore\b)")
EXPLAINED = re.compile(r"#\s*(?:noqa: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)* - \S|type: ignore\[[a-z, -]+\] {2}# \S)")


def test_every_module_opens_with_one_sentence() -> None:
    wrong = []
    for name, text in texts(".py"):
        docstring = ast.get_docstring(ast.parse(text)) or ""
        first = docstring.partition("\n")[0]
        if not re.fullmatch(r"\S.{15,}\.", first):
            wrong.append(f"{name}: {first!r}")
    assert not wrong, "\n".join(wrong)


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    long = {name: text.count("\n") for name, text in texts(*SOURCE, under="src/") if text.count("\n") > LINES_MAX}
    assert not long, long


def test_every_exemption_from_a_rule_says_why() -> None:
    wrong = [
        f"{name}:{number}"
        for name, text in texts(".py")
        for number, line in enumerate(text.splitlines(), start=1)
        if EXEMPTION.search(line) and not EXPLAINED.search(line) and "re.compile" not in line
    ]
    assert not wrong, "\n".join(wrong)


def test_every_rule_that_ruff_leaves_out_says_why() -> None:
    ((_, text),) = [(name, text) for name, text in texts(".toml") if name == "pyproject.toml"]
    section = text.partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.flake8")[0]
    rules = [line for line in section.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*"', line)]
    assert rules
    assert [line for line in rules if "#" not in line] == []
