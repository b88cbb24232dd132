"""The staff changes how the operator shows itself: one Change with who and why, on every page within a second."""

from typing import Any, Final

import msgspec

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput
from hanbit.parties import brand
from hanbit.parties.brand import Brand
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

NONE: Final = "none"
"""How a command takes an address away."""


async def change_brand(gateway: Gateway, by: str, wanted: Brand, *, reason: str) -> None:
    """From now on this is what pages show; BadInput names the field that cannot be."""
    check_reason(reason)
    before = brand.of(gateway.reader, gateway.settings)
    changed = [name for name in Brand.__struct_fields__ if getattr(before, name) != getattr(wanted, name)]
    if not changed:
        raise BadInput("nothing would change")
    told = "; ".join(f"{name} {getattr(wanted, name)}" for name in changed)
    audit = act(gateway.clock.now(), by, f"brand: {told}", reason.strip())
    await gateway.book.commit(Change(puts=(brand.put(gateway.reader, wanted),), appends=(audit,)))


async def show_brand(gateway: Gateway) -> dict[str, Any]:
    """What pages show now."""
    return msgspec.structs.asdict(brand.of(gateway.reader, gateway.settings))


async def set_brand(
    gateway: Gateway,
    by: str = "operator",
    *,
    name_ko: str = "",
    name_en: str = "",
    colour: str = "",
    telephone: str = "",
    terms_url: str = "",
    open_account_url: str = "",
    reason: str,
) -> dict[str, Any]:
    """As a command says it: what is empty stays as it is; "none" takes an address away."""
    now = brand.of(gateway.reader, gateway.settings)
    wanted = Brand(
        name_ko=name_ko.strip() or now.name_ko,
        name_en=name_en.strip() or now.name_en,
        telephone=telephone.strip() or now.telephone,
        terms_url=_address(terms_url, now.terms_url),
        open_account_url=_address(open_account_url, now.open_account_url),
        colour=colour.strip() or now.colour,
    )
    await change_brand(gateway, by, wanted, reason=reason)
    return await show_brand(gateway)


def _address(text: str, now: str) -> str:
    return "" if text == NONE else text.strip() or now
