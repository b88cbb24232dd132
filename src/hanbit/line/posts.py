"""The gateway's ways by POST: one for each merchant that has registered an address, greeted while no connection of its is up."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from hanbit.kernel.errors import HanbitError
from hanbit.line.post import PostWay
from hanbit.protocols.line import Greeting, HelloFromMerchant

GREETED_AT_ONCE = 32
_log = logging.getLogger("hanbit.line")


class Posts:
    """Keeps the ways as the registry has them."""

    def __init__(
        self,
        *,
        addresses: Callable[[], Mapping[str, str]],
        make_way: Callable[[str, str], PostWay],
        is_connected: Callable[[str], bool],
        on_greeted: Callable[[str, Greeting[HelloFromMerchant]], None],
    ) -> None:
        """`addresses`: merchant id → address; `make_way` (merchant id, address); `on_greeted` when a way comes up."""
        self._addresses = addresses
        self._make_way = make_way
        self._is_connected = is_connected
        self._on_greeted = on_greeted
        self._ways: dict[str, PostWay] = {}
        self._looking = False

    def way(self, merchant_id: str) -> PostWay | None:
        """The way to this merchant, up or down; None if it takes no POST."""
        return self._ways.get(merchant_id)

    def open_way(self, merchant_id: str) -> PostWay | None:
        """The way to this merchant unless it is known to be down; one that was never tried is worth a try."""
        way = self._ways.get(merchant_id)
        return None if way is None or way.is_up is False else way

    async def look(self) -> None:
        """One round: take over what the registry says, and greet whose time it is; does nothing while another round is on its way."""
        if self._looking:
            return
        self._looking = True
        try:
            await self._take_over(self._addresses())
            turns = asyncio.Semaphore(GREETED_AT_ONCE)
            due = [name for name, way in self._ways.items() if way.is_due() and not self._is_connected(name)]
            await asyncio.gather(*(self._greet(name, turns) for name in due))
        except HanbitError as error:
            _log.warning("the addresses for POST could not be looked up, asked again at the next round: %s", error)
        finally:
            self._looking = False

    async def forget(self, merchant_id: str) -> None:
        """Hang up; the next round begins anew with what the registry says then."""
        way = self._ways.pop(merchant_id, None)
        if way is not None:
            await way.close()

    async def close(self) -> None:
        """Let go of everything."""
        await self._take_over({})

    async def _take_over(self, addresses: Mapping[str, str]) -> None:
        for name, way in tuple(self._ways.items()):
            if addresses.get(name) != way.url:
                del self._ways[name]
                await way.close()
        for name, url in addresses.items():
            if name not in self._ways:
                self._ways[name] = self._make_way(name, url)

    async def _greet(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            way = self._ways.get(name)
            greeting = None if way is None else await way.greet()
        if greeting is not None:
            self._on_greeted(name, greeting)
