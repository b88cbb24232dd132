"""Disputes, played through: somebody denies what he did, or shows what he altered; the evidence file decides, or says what is missing."""

import msgspec
import pytest

from hanbit.crypto import certificates, merkle
from hanbit.crypto.certificates import make_leaf
from hanbit.crypto.keys import new_key, thumbprint
from hanbit.crypto.leaves import write_leaf
from hanbit.db.change import Change
from hanbit.evidence.bundle import Bundle, Kept, LeafProof
from hanbit.evidence.file_log import FileLog
from hanbit.evidence.record import record
from hanbit.evidence.verify import verify
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant import own_evidence
from hanbit.merchant.handlers import No
from hanbit.parties.registry import certificate_put
from hanbit.payments import key_requests, operations
from hanbit.protocols import keys as key_messages
from hanbit.protocols import signed
from hanbit.protocols.checkpoint import Checkpoint
from hanbit.protocols.redirect import messages as redirect
from hanbit.protocols.redirect.messages import Confirmation
from hanbit.protocols.signed import Signer, peek_claims
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import codes, export_and_verify, exported, failure, judge, resealed
from tests.flows.passkeys import auth_passkey, enrol_passkey
from tests.world import OPERATOR, PRICE, Visit, World, answer_with

FORGED_PRICE = 2_200_000


async def recorded(world: World, signer: Signer, how: str = "code", req: str | None = None) -> str:
    """The operator records a certificate of this key in its log, as it does with each that it issues; the record's bytes."""
    gateway = world.gateway
    at = gateway.clock.now()
    made = key_messages.make_certificates(gateway.signer, signer.urn, (signer.chain,), how=how, at=at, req=req)  # type: ignore[arg-type]  # one of three
    await gateway.book.commit(Change(messages=(record(made, merchant="shop", tid=""),)))
    return made.compact


def card_of(signer: Signer) -> str:
    """What stands on the key card."""
    return thumbprint(signer.key.public_key())


def second_certificate(world: World) -> Signer:
    """The operator makes itself a key and certifies it in the merchant's name."""
    at, key, authority = world.clock.now(), new_key(), world.parties.merchant_authority
    urn = world.parties.merchants["shop"].urn
    leaf = make_leaf(authority, urn=urn, purpose="merchant-sign", public=key.public_key(), at=at, lifetime_s=90 * 86_400)
    return Signer(urn=urn, purpose="merchant-sign", kid=certificates.kid(leaf), chain=(leaf, *authority.chain), key=key)


async def forged_confirmation(world: World) -> tuple[Visit, Signer]:
    """A payment that the shop refuses and that the operator confirms in its name."""
    forger = second_certificate(world)
    row = certificate_put(forger.chain, root=world.parties.root, operator=OPERATOR, at=world.clock.now())
    await world.gateway.book.commit(Change(puts=(row,)))

    def confirm(message: str, _answer: str) -> str:
        notice = peek_claims(message)
        same = {name: notice[name] for name in ("payment", "tid", "amount", "currency", "order")}
        head = signed.head(forger, world.gateway.urn, world.clock.now())
        return signed.sign(Confirmation(**head, **same, req=ids.digest(message.encode("ascii"))), forger).compact

    world.confirm["shop"] = No("다 팔렸습니다", "sold out")
    world.shop.plan.append(answer_with(confirm))
    visit = await world.visit()
    assert (await visit.pay()).state == "captured"
    return visit, forger


async def shops_own(world: World, visit: Visit) -> Bundle:
    """The shop's half."""
    collected = await own_evidence.collect(await world.shop_order(visit), world.shop.shop.book, world.shop.shop.witness)
    chains = [world.parties.merchants["shop"].chain]
    return own_evidence.bundle(collected, operator=OPERATOR, merchant="shop", keys=(), chains=chains)


# --- the merchant denies having confirmed ---------------------------------------------------------------------------------------------


async def test_merchant_who_denies_confirming_is_held_to_the_key_on_its_card(world: World) -> None:
    own = world.parties.merchants["shop"]
    await recorded(world, own)
    visit = await world.visit()
    await visit.pay()
    report = await export_and_verify(world, visit, card=card_of(own))
    assert report.verified
    assert {"merchant_ordered", "merchant_confirmed", "merchant_by_card"} <= set(codes(report))
    assert "merchant_by_operators_word" not in codes(report)


async def test_without_the_card_the_file_says_that_the_merchant_is_named_by_the_operator_only(world: World) -> None:
    await recorded(world, world.parties.merchants["shop"])
    visit = await world.visit()
    await visit.pay()
    report = await export_and_verify(world, visit)
    assert report.verified
    (said,) = [one.text("en") for one in report.conclusions if one.code == "merchant_by_operators_word"]
    assert said.startswith("Merchant identified by the operator's word only")
    merchants = [one for one in report.conclusions if one.code in ("merchant_ordered", "merchant_confirmed")]
    assert {one.weight for one in merchants} == {"word"}
    assert all(one.text("en").startswith("If the key is its own: ") for one in merchants)
    assert all(one.text("ko").startswith("그 키가 가맹점의 것이라면: ") for one in merchants)


async def test_confirmation_by_itself_proves_no_more_than_its_key_and_a_card_beside_it_is_never_passed_over(world: World) -> None:
    """One message cut out of a file: the operator could have made the key, so the card decides, and its renewals are not here."""
    visit, forger = await forged_confirmation(world)
    compact = next(kept.compact for kept in (await exported(world, visit)).messages if kept.typ == "hanbit-confirmation")
    own, root = world.parties.merchants["shop"], world.parties.root
    alone = verify(compact.encode(), root=root)
    assert {"merchant_by_operators_word", "revocation_unknown"} <= set(codes(alone))
    report = verify(compact.encode(), root=root, card=card_of(own))
    assert failure(report).startswith("the merchant's keys: key_card")
    for said in (alone, report):
        assert [one.weight for one in said.conclusions if one.code == "merchant_confirmed"] == ["word"]
    by_card = verify(compact.encode(), root=root, card=card_of(forger))
    assert by_card.verified
    assert {one.code: one.weight for one in by_card.conclusions}["merchant_confirmed"] == "proved"


async def test_log_whose_clock_goes_back_is_no_log(world: World) -> None:
    """An operator who signs anything he likes: leaves that were made after the checkpoint that covers them, or before an earlier one."""
    visit = await world.visit()
    await visit.pay()
    checkpoint = (await exported(world, visit)).checkpoint
    claims = msgspec.convert(peek_claims(checkpoint or ""), Checkpoint)
    for times, signed_until in (((20, 10), 30), ((10, 20), 15)):
        rows = [write_leaf(number, at, []) for number, at in enumerate(times)]
        first, second = map(merkle.leaf_hash, rows)
        root = ids.encode_base64url(merkle.node_hash(first, second))
        backdated = msgspec.structs.replace(claims, size=2, root=root, time=signed_until)
        proofs = [
            LeafProof(leaf=number, data=row.decode(), path=(ids.encode_base64url(beside),))
            for number, (row, beside) in enumerate(zip(rows, (second, first), strict=True))
        ]
        with pytest.raises(ProtocolViolation, match="clock goes back"):
            FileLog().take(proofs, backdated)


# --- the customer denies having paid ----------------------------------------------------------------------------------------------------


async def test_customer_who_signed_with_his_device_cannot_deny_the_amount_or_the_payee(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    assert "customer_signed_device" in codes(judge(world, good))
    core = good.approval.attempt.core if good.approval else ""
    dearer = verify(
        resealed(good, lambda bad: bad["approval"]["attempt"].update(core=core.replace("220000", "220001"))), root=world.parties.root
    )
    assert failure(dearer).startswith("the customer")


async def test_customer_who_signed_with_a_passkey_cannot_deny_and_nobody_can_move_his_signature(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visits = [await world.visit(), await world.visit()]
    for visit in visits:
        core = visit.core()
        await visit.submit(visit.seal(core, auth_passkey(core, passkey)))
    first, second = [await exported(world, visit) for visit in visits]
    assert "customer_signed_passkey" in codes(judge(world, first))
    assert first.approval is not None
    assert second.approval is not None
    foreign = msgspec.to_builtins(second.approval.attempt)["auth_value"]
    moved = verify(resealed(first, lambda bad: bad["approval"]["attempt"].update(auth_value=foreign)), root=world.parties.root)
    assert failure(moved).startswith("the customer")
    other = msgspec.to_builtins(first.approval.passkey) | {"key": "pQECAyYgASFYIBsVgf1XtFYPHQ"}
    assert failure(verify(resealed(first, lambda bad: bad["approval"].update(passkey=other)), root=world.parties.root))


async def test_customer_who_paid_by_password_can_deny_and_the_file_says_so(world: World) -> None:
    visit = await world.visit()
    await visit.pay(method="password")
    report = await export_and_verify(world, visit)
    assert report.verified
    (said,) = [one for one in report.conclusions if one.code == "customer_not_signed"]
    assert said.weight == "word"
    assert "not signed" in said.text("en")
    assert "서명 없음" in said.text("ko")


# --- the gateway denies the cancellation ------------------------------------------------------------------------------------------------


async def test_gateway_that_denies_a_refund_is_held_to_the_answer_in_the_shops_file(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    cancelled = await world.shop.shop.cancel(visit.redirect.tid, amount=None, reason="came back")
    report = judge(world, await shops_own(world, visit))
    assert report.verified
    assert {"merchant_asked_back", "gateway_cancelled"} <= set(codes(report))
    (said,) = [one.text("en") for one in report.conclusions if one.code == "gateway_cancelled"]
    assert cancelled.id in said
    assert f"refunded so far {PRICE}" in said


async def test_gateway_that_leaves_a_cancellation_out_shows_a_file_that_does_not_say_it_is_whole(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    before = await exported(world, visit)
    await Canceller(world).cancel(visit)
    assert "later_unknown" in codes(judge(world, before))
    after = await exported(world, visit)
    assert "gateway_cancelled" in codes(judge(world, after))
    hidden = verify(resealed(after, lambda bad: bad["messages"].pop()), root=world.parties.root)
    assert not hidden.verified, "the money that went back has no answer any more"


async def test_request_without_an_answer_is_named_as_what_is_missing(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    request = Canceller(world).request(visit)
    own = await shops_own(world, visit)
    asked = Kept(typ="hanbit-cancel", at=world.clock.now(), compact=request.compact)
    report = judge(world, msgspec.structs.replace(own, messages=(*own.messages, asked)))
    assert report.verified
    (said,) = [one.text("en") for one in report.conclusions if one.code == "no_answer_to_cancellation"]
    assert request.claims.cancellation in said


# --- the merchant shows an altered order ------------------------------------------------------------------------------------------------


async def test_merchant_with_another_order_under_its_own_key_has_no_payment_for_it(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    own, signer = await shops_own(world, visit), world.parties.merchants["shop"]
    first = own.messages[0]
    claims = msgspec.convert(peek_claims(first.compact), redirect.Order)
    other = signed.sign(msgspec.structs.replace(claims, amount=str(FORGED_PRICE)), signer)
    swapped = msgspec.structs.replace(first, compact=other.compact)
    report = judge(world, msgspec.structs.replace(own, messages=(swapped, *own.messages[1:]), lines=None))
    assert "another order" in failure(report)
    both = judge(world, msgspec.structs.replace(own, messages=(first, swapped, *own.messages[1:]), lines=None))
    assert "two orders" in failure(both)
    with_other_lines = verify(
        resealed(own, lambda bad: bad["lines"].update(json=bad["lines"]["json"].replace(":1,", ":2,"))), root=world.parties.root
    )
    assert failure(with_other_lines).startswith("what was ordered")


# --- the gateway shows an altered amount ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typ", ["hanbit-notice", "hanbit-settled", "hanbit-receipt"])
async def test_gateway_with_another_amount_under_its_own_key_contradicts_the_order(world: World, typ: str) -> None:
    visit = await world.visit()
    await visit.pay()
    good, kind = await exported(world, visit), next(kind for kind in redirect.MESSAGES if typ == kind.TYP)
    index = next(number for number, kept in enumerate(good.messages) if kept.typ == typ)
    claims = msgspec.convert(peek_claims(good.messages[index].compact), kind)
    altered = signed.sign(msgspec.structs.replace(claims, amount=str(FORGED_PRICE)), world.gateway.signer).compact
    bad = verify(resealed(good, lambda file: file["messages"][index].update(compact=altered)), root=world.parties.root)
    assert "does not name this messages row" in failure(bad), "the log that it signed names another"
    own = await shops_own(world, visit)
    kept = tuple(msgspec.structs.replace(one, compact=altered) if one.typ == typ else one for one in own.messages)
    if kept != own.messages:
        assert "another amount" in failure(judge(world, msgspec.structs.replace(own, messages=kept)))


async def test_gateway_with_another_figure_in_its_ledger_contradicts_what_it_signed(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    bad = verify(resealed(good, lambda file: file["ledger"][1].update(amount=str(FORGED_PRICE))), root=world.parties.root)
    assert failure(bad).startswith("the money")


# --- the operator speaks in the merchant's name -----------------------------------------------------------------------------------------


async def test_second_certificate_shows_against_the_key_card(world: World) -> None:
    own = world.parties.merchants["shop"]
    await recorded(world, own)
    visit, forger = await forged_confirmation(world)
    without = await export_and_verify(world, visit)
    assert without.verified
    assert {"merchant_by_operators_word", "no_issue_record"} <= set(codes(without)), "and the forged key has no record of issue"
    report = await export_and_verify(world, visit, card=card_of(own))
    assert failure(report).startswith("the merchant's keys: key_card")
    assert "the operator alone vouches" in failure(report)
    (said,) = [one.text("en") for one in report.conclusions if one.code == "merchant_not_by_card"]
    assert forger.kid in said
    assert {one.code: one.weight for one in report.conclusions}["merchant_confirmed"] == "word", "what it can deny is not proved"
    assert "merchant_refused" in codes(judge(world, await shops_own(world, visit))), "and the shop's own file says no"


async def test_second_certificate_that_is_recorded_does_not_hang_on_the_card_either(world: World) -> None:
    own = world.parties.merchants["shop"]
    await recorded(world, own)
    visit, forger = await forged_confirmation(world)
    told = await recorded(world, forger)
    report = await export_and_verify(world, visit, card=card_of(own))
    assert "the operator alone vouches" in failure(report)
    assert "merchant_not_by_card" in codes(report)
    gateway = world.gateway.urn
    seen = key_messages.read_certificates(
        told,
        trust=signed.PinnedTrust(world.parties.root, OPERATOR, urn=gateway),
        root=world.parties.root,
        gateway=gateway,
        owner=own.urn,
        at=world.clock.now(),
    )
    assert [leaf.kid for leaf in seen.leaves] == [forger.kid], "and the merchant sees a certificate that it never asked for"


async def test_second_certificate_cannot_be_called_a_renewal(world: World) -> None:
    await recorded(world, world.parties.merchants["shop"])
    visit, forger = await forged_confirmation(world)
    await recorded(world, forger, "renewal", "A" * 43)
    report = await export_and_verify(world, visit)
    assert "the renewal that they answer is not here" in failure(report)


# --- keys that were renewed, revoked, listed ----------------------------------------------------------------------------------------------


async def test_renewed_key_still_hangs_on_the_first_card(world: World) -> None:
    own = world.parties.merchants["shop"]
    first = Signer(own.urn, own.purpose, own.kid, own.chain, own.key)
    await recorded(world, own)
    new = {purpose: new_key() for purpose in key_messages.RENEWED_PURPOSES}
    renewal = key_messages.make_renewal(own, world.gateway.urn, new, at=world.clock.now())
    answer = await key_requests.renew(world.gateway, "shop", renewal.compact)
    chain = signed.decode_chain(peek_claims(answer)["chains"][0])
    own.renew(chain, new["merchant-sign"])
    try:
        visit = await world.visit()
        await visit.pay()
        report = await export_and_verify(world, visit, card=card_of(first))
        assert report.verified, report.steps[-1]
        assert "merchant_by_card" in codes(report)
        without = await exported(world, visit)
        torn = verify(
            resealed(without, lambda bad: bad.update(keys=[one for one in bad["keys"] if one["typ"] != "hanbit-renewal"])),
            root=world.parties.root,
        )
        assert "the renewal that they answer is not here" in failure(torn)
    finally:
        own.renew(first.chain, first.key)


async def test_lists_of_that_moment_are_shown_and_a_later_revocation_unsays_nothing(world: World) -> None:
    await world.tick(1)  # the hour's lists
    visit = await world.visit()
    await visit.pay()
    await world.tick(5)
    await operations.revoke(world.gateway, kid=world.parties.merchants["shop"].kid, reason="lost")
    report = await export_and_verify(world, visit)
    assert report.verified
    assert [step.what for step in report.steps].count("hanbit-crl") >= 1
    (confirmed,) = [step.detail for step in report.steps if step.what == "hanbit-confirmation"]
    assert "not revoked: list" in confirmed


async def test_what_the_log_says_of_a_signers_revocation_cannot_be_altered(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    index = next(number for number, kept in enumerate(good.messages) if kept.typ == "hanbit-confirmation")
    early = good.messages[index].at - 10
    bad = verify(resealed(good, lambda file: file["messages"][index].update(revoked_at=early)), root=world.parties.root)
    assert "does not name this messages row" in failure(bad)
