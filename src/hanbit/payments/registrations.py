"""What the operator changes in a merchant's registration: its name and telephone, and where its customers return to."""

import json
from typing import Any

from hanbit.db.change import Change, Put
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.parties import merchants
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act

REASON_MAX = 200


async def change_registration(
    gateway: Gateway,
    by: str,
    *,
    merchant: str,
    reason: str,
    name: str = "",
    telephone: str = "",
    return_url: str = "",
    return_origins: str = "",
) -> dict[str, Any]:
    """Register these anew; what is not given stays. `return_origins` are separated by spaces, and count from the next order on."""
    row = gateway.reader.one("SELECT * FROM merchants WHERE id = ?", merchant)
    if row is None:
        raise NotFound(f"no merchant {merchant}")
    check_reason(reason)
    kept = {column: row[column] for column in row.keys()}  # noqa: SIM118 - a database row
    registered = merchants.registration(
        name=name or str(row["name"]),
        telephone=telephone or str(row["telephone"]),
        return_url=return_url or str(row["return_url"]),
        return_origins=return_origins or " ".join(json.loads(row["return_origins"])),
    )
    changed = {column: value for column, value in registered.items() if row[column] != value}
    if not changed:
        raise BadInput("nothing would change")
    at = gateway.clock.now()
    told = "; ".join(f"{column} {value}" for column, value in changed.items())
    audit = act(at, by, f"registration of merchant {merchant}: {told}", reason.strip(), merchant)
    await gateway.book.commit(Change(puts=(Put("merchants", kept | registered, row["version"]),), appends=(audit,)))
    return {"merchant": merchant, "changed": sorted(changed)}


def check_reason(reason: str) -> None:
    """BadInput unless it is a line of words."""
    if not 1 <= len(reason.strip()) <= REASON_MAX or not reason.isprintable():
        raise BadInput(f"reason: 1 to {REASON_MAX} printable characters")
