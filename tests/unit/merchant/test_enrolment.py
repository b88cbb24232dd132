"""Enrolment of a shop against an honest and a dishonest gateway: what is stored, what is refused, and that nothing half-done remains."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hanbit.crypto import certificates, keys
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput, HanbitError, NotAllowed, ProtocolViolation, Unavailable
from hanbit.merchant import files
from hanbit.merchant.enrolment import enrol
from hanbit.protocols.signed import PinnedTrust, encode_der
from tests.unit.merchant.support import DAY_S, GATEWAY, NOW, OPERATOR, SHOP, Operator

CODE = "one-time-code-of-the-operator"


class Gateway:
    """POST /enrol/merchant, as the operator's server answers it; `twist` makes it dishonest."""

    def __init__(self) -> None:
        self.operator = Operator.make()
        self.twist: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.status = 200
        self.address = ""
        self.requests: list[dict[str, Any]] = []
        self.hosts: list[str] = []

    @property
    def pin(self) -> str:
        return ids.digest(self.operator.root)

    def answer(self, body: dict[str, Any], operator: Operator | None = None) -> dict[str, Any]:
        operator = operator or self.operator
        chains = {}
        for purpose, text in body["requests"].items():
            request = certificates.read_request(ids.decode_base64url(text))
            assert request.purpose == purpose
            leaf = certificates.make_leaf(
                operator.merchant_authority, urn=SHOP, purpose=purpose, public=request.public, at=NOW, lifetime_s=90 * DAY_S
            )
            chains[purpose] = [encode_der(der) for der in (leaf, *operator.merchant_authority.chain)]
        return {
            "operator": OPERATOR,
            "merchant": SHOP,
            "gateway": GATEWAY,
            "line": {"host": "line.localhost", "port": 8401},
            "pay_url": "http://pay.localhost:8400/pay",
            "root": encode_der(operator.root),
            "chains": chains,
            "orders": "plain",
        }


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    served = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.requests.append(body)
            served.hosts.append(self.headers["host"])
            content = json.dumps(served.twist(served.answer(body))).encode()
            self.send_response(served.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://pay.localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


async def run(gateway: Gateway, folder: Path, *, pin: str = "", code: str = CODE, address: str = "") -> Any:
    target = address or gateway.address
    return await enrol(folder, target, code, pin=pin or gateway.pin, clock=ManualClock(NOW))


async def test_an_enrolled_folder_opens_as_a_shop_and_prints_its_key_card(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    card = await run(gateway, folder)
    registration = files.read_registration(folder)
    assert (registration.merchant, registration.merchant_id, registration.orders) == (SHOP, "shop", "plain")
    signer = files.load_signer(folder, registration)
    trust = PinnedTrust(gateway.operator.root, OPERATOR, urn=SHOP)
    assert trust.key(signer.kid, signer.chain, NOW).purpose == "merchant-sign"
    assert card.thumbprint == thumbprint(signer.key.public_key())
    assert (card.operator, card.merchant, card.date) == (OPERATOR, SHOP, "2027-01-15")
    assert card.thumbprint in card.text().replace(" ", "")
    assert gateway.hosts[0].startswith("pay.localhost:")
    assert gateway.requests[0]["code"] == CODE


async def test_private_keys_never_leave_and_only_their_owner_reads_the_folder(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    await run(gateway, folder)
    modes = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert {mode for name, mode in modes.items() if name != "keys"} == {0o600}
    assert (modes["keys"], folder.stat().st_mode & 0o777) == (0o700, 0o700)
    sent = json.dumps(gateway.requests)
    for purpose in files.PURPOSES:
        secret = keys.load_key(files.key_path(folder, purpose)).private_numbers().private_value.to_bytes(32, "big")
        assert ids.encode_base64url(secret) not in sent
        assert "PRIVATE" not in sent


def test_thumbprint_is_rfc_7638() -> None:
    public = keys.public_from_jwk(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
    )
    text = '{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}'
    assert thumbprint(public) == ids.digest(text.encode())


def _swap_chains(answer: dict[str, Any]) -> dict[str, Any]:
    chains = answer["chains"]
    return answer | {"chains": {"merchant-sign": chains["line"], "line": chains["merchant-sign"]}}


TWISTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another shape": lambda _: ["x"],
    "no chains": lambda answer: answer | {"chains": {}},
    "one certificate only": lambda answer: answer | {"chains": {"line": answer["chains"]["line"]}},
    "certificates swapped": _swap_chains,
    "another merchant's name": lambda answer: answer | {"merchant": f"{SHOP}2"},
    "a customer's name": lambda answer: answer | {"merchant": ids.urn(OPERATOR, "customer", "shop")},
    "another gateway": lambda answer: answer | {"gateway": ids.urn("other", "gateway")},
    "another operator": lambda answer: answer | {"operator": "other"},
    "a line to nowhere": lambda answer: answer | {"line": {"host": "x", "port": 0}},
    "a payment page that is none": lambda answer: answer | {"pay_url": "javascript:alert(1)"},
    "a root that is no certificate": lambda answer: answer | {"root": "AAAA"},
    "the chain cut short": lambda answer: answer | {"chains": {name: chain[:1] for name, chain in answer["chains"].items()}},
}


@pytest.mark.parametrize("name", TWISTS)
async def test_a_twisted_answer_is_refused_and_the_folder_is_not_enrolled(gateway: Gateway, tmp_path: Path, name: str) -> None:
    gateway.twist = TWISTS[name]
    with pytest.raises(ProtocolViolation):
        await run(gateway, tmp_path / "shop")
    with pytest.raises(BadInput, match="enrol the shop first"):
        files.read_registration(tmp_path / "shop")


async def test_somebody_in_between_with_a_root_of_his_own_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    gateway.twist = lambda _: gateway.answer(gateway.requests[-1], Operator.make())
    with pytest.raises(ProtocolViolation, match="root"):
        await run(gateway, tmp_path / "shop")


async def test_a_certificate_for_another_key_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    foreign = {purpose: ids.encode_base64url(certificates.certificate_request(keys.new_key(), "", purpose)) for purpose in files.PURPOSES}
    gateway.twist = lambda _: gateway.answer({"requests": foreign})
    with pytest.raises(ProtocolViolation, match="not for this shop's key"):
        await run(gateway, tmp_path / "shop")


async def test_after_a_lost_answer_the_same_keys_are_used(gateway: Gateway, tmp_path: Path) -> None:
    gateway.status = 503
    with pytest.raises(Unavailable):
        await run(gateway, tmp_path / "shop")
    first = {purpose: files.key_path(tmp_path / "shop", purpose).read_bytes() for purpose in files.PURPOSES}
    gateway.status = 200
    await run(gateway, tmp_path / "shop")
    assert {purpose: files.key_path(tmp_path / "shop", purpose).read_bytes() for purpose in files.PURPOSES} == first
    with pytest.raises(BadInput, match="enrolled already"):
        await run(gateway, tmp_path / "shop")


@pytest.mark.parametrize(
    ("status", "kind"), [(403, NotAllowed), (404, NotAllowed), (409, NotAllowed), (500, Unavailable), (302, Unavailable)]
)
async def test_a_code_that_is_not_taken_says_what_to_do(gateway: Gateway, tmp_path: Path, status: int, kind: type[HanbitError]) -> None:
    gateway.status = status
    with pytest.raises(kind):
        await run(gateway, tmp_path / "shop")


@pytest.mark.parametrize(
    "changes",
    [
        {"code": ""},
        {"code": "x" * 129},
        {"code": "코드"},
        {"pin": "short"},
        {"address": "http://pay.example/"},
        {"address": "ftp://pay.localhost/"},
        {"address": "http://[::1/"},
        {"address": "http://pay.localhost:99999/"},
        {"address": "http://user@pay.localhost/"},
    ],
)
async def test_what_was_mistyped_is_bad_input(gateway: Gateway, tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        await run(gateway, tmp_path / "shop", **changes)
    assert gateway.requests == []


async def test_a_gateway_that_is_not_there_is_unavailable(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await run(gateway, tmp_path / "shop", address="http://127.0.0.1:1")
