"""Where merchants come in: the `vpn` door (TLS, from any address) and the `leased` door (a line of its own, peers pinned by address).

                       leased door                                       vpn door
    accepted      only from a registered address, on its interface       from anywhere
    TLS           as `leased_tls` says; then the certificate as well     always, both sides certified
    first frame   signed hello                                           signed hello

Nobody comes in by the door that is not his: a merchant is registered for one of the two.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hanbit.kernel.errors import BadInput
from hanbit.line.reception import Reception

Mode = Literal["vpn", "leased"]
Carries = Literal["connections", "posts"]
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Peer:
    """Who knocks: at which door, from which address, and, where the door has TLS, the URN and the certificate (DER) that he proved."""

    mode: Mode
    address: str
    urn: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Door:
    """One listening address of the line; port 0 takes a free one."""

    mode: Mode
    host: str
    port: int
    tls: ssl.SSLContext | None
    """None only at the leased door, and never for POST."""
    interface: str = ""
    """The network interface to which the leased door is tied; what comes in by another finds no port, whatever it is addressed to."""
    carries: Carries = "connections"
    inherited: int | None = None
    """The descriptor of a socket that is bound already, shared with other processes."""

    def __post_init__(self) -> None:
        assert self.tls is not None or (self.mode == "leased" and self.carries == "connections"), "only leased connections go without TLS"

    def listener(
        self, is_registered: Callable[[str], bool], *, knocking_max: int, on_pushed_out: Callable[[], None] = lambda: None
    ) -> Reception:
        """A bound socket; at the leased door it hangs up on strangers before a byte of theirs is read."""
        bound = bind(self.mode, self.host, self.port, self.interface) if self.inherited is None else socket.socket(fileno=self.inherited)
        may_knock = is_registered if self.mode == "leased" else _anybody
        family, kind = bound.family, bound.type
        return Reception(
            family, kind, may_knock=may_knock, knocking_max=knocking_max, on_pushed_out=on_pushed_out, descriptor=bound.detach()
        )


def bind(mode: Mode, host: str, port: int, interface: str = "") -> socket.socket:
    """A socket for a door; OSError and BadInput say why there can be none."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    found = socket.socket(family, kind)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if interface:
            _tie(found, interface)
        found.bind(address)
    except OSError as error:
        found.close()
        raise OSError(error.errno, f"{mode} line at {host} port {port}: {error.strerror}") from error
    except BaseException:
        found.close()
        raise
    return found


def _anybody(_address: str) -> bool:
    return True


def _tie(listener: socket.socket, interface: str) -> None:
    # An address alone is not enough: Linux takes packets for any of its addresses from every interface.
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise BadInput("leased_interface: only Linux can tie a port to an interface; leave it empty and keep others out by the firewall")
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode("ascii"))
