"""A customer on a host of his own, whose browser finds `pay.localhost` at the gateway's address on the customers' side."""

import asyncio
import sys
from pathlib import Path

from hanbit.kernel.clock import SystemClock
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Wallet
from hanbit.wallet.store import Store
from tests.flows.line_world import Customer


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(folder: Path, operator: str, gateway: str, port: int, account: str, location: str) -> None:
    """One payment."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out_reader, out_writer = await asyncio.open_connection(gateway, port)
        await asyncio.gather(_pass_on(reader, out_writer), _pass_on(out_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    async with server, Http() as http:
        store, clock = Store(folder), SystemClock()
        enrolled = store.enrolment(operator)
        assert enrolled is not None
        wallet = Wallet.at(f"http://pay.localhost:{port}", pin=store.pin(operator), http=http, clock=clock, poll_s=0.05)
        sys.stdout.write(await Customer(wallet, enrolled, account).pay(location))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6]))
