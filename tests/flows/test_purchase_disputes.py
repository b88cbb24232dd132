"""Disputes over purchases by dual signature, played through: each party denies, or shows what it altered, with every key that it has."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key, thumbprint
from hanbit.evidence.bundle import Bundle, add_lines, write
from hanbit.evidence.verify import verify
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import temporary
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Dual
from hanbit.protocols.redirect.messages import Order
from hanbit.protocols.signed import Signer, peek_claims, peek_typ, sign
from tests.flows.evidence_files import Json, codes, failure, judge, resealed
from tests.flows.test_purchase_evidence import Bought, bought
from tests.purchases import session_authority
from tests.world import OPERATOR, PRICE, World

CHEAPER = PRICE - 20_000


def placed(content: Json, typ: str) -> int:
    """Where the message of this typ stands in a file."""
    (place,) = [number for number, one in enumerate(content["messages"]) if one["typ"] == typ]
    return place


def replaced(typ: str, compact: str) -> Callable[[Json], object]:
    """Another message in the place of the one of this typ."""
    return lambda bad: bad["messages"][placed(bad, typ)].update(compact=compact)


def said_in(file: Bundle, kind: Any) -> Any:
    """The claims of the one message of this kind."""
    (found,) = [one.compact for one in file.messages if peek_typ(one.compact) == kind.TYP]
    return msgspec.convert(peek_claims(found), kind)


# --- the merchant shows other lines ---------------------------------------------------------------------------------------------------


async def test_merchant_that_shows_other_lines_is_held_to_those_that_its_customer_signed(world: World) -> None:
    made = await bought(world)
    ours = await made.of_shop()
    lines = json.loads(write(ours))["lines"]
    other = lines["json"].replace("IM-1100", "IM-0011")
    assert other != lines["json"]
    oi = made.oi.replace("IM-1100", "IM-0011")
    root = world.parties.root

    def shown(change: Callable[[Json], object]) -> str:
        return failure(verify(resealed(ours, change), root=root))

    assert shown(lambda bad: bad["lines"].update(json=other)).startswith("what was ordered")
    assert shown(lambda bad: bad.update(order_information=oi)).startswith("the merchant's half")
    assert shown(lambda bad: (bad["lines"].update(json=other), bad.update(order_information=oi)))


async def test_merchant_that_certifies_a_customer_of_its_own_for_other_lines_has_no_approval_of_it(world: World) -> None:
    """It may sign an order, a session and a temporary certificate anew; the gateway's answer names the request that it had."""
    made = await bought(world)
    ours, authority = await made.of_shop(), await session_authority(world)
    session, key = made.session, new_key()
    urn, at = session.merchant.signer.urn, world.clock.now()
    chain = temporary.issue(authority, merchant=urn, sid=session.sid, public=key.public_key(), at=at)
    puppet = Signer(urn=session.session.signer.urn, purpose="temporary", kid=certificates.kid(chain[0]), chain=chain, key=key)
    oi = made.oi.replace("IM-1100", "IM-0011")
    request = said_in(ours, AuthorizationRequest)
    old = msgspec.convert(peek_claims(request.dual), Dual)
    dual = sign(msgspec.structs.replace(old, oimd=oi_digest(oi), pomd=joint_digest(old.pimd, oi_digest(oi))), puppet)
    asked = sign(msgspec.structs.replace(request, dual=dual.compact, oimd=oi_digest(oi), prev=dual.hash), session.merchant.signer)

    def change(bad: Json) -> None:
        replaced(AuthorizationRequest.TYP, asked.compact)(bad)
        bad.update(order_information=oi)

    report = verify(resealed(ours, change), root=world.parties.root)
    assert not report.verified
    assert "halves_joined" not in codes(report)
    assert failure(report).startswith("how the messages hang together")


# --- the customer denies ---------------------------------------------------------------------------------------------------------------


async def both_halves(made: Bought) -> Bundle:
    """What a court has when both parties came."""
    return add_lines(await made.exported(), write(await made.of_shop()))


async def test_customer_who_signed_with_his_device_cannot_deny_amount_payee_or_lines(world: World) -> None:
    """His device signed the core, the core names the digest of the order information, and that is of these very lines."""
    made = await bought(world, method="device")
    file = await both_halves(made)
    report = judge(world, file)
    assert report.verified, failure(report)
    assert {"customer_signed_device", "halves_joined", "half_of_gateway", "half_of_merchant"} <= set(codes(report))
    assert file.approval is not None
    core = file.approval.attempt.core
    assert json.loads(core)["oimd"] == oi_digest(made.oi)
    other = made.oi.replace("IM-1100", "IM-0011")
    moved = msgspec.json.encode(json.loads(core) | {"oimd": oi_digest(other)}).decode()
    for change in (
        lambda bad: bad["approval"]["attempt"].update(core=moved),
        lambda bad: bad["approval"]["attempt"].update(core=core.replace(str(PRICE), str(CHEAPER))),
        lambda bad: bad["approval"]["attempt"].update(core=core.replace("merchant:shop", "merchant:other")),
    ):
        assert failure(verify(resealed(file, change), root=world.parties.root)).startswith("the customer")


@pytest.mark.parametrize("method", ["password", "code"])
async def test_customer_who_paid_by_password_or_code_can_deny_and_the_file_says_so(world: World, method: str) -> None:
    """The temporary key proves one session and no person: the merchant named it, and the file does not hide that."""
    report = judge(world, await both_halves(await bought(world, method=method)))
    assert report.verified, failure(report)
    weights = {one.code: one for one in report.conclusions}
    assert weights["customer_not_signed"].weight == weights["customer_by_temporary_key"].weight == "word"
    assert "not signed" in weights["customer_not_signed"].text("en")
    assert "certified by the merchant" in weights["customer_by_temporary_key"].text("en")
    assert not {"customer_signed_device", "customer_signed_passkey"} & set(weights)


# --- the gateway shows another amount, or denies -----------------------------------------------------------------------------------------


async def test_gateway_that_shows_another_amount_under_its_own_key_contradicts_what_the_merchant_asked(world: World) -> None:
    made = await bought(world)
    ours, theirs = await made.of_shop(), await made.exported()
    claims = msgspec.structs.replace(said_in(theirs, Authorization), amount=str(CHEAPER))
    again = sign(claims, world.gateway.signer)
    for file in (ours, theirs):
        report = verify(resealed(file, replaced(Authorization.TYP, again.compact)), root=world.parties.root)
        assert not report.verified
        assert failure(report)
        assert "gateway_approved" not in codes(report)
    booked = verify(resealed(theirs, lambda bad: bad["ledger"][-1].update(amount=str(CHEAPER))), root=world.parties.root)
    assert failure(booked).startswith("the money")


async def test_gateway_that_denies_the_approval_is_held_to_its_signature_in_the_shops_file(world: World) -> None:
    made = await bought(world)
    report = judge(world, await made.of_shop())
    assert report.verified, failure(report)
    weights = {one.code: one.weight for one in report.conclusions}
    assert weights["gateway_approved"] == "proved"
    gone = verify(
        resealed(await made.of_shop(), lambda bad: bad["messages"].pop(placed(bad, AuthorizationRequest.TYP))), root=world.parties.root
    )
    assert failure(gone).startswith("how the messages hang together")


async def test_operator_that_makes_up_a_whole_purchase_shows_against_the_key_card(world: World) -> None:
    """It certifies a merchant's key, a session authority and a customer of its own; the merchant's card names another key."""
    made = await bought(world)
    ours, at = await made.of_shop(), world.clock.now()
    urn, above = made.session.merchant.signer.urn, world.parties.merchant_authority
    signing, issuing, buying = new_key(), new_key(), new_key()
    leaf = certificates.make_leaf(above, urn=urn, purpose="merchant-sign", public=signing.public_key(), at=at, lifetime_s=86_400)
    merchant = Signer(urn=urn, purpose="merchant-sign", kid=certificates.kid(leaf), chain=(leaf, *above.chain), key=signing)
    der = certificates.make_authority(above, OPERATOR, "session:shop", issuing.public_key(), 0, at)
    authority = Authority.below_root(issuing, (der, *above.chain))
    chain = temporary.issue(authority, merchant=urn, sid=made.session.sid, public=buying.public_key(), at=at)
    puppet = Signer(urn=made.session.session.signer.urn, purpose="temporary", kid=certificates.kid(chain[0]), chain=chain, key=buying)
    request, old_order = said_in(ours, AuthorizationRequest), said_in(ours, Order)
    order = sign(old_order, merchant)
    old = msgspec.structs.replace(msgspec.convert(peek_claims(request.dual), Dual), order=order.hash)
    dual = sign(old, puppet)
    asked = sign(msgspec.structs.replace(request, order=order.hash, dual=dual.compact, prev=dual.hash), merchant)
    answered = sign(msgspec.structs.replace(said_in(ours, Authorization), order=order.hash, req=asked.hash), world.gateway.signer)

    def change(bad: Json) -> None:
        for typ, compact in ((Order.TYP, order), (AuthorizationRequest.TYP, asked), (Authorization.TYP, answered)):
            replaced(typ, compact.compact)(bad)
        bad["messages"].pop(placed(bad, "hanbit-receipt"))
        bad["certificates"] = [[signed.encode_der(one) for one in merchant.chain]]

    forged = resealed(ours, change)
    by_word = verify(forged, root=world.parties.root)
    assert by_word.verified, failure(by_word)
    weights = {one.code: one.weight for one in by_word.conclusions}
    assert weights["merchant_asked"] == weights["merchant_by_operators_word"] == "word"
    assert "merchant_certified" not in weights, "nobody asked for that session authority"
    by_card = verify(forged, root=world.parties.root, card=thumbprint(made.session.merchant.signer.key.public_key()))
    assert not by_card.verified or "merchant_by_card" not in codes(by_card)
    for one in by_card.conclusions:
        assert one.code not in {"merchant_asked", "merchant_ordered", "merchant_certified"} or one.weight == "word", one.code
