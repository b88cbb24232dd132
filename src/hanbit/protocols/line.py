"""The messages that only the private line knows, and the matching of answers to requests, used by both ends.

Matching goes by hashes of bytes alone: a request is remembered under the hash of what was sent, an answer names that hash in its `req`.
Nothing is verified here. The peer at the other end of the connection is known by its certificate, so a false answer can only be the
peer's own, and the role that asked refuses it. A slot takes the first answer; a second, better one then answers nobody who waits, is
reported as such and goes the way of every frame that the peer sends by itself, so a refused first answer never blocks it.
"""

import re
from binascii import a2b_base64
from functools import lru_cache
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, Unavailable
from hanbit.protocols.fields import INSTANT_MAX, Code, Compact, Digest, Instant, Message, Text, Token
from hanbit.protocols.signed import Signer, Trust, head, sign, verify

FRAME_MAX = 64 * 1024
"""Bytes of one frame: a JWS, or a JWS, one line feed and what goes with it (D6: the envelope; D7: the customer's receipt)."""
HELLO_LIFETIME_S = 120
OFFSET_WARNED_S = 30
"""With clocks further apart than this both ends warn."""
OFFSET_MAX_S = 60
"""With clocks further apart than this the line counts as down."""
CLOCK_OFFSET = "clock_offset"
_HEADER_MAX = 16 * 1024
_HEADERS_KEPT = 512
_TYP = re.compile(r"hanbit-[a-z-]{1,40}")
_AFTER_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{86}(?:\n[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2}(?:(?:\.[A-Za-z0-9_-]*){2})?)?")
"""An ES256 signature (64 bytes) and, after a line feed, the three parts of a JWS or the five of a JWE."""
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/???")
_PADDING = (b"", b"", b"==", b"=")

ACKNOWLEDGED_MAX = 100
"""One acknowledgement answers at most so many outcomes."""


class HelloFromMerchant(Message, frozen=True, kw_only=True):
    """The first frame from the merchant: its clock, and the last checkpoint that it holds, whole, because the gateway may have lost it."""

    TYP: ClassVar[str] = "hanbit-hello"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    nonce: Token
    time: Instant
    exp: Instant
    checkpoint: Compact | None = None


class HelloFromGateway(Message, frozen=True, kw_only=True):
    """The first frame from the gateway: its clock, and the name of the last checkpoint that it signed."""

    TYP: ClassVar[str] = "hanbit-hello"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    nonce: Token
    time: Instant
    exp: Instant
    checkpoint: Digest | None = None


class Acknowledgement(Message, frozen=True, kw_only=True):
    """The merchant has stored these outcomes (hashes of settled, voided and closed messages)."""

    TYP: ClassVar[str] = "hanbit-acknowledgement"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    req: tuple[Digest, ...]


class RefusedByGateway(Message, frozen=True, kw_only=True):
    """A well-formed frame was not accepted; the line stays."""

    TYP: ClassVar[str] = "hanbit-refused"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    req: Digest
    code: Code
    message: Text = ""


class RefusedByMerchant(Message, frozen=True, kw_only=True):
    """A well-formed frame was not accepted; the line stays."""

    TYP: ClassVar[str] = "hanbit-refused"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    req: Digest
    code: Code
    message: Text = ""


MESSAGES: tuple[type[Message], ...] = (HelloFromMerchant, HelloFromGateway, Acknowledgement, RefusedByGateway, RefusedByMerchant)


Hello = TypeVar("Hello", HelloFromMerchant, HelloFromGateway)


class Greeting(NamedTuple, Generic[Hello]):
    """A verified hello, the peer's clock minus ours, and why the line counts as down all the same (empty: it does not)."""

    hello: Hello
    offset_s: int
    fault: str


def make_hello(kind: type[Hello], signer: Signer, audience: str, at: int, checkpoint: str | None) -> str:
    """The first frame of either side."""
    hello = kind(**head(signer, audience, at), nonce=ids.new_token(), time=at, exp=at + HELLO_LIFETIME_S, checkpoint=checkpoint)
    return sign(hello, signer).compact


def read_hello(unverified: str, kind: type[Hello], *, trust: Trust, audience: str, sender: str, at: int) -> Greeting[Hello]:
    """Verify the peer's first frame and measure its clock, however far away; ProtocolViolation if the frame is not good."""
    hello = verify(unverified, kind, trust=trust, audience=audience, at=at, sender=sender, ahead_s=INSTANT_MAX).claims
    offset_s = hello.time - at
    if max(abs(offset_s), abs(hello.iat - at)) > OFFSET_MAX_S:
        return Greeting(hello, offset_s, CLOCK_OFFSET)
    return Greeting(hello, offset_s, "exp" if at > hello.exp else "")


class Frame(NamedTuple):
    """What routing needs of a frame, unverified: its typ and the hashes of the requests that it says it answers."""

    typ: str
    answers: tuple[str, ...]


class Slot(Protocol):
    """Where an answer is put: an `asyncio.Future[str]`, or anything that looks like one."""

    def done(self) -> bool:
        """True once somebody has put something in, or nobody waits any longer."""
        ...

    def set_result(self, result: str, /) -> None:
        """Put the answer in."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Say why there is no answer."""
        ...


class Matching:
    """The requests of one connection that wait for their answers."""

    def __init__(self, pending_max: int) -> None:
        self._pending_max = pending_max
        self._slots: dict[str, list[Slot]] = {}
        self._pending = 0
        self.unsolicited = 0
        """Answers for which nobody waited: late, repeated, or never asked for. An acknowledgement (a list) is not counted."""

    def __len__(self) -> int:
        return self._pending

    def expect(self, request: str, slot: Slot) -> None:
        """Keep `slot` for the answer to the request with this hash; the same request may wait in several slots."""
        if self._pending >= self._pending_max:
            raise Unavailable("too many requests wait for an answer")
        self._pending += 1
        slots = self._slots.get(request)
        if slots is None:
            self._slots[request] = [slot]
        else:
            slots.append(slot)

    def forget(self, request: str, slot: Slot) -> None:
        """Nobody waits in this slot any longer."""
        slots = self._slots.get(request, [])
        if slot in slots:
            slots.remove(slot)
            self._pending -= 1
            if not slots:
                del self._slots[request]

    def answer(self, answers: tuple[str, ...], message: str) -> bool:
        """Put the unverified message into every slot that waits for it; False if it answers anything for which nobody waits."""
        solicited = bool(answers)
        for request in answers:
            slots = self._slots.pop(request, None)
            if slots is None:
                solicited = False
                continue
            self._pending -= len(slots)
            for slot in slots:
                if not slot.done():
                    slot.set_result(message)
        if not solicited and len(answers) == 1:
            self.unsolicited += 1
        return solicited

    def fail(self, error: HanbitError) -> None:
        """The connection is gone: nothing that waits will be answered."""
        slots, self._slots, self._pending = self._slots, {}, 0
        for slot in (slot for waiting in slots.values() for slot in waiting):
            if not slot.done():
                slot.set_exception(error)


def read_frame(unverified: str) -> Frame:
    """Take apart what routing needs; ProtocolViolation if these bytes are no JWS (by itself or with what may follow) of known shape."""
    header, _, rest = unverified.partition(".")
    payload, _, signature = rest.partition(".")
    if len(unverified) > FRAME_MAX or len(header) > _HEADER_MAX or not _AFTER_PAYLOAD.fullmatch(signature):
        raise ProtocolViolation("shape", "no JWS of known shape")
    try:
        # Cheaper than ids.decode_base64url, whose second spelling of the same bits the signature's check will refuse anyway.
        claims = a2b_base64(payload.encode("ascii").translate(_TO_BASE64) + _PADDING[len(payload) % 4], strict_mode=True)
    except ValueError as error:
        raise ProtocolViolation("shape", "payload") from error
    return Frame(_read_typ(header), request_hashes(claims))


def frame_hash(frame: str) -> str:
    """The name by which an answer refers to this frame: the hash of its message, without what may follow."""
    return ids.digest(frame.partition("\n")[0].encode("ascii"))


def request_hashes(payload: bytes) -> tuple[str, ...]:
    """The hashes in the unverified payload's `req`, for routing only; empty where there is none or it has another shape."""
    try:
        req = msgspec.json.decode(payload, type=_Routed).req
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ()
    if isinstance(req, str):
        return (req,)
    return req if req is not None and len(req) <= ACKNOWLEDGED_MAX else ()


class _Routed(msgspec.Struct):
    req: str | tuple[str, ...] | None = None


class _Typed(msgspec.Struct):
    typ: str


@lru_cache(maxsize=_HEADERS_KEPT)
def _read_typ(header: str) -> str:
    """A party's header of one typ is the same bytes every time, so each is read once."""
    try:
        typ = msgspec.json.decode(ids.decode_base64url(header), type=_Typed).typ
    except (BadInput, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("shape", "header") from error
    if not _TYP.fullmatch(typ):
        raise ProtocolViolation("shape", "typ")
    return typ
