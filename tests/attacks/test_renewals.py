"""Renewals that nobody should get: replayed, misdirected, under keys that are good no more; and outcomes that outlive their keys."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key, thumbprint
from hanbit.evidence import store
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant.order import Order as ShopOrder
from hanbit.parties import enrolment
from hanbit.payments import operations, own_keys
from hanbit.payments.certificates import issue, recorded
from hanbit.protocols import keys as role
from hanbit.protocols import signed
from hanbit.protocols.continuity import verify_continuity
from hanbit.protocols.keys import Certificates, KeyRecord, KeyRequest, Renewal
from hanbit.protocols.redirect.messages import Settled
from hanbit.protocols.signed import PinnedTrust, Signer, decode_chain, head, peek_claims, peek_typ, sign
from tests.attacks.line_requests import DAY_S, UNTOUCHED, answered, merchant, refused
from tests.world import NOW, OPERATOR, World, lose_request


def asked(signer: Signer, world: World, **changes: Any) -> signed.SignedMessage[Renewal]:
    new = {purpose: new_key() for purpose in role.RENEWED_PURPOSES}
    good = role.make_renewal(signer, world.gateway.urn, new, at=world.clock.now())
    return good if not changes else sign(msgspec.structs.replace(good.claims, jti=ids.new_token(), **changes), signer)


async def renewed(world: World, name: str = "shop") -> Signer:
    """The merchant's keys replaced, as its shop would do it; the one that signed before."""
    signer = merchant(world, name)
    old = replace(signer)
    new = {purpose: new_key() for purpose in role.RENEWED_PURPOSES}
    renewal = role.make_renewal(signer, world.gateway.urn, new, at=world.clock.now())
    reply = await answered(world, renewal.compact, name)
    assert peek_typ(reply) == Certificates.TYP, peek_claims(reply)
    signer.renew(decode_chain(peek_claims(reply)["chains"][0]), new["merchant-sign"])
    return old


# --- renewal --------------------------------------------------------------------------------------------------------------------------


async def test_a_renewal_brings_both_certificates_and_the_record_stands_in_the_evidence(world: World) -> None:
    renewal = asked(merchant(world), world)
    reply = await answered(world, renewal.compact)
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    found = role.read_certificates(
        reply, trust=trust, root=world.parties.root, gateway=world.gateway.urn, owner=merchant(world).urn, at=world.clock.now()
    )
    assert [leaf.purpose for leaf in found.leaves] == ["merchant-sign", "line"]
    assert found.message.claims.req == renewal.hash
    record = recorded(world.gateway, found.leaves[0].kid)
    assert record == found.message.claims
    told = world.gateway.reader.one("SELECT merchant FROM outbox WHERE hash = ?", found.message.hash)
    assert told is not None
    assert told["merchant"] == "shop"


async def test_a_replayed_renewal_gets_the_stored_certificates_and_issues_nothing(world: World) -> None:
    renewal = asked(merchant(world), world)
    first = await answered(world, renewal.compact)
    world.clock.advance(40 * DAY_S)
    before = world.dump(leave_out=UNTOUCHED)
    assert await answered(world, renewal.compact) == first
    assert world.dump(leave_out=UNTOUCHED) == before


async def test_a_renewal_of_another_merchant_is_refused_on_this_ones_line(world: World) -> None:
    await refused(world, asked(merchant(world, "other"), world).compact, "sender")


async def test_a_renewal_that_names_another_key_than_its_own_is_refused(world: World) -> None:
    await refused(world, asked(merchant(world), world, replaces=merchant(world, "other").kid).compact, "replaces")


def _requests(change: Callable[[World, dict[str, bytes]], None]) -> Callable[[World], tuple[KeyRequest, ...]]:
    def make(world: World) -> tuple[KeyRequest, ...]:
        urn = merchant(world).urn
        made = {purpose: certificates.certificate_request(new_key(), urn, purpose) for purpose in role.RENEWED_PURPOSES}
        change(world, made)
        return tuple(KeyRequest(purpose=p, request=ids.encode_base64url(made[p])) for p in role.RENEWED_PURPOSES)

    return make


def _swap_signature(_: World, made: dict[str, bytes]) -> None:
    made["line"] = made["line"][:-8] + bytes(8)


def _anothers_key(world: World, made: dict[str, bytes]) -> None:
    """The public key of somebody else under a signature of one's own."""
    own, victim = new_key(), merchant(world, "other").key.public_key()
    request = certificates.certificate_request(own, merchant(world).urn, "merchant-sign")
    made["merchant-sign"] = request.replace(certificates._key_info(own.public_key()), certificates._key_info(victim))


def _another_purpose(world: World, made: dict[str, bytes]) -> None:
    made["line"] = certificates.certificate_request(new_key(), merchant(world).urn, "merchant-sign")


def _another_name(world: World, made: dict[str, bytes]) -> None:
    made["line"] = certificates.certificate_request(new_key(), merchant(world, "other").urn, "line")


def _no_name(_: World, made: dict[str, bytes]) -> None:
    made["line"] = certificates.certificate_request(new_key(), "", "line")


def _gateways_name(world: World, made: dict[str, bytes]) -> None:
    made["line"] = certificates.certificate_request(new_key(), world.gateway.urn, "line")


def _one_key_for_both(world: World, made: dict[str, bytes]) -> None:
    key = new_key()
    made |= {purpose: certificates.certificate_request(key, merchant(world).urn, purpose) for purpose in role.RENEWED_PURPOSES}


def _garbage(_: World, made: dict[str, bytes]) -> None:
    made["line"] = b"garbage"


@pytest.mark.parametrize(
    "change",
    [_swap_signature, _anothers_key, _another_purpose, _another_name, _no_name, _gateways_name, _one_key_for_both, _garbage],
)
async def test_a_request_that_does_not_prove_its_key_name_and_purpose_is_refused(
    world: World, change: Callable[[World, dict[str, bytes]], None]
) -> None:
    await refused(world, asked(merchant(world), world, requests=_requests(change)(world)).compact, "request")


async def test_a_key_that_was_certified_before_is_not_certified_again(world: World) -> None:
    def reuse(_: World, made: dict[str, bytes]) -> None:
        made["merchant-sign"] = certificates.certificate_request(merchant(world).key, merchant(world).urn, "merchant-sign")

    await refused(world, asked(merchant(world), world, requests=_requests(reuse)(world)).compact, "key_used")


async def test_a_second_renewal_waits_a_day_whoever_asks(world: World) -> None:
    old = await renewed(world)
    for signer in (merchant(world), old):
        await refused(world, asked(signer, world).compact, "renewal_pending")
    world.clock.advance(DAY_S)
    await renewed(world)


async def test_nothing_is_renewed_under_a_revoked_key(world: World) -> None:
    await operations.revoke(world.gateway, kid=merchant(world).kid)
    world.line.links["shop"].up = True
    world.clock.advance(1)
    await refused(world, asked(merchant(world), world).compact, "revoked")


async def test_nothing_is_renewed_under_an_expired_key(world: World) -> None:
    world.clock.advance(91 * DAY_S)
    await world.tick()
    await refused(world, asked(merchant(world), world).compact, "certificate_dates")


async def test_nothing_is_renewed_under_a_key_of_another_purpose_or_of_a_stranger(world: World) -> None:
    line = replace(world.parties.line_keys["shop"], purpose="merchant-sign")
    await refused(world, asked(line, world).compact, "purpose")
    key, urn = new_key(), merchant(world).urn
    leaf = certificates.make_leaf(
        world.parties.merchant_authority, urn=urn, purpose="merchant-sign", public=key.public_key(), at=NOW, lifetime_s=DAY_S
    )
    stranger = Signer(urn, "merchant-sign", certificates.kid(leaf), (leaf, *world.parties.merchant_authority.chain), key)
    await refused(world, asked(stranger, world).compact, "unknown_key")


async def test_an_order_under_the_old_key_is_still_paid(world: World) -> None:
    location = await world.order()
    await renewed(world)
    assert (await world.open(location).pay()).state == "captured"


# --- the record of the first key --------------------------------------------------------------------------------------------------------


async def enrolled_again(world: World) -> tuple[Signer, Certificates]:
    """A second enrolment by code, recorded as in life."""
    code = (await operations.enrol_code(world.gateway, merchant="shop"))["code"]
    at, keys = world.clock.now(), {purpose: new_key() for purpose in enrolment.MERCHANT_PURPOSES}
    found = enrolment.use_code(world.gateway.reader, code, "merchant", at)
    requests = {p: ids.encode_base64url(certificates.certificate_request(key, "", p)) for p, key in keys.items()}
    chains, rows = enrolment.issue_for_merchant(world.gateway.keyring, found, requests, at)
    made = issue(world.gateway, rows, how="code", at=at)
    await world.gateway.book.commit(made.change())
    chain = chains["merchant-sign"]
    return Signer(found.urn, "merchant-sign", certificates.kid(chain[0]), chain, keys["merchant-sign"]), made.message.claims


async def test_both_sides_sign_the_record_of_a_key_that_came_by_a_code(world: World) -> None:
    signer, first = await enrolled_again(world)
    record = role.make_key_record(signer, world.gateway.urn, date=first.iat, at=world.clock.now())
    reply = await answered(world, record.compact)
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    half = role.read_key_record_confirmation(reply, record.hash, record.claims, trust=trust, at=world.clock.now())
    assert half.claims.thumbprint == thumbprint(signer.key.public_key())
    assert await answered(world, record.compact) == reply


async def test_a_record_of_another_key_date_or_of_a_renewed_key_is_refused(world: World) -> None:
    signer, first = await enrolled_again(world)
    at = world.clock.now()
    await refused(world, role.make_key_record(signer, world.gateway.urn, date=first.iat + 1, at=at).compact, "date")
    other = KeyRecord(**head(signer, world.gateway.urn, at), thumbprint=thumbprint(new_key().public_key()), date=first.iat)
    await refused(world, sign(other, signer).compact, "thumbprint")
    await refused(world, role.make_key_record(merchant(world), world.gateway.urn, date=NOW, at=at).compact, "first_key")
    await renewed(world)
    await refused(world, role.make_key_record(merchant(world), world.gateway.urn, date=at, at=at).compact, "first_key")


# --- outcomes that outlive their keys -----------------------------------------------------------------------------------------------------


async def settled_but_never_heard(world: World) -> tuple[str, str, Signer]:
    """Paid on the last days of a key; the shop hears of it when that key has expired. Returns tid, the outcome's bytes, the old key."""
    visit = await world.visit()
    world.shop.tell_plan.append(lose_request)
    assert (await visit.pay()).state == "captured"
    bare, old = world.shop.told[-1], replace(world.gateway.signer)
    world.shop.up = False
    for _ in range(2):
        await world.tick(47 * DAY_S)
        await renewed_quietly(world)
    world.shop.up = True
    assert world.gateway.signer.kid != old.kid
    return visit.redirect.tid, bare, old


async def renewed_quietly(world: World) -> None:
    world.shop.up = True
    await renewed(world)
    world.shop.up = False


async def test_an_outcome_whose_key_expired_is_refused_bare_and_taken_from_the_gateways_fresh_answer(world: World) -> None:
    tid, bare, _ = await settled_but_never_heard(world)
    with pytest.raises(ProtocolViolation, match="certificate_dates"):
        await world.shop.shop.receive(bare)
    order = await world.shop.shop.order(tid)
    assert not order.may_deliver
    await world.shop.shop.inquire(tid)
    assert (await world.shop.shop.order(tid)).may_deliver


async def test_whoever_stole_an_expired_key_can_date_nothing_back(world: World) -> None:
    """He has the old private key and every message of the past, and writes today's settled message as of then."""
    _, bare, old = await settled_but_never_heard(world)
    victim = await world.visit(amount=990_000)
    world.shop.plan.append(lose_request)
    order: ShopOrder = await world.shop_order(victim)
    claims = peek_claims(bare) | {"jti": ids.new_token(), "tid": order.tid, "amount": order.amount.text, "order": order.order_hash}
    forged = sign(Settled(**claims), old)
    with pytest.raises(ProtocolViolation, match="certificate_dates"):
        await world.shop.shop.receive(forged.compact)
    assert not (await world.shop_order(victim)).may_deliver


async def test_a_revoked_key_speaks_only_through_one_that_is_good(world: World) -> None:
    """The shop knows of the revocation: the bare outcome is refused; in an answer to its own inquiry it is the gateway's word of today."""
    visit = await world.visit()
    world.shop.tell_plan.append(lose_request)
    await visit.pay()
    bare, tid = world.shop.told[-1], visit.redirect.tid
    revoked = certificates.serial_of(world.gateway.signer.chain[0])
    await operations.revoke(world.gateway, kid=world.gateway.signer.kid)
    world.clock.advance(1)
    shop = world.shop.shop
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn, revoked=lambda: frozenset({revoked}))
    shop._role = shop._inbox._role = replace(shop._role, trust=trust)
    with pytest.raises(ProtocolViolation, match="revoked"):
        await shop.receive(bare)
    await shop.inquire(tid)
    assert (await shop.order(tid)).may_deliver


async def test_a_key_of_the_gateways_own_that_is_revoked_is_replaced_once(world: World) -> None:
    """By the command and by the background at the same moment."""
    revoked = {world.gateway.signer.kid, world.gateway.keyring.line.kid}
    for kid in revoked:
        await asyncio.gather(
            operations.revoke(world.gateway, kid=kid), own_keys.renew_due(world.gateway), own_keys.renew_due(world.gateway)
        )
    assert not revoked & {world.gateway.signer.kid, world.gateway.keyring.line.kid}
    rows = world.gateway.reader.all("SELECT purpose FROM certificates WHERE urn = ? ORDER BY purpose", world.gateway.urn)
    assert [row["purpose"] for row in rows] == ["gateway-seal", "gateway-sign", "gateway-sign", "line", "line"]
    world.clock.advance(1)
    assert (await (await world.visit()).pay()).state == "captured"
    await world.restart()
    assert (await (await world.visit()).pay()).state == "captured"


async def test_a_revocation_is_in_a_new_list_at_once(world: World) -> None:
    await world.tick()
    before = len(world.shop.lists)
    serial = certificates.serial_of(merchant(world, "other").chain[0])
    await operations.revoke(world.gateway, kid=merchant(world, "other").kid)
    (new,) = world.shop.lists[before:]
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    authorities = {"merchant": merchant(world).chain[1]}
    listed = role.read_crl(new, trust=trust, gateway=world.gateway.urn, authorities=authorities, at=world.clock.now())
    assert serial in listed.content.serials


async def test_lists_are_made_hourly_with_growing_numbers_and_full_ones_still_fit(world: World) -> None:
    await world.tick()
    await world.tick(3599)
    assert len(world.shop.lists) == 2
    await world.tick(1)
    numbers = [peek_claims(compact)["number"] for compact in world.shop.lists if peek_claims(compact)["authority"] == "gateway"]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 2
    many = certificates.make_crl(world.gateway.keyring.merchant_authority, {(1 << 126) + n: NOW for n in range(400)}, NOW, 1)
    assert len(role.make_crl(world.gateway.signer, "merchant", 1, many, at=NOW).compact) <= signed.MESSAGE_MAX


# --- continuity, checked by a stranger ----------------------------------------------------------------------------------------------------


async def chain_of_keys(world: World) -> tuple[str, list[str]]:
    """Enrolled, recorded, renewed twice; the card's thumbprint and all messages about keys, as the gateway's book has them."""
    signer, first = await enrolled_again(world)
    await answered(world, role.make_key_record(signer, world.gateway.urn, date=first.iat, at=world.clock.now()).compact)
    card = thumbprint(signer.key.public_key())
    world.line.links["shop"].signer.renew(signer.chain, signer.key)
    for _ in range(2):
        world.clock.advance(DAY_S)
        await renewed(world)
    return card, about_keys(world)


def about_keys(world: World) -> list[str]:
    kinds = tuple(kind.TYP for kind in (role.KeyRecord, role.KeyRecordConfirmation, role.Renewal, role.Certificates))
    sql = "SELECT hash FROM messages WHERE merchant = 'shop' AND typ IN (?, ?, ?, ?)"
    found = [store.compact(world.gateway.reader, "shop", "", row["hash"]) for row in world.gateway.reader.all(sql, *kinds)]
    return [compact for compact in found if compact is not None]


async def test_the_key_in_use_hangs_on_the_card_by_renewals(world: World) -> None:
    card, messages = await chain_of_keys(world)
    shown = verify_continuity(reversed(messages), root=world.parties.root, merchant=merchant(world).urn, card=card, at=world.clock.now())
    assert shown.problems == ()
    assert [link.how for link in shown.links] == ["card", "renewal", "renewal"]
    assert [link.recorded for link in shown.links] == [True, False, False]
    assert shown.vouches(merchant(world).kid)
    assert shown.broken_at == ()
    without = verify_continuity(messages, root=world.parties.root, merchant=merchant(world).urn, card=None, at=world.clock.now())
    assert not any(link.continuous for link in without.links)


async def test_without_a_link_the_operator_alone_vouches(world: World) -> None:
    card, messages = await chain_of_keys(world)
    for missing in [m for m in messages if peek_typ(m) == Renewal.TYP]:
        shown = verify_continuity(
            [m for m in messages if m != missing], root=world.parties.root, merchant=merchant(world).urn, card=card, at=world.clock.now()
        )
        assert not shown.vouches(merchant(world).kid)
        assert any("renewal" in problem for problem in shown.problems)


async def test_the_operator_cannot_forge_a_link(world: World) -> None:
    """It issues a certificate for its own key and says that a true renewal asked for it, or that the stranger's key asked."""
    card, messages = await chain_of_keys(world)
    gateway, at = world.gateway, world.clock.now() + 1
    true = next(m for m in messages if peek_typ(m) == Renewal.TYP)
    key = new_key()
    chain = gateway.keyring.issue(urn=merchant(world).urn, purpose="merchant-sign", public=key.public_key(), at=at)
    forged = role.make_certificates(gateway.signer, merchant(world).urn, (chain,), how="renewal", at=at, req=ids.digest(true.encode()))
    forger = Signer(merchant(world).urn, "merchant-sign", certificates.kid(chain[0]), chain, key)
    new = {purpose: new_key() for purpose in role.RENEWED_PURPOSES}
    own = role.make_renewal(forger, gateway.urn, new, at=at + 1)
    chains = tuple(gateway.keyring.issue(urn=forger.urn, purpose=p, public=new[p].public_key(), at=at + 1) for p in role.RENEWED_PURPOSES)
    answer = role.make_certificates(gateway.signer, forger.urn, chains, how="renewal", at=at + 1, req=own.hash)
    shown = verify_continuity(
        [*messages, forged.compact, own.compact, answer.compact], root=world.parties.root, merchant=forger.urn, card=card, at=at + 1
    )
    assert shown.vouches(merchant(world).kid), "the true chain is not broken by it"
    assert not shown.vouches(forger.kid)
    assert not shown.vouches(certificates.kid(chains[0][0]))


async def test_any_changed_byte_is_a_problem_and_carries_nothing(world: World) -> None:
    card, messages = await chain_of_keys(world)
    for index, message in enumerate(messages):
        if peek_typ(message) not in (Renewal.TYP, Certificates.TYP):
            continue
        altered = [*messages]
        altered[index] = message[:-4] + ("AAAA" if message[-4:] != "AAAA" else "BBBB")
        shown = verify_continuity(altered, root=world.parties.root, merchant=merchant(world).urn, card=card, at=world.clock.now())
        assert shown.problems
        assert not shown.vouches(merchant(world).kid)


async def test_continuity_is_a_short_story_in_json(world: World) -> None:
    card, messages = await chain_of_keys(world)
    shown = verify_continuity(messages, root=world.parties.root, merchant=merchant(world).urn, card=card, at=world.clock.now())
    assert json.loads(msgspec.json.encode(shown.links))[0]["how"] == "card"
