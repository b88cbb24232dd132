"""Fifty-five days after the enrolment: gateway and shop renew their keys while they run, killed at each durable step, and go on paying."""

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hanbit.crypto import certificates, keys
from hanbit.demo.world import Ports
from hanbit.kernel import fail_points, ids
from hanbit.kernel.clock import ManualClock, SystemClock
from hanbit.merchant import enrolment, files, records
from hanbit.merchant.records import OwnCertificate
from hanbit.parties import enrolment as gateway_enrolment
from hanbit.parties import keyring
from hanbit.payments import operations, revocation
from hanbit.payments.certificates import issue
from hanbit.protocols.continuity import Continuity, verify_continuity
from hanbit.settings import FILE, Settings, dump, load
from tests import engine
from tests.flows.crash_child import in_child
from tests.flows.crash_proof import pays_again, proven
from tests.flows.crash_world import MERCHANT, Memo, Parties, make_folder, parties

DAY_S = 86_400
AGE_S = 55 * DAY_S
"""TLS knows the machine's time only, so the keys are made in the past."""
OWN = [f"keys.{step}:{count}" for step in ("prepared", "registered", "adopted") for count in (1, 2, 3)]
"""gateway-sign, line, gateway-seal"""
OF_THE_SHOP = [f"merchant.renewal.{step}:1" for step in ("keys", "signed", "answered", "merchant-sign", "line", "switched")]
OF_ITS_SESSIONS = [f"merchant.session_authority.{step}:1" for step in ("signed", "answered", "written")]


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose keys are all due."""
    folder = tmp_path_factory.mktemp("aged")
    now = SystemClock().now()
    asyncio.run(make_folder(folder, ManualClock(now - AGE_S), Ports.free()))
    (folder / "began").write_text(str(now), "ascii")
    book = load(folder / "gateway").database
    (folder / "gateway" / FILE).write_text(dump(Settings(listen_port=0, line_port=0, database=book)), "utf-8")
    return folder


@pytest.fixture
def folder(aged: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it for one test."""
    with engine.copy(aged, tmp_path / "site") as copied:
        yield copied


def own_kids(folder: Path) -> dict[str, str]:
    """What the gateway's folder says is in use."""
    own = folder / "gateway" / "keys"
    return {
        purpose: certificates.kid(certificates.load_chain_pem(keyring.newest(own, purpose).with_suffix(".pem"))[0])
        for purpose in keyring.RENEWED
    }


async def all_renewed(p: Parties, folder: Path, before: dict[str, str]) -> None:
    async def done() -> bool:
        ours = p.gateway.keyring.signer.kid != before["gateway-sign"] and p.gateway.keyring.line.kid != before["line"]
        theirs = files.generation(folder / "shop") == 2 and not files.key_file(folder / "shop" / "keys", "line").exists()
        sessions = p.shop.keys is not None and not p.shop.keys.sessions.is_due(p.gateway.clock.now(), frozenset())
        return ours and theirs and sessions and p.running.line.connected(MERCHANT)

    await p.until(done)


async def renewed_and_proven(folder: Path, before: dict[str, str]) -> None:
    """Nobody helps: the next start brings every renewal to its end, once, and the next customer pays."""
    async with parties(folder, Memo(folder / "memo")) as p:
        await all_renewed(p, folder, before)
        assert p.shop.keys is not None
        assert p.shop.keys.alarms == []
        assert p.shop.stopped is None
        await pays_again(p)
        await proven(p)
        rows = p.gateway.reader.all("SELECT purpose FROM certificates WHERE urn LIKE '%:merchant:%' ORDER BY purpose")
        assert [row["purpose"] for row in rows] == ["line", "line", "merchant-sign", "merchant-sign"], (
            "one renewal, however often it was asked"
        )
        now = p.gateway.clock.now()
        sql = "SELECT kid FROM certificates WHERE urn LIKE '%:authority:session:%' AND not_after > ?"
        authorities = p.gateway.reader.all(sql, now)
        assert [row["kid"] for row in authorities] == [certificates.kid(p.shop.keys.sessions.usable(now).chain[0])]
        assert len(list((folder / "shop" / "sessions").glob("*.pem"))) == 3, "two chains, and the private key of the one in use"
        shown = continuity(folder)
        assert shown.problems == ()
        assert [link.how for link in shown.links] == ["card", "renewal"]
        assert shown.vouches(p.shop._role.signer.kid)
        left = {path.name for path in (folder / "gateway" / "keys").glob("*.key*") if not path.name.startswith(("seal-", "root", "server"))}
        assert len(left) == 4, left  # two authorities, one signing key, one line key
        os._exit(0)


def continuity(folder: Path) -> Continuity:
    """What a third party makes of the shop's own files."""
    card = enrolment.key_card(folder / "shop")
    root = certificates.load_chain_pem(folder / "shop" / files.ROOT)[0]
    at = SystemClock().now() + DAY_S
    return verify_continuity(records.about_keys(folder / "shop"), root=root, merchant=card.merchant, card=card.thumbprint, at=at)


@pytest.mark.parametrize("point", OWN + OF_THE_SHOP + OF_ITS_SESSIONS)
def test_killed_at_each_step_of_a_renewal_it_is_finished_at_the_next_start(folder: Path, point: str) -> None:
    before = own_kids(folder)

    async def until_killed() -> None:
        async with parties(folder, Memo(folder / "memo")) as p:
            await all_renewed(p, folder, before)
            await asyncio.sleep(5)  # the point may lie behind what is awaited

    name, _, count = point.partition(":")
    status = in_child(folder, until_killed, partial(fail_points.arm, name, int(count)))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert in_child(folder, lambda: renewed_and_proven(folder, before)) == 0


async def test_an_order_signed_under_the_old_key_is_paid_under_the_new_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_kids(folder)
    monkeypatch.setattr("hanbit.crypto.certificates.renew_at", lambda _, not_after: not_after)
    async with parties(folder, Memo(folder / "memo")) as p:
        tid = await p.order()
        opened = await p.open()
        monkeypatch.undo()
        assert p.shop.keys is not None
        await p.shop.keys.tick()
        await all_renewed(p, folder, before)
        assert await p.submit(opened) == "captured"
        await p.until_at_rest(tid)
        await pays_again(p)
        await proven(p)


async def test_a_certificate_that_the_shop_never_asked_for_raises_an_alarm(folder: Path) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        heard: list[OwnCertificate] = []
        assert p.shop.keys is not None
        p.shop.keys._on_alarm = heard.append
        stolen = await enrolled_by_somebody(p)
        p.clock.advance(3)  # the outbox

        async def alarmed() -> bool:
            return len(heard) == 2

        await p.until(alarmed)
        assert {own.purpose for own in p.shop.keys.alarms} == {"merchant-sign", "line"}
        assert {own.how for own in heard} == {"code"}
        shown = continuity(folder)
        assert [link.kid for link in shown.broken_at] == [stolen]
        assert not shown.vouches(stolen)


async def enrolled_by_somebody(p: Parties) -> str:
    """Whoever got hold of a code has two certificates in the shop's name; the kid of the one that signs."""
    code = (await operations.enrol_code(p.gateway, merchant=MERCHANT))["code"]
    at = p.clock.now()
    found = gateway_enrolment.use_code(p.gateway.reader, code, "merchant", at)
    asked = {purpose: certificates.certificate_request(keys.new_key(), "", purpose) for purpose in files.PURPOSES}
    requests = {purpose: ids.encode_base64url(request) for purpose, request in asked.items()}
    chains, rows = gateway_enrolment.issue_for_merchant(p.gateway.keyring, found, requests, at)
    await p.gateway.book.commit(issue(p.gateway, rows, how="code", at=at).change())
    return certificates.kid(chains["merchant-sign"][0])


async def test_under_a_stale_list_the_shop_confirms_nothing_and_under_the_next_one_it_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own_kids(folder)
    async with parties(folder, Memo(folder / "memo")) as p:
        await all_renewed(p, folder, before)
        monkeypatch.setattr(revocation, "EVERY_S", 10 * DAY_S)
        p.clock.advance(26 * 3600)

        async def rested() -> bool:
            return p.gateway.keyring.due(p.clock.now()) == ()  # a day has passed, so there is a new sealing key

        await p.until(rested)
        reason = p.shop.stopped
        assert reason is not None
        assert "ended" in reason
        tid = await p.order()
        assert await p.submit(await p.open()) == "authorized", "not refused: the shop does not know, so it is asked again"
        assert (await p.shop.order(tid)).state == "placed"
        monkeypatch.undo()

        async def told() -> bool:
            return p.shop.stopped is None

        await p.until(told)
        p.clock.advance(3)
        await p.until_at_rest(tid)
        payment = p.payment(tid)
        assert payment is not None
        assert payment.state == "captured"
        await proven(p)
