"""The page of a one-time link by which a customer sets a new log-in password: it tells nothing but that the link works.

GET  /my/password/{token}    the form; opening it uses nothing up, because programs open links before people do
POST /my/password/{token}    sealed as every form of the home
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from hanbit.payments import forgotten
from hanbit.web.customer.forms import JOSE, read_body
from hanbit.web.customer.routes import CustomerFace
from hanbit.web.faults import json_response, visit_of

SCRIPT_WORDS: Final = "home.say."


class ForgottenFace:
    """The handlers; pages and language are those of the customers' site."""

    def __init__(self, face: CustomerFace) -> None:
        self.face = face
        self.gateway = face.gateway

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/my/password/{token}", self.answer, methods=["GET", "POST"]),
        ]

    async def answer(self, request: Request) -> Response:
        """The form, or what it sends."""
        return await (self.set_password(request) if request.method == "POST" else self.show(request))

    async def show(self, request: Request) -> Response:
        """The new password is asked for, twice."""
        form = forgotten.blank(self.gateway, request.path_params["token"])
        visit = visit_of(request, self.face.pages)
        words = {place: text for place, text in visit.language.words.items() if place.startswith(SCRIPT_WORDS)}
        text = self.face.pages.render(
            "home/forgotten.html", visit, here=request.url.path, customer=None, session=None, script_words=words, done="", form=form
        )
        return HTMLResponse(text)

    async def set_password(self, request: Request) -> Response:
        """It is set; the page goes on to the log-in."""
        await forgotten.set_password(self.gateway, request.path_params["token"], await read_body(request, JOSE))
        return json_response({"done": "password"})
