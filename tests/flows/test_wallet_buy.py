"""`hanbit wallet buy` against a shop that may say anything: an honest one is paid, every lie is named, and what is hidden is asked for."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from click.testing import CliRunner, Result
from msgspec.structs import replace

from hanbit.cli.wallet import wallet as command
from hanbit.crypto.keys import new_key, thumbprint
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.payments import operations
from hanbit.protocols.dual_signature.messages import Session
from hanbit.protocols.redirect.customer import Pin
from hanbit.wallet.buy import UNKNOWN, buy, shown_lines
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Opened, Outcome, Password, Wallet
from hanbit.wallet.relay import DishonestShop, Relay, ShopCheckout, ShopRefused
from hanbit.wallet.store import Store
from tests.e2e.checkout.button_shop import LINES, ButtonShop, button_shop
from tests.faces.site import ACCOUNT_PASSWORD, LOGIN, PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Buyer:
    """A customer at his terminal, who has found the relay of one order and is logged in at the payment server."""

    shop: ButtonShop
    wallet: Wallet
    http: Http
    account: str

    async def find(self, tid: str) -> tuple[Relay, ShopCheckout, Opened]:
        relay, checkout = await Relay.find(self.http, f"{self.shop.url}/hanbit/{tid}")
        return relay, checkout, await self.wallet.open(checkout.redirect)

    async def buy(self, password: str = ACCOUNT_PASSWORD, tid: str = "", **changes: str) -> Outcome:
        relay, checkout, opened = await self.find(tid or self.shop.order())
        lines = shown_lines(opened, checkout)
        await self.wallet.login(opened, LOGIN, PASSWORD)
        return await buy(self.wallet, opened, relay, lines, Password(password), **(changes or {"account": self.account}))

    def moved(self) -> int:
        """How much has left the account and is held on it."""
        sql = "SELECT debits_posted + debits_pending AS moved FROM ledger_accounts WHERE id = ?"
        row = self.shop.site.gateway.reader.one(sql, self.account)
        assert row is not None
        return int(row["moved"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ButtonShop]:
    async with button_shop(tmp_path_factory.mktemp("wallet-buy")) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="module")
async def buyer(served: ButtonShop) -> AsyncIterator[Buyer]:
    served.honest()
    gateway = served.site.gateway
    async with Http() as http:
        pin = Pin(gateway.keyring.root, gateway.settings.operator)
        wallet = Wallet.at(gateway.settings.public_url, pin=pin, http=http, clock=SystemClock(), poll_s=0.01)
        row = gateway.reader.one("SELECT id FROM accounts WHERE kind = 'bank' LIMIT 1")
        assert row is not None
        await operations.fund(gateway, account=row["id"], amount="1000000")
        yield Buyer(served, wallet, http, row["id"])
    heard = "".join(served.heard)
    assert ACCOUNT_PASSWORD not in heard
    assert PASSWORD not in heard


async def test_an_order_is_bought_through_the_shop_and_the_receipt_proves_it(buyer: Buyer) -> None:
    before = buyer.moved()
    outcome = await buyer.buy()
    assert outcome.state == "captured"
    assert outcome.receipt is not None
    assert (outcome.receipt.claims.payment, buyer.moved() - before) == (outcome.payment, 220_000)


async def test_the_relay_is_found_on_the_page_with_the_button(buyer: Buyer) -> None:
    tid = buyer.shop.order()
    _, checkout = await Relay.find(buyer.http, buyer.shop.page(tid))
    assert checkout.lines == LINES


async def test_a_page_without_a_button_says_what_to_give(buyer: Buyer) -> None:
    with pytest.raises(BadInput, match="no Hanbit button"):
        await Relay.find(buyer.http, f"{buyer.shop.url}/return")


async def test_a_shop_that_does_not_know_the_order_is_named(buyer: Buyer) -> None:
    with pytest.raises(ShopRefused, match="404"):
        await Relay.find(buyer.http, f"{buyer.shop.url}/hanbit/{ids.new_token()}")


async def test_a_wrong_password_is_a_decline_and_the_next_try_a_session_of_its_own(buyer: Buyer) -> None:
    tid, before = buyer.shop.order(), buyer.moved()
    declined = await buyer.buy("not it", tid=tid)
    assert (declined.state, declined.reason, declined.receipt) == ("open", "wrong_factor", None)
    assert buyer.moved() == before
    assert (await buyer.buy(tid=tid)).state == "captured"


async def test_a_typed_number_is_paid_from_and_never_passes_the_shop(buyer: Buyer) -> None:
    row = buyer.shop.site.gateway.reader.one("SELECT masked FROM accounts WHERE id = ?", buyer.account)
    assert row is not None
    assert (await buyer.buy(number="11012345678890")).state == "captured"
    assert "11012345678890" not in "".join(buyer.shop.heard)


def run(folder: Path, *arguments: str, answers: tuple[str, ...]) -> Result:
    """The command as a script uses it."""
    reading, writing = os.pipe()
    os.write(writing, "".join(f"{answer}\n" for answer in answers).encode())
    os.close(writing)
    return CliRunner().invoke(command, ["buy", *arguments, "--answers-fd", str(reading), "--wallet", str(folder)])


async def test_the_command_shows_lines_and_payee_pays_and_keeps_the_receipt(buyer: Buyer, tmp_path: Path) -> None:
    gateway = buyer.shop.site.gateway
    Store(tmp_path / "wallet").trust(gateway.keyring.root, gateway.clock.now())
    url = f"{buyer.shop.url}/hanbit/{buyer.shop.order()}"
    options = ("--id", LOGIN, "--account", "1", "--yes", "--json")
    done = await asyncio.to_thread(run, tmp_path / "wallet", url, *options, answers=(PASSWORD, ACCOUNT_PASSWORD))
    assert done.exit_code == 0, done.output
    # The server's log lines of this very process stand between.
    facts = msgspec.json.decode(next(line for line in done.stdout.splitlines() if line.startswith('{"payment"')))
    assert facts["state"] == "captured"
    assert facts["receipt"] == str(tmp_path / "wallet" / gateway.settings.operator / "receipts" / f"{facts['payment']}.jose")
    assert Store(tmp_path / "wallet").receipts(gateway.settings.operator) == (facts["payment"],)
    assert "SK휴대폰 IM-1100" in done.stderr
    assert PASSWORD not in done.output


async def test_the_command_names_a_dishonest_shop_and_exits_as_not_paid(buyer: Buyer, tmp_path: Path) -> None:
    gateway = buyer.shop.site.gateway
    Store(tmp_path / "wallet").trust(gateway.keyring.root, gateway.clock.now())
    buyer.shop.on_session = lambda session: replace(session, amount="1")
    url = f"{buyer.shop.url}/hanbit/{buyer.shop.order()}"
    options = ("--id", LOGIN, "--account", "1", "--yes")
    done = await asyncio.to_thread(run, tmp_path / "wallet", url, *options, answers=(PASSWORD, ACCOUNT_PASSWORD))
    assert done.exit_code == 1
    assert "the shop's answer is not genuine" in done.output
    assert "Nothing was paid" in done.output


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"reason": "shop_refused", "message": {"ko": "품절", "en": "Sold\u202e out"}}, "does not want this order: Sold  out"),
        ({"reason": "shop_silent"}, "does not want this order: shop silent"),
        ({}, "does not want this order: declined"),
    ],
)
async def test_a_shop_that_does_not_want_the_order_is_quoted(buyer: Buyer, tmp_path: Path, said: dict[str, Any], shown: str) -> None:
    gateway = buyer.shop.site.gateway
    Store(tmp_path / "wallet").trust(gateway.keyring.root, gateway.clock.now())
    buyer.shop.asks_gateway = False
    buyer.shop.on_result = lambda _said: {"result": "declined", **said}
    before = buyer.moved()
    url = f"{buyer.shop.url}/hanbit/{buyer.shop.order()}"
    options = ("--id", LOGIN, "--account", "1", "--yes")
    done = await asyncio.to_thread(run, tmp_path / "wallet", url, *options, answers=(PASSWORD, ACCOUNT_PASSWORD))
    assert done.exit_code != 0
    assert shown in done.output
    assert buyer.moved() == before


async def test_a_root_that_nobody_accepted_is_not_paid_under(buyer: Buyer, tmp_path: Path) -> None:
    url = f"{buyer.shop.url}/hanbit/{buyer.shop.order()}"
    done = await asyncio.to_thread(run, tmp_path / "empty", url, "--id", LOGIN, answers=(PASSWORD, ACCOUNT_PASSWORD))
    assert done.exit_code != 0
    assert "hanbit wallet trust" in done.output
    assert not buyer.shop.heard


LIES: dict[str, tuple[Callable[[Session], Session], str]] = {
    "another amount": (lambda session: replace(session, amount="1"), "amount"),
    "another currency": (lambda session: replace(session, currency="USD"), "amount"),
    "another gateway": (lambda session: replace(session, gateway="urn:hanbit:other:gateway"), "gateway"),
    "another tid": (lambda session: replace(session, tid=ids.new_token()), "tid"),
    "another order": (lambda session: replace(session, order="A" * 43), "order"),
    "another nonce": (lambda session: replace(session, nc="A" * 43), "nc"),
    "another's key": (lambda session: replace(session, thumbprint=thumbprint(new_key().public_key())), "thumbprint"),
    "another request": (lambda session: replace(session, req="A" * 43), "req"),
    "another session": (lambda session: replace(session, sid=ids.new_token()), "temporary"),
    "an old session": (lambda session: replace(session, exp=session.iat - 1), "expired"),
    "a session for ever": (lambda session: replace(session, exp=session.iat + 86_400), "expired"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_shop_that_lies_in_its_answer_is_named_and_nothing_is_paid(buyer: Buyer, lie: str) -> None:
    buyer.shop.on_session, rule = LIES[lie]
    before = buyer.moved()
    grants = len(buyer.shop.site.gateway.reader.all("SELECT 1 FROM grants"))
    with pytest.raises(DishonestShop) as stopped:
        await buyer.buy()
    assert stopped.value.rule == rule
    assert buyer.moved() == before
    assert len(buyer.shop.heard) == 1, "no purchase was handed over"
    assert len(buyer.shop.site.gateway.reader.all("SELECT 1 FROM grants")) == grants


async def test_an_old_answer_of_the_shop_is_not_taken(buyer: Buyer) -> None:
    await buyer.buy()
    old = buyer.shop.answers[0]
    buyer.shop.on_answer = lambda _answer: old
    with pytest.raises(DishonestShop, match="req"):
        await buyer.buy()


async def test_other_lines_than_those_of_the_signed_order_are_not_shown(buyer: Buyer) -> None:
    _, checkout, opened = await buyer.find(buyer.shop.order())
    with pytest.raises(DishonestShop, match="lines"):
        shown_lines(opened, msgspec.structs.replace(checkout, lines="[]"))
    last = "Q" if checkout.order.endswith("A") else "A"  # one signature in four ends in A
    with pytest.raises(DishonestShop, match="order"):
        shown_lines(opened, msgspec.structs.replace(checkout, order=checkout.order[:-1] + last))


HIDDEN: list[dict[str, Any]] = [
    {},
    {"result": "pending"},
    {"result": "declined", "reason": "declined"},
    {"result": "approved"},
    {"result": "approved", "receipt": "a.b.c"},
]


@pytest.mark.parametrize("said", HIDDEN)
async def test_a_shop_that_hides_the_receipt_hides_nothing(buyer: Buyer, said: dict[str, Any]) -> None:
    buyer.shop.on_result = lambda _said: said
    outcome = await buyer.buy()
    assert (outcome.state, outcome.receipt is None) == ("captured", False)


async def test_a_shop_that_keeps_the_purchase_to_itself_leaves_it_unknown(buyer: Buyer) -> None:
    buyer.shop.asks_gateway = False
    before = buyer.moved()
    outcome = await buyer.buy()
    assert (outcome.state, outcome.receipt) == (UNKNOWN, None)
    assert buyer.moved() == before


async def test_a_receipt_of_another_purchase_pays_for_nothing(buyer: Buyer) -> None:
    first = await buyer.buy()
    assert first.receipt is not None
    other = first.receipt.compact
    buyer.shop.asks_gateway = False
    buyer.shop.on_result = lambda _said: {"result": "approved", "receipt": other}
    assert (await buyer.buy()).state == UNKNOWN


@asynccontextmanager
async def _says(answer: web.Response) -> AsyncIterator[str]:
    """A site of which every address answers this."""

    async def said(_: web.Request) -> web.Response:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", said)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hanbit/x"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"order": 1}', b"[" * 100_000, b'{"a":' + b"9" * 5_000 + b"}"])
async def test_garbage_instead_of_a_checkout_is_refused_in_one_sentence(buyer: Buyer, body: bytes) -> None:
    async with _says(web.Response(body=body, content_type="application/json")) as url:
        with pytest.raises(DishonestShop):
            await Relay.find(buyer.http, url)


@pytest.mark.parametrize(("status", "kind"), [(302, ShopRefused), (403, ShopRefused), (500, Unavailable), (503, Unavailable)])
async def test_a_shop_that_answers_otherwise_is_told_as_it_is(buyer: Buyer, status: int, kind: type[Exception]) -> None:
    async with _says(web.Response(status=status, headers={"Location": "https://elsewhere.example/"})) as url:
        with pytest.raises(kind):
            await Relay.find(buyer.http, url)


async def test_a_button_that_leads_to_another_site_is_not_followed(buyer: Buyer) -> None:
    page = '<button data-hanbit-relay="https://elsewhere.example/hanbit/x">'
    async with _says(web.Response(text=page, content_type="text/html")) as url:
        with pytest.raises(BadInput, match="elsewhere"):
            await Relay.find(buyer.http, url)
