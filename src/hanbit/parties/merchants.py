"""Merchants: who is paid, how their orders come, and where their customers return to."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from hanbit.db.change import Append, Put
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import CURRENCY_EXPONENTS
from hanbit.ledger.chart import merchant_account
from hanbit.parties.customers import ledger_account

NAME_MAX = 60
TELEPHONE = re.compile(r"\+?[0-9][0-9 -]{4,20}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|[0-9a-f:]*:[0-9a-f:.]*")
"""A name without a dot at its end (another origin to browsers, the same place to the network), or an IPv6 address."""
URL_MAX = 500
ORIGINS_MAX = 20
NAMED_MAX = 200
"""Different merchants of one page."""
_REGISTRATIONS_KEPT = 1024


class Line(NamedTuple):
    """How a merchant is reached: `vpn`, or `leased` from one pinned address; and by POST, where it takes that."""

    mode: str = "vpn"
    address: str | None = None
    post_url: str | None = None


VPN = Line()
"""What a line is where nothing else is agreed."""


class Merchant(msgspec.Struct, frozen=True):
    """A shop that may be paid; `orders` is "signed" or "plain" (the document's own form), by registration."""

    id: str
    version: int
    name: str
    telephone: str
    state: str
    orders: str
    currency: str
    return_url: str
    return_origins: str
    line_mode: str
    """`vpn` (TLS, both sides certified) or `leased` (a line of its own, the peer pinned by address)."""
    line_address: str | None
    """From where a leased line comes; nobody else has this address."""
    post_url: str | None
    """Where frames go by HTTPS POST while no connection is up; None where the merchant only dials."""
    limit_payment: int | None = None
    """The largest single payment, in minor units; None is no limit. This and what follows see payments/merchant_limits.py."""
    limit_day: int | None = None
    """What all payments of one of the operator's days may come to."""
    day_from: int | None = None
    """What the merchant's account had been paid when that day began."""
    day_until: int | None = None
    """When that day ends."""

    def allows_return(self, url: str) -> bool:
        """Whether this exact address lies on a registered origin."""
        return origin_of(url) in _origins(self.return_origins)


_SELECT = f"SELECT {columns('merchants', Merchant)} FROM merchants WHERE id = ?"  # noqa: S608 - names of our own
_SELECT_LEASED = f"SELECT {columns('merchants', Merchant)} FROM merchants WHERE line_address = ? AND line_mode = 'leased'"  # noqa: S608 - as above


def by_id(reader: Reader, merchant_id: str) -> Merchant | None:
    """The merchant with this id."""
    row = reader.one(_SELECT, merchant_id)
    return None if row is None else Merchant(*row)


def names(reader: Reader, wanted: Iterable[str]) -> dict[str, str]:
    """The name of each merchant of a page by its id."""
    keys = sorted(set(wanted))[:NAMED_MAX]
    if not keys:
        return {}
    marks = ", ".join("?" * len(keys))
    rows = reader.all(f"SELECT id, name FROM merchants WHERE id IN ({marks})", *keys)  # noqa: S608 - marks of our own
    return {row["id"]: row["name"] for row in rows}


def by_line_address(reader: Reader, address: str) -> Merchant | None:
    """The merchant whose leased line comes from this address."""
    row = reader.one(_SELECT_LEASED, address)
    return None if row is None else Merchant(*row)


def post_addresses(reader: Reader) -> dict[str, str]:
    """Where frames go by POST, of each merchant that takes them so."""
    return {row["id"]: row["post_url"] for row in reader.all("SELECT id, post_url FROM merchants WHERE post_url IS NOT NULL")}


@lru_cache(maxsize=_REGISTRATIONS_KEPT)
def _origins(registered: str) -> frozenset[str]:
    return frozenset(json.loads(registered))


@lru_cache(maxsize=_REGISTRATIONS_KEPT)
def origin_of(url: str) -> str | None:
    """Scheme, host and port of a return address, or None if it is none: https, or http under .localhost, no user, no fragment."""
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or any(sign in url for sign in ' \\"<>^`{|}'):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    local = host == "localhost" or host.endswith(".localhost")
    if not _HOST.fullmatch(host) or parts.username is not None or parts.password is not None or parts.fragment or "#" in url:
        return None
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        return None
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def read_line(mode: str, address: str, post_url: str) -> Line:
    """What an operator wrote of a merchant's line; BadInput that says what it must be."""
    if mode not in ("vpn", "leased"):
        raise BadInput("line: vpn or leased")
    pinned = _read_address(address) if address else None
    if (mode == "leased") != (pinned is not None):
        raise BadInput("line: a leased line is pinned by the merchant's address; a vpn line has none")
    host = _post_host(post_url) if post_url else None
    if pinned is not None and host is not None and host != pinned:
        raise BadInput(f"post address: on a leased line it must be at the pinned address, https://{pinned}/…")
    return Line(mode, pinned, post_url or None)


def _read_address(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise BadInput("line address: one IP address") from error
    if address.is_unspecified or address.is_multicast or (address.version == 6 and address.scope_id is not None):  # noqa: PLR2004 - IPv6
        raise BadInput("line address: the address of one machine")
    return address.compressed


def _post_host(url: str) -> str:
    """The host of an address to which frames may be sent."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError as error:
        raise BadInput("post address: no address") from error
    host = parts.hostname or ""
    plain = url.isascii() and url.isprintable() and not any(sign in url for sign in ' \\"<>^`{|}#?@')
    if not plain or parts.scheme != "https" or not _HOST.fullmatch(host) or len(url) > URL_MAX or not port_is_good:
        raise BadInput("post address: https://HOST[:PORT]/PATH, no user, no query")
    return host


def registration(*, name: str, telephone: str, return_url: str, return_origins: str) -> dict[str, str]:
    """The columns that the operator writes; `return_origins`, separated by spaces, always hold that of the return address."""
    if not 1 <= len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise BadInput("name: 1 to 60 characters")
    if not TELEPHONE.fullmatch(telephone):
        raise BadInput("telephone: 5 to 21 digits, spaces and hyphens")
    origin = origin_of(return_url)
    if origin is None:
        raise BadInput("return address: https, no user, no fragment")
    asked = return_origins.split()
    if len(asked) > ORIGINS_MAX or any(origin_of(one) != one for one in asked):
        raise BadInput(f"origins: up to {ORIGINS_MAX} of https://HOST[:PORT], separated by spaces")
    origins = list(dict.fromkeys([*asked, origin]))
    return {"name": name.strip(), "telephone": telephone, "return_url": return_url, "return_origins": json.dumps(origins)}


def new_merchant(
    *, merchant_id: str, name: str, telephone: str, orders: str, currency: str, return_url: str, line: Line = VPN, at: int
) -> tuple[Put, Append]:
    """The rows of a new merchant and of its empty ledger account."""
    ids.check(ids.PARTY_ID, merchant_id, "merchant id: 1 to 32 of a-z, 0-9 and inner hyphens")
    registered = registration(name=name, telephone=telephone, return_url=return_url, return_origins="")
    if orders not in ("signed", "plain"):
        raise BadInput("orders: signed or plain")
    if currency not in CURRENCY_EXPONENTS:
        raise BadInput("currency")
    row: dict[str, str | int | None] = {
        "id": merchant_id,
        **registered,
        "state": "active",
        "orders": orders,
        "currency": currency,
        "line_mode": line.mode,
        "line_address": line.address,
        "post_url": line.post_url,
        "created_at": at,
        **dict.fromkeys(("limit_payment", "limit_day", "day_from", "day_until")),
    }
    return Put("merchants", row, version=0), ledger_account(merchant_account(merchant_id, currency), "merchant", currency, limited=True)
