"""The return page believes nothing in the address and shows an order to nobody but its own browser session."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit.merchant import return_page
from hanbit.merchant.return_page import ReturnPage
from hanbit.merchant.shop import Shop
from tests.unit.merchant.support import GatewayLine, Parties, call, confirmed, place


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path) as opened:
        opened.line = GatewayLine(parties)
        yield opened


def owner_of(scope: Any) -> str | None:
    return dict(scope["headers"]).get(b"x-session", b"").decode() or None


@pytest.fixture
def page(shop: Shop) -> ReturnPage:
    return ReturnPage(shop, owner_of=owner_of, page_of=lambda tid: f"/orders/{tid}")


async def test_it_waits_in_the_browser_that_ordered_and_goes_on_once_the_order_is_final(
    parties: Parties, shop: Shop, page: ReturnPage
) -> None:
    order = await shop.order((await place(shop, owner="mine")).tid)
    waiting = await call(page, f"/hanbit/return?TID={order.tid}", x_session="mine", accept_language="en-GB")
    assert waiting.status == 200
    assert "Checking your payment" in waiting.text
    assert waiting.headers["cache-control"] == "no-store"
    confirmation = parties.read_confirmation(await shop.receive(parties.notice(order).compact))
    state = asyncio.create_task(call(page, f"/hanbit/state?TID={order.tid}", x_session="mine"))
    await asyncio.sleep(0.02)
    assert not state.done()
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    assert msgspec.json.decode((await state).body) == {"state": "settled", "final": True}
    done = await call(page, f"/hanbit/return?TID={order.tid}", x_session="mine")
    assert (done.status, done.headers["location"]) == (303, f"/orders/{order.tid}")


async def test_a_status_in_the_address_is_believed_by_nobody(parties: Parties, shop: Shop, page: ReturnPage) -> None:
    tid = (await place(shop, owner="mine")).tid
    answer = await call(page, f"/hanbit/return?TID={tid}&STATUS=paid&state=settled&final=true", x_session="mine")
    assert answer.status == 200
    assert not (await shop.order(tid)).may_deliver


@pytest.mark.parametrize("name", ["return", "state"])
async def test_a_foreign_browser_sees_what_it_would_see_for_no_order_at_all(shop: Shop, page: ReturnPage, name: str) -> None:
    tid = (await place(shop, owner="mine")).tid
    nobodys = (await place(shop)).tid
    answers = [
        await call(page, f"/hanbit/{name}?TID={tid}", x_session="yours"),
        await call(page, f"/hanbit/{name}?TID={tid}"),
        await call(page, f"/hanbit/{name}?TID={nobodys}", x_session="mine"),
        await call(page, f"/hanbit/{name}?TID={'A' * 22}", x_session="mine"),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(404, answers[0].body)}


@pytest.mark.parametrize(
    "target",
    ["return", "return?TID=", "return?TID=a&TID=b", "return?TID=%00", "return?" + "x" * 600, "other?TID=x", "return?a=1&b&c&d&e&f=2"],
)
async def test_bad_addresses_are_not_found(page: ReturnPage, target: str) -> None:
    assert (await call(page, f"/hanbit/{target}", x_session="mine")).status == 404


async def test_writing_is_not_found(page: ReturnPage) -> None:
    assert (await call(page, "/hanbit/return?TID=x", method="POST")).status == 404


async def test_the_page_allows_no_script_but_its_own_and_cannot_be_broken_out_of(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path) as shop:
        hostile = ReturnPage(shop, owner_of=owner_of, page_of=lambda _: "/</script><script>alert(1)</script>\"'")
        tid = (await place(shop, owner="mine")).tid
        answer = await call(hostile, f"/return?TID={tid}", x_session="mine")
        assert "</script><script>" not in answer.text.replace("</script></body>", "")
        assert answer.text.count("<script") == 1
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_nothing_waits_longer_than_its_limit(parties: Parties, shop: Shop, page: ReturnPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(return_page, "WAIT_S", 0.05)
    order, _, _ = await confirmed(parties, shop)
    tid = (await place(shop, owner="mine")).tid
    answer = await call(page, f"/state?TID={tid}", x_session="mine")
    assert msgspec.json.decode(answer.body) == {"state": "placed", "final": False}
    assert order.owner is None
