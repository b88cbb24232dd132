"""For every address of the customers' site: requests beyond its grammar and limits, and what every answer to them must be."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from hanbit.crypto import certificates, envelopes, keys
from hanbit.kernel import ids
from hanbit.payments import sealed_forms
from hanbit.protocols.sealed import ENROL_TYP
from tests.faces.site import SHOP, Site

JSON_TYPE = "application/json"
INSIDES = re.compile(
    rb"Traceback|site-packages|/src/|\.py\b|/work|/tmp|sqlite|SELECT |uvicorn|starlette|httptools|asyncio|Python/", re.IGNORECASE
)
CLEAR = {400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431}
ANSWER_WITHIN_S = 5.0

SPELLINGS_OF_AMOUNTS = (
    "\uff11\uff12\uff10\uff10", " 12_00 ", "٣", "0", "-1", "+1", "1e3", "1" * 16, "01", "1.0", "1,000", "0x10", "", " ", "NaN",
    "1200\n", "1200\x00", "\u00b2", "1200;",
    "9" * 5000,
)  # fmt: skip
SPELLINGS_OF_TIDS = (
    "",
    "a" * 21,
    "a" * 65,
    "a" * 21 + "=",
    "a" * 21 + "/",
    "a" * 21 + " ",
    "a" * 21 + "\n",
    "a" * 21 + "\x00",
    "가" * 22,
    "../" * 10,
    "'" * 22,
)
SPELLINGS_OF_CURRENCIES = ("", "krw", "KRW ", "KR", "KRWX", "XXX", "410", "\uff2b\uff32\uff37", "KRW\n", "USD")
SPELLINGS_OF_MERCHANTS = (
    "",
    "GARAM",
    "garam ",
    "garam\n",
    "nobody",
    "a" * 33,
    "-a",
    "a_b",
    "가람",
    "garam\x00",
    "../garam",
    "garam:x",
    "*",
)
SPELLINGS_OF_COMPACTS = (
    "..",
    "a.b.c",
    "a" * 40_000,
    "e30.e30.",
    "eyJhbGciOiJub25lIn0.e30.",
    "a b c",
    "가.나.다",
    "\x00",
    ".",
    "é" * 50,
    "=" * 100,
)
BODIES: tuple[bytes, ...] = (
    b"", b"null", b"1", b'""', b"[]", b"{", b"not json", b"\xff\xfe{}", b"\x00", b"[" * 60_000, b'{"a":' * 10_000, b'{"a":NaN}',
    b'{"a":1e400}',
    b'{"a":' + b"9" * 5000 + b"}", b'{"tid":"a","tid":"b"}', b'{"tid":"\\ud800"}', b'{"a\\u0000":1}', b"{}" * 2,
    b'{"__proto__":{}}', b"\xef\xbb\xbf{}",
    b"/**/{}", b'{"tid":["a"]}', b'{"order":null,"keys":null,"tid":null,"amount":null,"key":null,"login":null,"pay":null}',
)  # fmt: skip
"""Bodies that no address of ours takes."""


@dataclass(frozen=True)
class Bad:
    """One request; `expected` narrows what its answer may be."""

    method: str
    target: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    expected: frozenset[int] = frozenset(CLEAR)

    def __str__(self) -> str:
        return f"{self.method} {self.target[:120]} {self.headers} {(self.body or b'')[:120]!r}"


async def ask(http: aiohttp.ClientSession, site: Site, bad: Bad) -> None:
    """Send it and judge the answer: clear, with a reference, nothing of our insides; 503 only with Retry-After."""
    url = URL(site.base + bad.target, encoded=True)
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    async with http.request(bad.method, url, data=bad.body, headers=bad.headers, allow_redirects=False, timeout=timeout) as answer:
        content = await answer.read()
        judge(answer.status, {name.title(): value for name, value in answer.headers.items()}, content, bad)


def judge(status: int, headers: dict[str, str], content: bytes, bad: Bad) -> None:
    """What every answer to bad input is."""
    told = f"{bad} → {status} {content[:300]!r}"
    assert status in bad.expected or (status == 503 and headers.get("Retry-After")), told
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}", headers["X-Reference"]), told
    assert "Server" not in headers, told
    assert not INSIDES.search(content), told
    if bad.method == "HEAD":
        return
    kind = headers["Content-Type"].partition(";")[0]
    assert kind in {"application/problem+json", "text/html"}, told
    if kind == "application/problem+json":
        problem = json.loads(content)
        assert (problem["status"], problem["reference"]) == (status, headers["X-Reference"]), told
        assert problem["code"], told
        assert len(content) < 2_000, told


def bad_query(site: Site) -> Iterator[Bad]:
    """R3's address."""
    good = site.shop.order()
    for name, spellings in (
        ("AMOUNT", SPELLINGS_OF_AMOUNTS),
        ("TID", SPELLINGS_OF_TIDS),
        ("CUR", SPELLINGS_OF_CURRENCIES),
        ("MID", SPELLINGS_OF_MERCHANTS),
        ("ORDER", (*SPELLINGS_OF_COMPACTS, "")),
        ("lang", ("", "fr", "ko_KR", "ko\n", "../ko")),
    ):
        for spelling in spellings:
            yield Bad("GET", f"/pay?{urlencode({**good, name: spelling})}")
    whole = urlencode(good)
    for query in (
        "",
        "MID",
        "&&&",
        whole + "&TID=" + "a" * 22,
        whole + "&AMOUNT=" + good["AMOUNT"],
        whole + "&more=1",
        whole.replace("MID=", "mid="),
        whole.replace("&", ";"),
        whole + "&" + "&".join(f"x{number}=1" for number in range(1000)),
        whole + "&lang=%ff",
        whole + "&lang=%zz",
        whole + "&lang=%00",
        "MID=%2e%2e%2f&TID=%0d%0aSet-Cookie:a=b&AMOUNT=1&CUR=KRW",
        "x" * 41 * 1024,
    ):
        for accept in ("text/html", JSON_TYPE):
            yield Bad("GET", f"/pay?{query}", headers={"Accept": accept})
    yield Bad("GET", "/pay?" + "x" * 60_000, expected=frozenset({400, 431}))


def bad_posts(path: str, good: Callable[[Site], dict[str, str]], fields: dict[str, tuple[str, ...]]) -> Callable[[Site], Iterator[Bad]]:
    """A JSON form: bodies that are none, then each field beyond its grammar, missing, of another type, and one too many."""

    def requests(site: Site) -> Iterator[Bad]:
        yield from bad_bodies(path, JSON_TYPE)
        form = good(site)
        for name, spellings in fields.items():
            for value in (*spellings, *BAD_TYPES):
                yield post(path, {**form, name: value})
            yield post(path, {other: value for other, value in form.items() if other != name or name == "mid"} | {"x": "1"})
        yield post(path, {**form, "extra": "1"})
        yield Bad("POST", path, json.dumps(form)[:-1].encode() + b', "tid": "' + b"a" * 22 + b'"}', {"Content-Type": JSON_TYPE})

    return requests


BAD_TYPES: tuple[Any, ...] = (None, 1, -1, 1.5, True, [], {}, ["a"], {"a": "b"})


def post(path: str, form: Any) -> Bad:
    """One JSON form."""
    return Bad("POST", path, json.dumps(form).encode(), {"Content-Type": JSON_TYPE})


def bad_bodies(path: str, media_type: str) -> Iterator[Bad]:
    """What no form is, and the kinds and sizes that no address takes."""
    for body in BODIES:
        yield Bad("POST", path, body, {"Content-Type": media_type})
    for kind in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "a" * 4000,
    ):
        yield Bad("POST", path, b"{}", {"Content-Type": kind}, frozenset({415}))
    yield Bad("POST", path, b"x" * (64 * 1024 + 1), {"Content-Type": media_type}, frozenset({413}))


def opening(site: Site) -> dict[str, str]:
    """Order and keys as a payment program brings them back; filled in by the test, which has opened a payment."""
    return dict(OPENED[site.base])


def windowed(site: Site) -> dict[str, str]:
    """The same order as the payment window posts it."""
    found = opening(site)
    return {name: found[name] for name in ("order", "tid", "amount")} | {"mid": SHOP, "currency": "KRW"}


def with_sealed(name: str) -> Callable[[Site], dict[str, str]]:
    """The same with sealed messages that are whole, but of another session key."""
    return lambda site: {**opening(site), "key": STRANGE, name: STRANGE}


OPENED: dict[str, dict[str, str]] = {}
STRANGE = ".".join(
    (
        ids.encode_base64url(b'{"alg":"dir","enc":"A256GCM","typ":"hanbit-login","ctx":"x","sequence":1,"tid":"x"}'),
        "",
        "A" * 16,
        "A" * 8,
        "A" * 22,
    )
)
FORM_FIELDS: dict[str, tuple[str, ...]] = {
    "order": SPELLINGS_OF_COMPACTS,
    "keys": SPELLINGS_OF_COMPACTS,
    "tid": SPELLINGS_OF_TIDS,
    "amount": SPELLINGS_OF_AMOUNTS,
    "mid": SPELLINGS_OF_MERCHANTS[1:],
}


def bad_ids(pattern: str) -> Callable[[Site], Iterator[Bad]]:
    """Ids that are none, or nobody's: the two look the same."""

    def requests(site: Site) -> Iterator[Bad]:
        for name in (
            "a",
            "A" * 22,
            "A" * 23,
            "A" * 4000,
            "%00" * 22,
            "%ff" * 22,
            "..%2f..%2fkeys",
            "%2e%2e",
            "가" * 22,
            "' OR 1=1 --",
            "%0d%0aX:%20y",
            "A" * 21 + "=",
        ):
            encoded = name if "%" in name else quote(name, safe="")
            for accept in ("text/html", JSON_TYPE, "", "*/*;q=" + "9" * 500):
                yield Bad("GET", pattern.replace("{id}", encoded), headers={"Accept": accept}, expected=frozenset({404}))

    return requests


def bad_files(_: Site) -> Iterator[Bad]:
    """Static files that are not there, and ways out of their folder."""
    for name in (
        "x/y",
        "x/../../../keys/pepper",
        "x/%2e%2e/%2e%2e/etc/passwd",
        "x/..%2f..%2fhanbit.toml",
        "x//etc/passwd",
        "x/%00",
        "x/\\..\\x",
        "x/" + "a/" * 2000,
    ):
        yield Bad("GET", f"/static/{name}", expected=frozenset({404, 400}))


def bad_device_enrolments(site: Site) -> Iterator[Bad]:
    """Sealed bytes that are none, and well sealed forms that are bad."""
    jose = {"Content-Type": "application/jose"}
    yield from bad_bodies("/enrol/device", "application/jose")
    for compact in (*SPELLINGS_OF_COMPACTS, STRANGE):
        yield Bad("POST", "/enrol/device", compact.encode("utf-8"), jose)
    seal = site.gateway.keyring.seal
    public = seal.private.public_key()
    code, secret = ids.new_token(), ids.encode_base64url(b"s" * 32)
    request = ids.encode_base64url(certificates.certificate_request(keys.new_key(), "", "customer-sign"))
    good: dict[str, Any] = {"code": code, "request": request, "secret": secret}
    for change in (
        {},  # a code that nobody made
        {"code": ""}, {"code": "x" * 65}, {"code": "가"}, {"code": None}, {"request": ""}, {"request": "AAAA"},
        {"request": "=" * 8}, {"request": "A" * 5000},
        {"request": request[:-4]}, {"secret": ""}, {"secret": "A"}, {"secret": "A" * 65}, {"secret": "é"}, {"more": 1},
    ):  # fmt: skip
        sealed = envelopes.seal_to_key(public, seal.kid, json.dumps({**good, **change}).encode(), ENROL_TYP)
        yield Bad("POST", "/enrol/device", sealed.encode(), jose)
    sealed = envelopes.seal_to_key(public, seal.kid, b"{}", "hanbit-key")
    yield Bad("POST", "/enrol/device", sealed.encode(), jose)


def bad_sealed_forms(path: str, *fields: dict[str, Any]) -> Callable[[Site], Iterator[Bad]]:
    """Sealed bytes that are none, forms of nobody's blank, and forms of a good blank with bad fields; a log-in is needed for most."""

    def requests(site: Site) -> Iterator[Bad]:
        jose = {"Content-Type": "application/jose"}
        yield from bad_bodies(path, "application/jose")
        for compact in (*SPELLINGS_OF_COMPACTS, STRANGE):
            yield Bad("POST", path, compact.encode("utf-8"), jose)
        seal, good = site.gateway.keyring.seal, sealed_forms.blank(site.gateway, path.rpartition("/")[2])
        blank = {name: good[name] for name in ("ctx", "n", "exp")}
        public = seal.private.public_key()
        spoilt: tuple[dict[str, Any], ...] = (
            {"n": "A" * 43}, {"n": ""}, {"ctx": "x"}, {"exp": -1}, {"exp": 10**30}, {"exp": "1"}, {"exp": 0}, {"more": 1},
            {"fields": None}, {"fields": []}, {"fields": "x"},
        )  # fmt: skip
        for change in spoilt:
            plain = json.dumps({**blank, "fields": {}, **change}).encode()
            yield Bad("POST", path, envelopes.seal_to_key(public, seal.kid, plain, sealed_forms.FORM_TYP).encode(), jose)
        for found in fields:
            plain = json.dumps({**blank, "fields": found}).encode()
            yield Bad("POST", path, envelopes.seal_to_key(public, seal.kid, plain, sealed_forms.FORM_TYP).encode(), jose)
        for raw in (b"", b"null", b"{", b'{"ctx":1,"ctx":2}', b"[" * 5000, b"\xff"):
            yield Bad("POST", path, envelopes.seal_to_key(public, seal.kid, raw, sealed_forms.FORM_TYP).encode(), jose)

    return requests


def bad_links(site: Site) -> Iterator[Bad]:
    """Links that are none, and forms sent to them."""
    yield from bad_ids("/my/password/{id}")(site)
    yield from bad_sealed_forms(f"/my/password/{'A' * 43}")(site)


def bad_home(path: str) -> Callable[[Site], Iterator[Bad]]:
    """Only a method can be wrong for a stranger, who is led to the log-in; `next` leads nowhere but to the home."""
    return lambda _: iter(Bad(method, path, b"{}", expected=frozenset({405})) for method in ("PUT", "DELETE"))


LOGINS: tuple[dict[str, Any], ...] = (
    {}, {"method": "x"}, {"method": "password"}, {"method": "password", "id": "", "password": ""},
    {"method": "password", "id": "a" * 65, "password": "x"}, {"method": "password", "id": "a" * 5000, "password": "x"},
    {"method": "password", "id": "\x00", "password": "\x00"}, {"method": "password", "id": 1, "password": None},
    {"method": "passkey"}, {"method": "passkey", "assertion": {}}, {"method": "passkey", "assertion": {"id": "A" * 9000}}, {"more": 1},
)  # fmt: skip


def bad_results(site: Site) -> Iterator[Bad]:
    """Bytes that are no request for a result, and requests in the name of sessions that nobody certified."""
    yield from bad_bodies("/purchase/result", "application/jose")
    operator = site.gateway.settings.operator
    head = ids.encode_base64url(json.dumps({"alg": "ES256", "typ": "hanbit-result-request", "kid": "A" * 43, "x5c": ["AAAA"]}).encode())
    names = (
        "",
        "x",
        f"urn:hanbit:{operator}:temporary:",
        f"urn:hanbit:{operator}:temporary:garam:{'s' * 22}",
        f"urn:hanbit:x:temporary:{'a' * 90}:",
    )
    others: tuple[Any, ...] = (None, 1, [], {})
    claims = [json.dumps({"iss": name}).encode() for name in (*names, *others)]
    signed = [f"{head}.{ids.encode_base64url(payload)}.{'A' * 86}" for payload in (*claims, b"", b"null", b"[" * 9000, b"\xff")]
    for compact in (*SPELLINGS_OF_COMPACTS, STRANGE, *signed):
        yield Bad("POST", "/purchase/result", compact.encode("utf-8"), {"Content-Type": "application/jose"})


def bad_merchant_enrolments(site: Site) -> Iterator[Bad]:
    """Codes that nobody made, requests that are none."""
    del site
    yield from bad_bodies("/enrol/merchant", JSON_TYPE)
    for code in ("", "x" * 65, "nobody", "가", 1, None):
        yield post("/enrol/merchant", {"code": code, "requests": {}})
    bad_requests: tuple[Any, ...] = ([], None, "x", {"line": 1}, {"line": "A" * 5000}, {"x": "A"}, {"merchant-sign": "A"})
    for requests in bad_requests:
        yield post("/enrol/merchant", {"code": "nobody", "requests": requests})


def bad_passkeys(path: str) -> Callable[[Site], Iterator[Bad]]:
    """Whatever is not an object, and objects that are no answer of an authenticator (or whose customer may not add one)."""

    def requests(_: Site) -> Iterator[Bad]:
        yield from bad_bodies(path, JSON_TYPE)
        for form in (
            {},
            {"id": "x", "rawId": "x", "response": {}, "type": "public-key"},
            {"response": {"clientDataJSON": "!"}},
            {"id": "A" * 60_000},
        ):
            yield post(path, form)

    return requests


def nothing_to_get_wrong(path: str) -> Callable[[Site], Iterator[Bad]]:
    """An address that takes nothing: only its method can be wrong, which the walk tries on every address."""
    return lambda _: iter((Bad("POST", path, b"{}", expected=frozenset({405})),))


BAD: dict[str, Callable[[Site], Iterator[Bad]]] = {
    "/pay": bad_query,
    "/pay/login": bad_posts(
        "/pay/login", with_sealed("login"), {**FORM_FIELDS, "key": SPELLINGS_OF_COMPACTS, "login": SPELLINGS_OF_COMPACTS}
    ),
    "/pay/screen": bad_posts("/pay/screen", opening, FORM_FIELDS),
    "/pay/submit": bad_posts(
        "/pay/submit", with_sealed("pay"), {**FORM_FIELDS, "key": SPELLINGS_OF_COMPACTS, "pay": SPELLINGS_OF_COMPACTS}
    ),
    "/pay/cancel": bad_posts("/pay/cancel", lambda site: {**opening(site), "key": STRANGE}, {**FORM_FIELDS, "key": SPELLINGS_OF_COMPACTS}),
    "/pay/grant": bad_posts("/pay/grant", lambda site: {**opening(site), "key": STRANGE}, {**FORM_FIELDS, "key": SPELLINGS_OF_COMPACTS}),
    "/purchase/result": bad_results,
    "/button.js": nothing_to_get_wrong("/button.js"),
    "/window": nothing_to_get_wrong("/window"),
    "/window/open": bad_posts(
        "/window/open",
        windowed,
        {
            "order": SPELLINGS_OF_COMPACTS,
            "tid": SPELLINGS_OF_TIDS,
            "amount": SPELLINGS_OF_AMOUNTS,
            "currency": SPELLINGS_OF_CURRENCIES,
            "mid": SPELLINGS_OF_MERCHANTS,
        },
    ),
    "/payments/{id}": bad_ids("/payments/{id}"),
    "/payments/{id}/state": bad_ids("/payments/{id}/state"),
    "/payments/{id}/receipt": bad_ids("/payments/{id}/receipt"),
    "/static/{version}/{name:path}": bad_files,
    "/enrol/keys": nothing_to_get_wrong("/enrol/keys"),
    "/enrol/device": bad_device_enrolments,
    "/enrol/merchant": bad_merchant_enrolments,
    "/passkeys/options": bad_passkeys("/passkeys/options"),
    "/passkeys": bad_passkeys("/passkeys"),
    "/my": bad_home("/my"),
    "/my/security": bad_home("/my/security"),
    "/my/accounts/{id}": bad_home("/my/accounts/AAAAAAAAAAAAAAAAAAAAAA"),
    "/my/accounts/{id}/settings": bad_home("/my/accounts/AAAAAAAAAAAAAAAAAAAAAA/settings"),
    "/my/accounts/{id}/statement.csv": bad_home("/my/accounts/AAAAAAAAAAAAAAAAAAAAAA/statement.csv"),
    "/my/payments/{id}": bad_home("/my/payments/AAAAAAAAAAAAAAAAAAAAAA"),
    "/my/login": bad_sealed_forms("/my/login", *LOGINS),
    "/my/logout": bad_sealed_forms("/my/logout"),
    "/my/sessions": bad_sealed_forms("/my/sessions"),
    "/my/limits": bad_sealed_forms("/my/limits"),
    "/my/password": bad_sealed_forms("/my/password"),
    "/my/password/{token}": bad_links,
    "/my/contact": bad_home("/my/contact"),
    "/my/keys/{id}": bad_home("/my/keys/AAAAAAAAAAAAAAAAAAAAAA"),
    "/my/email/{id}": bad_home("/my/email/AAAAAAAAAAAAAAAAAAAAAA"),
    "/my/notices": bad_sealed_forms("/my/notices"),
    "/my/rename": bad_sealed_forms("/my/rename"),
    "/my/remove": bad_sealed_forms("/my/remove"),
    "/my/email": bad_sealed_forms("/my/email"),
    "/my/confirm": bad_sealed_forms("/my/confirm"),
    "/my/language": bad_sealed_forms("/my/language"),
    "/healthz": nothing_to_get_wrong("/healthz"),
    "/readyz": nothing_to_get_wrong("/readyz"),
}
"""Address → what is tried there; an address that is added without an entry fails the walk."""
