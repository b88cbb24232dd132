"""The staff changes how the operator shows itself: one Change with who and why, on every page within a second."""

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput
from hanbit.parties import brand
from hanbit.parties.brand import Brand
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act


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
