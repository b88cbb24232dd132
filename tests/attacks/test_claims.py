"""Each effect that the document claims (mission.md, A25), as a test of its own."""

import base64
import json

from hanbit.evidence import store as evidence
from hanbit.evidence.check import Stored
from hanbit.evidence.check import check as check_evidence
from hanbit.kernel import ids
from hanbit.merchant import shop as shop_module
from hanbit.payments import views
from hanbit.protocols import signed
from hanbit.protocols.redirect import customer as role
from hanbit.protocols.redirect.messages import Confirmation, Consent, Notice, Receipt
from hanbit.protocols.signed import PinnedTrust, peek_claims
from tests.flows.passkeys import auth_passkey, enrol_passkey
from tests.world import OPERATOR, Person, Visit, World, answer_with

GATEWAY = ids.urn(OPERATOR, "gateway")


def secrets_of(person: Person) -> list[str]:
    """What only the customer and the payment server may know."""
    accounts = [text for account in person.accounts.values() for text in (account.number, account.password, account.id)]
    return [person.password, person.login, person.id, *accounts]


def readings(message: str) -> str:
    """A message as it stands on the line, and everything that its base64 hides."""
    parts = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("latin-1") for part in message.split(".")]
    return "\n".join([message, *parts])


async def test_the_customer_pays_inside_the_purchase(world: World) -> None:
    """From the shop's redirect to the receipt without leaving it: one address, one submission, and the shop may deliver."""
    visit = world.open(await world.order())
    payment = await visit.pay()
    assert payment.state == "captured"
    assert (await world.shop.shop.deliverable(visit.redirect.tid)).may_deliver
    assert payment.return_url.startswith("https://shop.localhost/")


async def test_personal_and_payment_data_travel_encrypted(world: World) -> None:
    """Nothing that the payment program sends shows the ID, a password, a number, or which account was chosen."""
    visit = await world.visit()
    account = visit.person.accounts["bank"]
    sent = [visit.sealing.key, role.seal_login(visit.sealing, login_id=visit.person.login, password=visit.person.password)]
    sent += [visit.sealed_pay("bank", "password"), visit.typed_pay(account.number, account.password)]
    whole = "\n".join(map(readings, sent))
    for secret in secrets_of(visit.person):
        assert secret not in whole
    assert await visit.send_login(sent[1]), "and the gateway can read all of it"
    assert (await visit.submit(sent[3])).state == "captured"


async def test_the_same_payment_never_looks_the_same(world: World) -> None:
    visit = await world.visit()
    assert visit.sealed_pay("bank", "password") != visit.sealed_pay("bank", "password")
    assert role.begin(visit.opening).key != visit.sealing.key


async def test_the_shop_never_learns_payment_information(world: World) -> None:
    """Everything that ever reached the shop: what was sent to it, and every byte of its files."""
    for method in ("password", "device", "code"):
        visit = await world.visit(amount=1000)
        await visit.pay("bank", method)
    await (await world.visit(amount=900_000)).pay("emoney")
    heard = "\n".join(map(readings, world.shop.asked + world.shop.told + world.shop.replies))
    kept = b"".join(path.read_bytes() for path in world.folder.parent.glob("shop.db*")).decode("latin-1")
    for secret in secrets_of(world.hong):
        assert secret not in heard
        assert secret not in kept
    for word in ("masked", "core", "consent", "password", "balance"):
        assert f'"{word}"' not in heard
    assert "no_funds" not in heard + kept, "why an attempt was declined is not the shop's business"


async def test_the_shop_learns_the_same_from_every_customer_and_every_kind_of_account(world: World) -> None:
    seen = set()
    for person, kind in ((world.hong, "bank"), (world.hong, "card"), (world.kim, "bank")):
        visit = await world.visit(person, amount=1000)
        await visit.pay(kind)
        notice, settled = peek_claims(world.shop.asked[-1]), peek_claims(world.shop.told[-1])
        varying = ("jti", "payment", "tid", "order", "prev")
        seen.add(json.dumps([{name: value for name, value in claims.items() if name not in varying} for claims in (notice, settled)]))
    assert len(seen) == 1


async def test_the_customer_authenticates_by_a_signature_that_he_cannot_deny(world: World) -> None:
    """The consent verifies offline under the operator's root, names the customer, and fixes amount, payee, order and account."""
    visit = await world.visit()
    await visit.pay("bank", "device")
    kept = dict(evidence.of_payment(world.gateway.reader, "shop", visit.redirect.tid))["hanbit-consent"]
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=visit.person.urn)
    consent = signed.verify(kept, Consent, trust=trust, audience=GATEWAY, at=world.clock.now(), sender=visit.person.urn)
    (attempt,) = world.rows("attempts")
    assert consent.claims.core == ids.digest(attempt["core"].encode())
    core = json.loads(attempt["core"])
    assert (core["amount"], core["currency"], core["merchant"]) == ("220000", "KRW", ids.urn(OPERATOR, "merchant", "shop"))
    assert (core["account"], core["order"]) == (visit.person.accounts["bank"].id, visit.stored.order_hash)


async def test_a_passkey_signs_the_same(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    core = visit.core()
    await visit.submit(visit.seal(core, auth_passkey(core, passkey)))
    (attempt,) = world.rows("attempts")
    assertion = json.loads(attempt["auth_value"])
    assert ids.encode_base64url(passkey.id) == assertion["id"]
    assert views.full_view(world.gateway, visit.stored).signed


async def test_a_payment_by_password_alone_says_that_the_customer_did_not_sign(world: World) -> None:
    for method in ("password", "code"):
        visit = await world.visit(amount=1000)
        await visit.pay("bank", method)
        assert not views.full_view(world.gateway, visit.stored).signed
        assert "consent" not in visit.kinds()


async def test_the_payment_server_authenticates_by_a_signature_that_it_cannot_deny(world: World) -> None:
    """The receipt in the customer's hand verifies under the root that he pinned, offline."""
    visit = await world.visit()
    await visit.pay()
    receipt = views.receipt(world.gateway, visit.stored)
    assert receipt is not None
    verified = role.verify_receipt(receipt, opening=visit.opening, payment=visit.stored.id, pin=world.pin, at=world.clock.now())
    assert isinstance(verified.claims, Receipt)


async def test_payment_server_and_shop_hold_signatures_of_one_another(world: World) -> None:
    """OS(TID, AMOUNT) in the shop's book, OS(confirm) in the gateway's; each verifies under the root alone."""
    visit = await world.visit()
    await visit.pay()
    at, urn = world.clock.now(), ids.urn(OPERATOR, "merchant", "shop")
    held_by_shop = [kept.compact for kept in await world.shop.shop.book.messages(visit.redirect.tid)]
    notice = next(compact for compact in held_by_shop if signed.peek_typ(compact) == Notice.TYP)
    signed.verify(notice, Notice, trust=PinnedTrust(world.parties.root, OPERATOR, urn=GATEWAY), audience=urn, at=at)
    confirmation = dict(evidence.of_payment(world.gateway.reader, "shop", visit.redirect.tid))["hanbit-confirmation"]
    own = signed.verify(confirmation, Confirmation, trust=PinnedTrust(world.parties.root, OPERATOR, urn=urn), audience=GATEWAY, at=at)
    assert own.claims.req == ids.digest(notice.encode())


async def test_no_money_moves_before_the_shops_signed_confirmation(world: World) -> None:
    seen: list[tuple[str, int]] = []

    def look(_: str, answer: str) -> str:
        seen.append((visit.stored.state, world.earned()))
        return answer

    visit = await world.visit()
    world.shop.plan.append(answer_with(look))
    await visit.pay()
    assert seen == [("authorized", 0)]
    assert world.earned() == 220_000


async def test_the_shop_delivers_only_on_the_settled_message(world: World) -> None:
    visit = await world.visit()
    assert await _may_deliver(world, visit) == (False, "placed")
    world.shop.plan.append(answer_with(lambda _, answer: answer.rpartition(".")[0] + "." + "A" * 86))
    await visit.pay()
    assert await _may_deliver(world, visit) == (False, "confirmed")
    await world.tick(2)
    assert await _may_deliver(world, visit) == (True, "settled")
    assert shop_module.Shop.deliverable.__doc__


async def _may_deliver(world: World, visit: Visit) -> tuple[bool, str]:
    order = await world.shop_order(visit)
    return order.may_deliver, str(order.state)


async def test_whoever_alters_one_byte_of_the_evidence_is_found_out(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    kept = list(evidence.share(world.gateway.reader, 0, 1))

    def first_link(_merchant: str, _tid: str) -> str | None:
        return visit.stored.order_hash

    assert check_evidence(kept, world.gateway.registry, first_link).verified
    for at, item in enumerate(kept):
        middle = len(item.compact) // 2
        broken = item.compact[:middle] + ("A" if item.compact[middle] != "A" else "B") + item.compact[middle + 1 :]
        for digest in (item.hash, ids.digest(broken.encode())):
            altered = Stored(item.merchant, item.tid, digest, broken, item.at)
            assert not check_evidence([*kept[:at], altered, *kept[at + 1 :]], world.gateway.registry, first_link).verified
