"""`hanbit doctor`: what is wrong with a data folder and its server, and what to do."""

from dataclasses import asdict
from pathlib import Path

import click

from hanbit.cli.options import data_option, json_option, show

STATUS = {"ok": 0, "warning": 1, "wrong": 2}
"""The command's exit status is that of its worst finding."""


@click.command()
@data_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, data: Path, as_json: bool) -> None:
    """Find what is wrong with a data folder and its server, and say what to do. Changes nothing.

    Exit status 0: all is well; 1: there are warnings; 2: something is wrong.

    \b
    Example:
      hanbit doctor --data /srv/hanbit
      hanbit doctor --data /srv/hanbit --json
    """
    from rich.console import Console

    from hanbit.kernel.clock import SystemClock
    from hanbit.upkeep.doctor import examine

    with Console(stderr=True).status("looking") as status:
        findings = list(examine(data, SystemClock().now(), lambda what: status.update(f"looking at {what}")))
    worst = max(findings, key=lambda finding: STATUS[finding.severity]).severity
    if as_json:
        healthy = worst != "wrong"
        show({"healthy": healthy, "status": worst, "findings": [asdict(finding) for finding in findings]}, as_json=True)
    else:
        for finding in findings:
            mark = finding.severity.upper() if finding.severity == "wrong" else finding.severity
            click.echo(f"{mark:<8} {finding.what}: {finding.found}")
            if finding.advice:
                click.echo(f"         → {finding.advice}")
        click.echo(
            {
                "ok": "All is well.",
                "warning": "Nothing is wrong, but see →.",
                "wrong": "Something is wrong; do what stands after →.",
            }[worst]
        )
    ctx.exit(STATUS[worst])
