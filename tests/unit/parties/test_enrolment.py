"""Enrolment with a one-time code: used once, for its own role, for requests that prove their keys."""

from typing import Any

import pytest

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key
from hanbit.db.change import Change, Stale
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, HanbitError, NotAllowed, ProtocolViolation
from hanbit.parties import enrolment
from hanbit.payments import operations
from tests.world import NOW, World, enrol_device


def requests(**changes: str) -> dict[str, str]:
    made = {purpose: csr(purpose) for purpose in enrolment.MERCHANT_PURPOSES}
    return made | changes


def csr(purpose: str, urn: str = "", key: Any = None) -> str:
    return ids.encode_base64url(certificates.certificate_request(key or new_key(), urn, purpose))


async def merchant_code(world: World) -> str:
    return str((await operations.enrol_code(world.gateway, merchant="shop"))["code"])


@pytest.mark.parametrize("wrong", ["unknown", "other_role", "too_old", "used", "empty"])
async def test_every_wrong_code_has_the_same_answer(world: World, wrong: str) -> None:
    code, at = await merchant_code(world), NOW
    if wrong == "used":
        found = enrolment.use_code(world.gateway.reader, code, "merchant", at)
        await world.gateway.book.commit(Change(puts=(found.used,)))
    code = {"unknown": "nonsense", "empty": ""}.get(wrong, code)
    at += 24 * 3600 + 1 if wrong == "too_old" else 0
    with pytest.raises(NotAllowed) as refused:
        enrolment.use_code(world.gateway.reader, code, "customer" if wrong == "other_role" else "merchant", at)
    assert str(refused.value) == "not_allowed: this enrolment code is unknown, used or too old"


async def test_a_code_is_used_up_with_what_it_registers(world: World) -> None:
    code = await merchant_code(world)
    changes = []
    for _ in range(2):
        found = enrolment.use_code(world.gateway.reader, code, "merchant", NOW)
        _, rows = enrolment.issue_for_merchant(world.gateway.keyring, found, requests(), NOW)
        changes.append(Change(puts=tuple(rows)))
    await world.gateway.book.commit(changes[0])
    before = world.dump()
    with pytest.raises(Stale):
        await world.gateway.book.commit(changes[1])
    assert world.dump() == before
    assert code not in str(before), "only its hash is kept"


@pytest.mark.parametrize(
    "wrong",
    [
        {"line": csr("merchant-sign")},
        {"merchant-sign": csr("customer-sign")},
        {"merchant-sign": csr("merchant-sign", "urn:hanbit:bank:merchant:other")},
        {"merchant-sign": ""},
        {"merchant-sign": "!"},
        {"merchant-sign": "AAAA"},
        {"third": csr("line")},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_request_for_anything_else_is_refused(world: World, wrong: dict[str, str]) -> None:
    found = enrolment.use_code(world.gateway.reader, await merchant_code(world), "merchant", NOW)
    with pytest.raises((ProtocolViolation, BadInput)):
        enrolment.issue_for_merchant(world.gateway.keyring, found, requests(**wrong), NOW)


async def test_one_key_is_not_certified_for_two_purposes(world: World) -> None:
    key = new_key()
    found = enrolment.use_code(world.gateway.reader, await merchant_code(world), "merchant", NOW)
    same = {purpose: csr(purpose, key=key) for purpose in enrolment.MERCHANT_PURPOSES}
    with pytest.raises(ProtocolViolation):
        enrolment.issue_for_merchant(world.gateway.keyring, found, same, NOW)


async def test_a_devices_secret_is_useless_without_the_pepper(world: World) -> None:
    device, secret = await enrol_device(world.gateway, "kim")
    row = next(row for row in world.rows("devices") if row["id"] == f"code:{device.kid}")
    assert secret.hex() not in str(row)
    assert ids.encode_base64url(secret) not in str(row)
    wrapped = enrolment.wrap(world.gateway.keyring.pepper, device.kid, secret)
    assert enrolment.unwrap(world.gateway.keyring.pepper, device.kid, wrapped) == secret
    for pepper, name in ((bytes(32), device.kid), (world.gateway.keyring.pepper, "another")):
        with pytest.raises(BadInput):
            enrolment.unwrap(pepper, name, wrapped)


@pytest.mark.parametrize(
    ("request_text", "secret"), [(csr("merchant-sign"), bytes(32)), (csr("customer-sign"), bytes(31)), ("AAAA", bytes(32))]
)
async def test_a_device_of_another_shape_is_refused(world: World, request_text: str, secret: bytes) -> None:
    code = (await operations.enrol_code(world.gateway, login="kim"))["code"]
    found = enrolment.use_code(world.gateway.reader, code, "customer", NOW)
    with pytest.raises(HanbitError):
        enrolment.issue_for_device(world.gateway.keyring, found, ids.decode_base64url(request_text), secret, NOW)
