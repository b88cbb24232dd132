"""The demo's payments by the installed payment program: one that is paid and those that must not be."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.demo.world import World
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.evidence.log_check import check as check_log
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel.errors import ProtocolViolation
from hanbit.ledger.chart import normal_balance
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import keyring
from hanbit.parties.registry import Registry
from hanbit.payments import payment as payments
from hanbit.wallet.client import GatewayRefused
from hanbit.wallet.pay import Device

PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    case: str
    tid: str
    state: str
    reason: str | None


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


Case = Callable[[World], Awaitable[Result]]
CASES: dict[str, tuple[Case, str, str | None]] = {
    "paid": (paid, "captured", None),
    "amount_altered": (amount_altered, "refused", "amount_mismatch"),
    "order_altered": (order_altered, "not_opened", "amount_mismatch"),
    "order_changed": (order_changed, "refused", "withdrawn"),
    "no_funds": (no_funds, "open", "no_funds"),
    "suspended": (suspended, "open", "account_suspended"),
}
"""Case → how it is played, and the state and reason in which it must end."""


async def play(world: World, names: list[str], say: Callable[[str], None]) -> tuple[dict[str, Any], bool]:
    """Play the cases, then prove book and evidence from the store; returns the report and whether all came out as they must."""
    results = []
    for name in names:
        say(f"case {name}")
        results.append(await CASES[name][0](world))
    as_expected = all((result.state, result.reason) == CASES[result.case][1:] for result in results)
    report = {"payments": [asdict(result) for result in results], **await prove(world)}
    good = as_expected and report["ledger"]["balanced"] and report["evidence"]["verified"]
    return report, bool(good)


async def prove(world: World) -> dict[str, Any]:
    """Balances, the check of the ledger and of the evidence, all read from the store."""
    reader = Reader(world.data / BOOK_FILE)
    try:
        rows = await reader.scan(
            "SELECT id, kind, debits_posted, credits_posted FROM ledger_accounts WHERE credits_posted + debits_posted > 0"
        )
        keys = keyring.load(world.data / KEYS_FOLDER, world.settings)
        registry = Registry(reader, keys.root, world.settings.operator)

        def order_hash(merchant: str, tid: str) -> str | None:
            payment = payments.find(reader, merchant, tid)
            return None if payment is None else payment.order_hash

        messages = check_evidence(await evidence.everything(reader), registry, order_hash)
        book = check_ledger(reader.snapshot())
        log = check_log(reader.snapshot())
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


async def _pay(world: World, case: str, tid: str, location: str, *, customer: str, kind: str) -> Result:
    who = world.customers[customer]
    opened = await who.wallet.open(location)
    if who.wallet.client.has_session:
        await who.wallet.screen(opened)
    else:
        await who.wallet.login(opened, who.login, who.password)
    outcome = await who.wallet.pay(opened, Device(who.enrolment.device), account=who.accounts[kind])
    return Result(case, tid, outcome.state, outcome.reason)
