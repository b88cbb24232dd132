"""The private line where several processes share it: whoever holds a merchant's connection asks it for all of them, with the same bytes.

ask ── a connection of our own? ──▶ by it
    └─ a living process that holds one, newest first ──▶ by its internal listener; gone meanwhile: the next one
    └─ POST of our own
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.line.figures import LineFigures
from hanbit.line.listener import Line
from hanbit.line.neighbours import Neighbours, NoWay
from hanbit.line.presence import Presence, Process

ASK, TELL, DROP, FIGURES = "ask", "tell", "drop", "figures"
"""What the others may want of this process."""
FIGURES_WAIT_S: Final = 1.0
News = Callable[[str, str], None]
"""(name, text): something that is good to know here; lost news costs nothing but a wider limit."""
_log = logging.getLogger("hanbit.line")


class SharedLine:
    """What the flows see of the line: every merchant who is connected to any process of this gateway."""

    def __init__(self, own: Line, neighbours: Neighbours, presence: Presence, *, figures: Callable[[], str]) -> None:
        self._own = own
        self._neighbours = neighbours
        self._presence = presence
        self._figures = figures
        self._news: dict[str, News] = {DROP: self._own.drop}

    async def start(self, host: str, port: int) -> None:
        """Listen for the other processes and be seen by them."""
        address = await self._neighbours.listen(host, port, self._serve)
        await self._presence.start(address, self._own.held, lambda process: self._neighbours.forget(process.address))

    async def leave(self) -> None:
        """Before our merchants are hung up on: the others look for them elsewhere."""
        await self._presence.leave()

    async def close(self) -> None:
        """After the last was answered."""
        await self._neighbours.close()

    def on_news(self, act: str, take: News) -> None:
        """What is done here when another process tells this."""
        self._news[act] = take

    def announce(self, act: str, name: str, text: str = "") -> None:
        """Tell every other process, best effort."""
        for process in self._presence.others():
            self._neighbours.tell(process.address, act, name, text)

    async def ask(self, merchant_id: str, message: str) -> str:
        """As `Line.ask`, by whoever holds the merchant's line."""
        if self._own.is_held(merchant_id):
            return await self._own.ask(merchant_id, message)
        answer = await self._by_holder(merchant_id, lambda process: self._neighbours.ask(process.address, ASK, merchant_id, message))
        return await self._own.ask(merchant_id, message) if answer is None else answer

    async def tell(self, merchant_id: str, message: str) -> None:
        """As `Line.tell`, by whoever holds the merchant's line."""
        if self._own.is_held(merchant_id):
            await self._own.tell(merchant_id, message)
            return
        told = await self._by_holder(merchant_id, lambda process: self._neighbours.ask(process.address, TELL, merchant_id, message))
        if told is None:
            await self._own.tell(merchant_id, message)

    def connected(self, merchant_id: str) -> bool:
        """Whether `ask` would find a way."""
        return self._own.connected(merchant_id) or bool(self._presence.holders(merchant_id))

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up on a merchant everywhere; a process that does not hear of it finds out at its next review."""
        self._own.drop(merchant_id, reason)
        self.announce(DROP, merchant_id, reason)

    def figures(self, merchant_id: str) -> LineFigures:
        """How the merchant's line is now; what only its holder knows (round trip, offset) is empty elsewhere."""
        own, holders = self._own.figures(merchant_id), self._presence.holders(merchant_id)
        if not holders:
            return own
        return replace(own, up=True, connections=own.connections + len(holders), down_reason=None)

    async def all_figures(self) -> dict[int, str]:
        """The page of figures of every process on this machine, by its number."""
        own = self._presence.process
        others = [process for process in self._presence.others() if process.machine == own.machine]
        pages = await asyncio.gather(*(self._page_of(process) for process in others))
        found = {process.number: page for process, page in zip(others, pages, strict=True) if page is not None}
        return found | {own.number: self._figures()}

    async def _page_of(self, process: Process) -> str | None:
        with suppress(Unavailable):
            return await self._neighbours.ask(process.address, FIGURES, "", "", FIGURES_WAIT_S)
        return None

    async def _by_holder(self, merchant_id: str, ask: Callable[[Process], Awaitable[str]]) -> str | None:
        """The answer that some other process got; None where none of them has a way."""
        for process in self._presence.holders(merchant_id):
            try:
                return await ask(process)
            except NoWay as error:  # killed, stopping, or the merchant has just left it: the same bytes may go by another
                _log.info("another process has no way: %s", error)
                if "holds no line" not in error.detail:
                    self._presence.suspect(process.id)
        return None

    async def _serve(self, act: str, name: str, text: str) -> str:
        if act in (ASK, TELL):
            if not self._own.is_held(name):
                raise NoWay("this process holds no line of this merchant")
            if act == ASK:
                return await self._own.ask(name, text)
            await self._own.tell(name, text)
            return ""
        if act == FIGURES:
            return self._figures()
        take = self._news.get(act)
        if take is None:
            raise BadInput("act")
        take(name, text)
        return ""
