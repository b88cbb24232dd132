"""One purchase of the dual-signature checkout, step by step, by the three real roles with real keys and certificates."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Self

import msgspec

from hanbit.crypto import certificates, keys, signatures
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer, gateway
from hanbit.protocols.dual_signature.customer import Asking, OpenSession
from hanbit.protocols.dual_signature.gateway import VerifiedDual
from hanbit.protocols.dual_signature.merchant import Merchant, Opened, Purchased, SessionFacts
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Dual, Purchase
from hanbit.protocols.redirect import customer as redirect_customer
from hanbit.protocols.redirect.customer import Opening
from hanbit.protocols.redirect.gateway import Offer, SealKey, signed_offer
from hanbit.protocols.redirect.merchant import OrderFacts, hash_lines
from hanbit.protocols.redirect.messages import Order
from hanbit.protocols.sealed import Instruction, PurchaseCore
from hanbit.protocols.signed import PinnedTrust, RegisteredKey, SignedMessage, Signer
from tests.unit.wallet.parties import AT, Operator, bank, make_keys, make_opening, make_order, redirect, signer

LINES: Final = '[{"item":"송사의 동작","quantity":1,"price_minor":220000}]'
SALT: Final = bytes(range(32))
PAYEE: Final = "Hanbit Books"
GRANT: Final = "G" * 22
OTHER: Final = "B" * 43
"""A digest of nothing."""


@cache
def session_authority(operator: Operator | None = None, merchant: str = "shop") -> Authority:
    """The authority by which a merchant names temporary keys."""
    operator, key = operator or bank(), keys.new_key()
    der = certificates.make_authority(operator.merchant_authority, operator.name, f"session:{merchant}", key.public_key(), 0, AT - 3600)
    return Authority.below_root(key, [der, *operator.merchant_authority.chain])


@cache
def other_shop() -> Signer:
    """Another merchant of the same operator."""
    return signer(bank().merchant_authority, ids.urn("bank", "merchant", "other"), "merchant-sign", AT - 3600)


@dataclass
class Registered:
    """The gateway's list of session authorities."""

    chains: list[tuple[bytes, ...]] = field(default_factory=lambda: [session_authority().chain, session_authority(None, "other").chain])
    revoked_at: int | None = None

    def session_authority(self, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        if chain not in self.chains:
            raise ProtocolViolation("unknown_key")
        found = certificates.verify_session_authority(chain, root=bank().root, at=at, operator="bank")
        return RegisteredKey(
            kid=found.kid,
            urn=found.urn,
            purpose=found.purpose,
            public=found.public,
            not_before=found.not_before,
            not_after=found.not_after,
            revoked_at=self.revoked_at,
        )


def merchant(shop: Signer | None = None) -> Merchant:
    """A shop in its role."""
    root = bank().root
    gateway_urn = ids.urn("bank", "gateway")
    return Merchant(shop or bank().shop, gateway_urn, PinnedTrust(root, "bank", urn=gateway_urn), root)


@dataclass
class Exchange:
    """One purchase up to the step that a test wants to look at; each step may be redone with other bytes."""

    order: SignedMessage[Order]
    opening: Opening
    asking: Asking
    opened: Opened
    session: OpenSession
    oi: str
    core: str
    auth: str
    purchase: Purchase

    @classmethod
    def make(cls, *, account: str = "a1", password: str = "2580", grant: str = GRANT, tid: str = "t" * 22) -> Self:
        order = make_order(oi=hash_lines(SALT, LINES.encode()), tid=tid)
        shown = msgspec.json.encode(make_opening(order, make_keys(order)))
        opening = redirect_customer.verify_opening(shown, redirect=redirect(order), pin=bank().pin, at=AT)
        lines = customer.verify_lines(opening, LINES, ids.encode_base64url(SALT))
        asking = customer.make_session_request(opening, at=AT)
        shop = merchant()
        opened = shop.answer_session_request(
            shop.verify_session_request(asking.request.compact, at=AT), facts_of(order), session_authority(), at=AT
        )
        session = customer.verify_session(opened.answer, asking, pin=bank().pin, at=AT)
        oi = customer.make_order_information(session, lines)
        core = customer.make_core(session, account=account, grant=grant, oi=oi)
        auth = redirect_customer.auth_password(password)
        purchase = customer.make_purchase(session, oi=oi, core=core, auth=auth, at=AT)
        return cls(order, opening, asking, opened, session, oi, core, auth, purchase)

    @property
    def facts(self) -> SessionFacts:
        return SessionFacts(self.opened.session.claims, self.opened.session.hash, used=False, issued=self.opened.certificate)

    @property
    def offer(self) -> Offer:
        return signed_offer(self.order, merchant="shop", merchant_urn=bank().shop.urn, at=AT)

    def again(self, **changes: Any) -> Purchase:
        """The purchase with other parts."""
        return msgspec.structs.replace(self.purchase, **changes)

    def with_core(self, *, by: Signer | None = None, **changes: Any) -> Self:
        """A customer whose own program makes another core, consistently: PI, its hash and the signature agree."""
        core = msgspec.structs.replace(msgspec.json.decode(self.core, type=PurchaseCore), **changes)
        return self.with_parts(core=msgspec.json.encode(core).decode(), by=by)

    def with_parts(self, *, oi: str | None = None, core: str | None = None, by: Signer | None = None) -> Self:
        """The same with other halves, signed anew by kc (or by somebody else)."""
        session = replace(self.session, signer=by or self.session.signer)
        oi, core = oi or self.oi, core or self.core
        return replace(self, oi=oi, core=core, purchase=customer.make_purchase(session, oi=oi, core=core, auth=self.auth, at=AT))

    def with_dual(self, *, by: Signer | None = None, **changes: Any) -> Self:
        """The same with another dual signature, by kc (or by somebody else)."""
        dual = msgspec.json.decode(signed.split(self.purchase.dual)[1], type=Dual)
        by = by or self.session.signer
        made = signed.sign(msgspec.structs.replace(dual, **({"iss": by.urn} | changes)), by)
        return replace(self, purchase=self.again(dual=made.compact))

    def forced_request(self, by: Signer | None = None, **changes: Any) -> str:
        """D6 from a shop that checked nothing."""
        session, dual = self.opened.session.claims, self.purchase.dual
        claims = msgspec.json.decode(signed.split(dual)[1], type=Dual)
        by = by or bank().shop
        said: dict[str, Any] = {
            "sid": session.sid,
            "tid": session.tid,
            "amount": session.amount,
            "currency": session.currency,
            "order": session.order,
            "oimd": claims.oimd,
            "pimd": claims.pimd,
            "dual": dual,
            "envelope_hash": ids.digest(self.purchase.envelope.encode()),
            "prev": ids.digest(dual.encode()),
        }
        return signed.sign(AuthorizationRequest(**(signed.head(by, ids.urn("bank", "gateway"), AT) | said | changes)), by).compact

    def purchased(self, purchase: Purchase | None = None, *, at: int = AT) -> Purchased:
        """D5 as the shop takes it."""
        return merchant().verify_purchase(purchase or self.purchase, self.facts, facts_of(self.order), LINES, at=at)

    def request(self) -> SignedMessage[AuthorizationRequest]:
        """D6."""
        return merchant().make_authorization_request(self.purchased(), at=AT)


@dataclass(frozen=True)
class Checked:
    """What D7 has made of a request."""

    request: SignedMessage[AuthorizationRequest]
    instruction: Instruction[PurchaseCore]
    dual: VerifiedDual


def check(
    request: str, envelope: str, offer: Offer, *, at: int = AT, peer: str | None = None, authorities: Registered | None = None
) -> Checked:
    """D7 as the gateway does it, but for the book."""
    urn = ids.urn("bank", "gateway")
    message = gateway.verify_authorization_request(
        request, trust=PinnedTrust(bank().root, "bank"), gateway=urn, merchant_urn=peer or bank().shop.urn, at=at
    )
    instruction = gateway.open_envelope(envelope, message, seal())
    dual = gateway.verify_dual(message, root=bank().root, authorities=authorities or Registered(), gateway=urn, at=at)
    gateway.check_halves(message.claims, dual.message.claims, instruction)
    gateway.compare_purchase(message.claims, dual, instruction, offer, gateway=urn, at=at)
    return Checked(message, instruction, dual)


def answer(request: SignedMessage[AuthorizationRequest], *, approved: bool = True) -> SignedMessage[Authorization]:
    """D7's signed answer."""
    return gateway.make_authorization(
        request, signer=bank().gateway, payment="P" * 22 if approved else None, reason=None if approved else "declined", at=AT
    )


def seal() -> SealKey:
    """The gateway's sealing key."""
    return SealKey(certificates.kid(bank().seal), bank().seal, bank().seal_key)


def facts_of(order: SignedMessage[Order], **changes: Any) -> OrderFacts:
    """The shop's own row of this order."""
    facts = OrderFacts(
        tid=order.claims.tid,
        amount=Money(int(order.claims.amount), order.claims.currency),
        order_hash=order.hash,
        answer_until=AT + 2700,
        barred=None,
        plain=False,
    )
    return replace(facts, **changes)


def resigned(message: SignedMessage[Any], by: Signer, **changes: Any) -> str:
    """The same message saying something else, signed again by whoever may sign such a thing."""
    return signed.sign(msgspec.structs.replace(message.claims, **changes), by).compact


def re_payload(compact: str, change: Any, key: Any) -> str:
    """The same header over a payload of any bytes, signed by this key: what a careless reader would take for the message."""
    head, payload, _ = compact.split(".")
    made = f"{head}.{ids.encode_base64url(change(ids.decode_base64url(payload)))}"
    return f"{made}.{ids.encode_base64url(signatures.sign(key, made.encode()))}"


def re_header(compact: str, header: dict[str, object], key: Any) -> str:
    """The same payload under another header, signed by this key."""
    made = f"{ids.encode_base64url(msgspec.json.encode(header))}.{compact.split('.')[1]}"
    return f"{made}.{ids.encode_base64url(signatures.sign(key, made.encode()))}"


def twice(name: str) -> Any:
    """A change of JSON bytes: this name stands there a second time."""
    return lambda data: data[:-1] + b',"' + name.encode() + b'":' + msgspec.json.encode(msgspec.json.decode(data)[name]) + b"}"


def with_float(name: str) -> Any:
    """A change of JSON bytes: this whole number is written as a float."""
    return lambda data: data.replace(f'"{name}":{msgspec.json.decode(data)[name]}'.encode(), f'"{name}":1.8e9'.encode())


def other_authority() -> Authority:
    """The session authority of another merchant of the same operator."""
    return session_authority(None, "other")


def temporary_signer(session: OpenSession, authority: Authority, *, merchant_id: str = "shop", sid: str | None = None) -> Signer:
    """The key kc with a certificate that somebody else issued, or for somebody else."""
    urn = ids.urn("bank", "temporary", f"{merchant_id}:{sid or session.session.claims.sid}")
    key = session.signer.key
    leaf = certificates.make_leaf(authority, urn=urn, purpose="temporary", public=key.public_key(), at=AT, lifetime_s=780)
    return Signer(urn=urn, purpose="temporary", kid=certificates.kid(leaf), chain=(leaf, *authority.chain), key=key)
