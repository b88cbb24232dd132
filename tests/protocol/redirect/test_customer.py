"""R4 to R7 and R12 as the customer's role does them: what is believed, what is sealed and what a receipt must say."""

import msgspec
import pytest

from hanbit.crypto import certificates
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import Money
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Opening
from hanbit.protocols.redirect.messages import Consent, Order
from hanbit.protocols.signed import PinnedTrust, SignedMessage
from tests.unit.wallet.parties import (
    AT,
    TEXT,
    bank,
    make_keys,
    make_opening,
    make_order,
    make_receipt,
    open_instruction,
    open_session,
    query,
    redirect,
)


def believe(order: SignedMessage[Order] | None = None, *, at: int = AT) -> Opening:
    order = order or make_order()
    shown = msgspec.json.encode(make_opening(order, make_keys(order)))
    return customer.verify_opening(shown, redirect=redirect(order), pin=bank().pin, at=at)


def test_honest_opening_is_believed_and_says_what_was_signed() -> None:
    order = make_order()
    opening = believe(order)
    assert (opening.gateway, opening.merchant) == ("urn:hanbit:bank:gateway", "urn:hanbit:bank:merchant:shop")
    assert (opening.payee, opening.money, opening.text) == ("Hanbit Books", Money(220_000, "KRW"), TEXT)
    assert opening.order_hash == order.hash
    assert opening.seal.kid == certificates.kid(bank().seal)
    assert opening.notes == ()


def test_plain_form_is_bound_to_the_four_fields_of_the_address() -> None:
    order = make_order()
    clear = redirect(order, ORDER="")
    assert clear.plain_hash == ids.digest(f"hanbit1 plain\0shop\0{order.claims.tid}\x00220000\0KRW".encode())
    keys = make_keys(order, order=clear.plain_hash)
    shown = make_opening(order, keys, order="", order_hash=clear.plain_hash, merchant_chain=[], text="anything")
    opening = customer.verify_opening(msgspec.json.encode(shown), redirect=clear, pin=bank().pin, at=AT)
    assert opening.order_hash == clear.plain_hash
    assert opening.text == "", "an unsigned text is not shown as if somebody stood for it"


@pytest.mark.parametrize("off_s", [-23 * 3600, -600, 600, 23 * 3600])
def test_customer_with_a_wrong_clock_can_pay_and_is_told(off_s: int) -> None:
    opening = believe(at=AT + off_s)
    assert "clock" in opening.notes[0]
    consent = customer.auth_device(opening, customer.make_core(opening, "a1"), bank().customer(), AT + off_s)
    payload = signed.split(msgspec.json.decode(consent)["value"])[1]
    assert msgspec.json.decode(payload)["iat"] == AT, "what he signs bears the gateway's time"


def test_login_is_sealed_for_the_gateway_alone() -> None:
    opening = believe()
    sealing = customer.begin(opening)
    login = customer.seal_login(sealing, login_id="hong", password="하나 둘 셋")
    session = open_session(sealing.key, opening)
    assert sealed.open_login(login, session) == {"method": "password", "id": "hong", "password": "하나 둘 셋"}
    assert "hong" not in login


def test_payment_names_exactly_what_was_shown() -> None:
    opening = believe()
    sealing = customer.begin(opening)
    core = customer.make_core(opening, "a1")
    instruction = open_instruction(sealing.key, customer.seal_pay(sealing, core, customer.auth_password("2468")), opening)
    named = instruction.core
    assert (named.gateway, named.merchant) == (opening.gateway, opening.merchant)
    assert (named.tid, named.amount, named.currency, named.order) == (opening.redirect.tid, "220000", "KRW", opening.order_hash)
    assert (named.account, named.ctx) == ("a1", opening.keys.claims.ctx)
    assert (instruction.auth.method, instruction.auth.value) == ("password", "2468")


def test_device_signs_the_hash_of_the_core_and_the_order() -> None:
    opening, device = believe(), bank().customer()
    sealing = customer.begin(opening)
    core = customer.make_core(opening, "a1")
    pay = customer.seal_pay(sealing, core, customer.auth_device(opening, core, device, AT))
    instruction = open_instruction(sealing.key, pay, opening)
    trust = PinnedTrust(bank().root, "bank", urn=device.urn)
    consent = signed.verify(instruction.auth.value, Consent, trust=trust, audience=opening.gateway, at=AT, sender=device.urn)
    assert (consent.claims.core, consent.claims.order) == (instruction.core_hash, opening.order_hash)


def test_one_time_code_is_bound_to_session_key_and_core() -> None:
    opening, secret = believe(), b"s" * 32
    first, second = customer.begin(opening), customer.begin(opening)
    core, other = customer.make_core(opening, "a1"), customer.make_core(opening, "a1")
    codes = {
        msgspec.json.decode(customer.auth_code(sealing.session.code_binding, text, secret))["value"]
        for sealing, text in ((first, core), (first, other), (second, core))
    }
    assert len(codes) == 3
    assert sealed.code_value(secret, open_session(first.key, opening).code_binding, ids.digest(core.encode())) in codes


def test_typed_number_stands_in_the_core_as_a_commitment_only() -> None:
    opening = believe()
    sealing = customer.begin(opening)
    account, salt = customer.typed_number("1234567890123456")
    core = customer.make_core(opening, account)
    pay = customer.seal_pay(sealing, core, customer.auth_password("2468"), number="1234567890123456", number_salt=salt)
    assert "1234567890123456" not in core
    assert open_instruction(sealing.key, pay, opening).number == "1234567890123456"
    assert customer.typed_number("1234567890123456")[0] != account


def test_each_sealed_message_has_the_next_number() -> None:
    sealing = customer.begin(believe())
    core = customer.make_core(sealing.opening, "a1")
    messages = [
        customer.seal_login(sealing, login_id="hong", password="x"),
        customer.seal_pay(sealing, core, customer.auth_password("1")),
        customer.seal_pay(sealing, core, customer.auth_password("1")),
    ]
    headers = [msgspec.json.decode(ids.decode_base64url(message.partition(".")[0])) for message in messages]
    assert [header["sequence"] for header in headers] == [1, 2, 3]


def test_secrets_stay_out_of_what_an_error_or_a_log_would_print() -> None:
    sealing = customer.begin(believe())
    assert repr(sealing.session.secret) not in repr(sealing)


def test_genuine_receipt_is_accepted() -> None:
    opening = believe()
    receipt = customer.verify_receipt(make_receipt(opening), opening=opening, payment="P" * 22, pin=bank().pin, at=AT + 60)
    assert receipt.claims.amount == "220000"


@pytest.mark.parametrize("text", ["", "x" * 129, "half \ud800 character"])
def test_secret_that_cannot_be_sealed_is_refused_before_sealing(text: str) -> None:
    with pytest.raises(BadInput):
        customer.auth_password(text)


@pytest.mark.parametrize(
    "change",
    [
        {"AMOUNT": "0"},
        {"AMOUNT": "1e5"},
        {"AMOUNT": "٣"},
        {"AMOUNT": "0220000"},
        {"AMOUNT": "1" * 16},
        {"CUR": "XXX"},
        {"CUR": "krw"},
        {"TID": "short"},
        {"TID": "t" * 65},
        {"MID": "Shop"},
        {"MID": "../shop"},
        {"OTHER": "1"},
        {"ORDER": "x" * 40_000},
    ],
)
def test_address_that_breaks_its_grammar_is_bad_input(change: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        customer.read_redirect(query(make_order(), **change))


def test_address_that_names_a_field_twice_is_bad_input() -> None:
    with pytest.raises(BadInput):
        customer.read_redirect(query(make_order()) + "&AMOUNT=1")


@pytest.mark.parametrize("missing", ["MID", "TID", "AMOUNT", "CUR"])
def test_address_without_a_field_is_bad_input(missing: str) -> None:
    with pytest.raises(BadInput):
        customer.read_redirect(query(make_order(), **{missing: ""}))
