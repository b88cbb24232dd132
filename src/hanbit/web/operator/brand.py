"""How the operator shows itself, in its console: GET /brand is what pages show now, /brand/change asks for something else and does it."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.parties import brand
from hanbit.parties.brand import Brand
from hanbit.payments import appearance
from hanbit.settings import NAME_MAX, TELEPHONE
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed, Field

ADDRESS_MAX: Final = 200


class BrandPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/brand", self.show)
        deeds.at(console, "/brand/change", self._change)

    async def show(self, request: Request) -> Response:
        """Names, mark with its contrast, telephone, terms."""
        found = self._now()
        ratio = f"{brand.contrast(found.colour, brand.DRAWING):.1f}"
        return self.console.page(request, "operator/brand.html", brand=found, contrast=ratio, least=str(brand.CONTRAST_MIN))

    def _change(self, _request: Request) -> Deed:
        now = self._now()

        async def do(by: str, form: Mapping[str, str]) -> Response:
            wanted = Brand(**{name: form[name].strip() for name in Brand.__struct_fields__})
            await appearance.change_brand(self.gateway, by, wanted, reason=form["reason"])
            self.console.card.read_again()
            return self.console.see("/brand", "operator.deed.done.brand")

        name, telephone = ((brand.is_name, "console.field.name"),), ((TELEPHONE.fullmatch, "operator.field.telephone"),)
        address = ((brand.is_address, "operator.field.address"),)
        colour = ((brand.is_colour, "operator.field.colour"), (brand.stands_out, "operator.field.contrast"))
        fields = (
            Field("name_ko", "operator.brand.name_ko", name, value=now.name_ko, max=NAME_MAX),
            Field("name_en", "operator.brand.name_en", name, value=now.name_en, max=NAME_MAX),
            Field("colour", "operator.brand.colour", colour, value=now.colour, hint="operator.brand.colour_hint", max=7),
            Field("telephone", "operator.merchant.telephone", telephone, kind="tel", value=now.telephone, max=22),
            Field("terms_url", "operator.brand.terms", address, kind="url", value=now.terms_url, max=ADDRESS_MAX),
            Field("open_account_url", "operator.brand.open_account", address, kind="url", value=now.open_account_url, max=ADDRESS_MAX),
        )
        return Deed("operator.deed.brand", "/brand", fields, do)

    def _now(self) -> Brand:
        return brand.of(self.gateway.reader, self.gateway.settings)
