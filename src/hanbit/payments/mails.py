"""What customers are written about: the row of each letter, stored in the same Change as the fact that it tells.

A letter goes to the address that the customer has confirmed, in the language that he has chosen; who has none, or where mail is turned
off, is not written to, and nothing is stored. Facts are names, amounts and masked numbers; `mail/letters.py` makes the words of them.
"""

import json
from typing import Final

from hanbit.crypto.envelopes import mac
from hanbit.db.change import Put, Value
from hanbit.kernel import ids
from hanbit.parties import customers
from hanbit.parties.customers import Customer
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event

PAID, REFUNDED, NEW_KEY, PASSWORD, CONFIRM, MOVED = "paid", "refunded", "new_key", "password", "confirm", "moved"
"""Kinds of letters: the last two ask a new address to be confirmed and tell the old one that it was replaced."""
KINDS: Final = (PAID, REFUNDED, NEW_KEY, PASSWORD, CONFIRM, MOVED)
LINK_BYTES: Final = 16
Facts = dict[str, str | int]


def is_on(gateway: Gateway) -> bool:
    """Whether anybody is written to."""
    return bool(gateway.settings.smtp_host)


def letter(
    gateway: Gateway, customer: Customer | None, kind: str, *, address: str = "", mail: str = "", facts: Facts | None = None
) -> tuple[Put, ...]:
    """The row of a letter to this customer, to his own address or another; none where there is nobody to write to."""
    to = address or (customer.email if customer is not None else None)
    if not is_on(gateway) or customer is None or not to:
        return ()
    at = gateway.clock.now()
    row: dict[str, Value] = {
        "id": mail or ids.new_token(),
        "customer": customer.id,
        "kind": kind,
        "address": to,
        "language": customer.language,
        "facts": json.dumps({"at": at, "name": customer.name} | (facts or {}), ensure_ascii=False),
        "state": "waiting",
        "why": None,
        "next_at": at,
        "tries": 0,
        "stored_at": at,
        "ended_at": None,
    }
    return (Put("mails", row, version=0),)


def about_payment(gateway: Gateway, before: Payment, after: Payment, event: Event) -> tuple[Put, ...]:
    """The letter about money that was paid or came back by this event."""
    if event not in (Event.MERCHANT_CONFIRMED, Event.REFUNDED) or after.customer is None or not is_on(gateway):
        return ()
    account = gateway.reader.one("SELECT kind, masked FROM accounts WHERE id = ?", after.account or "")
    facts: Facts = {
        "payment": after.id,
        "payee": after.payee,
        "amount": after.amount,
        "currency": after.currency,
        "account_kind": "" if account is None else account["kind"],
        "account": "" if account is None else account["masked"],
    }
    customer = customers.by_id(gateway.reader, after.customer)
    if event == Event.MERCHANT_CONFIRMED:
        return letter(gateway, customer, PAID, facts=facts)
    returned: Facts = {"returned": after.refunded - before.refunded, "returned_in_all": after.refunded}
    return letter(gateway, customer, REFUNDED, facts=facts | returned)


def link_token(gateway: Gateway, mail: str) -> str:
    """The secret of the link in this letter: computed from a key that no book holds, so that a stolen book confirms nothing."""
    return ids.encode_base64url(mac(gateway.keyring.server_key, b"hanbit email link\0" + mail.encode("ascii"))[:LINK_BYTES])
