"""What the shop's parts need of its private line; `merchant.line_client` and the tests' lines have it."""

import asyncio
from typing import Protocol

from hanbit.kernel.errors import Unavailable


class NotTaken(Unavailable):
    """The gateway answered `refused`; `line_code` says why."""

    def __init__(self, line_code: str) -> None:
        super().__init__(f"the gateway did not take it: {line_code}")
        self.line_code = line_code


class LineToGateway(Protocol):
    """The shop's end of the line."""

    connected: asyncio.Event
    """Set while the line is up."""

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """Send a request and return the unverified answer; Unavailable where none comes."""
        ...

    async def tell(self, message: str) -> None:
        """Send what nothing here waits for."""
        ...
