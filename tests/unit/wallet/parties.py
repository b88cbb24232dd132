"""A gateway and a shop with real keys and certificates, to play the other side (honest or not) against the customer's role."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Opening, Pin, Redirect
from hanbit.protocols.redirect.messages import Keys, Order, Receipt
from hanbit.protocols.sealed import Core, Instruction, SessionKey
from hanbit.protocols.signed import SignedMessage, Signer

AT = 1_800_000_000
DAY_S = 86_400
DIGEST = "A" * 43
TEXT = "The operation of the Song company, 1 piece"


@dataclass(frozen=True)
class Operator:
    """One operator's authorities and the parties that it certified."""

    name: str
    root: bytes
    gateway_authority: Authority
    merchant_authority: Authority
    gateway: Signer
    seal_key: EllipticCurvePrivateKey
    seal: bytes
    shop: Signer

    @classmethod
    def found(cls, name: str, at: int) -> Self:
        root_key = keys.new_key()
        founded = at - 30 * DAY_S
        root = certificates.make_root(name, root_key, founded)
        top = Authority.of_root(root_key, root)
        below = []
        for authority, depth in (("gateway", 0), ("merchant", 1)):
            key = keys.new_key()
            below.append(Authority.below_root(key, [certificates.make_authority(top, name, authority, key.public_key(), depth, founded)]))
        seal_key = keys.new_key()
        gateway = ids.urn(name, "gateway")
        return cls(
            name=name,
            root=root,
            gateway_authority=below[0],
            merchant_authority=below[1],
            gateway=signer(below[0], gateway, "gateway-sign", at),
            seal_key=seal_key,
            seal=certificates.make_leaf(
                below[0], urn=gateway, purpose="gateway-seal", public=seal_key.public_key(), at=at, lifetime_s=DAY_S
            ),
            shop=signer(below[1], ids.urn(name, "merchant", "shop"), "merchant-sign", at),
        )

    @property
    def pin(self) -> Pin:
        """A customer who trusts this operator."""
        return Pin(self.root, self.name)

    def customer(self, name: str = "hong", at: int = AT) -> Signer:
        """An enrolled device."""
        return signer(self.gateway_authority, ids.urn(self.name, "customer", name), "customer-sign", at)


def signer(authority: Authority, urn: str, purpose: str, at: int, lifetime_s: int = 90 * DAY_S) -> Signer:
    """A fresh key with a leaf from this authority."""
    key = keys.new_key()
    leaf = certificates.make_leaf(authority, urn=urn, purpose=purpose, public=key.public_key(), at=at, lifetime_s=lifetime_s)
    return Signer(urn=urn, purpose=purpose, kid=certificates.kid(leaf), chain=(leaf, *authority.chain), key=key)


@cache
def bank() -> Operator:
    """The operator that the customer trusts."""
    return Operator.found("bank", AT - 3600)


@cache
def forger() -> Operator:
    """Somebody who calls himself the same, under a root of his own."""
    return Operator.found("bank", AT - 3600)


@cache
def other_bank() -> Operator:
    """Another operator."""
    return Operator.found("otherbank", AT - 3600)


def make_order(shop: Signer | None = None, *, at: int = AT, **changes: Any) -> SignedMessage[Order]:
    """The shop's order of 220,000 won."""
    shop = shop or bank().shop
    operator = shop.urn.split(":")[2]
    claims: dict[str, Any] = signed.head(shop, ids.urn(operator, "gateway"), at) | {
        "tid": "t" * 22,
        "amount": "220000",
        "currency": "KRW",
        "oi": DIGEST,
        "text": TEXT,
        "return_url": "https://shop.localhost/return",
        "pay_by": at + 1800,
    }
    return signed.sign(Order(**(claims | changes)), shop)


def make_keys(of: SignedMessage[Order], /, gateway: Signer | None = None, *, at: int = AT, seal: bytes = b"", **changes: Any) -> str:
    """The gateway's keys for this order."""
    gateway = gateway or bank().gateway
    operator = gateway.urn.split(":")[2]
    claims: dict[str, Any] = signed.head(gateway, ids.urn(operator, "customer"), at) | {
        "ctx": ids.new_token(),
        "n": DIGEST,
        "seal": signed.encode_der(seal or bank().seal),
        "order": of.hash,
        "tid": of.claims.tid,
        "amount": of.claims.amount,
        "currency": of.claims.currency,
        "payee": "Hanbit Books",
        "exp": at + 1800,
    }
    return signed.sign(Keys(**(claims | changes)), gateway).compact


def make_opening(of: SignedMessage[Order], keys_jws: str, /, **changes: Any) -> dict[str, Any]:
    """The opening object as an honest gateway shows it."""
    opening = {
        "gateway": "urn:hanbit:bank:gateway",
        "operator": {"id": "bank", "name": "Hanbit Bank", "telephone": "02-000-0000"},
        "merchant": {"id": "shop", "urn": "urn:hanbit:bank:merchant:shop", "name": "Hanbit Books", "telephone": "02-111-1111"},
        "tid": of.claims.tid,
        "amount": of.claims.amount,
        "currency": of.claims.currency,
        "text": of.claims.text,
        "order": of.compact,
        "order_hash": of.hash,
        "keys": keys_jws,
        "merchant_chain": [signed.encode_der(der) for der in bank().shop.chain],
        "signed_in": False,
        "expires_at": AT + 1800,
    }
    return opening | changes


def query(of: SignedMessage[Order], /, **changes: str) -> str:
    """What the shop puts into its redirect."""
    values = {"MID": "shop", "TID": of.claims.tid, "AMOUNT": of.claims.amount, "CUR": of.claims.currency, "ORDER": of.compact}
    return urlencode({name: value for name, value in (values | changes).items() if value})


def redirect(of: SignedMessage[Order], /, **changes: str) -> Redirect:
    """The same, read by the customer."""
    return customer.read_redirect(query(of, **changes))


def make_receipt(opening: Opening, gateway: Signer | None = None, **changes: Any) -> str:
    """The gateway's receipt for the payment `P…P`."""
    return receipt_for(opening.keys.claims, gateway or bank().gateway, **changes)


def receipt_for(keys_claims: Keys, gateway: Signer, *, at: int = AT, **changes: Any) -> str:
    """The same, from the `keys` of the opening."""
    claims: dict[str, Any] = signed.head(gateway, ids.urn(gateway.urn.split(":")[2], "customer"), at) | {
        "payment": "P" * 22,
        "tid": keys_claims.tid,
        "amount": keys_claims.amount,
        "currency": keys_claims.currency,
        "payee": keys_claims.payee,
        "order": keys_claims.order,
        "time": at,
        "prev": DIGEST,
    }
    return signed.sign(Receipt(**(claims | changes)), gateway).compact


def open_session(key: str, opening: Opening) -> SessionKey:
    """The gateway recovers SK."""
    return open_key(bank(), key, opening.keys.claims)


def open_key(operator: Operator, key: str, claims: Keys) -> SessionKey:
    """The gateway recovers SK from the `keys` that came back in clear."""
    return sealed.open_key(key, operator.seal_key, certificates.kid(operator.seal), ctx=claims.ctx, n=claims.n, tid=claims.tid)


def open_instruction(key: str, pay: str, opening: Opening) -> Instruction[Core]:
    """The gateway opens SK(PI, TID, AMOUNT)."""
    return sealed.open_pay(pay, open_session(key, opening))
