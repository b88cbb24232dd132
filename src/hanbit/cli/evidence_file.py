"""`hanbit evidence export` and `verify`: one payment's evidence as a file, and a stranger's judgement of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanbit.cli.options import book_of, data_option, json_option, operate, show

if TYPE_CHECKING:
    from hanbit.db.reading import Reader
    from hanbit.evidence.bundle import Bundle
    from hanbit.evidence.verify import Report, Step

TEXT_MAX = 64 * 1024
"""Bytes of a checkpoint's or a root's file."""
_file = click.Path(path_type=Path, dir_okay=False)
_existing = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(context_settings={"ignore_unknown_options": True})  # a tid may begin with a hyphen
@click.argument("tid")
@click.option("--merchant", default="", help="Whose payment, where two merchants have chosen this tid.")
@click.option("--lines", type=_existing, default=None, help="The merchant's own evidence file, for what was ordered.")
@click.option("--checkpoint", type=_existing, default=None, help="A checkpoint that somebody else holds: the file is linked to it.")
@click.option("-o", "--output", type=_file, required=True, help="Where to write it.")
@data_option
@json_option
def export(  # one argument an option
    tid: str, merchant: str, lines: Path | None, checkpoint: Path | None, output: Path, data: Path, as_json: bool
) -> None:
    """Write everything that proves one payment, for a court or the other party: messages, certificates, lists, log, checkpoint.

    No name, no account number and no balance is in it. Where the log has grown since the last checkpoint a new one is signed, by the
    server if one runs. Ends with status 2 where two merchants have this tid and none is named.

    \b
    Example:
      hanbit evidence export p4Fy0l7cQ8m1zq2hVt9a3w --data /srv/hanbit -o payment.evidence
    """
    from hanbit.evidence import bundle as files

    made = export_from(data, tid, merchant, _text(checkpoint))
    if lines is not None:
        made = files.add_lines(made, _bytes(lines))
    written = files.write(made)
    output.write_bytes(written)
    facts = {"file": str(output), "merchant": made.merchant, "tid": made.tid, "messages": len(made.messages), "bytes": len(written)}
    show(facts, as_json=as_json)


@click.command()
@click.argument("file", type=_existing)
@click.option("--root", type=_existing, required=True, help="The operator's root certificate (PEM), as you got it from the operator.")
@click.option("--key-card", default=None, help="The thumbprint on the merchant's key card.")
@click.option("--checkpoint", type=_existing, default=None, help="A checkpoint that you hold yourself.")
@click.option("--language", type=click.Choice(["ko", "en"]), default="en", show_default=True, help="Of the conclusions.")
@json_option
@click.pass_context
def verify(  # one argument an option
    ctx: click.Context, file: Path, root: Path, key_card: str | None, checkpoint: Path | None, language: str, as_json: bool
) -> None:
    """Judge an evidence file, or a receipt, by itself: offline, step by step, with what each party can and cannot deny.

    Needs nothing but the operator's root. Ends with status 1 at the first step that fails.

    \b
    Example:
      hanbit evidence verify payment.evidence --root root.pem --key-card 0Zx2…
    """
    from hanbit.crypto.certificates import load_chain_pem
    from hanbit.evidence.bundle import FILE_MAX
    from hanbit.evidence.verify import verify as judge
    from hanbit.kernel.errors import BadInput

    pinned = load_chain_pem(root)
    if not pinned:
        raise BadInput(f"{root}: no certificate")
    with file.open("rb") as opened:
        unverified = opened.read(FILE_MAX + 1)
    report = judge(unverified, root=pinned[0], card=key_card, held=_text(checkpoint), say=_silent if as_json else _say)
    if as_json:
        click.echo(json.dumps(as_dict(report, language), ensure_ascii=False))
    else:
        for conclusion in report.conclusions:
            click.echo(f"[{conclusion.weight}] {conclusion.text(language)}")
        click.echo("verified" if report.verified else f"NOT VERIFIED: step {report.failed}")
    ctx.exit(0 if report.verified else 1)


def export_from(data: Path, tid: str, merchant: str = "", held: str | None = None) -> "Bundle":
    """The content of the file, with a checkpoint that covers it: signed now if the last is older."""
    from hanbit.db.reading import Reader
    from hanbit.evidence import export as exporting

    reader = Reader(book_of(data), patient=True)
    try:
        owner = merchant or _owner(reader, tid)
        last = exporting.last_leaf(reader, owner, tid)
        if exporting.checkpoint_size(reader) <= last:
            operate(data, "sign_checkpoint")
        operator = reader.one("SELECT operator FROM book")
        assert operator is not None
        return exporting.export(reader, operator=operator[0], merchant=owner, tid=tid, held=held)
    finally:
        reader.close()


def as_dict(report: "Report", language: str) -> dict[str, Any]:
    """A report as JSON says it."""
    return {
        "verified": report.verified,
        "failed": report.failed,
        "steps": [{"step": step.number, "what": step.what, "passed": step.passed, "detail": step.detail} for step in report.steps],
        "conclusions": [{"code": one.code, "weight": one.weight, "text": one.text(language)} for one in report.conclusions],
    }


def _owner(reader: "Reader", tid: str) -> str:
    from hanbit.evidence import export as exporting

    found = exporting.owners(reader, tid)
    if len(found) > 1:
        raise click.UsageError(f"more than one merchant has {tid}: {', '.join(found)}; name one with --merchant")
    return found[0] if found else ""


def _say(step: "Step") -> None:
    click.echo(f"{step.number:3}  {'ok    ' if step.passed else 'FAILED'}  {step.what}: {step.detail}")


def _silent(_step: "Step") -> None:
    pass


def _bytes(path: Path) -> bytes:
    from hanbit.evidence.bundle import FILE_MAX

    with path.open("rb") as file:
        return file.read(FILE_MAX + 1)


def _text(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return file.read(TEXT_MAX).decode("ascii", "replace").strip()
