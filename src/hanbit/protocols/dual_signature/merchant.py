"""The merchant's role in the dual-signature checkout: opens a session, checks a purchase with its own half, asks the gateway; no I/O.

What the shop does with each message (numbers as in `docs/protocol/dual-signature.md`):

    D2   verify_session_request      signed by the key that it names; addressed to this shop
    D3   answer_session_request      `session` and a temporary certificate for that key; only for an open order of its own
    D5   verify_purchase             the eight checks below, before the gateway is asked anything
    D6   make_authorization_request  stored before it is sent; `frame` puts the envelope beside it
    D7   verify_authorization        signature, sender, audience; an answer has no `exp`
         check_authorization         it answers my request: approved (deliver) or declined
         vouched_authorization       the same from the gateway's answer to my inquiry
    D8   read_receipt                the gateway's receipt, to be passed on unchanged

`verify_purchase` compares with what the shop's own book says, in this order:

1. the session is one that this shop opened, unused and not past its end
2. the dual signature is by the temporary key that was certified for this shop and this session, and that is the session's own;
   addressed to the gateway
3. it names this shop, its gateway and the session's sid, nc, nm, tid, order and end, and continues the session
4. OI hashes to its oimd
5. OI names the session's tid, sid, nc, nm, shop, gateway, amount and currency
6. OI's lines are the order's own, and the order is open, for this amount
7. the hash of PI is the one that was signed, and both halves belong together (pomd)
8. the envelope is one for a gateway, of this session

The shop learns nothing from the envelope and from the hash of PI: both stand for bytes that hold 256 bits of salt.
"""

import secrets
from dataclasses import dataclass
from typing import Final

import msgspec

from hanbit.crypto import keys
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation, WrongState
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature import temporary
from hanbit.protocols.dual_signature.digests import join_frame, joint_digest, oi_digest
from hanbit.protocols.dual_signature.messages import (
    OI_MAX,
    SESSION_LIFE_S,
    Authorization,
    AuthorizationRequest,
    Dual,
    OrderInformation,
    Purchase,
    Session,
    SessionAnswer,
    SessionRequest,
)
from hanbit.protocols.dual_signature.temporary import AsIssued, TemporaryTrust
from hanbit.protocols.fields import VERSION
from hanbit.protocols.redirect.merchant import OrderFacts
from hanbit.protocols.redirect.messages import Receipt, Status
from hanbit.protocols.signed import SignedMessage, Signer, Trust

_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the shop's own book says about a session that it opened."""

    session: Session
    hash: str
    used: bool
    """A purchase has been taken for it: one attempt, one session."""
    issued: tuple[bytes, ...] = ()
    """The chain of the temporary certificate that was issued in it, leaf first; where it is not given any certificate is verified."""


@dataclass(frozen=True, slots=True)
class Opened:
    """D3: the session as it is stored, and what the customer is sent."""

    session: SignedMessage[Session]
    certificate: tuple[bytes, ...]

    @property
    def answer(self) -> SessionAnswer:
        """As it travels."""
        return SessionAnswer(session=self.session.compact, certificate=tuple(signed.encode_der(der) for der in self.certificate))


@dataclass(frozen=True, slots=True)
class Purchased:
    """D5: a purchase that agrees with the shop's own half; only `verify_purchase` makes one."""

    session: Session
    dual: SignedMessage[Dual]
    oi: str
    envelope: str

    @property
    def envelope_hash(self) -> str:
        """All that stays of the envelope."""
        return ids.digest(self.envelope.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop's identity for this protocol: its signing key, its one gateway, whom it trusts, and the root above everybody."""

    signer: Signer
    gateway: str
    trust: Trust
    root: bytes

    @property
    def customer(self) -> str:
        """How a customer is called who has said nothing of himself: `iss` of a request, `aud` of a session."""
        return ids.urn(self.gateway.split(":")[2], "customer")

    def verify_session_request(self, unverified: str | bytes, *, at: int) -> SignedMessage[SessionRequest]:
        """D2: whoever sends it holds the key that it names; `kid` is that key's thumbprint."""
        return signed.verify_keyed(unverified, SessionRequest, audience=self.signer.urn, at=at, sender=self.customer)

    def answer_session_request(self, request: SignedMessage[SessionRequest], order: OrderFacts, authority: Authority, *, at: int) -> Opened:
        """D3 (B2): my nonce, a session ID never used before, and a certificate that is good for these two alone.

        ProtocolViolation where it asks for another order than its address named; WrongState where no payment is taken any more.
        """
        if request.claims.order != order.order_hash:
            raise ProtocolViolation("order", "a session for another order")
        _check_open(order, at)
        sid = ids.new_token_of(at)
        claims = Session(
            **signed.head(self.signer, self.customer, at),
            nc=request.claims.nc,
            nm=ids.encode_base64url(secrets.token_bytes(_NONCE_BYTES)),
            sid=sid,
            gateway=self.gateway,
            thumbprint=request.kid,
            tid=order.tid,
            amount=order.amount.text,
            currency=order.amount.currency,
            order=order.order_hash,
            req=request.hash,
            exp=min(at + SESSION_LIFE_S, order.answer_until),
        )
        public = keys.public_from_jwk(msgspec.to_builtins(request.claims.key))
        chain = temporary.issue(authority, merchant=self.signer.urn, sid=sid, public=public, at=at)
        return Opened(signed.sign(claims, self.signer), chain)

    def verify_purchase(self, purchase: Purchase, facts: SessionFacts | None, order: OrderFacts, lines: str, *, at: int) -> Purchased:
        """D5: checks 1 to 8; ProtocolViolation names the first that fails, WrongState says that the order is open no more."""
        if facts is None or facts.used:
            raise ProtocolViolation("sid", "not an open session of this shop")
        session = facts.session
        if at > session.exp:
            raise ProtocolViolation("expired", "session")
        dual = self._verify_dual(purchase.dual, facts, at)
        if oi_digest(purchase.oi) != dual.claims.oimd:
            raise ProtocolViolation("oimd", "the order information is not what was signed")
        said = _read_order_information(purchase.oi)
        for name in ("tid", "sid", "nc", "nm", "gateway", "amount", "currency"):
            _same(getattr(said, name), getattr(session, name), name)
        _same(said.merchant, self.signer.urn, "merchant")
        _same(said.lines, lines, "lines")
        _same(session.order, order.order_hash, "order")
        _same(session.amount, order.amount.text, "amount")
        _same(session.currency, order.amount.currency, "currency")
        _check_open(order, at)
        _same(purchase.pimd, dual.claims.pimd, "pimd")
        _same(dual.claims.pomd, joint_digest(purchase.pimd, dual.claims.oimd), "pomd")
        _, sid = sealed.peek_purchase(purchase.envelope)
        _same(sid, session.sid, "sid")
        return Purchased(session, dual, purchase.oi, purchase.envelope)

    def _verify_dual(self, unverified: str, facts: SessionFacts, at: int) -> SignedMessage[Dual]:
        session = facts.session
        trust = AsIssued(TemporaryTrust(self.root, self.signer.urn, session.sid), facts.issued)
        dual = signed.verify(unverified, Dual, trust=trust, audience=self.gateway, at=at)
        _same(temporary.thumbprint_of(signed.peek_chain(unverified)), session.thumbprint, "thumbprint")
        for name in ("gateway", "sid", "nc", "nm", "tid", "order", "exp"):
            _same(getattr(dual.claims, name), getattr(session, name), name)
        _same(dual.claims.merchant, self.signer.urn, "merchant")
        _same(dual.claims.prev, facts.hash, "prev")
        return dual

    def make_authorization_request(self, purchased: Purchased, *, at: int) -> SignedMessage[AuthorizationRequest]:
        """D6 (B4): I ask for this payment; these bytes confirm the order too, so that money may move on them alone."""
        session, dual = purchased.session, purchased.dual
        claims = AuthorizationRequest(
            **signed.head(self.signer, self.gateway, at),
            sid=session.sid,
            tid=session.tid,
            amount=session.amount,
            currency=session.currency,
            order=session.order,
            oimd=dual.claims.oimd,
            pimd=dual.claims.pimd,
            dual=dual.compact,
            envelope_hash=purchased.envelope_hash,
            prev=dual.hash,
        )
        return signed.sign(claims, self.signer)

    def verify_authorization(self, unverified: str | bytes, *, at: int) -> SignedMessage[Authorization]:
        """D7: approved or declined, whenever it comes; what it answers is compared by `check_authorization`."""
        return signed.verify(unverified, Authorization, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)

    def vouched_authorization(self, status: SignedMessage[Status], *, at: int) -> SignedMessage[Authorization]:
        """RQ: the authorization in the gateway's answer to my own inquiry, although its key may have ended since."""
        unverified = status.claims.outcome or ""
        return signed.verify_as_signed(unverified, Authorization, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)

    def check_authorization(self, authorization: Authorization, request: AuthorizationRequest, request_hash: str) -> None:
        """D7: it answers what I asked, figure by figure; ProtocolViolation where it does not. Delivery hangs on this."""
        _same(authorization.req, request_hash, "req")
        for name in ("sid", "tid", "amount", "currency", "order"):
            _same(getattr(authorization, name), getattr(request, name), name)
        approved = authorization.result == "approved"
        if approved is (authorization.payment is None) or approved is (authorization.reason is not None):
            raise ProtocolViolation("result", "neither approved nor declined")

    def read_receipt(self, unverified: str | bytes, authorization: SignedMessage[Authorization], *, at: int) -> SignedMessage[Receipt]:
        """D8: the receipt that came beside an authorization belongs to it; it is the customer's, and passed on unchanged."""
        receipt = signed.verify(unverified, Receipt, trust=self.trust, audience=self.customer, at=at, sender=self.gateway)
        _same(receipt.claims.prev, authorization.hash, "prev")
        for name in ("tid", "amount", "currency", "order"):
            _same(getattr(receipt.claims, name), getattr(authorization.claims, name), name)
        _same(receipt.claims.payment, authorization.claims.payment or "", "payment")
        return receipt


def frame(request: str, envelope: str) -> str:
    """D6: what goes over the line; the same bytes again until the answer is stored, then the envelope is dropped."""
    return join_frame(request, envelope)


def _check_open(order: OrderFacts, at: int) -> None:
    """No payment is begun or asked for that the shop would not take; `detail` is a code of REFUSAL_REASONS."""
    if order.barred is not None:
        raise WrongState(order.barred)
    if at > order.answer_until:
        raise WrongState("expired")


def _read_order_information(unverified: str) -> OrderInformation:
    data = unverified.encode("utf-8", "replace")
    if len(data) > OI_MAX:
        raise ProtocolViolation("size", "order information")
    try:
        said = msgspec.json.decode(data, type=OrderInformation)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("oi", str(error)[:200]) from error
    if msgspec.json.encode(said) != data:
        signed.check_strict_json(data, "oi")
    if said.v != VERSION:
        raise ProtocolViolation("version")
    return said


def _same(received: object, known: object, what: str) -> None:
    if received != known:
        raise ProtocolViolation(what, "differs from what this shop holds")
