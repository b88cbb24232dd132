"""What the probe asks of the shop's own pages: real orders to play with, and what the shop thinks has become of them."""

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.merchant.probe.parties import Operator
from hanbit.protocols.redirect.messages import Order
from hanbit.protocols.signed import verify

ORDER_WITHIN_S: Final = 30.0
ANSWER_MAX: Final = 256 * 1024
_REDIRECTS: Final = (302, 303, 307)
_TOKEN: Final = re.compile(r"[!-~]{1,400}")

PlaceOrder = Callable[[], Awaitable[str]]
"""→ the Location to which the shop sends its customer (R3)."""
ReadState = Callable[[str], Awaitable["ShopState"]]
"""tid → the shop's own view of that order."""
AskShop = Callable[[str], Awaitable[object]]
"""tid → the shop asks the payment server about that order."""


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order of the merchant's, as its redirect carries it."""

    tid: str
    amount: str
    currency: str
    hash: str
    compact: str


@dataclass(frozen=True, slots=True)
class ShopState:
    """What the shop says of an order."""

    state: str
    delivers: bool

    @classmethod
    def read(cls, unverified: Any) -> "ShopState":
        """From the JSON object that the shop's address answers: `state`, and `may_deliver` where the shop has it."""
        if not isinstance(unverified, dict) or not isinstance(unverified.get("state"), str):
            raise Unavailable('the state address must answer a JSON object with "state" (and, if it has it, "may_deliver")')
        state, may = str(unverified["state"]), unverified.get("may_deliver")
        return cls(state, may if isinstance(may, bool) else state in {"settled", "paid"})


@dataclass(frozen=True, slots=True)
class ShopSide:
    """How the probe reaches the shop; without the last two some cases are not tried."""

    place: PlaceOrder
    state: ReadState | None = None
    inquire: AskShop | None = None


def read_location(location: str, operator: Operator, clock: Clock) -> PlacedOrder:
    """Verify an order as a gateway does at R4; BadInput or ProtocolViolation where it is not one of this merchant's."""
    fields = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    missing = {"MID", "TID", "AMOUNT", "CUR", "ORDER"} - set(fields)
    if missing:
        raise BadInput(f"the shop's Location lacks {', '.join(sorted(missing))}: {location[:200]!r}")
    order = verify(fields["ORDER"], Order, trust=operator.trust(), audience=operator.gateway.urn, at=clock.now(), sender=operator.merchant)
    claims = order.claims
    if (fields["TID"], fields["AMOUNT"], fields["CUR"]) != (claims.tid, claims.amount, claims.currency):
        raise ProtocolViolation("order", "TID, AMOUNT or CUR in the Location differ from the signed order")
    if fields["MID"] != operator.registration.merchant_id:
        raise ProtocolViolation("order", "MID is another merchant's")
    return PlacedOrder(claims.tid, claims.amount, claims.currency, order.hash, order.compact)


def by_command(command: str) -> PlaceOrder:
    """Run a program for each order; the last line that it prints with `TID=` in it is the Location."""
    words = shlex.split(command)
    if not words:
        raise BadInput("--order-command is empty")

    async def place() -> str:
        process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(ORDER_WITHIN_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Unavailable(f"{words[0]} has printed no order within {ORDER_WITHIN_S:g} s") from None
        lines = [line for line in output[:ANSWER_MAX].decode("utf-8", "replace").splitlines() if "TID=" in line]
        if process.returncode or not lines:
            raise Unavailable(f"{words[0]} ended with {process.returncode} and printed {'a' if lines else 'no'} Location")
        return lines[-1].strip().removeprefix("Location:").strip()

    return place


class ShopPages:
    """The shop's addresses; `token` is sent as bearer, as the merchant's agent wants it."""

    def __init__(self, session: aiohttp.ClientSession, token: str = "") -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def orders(self, url: str, body: bytes | None) -> PlaceOrder:
        """POST (with a JSON body where one is given): a redirect with a Location, or a JSON object with `redirect`."""

        async def place() -> str:
            headers = self._headers | {"Idempotency-Key": ids.new_token()} | ({"Content-Type": "application/json"} if body else {})
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                text = await response.content.read(ANSWER_MAX)
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", "")
                try:
                    return str(json.loads(text)["redirect"])
                except (ValueError, KeyError, TypeError):
                    raise Unavailable(f"{url} answered {response.status} and no order: {text[:200]!r}") from None

        return _guarded(place, url)

    def inquiries(self, url: str) -> AskShop:
        """POST with `{tid}` filled in; what it answers is of no interest."""
        _check_template(url, "--inquire-url")

        async def ask(tid: str) -> None:
            headers = self._headers | {"Idempotency-Key": ids.new_token()}
            async with self._session.post(url.replace("{tid}", tid), headers=headers, allow_redirects=False) as response:
                await response.content.read(ANSWER_MAX)

        return ask

    def states(self, url: str) -> ReadState:
        """GET with `{tid}` filled in."""
        _check_template(url, "--state-url")

        async def read(tid: str) -> ShopState:
            try:
                async with self._session.get(url.replace("{tid}", tid), headers=self._headers) as response:
                    return ShopState.read(json.loads(await response.content.read(ANSWER_MAX)))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise Unavailable(f"{url}: {type(error).__name__}") from error

        return read


def http() -> aiohttp.ClientSession:
    """For the shop's pages; names under .localhost are this computer."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=LoopbackResolver()), timeout=aiohttp.ClientTimeout(total=ORDER_WITHIN_S), trust_env=False
    )


def read_token(path: Path) -> str:
    """A bearer token from its file."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    return ids.check(_TOKEN, token, f"{path}: no token")


def _check_template(url: str, option: str) -> None:
    if "{tid}" not in url:
        raise BadInput(f"{option}: write {{tid}} where the order's number belongs")


def _guarded(place: PlaceOrder, url: str) -> PlaceOrder:
    async def guarded() -> str:
        try:
            return await place()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{url}: {type(error).__name__}") from error

    return guarded
