"""The relay of a shop's own web server, as lean as the bench's client: what the button's window asks, passed on to the shop as it is.

    POST /TID/sessions   {"session_request"}                    D2, D3
    POST /TID/purchases  {"oi", "pimd", "dual", "envelope"}     D5, D8

A shop has a web server already, and what that costs is no part of a payment. Only what our own client sends is understood: one request on
its way a connection, with Content-Length. A refusal is its status and its problem code, as from the agent.
"""

import asyncio
from typing import Final, cast

import msgspec

from hanbit.kernel.errors import HanbitError
from hanbit.merchant.shop import Shop
from hanbit.protocols.dual_signature.messages import Purchase

BODY_MAX: Final = 128 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class SessionBody(msgspec.Struct, frozen=True):
    """D2 as it comes from the window."""

    session_request: str


class Relay(asyncio.Protocol):
    """One connection of a customer's program to the shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """What was asked is finished all the same: the shop's book decides, not who waits."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer once the body is whole."""
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        first, *lines = bytes(self._received[:head_end]).split(b"\r\n")
        length = next((int(line[len(_LENGTH) :]) for line in lines if line.lower().startswith(_LENGTH)), 0)
        start = head_end + len(_HEAD_END)
        if length > BODY_MAX:
            self._close()
        elif len(self._received) >= start + length:
            body = bytes(self._received[start : start + length])
            del self._received[: start + length]
            self._answering = asyncio.create_task(self._answer(first.split(b" ")[1].decode("ascii"), body))

    async def _answer(self, target: str, body: bytes) -> None:
        status, content = b"200 OK", b""
        try:
            _, tid, step = target.split("/")
            content = msgspec.json.encode(await self._ask(tid, step, body))
        except HanbitError as error:
            status = b"%d refused" % error.status
            content = msgspec.json.encode({"code": error.code})
        except (ValueError, msgspec.MsgspecError):
            status = b"400 bad input"
        if self._transport is not None:
            head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
            self._transport.write(head + content)

    async def _ask(self, tid: str, step: str, body: bytes) -> object:
        if step == "sessions":
            return await self._shop.open_session(tid, msgspec.json.decode(body, type=SessionBody).session_request)
        if step == "purchases":
            return await self._shop.purchase(tid, msgspec.json.decode(body, type=Purchase))
        raise ValueError(step)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
