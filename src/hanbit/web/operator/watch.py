"""What the staff watches: exceptions and what resolves them, the audit, the evidence log and its switch.

GET  /exceptions                      what needs a look, each with the act that helps
     /exceptions/ask/{id}             ask a shop now
     /exceptions/tell/{hash}          tell an outcome now
     /exceptions/send/{id}            try a letter to a customer anew
     /audit, /audit/sheet             who did what, and why
     /evidence                        the log, its checkpoints, whether payments are taken
     /evidence/{act}                  halt, resume, sign a checkpoint
"""

from collections.abc import Mapping
from datetime import tzinfo
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, NotFound
from hanbit.kernel.money import Money
from hanbit.payments import actors, audit_search, checkpoints, exceptions, halt
from hanbit.payments import payment as payments
from hanbit.payments.audit_search import Sought
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed
from hanbit.web.forms import ROWS, Errors, Line, address, day_begins, day_ends, fields_of, is_day, read_query
from hanbit.web.sheets import sheet

EVIDENCE_ACTS: Final = ("halt", "resume", "sign")
SHEET_MAX: Final = 10_000
_CHECKPOINTS: Final = "SELECT size, root, hash, at FROM checkpoints ORDER BY size DESC LIMIT ?"


class AuditForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the audit is narrowed to."""

    actor: Line = ""
    merchant: Line = ""
    word: Line = ""
    since: Line = ""
    until: Line = ""
    after: Line = ""


class WatchPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/exceptions", self.show_exceptions)
        deeds.at(console, "/exceptions/ask/{id}", self._ask)
        deeds.at(console, "/exceptions/tell/{hash}", self._tell)
        deeds.at(console, "/exceptions/send/{id}", self._send)
        console.route("GET", "/audit", self.show_audit)
        console.route("GET", "/audit/sheet", self.download_audit)
        console.route("GET", "/evidence", self.show_evidence)
        deeds.at(console, "/evidence/{act}", self._evidence)

    async def show_exceptions(self, request: Request) -> Response:
        """What does not come right by itself soon."""
        unknown = [(row, Money(row["amount"], row["currency"])) for row in exceptions.unknown(self.gateway)]
        return self.console.page(
            request,
            "operator/exceptions.html",
            unknown=unknown,
            untold=exceptions.untold(self.gateway),
            stuck=[(row, Money(row["amount"], row["currency"])) for row in exceptions.stuck(self.gateway)],
            refused=exceptions.refused(self.gateway),
            clocks=exceptions.clocks(self.gateway),
            unsent=exceptions.unsent(self.gateway),
        )

    async def show_audit(self, request: Request) -> Response:
        """Newest first, fifty a page."""
        form, errors = read_query(request, AuditForm), Errors()
        sought = _sought(form, errors, self.gateway.settings.zone, self.gateway.reader)
        rows, cursor = ([], "") if errors else await audit_search.found(self.gateway.reader, sought, ROWS)
        narrowed = {**fields_of(form), "after": ""}
        return self.console.page(
            request,
            "operator/audit.html",
            form=fields_of(form),
            errors=errors,
            acts=rows,
            actors=actors.named(self.gateway.reader, (row["actor"] for row in rows)),
            first=address("/audit", **narrowed) if form.after else "",
            following=address("/audit", **{**narrowed, "after": cursor}) if cursor else "",
            as_sheet=address("/audit/sheet", **narrowed),
        )

    async def download_audit(self, request: Request) -> Response:
        """The same, the newest ten thousand."""
        form, errors = read_query(request, AuditForm), Errors()
        sought = _sought(form, errors, self.gateway.settings.zone, self.gateway.reader)
        if errors:
            raise BadInput("since, until: a day such as 2026-11-22")
        rows, _ = await audit_search.found(self.gateway.reader, sought, SHEET_MAX)
        columns = ("at", "actor", "act", "reason", "merchant", "tid")
        return sheet("hanbit-audit", columns, [[row[name] for name in columns] for row in rows])

    async def show_evidence(self, request: Request) -> Response:
        """How far the log has come, what was signed of it, and whether payments are taken."""
        reader = self.gateway.reader
        book = reader.one("SELECT next_leaf FROM book")
        assert book is not None
        return self.console.page(
            request,
            "operator/evidence.html",
            leaves=book["next_leaf"],
            checkpoints=reader.all(_CHECKPOINTS, ROWS),
            halted=halt.why_halted(reader),
        )

    # --- the acts -----------------------------------------------------------------------------------------------------------------------

    def _ask(self, request: Request) -> Deed:
        payment = payments.by_id(self.gateway.reader, self.console.token(request))
        if payment is None:
            raise NotFound("no such payment")
        found = payment

        async def do(by: str, form: Mapping[str, str]) -> Response:
            await exceptions.ask_now(self.gateway, by, payment=found.id, reason=form["reason"])
            return self.console.see("/exceptions", "operator.deed.done.ask")

        return Deed("operator.deed.ask", "/exceptions", (), do, {"name": found.payee})

    def _tell(self, request: Request) -> Deed:
        outcome = self.console.matched(request, "hash", ids.DIGEST.fullmatch)
        sql = "SELECT m.name FROM outbox o JOIN merchants m ON m.id = o.merchant WHERE o.next_at IS NOT NULL AND o.hash = ?"
        row = self.gateway.reader.one(sql, outcome)
        if row is None:
            raise NotFound("no such outcome")

        async def do(by: str, form: Mapping[str, str]) -> Response:
            await exceptions.tell_now(self.gateway, by, outcome=outcome, reason=form["reason"])
            return self.console.see("/exceptions", "operator.deed.done.tell")

        return Deed("operator.deed.tell", "/exceptions", (), do, {"name": row["name"]})

    def _send(self, request: Request) -> Deed:
        mail = self.console.matched(request, "id", ids.TOKEN.fullmatch)
        row = self.gateway.reader.one("SELECT c.login FROM mails m JOIN customers c ON c.id = m.customer WHERE m.id = ?", mail)
        if row is None:
            raise NotFound("no such letter")

        async def do(by: str, form: Mapping[str, str]) -> Response:
            await exceptions.send_again(self.gateway, by, mail=mail, reason=form["reason"])
            return self.console.see("/exceptions", "operator.deed.done.send")

        return Deed("operator.deed.send", "/exceptions", (), do, {"name": row["login"]})

    def _evidence(self, request: Request) -> Deed:
        name = self.console.matched(request, "act", EVIDENCE_ACTS.__contains__)

        async def do(by: str, form: Mapping[str, str]) -> Response:
            reason = form["reason"].strip()
            if name == "halt":
                if halt.why_halted(self.gateway.reader) is not None:
                    raise Conflict("payments are halted already")
                await halt.halt(self.gateway, by, {"reason": reason})
            elif name == "resume":
                await halt.resume_payments(self.gateway, by, reason=reason)
            else:
                await checkpoints.sign_checkpoint(self.gateway, by, reason=reason)
            return self.console.see("/evidence", f"operator.deed.done.evidence_{name}")

        return Deed(f"operator.deed.evidence_{name}", "/evidence", (), do)


def _sought(form: AuditForm, errors: Errors, zone: tzinfo, reader: Reader) -> Sought:
    errors.check("since", not form.since or is_day(form.since), "console.field.day")
    errors.check("until", not form.until or is_day(form.until), "console.field.day")
    if "\x00" in "".join(fields_of(form).values()):
        raise BadInput("no word")
    since, until = day_begins(form.since, zone), day_ends(form.until, zone)
    return Sought(actors.actor_of(reader, form.actor.strip()), form.merchant.strip(), form.word.strip(), since, until, form.after)
