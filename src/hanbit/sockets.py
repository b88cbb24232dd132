"""Bound sockets that a worker has from its parent, by the name of what listens there; a server by itself binds its own."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from hanbit.line.doors import Door
from hanbit.settings import Settings
from hanbit.web.serving import bind


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of several processes this is (from 1), and the descriptors that it has from its parent."""

    number: int
    sockets: Mapping[str, int] = field(default_factory=dict)


def faces(settings: Settings) -> dict[str, tuple[str, int]]:
    """Every HTTP address that is on: its name, host and port."""
    found = {
        "customers": (settings.listen_host, settings.listen_port),
        "operator": (settings.operator_host, settings.operator_port),
        "merchant": (settings.merchant_host, settings.merchant_port),
        "metrics": ("127.0.0.1", settings.metrics_port),
    }
    return {name: address for name, address in found.items() if name == "customers" or address[1]}


def doors(settings: Settings) -> dict[str, tuple[str, int, str]]:
    """Every address of the line that is on: its name, host, port and interface."""
    found = {
        "vpn connections": (settings.line_host, settings.line_port, ""),
        "vpn posts": (settings.line_host, settings.line_post_port, ""),
        "leased connections": (settings.leased_host, settings.leased_port, settings.leased_interface),
        "leased posts": (settings.leased_host, settings.leased_post_port, settings.leased_interface),
    }
    return {name: address for name, address in found.items() if name == "vpn connections" or address[1]}


def name_of(door: Door) -> str:
    """As in `doors`."""
    return f"{door.mode} {door.carries}"


def take(worker: Worker | None, name: str, host: str, port: int) -> socket.socket:
    """The parent's socket of this name, or one of our own."""
    descriptor = None if worker is None else worker.sockets.get(name)
    return bind(host, port) if descriptor is None else socket.socket(fileno=descriptor)
