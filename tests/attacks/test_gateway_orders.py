"""Orders and openings that the gateway must not take (R3 to R7 in clear): stopped before the login, the shop is asked nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, HanbitError, NotFound, ProtocolViolation
from hanbit.payments import operations, redirect_flow
from hanbit.payments.open_order import NotOpened, Opening, open_order
from hanbit.protocols import signed
from hanbit.protocols.redirect.customer import Redirect
from hanbit.protocols.redirect.messages import Notice, Order
from hanbit.protocols.signed import Signer
from tests.attacks.test_gateway_answers import fresh
from tests.world import NOW, OPERATOR, PRICE, RETURN_URL, Visit, World

GATEWAY = ids.urn(OPERATOR, "gateway")


def make_order(signer: Signer, **changes: Any) -> str:
    """An order as this merchant signs it."""
    claims: dict[str, Any] = signed.head(signer, GATEWAY, NOW) | {
        "tid": "T" * 22,
        "amount": str(PRICE),
        "currency": "KRW",
        "oi": "A" * 43,
        "text": "IM-1100",
        "return_url": RETURN_URL,
        "pay_by": NOW + 1800,
    }
    return signed.sign(Order(**(claims | changes)), signer).compact


def opened(world: World, order: str, **changes: str) -> Opening:
    clear = {"mid": "shop", "tid": "T" * 22, "amount": str(PRICE), "currency": "KRW", "order": order}
    return open_order(world.gateway, **(clear | changes))


def shop(world: World) -> Signer:
    return world.parties.merchants["shop"]


def unregistered(world: World) -> str:
    return make_order(fresh(world.parties.merchant_authority, shop(world).urn, "merchant-sign"))


def by_line_key(world: World) -> str:
    key = world.parties.line_keys["shop"]
    return make_order(Signer(urn=key.urn, purpose="merchant-sign", kid=key.kid, chain=key.chain, key=key.key))


def a_notice(world: World) -> str:
    order = signed.verify(make_order(shop(world)), Order, trust=world.gateway.registry, audience=GATEWAY, at=NOW)
    head = signed.head(world.gateway.signer, shop(world).urn, NOW)
    claims = {name: getattr(order.claims, name) for name in ("tid", "amount", "currency")}
    return signed.sign(Notice(**head, **claims, payment="P" * 22, order=order.hash, prev=order.hash, exp=NOW), world.gateway.signer).compact


def cut(order: str) -> str:
    return order.rpartition(".")[0] + "." + "A" * 86


ORDERS: dict[str, tuple[Callable[[World], str], str]] = {
    "none_where_signed_is_registered": (lambda _: "", "shape"),
    "garbage": (lambda _: "a.b.c", "shape"),
    "huge": (lambda _: "A" * 40_000, "size"),
    "unsigned": (lambda w: cut(make_order(shop(w))), "signature"),
    "of_another_merchant": (lambda w: make_order(w.parties.merchants["other"]), "sender"),
    "of_a_key_never_registered": (unregistered, "unknown_key"),
    "signed_by_the_line_key": (by_line_key, "purpose"),
    "a_message_of_another_kind": (a_notice, "typ"),
    "for_another_operator": (lambda w: make_order(shop(w), aud="urn:hanbit:other:gateway"), "aud"),
    "for_another_party": (lambda w: make_order(shop(w), aud=shop(w).urn), "aud"),
    "another_amount": (lambda w: make_order(shop(w), amount="1000"), "amount_mismatch"),
    "another_tid": (lambda w: make_order(shop(w), tid="U" * 22), "amount_mismatch"),
    "another_currency": (lambda w: make_order(shop(w), currency="USD"), "amount_mismatch"),
    "nothing_to_pay": (lambda w: make_order(shop(w), amount="0"), "amount"),
    "payable_for_two_days": (lambda w: make_order(shop(w), pay_by=NOW + 86_401), "pay_by"),
    "returning_elsewhere": (lambda w: make_order(shop(w), return_url="https://evil.example/"), "return_url"),
    "returning_to_a_script": (lambda w: make_order(shop(w), return_url="javascript:alert(1)"), "return_url"),
    "from_the_future": (lambda w: make_order(shop(w), iat=NOW + 3600), "iat"),
}


@pytest.mark.parametrize("attack", ORDERS)
async def test_an_order_that_is_not_this_shops_for_this_address_is_not_opened(world: World, attack: str) -> None:
    make, rule = ORDERS[attack]
    before = world.dump(leave_out=())
    with pytest.raises(NotOpened) as refused:
        opened(world, make(world))
    assert refused.value.rule == rule
    assert world.dump(leave_out=()) == before
    assert not world.shop.asked


@pytest.mark.parametrize("revoked", ["before_it_was_seen", "after_it_was_opened_once"])
async def test_an_order_under_a_revoked_key_is_not_opened(world: World, revoked: str) -> None:
    order = make_order(shop(world))
    if revoked == "after_it_was_opened_once":
        opened(world, order)
    await operations.revoke(world.gateway, kid=shop(world).kid)
    with pytest.raises(NotOpened) as refused:
        opened(world, order)
    assert refused.value.rule == "revoked"


async def test_an_order_under_an_expired_key_is_not_opened(world: World) -> None:
    order = make_order(shop(world), pay_by=NOW + 91 * 86_400)
    world.clock.advance(91 * 86_400)
    with pytest.raises(NotOpened) as refused:
        opened(world, order)
    assert refused.value.rule == "certificate_dates"


@pytest.mark.parametrize(
    "changes",
    [
        {"mid": "nobody"},
        {"mid": "../shop"},
        {"mid": ""},
        {"tid": "short"},
        {"tid": "T" * 65},
        {"tid": "T" * 21 + "'"},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1.0"},
        {"amount": "0220000"},
        {"amount": "2" * 16},
        {"amount": "٢٢٠"},
        {"currency": "XXX"},
        {"currency": "krw"},
        {"currency": "USD"},
    ],
    ids=str,
)
async def test_an_address_outside_its_grammar_is_refused(world: World, changes: dict[str, str]) -> None:
    with pytest.raises((BadInput, NotFound, NotOpened)):
        opened(world, make_order(shop(world)), **changes)


async def test_a_plain_shop_takes_no_signed_order_and_a_signed_shop_no_plain_one(world: World) -> None:
    for mid, order in (("plain", make_order(world.parties.merchants["plain"])), ("shop", "")):
        with pytest.raises(NotOpened):
            opened(world, order, mid=mid)


# --- one tid, one order


async def second_order(world: World, visit: Visit) -> Redirect:
    """The shop's own key signs another order under the same number, a hundred times cheaper."""
    order = make_order(shop(world), tid=visit.redirect.tid, amount="2200")
    return Redirect("shop", visit.redirect.tid, type(visit.redirect.money)(2200, "KRW"), order)


@pytest.mark.parametrize("state", ["open", "captured", "closed"])
async def test_a_second_order_for_a_tid_is_refused_and_kept(world: World, state: str) -> None:
    visit = await world.visit()
    await {"open": lambda: visit.pay("emoney"), "captured": visit.pay, "closed": visit.cancel}[state]()
    before = world.dump()
    with pytest.raises(NotOpened) as refused:
        world.offered(await second_order(world, visit))
    assert refused.value.rule == "tid_reused"
    assert world.dump() == before
    for _ in range(2):
        await redirect_flow.keep_second_order(world.gateway, refused.value)
    assert visit.kinds().count("order") == 2
    assert [row["reason"] for row in world.rows("audit")].count("tid_reused") == 1


async def test_what_was_approved_for_a_second_order_never_holds_the_first_orders_amount(world: World) -> None:
    """Both were opened before either was in the book."""
    first = await world.visit()
    second = await second_order(world, first)
    cheap = world.open(f"?MID=shop&TID={second.tid}&AMOUNT=2200&CUR=KRW&ORDER={second.order}")
    reopened, sealed = cheap.reopened(), cheap.sealed_pay()
    await first.pay("emoney")
    before = world.dump()
    who = await world.session(world.hong)
    for act in (
        redirect_flow.pay(world.gateway, reopened, who, unverified_key=cheap.sealing.key, unverified_pay=sealed),
        redirect_flow.cancel(world.gateway, reopened, unverified_key=cheap.sealing.key),
        cheap.login(),
        cheap.pay(),
    ):
        with pytest.raises(NotOpened):
            await act
    assert world.dump() == before
    assert (await first.pay()).captured == PRICE


async def test_in_plain_form_the_first_sealed_message_fixes_the_amount(world: World) -> None:
    location = await world.order(merchant="plain")
    visit = world.open(location)
    await visit.pay("emoney")
    with pytest.raises(NotOpened) as refused:
        world.open(location.replace(f"AMOUNT={PRICE}", "AMOUNT=1"))
    assert refused.value.rule == "tid_reused"


# --- keys of another opening


async def test_keys_of_another_order_do_not_open_this_one(world: World) -> None:
    mine, other = await world.visit(), await world.visit()
    with pytest.raises(ProtocolViolation) as refused:
        mine.reopened(keys=other.opening.keys.compact)
    assert refused.value.rule == "link"


async def test_keys_with_another_life_or_number_do_not_open(world: World) -> None:
    visit = await world.visit()
    claims = {name: getattr(visit.opening.keys.claims, name) for name in visit.opening.keys.claims.__struct_fields__}
    for changes in ({"exp": NOW + 999_999}, {"n": "A" * 43}, {"ctx": "A" * 22}):
        keys = signed.sign(type(visit.opening.keys.claims)(**(claims | changes)), world.gateway.signer).compact
        with pytest.raises(ProtocolViolation) as refused:
            visit.reopened(keys=keys)
        assert refused.value.rule == "n", changes


@pytest.mark.parametrize("keys", ["", "a.b.c", "x" * 40_000, "order"])
async def test_keys_that_the_gateway_did_not_sign_do_not_open(world: World, keys: str) -> None:
    visit = await world.visit()
    with pytest.raises(ProtocolViolation):
        visit.reopened(keys=visit.redirect.order if keys == "order" else keys)


async def test_an_opening_ends_with_its_half_hour(world: World) -> None:
    visit = await world.visit()
    world.clock.advance(1801)
    with pytest.raises(ProtocolViolation) as refused:
        visit.reopened()
    assert refused.value.rule == "expired"


async def test_another_merchants_name_on_the_same_order_is_refused(world: World) -> None:
    visit = await world.visit()
    for mid in ("other", "plain", "nobody"):
        with pytest.raises(HanbitError):
            visit.reopened(mid=mid)
