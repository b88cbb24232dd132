"""agent.toml: where the shop wants to be called, each endpoint with the events that it takes and a secret of its own.

    [[endpoints]]
    name = "shop"
    url = "http://127.0.0.1:3000/hanbit"
    events = ["order.settled", "order.voided", "order.closed", "order.cancelled", "order.refunded", "order.confirm"]

Without `events` an endpoint gets every one but order.confirm. One endpoint at most takes order.confirm: then the shop has a say in each
order, and its silence is a no. Without the file nobody is called.

    [console]
    cancellations = true
    each_max = 500000
    day_max = 3000000

Without it the shop's people may cancel and refund in the merchants' console without a limit of the shop's own.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX
from hanbit.loopback import is_local
from hanbit.merchant.console_desk import ConsoleTerms

FILE: Final = "agent.toml"
FILE_MAX: Final = 64 * 1024
ENDPOINTS_MAX: Final = 8
URL_MAX: Final = 500

SETTLED: Final = "order.settled"
VOIDED: Final = "order.voided"
CLOSED: Final = "order.closed"
CANCELLED: Final = "order.cancelled"
REFUNDED: Final = "order.refunded"
CONFIRM: Final = "order.confirm"
TEST: Final = "agent.test"
TOLD: Final = (SETTLED, VOIDED, CLOSED, CANCELLED, REFUNDED)
"""Events that are told from the outbox until they are taken."""

_NAME: Final = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$(?!\n)"
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address of the shop."""

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    url: Annotated[str, msgspec.Meta(max_length=URL_MAX)]
    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=20)] = TOLD


class Console(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the shop's people may cancel and refund in the merchants' console, and up to how much, in minor units."""

    cancellations: bool = True
    each_max: Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)] | None = None
    """With one request."""
    day_max: Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)] | None = None
    """In 24 hours."""

    @property
    def terms(self) -> ConsoleTerms | None:
        """What the shop is opened with."""
        return ConsoleTerms(self.each_max, self.day_max) if self.cancellations else None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What agent.toml says."""

    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=ENDPOINTS_MAX)] = ()
    console: Console = Console()

    @property
    def confirmer(self) -> Endpoint | None:
        """The endpoint that has a say in each order."""
        return next((endpoint for endpoint in self.endpoints if CONFIRM in endpoint.events), None)


def load(directory: Path) -> Settings:
    """The settings of a folder; BadInput that says what is wrong."""
    path = directory / FILE
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX + 1)
        if len(content) > FILE_MAX:
            raise BadInput(f"{path} is larger than {FILE_MAX} bytes")
        settings = msgspec.convert(tomllib.loads(content.decode("utf-8")), Settings)
    except FileNotFoundError:
        return Settings()
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or not of this shape
        raise BadInput(f"{path}: {error}") from error
    try:
        _check(settings)
    except BadInput as error:
        raise BadInput(f"{path}: {error.detail}") from error
    return settings


def _check(settings: Settings) -> None:
    names = [endpoint.name for endpoint in settings.endpoints]
    if len(set(names)) != len(names):
        raise BadInput("two endpoints have one name")
    if sum(CONFIRM in endpoint.events for endpoint in settings.endpoints) > 1:
        raise BadInput(f"only one endpoint can take {CONFIRM}")
    for endpoint in settings.endpoints:
        unknown = set(endpoint.events) - {*TOLD, CONFIRM}
        if unknown:
            raise BadInput(f"{endpoint.name}: no such event: {', '.join(sorted(unknown))}")
        check_url(endpoint.url, endpoint.name)


def check_url(url: str, name: str) -> None:
    """https, or http where it cannot leave this computer; no user name, no fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"{name}: url: no address") from error
    if not _URL.fullmatch(url) or not parts.hostname:
        raise BadInput(f"{name}: url: https://HOST/PATH, or http:// on this computer")
    if parts.scheme == "http" and not is_local(parts.hostname):
        raise BadInput(f"{name}: url: plain http is for this computer only (127.0.0.1, ::1, localhost and names under it)")
