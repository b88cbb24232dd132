"""Attacks on C1: whoever asks, whatever is altered, replayed or made up, nothing changes and what cannot be known stays unknown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates, signatures
from hanbit.crypto.keys import new_key
from hanbit.evidence import store as evidence
from hanbit.evidence.check import Stored, check
from hanbit.kernel import ids
from hanbit.payments import operations
from hanbit.payments import payment as payments
from hanbit.protocols import signed
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.fields import Message
from hanbit.protocols.signed import Signer, encode_der, peek_claims, peek_typ
from tests.flows.cancelling import Canceller
from tests.world import OPERATOR, PRICE, Visit, World, open_world


@pytest.fixture
def shop(world: World) -> Canceller:
    return Canceller(world)


async def paid(world: World) -> Visit:
    visit = await world.visit()
    assert (await visit.pay()).state == "captured"
    return visit


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "an_amount_of_nothing": ({"amount": "0"}, "amount"),
    "a_negative_amount": ({"amount": "-20000"}, "claims"),
    "an_amount_with_a_fraction": ({"amount": "1.5"}, "claims"),
    "an_amount_in_another_spelling": ({"amount": "020000"}, "claims"),
    "an_amount_that_is_no_text": ({"amount": 20000}, "claims"),
    "another_currency": ({"currency": "USD"}, "currency"),
    "a_currency_that_does_not_exist": ({"currency": "XXX"}, "currency"),
    "another_payment": ({"payment": "P" * 22}, "payment"),
    "no_payment": ({"payment": None}, "payment"),
    "a_link_to_nothing": ({"prev": "A" * 43}, "prev"),
    "for_somebody_else": ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
    "from_another_merchant": ({"iss": "urn:hanbit:bank:merchant:other"}, "sender"),
    "out_of_date": ({"iat": 1_800_000_000 - 90_000, "exp": 1_800_000_000 - 3_600}, "expired"),
    "good_for_longer_than_a_day": ({"exp": 1_800_000_000 + 90_000}, "exp"),
    "signed_tomorrow": ({"iat": 1_800_000_000 + 80_000, "exp": 1_800_000_000 + 90_000}, "iat"),
    "of_another_version": ({"v": 2}, "version"),
    "an_unknown_claim": ({"note": "x"}, "claims"),
    "a_reason_without_end": ({"reason": "x" * 201}, "claims"),
    "a_short_id": ({"cancellation": "C" * 21}, "claims"),
}


@pytest.mark.parametrize("attack", CHANGES)
async def test_a_request_that_says_something_wrong_changes_nothing(world: World, shop: Canceller, attack: str) -> None:
    visit = await paid(world)
    change, rule = CHANGES[attack]
    claims = msgspec.structs.asdict(shop.request(visit, 20_000).claims) | change
    before = world.dump()
    reply = await shop.send(sign_anything(claims, shop.signer))
    assert peek_claims(reply)["code"] == rule
    assert world.dump() == before


def sign_anything(claims: dict[str, Any], signer: Signer, typ: str = Cancel.TYP) -> str:
    """What no code of ours would sign."""
    header = {"alg": "ES256", "typ": typ, "kid": signer.kid, "x5c": [encode_der(der) for der in signer.chain]}
    said = {name: value for name, value in claims.items() if value is not None}
    body = ".".join(ids.encode_base64url(msgspec.json.encode(part)) for part in (header, said))
    return f"{body}.{ids.encode_base64url(signatures.sign(signer.key, body.encode()))}"


@pytest.mark.parametrize("typ", ["hanbit-confirmation", "hanbit-cancel-confirmation", "hanbit-refund"])
async def test_no_other_typ_cancels(world: World, shop: Canceller, typ: str) -> None:
    visit = await paid(world)
    claims = msgspec.structs.asdict(shop.request(visit, 20_000).claims)
    before = world.dump()
    assert peek_typ(await shop.send(sign_anything(claims, shop.signer, typ))) == "hanbit-refused"
    assert world.dump() == before


@pytest.mark.parametrize("lie", [219_999, 20_000, 999_999_999_999_999])
async def test_a_lie_about_what_is_left_gets_a_signed_no(world: World, shop: Canceller, lie: int) -> None:
    visit = await paid(world)
    assert await shop.cancel(visit, 20_000, remaining=lie) == ("remaining_differs", 0, PRICE)
    assert (visit.stored.refunded, world.available("merchant:shop:KRW")) == (0, PRICE)


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_altered_bytes_are_refused(world: World, shop: Canceller, part: int) -> None:
    visit = await paid(world)
    request, before = shop.request(visit, 20_000), world.dump()
    segments = request.compact.split(".")
    segments[part] = segments[part][:-3] + ("AAA" if not segments[part].endswith("AAA") else "BBB")
    assert peek_typ(await shop.send(".".join(segments))) == "hanbit-refused"
    assert world.dump() == before


async def test_another_merchants_payment_looks_like_none_and_stays_untouched(world: World, shop: Canceller) -> None:
    """A tid is its merchant's own: the other one closes an order of its own that never was, and learns nothing."""
    visit, unknown = await paid(world), "U" * 22
    other = Canceller(world, "other")
    theirs = shop.request(visit, PRICE).claims
    before = visit.stored
    answers = []
    for tid in (visit.redirect.tid, unknown):
        mine = msgspec.structs.replace(
            theirs, iss=other.signer.urn, tid=tid, payment=None, jti=ids.new_token(), cancellation=ids.new_token()
        )
        answer = await other.ask(signed.sign(mine, other.signer))
        assert not isinstance(answer, str)
        answers.append((answer.claims.TYP, answer.claims.refunded, answer.claims.remaining))
        with_payment = msgspec.structs.replace(mine, payment=before.id, jti=ids.new_token(), cancellation=ids.new_token())
        assert await other.ask(signed.sign(with_payment, other.signer)) == "payment"
    assert answers == [("hanbit-cancel-confirmation", "0", "0")] * 2
    assert visit.stored == before


@pytest.mark.parametrize("sender", ["other", "gateway", "stranger", "line"])
async def test_nobody_elses_signature_cancels(world: World, shop: Canceller, sender: str) -> None:
    visit = await paid(world)
    good = shop.request(visit, 20_000).claims
    signers = {
        "other": world.parties.merchants["other"],
        "gateway": world.gateway.signer,
        "stranger": _stranger(world),
        "line": world.parties.line_keys["shop"],
    }
    before = world.dump()
    reply = await shop.send(sign_anything(msgspec.structs.asdict(good), signers[sender]))
    assert peek_claims(reply)["code"] in {"sender", "purpose", "unknown_key"}
    assert world.dump() == before


def _stranger(world: World) -> Signer:
    """A certificate of the right authority for the right name, which nobody registered."""
    key, authority = new_key(), world.parties.merchant_authority
    urn = ids.urn(OPERATOR, "merchant", "shop")
    leaf = certificates.make_leaf(
        authority, urn=urn, purpose="merchant-sign", public=key.public_key(), at=world.clock.now(), lifetime_s=86_400
    )
    return Signer(urn=urn, purpose="merchant-sign", kid=certificates.kid(leaf), chain=(leaf, *authority.chain), key=key)


async def test_a_revoked_key_cancels_nothing(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    request = shop.request(visit, 20_000)
    await operations.revoke(world.gateway, kid=shop.signer.kid, reason="stolen")
    before = world.dump()
    assert await shop.ask(request) == "revoked"
    assert world.dump() == before


async def test_a_used_id_with_other_bytes_is_refused_and_kept_in_the_audit(world: World, shop: Canceller) -> None:
    visit, second = await paid(world), await paid(world)
    first = shop.request(visit, 20_000)
    await shop.ask(first)
    used = first.claims.cancellation
    before = world.dump()
    for again in (
        shop.request(visit, 20_000, cancellation=used),
        shop.request(visit, 30_000, cancellation=used),
        shop.request(second, 20_000, cancellation=used),
    ):
        assert await shop.ask(again) == "cancellation_reused"
    assert world.dump() == before
    kept = [row for row in world.rows("audit") if row["reason"] == "cancellation_reused"]
    assert {row["merchant"] for row in kept} == {"shop"}
    assert len(kept) == 3


async def test_a_used_message_number_with_other_bytes_is_refused(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    first = shop.request(visit, 20_000)
    await shop.ask(first)
    before = world.dump()
    assert await shop.ask(shop.request(visit, 20_000, jti=first.claims.jti)) == "jti"
    assert world.dump() == before


async def test_a_replay_of_an_old_request_is_its_old_answer_and_moves_nothing(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    request = shop.request(visit, 20_000)
    first = await shop.send(request.compact)
    before = world.dump(leave_out=())
    for _ in range(3):
        assert await shop.send(request.compact) == first
    assert world.dump(leave_out=()) == before


async def test_what_a_merchant_may_ask_is_bounded(tmp_path: Path) -> None:
    async with open_world(tmp_path, inquiries_per_minute="3") as world:
        shop = Canceller(world)
        visits = [await world.visit() for _ in range(5)]
        results = [(await shop.cancel(visit))[0] for visit in visits]
        assert results == ["confirmed"] * 3 + ["too_many"] * 2
        assert len(world.rows("payments")) == 3


# --- the evidence shows each forgery ----------------------------------------------------------------------------------------------------


async def kept(world: World, shop: Canceller) -> list[Stored]:
    visit = await paid(world)
    await shop.cancel(visit, 20_000)
    await shop.cancel(visit, 1, remaining=1)
    await shop.cancel(visit, 50_000)
    return list(evidence.share(world.gateway.reader, 0, 1))


def broken(world: World, stored: list[Stored]) -> list[str]:
    def first(merchant: str, tid: str) -> str | None:
        found = payments.find(world.gateway.reader, merchant, tid)
        return None if found is None else found.order_hash

    return check(stored, world.gateway.registry, first).broken


FORGERIES: dict[str, tuple[type[Message], dict[str, str]]] = {
    "an_answer_to_no_request": (CancelConfirmation, {"req": "A" * 43}),
    "another_sum": (CancelConfirmation, {"refunded": "20001"}),
    "another_rest": (CancelConfirmation, {"remaining": "200001"}),
    "another_amount_in_the_answer": (CancelConfirmation, {"amount": "19999"}),
    "another_cancellation_in_the_answer": (CancelConfirmation, {"cancellation": "Z" * 22}),
    "a_refusal_that_says_another_sum": (CancelRefusal, {"refunded": "0", "remaining": "220000"}),
    "a_request_that_continues_nothing": (Cancel, {"prev": "A" * 43}),
    "a_request_for_more": (Cancel, {"amount": "220000"}),
    "a_request_for_another_tid": (Cancel, {"tid": "T" * 22}),
}


@pytest.mark.parametrize("how", FORGERIES)
async def test_the_evidence_shows_each_forged_message_of_a_cancellation(world: World, shop: Canceller, how: str) -> None:
    """Signed anew by its own signer: only the chain can tell."""
    stored = await kept(world, shop)
    assert broken(world, stored) == []
    kind, change = FORGERIES[how]
    signer = shop.signer if kind is Cancel else world.gateway.signer
    at = next(i for i, item in enumerate(stored) if peek_typ(item.compact) == kind.TYP)
    claims = peek_claims(stored[at].compact) | change | {"jti": ids.new_token()}
    message = signed.sign(kind(**claims), signer)
    forged = Stored(stored[at].merchant, stored[at].tid, message.hash, message.compact, stored[at].at)
    assert broken(world, [*stored[:at], forged, *stored[at + 1 :]])


TAMPERED: dict[str, Callable[[list[Stored]], list[Stored]]] = {
    "an_answer_is_missing": lambda stored: [i for i in stored if peek_typ(i.compact) != CancelRefusal.TYP],
    "a_request_is_missing": lambda stored: [i for i in stored if peek_typ(i.compact) != Cancel.TYP],
    "a_confirmation_is_missing": lambda stored: [i for i in stored if peek_typ(i.compact) != CancelConfirmation.TYP],
    "the_order_of_two_refunds_is_turned": lambda stored: [*stored[:-6], *stored[-2:], *stored[-6:-2]],
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_the_evidence_shows_what_is_missing_or_moved(world: World, shop: Canceller, how: str) -> None:
    stored = [item for item in await kept(world, shop) if item.tid]
    assert broken(world, stored) == []
    assert broken(world, TAMPERED[how](stored))
