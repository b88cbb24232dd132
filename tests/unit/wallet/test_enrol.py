"""Enrolment: what the new device sends, and every false answer that must leave the wallet without a device."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import signed
from hanbit.wallet.client import GatewayRefused, Http
from hanbit.wallet.enrol import enrol
from hanbit.wallet.pay import Device, Wallet
from hanbit.wallet.store import Enrolment, Store
from tests.unit.wallet.parties import AT, DAY_S, bank, forger
from tests.unit.wallet.server import Server, listening, problem

HONG = "urn:hanbit:bank:customer:hong"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server(bank())) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "wallet")
    store.trust(bank().root, AT)
    return store


async def enrolled(server: Server, store: Store, code: str = "one-time-code") -> Enrolment:
    async with Http() as http:
        return await enrol(server.origin, code, store=store, http=http, clock=ManualClock(AT))


async def refused(server: Server, store: Store) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        await enrolled(server, store)
    assert store.enrolment("bank") is None
    return caught.value.rule


async def test_device_is_enrolled_and_can_pay(server: Server, store: Store) -> None:
    made = await enrolled(server, store)
    (sent,) = server.enrolments
    assert set(sent) == {"code", "request", "secret"}
    assert sent["code"] == "one-time-code"
    assert ids.decode_base64url(sent["secret"]) == made.secret
    assert "one-time-code" not in repr(server.received)
    found = store.enrolment("bank")
    assert found is not None
    assert (found.customer, found.origin) == (HONG, server.origin)
    async with Http() as http:
        wallet, opened, again = await Wallet.visit(server.url, store=store, http=http, clock=ManualClock(AT))
        assert again is not None
        assert (await wallet.pay(opened, Device(again.device), account="a1")).receipt is not None


async def test_secret_is_new_each_time(server: Server, store: Store) -> None:
    assert (await enrolled(server, store)).secret != (await enrolled(server, store)).secret


async def test_wrong_code_is_told_and_nothing_is_stored(server: Server, store: Store) -> None:
    server.instead["/enrol/device"] = problem(401, "wrong_code", "The code is wrong.")
    with pytest.raises(GatewayRefused):
        await enrolled(server, store)
    assert store.enrolment("bank") is None


@pytest.mark.parametrize("code", ["", "x" * 65, "코드"])
async def test_code_that_cannot_be_one_is_not_sent(server: Server, store: Store, code: str) -> None:
    with pytest.raises(BadInput):
        await enrolled(server, store, code)
    assert server.received == []


async def test_operator_that_is_not_trusted_gets_no_code(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="wallet trust"):
        await enrolled(server, Store(tmp_path / "empty"))
    assert server.received == []


async def test_forger_gets_no_code(store: Store) -> None:
    async with listening(Server(forger())) as false:
        assert (await refused(false, store)).startswith("certificate_")
        assert false.received == []


@pytest.mark.parametrize("purpose", ["gateway-sign", "line"])
async def test_key_of_another_purpose_in_place_of_the_seal(server: Server, store: Store, purpose: str) -> None:
    gateway = "urn:hanbit:bank:gateway"
    leaf = certificates.make_leaf(
        bank().gateway_authority, urn=gateway, purpose=purpose, public=keys.new_key().public_key(), at=AT, lifetime_s=DAY_S
    )
    chain = [signed.encode_der(der) for der in (leaf, *bank().gateway_authority.chain)]
    server._enrol_keys = lambda: {"gateway": gateway, "seal": chain}  # type: ignore[method-assign]  # a false server
    assert await refused(server, store) == "seal"
    assert server.received == []


@pytest.mark.parametrize("gateway", ["", "bank", "urn:hanbit:bank:gateway:x", "urn:hanbit:../x:gateway", "urn:hanbit:bank:customer"])
async def test_name_that_is_no_gateways(server: Server, store: Store, gateway: str) -> None:
    chain = [signed.encode_der(der) for der in (bank().seal, *bank().gateway_authority.chain)]
    server._enrol_keys = lambda: {"gateway": gateway, "seal": chain}  # type: ignore[method-assign]  # a false server
    assert await refused(server, store) in {"gateway", "seal"}
    assert server.received == []


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (lambda server: server.enrolled(HONG), "enrolment"),
        (lambda server: server.enrolled(HONG, customer="urn:hanbit:bank:customer:kim"), "enrolment"),
        (lambda server: server.enrolled(HONG, gateway="urn:hanbit:otherbank:gateway"), "enrolment"),
        (lambda server: server.enrolled(HONG, chain=[signed.encode_der(der) for der in bank().shop.chain]), "enrolment"),
        (lambda server: server.enrolled(HONG, chain=[signed.encode_der(der) for der in forger().customer().chain]), "certificate_profile"),
        (lambda server: server.enrolled(HONG, chain=["x"]), "header"),
        (lambda _: {}, "answer"),
        (lambda _: {"customer": HONG, "chain": [], "gateway": "urn:hanbit:bank:gateway"}, "answer"),
    ],
)
async def test_false_certificate_is_not_stored(server: Server, store: Store, answer: Any, rule: str) -> None:
    server._enrol = lambda: answer(server)  # type: ignore[method-assign]  # a false server
    assert await refused(server, store) == rule


async def test_payment_address_of_another_server_than_the_enrolled_one_is_refused(server: Server, store: Store) -> None:
    await enrolled(server, store)
    async with listening(Server(bank())) as other, Http() as http:
        with pytest.raises(ProtocolViolation) as caught:
            await Wallet.visit(other.url, store=store, http=http, clock=ManualClock(AT))
        assert caught.value.rule == "other_origin"
        assert other.received == []
