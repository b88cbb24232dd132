"""Grants: a customer's leave to try one payment of one order through its merchant (D4), given in the gateway's own window, used up by D7.

The customer does not speak to the gateway while he pays through the shop; a grant is how what the shop brings is known to come from
somebody who has logged in here for this very order. Without one nothing is opened and no factor is tried, so a shop cannot guess.
"""

import msgspec

from hanbit.db.change import Change, Delete, Put, Require, Stale
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import Declined, NotAllowed, Unavailable, WrongState
from hanbit.payments import merchant_limits
from hanbit.payments.apply import apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import check_taken, still_taken
from hanbit.payments.open_order import Opening, first_step, refreshed, unsealing
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.states import ATTEMPTS_MAX, State

LIVE_MAX = ATTEMPTS_MAX
"""Unused grants of one customer for one order; the oldest goes when there is one more (a window that was closed leaves its own behind)."""
STALE_TRIES = 3


class Grant(msgspec.Struct, frozen=True):
    """Whose leave it is and for what; the grant itself is with the customer's program only."""

    grant_hash: str
    version: int
    customer: str
    session: str
    merchant: str
    tid: str
    order_hash: str
    given_at: int
    expires_at: int
    used_at: int | None = None

    def use(self, at: int) -> Put:
        """The row by which it is used up; turned away if it was meanwhile."""
        return Put("grants", msgspec.structs.asdict(self) | {"used_at": at}, self.version)


_LIVE = (
    f"SELECT {columns('grants', Grant)} FROM grants "  # noqa: S608 - names of our own
    "WHERE merchant = ? AND tid = ? AND used_at IS NULL AND expires_at >= ? ORDER BY given_at, grant_hash"
)


async def give(gateway: Gateway, opening: Opening, who: SignedIn, *, unverified_key: str) -> str:
    """D4: a new grant for this customer and order, told once; the payment enters the book with it if it is not there yet.

    WrongState where the order can be paid no longer or is being paid, Declined where customer or merchant is stopped, or the merchant
    may not take so much: nothing changed.
    """
    with unsealing(gateway, opening, unverified_key):
        pass  # somebody really runs the payment program on this opening
    check_taken(gateway)
    if opening.offer.order is None:
        raise NotAllowed("this shop's orders are not signed: it is paid at the payment page")
    requires = (
        Require("customers", who.customer.id, "state", "active", Declined("customer_suspended")),
        Require("merchants", opening.merchant.id, "state", "active", Declined("merchant_suspended")),
        still_taken(),
    )
    merchant_limits.check_payment(opening.merchant, opening.offer.money)
    for _ in range(STALE_TRIES):
        payment, first = first_step(gateway, opening)
        at = gateway.clock.now()
        if payment.state not in (State.NEW, State.OPEN) or at > payment.pay_by:
            raise WrongState("this order can be paid no longer")
        grant = ids.new_token()
        row = Grant(
            grant_hash=_hash(grant),
            version=0,
            customer=who.customer.id,
            session=who.session.token_hash,
            merchant=payment.merchant,
            tid=payment.tid,
            order_hash=payment.order_hash,
            given_at=at,
            expires_at=payment.pay_by,
        )
        put = Put("grants", msgspec.structs.asdict(row), version=0)
        own = [known for known in live(gateway.reader, payment.merchant, payment.tid, at) if known.customer == who.customer.id]
        dropped = tuple(Delete("grants", (known.grant_hash,), known.version) for known in own[: max(len(own) + 1 - LIVE_MAX, 0)])
        try:
            if first:
                await apply(gateway, payment, *first, requires=requires, puts=(put,))
            else:
                await gateway.book.commit(Change(requires=requires, puts=(put,), deletes=dropped))
        except Stale:
            opening = refreshed(gateway, opening)
            continue
        gateway.observe("grant", "given")
        return grant
    raise Unavailable("this payment is being changed at this moment")


def live(reader: Reader, merchant: str, tid: str, at: int) -> list[Grant]:
    """The grants for this merchant's order that are neither used nor too old, the oldest first."""
    return [Grant(*row) for row in reader.all(_LIVE, merchant, tid, at)]


def named(grants: list[Grant], grant: str) -> Grant | None:
    """That one of these grants which somebody shows, or None."""
    shown = _hash(grant)
    return next((known for known in grants if known.grant_hash == shown), None)


def _hash(grant: str) -> str:
    return ids.digest(b"hanbit grant\0" + grant.encode("utf-8"))
