"""Evidence of a purchase by dual signature: who signed what, that both halves belong together, and nobody sees more than his own half."""

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from hanbit.evidence import store
from hanbit.evidence.bundle import Bundle, add_lines, write
from hanbit.evidence.check import Report as Checked
from hanbit.evidence.check import Stored, check
from hanbit.evidence.verify import verify
from hanbit.kernel import ids
from hanbit.merchant import own_evidence
from hanbit.payments import payment as payments
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.signed import RegisteredKey, Signer, peek_claims, peek_typ, sign
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import codes, exported, failure, judge, resealed
from tests.purchases import Buying, buying, open_session
from tests.world import OPERATOR, PRICE, World

FLIPS = 60
SHOPS_OWN = ("hanbit-order", "hanbit-authorization-request", "hanbit-authorization", "hanbit-receipt")


@dataclass
class Bought:
    """A purchase that was approved, with the half that only the shop has."""

    session: Buying
    oi: str

    async def exported(self) -> Bundle:
        return await exported(self.session.world, self.session.visit)

    async def of_shop(self) -> Bundle:
        """The shop's own file: what it signed and was told, the lines, and OI."""
        order = await self.session.world.shop_order(self.session.visit)
        theirs = json.loads(write(await self.exported()))["messages"]
        kept = [{name: one[name] for name in ("typ", "at", "compact")} for one in theirs if one["typ"] in SHOPS_OWN]
        collected: dict[str, Any] = {
            "tid": order.tid,
            "messages": kept,
            "lines": {"salt": order.salt, "json": order.lines_json},
            "order_information": self.oi,
            "checkpoint": None,
        }
        chains = [self.session.merchant.signer.chain]
        return own_evidence.bundle(collected, operator=OPERATOR, merchant="shop", keys=(), chains=chains)


async def bought(world: World, *, method: str = "password") -> Bought:
    session = await buying(world)
    oi = session.oi()
    core = session.core(await session.visit.grant(), oi=oi)
    answered = await session.send(await session.frame(session.sealed(oi, core, session.auth(core, method))))
    assert answered.told == "approved"
    return Bought(session, oi)


@pytest.mark.parametrize(
    ("method", "customer"), [("device", "customer_signed_device"), ("password", "customer_not_signed"), ("code", "customer_not_signed")]
)
async def test_purchase_says_what_its_temporary_key_proves_and_who_the_customer_is(world: World, method: str, customer: str) -> None:
    made = await bought(world, method=method)
    report = judge(world, await made.exported())
    assert report.verified, failure(report)
    found = {one.code: one for one in report.conclusions}
    assert {"merchant_ordered", "merchant_asked", "gateway_approved", "gateway_receipt", "halves_joined", customer} <= set(found)
    assert found["halves_joined"].weight == found["half_of_gateway"].weight == "proved"
    assert found["customer_by_temporary_key"].weight == "word"
    assert "certified by the merchant" in found["customer_by_temporary_key"].text("en")
    assert found["no_order_information"].weight == "missing"
    assert not {"no_outcome", "no_approval", "no_confirmation"} & set(found)
    authority = ids.digest(made.session.session.signer.chain[1])
    assert not [one for one in report.conclusions if one.code == "no_issue_record" and authority in one.text("en")]
    assert found["merchant_certified"].weight == "word", "no key card was given"
    assert "the dual signature" in [step.what for step in report.steps]
    for one in report.conclusions:
        assert one.text("ko") != one.text("en")


async def test_payment_servers_file_has_nothing_of_the_lines_and_the_shops_nothing_of_the_payment(world: World) -> None:
    made = await bought(world)
    theirs, ours = write(await made.exported()).decode(), write(await made.of_shop()).decode()
    order = await world.shop_order(made.session.visit)
    assert order.lines[0].item not in theirs
    assert order.salt not in theirs
    (attempt,) = world.rows("attempts")
    for private in (attempt["core"], attempt["account"], attempt["customer"], attempt["auth_hash"]):
        assert private not in ours


async def test_both_halves_can_be_shown_to_belong_to_one_signature(world: World) -> None:
    made = await bought(world)
    ours = await made.of_shop()
    report = judge(world, ours)
    assert report.verified, failure(report)
    assert {"halves_joined", "half_of_merchant", "no_payment_information", "no_approval", "only_one_side"} <= set(codes(report))
    both = judge(world, add_lines(await made.exported(), write(ours)))
    assert both.verified, failure(both)
    assert {"half_of_gateway", "half_of_merchant"} <= set(codes(both))
    assert not {"no_payment_information", "no_order_information"} & set(codes(both))


async def test_another_half_is_refused_with_the_number_of_its_step(world: World) -> None:
    made = await bought(world)
    other = await bought(world)
    both = add_lines(await made.exported(), write(await made.of_shop()))
    root = world.parties.root

    def altered(change: Any) -> str:
        return failure(verify(resealed(both, change), root=root))

    assert altered(lambda bad: bad.update(order_information=other.oi)).startswith("the merchant's half: halves")
    assert altered(lambda bad: bad.update(order_information=made.oi.replace("220000", "220001"))).startswith("the merchant's half")
    assert altered(lambda bad: bad.update(lines=None) or bad.pop("lines")).startswith("the merchant's half")
    core = json.loads(write(both))["approval"]["attempt"]["core"].replace("220000", "220001")
    assert altered(lambda bad: bad["approval"]["attempt"].update(core=core)).startswith("the customer")
    foreign = json.loads(write(await other.exported()))
    assert altered(lambda bad: bad.update(approval=foreign["approval"])).startswith("the customer")
    request = next(one for one in foreign["messages"] if one["typ"] == "hanbit-authorization-request")
    assert altered(lambda bad: bad["messages"].append(request))


async def test_no_changed_byte_passes(world: World) -> None:
    made = await bought(world, method="device")
    both = add_lines(await made.exported(), write(await made.of_shop()))
    good = write(both)
    chance = random.Random(good)
    for place in chance.sample(range(len(good)), FLIPS):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        assert verify(bytes(bad), root=world.parties.root).failed == 1, place
    content = json.loads(good)
    for name in ("messages", "approval", "ledger", "leaves", "lines", "order_information", "certificates", "checkpoint"):
        text = json.dumps(content[name])
        for place in chance.sample(range(len(text)), 12):
            other = "A" if text[place] != "A" else "B"
            try:
                changed = json.loads(text[:place] + other + text[place + 1 :])
            except ValueError:
                continue
            if changed == content[name]:
                continue
            report = verify(resealed(both, lambda bad, name=name, changed=changed: bad.update({name: changed})), root=world.parties.root)  # type: ignore[misc]  # a lambda's default
            assert not report.verified or name == "ledger", (name, place)


async def test_refund_of_a_purchase_and_declined_sessions_before_it_are_shown(world: World) -> None:
    session = await buying(world)
    assert (await session.buy(account="emoney")).told == "declined"
    again = await open_session(session.visit)
    assert (await again.buy()).told == "approved"
    payment = session.visit.stored
    asked = {"payment": payment.id, "prev": payment.outcome_hash}
    assert (await Canceller(world).cancel(session.visit, 20_000, **asked))[0] == "confirmed"
    report = judge(world, await exported(world, session.visit))
    assert report.verified, failure(report)
    assert {"gateway_declined", "gateway_approved", "merchant_asked_back", "gateway_cancelled"} <= set(codes(report))
    money = next(step.detail for step in report.steps if step.what == "the money")
    assert f"capture of {PRICE}" in money
    assert "refund of 20000" in money


async def test_check_verifies_the_dual_signature_inside_each_approved_request(world: World) -> None:
    """The shop alone cannot have approved: a request whose dual signature is another one is named, although the shop signed it."""
    made = await bought(world)
    assert checked(world, stored(world)).verified
    kept = stored(world)
    place = next(number for number, item in enumerate(kept) if peek_typ(item.compact) == AuthorizationRequest.TYP)
    answer = next(number for number, item in enumerate(kept) if peek_typ(item.compact) == Authorization.TYP)
    request = msgspec.convert(peek_claims(kept[place].compact), AuthorizationRequest)
    forged_dual = request.dual[:-6] + "AAAAAA"
    other = (await bought(world)).session
    for dual, rule in ((forged_dual, "signature"), (dual_of(other), "temporary")):
        asked = sign(msgspec.structs.replace(request, dual=dual, prev=ids.digest(dual.encode())), made.session.merchant.signer)
        told = resigned(kept[answer], world.gateway.signer, req=asked.hash)
        bad = [*kept]
        bad[place] = replace(kept[place], hash=asked.hash, compact=asked.compact)
        bad[answer] = told
        bad = [item for item in bad if peek_typ(item.compact) != Receipt.TYP]
        (broken,) = checked(world, bad).broken
        assert rule in broken


async def test_revocation_of_the_session_authority_unsays_nothing_that_was_approved_before(world: World) -> None:
    made = await bought(world)
    kid = ids.digest(made.session.session.signer.chain[1])
    row = world.gateway.reader.one("SELECT * FROM certificates WHERE kid = ?", kid)
    assert row is not None
    for at in (world.clock.now(), world.clock.now() + 60):
        kept = stored(world)
        assert row["revoked_at"] is None
        assert check(kept, revoking(world, at), order_of(world)).verified
    assert not check(stored(world), revoking(world, world.clock.now() - 1), order_of(world)).verified


def revoking(world: World, at: int) -> Any:
    """The registry, but for every session authority revoked at this moment."""
    registry = world.gateway.registry

    class Revoking:
        root = registry.root
        key = staticmethod(registry.key)

        @staticmethod
        def session_authority(chain: tuple[bytes, ...], when: int) -> RegisteredKey:
            return replace(registry.session_authority(chain, when), revoked_at=at)

    return Revoking()


def resigned(item: Stored, signer: Signer, **changes: str) -> Stored:
    claims = msgspec.convert(peek_claims(item.compact) | changes, Authorization)
    message = sign(claims, signer)
    return replace(item, hash=message.hash, compact=message.compact)


def dual_of(session: Buying) -> str:
    """The dual signature that stands in this session's request."""
    for item in stored(session.world):
        if peek_typ(item.compact) == AuthorizationRequest.TYP and item.tid == session.visit.redirect.tid:
            return str(peek_claims(item.compact)["dual"])
    raise AssertionError("nothing was asked")


def stored(world: World) -> list[Stored]:
    return list(store.share(world.gateway.reader, 0, 1))


def order_of(world: World) -> Any:
    def order_hash(merchant: str, tid: str) -> str | None:
        found = payments.find(world.gateway.reader, merchant, tid)
        return None if found is None else found.order_hash

    return order_hash


def checked(world: World, kept: list[Stored]) -> Checked:
    return check(kept, world.gateway.registry, order_of(world))
