"""Sealed messages between customer and gateway: bound to opening, kind and tid; one answer for whatever does not open."""

import secrets

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import envelopes
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import sealed
from hanbit.protocols.sealed import Auth, Core, SessionKey

KEY = new_key()
CTX, N, TID, KID = "C" * 22, "A" * 43, "T" * 22, "A" * 43
SALT = ids.encode_base64url(bytes(32))


def session() -> SessionKey:
    return SessionKey(secrets.token_bytes(32), CTX, N, TID)


def core(account: str = "account") -> str:
    made = Core(
        v=1, gateway="urn:hanbit:bank:gateway", merchant="urn:hanbit:bank:merchant:shop", tid=TID, order="A" * 43, amount="1000",
        currency="KRW", account=account, salt=SALT, ctx=CTX,
    )  # fmt: skip
    return msgspec.json.encode(made).decode()


AUTH = msgspec.json.encode(Auth(method="password", value="2580", salt=SALT)).decode()


def test_a_session_key_opens_for_its_own_opening_only() -> None:
    made, key = sealed.seal_key(KEY.public_key(), KID, ctx=CTX, n=N, tid=TID)
    assert sealed.open_key(key, KEY, KID, ctx=CTX, n=N, tid=TID) == made
    for wrong in ({"ctx": "D" * 22}, {"n": "B" * 42 + "A"}, {"tid": "U" * 22}):
        with pytest.raises(ProtocolViolation, match="sealed"):
            sealed.open_key(key, KEY, KID, **({"ctx": CTX, "n": N, "tid": TID} | wrong))
    with pytest.raises(ProtocolViolation, match="sealed"):
        sealed.open_key(key, new_key(), KID, ctx=CTX, n=N, tid=TID)


def test_a_payment_opens_to_the_very_core_and_its_hash() -> None:
    own = session()
    unverified = sealed.seal(own, sealed.PAY_TYP, sealed.pay_plain(core(), AUTH), 1)
    instruction = sealed.open_pay(unverified, own)
    assert (instruction.core_text, instruction.core_hash) == (core(), ids.digest(core().encode()))
    assert instruction.sealed_hash == ids.digest(unverified.encode())
    assert instruction.auth_hash == ids.digest(AUTH.encode())


def test_a_login_is_no_payment_and_a_payment_no_login() -> None:
    own = session()
    login = sealed.seal(own, sealed.LOGIN_TYP, {"method": "password"}, 1)
    pay = sealed.seal(own, sealed.PAY_TYP, sealed.pay_plain(core(), AUTH), 2)
    assert sealed.open_login(login, own) == {"method": "password"}
    for attempt in (lambda: sealed.open_pay(login, own), lambda: sealed.open_login(pay, own)):
        with pytest.raises(ProtocolViolation, match="sealed"):
            attempt()


def test_another_session_opens_nothing() -> None:
    own = session()
    pay = sealed.seal(own, sealed.PAY_TYP, sealed.pay_plain(core(), AUTH), 1)
    for other in (
        SessionKey(own.secret, "D" * 22, N, TID),
        SessionKey(own.secret, CTX, "B" * 42 + "A", TID),
        SessionKey(own.secret, CTX, N, "U" * 22),
        session(),
    ):
        with pytest.raises(ProtocolViolation, match="sealed"):
            sealed.open_pay(pay, other)


def test_a_typed_number_is_the_one_that_the_core_commits_to() -> None:
    own, salt = session(), secrets.token_bytes(32)
    name = sealed.typed_account("11012345678890", salt)
    good = sealed.pay_plain(core(name), AUTH, number="11012345678890", number_salt=salt)
    assert sealed.open_pay(sealed.seal(own, sealed.PAY_TYP, good, 1), own).number == "11012345678890"
    assert "11012345678890" not in name
    wrong = (
        good | {"number": "11098765432100"},
        good | {"number_salt": SALT},
        {k: v for k, v in good.items() if k != "number_salt"},
        sealed.pay_plain(core(name), AUTH),
    )
    for plain in wrong:
        with pytest.raises(ProtocolViolation, match="sealed"):
            sealed.open_pay(sealed.seal(own, sealed.PAY_TYP, plain, 1), own)


@pytest.mark.parametrize(
    "text",
    [
        core().replace('"amount":"1000"', '"amount":"1000","amount":"9"'),
        core().replace('"v":1', '"v":1,"v":1'),
        core().replace('"v":1', '"v":1.0'),
        core().replace('"v":1', '"v":2'),
        core().replace("}", ',"more":1}'),
        core().replace(CTX, "D" * 22),
        core().replace(TID, "U" * 22),
        "[" * 6000,
        "null",
        "",
    ],
    ids=lambda text: ids.digest(text.encode())[:6],
)
def test_a_core_outside_its_one_reading_does_not_open(text: str) -> None:
    own = session()
    with pytest.raises(ProtocolViolation, match="sealed"):
        sealed.open_pay(sealed.seal(own, sealed.PAY_TYP, sealed.pay_plain(text, AUTH), 1), own)


def test_a_core_in_another_spelling_keeps_its_own_hash() -> None:
    own, spaced = session(), core().replace(",", ", ")
    instruction = sealed.open_pay(sealed.seal(own, sealed.PAY_TYP, sealed.pay_plain(spaced, AUTH), 1), own)
    assert instruction.core_hash == ids.digest(spaced.encode()) != ids.digest(core().encode())


def test_the_one_time_code_is_bound_to_secret_session_and_core() -> None:
    own, digest = session(), ids.digest(core().encode())
    codes = {
        sealed.code_value(bytes(32), own.code_binding, digest),
        sealed.code_value(b"\1" * 32, own.code_binding, digest),
        sealed.code_value(bytes(32), session().code_binding, digest),
        sealed.code_value(bytes(32), SessionKey(own.secret, "D" * 22, N, TID).code_binding, digest),
        sealed.code_value(bytes(32), own.code_binding, "A" * 43),
    }
    assert len(codes) == 5
    assert sealed.code_value(bytes(32), own.code_binding, digest) in codes


def test_challenges_of_login_and_payment_never_meet() -> None:
    made = {
        sealed.login_challenge(CTX, N),
        sealed.login_challenge("D" * 22, N),
        sealed.login_challenge(CTX, "B" * 42 + "A"),
        sealed.consent_challenge("A" * 43),
    }
    assert len(made) == 4


@given(st.text(max_size=200))
def test_arbitrary_text_does_not_open(unverified: str) -> None:
    own = session()
    for attempt in (
        lambda: sealed.open_key(unverified, KEY, KID, ctx=CTX, n=N, tid=TID),
        lambda: sealed.open_login(unverified, own),
        lambda: sealed.open_pay(unverified, own),
    ):
        with pytest.raises(ProtocolViolation) as refused:
            attempt()
        assert str(refused.value) == "sealed"


@given(st.binary(max_size=200))
def test_an_arbitrary_plaintext_is_an_instruction_or_does_not_open(data: bytes) -> None:
    own = session()
    header: dict[str, str | int] = {"typ": sealed.PAY_TYP, "ctx": CTX, "sequence": 1, "tid": TID}
    with pytest.raises(ProtocolViolation, match="sealed"):
        sealed.open_pay(envelopes.seal_with_secret(sealed._key_for(own, sealed.PAY_TYP), data, header), own)
