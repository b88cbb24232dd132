"""D1 to D8 between three honest parties: what each of them holds at the end, and what none of them ever saw."""

import msgspec

from hanbit.kernel import ids
from hanbit.protocols.dual_signature import customer, gateway, merchant
from hanbit.protocols.dual_signature.digests import split_frame
from tests.protocol.dual_signature.parties import GRANT, LINES, PAYEE, Exchange, answer, check
from tests.protocol.dual_signature.parties import merchant as shop
from tests.unit.wallet.parties import AT, bank


def test_purchase_ends_with_a_receipt_that_continues_its_authorization() -> None:
    made = Exchange.make()
    request = made.request()
    received, envelope = split_frame(merchant.frame(request.compact, made.purchase.envelope))
    checked = check(received, envelope, made.offer)
    assert (checked.instruction.core.grant, checked.instruction.core.account) == (GRANT, "a1")
    assert (checked.instruction.auth.method, checked.instruction.auth.value) == ("password", "2580")
    authorization = answer(checked.request)
    receipt = gateway.make_receipt(authorization, signer=bank().gateway, customer=ids.urn("bank", "customer"), payee=PAYEE, at=AT)
    told, beside = split_frame(gateway.frame(authorization.compact, receipt.compact))
    read = shop().verify_authorization(told, at=AT)
    shop().check_authorization(read.claims, request.claims, request.hash)
    passed_on = shop().read_receipt(beside, read, at=AT).compact
    believed = customer.verify_receipt(passed_on, made.session, pin=bank().pin, at=AT)
    assert (believed.claims.payment, believed.claims.amount, believed.claims.prev) == ("P" * 22, "220000", authorization.hash)


def test_what_the_shop_is_sent_holds_nothing_of_the_payment_information() -> None:
    made = Exchange.make(account="account-of-hong", password="secret 2580")
    seen = msgspec.json.encode(made.purchase).decode() + made.asking.request.compact
    for private in ("account-of-hong", "secret 2580", GRANT, made.core, made.auth):
        assert private not in seen
        assert ids.encode_base64url(private.encode()) not in seen


def test_what_the_gateway_is_sent_holds_nothing_of_the_lines() -> None:
    made = Exchange.make()
    checked = check(made.request().compact, made.purchase.envelope, made.offer)
    seen = made.request().compact + checked.instruction.core_text
    for private in ("송사의 동작", LINES, made.oi):
        assert private not in seen
        assert ids.encode_base64url(private.encode()) not in seen
