"""The conformance kit's parts: forged signatures are what they say, its enrolment desk and the shop's answers are read strictly."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant.files import LineAddress
from hanbit.merchant.probe import parties, shop_side
from hanbit.merchant.probe.chores import Chores
from hanbit.merchant.probe.enrolment_desk import BODY_MAX, PATH, EnrolmentDesk
from hanbit.merchant.probe.forge import draft, mirrored
from hanbit.merchant.probe.shop_side import ShopState, read_location
from hanbit.protocols import keys as about_keys
from hanbit.protocols.redirect.messages import Closed
from hanbit.protocols.signed import verify

NOW = 1_800_000_000
CLOCK = ManualClock(NOW)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[parties.Operator, str]:
    folder = tmp_path_factory.mktemp("probe") / "operator"
    code = parties.create(folder, merchant="shop", line=LineAddress(host="127.0.0.1", port=8410), at=NOW)
    return parties.load(folder), code


def test_everybody_false_is_false_in_one_respect_and_nobody_else_can_read_the_keys(made: tuple[parties.Operator, str]) -> None:
    operator, _ = made
    good = {}
    for name, signer in operator.cast.items():
        try:
            certificates.verify_chain(signer.chain, root=operator.root, at=NOW, operator=parties.OPERATOR)
        except ProtocolViolation as violation:
            good[name] = violation.rule
    assert good == {
        "expired": "certificate_dates",
        "early": "certificate_dates",
        "false-gateway": "certificate_profile",
        "false-line": "certificate_profile",
        "stranger": "certificate_operator",
    }
    assert [path.name for path in operator.folder.iterdir() if path.stat().st_mode & 0o077] == []


def test_the_lists_revoke_one_certificate_and_their_number_grows(made: tuple[parties.Operator, str]) -> None:
    operator, _ = made
    chores = Chores(operator, CLOCK)
    first, second = chores.new_lists(), chores.new_lists()
    authorities = {"gateway": operator.gateway_authority.chain[0], "merchant": operator.merchant_authority.chain[0]}
    gateway = operator.gateway.urn
    read = [
        about_keys.read_crl(compact, trust=operator.gateway_trust(), gateway=gateway, authorities=authorities, at=NOW)
        for compact in (*first, *second)
    ]
    assert [listed.content.number for listed in read] == [NOW, NOW, NOW + 1, NOW + 1]
    assert read[0].content.serials == {certificates.serial_of(operator.cast["revoked"].chain[0])}
    assert read[1].content.serials == frozenset()


def test_the_mirrored_signature_is_good_and_other_bytes(made: tuple[parties.Operator, str]) -> None:
    operator, _ = made
    closed = draft(Closed, operator.gateway, operator.merchant, NOW, tid="t" * 22, order="o" * 43, prev="o" * 43, outcome="expired")
    once = closed.compact()
    for compact in (once, mirrored(once)):
        verify(compact, Closed, trust=operator.gateway_trust(), audience=operator.merchant, at=NOW)
    assert mirrored(once) != once
    assert mirrored(mirrored(once)) == once


def _requests(*purposes: str) -> dict[str, str]:
    return {purpose: ids.encode_base64url(certificates.certificate_request(keys.new_key(), "", purpose)) for purpose in purposes}


async def test_the_enrolment_desk_refuses_what_is_no_enrolment(made: tuple[parties.Operator, str]) -> None:
    operator, code = made
    desk = EnrolmentDesk(operator, CLOCK)
    good = {"code": code, "requests": _requests("merchant-sign", "line")}
    bad: list[tuple[bytes, int]] = [
        (json.dumps(good | {"code": "guessed"}).encode(), 403),
        (json.dumps(good | {"more": 1}).encode(), 400),
        (json.dumps(good | {"requests": _requests("merchant-sign", "customer-sign")}).encode(), 400),
        (json.dumps(good | {"requests": {"merchant-sign": "AAAA", "line": "AAAA"}}).encode(), 400),
        (json.dumps(good | {"requests": {"merchant-sign": "한", "line": "AAAA"}}).encode(), 400),
        (json.dumps(good | {"requests": {}}).encode(), 400),
        (b"\xff", 400),
        (b"[" * 10_000, 400),
        (b" " * (BODY_MAX + 1), 413),
    ]
    async with desk.listening("127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        for body, status in bad:
            async with http.post(f"http://127.0.0.1:{port}{PATH}", data=body) as answer:
                assert answer.status == status, body[:100]
        assert not desk.enrolled.is_set()
        assert not operator.has_enrolled()
        async with http.post(f"http://127.0.0.1:{port}{PATH}", json=good) as answer:
            assert answer.status == 200
            told = await answer.json()
        assert (told["merchant"], told["line"]["port"], set(told["chains"])) == (operator.merchant, 8410, {"merchant-sign", "line"})
        assert desk.enrolled.is_set()


@pytest.mark.parametrize("location", ["", "https://pay/?TID=x", "https://pay/?MID=shop&TID=t&AMOUNT=1&CUR=KRW&ORDER=no.order.here"])
def test_a_location_without_a_good_order_is_told(made: tuple[parties.Operator, str], location: str) -> None:
    with pytest.raises(HanbitError):
        read_location(location, made[0], CLOCK)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"state": "settled"}, True),
        ({"state": "paid"}, True),
        ({"state": "confirmed"}, False),
        ({"state": "settled", "may_deliver": False}, False),
        ({"state": "ready", "may_deliver": True}, True),
    ],
)
def test_the_shops_own_view_says_whether_it_delivers(answer: Any, expected: bool) -> None:
    assert ShopState.read(answer).delivers is expected


@pytest.mark.parametrize("answer", [None, [], {}, {"state": 1}, "settled"])
def test_a_view_of_another_shape_is_told(answer: Any) -> None:
    with pytest.raises(Unavailable):
        ShopState.read(answer)


async def test_an_order_program_that_fails_prints_nothing_or_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("raise SystemExit(3)", "print('no order')", "print('?TID=1'); raise SystemExit(1)"):
        with pytest.raises(Unavailable):
            await shop_side.by_command(f'{sys.executable} -c "{code}"')()
    with pytest.raises(BadInput):
        shop_side.by_command("")
    monkeypatch.setattr(shop_side, "ORDER_WITHIN_S", 0.2)
    before = asyncio.all_tasks()
    with pytest.raises(Unavailable):
        await shop_side.by_command(f'{sys.executable} -c "import time; time.sleep(60)"')()
    assert asyncio.all_tasks() == before
