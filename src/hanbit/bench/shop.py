"""`python -m hanbit.bench.shop DIR,… SOCKET [relay] [refunds]`: shops on the real merchant SDK, which make orders in bulk.

A line with a number asks for so many orders; so many lines come back, each the Location of one redirect (R3), durable in the order book of
each shop in turn. With `relay` each line is what the shop's page says of the order (D1), and the rest of the purchase is asked of its relay
(`relay.py`). With `refunds` the shop hears of each outcome, and gives back each n-th payment beside the payments that go on: half of it,
then the rest.
"""

import asyncio
import contextlib
import itertools
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from hanbit.bench.figures import Latencies
from hanbit.bench.processes import Commands, obey
from hanbit.bench.relay import Relay
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.loopback import LOOPBACK
from hanbit.merchant.cancellation import CancellationState
from hanbit.merchant.order import Line, Order
from hanbit.merchant.session_keys import SessionKeys
from hanbit.merchant.shop import Shop

AMOUNT: Final = Money(1_000, "KRW")
RETURN_URL: Final = "http://shop.localhost:8402/hanbit/return"
ORDERS_MAX: Final = 1_000
CONNECT_TIMEOUT_S: Final = 20.0
LOOK_EVERY_S: Final = 0.02
REFUNDS_AT_ONCE: Final = 8
ERRORS_SHOWN: Final = 3


class Refunds:
    """Each n-th payment goes back, half and then the rest, while others are paid; each C1 to C3 is timed."""

    def __init__(self) -> None:
        self._every = 0
        self._paid = 0
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._latencies = Latencies()
        self._errors: list[str] = []
        self._clock = SystemClock()

    async def on_outcome(self, order: Order) -> None:
        """A payment is settled, or one that went back is struck."""
        if order.may_deliver and self._every:
            self._paid += 1
            if self._paid % self._every == 0:
                self._waiting.put_nowait(order.tid)

    async def begin(self, request: dict[str, Any]) -> dict[str, Any]:
        """From now on each n-th payment goes back."""
        self._every = request["every"]
        return {}

    async def end(self, _: dict[str, Any]) -> dict[str, Any]:
        """No more of them; what was begun is finished."""
        self._every = 0
        await self._waiting.join()
        return {"refunds": len(self._latencies.seconds), "latencies": self._latencies.summary(), "errors": self._errors[:ERRORS_SHOWN]}

    async def work(self, shop: Shop) -> None:
        """One after the other, until cancelled."""
        while True:
            tid = await self._waiting.get()
            try:
                await self._give_back(shop, tid, Money(AMOUNT.amount_minor // 2, AMOUNT.currency))
                await self._give_back(shop, tid, None)
            except HanbitError as error:
                self._errors.append(f"{tid}: {error}")
            finally:
                self._waiting.task_done()

    async def _give_back(self, shop: Shop, tid: str, amount: Money | None) -> None:
        started = self._clock.monotonic()
        done = await shop.cancel(tid, amount=amount, reason="bench")
        self._latencies.add(self._clock.monotonic() - started)
        if done.state is not CancellationState.CONFIRMED:
            self._errors.append(f"{tid}: {done.state} {done.refusal or ''}")


async def serve(folders: list[Path], socket: Path, *, relay: bool, refunds: Refunds | None) -> None:
    """Keep the lines up, make orders, take purchases and give back until standard input ends."""
    async with contextlib.AsyncExitStack() as stack:
        outcome = refunds.on_outcome if refunds is not None else None
        shops = [await stack.enter_async_context(Shop.open(folder, on_outcome=outcome)) for folder in folders]
        turn = itertools.cycle(shops)

        async def order() -> str:
            shop, line = next(turn), Line("BENCH", 1, AMOUNT.amount_minor)
            made = await shop.create_order(lines=[line], total=AMOUNT, text="bench", return_url=RETURN_URL)
            return msgspec.json.encode(await shop.checkout(made.tid)).decode("utf-8") if relay else made.location

        async def orders(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while wanted := await reader.readline():
                made = await asyncio.gather(*(order() for _ in range(min(int(wanted), ORDERS_MAX))))
                writer.write("".join(f"{order}\n" for order in made).encode("utf-8"))
                await writer.drain()
            writer.close()

        async def ready(_: dict[str, Any]) -> dict[str, Any]:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for shop, folder in zip(shops, folders, strict=True):
                    assert shop.line is not None
                    await shop.line.connected.wait()
                    while relay and SessionKeys.load(folder).authority is None:  # noqa: ASYNC110 - its certificate comes over the line
                        await asyncio.sleep(LOOK_EVERY_S)
            return {"relay": relays.sockets[0].getsockname()[1]}

        commands: Commands = {"ready": ready}
        workers: list[asyncio.Task[None]] = []
        if refunds is not None:
            commands |= {"begin": refunds.begin, "end": refunds.end}
            workers = [asyncio.create_task(refunds.work(shops[0])) for _ in range(REFUNDS_AT_ONCE)]
        relays = await asyncio.get_running_loop().create_server(lambda: Relay(shops[0]), LOOPBACK, 0)
        async with relays, await asyncio.start_unix_server(orders, str(socket)):
            await obey(commands)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


if __name__ == "__main__":
    wanted, named = sys.argv[3:], [Path(folder) for folder in sys.argv[1].split(",")]
    uvloop.run(serve(named, Path(sys.argv[2]), relay="relay" in wanted, refunds=Refunds() if "refunds" in wanted else None))
