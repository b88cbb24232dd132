#!/usr/bin/env python3
"""A whole shop in one file: one song, paid by Hanbit, downloaded only after the settled message.

hanbit merchant enrol ./shop --gateway http://pay.localhost:8400 --pin PIN      once, with the operator's one-time code
python examples/minimal_shop.py ./shop 8405                                     then open http://song.localhost:8405
"""

import asyncio
import secrets
import sys
from pathlib import Path

from aiohttp import web

from hanbit.kernel.errors import NotFound
from hanbit.kernel.money import Money
from hanbit.merchant.order import Line, Order
from hanbit.merchant.shop import Shop

PRICE = Money(1_200, "KRW")


async def deliver(order: Order) -> None:
    """Called for every outcome, at least once: the place to pack a parcel, or to put the goods back."""
    print(f"{order.tid} is {order.state}: {'deliver' if order.may_deliver else 'nothing to deliver'}", flush=True)


async def give_back(order: Order) -> None:
    """Called when a part of a paid order has gone back, at least once: `refunded` says how much in all."""
    print(f"{order.tid}: {order.refunded.text} {order.refunded.currency} has gone back, {order.remaining.text} is left", flush=True)


def pages(shop: Shop, address: str) -> list[web.RouteDef]:
    """The shop's three addresses; a cookie says whose order it is."""

    async def shelf(_: web.Request) -> web.Response:
        form = '<form method="post" action="/orders"><button>Buy the song, 1,200 won, with Hanbit</button></form>'
        return web.Response(text=form, content_type="text/html")

    async def buy(request: web.Request) -> web.Response:
        customer = request.cookies.get("customer") or secrets.token_urlsafe(16)
        redirect = await shop.create_order(
            lines=[Line("song", 1, PRICE.amount_minor)], total=PRICE, text="Song", return_url=f"{address}/return", owner=customer
        )
        answer = web.HTTPSeeOther(redirect.location)
        answer.set_cookie("customer", customer, httponly=True, samesite="Lax")
        return answer

    async def back(request: web.Request) -> web.Response:
        tid, customer = request.query.get("TID", ""), request.cookies.get("customer")
        try:
            known = await shop.order(tid)
        except NotFound:
            return web.Response(status=404, text="no such order")
        if customer is None or not known.belongs_to(customer):
            return web.Response(status=404, text="no such order")
        order = await shop.wait_outcome(tid, 15)  # the address proves nothing; the gateway's signed word does
        return web.Response(text="♪ Here is your song." if order.may_deliver else f"Not paid ({order.state}).")

    return [web.get("/", shelf), web.post("/orders", buy), web.get("/return", back)]


async def main(folder: Path, port: int) -> None:
    """Keep the line to the payment server up, and serve the pages."""
    async with Shop.open(folder, on_outcome=deliver, on_refund=give_back) as shop:
        app = web.Application()
        app.add_routes(pages(shop, f"http://song.localhost:{port}"))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
