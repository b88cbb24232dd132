"""`hanbit evidence …`: hold the whole book against its log, and let payments go on after somebody has looked."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanbit.cli import evidence_file
from hanbit.cli.options import CommandGroup, book_of, data_option, json_option, operate, show

if TYPE_CHECKING:
    from hanbit.evidence.check import Stored
    from hanbit.evidence.log_check import KnownRoot, Say

SHOWN_MAX = 20
SAY_EVERY = 1_000


@click.group(cls=CommandGroup)
def evidence() -> None:
    """Evidence: prove that nothing in the book was altered, removed, put in or put back; one payment's proof as a file.

    \b
    Example:
      hanbit evidence check --data /srv/hanbit
      hanbit evidence export kq3VZ8yTn0eQpXw1r5hJ2A --data /srv/hanbit -o payment.evidence
      hanbit evidence verify payment.evidence --root root.pem
    """


@evidence.command("check")
@data_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A signed checkpoint that somebody else holds (a merchant's: hanbit merchant checkpoint); may be given more than once.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=None,
    help="The operator's root certificate; DATA/keys/root.pem by default.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, data: Path, checkpoints: tuple[Path, ...], root: Path | None, as_json: bool) -> None:
    """Hold every row against the leaf that recorded it, the leaves against what was signed, and every message against its signer.

    Names the first row that does not fit, and ends with status 1 if there is one. Whoever can write to this disk can rewrite the whole
    book, its log included, up to the last checkpoint that somebody else holds: pass that one. Needs no server; may run beside one.

    \b
    Example:
      hanbit evidence check --data /srv/hanbit --checkpoint shop.checkpoint --json
    """
    from rich.console import Console

    with Console(stderr=True).status("opening the book") as status:
        result = _check(data, checkpoints, root, status.update)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        for line in result["broken"]:
            click.echo(f"BROKEN  {line}")
        if result["found"] > len(result["broken"]):
            click.echo(f"…and {result['found'] - len(result['broken'])} more")
        counted = ", ".join(f"{result[name]} {name}" for name in ("leaves", "rows", "checkpoints", "messages", "payments", "entries"))
        click.echo(f"{counted}; the log's hash is {result['root']}")
        click.echo("nothing was altered" if result["whole"] else f"THE EVIDENCE IS BROKEN, first: {result['first']}")
    ctx.exit(0 if result["whole"] else 1)


@evidence.command("resume")
@click.option("--reason", required=True, help="Why the book may be trusted; kept in the audit.")
@data_option
@json_option
def resume(reason: str, data: Path, as_json: bool) -> None:
    """Let payments go on after a merchant showed a checkpoint that this book does not hold.

    Look first: hanbit evidence check with that merchant's checkpoint says what is missing. You answer for the book from here on;
    merchants keep what they hold and see that their checkpoint was not continued.

    \b
    Example:
      hanbit evidence resume --reason "restored Monday's backup, the lost hour was entered by hand" --data /srv/hanbit
    """
    show(operate(data, "resume_payments", reason=reason), as_json=as_json)


def _check(data: Path, checkpoints: Iterable[Path], root: Path | None, say: "Say") -> dict[str, Any]:
    from hanbit.crypto import certificates
    from hanbit.db.reading import Reader
    from hanbit.db.sqlite_file import DatabaseError
    from hanbit.evidence import log_check, store
    from hanbit.evidence.check import check as check_messages
    from hanbit.kernel import ids
    from hanbit.ledger.check import check as check_ledger
    from hanbit.parties.registry import Registry
    from hanbit.payments import payment as payments
    from hanbit.protocols.signed import PinnedTrust

    root_path = root or data / "keys" / "root.pem"
    book = book_of(data)
    if not root_path.exists():
        raise click.ClickException(f"{root_path} is missing\nName the root certificate with --root")
    pinned = certificates.load_chain_pem(root_path)[0]
    reader = Reader(book, patient=True)
    try:
        connection = reader.connection
        operator = connection.execute("SELECT operator FROM book").fetchone()[0]
        gateway = ids.urn(operator, "gateway")
        held = [_known(path, PinnedTrust(pinned, operator, urn=gateway), operator) for path in checkpoints]

        def order_hash(merchant: str, tid: str) -> str | None:
            found = payments.find(reader, merchant, tid)
            return None if found is None else found.order_hash

        with reader.snapshot():
            ledger = check_ledger(connection, lambda promise: say(f"ledger: {promise.replace('_', ' ')}"))
            log = log_check.check(connection, held, say)
            trust = Registry(reader, pinned, operator)
            messages = check_messages(_counted(store.share(reader, 0, 1), say), trust, order_hash)
    except DatabaseError as error:
        raise click.ClickException(f"{book} cannot be read as a book: {error}\nRestore it from a backup") from error
    finally:
        reader.close()
    broken = [str(finding) for finding in log.findings]
    broken += [f"ledger: {promise.replace('_', ' ')}: {rows}" for promise, rows in ledger.broken.items()]
    broken += messages.broken
    return {
        "whole": not broken,
        "first": broken[0] if broken else None,
        "found": log.found + len(ledger.broken) + len(messages.broken),
        "broken": broken[:SHOWN_MAX],
        "leaves": log.leaves,
        "root": log.root,
        "rows": log.rows,
        "checkpoints": log.checkpoints,
        "messages": messages.messages,
        "payments": messages.payments,
        "entries": ledger.entries,
    }


def _known(path: Path, trust: Any, operator: str) -> "KnownRoot":
    from hanbit.evidence.log_check import KnownRoot
    from hanbit.kernel.errors import BadInput, ProtocolViolation
    from hanbit.protocols.checkpoint import verify_checkpoint

    try:
        held = verify_checkpoint(path.read_text("ascii").strip(), trust=trust, operator=operator)
    except (ProtocolViolation, UnicodeError) as error:
        raise BadInput(f"{path}: no checkpoint that this operator's gateway signed ({error})") from error
    return KnownRoot(held.claims.size, held.claims.root, str(path), held.hash)


def _counted(stored: "Iterator[Stored]", say: "Say") -> "Iterator[Stored]":
    for number, item in enumerate(stored):
        if not number % SAY_EVERY:
            say(f"{number} messages")
        yield item


evidence.add_command(evidence_file.export, "export")
evidence.add_command(evidence_file.verify, "verify")
