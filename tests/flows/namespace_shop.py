"""A shop on a host of its own: opens its folder, places an order, says where the customer goes, and says what became of it."""

import asyncio
import sys
from pathlib import Path

from hanbit.kernel.money import Money
from hanbit.merchant.order import Line
from hanbit.merchant.shop import Shop


async def main(folder: Path) -> None:
    """One order."""
    async with Shop.open(folder) as shop:
        assert shop.line is not None
        await asyncio.wait_for(shop.line.connected.wait(), 20)
        made = await shop.create_order(
            lines=[Line("x", 1, 1000)], total=Money(1000, "KRW"), text="x", return_url="http://shop.localhost:1/"
        )
        sys.stdout.write(f"{made.location}\n")
        order = await shop.wait_outcome(made.tid, 30)
        sys.stdout.write("deliver\n" if order.may_deliver else f"keep: {order.state}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
