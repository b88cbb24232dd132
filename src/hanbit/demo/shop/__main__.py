"""`python -m hanbit.demo.shop --data DIR --listen 127.0.0.1:8402`: the demo shop as a process of its own."""

import argparse
import asyncio
import signal
from functools import partial
from pathlib import Path

import uvicorn

from hanbit import logs
from hanbit.demo.shop.app import ShopPages
from hanbit.demo.shop.session import Sessions
from hanbit.demo.shop.staff import Staff
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError
from hanbit.merchant.shop import Shop


async def serve(data: Path, host: str, port: int, public_url: str) -> None:
    """Open the enrolled shop in `data` and serve its pages until a signal ends it."""
    clock, staff = SystemClock(), Staff(data)
    async with Shop.open(data, on_confirm=staff.on_confirm, on_outcome=staff.on_outcome, clock=clock) as shop:
        pages = ShopPages(shop, Sessions(data, clock), staff, public_url=public_url)
        config = uvicorn.Config(
            pages.app,
            host=host,
            port=port,
            log_level="warning",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=512,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, partial(setattr, server, "should_exit", True))
        await server._serve()  # noqa: SLF001 - `serve` ends by raising the signal again, before the shop has closed its book and line


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m hanbit.demo.shop", description="The demo shop of Hanbit.")
    parser.add_argument("--data", type=Path, required=True, help="the shop's folder, enrolled at a gateway")
    parser.add_argument("--listen", default="127.0.0.1:8402", help="HOST:PORT of the shop's pages")
    parser.add_argument("--public-url", default="", help="the address that customers see; http://shop.localhost:PORT by default")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65535:  # noqa: PLR2004 - TCP ports
        parser.error("--listen HOST:PORT")
    logs.configure()
    try:
        asyncio.run(serve(arguments.data, host, int(port), arguments.public_url or f"http://shop.localhost:{port}"))
    except HanbitError as error:
        parser.exit(1, f"{error}\n{error.advice}\n")


if __name__ == "__main__":
    main()
