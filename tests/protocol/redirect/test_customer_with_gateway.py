"""The customer's and the gateway's role, written apart, agree on every byte from R4 to R12, in the signed and in the plain form."""

import msgspec
import pytest

from hanbit.crypto import certificates
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect import customer, gateway
from hanbit.protocols.redirect.gateway import Offer, SealKey
from hanbit.protocols.redirect.messages import Confirmation
from hanbit.protocols.signed import PinnedTrust
from tests.unit.wallet.parties import AT, DIGEST, bank, make_opening, make_order, redirect

GATEWAY, SHOP, CUSTOMERS = "urn:hanbit:bank:gateway", "urn:hanbit:bank:merchant:shop", "urn:hanbit:bank:customer"
SERVER_KEY = b"k" * 32


def offers() -> dict[str, Offer]:
    clear = gateway.read_clear("shop", "t" * 22, "220000", "KRW")
    return {
        "signed": gateway.signed_offer(make_order(), merchant="shop", merchant_urn=SHOP, at=AT),
        "plain": gateway.plain_offer(clear, merchant_urn=SHOP, return_url="https://shop.localhost/return"),
    }


@pytest.mark.parametrize("form", ["signed", "plain"])
def test_customer_and_gateway_agree_from_the_opening_to_the_receipt(form: str) -> None:
    offer, device = offers()[form], bank().customer()
    seal = SealKey(certificates.kid(bank().seal), bank().seal, bank().seal_key)
    keys = gateway.make_keys(
        offer, signer=bank().gateway, seal=seal, server_key=SERVER_KEY, customer=CUSTOMERS, payee="Hanbit Books", at=AT
    )
    order = offer.order or make_order()
    compact = offer.order.compact if offer.order else ""
    shown = make_opening(order, keys.compact, order=compact, order_hash=offer.order_hash)
    clear = redirect(order, ORDER=compact)
    opening = customer.verify_opening(msgspec.json.encode(shown), redirect=clear, pin=bank().pin, at=AT)

    sealing = customer.begin(opening)
    core = customer.make_core(opening, "a1")
    pay = customer.seal_pay(sealing, core, customer.auth_device(opening, core, device, AT))

    back = gateway.verify_keys(opening.keys.compact, trust=PinnedTrust(bank().root, "bank"), gateway=GATEWAY, customer=CUSTOMERS, at=AT)
    gateway.check_keys(back, offer, server_key=SERVER_KEY, at=AT)
    assert gateway.seal_kid(back.claims) == seal.kid
    session = sealed.open_key(sealing.key, seal.private, seal.kid, ctx=back.claims.ctx, n=back.claims.n, tid=back.claims.tid)
    instruction = sealed.open_pay(pay, session)
    gateway.compare_instruction(instruction, offer, gateway=GATEWAY)
    trust = PinnedTrust(bank().root, "bank", urn=device.urn)
    gateway.verify_consent(instruction, trust=trust, gateway=GATEWAY, customer_urn=device.urn, at=AT)

    notice = gateway.make_notice(offer, signer=bank().gateway, payment="P" * 22, at=AT)
    claims = {name: getattr(notice.claims, name) for name in ("payment", "tid", "amount", "currency", "order")}
    confirmation = signed.sign(Confirmation(**signed.head(bank().shop, GATEWAY, AT), **claims, req=DIGEST), bank().shop)
    settled = gateway.make_settled(confirmation, signer=bank().gateway, at=AT)
    receipt = gateway.make_receipt(settled, signer=bank().gateway, customer=CUSTOMERS, payee="Hanbit Books", at=AT)
    customer.verify_receipt(receipt.compact, opening=opening, payment="P" * 22, pin=bank().pin, at=AT)
