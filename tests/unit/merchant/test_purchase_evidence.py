"""The shop's own evidence of a purchase, out of its own book: session, request, answer, receipt and OI, judged by a stranger."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanbit.evidence.bundle import Bundle, write
from hanbit.evidence.verify import verify
from hanbit.merchant import own_evidence
from hanbit.merchant.shop import Shop
from tests.flows.evidence_files import codes, failure, resealed
from tests.unit.merchant.purchases import Customer, Till, opened
from tests.unit.wallet.parties import bank


@pytest.fixture
def till() -> Till:
    return Till()


@pytest.fixture
async def shop(tmp_path: Path, till: Till) -> AsyncIterator[Shop]:
    async with opened(tmp_path, till) as shop:
        yield shop


async def file_of(shop: Shop, tid: str) -> Bundle:
    collected = await own_evidence.collect(await shop.order(tid), shop.book, shop.witness)
    return own_evidence.bundle(collected, operator="bank", merchant="shop", keys=(), chains=[bank().shop.chain])


async def test_shop_shows_its_half_and_that_the_gateway_approved(shop: Shop, till: Till) -> None:
    customer = await Customer.come(shop, till)
    await shop.purchase(customer.tid, await customer.purchase())
    made = await file_of(shop, customer.tid)
    report = verify(write(made), root=bank().root)
    assert report.verified, failure(report)
    assert {"merchant_asked", "gateway_approved", "gateway_receipt", "halves_joined", "half_of_merchant"} <= set(codes(report))
    assert {"no_payment_information", "only_one_side"} <= set(codes(report))
    assert [kept.typ for kept in made.messages] == [
        "hanbit-order", "hanbit-session", "hanbit-authorization-request", "hanbit-authorization", "hanbit-receipt",
    ]  # fmt: skip
    for name in ("order_information", "messages"):
        other = await Customer.come(shop, till)
        await shop.purchase(other.tid, await other.purchase())
        foreign = await file_of(shop, other.tid)
        bad = resealed(made, lambda content, name=name, foreign=foreign: content.update({name: _member(foreign, name)}))  # type: ignore[misc]  # a lambda's default
        assert not verify(bad, root=bank().root).verified


async def test_session_of_another_purchase_is_not_the_one_that_was_bought_in(shop: Shop, till: Till) -> None:
    till.decide = Till.decline
    customer = await Customer.come(shop, till)
    await shop.purchase(customer.tid, await customer.purchase())
    till.decide = Till.approve
    await shop.purchase(customer.tid, await customer.purchase())
    made = await file_of(shop, customer.tid)
    report = verify(write(made), root=bank().root)
    assert report.verified, failure(report)
    assert {"gateway_declined", "gateway_approved"} <= set(codes(report))
    sessions = [number for number, kept in enumerate(made.messages) if kept.typ == "hanbit-session"]
    assert len(sessions) == 2


async def test_purchase_that_is_not_answered_yet_is_shown_as_asked(shop: Shop, till: Till) -> None:
    till.decide = lambda _till, _frame: None
    customer = await Customer.come(shop, till)
    result = await shop.purchase(customer.tid, await customer.purchase())
    assert result.result == "pending"
    report = verify(write(await file_of(shop, customer.tid)), root=bank().root)
    assert report.verified, failure(report)
    assert {"merchant_asked", "no_outcome"} <= set(codes(report))
    assert "halves_joined" not in codes(report)


def _member(bundle: Bundle, name: str) -> object:
    return json.loads(write(bundle))[name]
