"""D6 and D7 at the gateway: whatever shop, customer or stranger bring that is not one honest purchase moves nothing.

What is not met before the factor looks the same from outside, is kept with its reason, and leaves grant, counters and payment alone.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.db.change import Change, Put
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments import factors, halt, operations, purchase_result
from hanbit.payments.states import ATTEMPTS_MAX, State
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature import gateway as gateway_role
from hanbit.protocols.dual_signature import temporary
from hanbit.protocols.dual_signature.messages import Dual
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.redirect.messages import Consent
from hanbit.protocols.signed import Signer, head, sign
from tests.purchases import Answered, Buying, buying, new_session_authority, open_session, send
from tests.world import NOW, OPERATOR, PRICE, World

OTHER = "B" * 43
"""A digest of nothing."""
UNTOUCHED = (
    "payments", "attempts", "grants", "throttles", "ledger_accounts", "entries", "postings", "outbox", "devices", "sessions", "openings",
)  # fmt: skip
Forge = Callable[[Buying, str], Awaitable[str]]
"""From a session and a live grant to D6's bytes."""
FORGERIES: dict[str, tuple[Forge, str]] = {}
"""Name → how it is made, and the rule that it breaks."""


def breaks(rule: str) -> Callable[[Forge], Forge]:
    """A forgery of the list."""

    def kept(forge: Forge) -> Forge:
        FORGERIES[forge.__name__] = (forge, rule)
        return forge

    return kept


def untouched(world: World) -> dict[str, list[Any]]:
    """Everything but the evidence of what was said."""
    everything = world.dump(())
    return {name: everything[name] for name in UNTOUCHED}


async def declined_uniformly(world: World, frame: str, rule: str, merchant: str = "shop") -> Answered:
    """Sent, declined without a word why, kept with the rule; nothing else has changed, and the answer stays."""
    before, observed = untouched(world), len(world.observed)
    answered = await send(world, merchant, frame)
    assert answered.told == "declined"
    assert answered.receipt == ""
    assert untouched(world) == before
    assert ("purchase", rule) in world.observed[observed:]
    assert [row["reason"] for row in world.rows("exchanges")][-1] == rule
    assert [row["reason"] for row in world.rows("audit") if row["act"] == "purchase"][-1] == rule
    assert (await send(world, merchant, frame)).frame == answered.frame
    return answered


async def refused(world: World, frame: str, code: str, merchant: str = "shop") -> None:
    """Sent and not taken: at most a row of the audit."""
    before = world.dump()
    assert (await send(world, merchant, frame)).told == f"refused {code}"
    assert world.dump() == before


# --- who was not asked for --------------------------------------------------------------------------------------------------------------


async def test_without_a_grant_nothing_is_opened_and_no_counter_moves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await buying(world)
    await session.visit.login()  # the order is in the book, its customer is logged in
    frame = await session.frame(session.purchase(ids.new_token(), method="password", password="0000"))

    def never(*_: Any) -> None:
        raise AssertionError("opened without a grant")

    monkeypatch.setattr(gateway_role, "open_envelope", never)
    await declined_uniformly(world, frame, "no_grant")


async def test_passwords_cannot_be_guessed_without_a_grant(world: World) -> None:
    session = await buying(world)
    await session.visit.login()
    for number in range(ATTEMPTS_MAX + 3):
        guess = await open_session(session.visit)
        await declined_uniformly(
            world, await guess.frame(guess.purchase(ids.new_token(), method="password", password=f"{number:04}")), "no_grant"
        )
    assert [row for row in world.rows("throttles") if row["factor"].startswith("account:")] == []
    assert (await (await open_session(session.visit)).buy(method="password")).told == "approved"


async def test_with_grants_five_guesses_close_the_order(world: World) -> None:
    session = await buying(world)
    for number in range(ATTEMPTS_MAX):
        guess = await open_session(session.visit)
        assert (await guess.buy(method="password", password=f"{number:04}")).told == "declined"
    assert session.visit.stored.state == State.CLOSED
    (count,) = [row for row in world.rows("throttles") if row["factor"].startswith("account:")]
    assert count["failures"] == ATTEMPTS_MAX
    other = await buying(world)
    assert (await other.buy(method="password")).told == "declined", "the factor waits"
    assert (other.result().reason, other.visit.stored.attempts) == ("factor_waits", 0)
    assert (await (await open_session(other.visit)).buy(method="device")).told == "approved", "another one does not"


async def test_an_order_that_no_customer_has_opened_is_not_opened_by_its_shop(world: World) -> None:
    session = await buying(world)
    await declined_uniformly(world, await session.frame(session.purchase(ids.new_token())), "unknown_order")
    assert session.visit.payment is None


async def test_a_grant_for_another_order_of_the_same_shop_is_none(world: World) -> None:
    session, other = await buying(world), await buying(world)
    grant = await other.visit.grant()
    await session.visit.grant()
    await declined_uniformly(world, await session.frame(session.purchase(grant)), "no_grant")


async def test_a_grant_is_good_for_one_attempt(world: World) -> None:
    session = await buying(world)
    grant = await session.visit.grant()
    assert (await session.buy(grant, account="emoney")).told == "declined"
    again = await open_session(session.visit)
    await declined_uniformly(world, await again.frame(again.purchase(grant)), "no_grant")
    await session.visit.grant()
    third = await open_session(session.visit)
    await declined_uniformly(world, await third.frame(third.purchase(grant)), "no_grant")


async def test_another_customers_grant_opens_nothing_of_ones_own(world: World) -> None:
    mine = await buying(world)
    theirs = world.open_redirect(mine.visit.redirect, world.kim)
    grant = await theirs.grant()
    answered = await mine.buy(grant)
    assert (answered.told, mine.visit.stored.reason) == ("declined", "wrong_factor"), "whoever has a grant of kim's tries as kim"
    assert [row["customer"] for row in world.rows("attempts")] == [world.kim.id]
    assert world.earned() == 0


async def test_whoever_has_ones_grant_still_needs_ones_factor(world: World) -> None:
    session = await buying(world)
    for method in ("device", "code"):
        again = await open_session(session.visit)
        oi = again.oi()
        core = again.core(await session.visit.grant(), oi=oi)
        assert (await again.send(await again.frame(again.sealed(oi, core, again.auth(core, method, by=world.kim))))).told == "declined"
        assert session.visit.stored.reason == "wrong_factor"
    assert world.earned() == 0


async def test_a_plain_order_is_no_purchase(world: World) -> None:
    session = await buying(world)
    grant = await session.visit.grant()
    frame = await session.frame(session.purchase(grant))
    row = next(row for row in world.rows("merchants") if row["id"] == "shop")
    await world.gateway.book.commit(Change(puts=(Put("merchants", row | {"orders": "plain"}, row["version"]),)))
    await declined_uniformly(world, frame, "merchant")


# --- what is not one purchase ------------------------------------------------------------------------------------------------------------


@breaks("amount")
async def raised_amount(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), amount=str(PRICE + 1))


@breaks("amount")
async def other_currency(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), currency="USD")


@breaks("unknown_order")
async def other_order(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), order=OTHER)


@breaks("amount")
async def approved_for_less(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, amount="1"))


@breaks("amount")
async def approved_for_more(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, amount=str(PRICE * 2)))


@breaks("merchant")
async def approved_for_another_shop(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, merchant=session.world.line.links["other"].signer.urn))


@breaks("gateway")
async def approved_for_another_gateway(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, gateway="urn:hanbit:bank2:gateway"))


@breaks("order")
async def approved_for_another_order(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, order=OTHER))


@breaks("tid")
async def approved_under_another_tid(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, tid="t" * 22))


@breaks("nm")
async def approved_with_an_old_nm(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, nm=OTHER))


@breaks("nc")
async def approved_with_another_nc(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, nc=OTHER))


@breaks("thumbprint")
async def approved_for_another_key(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, thumbprint=OTHER))


@breaks("oimd")
async def approved_beside_another_oi(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, oimd=OTHER))


@breaks("exp")
async def approved_for_longer(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, exp=session.facts.session.exp + 1))


@breaks("sealed")
async def approved_in_another_session(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant, sid="s" * 22))


@breaks("oimd")
async def altered_oi_digest(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), oimd=OTHER)


@breaks("pimd")
async def altered_pi_digest(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), pimd=OTHER)


@breaks("pomd")
async def halves_that_do_not_belong_together(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), pomd=OTHER))


@breaks("pimd")
async def swapped_pi(session: Buying, grant: str) -> str:
    """The envelope of another purchase in this very session, beside the dual signature over the first."""
    return session.forged(session.purchase(grant), envelope=session.purchase(grant, account="card").envelope)


@breaks("sealed")
async def pi_of_another_session(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), envelope=(await open_session(session.visit)).purchase(grant).envelope)


@breaks("sealed")
async def no_envelope(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant)).partition("\n")[0]


@breaks("sealed")
async def another_envelope_than_the_request_names(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), envelope_hash=OTHER)


@breaks("sealed")
async def sealed_to_a_key_that_is_gone(session: Buying, grant: str) -> str:
    key, plain = new_key(), {"core": "{}", "auth": "{}"}
    return session.forged(session.purchase(grant), envelope=sealed.seal_purchase(key.public_key(), OTHER, sid=session.sid, plain=plain))


@breaks("sealed")
async def sealed_for_nothing(session: Buying, grant: str) -> str:
    seal = session.world.gateway.keyring.seal
    plain = {"core": "{}", "auth": "{}"}
    envelope = sealed.seal_purchase(seal.private.public_key(), seal.kid, sid=session.sid, plain=plain)
    return session.forged(session.purchase(grant), envelope=envelope)


@breaks("temporary")
async def dual_of_another_session(session: Buying, grant: str) -> str:
    other = (await open_session(session.visit)).purchase(grant)
    return session.forged(msgspec.structs.replace(session.purchase(grant), dual=other.dual, pimd=other.pimd))


@breaks("temporary")
async def dual_of_another_shops_customer(session: Buying, grant: str) -> str:
    other = await buying(session.world, merchant="other")
    taken = other.purchase(await other.visit.grant())
    return session.forged(msgspec.structs.replace(session.purchase(grant), dual=taken.dual, pimd=taken.pimd))


@breaks("prev")
async def dual_beside_the_one_that_is_named(session: Buying, grant: str) -> str:
    return session.forged(session.purchase(grant), prev=OTHER)


@breaks("aud")
async def dual_addressed_to_the_shop(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), aud=session.merchant.signer.urn))


@breaks("gateway")
async def dual_for_another_gateway(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), gateway="urn:hanbit:bank2:gateway"))


@breaks("sid")
async def dual_that_names_another_session(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), sid="s" * 22))


@breaks("merchant")
async def dual_that_names_another_shop(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), merchant=session.world.line.links["other"].signer.urn))


@breaks("tid")
async def dual_that_names_another_tid(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), tid="t" * 22))


@breaks("order")
async def dual_that_names_another_order(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), order=OTHER))


@breaks("nm")
async def dual_with_an_old_nm(session: Buying, grant: str) -> str:
    return session.forged(session.with_dual(session.purchase(grant), nm=OTHER))


@breaks("temporary")
async def certified_by_another_shop(session: Buying, grant: str) -> str:
    """The other shop certifies the same key under the same session's number."""
    return certified(session, grant, await new_session_authority(session.world, "other"), "other")


@breaks("certificate_issuer")
async def certified_in_this_shops_name_by_another(session: Buying, grant: str) -> str:
    other = await new_session_authority(session.world, "other")
    leaf = forged_leaf(session, other)
    return certified_as(session, grant, (leaf, *other.chain))


@breaks("unknown_key")
async def certified_by_an_authority_that_is_not_registered(session: Buying, grant: str) -> str:
    """Made with the operator's key, unknown to the book."""
    key, above = new_key(), session.world.parties.merchant_authority
    der = certificates.make_authority(above, OPERATOR, "session:shop", key.public_key(), 0, NOW)
    return certified(session, grant, Authority.below_root(key, (der, *above.chain)), "shop")


@breaks("temporary")
async def signed_by_the_shop_itself(session: Buying, grant: str) -> str:
    """No temporary key at all: the shop puts its own signature under what its customer should have signed."""
    signer = session.merchant.signer
    claims = msgspec.convert(signed.peek_claims(session.purchase(grant).dual), Dual)
    lying = Signer(urn=signer.urn, purpose="temporary", kid=signer.kid, chain=signer.chain, key=signer.key)
    dual = sign(msgspec.structs.replace(claims, iss=signer.urn), lying).compact
    return session.forged(msgspec.structs.replace(session.purchase(grant), dual=dual, pimd=claims.pimd))


def certified(session: Buying, grant: str, authority: Authority, merchant: str) -> str:
    """The very key, certified once more by this authority."""
    urn, public = session.world.line.links[merchant].signer.urn, session.session.signer.key.public_key()
    return certified_as(
        session, grant, temporary.issue(authority, merchant=urn, sid=session.sid, public=public, at=session.world.clock.now())
    )


def certified_as(session: Buying, grant: str, chain: tuple[bytes, ...]) -> str:
    own = session.session.signer
    signer = Signer(urn=own.urn, purpose="temporary", kid=certificates.kid(chain[0]), chain=chain, key=own.key)
    return session.forged(session.with_dual(session.purchase(grant), signer=signer))


def forged_leaf(session: Buying, authority: Authority) -> bytes:
    """A certificate for this shop's session under the other shop's authority, which our own programs refuse to write."""
    content = profile.Content(
        urn=profile.Urn.read(session.session.signer.urn),
        purpose="temporary",
        public=session.session.signer.key.public_key(),
        serial=1 << 126,
        not_before=NOW - 120,
        not_after=NOW + 600,
    )
    return certificates._issue(content, authority.content, authority.key)


@pytest.mark.parametrize("name", list(FORGERIES))
async def test_what_is_not_one_honest_purchase_looks_like_no_grant_and_moves_nothing(world: World, name: str) -> None:
    forge, rule = FORGERIES[name]
    session = await buying(world)
    grant = await session.visit.grant()
    await declined_uniformly(world, await forge(session, grant), rule)
    assert session.result().reason == "declined"
    again = await open_session(session.visit)
    assert (await again.buy(grant)).told == "approved", "the grant was not used up"
    assert world.earned() == PRICE


def with_auth(session: Buying, grant: str, method: str, value: str) -> str:
    """An authenticator of any method."""
    oi = session.oi()
    core = session.core(grant, oi=oi)
    auth = msgspec.json.encode({"method": method, "value": value, "salt": OTHER}).decode()
    return session.forged(session.sealed(oi, core, auth))


@pytest.mark.parametrize("method", ["", "\0", "password\0", "password\n", "x" * 21, "비밀번호"])
async def test_a_method_that_is_no_word_is_no_payment_information(world: World, method: str) -> None:
    """What the book could not hold on one engine would be asked again and again on it; no factor is tried for it on any."""
    session = await buying(world)
    await declined_uniformly(world, with_auth(session, await session.visit.grant(), method, "2580"), "sealed")


@pytest.mark.parametrize("account", ["", "\0", "account\n", "x" * 65, "' OR 1"])
async def test_what_names_no_account_is_no_payment_information(world: World, account: str) -> None:
    session = await buying(world)
    oi = session.oi()
    core = json.dumps(json.loads(session.core(await session.visit.grant(), oi=oi)) | {"account": account}, separators=(",", ":"))
    purchase = session.sealed(oi, core, redirect.auth_password("2580"))
    await declined_uniformly(world, session.forged(purchase), "sealed")


@pytest.mark.parametrize("typ", ["a\0b", "hanbit-order\n", "x" * 65, "주문"])
async def test_a_kind_of_message_that_is_no_word_is_refused_and_stands_nowhere(world: World, typ: str) -> None:
    header = {"alg": "ES256", "typ": typ, "kid": OTHER}
    spoiled = f"{ids.encode_base64url(json.dumps(header).encode())}.{ids.encode_base64url(b'{}')}.{'A' * 86}"
    await refused(world, spoiled, "header")
    assert {row["act"] for row in world.rows("audit") if row["act"].startswith("sent")} <= {"sent "}


# --- the request itself ------------------------------------------------------------------------------------------------------------------


async def test_a_session_has_one_request_for_ever(world: World) -> None:
    session = await buying(world)
    first = await session.buy(account="emoney")
    second = await session.frame(session.purchase(await session.visit.grant()))
    await refused(world, second, "sid_reused")
    assert first.told == "declined"
    paid = await buying(world)
    await paid.buy()
    await refused(world, await paid.frame(paid.purchase(ids.new_token())), "sid_reused")
    assert world.earned() == PRICE


async def test_a_session_that_was_declined_without_a_grant_is_used_up_too(world: World) -> None:
    session = await buying(world)
    await declined_uniformly(world, await session.frame(session.purchase(ids.new_token())), "unknown_order")
    await refused(world, await session.frame(session.purchase(await session.visit.grant())), "sid_reused")


async def test_a_request_that_could_not_be_kept_tries_no_factor(world: World) -> None:
    """A shop that numbers two requests alike would have its customer's mistyped password tried until it waits, and no attempt counted."""
    first = await buying(world)
    frame = await first.frame(first.purchase(await first.visit.grant(), method="password", password="0000"))
    assert (await first.send(frame)).told == "declined"
    number = signed.peek_claims(frame.partition("\n")[0])["jti"]
    again = await open_session(first.visit)
    grant = await again.visit.grant()
    purchase = again.purchase(grant, method="password", password="0000")
    for _ in range(2):
        await refused(world, again.forged(purchase, jti=number), "jti")
    assert (await again.send(await again.frame(again.purchase(grant)))).told == "approved", "no factor waits, the grant is there"


async def test_two_requests_of_one_number_at_once_are_one_attempt(world: World) -> None:
    sessions = [first := await buying(world), await open_session(first.visit)]
    frames = []
    for session in sessions:
        purchase = session.purchase(await session.visit.grant(), method="password", password="0000")
        frames.append(session.forged(purchase, jti="j" * 22))
    answers = await asyncio.gather(*(session.send(frame) for session, frame in zip(sessions, frames, strict=True)))
    assert [answer.told for answer in answers] == ["declined", "refused in_progress"]
    await refused(world, frames[1], "jti")
    (count,) = [row for row in world.rows("throttles") if row["factor"].startswith("account:")]
    assert (count["failures"], first.visit.stored.attempts) == (1, 1)


async def test_another_shop_cannot_send_it(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await refused(world, frame, "sender", merchant="other")
    assert (await session.send(frame)).told == "approved"
    await refused(world, frame, "sender", merchant="other")


async def test_another_shop_takes_nothing_with_its_own_request(world: World) -> None:
    """The customer's purchase at one shop, in the other's own request, over the other's own line."""
    session, other = await buying(world), await buying(world, merchant="other")
    taken = session.purchase(await session.visit.grant())
    await other.visit.grant()
    await declined_uniformly(world, other.forged(taken, sid=session.sid), "no_grant", merchant="other")
    assert world.earned("other") == 0
    assert (await session.send(await session.frame(taken))).told == "approved"


async def test_a_session_is_each_shops_own(world: World) -> None:
    """That another shop has used the same number up says nothing here."""
    session, other = await buying(world), await buying(world, merchant="other")
    frame = await session.frame(session.purchase(await session.visit.grant()))
    assert (await send(world, "other", other.forged(session.purchase(ids.new_token()), sid=session.sid))).told == "declined"
    assert (await session.send(frame)).told == "approved"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda frame: frame + "\n", "shape"),
        (lambda frame: frame + "\nx", "shape"),
        (lambda frame: frame.replace(".", "", 1), "shape"),
        (lambda frame: "A" * 50_000 + frame, "size"),
        (lambda frame: frame[: frame.index("\n") - 2] + "AA" + frame[frame.index("\n") :], "signature"),
        (lambda frame: frame.partition("\n")[2] + "\n" + frame.partition("\n")[0], "shape"),
    ],
)
async def test_what_is_no_request_of_this_shop_is_refused(world: World, spoil: Callable[[str], str], code: str) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await refused(world, spoil(frame), code)
    assert (await session.send(frame)).told == "approved"


async def test_a_revoked_shop_key_asks_for_nothing(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await operations.revoke(world.gateway, kid=world.shop.signer.kid, reason="stolen")
    await refused(world, frame, "revoked")


async def test_a_revoked_session_authority_certifies_nothing_more_and_a_new_one_does(world: World) -> None:
    session = await buying(world)
    grant = await session.visit.grant()
    frame = await session.frame(session.purchase(grant))
    authority = world.authorities.pop("shop")
    await operations.revoke(world.gateway, kid=certificates.kid(authority.chain[0]), reason="stolen")
    await declined_uniformly(world, frame, "revoked")
    again = await open_session(session.visit)
    assert (await again.buy(grant)).told == "approved"


async def test_an_authority_revoked_while_the_customer_approves_is_too_late_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    checked = factors.check

    async def revoked_meanwhile(*given: Any) -> Any:
        await operations.revoke(world.gateway, kid=certificates.kid(world.authorities["shop"].chain[0]))
        return await checked(*given)

    monkeypatch.setattr(factors, "check", revoked_meanwhile)
    assert (await session.send(frame)).told == "declined"
    assert [row["reason"] for row in world.rows("exchanges")] == ["revoked"]
    assert (world.earned(), session.visit.stored.state) == (0, State.OPEN)


async def test_a_shop_beyond_its_allowance_leaves_nothing_behind(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(ids.new_token()))
    while world.gateway.allowances.spend("shop", "unasked", world.gateway.settings.inquiries_per_minute):
        pass
    await refused(world, frame, "too_many")
    paying = await buying(world)
    assert (await paying.buy()).told == "approved", "what a customer asked for is never too much"


# --- times, switches, factors ------------------------------------------------------------------------------------------------------------


async def test_a_session_past_its_end_buys_nothing_and_one_at_its_end_does(world: World) -> None:
    late, just = await buying(world), await buying(world)
    frames = [await session.frame(session.purchase(await session.visit.grant())) for session in (late, just)]
    world.clock.advance(just.facts.session.exp - world.clock.now())
    assert (await just.send(frames[1])).told == "approved"
    world.clock.advance(1)
    await declined_uniformly(world, frames[0], "expired")


async def test_a_halted_gateway_takes_no_purchase_and_the_same_bytes_later(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await halt.halt(world.gateway, "test", {"reason": "test"})
    before = world.dump(())
    assert (await session.send(frame)).told == "refused payments_halted"
    assert world.dump(()) == before
    await halt.resume_payments(world.gateway, reason="looked at")
    assert (await session.send(frame)).told == "approved"


async def test_a_gateway_halted_while_the_customer_approves_holds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    checked = factors.check

    async def halted_meanwhile(*given: Any) -> Any:
        await halt.halt(world.gateway, "test", {"reason": "test"})
        return await checked(*given)

    with monkeypatch.context() as patched:
        patched.setattr(factors, "check", halted_meanwhile)
        assert (await session.send(frame)).told == "refused payments_halted"
    assert (session.visit.stored.attempts, world.earned(), world.rows("exchanges")) == (0, 0, [])
    await halt.resume_payments(world.gateway, reason="looked at")
    assert (await session.send(frame)).told == "approved"


async def test_a_suspended_shop_is_paid_nothing(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await world.suspend("merchant", "shop")
    await declined_uniformly(world, frame, "merchant")


async def test_a_suspended_customer_is_told_only_after_the_right_factor(world: World) -> None:
    session = await buying(world)
    grants = [await session.visit.grant(), await session.visit.grant()]
    await world.suspend("customer", "hong")
    assert (await session.buy(grants[0], method="password", password="0000")).told == "declined"
    assert session.result().reason == "wrong_factor"
    again = await open_session(session.visit)
    assert (await again.buy(grants[1])).told == "declined"
    assert again.result().reason == "customer_suspended"


async def test_a_device_key_that_was_taken_away_approves_nothing(world: World) -> None:
    session = await buying(world)
    grant = await session.visit.grant()
    await world.remove_device("device")
    assert (await session.buy(grant)).told == "declined"
    assert session.visit.stored.reason == "wrong_factor"


def consent(session: Buying, core: str, *, aud: str | None = None, jti: str | None = None, order: str | None = None) -> str:
    """The customer's device signs for somebody else, twice under one number, or another order."""
    person, at = session.visit.person, session.world.clock.now()
    common = head(person.device, aud or session.world.gateway.urn, at) | ({"jti": jti} if jti else {})
    claims = Consent(**common, core=ids.digest(core.encode()), order=order or session.visit.opening.order_hash)
    value = sign(claims, person.device).compact
    return msgspec.json.encode({"method": "device", "value": value, "salt": OTHER}).decode()


@pytest.mark.parametrize("change", [{"aud": f"urn:hanbit:{OPERATOR}:merchant:shop"}, {"aud": "urn:hanbit:bank2:gateway"}, {"order": OTHER}])
async def test_a_device_that_signed_for_somebody_else_approves_nothing(world: World, change: dict[str, str]) -> None:
    session = await buying(world)
    oi = session.oi()
    core = session.core(await session.visit.grant(), oi=oi)
    answered = await session.send(await session.frame(session.sealed(oi, core, consent(session, core, **change))))
    assert (answered.told, session.visit.stored.reason, world.earned()) == ("declined", "wrong_factor", 0)


async def test_a_consent_under_a_number_that_was_used_is_declined_and_the_shop_has_its_answer(world: World) -> None:
    number = ids.new_token()
    for expected in ("approved", "declined"):
        session = await buying(world)
        oi = session.oi()
        core = session.core(await session.visit.grant(), oi=oi)
        answered = await session.send(await session.frame(session.sealed(oi, core, consent(session, core, jti=number))))
        assert answered.told == expected
    assert world.earned() == PRICE


@pytest.mark.parametrize("method", ["device", "code"])
async def test_an_approval_is_good_in_its_own_session_only(world: World, method: str) -> None:
    first = await buying(world)
    grant = await first.visit.grant()
    taken = first.auth(first.core(grant, oi=first.oi()), method)
    second = await open_session(first.visit)
    oi = second.oi()
    answered = await second.send(await second.frame(second.sealed(oi, second.core(grant, oi=oi), taken)))
    assert (answered.told, first.visit.stored.reason, world.earned()) == ("declined", "wrong_factor", 0)


# --- D8 ----------------------------------------------------------------------------------------------------------------------------------


async def test_a_shop_that_certifies_a_key_of_its_own_learns_no_reason_and_no_receipt(world: World) -> None:
    for account, state in (("emoney", "declined"), ("bank", "approved")):
        session = await buying(world)
        await session.buy(account=account)
        key, at = new_key(), world.clock.now()
        chain = temporary.issue(
            world.authorities["shop"], merchant=session.merchant.signer.urn, sid=session.sid, public=key.public_key(), at=at
        )
        signer = Signer(session.session.signer.urn, "temporary", certificates.kid(chain[0]), chain, key)
        shops = role.OpenSession(session.session.opening, session.session.session, signer)
        request = role.make_result_request(shops, at=at)
        answer = purchase_result.result(world.gateway, request.compact)
        told = role.verify_result(answer, request, shops, pin=world.pin, at=at).claims
        assert (told.state, told.receipt) == (state, None)
        assert told.reason == ("declined" if state == "declined" else None)
        assert (session.result().reason, session.result().receipt is not None) == (
            "no_funds" if state == "declined" else None,
            state == "approved",
        )


async def test_nobody_asks_for_another_session_for_ever_or_under_another_key(world: World) -> None:
    mine, other = await buying(world), await buying(world)
    await mine.buy()
    at, signer = world.clock.now(), other.session.signer
    lying = Signer(mine.session.signer.urn, "temporary", signer.kid, signer.chain, signer.key)
    asked = role.make_result_request(other.session, at=at).claims
    before = world.dump(())
    for claims, by, rule in (
        (msgspec.structs.replace(asked, sid=mine.sid), signer, "sid"),
        (msgspec.structs.replace(asked, iss=lying.urn), lying, "temporary"),
        (msgspec.structs.replace(asked, aud=mine.merchant.signer.urn), signer, "aud"),
        (msgspec.structs.replace(asked, exp=at + 3600), signer, "expired"),
        (msgspec.structs.replace(asked, exp=at - 1), signer, "expired"),
    ):  # fmt: skip
        with pytest.raises(ProtocolViolation) as told:
            purchase_result.result(world.gateway, sign(claims, by).compact)
        assert told.value.rule == rule
    for compact in (mine.purchase(ids.new_token()).dual, world.shop.signer.kid, "", "a.b.c"):
        with pytest.raises(ProtocolViolation):
            purchase_result.result(world.gateway, compact)
    assert world.dump(()) == before


async def test_the_customer_may_ask_long_after_his_certificate_has_ended(world: World) -> None:
    session = await buying(world)
    await session.buy()
    world.clock.advance(3600)
    assert session.result().receipt is not None
