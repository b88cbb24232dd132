"""Which pages `hanbit bench pages` asks for: every list of every face with and without a filter, far down its pages too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader
from hanbit.db.schema import LISTED
from hanbit.kernel.errors import Unavailable
from hanbit.payments import settlement

FACES: Final = ("operator", "merchant", "customer")


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that stand in addresses: a merchant, its oldest payment, whose that was, his account, the first day, who was settled then."""

    merchant: str
    payment: str
    tid: str
    customer: str
    account: str
    day: str
    settled: str


def found(reader: Reader, merchant: str, first: str) -> Found:
    """What a filled book has of each."""
    sql = (
        "SELECT id, tid, customer, account FROM payments "  # noqa: S608 - words of our own
        f"WHERE merchant = ? AND {LISTED} AND customer IS NOT NULL ORDER BY opened_at LIMIT 1"
    )
    row = reader.one(sql, merchant)
    if row is None:
        raise Unavailable("the book is not filled")
    settled = [one.merchant for one in settlement.statements_of_day(reader, first, limit=settlement.STATEMENTS_MAX)]
    if not settled:
        raise Unavailable("nobody was paid on the first day")
    return Found(merchant, row["id"], row["tid"], row["customer"], row["account"], first, merchant if merchant in settled else settled[0])


def addresses(face: str, ids: Found) -> Sequence[tuple[str, str]]:
    """What each page is called in the report, and where it is."""
    return _of_customer(ids) if face == "customer" else _of_merchant(ids) if face == "merchant" else _of_operator(ids)


def _payments(ids: Found) -> list[tuple[str, str]]:
    return [
        ("home", "/"),
        ("payments", "/payments"),
        ("payments, far down", f"/payments?until={ids.day}"),
        ("payments of a state", "/payments?state=captured"),
        ("payments of a rare state", "/payments?state=voided"),
        ("payment by its short number", f"/payments?number={ids.payment[:8]}"),
        ("payment by the shop's number", f"/payments?number={ids.tid}"),
        ("time line", f"/payments/{ids.payment}"),
        ("people", "/staff"),
        ("oneself", "/me"),
    ]


def _of_merchant(ids: Found) -> list[tuple[str, str]]:
    return [
        *_payments(ids),
        ("refund", f"/payments/{ids.payment}/refund"),
        ("orders that need a look", "/orders"),
        ("call-backs", "/callbacks"),
        ("settlement", "/settlement"),
        *([("statement", f"/settlement/{ids.day}")] if ids.settled == ids.merchant else []),
        ("line and certificates", "/line"),
    ]


def _of_operator(ids: Found) -> list[tuple[str, str]]:
    return [
        *_payments(ids),
        ("home, live", "/?live=on"),
        ("payments of a merchant", f"/payments?merchant={ids.merchant}"),
        ("payments of a merchant and a rare state", f"/payments?merchant={ids.merchant}&state=voided"),
        ("exceptions", "/exceptions"),
        ("merchants", "/merchants"),
        ("merchants, a word", "/merchants?q=shop"),
        ("merchant", f"/merchants/{ids.merchant}"),
        ("customers", "/customers"),
        ("customers, a word", f"/customers?q={ids.customer[:8]}"),
        ("customer", f"/customers/{ids.customer}"),
        ("proposals", "/proposals"),
        ("settlement", "/settlement"),
        ("trial balance", "/settlement/balance"),
        ("day", f"/settlement/days/{ids.day}"),
        ("statement", f"/settlement/days/{ids.day}/{ids.settled}"),
        ("payouts", "/payouts"),
        ("evidence", "/evidence"),
        ("audit", "/audit"),
        ("audit, a word", "/audit?word=nothing+like+it"),
        ("audit, a merchant", f"/audit?merchant={ids.merchant}"),
        ("audit, a day far back", f"/audit?since={ids.day}&until={ids.day}"),
    ]


def _of_customer(ids: Found) -> list[tuple[str, str]]:
    account = f"/my/accounts/{ids.account}"
    return [
        ("home", "/my"),
        ("statement", account),
        ("statement, a word", f"{account}?words=bench"),
        ("statement, a word that nothing has", f"{account}?words=nothing+like+it"),
        ("statement, a day far back", f"{account}?since={ids.day}&until={ids.day}"),
        ("statement as a sheet", f"{account}/statement.csv"),
        ("payment", f"/my/payments/{ids.payment}"),
        ("receipt", f"/payments/{ids.payment}"),
        ("settings of an account", f"{account}/settings"),
        ("security", "/my/security"),
        ("mail address and language", "/my/contact"),
    ]
