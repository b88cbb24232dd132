"""What makes one gateway of several processes on one book: seen by the others, one line for all, each piece of work done by one."""

import asyncio
import contextlib
from contextlib import suppress
from dataclasses import dataclass

from hanbit.background import JOBS
from hanbit.crypto import tls
from hanbit.db.commit import Book
from hanbit.db.reading import Reader
from hanbit.folder import sandbox_offset
from hanbit.kernel.clock import Clock, SandboxClock
from hanbit.kernel.errors import HanbitError, ProtocolViolation
from hanbit.line.listener import Line
from hanbit.line.neighbours import Neighbours
from hanbit.line.presence import Presence
from hanbit.line.shared import SharedLine
from hanbit.metrics import Metrics, merged
from hanbit.parties.keyring import Keyring
from hanbit.payments import own_keys
from hanbit.payments.gateway import NEWS, Gateway, hear
from hanbit.payments.turns import Turns
from hanbit.settings import Settings


@dataclass(slots=True)
class Sharing:
    """This process's part in it."""

    presence: Presence
    line: SharedLine
    turns: Turns
    clock: Clock
    beating: asyncio.Task[None] | None = None

    async def start(self, gateway: Gateway, stack: contextlib.AsyncExitStack) -> None:
        """Listen for the others, be seen, and take part in the work."""
        settings = gateway.settings
        for what in NEWS:
            self.line.on_news(what, lambda name, _text, what=what: hear(gateway, what, name))  # type: ignore[misc]  # a default binds it
        await self.line.start(settings.internal_host, settings.internal_port)
        stack.push_async_callback(self.line.close)
        with suppress(HanbitError):  # at the next beat
            await self._after_beat(gateway)
        self.beating = asyncio.create_task(self.presence.run(lambda: self._after_beat(gateway)), name="presence")
        stack.callback(self.beating.cancel)

    async def leave(self) -> None:
        """Hand work and merchants over, before the line is hung up."""
        if self.beating is not None:
            self.beating.cancel()
            with suppress(asyncio.CancelledError):
                await self.beating
        await self.line.leave()

    async def metrics(self) -> bytes:
        """The figures of every process on this machine, each labelled with its number."""
        return merged(await self.line.all_figures())

    async def _after_beat(self, gateway: Gateway) -> None:
        gateway.keyring.refresh()
        if isinstance(self.clock, SandboxClock):
            self.clock.offset_s = sandbox_offset(gateway.reader) or 0
        await own_keys.exchange(gateway)
        await self.turns.take()


def share(
    own: Line,
    settings: Settings,
    keys: Keyring,
    clock: Clock,
    book: Book,
    reader: Reader,
    *,
    number: int,
    machine: str,
    metrics: Metrics,
) -> Sharing:
    """Put the parts together; nothing listens yet."""

    def check(certificate: bytes) -> None:
        if tls.peer_urn(certificate, keys.root, clock.now(), settings.operator) != settings.gateway_urn:
            raise ProtocolViolation("not_the_gateway")

    presence = Presence(book, reader, clock, number=number, machine=machine)
    line = SharedLine(own, Neighbours(keys.line_tls, check), presence, figures=lambda: metrics.text().decode("utf-8"))
    turns = Turns(book, reader, presence, tuple(job.__name__ for job in JOBS))
    return Sharing(presence, line, turns, clock)
