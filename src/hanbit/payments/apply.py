"""One transition → one Change (state, journal entry, evidence, outbox) → committed. Nothing else in the house changes a payment."""

from collections.abc import Iterable, Mapping

import msgspec
import structlog
from msgspec.structs import replace

from hanbit.db.change import Append, Change, Put, Require, StoredMessage, Value, Within
from hanbit.evidence.record import record
from hanbit.kernel import fail_points
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.ledger import rules
from hanbit.ledger.entry import Ceiling, Entry
from hanbit.payments import mails
from hanbit.payments.gateway import Gateway
from hanbit.payments.outbox import to_tell
from hanbit.payments.payment import Payment
from hanbit.payments.states import FINAL, TABLE, Event, State, step
from hanbit.protocols.fields import Message
from hanbit.protocols.signed import SignedMessage

RULES = {"hold": rules.hold, "capture": rules.capture, "void": rules.void}
"""The journal rules that the table names and that the payment alone determines."""
BROUGHT = frozenset({"refund"})
"""The journal rules whose entries the step brings: a payment does not say how much of it goes back."""
_log = structlog.get_logger("hanbit.payments")


class Step(msgspec.Struct, frozen=True):
    """One event with the messages that prove it, the columns that it changes and the entries that it brings.

    `tell` is the outcome that the merchant must hear; `ceiling` bounds what the merchant may be paid, where the step holds money.
    """

    event: Event
    messages: tuple[SignedMessage[Message], ...] = ()
    columns: Mapping[str, Value] = msgspec.field(default_factory=dict)
    tell: SignedMessage[Message] | None = None
    entries: tuple[Entry, ...] = ()
    ceiling: Ceiling | None = None


async def apply(
    gateway: Gateway,
    payment: Payment,
    *steps: Step,
    requires: Iterable[Require] = (),
    appends: Iterable[Append] = (),
    puts: Iterable[Put] = (),
    within: Within | None = None,
) -> Payment:
    """Commit the steps as one Change and return the payment as it now stands; raises what the book lock decided.

    Stale: the payment has moved on, read it again. Declined("no_funds"), or a requirement's error: nothing has changed.
    """
    structlog.contextvars.bind_contextvars(payment=payment.id)
    at = gateway.clock.now()
    known = payment
    entries: list[Entry] = []
    messages: list[StoredMessage] = []
    rows, letters = list(appends), list[Put]()
    for item in steps:
        row = step(State(known.state), item.event)
        for message in item.messages:
            assert message.claims.TYP.removeprefix("hanbit-") in row.evidence, (item.event, message.claims.TYP)
            messages.append(record(message, merchant=payment.merchant, tid=payment.tid))
        ended = (known.ended_at or at) if row.to in FINAL else None
        before, known = known, replace(known, **{"state": str(row.to), "ended_at": ended, **item.columns})
        letters.extend(mails.about_payment(gateway, before, known, item.event))
        assert bool(item.entries) is (row.rule in BROUGHT), item
        entries.extend(item.entries)
        if row.rule is not None and row.rule not in BROUGHT:
            assert known.account is not None, known
            entry = RULES[row.rule](payment=known.id, attempt=known.attempts, source=known.account, target=known.target, money=known.money)
            entries.append(entry if item.ceiling is None else replace(entry, ceiling=item.ceiling))
        if item.tell is not None:
            rows.append(to_tell(item.tell, merchant=payment.merchant, tid=payment.tid, at=at))
    change = Change(
        puts=(known.put(payment), *puts, *letters),
        requires=(*requires, *still_trusted(gateway, *(message for item in steps for message in item.messages))),
        entries=tuple(entries),
        messages=tuple(messages),
        appends=tuple(rows),
        within=within,
    )
    await gateway.book.commit(change)
    for item in steps:
        fail_points.reach(f"payment.{item.event}")
        gateway.observe("event", item.event)
    if State(known.state) in FINAL and not payment.is_final:
        _log.info("decided", merchant=known.merchant, state=known.state, reason=known.reason)
    return replace(known, version=payment.version + 1)


def still_trusted(gateway: Gateway, *messages: SignedMessage[Message]) -> Iterable[Require]:
    """Under the book lock no key is revoked by which anybody signed what is stored here: revocation takes effect at once."""
    own = {message.kid for message in messages if message.claims.iss == gateway.urn} | {gateway.signer.kid}
    foreign = {message.kid for message in messages} - own
    return (
        *(_not_revoked(kid, Unavailable("the payment server's signing key is revoked")) for kid in own),
        *(_not_revoked(kid, ProtocolViolation("revoked")) for kid in foreign),
    )


def signing_still(gateway: Gateway) -> Require:
    """The gateway's own key is not revoked either: what it would store under it could never be proved."""
    return _not_revoked(gateway.signer.kid, Unavailable("the payment server's signing key is revoked"))


def _not_revoked(kid: str, error: HanbitError) -> Require:
    return Require("certificates", kid, "revoked_at", None, error)


assert {row.rule for rows in TABLE.values() for row in rows.values()} - {None} == set(RULES) | BROUGHT
