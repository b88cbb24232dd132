"""The result of a run: a table for a person, one JSON object with every byte for a program."""

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from hanbit.merchant.probe.case import RIGHT
from hanbit.merchant.probe.run import Outcome, Result
from hanbit.merchant.probe.table import CASES

_STYLES: Final = {
    "accepted_wrongly": "bold red",
    "control_failed": "bold red",
    "not_tried": "yellow",
    "no_answer": "",
    "refused": "",
    "passed": "",
}
_CASES: Final = {case.name: case for case in CASES}


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, with the bytes that were sent and those that came back."""
    return {
        "accepted_wrongly": [result.name for result in outcome.results if result.verdict == "accepted_wrongly"],
        "control_failed": [result.name for result in outcome.results if result.verdict == "control_failed"],
        "cases": [
            {
                "name": result.name,
                "group": result.group,
                "verdict": result.verdict,
                "detail": result.detail,
                "rule": _CASES[result.name].rule,
                "evidence": [
                    {"sent": seen.sent, "forged": seen.forged, "answers": list(seen.frames), "end": seen.end} for seen in result.evidence
                ],
            }
            for result in outcome.results
        ],
    }


def show(outcome: Outcome, console: Console) -> None:
    """The table, and below it what to mend."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("case", "group", "verdict", "what it did"):
        table.add_column(name, overflow="fold")
    for result in outcome.results:
        table.add_row(result.name, result.group, result.verdict.replace("_", " "), result.detail, style=_STYLES[result.verdict])
    console.print(table)
    for result in outcome.wrong:
        _advise(result, console)
    console.print(_summary(outcome))


def _advise(result: Result, console: Console) -> None:
    case = _CASES[result.name]
    console.print(f"\n[bold]{case.name}[/bold]: {case.does}.", highlight=False)
    console.print(f"  rule: {case.rule}", highlight=False, markup=False)
    console.print(f"  a right implementation {RIGHT[case.group]}; else {case.why}.", highlight=False, markup=False)
    if result.detail:
        console.print(f"  seen: {result.detail}", highlight=False, markup=False)


def _summary(outcome: Outcome) -> str:
    counts = {verdict: sum(result.verdict == verdict for result in outcome.results) for verdict in _STYLES}
    words = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items() if count)
    return f"\n{len(outcome.results)} cases: {words}"
