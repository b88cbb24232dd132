"""D1 to D8 in the browser's payment program against the project's own code: what it verifies, what it signs and seals, what it refuses."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from hanbit.crypto import certificates, envelopes, keys, signatures
from hanbit.crypto.certificates import Authority, make_leaf
from hanbit.kernel import ids
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature.messages import Result, Session
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.redirect.messages import Order, Receipt
from hanbit.protocols.signed import Signer, encode_der
from tests.faces.program import Dialogue
from tests.faces.test_payment_program import CUSTOMER, GATEWAY, SHOP, TID, Gateway, header_of, re_keyed, resign
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, make_world

LINES = json.dumps([{"item": "SK휴대폰 IM-1100", "quantity": 1, "price_minor": 220_000}], ensure_ascii=False, separators=(",", ":"))
LINES_SALT = bytes(range(32))
SID, NM, PAYMENT, GRANT = "s" * 21 + "A", "n" * 42 + "A", "p" * 21 + "A", "g" * 21 + "A"
TEMPORARY = f"urn:hanbit:{OPERATOR}:temporary:shop:{SID}"
Answer = dict[str, Any]


class Checkout:
    """One shop's half of D1 to D3, and the gateway's of D8, with keys of this test's own operator."""

    def __init__(self) -> None:
        self.world = make_world()
        self.gateway = Gateway(self.world)
        lines_hash = hash_lines(LINES_SALT, LINES.encode())
        claims = Order(
            **signed.head(self.gateway.shop, GATEWAY, AT),
            tid=TID,
            amount="220000",
            currency="KRW",
            oi=lines_hash,
            text="SK휴대폰 IM-1100",
            return_url="https://shop.example/return",
            pay_by=AT + 1800,
        )
        self.order = signed.sign(claims, self.gateway.shop)
        self.opening = re_keyed(self.gateway, self.order.compact)
        self.lines = {"lines": LINES, "lines_salt": ids.encode_base64url(LINES_SALT)}

    def answer(self, request: str, *, chain: tuple[bytes, ...] | None = None, **said: Any) -> Answer:
        """D3, right unless something else is `said`."""
        asked = json.loads(ids.decode_base64url(request.split(".")[1]))
        named: dict[str, Any] = {
            "nc": asked["nc"],
            "nm": NM,
            "sid": SID,
            "gateway": GATEWAY,
            "thumbprint": thumbprint(asked["key"]),
            "tid": TID,
            "amount": "220000",
            "currency": "KRW",
            "order": self.order.hash,
            "req": ids.digest(request.encode("ascii")),
            "exp": AT + 600,
        }
        by = self.gateway.shop
        audience = said.pop("audience", CUSTOMER)
        session = signed.sign(Session(**signed.head(by, audience, AT), **{**named, **said}), by)
        return {"session": session.compact, "certificate": encoded(chain or self.temporary(public_of(request)))}

    def temporary(
        self, public: EllipticCurvePublicKey, *, urn: str = TEMPORARY, authority: Authority | None = None, lifetime_s: int = 900
    ) -> tuple[bytes, ...]:
        """Kc's certificate for this session."""
        issuer = authority or self.world.session
        return (make_leaf(issuer, urn=urn, purpose="temporary", public=public, at=AT, lifetime_s=lifetime_s), *issuer.chain)

    def receipt(self, **said: Any) -> str:
        """D8, the gateway's."""
        named = {"payment": PAYMENT, "tid": TID, "amount": "220000", "currency": "KRW", "payee": "가람전자", "order": self.order.hash}
        signer = self.gateway.signer
        claims = Receipt(**signed.head(signer, said.pop("audience", CUSTOMER), AT), time=AT, prev=NM, **{**named, **said})
        return signed.sign(claims, signer).compact


def forged(message: str, signer: Signer, typ: str) -> str:
    """The same claims under a signature of somebody who may not make it."""
    return resign(message, signer, header=lambda _: header_of(signer, typ))


def encoded(chain: tuple[bytes, ...]) -> list[str]:
    return [encode_der(der) for der in chain]


def public_of(request: str) -> EllipticCurvePublicKey:
    return keys.public_from_jwk(json.loads(ids.decode_base64url(request.split(".")[1]))["key"])


def thumbprint(jwk: dict[str, str]) -> str:
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    return ids.digest(text.encode("ascii"))


@pytest.fixture(scope="module")
def checkout() -> Checkout:
    return Checkout()


@pytest.fixture
def program(node: str, tmp_path: Path, checkout: Checkout) -> Iterator[Dialogue]:
    """A window in which this order has been opened."""
    yield from opened(node, tmp_path, checkout)


@pytest.fixture(scope="module")
def one_window(node: str, tmp_path_factory: pytest.TempPathFactory, checkout: Checkout) -> Iterator[Dialogue]:
    """The same for tests that only see something refused."""
    yield from opened(node, tmp_path_factory.mktemp("window"), checkout)


def opened(node: str, folder: Path, checkout: Checkout) -> Iterator[Dialogue]:
    dialogue = Dialogue(node, folder, gateway_urn=GATEWAY, root=checkout.world.root_der, at=AT)
    dialogue.value("open", opening=checkout.opening)
    try:
        yield dialogue
    finally:
        dialogue.close()


# --- D1 --------------------------------------------------------------------------------------------------------------------------------


def test_the_lines_that_the_shop_signed_are_shown(one_window: Dialogue, checkout: Checkout) -> None:
    assert one_window.value("lines", checkout=checkout.lines) == json.loads(LINES)


LINE_DEFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "other lines": ("lines_hash", {"lines": LINES.replace("IM-1100", "IM-1200")}),
    "another salt": ("lines_hash", {"lines_salt": ids.encode_base64url(bytes(32))}),
    "a salt that can be guessed": ("lines_salt", {"lines_salt": ids.encode_base64url(bytes(31))}),
    "a salt that is none": ("lines_salt", {"lines_salt": None}),
    "lines that are no text": ("lines_size", {"lines": [1]}),
    "lines without end": ("lines_size", {"lines": "[" * 50_000}),
}


@pytest.mark.parametrize("defect", sorted(LINE_DEFECTS))
def test_lines_with_one_defect_are_refused(one_window: Dialogue, checkout: Checkout, defect: str) -> None:
    rule, said = LINE_DEFECTS[defect]
    assert one_window.act("lines", checkout={**checkout.lines, **said}) == {"untrusted": rule}


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ("no JSON", "lines_shape"),
        ("{}", "lines_shape"),
        ("[]", "lines_shape"),
        ('[{"item":1,"quantity":1,"price_minor":220000}]', "lines_shape"),
        ('[{"item":"x","quantity":1.5,"price_minor":1}]', "lines_shape"),
        ('[{"item":"x","quantity":2,"price_minor":220000}]', "lines_total"),
    ],
)
def test_lines_that_were_signed_but_do_not_make_the_amount_are_refused(
    node: str, tmp_path: Path, checkout: Checkout, lines: str, rule: str
) -> None:
    lines_hash = hash_lines(LINES_SALT, lines.encode())
    old = json.loads(ids.decode_base64url(checkout.order.compact.split(".")[1]))["oi"]
    order = resign(checkout.order.compact, checkout.gateway.shop, payload=lambda text: text.replace(old, lines_hash))
    dialogue = Dialogue(node, tmp_path, gateway_urn=GATEWAY, root=checkout.world.root_der, at=AT)
    try:
        dialogue.value("open", opening=re_keyed(checkout.gateway, order))
        assert dialogue.act("lines", checkout=checkout.lines | {"lines": lines}) == {"untrusted": rule}
    finally:
        dialogue.close()


# --- D2 --------------------------------------------------------------------------------------------------------------------------------


def test_the_request_proves_possession_of_a_fresh_key_that_no_script_can_read(program: Dialogue, checkout: Checkout) -> None:
    made = [program.value("ask") for _ in range(2)]
    assert [one["extractable"] for one in made] == [False, False]
    seen = []
    for one in made:
        head, body, signature = one["compact"].split(".")
        claims = json.loads(ids.decode_base64url(body))
        assert json.loads(ids.decode_base64url(head)) == {"alg": "ES256", "typ": "hanbit-session-request"}
        signatures.verify(public_of(one["compact"]), f"{head}.{body}".encode("ascii"), ids.decode_base64url(signature))
        assert (claims["iss"], claims["aud"], claims["order"]) == (CUSTOMER, SHOP, checkout.order.hash)
        assert set(claims) == {"v", "iss", "aud", "jti", "iat", "nc", "key", "order"}
        seen += [claims["nc"], claims["key"]["x"], claims["jti"]]
    assert len(set(seen)) == len(seen), "a nonce, a key and an id of its own each time"


# --- D3 --------------------------------------------------------------------------------------------------------------------------------


def test_a_right_session_is_accepted(program: Dialogue, checkout: Checkout) -> None:
    request = program.value("ask")["compact"]
    assert program.value("session", answer=checkout.answer(request)) == {"sid": SID}
    request = program.value("ask")["compact"]
    drafted = _drafted(issuer="session")(checkout, request)
    assert program.value("session", answer=drafted) == {"sid": SID}, "a certificate by another writer of the same profile"


def _foreign(checkout: Checkout, request: str) -> Answer:
    """A shop of another operator with the same names."""
    elsewhere = make_world()
    return checkout.answer(request, chain=checkout.temporary(public_of(request), authority=elsewhere.session))


def _signed_by(purpose: str, name: str) -> Callable[[Checkout, str], Answer]:
    def made(checkout: Checkout, request: str) -> Answer:
        signer = checkout.gateway.make_signer(checkout.world.merchant, f"urn:hanbit:{OPERATOR}:merchant:{name}", purpose)
        answer = checkout.answer(request)
        return answer | {"session": forged(answer["session"], signer, "hanbit-session")}

    return made


def _by_the_gateway(checkout: Checkout, request: str) -> Answer:
    answer = checkout.answer(request)
    return answer | {"session": forged(answer["session"], checkout.gateway.signer, "hanbit-session")}


def _without(member: str) -> Callable[[Checkout, str], Answer]:
    return lambda checkout, request: checkout.answer(request) | {member: None}


def _said(**claims: Any) -> Callable[[Checkout, str], Answer]:
    return lambda checkout, request: checkout.answer(request, **claims)


def _certified(**how: Any) -> Callable[[Checkout, str], Answer]:
    def made(checkout: Checkout, request: str) -> Answer:
        given = {name: value(checkout) if callable(value) else value for name, value in how.items()}
        public = given.pop("public", None) or public_of(request)
        return checkout.answer(request, chain=checkout.temporary(public, **given))

    return made


def _chain(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Callable[[Checkout, str], Answer]:
    return lambda checkout, request: checkout.answer(request, chain=change(checkout.temporary(public_of(request))))


def _drafted(*, issuer: Literal["session", "other session", "gateway's"]) -> Callable[[Checkout, str], Answer]:
    """Kc's certificate under a session authority that is not this shop's, or that the wrong authority issued."""

    def made(checkout: Checkout, request: str) -> Answer:
        world, key = checkout.world, keys.new_key()
        above = world.gateway if issuer == "gateway's" else world.merchant
        name, above_name = ("session:shop2" if issuer == "other session" else "session:shop"), above.content.urn.name
        authority_draft = drafts.authority(above, AT, key, operator=OPERATOR, rest=name, path_length=0, issuer_rest=above_name)
        session = Authority.below_root(key, [authority_draft.sign(), *above.chain])
        leaf = drafts.leaf(session, AT, operator=OPERATOR, role="temporary", rest=f"shop:{SID}", purpose="temporary", issuer_rest=name)
        public = public_of(request)
        identified = x509.SubjectKeyIdentifier(drafts.identifier(public))
        leaf = leaf.but(public=public, not_after=AT + 900).replacing(identified, critical=False)
        return checkout.answer(request, chain=(leaf.sign(), *session.chain))

    return made


def _payload(change: Callable[[str], str]) -> Callable[[Checkout, str], Answer]:
    def made(checkout: Checkout, request: str) -> Answer:
        answer = checkout.answer(request)
        return answer | {"session": resign(answer["session"], checkout.gateway.shop, payload=change)}

    return made


def _header(change: Callable[[str], str]) -> Callable[[Checkout, str], Answer]:
    def made(checkout: Checkout, request: str) -> Answer:
        answer = checkout.answer(request)
        return answer | {"session": resign(answer["session"], checkout.gateway.shop, header=change)}

    return made


def _altered(checkout: Checkout, request: str) -> Answer:
    answer = checkout.answer(request)
    head, body, _ = answer["session"].split(".")
    return answer | {"session": f"{head}.{body}.{ids.encode_base64url(bytes([1]) * 64)}"}


SESSION_DEFECTS: dict[str, tuple[str, Callable[[Checkout, str], Answer]]] = {
    "no answer": ("session_shape", lambda _checkout, _request: None),  # type: ignore[return-value, dict-item]  # what a shop may send
    "no session": ("session_size", _without("session")),
    "no certificate": ("session_header", _without("certificate")),
    "signed by another shop": ("certificate_profile", _signed_by("merchant-sign", "shop2")),
    "signed by the shop's line key": ("certificate_profile", _signed_by("line", "shop")),
    "signed by the gateway": ("certificate_profile", _by_the_gateway),
    "an altered signature": ("session_signature", _altered),
    "alg none": ("session_header", _header(lambda text: text.replace('"ES256"', '"none"'))),
    "the typ of an order": ("session_header", _header(lambda text: text.replace("hanbit-session", "hanbit-order"))),
    "jwk in the header": ("session_header", _header(lambda text: text[:-1] + ',"jwk":{}}')),
    "a claim twice": ("session_claims", _payload(lambda text: text[:-1] + ',"amount":"1"}')),
    "an unknown claim": ("session_claims", _payload(lambda text: text[:-1] + ',"admin":"yes"}')),
    "another audience": ("session_parties", _said(audience=GATEWAY)),
    "an answer to another request": ("session_req", _said(req=ids.digest(b"another"))),
    "another nonce": ("session_nc", _said(nc="c" * 42 + "A")),
    "another customer's key": ("session_thumbprint", _said(thumbprint=ids.digest(b"another"))),
    "another gateway": ("session_gateway", _said(gateway="urn:hanbit:dul:gateway")),
    "another transaction": ("session_tid", _said(tid="A" * 22)),
    "another amount": ("session_amount", _said(amount="2200000")),
    "another currency": ("session_currency", _said(currency="JPY")),
    "another order": ("session_order", _said(order=ids.digest(b"another"))),
    "a used sid": ("session_sid", _said(sid="u" * 21 + "A")),
    "an old nonce of the shop": ("session_nm", _said(nm="o" * 42 + "A")),
    "a session that has ended": ("session_exp", _said(exp=AT)),
    "a session without end": ("session_exp", _said(exp=AT + DAY_S)),
    "a certificate of another session": ("certificate_profile", _certified(urn=TEMPORARY[:-1] + "Q")),
    "a certificate of another key": ("session_certificate_key", _certified(public=lambda _checkout: keys.new_key().public_key())),
    "a certificate for a day": ("session_certificate_life", _certified(lifetime_s=DAY_S)),
    "a session authority of another shop": ("certificate_profile", _drafted(issuer="other session")),
    "a session authority under the gateway's": ("certificate_profile", _drafted(issuer="gateway's")),
    "a certificate that the signing key issued": ("certificate_chain", _chain(lambda chain: (chain[0], chain[2]))),
    "another operator's chain": ("certificate_profile", _foreign),
    "the authorities in another order": ("certificate_profile", _chain(lambda chain: (chain[0], chain[2], chain[1]))),
    "a chain with the root": ("certificate_chain", _chain(lambda chain: (*chain, chain[2]))),
    "an empty chain": ("session_header", _without("certificate")),
    "a certificate that is none": ("certificate_der", _chain(lambda chain: (b"0", *chain[1:]))),
}


@pytest.mark.parametrize("defect", sorted(SESSION_DEFECTS))
def test_a_session_with_one_defect_is_refused_before_anything_is_sealed(one_window: Dialogue, checkout: Checkout, defect: str) -> None:
    rule, make = SESSION_DEFECTS[defect]
    request = one_window.value("ask")["compact"]
    used = ["u" * 21 + "A", "o" * 42 + "A"]
    assert one_window.act("session", answer=make(checkout, request), used=used) == {"untrusted": rule}


def test_an_answer_to_an_earlier_request_of_the_same_window_is_refused(program: Dialogue, checkout: Checkout) -> None:
    early = checkout.answer(program.value("ask")["compact"])
    program.value("ask")
    assert program.act("session", answer=early) == {"untrusted": "session_req"}


# --- D5 --------------------------------------------------------------------------------------------------------------------------------


def bought(program: Dialogue, checkout: Checkout, **said: Any) -> tuple[Answer, str, dict[str, Any]]:
    request = program.value("ask")["compact"]
    answer = checkout.answer(request)
    program.value("session", answer=answer)
    asked = {"account": {"id": "account-1"}, "method": "password", "value": "account-2580", "lines": LINES, "grant": GRANT, **said}
    return answer, request, program.value("buy", **asked)


def digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def test_both_halves_of_a_purchase_hang_on_one_signature(program: Dialogue, checkout: Checkout) -> None:
    answer, request, made = bought(program, checkout)
    purchase = made["purchase"]
    asked = json.loads(ids.decode_base64url(request.split(".")[1]))
    head, body, signature = purchase["dual"].split(".")
    header, claims = (json.loads(ids.decode_base64url(part)) for part in (head, body))
    assert header == {
        "alg": "ES256", "typ": "hanbit-dual", "kid": certificates.kid(signed.decode_chain(answer["certificate"])[0]),
        "x5c": answer["certificate"],
    }  # fmt: skip
    signatures.verify(public_of(request), f"{head}.{body}".encode("ascii"), ids.decode_base64url(signature))

    oi = json.loads(purchase["oi"])
    common = {"tid": TID, "sid": SID, "nc": asked["nc"], "nm": NM, "merchant": SHOP, "gateway": GATEWAY}
    assert oi == {"v": 1, **common, "amount": "220000", "currency": "KRW", "lines": LINES, "salt": oi["salt"]}
    oimd = digest(b"hanbit1 OI\0", purchase["oi"].encode())
    plain = envelopes.open_with_key(
        purchase["envelope"],
        checkout.gateway.seal_key,
        typ="hanbit-purchase",
        expected_kid=checkout.gateway.seal.kid,
        extra_header={"sid": SID},
    )
    assert len(plain) == sealed.PURCHASE_PADDED_TO
    pi = json.loads(plain)
    assert set(pi) == {"core", "auth"}
    pimd = digest(b"hanbit1 PI\0", digest(pi["core"].encode()), digest(pi["auth"].encode()))
    assert claims == {
        **common,
        "v": 1,
        "iss": TEMPORARY,
        "aud": GATEWAY,
        "jti": claims["jti"],
        "iat": AT,
        "exp": AT + 600,
        "pimd": ids.encode_base64url(pimd),
        "oimd": ids.encode_base64url(oimd),
        "pomd": ids.encode_base64url(digest(pimd, oimd)),
        "order": checkout.order.hash,
        "prev": ids.digest(answer["session"].encode("ascii")),
    }
    assert purchase["pimd"] == claims["pimd"]
    core = json.loads(pi["core"])
    assert core == {
        **common,
        "v": 1,
        "order": checkout.order.hash,
        "amount": "220000",
        "currency": "KRW",
        "account": "account-1",
        "exp": AT + 600,
        "salt": core["salt"],
        "grant": GRANT,
        "oimd": claims["oimd"],
        "thumbprint": thumbprint(asked["key"]),
    }
    auth = json.loads(pi["auth"])
    assert (auth["method"], auth["value"], len(auth["salt"])) == ("password", "account-2580", 43)
    assert len({oi["salt"], core["salt"], auth["salt"]}) == 3, "a salt of its own for each half and for the authenticator"


def test_what_the_shop_gets_shows_neither_account_nor_password(program: Dialogue, checkout: Checkout) -> None:
    _, _, made = bought(program, checkout, account={"number": "11012345678890"})
    seen = json.dumps(made["purchase"])
    for secret in ("11012345678890", "account-2580", GRANT):
        for shift in range(3):
            assert ids.encode_base64url(b"?" * shift + secret.encode())[shift + 1 : -2] not in seen
        assert secret not in seen


def test_no_envelope_tells_by_its_length_how_long_a_password_is_or_by_what_was_paid(program: Dialogue, checkout: Checkout) -> None:
    said = (
        {"value": "1"},
        {"value": "비밀번호 열두 글자 이상"},
        {"method": "passkey", "value": "{" + "a" * 1_500 + "}"},
        {"account": {"number": "4012888888881881"}},
    )
    lengths = {len(bought(program, checkout, **one)[2]["purchase"]["envelope"]) for one in said}
    assert len(lengths) == 1


def test_a_typed_number_goes_beside_the_core_which_holds_its_salted_hash(program: Dialogue, checkout: Checkout) -> None:
    _, _, made = bought(program, checkout, account={"number": "11012345678890"})
    envelope, seal = made["purchase"]["envelope"], checkout.gateway.seal
    pi = json.loads(
        envelopes.open_with_key(envelope, seal.private, typ="hanbit-purchase", expected_kid=seal.kid, extra_header={"sid": SID})
    )
    assert pi["number"] == "11012345678890"
    assert json.loads(pi["core"])["account"] == sealed.typed_account(pi["number"], ids.decode_base64url(pi["number_salt"]))


def test_the_passkey_signs_this_very_core(program: Dialogue, checkout: Checkout) -> None:
    _, _, made = bought(program, checkout, method="passkey", value="{}")
    assert made["challenge"] == ids.encode_base64url(sealed.consent_challenge(ids.digest(made["core"].encode())))


def test_an_envelope_that_the_gateway_would_not_take_is_never_sent(program: Dialogue, checkout: Checkout) -> None:
    program.value("session", answer=checkout.answer(program.value("ask")["compact"]))
    asked = {"account": {"id": "account-1"}, "method": "password", "value": "x" * 20_000, "lines": LINES, "grant": GRANT}
    assert program.act("buy", **asked) == {"untrusted": "purchase_size"}


# --- D8 --------------------------------------------------------------------------------------------------------------------------------


def test_the_gateways_receipt_is_accepted(one_window: Dialogue, checkout: Checkout) -> None:
    assert one_window.value("receipt", receipt=checkout.receipt(), payment=PAYMENT)["payment"] == PAYMENT
    assert one_window.value("receipt", receipt=checkout.receipt())["time"] == AT


RECEIPT_DEFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "another transaction": ("receipt_tid", {"tid": "A" * 22}),
    "another amount": ("receipt_amount", {"amount": "1"}),
    "another currency": ("receipt_currency", {"currency": "JPY"}),
    "another order": ("receipt_order", {"order": ids.digest(b"another")}),
    "another payee": ("receipt_payee", {"payee": "나람전자"}),
    "another payment": ("receipt_payment", {"payment": "q" * 21 + "A"}),
    "another audience": ("receipt_parties", {"audience": SHOP}),
}


@pytest.mark.parametrize("defect", sorted(RECEIPT_DEFECTS))
def test_a_receipt_with_one_defect_is_refused(one_window: Dialogue, checkout: Checkout, defect: str) -> None:
    rule, said = RECEIPT_DEFECTS[defect]
    assert one_window.act("receipt", receipt=checkout.receipt(**said), payment=PAYMENT) == {"untrusted": rule}


def test_a_receipt_that_the_shop_wrote_itself_is_refused(one_window: Dialogue, checkout: Checkout) -> None:
    own = forged(checkout.receipt(), checkout.gateway.shop, "hanbit-receipt")
    assert one_window.act("receipt", receipt=own, payment=PAYMENT) == {"untrusted": "certificate_profile"}
    assert one_window.act("receipt", receipt=None) == {"untrusted": "receipt_size"}


def result(checkout: Checkout, question: str, **said: Any) -> str:
    named = {"sid": SID, "tid": TID, "req": ids.digest(question.encode("ascii")), "state": "captured"}
    signer = checkout.gateway.signer
    claims = Result(**signed.head(signer, said.pop("audience", CUSTOMER), AT), **{**named, **said})
    return signed.sign(claims, signer).compact


def test_the_customer_asks_the_gateway_himself_by_the_key_that_he_bought_with(program: Dialogue, checkout: Checkout) -> None:
    answer, request, _ = bought(program, checkout)
    question = program.value("question")["compact"]
    head, body, signature = question.split(".")
    signatures.verify(public_of(request), f"{head}.{body}".encode("ascii"), ids.decode_base64url(signature))
    assert json.loads(ids.decode_base64url(head))["x5c"] == answer["certificate"]
    claims = json.loads(ids.decode_base64url(body))
    assert (claims["iss"], claims["aud"], claims["sid"], claims["tid"]) == (TEMPORARY, GATEWAY, SID, TID)
    said = program.value("result", result=result(checkout, question, reason="no_funds"))
    assert (said["state"], said["reason"]) == ("captured", "no_funds")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("result_req", {"req": ids.digest(b"another")}),
        ("result_session", {"sid": "u" * 21 + "A"}),
        ("result_session", {"tid": "A" * 22}),
        ("result_parties", {"audience": SHOP}),
    ],
)
def test_an_answer_to_something_else_is_no_result(program: Dialogue, checkout: Checkout, rule: str, said: dict[str, Any]) -> None:
    bought(program, checkout)
    question = program.value("question")["compact"]
    assert program.act("result", result=result(checkout, question, **said)) == {"untrusted": rule}


def test_a_result_that_the_shop_wrote_itself_is_refused(program: Dialogue, checkout: Checkout) -> None:
    bought(program, checkout)
    question = program.value("question")["compact"]
    own = forged(result(checkout, question), checkout.gateway.shop, "hanbit-result")
    assert program.act("result", result=own) == {"untrusted": "certificate_profile"}
