"""Who is at the other end: the client's address behind our own proxies, and how many places one address may take.

    browser ── proxy of somebody's ── our proxy ── us
                 X-Forwarded-For: a, b            the peer's address is our proxy's, which has seen b; what b says of a is b's word

Only a peer in `trusted_proxies` is believed, and of what it passes on only the rightmost address that is not itself a trusted proxy.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

FORWARDED_MAX: Final = 20
"""Addresses that are looked at from the right; nobody has so many proxies of his own."""
NOBODY: Final = "unknown"
"""The address of a peer that has none any more."""
_ADDRESSES_KEPT: Final = 4096
"""Addresses that were read already; each request's is looked at several times."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPV6_NETWORK_BITS: Final = 64


class Proxies:
    """Our own reverse proxies."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether this peer is one of them."""
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The client's address: the peer itself, or, where our own proxies passed it on, the first that is none of them."""
        if not self.trusts(peer):
            return peer
        seen = peer
        hops = [hop for header in forwarded for hop in header.split(",")]
        for hop in hops[: -FORWARDED_MAX - 1 : -1]:
            found = _address(_without_port(hop.strip()))
            if found is None:
                break  # what cannot be read was not written by a proxy of ours
            seen = str(found)
            if not self.trusts(seen):
                break
        return seen


class Forwarded:
    """The outermost layer: from here on `client` and `scheme` are the customer's, whoever passed the request on."""

    def __init__(self, app: ASGIApp, *, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            peer = scope["client"][0] if scope.get("client") else NOBODY
            if self._proxies.trusts(peer):
                said = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
                scope["client"] = (self._proxies.client(peer, said), 0)
                schemes = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
                if schemes in ([b"http"], [b"https"]):
                    scope["scheme"] = schemes[0].decode("ascii")
                    scope.setdefault("state", {})["came_by"] = scope["scheme"]
        await self._app(scope, receive, send)


class Refusal(Enum):
    """Why there is no place: HTTP's status and our code."""

    FULL = (503, "unavailable")
    ADDRESS = (429, "too_many_connections")
    STOPPING = (503, "stopping")


class Places:
    """So many connections in all, so many of one address; those of our own proxies are nobody's."""

    def __init__(self, total: int, per_address: int, proxies: Proxies) -> None:
        self.taken = 0
        self.is_stopping = False
        self._total = total
        self._per_address = per_address
        self._proxies = proxies
        self._by_network: Counter[str] = Counter()

    def take(self, address: str, *, beyond: bool = False) -> Refusal | None:
        """Take a place, which `leave` gives back; or the reason why there is none. `beyond`: one has been cut and is about to leave."""
        network = network_of(address)
        if self.is_stopping:
            return Refusal.STOPPING
        if self._by_network[network] >= self._per_address and not self._proxies.trusts(address):
            return Refusal.ADDRESS
        if self.taken >= self._total and not beyond:
            return Refusal.FULL
        self.taken += 1
        self._by_network[network] += 1
        return None

    def leave(self, address: str) -> None:
        """The connection has ended."""
        network = network_of(address)
        self.taken -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


@lru_cache(maxsize=_ADDRESSES_KEPT)
def network_of(address: str) -> str:
    """What counts as one address: in IPv6 a household has a whole /64 to itself."""
    found = _address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
    return NOBODY if found is None else str(found)


@lru_cache(maxsize=_ADDRESSES_KEPT)
def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _without_port(hop: str) -> str:
    """Some proxies write `203.0.113.9:4711` or `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1 : hop.find("]")]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
