"""The whole redirect checkout by the installed payment program, against a payment server on a real socket."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput, NotSignedIn, ProtocolViolation, TooManyTries, Unavailable
from hanbit.protocols import signed
from hanbit.protocols.redirect.messages import Consent
from hanbit.protocols.signed import PinnedTrust
from hanbit.wallet import pay as pay_module
from hanbit.wallet.client import GatewayRefused, Http
from hanbit.wallet.pay import SENDS_MAX, BadReceipt, Device, OneTimeCode, Opened, Outcome, Password, Wallet
from tests.unit.wallet.parties import AT, bank
from tests.unit.wallet.server import PAYMENT, Server, listening, problem


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server(bank())) as running:
        yield running


@pytest.fixture
async def wallet(server: Server) -> AsyncIterator[Wallet]:
    async with Http() as http:
        yield Wallet.at(server.origin, pin=bank().pin, http=http, clock=ManualClock(AT), poll_s=0.001)


async def logged_in(wallet: Wallet, server: Server) -> Opened:
    opened = await wallet.open(server.url)
    await wallet.login(opened, "hong", "login password")
    return opened


async def test_customer_buys_with_a_device_key_from_redirect_to_verified_receipt(wallet: Wallet, server: Server) -> None:
    device = bank().customer()
    opened = await wallet.open(server.url)
    screen = await wallet.login(opened, "hong", "login password")
    outcome = await wallet.pay(opened, Device(device), account=screen.accounts[0].id)
    assert server.logins == [{"method": "password", "id": "hong", "password": "login password"}]
    (instruction,) = server.instructions
    assert (instruction.core.account, instruction.core.amount, instruction.auth.method) == ("a1", "220000", "device")
    trust = PinnedTrust(bank().root, "bank", urn=device.urn)
    consent = signed.verify(instruction.auth.value, Consent, trust=trust, audience="urn:hanbit:bank:gateway", at=AT)
    assert consent.claims.core == instruction.core_hash
    assert (outcome.state, outcome.payment) == ("captured", PAYMENT)
    assert outcome.receipt is not None
    assert outcome.receipt.claims.order == server.order.hash


async def test_password_code_and_typed_number_reach_the_server_sealed_only(wallet: Wallet, server: Server) -> None:
    opened = await logged_in(wallet, server)
    await wallet.submit(opened, Password("2468"), account="a1")
    await wallet.submit(opened, OneTimeCode(b"s" * 32), account="a1")
    await wallet.submit(opened, Password("2468"), number="12345678901234")
    assert [instruction.auth.method for instruction in server.instructions] == ["password", "code", "password"]
    assert server.instructions[2].number == "12345678901234"
    clear = repr(server.received)
    assert "2468" not in clear.replace(server.order.compact, "")
    assert "12345678901234" not in clear


async def test_session_cookie_goes_back_and_lets_the_next_opening_skip_the_login(wallet: Wallet, server: Server) -> None:
    first = await wallet.open(server.url)
    with pytest.raises(NotSignedIn):
        await wallet.screen(first)
    await wallet.login(first, "hong", "login password")
    screen = await wallet.screen(await wallet.open(server.url))
    assert screen.customer.name == "Hong Gildong"
    assert set(server.cookies) == {"__Host-hanbit=" + "s" * 43}


async def test_wallets_that_share_connections_do_not_share_sessions(wallet: Wallet, server: Server) -> None:
    await logged_in(wallet, server)
    async with Http() as http:
        stranger = Wallet.at(server.origin, pin=bank().pin, http=http, clock=ManualClock(AT))
        assert wallet.client.has_session
        assert not stranger.client.has_session


async def test_wallet_waits_while_the_shop_has_not_answered_and_fetches_the_receipt(wallet: Wallet, server: Server) -> None:
    server.states = ["authorized", "authorized", "authorized", "captured"]
    server.receipt_in_answer = False
    outcome = await wallet.pay(await logged_in(wallet, server), Password("2468"), account="a1")
    assert outcome.state == "captured"
    assert outcome.receipt is not None


@pytest.mark.parametrize("state", ["refused", "voided", "closed"])
async def test_payment_that_ends_unpaid_has_no_receipt(wallet: Wallet, server: Server, state: str) -> None:
    server.states, server.reason = ["authorized", state], "withdrawn"
    outcome = await wallet.pay(await logged_in(wallet, server), Password("2468"), account="a1")
    assert outcome == Outcome(PAYMENT, state, "withdrawn")


async def test_declined_attempt_leaves_the_payment_open_for_another_account(wallet: Wallet, server: Server) -> None:
    server.states, server.reason = ["open", "captured"], "no_funds"
    opened = await logged_in(wallet, server)
    declined = await wallet.pay(opened, Password("2468"), account="a1")
    assert (declined.state, declined.reason, declined.receipt) == ("open", "no_funds", None)
    paid = await wallet.pay(opened, Password("1357"), account="a2")
    assert paid.receipt is not None
    assert [instruction.core.account for instruction in server.instructions] == ["a1", "a2"]


async def test_lost_answer_is_asked_for_again_with_the_same_bytes(wallet: Wallet, server: Server) -> None:
    server.lost_answers = 2
    outcome = await wallet.pay(await logged_in(wallet, server), Device(bank().customer()), account="a1")
    sent = [body for path, body in server.received if path == "/pay/submit"]
    assert outcome.receipt is not None
    assert len(sent) == 3
    assert sent[0] == sent[1] == sent[2]


async def test_outcome_stays_unknown_when_no_answer_comes_at_all(wallet: Wallet, server: Server) -> None:
    server.lost_answers = 99
    opened = await logged_in(wallet, server)
    with pytest.raises(Unavailable):
        await wallet.pay(opened, Password("2468"), account="a1")
    assert len([path for path, _ in server.received if path == "/pay/submit"]) == SENDS_MAX


async def test_server_that_is_away_while_the_wallet_waits_is_asked_again(wallet: Wallet, server: Server) -> None:
    server.instead[f"/payments/{PAYMENT}/state"] = problem(503, "unavailable", "later")
    outcome = Outcome(PAYMENT, "authorized", None)
    assert await wallet.look(outcome) == outcome


async def test_shop_that_never_answers_leaves_the_payment_in_progress(
    wallet: Wallet, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pay_module, "POLLS_MAX", 3)
    server.states = ["authorized"]
    outcome = await wallet.pay(await logged_in(wallet, server), Password("2468"), account="a1")
    assert outcome == Outcome(PAYMENT, "authorized", None)


async def test_receipt_that_cannot_be_fetched_at_once_is_asked_for_again(wallet: Wallet, server: Server) -> None:
    server.receipt_in_answer = False
    path = f"/payments/{PAYMENT}/receipt"
    away = problem(503, "unavailable", "later")

    async def once(request: web.Request) -> web.StreamResponse:
        del server.instead[path]
        return await away(request)

    server.instead[path] = once
    outcome = await wallet.pay(await logged_in(wallet, server), Password("2468"), account="a1")
    assert outcome.receipt is not None
    assert path not in server.instead


@pytest.mark.parametrize("change", [{"amount": "1"}, {"payment": "Q" * 22}, {"order": "B" * 43}, {"aud": "urn:hanbit:bank:gateway"}])
async def test_captured_without_a_genuine_receipt_is_an_alarm_that_names_the_payment(
    wallet: Wallet, server: Server, change: dict[str, str]
) -> None:
    server.receipt_changes = change
    opened = await logged_in(wallet, server)
    with pytest.raises(BadReceipt) as caught:
        await wallet.pay(opened, Password("2468"), account="a1")
    assert caught.value.payment == PAYMENT


async def test_cancel_closes_the_payment(wallet: Wallet, server: Server) -> None:
    opened = await wallet.open(server.url)
    assert (await wallet.cancel(opened)).state == "closed"
    assert set(server.received[-1][1]) == {"order", "keys", "tid", "amount", "mid", "key"}


async def test_wrong_password_is_told_in_the_servers_words(wallet: Wallet, server: Server) -> None:
    server.instead["/pay/login"] = problem(401, "login_failed", "ID or password is wrong.", reference="r-1", advice="Try again.")
    opened = await wallet.open(server.url)
    with pytest.raises(GatewayRefused) as caught:
        await wallet.login(opened, "hong", "wrong")
    error = caught.value
    assert (error.problem, error.answered, error.reference, error.gateway_advice) == ("login_failed", 401, "r-1", "Try again.")


async def test_throttled_login_says_how_long_to_wait(wallet: Wallet, server: Server) -> None:
    server.instead["/pay/login"] = problem(429, "too_many_tries", "Wait.", {"Retry-After": "30"})
    opened = await wallet.open(server.url)
    with pytest.raises(TooManyTries) as caught:
        await wallet.login(opened, "hong", "wrong")
    assert caught.value.retry_after_s == 30


@pytest.mark.parametrize("choice", [{}, {"account": "a1", "number": "12345678"}])
async def test_exactly_one_source_of_money_is_chosen(wallet: Wallet, server: Server, choice: dict[str, str]) -> None:
    opened = await logged_in(wallet, server)
    with pytest.raises(BadInput):
        await wallet.submit(opened, Password("2468"), **choice)


async def test_address_of_another_server_is_not_opened(wallet: Wallet, server: Server) -> None:
    with pytest.raises(BadInput):
        await wallet.open(server.url.replace("pay.localhost", "evil.localhost"))
    with pytest.raises(BadInput):
        await wallet.open(server.url.replace("/pay?", "/other?"))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"payment": "short", "state": "captured"},
        {"payment": PAYMENT, "state": "paid"},
        {"payment": PAYMENT, "state": "captured", "receipt": 1},
        {"payment": PAYMENT, "state": "captured", "reason": "\u001b[2J"},
    ],
)
async def test_malformed_answer_is_the_servers_fault_and_never_a_crash(wallet: Wallet, server: Server, answer: dict[str, Any]) -> None:
    opened = await logged_in(wallet, server)
    server._outcome = lambda state: answer  # type: ignore[method-assign]  # this server has lost its mind
    with pytest.raises(ProtocolViolation):
        await wallet.submit(opened, Password("2468"), account="a1")
