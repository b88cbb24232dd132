"""What the operator does with merchants' lines: register of which kind one is and from where it comes, and see how each is now."""

import json
from typing import Any

from hanbit.db.change import Change, Put
from hanbit.kernel.errors import BadInput, Conflict, NotFound
from hanbit.parties import merchants
from hanbit.parties.merchants import Line, Merchant
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act
from hanbit.settings import Settings

LISTED_MAX = 1000
ACTOR = "operator"
NONE = "none"
"""What an operator writes to take a post address away."""


def read(gateway: Gateway, merchant_id: str, *, mode: str, address: str, post_url: str) -> Line:
    """A line as the operator wants it, if it can be had here; Conflict where its address is another merchant's."""
    line = merchants.read_line(mode, address, post_url)
    if line.mode == "leased" and not gateway.settings.leased_port:
        raise BadInput("line: leased lines are off here: set leased_host and leased_port, then start the server again")
    other = None if line.address is None else merchants.by_line_address(gateway.reader, line.address)
    if other is not None and other.id != merchant_id:
        raise Conflict(f"line address {line.address} is {other.id}'s")
    return line


async def set_line(
    gateway: Gateway,
    by: str = ACTOR,
    *,
    id: str,  # noqa: A002 - the registry's own name
    mode: str = "",
    address: str = "",
    post_url: str = "",
    reason: str = "",
) -> dict[str, Any]:
    """Register a merchant's line anew; what is not given stays. Its present connections end, and it dials as is printed here."""
    row = gateway.reader.one("SELECT * FROM merchants WHERE id = ?", id)
    if row is None:
        raise NotFound(f"no merchant {id}")
    kept = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
    new_mode = mode or str(row["line_mode"])
    new_address = address or (str(row["line_address"] or "") if new_mode == "leased" else "")
    new_post = "" if post_url == NONE else post_url or str(row["post_url"] or "")
    line = read(gateway, id, mode=new_mode, address=new_address, post_url=new_post)
    at = gateway.clock.now()
    changed = kept | {"line_mode": line.mode, "line_address": line.address, "post_url": line.post_url}
    text = f"line of merchant {id}: {line.mode} {line.address or ''} {line.post_url or ''}".rstrip()
    audit = act(at, by, text, reason or "-", id)
    await gateway.book.commit(Change(puts=(Put("merchants", changed, row["version"]),), appends=(audit,)))
    gateway.line.drop(id, "line_changed")
    merchant = merchants.by_id(gateway.reader, id)
    assert merchant is not None, id
    return {
        "merchant": id,
        "mode": line.mode,
        "address": line.address,
        "post_url": line.post_url,
        "dials": json.dumps(dialled(gateway.settings, merchant)),
    }


async def lines(gateway: Gateway) -> dict[str, Any]:
    """Every merchant's line: of which kind, whether it is up and how, round trip, offset of clocks, and why it is down."""
    rows = await gateway.reader.scan("SELECT id, line_mode, state FROM merchants ORDER BY created_at DESC LIMIT ?", LISTED_MAX)
    found = []
    for row in rows:
        now = gateway.line.figures(row["id"])
        trip = now.round_trip_s
        found.append(
            {
                "merchant": row["id"],
                "mode": row["line_mode"],
                "line": "up" if now.up else "down",
                "connections": now.connections,
                "post": now.post,
                "round_trip_ms": None if trip is None else round(trip * 1000, 1),
                "offset_s": now.offset_s,
                "down_reason": now.down_reason,
            }
        )
    return {"lines": found}


def dialled(settings: Settings, merchant: Merchant) -> dict[str, Any]:
    """Where this merchant dials, as its registration keeps it; what is usual is left out, so that an older shop can read it."""
    if merchant.line_mode == "leased":
        where: dict[str, Any] = {"host": settings.leased_host, "port": settings.leased_port, "mode": "leased"}
        post_port = settings.leased_post_port
        if not settings.leased_tls:
            where["tls"] = False
    else:
        where, post_port = {"host": settings.line_dialled, "port": settings.line_port}, settings.line_post_port
    return where | {"post_port": post_port} if post_port else where
