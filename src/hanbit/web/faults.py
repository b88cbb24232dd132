"""How errors are told: problem+json for programs, a short page for people; always with a reference, never with our insides."""

from typing import Any, Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from hanbit.kernel.errors import HanbitError, NotFound, ProtocolViolation, Refused, TooManyTries, Unavailable
from hanbit.web.pages import Language, Pages, Visit, alternates
from hanbit.web.words import choose_language

DETAIL_MAX: Final = 200
_SERVER_ERROR = 500
_METHOD_NOT_ALLOWED = 405
_log = structlog.get_logger("hanbit.web")


class WrongMethod(Refused):
    """The address exists, but not for this method."""

    code = "wrong_method"
    status = _METHOD_NOT_ALLOWED
    advice = "Go back to the shop and start from there."


class InternalError(HanbitError):
    """Our own bug, as it is told outside: nothing of it but a reference."""

    code = "error"


def in_our_tree(error: Exception) -> HanbitError:
    """The router's own errors join the tree; anything that is not ours is our own bug."""
    if isinstance(error, HTTPException):
        return WrongMethod() if error.status_code == _METHOD_NOT_ALLOWED else NotFound()
    return error if isinstance(error, HanbitError) else InternalError()


def told(error: Exception) -> HanbitError:
    """The error as it is answered; one that is our own bug is logged with its traceback."""
    known = in_our_tree(error)
    if isinstance(known, InternalError):
        _log.error("unexpected", exc_info=error)
    return known


def visit_of(request: Request, pages: Pages) -> Visit:
    """Language, nonce and the same page in the other language; addresses are offered for what can be read again only."""
    readable = request.method in {"GET", "HEAD"}
    return Visit(
        language=language_of(request, pages),
        nonce=request.state.nonce,
        alternates=alternates(request.url.path, request.url.query) if readable else {},
    )


def language_of(request: Request, pages: Pages) -> Language:
    """`?lang=`, else the browser's wish, else Korean."""
    return pages.languages[choose_language(request.query_params.get("lang"), request.headers.get("accept-language", ""))]


def wants_page(request: Request) -> bool:
    """Whether a person will read the answer."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "")


def answer(pages: Pages, request: Request, error: Exception) -> Response:
    """The answer to any error; an unknown one is logged with its traceback under the reference that is shown."""
    known = told(error)
    reference = request.state.reference
    visit = visit_of(request, pages)
    title, advice = words_for(known, visit.language)
    headers = {"Retry-After": str(known.retry_after_s)} if isinstance(known, (TooManyTries, Unavailable)) else {}
    if wants_page(request):
        unchanged = known.status < _SERVER_ERROR
        page = pages.render("error.html", visit, title=title, advice=advice, reference=reference, unchanged=unchanged)
        return HTMLResponse(page, known.status, headers=headers)
    problem = {
        "type": f"urn:hanbit:problem:{known.code}",
        "title": title,
        "status": known.status,
        "code": known.code,
        "detail": _detail(known),
        "reference": reference,
        "advice": advice,
    }
    return json_response(problem, known.status, media_type="application/problem+json", headers=headers)


def words_for(error: HanbitError, language: Language, *, before: str = "") -> tuple[str, str]:
    """Title and advice; a kind without words of its own has those of the nearest kind above it. `before`: whose words go first."""
    for kind in type(error).__mro__:
        code = getattr(kind, "code", None)
        for place in (f"{before}problem.{code}", f"problem.{code}"):
            if f"{place}.title" in language.words:
                return str(language.say(f"{place}.title")), str(language.say(f"{place}.advice"))
    return str(language.say("problem.error.title")), str(language.say("problem.error.advice"))


def json_response(
    value: Any, status: int = 200, *, media_type: str = "application/json", headers: dict[str, str] | None = None
) -> Response:
    """JSON by msgspec."""
    return Response(msgspec.json.encode(value), status, headers=headers, media_type=media_type)


def _detail(error: HanbitError) -> str:
    """What the sender may know: which rule of a message, which field of a body; of trouble on our side nothing."""
    if isinstance(error, ProtocolViolation):
        return error.rule
    return error.detail[:DETAIL_MAX] if isinstance(error, Refused) else ""
