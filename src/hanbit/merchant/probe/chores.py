"""What an honest gateway does by itself, so that a right implementation meets nothing unusual outside a case.

A merchant that comes gets the lists of revoked certificates and the record of its own certificate; its record of the first key is signed
by both sides, a renewal is granted, and an inquiry answered "open", unless a case holds that order's inquiry to answer it itself.
"""

import asyncio
from typing import Final

from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant.probe.parties import Operator
from hanbit.protocols import keys as role
from hanbit.protocols.keys import KeyRecord, Renewal
from hanbit.protocols.line import Frame
from hanbit.protocols.redirect.messages import Inquiry, Status
from hanbit.protocols.signed import SignedMessage, head, peek_kid, sign, verify

LIST_S: Final = 3600
"""A new list each hour, as at a real gateway."""


class Chores:
    """One run's honest half."""

    def __init__(self, operator: Operator, clock: Clock) -> None:
        self._operator = operator
        self._clock = clock
        self._held: dict[str, asyncio.Future[str]] = {}
        self._lists: tuple[str, ...] = ()
        self._listed_at = 0
        self._number = 0

    def hold(self, tid: str) -> "asyncio.Future[str]":
        """The next inquiry about this order, unanswered."""
        self._held[tid] = asyncio.get_running_loop().create_future()
        return self._held[tid]

    def release(self, tid: str) -> None:
        """From now on the chores answer it again."""
        self._held.pop(tid, None)

    def welcome(self, hello: str) -> tuple[str, ...]:
        """What a merchant is told when it comes."""
        if self._clock.now() >= self._listed_at + LIST_S:
            self.new_lists()
        record = self._operator.record(peek_kid(hello))
        return self._lists if record is None else (*self._lists, record)

    def new_lists(self) -> tuple[str, ...]:
        """Newer lists of the revoked: of the gateway's certificates `revoked` alone, of the merchants' none."""
        operator, self._listed_at = self._operator, self._clock.now()
        self._number = max(self._listed_at, self._number + 1)
        merchants = certificates.make_crl(operator.merchant_authority, {}, self._listed_at, self._number)
        told = role.make_crl(operator.gateway, "merchant", self._number, merchants, at=self._listed_at)
        self._lists = (self.gateway_list(self._number, empty=False), told.compact)
        return self._lists

    def gateway_list(self, number: int, *, empty: bool, authority: Authority | None = None) -> str:
        """A list of the gateway's revoked certificates, with or without the one that is."""
        operator, at = self._operator, self._clock.now()
        revoked = {} if empty else {certificates.serial_of(operator.cast["revoked"].chain[0]): at - 3600}
        der = certificates.make_crl(authority or operator.gateway_authority, revoked, at, number)
        return role.make_crl(operator.gateway, "gateway", number, der, at=at).compact

    @property
    def number(self) -> int:
        """Of the newest lists."""
        return self._number

    async def answer(self, frame: Frame, unverified: str) -> str | None:
        """An honest answer, or nothing where none is due; ProtocolViolation for what a gateway refuses."""
        if frame.typ == KeyRecord.TYP:
            return self._confirm_first_key(unverified)
        if frame.typ == Renewal.TYP:
            return self._renew(unverified)
        if frame.typ != Inquiry.TYP:
            return None
        inquiry = self._read(unverified)
        held = self._held.get(inquiry.claims.tid)
        if held is not None and not held.done():
            held.set_result(unverified)
            return None
        return self.status(unverified).compact

    def status(self, inquiry: str, *, state: str = "open", outcome: str | None = None) -> SignedMessage[Status]:
        """The answer to this very inquiry."""
        read = self._read(inquiry)
        claims = head(self._operator.gateway, self._operator.merchant, self._clock.now())
        return sign(Status(**claims, tid=read.claims.tid, req=read.hash, state=state, outcome=outcome), self._operator.gateway)

    def _confirm_first_key(self, unverified: str) -> str:
        operator, at = self._operator, self._clock.now()
        record = operator.record(peek_kid(unverified))
        if record is None:
            raise ProtocolViolation("first_key", "not a key that was enrolled here")
        first = role.read_certificates(
            record, trust=operator.gateway_trust(), root=operator.root, gateway=operator.gateway.urn, owner=operator.merchant, at=at
        )
        message = role.read_key_record(
            unverified,
            trust=operator.trust(),
            gateway=operator.gateway.urn,
            merchant=operator.merchant,
            first=first.message.claims,
            at=at,
        )
        return role.confirm_key_record(message, signer=operator.gateway, at=at).compact

    def _renew(self, unverified: str) -> str:
        operator, at = self._operator, self._clock.now()
        asked = role.read_renewal(unverified, trust=operator.trust(), gateway=operator.gateway.urn, merchant=operator.merchant, at=at)
        requests: dict[str, bytes] = {item.purpose: ids.decode_base64url(item.request) for item in asked.message.claims.requests}
        chains = operator.issue(requests, at, renewal=unverified)
        return operator.record(certificates.kid(chains["merchant-sign"][0])) or ""

    def _read(self, unverified: str) -> SignedMessage[Inquiry]:
        operator = self._operator
        audience, at = operator.gateway.urn, self._clock.now()
        return verify(unverified, Inquiry, trust=operator.trust(), audience=audience, at=at, sender=operator.merchant)
