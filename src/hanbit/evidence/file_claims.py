"""What an evidence file says beside its signed messages, held against them: what was approved, what moved, what was ordered. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import msgspec
from msgspec.structs import astuple

from hanbit.crypto import leaves
from hanbit.evidence.assertion import verify_assertion
from hanbit.evidence.bundle import Approval, LedgerLine, Lines, printable
from hanbit.evidence.check import the_order
from hanbit.evidence.conclusions import Findings
from hanbit.evidence.file_log import FileLog
from hanbit.evidence.purchases import Approved, check_order_information, check_payment_information, read_core
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.cancellation.messages import CancelConfirmation
from hanbit.protocols.dual_signature.messages import Authorization
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.redirect.messages import Consent, Notice, Settled, Voided
from hanbit.protocols.sealed import Core, consent_challenge
from hanbit.protocols.signed import SignedMessage, check_strict_json

M = TypeVar("M", bound=Message)
Chain = Sequence[SignedMessage[Message]]
_ENTRIES: Final[dict[type[Message], str]] = {Notice: "hold", Settled: "capture", Voided: "void"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the merchant was asked in a notice, or asked for itself in a request that was approved: the two say the same."""

    gateway: str
    merchant: str
    payment: str
    tid: str
    order: str
    amount: str
    currency: str


def asked_for(chain: Chain, purchase: Approved | None) -> Asked | None:
    """What the customer must have approved, if anything."""
    if purchase is not None:
        asked, payment = purchase.request.claims, purchase.authorization.claims.payment or ""
        return Asked(asked.aud, asked.iss, payment, asked.tid, asked.order, asked.amount, asked.currency)
    notice = _first(chain, Notice)
    if notice is None:
        return None
    said = notice.claims
    return Asked(said.iss, said.aud, said.payment, said.tid, said.order, said.amount, said.currency)


def check_customer(approval: Approval | None, chain: Chain, log: FileLog, findings: Findings) -> str:
    """The attempt stands in the log, is for exactly what the merchant was asked, and is signed where its method is a signature."""
    asked = asked_for(chain, findings.purchase)
    if approval is None:
        if _first(chain, Consent) is not None:
            raise ProtocolViolation("approval", "a consent without what it consents to")
        findings.no_approval = asked is not None
        return "nothing in the file says what a customer approved" if asked else "no customer approved anything"
    attempt = approval.attempt
    row = leaves.digest("attempts", astuple(attempt))
    log.names_row(approval.leaf, leaves.Item("attempts", (attempt.payment, attempt.number), row), attempt.at)
    if asked is None or attempt.payment != asked.payment or attempt.result != "held":
        raise ProtocolViolation("approval", "the attempt is not the one for which the merchant was asked")
    core = _read_core(attempt.core) if findings.purchase is None else read_core(attempt.core)
    wanted = (1, asked.gateway, asked.merchant, asked.tid, asked.order, asked.amount, asked.currency)
    if (core.v, core.gateway, core.merchant, core.tid, core.order, core.amount, core.currency) != wanted:
        raise ProtocolViolation("approval", "what was approved is not what the merchant was asked for")
    findings.attempt = attempt
    said = (
        f"customer {attempt.customer} approved {asked.amount} {asked.currency}: {_check_signature(approval, asked, chain, log, findings)}"
    )
    if findings.purchase is None:
        return said
    check_payment_information(findings.purchase, attempt)
    findings.holds_payment_information = True
    return f"{said}; it is the payment information under the dual signature"


def check_money(ledger: Sequence[LedgerLine], chain: Chain, log: FileLog) -> str:
    """The entries are those that the signed messages call for, and each has a number that a leaf of the file names."""
    for line in ledger:
        log.touches(line.leaf, "entries", (line.number,))
    if any(later.number <= earlier.number for earlier, later in pairwise(ledger)):
        raise ProtocolViolation("ledger", "the entries do not stand in their order")
    wanted: Counter[tuple[str, str, str]] = Counter()
    captured = False
    for message in chain:
        claims = message.claims
        if isinstance(claims, Notice | Settled | Voided):
            captured = captured or isinstance(claims, Settled)
            wanted[_ENTRIES[type(claims)], claims.amount, claims.currency] += 1
        elif isinstance(claims, Authorization) and claims.result == "approved":
            captured = True
            wanted.update((kind, claims.amount, claims.currency) for kind in ("hold", "capture"))
        elif isinstance(claims, CancelConfirmation) and captured:
            wanted["refund", claims.amount, claims.currency] += 1
    if Counter((line.kind, line.amount, line.currency) for line in ledger) != wanted:
        raise ProtocolViolation("ledger", "other entries than the signed messages call for")
    return ", ".join(f"{line.kind} of {line.amount} {line.currency} is entry {line.number}" for line in ledger) or "no money moved"


def check_lines(lines: Lines, chain: Chain) -> str:
    """The lines are those whose salted hash stands in the signed order."""
    order = the_order(chain)
    if order is None:
        raise ProtocolViolation("lines", "there is no signed order that they could be of")
    data = lines.json.encode("utf-8")
    check_strict_json(data, "lines")
    try:
        hashed = hash_lines(ids.decode_base64url(lines.salt), data)
    except BadInput as error:
        raise ProtocolViolation("lines", "the salt is misspelt") from error
    if hashed != order.claims.oi:
        raise ProtocolViolation("lines", "these are not the lines whose hash the merchant signed")
    return f"the lines whose hash stands in the signed order: {printable(lines.json)}"


def check_halves(lines: Lines | None, order_information: str, findings: Findings) -> str:
    """OI is the merchant's half under the dual signature, and its lines are those of the order."""
    if findings.purchase is None:
        raise ProtocolViolation("halves", "there is no dual signature that it could be under")
    said = check_order_information(findings.purchase, order_information)
    if lines is None or said.lines != lines.json:
        raise ProtocolViolation("halves", "its lines are not those of the order")
    findings.holds_order_information = True
    return f"the order information under the dual signature of session {said.sid}"


def _check_signature(approval: Approval, asked: Asked, chain: Chain, log: FileLog, findings: Findings) -> str:
    attempt, key, consent = approval.attempt, approval.passkey, _first(chain, Consent)
    name = ids.digest(attempt.core.encode("utf-8"))
    is_device, is_passkey = attempt.method == "device", attempt.method == "passkey"
    if (consent is not None, key is not None, attempt.auth_value is not None) != (is_device, is_passkey, is_passkey):
        raise ProtocolViolation("approval", "the signature and how the customer approved do not fit")
    if consent is not None:
        if (consent.claims.core, consent.claims.order) != (name, asked.order):
            raise ProtocolViolation("approval", "the customer's device signed something else")
        if consent.claims.iss.split(":")[4:] != [attempt.customer]:
            raise ProtocolViolation("approval", "the device is of another customer")
        findings.customer_key = consent.kid
        return f"signed with device key {consent.kid}"
    if key is not None:
        origin = verify_assertion(attempt.auth_value or "", passkey=key.id, key=key.key, challenge=consent_challenge(name)).origin
        log.touches(key.leaf, "devices", (key.id,))
        findings.customer_key, findings.origin = key.id, origin
        return f"signed with passkey {printable(key.id)} at {printable(origin)}"
    return f"not signed; the payment server states: {printable(attempt.method)} verified"


def _read_core(text: str) -> Core:
    data = text.encode("utf-8")
    try:
        core = msgspec.json.decode(data, type=Core)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("approval", "what was approved cannot be read") from error
    check_strict_json(data, "approval")
    return core


def _first(chain: Chain, kind: type[M]) -> SignedMessage[M] | None:
    return next((message for message in chain if isinstance(message.claims, kind)), None)  # type: ignore[return-value]  # narrowed by its claims
