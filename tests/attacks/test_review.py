"""What a slow reading of the core turned up: each was a way in once, and stays shut here."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation, Unavailable
from hanbit.ledger.check import check
from hanbit.payments import operations, outbox, recovery, redirect_flow
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.sign_in import LoginFailed
from hanbit.protocols.redirect.messages import Notice
from hanbit.protocols.signed import SignedMessage
from tests import engine
from tests.world import Link, World, lose_request


async def refuse_to_hash(_stored: str, _password: str) -> bool:
    raise Unavailable("too many passwords are being checked")


@pytest.mark.parametrize("login", ["hong", "nobody"])
async def test_a_flood_of_logins_makes_nobody_wait_whose_password_was_never_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """The queue of passwords is full: that is no wrong try, neither of a known name nor of one that belongs to nobody."""
    with monkeypatch.context() as patched:
        patched.setattr(world.gateway.passwords, "verify", refuse_to_hash)
        for _ in range(7):
            with pytest.raises(Unavailable):
                await (await world.visit()).login(login, "some password")
    with pytest.raises(LoginFailed):
        await (await world.visit()).login(login, "a wrong password")
    assert await (await world.visit()).login()


async def test_a_clock_that_was_wrong_for_a_moment_locks_nobody_out(world: World) -> None:
    world.clock.advance(6 * 3_600)
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await (await world.visit()).login("hong", "a wrong password")
    world.clock.advance(-6 * 3_600)
    assert await (await world.visit()).login()


async def test_a_revoked_key_of_the_gateway_signs_nothing_more(world: World) -> None:
    """An operator who revokes the gateway's own key has replaced it: nothing is stored that could never be proved."""
    open_page, revoked = await world.visit(), world.gateway.signer.kid
    await operations.revoke(world.gateway, kid=revoked)
    world.clock.advance(1)
    before = world.dump(leave_out=("audit", "certificates", "sessions", "log", "tiles"))
    with pytest.raises((Unavailable, ProtocolViolation)):
        await open_page.pay()  # its `keys` were signed by the old key
    assert world.dump(leave_out=("audit", "certificates", "sessions", "log", "tiles")) == before
    assert world.gateway.signer.kid != revoked
    assert (await (await world.visit()).pay()).state == "captured"


async def test_a_payment_that_recovery_cannot_handle_lets_the_others_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned, sound = await world.visit(amount=1_000), await world.visit(amount=2_000)
    for visit in (poisoned, sound):
        world.shop.plan.append(lose_request)
        await visit.pay()

    def unreadable(gateway: Gateway, payment: Payment) -> SignedMessage[Notice]:
        if payment.id == poisoned.stored.id:
            raise ProtocolViolation("revoked")
        return redirect_flow.stored_notice(gateway, payment)

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "stored_notice", unreadable)
        patched.setattr(recovery, "AT_ONCE_MAX", 1)
        await world.tick(601)
        for _ in range(5):
            await world.tick()
        assert (poisoned.stored.state, sound.stored.state) == ("authorized", "voided")
        assert sum(row["reason"] == "revoked" for row in world.rows("audit")) == 1, "not a row for every look at it"
    await world.tick(60)
    assert poisoned.stored.state == "voided"


async def test_a_silent_merchant_holds_up_neither_ends_nor_outcomes_nor_other_merchants(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = await world.visit(amount=3_000, merchant="other")
    world.line.links["other"].plan.append(lose_request)
    abandoned = await world.visit()
    await abandoned.login()
    world.clock.advance(29 * 60)
    silent = [world.open(await world.order(1_000 + n)) for n in range(4)]
    for visit in silent:
        world.shop.plan.append(lose_request)
        assert (await visit.pay()).state == "authorized"
    world.clock.advance(2)
    assert (await late.pay()).state == "authorized"
    world.clock.advance(120)
    never = asyncio.Event()

    async def think(_link: Link, _message: str) -> str | None:
        await never.wait()
        raise Unavailable("silent")

    world.shop.plan.extend([think] * 8)
    monkeypatch.setattr(recovery, "AT_ONCE_MAX", 3)
    monkeypatch.setattr(recovery, "ASKED_A_MERCHANT_MAX", 2)
    monkeypatch.setattr(recovery, "TICK_S", 0)
    background = asyncio.create_task(recovery.run(world.gateway, recovery.JOBS))
    async with asyncio.timeout(20):
        while late.stored.state != "captured" or abandoned.stored.state != "closed":  # noqa: ASYNC110 - a book has no bell
            await asyncio.sleep(0)
    never.set()
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)


async def test_a_merchant_whose_line_comes_up_costs_what_is_unfinished_and_not_all_it_was_ever_paid(world: World) -> None:
    asked: list[tuple[str, tuple[str | int | None, ...]]] = []
    reader, all_rows = world.gateway.reader, world.gateway.reader.all

    def noted(sql: str, *values: str | int | None) -> list[Any]:
        asked.append((sql, values))
        return all_rows(sql, *values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reader, "all", noted)
        await recovery.merchant_connected(world.gateway, "shop")
    explain = "EXPLAIN" if engine.is_postgresql() else "EXPLAIN QUERY PLAN"
    plans = [" ".join(str(part) for row in all_rows(f"{explain} {sql}", *values) for part in row) for sql, values in asked]
    assert len(plans) == 3
    for plan, index in zip(plans, ("payments_due", "outbox_waiting", "console_requests_due"), strict=True):
        assert index in plan, plan  # in these indexes is only what is unfinished


async def test_the_thousandth_inquiry_reads_no_more_than_the_first(world: World) -> None:
    role, tid = world.shop.shop._role, (await world.visit()).redirect.tid
    read: list[int] = []
    reader, all_rows = world.gateway.reader, world.gateway.reader.all

    def counted(sql: str, *values: str | int | None) -> list[Any]:
        found = all_rows(sql, *values)
        read.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reader, "all", counted)
        inquiries = [role.make_inquiry(tid, at=world.clock.now()).compact for _ in range(5)]
        answers = [await world.shop.to_gateway(inquiry) for inquiry in (*inquiries, *inquiries)]
    assert answers[:5] == answers[5:]
    assert len(set(answers)) == 5
    assert sum(read) == 0


async def test_a_stranger_who_names_tids_to_a_plain_shop_fills_nobody_s_book(world: World) -> None:
    """In plain form an address is anybody's word: without a login, Cancel on an order that nobody opened leaves no row anywhere."""
    before = world.dump(leave_out=())
    for _ in range(3):
        visit = world.open(f"?MID=plain&TID={ids.new_token()}&AMOUNT=1&CUR=KRW")
        assert (await visit.cancel()).state == "new"
    assert world.dump(leave_out=()) == before
    assert world.line.links["plain"].told == []
    visit = await world.visit(merchant="plain")
    await visit.login()
    assert (await visit.cancel()).state == "closed"


def forged(world: World, *statements: str) -> set[str]:
    """What the ledger's check says of a book in which somebody has written; nothing of it stays."""
    with engine.owner(world.folder, lasting=False) as connection:
        for statement in statements:
            connection.execute(statement)
        return set(check(connection).broken)


async def test_the_ledger_check_sees_money_that_moved_for_no_payment_or_to_another_merchant(world: World, tmp_path: Path) -> None:
    visit = await world.visit()
    await visit.pay()
    payment, bank = visit.stored.id, world.hong.accounts["bank"].id
    next_entry = world.rows("book")[0]["next_entry"]

    def moved(number: int, name: str, target: str, amount: int = 5) -> tuple[str, ...]:
        return (
            f"INSERT INTO entries VALUES ({number}, '{name}', 'hold', '{name}', NULL, 5, 'KRW', 1)",  # noqa: S608 - a forger's own
            f"INSERT INTO entries VALUES ({number + 1}, 'end {name}', 'capture', '{name}', {number}, 5, 'KRW', 1)",  # noqa: S608 - a forger's own
            f"INSERT INTO postings VALUES ({number}, 0, '{bank}', 'D', 5, 0, 0), ({number}, 1, '{target}', 'C', 5, 0, 0)",  # noqa: S608 - a forger's own
            f"INSERT INTO postings VALUES ({number + 1}, 0, '{bank}', 'D', -5, {amount}, 0)",  # noqa: S608 - a forger's own
            f"INSERT INTO postings VALUES ({number + 1}, 1, '{target}', 'C', -5, {amount}, 0)",  # noqa: S608 - a forger's own
            f"UPDATE ledger_accounts SET debits_posted = debits_posted + {amount} WHERE id = '{bank}'",  # noqa: S608 - a forger's own
            f"UPDATE ledger_accounts SET credits_posted = credits_posted + {amount} WHERE id = '{target}'",  # noqa: S608 - a forger's own
            f"UPDATE book SET next_entry = {number + 2}",  # noqa: S608 - a forger's own
        )

    assert forged(world) == set()
    assert forged(world, *moved(next_entry, "nobody", "merchant:shop:KRW")) == {"holds_belong_to_payments"}
    assert "legs_carry_the_amount_of_their_entry" in forged(world, *moved(next_entry, "nobody", "merchant:shop:KRW", 6))
    redirected = (
        f"UPDATE payments SET merchant = 'other' WHERE id = '{payment}'",  # noqa: S608 - a forger's own
        f"UPDATE outbox SET merchant = 'other' WHERE tid = '{visit.redirect.tid}'",  # noqa: S608 - a forger's own
    )
    assert "payments_move_between_their_own_accounts" in forged(world, *redirected)


async def test_a_merchant_that_is_away_for_days_costs_little_and_hears_everything_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = [await world.visit(amount=1_000 + number) for number in range(5)]
    for visit in visits:
        world.shop.tell_plan.append(lose_request)
        await visit.pay()
    world.shop.up = False
    looked_at = 0
    for _ in range(2 * 24 * 12):
        looked_at += await world.tick(300)
    assert looked_at <= 5 * (12 + 48)
    monkeypatch.setattr(outbox, "TOLD_AT_ONCE_MAX", 2)
    world.shop.up = True
    await recovery.merchant_connected(world.gateway, "shop")
    assert all([(await world.shop_order(visit)).may_deliver for visit in visits])
