"""The demo's payments by the installed payment program: one that is paid, those that must not be, and those that go back."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from hanbit.db.reading import Reader
from hanbit.demo.stranger import export_and_verify
from hanbit.demo.world import DemoCustomer, World
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.evidence.log_check import check as check_log
from hanbit.folder import KEYS_FOLDER, place_at
from hanbit.kernel.errors import ProtocolViolation
from hanbit.ledger.chart import normal_balance
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import keyring
from hanbit.parties.registry import Registry
from hanbit.payments import payment as payments
from hanbit.wallet.buy import buy, shown_lines
from hanbit.wallet.client import GatewayRefused, Http
from hanbit.wallet.pay import Device, Opened
from hanbit.wallet.relay import Relay

PHONE = "phone"
PRICE = 220_000
PART = 70_000


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    case: str
    tid: str
    state: str
    reason: str | None
    refunded: int = 0
    """How much of it has gone back."""


async def paid(world: World) -> Result:
    """A customer buys a telephone and pays from his bank account, signed by his device key; the shop may deliver."""
    shop = world.shops["shop"]
    tid, location = await shop.order(PHONE)
    result = await _pay(world, "paid", tid, location, customer="hong", kind="bank")
    order = await shop.state(tid, wait=True)
    if not order["may_deliver"]:
        raise ProtocolViolation("delivery", f"the shop does not deliver: {order}")
    return result


async def amount_altered(world: World) -> Result:
    """AMOUNT altered on its way in a plain redirect: the shop compares and refuses, signed (60)."""
    tid, location = await world.shops["plain-shop"].order(PHONE)
    return await _pay(world, "amount_altered", tid, location.replace("AMOUNT=220000", "AMOUNT=22000"), customer="hong", kind="bank")


async def order_altered(world: World) -> Result:
    """AMOUNT altered beside a signed order: stopped before the login, the shop is asked nothing."""
    tid, location = await world.shops["shop"].order(PHONE)
    altered = location.replace("AMOUNT=220000", "AMOUNT=22000")
    try:
        await world.customers["hong"].wallet.open(altered)
    except GatewayRefused as error:
        return Result("order_altered", tid, error.problem, "amount_mismatch")
    return Result("order_altered", tid, "opened", None)


async def order_changed(world: World) -> Result:
    """The shop withdraws the order after signing it: refused, the hold is released."""
    shop = world.shops["shop"]
    tid, location = await shop.order(PHONE)
    await shop.withdraw(tid)
    return await _pay(world, "order_changed", tid, location, customer="hong", kind="bank")


async def no_funds(world: World) -> Result:
    """The account's balance does not suffice (50); the payment stays open for another account."""
    tid, location = await world.shops["shop"].order(PHONE)
    return await _pay(world, "no_funds", tid, location, customer="kim", kind="bank")


async def suspended(world: World) -> Result:
    """The account is suspended (50)."""
    account = world.customers["lee"].accounts["bank"]
    await world.command("set_state", what="account", id=account, state="suspended", reason="demo")
    tid, location = await world.shops["shop"].order(PHONE)
    try:
        return await _pay(world, "suspended", tid, location, customer="lee", kind="bank")
    finally:
        await world.command("set_state", what="account", id=account, state="active", reason="demo")


async def cancelled(world: World) -> Result:
    """Paid, then cancelled by the shop (40, 42): all the money is back where it came from, and nothing is delivered."""
    return await _refunded(world, "cancelled", None)


async def partly_refunded(world: World) -> Result:
    """Paid, then a part of the money given back; the order stands and is delivered."""
    return await _refunded(world, "partly_refunded", PART)


async def dual_signature(world: World) -> Result:
    """Bought without leaving the shop, from a terminal: dual signature through the shop's relay; the shop may deliver."""
    shop, who = world.shops["shop"], world.customers["hong"]
    tid, _ = await shop.order(PHONE)
    async with Http() as http:
        relay, checkout = await Relay.find(http, f"{shop.url}/hanbit/{tid}")
        opened = await _logged_in(who, checkout.redirect)
        lines = shown_lines(opened, checkout)
        outcome = await buy(who.wallet, opened, relay, lines, Device(who.enrolment.device), account=who.accounts["bank"])
    order = await shop.state(tid, wait=True)
    if not order["may_deliver"]:
        raise ProtocolViolation("delivery", f"the shop does not deliver: {order}")
    return Result("dual_signature", tid, outcome.state, outcome.reason)


Case = Callable[[World], Awaitable[Result]]
CASES: dict[str, tuple[Case, str, str | None, int]] = {
    "paid": (paid, "captured", None, 0),
    "amount_altered": (amount_altered, "refused", "amount_mismatch", 0),
    "order_altered": (order_altered, "not_opened", "amount_mismatch", 0),
    "order_changed": (order_changed, "refused", "withdrawn", 0),
    "no_funds": (no_funds, "open", "no_funds", 0),
    "suspended": (suspended, "open", "account_suspended", 0),
    "dual_signature": (dual_signature, "captured", None, 0),
    "cancelled": (cancelled, "captured", None, PRICE),
    "partly_refunded": (partly_refunded, "captured", None, PART),
}
"""Case → how it is played, the state and reason in which it must end, and how much of it must have gone back."""


async def play(world: World, names: list[str], say: Callable[[str], None]) -> tuple[dict[str, Any], bool]:
    """Play the cases, then prove book and evidence from the store; returns the report and whether all came out as they must."""
    results = []
    for name in names:
        say(f"case {name}")
        results.append(await CASES[name][0](world))
    as_expected = all((result.state, result.reason, result.refunded) == CASES[result.case][1:] for result in results)
    say("proving book and evidence")
    # The file of the last payment that was captured: of all that were played it has the most to show.
    paid_last = next(result for result in reversed(results) if result.state == "captured")
    file = await export_and_verify(world, "shop", paid_last.tid)
    report = {"payments": [asdict(result) for result in results], **await prove(world)}
    evidence_report = report["evidence"]
    evidence_report["verified"] = evidence_report["verified"] and file["verified"]
    evidence_report["tampered_copy_refused"] = file.pop("tampered_copy_refused")
    evidence_report["file"] = file
    good = as_expected and report["ledger"]["balanced"] and evidence_report["verified"] and evidence_report["tampered_copy_refused"]
    return report, bool(good)


async def prove(world: World) -> dict[str, Any]:
    """Balances, the check of the ledger and of the evidence, all read from the store."""
    reader = Reader(place_at(world.data), patient=True)
    try:
        rows = await reader.scan(
            "SELECT id, kind, debits_posted, credits_posted FROM ledger_accounts WHERE credits_posted + debits_posted > 0"
        )
        keys = keyring.load(world.data / KEYS_FOLDER, world.settings)
        registry = Registry(reader, keys.root, world.settings.operator)

        def order_hash(merchant: str, tid: str) -> str | None:
            payment = payments.find(reader, merchant, tid)
            return None if payment is None else payment.order_hash

        with reader.snapshot() as connection:  # the server goes on meanwhile
            messages = check_evidence(evidence.share(reader, 0, 1), registry, order_hash)
            book = check_ledger(connection)
            log = check_log(connection)
    finally:
        reader.close()
    return {
        "balances": {row["id"]: normal_balance(row["kind"], row["debits_posted"], row["credits_posted"]) for row in rows},
        "ledger": {"balanced": book.balanced, "entries": book.entries, "accounts": book.accounts, "broken": book.broken},
        "evidence": {
            "verified": messages.verified and log.whole,
            "messages": messages.messages,
            "payments": messages.payments,
            "broken": messages.broken[:10],
            "log": {"whole": log.whole, "leaves": log.leaves, "rows": log.rows, "broken": [str(found) for found in log.findings[:10]]},
        },
    }


async def _refunded(world: World, case: str, amount_minor: int | None) -> Result:
    """Pay, then let the shop give back so much, or all; the gateway's book says what has gone back."""
    shop = world.shops["shop"]
    tid, location = await shop.order(PHONE)
    result = await _pay(world, case, tid, location, customer="hong", kind="bank")
    await shop.state(tid, wait=True)
    await shop.cancel(tid, amount_minor)
    order = await shop.state(tid)
    reader = Reader(place_at(world.data), patient=True)
    try:
        payment = payments.find(reader, "shop", tid)
    finally:
        reader.close()
    if payment is None or order["may_deliver"] is (amount_minor is None):
        raise ProtocolViolation("delivery", f"the shop does not know what it has given back: {order}")
    return replace(result, state=payment.state, refunded=payment.refunded)


async def _pay(world: World, case: str, tid: str, location: str, *, customer: str, kind: str) -> Result:
    who = world.customers[customer]
    opened = await _logged_in(who, location)
    outcome = await who.wallet.pay(opened, Device(who.enrolment.device), account=who.accounts[kind])
    return Result(case, tid, outcome.state, outcome.reason)


async def _logged_in(who: DemoCustomer, location: str) -> Opened:
    opened = await who.wallet.open(location)
    if who.wallet.client.has_session:
        await who.wallet.screen(opened)
    else:
        await who.wallet.login(opened, who.login, who.password)
    return opened
