"""The proof from the store alone: it verifies what is whole, and names what was altered, removed, moved or never linked."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hanbit.evidence import store as evidence
from hanbit.evidence.check import Report, Stored, check
from hanbit.evidence.record import rebuild, record
from hanbit.kernel import ids
from hanbit.payments import payment as payments
from hanbit.protocols import signed
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect.messages import Closed, Confirmation, Notice, Order, Receipt, Settled, Voided
from hanbit.protocols.signed import Signer, peek_claims, peek_typ
from tests.world import NOW, World


async def kept(world: World) -> list[Stored]:
    visit = await world.visit()
    await visit.pay()
    await world.visit()
    return list(evidence.share(world.gateway.reader, 0, 1))


def proved(world: World, stored: list[Stored]) -> Report:
    def first(merchant: str, tid: str) -> str | None:
        found = payments.find(world.gateway.reader, merchant, tid)
        return None if found is None else found.order_hash

    return check(stored, world.gateway.registry, first)


def resigned(item: Stored, kind: type[Message], signer: Signer, **changes: str) -> Stored:
    """The same message with other claims, signed by its own signer: only the chain can tell."""
    claims = peek_claims(item.compact) | changes | {"jti": ids.new_token()}
    message = signed.sign(kind(**claims), signer)
    return Stored(item.merchant, item.tid, message.hash, message.compact, item.at)


async def test_what_is_whole_verifies(world: World) -> None:
    report = proved(world, await kept(world))
    assert (report.verified, report.messages, report.payments, report.broken) == (
        True,
        3 + 8,
        1,
        [],
    )  # three certificates of the gateway's own came first


TAMPERED: dict[str, Callable[[Stored], Stored]] = {
    "hash": lambda item: replace(item, hash="A" * 43),
    "signature": lambda item: _named(replace(item, compact=item.compact[:-6] + "AAAAAA")),
    "stored_before_its_key": lambda item: replace(item, at=NOW - 86_400),
    "stored_after_its_key": lambda item: replace(item, at=NOW + 91 * 86_400),
    "garbage": lambda item: _named(replace(item, compact="a.b.c")),
}


def _named(item: Stored) -> Stored:
    return replace(item, hash=ids.digest(item.compact.encode()))


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_message_that_was_tampered_with_is_named(world: World, how: str) -> None:
    stored = await kept(world)
    for at in range(len(stored)):
        changed = TAMPERED[how](stored[at])
        report = proved(world, [*stored[:at], changed, *stored[at + 1 :]])
        assert any(changed.hash in line for line in report.broken), peek_typ(stored[at].compact)


LINKS: dict[str, tuple[type[Message], dict[str, str]]] = {
    "a_notice_for_another_order": (Notice, {"order": "A" * 43}),
    "a_notice_that_follows_another_order": (Notice, {"prev": "A" * 43}),
    "a_confirmation_of_another_notice": (Confirmation, {"req": "A" * 43}),
    "a_confirmation_for_another_order": (Confirmation, {"order": "A" * 43}),
    "a_settlement_of_another_confirmation": (Settled, {"prev": "A" * 43}),
    "a_receipt_of_another_settlement": (Receipt, {"prev": "A" * 43}),
    "a_receipt_for_another_order": (Receipt, {"order": "A" * 43}),
    "a_receipt_for_another_amount": (Receipt, {"amount": "1"}),
    "a_receipt_in_another_currency": (Receipt, {"currency": "USD"}),
    "a_receipt_for_another_tid": (Receipt, {"tid": "T" * 22}),
}


@pytest.mark.parametrize("link", LINKS)
async def test_a_chain_that_its_own_signer_bent_is_found(world: World, link: str) -> None:
    kind, changes = LINKS[link]
    stored = await kept(world)
    at = next(at for at, item in enumerate(stored) if peek_typ(item.compact) == kind.TYP)
    signer = world.parties.merchants["shop"] if kind is Confirmation else world.gateway.signer
    report = proved(world, [*stored[:at], resigned(stored[at], kind, signer, **changes), *stored[at + 1 :]])
    assert not report.verified


@pytest.mark.parametrize("kind", [Order, Notice, Confirmation, Settled])
async def test_a_message_that_was_removed_leaves_a_gap(world: World, kind: type[Message]) -> None:
    stored = [item for item in await kept(world) if peek_typ(item.compact) != kind.TYP]
    assert not proved(world, stored).verified


async def test_a_message_moved_to_another_payment_is_found(world: World) -> None:
    stored = [replace(item, tid="T" * 22) if peek_typ(item.compact) == Notice.TYP else item for item in await kept(world)]
    assert not proved(world, stored).verified


async def test_a_payment_filed_under_another_tid_or_merchant_is_found(world: World) -> None:
    stored = await kept(world)
    assert not proved(world, [replace(item, tid="T" * 22) for item in stored]).verified
    assert not proved(world, [replace(item, merchant="other") for item in stored]).verified


async def test_a_plain_payment_is_proved_by_what_its_address_said(world: World) -> None:
    await (await world.visit(merchant="plain")).pay()
    stored = list(evidence.share(world.gateway.reader, 0, 1))
    assert proved(world, stored).verified
    assert check(stored, world.gateway.registry, lambda _merchant, _tid: None).verified, "the book's own word is not needed for it"


@pytest.mark.parametrize("kind", [Closed, Voided])
async def test_a_false_end_signed_by_the_gateway_itself_is_found(world: World, kind: type[Message]) -> None:
    stored = await kept(world)
    notice = next(item for item in stored if peek_typ(item.compact) == Notice.TYP)
    claims = peek_claims(notice.compact) | {"prev": "A" * 43, "jti": ids.new_token()}
    claims |= {"outcome": "expired", "reason": "expired"}
    known = {name: claims[name] for name in kind.__struct_fields__}
    message = signed.sign(kind(**known), world.gateway.signer)
    false = Stored(notice.merchant, notice.tid, message.hash, message.compact, notice.at)
    assert not proved(world, [*stored, false]).verified


async def test_a_message_of_a_role_that_does_not_send_it_is_found(world: World) -> None:
    """A settled message that names the shop as its sender has no kind at all."""
    stored = await kept(world)
    settled = next(item for item in stored if peek_typ(item.compact) == Settled.TYP)
    shop = world.parties.merchants["shop"]
    claims = peek_claims(settled.compact) | {"iss": shop.urn}
    message = signed.sign(Settled(**claims), Signer(urn=shop.urn, purpose="gateway-sign", kid=shop.kid, chain=shop.chain, key=shop.key))
    assert not proved(world, [*stored, replace(settled, hash=message.hash, compact=message.compact)]).verified


async def test_a_stored_message_is_rebuilt_to_the_very_byte(world: World) -> None:
    visit = await world.visit()
    row = record(visit.opening.keys, merchant="shop", tid=visit.redirect.tid)
    assert rebuild(row.header, row.payload, row.signature) == visit.opening.keys.compact
