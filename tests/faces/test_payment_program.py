"""The browser's payment program against the gateway's own code: what it verifies, what it seals, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanbit.crypto import envelopes, keys, signatures
from hanbit.crypto.certificates import kid, make_leaf
from hanbit.kernel import ids
from hanbit.kernel.money import Money
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Order
from hanbit.protocols.signed import Signer, encode_der
from tests.faces import program
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, World, make_world

GATEWAY, CUSTOMER = f"urn:hanbit:{OPERATOR}:gateway", f"urn:hanbit:{OPERATOR}:customer"
SHOP = f"urn:hanbit:{OPERATOR}:merchant:shop"
SERVER_KEY = bytes(range(32))
TID = "kq3VZ8yTn0eQpXw1r5hJ2A"
Opening = dict[str, Any]


class Gateway:
    """The gateway's and the shop's keys, and openings made with them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.signer = self.make_signer(world.gateway, GATEWAY, "gateway-sign")
        self.shop = self.make_signer(world.merchant, SHOP, "merchant-sign")
        self.seal_key = keys.new_key()
        self.seal = self.make_seal(world)

    def make_signer(self, authority: Any, urn: str, purpose: str) -> Signer:
        key = keys.new_key()
        chain = self.world.leaf(authority, urn, purpose, key=key)
        return Signer(urn=urn, purpose=purpose, kid=kid(chain[0]), chain=chain, key=key)

    def make_seal(self, world: World) -> role.SealKey:
        der = make_leaf(world.gateway, urn=GATEWAY, purpose="gateway-seal", public=self.seal_key.public_key(), at=AT, lifetime_s=DAY_S)
        return role.SealKey(kid(der), der, self.seal_key)

    def order(self, *, signer: Signer | None = None, audience: str = GATEWAY, amount: int = 220_000, tid: str = TID) -> str:
        signer = signer or self.shop
        claims = Order(
            **signed.head(signer, audience, AT),
            tid=tid,
            amount=str(amount),
            currency="KRW",
            oi=ids.digest(b"lines"),
            text="SK휴대폰 IM-1100",
            return_url="https://shop.example/return",
            pay_by=AT + 1800,
        )
        return signed.sign(claims, signer).compact

    def opening(self, *, plain: bool = False, signer: Signer | None = None, seal: role.SealKey | None = None, **said: Any) -> Opening:
        clear = role.Clear("shop", TID, Money(220_000, "KRW"))
        if plain:
            offer, order = role.plain_offer(clear, merchant_urn=SHOP, return_url="https://shop.example/return"), ""
        else:
            order = self.order()
            order_hash = ids.digest(order.encode("ascii"))
            offer = role.Offer("shop", SHOP, TID, clear.money, order_hash, None, "", "https://shop.example/return", AT + 1800)
        made = role.make_keys(
            offer,
            signer=signer or self.signer,
            seal=seal or self.seal,
            server_key=SERVER_KEY,
            customer=said.pop("customer", CUSTOMER),
            payee=said.pop("payee", "가람전자"),
            at=AT,
        )
        return {
            "gateway": GATEWAY,
            "operator": {"id": OPERATOR, "name": "한빛은행", "telephone": "1588-0000"},
            "merchant": {"id": "shop", "urn": SHOP, "name": "가람전자", "telephone": "02-555-0123"},
            "tid": TID,
            "amount": "220000",
            "currency": "KRW",
            "text": "" if plain else "SK휴대폰 IM-1100",
            "order": order,
            "order_hash": offer.order_hash,
            "keys": made.compact,
            "merchant_chain": [] if plain else [encode_der(der) for der in self.shop.chain],
            "signed_in": False,
            "expires_at": AT + 900,
            **said,
        }


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return Gateway(make_world())


def resign(message: str, signer: Signer, *, header: Callable[[str], str] = str, payload: Callable[[str], str] = str) -> str:
    """The same message with its texts changed and signed again: only what was changed is wrong."""
    head, body, _ = message.split(".")
    texts = [ids.decode_base64url(part).decode("utf-8") for part in (head, body)]
    changed = [header(texts[0]), payload(texts[1])]
    assert changed != texts, "nothing was changed"
    unsigned = ".".join(ids.encode_base64url(text.encode("utf-8")) for text in changed)
    return f"{unsigned}.{ids.encode_base64url(signatures.sign(signer.key, unsigned.encode('ascii')))}"


def with_keys(gateway: Gateway, *, header: Callable[[str], str] = str, payload: Callable[[str], str] = str) -> Opening:
    opening = gateway.opening()
    return opening | {"keys": resign(opening["keys"], gateway.signer, header=header, payload=payload)}


def with_order(gateway: Gateway, *, header: Callable[[str], str] = str, payload: Callable[[str], str] = str) -> Opening:
    """Keys for an order whose own bytes are wrong: the gateway went along, the program must not."""
    order = resign(gateway.order(), gateway.shop, header=header, payload=payload)
    return re_keyed(gateway, order)


def re_keyed(gateway: Gateway, order: str) -> Opening:
    order_hash = ids.digest(order.encode("ascii"))
    opening = gateway.opening()
    old = opening["order_hash"]
    made = resign(opening["keys"], gateway.signer, payload=lambda text: text.replace(old, order_hash))
    return opening | {"order": order, "order_hash": order_hash, "keys": made}


def but(opening: Opening, **said: Any) -> Opening:
    return opening | said


def defects(gateway: Gateway) -> dict[str, tuple[str, Opening]]:
    world, opening = gateway.world, gateway.opening()
    merchant, other = opening["merchant"], make_world()
    foreign = Gateway(other)
    line = gateway.make_signer(world.gateway, GATEWAY, "line")
    keys_segments = opening["keys"].split(".")
    return {
        "another gateway": ("gateway", but(opening, gateway="urn:hanbit:dul:gateway")),
        "keys of another operator of the same name": ("certificate_profile", foreign.opening()),
        "keys signed by the gateway's line key": (
            "certificate_profile",
            but(opening, keys=resign(opening["keys"], line, header=lambda _: header_of(line, "hanbit-keys"))),
        ),
        "keys signed by the shop": (
            "certificate_profile",
            but(opening, keys=resign(opening["keys"], gateway.shop, header=lambda _: header_of(gateway.shop, "hanbit-keys"))),
        ),
        "keys not signed": ("keys_shape", but(opening, keys=".".join(keys_segments[:2]))),
        "keys with an empty signature": ("keys_header", but(opening, keys=".".join([*keys_segments[:2], ""]))),
        "keys with an altered signature": (
            "keys_signature",
            but(opening, keys=".".join([*keys_segments[:2], ids.encode_base64url(b"\1" * 64)])),
        ),
        "keys with an altered payload": (
            "keys_signature",
            but(opening, keys=".".join([keys_segments[0], ids.encode_base64url(b"{}"), keys_segments[2]])),
        ),
        "keys too long": ("keys_size", but(opening, keys=opening["keys"] + "A" * 40_000)),
        "keys that are no text": ("keys_size", but(opening, keys=None)),
        "keys in padded base64": ("keys_shape", but(opening, keys=opening["keys"] + "=")),
        "alg none": ("keys_header", with_keys(gateway, header=lambda text: text.replace('"ES256"', '"none"'))),
        "alg HS256": ("keys_header", with_keys(gateway, header=lambda text: text.replace('"ES256"', '"HS256"'))),
        "typ of a receipt": ("keys_header", with_keys(gateway, header=lambda text: text.replace("hanbit-keys", "hanbit-receipt"))),
        "jwk in the header": ("keys_header", with_keys(gateway, header=lambda text: text[:-1] + ',"jwk":{}}')),
        "crit in the header": ("keys_header", with_keys(gateway, header=lambda text: text[:-1] + ',"crit":["b64"]}')),
        "a member of the header twice": ("keys_header", with_keys(gateway, header=lambda text: text[:-1] + ',"alg":"ES256"}')),
        "kid of another key": (
            "keys_kid",
            with_keys(gateway, header=lambda text: text.replace(gateway.signer.kid, gateway.shop.kid)),
        ),
        "no x5c": ("keys_header", with_keys(gateway, header=lambda text: text[: text.index(',"x5c"')] + "}")),
        "empty x5c": ("certificate_chain", with_keys(gateway, header=lambda text: text[: text.index(',"x5c"')] + ',"x5c":[]}')),
        "a claim twice": ("keys_claims", with_keys(gateway, payload=lambda text: text[:-1] + ',"amount":"1"}')),
        "an unknown claim": ("keys_claims", with_keys(gateway, payload=lambda text: text[:-1] + ',"admin":true}')),
        "a claim too few": ("keys_claims", with_keys(gateway, payload=lambda text: text.replace('"payee"', '"payer"'))),
        "version 2": ("keys_claims", with_keys(gateway, payload=lambda text: text.replace('"v":1', '"v":2'))),
        "claims that are a list": ("keys_claims", with_keys(gateway, payload=lambda text: f"[{text}]")),
        "claims of another issuer": ("keys_parties", with_keys(gateway, payload=lambda text: text.replace(f'"{GATEWAY}"', f'"{SHOP}"'))),
        "keys for another audience": ("keys_parties", gateway.opening(customer=SHOP)),
        "another amount shown": ("keys_amount", but(opening, amount="1")),
        "another tid": ("keys_tid", but(opening, tid="A" * 22)),
        "another currency": ("keys_currency", but(opening, currency="JPY")),
        "another payee": ("keys_payee", gateway.opening(payee="나람전자")),
        "another payee shown": ("keys_payee", but(opening, merchant=merchant | {"name": "나람전자"})),
        "keys of another order": ("keys_order", but(opening, order=gateway.order())),
        "another order hash": ("keys_order", but(opening, order_hash=ids.digest(b"x"))),
        "a plain opening for another shop": (
            "keys_order",
            but(gateway.opening(plain=True), merchant=merchant | {"id": "other"}),
        ),
        "a signed order left out": ("keys_order", but(opening, order="", merchant_chain=[])),
        "seal of the signing key": (
            "certificate_profile",
            gateway.opening(seal=role.SealKey(gateway.signer.kid, gateway.signer.chain[0], gateway.signer.key)),
        ),
        "seal of another operator": ("certificate_profile", gateway.opening(seal=foreign.seal)),
        "seal that is no certificate": (
            "certificate_der",
            with_keys(gateway, payload=lambda text: text.replace(encode_der(gateway.seal.certificate), encode_der(b"0"))),
        ),
        "order signed by another shop": (
            "order_kid",
            re_keyed(gateway, gateway.order(signer=gateway.make_signer(world.merchant, f"{SHOP}2", "merchant-sign"))),
        ),
        "order for another gateway": ("order_parties", re_keyed(gateway, gateway.order(audience="urn:hanbit:dul:gateway"))),
        "order of another amount": ("order_amount", re_keyed(gateway, gateway.order(amount=1))),
        "order of another tid": ("order_tid", re_keyed(gateway, gateway.order(tid="A" * 22))),
        "order with an altered text": ("order_text", but(opening, text="다른 물건")),
        "order with x5c": ("order_header", with_order(gateway, header=lambda text: text[:-1] + ',"x5c":[]}')),
        "order with alg none": ("order_header", with_order(gateway, header=lambda text: text.replace("ES256", "none"))),
        "order that is a refusal": ("order_header", with_order(gateway, header=lambda text: text.replace("-order", "-refusal"))),
        "order with a claim twice": ("order_claims", with_order(gateway, payload=lambda text: text[:-1] + ',"amount":"220000"}')),
        "order of which the gateway signed the hash, not the shop": (
            "order_signature",
            re_keyed(gateway, gateway.order()[:-86] + ids.encode_base64url(b"\1" * 64)),
        ),
        "no chain of the shop": ("certificate_chain", but(opening, merchant_chain=[])),
        "chain of the gateway for the shop": (
            "certificate_profile",
            but(opening, merchant_chain=[encode_der(der) for der in gateway.signer.chain]),
        ),
        "chain in base64url": (
            "certificate_base64",
            but(opening, merchant_chain=[ids.encode_base64url(der) for der in gateway.shop.chain]),
        ),
        "a shop that is no shop": ("certificate_urn", but(opening, merchant=merchant | {"urn": "urn:hanbit:hana:customer:x"})),
        "a shop of another operator": ("certificate_operator", but(opening, merchant=merchant | {"urn": "urn:hanbit:dul:merchant:shop"})),
    }


def header_of(signer: Signer, typ: str) -> str:
    return json.dumps({"alg": "ES256", "typ": typ, "kid": signer.kid, "x5c": [encode_der(der) for der in signer.chain]})


@pytest.fixture(scope="module")
def answers(node: str, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → the rule that must refuse it, and what the program answered; one run of Node for all."""
    cases = defects(gateway) | {"good": ("", gateway.opening()), "good plain": ("", gateway.opening(plain=True))}
    calls = [{"act": "open", "opening": opening, "at": AT} for _, opening in cases.values()]
    found = program.run(node, tmp_path_factory.mktemp("program"), calls, gateway_urn=GATEWAY, root=gateway.world.root_der)
    return {name: (rule, answer) for (name, (rule, _)), answer in zip(cases.items(), found, strict=True)}


@pytest.mark.parametrize("defect", sorted(defects(Gateway(make_world()))))
def test_an_opening_with_one_defect_is_refused_before_anything_is_typed(
    answers: dict[str, tuple[str, dict[str, Any]]], defect: str
) -> None:
    rule, answer = answers[defect]
    assert answer == {"untrusted": rule}


@pytest.mark.parametrize("form", ["good", "good plain"])
def test_a_good_opening_is_accepted_signed_and_plain(answers: dict[str, tuple[str, dict[str, Any]]], gateway: Gateway, form: str) -> None:
    value = answers[form][1]["value"]
    assert value["merchant"] == SHOP
    assert value["sealKid"] == gateway.seal.kid
    assert value["claims"]["amount"] == "220000"
    assert value["clockDiffers"] is False


def seal(node: str, folder: Path, gateway: Gateway, **call: Any) -> tuple[Opening, dict[str, Any]]:
    opening = gateway.opening()
    asked = {
        "act": "seal",
        "opening": opening,
        "at": AT,
        "login": {"method": "password", "id": "hong-gildong", "password": "비밀 correct horse"},
        "account": {"id": "account-1"},
        "method": "password",
        "value": "account-2580",
        "pay": True,
        **call,
    }
    (answer,) = program.run(node, folder, [asked], gateway_urn=GATEWAY, root=gateway.world.root_der)
    return opening, answer["value"]


def session_of(gateway: Gateway, opening: Opening, key: str) -> sealed.SessionKey:
    claims = json.loads(ids.decode_base64url(opening["keys"].split(".")[1]))
    return sealed.open_key(key, gateway.seal_key, gateway.seal.kid, ctx=claims["ctx"], n=claims["n"], tid=TID)


def test_what_the_browser_seals_the_gateway_opens(node: str, tmp_path: Path, gateway: Gateway) -> None:
    opening, made = seal(node, tmp_path, gateway)
    session = session_of(gateway, opening, made["key"])
    assert sealed.open_login(made["login"], session) == {"method": "password", "id": "hong-gildong", "password": "비밀 correct horse"}
    instruction = sealed.open_pay(made["pay"], session)
    assert (instruction.core.merchant, instruction.core.gateway) == (SHOP, GATEWAY)
    assert (instruction.core.amount, instruction.core.currency, instruction.core.tid) == ("220000", "KRW", TID)
    assert (instruction.core.order, instruction.core.account) == (opening["order_hash"], "account-1")
    assert (instruction.auth.method, instruction.auth.value) == ("password", "account-2580")
    assert instruction.core_text == made["core"]


def test_the_passkeys_challenges_are_the_gateways_own(node: str, tmp_path: Path, gateway: Gateway) -> None:
    opening, made = seal(node, tmp_path, gateway)
    session = session_of(gateway, opening, made["key"])
    instruction = sealed.open_pay(made["pay"], session)
    assert made["loginChallenge"] == ids.encode_base64url(sealed.login_challenge(session.ctx, session.n))
    assert made["consentChallenge"] == ids.encode_base64url(sealed.consent_challenge(instruction.core_hash))


def test_a_typed_number_is_only_named_by_its_salted_hash(node: str, tmp_path: Path, gateway: Gateway) -> None:
    opening, made = seal(node, tmp_path, gateway, account={"number": "11012345678890"})
    instruction = sealed.open_pay(made["pay"], session_of(gateway, opening, made["key"]))
    assert instruction.number == "11012345678890"
    assert instruction.core.account.startswith("typed:")
    assert "11012345678890" not in made["core"]


def test_every_sealed_message_is_new_and_numbered(node: str, tmp_path: Path, gateway: Gateway) -> None:
    _, made = seal(node, tmp_path, gateway)
    headers = [envelopes.peek_header(made[name]) for name in ("login", "pay", "again")]
    assert [header["sequence"] for header in headers] == [1, 2, 3]
    assert made["pay"] != made["again"]


def test_no_key_can_be_read_back_out_of_the_page(node: str, tmp_path: Path, gateway: Gateway) -> None:
    _, made = seal(node, tmp_path, gateway)
    assert made["extractable"] == [False, False]
    assert "secret" not in made["kept"]
    assert "sk" not in made["kept"]


def test_what_is_sealed_shows_no_secret(node: str, tmp_path: Path, gateway: Gateway) -> None:
    _, made = seal(node, tmp_path, gateway, account={"number": "11012345678890"})
    sent = " ".join(made[name] for name in ("key", "login", "pay"))
    opened = "".join(ids.decode_base64url(part).decode("utf-8", "replace") for part in sent.replace(" ", ".").split(".") if part)
    for secret in ("hong-gildong", "correct horse", "account-2580", "11012345678890"):
        assert secret not in sent
        assert secret not in opened
