"""What the agent refuses, and how every error is told: problem+json with a code, an advice and a reference."""

import logging
from typing import Final

import msgspec

from hanbit.kernel.errors import (
    BadInput,
    Conflict,
    HanbitError,
    NotAllowed,
    NotSignedIn,
    ProtocolViolation,
    Refused,
    TooManyTries,
    Unavailable,
    WrongState,
)
from hanbit.kernel.ids import new_reference

PROBLEM_TYPE: Final = "application/problem+json"
DETAIL_MAX: Final = 300
STILL_RUNNING_RETRY_S: Final = 1
_SERVER_ERROR: Final = 500
_log = logging.getLogger("hanbit.merchant.agent")


class TokenMissing(NotSignedIn):
    """The call does not carry the agent's token."""

    code = "token"
    advice = "Send `Authorization: Bearer` and the content of the file agent.token in the agent's folder."


class WebPage(NotAllowed):
    """A browser calls on behalf of a web page, perhaps by a name that leads here since a moment ago."""

    code = "web_page"
    advice = "Call the agent from the shop's own server, by 127.0.0.1, [::1] or localhost; no browser has business here."


class KeyMissing(BadInput):
    """A write without a usable Idempotency-Key."""

    code = "idempotency_key_missing"
    advice = "Send an Idempotency-Key of 1 to 200 visible ASCII characters, new for each act and the same for each retry of it."


class KeyReused(Conflict):
    """The same Idempotency-Key came with another request."""

    code = "idempotency_key_reused"
    advice = "Use a new Idempotency-Key for another request; a retry sends the same method, path and body bytes."


class StillRunning(Conflict):
    """The first request with this Idempotency-Key is not answered yet."""

    code = "still_running"
    advice = "Wait for Retry-After, then send the same request again: it gets the first one's answer."
    retry_after_s = STILL_RUNNING_RETRY_S


class WrongMethod(Refused):
    """The address exists, but not for this method."""

    code = "wrong_method"
    status = 405
    advice = "Look the address up in /openapi.json."


class TooSlow(Refused):
    """The body was not complete in time."""

    code = "too_slow"
    status = 408
    advice = "Send the body at once, with its length."


class CustomerMessage(BadInput):
    """A session request or a purchase that the shop passed on breaks a rule of the dual-signature checkout; the detail names it."""

    code = "customer_message"
    advice = (
        "Pass on what the customer's window sends as it is. If you do, whoever sent this is no honest window: nothing was asked or changed."
    )


class NoEndpoint(WrongState):
    """agent.toml registers nobody who could be called."""

    code = "no_endpoint"
    advice = "Register an endpoint in agent.toml and start the agent again."


class LineAnswerUnusable(Unavailable):
    """The payment server's answer broke a rule; it is kept and changes nothing."""

    code = "gateway_answer"
    advice = "Nothing has changed. Ask again; if it stays, tell the operator and quote the reference."


class InternalError(HanbitError):
    """Our own bug, as it is told outside: nothing of it but a reference."""

    code = "error"
    advice = "This is a bug of the agent. Its log has more under the reference; sending the same request again is safe."


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 has it; `code` is stable, `advice` says what to do next, `reference` finds the line in the agent's log."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    advice: str
    reference: str


def told(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The problem that is answered for any error, and its headers; an unknown one is logged with its traceback."""
    known = _in_our_tree(error)
    reference = new_reference()
    if isinstance(known, InternalError):
        _log.error("unexpected", exc_info=error, extra={"reference": reference})
    elif known.status >= _SERVER_ERROR:
        _log.warning("unavailable: %s", known.detail, extra={"reference": reference})
    headers = {}
    if isinstance(known, (TooManyTries, Unavailable, StillRunning)):
        headers["Retry-After"] = str(known.retry_after_s)
    if isinstance(known, TokenMissing):
        headers["WWW-Authenticate"] = 'Bearer realm="hanbit merchant agent"'
    problem = Problem(
        type=f"urn:hanbit:problem:{known.code}",
        title=known.code.replace("_", " ").capitalize(),
        status=known.status,
        code=known.code,
        detail=known.detail[:DETAIL_MAX],
        advice=advice_of(type(known)),
        reference=reference,
    )
    return problem, headers


_ADVICE: Final = {
    "not_found": "Check the id; it must be one that this agent gave.",
    "wrong_state": "Read the order again: `can` lists what may be done with it now.",
}
"""For a program, where the error's own advice speaks to a visitor of the pages."""


def advice_of(kind: type[HanbitError]) -> str:
    """What a program that gets this code does next."""
    return _ADVICE.get(kind.code, kind.advice)


def _in_our_tree(error: Exception) -> HanbitError:
    """What a caller sent is never a ProtocolViolation: only the payment server can have made one."""
    if isinstance(error, ProtocolViolation):
        return LineAnswerUnusable(error.rule)
    return error if isinstance(error, HanbitError) else InternalError()
