"""What the merchants' console asks of a shop's own program: acts that only the shop may sign for, and looks into its own order book.

    gateway ── console-act ──▶ shop      somebody in the console wishes it: one id, done once, whatever is sent again
            ◀─ console-done ──           done, or why not; a cancellation is the shop's own C1, signed and sent as always
            ── console-question ──▶      what needs a look, what was told to the shop's endpoints
            ◀─ console-rows ──           a bounded page of it, without secrets

The gateway never speaks for the shop: its signature says that somebody asked, the shop's own says what it did.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols.fields import Amount, Code, Currency, Digest, Instant, Message, Text, Tid, Token
from hanbit.protocols.signed import SignedMessage, Signer, Trust, head, recall, sign, verify

ACT_LIFETIME_S = 15 * 60
"""Within it a shop takes an act up for the first time; its answer is good whenever it comes."""
QUESTION_LIFETIME_S = 60
ROWS_MAX = 20
"""Rows of one answer: what needs somebody is looked at a few at a time."""
NOT_OFFERED = "not_offered"
"""The shop's program does not do this for a console."""
DONE = "done"

Act = Literal["cancel", "looked", "resend", "test"]
About = Literal["orders", "callbacks"]
Actor = Annotated[str, msgspec.Meta(pattern=r"^person:[A-Za-z0-9_-]{22}$(?!\n)")]
"""Who asks, as the audit calls him: no name goes over the line."""
Delivery = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]


class ConsoleAct(Message, frozen=True, kw_only=True):
    """Somebody of the merchant's own people asks his shop to do this; without an amount all that is left is meant."""

    TYP: ClassVar[str] = "hanbit-console-act"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    request: Token
    act: Act
    person: Actor
    reason: Text
    tid: Tid | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    delivery: Delivery | None = None
    exp: Instant


class ConsoleDone(Message, frozen=True, kw_only=True):
    """What the shop did: `done`, or why not; of a cancellation that it asked for, the id of its C1."""

    TYP: ClassVar[str] = "hanbit-console-done"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    req: Digest
    request: Token
    result: Code
    cancellation: Token | None = None


class ConsoleQuestion(Message, frozen=True, kw_only=True):
    """What is there to see in the shop's own book; nothing is kept of it on either side."""

    TYP: ClassVar[str] = "hanbit-console-question"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    about: About
    exp: Instant


class Look(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order, a cancellation or a purchase that somebody should look at, in the shop's own words."""

    kind: Literal["order", "cancellation", "purchase"]
    tid: Tid
    state: Code
    why: Text
    since: Instant


class CallBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event for one endpoint of the shop; its address stays in the shop."""

    delivery: Delivery
    endpoint: Text
    type: Annotated[str, msgspec.Meta(pattern=r"^[a-z_.]{1,40}$(?!\n)")]
    tid: Tid | None = None
    state: Code
    created_at: Instant
    next_at: Instant | None = None
    tries: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    last_status: Annotated[int, msgspec.Meta(ge=100, le=999)] | None = None
    last_error: Text | None = None


class ConsoleRows(Message, frozen=True, kw_only=True):
    """The newest of what was asked for; `more` where there are others, not `offered` where this shop has no such thing."""

    TYP: ClassVar[str] = "hanbit-console-rows"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    req: Digest
    looks: Annotated[tuple[Look, ...], msgspec.Meta(max_length=ROWS_MAX)] = ()
    callbacks: Annotated[tuple[CallBack, ...], msgspec.Meta(max_length=ROWS_MAX)] = ()
    more: bool = False
    offered: bool = True


MESSAGES: tuple[type[Message], ...] = (ConsoleAct, ConsoleDone, ConsoleQuestion, ConsoleRows)


# --- the gateway ------------------------------------------------------------------------------------------------------------------


def make_act(
    signer: Signer,
    merchant: str,
    *,
    request: str,
    act: Act,
    person: str,
    reason: str,
    at: int,
    tid: str | None = None,
    amount: Money | None = None,
    delivery: str | None = None,
) -> SignedMessage[ConsoleAct]:
    """What somebody wishes: of an order (tid), in part (amount), or of an event (delivery)."""
    figures = {} if amount is None else {"amount": amount.text, "currency": amount.currency}
    claims = head(signer, merchant, at) | {"request": request, "person": person, "reason": reason, "exp": at + ACT_LIFETIME_S} | figures
    return sign(ConsoleAct(**claims, act=act, tid=tid, delivery=delivery), signer)


def make_question(signer: Signer, merchant: str, about: About, *, at: int) -> SignedMessage[ConsoleQuestion]:
    """A look into the shop's book."""
    return sign(ConsoleQuestion(**head(signer, merchant, at), about=about, exp=at + QUESTION_LIFETIME_S), signer)


def recall_act(compact: str) -> ConsoleAct:
    """The claims of an act that we signed ourselves."""
    return recall(compact, ConsoleAct).claims


def read_done(unverified: str, *, trust: Trust, gateway: str, merchant: str, at: int) -> SignedMessage[ConsoleDone]:
    """The shop's word on an act; which one it answers is compared by whoever keeps them."""
    return verify(unverified, ConsoleDone, trust=trust, audience=gateway, sender=merchant, at=at)


def read_rows(unverified: str, question: SignedMessage[ConsoleQuestion], *, trust: Trust, at: int) -> ConsoleRows:
    """The rows that answer this very question."""
    claims = question.claims
    rows = verify(unverified, ConsoleRows, trust=trust, audience=claims.iss, sender=claims.aud, at=at).claims
    if rows.req != question.hash:
        raise ProtocolViolation("req", "the answer to another question")
    return rows


# --- the shop ---------------------------------------------------------------------------------------------------------------------


def read_act(unverified: str, *, trust: Trust, gateway: str, merchant: str, at: int) -> SignedMessage[ConsoleAct]:
    """The gateway's word that somebody asked; whether it is still to be taken up says `exp`."""
    return verify(unverified, ConsoleAct, trust=trust, audience=merchant, sender=gateway, at=at)


def read_question(unverified: str, *, trust: Trust, gateway: str, merchant: str, at: int) -> SignedMessage[ConsoleQuestion]:
    """A question that is asked now; ProtocolViolation("exp") where it is an old one."""
    question = verify(unverified, ConsoleQuestion, trust=trust, audience=merchant, sender=gateway, at=at)
    if at > question.claims.exp:
        raise ProtocolViolation("exp")
    return question


def make_done(
    signer: Signer, act: SignedMessage[ConsoleAct], result: str, *, at: int, cancellation: str | None = None
) -> SignedMessage[ConsoleDone]:
    """What the shop did."""
    claims = head(signer, act.claims.iss, at)
    return sign(ConsoleDone(**claims, req=act.hash, request=act.claims.request, result=result, cancellation=cancellation), signer)


def make_rows(
    signer: Signer,
    question: SignedMessage[ConsoleQuestion],
    *,
    at: int,
    looks: tuple[Look, ...] = (),
    callbacks: tuple[CallBack, ...] = (),
    more: bool = False,
    offered: bool = True,
) -> SignedMessage[ConsoleRows]:
    """A page of the shop's own book."""
    claims = head(signer, question.claims.iss, at)
    return sign(ConsoleRows(**claims, req=question.hash, looks=looks, callbacks=callbacks, more=more, offered=offered), signer)
