"""A shop's side of C1 to C3 as bytes: its request, and what it makes of whatever comes back; the order book has no part in it."""

from dataclasses import dataclass
from typing import Any

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.cancellation.merchant import ANSWERS, Answer, Merchant
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect.messages import plain_order_hash
from hanbit.protocols.signed import PinnedTrust, SignedMessage, Signer, peek_claims, peek_typ
from tests.world import OPERATOR, PRICE, Visit, World


@dataclass(frozen=True)
class Canceller:
    """The shop of this world that cancels; `signer` may be somebody else's key."""

    world: World
    merchant: str = "shop"

    @property
    def signer(self) -> Signer:
        return self.world.parties.merchants[self.merchant]

    @property
    def role(self) -> Merchant:
        gateway = self.world.gateway
        return Merchant(self.signer, gateway.urn, PinnedTrust(self.world.parties.root, OPERATOR, urn=gateway.urn))

    def request(self, visit: Visit, amount: int = PRICE, *, remaining: int | None = None, **changes: Any) -> SignedMessage[Cancel]:
        """C1 for a visit's order as an honest shop would sign it; any claim may be changed before that."""
        payment, clear = visit.payment, visit.redirect
        order = ids.digest(clear.order.encode()) if clear.order else plain_order_hash(clear.merchant_id, clear.tid, clear.money.text, "KRW")
        made = self.role.make_cancel(
            cancellation=ids.new_token(),
            payment=payment.id if payment is not None and payment.notice_hash is not None else None,
            tid=clear.tid,
            amount=Money(amount, "KRW"),
            remaining=Money(clear.money.amount_minor - (payment.refunded if payment else 0) if remaining is None else remaining, "KRW"),
            reason="asked by telephone",
            prev=order,
            at=self.world.clock.now(),
        )
        return signed.sign(msgspec.structs.replace(made.claims, **changes), self.signer) if changes else made

    async def send(self, frame: str) -> str:
        """C1 out, C3 in."""
        reply = await self.world.line.links[self.merchant].to_gateway(frame)
        assert reply is not None
        return reply

    async def ask(self, request: SignedMessage[Cancel]) -> Answer | str:
        """C1 to C3 with every check of the shop's; the code where the frame was refused."""
        reply = await self.send(request.compact)
        if peek_typ(reply) == RefusedByGateway.TYP:
            claims = peek_claims(reply)
            assert claims["req"] == request.hash
            return str(claims["code"])
        assert peek_typ(reply) in ANSWERS
        return self.role.read_answer(reply, request, settled=False, at=self.world.clock.now())

    async def result(self, request: SignedMessage[Cancel]) -> tuple[str, int, int]:
        """What came of it: confirmed, the reason of a refusal, or the broken rule; refunded so far; what is left."""
        answer = await self.ask(request)
        if isinstance(answer, str):
            return answer, 0, 0
        return getattr(answer.claims, "reason", "confirmed"), int(answer.claims.refunded), int(answer.claims.remaining)

    async def cancel(self, visit: Visit, amount: int = PRICE, **changes: Any) -> tuple[str, int, int]:
        """C1 to C3 in one."""
        return await self.result(self.request(visit, amount, **changes))
