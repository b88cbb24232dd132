"""From where a customer logs in, as coarse as can still be recognised: browser and system by name, a network without its end.

A log-in is compared with the customer's own ones of the last three months. The first of all has nothing to be compared with; one that the
customer has disowned makes nothing known.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

from hanbit.db.reading import Reader

KNOWN_S: Final = 90 * 24 * 3600
"""So long a browser and a network are remembered, from their last log-in on."""
COMPARED_MAX: Final = 50
MINE, DISOWNED = "mine", "disowned"
"""What a customer has said about an unusual log-in."""
REASONS: Final = ("browser", "network", "both")
"""Why a log-in is unusual, as long as he has said nothing."""
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Whale/", "Whale"),
    ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("hanbit-wallet", "Hanbit wallet"),
)
"""In this order, because most of them also call themselves by the names below."""
_SYSTEMS: Final = (
    ("Android", "Android"),
    (re.compile("iPhone|iPad"), "iOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_IPV4_BITS, _IPV6_BITS = 24, 48
_RECENT: Final = (
    "SELECT browser, network FROM sessions WHERE customer = ? AND created_at >= ? AND browser IS NOT NULL AND network IS NOT NULL "
    "AND (unusual IS NULL OR unusual <> 'disowned') ORDER BY created_at DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Whence:
    """A browser in words and a network in digits; empty where it was not told."""

    browser: str = ""
    network: str = ""


def whence(user_agent: str, address: str) -> Whence:
    """What is remembered of a request; nothing in it can be anything but our own words and digits."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "")
    system = next((name for sign, name in _SYSTEMS if re.search(sign, user_agent)), "")
    return Whence(" · ".join(part for part in (browser, system) if part), _network(address))


def unusual(reader: Reader, customer: str, from_where: Whence, at: int) -> str | None:
    """Which of the two is new for this customer: "browser", "network", "both", or None."""
    known = reader.all(_RECENT, customer, at - KNOWN_S, COMPARED_MAX)
    if not known:
        return None
    new_browser = all(row["browser"] != from_where.browser for row in known)
    new_network = all(row["network"] != from_where.network for row in known)
    if new_browser and new_network:
        return "both"
    return "browser" if new_browser else "network" if new_network else None


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, IPv4Address):
        return str(ip_network(f"{found}/{_IPV4_BITS}", strict=False).network_address).removesuffix(".0") + ".*"
    if found.ipv4_mapped is not None:
        return _network(str(found.ipv4_mapped))
    return str(ip_network(f"{found}/{_IPV6_BITS}", strict=False).network_address) + "*"
