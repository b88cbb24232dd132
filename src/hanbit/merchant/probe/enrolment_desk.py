"""Where the implementation under test enrols: `POST /enrol/merchant` as at a real gateway, on this computer only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, HanbitError
from hanbit.merchant.probe.parties import Operator
from hanbit.protocols.signed import encode_der

PATH: Final = "/enrol/merchant"
BODY_MAX: Final = 64 * 1024
_Request = Annotated[str, msgspec.Meta(max_length=4096)]


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, msgspec.Meta(max_length=128)]
    requests: Annotated[dict[str, _Request], msgspec.Meta(min_length=2, max_length=2)]


class EnrolmentDesk:
    """Answers enrolments; `enrolled` is set once somebody has been given certificates."""

    def __init__(self, operator: Operator, clock: Clock) -> None:
        self.enrolled = asyncio.Event()
        self._operator = operator
        self._clock = clock

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen while the block lasts; yields the port."""
        application = web.Application(client_max_size=BODY_MAX)
        application.router.add_post(PATH, self._enrol)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    async def _enrol(self, request: web.Request) -> web.Response:
        operator = self._operator
        try:
            form = msgspec.json.decode(await request.read(), type=_Form)
            if ids.digest(form.code.encode()) != operator.code_hash:
                return _problem(HTTPStatus.FORBIDDEN, "not_allowed", "the code is not the one that `probe init` printed")
            chains = operator.issue({purpose: ids.decode_base64url(text) for purpose, text in form.requests.items()}, self._clock.now())
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            return _problem(HTTPStatus.BAD_REQUEST, BadInput.code, str(error))
        except HanbitError as error:
            return _problem(HTTPStatus.BAD_REQUEST, error.code, str(error))
        self.enrolled.set()
        registration = operator.registration
        return web.json_response(
            {
                "operator": registration.operator,
                "merchant": registration.merchant,
                "gateway": registration.gateway,
                "line": msgspec.to_builtins(registration.line),
                "orders": registration.orders,
                "pay_url": registration.pay_url,
                "root": encode_der(operator.root),
                "chains": {purpose: [encode_der(der) for der in chain] for purpose, chain in chains.items()},
            }
        )


def _problem(status: HTTPStatus, code: str, detail: str) -> web.Response:
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), "code": code, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")
