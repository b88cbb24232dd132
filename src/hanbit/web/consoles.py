"""What both consoles are made of: addresses behind their permissions, pages in one frame, a 303 with a word about what was done.

    route(method, path, handler)   the only way to add an address: PERMISSIONS decides, before the handler runs, who gets through
    page(request, template, …)     a page in the frame; `who`, navigation, language and what was just done are there already
    see(path, done, …)             303 after every write, so that a reload repeats nothing

Whoever has no session is led to the log-in and back, whoever's second factor is too old for a dangerous act to the step-up and back. What
a role may not do is 403; what belongs to another merchant is 404, the same page as what does not exist.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hanbit.crypto.keys import public_point
from hanbit.db.change import Change, Stale
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotAllowed, NotFound, NotSignedIn, TooManyTries, Unavailable
from hanbit.parties import console_sessions
from hanbit.payments import staff_sign_in
from hanbit.payments.gateway import Gateway
from hanbit.payments.staff import console_url
from hanbit.payments.staff_sign_in import At
from hanbit.web import faults
from hanbit.web.assets import Assets
from hanbit.web.card import Card
from hanbit.web.forms import address
from hanbit.web.pages import Language, Pages, Visit, alternates
from hanbit.web.permissions import Rule, rule_of
from hanbit.web.words import choose_language

Handler = Callable[[Request], Awaitable[Response]]
DONE_LIFE_S: Final = 60
"""How long a word about what was done waits for the page that shows it."""
DONE_MAX: Final = 1024
NO_PLACE: Final = ""
OK: Final = 200
UNPROCESSABLE: Final = 422
LIVE: Final = "live"
"""In the address of a page that loads itself anew: nobody sits before it for certain, so it keeps no session alive."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the navigation: its address and the place of its words."""

    path: str
    place: str


class Console:
    """One console: `face` is "operator" or "merchant"."""

    def __init__(self, gateway: Gateway, face: str, navigation: Sequence[Entry]) -> None:
        root = x509.load_der_x509_certificate(gateway.keyring.root).public_key()
        assert isinstance(root, EllipticCurvePublicKey)
        self.gateway = gateway
        self.face = face
        self.assets = Assets(gateway_urn=gateway.urn, root_point=public_point(root))
        self.card = Card(gateway)
        self.pages = Pages(self.card, self.assets, gateway.settings.zone)
        self.cookie = f"__Host-hanbit-{face}"
        self.done_cookie = f"{self.cookie}-done"
        self._navigation = navigation
        self.routes: list[BaseRoute] = []

    @property
    def origin(self) -> str:
        """The only origin whose writes are taken."""
        parts = urlsplit(console_url(self.gateway, self.face))
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def at(self) -> int:
        """Now."""
        return self.gateway.clock.now()

    # --- addresses ----------------------------------------------------------------------------------------------------------------------

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Serve an address to those whom its line in PERMISSIONS names."""
        rule = rule_of(self.face, method, path)

        async def guarded(request: Request) -> Response:
            request.state.who = who = staff_sign_in.find(self.gateway, request.cookies.get(self.cookie), self.face)
            turned_away = self._turned_away(request, rule, who)
            if turned_away is not None:
                return turned_away
            if who is not None and LIVE not in request.query_params:
                await self._keep_alive(who)
            return await handler(request)

        self.routes.append(Route(path, guarded, methods=[method]))

    def _turned_away(self, request: Request, rule: Rule, who: At | None) -> Response | None:
        """Where somebody is led who may not; None for who may. A role that does not suffice is NotAllowed."""
        if rule.public:
            return None
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method in {"GET", "HEAD"} else ""
        if who is None:
            if here:
                return RedirectResponse(address("/login", next=here if here != "/" else None), 303)
            raise NotSignedIn("the session has ended; nothing has changed")
        if rule.half:
            return None
        if not who.session.whole:
            return RedirectResponse(address("/second-factor", next=here), 303)
        if who.person.role not in rule.roles:
            raise NotAllowed(f"not for the role {who.person.role}")
        if rule.fresh and not who.session.is_fresh(self.at):
            return RedirectResponse(address("/second-factor", next=here or request.url.path), 303)
        return None

    async def _keep_alive(self, who: At) -> None:
        touched = console_sessions.touch(who.session, self.at)
        if touched is not None:
            with suppress(Stale):  # another request of this session has kept it alive already
                await self.gateway.book.commit(Change(puts=(touched,)))

    # --- who is here --------------------------------------------------------------------------------------------------------------------

    def who(self, request: Request) -> At:
        """Whose request this is; only behind an address that is not public."""
        who = request.state.who
        assert isinstance(who, At), request.url.path
        return who

    def merchant(self, request: Request) -> str | None:
        """Whose things may be seen: None for the operator's staff (everybody's), else one merchant's and no other's."""
        return self.who(request).person.merchant

    def token(self, request: Request, name: str = "id") -> str:
        """One of our own ids in the address; what is none is not found."""
        return self.matched(request, name, ids.TOKEN.fullmatch)

    def matched(self, request: Request, name: str, grammar: Callable[[str], object]) -> str:
        """A part of the address, if it meets its grammar; else it is not found."""
        text = str(request.path_params[name])
        if not grammar(text):
            raise NotFound(f"no such {name}")
        return text

    # --- answers ------------------------------------------------------------------------------------------------------------------------

    def page(self, request: Request, template: str, *, status: int = 0, **context: Any) -> Response:
        """A page in the frame of this console; without another status one with `errors` is 422."""
        who: At | None = getattr(request.state, "who", None)
        language = self.language(request)
        readable = request.method in {"GET", "HEAD"}
        others = alternates(request.url.path, request.url.query) if readable else {}
        visit = Visit(language, request.state.nonce, others)
        done = self._done(request, language)
        text = self.pages.render(
            template,
            visit,
            face=self.face,
            who=None if who is None or not who.session.whole else who.person,
            here=request.url.path,
            query=request.url.query if readable else "",
            navigation=self._entries(who),
            may=lambda method, path: self._may(who, method, path),
            done=done,
            reference=request.state.reference,
            now=self.at,
            **context,
        )
        response = HTMLResponse(text, status or (UNPROCESSABLE if context.get("errors") else OK))
        if self.done_cookie in request.cookies:
            response.delete_cookie(self.done_cookie, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def see(self, path: str, done: str = NO_PLACE, **values: str) -> Response:
        """303 to a page of ours, which says once what was done: the place of its words, and the values in them."""
        response = RedirectResponse(path, 303)
        if done:
            said = ids.encode_base64url(json.dumps({"place": done, "values": values}).encode("utf-8"))
            response.set_cookie(self.done_cookie, said, max_age=DONE_LIFE_S, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def set_session(self, response: Response, token: str) -> None:
        """Give the browser this session; Strict, because nobody comes into a console from another site with something to do."""
        response.set_cookie(self.cookie, token, path="/", secure=True, httponly=True, samesite="strict")

    def end_session(self, response: Response) -> None:
        """Take the session away from the browser."""
        response.delete_cookie(self.cookie, path="/", secure=True, httponly=True, samesite="strict")

    def language(self, request: Request) -> Language:
        """`?lang=`, else what the person has chosen, else the browser's wish."""
        who: At | None = getattr(request.state, "who", None)
        asked = request.query_params.get("lang") or (who.person.language if who is not None else None)
        return self.pages.languages[choose_language(asked, request.headers.get("accept-language", ""))]

    def answer(self, request: Request, error: Exception) -> Response:
        """The page of any error; an unknown one is logged with its traceback under the reference that is shown."""
        known = faults.told(error)
        title, advice = faults.words_for(known, self.language(request), before="console.")
        response = self.page(request, "consoles/error.html", status=known.status, title=title, advice=advice)
        if isinstance(known, (TooManyTries, Unavailable)):
            response.headers["Retry-After"] = str(known.retry_after_s)
        return response

    # --- the frame ----------------------------------------------------------------------------------------------------------------------

    def _entries(self, who: At | None) -> list[Entry]:
        return [entry for entry in self._navigation if self._may(who, "GET", entry.path)]

    def _may(self, who: At | None, method: str, path: str) -> bool:
        """Whether this person's role opens an address; a page shows no button that does not work."""
        return who is not None and who.session.whole and rule_of(self.face, method, path).allows(who.person.role)

    def _done(self, request: Request, language: Language) -> str:
        """What was just done, in words; whatever is in the cookie, nothing but our own words is shown."""
        said = request.cookies.get(self.done_cookie, "")
        if not said or len(said) > DONE_MAX:
            return ""
        try:
            found = msgspec.json.decode(ids.decode_base64url(said), type=_Done)
            return str(language.say(found.place, **found.values)) if ".done." in found.place else ""
        except (BadInput, msgspec.MsgspecError, KeyError, IndexError, ValueError, TypeError):  # a value called `place` is a TypeError
            return ""


class _Done(msgspec.Struct, frozen=True):
    place: str
    values: Mapping[str, str]
