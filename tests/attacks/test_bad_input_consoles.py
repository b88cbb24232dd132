"""Bad input gets a clear answer at every address of both consoles, from strangers and admins: never a 5xx, our insides, or a change."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote, urlencode

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from hanbit.payments.gateway import Gateway
from hanbit.web.permissions import PERMISSIONS
from tests.attacks.bad_requests import ANSWER_WITHIN_S, BODIES, CLEAR, Bad, judge
from tests.faces.consoles import FACES, Consoles, Visitor, running_consoles

pytestmark = pytest.mark.asyncio(loop_scope="module")
URLENCODED = "application/x-www-form-urlencoded"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
NASTY = (
    "\x00", "a\r\nSet-Cookie: x=y", "가" * 300, "x" * 201, "<script>alert(1)</script>", "' OR 1=1 --", "../../keys/pepper", "\ud800",
    "=cmd|'/c calc'!A1", "{{7*7}}", "%s%n", "\u202e", "a b",
)  # fmt: skip
NO_LINES = tuple(value for value in NASTY if not value.isprintable() or len(value) > 200)
IDS = ("a", "A" * 23, "A" * 4000, "%00" * 22, "%ff" * 22, "..%2f..%2fkeys", "%2e%2e", "가" * 22, "' OR 1=1 --", "%0d%0aX:%20y", "-" * 22)
FORMS: dict[str, dict[str, str]] = {
    "POST /login": {"login": "nobody", "password": "wrong", "next": "/"},
    "POST /second-factor": {"code": "000000", "passkey": "", "next": "/"},
    "POST /set-up/{token}": {"password": "x", "again": "y", "code": "", "passkey": ""},
    "POST /logout": {},
    "POST /language": {"language": "fr", "next": "/"},
    "POST /staff/invite": {"login": "", "name": "x", "role": "viewer", "language": "ko"},
    "POST /staff/{id}/{act}": {"reason": ""},
    "POST /me/password": {"present": "wrong", "password": "x", "again": "y"},
    "POST /me/factor": {"code": "", "passkey": ""},
    "POST /me/factors/{id}/remove": {},
    "POST /me/sessions": {},
    "POST /merchants/{id}/invite": {"login": "", "name": "x", "role": "viewer", "language": "ko"},
    "POST /merchants/register": {"id": "", "name": "x", "telephone": "", "return_url": "", "orders": "", "currency": "", "reason": ""},
    "POST /merchants/{id}/{act}": {"reason": ""},
    "POST /customers/open": {"login": "", "name": "x", "password": "", "language": "ko", "reason": ""},
    "POST /customers/{id}/{act}": {"reason": ""},
    "POST /accounts/{id}/{act}": {"reason": ""},
    "POST /proposals/{id}/withdraw": {"reason": ""},
    "POST /proposals/{id}/{act}": {"reason": ""},
    "POST /payments/{id}/refund": {"much": "part", "amount": "0", "reason": "", "request": ""},
    "POST /requests/{id}/again": {},
    "POST /orders/{id}/looked": {"reason": ""},
    "POST /callbacks/test": {"reason": ""},
    "POST /callbacks/{id}/resend": {"reason": ""},
    "POST /settlement/account": {"bank": "", "number": "x", "reason": ""},
    "POST /certificates/{hash}/revoke": {"reason": ""},
    "POST /settlement/close": {"day": "2199-12-31", "reason": ""},
    "POST /settlement/continue": {"reason": ""},
    "POST /settlement/reserve": {"amount": "0", "currency": "KRW", "reason": ""},
    "POST /payouts/instructions": {"reason": ""},
    "POST /payouts/reconcile": {"lines": "", "reason": ""},
    "POST /payouts/{reference}/{act}": {"reason": ""},
    "POST /exceptions/ask/{id}": {"reason": ""},
    "POST /exceptions/tell/{hash}": {"reason": ""},
    "POST /exceptions/send/{id}": {"reason": ""},
    "POST /evidence/{act}": {"reason": ""},
    "POST /payments/{id}/allow-refund": {"until": "tomorrow", "reason": ""},
    "POST /brand/change": {
        "name_ko": "",
        "name_en": "",
        "colour": "red",
        "telephone": "",
        "terms_url": "javascript:1",
        "open_account_url": "x",
        "reason": "",
    },
}
"""Each form with values that change nothing; an address that takes one and has no line here fails the walk."""
QUERIES = {
    "GET /payments": ("number", "merchant", "state", "since", "until", "after"),
    "GET /payments/sheet": ("number", "merchant", "state", "since", "until", "after"),
    "GET /customers": ("q", "after"),
    "GET /settlement": ("after",),
    "GET /payouts": ("state",),
    "GET /merchants": ("q", "after"),
    "GET /audit": ("actor", "merchant", "word", "since", "until", "after"),
    "GET /audit/sheet": ("actor", "merchant", "word", "since", "until"),
    "GET /login": ("next",),
    "GET /second-factor": ("next",),
}
ASKING = {"POST /orders/{id}/looked", "POST /callbacks/test", "POST /callbacks/{id}/resend"}
"""Their one field is the reason, and any line of words is a good one: only what is none is tried."""
QUIET = {"POST /logout"}
"""They take no fields: whatever is sent along is not looked at."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """One operator for all of it."""
    async with running_consoles(tmp_path_factory.mktemp("bad")) as running:
        yield running


def kept(gateway: Gateway) -> str:
    """A digest of what bad input must not change; that somebody tried is written down."""
    tables = (
        "people",
        "people_factors",
        "proposals",
        "console_requests",
        "invitations",
        "merchants",
        "payments",
        "entries",
        "messages",
        "settings",
        "certificates",
    )
    rows = {table: [list(row) for row in gateway.reader.all(f"SELECT * FROM {table}")] for table in tables}  # noqa: S608 - names of our own
    return hashlib.sha256(json.dumps(rows, default=repr).encode()).hexdigest()


async def test_every_form_has_its_line() -> None:
    assert set(FORMS) == {address for table in PERMISSIONS.values() for address in table if address.startswith("POST ")}


def requests(face: str) -> Iterator[Bad]:
    """Everything that is tried."""
    for address in PERMISSIONS[face]:
        method, _, pattern = address.partition(" ")
        path = pattern.replace("{id}", "A" * 22).replace("{act}", "suspend").replace("{token}", "A" * 43).replace("{hash}", "A" * 43)
        path = path.replace("{version}/{name:path}", "x/y").replace("{day}", "2026-11-22").replace("{reference}", "AAAA-AAAA")
        if "{" in pattern:
            for spelling in IDS:
                name = spelling if "%" in spelling else quote(spelling, safe="")
                filled = "/".join(name if part.startswith("{") else part for part in pattern.replace("{name:path}", "{name}").split("/"))
                yield Bad(method, filled, body=b"" if method == "POST" else None)
        if method == "POST" and address not in QUIET:
            yield from bad_forms(path, FORMS[address], values=NO_LINES if address in ASKING else NASTY)
        for field in QUERIES.get(address, ()):
            for value in NASTY:
                yield Bad(method, f"{path}?{urlencode({field: value.encode('utf-8', 'surrogatepass')})}")
        if method == "GET" and "static" not in path:
            for query in ("&&&", "x" * 5000, "%ff", "%zz=1", "lang=%00", "lang=fr&lang=en", "=" * 100):
                yield Bad(method, f"{path}?{query}")


def bad_forms(path: str, good: dict[str, str], values: tuple[str, ...] = NASTY) -> Iterator[Bad]:
    """Bodies that are no form, then each field with what nobody means, twice, and one field too many."""
    yield from (Bad("POST", path, body) for body in BODIES if body)
    yield Bad("POST", path, urlencode(good).encode(), {"Content-Type": "application/json"}, frozenset({401, 404, 415}))
    yield Bad("POST", path, b"x" * (64 * 1024 + 1))
    for field in good:
        for value in values:
            yield Bad("POST", path, urlencode({**good, field: value.encode("utf-8", "surrogatepass")}).encode())
        yield Bad("POST", path, urlencode([*good.items(), (field, "again")]).encode())
    yield Bad("POST", path, urlencode({**good, "extra": "1"}).encode())


@pytest.mark.parametrize("who", ["a stranger", "an admin"])
@pytest.mark.parametrize("face", FACES)
async def test_bad_input_gets_a_clear_answer(consoles: Consoles, face: str, who: str) -> None:
    visitor = consoles.stranger(face) if who == "a stranger" else await consoles.person(face, "admin")
    before = kept(consoles.gateway)
    tried = list(requests(face))
    for start in range(0, len(tried), 8):
        await asyncio.gather(*(ask(consoles.http, visitor, bad) for bad in tried[start : start + 8]))
    assert kept(consoles.gateway) == before


async def ask(http: aiohttp.ClientSession, visitor: Visitor, bad: Bad) -> None:
    """A page that means nothing bad (an empty list, the log-in) is an answer too; everything else is judged."""
    own = {"Origin": visitor.base, "Content-Type": URLENCODED, "Accept": "text/html"}
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())} if visitor.cookies else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    url, headers = URL(visitor.base + bad.target, encoded=True), {**own, **cookies, **bad.headers}
    async with http.request(bad.method, url, data=bad.body, headers=headers, allow_redirects=False, timeout=timeout) as answer:
        content = await answer.read()
        if answer.status in {200, 303}:
            assert answer.headers.get("Location", "/").startswith("/"), f"{bad}"
            is_page = answer.headers.get("Content-Type", "").startswith("text/html")
            assert not is_page or b"<script>alert" not in content, f"{bad}"
            return
        headings = {name.title(): value for name, value in answer.headers.items()}
        judge(answer.status, headings, content.replace(b"<select ", b"<choice "), bad)  # a page's element is no statement of SQL's


@pytest.mark.parametrize("face", FACES)
async def test_every_address_refuses_other_methods(consoles: Consoles, face: str) -> None:
    admin = await consoles.person(face, "admin")
    paths: dict[str, set[str]] = {}
    for address in PERMISSIONS[face]:
        method, _, pattern = address.partition(" ")
        paths.setdefault(pattern, set()).update({method, "HEAD"} if method == "GET" else {method})
    for pattern, methods in paths.items():
        target = pattern.replace("{id}", "A" * 22).replace("{version}/{name:path}", "x/y").replace("{act}", "role")
        target = target.replace("{token}", "A" * 43).replace("{hash}", "A" * 43).replace("{day}", "2026-11-22")
        target = target.replace("{reference}", "AAAA-AAAA")
        for method in METHODS:
            if method not in methods:
                await ask(consoles.http, admin, Bad(method, target, expected=frozenset({405, 404} & CLEAR)))
