"""One purchase of the dual-signature checkout in the world: real customer's and merchant's roles, the real gateway, every step by hand.

The shop is played by its role, not by its program, so that a test can make it say anything under its own keys.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.line_requests import routes as line_requests
from hanbit.payments import purchase_result
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature.customer import OpenSession
from hanbit.protocols.dual_signature.digests import split_frame
from hanbit.protocols.dual_signature.merchant import Merchant, Purchased, SessionFacts, frame
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Dual, Purchase, Result
from hanbit.protocols.keys import make_session_authority_request, read_session_authority
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.signed import PinnedTrust, Signer, peek_typ, verify
from tests.world import OPERATOR, PRICE, Person, Visit, World


async def session_authority(world: World, merchant: str = "shop") -> Authority:
    """The authority by which this shop certifies its customers' temporary keys; asked for over the line, once a world."""
    if merchant not in world.authorities:
        world.authorities[merchant] = await new_session_authority(world, merchant)
    return world.authorities[merchant]


async def new_session_authority(world: World, merchant: str = "shop") -> Authority:
    """One more of them."""
    link, gateway, key = world.line.links[merchant], world.gateway, new_key()
    at = world.clock.now()
    request = make_session_authority_request(link.signer, gateway.urn, key, at=at)
    answer = await line_requests.answer(gateway, merchant, request.compact)
    assert answer is not None
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=gateway.urn)
    found = read_session_authority(answer, trust=trust, root=world.parties.root, gateway=gateway.urn, owner=link.signer.urn, at=at)
    return Authority.below_root(key, found.certificate.chain)


@dataclass(frozen=True)
class Answered:
    """What the gateway answered over the line."""

    frame: str
    authorization: Authorization | None
    refused: str
    """The code of a refusal; empty where it is an answer."""
    receipt: str

    @property
    def told(self) -> str:
        """The result, or the reason of a decline as the merchant is told it."""
        if self.authorization is None:
            return f"refused {self.refused}"
        return self.authorization.reason or self.authorization.result


@dataclass
class Buying:
    """D2 to D8 of one customer in one session, with the bytes that his payment program and the shop make."""

    visit: Visit
    merchant: Merchant
    facts: SessionFacts
    session: OpenSession
    lines: str

    @property
    def world(self) -> World:
        return self.visit.world

    @property
    def name(self) -> str:
        """The shop's id."""
        return self.merchant.signer.urn.rpartition(":")[2]

    @property
    def sid(self) -> str:
        return self.facts.session.sid

    # The customer's part

    def oi(self, **changes: Any) -> str:
        """What the shop may know."""
        return _with(role.make_order_information(self.session, self.lines), changes)

    def core(self, grant: str, *, oi: str, account: str = "bank", **changes: Any) -> str:
        """What is approved; any member may be changed."""
        known = self.visit.person.accounts.get(account)
        return _with(role.make_core(self.session, account=known.id if known else account, grant=grant, oi=oi), changes)

    def auth(self, core: str, method: str = "device", *, account: str = "bank", password: str = "", by: Person | None = None) -> str:
        """The right factor for this core, unless another password is given."""
        person = by or self.visit.person
        if method == "device":
            return redirect.auth_device(self.visit.opening, core, person.device, self.world.clock.now())
        if method == "code":
            return role.auth_code(core, person.code_secret)
        assert method == "password"
        return redirect.auth_password(password or person.accounts[account].password)

    def purchase(self, grant: str, *, account: str = "bank", method: str = "device", password: str = "", **changes: Any) -> Purchase:
        """D5's bytes."""
        oi = self.oi()
        core = self.core(grant, oi=oi, account=account, **changes)
        auth = self.auth(core, method, account=account, password=password)
        return self.sealed(oi, core, auth)

    def sealed(self, oi: str, core: str, auth: str) -> Purchase:
        """D5's bytes from these parts."""
        return role.make_purchase(self.session, oi=oi, core=core, auth=auth, at=self.world.clock.now())

    # The shop's part

    async def checked(self, purchase: Purchase) -> Purchased:
        """D5 as an honest shop takes it."""
        order = await self.world.line.links[self.name].shop.order(self.visit.redirect.tid)
        return self.merchant.verify_purchase(purchase, self.facts, order.facts, order.lines_json, at=self.world.clock.now())

    async def frame(self, purchase: Purchase) -> str:
        """D6 of an honest shop."""
        purchased = await self.checked(purchase)
        return frame(self.merchant.make_authorization_request(purchased, at=self.world.clock.now()).compact, purchased.envelope)

    def forged(self, purchase: Purchase, *, envelope: str | None = None, **changes: Any) -> str:
        """D6 of a shop that looks at nothing, or says something else, under its own key."""
        session, said = self.facts.session, signed.peek_claims(purchase.dual)
        taken = purchase.envelope if envelope is None else envelope
        claims = AuthorizationRequest(
            **signed.head(self.merchant.signer, self.merchant.gateway, self.world.clock.now()),
            sid=session.sid,
            tid=session.tid,
            amount=session.amount,
            currency=session.currency,
            order=session.order,
            oimd=said["oimd"],
            pimd=purchase.pimd,
            dual=purchase.dual,
            envelope_hash=ids.digest(taken.encode("ascii")),
            prev=ids.digest(purchase.dual.encode("ascii")),
        )
        return frame(signed.sign(msgspec.structs.replace(claims, **changes), self.merchant.signer).compact, taken)

    def with_dual(self, purchase: Purchase, *, signer: Signer | None = None, **changes: Any) -> Purchase:
        """The same purchase under another dual signature: with other claims, or by another key."""
        signer = signer or self.session.signer
        claims = msgspec.convert(signed.peek_claims(purchase.dual), Dual)
        again = msgspec.structs.replace(claims, **({"iss": signer.urn} | changes))
        return msgspec.structs.replace(purchase, dual=signed.sign(again, signer).compact)

    # The whole way

    async def send(self, frame_: str, *, merchant: str | None = None) -> Answered:
        """D6 over the line of this shop (or of another one), D7 back."""
        return await send(self.world, merchant or self.name, frame_)

    async def buy(self, grant: str | None = None, *, account: str = "bank", method: str = "device", password: str = "") -> Answered:
        """D4 to D7."""
        grant = grant or await self.visit.grant()
        return await self.send(await self.frame(self.purchase(grant, account=account, method=method, password=password)))

    def result(self) -> Result:
        """D8: the customer asks for himself, and believes what he can verify."""
        at = self.world.clock.now()
        request = role.make_result_request(self.session, at=at)
        answer = purchase_result.result(self.world.gateway, request.compact)
        return role.verify_result(answer, request, self.session, pin=self.world.pin, at=at).claims


async def send(world: World, merchant: str, frame_: str) -> Answered:
    """One frame over a shop's line, with what comes back as that shop reads it."""
    reply = await line_requests.answer(world.gateway, merchant, frame_)
    assert reply is not None
    return read_answer(world, merchant, reply)


def read_answer(world: World, merchant: str, reply: str) -> Answered:
    """What the gateway sent back, as that shop reads it."""
    message, receipt = split_frame(reply)
    at, signer = world.clock.now(), world.line.links[merchant].signer
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    if peek_typ(message) == RefusedByGateway.TYP:
        refused = verify(message, RefusedByGateway, trust=trust, audience=signer.urn, at=at, sender=world.gateway.urn)
        return Answered(reply, None, refused.claims.code, "")
    authorization = verify(message, Authorization, trust=trust, audience=signer.urn, at=at, sender=world.gateway.urn)
    return Answered(reply, authorization.claims, "", receipt)


async def open_session(visit: Visit, *, authority: Authority | None = None) -> Buying:
    """D1 to D3: the customer's fresh key, certified by the shop for one session."""
    world, name = visit.world, visit.redirect.merchant_id
    at, link = world.clock.now(), world.line.links[name]
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    merchant = Merchant(link.signer, world.gateway.urn, trust, world.parties.root)
    order = await link.shop.order(visit.redirect.tid)
    lines = role.verify_lines(visit.opening, order.lines_json, order.salt)
    asking = role.make_session_request(visit.opening, at=at)
    request = merchant.verify_session_request(asking.request.compact, at=at)
    opened = merchant.answer_session_request(request, order.facts, authority or await session_authority(world, name), at=at)
    session = role.verify_session(opened.answer, asking, pin=world.pin, at=at)
    return Buying(visit, merchant, SessionFacts(opened.session.claims, opened.session.hash, used=False), session, lines)


async def buying(world: World, person: Person | None = None, *, amount: int = PRICE, merchant: str = "shop") -> Buying:
    """A new order, a customer in its window, and a session with the shop."""
    return await open_session(await world.visit(person, amount=amount, merchant=merchant))


def _with(text: str, changes: dict[str, Any]) -> str:
    return msgspec.json.encode(msgspec.json.decode(text) | changes).decode() if changes else text
