"""What a dishonest party may have kept, and every judge afterwards: what is accepted can be proved, or it would spoil the book for ever."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates, signatures
from hanbit.db.change import Change, Put
from hanbit.evidence import bundle
from hanbit.evidence.bundle import FILE_MAX, KEYS_MAX, MESSAGES_MAX
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import ProtocolViolation
from hanbit.line_requests import routes
from hanbit.parties import passkeys
from hanbit.payments import cancellation_flow, dual_signature_flow, factors, key_requests, operations, redirect_flow, timeline
from hanbit.payments.cancellation_flow import CANCELLATIONS_MAX
from hanbit.payments.key_requests import RECORDS_MAX
from hanbit.payments.open_order import NotOpened
from hanbit.payments.redirect_flow import SECOND_ORDERS_KEPT_MAX
from hanbit.payments.states import ATTEMPTS_MAX
from hanbit.protocols import keys as role
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature import temporary
from hanbit.protocols.keys import KeyRecord, KeyRecordConfirmation
from hanbit.protocols.line import Acknowledgement
from hanbit.protocols.redirect.customer import Redirect
from hanbit.protocols.redirect.messages import Inquiry, Status
from hanbit.protocols.signed import peek_typ
from tests.attacks.line_requests import DAY_S, UNTOUCHED, answered, refused
from tests.attacks.test_gateway_orders import make_order, shop
from tests.attacks.test_renewals import enrolled_again, renewed
from tests.flows.authenticator import Authenticator
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import codes, export_and_verify, failure
from tests.flows.passkeys import auth, enrol_passkey
from tests.purchases import buying, session_authority
from tests.world import PRICE, Visit, World

NOTHING = "A" * 43
"""The hash of no order."""


async def judged(world: World, visit: Visit) -> list[str]:
    """Every judge of this visit's payment says that all is well: check, time line, a stranger with the file; what follows from it."""
    await world.prove()
    if visit.payment is not None:
        assert not timeline.of(world.gateway, visit.stored).broken
    report = await export_and_verify(world, visit)
    assert report.verified, failure(report)
    return codes(report)


async def second_order(world: World, visit: Visit, amount: int = 2_200) -> None:
    """The shop signs another order under the same number, and somebody opens it."""
    order = make_order(shop(world), tid=visit.redirect.tid, amount=str(amount))
    with pytest.raises(NotOpened) as turned_away:
        world.offered(Redirect("shop", visit.redirect.tid, type(visit.redirect.money)(amount, "KRW"), order))
    await redirect_flow.keep_second_order(world.gateway, turned_away.value)


# --- orders and cancellations -------------------------------------------------------------------------------------------------------------


async def test_a_second_order_is_shown_beside_the_payment_and_spoils_none_of_it(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    await second_order(world, visit)
    found = await judged(world, visit)
    assert (found.count("merchant_ordered"), found.count("merchant_ordered_twice")) == (1, 1)
    assert "gateway_settled" in found


async def test_second_orders_without_end_are_not_all_kept(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    for amount in range(1, SECOND_ORDERS_KEPT_MAX + 1):
        await second_order(world, visit, amount)
    before = world.dump()
    await second_order(world, visit, 5_000)
    assert world.dump() == before
    assert (await judged(world, visit)).count("merchant_ordered_twice") == SECOND_ORDERS_KEPT_MAX


async def test_an_order_that_comes_after_another_one_was_cancelled_under_its_tid_is_no_order_of_that_payment(world: World) -> None:
    visit = await world.visit()
    assert (await Canceller(world).cancel(visit, prev=NOTHING))[0] == "confirmed"
    with pytest.raises(NotOpened) as turned_away:
        world.offered(visit.redirect)
    await redirect_flow.keep_second_order(world.gateway, turned_away.value)
    found = await judged(world, visit)
    assert {"merchant_ordered_twice", "no_signed_order", "gateway_closed"} <= set(found)


async def test_a_cancellation_refused_before_anybody_opened_the_order_does_not_spoil_its_payment(world: World) -> None:
    """Who cancels what nobody has opened may name any order; whatever he names, the order that is paid then is another one."""
    visit = await world.visit()
    asked = Canceller(world)
    assert (await asked.cancel(visit, PRICE, remaining=PRICE + 1, prev=NOTHING))[0] == "amount_differs"
    await visit.pay()
    assert (await asked.cancel(visit, 1_000))[0] == "confirmed"
    assert "gateway_settled" in await judged(world, visit)


async def test_cancellations_before_the_opening_may_name_two_orders(world: World) -> None:
    visit = await world.visit()
    asked = Canceller(world)
    assert (await asked.cancel(visit, PRICE, remaining=PRICE + 1, prev=NOTHING))[0] == "amount_differs"
    assert (await asked.cancel(visit))[0] == "confirmed"
    assert "gateway_closed" in await judged(world, visit)


async def test_cancellations_without_end_leave_a_file_that_can_be_read_and_a_refund_that_can_be_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation_flow, "CANCELLATIONS_MAX", 5)
    visit = await world.visit()
    await visit.pay()
    asked = Canceller(world)
    for _ in range(5):
        assert (await asked.cancel(visit, 5, remaining=7))[0] == "remaining_differs"
    before = world.dump(leave_out=UNTOUCHED)
    assert (await asked.cancel(visit, 10))[0] == "used_up"
    assert world.dump(leave_out=UNTOUCHED) == before
    assert await asked.cancel(visit) == ("confirmed", PRICE, 0)
    assert (await asked.cancel(visit, 10, remaining=10))[0] == "used_up", "nothing is left"
    await judged(world, visit)


async def test_inquiries_without_end_are_answered_and_not_all_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "INQUIRIES_KEPT_MAX", 5)
    visit = await world.visit()
    await visit.pay()
    for number in range(8):
        head = signed.head(shop(world), world.gateway.urn, world.clock.now())
        inquiry = signed.sign(Inquiry(**head, tid=visit.redirect.tid, exp=world.clock.now() + 60), shop(world))
        before = world.dump()
        assert peek_typ(await answered(world, inquiry.compact)) == Status.TYP
        assert (world.dump() == before) is (number >= 5)
    assert visit.kinds().count("inquiry") == 5
    await judged(world, visit)


async def test_a_message_that_is_mostly_spaces_is_refused(world: World) -> None:
    """Every letter of it would stand in every evidence file of this order."""
    head = signed.head(shop(world), world.gateway.urn, world.clock.now())
    inquiry = Inquiry(**head, tid="T" * 22, exp=world.clock.now() + 60)

    def spelled(payload: bytes) -> str:
        header = signed.sign(inquiry, shop(world)).compact.split(".")[0]
        body = f"{header}.{ids.encode_base64url(payload)}"
        return f"{body}.{ids.encode_base64url(signatures.sign(shop(world).key, body.encode()))}"

    text = msgspec.json.encode(inquiry)
    await refused(world, spelled(text.replace(b",", b"," + b" " * 2_000)), "size")
    assert peek_typ(await answered(world, spelled(msgspec.json.format(text, indent=8)))) == Status.TYP, "as people like to write it"


async def test_sessions_without_end_leave_a_file_that_can_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_signature_flow, "SESSIONS_MAX", 2)
    purchase = await buying(world)
    grant = await purchase.visit.grant()
    for number in range(3):
        other = purchase.forged(purchase.purchase(grant), sid=ids.new_token())
        before = world.dump()
        said = await purchase.send(other)
        assert (said.authorization is None, said.refused) == ((False, "") if number < 2 else (True, "used_up"))
        assert (world.dump() == before) is (number == 2)
    await judged(world, purchase.visit)


async def test_a_merchant_that_renews_its_keys_every_day_has_a_file_of_each_payment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask once a day, for years; a bound made small stands for the years."""
    monkeypatch.setattr(bundle, "MESSAGES_MAX", 20)
    signer, _ = await enrolled_again(world)
    world.shop.signer.renew(signer.chain, signer.key)
    for _ in range(12):
        world.clock.advance(DAY_S)
        await world.tick()
        await renewed(world)
    visit = await world.visit()
    await visit.pay()
    world.clock.advance(60)
    await judged(world, visit)


def test_whatever_a_payment_may_have_fits_into_its_file() -> None:
    redirect = 2 + ATTEMPTS_MAX + len(("consent", "notice", "confirmation", "settled", "receipt"))
    pairs = routes.INQUIRIES_KEPT_MAX + CANCELLATIONS_MAX + 1 + dual_signature_flow.SESSIONS_MAX
    lists = 2 * (redirect + SECOND_ORDERS_KEPT_MAX + pairs + RECORDS_MAX)
    assert lists < KEYS_MAX, "each was kept in another hour, and each hour has two lists of the revoked"
    assert redirect + SECOND_ORDERS_KEPT_MAX + 2 * pairs < MESSAGES_MAX < FILE_MAX // signed.MESSAGE_MAX


# --- keys ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before its key", "behind its key"])
async def test_a_key_record_of_another_time_than_its_keys_is_refused(world: World, when: str) -> None:
    """Whoever follows the keys later verifies it as of when it says that it was signed: no file of this merchant's would pass again."""
    signer, first = await enrolled_again(world)
    not_before, not_after = certificates.validity(signer.chain[0])
    if when == "behind its key":
        world.clock.advance(not_after - world.clock.now())
    good = role.make_key_record(signer, world.gateway.urn, date=first.iat, at=world.clock.now())
    iat = not_before - 1 if when == "before its key" else not_after + 1
    await refused(world, signed.sign(msgspec.structs.replace(good.claims, iat=iat), signer).compact, "iat")
    edge = not_before if when == "before its key" else not_after
    taken = await answered(world, signed.sign(msgspec.structs.replace(good.claims, iat=edge), signer).compact)
    assert peek_typ(taken) == KeyRecordConfirmation.TYP
    if when == "before its key":
        visit = await world.visit()
        await visit.pay()
        world.clock.advance(60)
        await judged(world, visit)


async def test_key_records_without_end_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * RECORDS_MAX < MESSAGES_MAX
    monkeypatch.setattr(key_requests, "RECORDS_MAX", 2)
    signer, first = await enrolled_again(world)
    records = [role.make_key_record(signer, world.gateway.urn, date=first.iat, at=world.clock.now()).compact for _ in range(3)]
    for record in records[:2]:
        assert peek_typ(await answered(world, record)) == KeyRecordConfirmation.TYP
    await refused(world, records[2], "first_key")
    assert peek_typ(await answered(world, records[0])) == KeyRecordConfirmation.TYP, "the same bytes, the same answer"
    assert sum(row["typ"] == KeyRecord.TYP for row in world.rows("messages")) == 2


async def test_what_was_kept_before_a_revocation_that_waited_for_its_turn_is_good(world: World) -> None:
    """A revocation counts from when it stands in the book: what the book took before it, in whatever second, was signed before."""
    visit = await world.visit()
    await visit.pay()
    kid = shop(world).kid

    async def later() -> None:
        world.clock.advance(1)

    asked = Canceller(world)
    results = await asyncio.gather(asked.cancel(visit, 1_000), operations.revoke(world.gateway, kid=kid), later())
    assert results[0] == ("confirmed", 1_000, PRICE - 1_000)
    (revoked,) = [row["revoked_at"] for row in world.rows("certificates") if row["kid"] == kid]
    assert revoked == max(row["at"] for row in world.rows("messages") if row["typ"] == "hanbit-cancel") == world.clock.now()
    await judged(world, visit)


async def test_a_clock_that_is_set_back_while_a_message_waits_leaves_none_from_the_future(world: World) -> None:
    """Its time lies as far ahead as any may; a moment later it would have been refused."""
    visit = await world.visit()
    await visit.pay()
    world.clock.advance(3_600)
    head = signed.head(shop(world), world.gateway.urn, world.clock.now() + signed.FUTURE_TOLERANCE_S)
    inquiry = signed.sign(Inquiry(**head, tid=visit.redirect.tid, exp=world.clock.now() + 600), shop(world))
    waiting = asyncio.create_task(answered(world, inquiry.compact))
    await asyncio.sleep(0)
    world.clock.advance(-1_800)
    assert peek_typ(await waiting) == Status.TYP
    await world.prove()
    world.clock.advance(3_600)
    await judged(world, visit)


def own(world: World, signer: signed.Signer) -> list[str]:
    """What the book holds of this party."""
    return sorted(row["hash"] for row in world.rows("messages") if row["iss"] == signer.urn)


@pytest.mark.parametrize("what", ["inquiry", "second order", "acknowledgement"])
async def test_nothing_is_kept_behind_the_revocation_of_its_key(world: World, what: str) -> None:
    """It was verified before, and waited while the revocation went by."""
    visit = await world.visit()
    await visit.pay()
    signer, link = replace(shop(world)), world.shop
    row = world.gateway.reader.one("SELECT * FROM certificates WHERE kid = ?", signer.kid)
    assert row is not None
    head = signed.head(signer, world.gateway.urn, world.clock.now())
    inquiry = signed.sign(Inquiry(**head, tid=visit.redirect.tid, exp=world.clock.now() + 60), signer).compact
    acknowledgement = await link.to_shop(link.told[0])
    assert acknowledgement is not None
    order = make_order(signer, tid=visit.redirect.tid, amount="2200")
    with pytest.raises(NotOpened) as turned_away:
        world.offered(Redirect("shop", visit.redirect.tid, type(visit.redirect.money)(2_200, "KRW"), order))
    late: dict[str, Any] = {
        "inquiry": lambda: link.to_gateway(inquiry),
        "second order": lambda: redirect_flow.keep_second_order(world.gateway, turned_away.value),
        "acknowledgement": lambda: link.to_gateway(signed.sign(msgspec.convert(
            signed.peek_claims(acknowledgement) | {"jti": ids.new_token()}, Acknowledgement), signer).compact),
    }  # fmt: skip
    revoking = asyncio.create_task(operations.revoke(world.gateway, kid=signer.kid))
    await asyncio.sleep(0)
    kept = own(world, signer)
    sent = asyncio.create_task(late[what]())
    await asyncio.gather(revoking, sent)
    assert own(world, signer) == kept
    world.clock.advance(60)
    await judged(world, visit)


async def test_a_temporary_certificate_that_ends_while_the_factor_is_checked_buys_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop chooses how long it lives; the dual signature is verified for ever as of when the purchase was kept."""
    authority = await session_authority(world)
    monkeypatch.setattr(temporary, "TEMPORARY_LIFE_S", 60)
    purchase = await buying(world)
    monkeypatch.undo()
    grant = await purchase.visit.grant()
    frame = await purchase.frame(purchase.purchase(grant, method="password"))
    clock, checked = world.clock, factors.check

    async def slow(*args: Any) -> Any:
        found = await checked(*args)
        clock.advance(61)
        return found

    monkeypatch.setattr(factors, "check", slow)
    money = world.dump()["ledger_accounts"]
    said = await purchase.send(frame)
    assert said.authorization is not None
    assert (said.authorization.result, authority.chain[0] in purchase.session.signer.chain) == ("declined", True)
    assert isinstance(clock, ManualClock)
    assert world.dump()["ledger_accounts"] == money
    await judged(world, purchase.visit)


async def test_a_decline_that_comes_after_its_temporary_certificate_can_still_be_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "TEMPORARY_LIFE_S", 60)
    purchase = await buying(world)
    monkeypatch.undo()
    grant = await purchase.visit.grant()
    frame = await purchase.frame(purchase.purchase(grant, method="password", password="wrong"))
    checked = factors.check

    async def slow(*args: Any) -> Any:
        world.clock.advance(61)
        return await checked(*args)

    monkeypatch.setattr(factors, "check", slow)
    assert (await purchase.send(frame)).told == "declined"
    assert (purchase.result().state, purchase.result().reason) == ("declined", "wrong_factor")


# --- what a customer signs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["padding", "a line end", "sixteen bits a letter", "a padded challenge"])
async def test_a_passkeys_signature_that_no_stranger_could_read_approves_nothing(world: World, how: str) -> None:
    """The library forgives spellings that a reader of the evidence file does not: then the customer could deny what he has approved."""
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    core = visit.core()
    client = passkey._client

    def odd_client(kind: str, challenge: bytes) -> bytes:
        text = client(kind, challenge).decode()
        return text.encode("utf-16") if how == "sixteen bits a letter" else text.replace('", "origin', '=", "origin').encode()

    if how in ("sixteen bits a letter", "a padded challenge"):
        passkey._client = odd_client  # type: ignore[method-assign]  # another authenticator
    made = passkey.sign(sealed.consent_challenge(ids.digest(core.encode())))
    if how in ("padding", "a line end"):
        made["response"]["signature"] += "=" if how == "padding" else "\n"
    money = world.dump()["ledger_accounts"]
    await visit.submit(visit.seal(core, auth("passkey", msgspec.json.encode(made).decode())))
    assert (visit.stored.state, visit.stored.reason) == ("open", "wrong_factor")
    assert world.dump()["ledger_accounts"] == money
    await visit.pay()
    assert "customer_signed_device" in await judged(world, visit)


async def test_a_passkey_whose_name_no_index_takes_is_not_enrolled(world: World) -> None:
    """A standard's id has 1,023 bytes. PostgreSQL's index would turn away a longer one with its whole batch, and no file may have it."""
    who = await world.session(world.hong)
    challenge = passkeys.enrolment_challenge(world.gateway.keyring.server_key, who.session.token_hash)

    def enrolled(length: int) -> Put:
        made = Authenticator(id=bytes(length)).register(challenge)
        given: dict[str, Any] = {"customer": who.customer, "name": "phone", "site": factors.site(world.gateway)}
        return passkeys.enrol(made, challenge=challenge, at=world.clock.now(), **given)

    with pytest.raises(ProtocolViolation, match="larger than the standard allows"):
        enrolled(2_000)
    await world.gateway.book.commit(Change(puts=(enrolled(1_023),)))
    assert [len(row["id"]) for row in world.rows("devices") if row["kind"] == "passkey"] == [1_364]
    await world.prove()
