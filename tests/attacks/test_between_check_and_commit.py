"""What was true when it was looked at and is not when it is written: the book decides again under its lock, and the later word counts."""

from typing import Any

import pytest

from hanbit.crypto import certificates
from hanbit.db.change import Change, Put
from hanbit.evidence import store as evidence
from hanbit.payments import factors, operations, revocation, settlement
from hanbit.protocols import signed
from hanbit.protocols.keys import Crl
from hanbit.protocols.signed import decode_chain, peek_claims
from tests.attacks.test_gateway_orders import shop
from tests.flows.test_settlement import agree, close, of_day, paid
from tests.purchases import buying
from tests.world import PRICE, World


async def lock_out(world: World, method: str) -> None:
    """The customer changes the account's password, or takes the device away whose codes somebody else reads."""
    if method == "code":
        await world.remove_device("code")
        return
    (row,) = [row for row in world.rows("accounts") if row["id"] == world.hong.accounts["bank"].id]
    await world.gateway.book.commit(Change(puts=(Put("accounts", row | {"password": "another"}, row["version"]),)))


@pytest.mark.parametrize("checkout", ["redirect", "dual signature"])
@pytest.mark.parametrize("method", ["password", "code"])
async def test_who_is_locked_out_while_his_factor_is_checked_pays_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, checkout: str
) -> None:
    checked = factors.check

    async def and_then(*args: Any) -> Any:
        found = await checked(*args)
        await lock_out(world, method)
        return found

    money = world.dump()["ledger_accounts"]
    if checkout == "redirect":
        visit = await world.visit()
        monkeypatch.setattr(factors, "check", and_then)
        await visit.pay(method=method)
    else:
        purchase = await buying(world)
        visit, grant = purchase.visit, await purchase.visit.grant()
        monkeypatch.setattr(factors, "check", and_then)
        assert (await purchase.buy(grant, method=method)).told == "declined"
    assert (visit.stored.state, visit.stored.reason, visit.stored.attempts) == ("open", "wrong_factor", 1)
    assert world.dump()["ledger_accounts"] == money
    await world.prove()


async def test_a_revocation_beside_another_process_s_list_is_on_the_next_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's list was read before the revocation and written first: it does not name what was revoked."""
    await world.tick()
    before, seen = revocation._latest(world.gateway, "merchant"), revocation._latest
    assert before is not None
    await revocation.publish(world.gateway, "merchant")
    stale = [before]
    monkeypatch.setattr(revocation, "_latest", lambda gateway, name: stale.pop() if stale and name == "merchant" else seen(gateway, name))
    kid = shop(world).kid
    await operations.revoke(world.gateway, kid=kid)
    assert not stale
    last = seen(world.gateway, "merchant")
    assert last is not None
    compact = evidence.compact(world.gateway.reader, "", "", last.hash)
    assert compact is not None
    der = decode_chain([peek_claims(compact)["crl"]])[0]
    listed = certificates.read_crl(der, world.gateway.keyring.merchant_authority.chain[0]).serials
    (serial,) = [row["serial"] for row in world.rows("certificates") if row["kid"] == kid]
    assert int(serial) in listed
    assert signed.peek_typ(compact) == Crl.TYP


async def test_who_is_suspended_while_his_day_is_reckoned_is_not_paid_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await agree(world)
    await paid(world, PRICE)
    reckon = settlement._reckon

    async def and_then(gateway: Any, day: Any, merchant: str, *rest: Any) -> Any:
        found = await reckon(gateway, day, merchant, *rest)
        if merchant == "shop" and found is not None and found.paid_out:
            await world.suspend("merchant", "shop")
        return found

    monkeypatch.setattr(settlement, "_reckon", and_then)
    await close(world)
    assert of_day(world, "2027-01-15").paid_out == 0
    assert world.rows("payouts") == []
    await world.prove()
