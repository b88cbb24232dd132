"""A gateway that lost or altered what it signed, and merchants who lie about what they hold: neither goes unseen, neither does harm."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hanbit.crypto.merkle import leaf_hash
from hanbit.evidence import log
from hanbit.evidence import store as evidence
from hanbit.kernel import ids
from hanbit.kernel.errors import Conflict, ProtocolViolation, Unavailable
from hanbit.merchant.shop import Shop
from hanbit.payments import checkpoints, halt, operations, own_keys, recovery
from hanbit.payments.halt import PaymentsHalted, why_halted
from hanbit.payments.states import State
from hanbit.protocols.checkpoint import (
    Checkpoint,
    any_merchant,
    make_proof,
    make_proof_request,
    read_held,
    verify_checkpoint,
    verify_proof,
)
from hanbit.protocols.signed import SignedMessage, Signer, head, peek_claims, sign
from tests import engine
from tests.world import OPERATOR, World, cut, lose_answer


def signed_now(world: World) -> int:
    return len(world.rows("checkpoints"))


def latest(world: World) -> str:
    """The bytes of the last checkpoint."""
    last = checkpoints.latest(world.gateway)
    assert last is not None
    compact = evidence.compact(world.gateway.reader, "", "", last["hash"])
    assert compact is not None
    return compact


def forged(world: World, signer: Signer, **claims: Any) -> SignedMessage[Checkpoint]:
    """A checkpoint that never stood in the book."""
    made: dict[str, Any] = {"size": 5, "root": "A" * 43, "time": world.clock.now()} | claims
    named = replace(signer, urn=world.gateway.urn, purpose="gateway-sign")  # whoever it is, he says that he is the gateway
    return sign(Checkpoint(**head(named, any_merchant(OPERATOR), world.clock.now()), **made), named)


async def grow(world: World) -> None:
    """A minute in which something happened."""
    await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="1")
    await world.tick(61)


async def connect(world: World, held: str | None = None, merchant: str = "shop") -> None:
    """The merchant's line comes up; its hello returns what it holds, or what the test says."""
    await recovery.merchant_connected(world.gateway, merchant, held or world.line.links[merchant].shop.witness.compact)


def held_by(world: World, merchant: str = "shop") -> Checkpoint:
    compact = world.line.links[merchant].shop.witness.compact
    assert compact is not None
    return read_held(compact)


async def put_back(world: World, old: Path) -> None:
    """An older copy of the book takes the place of the present one."""
    await world.restart(lambda: engine.put_back(world.folder, old))


async def copied(world: World, to: Path) -> Path:
    await world.restart(lambda: engine.keep(world.folder, to))
    return to


# --- signing ----------------------------------------------------------------------------------------------------------------------------


async def test_the_log_is_signed_once_a_minute_and_only_if_it_grew(world: World) -> None:
    await world.tick()
    assert signed_now(world) == 1, "the first one at once"
    for _ in range(5):
        await world.tick(61)
    assert signed_now(world) == 1, "its own leaf is no growth: an idle book signs nothing"
    await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="1")
    await world.tick(30)
    await world.tick(31)
    assert signed_now(world) == 2
    for _ in range(5):
        await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="1")
        await world.tick(1)
    assert signed_now(world) == 2, "not before the minute is over"


async def test_every_merchant_holds_the_same_bytes_and_checks_that_each_goes_on_from_the_last(world: World) -> None:
    for _ in range(5):
        await grow(world)
        assert {link.shop.witness.compact for link in world.line.links.values()} == {latest(world)}
    rows = world.rows("checkpoints")
    assert [peek_claims(latest(world))["prev"]] == [rows[-2]["hash"]]


async def test_a_checkpoint_is_stored_before_it_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    receive = Shop.receive

    async def looking(shop: Shop, unverified: str) -> str | None:
        seen.append(evidence.compact(world.gateway.reader, "", "", ids.digest(unverified.encode())) == unverified)
        return await receive(shop, unverified)

    monkeypatch.setattr(Shop, "receive", looking)
    await world.tick()
    assert seen == [True] * len(world.line.links)


async def test_a_shop_remembers_over_a_restart_what_it_holds(world: World) -> None:
    await grow(world)
    witness = world.shop.shop.witness
    before, witness.compact = witness.compact, None
    await witness.load()
    assert witness.compact == before is not None


# --- a merchant that missed some --------------------------------------------------------------------------------------------------------


async def test_a_shop_that_was_away_asks_for_the_proof_and_goes_on(world: World) -> None:
    await grow(world)
    first = held_by(world)
    world.shop.up = False
    for _ in range(4):
        await grow(world)
    assert held_by(world) == first
    world.shop.up = True
    await connect(world)
    assert world.shop.shop.witness.compact == latest(world)
    assert world.shop.shop.witness.contradiction is None


async def test_a_proof_that_does_not_come_is_asked_for_with_the_next_checkpoint(world: World) -> None:
    await grow(world)
    first, line = held_by(world), world.shop.shop.line
    world.shop.up = False
    await grow(world)
    await grow(world)
    world.shop.up, world.shop.shop.line = True, None
    await connect(world)
    assert held_by(world) == first
    assert world.shop.shop.witness.contradiction is None, "silence proves nothing"
    world.shop.shop.line = line
    await grow(world)
    assert world.shop.shop.witness.compact == latest(world)


async def test_a_gateway_that_never_shows_how_its_log_goes_on_is_complained_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With two histories it would do best to be silent: the shop's staff hear of it once an hour."""
    await grow(world)
    shop, clock = world.shop.shop, world.clock
    first, line = held_by(world), shop.line
    unlinked = [forged(world, world.gateway.signer, size=100 + number).compact for number in range(4)]

    async def silent(_request: str) -> str:
        raise Unavailable("busy")

    with caplog.at_level(logging.ERROR):
        for wait, complaints in ((0, 0), (60, 0), (3600, 1), (60, 1)):
            clock.advance(wait)
            await shop.witness.receive(unlinked.pop(0), silent)
            said = [record for record in caplog.records if "has not shown" in record.getMessage()]
            assert len(said) == complaints
    assert (held_by(world), shop.witness.contradiction, shop.line) == (first, None, line), "and holds on to what it has"


async def test_an_older_checkpoint_that_comes_again_changes_nothing(world: World) -> None:
    await grow(world)
    old = latest(world)
    await grow(world)
    await world.shop.shop.receive(old)
    await world.shop.shop.receive(latest(world))
    assert world.shop.shop.witness.compact == latest(world)
    assert world.shop.shop.witness.contradiction is None


# --- a gateway with two histories -------------------------------------------------------------------------------------------------------


def _same_size(world: World) -> dict[str, Any]:
    return {"size": held_by(world).size}


def _smaller_but_later(world: World) -> dict[str, Any]:
    return {"size": held_by(world).size - 1}


def _larger(world: World) -> dict[str, Any]:
    return {"size": held_by(world).size + 3}


def _linked_with_a_false_proof(world: World) -> dict[str, Any]:
    compact = world.shop.shop.witness.compact
    assert compact is not None
    proof = (ids.encode_base64url(leaf_hash(b"x")),)
    return {"size": held_by(world).size + 3, "prev": ids.digest(compact.encode()), "consistency": proof}


FORKS = {f.__name__.strip("_"): f for f in (_same_size, _smaller_but_later, _larger, _linked_with_a_false_proof)}


@pytest.mark.parametrize("fork", FORKS)
async def test_a_shop_that_is_shown_another_history_keeps_both_alarms_and_holds_on(
    world: World, fork: str, caplog: pytest.LogCaptureFixture
) -> None:
    await grow(world)
    await grow(world)
    world.clock.advance(1)
    before = world.shop.shop.witness.compact
    other = forged(world, world.gateway.signer, **FORKS[fork](world))
    with caplog.at_level(logging.ERROR):
        await world.shop.shop.receive(other.compact)
    witness = world.shop.shop.witness
    assert (witness.compact, witness.contradiction) == (before, other.compact)
    assert "cannot both be true" in caplog.text
    assert (await world.shop.shop.book.held("checkpoint")).content == before  # type: ignore[union-attr]  # it is held
    if fork != "linked_with_a_false_proof":  # whoever asks for the proof shows the gateway what is signed in its name
        assert why_halted(world.gateway.reader) is not None
    await world.shop.shop.receive(forged(world, world.gateway.signer, size=10_000).compact)
    assert witness.contradiction == other.compact, "the first contradiction is the one that is kept"


async def test_a_shop_goes_on_from_the_other_history_once_its_staff_have_accepted_it(world: World) -> None:
    await grow(world)
    world.clock.advance(1)
    before = world.shop.shop.witness.compact
    other = forged(world, world.gateway.signer, size=held_by(world).size + 1)
    await world.shop.shop.receive(other.compact)
    witness = world.shop.shop.witness
    await witness.accept(other.hash)
    assert (witness.compact, witness.contradiction) == (other.compact, None)
    assert (await world.shop.shop.book.held("checkpoint_given_up")).content == before  # type: ignore[union-attr]  # it is held


@pytest.mark.parametrize("who", ["merchant", "line", "customer"])
async def test_a_checkpoint_that_the_gateway_did_not_sign_is_no_checkpoint_for_a_shop(world: World, who: str) -> None:
    await grow(world)
    signers = {"merchant": world.parties.merchants["other"], "line": world.parties.line_keys["shop"], "customer": world.hong.device}
    before = world.shop.shop.witness.compact
    assert await world.shop.shop.receive(forged(world, signers[who], size=10_000).compact) is None
    assert (world.shop.shop.witness.compact, world.shop.shop.witness.contradiction) == (before, None)


async def test_a_proof_shows_nothing_that_it_does_not_prove(world: World) -> None:
    await grow(world)
    older = verify_checkpoint(latest(world), trust=world.gateway.registry, operator=OPERATOR)
    for _ in range(3):
        await grow(world)
    shop, at = world.parties.merchants["shop"], world.clock.now()
    request = make_proof_request(older.compact, signer=shop, gateway=world.gateway.urn, at=at)
    other = make_proof_request(older.compact, signer=shop, gateway=world.gateway.urn, at=at)
    path = log.consistency_proof(world.gateway.reader, older.claims.size, held_by(world).size)
    good = make_proof(request, latest(world), path, signer=world.gateway.signer, at=at)
    trust = world.shop.shop._role.trust

    def read(unverified: str) -> SignedMessage[Checkpoint]:
        return verify_proof(unverified, request, older.claims, trust=trust, operator=OPERATOR, at=at)

    assert read(good.compact).compact == latest(world)
    for bad in (
        make_proof(other, latest(world), path, signer=world.gateway.signer, at=at),
        make_proof(request, latest(world), path[:-1], signer=world.gateway.signer, at=at),
        make_proof(request, latest(world), (*path[:-1], "A" * 43), signer=world.gateway.signer, at=at),
        make_proof(request, latest(world), (*path[:-1], "_" * 43), signer=world.gateway.signer, at=at),
        make_proof(request, older.compact, path, signer=world.gateway.signer, at=at),
        make_proof(request, forged(world, world.gateway.signer, size=10_000).compact, path, signer=world.gateway.signer, at=at),
        make_proof(request, forged(world, world.parties.merchants["other"]).compact, path, signer=world.gateway.signer, at=at),
    ):
        with pytest.raises(ProtocolViolation):
            read(bad.compact)


# --- a merchant who lies ----------------------------------------------------------------------------------------------------------------


async def test_a_forged_checkpoint_in_a_hello_changes_nothing(world: World) -> None:
    await grow(world)
    good, before = latest(world), world.dump(leave_out=())
    shop = world.parties.merchants["shop"]
    for lie in (
        "a.b." + "A" * 86,
        good[:-6] + "AAAAAA",
        good.split(".")[0] + "." + good.split(".")[1][:-2] + "AA." + good.split(".")[2],
        forged(world, shop).compact,
        forged(world, world.parties.line_keys["shop"]).compact,
        world.hong.device.urn,
        "",
        "한",
    ):
        assert not await checkpoints.is_ours(world.gateway, "shop", lie)
        await connect(world, lie)
    assert world.dump(leave_out=()) == before
    await (await world.visit()).pay()


async def test_lies_fill_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            await connect(world, "a.b." + "A" * 86)
    assert len([line for line in caplog.records if line.message == "checkpoint_not_signed_by_us"]) == checkpoints.NOTES_PER_MINUTE
    assert world.observed.count(("checkpoint", "checkpoint_not_signed_by_us")) == 50


async def test_a_checkpoint_under_a_key_that_was_revoked_stops_nobody(world: World) -> None:
    """Whoever has stolen the gateway's old key could else stop every payment with it."""
    await grow(world)
    stolen = forged(world, world.gateway.signer)
    world.clock.advance(1)
    await operations.revoke(world.gateway, kid=world.gateway.signer.kid)
    world.clock.advance(1)
    await connect(world, stolen.compact)
    assert why_halted(world.gateway.reader) is None
    assert ("checkpoint", "checkpoint_under_a_revoked_key") in world.observed


async def test_a_merchant_asks_for_so_many_proofs_only(world: World) -> None:
    await grow(world)
    shop, codes = world.parties.merchants["shop"], []
    for _ in range(world.gateway.settings.inquiries_per_minute + 2):
        request = make_proof_request(latest(world), signer=shop, gateway=world.gateway.urn, at=world.clock.now())
        reply = await world.shop.to_gateway(request.compact)
        assert reply is not None
        codes.append(peek_claims(reply).get("code"))
    assert codes[-1] == "too_many"
    assert codes[0] is None


async def test_the_request_of_another_merchant_is_refused(world: World) -> None:
    await grow(world)
    request = make_proof_request(latest(world), signer=world.parties.merchants["other"], gateway=world.gateway.urn, at=world.clock.now())
    reply = await world.shop.to_gateway(request.compact)
    assert reply is not None
    assert peek_claims(reply)["code"] == "sender"


# --- a gateway that lost something ------------------------------------------------------------------------------------------------------


async def lost(world: World, folder: Path) -> None:
    """An older copy of the book is put back, and the shop comes with what it holds."""
    await grow(world)
    old = await copied(world, folder / "old.sqlite")
    await (await world.visit()).pay()
    await grow(world)
    await put_back(world, old)
    assert why_halted(world.gateway.reader) is None, "nobody can tell from inside"
    await connect(world)


@pytest.fixture
async def old_world(world: World, tmp_path: Path) -> World:
    """A shop's payment is in no book any more: what is proved at the end of each test cannot be."""
    world.prove = _nothing_to_prove  # type: ignore[method-assign]  # the shop has what the gateway lost
    await lost(world, tmp_path)
    return world


async def _nothing_to_prove() -> None:
    return None


async def test_a_restored_old_copy_stops_taking_payments_until_the_operator_answers_for_it(old_world: World) -> None:
    world = old_world
    why = why_halted(world.gateway.reader)
    assert why is not None
    assert (why["reason"], why["merchant"]) == ("older_copy", "shop")
    visit = await world.visit()
    before = world.dump()
    with pytest.raises(PaymentsHalted):
        await visit.pay()
    assert world.dump() == before
    await world.restart()
    assert why_halted(world.gateway.reader) == why, "durable"
    with pytest.raises(PaymentsHalted):
        await visit.pay()
    signed = signed_now(world)
    await grow(world)
    assert signed_now(world) == signed, "we sign nothing of a book that we doubt"
    await halt.resume_payments(world.gateway, reason="restored, and the lost hour is known")
    with pytest.raises(Conflict):
        await halt.resume_payments(world.gateway, reason="twice")
    visit = await world.visit()
    assert (await visit.pay()).state == State.CAPTURED
    acts = [row["act"] for row in world.rows("audit") if row["act"].startswith("payments ")]
    assert acts == ["payments halted", "payments resumed"]


async def test_what_the_operator_has_answered_for_stops_nothing_again_but_what_is_signed_later_does(old_world: World) -> None:
    world = old_world
    await halt.resume_payments(world.gateway, reason="known")
    await connect(world)
    assert why_halted(world.gateway.reader) is None
    assert ("checkpoint", "checkpoint_from_before_the_resumption") in world.observed
    world.clock.advance(1)
    await connect(world, forged(world, world.gateway.signer).compact)
    assert why_halted(world.gateway.reader) is not None


async def test_the_shop_alarms_too(old_world: World) -> None:
    """The gateway goes on in its own way; the shop still holds what cannot be continued."""
    world = old_world
    await halt.resume_payments(world.gateway, reason="known")
    before = held_by(world)
    for _ in range(3):
        await grow(world)
    assert held_by(world) == before
    assert world.shop.shop.witness.contradiction is not None


async def test_another_history_of_the_same_length_is_seen(world: World) -> None:
    await grow(world)
    await connect(world, forged(world, world.gateway.signer, size=3).compact)
    why = why_halted(world.gateway.reader)
    assert why is not None
    assert why["reason"] == "other_history"


async def test_a_copy_that_lost_nothing_but_the_signing_itself_is_seen(world: World, tmp_path: Path) -> None:
    """Its leaves are those that were signed; that it does not know the signature shows that there was more."""
    await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="1")
    old = await copied(world, tmp_path / "old.sqlite")
    await world.tick(61)
    await put_back(world, old)
    await connect(world)
    assert why_halted(world.gateway.reader) is not None


async def test_a_copy_from_before_the_signing_key_was_renewed_is_seen(world: World, tmp_path: Path) -> None:
    """Its book does not even know the key under which the shop's checkpoint stands: that key leads to our root all the same."""
    world.prove = _nothing_to_prove  # type: ignore[method-assign]  # the shop has what the gateway lost
    await grow(world)
    old = await copied(world, tmp_path / "old.sqlite")
    await own_keys.renew(world.gateway, "gateway-sign")
    await grow(world)
    held = world.line.links["shop"].shop.witness.compact
    await put_back(world, old)
    await world.tick()
    await connect(world, held)

    assert why_halted(world.gateway.reader) is not None


async def test_leaves_cut_out_of_the_book_do_not_keep_it_from_halting(world: World) -> None:
    """Where the log cannot even be compared any more there is all the more reason."""
    await grow(world)
    held = forged(world, world.gateway.signer, size=3)
    with engine.owner(world.folder, unguarded=True) as connection:
        connection.execute("DELETE FROM log WHERE leaf < 4")
    world.prove = _nothing_to_prove  # type: ignore[method-assign]  # its book is torn
    await connect(world, held.compact)
    why = why_halted(world.gateway.reader)
    assert why is not None
    assert why["reason"] == "other_history"


async def test_what_was_decided_before_a_halt_goes_on(world: World) -> None:
    """A hold whose notice has left is captured on the shop's confirmation, or ends by itself; only new holds are refused."""
    world.shop.plan.append(lose_answer)
    confirmed = await world.visit(amount=1_000)
    assert (await confirmed.pay()).state == State.AUTHORIZED
    world.shop.plan.append(cut)
    unheard = await world.visit(amount=2_000)
    assert (await unheard.pay()).state == State.AUTHORIZED
    await halt.halt(world.gateway, "test", {"reason": "older_copy"})
    world.shop.up = True
    await world.tick(5)
    assert confirmed.stored.state == State.CAPTURED
    assert unheard.stored.state in (State.CAPTURED, State.VOIDED)
    late = await world.visit(amount=3_000)
    with pytest.raises(PaymentsHalted):
        await late.pay()
    assert late.payment is None


async def test_nothing_is_paid_back_while_payments_are_halted_and_the_shop_asks_again(world: World) -> None:
    visit = await world.visit(amount=5_000)
    await visit.pay()
    await halt.halt(world.gateway, "test", {"reason": "older_copy"})
    shop, before = world.shop.shop, world.available(world.hong.accounts["bank"].id)
    asked = await shop.cancel(visit.redirect.tid, amount=None, reason="came back", request_key="one")
    assert (asked.state, world.available(world.hong.accounts["bank"].id)) == ("asked", before)
    assert peek_claims(world.shop.replies[-1])["code"] == "payments_halted"
    await halt.resume_payments(world.gateway, reason="known")
    again = await shop.cancel(visit.redirect.tid, amount=None, reason="came back", request_key="one")
    assert (again.state, world.available(world.hong.accounts["bank"].id)) == ("confirmed", before + 5_000)


async def test_a_halt_between_page_and_payment_is_decided_under_the_book_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = await world.visit()
    await halt.halt(world.gateway, "test", {"reason": "older_copy"})
    monkeypatch.setattr("hanbit.payments.redirect_flow.check_taken", lambda _gateway: None)
    before = world.dump()
    with pytest.raises(Unavailable):
        await visit.pay()
    assert world.dump() == before


async def test_two_halts_at_once_are_one(world: World) -> None:
    await halt.halt(world.gateway, "test", {"reason": "older_copy", "merchant": "shop"})
    await halt.halt(world.gateway, "test", {"reason": "other_history", "merchant": "other"})
    why = why_halted(world.gateway.reader)
    assert why is not None
    assert why["merchant"] == "shop", "the first reason stays"
    assert len([row for row in world.rows("audit") if row["act"] == "payments halted"]) == 1
