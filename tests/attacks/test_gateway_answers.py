"""A merchant (or whoever holds his line) attacks the gateway: no answer but his own to this very notice moves money."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates, signatures
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.payments import operations
from hanbit.protocols import signed
from hanbit.protocols.fields import Message
from hanbit.protocols.line import Acknowledgement, HelloFromMerchant
from hanbit.protocols.redirect.messages import Confirmation, Inquiry, Notice, Order, Refusal, Settled, Voided, Words
from hanbit.protocols.signed import Signer, peek_claims
from tests.world import NOW, OPERATOR, Visit, World, answer_with, lose_answer, lose_request

WORDS = Words(ko="아니오", en="no")
GATEWAY = ids.urn(OPERATOR, "gateway")


@pytest.fixture
async def held(world: World) -> Visit:
    """A payment whose notice the shop has not answered yet."""
    visit = await world.visit()
    world.shop.plan.append(lose_request)
    assert (await visit.pay()).state == "authorized"
    return visit


def notice_of(visit: Visit) -> str:
    return next(asked for asked in visit.world.shop.asked if peek_claims(asked)["tid"] == visit.redirect.tid)


def claims_of(visit: Visit, signer: Signer, **changes: Any) -> dict[str, Any]:
    """What an honest answer says."""
    asked = peek_claims(notice_of(visit))
    names = ("payment", "tid", "amount", "currency", "order")
    head = signed.head(signer, GATEWAY, visit.world.clock.now())
    return head | {name: asked[name] for name in names} | {"req": ids.digest(notice_of(visit).encode())} | changes


def confirmation(visit: Visit, signer: Signer | None = None, **changes: Any) -> str:
    signer = signer or visit.world.parties.merchants["shop"]
    return signed.sign(Confirmation(**claims_of(visit, signer, **changes)), signer).compact


def forged(signer: Signer, urn: str, purpose: str = "merchant-sign") -> Signer:
    """The same key and certificate under a claim to be somebody else."""
    return Signer(urn=urn, purpose=purpose, kid=signer.kid, chain=signer.chain, key=signer.key)


def fresh(authority: Authority, urn: str, purpose: str, *, at: int = NOW, lifetime_s: int = 90 * 86_400) -> Signer:
    """A key with a certificate of this authority that nobody registered."""
    key = new_key()
    leaf = certificates.make_leaf(authority, urn=urn, purpose=purpose, public=key.public_key(), at=at, lifetime_s=lifetime_s)
    return Signer(urn=urn, purpose=purpose, kid=certificates.kid(leaf), chain=(leaf, *authority.chain), key=key)


def altered(message: str, **changes: Any) -> str:
    """The payload changed under the old signature."""
    header, payload, signature = message.split(".")
    text = ids.decode_base64url(payload).decode()
    for name, value in changes.items():
        before = peek_claims(message)[name]
        text = text.replace(f'"{name}":"{before}"', f'"{name}":"{value}"')
    return f"{header}.{ids.encode_base64url(text.encode())}.{signature}"


def with_header(message: str, **changes: Any) -> str:
    """Another protected header before the same payload and signature."""
    header, rest = message.split(".", 1)
    members = msgspec.json.decode(ids.decode_base64url(header)) | changes
    return f"{ids.encode_base64url(msgspec.json.encode({k: v for k, v in members.items() if v is not None}))}.{rest}"


def other_operator(visit: Visit) -> str:
    """The same names under another root."""
    key = new_key()
    root = certificates.make_root(OPERATOR, key, NOW)
    top = Authority.of_root(key, root)
    below = new_key()
    authority = Authority.below_root(below, [certificates.make_authority(top, OPERATOR, "merchant", below.public_key(), 1, NOW)])
    return confirmation(visit, fresh(authority, ids.urn(OPERATOR, "merchant", "shop"), "merchant-sign"))


def shop_of(visit: Visit) -> Signer:
    return visit.world.parties.merchants["shop"]


def other_of(visit: Visit) -> Signer:
    return visit.world.parties.merchants["other"]


ATTACKS: dict[str, tuple[Callable[[Visit], str], str]] = {
    "amount_altered_under_the_signature": (lambda v: altered(confirmation(v), amount="1000"), "signature"),
    "payment_altered_under_the_signature": (lambda v: altered(confirmation(v), payment="A" * 22), "signature"),
    "signature_cut_off": (lambda v: confirmation(v).rpartition(".")[0] + ".", "signature"),
    "signature_of_zeros": (lambda v: confirmation(v).rpartition(".")[0] + "." + "A" * 86, "signature"),
    "alg_none": (lambda v: with_header(confirmation(v), alg="none"), "header"),
    "alg_hs256": (lambda v: with_header(confirmation(v), alg="HS256"), "header"),
    "crit": (lambda v: with_header(confirmation(v), crit=["exp"]), "header"),
    "jwk_in_the_header": (lambda v: with_header(confirmation(v), jwk={"kty": "EC"}), "header"),
    "jku_in_the_header": (lambda v: with_header(confirmation(v), jku="https://evil.example"), "header"),
    "no_certificate": (lambda v: with_header(confirmation(v), x5c=None), "header"),
    "signed_by_another_merchant": (lambda v: confirmation(v, other_of(v)), "sender"),
    "signed_by_another_merchant_in_my_name": (lambda v: confirmation(v, forged(other_of(v), shop_of(v).urn)), "sender"),
    "kid_of_the_shop_on_a_foreign_signature": (
        lambda v: with_header(confirmation(v, forged(other_of(v), shop_of(v).urn)), kid=shop_of(v).kid),
        "unknown_key",
    ),
    "signed_by_the_line_key": (
        lambda v: confirmation(v, forged(v.world.parties.line_keys["shop"], shop_of(v).urn)),
        "purpose",
    ),
    "signed_by_a_customer": (lambda v: confirmation(v, forged(v.person.device, shop_of(v).urn)), "purpose"),
    "key_never_registered": (
        lambda v: confirmation(v, fresh(v.world.parties.merchant_authority, shop_of(v).urn, "merchant-sign")),
        "unknown_key",
    ),
    "another_operator_of_the_same_name": (other_operator, "unknown_key"),
    "reflected_notice": (notice_of, "typ"),
    "addressed_to_another": (lambda v: confirmation(v, aud=other_of(v).urn), "aud"),
    "addressed_to_another_operator": (lambda v: confirmation(v, aud="urn:hanbit:other:gateway"), "aud"),
    "from_the_future": (lambda v: confirmation(v, iat=NOW + 3600), "iat"),
    "another_version": (lambda v: confirmation(v, v=2), "version"),
    "another_payment": (lambda v: confirmation(v, payment="A" * 22), "answer_mismatch"),
    "another_amount": (lambda v: confirmation(v, amount="1000"), "answer_mismatch"),
    "another_currency": (lambda v: confirmation(v, currency="USD"), "answer_mismatch"),
    "another_order": (lambda v: confirmation(v, order="A" * 43), "answer_mismatch"),
    "an_unknown_tid": (lambda v: confirmation(v, tid="A" * 22), "unknown_payment"),
    "another_notice": (lambda v: confirmation(v, req="A" * 43), "req"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_answer_that_is_not_the_shops_own_to_this_notice_moves_nothing(world: World, held: Visit, attack: str) -> None:
    make, rule = ATTACKS[attack]
    message = make(held)
    before = world.dump()
    reply = await world.shop.to_gateway(message)
    assert reply is not None
    assert peek_claims(reply)["code"] == rule
    assert world.dump() == before
    assert world.rows("audit")[-1]["reason"] == rule or any(row["reason"] == rule for row in world.rows("audit"))
    world.shop.plan.append(answer_with(lambda *_: message))
    await world.tick(2)
    assert held.stored.state == "authorized"
    await world.tick(4)
    assert held.stored.state == "captured", "the honest answer still decides"


@pytest.mark.parametrize("attack", ATTACKS)
async def test_the_same_answer_to_the_page_that_waits_moves_nothing(world: World, held: Visit, attack: str) -> None:
    message = ATTACKS[attack][0](held)
    world.shop.plan.append(answer_with(lambda *_: message))
    waiting = await world.visit(amount=1000)
    payment = await waiting.pay()
    assert (payment.state, held.stored.state, world.earned()) == ("authorized", "authorized", 0)


async def test_a_merchant_cannot_answer_for_another(world: World, held: Visit) -> None:
    """B sends, over his own line, what he signed, and what A signed."""
    before = world.dump()
    for frame in (confirmation(held, other_of(held)), confirmation(held)):
        reply = await world.line.links["other"].to_gateway(frame)
        assert reply is not None
        assert peek_claims(reply)["code"] in ("unknown_payment", "sender")
    assert world.dump() == before


async def test_a_confirmation_of_another_payment_of_the_same_shop_confirms_nothing(world: World, held: Visit) -> None:
    second = await world.visit()
    world.shop.plan.append(answer_with(lambda *_: confirmation(held)))
    assert (await second.pay()).state == "authorized"
    assert held.stored.state == "authorized"


async def test_a_replayed_confirmation_posts_nothing(world: World, held: Visit) -> None:
    await world.tick(2)
    confirmed = next(answer for answer in world.shop.answers if "confirmation" in signed.peek_typ(answer))
    before = world.dump(leave_out=("audit", "throttles", "sessions", "outbox"))
    for _ in range(3):
        assert await world.shop.to_gateway(confirmed) is None
        world.clock.advance(86_400)
    assert world.dump(leave_out=("audit", "throttles", "sessions", "outbox")) == before
    assert len(set(world.shop.told)) == 1


async def test_a_second_answer_does_not_undo_the_first(world: World, held: Visit) -> None:
    await world.tick(2)
    refusal = signed.sign(Refusal(**claims_of(held, shop_of(held)), reason="shop_refused", message=WORDS), shop_of(held)).compact
    before = world.dump(leave_out=("audit", "outbox"))
    await world.shop.to_gateway(refusal)
    assert world.dump(leave_out=("audit", "outbox")) == before
    assert (held.stored.state, world.earned()) == ("captured", 220_000)


async def test_a_confirmation_after_a_refusal_captures_nothing(world: World, held: Visit) -> None:
    refusal = signed.sign(Refusal(**claims_of(held, shop_of(held)), reason="shop_refused", message=WORDS), shop_of(held)).compact
    world.shop.plan.append(answer_with(lambda *_: refusal))
    await world.tick(2)
    assert held.stored.state == "refused"
    await world.shop.to_gateway(confirmation(held))
    assert (held.stored.state, world.earned()) == ("refused", 0)
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


async def test_one_number_on_two_messages_is_refused_and_holds_up_nobody(world: World, held: Visit) -> None:
    """(iss, jti) never seen with other bytes."""
    used = peek_claims(held.redirect.order)["jti"]
    world.shop.plan.append(answer_with(lambda *_: confirmation(held, jti=used)))
    other = await world.visit(merchant="other")
    world.line.links["other"].plan.append(lose_answer)
    await other.pay()
    await world.tick(2)
    assert (held.stored.state, other.stored.state) == ("authorized", "captured")
    assert any(row["reason"] == "jti" for row in world.rows("audit"))
    await world.tick(4)
    assert held.stored.state == "captured"


async def test_a_key_revoked_after_the_notice_confirms_nothing(world: World, held: Visit) -> None:
    answer = confirmation(held)
    await operations.revoke(world.gateway, kid=shop_of(held).kid)
    before = world.dump()
    reply = await world.shop.to_gateway(answer)
    assert reply is not None
    assert peek_claims(reply)["code"] == "revoked"
    assert world.dump() == before
    await world.tick(601)
    assert held.stored.state == "voided"


async def test_a_revocation_between_check_and_commit_is_seen_under_the_book_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = await world.visit()
    real = world.gateway.registry.key
    key = world.parties.merchants["shop"].kid

    def as_before(kid: str, chain: tuple[bytes, ...], at: int) -> Any:
        found = real(kid, chain, at)
        return type(found)(**{name: getattr(found, name) for name in found.__slots__} | {"revoked_at": None})

    world.shop.plan.append(lose_request)
    await visit.pay()
    answer = confirmation(visit)
    await operations.revoke(world.gateway, kid=key)
    monkeypatch.setattr(type(world.gateway.registry), "key", lambda _, *arguments: as_before(*arguments))
    before = world.dump()
    reply = await world.shop.to_gateway(answer)
    monkeypatch.undo()
    assert reply is not None
    assert peek_claims(reply)["code"] == "revoked"
    assert world.dump() == before


async def test_what_was_stored_in_the_second_of_a_revocation_stays_evidence(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    await operations.revoke(world.gateway, kid=world.parties.merchants["shop"].kid)
    await operations.revoke(world.gateway, kid=visit.person.device.kid)
    await world.prove()


async def test_an_expired_key_confirms_nothing(world: World, held: Visit) -> None:
    answer = confirmation(held)
    world.clock.advance(91 * 86_400)
    before = world.dump()
    reply = await world.shop.to_gateway(answer)
    assert reply is not None
    assert peek_claims(reply)["code"] == "certificate_dates"
    assert world.dump() == before


KINDS: dict[str, Callable[[Visit], Message]] = {
    "order": lambda v: Order(
        **signed.head(shop_of(v), GATEWAY, NOW),
        tid="T" * 22, amount="1", currency="KRW", oi="A" * 43, text="", return_url="https://shop.localhost/", pay_by=NOW,
    ),
    "hello": lambda v: HelloFromMerchant(**signed.head(shop_of(v), GATEWAY, NOW), nonce="A" * 22, time=NOW, exp=NOW + 60),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_of_another_kind_is_not_taken_over_the_line(world: World, held: Visit, kind: str) -> None:
    frame = signed.sign(KINDS[kind](held), shop_of(held)).compact
    before = world.dump()
    reply = await world.shop.to_gateway(frame)
    assert reply is not None
    assert peek_claims(reply)["code"] == "typ"
    assert world.dump() == before


@pytest.mark.parametrize("kind", [Notice, Settled, Voided, Inquiry, Acknowledgement])
async def test_no_message_of_one_kind_passes_for_a_confirmation(world: World, held: Visit, kind: type[Message]) -> None:
    """The confirmation's bytes under another typ, and another kind's header over the confirmation's payload."""
    before = world.dump()
    for frame in (with_header(confirmation(held), typ=kind.TYP), with_header(held.opening.keys.compact, typ=Confirmation.TYP)):
        reply = await world.shop.to_gateway(frame)
        assert reply is not None
    assert world.dump() == before


async def test_an_acknowledgement_of_another_merchants_outcome_silences_nothing(world: World) -> None:
    visit = await world.visit()
    world.shop.tell_plan.append(lose_request)
    await visit.pay()
    (row,) = world.rows("outbox")
    other = world.parties.merchants["other"]
    frame = signed.sign(Acknowledgement(**signed.head(other, GATEWAY, NOW), req=(row["hash"],)), other).compact
    assert await world.line.links["other"].to_gateway(frame) is None
    assert world.rows("outbox") == [row]


@pytest.mark.parametrize("req", [(), tuple(["A" * 43] * 101)], ids=["none", "too_many"])
async def test_an_acknowledgement_answers_1_to_100_outcomes(world: World, req: tuple[str, ...]) -> None:
    shop = world.parties.merchants["shop"]
    before = world.dump()
    reply = await world.shop.to_gateway(signed.sign(Acknowledgement(**signed.head(shop, GATEWAY, NOW), req=req), shop).compact)
    assert reply is not None
    assert peek_claims(reply)["code"] == "req"
    assert world.dump() == before


async def test_a_merchant_hears_nothing_of_anothers_tid(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    other = world.line.links["other"]
    frame = other.shop._role.make_inquiry(visit.redirect.tid, at=NOW).compact
    reply = await other.to_gateway(frame)
    assert reply is not None
    assert (peek_claims(reply)["state"], peek_claims(reply).get("outcome")) == ("unknown", None)


GARBAGE = {
    "empty": "",
    "words": "hello",
    "two_dots": "..",
    "not_ascii": "é.é.é",
    "huge": "A" * 40_000 + ".A.A",
    "deep": ids.encode_base64url(b"[" * 9_000) + ".e30." + "A" * 86,
    "duplicate_name_in_the_header": ids.encode_base64url(b'{"alg":"ES256","typ":"a","typ":"hanbit-confirmation","kid":"%s"}' % (b"A" * 43))
    + ".e30.A",
    "float_in_the_header": ids.encode_base64url(b'{"alg":"ES256","typ":1.0}') + ".e30.A",
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_over_the_line_gets_a_refusal_and_changes_nothing(world: World, garbage: str) -> None:
    before = world.dump()
    reply = await world.shop.to_gateway(GARBAGE[garbage])
    assert reply is not None
    assert signed.peek_typ(reply) == "hanbit-refused"
    assert world.dump() == before


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"iat":1.0}', '{"iat":1e3}', "[" * 9_000, "null", "[]", '{"v":NaN}', ""], ids=lambda text: text[:12]
)
async def test_signed_nonsense_is_refused_by_its_claims(world: World, held: Visit, text: str) -> None:
    """The signature is the shop's own; what it signed is no confirmation."""
    header = confirmation(held).split(".", maxsplit=1)[0]
    body = f"{header}.{ids.encode_base64url(text.encode())}"
    frame = f"{body}.{ids.encode_base64url(signatures.sign(shop_of(held).key, body.encode()))}"
    before = world.dump()
    reply = await world.shop.to_gateway(frame)
    assert reply is not None
    assert peek_claims(reply)["code"] == "claims"
    assert world.dump() == before


@pytest.mark.parametrize("again", ['"amount":"220000",', '"iat":1800000000.0,'])
async def test_a_signed_confirmation_that_two_readers_read_differently_is_refused(world: World, held: Visit, again: str) -> None:
    header, payload, _ = confirmation(held).split(".")
    text = ids.decode_base64url(payload).decode().replace("{", "{" + again, 1)
    body = f"{header}.{ids.encode_base64url(text.encode())}"
    frame = f"{body}.{ids.encode_base64url(signatures.sign(shop_of(held).key, body.encode()))}"
    reply = await world.shop.to_gateway(frame)
    assert reply is not None
    assert peek_claims(reply)["code"] == "claims"
    assert held.stored.state == "authorized"
