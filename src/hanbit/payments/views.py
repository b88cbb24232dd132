"""Reads for the pages, straight from the tables: what a customer, a merchant and a stranger may see of a payment."""

import json
from dataclasses import dataclass
from typing import Any

from hanbit.evidence import store as evidence
from hanbit.parties import accounts
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import IN_MERCHANT_WORDS, State


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment as its own customer sees it; a stranger sees `payment.state` and nothing else."""

    payment: Payment
    merchant_name: str
    merchant_telephone: str
    customer_name: str | None
    account_masked: str | None
    account_kind: str | None
    refusal_message: dict[str, str] | None
    signed: bool


def payment_view(gateway: Gateway, payment_id: str, customer_id: str | None) -> tuple[PaymentView | None, Payment | None]:
    """The full view for the payment's own customer, else (None, payment) for a page without names, else (None, None)."""
    payment = payments.by_id(gateway.reader, payment_id)
    if payment is None:
        return None, None
    if customer_id is None or payment.customer != customer_id:
        return None, payment
    return full_view(gateway, payment), payment


def full_view(gateway: Gateway, payment: Payment) -> PaymentView:
    """Everything that the customer's own page shows."""
    merchant = gateway.reader.one("SELECT name, telephone FROM merchants WHERE id = ?", payment.merchant)
    assert merchant is not None, payment.merchant
    customer = gateway.reader.one("SELECT name FROM customers WHERE id = ?", payment.customer)
    account = None if payment.account is None else accounts.by_id(gateway.reader, payment.account)
    return PaymentView(
        payment=payment,
        merchant_name=payment.payee,
        merchant_telephone=merchant["telephone"],
        customer_name=None if customer is None else customer["name"],
        account_masked=None if account is None else account.masked,
        account_kind=None if account is None else account.kind,
        refusal_message=None if payment.refusal_message is None else json.loads(payment.refusal_message),
        signed=payment.method in ("passkey", "device"),
    )


def kept(gateway: Gateway, payment: Payment, message_hash: str | None) -> str | None:
    """The very bytes of a message that the payment's own row names, None where it names none."""
    return None if message_hash is None else evidence.compact(gateway.reader, payment.merchant, payment.tid, message_hash)


def receipt(gateway: Gateway, payment: Payment) -> str | None:
    """The signed receipt's bytes, once the money has moved."""
    return kept(gateway, payment, payment.receipt_hash)


def merchant_state(gateway: Gateway, merchant_id: str, tid: str) -> tuple[str, str | None]:
    """RQ: the state in the merchant's words and the stored outcome's bytes, where there is one."""
    payment = payments.find(gateway.reader, merchant_id, tid)
    if payment is None:
        return IN_MERCHANT_WORDS[State.NEW], None
    outcome = kept(gateway, payment, payment.outcome_hash)
    return IN_MERCHANT_WORDS[State(payment.state)], outcome


def screen(gateway: Gateway, customer_id: str, customer_name: str, currency: str, expires_at: int) -> dict[str, Any]:
    """R6: this customer's accounts, masked, as the payment screen offers them."""
    found = accounts.of_customer(gateway.reader, customer_id, currency)
    passkeys = gateway.reader.one("SELECT 1 FROM devices WHERE customer = ? AND kind = 'passkey' AND state = 'active' LIMIT 1", customer_id)
    return {
        "customer": {"name": customer_name},
        "accounts": [{"id": a.id, "kind": a.kind, "masked": a.masked, "currency": a.currency} for a in found],
        "passkeys": passkeys is not None,
        "expires_at": expires_at,
    }
