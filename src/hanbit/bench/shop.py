"""`python -m hanbit.bench.shop DIR SOCKET`: a shop on the real merchant SDK that makes orders in bulk for whoever asks on a Unix socket.

A line with a number asks for so many orders; so many lines come back, each the Location of one redirect (R3), durable in the order book.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

from hanbit.bench.processes import obey
from hanbit.kernel.money import Money
from hanbit.merchant.order import Line
from hanbit.merchant.shop import Shop

AMOUNT: Final = Money(1_000, "KRW")
RETURN_URL: Final = "http://shop.localhost:8402/hanbit/return"
ORDERS_MAX: Final = 1_000
CONNECT_TIMEOUT_S: Final = 20.0


async def serve(folder: Path, socket: Path) -> None:
    """Keep the line up and make orders until standard input ends."""
    async with Shop.open(folder) as shop:

        async def order() -> str:
            made = await shop.create_order(lines=[Line("BENCH", 1, AMOUNT.amount_minor)], total=AMOUNT, text="bench", return_url=RETURN_URL)
            return made.location

        async def orders(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while wanted := await reader.readline():
                made = await asyncio.gather(*(order() for _ in range(min(int(wanted), ORDERS_MAX))))
                writer.write("".join(f"{location}\n" for location in made).encode("ascii"))
                await writer.drain()
            writer.close()

        async def ready(_: dict[str, Any]) -> dict[str, Any]:
            assert shop.line is not None
            await asyncio.wait_for(shop.line.connected.wait(), CONNECT_TIMEOUT_S)
            return {}

        async with await asyncio.start_unix_server(orders, str(socket)):
            await obey({"ready": ready})


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
