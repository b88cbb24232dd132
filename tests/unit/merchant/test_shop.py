"""What a shop does with `Shop`: orders, idempotency, withdrawal, the true outcome, the inquiry, its own say and its handlers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, NotFound, ProtocolViolation, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import handlers
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Line, Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols import signed
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.redirect.messages import Order as OrderMessage
from tests.unit.merchant.support import GATEWAY, NOW, PHONE, SHOP, GatewayLine, Parties, confirmed, place
from tests.waiting import PATIENCE_S


class _RegisteredShop:
    """The gateway's registry for an order, whose header carries no certificate."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> signed.RegisteredKey:
        assert chain == ()
        return self._parties.gateways_trust.key(kid, self._parties.shop.chain, at)


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path) as opened:
        opened.line = GatewayLine(parties)
        yield opened


async def test_redirect_carries_tid_amount_and_the_signed_order(parties: Parties, shop: Shop) -> None:
    redirect = await place(shop, language="en")
    address = urlsplit(redirect.location)
    fields = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert f"{address.scheme}://{address.netloc}{address.path}" == "http://pay.localhost:8400/pay"
    assert (fields["MID"], fields["TID"], fields["AMOUNT"], fields["CUR"], fields["lang"]) == ("shop", redirect.tid, "220000", "KRW", "en")
    message = signed.verify(fields["ORDER"], OrderMessage, trust=_RegisteredShop(parties), audience=GATEWAY, at=NOW)
    order = await shop.order(redirect.tid)
    assert (message.hash, message.claims.tid, message.claims.amount) == (order.order_hash, order.tid, "220000")
    assert message.claims.oi == hash_lines(ids.decode_base64url(order.salt), order.lines_json.encode())
    assert message.claims.pay_by == NOW + 1800
    assert "IM-1100" in order.lines_json
    assert "휴대폰" not in ids.decode_base64url(fields["ORDER"].split(".")[1]).decode()  # the lines stay in the shop


async def test_each_tid_begins_with_its_second_and_has_128_random_bits(shop: Shop) -> None:
    tids = [(await place(shop)).tid for _ in range(50)]
    assert len({tid[:5] for tid in tids}) == 1  # the clock of the test stands still
    assert {len(ids.decode_base64url(tid)) for tid in tids} == {20}
    random = [ids.decode_base64url(tid)[-16:] for tid in tids]
    assert len(set(random)) == 50
    assert all(len({tail[place] for tail in random}) > 1 for place in range(16))


@pytest.mark.parametrize(
    "changes",
    [
        {"lines": []},
        {"lines": [Line("x", 1, 1)] * 101},
        {"total": Money(0, "KRW"), "lines": [Line("x", 1, 0)]},
        {"total": Money(219_999, "KRW")},
        {"text": ""},
        {"text": "x" * 201},
        {"text": "line\nfeed"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "http://shop.localhost/?a=b"},
        {"return_url": "//shop.localhost/"},
        {"return_url": "http://user@shop.localhost/"},
        {"return_url": "http://shop.localhost/한글"},
        {"request_key": ""},
        {"owner": ""},
    ],
)
async def test_an_order_that_does_not_add_up_is_bad_input_and_leaves_no_trace(shop: Shop, changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        await place(shop, **changes)
    assert await shop.book.unfinished(10) == []


@pytest.mark.parametrize("line", [("", 1, 1), ("x" * 201, 1, 1), ("x", 0, 1), ("x", 1_000_001, 1), ("x", 1, 10**15), ("\x00", 1, 1)])
def test_a_line_beyond_its_limits_is_bad_input(line: tuple[str, int, int]) -> None:
    with pytest.raises(BadInput):
        Line(*line)


async def test_the_same_request_key_places_one_order_also_at_once_and_after_a_restart(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        redirects = await asyncio.gather(*(place(shop, request_key="cart 7") for _ in range(8)))
        assert len(set(redirects)) == 1
        with pytest.raises(Conflict):
            await place(shop, request_key="cart 7", text="something else")
        assert len(await shop.book.unfinished(10)) == 1
    async with parties.open_shop(tmp_path) as reopened:
        assert await place(reopened, request_key="cart 7") == redirects[0]
        assert await reopened.redirect(redirects[0].tid) == redirects[0]


async def test_a_withdrawn_order_refuses_its_notice(parties: Parties, shop: Shop) -> None:
    redirect = await place(shop)
    order = await shop.order(redirect.tid)
    assert (await shop.withdraw(redirect.tid)).state is State.WITHDRAWN
    refusal = parties.read_refusal(await shop.receive(parties.notice(order).compact))
    assert refusal.claims.reason == "withdrawn"
    assert (await shop.order(redirect.tid)).state is State.WITHDRAWN
    assert await shop.receive(parties.voided(refusal.claims, refusal.hash).compact) is not None
    assert (await shop.order(redirect.tid)).state is State.VOIDED
    with pytest.raises(WrongState):
        await shop.redirect(redirect.tid)


async def test_a_changed_order_is_another_order_and_the_old_one_is_refused(parties: Parties, shop: Shop) -> None:
    old = await shop.order((await place(shop)).tid)
    new = await shop.replace_order(
        old.tid, lines=[Line("IM-1100", 2, 220_000)], total=Money(440_000, "KRW"), text="IM-1100 × 2", return_url=old.return_url
    )
    assert (await shop.order(old.tid)).replaced_by == new.tid
    refusal = parties.read_refusal(await shop.receive(parties.notice(old).compact))
    assert refusal.claims.reason == "order_changed"
    parties.read_confirmation(await shop.receive(parties.notice(await shop.order(new.tid)).compact))


async def test_an_order_that_is_being_paid_cannot_be_taken_back(parties: Parties, shop: Shop) -> None:
    order, _, _ = await confirmed(parties, shop)
    other: dict[str, Any] = {"lines": [Line("x", 1, 1)], "total": Money(1, "KRW"), "text": "x", "return_url": order.return_url}
    for act in (shop.withdraw(order.tid), shop.replace_order(order.tid, **other)):
        with pytest.raises(WrongState):
            await act
    assert await shop.order(order.tid) == order
    assert await shop.book.unfinished(10) == [order]


async def test_nothing_is_deliverable_before_the_settled_message(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    with pytest.raises(WrongState):
        await shop.deliverable(order.tid)
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    assert (await shop.deliverable(order.tid)).may_deliver


@pytest.mark.parametrize("tid", ["", "x", "A" * 22, "한" * 22, "A" * 65, "../../../../etc/passwd"])
async def test_unknown_and_misspelt_tids_look_the_same(shop: Shop, tid: str) -> None:
    for act in (
        shop.order(tid),
        shop.deliverable(tid),
        shop.withdraw(tid),
        shop.inquire(tid),
        shop.wait_outcome(tid, 1),
        shop.redirect(tid),
    ):
        with pytest.raises(NotFound):
            await act


async def test_a_late_notice_for_an_old_order_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    parties.clock.advance(45 * 60)
    parties.read_confirmation(await shop.receive(parties.notice(order).compact))
    late = await shop.order((await place(shop)).tid)
    parties.clock.advance(45 * 60 + 1)
    refusal = parties.read_refusal(await shop.receive(parties.notice(late).compact))
    assert refusal.claims.reason == "expired"


# RQ: the page that waits


async def test_waiting_ends_when_the_outcome_arrives(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    waiters = [asyncio.create_task(shop.wait_outcome(order.tid, 5)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    assert {(await waiter).state for waiter in waiters} == {State.SETTLED}
    assert shop._inquiries.waiting == 0


async def test_waiting_in_vain_returns_the_order_as_it_stands(shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    assert await shop.wait_outcome(order.tid, 0.05) == order
    assert shop._inquiries.waiting == 0


async def test_an_outcome_that_was_lost_comes_with_the_inquiry(parties: Parties, shop: Shop) -> None:
    assert isinstance(shop.line, GatewayLine)
    order, _, confirmation = await confirmed(parties, shop)
    settled = parties.settled(confirmation.claims, confirmation.hash)
    shop.line.answer = lambda inquiry: parties.status(inquiry, "captured", settled.compact).compact
    assert (await shop.wait_outcome(order.tid, 5)).state is State.SETTLED
    assert parties.read_acknowledgement(shop.line.told[0]).claims.req == (settled.hash,)
    # Who holds the outcome asks nobody.
    assert (await shop.wait_outcome(order.tid, 5)).may_deliver
    assert len(shop.line.asked) == 1


async def test_a_page_that_polls_all_night_does_not_fill_the_book(parties: Parties, shop: Shop) -> None:
    assert isinstance(shop.line, GatewayLine)
    order = await shop.order((await place(shop)).tid)
    shop.line.answer = lambda inquiry: parties.status(inquiry, "open", None).compact
    for _ in range(12 * 6):
        await shop.wait_outcome(order.tid, 0.02)
        parties.clock.advance(600)
    assert 0 < len(shop.line.asked) < 20


async def test_a_status_word_alone_delivers_nothing(parties: Parties, shop: Shop) -> None:
    assert isinstance(shop.line, GatewayLine)
    order, _, _ = await confirmed(parties, shop)
    shop.line.answer = lambda inquiry: parties.status(inquiry, "captured", None).compact
    assert (await shop.inquire(order.tid)).state == "captured"
    assert await shop.order(order.tid) == order


async def test_a_forged_outcome_inside_a_status_delivers_nothing(parties: Parties, shop: Shop) -> None:
    assert isinstance(shop.line, GatewayLine)
    order, notice, confirmation = await confirmed(parties, shop)
    forged = [
        parties.settled(confirmation.claims, notice.hash).compact,
        parties.settled(confirmation.claims, confirmation.hash, amount="1").compact,
        confirmation.compact,
        "x",
    ]
    shop.line.answer = lambda inquiry: parties.status(inquiry, "captured", forged.pop()).compact
    while forged:
        with pytest.raises(ProtocolViolation):
            await shop.inquire(order.tid)
    assert await shop.order(order.tid) == order


async def test_a_refused_inquiry_is_unavailable(parties: Parties, shop: Shop) -> None:
    assert isinstance(shop.line, GatewayLine)
    redirect = await place(shop)
    shop.line.answer = lambda inquiry: signed.sign(RefusedByGateway(**parties.head(req=inquiry.hash, code="busy")), parties.gateway).compact
    with pytest.raises(Unavailable):
        await shop.inquire(redirect.tid)


async def test_an_answer_that_nobody_waits_for_changes_nothing(parties: Parties, shop: Shop) -> None:
    order, _, _ = await confirmed(parties, shop)
    role = parties.role()
    status = parties.status(role.make_inquiry(order.tid, at=NOW), "captured", None)
    assert await shop.receive(status.compact) is None
    assert await shop.order(order.tid) == order


# The shop's own say


async def no(_: Order) -> Yes | No:
    return No(ko="다 팔렸습니다.", en="Sold out.")


async def silent(_: Order) -> Yes | No:
    await asyncio.sleep(60)
    return Yes()


async def failing(_: Order) -> Yes | No:
    raise KeyError("a bug in the shop")


async def forgetful(_: Order) -> Any:
    return None


async def truthy(_: Order) -> Any:
    return True


@pytest.mark.parametrize(
    ("handler", "reason"),
    [(no, "shop_refused"), (silent, "shop_silent"), (failing, "shop_silent"), (forgetful, "shop_silent"), (truthy, "shop_silent")],
)
async def test_everything_but_an_explicit_yes_is_a_signed_no(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: handlers.OnConfirm, reason: str
) -> None:
    monkeypatch.setattr(handlers, "CONFIRM_WITHIN_S", 0.05)
    async with parties.open_shop(tmp_path, on_confirm=handler) as shop:
        order = await shop.order((await place(shop)).tid)
        refusal = parties.read_refusal(await shop.receive(parties.notice(order).compact))
        assert refusal.claims.reason == reason
        assert (await shop.order(order.tid)).state is State.REFUSED
        if handler is no:
            assert refusal.claims.message.en == "Sold out."


async def test_the_shop_is_asked_once_for_a_notice_that_comes_twice_at_once_and_never_for_a_mismatch(
    parties: Parties, tmp_path: Path
) -> None:
    asked: list[Order] = []

    async def count(order: Order) -> Yes | No:
        asked.append(order)
        await asyncio.sleep(0.02)
        return Yes()

    async with parties.open_shop(tmp_path, on_confirm=count) as shop:
        order = await shop.order((await place(shop)).tid)
        notice = parties.notice(order)
        answers = await asyncio.gather(*(shop.receive(notice.compact) for _ in range(5)))
        assert len(set(answers)) == 1
        assert asked == [order]
        other = await shop.order((await place(shop)).tid)
        parties.read_refusal(await shop.receive(parties.notice(other, amount="1").compact))
        assert asked == [order]


async def test_a_withdrawal_while_the_shop_thinks_wins(parties: Parties, tmp_path: Path) -> None:
    async def withdraw_meanwhile(order: Order) -> Yes | No:
        if not withdrawn:
            withdrawn.append(await shop.withdraw(order.tid))
        return Yes()

    withdrawn: list[Order] = []
    async with parties.open_shop(tmp_path, on_confirm=withdraw_meanwhile) as shop:
        order = await shop.order((await place(shop)).tid)
        refusal = parties.read_refusal(await shop.receive(parties.notice(order).compact))
        assert refusal.claims.reason == "withdrawn"


@pytest.mark.parametrize("words", [("", "x"), ("x" * 201, "x"), ("x", "a\nb"), ("x", "\u202e")])
def test_words_for_the_customer_are_short_plain_text(words: tuple[str, str]) -> None:
    with pytest.raises(BadInput):
        No(*words)


async def test_the_outcome_handler_is_called_until_it_succeeds_and_then_never_again(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "RETRY_FIRST_S", 0.0)
    seen: list[State] = []
    done = asyncio.Event()

    async def deliver(order: Order) -> None:
        seen.append(order.state)
        if len(seen) < 3:
            parties.clock.advance(400)
            raise RuntimeError("the parcel service is closed")
        done.set()

    async with parties.open_shop(tmp_path, on_outcome=deliver) as shop:
        _, _, confirmation = await confirmed(parties, shop)
        acknowledgement = await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
        parties.read_acknowledgement(acknowledgement)  # stored is what is acknowledged; the handler's troubles are the shop's own
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert seen == [State.SETTLED] * 3
    async with parties.open_shop(tmp_path, on_outcome=deliver) as reopened:
        await asyncio.sleep(0.05)
        assert await reopened.book.unhandled(10) == []
    assert len(seen) == 3


async def test_a_shop_that_stops_does_not_wait_for_a_handler_that_hangs(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "STOP_WITHIN_S", 0.05)
    calls: list[str] = []

    async def hangs(order: Order) -> None:
        calls.append(order.tid)
        await asyncio.sleep(60 if len(calls) == 1 else 0)

    async with parties.open_shop(tmp_path, on_outcome=hangs) as shop:
        _, _, confirmation = await confirmed(parties, shop)
        await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
        await asyncio.sleep(0.05)
    async with parties.open_shop(tmp_path, on_outcome=hangs) as reopened:
        await asyncio.sleep(0.05)
        assert await reopened.book.unhandled(1) == []
    assert len(calls) == 2


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_that_comes_together_with_an_outcome_ends(parties: Parties, tmp_path: Path, turns: int) -> None:
    async def fails(_order: Order) -> None:
        raise RuntimeError("not now")

    async with asyncio.timeout(10):
        async with parties.open_shop(tmp_path, on_outcome=fails) as shop:
            _, _, confirmation = await confirmed(parties, shop)
            await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
            await asyncio.sleep(0.05)
            assert shop._desk is not None
            shop._desk.ring()
            for _ in range(turns):
                await asyncio.sleep(0)
            await shop._desk.stop()


async def test_the_lists_of_an_owner_are_his_own(shop: Shop) -> None:
    mine = (await place(shop, owner="minji")).tid
    await place(shop, owner="junho")
    await place(shop)
    assert [order.tid for order in await shop.orders_of("minji")] == [mine]
    assert await shop.orders_of("nobody") == []


def test_the_shop_has_one_entrance_for_bytes() -> None:
    """A public method that takes bytes or text from the gateway and is not `receive` would be a way round the checks."""
    public = {name for name in vars(Shop) if not name.startswith("_")}
    assert public == {
        "open",
        "create_order",
        "replace_order",
        "withdraw",
        "redirect",
        "checkout",
        "open_session",
        "purchase",
        "order",
        "orders_of",
        "deliverable",
        "wait_outcome",
        "inquire",
        "receive",
        "cancel",
        "cancellation",
        "cancellations",
        "mark_goods_returned",
        "reconcile",
        "stopped",
    }
    assert SHOP.endswith(":shop")
    assert PHONE.text == "220000"
