"""Names of this very computer: `.localhost` is the loopback address (RFC 6761), also where the system's resolver does not know it."""

import socket
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

LOOPBACK: Final = "127.0.0.1"


def is_local(host: str) -> bool:
    """Whether this name or address never leaves the computer."""
    return host in {LOOPBACK, "::1", "localhost"} or host.endswith(".localhost")


def is_this_computer(host: str) -> bool:
    """Whether this `Host` of a request (without its port) is a name or an address of this computer and of no other."""
    plain = host.lower().removeprefix("[").removesuffix("]")
    try:
        return ip_address(plain).is_loopback
    except ValueError:
        return is_local(plain)


class LoopbackResolver(AbstractResolver):
    """Every name under `.localhost` is the loopback address; all others go to the system."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """As aiohttp asks."""
        if not is_local(host):
            return await self._system.resolve(host, port, family)
        return [ResolveResult(hostname=host, host=LOOPBACK, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is held."""
        await self._system.close()
