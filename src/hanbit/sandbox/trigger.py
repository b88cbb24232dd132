"""Makes each call-back come by the true flow: a sample customer at a real order of a real merchant, over the same addresses as everybody.

order.confirm    the customer pays; while the shop is asked, the agent asks it
order.settled    the customer pays, and the shop confirms
order.voided     the customer pays, no notice reaches the shop, and the clock moves past the end of the hold
order.closed     the customer logs in and cancels
order.cancelled  the customer pays, and then the shop's own folder cancels: nobody else can
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from hanbit import control
from hanbit.crypto import certificates
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, NotFound, Unavailable, WrongState
from hanbit.merchant import commands as shop_commands
from hanbit.merchant import files as shop_files
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from hanbit.sandbox import magic
from hanbit.sandbox.commands import COMMANDS
from hanbit.settings import load
from hanbit.wallet import enrol as wallet_enrol
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Device, Opened, Wallet
from hanbit.wallet.store import Store

EVENTS: Final = ("order.settled", "order.voided", "order.closed", "order.cancelled", "order.confirm")
WALLET: Final = "sandbox-wallet"
LOOK_AGAIN_S: Final = 0.25
FINAL_WITHIN_S: Final = 90.0
"""An outcome comes within seconds; with a magic amount it takes until recovery has asked again."""
REASON: Final = "sandbox trigger"


@dataclass(slots=True)
class Scene:
    """One order, the customer who visits it, and what has been done so far."""

    folder: Path
    merchant: str
    tid: str
    address: str
    wallet: Wallet
    device: Device
    shop: Path | None
    did: list[str] = field(default_factory=list)

    async def command(self, command: str, **arguments: str) -> dict[str, Any]:
        """One of the sandbox's commands."""
        return await control.run_of(COMMANDS, self.folder, command, arguments)

    async def visit(self) -> Opened:
        """R4 to R6: the sample customer opens the order and logs in."""
        opened = await self.wallet.open(self.address)
        person = magic.PEOPLE[0]
        await self.wallet.login(opened, person.login, person.password)
        self.did.append(f"customer {person.login} opened order {self.tid} and logged in")
        return opened

    async def pay(self) -> None:
        """R7: the sample customer pays from the account with enough money."""
        opened = await self.visit()
        number = next(one.number for one in magic.ACCOUNTS if one.login == magic.PAYER)
        outcome = await self.wallet.submit(opened, self.device, number=number)
        self.did.append(f"paid {opened.opening.money.text} {opened.opening.money.currency} from account {number}: {outcome.state}")
        if outcome.state == "open":
            raise WrongState(f"the payment was declined: {outcome.reason}")

    async def until_final(self) -> str:
        """The payment's last state."""
        async with asyncio.timeout(FINAL_WITHIN_S):
            while True:
                found = await self.command("sandbox_payment", merchant=self.merchant, tid=self.tid)
                if found["state"] not in ("new", "open", "authorized"):
                    self.did.append(f"the payment is {found['state']}" + (f" ({found['reason']})" if found["reason"] else ""))
                    return str(found["state"])
                await asyncio.sleep(LOOK_AGAIN_S)


async def _settle(scene: Scene) -> str:
    await scene.pay()
    return await scene.until_final()


async def _void(scene: Scene) -> str:
    await scene.command("sandbox_silence", merchant=scene.merchant, tid=scene.tid)
    scene.did.append("the line was taken down for this payment")
    await scene.pay()
    moved = await scene.command("sandbox_clock", by=str(HOLD_LIFE_S + 60))
    scene.did.append(f"the sandbox's clock was moved by {HOLD_LIFE_S + 60} s, past the end of the hold: {moved['time']}")
    return await scene.until_final()


async def _close(scene: Scene) -> str:
    await scene.wallet.cancel(await scene.visit())
    scene.did.append("the customer cancelled")
    return await scene.until_final()


async def _cancel(scene: Scene) -> str:
    assert scene.shop is not None  # `play` has asked for it
    state = await _settle(scene)
    await _until_settled(scene.shop, scene.tid)
    done = await shop_commands.run(scene.shop, "cancel", tid=scene.tid, reason=REASON)
    scene.did.append(f"the shop cancelled the order: {done['cancellation']['state']}, the order is {done['order']['state']}")
    return state


FLOWS: dict[str, tuple[Callable[[Scene], Awaitable[str]], frozenset[str]]] = {
    "order.settled": (_settle, frozenset({"captured"})),
    "order.voided": (_void, frozenset({"voided"})),
    "order.closed": (_close, frozenset({"closed"})),
    "order.cancelled": (_cancel, frozenset({"captured"})),
    "order.confirm": (_settle, frozenset({"captured", "refused"})),
}
"""Event → how it is played, and how the payment must have ended for it."""


async def play(
    folder: Path, event: str, clock: Clock, *, merchant: str, tid: str = "", address: str = "", shop: Path | None = None
) -> dict[str, Any]:
    """Play one event; says what was done. WrongState where the flow took another way, as with a magic amount or a shop that refuses."""
    if event not in FLOWS:
        raise BadInput(f"event: one of {', '.join(EVENTS)}")
    if event == "order.cancelled" and shop is None:
        raise BadInput("order.cancelled is the shop's own act: say where its folder is, --shop DIR")
    tid, address = await _order(folder, merchant, tid, address, shop)
    async with Http() as http:
        wallet, device = await _customer(folder, http, clock)
        scene = Scene(folder, merchant, tid, address, wallet, device, shop)
        flow, good = FLOWS[event]
        try:
            state = await flow(scene)
        except TimeoutError as error:
            raise Unavailable(f"after {'; '.join(scene.did)}: the payment is still not decided") from error
    if state not in good:
        raise WrongState(f"{'; '.join(scene.did)}: so there is no {event}")
    return {"test": True, "event": event, "merchant": merchant, "tid": tid, "state": state, "did": scene.did}


async def _order(folder: Path, merchant: str, tid: str, address: str, shop: Path | None) -> tuple[str, str]:
    """The order to play at, from wherever its address is known: as given, the shop's own folder, or what customers have opened."""
    if address:
        named = parse_qs(urlsplit(address).query)
        if named.get("MID") != [merchant] or len(named.get("TID", ())) != 1 or tid not in ("", named["TID"][0]):
            raise BadInput("address: of another merchant or order")
        return named["TID"][0], address
    if shop is None:
        found = await control.run_of(COMMANDS, folder, "sandbox_order", {"merchant": merchant, "tid": tid})
        return str(found["tid"]), str(found["address"])
    registration = shop_files.read_registration(shop)
    if (registration.operator, registration.merchant_id) != (load(folder).operator, merchant):
        raise BadInput(f"{shop} is enrolled as {registration.merchant}")
    if not tid:
        orders = (await shop_commands.run(shop, "orders", state="placed", limit="1", dial=False))["orders"]
        if not orders:
            raise NotFound(f"{shop} has no open order: place one first")
        tid = str(orders[0]["tid"])
    return tid, str((await shop_commands.run(shop, "redirect", tid=tid, dial=False))["address"])


async def _customer(folder: Path, http: Http, clock: Clock) -> tuple[Wallet, Device]:
    """The sample customer's installed payment program; enrolled when it is first needed."""
    settings = load(folder)
    root = certificates.load_chain_pem(folder / KEYS_FOLDER / "root.pem")[0]
    store = Store(folder / WALLET)
    pin = store.trust(root, clock.now())
    enrolled = store.enrolment(pin.operator)
    if enrolled is None or enrolled.origin != settings.public_url:
        code = (await control.run(folder, "enrol_code", login=magic.PAYER))["code"]
        enrolled = await wallet_enrol.enrol(settings.public_url, code, store=store, http=http, clock=clock)
    return Wallet.at(settings.public_url, pin=pin, http=http, clock=clock), Device(enrolled.device)


async def _until_settled(shop: Path, tid: str) -> None:
    """The shop has heard that the money has moved."""
    async with asyncio.timeout(FINAL_WITHIN_S):
        while not await _is_settled(shop, tid):  # noqa: ASYNC110 - the shop is another process
            await asyncio.sleep(LOOK_AGAIN_S)


async def _is_settled(shop: Path, tid: str) -> bool:
    orders = (await shop_commands.run(shop, "orders", state="settled", limit="1000", dial=False))["orders"]
    return any(order["tid"] == tid for order in orders)
