"""The operator's card as it is now: read from the book at most once a second, so that a change is on every page at once."""

from typing import Final

from hanbit.parties import brand
from hanbit.payments.gateway import Gateway
from hanbit.web.pages import OperatorCard

KEPT_S: Final = 1.0
"""No page shows a name that was changed longer ago, in whichever process; and no payment pays a read for each page."""


class Card:
    """Called for each page."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._read_at = gateway.clock.monotonic()
        self._card = self._read()

    def __call__(self) -> OperatorCard:
        """What was read last, or reads again."""
        now = self._gateway.clock.monotonic()
        if now - self._read_at >= KEPT_S:
            self.read_again()
        return self._card

    def read_again(self) -> None:
        """The operator has just been changed by this process: whoever did it is shown it by the next page."""
        self._read_at, self._card = self._gateway.clock.monotonic(), self._read()

    def _read(self) -> OperatorCard:
        settings = self._gateway.settings
        found = brand.of(self._gateway.reader, settings)
        return OperatorCard(
            id=settings.operator,
            names={"ko": found.name_ko, "en": found.name_en},
            telephone=found.telephone,
            terms_url=found.terms_url,
            open_account_url=found.open_account_url,
            test_mode=settings.is_test,
            sandbox=settings.sandbox,
            colour=found.colour,
        )
