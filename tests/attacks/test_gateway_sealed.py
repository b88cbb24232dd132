"""Sealed messages that the gateway must not obey (R5, R7): altered, replayed, misdirected, for something else than was shown."""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hanbit.crypto import envelopes
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation
from hanbit.payments import operations
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect import customer as role
from hanbit.protocols.redirect.messages import Consent
from hanbit.protocols.sealed import SessionKey
from tests.flows.passkeys import auth
from tests.world import OPERATOR, Visit, World, enrol_device

GATEWAY = ids.urn(OPERATOR, "gateway")


async def assert_refused(visit: Visit, sealed_pay: str, rule: str, *, key: str | None = None) -> None:
    """The submission is refused by this rule and nothing but the audit has changed; the customer can still pay."""
    world, honest = visit.world, visit.sealing.key
    who = await world.session(visit.person)
    before = world.dump()
    visit.sealing.key = honest if key is None else key
    with pytest.raises(ProtocolViolation) as refused:
        await visit.submit(sealed_pay, who)
    assert refused.value.rule == rule
    assert world.dump() == before
    assert not world.shop.asked
    visit.sealing.key = honest
    assert (await visit.pay()).state == "captured"


CORES: dict[str, dict[str, Any]] = {
    "another_amount": {"amount": "1"},
    "a_greater_amount": {"amount": "9999999"},
    "another_currency": {"currency": "USD"},
    "another_payee": {"merchant": ids.urn(OPERATOR, "merchant", "other")},
    "another_gateway": {"gateway": "urn:hanbit:other:gateway"},
    "another_order": {"order": "A" * 43},
}


@pytest.mark.parametrize("changed", CORES)
async def test_an_approval_for_something_else_than_was_shown_holds_nothing(world: World, changed: str) -> None:
    visit = await world.visit()
    core = visit.core(**CORES[changed])
    await assert_refused(visit, visit.seal(core, visit.auth(core)), "core_mismatch")


UNREADABLE: dict[str, dict[str, Any]] = {
    "another_opening": {"ctx": "A" * 22},
    "another_tid": {"tid": "A" * 22},
    "another_version": {"v": 2},
    "amount_as_a_number": {"amount": 220_000},
    "amount_in_another_spelling": {"amount": "0220000"},
    "a_short_salt": {"salt": "A"},
    "a_member_too_many": {"tip": "1"},
    "a_typed_account_without_its_number": {"account": "typed:" + "A" * 43},
}


@pytest.mark.parametrize("changed", UNREADABLE)
async def test_a_core_outside_its_grammar_does_not_open(world: World, changed: str) -> None:
    visit = await world.visit()
    core = visit.core(**UNREADABLE[changed])
    await assert_refused(visit, visit.seal(core, visit.auth(core)), "sealed")


async def test_a_core_that_two_readers_read_differently_does_not_open(world: World) -> None:
    visit = await world.visit()
    core = visit.core().replace('"amount":', '"amount":"1","amount":')
    await assert_refused(visit, visit.seal(core, visit.auth(core)), "sealed")


def plain(visit: Visit, **changes: Any) -> bytes:
    core = visit.core()
    return msgspec.json.encode(sealed.pay_plain(core, visit.auth(core)) | changes)


def seal_bytes(visit: Visit, data: bytes, *, typ: str = sealed.PAY_TYP, session: SessionKey | None = None, **header: str) -> str:
    """Any plaintext, under the session's own key for this typ."""
    session = session or visit.sealing.session
    claims: dict[str, str | int] = {"typ": typ, "ctx": session.ctx, "sequence": 1, "tid": session.tid, **header}
    return envelopes.seal_with_secret(sealed._key_for(session, typ), data, claims)


def flipped(message: str, part: int) -> str:
    parts = message.split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
    return ".".join(parts)


PAYS: dict[str, Callable[[Visit], str]] = {
    "empty": lambda _: "",
    "words": lambda _: "pay me",
    "not_ascii": lambda _: "é.é.é.é.é",
    "huge": lambda v: v.sealed_pay() + "A" * 20_000,
    "header_altered": lambda v: flipped(v.sealed_pay(), 0),
    "iv_altered": lambda v: flipped(v.sealed_pay(), 2),
    "ciphertext_altered": lambda v: flipped(v.sealed_pay(), 3),
    "tag_altered": lambda v: flipped(v.sealed_pay(), 4),
    "a_login_in_its_place": lambda v: role.seal_login(v.sealing, login_id="hong", password="x"),
    "a_login_under_its_typ": lambda v: seal_bytes(v, b'{"method":"password"}'),
    "typ_of_a_login": lambda v: envelopes.seal_with_secret(
        sealed._key_for(v.sealing.session, sealed.PAY_TYP), plain(v), {"typ": sealed.LOGIN_TYP, "ctx": v.sealing.session.ctx, "sequence": 1}
    ),
    "header_of_another_ctx": lambda v: seal_bytes(v, plain(v), ctx="A" * 22),
    "header_of_another_tid": lambda v: seal_bytes(v, plain(v), tid="A" * 22),
    "under_a_secret_of_ones_own": lambda v: seal_bytes(
        v, plain(v), session=SessionKey(bytes(32), v.sealing.session.ctx, v.sealing.session.n, v.sealing.session.tid)
    ),
    "deeply_nested": lambda v: seal_bytes(v, b"[" * 8_000),
    "deeply_nested_core": lambda v: seal_bytes(v, plain(v, core='{"v":' + "[" * 5_000)),
    "duplicate_name": lambda v: seal_bytes(v, b'{"core":"","core":"","auth":""}'),
    "no_object": lambda v: seal_bytes(v, b"null"),
    "not_utf8": lambda v: seal_bytes(v, b'{"core":"\xff","auth":""}'),
    "half_a_character": lambda v: seal_bytes(v, b'{"core":"\\ud800","auth":""}'),
    "a_member_too_many": lambda v: seal_bytes(v, plain(v, tip="1")),
    "core_missing": lambda v: seal_bytes(v, b'{"auth":"{}"}'),
    "auth_as_an_object": lambda v: seal_bytes(v, plain(v, auth={})),
    "auth_empty": lambda v: seal_bytes(v, plain(v, auth="")),
    "number_without_its_salt": lambda v: seal_bytes(v, plain(v, number="11012345678890")),
    "number_beside_an_account": lambda v: seal_bytes(v, plain(v, number="11012345678890", number_salt="A" * 43)),
    "number_that_is_not_the_cores": lambda v: v.seal(
        v.core(role.typed_number("11012345678890")[0]),
        role.auth_password("2580"),
        number="11098765432100",
        number_salt=secrets.token_bytes(32),
    ),
}


@pytest.mark.parametrize("attack", PAYS)
async def test_what_does_not_open_has_one_answer_and_changes_nothing(world: World, attack: str) -> None:
    visit = await world.visit()
    await assert_refused(visit, PAYS[attack](visit), "sealed")


async def key_of_another_opening(visit: Visit) -> str:
    return (await visit.world.visit()).sealing.key


async def key_with_another_number(visit: Visit) -> str:
    session = visit.sealing.session
    return sealed.seal_key(visit.opening.seal.public, visit.opening.seal.kid, ctx=session.ctx, n="A" * 43, tid=session.tid)[1]


async def key_to_another_certificate(visit: Visit) -> str:
    session = visit.sealing.session
    return sealed.seal_key(visit.opening.seal.public, "A" * 43, ctx=session.ctx, n=session.n, tid=session.tid)[1]


async def key_altered(visit: Visit) -> str:
    return flipped(visit.sealing.key, 1)


async def no_key(visit: Visit) -> str:
    return ""


async def a_pay_in_its_place(visit: Visit) -> str:
    return visit.sealed_pay()


@pytest.mark.parametrize(
    "make",
    [key_of_another_opening, key_with_another_number, key_to_another_certificate, key_altered, no_key, a_pay_in_its_place],
    ids=lambda make: make.__name__,
)
async def test_a_session_key_for_another_opening_does_not_open(world: World, make: Any) -> None:
    visit = await world.visit()
    await assert_refused(visit, visit.sealed_pay(), "sealed", key=await make(visit))


async def test_a_pay_sealed_at_one_order_pays_no_other(world: World) -> None:
    recorded, visit = await world.visit(), await world.visit()
    await assert_refused(visit, recorded.sealed_pay(), "sealed", key=recorded.sealing.key)


async def test_the_third_that_does_not_open_burns_the_opening(world: World) -> None:
    visit = await world.visit()
    good = visit.sealed_pay()
    for _ in range(3):
        with pytest.raises(ProtocolViolation):
            await visit.submit("garbage")
    for act in (visit.submit(good), visit.login(), visit.cancel()):
        with pytest.raises(ProtocolViolation) as burnt:
            await act
        assert burnt.value.rule == "sealed"
    assert visit.payment is None
    again = world.open(f"?MID=shop&TID={visit.redirect.tid}&AMOUNT=220000&CUR=KRW&ORDER={visit.redirect.order}")
    assert (await again.pay()).state == "captured", "a fresh page is as good as ever"


async def test_nothing_opens_under_a_sealing_key_that_was_destroyed(world: World) -> None:
    seal = world.gateway.keyring.seal
    visit = await world.visit()
    good = visit.sealed_pay()
    (made_at,) = [at for at, kept in world.gateway.keyring.seals.values() if kept.kid == seal.kid]
    await world.tick(25 * 3600 + 1801)
    assert world.gateway.keyring.seal.kid != seal.kid
    assert world.gateway.keyring.seal_by_kid(seal.kid) is None
    assert not (world.folder / "keys" / f"seal-{made_at}.key").exists()
    with pytest.raises(ProtocolViolation):
        await visit.submit(good)
    assert visit.payment is None
    assert (await (await world.visit()).pay()).state == "captured", "under the new key"


async def test_an_opening_made_before_the_sealing_key_changed_still_pays(world: World) -> None:
    await world.tick(23 * 3600 - 60)
    old = world.gateway.keyring.seal.kid
    visit = await world.visit()
    await world.tick(120)
    assert world.gateway.keyring.seal.kid != old
    await world.restart()
    assert (await visit.pay()).state == "captured"


# --- consents


async def declined(visit: Visit, core: str, factor: str) -> None:
    """The wrong factor is a declined attempt and nothing more."""
    money = visit.world.dump()["ledger_accounts"]
    payment = await visit.submit(visit.seal(core, factor))
    assert (payment.state, payment.reason) == ("open", "wrong_factor")
    assert visit.world.dump()["ledger_accounts"] == money
    assert not visit.world.shop.asked
    assert "consent" not in visit.kinds()


def consent(visit: Visit, core: str, /, **changes: Any) -> str:
    device = visit.person.device
    claims = signed.head(device, GATEWAY, visit.world.clock.now()) | {"core": ids.digest(core.encode()), "order": visit.opening.order_hash}
    return auth("device", signed.sign(Consent(**(claims | changes)), device).compact)


@pytest.mark.parametrize(
    "changes",
    [{"core": "A" * 43}, {"order": "A" * 43}, {"aud": "urn:hanbit:other:gateway"}, {"aud": "urn:hanbit:bank:merchant:shop"}, {"v": 2}],
    ids=str,
)
async def test_a_consent_to_something_else_approves_nothing(world: World, changes: dict[str, Any]) -> None:
    visit = await world.visit()
    core = visit.core()
    await declined(visit, core, consent(visit, core, **changes))


async def test_a_consent_by_a_revoked_device_approves_nothing(world: World) -> None:
    visit = await world.visit()
    core = visit.core()
    await operations.revoke(world.gateway, kid=world.hong.device.kid)
    await declined(visit, core, visit.auth(core))


async def test_a_consent_by_a_removed_device_approves_nothing(world: World) -> None:
    visit = await world.visit()
    core = visit.core()
    await world.remove_device("device")
    await declined(visit, core, visit.auth(core))


async def test_a_consent_from_an_earlier_payment_approves_no_other(world: World) -> None:
    first = await world.visit()
    core = first.core()
    factor = first.auth(core)
    await first.submit(first.seal(core, factor))
    world.shop.asked.clear()
    second = await world.visit()
    await declined(second, second.core(), factor)


async def test_a_second_device_of_the_same_customer_approves(world: World) -> None:
    device, _ = await enrol_device(world.gateway, "hong")
    visit = await world.visit()
    core = visit.core()
    factor = role.auth_device(visit.opening, core, device, world.clock.now())
    assert (await visit.submit(visit.seal(core, factor))).state == "captured"


async def test_a_merchants_signature_is_no_customers_consent(world: World) -> None:
    visit = await world.visit()
    core = visit.core()
    await declined(visit, core, auth("device", visit.redirect.order))


@pytest.mark.parametrize("value", ["", "x", "{}", "null", "[]", "[" * 3_000, '{"id":5}', "\u0000", "é"], ids=lambda value: repr(value[:6]))
@pytest.mark.parametrize("method", ["device", "passkey", "code"])
async def test_nonsense_in_place_of_a_factor_is_a_wrong_factor(world: World, method: str, value: str) -> None:
    visit = await world.visit()
    await declined(visit, visit.core(), auth(method, value))


async def test_a_password_of_no_length_or_too_much_is_refused(world: World) -> None:
    visit = await world.visit()
    for value in ("", "x" * 129):
        with pytest.raises(HanbitError):
            await visit.submit(visit.seal(visit.core(), auth("password", value)))
    assert visit.payment is None
